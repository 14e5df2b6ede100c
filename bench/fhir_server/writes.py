"""Mixed writes, reads by id and transaction bundles, each beside what PostgreSQL or the bare server does."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.client import Answer, Connection, connections, load, percentile, request
from bench.fhir_server.place import Place
from bench.fhir_server.processor import Processor
from bench.fhir_server.records import KINDS, Kind, patient_id
from bench.measures import FHIR, Row

CONNECTIONS = 32
BUNDLES_AT_ONCE = 4


async def mixed(place: Place, seconds: float) -> Row:
    """Each connection creates, reads, updates and deletes one of each type in turn."""
    token = place.setting.token
    headers = {"authorization": f"Bearer {token}", "content-type": FHIR}
    numbers = count(int(time.time()))
    times: dict[str, list[float]] = {"POST": [], "GET": [], "PUT": [], "DELETE": []}
    by_type: dict[str, list[float]] = {kind.type: [] for kind in KINDS}
    bare_before = await _bare_mix(place, seconds / 4)

    async def one(connection: Connection, kind: Kind) -> None:
        number = next(numbers)
        about = f"Patient/{patient_id(number * 7919 % place.people)}"

        async def ask(method: str, path: str, body: bytes = b"") -> Answer:
            answer = await connection.ask(request(method, path, headers, body))
            if answer.status not in (200, 201, 204):
                raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:500]!r}")
            times[method].append(answer.seconds)
            by_type[kind.type].append(answer.seconds)
            return answer

        made = await ask("POST", f"/fhir/{kind.type}", kind.body(number, about))
        id_ = msgspec.json.decode(made.body)["id"]
        path = f"/fhir/{kind.type}/{id_}"
        await ask("GET", path)
        await ask("PUT", path, kind.update(number, about, id_))
        await ask("DELETE", path)

    async def work(connection: Connection, first: int, end: float) -> None:
        for kind in cycle(KINDS[first:] + KINDS[:first]):
            if time.perf_counter() > end:
                return
            await one(connection, kind)

    async def once(connection: Connection) -> None:
        for kind in KINDS:
            await one(connection, kind)

    async with connections(place.setting.port, CONNECTIONS) as made:
        # Once round, so that every process has compiled every type.
        await asyncio.gather(*(once(c) for c in made))
        for some in (*times.values(), *by_type.values()):
            some.clear()
        processor = Processor(place.setting)
        start = time.perf_counter()
        await asyncio.gather(*(work(c, at % len(KINDS), start + seconds) for at, c in enumerate(made)))
        spent = time.perf_counter() - start
    everything = [one for some in times.values() for one in some]
    cost = processor.each(len(everything))
    bare = (bare_before + await _bare_mix(place, seconds / 4)) / 2
    figure = len(everything) / spent
    said = ", ".join(f"{method} {percentile(some, 0.5) * 1000:.0f}" for method, some in times.items())
    slowest = ", ".join(sorted(by_type, key=lambda name: -sum(by_type[name]) / len(by_type[name]))[:3])
    return Row(
        f"create, read, update, delete of nine types, {CONNECTIONS} connections",
        f"{figure:,.0f}/s, p99 {percentile(everything, 0.99) * 1000:.0f} ms; p50 of {said}; slowest {slowest}; {cost}",
        f"{bare:,.0f} bare one-row statements/s, in the same mix",
        f"{figure / bare:.0%}",
        ">= 900/s",
        figure >= 900,
    )


async def _bare_mix(place: Place, seconds: float) -> float:
    """INSERT, SELECT, UPDATE and DELETE of one row, each a transaction of its own."""
    body = KINDS[2].body(1, "Patient/1").decode()
    url = place.setting.url
    made = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(CONNECTIONS)]
    await made[0].execute("CREATE TABLE IF NOT EXISTS bench_mix (id bigint PRIMARY KEY, body text)")
    await made[0].execute("TRUNCATE bench_mix")
    numbers = count()
    done = 0
    begun = time.perf_counter()

    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        nonlocal done
        while time.perf_counter() < begun + seconds:
            number = next(numbers)
            for statement, params in (
                ("INSERT INTO bench_mix VALUES (%s, %s)", (number, body)),
                ("SELECT body FROM bench_mix WHERE id = %s", (number,)),
                ("UPDATE bench_mix SET body = %s WHERE id = %s", (body, number)),
                ("DELETE FROM bench_mix WHERE id = %s", (number,)),
            ):
                await connection.execute(statement, params)
                done += 1

    await asyncio.gather(*(work(one) for one in made))
    spent = time.perf_counter() - begun
    for one in made:
        await one.close()
    return done / spent


async def read(place: Place, seconds: float) -> Row:
    async with place.setting.database.transaction() as tx:
        rows = await tx.pg.execute("SELECT id FROM r_observation ORDER BY hashtextextended(id, 0) LIMIT 2000")
        ids = [row[0] for row in await rows.fetchall()]
    headers = {"authorization": f"Bearer {place.setting.token}"}
    raw = [request("GET", f"/fhir/Observation/{one}", headers) for one in ids]
    port = place.setting.port
    await load(port, CONNECTIONS, raw[:500], lambda status: status == 200)
    async with connections(port, 1) as [connection]:
        body = (await connection.ask(raw[0])).body
    processor = Processor(place.setting)
    spent, times = await load(port, CONNECTIONS, _for(raw, seconds), lambda status: status == 200)
    figure, cost = len(times) / spent, processor.each(len(times))
    with bare_server(place.workers, body) as other:
        await load(other, CONNECTIONS, raw[:500], lambda status: status == 200)
        spent, bare = await load(other, CONNECTIONS, _for(raw, seconds / 2), lambda status: status == 200)
    ceiling = len(bare) / spent
    return Row(
        f"read by id, {CONNECTIONS} connections",
        f"{figure:,.0f}/s, p99 {percentile(times, 0.99) * 1000:.0f} ms; {cost}",
        f"{ceiling:,.0f}/s of an endpoint that does nothing, same server",
        f"{figure / ceiling:.0%}",
        ">= 2,500/s",
        figure >= 2500,
    )


def _for(items: list[bytes], seconds: float) -> Any:
    end = time.perf_counter() + seconds
    for item in cycle(items):
        if time.perf_counter() > end:
            return
        yield item


@contextmanager
def bare_server(workers: int, body: bytes) -> Iterator[int]:
    """The port of `bench.fhir_server.bare`, which answers *body* to everything."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.fhir_server.bare", str(port), str(workers)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(body)
    process.stdin.close()
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise RuntimeError("the bare server does not answer")
        yield port
    finally:
        process.terminate()
        process.wait(30)


async def bundles(place: Place, folder: Path) -> Row:
    """The Synthea people as transactions by HTTP; those whom they refer to were posted before."""
    headers = {"authorization": f"Bearer {place.setting.token}", "content-type": FHIR}
    directories, persons = _bundles(folder)
    bodies = [
        [msgspec.json.encode(e["resource"]).decode() for e in msgspec.json.decode(raw)["entry"]] for raw in persons
    ]
    resources = sum(map(len, bodies))
    port = place.setting.port
    await load(port, 1, [request("POST", "/fhir", headers, raw) for raw in directories], lambda status: status == 200)
    ceiling = resources / await _inserted(place, bodies)
    requests = [request("POST", "/fhir", headers, raw) for raw in persons]
    processor = Processor(place.setting)
    spent, times = await load(port, BUNDLES_AT_ONCE, requests, lambda status: status == 200)
    figure = resources / spent
    return Row(
        f"{len(persons)} Synthea transactions, {resources:,} resources, {BUNDLES_AT_ONCE} connections",
        f"{figure:,.0f} resources/s, p50 {percentile(times, 0.5) * 1000:.0f} ms a bundle; {processor.each(resources)}",
        f"{ceiling:,.0f}/s inserted as text, a commit a bundle",
        f"{figure / ceiling:.1%}",
        ">= 1,200/s",
        figure >= 1200,
    )


def _bundles(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Those of hospitals and practitioners, and those of people."""
    paths = sorted(folder.glob("*.json"))
    directories = [path for path in paths if "nformation" in path.name]
    return [path.read_bytes() for path in directories], [p.read_bytes() for p in paths if p not in directories]


async def _inserted(place: Place, bodies: list[list[str]]) -> float:
    async with await psycopg.AsyncConnection.connect(place.setting.url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_bundle (id bigserial PRIMARY KEY, body text)")
        start = time.perf_counter()
        for some in bodies:
            await connection.execute("INSERT INTO bench_bundle (body) SELECT unnest(%s::text[])", (some,))
        seconds = time.perf_counter() - start
        await connection.execute("DROP TABLE bench_bundle")
    return seconds
