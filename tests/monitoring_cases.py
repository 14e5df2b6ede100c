"""Short ways to write Observations, readings and cases in the tests of monitoring."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from monitoring import evaluation
from monitoring.case import Case, Facts
from monitoring.flags import Flag
from monitoring.limits import Limits, Order
from monitoring.measures import LOINC, MEASURES, SNOMED, UCUM
from monitoring.moves import move
from monitoring.outcomes import OUTCOMES
from monitoring.readings import Reading

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

JSON = dict[str, Any]

_numbers = count(1)


def coding(system: str, code: str) -> JSON:
    return {"coding": [{"system": system, "code": code}]}


def quantity(value: float | Decimal, unit: str) -> JSON:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def observation(
    code: str, value: JSON | None = None, system: str = LOINC, at: str = "2026-11-21T11:30:00Z", **more: Any
) -> JSON:
    """An Observation of one LOINC code with a quantity."""
    resource: JSON = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": coding(system, code),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": at,
        **more,
    }
    if value is not None:
        resource["valueQuantity"] = value
    return resource


def blood_pressure(upper: float, lower: float | None, **more: Any) -> JSON:
    parts: list[JSON] = [{"code": coding(LOINC, "8480-6"), "valueQuantity": quantity(upper, "mm[Hg]")}]
    if lower is not None:
        parts.append({"code": coding(LOINC, "8462-4"), "valueQuantity": quantity(lower, "mm[Hg]")})
    return observation("85354-9", component=parts, **more)


def answer(code: str) -> JSON:
    return coding(SNOMED, code)


def reading(measure: str, value: float | str, ago: timedelta = timedelta(minutes=5), id: str | None = None) -> Reading:
    """A good reading taken *ago* before NOW."""
    number, word = (None, value) if isinstance(value, str) else (float(value), None)
    assert measure in MEASURES
    return Reading(
        measure,
        NOW - ago,
        number,
        word,
        given=str(value),
        observation_id=id or f"o{next(_numbers)}",
        patient_id="p1",
    )


def case(
    *new: Reading,
    earlier: Sequence[Reading] = (),
    limits: dict[str, Limits] | None = None,
    scale: int | None = None,
    facts: Facts | None = None,
) -> Case:
    """The case of a person who sent *new* just now."""
    orders = {
        measure: Order("s1", "p1", measure, found, None, None, "Practitioner/g", "agreed", NOW.date())
        for measure, found in (limits or {}).items()
    }
    if scale is not None:
        spo2 = orders.get("spo2")
        own = spo2.limits if spo2 else Limits()
        orders["spo2"] = Order("s2", "p1", "spo2", own, scale, None, "Practitioner/g", "CO2 retainer", NOW.date())
    found = evaluation.case("p1", new, earlier, NOW, facts, orders)
    assert found is not None
    return found


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def acknowledge(flag: Flag, who: str, when: datetime, why: str) -> Flag:
    return move(flag, "acknowledged", who, when, why)


def resolve(flag: Flag, who: str, when: datetime, why: str, code: str = "none-needed") -> Flag:
    """*flag* ended with the outcome *code*, which says as what."""
    return move(flag, OUTCOMES[code].ends if code in OUTCOMES else "resolved", who, when, why, code=code)
