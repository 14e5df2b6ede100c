"""The figures of the spine, each with its ceiling."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg

from bench.client import Answer, Connection, connections, load, percentile, request
from bench.setting import Setting
from fhir.store import new_id
from hub import importer, migrations, sources
from hub.app import create_app
from hub.db import Database
from hub.settings import Settings

CONNECTIONS = 64
FHIR = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. *reached* is judged by the figures alone, here and now; *plan* is printed below it."""

    work: str
    figure: str
    ceiling: str
    ratio: str
    reach: str
    reached: bool
    plan: str = ""


def observation(patient_id: str, at: datetime, value: str = "97") -> bytes:
    """A reading as an oximeter sends it, about 500 bytes."""
    return (
        '{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":'
        '"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],'
        '"code":{"coding":[{"system":"http://loinc.org","code":"59408-5"},{"system":"http://loinc.org","code":"2708-6"}]},'
        f'"subject":{{"reference":"Patient/{patient_id}"}},"effectiveDateTime":"{at.isoformat()}",'
        f'"valueQuantity":{{"value":{value},"unit":"%","system":"http://unitsofmeasure.org","code":"%"}}}}'
    ).encode()


class Clock:
    """Times that no two readings share, spread over the last *hours*: recent enough to be evaluated."""

    def __init__(self, hours: int, half: bool) -> None:
        self._taken = 0
        self._span = hours * 3600
        # Whole or half seconds, so that what is kept never meets what is fresh.
        self._start = datetime.now(UTC).replace(microsecond=500_000 * half) - timedelta(seconds=2)

    def next(self) -> datetime:
        self._taken += 1
        return self._start - timedelta(seconds=self._taken * 7919 % self._span, milliseconds=self._taken // self._span)


KEPT = Clock(20, half=True)  # what devices kept since yesterday
FRESH = Clock(1, half=False)  # what they measure now


def body_of(key: str, body: bytes, path: str = "/fhir/Observation", media: str = FHIR) -> bytes:
    return request("POST", path, {"authorization": f"Bearer {key}", "content-type": media}, body)


async def single_posts(setting: Setting, seconds: float) -> Row:
    bodies = [
        body_of(key, observation(patient, FRESH.next(), "9" + str(number % 4 + 5)))
        for number in range(int(seconds * 4000))
        for patient, _, key in [setting.devices[number % len(setting.devices)]]
    ]
    await load(setting.port, CONNECTIONS, bodies[:500], lambda status: status == 201)
    ceiling_before = await _one_row_commits(setting, seconds / 2)
    spent, taken = await load(setting.port, CONNECTIONS, _for(bodies[500:], seconds), lambda status: status == 201)
    figure = len(taken) / spent
    ceiling = (ceiling_before + await _one_row_commits(setting, seconds / 2)) / 2
    return Row(
        "single readings over HTTP, durable, 64 connections",
        f"{figure:,.0f}/s, p99 {percentile(taken, 0.99) * 1000:.0f} ms",
        f"{ceiling:,.0f} one-row commits/s",
        f"{figure / ceiling:.0%}",
        ">= 35 %",
        figure >= 0.35 * ceiling,
    )


def _for(items: list[bytes], seconds: float) -> Any:
    end = time.perf_counter() + seconds
    for item in items:
        if time.perf_counter() > end:
            return
        yield item


async def _one_row_commits(setting: Setting, seconds: float) -> float:
    body = observation("p" * 36, datetime.now(UTC)).decode()
    made = [await psycopg.AsyncConnection.connect(setting.url, autocommit=True) for _ in range(CONNECTIONS)]
    await made[0].execute("CREATE TABLE IF NOT EXISTS bench_row (id text PRIMARY KEY, body text)")
    count = 0
    end = time.perf_counter() + seconds

    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await connection.execute("INSERT INTO bench_row VALUES (%s, %s)", (new_id(), body))
            count += 1

    await asyncio.gather(*(work(one) for one in made))
    for one in made:
        await one.close()
    return count / seconds


async def ndjson(setting: Setting, readings: int, streams: int = 16) -> Row:
    """Every device sends what it kept since yesterday, *streams* of them at a time."""
    each = readings // len(setting.devices)
    requests = []
    for patient, _, key in setting.devices:
        lines = b"\n".join(observation(patient, KEPT.next(), "9" + str(n % 4 + 5)) for n in range(each))
        requests.append(body_of(key, lines, "/fhir/$ingest", "application/fhir+ndjson"))
    waiting = iter(requests)
    accepted = 0
    refused: list[bytes] = []

    async def send(connection: Connection) -> None:
        nonlocal accepted
        for raw in waiting:
            answer = await connection.ask(raw)
            accepted += _accepted(answer)  # after the await: the sum is shared
            if b"refused-line" in answer.body:
                refused.append(answer.body)

    line = observation("p" * 36, datetime.now(UTC)).decode()
    bare = await _copied(setting, line, readings)
    before = await _stored(setting)
    async with connections(setting.port, streams) as made:
        start = time.perf_counter()
        await asyncio.gather(*(send(one) for one in made))
        seconds = time.perf_counter() - start
    if accepted != each * len(requests):
        raise RuntimeError(f"{accepted} of {each * len(requests)} accepted: {refused[:1]!r:.2000}")
    figure = accepted / seconds
    # A reading is a version, a search row, a typed row, a receipt and an audit row: a row of the same size is one with
    # as many bytes as these five. The line as it was sent, copied alone, is printed beside it.
    size = (await _stored(setting) - before) // accepted
    ceiling = await _copied(setting, (line * (1 + size // len(line)))[:size], readings)
    return Row(
        "NDJSON readings, evaluated and flagged",
        f"{figure:,.0f}/s",
        f"{ceiling:,.0f} rows/s of {size:,} bytes by COPY ({bare:,.0f} of the bare line: {figure / bare:.1%})",
        f"{figure / ceiling:.1%}",
        ">= 10 %, and >= 5,000/s",
        figure >= 0.1 * ceiling and figure >= 5000,
    )


def _accepted(answer: Answer) -> int:
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.body[:500]!r}")
    found = {one["name"]: one.get("valueInteger") for one in msgspec.json.decode(answer.body)["parameter"]}
    return int(found["accepted"] or 0)


_KEPT = ("resource_version_observation", "r_observation", "reading", "receipt", "audit")


async def _stored(setting: Setting) -> int:
    """Bytes that readings take in the tables, without their indexes."""
    async with await psycopg.AsyncConnection.connect(setting.url) as connection:
        statement = "SELECT sum(pg_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name"
        found = await connection.execute(statement, [list(_KEPT)])
        row = await found.fetchone()
        assert row is not None
        return int(row[0])


async def _copied(setting: Setting, body: str, count: int) -> float:
    """Rows/s by COPY, each an id and *body*, kept as it is: packing a long text is not what is measured."""
    ids = [new_id() for _ in range(count)]
    async with await psycopg.AsyncConnection.connect(setting.url, autocommit=True) as connection:
        await connection.execute("DROP TABLE IF EXISTS bench_copy")
        await connection.execute("CREATE TABLE bench_copy (id text PRIMARY KEY, body text STORAGE PLAIN)")
        start = time.perf_counter()
        async with connection.cursor().copy("COPY bench_copy FROM STDIN") as copy:
            for at in range(0, count, 1000):
                await copy.write("".join(f"{id_}\t{body}\n" for id_ in ids[at : at + 1000]))
        seconds = time.perf_counter() - start
        await connection.execute("DROP TABLE bench_copy")
    return count / seconds


async def until_visible(setting: Setting, seconds: float, rate: int = 200) -> Row:
    """From the sending of a low saturation to its Flag in the answer of a search, with *rate* readings/s coming in."""
    taken: list[float] = []
    failures: list[str] = []
    headers = {"authorization": f"Bearer {setting.token}"}
    quiet, watched = setting.devices[:-200], setting.devices[-200:]
    begun = time.perf_counter()

    async def one(number: int, pool: asyncio.Queue[Any]) -> None:
        flagged = number % 20 == 0 and number // 20 < len(watched)
        patient, _, key = watched[number // 20] if flagged else quiet[number % len(quiet)]
        connection = await pool.get()
        try:
            start = time.perf_counter()
            answer = await connection.ask(body_of(key, observation(patient, FRESH.next(), "86" if flagged else "97")))
            if answer.status != 201:
                failures.append(f"{answer.status} {answer.body[:200]!r}")
                return
            if not flagged:
                return
            made = msgspec.json.decode(answer.body)["id"] if answer.body else ""
            while True:
                search = request("GET", f"/fhir/Flag?patient={patient}&_count=20", headers)
                found = await connection.ask(search)
                if made.encode() in found.body:
                    taken.append(time.perf_counter() - start)
                    return
                if time.perf_counter() - start > 10:
                    failures.append(f"no flag for {patient} with {made}: {found.status} {found.body[:1500]!r}")
                    return
        finally:
            pool.put_nowait(connection)

    async with connections(setting.port, 32) as made:
        pool: asyncio.Queue[Any] = asyncio.Queue()
        for connection in made:
            pool.put_nowait(connection)
        tasks = []
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number, pool)))
        await asyncio.gather(*tasks)
    if failures:
        raise RuntimeError(f"{len(failures)} failures, first: {failures[0]}")
    p99 = percentile(taken, 0.99)
    return Row(
        f"reading sent to flag visible by API, at {rate} readings/s",
        f"p50 {percentile(taken, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms ({len(taken)} flags)",
        "",
        "",
        "p99 < 250 ms",
        p99 < 0.25,
    )


async def board(setting: Setting, path: str, role: str, seconds: float, concurrency: int = 4) -> Row:
    cookie = setting.cookies[role]
    statements = await _statements(setting, path, cookie)
    page = request("GET", path, {"cookie": cookie, "accept": "text/html"})
    await load(setting.port, concurrency, [page] * 40, lambda status: status == 200)
    bare: list[float] = []
    pages: list[float] = []
    for _ in range(3):  # in turn, so that both meet the same machine
        bare += await _bare(setting, statements, seconds / 6, concurrency)
        _, taken = await load(setting.port, concurrency, _for([page] * 100_000, seconds / 6), lambda s: s == 200)
        pages += taken
    figure, ceiling = percentile(pages, 0.95), percentile(bare, 0.95)
    return Row(
        f"{path} page, {concurrency} readers",
        f"p50 {percentile(pages, 0.5) * 1000:.1f} ms, p95 {figure * 1000:.1f} ms",
        f"bare SQL ({len(statements)} statements) p95 {ceiling * 1000:.1f} ms",
        f"{figure / ceiling:.1f} x",
        "p95 <= 3 x",
        figure <= 3 * ceiling,
    )


async def _statements(setting: Setting, path: str, cookie: str) -> list[tuple[Any, Any]]:
    """What the page asks of the database, written down while it is made once in this process."""
    seen: list[tuple[Any, Any]] = []
    original = psycopg.AsyncCursor.execute

    async def noted(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        seen.append((query, params))
        return await original(self, query, params, **more)

    app = create_app(Settings(database_url=setting.url, secret="s" * 20 + "0123456789abcdef"))  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.get(path, headers={"cookie": cookie})
            psycopg.AsyncCursor.execute = noted  # type: ignore[method-assign]
            try:
                answer = await client.get(path, headers={"cookie": cookie})
            finally:
                psycopg.AsyncCursor.execute = original  # type: ignore[method-assign]
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code}")
    return [(query, params) for query, params in seen if str(query).lstrip().upper().startswith(("SELECT", "WITH"))]


async def _bare(setting: Setting, statements: list[tuple[Any, Any]], seconds: float, concurrency: int) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(setting.url, options="-c jit=off") as connection:
            while time.perf_counter() < end:
                start = time.perf_counter()
                for query, params in statements:
                    await (await connection.execute(query, params)).fetchall()
                await connection.rollback()
                taken.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return taken


async def synthea(setting: Setting, folder: Path) -> Row:
    """The 40 bundles into a fresh database of the same PostgreSQL."""
    name = "bench_synthea"
    with psycopg.connect(setting.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = setting.url.replace("/carehub?", f"/{name}?")
    migrations.upgrade(url)
    database = Database(url, statement_timeout_ms=600_000)
    start = time.perf_counter()
    summary = await importer.run(database, sources.discover([folder]))
    seconds = time.perf_counter() - start
    await database.close()
    rate = summary.resources / seconds
    return Row(
        f"import of the Synthea bundles ({summary.resources:,} resources, {len(summary.refused)} refused)",
        f"{rate:,.0f} resources/s",
        "",
        "",
        ">= 1,000/s",
        rate >= 1000 and not summary.refused,
    )


Measure = Callable[[Setting], Awaitable[Row]]
