"""What every test may ask for: a real, freshly migrated PostgreSQL, and the real input kept beside the checkout."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from hub import embedded, migrations
from hub.db import Database, Tx

# The running service with browsers (fixture `service`) for all tests that look at pages, and without (`served`) for
# clients that others wrote: each started once.
pytest_plugins = ["browsing", "serving"]

# A test database is thrown away, so it need not survive a power cut. Fault tests start servers of their own.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "128MB"}

ROOMY = 6 * 2**30  # bytes
GIVEN = "CAREHUB_TEST_DATABASE_URL"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be skipped: a test that does not run there runs nowhere."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report


Fresh = Callable[[], Awaitable[Database]]


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A PostgreSQL of this run alone, or the one CAREHUB_TEST_DATABASE_URL names (its user may create databases)."""
    given = os.environ.get(GIVEN)
    if given:
        yield given
        return
    with (
        tempfile.TemporaryDirectory(prefix="carehub-test-", dir=quick_folder(), ignore_cleanup_errors=True) as folder,
        embedded.start(Path(folder), THROWAWAY) as server,
    ):
        yield server.url


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """Name of a database that was migrated to head once; the others are copies of it."""
    name = f"carehub_template_{os.getpid()}"
    _administer(server_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrations.upgrade(_at(server_url, name))
    yield name
    _drop(server_url, name)


@pytest.fixture(scope="session")
def fresh_url(server_url: str, template: str) -> Iterator[Callable[[], str]]:
    """Makes a migrated, empty database and gives its URL, as `CAREHUB_DATABASE_URL` takes it."""
    names: list[str] = []
    numbers = count(1)

    def make() -> str:
        name = f"carehub_{os.getpid()}_{next(numbers)}"
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        _administer(server_url, copy.format(sql.Identifier(name), sql.Identifier(template)))
        names.append(name)
        return _at(server_url, name)

    yield make
    for name in names:
        _drop(server_url, name)


@pytest.fixture
async def fresh_database(fresh_url: Callable[[], str]) -> AsyncIterator[Fresh]:
    """Makes a migrated, empty database for this test alone: `database = await fresh_database()`."""
    made: list[Database] = []

    async def make() -> Database:
        database = Database(fresh_url())
        made.append(database)
        return database

    yield make
    for database in made:
        await database.close()


@pytest.fixture(scope="module")
async def database(fresh_url: Callable[[], str]) -> AsyncIterator[Database]:
    """A migrated database that the tests of one module share; it starts empty."""
    database = Database(fresh_url())
    yield database
    await database.close()


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[Tx]:
    """A transaction of the module's database that is rolled back when the test ends."""

    class Undo(Exception):
        pass

    try:
        async with database.transaction() as tx:
            yield tx
            raise Undo
    except Undo:
        pass


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder on disk for an embedded PostgreSQL of the test's own. Not below `tmp_path`, which every run of pytest
    makes private again, so that PostgreSQL's user loses its way to its files."""
    with tempfile.TemporaryDirectory(prefix="carehub-data-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input (Synthea bundles, HL7 examples, device exports)."""
    folder = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real input at {folder}; CAREHUB_SHARED says where it is")
    return folder


def quick_folder() -> Path | None:
    """Memory, where there is plenty: each database is some thousand files. None means the usual temporary folder."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOMY
    return memory if roomy else None


def _administer(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _drop(url: str, name: str) -> None:
    """Leave a server that was given to us as it was; our own goes away with all it holds."""
    if os.environ.get(GIVEN):
        _administer(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _at(url: str, name: str) -> str:
    """*url* with another database's name."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
