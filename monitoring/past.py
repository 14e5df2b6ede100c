"""What the engine was told of each person, in the order in which it was told: the stored past, ready to be replayed.

Everything that a rule sees of a person is written in turn (`flags.take_turns`) and bears a number of one sequence:
versions of resources their `seq`, readings the `seq` of the batch in which they were evaluated. So their order is the
order in which it happened, whatever clocks said.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from fhir.wire import decode
from monitoring.evaluation import LATE
from monitoring.flags import AUTHOR, Flag, from_fhir
from monitoring.kind import furthest_back
from monitoring.limits import Order, from_service_request
from monitoring.measures import MEASURES
from monitoring.pregnancy import PREGNANT, Pregnancy, from_condition
from monitoring.readings import Reading
from monitoring.rules import Rule

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one person that were evaluated together, at `received`."""

    seq: int
    received: datetime
    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class Ordered:
    """A ServiceRequest was written; `order` is None where it asks for no reading that we know, or was deleted."""

    seq: int
    id: str
    order: Order | None


@dataclass(frozen=True, slots=True)
class Born:
    """The record of the person was written."""

    seq: int
    birth_date: date | None


@dataclass(frozen=True, slots=True)
class Expecting:
    """A Condition of pregnancy was written; `pregnancy` is None once it ended or was deleted."""

    seq: int
    id: str
    pregnancy: Pregnancy | None


@dataclass(frozen=True, slots=True)
class Flagged:
    """A Flag was written; `flag` is None once it was deleted. `found`: because of readings, not by people, nor by time
    (`by_engine` alone). `first`: its first version."""

    seq: int
    at: datetime
    id: str
    flag: Flag | None
    found: bool = False
    first: bool = False
    by_engine: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """A reading that was evaluated was corrected, found wrong or deleted."""

    seq: int
    reading: Reading


Told = Ordered | Born | Expecting | Flagged | Gone


@dataclass(slots=True)
class Past:
    """One person's. Both lists in the order in which it happened."""

    patient_id: str
    batches: list[Batch] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


# -- how it is asked for -----------------------------------------------------------------------------------------------

READINGS = """
SELECT found.patient_id, seq, received, found.measure, at, value, word, quality, why, observation_id, until FROM (
    SELECT patient_id, seq, received, measure, at, value, word, quality, why, observation_id, NULL::bigint AS until
    FROM reading WHERE patient_id = ANY(%(people)s)
    UNION ALL
    SELECT patient_id, seq, received, measure, at, value, word, quality, why, observation_id, until
    FROM reading_replaced WHERE patient_id = ANY(%(people)s)
) AS found
JOIN unnest(%(measures)s::text[], %(since)s::timestamptz[]) AS wanted(measure, since)
    ON wanted.measure = found.measure AND found.at >= wanted.since
WHERE received < %(until)s
ORDER BY found.patient_id, seq"""
"""Rows of readings by person, in the order in which they were evaluated."""

VERSIONS = f"""
SELECT patient_id, type, id, version, seq, updated, author, body FROM resource_version
WHERE updated < %(until)s AND (
    (type IN ('Patient', 'Flag') AND patient_id = ANY(%(people)s))
    OR (type = 'ServiceRequest' AND id IN (SELECT id FROM resource_version
        WHERE type = 'ServiceRequest' AND patient_id = ANY(%(people)s)))
    OR (type = 'Condition' AND id IN (SELECT id FROM resource_version
        WHERE type = 'Condition' AND patient_id = ANY(%(people)s) AND body LIKE '%%{PREGNANT}%%')))
ORDER BY seq"""
"""Versions of what else the rules see, in the order in which they were written. What was moved from one person to
another is found by its id."""


def asked(people: Sequence[str], rules: Iterable[Rule], since: datetime, until: datetime) -> dict[str, Any]:
    """The parameters of both statements, to replay *rules* from *since* to *until*: of each measure as far back as one
    of them looks, and LATE more, since what is measured earlier may arrive later."""
    back = furthest_back(*(rule.needs for rule in rules))
    return {
        "people": list(people),
        "measures": list(MEASURES),
        "since": [since - LATE - back.get(measure, NO_TIME) for measure in MEASURES],
        "until": until,
    }


def pasts(readings: Iterable[Sequence[Any]], versions: Iterable[Sequence[Any]]) -> Iterator[Past]:
    """The past of each person with readings, one after another, of the rows of both statements."""
    told = _told(versions)
    for patient_id, rows in groupby(readings, key=_PATIENT):
        past = Past(patient_id, told=told.pop(patient_id, []))
        gone: list[Gone] = []
        for seq, together in groupby(rows, key=_SEQ):
            found: list[Reading] = []
            for row in together:
                _, _, received, measure, at, value, word, quality, why, observation_id, until = row
                reading = Reading(measure, at, value, word, "", quality, why, observation_id, patient_id)
                found.append(reading)
                if until is not None:
                    gone.append(Gone(until, reading))
            past.batches.append(Batch(seq, received, found))
        if gone:
            past.told = sorted([*past.told, *gone], key=_WHEN)
        yield past


NO_TIME = timedelta(0)
_PATIENT, _SEQ, _WHEN = itemgetter(0), itemgetter(1), attrgetter("seq")


def _told(rows: Iterable[Sequence[Any]]) -> dict[str, list[Told]]:
    told: dict[str, list[Told]] = defaultdict(list)
    whose: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    for patient_id, type_, id_, version, seq, at, author, body in rows:
        before = whose.get((type_, id_))
        whose[type_, id_] = patient_id
        resource = decode(body.encode()) if body is not None else None
        if before is not None and before != patient_id:
            told[before].append(_event(type_, id_, seq, at, None))
        event = _event(type_, id_, seq, at, resource)
        if isinstance(event, Flagged) and event.flag is not None:
            # A finding adds to the count of a flag; people and time do not.
            by_engine = author == AUTHOR
            found = by_engine and event.flag.count != counts.get(id_, 0)
            counts[id_] = event.flag.count
            event = replace(event, found=found, first=version == 1, by_engine=by_engine)
        told[patient_id].append(event)
    return told


def _event(type_: str, id_: str, seq: int, at: datetime, resource: JSON | None) -> Told:
    """What the version says to the rules; *resource* is None where it was deleted, or moved to somebody else."""
    match type_:
        case "ServiceRequest":
            return Ordered(seq, id_, from_service_request(resource) if resource else None)
        case "Condition":
            return Expecting(seq, id_, from_condition(resource) if resource else None)
        case "Flag":
            return Flagged(seq, at, id_, from_fhir(resource, 0) if resource else None)
        case _:
            day = (resource or {}).get("birthDate", "")
            return Born(seq, date.fromisoformat(day) if len(day) == 10 else None)
