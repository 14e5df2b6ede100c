"""Searches: one statement for the matches, one for each level of includes, and pages that lose and repeat nothing.

Without `_sort` the newest comes first: the order is by `id` downwards, and ids are made in the order of time and never
change, so a page keeps its place while others write. A search by a date alone goes by that date, because its index then
finds and orders in one go.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fhir import store
from fhir.asked import PAGE_SIZE, Query, Request, Sort, by_id, instant_of, size_of, taken_apart
from fhir.codes import gathered
from fhir.conditions import all_of, any_of
from fhir.criteria import Criteria
from fhir.includes import included
from fhir.outcome import refuse
from fhir.page import Found, Page, next_url, subset, url_of
from fhir.paging import Cursor, verify
from fhir.registry import SPECS, ResourceSpec
from fhir.store import Connection, Sql, Stored, Visible, permitted
from fhir.tables import date_column

__all__ = ["Page", "Sql", "Visible", "claim", "history", "matches", "search"]


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
    request = taken_apart(spec, query, scope, secret, max_page)
    criteria = Criteria(visible, base_url, await gathered(pg, request.criteria, visible))
    where = [Sql(*limit), criteria.where(spec, "r", request.criteria)]
    if patient is not None:
        where.append(_compartment(spec, patient))
    condition = all_of(where)
    links = [("self", url_of(base_url, scope, request.query))]
    if request.count == 0:
        return Page("searchset", await _count(pg, type_, condition), links, base_url=base_url)
    in_order = criteria.one_person and request.sorts[0].nullable
    fenced = (criteria.selective or patient is not None) and not in_order
    rows = await _rows(pg, type_, condition, request, fenced)
    found, more = rows[: request.count], len(rows) > request.count
    total = await _total(pg, type_, condition, request, len(rows), more)
    if more:
        links.append(("next", next_url(base_url, scope, Cursor(scope, request.query, found[-1].order), secret)))
    entries = [Found("match", type_, row.stored.id, row.stored.body or "", row.stored.patient_id) for row in found]
    if request.includes and found:
        level = {row.stored.id: row.keys for row in found}
        entries += await included(pg, type_, level, request.includes, visible)
    if request.summary != "false" or request.elements:
        entries = [subset(entry, request) for entry in entries]
    return Page("searchset", total, links, entries, base_url=base_url)


async def matches(pg: Connection, type_: str, query: Query, visible: Visible, limit: int) -> list[Stored]:
    """At most *limit* resources that match, in the order of ids: for conditional writes. Refusals as for `search`."""
    allowed = permitted(type_, "r", visible)
    spec = SPECS[type_]
    criteria = Criteria(visible, sets=await gathered(pg, query, visible))
    condition = all_of([Sql(*allowed), criteria.where(spec, "r", query)])
    plain = Request([], limit - 1, [by_id(False)], [], "none", "false", frozenset(), [])
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
            size = max(1, size_of(value, max_page))
        elif name == "_since":
            since = instant_of(value)
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
    links = [("self", url_of(base_url, scope, kept))]
    if len(entries) > size:
        entries = entries[:size]
        links.append(("next", next_url(base_url, scope, Cursor(scope, kept, [str(entries[-1].seq)]), secret)))
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
