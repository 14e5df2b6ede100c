"""The database and its transactions: the only place that commits."""

import asyncio
import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from hub.settings import Settings

Connection = psycopg.AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]


@dataclass(frozen=True, slots=True)
class Tx:
    """One open transaction on *pg*, of *database*. Nobody commits but `Database.transaction`."""

    pg: Connection
    database: "Database | None" = None


class Database:
    """Connections to one PostgreSQL, made when needed: at most *pool_size* for writing, and as many for reading.

    *url* is `postgresql://...` as libpq takes it.
    """

    def __init__(
        self, url: str, pool_size: int = 10, statement_timeout_ms: int = 15_000, pool_timeout: float = 30
    ) -> None:
        self.url = url
        self._opening = asyncio.Lock()
        options = f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC -c jit=off"
        self._writing = _pool(url, options, pool_size, pool_timeout)
        self._reading = _pool(url, f"{options} -c default_transaction_read_only=on", pool_size, pool_timeout)
        self._noting = _pool(url, f"{options} -c synchronous_commit=off", 2, pool_timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commit when the block ends, roll back when it raises.

        A pool in which nothing became free in time is an OperationalError, like a server that does not answer.
        """
        async with self._connection(self._writing) as connection, connection.transaction():
            yield Tx(connection, self)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection for statements that only read, each by itself: BEGIN and COMMIT would cost as much as the look.

        Each sees all that was committed before it, as in a `transaction`. PostgreSQL refuses one that writes.
        """
        async with self._connection(self._reading) as connection:
            yield connection

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[Connection]:
        """A connection for statements that write, each committed by itself and without waiting for the disk.

        A crash of PostgreSQL may lose what was written in the last three times `wal_writer_delay` (0.6 s).
        """
        async with self._connection(self._noting) as connection:
            yield connection

    @asynccontextmanager
    async def _connection(self, pool: Pool) -> AsyncIterator[Connection]:
        if pool.closed:
            async with self._opening:
                if pool.closed:
                    await pool.open()
        try:
            async with pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise psycopg.OperationalError("no database connection became free in time") from error

    async def close(self) -> None:
        for pool in (self._writing, self._reading, self._noting):
            if not pool.closed:
                await pool.close()


def _pool(url: str, options: str, size: int, patience: float) -> Pool:
    return AsyncConnectionPool(
        url,
        # Transactions are begun and ended by `Database.transaction` alone.
        kwargs={"options": options, "autocommit": True},
        min_size=0,
        max_size=size,
        timeout=patience,
        max_idle=600,
        check=_refuse_dead,
        open=False,
    )


async def _refuse_dead(connection: Connection) -> None:
    """Renew the pool after a restart of PostgreSQL, without asking it before every transaction.

    A server says nothing on an idle connection but that it is gone: a socket with something to read is a dead one.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if connection.closed or poll.poll(0):
        await connection.close()  # the pool keeps what is not closed
        raise psycopg.OperationalError("PostgreSQL has closed this connection")


def reach(url: str) -> None:
    """Raises psycopg.OperationalError with the server's own words when it does not answer; a pool would go on asking
    for half a minute and then say that it is empty."""
    psycopg.connect(url, connect_timeout=10).close()


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The PostgreSQL that the settings name, or the embedded one, which runs at least as long as the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from hub import embedded  # only here: an installation on a foreign PostgreSQL never needs it

    with embedded.kept(settings.data_dir) as server:
        yield server.url
