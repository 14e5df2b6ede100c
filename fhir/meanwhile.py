"""What others changed while somebody turns pages, so that no row is lost or comes twice in any order.

The first page keeps PostgreSQL's snapshot in its cursor. On the pages after it a row that was there then keeps its
place, whatever was written since: it is put in order by what it said at the time, and shown as it is now. What is new
since is not part of this reading; what was deleted is gone. Ids never change, so an order by id needs nothing of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fhir.conditions import all_of
from fhir.index import index
from fhir.outcome import refuse
from fhir.registry import SPECS
from fhir.store import Connection, Sql, Stored
from fhir.tables import date_column
from fhir.wire import decode

# No transaction that writes takes longer: a row updated earlier than this before the snapshot was in it.
LONGEST_WRITE = timedelta(minutes=5)
# Rows that match, were there, and were changed since. Beyond it whoever reads begins again.
MOST_CHANGED = 2_000
_ITEMS = "\x1f"


@dataclass(frozen=True, slots=True)
class Since:
    """The moment of the first page: what PostgreSQL had committed then, and what time it was."""

    snapshot: str
    at: datetime

    @classmethod
    def read(cls, text: str) -> "Since":
        snapshot, _, at = text.partition("@")
        return cls(snapshot, datetime.fromisoformat(at))


# What `Since.read` reads, as SQL: in the statement of the first page, so that it tells of that page's own snapshot.
NOW = "pg_current_snapshot()::text || '@' || (to_json(now()) #>> '{}')"


@dataclass(frozen=True, slots=True)
class Changed:
    """A row that was changed since: as it is `now`, and what it said `then`, in which version."""

    now: Stored
    keys: list[str]
    version: int
    updated: datetime
    then: str


def unchanged(type_: str, since: Since) -> Sql:
    """Limits alias `r` of a search table to rows that stand as they did."""
    return Sql(f"(r.updated <= %s OR {_written(type_)})", (since.at - LONGEST_WRITE, since.snapshot))


async def changed(pg: Connection, type_: str, condition: Sql, since: Since) -> list[Changed]:
    """The rows of *type_* that fit *condition* and were changed. Refusal 409 when they are too many.

    To be asked after the page's own statement: what is changed between the two is then in both, not in neither.
    """
    limits = Sql(
        f"r.version > 1 AND r.updated > %s AND NOT {_written(type_)}", (since.at - LONGEST_WRITE, since.snapshot)
    )
    where = all_of([condition, limits])
    of_type = f"resource_version v WHERE v.type = '{type_}' AND v.id = r.id AND v.version"
    result = await pg.execute(
        "SELECT r.id, r.version, r.updated, r.patient_id, now.body, r.keys, v.version, v.updated, v.body FROM ("
        f"SELECT r.id, r.version, r.updated, r.patient_id, r.keys FROM r_{type_.lower()} r WHERE {where.text}) r"
        f" CROSS JOIN LATERAL (SELECT v.body FROM {of_type} = r.version) now"
        f" CROSS JOIN LATERAL (SELECT v.version, v.updated, v.body FROM {of_type} < r.version AND {_seen('v')}"
        " ORDER BY v.version DESC LIMIT 1) v WHERE v.body IS NOT NULL LIMIT %s",
        (*where.params, since.snapshot, MOST_CHANGED + 1),
        prepare=False,
    )
    rows = [Changed(Stored(type_, *row[:5]), *row[5:]) async for row in result]
    if len(rows) > MOST_CHANGED:
        said = f"more than {MOST_CHANGED} of these were changed since the first page: search again"
        raise refuse(409, "conflict", said, "_cursor")
    return rows


def then(type_: str, rows: Sequence[Changed]) -> Sql:
    """What *rows* said then, as a relation with the columns of their search table."""
    spec = SPECS[type_]
    columns: dict[str, tuple[str, list[object]]] = {
        "id": ("{}", []),
        "version": ("{}::int", [row.version for row in rows]),
        "updated": ("{}::timestamptz", [row.updated for row in rows]),
        "patient_id": ("{}", []),
        "keys": (f"string_to_array({{}}, '{_ITEMS}')", []),
        "strings": (f"array_to_tsvector(string_to_array({{}}, '{_ITEMS}'))", []),
        **{date_column(date): ("{}::tstzrange", []) for date in spec.dates},
    }
    for one in rows:
        resource = decode(one.then.encode())
        row = index(spec, resource)
        columns["id"][1].append(resource["id"])
        columns["patient_id"][1].append(row.patient_id)
        columns["keys"][1].append(_ITEMS.join(row.keys))
        columns["strings"][1].append(_ITEMS.join(dict.fromkeys(row.strings)) or None)
        for date in spec.dates:
            found = row.dates.get(date_column(date))
            low, high = found or (None, None)
            text = f"[{low.isoformat() if low else ''},{high.isoformat() if high else ''})"
            columns[date_column(date)][1].append(text if found else None)
    made = ", ".join(f"{how.format(f'u.{name}')} AS {name}" for name, (how, _) in columns.items())
    kinds = {"version": "int[]", "updated": "timestamptz[]"}
    arrays = ", ".join(f"%s::{kinds.get(name, 'text[]')}" for name in columns)
    text = f"(SELECT {made} FROM unnest({arrays}) AS u ({', '.join(columns)}))"
    return Sql(text, tuple(values for _, values in columns.values()))


def _written(type_: str) -> str:
    """Whether the version that the search row points at was there at the snapshot. No EXISTS: PostgreSQL would rather
    read all versions once than look up the few that are asked for."""
    return (
        f"(SELECT {_seen('w')} FROM resource_version w"
        f" WHERE w.type = '{type_}' AND w.id = r.id AND w.version = r.version)"
    )


def _seen(alias: str) -> str:
    """Whether the transaction that wrote the version was over at the snapshot."""
    return f"pg_visible_in_snapshot({alias}.xact, %s::pg_snapshot)"
