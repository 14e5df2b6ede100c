"""The year before: for a few people a long history, a sensor's readings, notes, and a reading that was wrong.

So that charts of a year have something to tell. Numbers are for demonstration.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import msgspec

from care_plans.shapes import LOINC
from hub.demonstration import readings, vitals
from hub.demonstration.codes import JSON, SYNTHETIC, UCUM
from hub.demonstration.people import Person
from hub.demonstration.resources import device_id
from hub.demonstration.vitals import LONDON, Measured, Profile
from monitoring.annotations import to_observation
from monitoring.measures import MEASURES

MONTH = timedelta(days=30)
MONTHS = 12
SENSOR_DAYS = 15
EVERY = timedelta(minutes=15)

NOTES = (
    (250, "Started the new blood pressure tablets.", True),
    (148, "Two weeks at my sister's. I did not take the cuff.", False),
    (62, "Dose put up after the clinic.", True),
    (17, "A heavy cold since Monday.", False),
)
"""(days ago, text, whether staff wrote it)"""

AWAY = range(134, 149)
"""Days ago without any reading: they were at their sister's."""


def lines(person: Person, as_of: datetime, days: int) -> Iterator[str]:
    """Observations as JSON: of the time before the last *days* days, and what stands beside all of the readings."""
    profile = person.profile
    if profile is None:
        return
    rng = Random(f"past {person.number}")  # noqa: S311  nobody's secret
    yield from readings.lines(person, _older(profile, as_of, days, rng))
    if "glucose" in profile.kinds:
        yield from (_encoded(one) for one in _sensor(person, as_of, rng))
    yield from (_encoded(one) for one in _notes(person, as_of))
    yield _encoded(_wrong(person, as_of))


def _older(profile: Profile, as_of: datetime, days: int, rng: Random) -> Iterator[Measured]:
    """Mornings alone, month by month: blood pressure that came down, weight that went up."""
    for month in range(MONTHS - 1, 0, -1):
        until = as_of - month * MONTH
        then = replace(
            profile,
            systolic=profile.systolic + round(2.2 * month),
            diastolic=profile.diastolic + month,
            weight=profile.weight - 0.25 * month,
            rounds=profile.rounds[:1],
            trouble=None,
        )
        first = (until - MONTH).astimezone(LONDON).date().isoformat()
        latest = (as_of - timedelta(days=days + 1)).astimezone(LONDON).date().isoformat()
        for one in vitals.history(then, until, 31 * then.per_day, rng):
            day = one.at[:10]
            away = (as_of.date() - datetime.fromisoformat(one.at).date()).days in AWAY
            if first < day <= latest and day <= until.astimezone(LONDON).date().isoformat() and not away:
                yield one


def _sensor(person: Person, as_of: datetime, rng: Random) -> Iterator[JSON]:
    """Glucose every quarter of an hour: meals that raise it, some nights in which it falls too low."""
    measure, drift = MEASURES["glucose-sensor"], 0.0
    start = as_of - timedelta(days=SENSOR_DAYS)
    for number in range(int(timedelta(days=SENSOR_DAYS) / EVERY)):
        at = (start + number * EVERY).astimezone(LONDON)
        left = (as_of - at) / timedelta(days=1)
        hour = at.hour + at.minute / 60
        if 9.0 < left < 9.6:
            continue  # the sensor was changed
        drift = 0.93 * drift + rng.gauss(0, 0.25)
        meals = sum(3.6 * math.exp(-(((hour - meal) / 1.1) ** 2)) for meal in (8.7, 13.6, 19.2))
        night = -2.9 * math.exp(-(((hour - 3.2) / 1.5) ** 2)) if int(left) in (4, 8, 11) else 0.0
        value = max(2.6, 6.1 + meals + drift + night)
        yield _observation(person, f"sensor-{number:05d}", at) | {
            "device": {"reference": f"Device/{device_id(person, 'glucose')}"},
            "code": {"coding": [{**measure.coding}], "text": measure.name},
            "valueQuantity": {"value": round(value, 1), "unit": measure.shown, "system": UCUM, "code": measure.unit},
        }


def _notes(person: Person, as_of: datetime) -> Iterator[JSON]:
    staff = person.coordinator or person.gp
    for number, (ago, text, by_staff) in enumerate(NOTES):
        reference, name = (staff.reference, staff.title) if by_staff else (person.reference, person.name)
        at = (as_of - timedelta(days=ago)).astimezone(LONDON)
        made = to_observation(person.id, at, text, reference, name)
        yield {**made, "id": f"note-{person.number:06d}-{number}", "meta": SYNTHETIC}


def _wrong(person: Person, as_of: datetime) -> JSON:
    """A pulse that the person typed, and took back."""
    at = (as_of - timedelta(days=5, hours=2)).astimezone(LONDON)
    measure, by = MEASURES["pulse"], {"reference": person.reference}
    why = {"authorReference": by, "time": (at + timedelta(hours=1)).isoformat(timespec="seconds")}
    return _observation(person, "wrong", at) | {
        "status": "entered-in-error",
        "performer": [by],
        "code": {"coding": [{"system": LOINC, "code": measure.loinc}]},
        "valueQuantity": {"value": 172, "unit": measure.shown, "system": UCUM, "code": measure.unit},
        "note": [{**why, "text": "I read the upper blood pressure number."}],
    }


def _observation(person: Person, name: str, at: datetime) -> JSON:
    return {
        "resourceType": "Observation",
        "id": f"{name}-{person.number:06d}",
        "meta": SYNTHETIC,
        "status": "final",
        "category": [readings.VITAL_SIGNS],
        "subject": {"reference": person.reference},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
    }


def _encoded(resource: JSON) -> str:
    return msgspec.json.encode(resource).decode()
