"""FHIR JSON as it travels: bytes to `dict` and back, with every number keeping its written precision."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from fhir.outcome import Refusal, refuse

MAX_DEPTH = 64
MAX_EXPONENT = 100
"""No clinical quantity needs more; PostgreSQL and clients choke on 1e999999999."""

MAX_PARTS = 1_500_000
"""Objects, arrays and commas in one body. A real bundle of 16 MB has half of it; a body made of `[],[],` would take
thirty times its size in memory."""

_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*\\u(?:d[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})",
    re.I,
)
_POSITION = re.compile(r" \(byte (\d+)\)")


@dataclass(frozen=True, slots=True)
class Survey:
    """What one walk over a decoded value finds: how many object keys, whether an object is empty."""

    keys: int
    hollow: bool


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in *raw*; numbers with a point or exponent are `Decimal`.

    Refusal 400 for anything that is not one well-formed object: truncated, not UTF-8, NaN or Infinity, lone surrogates,
    NUL characters (PostgreSQL text cannot hold them), a key twice, nested deeper than 64; 413 for too many parts.
    """
    return read(raw)[0]


def decode_array(raw: bytes) -> list[Any]:
    """The JSON array in *raw*, such as a JSON Patch, read as strictly as an object."""
    value: list[Any] = _read(raw, list, "array")[0]
    return value


def read(raw: bytes) -> tuple[dict[str, Any], bool]:
    """`decode`, and whether an object in it is empty, which FHIR allows nowhere."""
    return _read(raw, dict, "object")


def _read(raw: bytes, kind: type[Any], name: str) -> tuple[Any, bool]:
    if len(raw) > MAX_PARTS and raw.count(b"{") + raw.count(b"[") + raw.count(b",") > MAX_PARTS:
        raise refuse(413, "too-costly", f"the JSON has more than {MAX_PARTS} parts: send it in several requests")
    try:
        value = _decoder.decode(raw)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise refuse(400, "structure", f"the body is not UTF-8: {error.reason}") from None
    except msgspec.DecodeError as error:
        raise refuse(400, "structure", _why_malformed(raw, str(error))) from None
    if not isinstance(value, kind):
        raise refuse(400, "structure", f"the body must be one JSON {name}, it is {_kind(value)}")
    if b"\\" in raw and b"\\u0000" in raw and holds_nul(value):
        raise refuse(400, "value", "a string holds the NUL character (\\u0000), which cannot be stored")
    # What a device sends is small, and written as we would: then no key was lost, and no walk is needed to see it.
    compact = raw[raw.find(b":") + 1] not in b" \t\r\n"
    if compact and raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH and raw == _encoder.encode(value):
        return value, b"{}" in raw
    survey = survey_of(value)
    if survey.keys != raw.count(b'":') or b'\\":' in raw or _SPACED_COLON.search(raw):
        _refuse_duplicate_keys(raw)
    return value, survey.hollow


def encode(resource: Any) -> bytes:
    """UTF-8 JSON without spaces. Refusal 400 when a string holds a lone surrogate."""
    try:
        return _encoder.encode(resource)
    except UnicodeEncodeError:
        raise refuse(400, "value", "a string holds half of a surrogate pair, which is not text") from None


def survey_of(value: dict[str, Any] | list[Any]) -> Survey:
    """Level by level, not recursive: the answer to a deep value is a refusal, never an overflow of the stack."""
    keys = 0
    hollow = False
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                keys += len(node)
                hollow = hollow or not node
                children: Iterable[Any] = node.values()
            else:
                children = node
            for child in children:
                if type(child) is dict or type(child) is list:
                    below.append(child)
        level = below
    return Survey(keys, hollow)


def holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or holds_nul(child) for key, child in value.items())
    return isinstance(value, list) and any(holds_nul(child) for child in value)


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = None
    if number is None or abs(number.adjusted()) > MAX_EXPONENT or len(text) > 2 * MAX_EXPONENT:
        raise refuse(400, "value", f"the number {text[:40]} is outside what can be stored (1e-100 to 1e100)")
    return number


def _too_deep() -> Refusal:
    return refuse(400, "structure", f"the JSON is nested deeper than {MAX_DEPTH} levels")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _why_malformed(raw: bytes, message: str) -> str:
    """msgspec's own message, made plain, with the position of the error."""
    if b"\\u" in raw and (lone := _LONE_SURROGATE.search(raw.decode("utf-8", "replace"))):
        return f"a string holds half of a surrogate pair ({lone.group()[-6:]}), which is not text"
    if "truncated" in message:
        return f"the JSON ends too early, at byte {len(raw)}"
    if found := _POSITION.search(message):
        at = int(found.group(1))
        near = raw[max(0, at - 20) : at + 20].decode("utf-8", "replace")
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in near)
        return f"{message[: found.start()]} at byte {at}, near: {shown}"
    return message


def _refuse_duplicate_keys(raw: bytes) -> None:
    """The exact, slower look: the standard library shows all pairs of an object, where a dict keeps one of two."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise refuse(400, "structure", f"the key {key[:64]!r} stands twice in one object")
            seen.add(key)

    json.loads(raw, object_pairs_hook=unique, parse_float=str, parse_int=str)


_decoder = msgspec.json.Decoder(float_hook=_number)
_encoder = msgspec.json.Encoder(decimal_format="number")
