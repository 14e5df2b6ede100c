"""What falls due by itself, without anybody writing: each chore looked after by one process of all, at its own pace."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import structlog

from care_plans import queries
from hub import effects, followup, timers
from hub.db import Database, Tx

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Chore:
    """What is done every *interval* seconds in a transaction of its own; again at once while it says that it did
    something. *lock*: any number, one keeper at a time among all processes on one database."""

    name: str
    interval: float
    lock: int
    do: Callable[[Tx, datetime], Awaitable[int]]


async def suspend_unapproved(tx: Tx, now: datetime) -> list[str]:
    """Put on hold the active plans whose approval has run out; their ids."""
    plans = await queries.unapproved_plans(tx.pg, now)
    await effects.suspend(tx, plans, now)
    return plans


async def _suspend(tx: Tx, now: datetime) -> int:
    return len(await suspend_unapproved(tx, now))


CHORES = (
    Chore("plans put on hold: their approval ran out", 60.0, 0x0CA7E, _suspend),
    Chore("timers of flags", 5.0, 0x0CA7F, timers.fire_due),
    Chore("missed readings followed up", 300.0, 0x0CA81, followup.check),
)


async def keep(database: Database, chores: tuple[Chore, ...] = CHORES) -> None:
    """For ever; a database that is away is asked again at the next turn."""
    await asyncio.gather(*(_keep(database, chore) for chore in chores))


async def _keep(database: Database, chore: Chore) -> None:
    while True:
        try:
            while done := await once(database, chore, datetime.now(UTC)):
                log.info(chore.name, count=done)
        except psycopg.OperationalError as error:
            log.warning("upkeep waits for the database", chore=chore.name, kind=type(error).__name__)
        await asyncio.sleep(chore.interval)


async def once(database: Database, chore: Chore, now: datetime) -> int:
    """Do *chore* unless another process is at it; how much there was to do."""
    async with database.transaction() as tx:
        alone = await (await tx.pg.execute("SELECT pg_try_advisory_xact_lock(%s)", (chore.lock,))).fetchone()
        return await chore.do(tx, now) if alone is not None and alone[0] else 0
