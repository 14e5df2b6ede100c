"""What falls due by itself, without anybody writing: looked after once a minute by one process of all."""

import asyncio
from datetime import UTC, datetime

import psycopg
import structlog

from care_plans import queries
from hub import effects
from hub.db import Database, Tx

log = structlog.get_logger()

INTERVAL = 60.0
# Any constant: one keeper at a time among all processes on one database.
LOCK = 0x0CA7E


async def suspend_unapproved(tx: Tx, now: datetime) -> list[str]:
    """Put on hold the active plans whose approval has run out; their ids."""
    plans = await queries.unapproved_plans(tx.pg, now)
    await effects.suspend(tx, plans, now)
    return plans


async def keep(database: Database, interval: float = INTERVAL) -> None:
    """For ever; a database that is away is asked again at the next turn."""
    while True:
        try:
            async with database.transaction() as tx:
                alone = await (await tx.pg.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))).fetchone()
                if alone is not None and alone[0]:
                    plans = await suspend_unapproved(tx, datetime.now(UTC))
                    if plans:
                        log.info("plans put on hold: their approval ran out", plans=len(plans))
        except psycopg.OperationalError as error:
            log.warning("upkeep waits for the database", kind=type(error).__name__)
        await asyncio.sleep(interval)
