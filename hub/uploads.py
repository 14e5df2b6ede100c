"""A file of readings that a person brings: what is in it, what is stored already, and what is written of it.

Each reading has an id made of person, measure, time and meter, so that a file that comes again, or a longer export of
the same meter, adds what is new and nothing twice. What was stored under an id stays as it is: a reading that was
struck through is not brought back by a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from fhir import store, wire
from fhir.outcome import Issue, Refusal
from fhir.store import Change
from fhir.validation import parse
from hub import flows, intake
from hub.db import Database, Tx
from hub.identity import Actor
from monitoring.doubts import doubts
from monitoring.formats import csv_exports
from monitoring.measures import MEASURES
from monitoring.readings import Reading, digest, readings

JSON = dict[str, Any]

LARGEST = 4 * 1024**2
"""Bytes of a file: ten years of a meter, a quarter of a year of a sensor."""
AT_ONCE = 500
"""Readings of one transaction: a file is taken in parts, and a part that was taken is known when it comes again."""
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One reading of a file: where it stands, and what it is."""

    line: int
    text: str
    observation: JSON
    readings: Sequence[Reading]

    @property
    def id(self) -> str:
        return str(self.observation["id"])


@dataclass(frozen=True, slots=True)
class Sum:
    """What a file says of one measure."""

    name: str
    count: int
    first: datetime
    last: datetime
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What was understood of a file. `new` are to be written, `known` are stored already, `refused` are line, text and
    reason, `aside` what each line is that is no reading, `doubtful` how many of the new ones no rule looks at."""

    kind: str
    new: Sequence[Line]
    known: int
    refused: Sequence[tuple[int, str, Refusal]]
    aside: Sequence[tuple[int, str]]
    doubtful: int

    @property
    def sums(self) -> list[Sum]:
        return list(_sums(self.new))


async def understood(tx: Tx, patient_id: str, raw: bytes, now: datetime, synthetic: bool) -> Upload:
    """Look through a file for the person *patient_id*; nothing is written. Raises Refusal for a file that we do not
    know."""
    found = csv_exports.export(raw, f"Patient/{patient_id}")
    good: dict[str, Line] = {}
    refused: list[tuple[int, str, Refusal]] = []
    twice = 0
    for row in found.rows:
        if row.observation is None:
            assert row.refusal is not None
            refused.append((row.line, row.text, row.refusal))
            continue
        try:
            one = _line(row.line, row.text, row.observation, patient_id, now, synthetic)
        except Refusal as refusal:
            refused.append((row.line, row.text, refusal))
            continue
        before = good.setdefault(one.id, one)
        if before is not one:
            if digest(before.observation) == digest(one.observation):
                twice += 1
            else:
                refused.append((row.line, row.text, _other(f"line {before.line}")))
    stored = await store.load(tx.pg, [("Observation", id_) for id_ in good])
    new: list[Line] = []
    for one in good.values():
        there = stored.get(("Observation", one.id))
        if there is None:
            new.append(one)
        elif there.resource is not None and digest(there.resource) == digest(one.observation):
            twice += 1
        else:
            refused.append((one.line, one.text, _other("the record")))
    doubtful = sum(bool(doubts(one.observation, one.readings, now)) for one in new)
    return Upload(found.kind, new, twice, sorted(refused, key=lambda one: one[0]), found.aside, doubtful)


async def take(database: Database, actor: Actor, upload: Upload, now: datetime) -> int:
    """Write what is new, as *actor*, and file what was refused; how many were written. Raises what flows.write does."""
    for at in range(0, len(upload.new), AT_ONCE):
        async with database.transaction() as tx:
            part = upload.new[at : at + AT_ONCE]
            performer = [{"reference": actor.reference, "display": actor.name}]
            changes = [
                Change("update", "Observation", one.id, {**one.observation, "performer": performer}) for one in part
            ]
            await flows.write(tx, actor, changes, now)
    async with database.transaction() as tx:
        await intake.file_refusals(tx, [(actor, text.encode(), refusal) for _, text, refusal in upload.refused])
    return len(upload.new)


def _line(line: int, text: str, observation: JSON, patient_id: str, now: datetime, synthetic: bool) -> Line:
    made = parse(wire.encode({**observation, "id": _id(observation, patient_id)}), "Observation").resource
    return Line(line, text, made, readings(made, now, from_device=True, synthetic=synthetic))


def _id(observation: JSON, patient_id: str) -> str:
    at = datetime.fromisoformat(observation["effectiveDateTime"]).timestamp()
    code = observation["code"]["coding"][0]["code"]
    source = [one["value"] for one in observation.get("identifier", ())]
    parts = "\n".join((patient_id, code, str(at), *source))
    return blake2b(parts.encode(errors="surrogatepass"), digest_size=16, person=b"upload").hexdigest()


class _Other(Refusal):
    reason = "conflict"


def _other(where: str) -> Refusal:
    text = f"Another value stands in {where} for this measure and time, or it was struck through; that one stays."
    return _Other(409, [Issue("conflict", text, "value")])


def _sums(lines: Sequence[Line]) -> Iterator[Sum]:
    for key, measure in MEASURES.items():
        found = [one for line in lines for one in line.readings if one.measure == key]
        values = [one.value for one in found if one.value is not None]
        if values:
            times = [one.at for one in found]
            low, high = measure.show(min(values)), measure.show(max(values))
            yield Sum(measure.name, len(found), min(times), max(times), low, high)
