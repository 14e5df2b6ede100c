"""Live boards: told at once, only of their hub, still told after PostgreSQL was away."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import factories
import psycopg
import pytest

from hub import live
from hub.db import Database
from hub.live import EVENT, Live

WAIT = 10.0


@pytest.fixture
async def listening(database: Database) -> AsyncIterator[Live]:
    made = Live(database.url)
    await made.start()
    await asyncio.wait_for(made.listening.wait(), WAIT)
    yield made
    await made.stop()


async def somebody(database: Database, hub: str | None) -> str:
    async with database.transaction() as tx:
        return await factories.patient(tx, hub=hub)


async def opened(made: Live, hub_id: str | None) -> AsyncIterator[bytes]:
    """An open board that has had its greeting."""
    stream = made.events(hub_id)
    assert (await anext(stream)).startswith(b"retry")
    return stream


async def test_a_board_is_told_when_the_transaction_commits(database: Database, listening: Live) -> None:
    person = await somebody(database, "hub-1")
    board = await opened(listening, "hub-1")
    told = asyncio.ensure_future(anext(board))
    async with database.transaction() as tx:
        await live.announce(tx.pg, [person])
        await asyncio.sleep(0.2)
        assert not told.done()
    assert await asyncio.wait_for(told, WAIT) == EVENT
    await board.aclose()


async def test_a_board_hears_of_its_own_hub_only(database: Database, listening: Live) -> None:
    other, of_none = await somebody(database, "hub-2"), await somebody(database, None)
    mine, every = await opened(listening, "hub-1"), await opened(listening, None)
    quiet, told = asyncio.ensure_future(anext(mine)), asyncio.ensure_future(anext(every))
    async with database.transaction() as tx:
        await live.announce(tx.pg, [other])
    assert await asyncio.wait_for(told, WAIT) == EVENT
    assert not quiet.done()
    async with database.transaction() as tx:
        await live.announce(tx.pg, [of_none])
    assert await asyncio.wait_for(quiet, WAIT) == EVENT


async def test_what_is_announced_names_no_person(database: Database, listening: Live) -> None:
    assert b"patient" not in EVENT.lower()
    people = [await somebody(database, hub) for hub in ("hub-1", "hub-1", None)]
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        await connection.execute(f"LISTEN {live.CHANNEL}")
        async with database.transaction() as tx:
            await live.announce(tx.pg, people)
        payloads = [one.payload async for one in connection.notifies(timeout=WAIT, stop_after=2)]
    assert sorted(payloads) == [" flag", "hub-1 flag"]


async def test_many_changes_are_one_look(database: Database, listening: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PACE", 0.05)
    person = await somebody(database, "hub-1")
    board = await opened(listening, "hub-1")
    told = asyncio.ensure_future(anext(board))
    async with database.transaction() as tx:
        for _ in range(50):
            await live.announce(tx.pg, [person])
    assert await asyncio.wait_for(told, WAIT) == EVENT
    again = asyncio.ensure_future(anext(board))
    await asyncio.sleep(0.5)
    assert not again.done()
    again.cancel()


async def test_a_silent_line_is_kept_open(listening: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    board = await opened(listening, "hub-1")
    assert (await asyncio.wait_for(anext(board), WAIT)).startswith(b":")
    await board.aclose()
    assert listening.boards == 0


async def test_after_a_lost_connection_every_board_looks_again(database: Database, listening: Live) -> None:
    board = await opened(listening, "hub-1")
    told = asyncio.ensure_future(anext(board))
    listening.listening.clear()
    async with database.transaction() as tx:
        await tx.pg.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    assert await asyncio.wait_for(told, WAIT) == EVENT
    assert listening.listening.is_set()


async def test_stopping_ends_every_board(database: Database) -> None:
    made = Live(database.url)
    await made.start()
    await asyncio.wait_for(made.listening.wait(), WAIT)
    board = await opened(made, "hub-1")
    rest = asyncio.ensure_future(anext(board, b"ended"))
    await asyncio.sleep(0)
    await made.stop()
    assert await asyncio.wait_for(rest, WAIT) == b"ended"


async def test_a_process_that_is_told_to_end_lets_every_board_go(database: Database) -> None:
    """A server waits for its open requests before it stops the application: a board must not keep it waiting."""
    heard: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    made = Live(database.url)
    try:
        ours = signal.getsignal(signal.SIGTERM)
        await made.start()
        board = await opened(made, "hub-1")
        rest = asyncio.ensure_future(anext(board, b"ended"))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(rest, WAIT) == b"ended"
        assert heard == [signal.SIGTERM]
        await made.stop()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, usual)
