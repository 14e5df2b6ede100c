"""`$export` as a client does it, and validation on one core."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import msgspec
import psycopg

from bench.fhir_server.place import Place
from bench.fhir_server.processor import Processor
from bench.fhir_server.records import observation
from bench.measures import Row
from fhir import validation, wire


async def export(place: Place) -> Row:
    """All Observations: asked for, waited for, fetched file by file; the service's memory is looked at throughout."""
    most = 0.0
    ended = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, place.setting.memory())
            await asyncio.sleep(0.1)

    idle = place.setting.memory()
    processor = Processor(place.setting)
    watching = asyncio.create_task(watch())
    start = time.perf_counter()
    headers = {"authorization": f"Bearer {place.setting.token}", "accept-encoding": "identity"}
    try:
        async with httpx.AsyncClient(headers=headers, timeout=120) as client:
            files, made = await _made(client, f"http://127.0.0.1:{place.setting.port}/fhir/$export")
            lines = [await _lines(client, one["url"]) for one in files]
    finally:
        ended.set()
        await watching
    seconds = time.perf_counter() - start
    if sum(lines) < place.observations:
        raise RuntimeError(f"{sum(lines):,} of {place.observations:,} were exported")
    figure, cost = sum(lines) / seconds, processor.each(sum(lines))
    ceiling = await _copied_out(place)
    return Row(
        f"$export of {sum(lines):,} Observations and fetching them",
        f"{figure:,.0f}/s; most memory {most:,.0f} MB, before {idle:,.0f} MB; made in {made:,.0f} s; {cost}",
        f"{ceiling:,.0f} rows/s by COPY TO",
        f"{figure / ceiling:.0%}",
        "< 300 MB a process",
        most < 300,
    )


async def _made(client: httpx.AsyncClient, url: str) -> tuple[list[dict[str, str]], float]:
    """The files of the manifest, and how long they took."""
    start = time.perf_counter()
    begun = await client.get(url, params={"_type": "Observation"}, headers={"prefer": "respond-async"})
    if begun.status_code != 202:
        raise RuntimeError(f"$export: {begun.status_code} {begun.text[:500]}")
    while True:
        answer = await client.get(begun.headers["content-location"])
        if answer.status_code == 200:
            return answer.json()["output"], time.perf_counter() - start
        if answer.status_code != 202:
            raise RuntimeError(f"the export's job: {answer.status_code} {answer.text[:500]}")
        await asyncio.sleep(0.2)


async def _lines(client: httpx.AsyncClient, url: str) -> int:
    count = 0
    async with client.stream("GET", url, headers={"accept": "application/fhir+ndjson"}) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_raw():
            count += piece.count(b"\n")
    return count


async def _copied_out(place: Place) -> float:
    rows = 0
    async with await psycopg.AsyncConnection.connect(place.setting.url) as connection:
        start = time.perf_counter()
        statement = "COPY (SELECT body FROM resource_version_observation WHERE body IS NOT NULL) TO STDOUT"
        async with connection.cursor().copy(statement) as copy:
            async for piece in copy:
                rows += bytes(piece).count(b"\n")
        return rows / (time.perf_counter() - start)


def validated(seconds: float) -> Row:
    """Bytes in, a checked resource out, in processor time: what a core does that does nothing else."""
    now = datetime.now(UTC)
    bodies = [msgspec.json.encode(observation(number, 100, now)) for number in range(500)]
    decoding = _each(lambda: [wire.decode(one) for one in bodies], seconds / 3) / len(bodies)
    checking = _each(lambda: [validation.parse(one, "Observation") for one in bodies], seconds) / len(bodies)
    figure, ceiling = 1 / checking, 1 / decoding
    return Row(
        "validation of a vital-sign Observation, one core",
        f"{figure:,.0f}/s, {checking * 1e6:.0f} µs each",
        f"{ceiling:,.0f}/s decoded and not checked",
        f"{figure / ceiling:.0%}",
        ">= 15,000/s",
        figure >= 15_000,
    )


def _each(work: Callable[[], object], seconds: float) -> float:
    work()
    rounds, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        work()
        rounds += 1
    return (time.process_time() - start) / rounds
