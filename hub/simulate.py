"""Devices posting a plausible day over HTTP: everyone's own numbers, and some people getting worse.

The day's plan is made before anything is sent and depends on the seed alone. A reading carries the moment at which it
is sent; a reading that got no answer is sent again as it was, which the service takes for the same reading.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from time import monotonic
from typing import Any

import httpx
import msgspec

from hub import accounts
from hub.db import Database
from hub.demonstration import readings, vitals
from hub.demonstration.vitals import Kind, Profile, Trouble

LABEL = "simulation"
KEYS_LAST = timedelta(days=7)

# Patience with a service that is down or busy: a device keeps its readings and tries again.
LONGEST_WAIT = 15.0
# Seconds that answers are waited for after the time is over.
LAST_ANSWERS = 10.0
CONNECTIONS = 32

TROUBLES: tuple[Trouble, ...] = ("hypoxia", "infection", "fluid", "hypo")
NEEDED: dict[Trouble, Kind] = {"hypoxia": "spo2", "infection": "temperature", "fluid": "weight", "hypo": "glucose"}
WORSENING_EVERY = 14

# measure -> the field of a Profile that its usual value fills
_USUAL = {
    "systolic": "systolic",
    "diastolic": "diastolic",
    "pulse": "pulse",
    "spo2": "spo2",
    "respiratory-rate": "respiration",
    "temperature": "temperature",
    "weight": "weight",
    "glucose": "glucose",
}
_KIND_OF: dict[str, Kind] = {
    "systolic": "blood-pressure",
    "pulse": "pulse",
    "spo2": "spo2",
    "respiratory-rate": "respiratory-rate",
    "temperature": "temperature",
    "consciousness": "consciousness",
    "weight": "weight",
    "glucose": "glucose",
}
# A body that nobody has measured yet.
_UNKNOWN = Profile(0, 128, 74, 72, 97, 16, 36.6, 78.0, 6.4, False, (), None)

# Minutes of the day at which each kind is measured.
_TIMES: dict[Kind, tuple[int, ...]] = {
    "blood-pressure": (465, 1110),
    "pulse": (466, 905, 1111),
    "spo2": (468, 904, 1113),
    "respiratory-rate": (470, 1115),
    "temperature": (471, 1116),
    "consciousness": (472, 1117),
    "weight": (440,),
    "glucose": (450, 750, 1080),
}


@dataclass(frozen=True, slots=True)
class Kit:
    """A device, its key, who holds it and what it measures of them."""

    device: str
    key: str
    patient: str
    kinds: tuple[Kind, ...]
    usual: Profile


@dataclass(frozen=True, slots=True)
class Event:
    """One reading of the plan, *minute* into the day."""

    minute: float
    kit: Kit
    kind: Kind
    values: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What became of the readings: by HTTP status, how often one was sent again, and the slowest answers."""

    sent: int = 0
    resent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))

    @property
    def unanswered(self) -> int:
        """Readings that no answer had come to when the simulation ended."""
        return self.sent - self.statuses.total()

    @property
    def accepted(self) -> int:
        return sum(number for status, number in self.statuses.items() if status < 300)

    def percentile(self, share: float) -> float:
        """Seconds within which *share* (0 to 1) of the answers came; 0 when there was none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


_HOLDERS = """
SELECT d.id, d.patient_id, r.measure, percentile_disc(0.5) WITHIN GROUP (ORDER BY r.value),
       mode() WITHIN GROUP (ORDER BY r.word)
FROM (SELECT device.id, device.patient_id FROM device JOIN person USING (patient_id)
      WHERE device.status = 'active' AND (person.synthetic OR device.sandbox)
        AND device.model IS DISTINCT FROM 'Demonstration'
        AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.patient_id = person.patient_id
                        AND pause.since <= now() AND pause.until > now())
      ORDER BY device.id LIMIT %s) d
LEFT JOIN reading r ON r.device_id = d.id AND r.quality = 'ok' AND r.at > now() - interval '30 days'
GROUP BY d.id, d.patient_id, r.measure ORDER BY d.id
"""


async def kits(database: Database, limit: int) -> list[Kit]:
    """Give the first *limit* devices a key for this simulation, ending those of earlier ones.

    Only devices of synthetic people and sandbox devices take part: nobody real gets readings that nobody took. Those
    that a demonstration staged stay as they are (`hub.demonstration.fleet`), and who is paused sends nothing.
    What a person's devices usually read is the median of the last 30 days. A device that never measured anything
    is taken for a blood pressure cuff.
    """
    async with database.transaction() as tx:
        await tx.pg.execute(
            "UPDATE credential SET revoked = now() WHERE kind = 'device' AND label = %s AND revoked IS NULL", (LABEL,)
        )
        rows = await (await tx.pg.execute(_HOLDERS, (limit,))).fetchall()
        keys = {
            device: await accounts.issue_device_key(tx, device, LABEL, KEYS_LAST)
            for device in dict.fromkeys(row[0] for row in rows)
        }
    usual: dict[str, Profile] = {}
    measures: dict[tuple[str, str], list[str]] = {}
    for device, patient, measure, median, word in rows:
        profile = usual.setdefault(patient, _UNKNOWN)
        measures.setdefault((device, patient), []).append(measure)
        if measure in _USUAL and median is not None:
            usual[patient] = replace(profile, **{_USUAL[measure]: median})
        elif measure == "oxygen" and word == "oxygen":
            usual[patient] = replace(profile, on_oxygen=True)
    return [
        Kit(
            device,
            keys[device],
            patient,
            tuple(_KIND_OF[one] for one in found if one in _KIND_OF) or ("blood-pressure",),
            usual[patient],
        )
        for (device, patient), found in measures.items()
    ]


def day(kits: Sequence[Kit], seed: int, number: int = 1) -> list[Event]:
    """Everything that is measured on the *number*th day of a simulation, in order."""
    rng = Random(seed * 10_007 + number)  # noqa: S311  nobody's secret hangs on it
    troubles = _troubles(kits, seed)
    late = {patient: rng.randrange(-25, 26) for patient in sorted({kit.patient for kit in kits})}
    events = []
    for kit in kits:
        trouble = troubles.get(kit.patient)
        body = replace(kit.usual, trouble=trouble)
        for kind in kit.kinds:
            for minute in _TIMES[kind]:
                at = minute + late[kit.patient] + rng.random()
                # From well in the morning to the worst in the evening.
                ill = 0.0 if trouble is None else min(1.0, max(0.0, (at - 480) / 600))
                events.append(Event(at, kit, kind, vitals.measure(body, kind, at / 60, ill, rng)))
    return sorted(events, key=lambda event: (event.minute, event.kit.device, event.kind))


def _troubles(kits: Sequence[Kit], seed: int) -> dict[str, Trouble]:
    """Who gets worse, and how: one person in fourteen, at least one, the same on every day."""
    rng = Random(seed)  # noqa: S311  nobody's secret hangs on it
    measures: dict[str, set[Kind]] = {}
    for kit in kits:
        measures.setdefault(kit.patient, set()).update(kit.kinds)
    people = sorted(measures)
    rng.shuffle(people)
    chosen: dict[str, Trouble] = {}
    wanted = max(1, len(people) // WORSENING_EVERY)
    for patient in people:
        fitting = [trouble for trouble in TROUBLES if NEEDED[trouble] in measures[patient]]
        if fitting and len(chosen) < wanted:
            chosen[patient] = fitting[len(chosen) % len(fitting)]
    return chosen


def days(kits: Sequence[Kit], seed: int) -> Iterator[tuple[float, Event]]:
    """(minutes since the first reading, event), one day after another, without the nights between them."""
    started = 0.0
    for number in count(1):
        events = day(kits, seed, number)
        if not events:
            return
        first = events[0].minute
        for event in events:
            yield started + event.minute - first, event
        started += events[-1].minute - first + 30


def body_of(event: Event, at: datetime) -> bytes:
    """The Observation that a device posts."""
    text = readings.template(event.kind, f"Patient/{event.kit.patient}", event.kit.device, event.kit.usual.on_oxygen)
    moment = at.astimezone(vitals.LONDON).isoformat(timespec="milliseconds")
    return (text % ("", moment, *readings.values_of(event.kind, event.values))).encode()


async def run(
    client: httpx.AsyncClient,
    plan: Iterator[tuple[float, Event]],
    tally: Tally,
    *,
    speed: float = 60.0,
    rate: float | None = None,
    duration: float | None = None,
    told: Callable[[Event, int], None] | None = None,
) -> None:
    """Post the readings of *plan* to the service behind *client* until it ends or *duration* seconds have passed.

    *speed* is how many minutes of the plan pass in one; *rate*, when given, how many readings are sent a second
    instead. *told* hears of each answer. A refusal is counted with its reason and not sent again.
    """
    free = asyncio.Semaphore(CONNECTIONS)
    under_way: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    async def post(event: Event) -> None:
        try:
            status = await _post(client, event, tally)
            if told:
                told(event, status)
        finally:
            free.release()

    def ended(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)

    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                async for event in _paced(plan, speed, rate):
                    await free.acquire()
                    task = asyncio.create_task(post(event))
                    under_way.add(task)
                    task.add_done_callback(ended)
        if under_way:
            await asyncio.wait(under_way, timeout=None if duration is None else LAST_ANSWERS)
    finally:
        for task in under_way:
            task.cancel()
    if failed:
        raise failed[0]


async def _paced(plan: Iterator[tuple[float, Event]], speed: float, rate: float | None) -> AsyncIterator[Event]:
    begun = monotonic()
    for number, (minutes, event) in enumerate(plan):
        due = begun + (number / rate if rate else minutes * 60 / speed)
        await asyncio.sleep(max(0.0, due - monotonic()))
        yield event


async def _post(client: httpx.AsyncClient, event: Event, tally: Tally) -> int:
    content = body_of(event, datetime.now(UTC))
    headers = {"Authorization": f"Bearer {event.kit.key}", "Content-Type": "application/fhir+json"}
    tally.sent += 1
    wait = 0.2
    while True:
        begun = monotonic()
        try:
            response = await client.post("/fhir/Observation", content=content, headers=headers)
        except httpx.TransportError:
            response = None
        if response is not None and response.status_code < 500 and response.status_code != 429:
            tally.seconds.append(monotonic() - begun)
            tally.statuses[response.status_code] += 1
            if response.status_code >= 300:
                tally.reasons[_reason(response)] += 1
            return response.status_code
        tally.resent += 1
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT, wait * 2)


def _reason(response: httpx.Response) -> str:
    try:
        issue: dict[str, Any] = response.json()["issue"][0]
        return f"{response.status_code} {issue.get('code')}: {issue.get('diagnostics')}"
    except (ValueError, LookupError, TypeError):
        return str(response.status_code)


def as_json(kit: Kit) -> dict[str, Any]:
    """A kit for a key file: it holds the device's secret."""
    found: dict[str, Any] = msgspec.to_builtins(kit)
    return found


def from_json(found: dict[str, Any]) -> Kit:
    return msgspec.convert(found, Kit, strict=False)
