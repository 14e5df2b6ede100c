"""Where the FHIR server is measured: a durable PostgreSQL in a temporary folder that holds ever more Observations."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from bench.fhir_server import records
from bench.setting import PASSWORD, Setting, say, service
from fhir import store
from fhir.store import Change, Visible, new_id
from hub import accounts, embedded, flows, migrations
from hub.access import visible
from hub.db import Database
from hub.identity import IMPORTER, Actor, account_actor

BATCH = 2_000
AUTHOR = "Practitioner/bench"


@dataclass(slots=True)
class Place:
    """A setting whose token is an administrator's, and what lies in it so far."""

    setting: Setting
    workers: int
    observations: int = 0
    people: int = 0

    @property
    def shown(self) -> Visible:
        """What the token's owner may see."""
        return visible(account_actor("bench", "Bench", "administrator", AUTHOR, [], None))

    @property
    def practice(self) -> Actor:
        """Somebody who may see one person of twenty."""
        subjects = ["Organization/practice-3"]
        return account_actor("bench-p", "Bench", "practice-staff", "Practitioner/bench-p", subjects, None)

    async def grow(self, observations: int) -> None:
        """Fill up to so many Observations, set by set."""
        start = time.perf_counter()
        database = self.setting.database
        people = records.people(observations)
        for first in range(self.people, people, BATCH):
            made = [
                Change("create", "Patient", records.patient_id(number), records.patient(number))
                for number in range(first, min(first + BATCH, people))
            ]
            async with database.transaction() as tx:
                await flows.write(tx, IMPORTER, made)
        now = datetime.now(UTC)
        since = now - timedelta(days=records.DAYS + 1)
        indexes = await self._without_indexes() if observations > 2 * self.observations else []
        batches = iter(range(self.observations, observations, BATCH))

        async def fill() -> None:
            for first in batches:
                made = [
                    Change("create", "Observation", new_id(), records.observation(number, people, since))
                    for number in range(first, min(first + BATCH, observations))
                ]
                async with database.transaction() as tx:
                    await tx.pg.execute("SET LOCAL synchronous_commit = off")
                    await store.write(tx.pg, made, AUTHOR, now)

        # Several at a time, so that PostgreSQL writes one batch while the next is made.
        await asyncio.gather(*(fill() for _ in range(3)))
        with psycopg.connect(self.setting.url, autocommit=True) as connection:
            connection.execute("SET maintenance_work_mem = '512MB'")
            for index in indexes:
                connection.execute(index)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        self.observations, self.people = max(observations, self.observations), max(people, self.people)
        say(f"{observations:,} Observations of {people:,} people, filled in {time.perf_counter() - start:.0f} s")

    async def _without_indexes(self) -> list[str]:
        """Take the indexes off that are made faster afterwards; gives what makes them."""
        async with self.setting.database.transaction() as tx:
            rows = await tx.pg.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'r_observation' AND indexname <> %s",
                ("r_observation_pkey",),
            )
            found = await rows.fetchall()
            for name, _ in found:
                await tx.pg.execute(f'DROP INDEX "{name}"')
        return [made for _, made in found]


@asynccontextmanager
async def place(workers: int) -> AsyncIterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="carehub-bench-", ignore_cleanup_errors=True) as folder,
        embedded.start(Path(folder) / "data") as server,
    ):
        migrations.upgrade(server.url)
        database = Database(server.url, statement_timeout_ms=600_000)
        token = await _token(database)
        with service(server.url, workers) as (port, process):
            yield Place(Setting(server.url, port, process, database, [], token, {}, server.pid), workers)
        await database.close()


async def _token(database: Database) -> str:
    async with database.transaction() as tx:
        organisations = [
            Change("create", "Organization", f"practice-{number}", _practice(number))
            for number in range(records.PRACTICES)
        ]
        clinicians = [
            Change("create", "Practitioner", f"clinician-{number}", {"resourceType": "Practitioner"})
            for number in range(records.CLINICIANS)
        ]
        await flows.write(tx, IMPORTER, [*organisations, *clinicians])
        await accounts.create_account(
            tx, "bench-administrator", PASSWORD, name="Bench", role="administrator", reference=AUTHOR,
            organisations=[], hub_id=None,
        )  # fmt: skip
        return await accounts.issue_token(tx, "bench-administrator", "bench")


def _practice(number: int) -> records.JSON:
    return {"resourceType": "Organization", "name": f"Practice {number}", "active": True}
