"""Cursors: what was signed comes back, and nothing else does."""

import base64

import pytest

from fhir.outcome import Refusal
from fhir.paging import Cursor, sign, verify

SECRET = b"secret"
CURSOR = Cursor("Observation", [("code", "a|b,c"), ("name", "Zoë & co")], ["2026-11-21", None, "id-1"])


def test_a_signed_cursor_comes_back() -> None:
    text = sign(CURSOR, SECRET)
    assert verify(text, "Observation", SECRET) == CURSOR
    assert text.isascii() and not set(text) & set("=+/&?# ")


@pytest.mark.parametrize("scope", ["Patient", "Patient/1/Observation", "Observation/_history", ""])
def test_it_serves_no_other_search(scope: str) -> None:
    with pytest.raises(Refusal) as refusal:
        verify(sign(CURSOR, SECRET), scope, SECRET)
    assert refusal.value.status == 400


def test_another_secret_does_not_open_it() -> None:
    with pytest.raises(Refusal):
        verify(sign(CURSOR, SECRET), "Observation", b"other")


def test_every_changed_byte_is_noticed() -> None:
    text = sign(CURSOR, SECRET)
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    for position in range(len(raw)):
        raw[position] ^= 1
        changed = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        with pytest.raises(Refusal):
            verify(changed, "Observation", SECRET)
        raw[position] ^= 1
    assert verify(base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), "Observation", SECRET) == CURSOR


@pytest.mark.parametrize("text", ["", "a", "AAAA", "é", "{}", "A" * 100_000, "A\x00"])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        verify(text, "Observation", SECRET)
    assert refusal.value.status == 400
