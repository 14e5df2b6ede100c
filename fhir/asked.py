"""A search as it was asked: the query string taken apart, every name and value of it understood or refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fhir.criteria import is_selective, parameter
from fhir.index import instants
from fhir.outcome import refuse
from fhir.paging import verify
from fhir.registry import SPECS, ResourceSpec
from fhir.tables import date_column

Query = Sequence[tuple[str, str]]

PAGE_SIZE = 20
# Said about the reply, not about the rows; the transport deals with the first two.
CONTROLS = frozenset(
    ("_format", "_pretty", "_count", "_sort", "_include", "_revinclude", "_total", "_summary", "_elements", "_cursor")
)
_TOTALS = ("accurate", "estimate", "none")
_SUMMARIES = ("true", "text", "data", "count", "false")


@dataclass(frozen=True, slots=True)
class Sort:
    """One column to order by, as SQL on alias `r`, with the SQL type its cursor value has."""

    expression: str
    cast: str
    descending: bool
    nullable: bool

    @property
    def direction(self) -> str:
        """As `ORDER BY` takes it. No value counts as the least, so that one index serves both directions."""
        if not self.nullable:
            return " DESC" if self.descending else ""
        return " DESC NULLS LAST" if self.descending else " NULLS FIRST"


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
    """A search taken apart: `criteria` are conditions on the rows, the rest says what the reply holds."""

    criteria: list[tuple[str, str]]
    count: int
    sorts: list[Sort]
    includes: list[Include]
    total: str
    summary: str
    elements: frozenset[str]
    query: list[tuple[str, str]]
    after: list[str | None] | None = None


def taken_apart(spec: ResourceSpec, query: Query, scope: str, secret: bytes, max_page: int) -> Request:
    """*query*, or the one that its cursor holds. Refusal 400 for a control, sort or include that is not understood."""
    cursors = [value for name, value in query if name == "_cursor"]
    after = None
    if cursors:
        others = sorted({name for name, _ in query} - {"_cursor", "_format", "_pretty"})
        if len(cursors) > 1 or others:
            raise refuse(
                400,
                "invalid",
                f"a _cursor holds the whole search: send it alone, without {', '.join(others)}",
                "_cursor",
            )
        cursor = verify(cursors[0], scope, secret)
        query, after = cursor.query, cursor.after
    asked = [(name, value) for name, value in query if name not in ("_format", "_pretty")]
    last = {name: value for name, value in asked}
    summary = _choice(last.get("_summary", "false"), "_summary", _SUMMARIES)
    count = size_of(last.get("_count", str(PAGE_SIZE)), max_page)
    criteria = [(name, value) for name, value in asked if name.split(":")[0] not in CONTROLS]
    request = Request(
        criteria=criteria,
        count=0 if summary == "count" else count,
        sorts=_sorts(spec, last["_sort"]) if "_sort" in last else _own_order(spec, criteria),
        includes=[one for name, value in asked for one in _includes(spec, name, value)],
        total=_choice(last.get("_total", "none"), "_total", _TOTALS),
        summary=summary,
        elements=frozenset(one.strip() for one in last.get("_elements", "").split(",") if one.strip()),
        query=asked,
        after=after,
    )
    if after is not None and len(after) != len(request.sorts):
        raise refuse(400, "value", "the _cursor does not fit the search it was made for", "_cursor")
    return request


def by_id(descending: bool) -> Sort:
    """The order that tells every two rows apart."""
    return Sort("r.id", "text", descending, False)


def _by_updated(descending: bool) -> Sort:
    return Sort("r.updated", "timestamptz", descending, False)


def _by_date(code: str, descending: bool) -> Sort:
    return Sort(f"r.{date_column(code)}", "tstzrange", descending, True)


def _own_order(spec: ResourceSpec, criteria: Query) -> list[Sort]:
    """The order of a search that asks for none."""
    names = {name for name, _ in criteria}
    if not any(is_selective(spec, name) for name in names):
        if "_lastUpdated" in names:
            # Upwards: what is changed meanwhile moves to the end, where the reader has yet to come by.
            return [_by_updated(False), by_id(False)]
        for date in spec.dates:
            if date in names:
                return [_by_date(date, True), by_id(True)]
    return [by_id(True)]


def _sorts(spec: ResourceSpec, text: str) -> list[Sort]:
    sorts: list[Sort] = []
    for item in text.split(","):
        descending = item.startswith("-")
        code = item.removeprefix("-")
        if code == "_id":
            sorts.append(by_id(descending))
            return sorts
        if code == "_lastUpdated":
            sorts.append(_by_updated(descending))
        elif code in spec.dates:
            sorts.append(_by_date(code, descending))
        else:
            there = ", ".join(("_id", "_lastUpdated", *spec.dates))
            raise refuse(
                400,
                "invalid",
                f"{spec.type} cannot be sorted by '{code[:80]}'; there are {there}",
                f"{spec.type}?_sort",
            )
    # What else is equal is told apart by id, in the direction of the rest so that one index can serve both.
    return [*sorts, by_id(sorts[-1].descending)]


def _includes(spec: ResourceSpec, name: str, value: str) -> list[Include]:
    head, _, modifier = name.partition(":")
    if head not in ("_include", "_revinclude"):
        if head in CONTROLS and modifier:
            raise refuse(400, "invalid", f"'{head}' takes no modifier '{modifier[:80]}'", f"{spec.type}?{head}")
        return []
    if modifier not in ("", "iterate", "recurse"):
        raise refuse(
            400, "invalid", f"'{modifier[:80]}' is no modifier of {head}; there is :iterate", f"{spec.type}?{head}"
        )
    reverse, iterate = head == "_revinclude", bool(modifier)
    if value == "*" and not reverse:
        return [Include(spec.type, "*", None, False, iterate)]
    parts = value.split(":")
    if len(parts) not in (2, 3) or parts[0] not in SPECS or (len(parts) == 3 and parts[2] not in SPECS):
        said = f"'{value[:100]}' must be written Type:parameter or Type:parameter:Target, such as Observation:subject"
        raise refuse(400, "invalid", said, f"{spec.type}?{head}")
    source = SPECS[parts[0]]
    if parts[1] != "*":
        param = parameter(source, parts[1])
        if param.type != "reference":
            raise refuse(
                400, "invalid", f"'{parts[1]}' of {parts[0]} is a {param.type}, not a reference", f"{spec.type}?{head}"
            )
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
