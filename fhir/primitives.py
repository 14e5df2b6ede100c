"""The primitive types of FHIR R4 (datatypes.html#primitive): the JSON each is written as, and what its text may be."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

MAX_STRING = 1024 * 1024
"""Characters; the limit that FHIR sets on strings. Base64 and narrative have none but the size of the body."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """`annotation` says it to msgspec; `accepts` says the same of one value; `expected` says it to people."""

    annotation: Any
    python: tuple[type, ...]
    expected: str
    pattern: re.Pattern[str] | None = None
    low: int | None = None
    high: int = 2**31 - 1
    max_length: int | None = None

    def accepts(self, value: Any) -> bool:
        if type(value) not in self.python:
            return False
        if self.python == (str,):
            return (
                value != ""
                and (self.max_length is None or len(value) <= self.max_length)
                and (self.pattern is None or self.pattern.search(value) is not None)
            )
        return self.low is None or self.low <= value <= self.high


def _text(expected: str, pattern: str | None = None, max_length: int | None = MAX_STRING) -> Primitive:
    meta = Meta(min_length=1, max_length=max_length, pattern=pattern)
    compiled = re.compile(pattern) if pattern else None
    return Primitive(Annotated[str, meta], (str,), expected, compiled, max_length=max_length)


def _whole(expected: str, low: int) -> Primitive:
    return Primitive(Annotated[int, Meta(ge=low, le=2**31 - 1)], (int,), expected, low=low)


# Days that exist, leap years included; the year is not 0000. Possessive quantifiers throughout: no pattern backtracks.
_DAY = (
    r"(?:(?!0000)[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)(?<!0000)-02-29)"
)
_PARTIAL = r"(?!0000)[0-9]{4}(?:-(?:0[1-9]|1[0-2]))?"
# FHIR allows 23:59:60; nothing that computes with times here can hold it, so it is refused rather than moved.
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,12})?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

PRIMITIVES: dict[str, Primitive] = {
    "boolean": Primitive(bool, (bool,), "true or false"),
    "integer": _whole("a whole number of 32 bits", -(2**31)),
    "unsignedInt": _whole("a whole number from 0 to 2147483647", 0),
    "positiveInt": _whole("a whole number from 1 to 2147483647", 1),
    "decimal": Primitive(int | Decimal, (int, Decimal), "a number (as Decimal, which keeps its precision), not text"),
    "string": _text(f"text of 1 to {MAX_STRING} characters"),
    "markdown": _text(f"markdown of 1 to {MAX_STRING} characters"),
    "code": _text("a code: no spaces at the ends, single spaces within", r"\A\S++(?:\s\S++)*+\Z"),
    "id": _text("an id: 1 to 64 letters, digits, - and .", r"\A[A-Za-z0-9.\-]{1,64}\Z"),
    "uri": _text("a URI, without spaces", r"\A\S++\Z"),
    "url": _text("a URL, without spaces", r"\A\S++\Z"),
    "canonical": _text("a canonical URL, without spaces", r"\A\S++\Z"),
    "oid": _text("an OID such as urn:oid:1.2.3", r"\Aurn:oid:[0-2](?:\.(?:0|[1-9][0-9]*+))++\Z"),
    "uuid": _text(
        "a UUID such as urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        r"\Aurn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z",
    ),
    "base64Binary": _text("base64", r"\A[0-9A-Za-z+/\s]*+={0,2}+\s*+\Z", None),
    "date": _text("a date that exists: YYYY, YYYY-MM or YYYY-MM-DD", rf"\A(?:{_DAY}|{_PARTIAL})\Z"),
    "dateTime": _text(
        "a date that exists, or date and time with zone such as 2026-11-21T09:30:00Z (no leap second)",
        rf"\A(?:{_DAY}(?:T{_CLOCK}{_ZONE})?|{_PARTIAL})\Z",
    ),
    "instant": _text(
        "date and time with zone such as 2026-11-21T09:30:00Z (no leap second)", rf"\A{_DAY}T{_CLOCK}{_ZONE}\Z"
    ),
    "time": _text("a time such as 09:30:00, without zone", rf"\A{_CLOCK}\Z"),
    # Cheap checks only: one div, nothing that runs, nothing fetched by the parser. Pages show narrative escaped anyway.
    "xhtml": _text(
        "one <div> of plain XHTML: no script, frame, form, event handler, javascript: link or entity declaration",
        r"(?is)\A"
        r"(?!.*<(?:script|iframe|frame|frameset|object|embed|applet|form|input|base|link|meta|!doctype|!entity)\b)"
        r"""(?!.*<[a-z][^<>]*[\s"'/]on[a-z]+\s*=)(?!.*\bjavascript:)"""
        r"\s*+<div(?=[\s>/])",
        None,
    ),
}
