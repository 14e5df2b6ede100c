"""Makes a population of synthetic people as NDJSON: a file per type, numbered in the order of loading.

The same size, seed, days (or readings) and moment give the same bytes.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from gzip import GzipFile
from pathlib import Path
from random import Random
from typing import BinaryIO

import msgspec

from hub.demonstration import definitions, nhs_numbers, past, people, readings, resources, staff, vitals
from hub.demonstration.codes import JSON
from hub.demonstration.people import Mix, Person
from hub.demonstration.staff import Staff

ORDER = (
    "Organization", "Practitioner", "PractitionerRole", "Patient", "RelatedPerson", "Condition", "Consent", "CareTeam",
    "Goal", "CarePlan", "ServiceRequest", "Device", "Encounter", "Task", "Observation", "PlanDefinition",
    "Questionnaire", "QuestionnaireResponse",
)  # fmt: skip

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: resources by type, and the files in the order of loading."""

    counts: dict[str, int]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A population: *size* people, *days* of readings before *as_of* (aware), or *readings* of them in all; the first
    *long* people, where they measure, have a year of them, with notes."""

    size: int
    as_of: datetime
    seed: int = 1
    days: int = 30
    readings: int | None = None
    long: int = 0

    def staff(self) -> Staff:
        mix = Mix.of(self.size)
        return Staff(mix.complex, mix.complex + mix.enhanced, Random(self.seed))  # noqa: S311  nobody's secret

    def people(self, workers: Staff) -> Iterator[tuple[Person, Random]]:
        """Everyone, each with the chance that their records and readings are drawn from."""
        numbers = nhs_numbers.numbers(self.seed)
        return people.everyone(Mix.of(self.size), numbers, workers, self.as_of, self.seed)


def lines(recipe: Recipe) -> Iterator[tuple[str, list[str]]]:
    """(type, JSON of some resources) of the whole population, person by person."""

    def encode(resource: JSON) -> str:
        return msgspec.json.encode(resource).decode()

    workers = recipe.staff()
    for resource in (*staff.organisations(), *staff.practitioners(workers), *staff.practitioner_roles(workers)):
        yield resource["resourceType"], [encode(resource)]
    for resource in definitions.definitions():
        yield resource["resourceType"], [encode(resource)]
    remaining = recipe.readings or 0
    measuring = sum(1 for person, _ in recipe.people(workers) if person.profile) if recipe.readings else 0
    for person, rng in recipe.people(workers):
        for resource in resources.resources(person, workers, recipe.as_of, rng):
            yield resource["resourceType"], [encode(resource)]
        for resource in definitions.answers(person, recipe.as_of):
            yield resource["resourceType"], [encode(resource)]
        profile = person.profile
        if profile is None:
            continue
        if recipe.readings is None:
            history = vitals.history(profile, recipe.as_of, recipe.days * profile.per_day, rng)
            yield "Observation", readings.lines(person, history)
            if person.number <= recipe.long:
                yield "Observation", list(past.lines(person, recipe.as_of, recipe.days))
            continue
        # What is left is shared evenly by those who are left, so that the sum comes out exactly.
        share = -(-remaining // measuring)
        measuring -= 1
        wanted = round(share * 1.25) + 5 * profile.per_day
        found = list(vitals.history(profile, recipe.as_of, wanted, rng))[-share:] if share else []
        remaining -= len(found)
        if found:
            yield "Observation", readings.lines(person, found)


def write(recipe: Recipe, folder: Path, zipped: bool = False, progress: Progress | None = None) -> Made:
    """Write the population into *folder* (made when missing). *progress* hears of each person as they are done."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".ndjson.gz" if zipped else ".ndjson"
    paths = {name: folder / f"{number:02d}-{name}{suffix}" for number, name in enumerate(ORDER, 1)}
    counts = dict.fromkeys(ORDER, 0)
    with ExitStack() as stack:
        files = {name: _open(stack, path, zipped) for name, path in paths.items()}
        for name, found in lines(recipe):
            files[name].write(("\n".join(found) + "\n").encode())
            counts[name] += len(found)
            if progress and name == "Patient":
                progress(1)
    return Made(counts, tuple(paths.values()))


def _open(stack: ExitStack, path: Path, zipped: bool) -> BinaryIO | GzipFile:
    raw = stack.enter_context(path.open("wb", buffering=1 << 20))
    if not zipped:
        return raw
    # Without name and time in its header the same content gives the same bytes.
    return stack.enter_context(GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3, mtime=0))
