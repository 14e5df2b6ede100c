"""A search as it was asked: the query string taken apart, every name and value of it understood or refused."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime

from fhir.criteria import parameter
from fhir.index import instants
from fhir.outcome import Issue, refuse
from fhir.paging import verify
from fhir.registry import SPECS
from fhir.written import NotUnderstood, unknown

Query = Sequence[tuple[str, str]]

PAGE_SIZE = 20
# Said about the reply, not about the rows; the transport deals with the first two.
SHAPING = ("_format", "_pretty")
CONTROLS = frozenset(
    (*SHAPING, "_count", "_sort", "_include", "_revinclude", "_total", "_summary", "_elements", "_contained")
) | {"_containedType", "_cursor"}
_TOTALS = ("accurate", "estimate", "none")
_SUMMARIES = ("true", "text", "data", "count", "false")


@dataclass(frozen=True, slots=True)
class Include:
    """`_include=Observation:subject:Patient`: follow *param* of *type* to *target*, or back when *reverse*."""

    type: str
    param: str
    target: str | None
    reverse: bool
    iterate: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A search taken apart: `criteria` are conditions on the rows, the rest says what the reply holds.

    `query` is the search as it was understood; `ignored` tells what was not, where the client asked for leniency.
    """

    criteria: list[tuple[str, str]]
    count: int
    order: str | None
    includes: list[Include]
    total: str
    summary: str
    elements: frozenset[str]
    types: list[str]
    query: list[tuple[str, str]]
    after: list[str | None] | None = None
    ignored: list[Issue] = field(default_factory=list)


def taken_apart(
    type_: str | None, query: Query, scope: str, secret: bytes, max_page: int, lenient: bool = False
) -> Request:
    """*query*, or the one that its cursor holds. Refusal 400 for a control or include that is not understood.

    *type_* is None for a search over several types, which alone takes `_type`.
    """
    cursors = [value for name, value in query if name == "_cursor"]
    after = None
    if cursors:
        others = sorted({name for name, _ in query} - {"_cursor", *SHAPING})
        if len(cursors) > 1 or others:
            raise refuse(
                400,
                "invalid",
                f"a _cursor holds the whole search: send it alone, without {', '.join(others)}",
                "_cursor",
            )
        cursor = verify(cursors[0], scope, secret)
        query, after = cursor.query, cursor.after
    asked = [(name, value) for name, value in query if name not in SHAPING]
    ignored: list[Issue] = []
    includes = [one for name, value in list(asked) for one in _tolerated(type_, name, value, asked, ignored, lenient)]
    controls = CONTROLS if type_ is not None else CONTROLS | {"_type"}
    last = {name: value for name, value in asked}
    _check_controls(type_, last, controls)
    summary = _choice(last.get("_summary", "false"), "_summary", _SUMMARIES)
    count = size_of(last.get("_count", str(PAGE_SIZE)), max_page)
    elements = frozenset(one.strip() for one in last.get("_elements", "").split(",") if one.strip())
    if elements and summary != "false":
        raise refuse(400, "invalid", "_elements and _summary say two things: send one of them", "_elements")
    return Request(
        criteria=[(name, value) for name, value in asked if name.split(":")[0] not in controls],
        count=0 if summary == "count" else count,
        order=last.get("_sort"),
        includes=includes,
        total=_choice(last.get("_total", "none"), "_total", _TOTALS),
        summary=summary,
        elements=elements,
        types=_types(last["_type"]) if "_type" in last and type_ is None else [],
        query=asked,
        after=after,
        ignored=ignored,
    )


def _check_controls(type_: str | None, last: Mapping[str, str], controls: Set[str]) -> None:
    for name in last:
        head, colon, modifier = name.partition(":")
        if head in controls and colon and head not in ("_include", "_revinclude"):
            raise unknown(type_ or "", name, f"'{head}' takes no modifier '{modifier[:80]}'")
    contained = last.get("_contained", "false")
    if contained != "false":
        said = "resources inside others are found by what contains them, never alone: _contained is false here"
        raise refuse(400, "not-supported", f"{said}, not '{contained[:40]}'", "_contained")
    if last.get("_containedType", "container") != "container":
        raise refuse(
            400, "not-supported", "_containedType is container, since _contained is false here", "_containedType"
        )


def _types(text: str) -> list[str]:
    types = list(dict.fromkeys(text.split(",")))
    for one in types:
        if one not in SPECS:
            raise refuse(400, "invalid", f"_type names types of R4 that are served, not '{one[:64]}'", "_type")
    return types


def _tolerated(
    type_: str | None,
    name: str,
    value: str,
    asked: list[tuple[str, str]],
    ignored: list[Issue],
    lenient: bool,
) -> list[Include]:
    """The includes that *name* says. One that is not understood leaves *asked* when the client is *lenient*."""
    try:
        return _includes(type_, name, value)
    except NotUnderstood as refusal:
        if not lenient:
            raise
        asked.remove((name, value))
        ignored += warnings(refusal)
        return []


def warnings(refusal: NotUnderstood) -> list[Issue]:
    """What a lenient search reports beside its matches."""
    return [replace(one, severity="warning", code="not-supported") for one in refusal.issues]


def _includes(type_: str | None, name: str, value: str) -> list[Include]:
    head, _, modifier = name.partition(":")
    if head not in ("_include", "_revinclude"):
        return []
    if modifier not in ("", "iterate", "recurse"):
        raise unknown(type_ or "", head, f"'{modifier[:80]}' is no modifier of {head}; there is :iterate")
    reverse, iterate = head == "_revinclude", bool(modifier)
    if value == "*" and not reverse:
        return [Include(one, "*", None, False, iterate) for one in ([type_] if type_ else SPECS)]
    parts = value.split(":")
    if len(parts) not in (2, 3) or parts[0] not in SPECS or (len(parts) == 3 and parts[2] not in SPECS):
        said = f"'{value[:100]}' must be written Type:parameter or Type:parameter:Target, such as Observation:subject"
        raise unknown(type_ or "", head, said)
    source = SPECS[parts[0]]
    if parts[1] != "*":
        param = parameter(source, parts[1])
        if param.type != "reference":
            said = f"'{parts[1]}' of {parts[0]} is a {param.type}, not a reference"
            raise unknown(type_ or "", head, said)
    return [Include(parts[0], parts[1], parts[2] if len(parts) == 3 else None, reverse, iterate)]


def _choice(value: str, name: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise refuse(400, "value", f"{name} is one of {', '.join(allowed)}, not '{value[:80]}'", name)
    return value


def size_of(value: str, most: int) -> int:
    """`_count`, bounded by *most*."""
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise refuse(400, "value", f"_count is a whole number from 0, not '{value[:40]}'", "_count")
    return min(int(value), most)


def instant_of(value: str) -> datetime:
    """`_since`."""
    try:
        return instants(value)[0]
    except ValueError:
        raise refuse(
            400, "value", f"_since is an instant such as 2026-11-21T09:00:00Z, not '{value[:40]}'", "_since"
        ) from None
