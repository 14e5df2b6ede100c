"""Searches at growing sizes: by HTTP, the same statements bare, and the plans that PostgreSQL makes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast
from urllib.parse import urlencode

import psycopg

from bench.client import load, percentile, request
from bench.fhir_server import records
from bench.fhir_server.place import Place
from bench.fhir_server.processor import Processor
from bench.measures import Row
from bench.setting import say
from fhir.plans import explained, scanned
from fhir.search import search
from fhir.store import Connection

CONNECTIONS, HEAVY_CONNECTIONS = 16, 4
# How many searches of a family take turns, so that neither the plan nor the page of one alone is measured.
VARIANTS = 48
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Family:
    """*query* has `{name}` and so on for what `_values` gives. A *heavy* one has 300 ms, and may not scan."""

    name: str
    type: str
    query: str
    heavy: bool = False
    count: int = 20
    posted: bool = False

    @property
    def connections(self) -> int:
        return HEAVY_CONNECTIONS if self.heavy else CONNECTIONS


HIGH = f"gt120|{records.UCUM}|/min"
FAMILIES = (
    Family("string", "Patient", "name={family}"),
    Family("string, exact", "Patient", "family:exact={family}"),
    Family("date", "Observation", "date={day}"),
    Family("date, since", "Observation", "date=ge{day}"),
    Family("reference", "Observation", "patient={patient}"),
    Family("reference to one of 200", "Observation", "performer=Practitioner/{clinician}"),
    Family("token", "Observation", f"code={records.LOINC}|{{code}}"),
    Family("token, rare", "Observation", f"code={records.LOINC}|{records.RARE}&status=final"),
    Family("identifier", "Observation", f"identifier={records.READING}|{{number}}"),
    Family("quantity", "Observation", f"value-quantity={HIGH}"),
    Family("quantity, rare", "Observation", f"value-quantity=gt8{{digits}}|{records.UCUM}|pg/mL"),
    Family("composite", "Observation", f"code-value-quantity={records.LOINC}|8867-4${HIGH}"),
    Family("composite of a panel", "Observation", f"combo-code-value-quantity={records.LOINC}|8480-6$gt18{{digit}}"),
    Family(
        "code and 1,000 patients", "Observation", f"code={records.LOINC}|{{code}}&patient={{patients}}", True,
        posted=True,
    ),
    Family("chained", "Observation", "patient.name={family}", True),
    Family("chained and code", "Observation", f"code={records.LOINC}|{{code}}&subject:Patient.name={{family}}", True),
    Family("_has", "Patient", f"_has:Observation:patient:code={records.LOINC}|{records.RARE}&gender={{gender}}", True),
    Family("_has, frequent", "Patient", f"_has:Observation:patient:code={records.LOINC}|{{code}}", True),
    Family(
        "_include of 100", "Observation", f"code={records.LOINC}|{{code}}&_include=Observation:patient", True, count=100
    ),
)  # fmt: skip


def _values(number: int, place: Place) -> dict[str, Any]:
    first = number * 97 % (place.people - 1000)
    return {
        "family": records.family(number * 11),
        "day": records.day(number * 17),
        "patient": records.patient_id(number * 7919 % place.people),
        "patients": ",".join(records.patient_id(first + one) for one in range(1000)),
        "clinician": f"clinician-{number % records.CLINICIANS}",
        "code": records.MEASURES[number % len(records.MEASURES)][0],
        "number": number * 7919 % place.observations,
        "digits": f"{number * 3 % 100:02}",
        "digit": number % 5,
        "gender": ("female", "male")[number % 2],
    }


def queries(family: Family, place: Place) -> list[str]:
    """`name=value&...` of every variant, values as they stand."""
    made = [family.query.format(**_values(number, place)) for number in range(VARIANTS)]
    return [f"{query}&_count={family.count}" for query in dict.fromkeys(made)]


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (item.partition("=") for item in query.split("&"))]


def _sent(family: Family, query: str, token: str) -> bytes:
    coded = urlencode(_pairs(query))
    headers = {"authorization": f"Bearer {token}"}
    if family.posted:
        headers["content-type"] = FORM
        return request("POST", f"/fhir/{family.type}/_search", headers, coded.encode())
    return request("GET", f"/fhir/{family.type}?{coded}", headers)


@dataclass(slots=True)
class Taken:
    """One family at one size. Seconds of each answer, by HTTP and bare; *found* is the entries of the last page."""

    observations: int
    rate: float
    times: list[float]
    cost: str
    bare_rate: float
    bare_times: list[float]
    plan: str
    found: int

    @property
    def p99(self) -> float:
        return percentile(self.times, 0.99)


@dataclass
class _Noting:
    """A connection that keeps the statements it runs."""

    pg: Connection
    statements: list[tuple[str, Any]] = field(default_factory=list)

    async def execute(self, statement: str, params: Any = None, **options: Any) -> Any:
        self.statements.append((statement, params))
        return await self.pg.execute(statement, params, **options)


async def at_size(place: Place, family: Family, seconds: float) -> Taken:
    """*seconds* of HTTP, half as long bare, and the plan of the first variant."""
    asked = queries(family, place)
    statements: list[list[tuple[str, Any]]] = []
    async with place.setting.database.transaction() as tx:
        await tx.pg.execute("SET LOCAL jit = off")
        for query in asked:
            noting = _Noting(tx.pg)
            await _page(noting, family, query, place)
            statements.append(noting.statements)
        plan, page = await explained(tx.pg, f"{family.type}?{asked[0]}", place.shown)
    raw = [_sent(family, query, place.setting.token) for query in asked]
    await load(place.setting.port, family.connections, raw, _good)
    bare_rate, bare_times = await _bare(place, statements, family.connections, seconds / 2)
    processor = Processor(place.setting)
    spent, times = await load(place.setting.port, family.connections, _turns(raw, seconds), _good)
    cost = processor.each(len(times))
    say(f"  {family.name}: {len(times) / spent:,.0f}/s, bare {bare_rate:,.0f}/s, {cost}")
    return Taken(place.observations, len(times) / spent, times, cost, bare_rate, bare_times, plan, len(page.entries))


async def _page(pg: Any, family: Family, query: str, place: Place) -> None:
    await search(cast(Connection, pg), family.type, _pairs(query), place.shown, "http://127.0.0.1/fhir", b"bench", 1000)


def _good(status: int) -> bool:
    return status == 200


def _turns(raw: Sequence[bytes], seconds: float) -> Any:
    end = time.perf_counter() + seconds
    for one in cycle(raw):
        if time.perf_counter() > end:
            return
        yield one


async def _bare(
    place: Place, searches: Sequence[Sequence[tuple[str, Any]]], count: int, seconds: float
) -> tuple[float, list[float]]:
    """The statements of the searches, one transaction for each search, and nothing around them."""
    turns = cycle(searches)
    times: list[float] = []
    begun = time.perf_counter()

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(place.setting.url, options="-c jit=off") as connection:
            while time.perf_counter() < begun + seconds:
                start = time.perf_counter()
                for statement, params in next(turns):
                    await (await connection.execute(statement, params, prepare=False)).fetchall()
                await connection.rollback()
                times.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(count)))
    return len(times) / (time.perf_counter() - begun), times


def row(family: Family, taken: Sequence[Taken]) -> Row:
    """The family at every size it was measured at; it must hold at the largest."""
    last = taken[-1]
    sizes = "; ".join(f"{one.observations:,}: {one.rate:,.0f}/s {_spread(one.times)} {one.cost}" for one in taken)
    growth = last.p99 / taken[0].p99
    scans = scanned(last.plan)
    grown = f", p99 x {growth:.1f}" if len(taken) > 1 else ""
    if family.heavy:
        reach, reached = "no scan, p99 < 300 ms", last.p99 < 0.3 and not scans
    else:
        reach = ">= 500/s, p99 < 100 ms, x <= 2"
        reached = last.rate >= 500 and last.p99 < 0.1 and growth <= 2 and not scans
    title = f"{family.type}?{family.query}&_count={family.count}, {last.observations:,} Observations"
    if scans:
        title += f", SCANS {', '.join(scans)}"
    found = f" finds {last.found}" if last.found else " FINDS NOTHING"
    return Row(
        f"search by {family.name}, {family.connections} connections:{found}",
        sizes,
        f"bare SQL {last.bare_rate:,.0f}/s {_spread(last.bare_times)}",
        f"{last.rate / last.bare_rate:.0%}{grown}",
        reach,
        reached,
        f"{title}\n{last.plan}",
    )


def _spread(times: list[float]) -> str:
    return f"p50 {percentile(times, 0.5) * 1000:.0f} p99 {percentile(times, 0.99) * 1000:.0f} ms"
