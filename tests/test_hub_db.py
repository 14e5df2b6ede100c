"""The transaction is the only place that commits."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from conftest import Fresh

from hub.db import Database


async def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    class Stop(Exception):
        pass

    try:
        async with database.transaction() as tx:
            await tx.pg.execute("INSERT INTO access VALUES ('Practitioner/a', 'p', 'CareTeam/c', 'team', NULL)")
            raise Stop
    except Stop:
        pass
    async with database.transaction() as tx:
        row = await (await tx.pg.execute("SELECT count(*) FROM access")).fetchone()
    assert row == (0,)


async def test_a_block_that_ends_is_there_for_others(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.pg.execute("INSERT INTO access VALUES ('Practitioner/b', 'p', 'CareTeam/c', 'team', NULL)")
    async with database.transaction() as tx:
        row = await (await tx.pg.execute("SELECT count(*) FROM access WHERE subject = 'Practitioner/b'")).fetchone()
    assert row == (1,)


async def test_after_a_crash_of_postgresql_one_request_fails_at_most(fresh_database: Fresh) -> None:
    database = await fresh_database()

    async def use() -> None:
        async with database.transaction() as tx:
            await tx.pg.execute("SELECT pg_sleep(0.05)")

    await asyncio.gather(*(use() for _ in range(5)))
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    outcomes = []
    for _ in range(8):
        try:
            await use()
            outcomes.append(True)
        except psycopg.OperationalError:
            outcomes.append(False)
    assert outcomes.count(False) <= 1
    assert all(outcomes[1:])


async def test_a_pool_without_a_free_connection_says_so_as_an_operational_error(fresh_url: Callable[[], str]) -> None:
    database = Database(fresh_url(), pool_size=1, pool_timeout=0.2)
    try:
        async with database.transaction():
            with pytest.raises(psycopg.OperationalError, match="free in time"):
                async with database.transaction():
                    pass
    finally:
        await database.close()


async def test_a_statement_that_takes_too_long_is_cancelled(fresh_url: Callable[[], str]) -> None:
    database = Database(fresh_url(), statement_timeout_ms=100)
    try:
        with pytest.raises(psycopg.errors.QueryCanceled):
            async with database.transaction() as tx:
                await tx.pg.execute("SELECT pg_sleep(10)")
    finally:
        await database.close()


async def test_a_savepoint_that_comes_first_commits_nothing(database: Database) -> None:
    class Stop(Exception):
        pass

    try:
        async with database.transaction() as tx:
            async with tx.pg.transaction():
                await tx.pg.execute(
                    "INSERT INTO access (subject, patient_id, source, basis) VALUES ('Practitioner/s', 'p', 'c', 't')"
                )
            raise Stop
    except Stop:
        pass
    async with database.transaction() as tx:
        row = await (await tx.pg.execute("SELECT count(*) FROM access WHERE subject = 'Practitioner/s'")).fetchone()
    assert row == (0,)


async def test_reading_needs_no_transaction_and_sees_what_was_committed(database: Database) -> None:
    async with database.reading() as pg:
        async with database.transaction() as tx:
            await tx.pg.execute("INSERT INTO access VALUES ('Practitioner/r', 'p', 'CareTeam/r', 'team', NULL)")
        row = await (await pg.execute("SELECT count(*) FROM access WHERE subject = 'Practitioner/r'")).fetchone()
        assert pg.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert row == (1,)


async def test_what_only_reads_can_write_nothing(database: Database) -> None:
    async with database.reading() as pg:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await pg.execute("INSERT INTO access VALUES ('Practitioner/w', 'p', 'CareTeam/w', 'team', NULL)")
        assert await (await pg.execute("SELECT 1")).fetchone() == (1,)
