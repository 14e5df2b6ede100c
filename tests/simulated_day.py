"""Twenty-four hours of home monitoring in a fast clock, with devices as they are, and what a service has to stand.

Devices send again, in disorder, with clocks that are wrong and units that change, over HTTP and MQTT; scales change
hands; the broker, the database and the service are killed in turn. The same day with and without the killing must leave
the same record. `make faults` lets it happen to 1,500 people.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
from clockwork import Clock

from fhir import store
from fhir.store import Change
from fhir.wire import encode
from hub import accounts, answers, devices, embedded, flows, migrations
from hub.db import Database
from hub.identity import IMPORTER, OPERATOR
from monitoring.limits import Limits, Order, to_service_request
from monitoring.measures import MEASURES, UCUM

JSON = dict[str, Any]

HOURS = 24
SWAP, ROUND = 8.5, 13.5
"""Hours at which scales change hands and at which staff answers what is open: all that was sent before has arrived."""
EVERYTHING = {3.5: "service", 6.0: "postgresql", 10.5: "nats", 16.0: "broker", 17.5: "postgresql", 18.5: "service"}
"""Hours at which something is killed. All is well again before the last hours, so that nothing becomes a day old."""
EACH = dict(list(EVERYTHING.items())[:4])
"""Each of them once."""
AWAY = timedelta(minutes=90)
"""How long the day goes on at most while something is down."""
DRAIN, STEP = 30, timedelta(hours=1)
"""Afterwards nobody measures and the timers run out."""

_USUAL = {"spo2": 96.0, "pulse": 78.0, "weight": 80.0, "glucose": 7.5}
_SPREAD = {"spo2": 1.2, "pulse": 3.0, "weight": 0.6, "glucose": 2.0}
_ILL = {"spo2": -5, "pulse": 38, "weight": 3, "glucose": -4}
_UNITS = {
    "weight": (("kg", "1"), ("[lb_av]", "2.2046226218"), ("g", "1000")),
    "glucose": (("mmol/L", "1"), ("mg/dL", "18.0182")),
}
_DRIFTS = [timedelta(0)] * 14 + [timedelta(minutes=4), timedelta(hours=-5), timedelta(days=2), timedelta(days=-3)]


@dataclass
class Message:
    """What a device sends, and what it was told of it: `taken` once it need not send it again."""

    device: str
    body: bytes
    at: datetime
    again: bool = False
    status: int | None = None


@dataclass
class Instrument:
    """A device of one person, with its habits."""

    id: str
    measure: str
    holder: str
    mqtt: bool
    drift: timedelta
    disorder: bool
    key: str = ""
    held: list[Message] = field(default_factory=list)


class Day:
    """Who measures what and when, all of it decided beforehand by *seed*: the same for every run."""

    def __init__(self, people: int, start: datetime, tick: timedelta, seed: int = 7) -> None:
        self.start = start
        self.tick = tick
        self.ticks = timedelta(hours=HOURS) // tick
        self.chance = random.Random(seed)
        self.people = [f"person-{number}" for number in range(people)]
        self.instruments: dict[str, Instrument] = {}
        for number, person in enumerate(self.people):
            for measure in ("spo2", "pulse", "weight", *(("glucose",) if number % 3 == 0 else ())):
                self._instrument(person, measure, number)
        swapped = [f"weight-{number}" for number in range(0, people - 1, 20)]
        self.swaps = [(one, f"weight-{int(one.partition('-')[2]) + 1}") for one in swapped]
        self.due: list[list[Message]] = [[] for _ in range(self.ticks)]
        self._plan()

    def _instrument(self, person: str, measure: str, number: int) -> None:
        chance = self.chance
        plain = measure == "weight"
        self.instruments[f"{measure}-{number}"] = Instrument(
            f"{measure}-{number}",
            measure,
            person,
            mqtt=plain and number % 5 == 0,
            drift=timedelta(0) if plain else chance.choice(_DRIFTS),
            disorder=measure in ("spo2", "glucose") and chance.random() < 0.2,
        )

    def at(self, hours: float) -> int:
        """The tick of that hour."""
        return int(timedelta(hours=hours) / self.tick)

    def _plan(self) -> None:
        chance = self.chance
        holders = {one.id: one.holder for one in self.instruments.values()}
        ill = {person for person in self.people if chance.random() < 0.15}
        counts: Counter[str] = Counter()
        swap, last = self.at(SWAP), self.ticks - 1
        for tick in range(self.ticks):
            if tick == swap:
                for one, other in self.swaps:
                    holders[one], holders[other] = holders[other], holders[one]
            for instrument in self.instruments.values():
                often = {"weight": 3, "glucose": 7}.get(instrument.measure, 4) / self.ticks
                if tick in (0, swap, last) or chance.random() > often:
                    continue
                person = holders[instrument.id]
                counts[instrument.id] += 1
                message = self._message(instrument, person, tick, counts[instrument.id], person in ill)
                if instrument.disorder and not instrument.held and tick < last - 6:
                    instrument.held.append(message)
                    continue
                self.due[tick] += [message, *instrument.held]
                instrument.held.clear()
                if chance.random() < 0.2:
                    later = min(last - 1, tick + chance.randint(1, 6))
                    self.due[later].append(Message(message.device, message.body, message.at, again=True))
        for instrument in self.instruments.values():
            self.due[-2] += instrument.held
            instrument.held.clear()

    def _message(self, instrument: Instrument, person: str, tick: int, count: int, ill: bool) -> Message:
        chance, key = self.chance, instrument.measure
        measure = MEASURES[key]
        value = Decimal(str(round(_USUAL[key] + chance.gauss(0, _SPREAD[key]), 1)))
        if ill and tick > self.at(2):
            value += _ILL[key]
        if key in ("spo2", "pulse"):
            value = Decimal(min(100, round(value)))
        units = _UNITS.get(key, ((measure.unit, "1"),))
        unit, factor = units[count % len(units)]
        sent = (max(value, Decimal(2)) * Decimal(factor)).quantize(Decimal("0.1")).normalize()
        # No device measures twice in one second, whoever holds it.
        at = self.start + tick * self.tick - timedelta(seconds=chance.randint(1, 500)) + instrument.drift
        body = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [measure.coding]},
            "subject": {"reference": f"Patient/{person}"},
            "device": {"reference": f"Device/{instrument.id}"},
            "effectiveDateTime": at.isoformat(timespec="seconds"),
            "valueQuantity": {"value": Decimal(f"{sent:f}"), "unit": unit, "system": UCUM, "code": unit},
        }
        return Message(instrument.id, encode(body), at)


async def populate(day: Day, data_dir: Path) -> None:
    """The people, their devices and keys, and personal limits for one in ten."""
    before = day.start - timedelta(days=4)
    with embedded.start(data_dir, {"fsync": "off"}) as server:
        migrations.upgrade(server.url)
        database = Database(server.url)
        resources: list[JSON] = [
            {"resourceType": "Organization", "id": "hub", "name": "Hub", "active": True},
            {"resourceType": "Practitioner", "id": "coordinator", "name": [{"family": "Vowles"}], "active": True},
        ]
        for number, person in enumerate(day.people):
            resources += _person(person, number)
        resources += [
            {
                "resourceType": "Device",
                "id": one.id,
                "status": "active",
                "deviceName": [{"name": one.measure, "type": "user-friendly-name"}],
                "patient": {"reference": f"Patient/{one.holder}"},
            }
            for one in day.instruments.values()
        ]
        for first in range(0, len(resources), 500):
            some = resources[first : first + 500]
            async with database.transaction() as tx:
                changes = [Change("create", one["resourceType"], one["id"], one) for one in some]
                await flows.write(tx, IMPORTER, changes, before)
        async with database.transaction() as tx:
            for one in day.instruments.values():
                one.key = await accounts.issue_device_key(tx, one.id, "simulated")
        await database.close()


def _person(person: str, number: int) -> list[JSON]:
    subject = {"reference": f"Patient/{person}"}
    made: list[JSON] = [
        {
            "resourceType": "Patient",
            "id": person,
            "name": [{"family": f"Test {number}", "given": ["Ada"]}],
            "birthDate": "1950-02-03",
            "managingOrganization": {"reference": "Organization/hub"},
        },
        {
            "resourceType": "CareTeam",
            "id": f"team-{number}",
            "status": "active",
            "subject": subject,
            "participant": [
                {
                    "role": [{"coding": [{"system": "http://snomed.info/sct", "code": "768820003"}]}],
                    "member": {"reference": "Practitioner/coordinator"},
                }
            ],
        },
    ]
    if number % 10 == 3:
        limits = Limits(low_red=88, low_amber=90) if number % 20 == 3 else Limits(low_red=90, low_amber=95)
        order = Order(
            f"limits-{number}", person, "spo2", limits, set_by="Practitioner/coordinator", reason="Agreed",
            review_on=datetime.now(UTC).date() + timedelta(days=60),
        )  # fmt: skip
        made.append(to_service_request(order))
    return made


# -- what runs ---------------------------------------------------------------------------------------------------------


class Installation:
    """The service and the broker as a supervisor keeps them, with the simulated clock, and their database."""

    def __init__(self, data_dir: Path, clock: Path, workers: int) -> None:
        self.data_dir = data_dir
        self._workers = workers
        self.port, self.mqtt = _free_port(), _free_port()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CAREHUB_")},
            "CAREHUB_DATA_DIR": str(data_dir),
            "CAREHUB_SECRET": "simulated-" + "0123456789abcdef" * 3,
            "SIMULATED_CLOCK": str(clock),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watching: asyncio.Task[None] | None = None
        self.killed: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Installation"]:
        self._start("service")
        self._start("broker")
        self._watching = asyncio.create_task(self._supervise())
        try:
            await self.well()
            yield self
        finally:
            self._watching.cancel()
            for process in reversed(self._processes.values()):
                process.send_signal(signal.SIGTERM)
            for process in self._processes.values():
                await asyncio.to_thread(process.wait, 60)

    def _start(self, name: str) -> None:
        said = ["serve", "--port", str(self.port), "--workers", str(self._workers)]
        if name == "broker":
            said = ["broker", "--port", str(self.mqtt), "--room", "64"]
        command = [sys.executable, str(Path(__file__).parent / "clockwork.py"), *said]
        self._processes[name] = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def _supervise(self) -> None:
        while True:
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self._start(name)
            await asyncio.sleep(0.05)

    def kill(self, name: str) -> None:
        """End it as a fault does, without a word."""
        self.killed[name] += 1
        if name == "postgresql":
            victim = embedded.running(self.data_dir.absolute() / "postgres")
        elif name == "nats":
            victim = next(iter(_children(self._processes["broker"].pid)), None)
        else:
            victim = self._processes[name].pid
        assert victim is not None, name
        os.kill(victim, signal.SIGKILL)

    async def well(self) -> None:
        """Until both answer. Raises TimeoutError when one does not come back."""
        async with asyncio.timeout(240), httpx.AsyncClient(timeout=10) as client:
            while True:
                with contextlib.suppress(httpx.TransportError, OSError):
                    answer = await client.get(f"http://127.0.0.1:{self.port}/health")
                    _, writer = await asyncio.open_connection("127.0.0.1", self.mqtt)
                    writer.close()
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- devices -----------------------------------------------------------------------------------------------------------


class Sender:
    """One device: it sends what it has, one after the other, until it is told that it arrived."""

    def __init__(self, instrument: Instrument, place: Installation, client: httpx.AsyncClient) -> None:
        self._instrument = instrument
        self._place = place
        self._client = client
        self._waiting: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.attempts = 0

    def put(self, message: Message) -> None:
        self._waiting.append(message)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._task

    async def _work(self) -> None:
        while self._waiting:
            message = self._waiting[0]
            self.attempts += 1
            try:
                async with asyncio.timeout(40):
                    status = await (self._publish(message) if self._instrument.mqtt else self._post(message))
            except (httpx.TransportError, OSError, EOFError, TimeoutError):
                status = None
            if status is None:
                self._hang_up()
                await asyncio.sleep(0.3)
                continue
            message.status = status
            self._waiting.popleft()
        self._hang_up()

    async def _post(self, message: Message) -> int | None:
        headers = {"authorization": f"Bearer {self._instrument.key}", "content-type": "application/fhir+json"}
        answer = await self._client.post("/fhir/Observation", headers=headers, content=message.body)
        return None if answer.status_code >= 500 or answer.status_code == 429 else answer.status_code

    async def _publish(self, message: Message) -> int | None:
        """MQTT 3.1.1, QoS 1: 201 once the broker has acknowledged it."""
        if self._line is None:
            self._line = await asyncio.open_connection("127.0.0.1", self._place.mqtt)
            name = _text(self._instrument.id)
            head = _text("MQTT") + bytes([4, 0xC2, 0, 60])
            self._line[1].write(_packet(0x10, head + name + name + _text(self._instrument.key)))
            kind, body = await _read(self._line[0])
            if kind != 0x20 or body[1] != 0:
                return None
        topic = _text(f"carehub/{self._instrument.id}/readings")
        self._line[1].write(_packet(0x32, topic + b"\0\1" + message.body))
        kind, _ = await _read(self._line[0])
        return 201 if kind == 0x40 else None

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line[1].close()
            self._line = None


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = size >> 7, size & 127
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, length = await reader.readexactly(2)
    return kind, await reader.readexactly(length)  # what a broker says here is short


# -- the day -----------------------------------------------------------------------------------------------------------


@dataclass
class Left:
    """What a day left behind."""

    readings: list[tuple[Any, ...]]
    flags: list[tuple[Any, ...]]
    moves: list[tuple[str, list[JSON]]]
    told_twice: list[tuple[Any, ...]]
    overdue: int
    statuses: Counter[int]
    attempts: int
    messages: int
    killed: Counter[str]
    failures: int

    @property
    def taken(self) -> int:
        """Messages that were acknowledged, as new or as known."""
        return self.statuses[200] + self.statuses[201]

    @property
    def words(self) -> str:
        said = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.statuses.items()))
        killed = ", ".join(f"{name} {count} x" for name, count in self.killed.items()) or "nothing"
        alerts = sum(row[4] for row in self.flags)
        escalated = sum(move["to"] == "escalated" for _, moves in self.moves for move in moves)
        return (
            f"{self.messages:,} messages ({said}) in {self.attempts:,} attempts, {len(self.readings):,} readings,"
            f" {alerts:,} flags, {escalated:,} escalations; killed: {killed}"
        )


async def live(day: Day, data_dir: Path, kills: dict[float, str]) -> Left:
    """The day, with each of *kills* (hour: what is killed), and what it left."""
    victims = {day.at(hours): name for hours, name in kills.items()}
    swap, staff = day.at(SWAP), day.at(ROUND)
    path = data_dir / "clock"
    clock = Clock(path, day.start)
    place = Installation(data_dir, path, 1 if len(day.people) < 100 else 2)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    sent: list[Message] = []
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{place.port}", timeout=40, limits=limits) as client,
        place.running(),
    ):
        senders = {one.id: Sender(one, place, client) for one in day.instruments.values()}
        broken: asyncio.Task[None] | None = None
        away = timedelta(0)
        for tick in range(day.ticks):
            now = day.start + tick * day.tick
            clock.set(now)
            if tick in (swap, staff):
                await _arrived(senders, place, sent)
                await (_swap(day, place, now) if tick == swap else _round(place, now))
            for planned in day.due[tick]:
                message = Message(planned.device, planned.body, planned.at, planned.again)
                sent.append(message)
                senders[message.device].put(message)
            if tick in victims:
                place.kill(victims[tick])
                broken, away = asyncio.create_task(_mended(place)), timedelta(0)
            if broken is not None and not broken.done() and away < AWAY:
                away += day.tick
                await asyncio.sleep(0.2)  # the day goes on while something is down
            else:
                if broken is not None:
                    await broken
                await _answered(senders)
                await _nothing_due(place, now)
        await _arrived(senders, place, sent)
        for step in range(DRAIN):
            now += STEP
            clock.set(now)
            if kills and step == 3:
                place.kill("service")
                await place.well()
            await _nothing_due(place, now)
        attempts = sum(one.attempts for one in senders.values())
        return await _left(place, now, sent, attempts)


async def _mended(place: Installation) -> None:
    await asyncio.sleep(0.3)
    await place.well()


async def _answered(senders: dict[str, Sender]) -> None:
    tasks = [one.task for one in senders.values() if one.task is not None and not one.task.done()]
    if tasks:
        await asyncio.wait(tasks, timeout=300)


async def _arrived(senders: dict[str, Sender], place: Installation, sent: list[Message]) -> None:
    """Until everything that was sent is told, and in the record as well: what MQTT acknowledged may still wait."""
    async with asyncio.timeout(600):
        while any(message.status is None for message in sent):
            await _answered(senders)
            await asyncio.sleep(0.02)
        while await _missing(place, sent):  # noqa: ASYNC110 -- it happens in other processes
            await asyncio.sleep(0.1)


async def _missing(place: Installation, sent: list[Message]) -> int:
    """How many messages that were acknowledged are neither stored nor refused."""
    wanted = {(one.device, one.at.replace(microsecond=0)) for one in sent if one.status in (200, 201)}
    rows = await _rows(place, "SELECT device_id, at FROM reading UNION SELECT device_id, NULL FROM refusal")
    refused = {device for device, at in rows if at is None}
    there = {(device, at) for device, at in rows if at is not None}
    return sum(one not in there and one[0] not in refused for one in wanted)


async def _swap(day: Day, place: Installation, now: datetime) -> None:
    """Scales change hands, as staff writes it down."""
    for one, other in day.swaps:
        first, second = (day.instruments[id_].holder for id_ in (one, other))
        for id_, person in ((one, second), (other, first)):
            async with _database(place) as database, database.transaction() as tx:
                await devices.assign(tx, OPERATOR, id_, person, "taken by mistake", now=now)


async def _round(place: Installation, now: datetime) -> None:
    """Staff answers what is open: a third is resolved, a third acknowledged, the rest left."""
    rows = await _rows(
        place, "SELECT id, patient_id || rule FROM flag WHERE state IN ('open', 'escalated') ORDER BY patient_id, rule"
    )
    for id_, name in rows:
        turn = sum(name.encode()) % 3
        if turn == 2:
            continue
        async with _database(place) as database, database.transaction() as tx:
            stored = (await store.load(tx.pg, [("Flag", id_)]))["Flag", id_]
            assert stored.resource is not None
            to, code = (("resolved", "phone-call"), ("acknowledged", None))[turn]
            moved = answers.moved(stored.resource, to, "Seen on the round", code)
            await flows.write(tx, IMPORTER, [Change("update", "Flag", id_, moved)], now)


async def _nothing_due(place: Installation, now: datetime) -> None:
    async with asyncio.timeout(200):
        while (await _rows(place, "SELECT count(*) FROM flag WHERE due <= %s", now))[0][0]:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.03)


async def _left(place: Installation, now: datetime, sent: list[Message], attempts: int) -> Left:
    return Left(
        readings=await _rows(
            place, "SELECT device_id, measure, at, patient_id, value, quality FROM reading ORDER BY 1, 2, 3, 4"
        ),
        flags=await _rows(
            place,
            "SELECT patient_id, rule, rule_version, max(severity), count(*), array_agg(coalesce(outcome, state)"
            " ORDER BY coalesce(outcome, state)) FROM flag GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        ),
        moves=await _rows(place, "SELECT id, moves FROM flag ORDER BY id"),
        told_twice=await _rows(
            place,
            "SELECT recipient, link, text, at, count(*) FROM notice WHERE kind = 'flag-escalated'"
            " GROUP BY 1, 2, 3, 4 HAVING count(*) > 1",
        ),
        overdue=(await _rows(place, "SELECT count(*) FROM flag WHERE due <= %s", now))[0][0],
        statuses=Counter(one.status or 0 for one in sent),
        attempts=attempts,
        messages=len(sent),
        killed=place.killed,
        failures=(await _rows(place, "SELECT count(*) FROM flag WHERE rule LIKE 'failed-%%'"))[0][0],
    )


@asynccontextmanager
async def _database(place: Installation) -> AsyncIterator[Database]:
    with _server(place) as url:
        database = Database(url, pool_size=1)
        try:
            yield database
        finally:
            await database.close()


async def _rows(place: Installation, query: str, *params: Any) -> list[tuple[Any, ...]]:
    """Asked again while the database is away."""
    async with asyncio.timeout(200):
        while True:
            try:
                with _server(place) as url:
                    async with await psycopg.AsyncConnection.connect(url, options="-c timezone=UTC") as connection:
                        return await (await connection.execute(query, params)).fetchall()
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)


@contextmanager
def _server(place: Installation) -> Iterator[str]:
    yield embedded._url(place.data_dir.absolute() / "postgres", embedded.DATABASE)


async def twice(
    people: int,
    tick: timedelta,
    kills: dict[float, str],
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Left, Left]:
    """The same day without and with faults, each on a copy of the same population."""
    begun = time.monotonic()

    def told(what: str) -> None:
        say(f"{time.monotonic() - begun:6.1f} s  {what}")

    # A Tuesday, so that the hub is open on the day and on the next.
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = Day(people, today - timedelta(days=(today.weekday() - 1) % 7 + 7), tick)
    await populate(day, folder / "calm")
    told(f"{len(day.people):,} people with {len(day.instruments):,} devices")
    # Owners and all: PostgreSQL's files belong to its own user.
    await asyncio.to_thread(subprocess.run, ["cp", "-a", folder / "calm", folder / "rough"], check=True)
    calm = await live(day, folder / "calm", {})
    told(f"a calm day: {calm.words}")
    shutil.rmtree(folder / "calm", ignore_errors=True)
    rough = await live(day, folder / "rough", kills)
    told(f"a day of faults: {rough.words}")
    return calm, rough
