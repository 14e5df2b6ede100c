"""Jobs: taken once, begun anew when their process dies, stopped when they are deleted, given up in the end."""

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from fhir.outcome import Refusal, refuse
from hub import jobs
from hub.db import Database
from hub.identity import Actor
from hub.jobs import JSON, Job, Told

OWNER = Actor("system", "a", "A", "ehr-system", "Device/ehr", ("Device/ehr",))


@pytest.fixture
async def database(fresh_url: Callable[[], str]) -> AsyncIterator[Database]:
    database = Database(fresh_url())
    async with database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO account (id, username, password_hash, name, role, reference, organisations, demonstration)"
            " VALUES ('a', 'a', 'x', 'A', 'ehr-system', 'Device/ehr', '{}', true)"
        )
    yield database
    await database.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LEASE", 2)


async def start(database: Database, kind: str = "count") -> str:
    async with database.transaction() as tx:
        return await jobs.start(tx, OWNER, kind, {"upto": 3})


async def job(database: Database, id_: str) -> Job:
    async with database.transaction() as tx:
        return await jobs.find(tx, OWNER, id_)


async def until(database: Database, id_: str, *states: str) -> Job:
    for _ in range(3000):
        found = await job(database, id_)
        if found.state in states:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"the job is still {found.state}")


class Keeping:
    """Processes of the service, as far as jobs are concerned."""

    def __init__(self, database: Database, works: dict[str, jobs.Work], processes: int = 1) -> None:
        self._tasks = [asyncio.create_task(jobs.keep(database, works, asyncio.Event(), 0.05)) for _ in range(processes)]

    async def __aenter__(self) -> "Keeping":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def count(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
    told.words = "counting"
    return {"counted": job.request["upto"], "by": actor.reference}


async def never(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
    told.words = "half of it"
    await asyncio.Event().wait()
    return {}


class TestCarryingOut:
    async def test_each_job_once_whoever_is_free(self, database: Database) -> None:
        taken: list[str] = []

        async def slow(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
            taken.append(job.id)
            await asyncio.sleep(0.05)
            return {}

        ids = [await start(database) for _ in range(jobs.MOST_OPEN)]
        async with Keeping(database, {"count": slow}, processes=3):
            for id_ in ids:
                assert (await until(database, id_, "done")).attempts == 1
        assert sorted(taken) == sorted(ids)

    async def test_its_result_and_progress(self, database: Database) -> None:
        id_ = await start(database)
        async with Keeping(database, {"count": count}):
            done = await until(database, id_, "done")
        assert done.result == {"counted": 3, "by": "Device/ehr"}
        assert done.over

    async def test_what_only_another_version_can_do_is_left_to_it(self, database: Database) -> None:
        theirs, ours = await start(database, "newer"), await start(database)
        async with Keeping(database, {"count": count}):
            await until(database, ours, "done")
        assert (await job(database, theirs)).state == "waiting"

    async def test_a_refusal_is_its_end_and_is_told(self, database: Database) -> None:
        async def refused(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
            raise refuse(403, "forbidden", "not any more")

        id_ = await start(database)
        async with Keeping(database, {"count": refused}):
            failed = await until(database, id_, "failed")
        assert failed.result is not None
        assert failed.result["status"] == 422, "a status of 403 would be about asking, not about the job"
        assert failed.result["outcome"]["issue"][0]["diagnostics"] == "not any more"

    async def test_an_error_says_nothing_of_a_record_and_stops_no_other_job(self, database: Database) -> None:
        async def broken(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
            raise KeyError("Jean Hembrow")

        first, second = await start(database, "broken"), await start(database)
        async with Keeping(database, {"broken": broken, "count": count}):
            failed = await until(database, first, "failed")
            await until(database, second, "done")
        assert "Hembrow" not in str(failed.result)

    async def test_one_that_takes_too_long_is_given_up(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "LONGEST", 0.2)
        id_ = await start(database)
        async with Keeping(database, {"count": never}):
            assert (await until(database, id_, "failed")).result is not None

    async def test_one_that_is_deleted_is_stopped(self, database: Database) -> None:
        stopped = asyncio.Event()

        async def watched(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
            try:
                return await never(database, job, actor, told)
            finally:
                stopped.set()

        id_ = await start(database)
        async with Keeping(database, {"count": watched}):
            await until(database, id_, "running")
            async with database.transaction() as tx:
                await jobs.remove(tx, [id_])
            await asyncio.wait_for(stopped.wait(), 10)
        with pytest.raises(Refusal):
            await job(database, id_)


class TestDying:
    async def test_a_process_that_ends_gives_its_job_back_at_once(self, database: Database) -> None:
        id_ = await start(database)
        async with Keeping(database, {"count": never}):
            await until(database, id_, "running")
        assert (await job(database, id_)).state == "waiting"
        async with Keeping(database, {"count": count}):
            assert (await until(database, id_, "done")).attempts == 1

    async def test_a_database_that_goes_away_fails_no_job(self, database: Database, quick: None) -> None:
        calls = 0

        async def interrupted(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise psycopg.OperationalError("server closed the connection")
            return {}

        id_ = await start(database)
        async with Keeping(database, {"count": interrupted}):
            assert (await until(database, id_, "done")).attempts == 2

    async def test_a_process_that_is_killed_leaves_it_to_another(self, database: Database, quick: None) -> None:
        id_ = await start(database)
        script = f"""
            import asyncio
            from hub import jobs
            from hub.db import Database

            async def never(database, job, actor, told):
                await asyncio.Event().wait()

            jobs.LEASE = 2
            asyncio.run(jobs.keep(Database({database.url!r}), {{"count": never}}, asyncio.Event()))
        """
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(script))
        try:
            await until(database, id_, "running")
        finally:
            process.kill()
            await process.wait()
        async with Keeping(database, {"count": count}):
            assert (await until(database, id_, "done")).attempts == 2

    async def test_one_that_kills_every_process_is_given_up(self, database: Database) -> None:
        id_ = await start(database)
        async with database.transaction() as tx:
            await tx.pg.execute(
                "UPDATE job SET state = 'running', lease = now() - interval '1 s', attempts = %s", (jobs.ATTEMPTS,)
            )
        async with Keeping(database, {"count": count}):
            assert "never ended" in str((await until(database, id_, "failed")).result)


class TestWhose:
    async def test_a_job_is_found_by_its_owner_only(self, database: Database) -> None:
        id_ = await start(database)
        others: list[dict[str, Any]] = [{"reference": "Device/other"}, {"id": "b"}]
        for other in others:
            stranger = Actor(
                "system", other.get("id", "a"), "B", "ehr-system", other.get("reference", "Device/ehr"), ()
            )
            async with database.transaction() as tx:
                with pytest.raises(Refusal) as caught:
                    await jobs.find(tx, stranger, id_)
            assert caught.value.status == 404

    async def test_two_at_once_are_not_both_the_last_one_allowed(self, database: Database) -> None:
        found = await asyncio.gather(*(start(database) for _ in range(12)), return_exceptions=True)
        assert sum(isinstance(one, str) for one in found) == jobs.MOST_OPEN
        assert all(isinstance(one, str) or (isinstance(one, Refusal) and one.status == 429) for one in found)

    async def test_a_closed_account_ends_it(self, database: Database) -> None:
        id_ = await start(database)
        async with database.transaction() as tx:
            await tx.pg.execute("UPDATE account SET active = false")
        async with Keeping(database, {"count": count}):
            assert "closed" in str((await until(database, id_, "failed")).result)
