"""Who did what: one row per read and write, sealed into a hash chain a moment after the transaction has ended.

Rows are written in the transaction of what they record, so there is no write without its row and no row without its
write. A chain made at that moment would queue every writer behind every other; instead a sealer comes along once a
second. Every row carries the id of its transaction; below the oldest transaction still open nothing can appear or
vanish any more, so the rows of that range are final. The sealer hashes them with the digest of the block before them.
"""

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

from hub.db import Database
from hub.gathering import Gathering
from hub.identity import ENGINE, Actor

# Set by hub.security for each request; ties together what one request did.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)

# Any constant: one sealer at a time among all processes on one database.
SEALER_LOCK = 0x0A0D17

GENESIS = b"\0" * 32
_encoder = msgspec.json.Encoder()
FETCH = 5_000

JSON = dict[str, Any]
log = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True):
    """One row of the trail. `detail` holds ids, counts and codes only, never what a record says."""

    actor: str
    role: str
    action: str
    type: str | None = None
    resource_id: str | None = None
    patient_id: str | None = None
    outcome: str = "ok"
    detail: JSON | None = None
    request_id: str | None = msgspec.field(default_factory=REQUEST_ID.get)
    at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


def entry(
    actor: Actor,
    action: str,
    type_: str | None = None,
    resource_id: str | None = None,
    patient_id: str | None = None,
    *,
    outcome: str = "ok",
    detail: JSON | None = None,
    request_id: str | None = None,
) -> Entry:
    """What *actor* did. `action`: read, vread, search, history, create, update, delete, export, sign-in, ...

    *request_id* where it is not that of the request under way.
    """
    request = request_id or REQUEST_ID.get()
    return Entry(actor.reference, actor.role, action, type_, resource_id, patient_id, outcome, detail, request)


# One JSON text for all rows: a third of the processor time of array parameters, and any character may stand in it.
_INSERT = """
INSERT INTO audit (at, actor, role, action, type, resource_id, patient_id, outcome, detail, request_id)
SELECT at, actor, role, action, type, resource_id, patient_id, outcome, detail, request_id
FROM json_to_recordset(%s::json) AS row (at timestamptz, actor text, role text, action text, type text,
    resource_id text, patient_id text, outcome text, detail jsonb, request_id text)
"""


async def record(pg: psycopg.AsyncConnection[Any], entries: Sequence[Entry]) -> None:
    """Write *entries* in the caller's transaction, if it has one; one statement for any number."""
    if not entries:
        return
    await pg.execute(_INSERT, (msgspec.json.encode(entries).decode(),))


class ReadLog:
    """Writes the rows of reads: those of all requests under way in one statement; a read is answered only after it.

    Its commit does not wait for the disk (`Database.noting`): a crash of the service loses nothing, a crash of
    PostgreSQL at most the reads of its last moments. Writes are never recorded this way.
    """

    def __init__(self, database: Database, max_batch: int = 500) -> None:
        self._database = database
        self._gathering: Gathering[tuple[Entry, ...], None] = Gathering(self._write, max_batch)

    async def record(self, *entries: Entry) -> None:
        """Returns when the rows are committed; raises what the database raised."""
        await self._gathering.submit(entries)

    async def close(self) -> None:
        await self._gathering.close()

    async def _write(self, groups: list[tuple[Entry, ...]]) -> list[None]:
        async with self._database.noting() as pg:
            await record(pg, [one for group in groups for one in group])
        return [None] * len(groups)


# -- sealing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seal:
    """A block of the chain: all rows of transactions in [tx_from, tx_until), and the digest that covers them."""

    block: int
    tx_from: int
    tx_until: int
    rows: int
    sealed: datetime
    digest: bytes

    @property
    def head(self) -> str:
        """`block:digest`, to be kept outside the database."""
        return f"{self.block}:{self.digest.hex()}"


_LAST_SEAL = """
SELECT block, tx_from::text::bigint, tx_until::text::bigint, rows, sealed, digest FROM audit_seal
ORDER BY block DESC LIMIT 1
"""
_HORIZON = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + coalesce((SELECT max(shift) FROM audit_clock), 0)
"""
_ROWS = """
SELECT tx::text::bigint, seq, (extract(epoch FROM at) * 1000000)::bigint, actor, role, action, type, resource_id,
       patient_id, outcome, detail::text, request_id
FROM audit WHERE tx >= %s::text::xid8 AND tx < %s::text::xid8 ORDER BY tx, seq
"""
_ANY_ROW = "SELECT EXISTS (SELECT 1 FROM audit WHERE tx >= %s::text::xid8 AND tx < %s::text::xid8)"


async def seal(pg: psycopg.AsyncConnection[Any]) -> Seal | None:
    """Seal what has become final since the last block; None when there is nothing, or another process is at it.

    The horizon is read before the rows: a later snapshot sees every transaction below it. A transaction that stays
    open holds the horizon back, never lets rows slip behind it.
    """
    if not await _one(pg, "SELECT pg_try_advisory_xact_lock(%s)", (SEALER_LOCK,)):
        return None
    last = await last_seal(pg)
    tx_from, previous = (last.tx_until, last.digest) if last else (0, GENESIS)
    horizon = await _one(pg, _HORIZON)
    if last is not None and horizon < tx_from:
        await _go_on_after_restore(pg, last)
        return None
    if not await _one(pg, _ANY_ROW, (tx_from, horizon)):
        return None
    block, now = (last.block + 1 if last else 1), datetime.now(UTC)
    async with pg.cursor(name="audit_to_seal") as cursor:
        await cursor.execute(_ROWS, (tx_from, horizon))
        rows, content = await _Rows(cursor).until(horizon)
    sealed = Seal(block, tx_from, horizon, rows, now, b"")
    digest = _chain(previous, sealed, content)
    await pg.execute(
        "INSERT INTO audit_seal (block, tx_from, tx_until, rows, sealed, digest)"
        " VALUES (%s, %s::text::xid8, %s::text::xid8, %s, %s, %s)",
        (block, tx_from, horizon, rows, now, digest),
    )
    return Seal(block, tx_from, horizon, rows, now, digest)


async def _go_on_after_restore(pg: psycopg.AsyncConnection[Any], last: Seal) -> None:
    """Lift the clock of the trail above the last seal.

    A dump that is restored into another PostgreSQL meets a lower transaction counter: new rows would land in ranges
    that are sealed. From now on the counter is shifted, and what was written since the restore, which tells itself by
    being younger than the last seal, moves up with it. Sealed rows stay as they are.
    """
    await pg.execute("SET LOCAL lock_timeout = '5s'")
    await pg.execute("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
    highest = await _one(pg, "SELECT tx::text::bigint FROM audit ORDER BY tx DESC LIMIT 1")
    late = "FROM audit WHERE tx < %s::text::xid8 AND at > %s"
    lowest = await _one(pg, f"SELECT min(tx::text::bigint) {late}", (last.tx_until, last.sealed))
    horizon = await _one(pg, _HORIZON)
    lift = max(last.tx_until, highest + 1) - min(horizon, lowest if lowest is not None else horizon)
    await pg.execute(
        "UPDATE audit SET tx = (tx::text::bigint + %s)::text::xid8 WHERE tx < %s::text::xid8 AND at > %s",
        (lift, last.tx_until, last.sealed),
    )
    shift = lift + await _one(pg, "SELECT coalesce(max(shift), 0) FROM audit_clock")
    await pg.execute("DELETE FROM audit_clock")
    await pg.execute("INSERT INTO audit_clock VALUES (%s)", (shift,))
    default = "ALTER TABLE audit ALTER COLUMN tx SET DEFAULT (pg_current_xact_id()::text::bigint + {})::text::xid8"
    await pg.execute(sql.SQL(default).format(sql.Literal(shift)))
    await record(pg, [entry(ENGINE, "audit-restored", detail={"shift": shift})])
    log.warning("audit-clock-shifted", shift=shift)


async def keep_sealing(database: Database, interval: float = 1.0) -> None:
    """Seal every *interval* seconds until cancelled. Every process runs this; the lock lets one of them do the work.

    A database that is away or cancels the statement delays sealing, nothing else: what was not sealed is sealed later.
    """
    while True:
        try:
            async with database.transaction() as tx:
                await tx.pg.execute("SET LOCAL statement_timeout = '10min'")
                await seal(tx.pg)
        except psycopg.Error as error:
            log.error("audit-not-sealed", error=type(error).__name__, reason=str(error))
        await asyncio.sleep(interval)


async def last_seal(pg: psycopg.AsyncConnection[Any]) -> Seal | None:
    row = await (await pg.execute(_LAST_SEAL)).fetchone()
    return Seal(*row) if row else None


class _Rows:
    """Rows of the trail in the order of their transactions, hashed block by block without holding them."""

    def __init__(self, cursor: psycopg.AsyncServerCursor[TupleRow]) -> None:
        self._cursor = cursor
        self._chunk: list[TupleRow] = []

    async def until(self, tx_until: int) -> tuple[int, bytes]:
        """How many rows come before *tx_until*, and their hash: one JSON array and a line feed per row, which is
        unambiguous whatever the values hold."""
        hasher, count = hashlib.sha256(), 0
        while True:
            if not self._chunk:
                self._chunk = await self._cursor.fetchmany(FETCH)
            end = bisect_left(self._chunk, tx_until, key=itemgetter(0))
            hasher.update(b"".join([_encoder.encode(row) + b"\n" for row in self._chunk[:end]]))
            count += end
            done = end < len(self._chunk) or not self._chunk
            self._chunk = self._chunk[end:]
            if done:
                return count, hasher.digest()


def _chain(previous: bytes, seal_: Seal, content: bytes) -> bytes:
    facts = (seal_.block, seal_.tx_from, seal_.tx_until, seal_.rows, int(seal_.sealed.timestamp() * 1_000_000))
    return hashlib.sha256(previous + msgspec.json.encode(facts) + content).digest()


# -- verifying ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verification:
    """`head` is the digest to keep outside the database; `broken` the first block that does not hold, and why."""

    blocks: int
    rows: int
    unsealed: int
    head: str | None
    broken_block: int | None = None
    why: str | None = None

    @property
    def intact(self) -> bool:
        return self.why is None


async def verify(
    pg: psycopg.AsyncConnection[Any],
    expect_head: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Verification:
    """Recompute the whole chain, streaming, and stop at the first block that does not hold.

    Finds rows that were changed, removed or slipped into sealed ranges, and seals that were changed or removed.
    Whoever can write to the database can also write a wholly new chain or cut its end off: against that, keep the
    head outside and give it as *expect_head* (`block:digest`, any block of the past).
    """
    blocks, done, previous = 0, 0, None
    last = await last_seal(pg)
    sealed_until = last.tx_until if last else 0
    unsealed = await _one(pg, "SELECT count(*) FROM audit WHERE tx >= %s::text::xid8", (sealed_until,))

    restored = last is not None and await _one(pg, _HORIZON) < last.tx_until

    def result(broken_block: int | None = None, why: str | None = None) -> Verification:
        if why and restored:
            why += "; or this data was just restored into another PostgreSQL: verify again once the service has run"
        return Verification(blocks, done, unsealed, last.head if last else None, broken_block, why)

    expected_block, expected_digest = _parse_head(expect_head) if expect_head else (None, None)
    met = expected_block is None
    async with (
        pg.cursor(name="audit_seals") as seals,
        pg.cursor(name="audit_rows") as cursor,
    ):
        seals.itersize = FETCH
        await seals.execute(
            "SELECT block, tx_from::text::bigint, tx_until::text::bigint, rows, sealed, digest FROM audit_seal"
            " WHERE block <= %s ORDER BY block",
            (last.block if last else 0,),
        )
        await cursor.execute(_ROWS, (0, sealed_until))
        rows = _Rows(cursor)
        async for seal_row in seals:
            seal_ = Seal(*seal_row)
            if seal_.block != blocks + 1:
                return result(blocks + 1, f"block {blocks + 1} is missing")
            if seal_.tx_from != (previous.tx_until if previous else 0):
                return result(seal_.block, "does not begin where the block before it ends")
            count, content = await rows.until(seal_.tx_until)
            if count != seal_.rows:
                return result(seal_.block, f"{seal_.rows} rows were sealed, {count} are there")
            if _chain(previous.digest if previous else GENESIS, seal_, content) != seal_.digest:
                return result(seal_.block, "the rows or the seal were changed after sealing")
            if seal_.block == expected_block:
                if seal_.digest != expected_digest:
                    return result(seal_.block, "differs from the head that was kept outside")
                met = True
            blocks, done, previous = blocks + 1, done + count, seal_
            progress(done)
    if not met:
        return result(expected_block, "the block that was kept outside as head is not there any more")
    return result()


def _parse_head(head: str) -> tuple[int, bytes]:
    block, _, digest = head.partition(":")
    try:
        return int(block), bytes.fromhex(digest)
    except ValueError as error:
        raise ValueError(
            f"{head!r} is not a head: it reads like 42:9f86d081…, as `carehub audit verify` prints"
        ) from error


async def _one(pg: psycopg.AsyncConnection[Any], query: str, params: Sequence[Any] = ()) -> Any:
    row = await (await pg.execute(query, params)).fetchone()
    assert row is not None
    return row[0]
