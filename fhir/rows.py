"""Rows of a page: fetched in order from where the page before ended, counted when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir.conditions import ALWAYS, all_of, any_of
from fhir.meanwhile import NOW, Changed, then
from fhir.sorting import Sort
from fhir.store import Connection, Sql, Stored


@dataclass(frozen=True, slots=True)
class Row:
    """A match: `order` are its values in the columns that the search is ordered by, `since` when it was looked for."""

    stored: Stored
    keys: list[str]
    order: list[str | None]
    since: str = ""


async def of_type(
    pg: Connection,
    type_: str,
    condition: Sql,
    sorts: Sequence[Sort],
    after: Sequence[str | None] | None,
    limit: int,
    fenced: bool = False,
    with_keys: bool = False,
    late: Sql = ALWAYS,
    window: int | None = None,
    unchanged: Sql = ALWAYS,
) -> list[Row]:
    """At most *limit* rows of *type_* beyond those with the values *after*.

    When *fenced*, the condition is answered before anything is put in order, and then *late*, row by row, until there
    are enough. Left alone, PostgreSQL likes to walk the whole table in order until it has met enough rows, which takes
    for ever when there are fewer than it thinks. What is ordered by a made column is fenced anyway. With *window*, only
    that many rows are looked at, the first in order. *unchanged* is for rows that stand as on the first page.
    """
    table = f"r_{type_.lower()}"
    later = beyond(sorts, after) if after is not None else ALWAYS
    made = [(sort.expression.removeprefix("r."), sort.made) for sort in sorts if sort.made is not None]
    extra = Sql("".join(f", {sql.text} AS {name}" for name, sql in made), tuple(v for _, q in made for v in q.params))
    order = ", ".join(f"{sort.expression}{sort.direction}" for sort in sorts)
    if fenced or made:
        where = all_of([condition, unchanged])
        source = f"(SELECT r.*{extra.text} FROM {table} r WHERE {where.text} OFFSET 0) r"
        params: tuple[Any, ...] = (*extra.params, *where.params)
        where = later
        if late is not ALWAYS:
            source = f"(SELECT * FROM {source} WHERE {where.text} ORDER BY {order} OFFSET 0) r"
            params, where = (*params, *where.params), late
    elif window is not None:
        first = all_of([later, unchanged])
        source = f"(SELECT * FROM {table} r WHERE {first.text} ORDER BY {order} LIMIT %s) r"
        params, where = (*first.params, window), all_of([condition, late])
    else:
        source, params, where = f"{table} r", (), all_of([condition, late, later, unchanged])
    columns = ", ".join(f"{sort.expression} AS k{number}" for number, sort in enumerate(sorts))
    keys = "r.keys" if with_keys else "'{}'::text[] AS keys"
    # The page is cut before bodies are fetched, and these row by row (fenced): the limit must not be left to the plan
    # of a join, which may be one that reads all versions of the type in order. Never prepared: the plan must fit the
    # values, since one code may stand for ten rows and another for half the table.
    page = Sql(
        f"SELECT r.id, r.version, r.updated, r.patient_id, {keys}, {columns} FROM {source} WHERE {where.text}"
        f" ORDER BY {order} LIMIT %s",
        (*params, *where.params, limit),
    )
    outer = ", ".join(f"r.k{number}{sort.direction}" for number, sort in enumerate(sorts))
    texts = ", ".join(f"r.k{number}::text" for number in range(len(sorts)))
    result = await pg.execute(
        f"SELECT r.id, r.version, r.updated, r.patient_id, v.body, r.keys, ARRAY[{texts}], {NOW} FROM ({page.text}) r"
        f" CROSS JOIN LATERAL (SELECT body FROM resource_version WHERE type = '{type_}' AND id = r.id"
        f" AND version = r.version OFFSET 0) v ORDER BY {outer}",
        page.params,
        prepare=False,
    )
    return [Row(Stored(type_, *row), keys, order, since) async for *row, keys, order, since in result]


async def merged(
    pg: Connection,
    type_: str,
    rows: Sequence[Row],
    others: Sequence[Changed],
    sorts: Sequence[Sort],
    after: Sequence[str | None],
    limit: int,
) -> list[Row]:
    """*rows* of a page together with those that were changed meanwhile, each where it stood on the first page."""
    made = [(sort.expression.removeprefix("r."), sort.made) for sort in sorts if sort.made is not None]
    extra = Sql("".join(f", {sql.text} AS {name}" for name, sql in made), tuple(v for _, q in made for v in q.params))
    earlier, later = then(type_, others), beyond(sorts, after)
    columns = ", ".join(f"{sort.expression} AS k{number}" for number, sort in enumerate(sorts))
    casts = ['text COLLATE "C"' if sort.cast == "text" else sort.cast for sort in sorts]
    own = ", ".join(f"u.k{number}::{cast}" for number, cast in enumerate(casts))
    names = ", ".join(f"k{number}" for number in range(len(sorts)))
    order = ", ".join(f"r.k{number}{sort.direction}" for number, sort in enumerate(sorts))
    texts = ", ".join(f"r.k{number}::text" for number in range(len(sorts)))
    ids = [row.stored.id for row in rows]
    result = await pg.execute(
        f"SELECT r.id, ARRAY[{texts}] FROM (SELECT u.id, {own} FROM"
        f" unnest({', '.join(['%s::text[]'] * (len(sorts) + 1))}) AS u (id, {names}) UNION ALL"
        f" SELECT r.id, {columns} FROM (SELECT r.*{extra.text} FROM {earlier.text} r) r"
        f" WHERE {later.text} AND r.id <> ALL(%s::text[])) r (id, {names}) ORDER BY {order} LIMIT %s",
        (
            ids,
            *([row.order[number] for row in rows] for number in range(len(sorts))),
            *extra.params,
            *earlier.params,
            *later.params,
            ids,
            limit,
        ),
        prepare=False,
    )
    known = {one.now.id: Row(one.now, one.keys, []) for one in others} | {row.stored.id: row for row in rows}
    return [replace(known[id_], order=order) async for id_, order in result]


async def of_types(
    pg: Connection,
    conditions: Sequence[tuple[str, Sql]],
    sorts: Sequence[Sort],
    after: Sequence[str | None] | None,
    limit: int,
) -> list[Row]:
    """At most *limit* rows of several types, each with its condition; the order is that of *sorts*, then of types.

    *after* ends with the type of the last row.
    """
    order = ", ".join(f"{sort.expression}{sort.direction}" for sort in sorts)
    texts = ", ".join(f"{sort.expression}::text" for sort in sorts)
    parts: list[Sql] = []
    for type_, condition in conditions:
        name = f"'{type_}'::text COLLATE \"C\""
        where = condition
        if after is not None:
            where = all_of([condition, beyond([*sorts, Sort(name, "text", False, False)], after)])
        parts.append(
            Sql(
                f"(SELECT {name} AS type, r.id, r.version, r.updated, r.patient_id, r.keys FROM r_{type_.lower()} r"
                f" WHERE {where.text} ORDER BY {order} LIMIT %s)",
                (*where.params, limit),
            )
        )
    union = " UNION ALL ".join(part.text for part in parts)
    result = await pg.execute(
        f"SELECT r.type, r.id, r.version, r.updated, r.patient_id, v.body, r.keys, ARRAY[{texts}, r.type::text]"
        f" FROM (SELECT * FROM ({union}) r ORDER BY {order}, r.type LIMIT %s) r JOIN resource_version v"
        f" ON v.type = r.type AND v.id = r.id AND v.version = r.version ORDER BY {order}, r.type",
        (*(value for part in parts for value in part.params), limit),
        prepare=False,
    )
    return [Row(Stored(*row), keys, order) async for *row, keys, order in result]


def beyond(sorts: Sequence[Sort], after: Sequence[str | None]) -> Sql:
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
        further = Sql(f"{name} {'<' if sort.descending else '>'} %s::{sort.cast}", (value,))
        if sort.nullable and sort.descending:
            further = any_of([further, Sql(f"{name} IS NULL")])
        parts.append(all_of([*level, further]))
        level.append(Sql(f"{name} = %s::{sort.cast}", (value,)))
    after_all = any_of(parts)
    first = sorts[0]
    if after[0] is None or (first.nullable and first.descending) or len(sorts) == 1:
        return after_all
    # Implied by the rest, but only this tells PostgreSQL where in the index to begin.
    start = Sql(f"{first.expression} {'<=' if first.descending else '>='} %s::{first.cast}", (after[0],))
    return all_of([start, after_all])


async def counted(pg: Connection, conditions: Sequence[tuple[str, Sql]]) -> int:
    """How many rows fit, over all types."""
    parts = [f"(SELECT count(*) FROM r_{type_.lower()} r WHERE {condition.text})" for type_, condition in conditions]
    params = tuple(value for _, condition in conditions for value in condition.params)
    row = await (await pg.execute(f"SELECT {' + '.join(parts) or '0'}", params, prepare=False)).fetchone()
    assert row is not None
    return int(row[0])


async def estimated(pg: Connection, conditions: Sequence[tuple[str, Sql]]) -> int:
    """What PostgreSQL expects, without looking."""
    total = 0
    for type_, condition in conditions:
        statement = f"EXPLAIN (FORMAT JSON) SELECT 1 FROM r_{type_.lower()} r WHERE {condition.text}"
        plan = await (await pg.execute(statement, condition.params)).fetchone()
        assert plan is not None
        total += int(plan[0][0]["Plan"]["Plan Rows"])
    return total
