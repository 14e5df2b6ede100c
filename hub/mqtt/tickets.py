"""What the NATS server wants signed: a ticket for each connection, as a JWT of its own kind (Ed25519 "nkeys").

Shapes: NATS JWT version 2, `authorization_request`, `authorization_response` and `user` claims, as the auth callout of
nats-server 2.10 and later speaks them. The server's configuration names the key (`Signer.issuer`) that it trusts.
"""

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

JSON = dict[str, Any]

_ACCOUNT = bytes([0])  # the prefix byte of an account's nkey: in base 32 it begins with "A"
_HEAD = b'{"typ":"JWT","alg":"ed25519-nkey"}'


@dataclass(frozen=True, slots=True)
class Request:
    """A connection that waits at the server. `server` and `nkey` are what an answer must name, `connection` is the
    server's number of it, `client` the id that an MQTT client gave itself (or was given)."""

    server: str
    nkey: str
    connection: int
    kind: str
    user: str
    secret: str
    client: str


def request_of(token: bytes) -> Request:
    """What the server asks. It came over a subject that the server alone may publish to, so its signature is not
    looked at. Raises ValueError when it is no such request."""
    try:
        _, claims, _ = token.split(b".")
        asked = msgspec.json.decode(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))["nats"]
        client, options = asked["client_info"], asked["connect_opts"]
        return Request(
            asked["server_id"]["id"],
            asked["user_nkey"],
            client["id"],
            client.get("type", ""),
            options.get("user", ""),
            options.get("pass", ""),
            client.get("mqtt_id", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("this is no authorization request of a NATS server") from error


class Signer:
    """A key that lives as long as its process: each start of the broker configures the server with a new one."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = _ACCOUNT + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        checked = public + binascii.crc_hqx(public, 0).to_bytes(2, "little")
        self.issuer = base64.b32encode(checked).rstrip(b"=").decode()

    def admit(self, request: Request, account: str, publish: list[str], subscribe: list[str]) -> bytes:
        """The connection may come in, over MQTT alone, and publish and subscribe to these NATS subjects alone."""
        rights = {
            "type": "user",
            "version": 2,
            "pub": {"allow": publish},
            "sub": {"allow": subscribe},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "allowed_connection_types": ["MQTT"],
        }
        user = self._sign({"sub": request.nkey, "aud": account, "name": request.user, "nats": rights})
        return self._respond(request, {"jwt": user})

    def refuse(self, request: Request, why: str) -> bytes:
        """The connection may not; *why* goes to the server's log, the client learns "not authorised"."""
        return self._respond(request, {"error": why})

    def _respond(self, request: Request, answer: Mapping[str, str]) -> bytes:
        said = {"type": "authorization_response", "version": 2, **answer}
        return self._sign({"sub": request.nkey, "aud": request.server, "nats": said}).encode()

    def _sign(self, claims: JSON) -> str:
        whole = {"iss": self.issuer, "iat": int(time.time()), **claims}
        text = _base64(_HEAD) + b"." + _base64(msgspec.json.encode(whole))
        return (text + b"." + _base64(self._key.sign(text))).decode()


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
