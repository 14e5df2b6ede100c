"""Rows of a page: fetched in order from where the page before ended, counted when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir.conditions import ALWAYS, all_of, any_of
from fhir.registry import SPECS
from fhir.sorting import Sort
from fhir.store import Connection, Sql, Stored
from fhir.tables import date_column


@dataclass(frozen=True, slots=True)
class Row:
    """A match: `order` are its values in the columns that the search is ordered by."""

    stored: Stored
    keys: list[str]
    order: list[str | None]


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
) -> list[Row]:
    """At most *limit* rows of *type_* beyond those with the values *after*.

    When *fenced*, the condition is answered before anything is put in order, and then *late*, row by row, until there
    are enough. Left alone, PostgreSQL likes to walk the whole table in order until it has met enough rows, which takes
    for ever when there are fewer than it thinks. What is ordered by a made column is fenced anyway. With *window*, only
    that many rows are looked at, the first in order.
    """
    later = beyond(sorts, after) if after is not None else None
    made = [sort.made for sort in sorts if sort.made is not None]
    keys = "r.keys" if with_keys else "'{}'::text[] AS keys"
    order = ", ".join(f"{sort.expression}{sort.direction}" for sort in sorts)
    texts = ", ".join(f"{sort.expression}::text" for sort in sorts)
    named = [(sort.expression.removeprefix("r."), sort.made) for sort in sorts if sort.made is not None]
    columns = "".join(f", r.{date_column(date)}" for date in SPECS[type_].dates)
    columns += "".join(f", r.{name}" for name, _ in named)
    if fenced or made:
        extra = "".join(f", {sql.text} AS {name}" for name, sql in named)
        source = f"(SELECT r.*{extra} FROM r_{type_.lower()} r WHERE {condition.text} OFFSET 0) r"
        params: tuple[Any, ...] = (*(value for sql in made for value in sql.params), *condition.params)
        where = later or ALWAYS
        if late is not ALWAYS:
            source = f"(SELECT * FROM {source} WHERE {where.text} ORDER BY {order} OFFSET 0) r"
            params, where = (*params, *where.params), late
    elif window is not None:
        first = later or ALWAYS
        source = f"(SELECT * FROM r_{type_.lower()} r WHERE {first.text} ORDER BY {order} LIMIT %s) r"
        params, where = (*first.params, window), all_of([condition, late])
    else:
        source, params = f"r_{type_.lower()} r", ()
        where = all_of([condition, late, *([later] if later else [])])
    # The page is cut before bodies are fetched: the limit must not be left to the plan of a join. Never prepared: the
    # plan must fit the values, since one code may stand for ten rows and another for half the table.
    result = await pg.execute(
        f"SELECT r.id, r.version, r.updated, r.patient_id, v.body, r.keys, ARRAY[{texts}] FROM ("
        f"SELECT r.id, r.version, r.updated, r.patient_id, {keys}{columns} FROM {source}"
        f" WHERE {where.text} ORDER BY {order} LIMIT %s) r"
        f" JOIN resource_version v ON v.type = '{type_}' AND v.id = r.id AND v.version = r.version ORDER BY {order}",
        (*params, *where.params, limit),
        prepare=False,
    )
    return [Row(Stored(type_, *row), keys, order) async for *row, keys, order in result]


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
