"""Searches: one statement for the matches, one for each level of includes, and pages that lose and repeat nothing.

Without `_sort` the newest comes first: the order is by `id` downwards, and ids are made in the order of time and never
change, so a page keeps its place while others write. A search by a date alone goes by that date, because its index then
finds and orders in one go.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from fhir import store
from fhir.criteria import Criteria, all_of, any_of, is_selective, parameter
from fhir.index import instants
from fhir.outcome import refuse
from fhir.paging import Cursor, sign, verify
from fhir.registry import SPECS, ResourceSpec, SearchParam
from fhir.store import Connection, Entry, Sql, Stored, Visible, instant, permitted
from fhir.tables import date_column
from fhir.wire import decode, encode

__all__ = ["Page", "Sql", "Visible", "claim", "history", "matches", "search"]

Query = Sequence[tuple[str, str]]

PAGE_SIZE = 20
# More would be a page that nobody reads and a reply that does not fit in memory; the client asks for less instead.
MOST_INCLUDED = 10_000
MOST_LEVELS = 8
# Said about the reply, not about the rows; the transport deals with the first two.
CONTROLS = frozenset(
    ("_format", "_pretty", "_count", "_sort", "_include", "_revinclude", "_total", "_summary", "_elements", "_cursor")
)
_TOTALS = ("accurate", "estimate", "none")
_SUMMARIES = ("true", "text", "data", "count", "false")
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


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


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a page. *mode* is match, include or outcome."""

    mode: str
    type: str
    id: str
    body: str
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a search or history found. `total` is None where it was neither asked for nor known anyway."""

    type: str
    total: int | None
    links: list[tuple[str, str]]
    entries: list[Found] = field(default_factory=list)
    versions: list[Entry] = field(default_factory=list)
    base_url: str = ""

    def as_bytes(self) -> bytes:
        """The Bundle as JSON. Stored bodies go in as they are: none is decoded to be encoded again."""
        head: dict[str, Any] = {"resourceType": "Bundle", "type": self.type}
        if self.total is not None:
            head["total"] = self.total
        head["link"] = [{"relation": relation, "url": url} for relation, url in self.links]
        written = [_search_entry(self.base_url, found) for found in self.entries]
        written += [_history_entry(self.base_url, entry) for entry in self.versions]
        if not written:
            return encode(head)
        return encode(head)[:-1] + b',"entry":[' + ",".join(written).encode() + b"]}"

    def as_json(self) -> dict[str, Any]:
        return decode(self.as_bytes())


async def search(
    pg: Connection,
    type_: str,
    query: Query,
    visible: Visible,
    base_url: str,
    secret: bytes,
    max_page: int,
    patient: str | None = None,
) -> Page:
    """One page of the resources of *type_* that match *query* and that the actor may see, as a searchset.

    With *patient*, only what is in the compartment of that Patient. *max_page* bounds `_count`. Refusal 400 for what is
    not understood (an ignored condition would be an unfiltered list), 403 for a type the actor may not see, 404 for one
    that is not served.
    """
    limit = permitted(type_, "r", visible)
    spec = SPECS[type_]
    scope = type_ if patient is None else f"Patient/{patient}/{type_}"
    request = _request(spec, query, scope, secret, max_page)
    criteria = Criteria(visible, base_url)
    where = [Sql(*limit), criteria.where(spec, "r", request.criteria)]
    if patient is not None:
        where.append(_compartment(spec, patient))
    condition = all_of(where)
    links = [("self", _url(base_url, scope, request.query))]
    if request.count == 0:
        return Page("searchset", await _count(pg, type_, condition), links, base_url=base_url)
    in_order = criteria.one_person and request.sorts[0].nullable
    fenced = (criteria.selective or patient is not None) and not in_order
    rows = await _rows(pg, type_, condition, request, fenced)
    found, more = rows[: request.count], len(rows) > request.count
    total = await _total(pg, type_, condition, request, len(rows), more)
    if more:
        links.append(("next", _next(base_url, scope, Cursor(scope, request.query, found[-1].order), secret)))
    entries = [Found("match", type_, row.stored.id, row.stored.body or "", row.stored.patient_id) for row in found]
    if request.includes and found:
        entries += await _included(pg, type_, found, request.includes, visible)
    if request.summary != "false" or request.elements:
        entries = [_subset(entry, request) for entry in entries]
    return Page("searchset", total, links, entries, base_url=base_url)


async def matches(pg: Connection, type_: str, query: Query, visible: Visible, limit: int) -> list[Stored]:
    """At most *limit* resources that match, in the order of ids: for conditional writes. Refusals as for `search`."""
    allowed = permitted(type_, "r", visible)
    spec = SPECS[type_]
    criteria = Criteria(visible)
    condition = all_of([Sql(*allowed), criteria.where(spec, "r", query)])
    plain = Request([], limit - 1, [_by_id(False)], [], "none", "false", frozenset(), [])
    return [row.stored for row in await _rows(pg, type_, condition, plain, criteria.selective)]


async def claim(pg: Connection, type_: str, query: Query) -> None:
    """Wait until nobody else acts on these criteria, and keep others waiting until the transaction ends.

    Two conditional creations with one `If-None-Exist` then come one after the other: the second finds the first's.
    """
    criteria = "&".join(f"{name}={value}" for name, value in sorted(query))
    await pg.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{type_}?{criteria}",))


async def history(
    pg: Connection,
    query: Query,
    visible: Visible,
    base_url: str,
    secret: bytes,
    max_page: int,
    type_: str | None = None,
    id_: str | None = None,
) -> Page:
    """A page of versions, the newest first: of one resource, a type, or everything. Takes `_count` and `_since`.

    Refusal 404 for a resource that never was or that the actor may not see.
    """
    scope = "/".join(part for part in (type_, id_, "_history") if part)
    before, asked = None, list(query)
    cursors = [value for name, value in query if name == "_cursor"]
    if cursors:
        cursor = verify(cursors[0], scope, secret)
        asked, before = cursor.query, int(cursor.after[0] or 0)
    size, since, kept = PAGE_SIZE, None, []
    for name, value in asked:
        if name == "_count":
            size = max(1, _size(value, max_page))
        elif name == "_since":
            since = _instant(value)
        elif name not in ("_format", "_pretty"):
            raise refuse(
                400,
                "invalid",
                f"'{name[:80]}' is not understood by history; there are _count, _since",
                f"_history?{name[:80]}",
            )
        kept.append((name, value))
    entries = await store.history(pg, visible, type_, id_, since, before, size + 1)
    if not entries and id_ is not None and since is None and before is None:
        raise refuse(404, "not-found", f"there is no {type_}/{id_}")
    links = [("self", _url(base_url, scope, kept))]
    if len(entries) > size:
        entries = entries[:size]
        links.append(("next", _next(base_url, scope, Cursor(scope, kept, [str(entries[-1].seq)]), secret)))
    return Page("history", None, links, versions=entries, base_url=base_url)


@dataclass(frozen=True, slots=True)
class _Row:
    stored: Stored
    keys: list[str]
    order: list[str | None]


async def _rows(pg: Connection, type_: str, condition: Sql, request: Request, fenced: bool) -> list[_Row]:
    """One row more than asked for, so that the last page knows it is the last.

    When *fenced*, the condition is answered before anything is put in order. Left alone, PostgreSQL likes to walk the
    whole table in order until it has met enough rows, which takes for ever when there are fewer than it thinks.
    """
    sorts = request.sorts
    where = condition if request.after is None else all_of([condition, _beyond(sorts, request.after)])
    keys = "r.keys" if request.includes else "'{}'::text[] AS keys"
    texts = ", ".join(f"{sort.expression}::text" for sort in sorts)
    order = ", ".join(f"{sort.expression}{sort.direction}" for sort in sorts)
    dates = "".join(f", r.{date_column(date)}" for date in SPECS[type_].dates)
    start, fence = ("(SELECT r.* FROM ", " OFFSET 0) r") if fenced else ("", "")
    # The page is cut before bodies are fetched: the limit must not be left to the plan of a join. Never prepared: the
    # plan must fit the values, since one code may stand for ten rows and another for half the table.
    result = await pg.execute(
        f"SELECT r.id, r.version, r.updated, r.patient_id, v.body, r.keys, ARRAY[{texts}] FROM ("
        f"SELECT r.id, r.version, r.updated, r.patient_id, {keys}{dates} FROM {start}r_{type_.lower()} r"
        f" WHERE {where.text}{fence} ORDER BY {order} LIMIT %s) r"
        f" JOIN resource_version v ON v.type = '{type_}' AND v.id = r.id AND v.version = r.version ORDER BY {order}",
        (*where.params, request.count + 1),
        prepare=False,
    )
    return [_Row(Stored(type_, *row), keys, order) async for *row, keys, order in result]


def _beyond(sorts: Sequence[Sort], after: Sequence[str | None]) -> Sql:
    """Rows after the one with the values *after*: beyond it in one column, and level with it in those before."""
    parts: list[Sql] = []
    level: list[Sql] = []
    for sort, value in zip(sorts, after, strict=True):
        name = sort.expression
        if value is None:
            if not sort.descending:
                parts.append(all_of([*level, Sql(f"{name} IS NOT NULL")]))
            level.append(Sql(f"{name} IS NULL"))
            continue
        beyond = Sql(f"{name} {'<' if sort.descending else '>'} %s::{sort.cast}", (value,))
        if sort.nullable and sort.descending:
            beyond = any_of([beyond, Sql(f"{name} IS NULL")])
        parts.append(all_of([*level, beyond]))
        level.append(Sql(f"{name} = %s::{sort.cast}", (value,)))
    after_all = any_of(parts)
    first = sorts[0]
    if after[0] is None or (first.nullable and first.descending) or len(sorts) == 1:
        return after_all
    # Implied by the rest, but only this tells PostgreSQL where in the index to begin.
    start = Sql(f"{first.expression} {'<=' if first.descending else '>='} %s::{first.cast}", (after[0],))
    return all_of([start, after_all])


async def _count(pg: Connection, type_: str, condition: Sql) -> int:
    result = await pg.execute(
        f"SELECT count(*) FROM r_{type_.lower()} r WHERE {condition.text}", condition.params, prepare=False
    )
    row = await result.fetchone()
    assert row is not None
    return int(row[0])


async def _total(pg: Connection, type_: str, condition: Sql, request: Request, rows: int, more: bool) -> int | None:
    if not more and request.after is None:
        return rows
    if request.total == "accurate":
        return await _count(pg, type_, condition)
    if request.total == "estimate":
        statement = f"EXPLAIN (FORMAT JSON) SELECT 1 FROM r_{type_.lower()} r WHERE {condition.text}"
        plan = await (await pg.execute(statement, condition.params)).fetchone()
        assert plan is not None
        return int(plan[0][0]["Plan"]["Plan Rows"])
    return None


async def _included(
    pg: Connection, type_: str, found: Iterable[_Row], includes: Sequence[Include], visible: Visible
) -> list[Found]:
    """What the matches refer to and what refers to them, each once, one statement per level."""
    level: dict[str, dict[str, list[str]]] = {type_: {row.stored.id: row.keys for row in found}}
    seen = {(type_, id_) for id_ in level[type_]}
    entries: list[Found] = []
    for number in range(MOST_LEVELS):
        active = [include for include in includes if number == 0 or include.iterate]
        parts = _level_sql(active, level, seen, visible)
        if not parts:
            break
        text = " UNION ALL ".join(part.text for part in parts)
        result = await pg.execute(
            f"SELECT f.type, f.id, f.keys, v.body, v.patient_id FROM ({text}) f"
            " JOIN resource_version v ON v.type = f.type AND v.id = f.id AND v.version = f.version LIMIT %s",
            (*(value for part in parts for value in part.params), MOST_INCLUDED + len(seen) + 1),
            prepare=False,
        )
        level = {}
        async for kind, id_, keys, body, patient_id in result:
            if (kind, id_) not in seen:
                seen.add((kind, id_))
                level.setdefault(kind, {})[id_] = keys
                entries.append(Found("include", kind, id_, body, patient_id))
        if len(entries) > MOST_INCLUDED:
            said = f"the page would include more than {MOST_INCLUDED} resources: ask for a smaller _count"
            raise refuse(400, "too-costly", said, f"{type_}?_include")
    return entries


def _level_sql(
    includes: Sequence[Include],
    level: Mapping[str, Mapping[str, list[str]]],
    seen: Set[tuple[str, str]],
    visible: Visible,
) -> list[Sql]:
    """`SELECT type, id, version, keys` of what the *includes* add to *level*. Invisible types add nothing."""
    forward: dict[str, dict[str, None]] = {}
    backward: dict[str, dict[str, None]] = {}
    for include in includes:
        for param in _followed(include):
            targets = ({include.target} if include.target else param.targets or SPECS.keys()) & SPECS.keys()
            if include.reverse:
                wanted = backward.setdefault(include.type, {})
                for target in targets & level.keys():
                    wanted |= {f"{name}={target}/{id_}": None for id_ in level[target] for name in param.stored}
                continue
            prefixes = tuple(f"{name}=" for name in param.stored)
            for keys in level.get(include.type, {}).values():
                for key in keys:
                    if key.startswith(prefixes):
                        target, slash, id_ = key.partition("=")[2].partition("/")
                        if slash and target in targets and (target, id_) not in seen:
                            forward.setdefault(target, {})[id_] = None
    asked = [(type_, "r.id = ANY(%s::text[])", list(ids)) for type_, ids in forward.items()]
    asked += [(type_, "r.keys && %s::text[]", list(keys)) for type_, keys in backward.items() if keys]
    parts = []
    for type_, test, values in asked:
        limit = visible(type_, "r")
        if limit is not None:
            table = f"r_{type_.lower()}"
            text = f"SELECT '{type_}' AS type, r.id, r.version, r.keys FROM {table} r WHERE {test} AND {limit[0]}"
            parts.append(Sql(text, (values, *limit[1])))
    return parts


def _followed(include: Include) -> list[SearchParam]:
    spec = SPECS[include.type]
    if include.param != "*":
        return [parameter(spec, include.param)]
    return [param for param in spec.params.values() if param.type == "reference"]


def _compartment(spec: ResourceSpec, patient: str) -> Sql:
    """What is in the compartment of *patient*: what it is about, and what FHIR adds, such as what they performed."""
    if not store.ID.fullmatch(patient):
        raise refuse(400, "value", f"'{patient[:80]}' is no id")
    if not spec.in_patient_compartment:
        raise refuse(404, "not-supported", f"{spec.type} is not in the compartment of a Patient")
    stored = dict.fromkeys(name for code in spec.compartment for name in spec.params[code].stored)
    parts = [Sql("r.patient_id = %s", (patient,))]
    if (not spec.one_patient and stored) or len(spec.compartment) > 1:
        parts.append(Sql("r.keys && %s::text[]", ([f"{name}=Patient/{patient}" for name in stored],)))
    return any_of(parts)


def _request(spec: ResourceSpec, query: Query, scope: str, secret: bytes, max_page: int) -> Request:
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
    count = _size(last.get("_count", str(PAGE_SIZE)), max_page)
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


def _by_id(descending: bool) -> Sort:
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
            return [_by_updated(False), _by_id(False)]
        for date in spec.dates:
            if date in names:
                return [_by_date(date, True), _by_id(True)]
    return [_by_id(True)]


def _sorts(spec: ResourceSpec, text: str) -> list[Sort]:
    sorts: list[Sort] = []
    for item in text.split(","):
        descending = item.startswith("-")
        code = item.removeprefix("-")
        if code == "_id":
            sorts.append(_by_id(descending))
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
    return [*sorts, _by_id(sorts[-1].descending)]


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


def _size(value: str, most: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise refuse(400, "value", f"_count is a whole number from 0, not '{value[:40]}'", "_count")
    return min(int(value), most)


def _instant(value: str) -> datetime:
    try:
        return instants(value)[0]
    except ValueError:
        raise refuse(
            400, "value", f"_since is an instant such as 2026-11-21T09:00:00Z, not '{value[:40]}'", "_since"
        ) from None


def _url(base_url: str, path: str, query: Query) -> str:
    text = urlencode(list(query), quote_via=quote, safe=":/,|$-._~")
    return f"{base_url.rstrip('/')}/{path}" + (f"?{text}" if text else "")


def _next(base_url: str, scope: str, cursor: Cursor, secret: bytes) -> str:
    return _url(base_url, scope, [("_cursor", sign(cursor, secret))])


def _subset(entry: Found, request: Request) -> Found:
    """The resource with only what `_elements` or `_summary` ask for, and the tag that says so."""
    resource = decode(entry.body.encode())
    keep = {"resourceType", "id", "meta"}
    if request.elements:
        keep |= request.elements
        resource = {name: value for name, value in resource.items() if name.removeprefix("_") in keep}
    elif request.summary == "text":
        resource = {name: value for name, value in resource.items() if name in keep | {"text"}}
    else:
        resource.pop("text", None)
    meta = resource.setdefault("meta", {})
    meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]
    return replace(entry, body=encode(resource).decode())


def _search_entry(base_url: str, found: Found) -> str:
    return (
        f'{{"fullUrl":"{base_url.rstrip("/")}/{found.type}/{found.id}","resource":{found.body},'
        f'"search":{{"mode":"{found.mode}"}}}}'
    )


def _history_entry(base_url: str, entry: Entry) -> str:
    stored = entry.stored
    name = f"{stored.type}/{stored.id}"
    body = f'"resource":{stored.body},' if stored.body is not None else ""
    status = "204" if stored.body is None else "201" if entry.method == "POST" or stored.version == 1 else "200"
    url = stored.type if entry.method == "POST" else name
    return (
        f'{{"fullUrl":"{base_url.rstrip("/")}/{name}",{body}"request":{{"method":"{entry.method}","url":"{url}"}},'
        f'"response":{{"status":"{status}","etag":"W/\\"{stored.version}\\"","lastModified":"{instant(stored.updated)}"}}}}'
    )
