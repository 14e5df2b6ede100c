"""How a notification says that it is the hub's own: HMAC-SHA256 over when it was sent and every byte of its body.

    X-CareHub-Signature: t=1790000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd

`v1` is the hex of HMAC-SHA256 with the subscription's secret over `1790000000.` and the body. Receivers compare in
constant time, and refuse a time far from now, so that a notification that was overheard cannot be sent again.
"""

import hashlib
import hmac

HEADER = "X-CareHub-Signature"


def sign(secret: str, body: bytes, at: int) -> str:
    """The header's value. *at*: seconds since 1970."""
    return f"t={at},v1={_digest(secret, body, at)}"


def verify(secret: str, body: bytes, header: str, now: int, tolerance: int = 300) -> bool:
    """Whether *header* was made with *secret* for *body*, within *tolerance* seconds of *now*. For receivers."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not at.isascii() or not at.isdecimal() or abs(now - int(at)) > tolerance:
        return False
    return hmac.compare_digest(parts.get("v1", "").encode(), _digest(secret, body, int(at)).encode())


def _digest(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
