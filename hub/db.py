"""The database and its transactions: the only place that commits."""

import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hub.settings import Settings


@dataclass(frozen=True, slots=True)
class Tx:
    """One open transaction, seen twice: `sql` for SQLAlchemy, `pg` for psycopg. Nobody commits but `transaction`."""

    sql: AsyncConnection
    pg: psycopg.AsyncConnection[Any]


class Database:
    """A pool on one PostgreSQL. *url* is `postgresql://...` as libpq takes it."""

    def __init__(
        self, url: str, pool_size: int = 10, statement_timeout_ms: int = 15_000, pool_timeout: float = 30
    ) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout,
            pool_pre_ping=False,
            connect_args={"options": f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC -c jit=off"},
        )
        event.listen(self.engine.sync_engine, "checkout", _refuse_dead)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commit when the block ends, roll back when it raises.

        Database errors leave it as psycopg's own, whichever face met them; a pool in which nothing became free in time
        is an OperationalError like a server that does not answer.
        """
        try:
            async with self.engine.begin() as connection:
                raw = await connection.get_raw_connection()
                driver = raw.driver_connection
                assert isinstance(driver, psycopg.AsyncConnection)
                yield Tx(connection, driver)
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.Error):
                raise error.orig from error
            raise
        except PoolTimeout as error:
            raise psycopg.OperationalError("no database connection became free in time") from error

    async def close(self) -> None:
        await self.engine.dispose()


def _refuse_dead(connection: Any, record: Any, proxy: Any) -> None:
    """Renew the pool after a restart of PostgreSQL, without asking it before every transaction.

    A server says nothing on an idle connection but that it is gone: a socket with something to read is a dead one.
    """
    driver = connection.driver_connection
    if driver.closed:
        raise InvalidatePoolError
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The PostgreSQL that the settings name, or the embedded one, which runs at least as long as the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from hub import embedded  # only here: an installation on a foreign PostgreSQL never needs it

    with embedded.kept(settings.data_dir) as server:
        yield server.url
