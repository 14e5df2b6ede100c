"""Which versions a subscription is about: those of its type in a stretch of the record, held against its criteria.

The criteria are those of a search, on the same search rows and with the same limit on what the actor may see. A
version that has been superseded has no search row any more, so its row is made again for the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir.conditions import all_of
from fhir.criteria import Criteria
from fhir.index import index
from fhir.registry import SPECS, ResourceSpec
from fhir.store import Connection, Sql, Visible
from fhir.subscriptions import Query
from fhir.tables import date_column
from fhir.wire import decode
from hub.subscriptions.topics import Topic

# Separators that neither JSON nor keys hold, as in fhir.store.
_ROWS, _ITEMS = "\x1e", "\x1f"


@dataclass(frozen=True, slots=True)
class Match:
    """A version that a subscription is about."""

    seq: int
    id: str
    version: int
    at: datetime


async def matches(
    pg: Connection,
    type_: str,
    query: Query,
    topic: Topic | None,
    visible: Visible,
    base_url: str,
    after: int,
    until: int,
) -> list[Match]:
    """The versions of *type_* with `after < seq <= until` that meet *query* and *topic*, in the order of `seq`.

    Only what *visible* shows now. Refusal 400 when *query* is not understood.
    """
    limit = visible(type_, "r")
    if limit is None:
        return []
    spec = SPECS[type_]
    where = all_of([Sql(*limit), Criteria(visible, base_url).where(spec, "r", query), _topical(topic)])
    rows = await pg.execute(
        f"SELECT v.seq, v.id, v.version, v.updated FROM resource_version v"
        f" JOIN r_{type_.lower()} r ON r.id = v.id AND r.version = v.version"
        f" WHERE v.type = '{type_}' AND v.seq > %s AND v.seq <= %s AND {where.text}",
        (after, until, *where.params),
        prepare=False,
    )
    found = {row[0]: Match(*row) for row in await rows.fetchall()}
    # Asked after the others: what was superseded between the two questions is met here, never lost.
    for match in await _superseded(pg, spec, where, after, until):
        found.setdefault(match.seq, match)
    ordered = sorted(found.values(), key=lambda match: match.seq)
    return ordered if topic is None else await _happened(pg, type_, topic, ordered)


def _topical(topic: Topic | None) -> Sql:
    return topic.condition if topic is not None else Sql("TRUE")


async def _superseded(pg: Connection, spec: ResourceSpec, where: Sql, after: int, until: int) -> list[Match]:
    """Matches among versions that are not the newest any more. What has been deleted meanwhile is nobody's news."""
    type_ = spec.type
    rows = await pg.execute(
        "SELECT v.seq, v.id, v.version, v.updated, v.body FROM resource_version v"
        f" JOIN r_{type_.lower()} r ON r.id = v.id AND r.version <> v.version"
        f" WHERE v.type = '{type_}' AND v.seq > %s AND v.seq <= %s AND v.body IS NOT NULL",
        (after, until),
        prepare=False,
    )
    past = await rows.fetchall()
    if not past:
        return []
    given = _rows_of(spec, [(seq, id_, version, updated, body) for seq, id_, version, updated, body in past])
    rows = await pg.execute(
        f"SELECT r.seq, r.id, r.version, r.updated FROM ({given.text}) r WHERE {where.text}",
        (*given.params, *where.params),
        prepare=False,
    )
    return [Match(*row) for row in await rows.fetchall()]


def _rows_of(spec: ResourceSpec, versions: Sequence[tuple[int, str, int, datetime, str]]) -> Sql:
    """The search rows of *versions*, as `fhir.store` would write them, as a subquery."""
    rows = [index(spec, decode(body.encode())) for *_, body in versions]
    columns: list[tuple[str, str, list[str]]] = [
        ("seq", "{}::bigint", [str(one[0]) for one in versions]),
        ("id", "{}", [one[1] for one in versions]),
        ("version", "{}::int", [str(one[2]) for one in versions]),
        ("updated", "{}::timestamptz", [one[3].isoformat() for one in versions]),
        ("patient_id", "{}", [row.patient_id or "" for row in rows]),
        ("keys", f"coalesce(string_to_array({{}}, '{_ITEMS}'), '{{{{}}}}')", [_ITEMS.join(row.keys) for row in rows]),
    ]
    if spec.strings:
        lexemes = [_ITEMS.join(row.strings) for row in rows]
        columns.append(("strings", f"array_to_tsvector(string_to_array({{}}, '{_ITEMS}'))", lexemes))
    for date in spec.dates:
        name = date_column(date)
        columns.append((name, "{}::tstzrange", [_range(row.dates.get(name)) for row in rows]))
    if spec.amounts:
        columns.append(("low", "{}::float8", ["" if row.low is None else repr(row.low) for row in rows]))
        columns.append(("high", "{}::float8", ["" if row.high is None else repr(row.high) for row in rows]))
    names = ", ".join(name for name, *_ in columns)
    values = ", ".join(f"{cast.format('given.' + name)} AS {name}" for name, cast, _ in columns)
    texts = ", ".join([f"string_to_array(%s, '{_ROWS}', '')"] * len(columns))
    return Sql(
        f"SELECT {values} FROM unnest({texts}) AS given ({names})",
        tuple(_ROWS.join(column) for *_, column in columns),
    )


def _range(range_: tuple[datetime | None, datetime | None] | None) -> str:
    if range_ is None:
        return ""
    low, high = range_
    return f"[{low.isoformat() if low else ''},{high.isoformat() if high else ''})"


async def _happened(pg: Connection, type_: str, topic: Topic, found: list[Match]) -> list[Match]:
    """Those of *found* that are events by what they change."""
    if not found:
        return found
    rows = await pg.execute(
        "SELECT v.id, v.version, v.body, before.body FROM unnest(%s::text[], %s::int[]) AS one (id, version)"
        f" JOIN resource_version v ON v.type = '{type_}' AND v.id = one.id AND v.version = one.version"
        f" LEFT JOIN resource_version before ON before.type = '{type_}' AND before.id = one.id"
        " AND before.version = one.version - 1",
        ([match.id for match in found], [match.version for match in found]),
    )
    bodies: dict[tuple[str, int], tuple[Any, Any]] = {
        (id_, version): (_opened(before), _opened(after)) async for id_, version, after, before in rows
    }
    return [match for match in found if _is_event(topic, *bodies[match.id, match.version])]


def _is_event(topic: Topic, before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    return after is not None and topic.happened(before, after)


def _opened(body: str | None) -> dict[str, Any] | None:
    return None if body is None else decode(body.encode())
