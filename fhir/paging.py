"""Cursors: where a page ended, signed, so that nobody can make one up or take it to another search.

A cursor holds the whole question and the sort values of the last row seen. The next page starts after these values, not
at a row number, so rows that others write or delete meanwhile neither repeat nor hide any other row.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import msgspec

from fhir.outcome import Refusal, refuse

_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Cursor:
    """`scope` is the path that was asked (`Observation`), `query` the question, `after` the last row's sort values."""

    scope: str
    query: list[tuple[str, str]]
    after: list[str | None]


def sign(cursor: Cursor, secret: bytes) -> str:
    """The cursor as it stands in a link."""
    payload = msgspec.json.encode((cursor.scope, cursor.query, cursor.after))
    return urlsafe_b64encode(_mac(payload, secret) + payload).rstrip(b"=").decode()


def verify(text: str, scope: str, secret: bytes) -> Cursor:
    """The cursor in *text*. Refusal 400 when it was not signed with *secret* or belongs to another *scope*."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise _refused() from None
    digest, payload = raw[:_DIGEST], raw[_DIGEST:]
    if not hmac.compare_digest(digest, _mac(payload, secret)):
        raise _refused()
    cursor = Cursor(*msgspec.json.decode(payload, type=tuple[str, list[tuple[str, str]], list[str | None]]))
    if cursor.scope != scope:
        raise _refused()
    return cursor


def _mac(payload: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"paging\x00" + payload, hashlib.sha256).digest()[:_DIGEST]


def _refused() -> Refusal:
    return refuse(400, "value", "the _cursor is not one that this hub made for this search: start from the first page")
