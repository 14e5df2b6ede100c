"""The work of a bulk export (FHIR Bulk Data Access 2.0): what its owner may see, as NDJSON in pieces of `job_piece`.

Everything is read in one snapshot, by a cursor on the server, and leaves memory piece by piece; so a million resources
take no more of it than a thousand. What was begun by a process that died is begun anew: half an export is none.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from fhir import store
from fhir.codes import CodeSets, gathered
from fhir.conditions import ALWAYS, all_of, any_of
from fhir.criteria import Criteria
from fhir.outcome import refuse
from fhir.registry import SPECS
from fhir.store import Sql, Visible, instant, permitted
from fhir.wire import encode
from hub import audit
from hub.access import visible
from hub.db import Database, Tx
from hub.identity import Actor
from hub.jobs import JSON, Job, Told
from hub.pieces import PIECE_BYTES, put
from hub.sources import rank

FILE_ROWS = 100_000
"""Resources in one file at most, so that a client can fetch several at once, and one of them again."""
FETCHED = 500
MOST_BYTES = 16 * 1024**3
"""Of one export, compressed: they lie in the database until they expire."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. `level` is system, Patient or Group; *filters* are searches by type, alternatives of each
    other; *patients* limits a Patient or Group export to these."""

    level: str
    base_url: str
    types: tuple[str, ...] = ()
    since: datetime | None = None
    filters: dict[str, list[str]] = field(default_factory=dict)
    group: str | None = None
    patients: tuple[str, ...] = ()

    def as_json(self) -> JSON:
        return {
            "level": self.level, "base_url": self.base_url, "types": list(self.types),
            "since": self.since.isoformat() if self.since else None, "filters": self.filters, "group": self.group,
            "patients": list(self.patients),
        }  # fmt: skip

    def queries(self, type_: str) -> list[list[tuple[str, str]]]:
        return [parse_qsl(query, keep_blank_values=True) for query in self.filters[type_]]

    @classmethod
    def of(cls, request: JSON) -> "Order":
        since = request["since"]
        return cls(
            request["level"], request["base_url"], tuple(request["types"]),
            datetime.fromisoformat(since) if since else None, request["filters"], request["group"],
            tuple(request["patients"]),
        )  # fmt: skip


def condition(order: Order, type_: str, shown: Visible, people: list[str] | None, sets: CodeSets) -> Sql | None:
    """What of *type_* goes out, on alias `r` of its search table; None when it is left out unasked.

    *people* is what `_people` gave, *sets* are the value sets that filters name. Refusal 403 for a type that was asked
    for and may not be seen, 400 for a filter that is not understood.
    """
    if type_ not in order.types and (order.types or shown(type_, "r") is None):
        return None
    spec = SPECS[type_]
    parts = [permitted(type_, "r", shown)]
    if order.since is not None:
        parts.append(Sql("r.updated >= %s", (order.since,)))
    parts.append(_about(order, people, "r"))
    if type_ in order.filters:
        criteria = Criteria(shown, order.base_url, sets)
        parts.append(any_of([criteria.where(spec, "r", query) for query in order.queries(type_)]))
    return all_of(parts)


def _about(order: Order, people: list[str] | None, alias: str) -> Sql:
    """Whom the rows are about, at the level that was asked for."""
    if people is not None:
        return Sql(f"{alias}.patient_id = ANY(%s::text[])", (people,))
    return ALWAYS if order.level == "system" else Sql(f"{alias}.patient_id IS NOT NULL")


async def check(tx: Tx, order: Order, actor: Actor) -> None:
    """Refusal now for what would be refused when it is carried out."""
    shown = visible(actor)
    people, sets = await _people(tx, order, shown), await _sets(tx, order, shown)
    for type_ in sorted({*order.types, *order.filters}):
        if order.level != "system" and not SPECS[type_].in_patient_compartment:
            said = f"{type_} is in no patient's compartment: ask for it at the level of the system"
            raise refuse(400, "not-supported", said, "_type")
        if order.types and type_ not in order.types:
            raise refuse(400, "invalid", f"_typeFilter names {type_}, which _type leaves out", "_typeFilter")
        condition(order, type_, shown, people, sets)


async def run(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
    """Carry out the export; gives what the manifest is made of."""
    if not actor.can("export"):
        raise refuse(403, "forbidden", "your role does not allow exports any more")
    order = Order.of(job.request)
    shown = visible(actor)
    output: list[JSON] = []
    async with database.transaction() as tx:
        await tx.pg.execute("DELETE FROM job_piece WHERE job_id = %s", (job.id,))
    async with database.transaction() as reading:
        await reading.pg.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await reading.pg.execute("SET LOCAL statement_timeout = '10min'")
        await reading.pg.execute("SET LOCAL cursor_tuple_fraction = 1")
        moment = await _moment(reading)
        people, sets = await _people(reading, order, shown), await _sets(reading, order, shown)
        # In the order in which they can be imported: an approval before the plan that takes it.
        chosen = sorted(order.types or _types(order), key=lambda name: (rank(name), name))
        for type_ in chosen:
            where = condition(order, type_, shown, people, sets)
            if where is not None:
                written = _Writing(database, job, told, type_, sum(one["bytes"] for one in output))
                async with aclosing(_bodies(reading, type_, where)) as bodies:
                    output += await written.files(bodies, len(output) + 1)
        deleted: list[JSON] = []
        if order.since is not None:
            written = _Writing(database, job, told, "Bundle", sum(one["bytes"] for one in output))
            async with aclosing(_deletions(reading, order, chosen, shown, people)) as bundles:
                deleted = await written.files(bundles, len(output) + 1)
    counts: dict[str, int] = {}
    for one in output:
        counts[one["type"]] = counts.get(one["type"], 0) + one["count"]
    detail = {"types": counts, "level": order.level, "job": job.id}
    about: Sequence[str | None] = people or [None]
    async with database.transaction() as tx:
        await audit.record(tx.pg, [audit.entry(actor, "export", patient_id=one, detail=detail) for one in about])
    return {"transactionTime": instant(moment), "output": output, "deleted": deleted}


def _types(order: Order) -> list[str]:
    return [type_ for type_, spec in SPECS.items() if order.level == "system" or spec.in_patient_compartment]


async def _moment(tx: Tx) -> datetime:
    """What was written before this moment is in the snapshot: no writer that is still open began before it.

    A client asks the next time for what changed since, and misses nothing; what is in both comes twice.
    """
    rows = await tx.pg.execute(
        "SELECT least(now(), min(xact_start)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_xid IS NOT NULL"
    )
    row = await rows.fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


async def _sets(tx: Tx, order: Order, shown: Visible) -> CodeSets:
    asked = [one for type_ in order.filters for query in order.queries(type_) for one in query]
    return await gathered(tx.pg, asked, shown)


async def _people(tx: Tx, order: Order, shown: Visible) -> list[str] | None:
    """The ids of those whom the export is about; None for everybody. Refusal 404 for a group, or a person who was
    asked for by name, that the actor may not see."""
    wanted = list(order.patients)
    if order.group is not None:
        stored = await store.read(tx.pg, "Group", order.group, shown)
        members = _members(stored.resource or {})
        wanted = [one for one in members if not wanted or one in wanted]
    elif not wanted:
        return None
    limit = permitted("Patient", "r", shown)
    rows = await tx.pg.execute(
        f"SELECT r.id FROM r_patient r WHERE r.id = ANY(%s::text[]) AND {limit.text}", (wanted, *limit.params)
    )
    there = {row[0] for row in await rows.fetchall()}
    missing = [one for one in order.patients if one not in there]
    if missing:
        raise refuse(404, "not-found", f"there is no Patient/{missing[0][:64]} in what you ask for", "patient")
    return sorted(there)


def _members(group: JSON) -> list[str]:
    found = []
    for member in group.get("member", ()):
        type_, _, id_ = str(member.get("entity", {}).get("reference", "")).partition("/")
        if type_ == "Patient" and store.ID.fullmatch(id_) and not member.get("inactive"):
            found.append(id_)
    return found


async def _bodies(tx: Tx, type_: str, where: Sql) -> AsyncGenerator[list[str], None]:
    async with tx.pg.cursor(name="bulk_export") as cursor:
        await cursor.execute(
            f"SELECT v.body FROM r_{type_.lower()} r"
            f" JOIN resource_version v ON v.type = '{type_}' AND v.id = r.id AND v.version = r.version"
            f" WHERE {where.text}",
            where.params,
        )
        while rows := await cursor.fetchmany(FETCHED):
            yield [row[0] for row in rows]


async def _deletions(
    tx: Tx, order: Order, types: Sequence[str], shown: Visible, people: list[str] | None
) -> AsyncGenerator[list[str], None]:
    """What of *types* was deleted since then and has not come back, each as a Bundle that would delete it again.

    What it was can no longer be searched, so that filters leave nothing of it out.
    """
    for type_ in types:
        limit = shown(type_, "v")
        if limit is None:
            continue
        about = _about(order, people, "v")
        rows = await tx.pg.execute(
            f"SELECT DISTINCT v.id FROM resource_version v WHERE v.type = '{type_}' AND v.body IS NULL"
            f" AND v.updated >= %s AND NOT EXISTS (SELECT FROM r_{type_.lower()} r WHERE r.id = v.id)"
            f" AND ({about.text}) AND ({limit[0]})",
            (order.since, *about.params, *limit[1]),
        )
        found = [
            encode(
                {
                    "resourceType": "Bundle",
                    "type": "transaction",
                    "entry": [{"request": {"method": "DELETE", "url": f"{type_}/{id_}"}}],
                }
            ).decode()
            async for (id_,) in rows
        ]
        if found:
            yield found


class _Writing:
    """The files of one type, piece by piece."""

    def __init__(self, database: Database, job: Job, told: Told, type_: str, bytes_before: int) -> None:
        self._database = database
        self._job = job
        self._told = told
        self._type = type_
        self._kept = bytes_before
        self._made: list[JSON] = []

    async def files(self, bodies: AsyncIterator[list[str]], first: int) -> list[JSON]:
        waiting: list[str] = []
        size = done = 0
        async for some in bodies:
            waiting += some
            size += sum(map(len, some))
            full = self._made[-1]["count"] + len(waiting) >= FILE_ROWS if self._made else len(waiting) >= FILE_ROWS
            if size >= PIECE_BYTES or full:
                await self._put(waiting, first)
                done += len(waiting)
                self._told.words = f"{self._type}: {done:,} resources so far"
                waiting, size = [], 0
        if waiting:
            await self._put(waiting, first)
        return self._made

    async def _put(self, bodies: Sequence[str], first: int) -> None:
        if not self._made or self._made[-1]["count"] >= FILE_ROWS:
            number = first + len(self._made)
            self._made.append({"file": number, "type": self._type, "count": 0, "bytes": 0, "pieces": 0})
        file = self._made[-1]
        raw = ("\n".join(bodies) + "\n").encode()
        data = await asyncio.to_thread(zlib.compress, raw, 3)
        self._kept += len(data)
        if self._kept > MOST_BYTES:
            raise refuse(422, "too-costly", f"the export is larger than {MOST_BYTES // 1024**3} GiB: ask for less")
        await put(self._database, self._job.id, file["file"], file["pieces"], data)
        file["pieces"] += 1
        file["count"] += len(bodies)
        file["bytes"] += len(raw)
