"""Where the measuring happens: a durable PostgreSQL in a temporary folder, a population, the service as it is run."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg

from hub import accounts, embedded, importer, migrations, population, sources
from hub.db import Database

PASSWORD = "a bench is not a hospital"


@dataclass(slots=True)
class Setting:
    """One PostgreSQL, one service, and who may use it. `devices` are (patient id, device id, key)."""

    url: str
    port: int
    service: subprocess.Popen[bytes]
    database: Database
    devices: list[tuple[str, str, str]]
    token: str
    cookies: dict[str, str]
    postmaster: int
    import_rate: float = 0.0

    def memory(self) -> float:
        """Resident megabytes of the largest process of the service."""
        return max((_resident(pid) for pid in family(self.service.pid)), default=0.0)


@asynccontextmanager
async def setting(people: int, readings: int, workers: int) -> AsyncIterator[Setting]:
    with (
        tempfile.TemporaryDirectory(prefix="carehub-bench-", ignore_cleanup_errors=True) as folder,
        embedded.start(Path(folder) / "data") as server,
    ):
        migrations.upgrade(server.url)
        database = Database(server.url, statement_timeout_ms=600_000)
        rate = await _populate(database, Path(folder) / "people", people, readings)
        devices, token, username = await _keys(database)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        with service(server.url, workers) as (port, process):
            cookies = {name: await _session(port, f"{username}-{name}") for name in ("care-coordinator", "clinician")}
            yield Setting(server.url, port, process, database, devices, token, cookies, server.pid, rate)
        await database.close()


async def _populate(database: Database, folder: Path, people: int, readings: int) -> float:
    recipe = population.Recipe(people, datetime.now(UTC).replace(second=0, microsecond=0), 1, 30, readings)
    start = time.perf_counter()
    made = population.write(recipe, folder, False, lambda _: None)
    seconds = time.perf_counter() - start
    say(f"made {people:,} people and {sum(made.counts.values()):,} resources in {seconds:.0f} s")
    start = time.perf_counter()
    summary = await importer.run(database, sources.discover([folder]))
    seconds = time.perf_counter() - start
    rate = summary.resources / seconds
    say(f"imported them in {seconds:.0f} s: {rate:,.0f} resources/s, {len(summary.refused)} refused")
    if summary.refused:
        raise RuntimeError(f"refused: {importer.reasons(summary.refused)[:3]}")
    return rate


async def _keys(database: Database) -> tuple[list[tuple[str, str, str]], str, str]:
    """Keys for devices of 512 people, a token, and accounts of a coordinator and a clinician of one hub."""
    async with database.transaction() as tx:
        rows = await (
            await tx.pg.execute(
                "SELECT DISTINCT ON (patient_id) patient_id, id FROM device WHERE patient_id IS NOT NULL"
                " ORDER BY patient_id, id LIMIT 512"
            )
        ).fetchall()
        devices = [(patient, device, await accounts.issue_device_key(tx, device, "bench")) for patient, device in rows]
        hub, coordinator = await (
            await tx.pg.execute(
                "SELECT hub_id, member FROM team_member JOIN person USING (patient_id) WHERE role_code = '768820003'"
                " GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1"
            )
        ).fetchone() or (None, None)
        if coordinator is None:
            raise RuntimeError("the population has no care coordinator")
        await accounts.create_account(
            tx, "bench-care-coordinator", PASSWORD, name="Bench Coordinator", role="care-coordinator",
            reference=coordinator, organisations=[], hub_id=hub,
        )  # fmt: skip
        await accounts.create_account(
            tx, "bench-clinician", PASSWORD, name="Bench Clinician", role="clinician", reference="Practitioner/bench",
            organisations=[f"Organization/{hub}"], hub_id=hub,
        )  # fmt: skip
        await accounts.create_account(
            tx, "bench-administrator", PASSWORD, name="Bench", role="administrator", reference="Practitioner/bench-a",
            organisations=[], hub_id=hub,
        )  # fmt: skip
        token = await accounts.issue_token(tx, "bench-administrator", "bench")
    return devices, token, "bench"


async def _session(port: int, username: str) -> str:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.post("/sign-in", data={"username": username, "password": PASSWORD})
        if answer.status_code != 303:
            raise RuntimeError(f"sign-in of {username}: {answer.status_code} {answer.text[:300]}")
        return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())


def environment(url: str) -> dict[str, str]:
    """What a process of the service is told."""
    return {
        **os.environ,
        "CAREHUB_DATABASE_URL": url,
        "CAREHUB_SECRET": "bench-" + os.urandom(24).hex(),
        "CAREHUB_DEMONSTRATION": "false",
    }


@contextmanager
def service(url: str, workers: int, folder: str = ".") -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`carehub serve` as a child, ended by its own id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hub.cli", "serve", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, env=environment(url), cwd=folder, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
            if process.poll() is not None:
                raise RuntimeError("the service did not start")
        else:
            raise RuntimeError("the service does not answer")
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return found  # ended meanwhile
    for child in children:
        found += family(int(child))
    return found


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # ended meanwhile
    return pages * resource.getpagesize() / 2**20


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def settle() -> None:
    await asyncio.sleep(1)
