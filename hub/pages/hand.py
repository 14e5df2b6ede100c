"""Readings that people write down: the form, and the FHIR Observations it becomes."""

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir.outcome import refuse
from fhir.store import Change
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import words
from hub.pages.door import Form
from hub.pages.person import present
from hub.pages.rendering import fresh
from monitoring.measures import LOINC, MEASURES, UCUM

JSON = dict[str, Any]

# What people measure at home, in the order of the form; blood pressure is two numbers of one measurement.
SINGLE = ("spo2", "pulse", "weight", "glucose", "temperature", "peak-flow")
PRESSURE = ("systolic", "diastolic")
HINTS = {
    "pressure": "Upper number first, such as 132 / 78",
    "spo2": "The number with the % sign on the finger clip, such as 96",
    "pulse": "Beats in a minute, such as 72",
    "weight": "Such as 82.4",
    "glucose": "Such as 6.8",
    "temperature": "Such as 36.8",
    "peak-flow": "The best of three blows, such as 410",
}
LABELS = {"pressure": "Blood pressure", "spo2": "Oxygen level"}
ACT = "http://terminology.hl7.org/CodeSystem/observation-category"


def fields(action: str, sent: Form | None = None, problem: str | None = None) -> dict[str, Any]:
    """What the form's template needs. *sent* is what was typed before, so that nothing is typed twice."""
    keys = ("pressure", *SINGLE)
    return {
        "reading_action": action,
        "once": (sent.text("once") if sent else "") or fresh(),
        "reading_error": problem,
        "big": False,
        "local_now": present().astimezone(words.LONDON).strftime("%Y-%m-%dT%H:%M"),
        "reading_values": {key: sent.text(key, 20) if sent else "" for key in (*PRESSURE, *SINGLE, "at")},
        "reading_fields": [
            {
                "key": key,
                "label": LABELS.get(key) or MEASURES[key].plain.capitalize(),
                "hint": HINTS[key],
                "unit": "mmHg" if key == "pressure" else MEASURES[key].shown,
            }
            for key in keys
        ],
    }


async def save(tx: Tx, actor: Actor, patient_id: str, sent: Form) -> list[JSON]:
    """Write what was typed; gives the Observations. Raises Refusal 422 in words for whoever typed.

    The ids come from the form's own mark, so a form that is sent twice makes one set of readings.
    """
    now = present()
    at = moment(sent.text("at", 40), now)
    observations = _observations(sent, patient_id, actor, at)
    if not observations:
        raise refuse(422, "required", "No number was filled in. Write at least one.")
    once = sent.text("once", 80) or fresh()
    changes = []
    for observation in observations:
        code = observation["code"]["coding"][0]["code"]
        digest = hashlib.blake2b(f"{actor.reference} {patient_id} {once} {code}".encode(), digest_size=16).hexdigest()
        observation["id"] = digest
        changes.append(Change("update", "Observation", digest, observation))
    await flows.write(tx, actor, changes, now)
    return observations


def _observations(sent: Form, patient_id: str, actor: Actor, at: datetime) -> list[JSON]:
    found = []
    upper, lower = (_number(sent, key) for key in PRESSURE)
    if (upper is None) != (lower is None):
        raise refuse(422, "required", "Blood pressure has two numbers. Write both, or neither.")
    if upper is not None and lower is not None:
        if lower >= upper:
            raise refuse(422, "value", "The upper number of the blood pressure is the bigger one. Check both.")
        panel = _observation(
            {"coding": [{"system": LOINC, "code": "85354-9"}], "text": "Blood pressure"}, patient_id, actor, at
        )
        panel["component"] = [
            {"code": _code(key), "valueQuantity": _quantity(key, value)}
            for key, value in zip(PRESSURE, (upper, lower), strict=True)
        ]
        found.append(panel)
    for key in SINGLE:
        value = _number(sent, key)
        if value is not None:
            single = _observation(_code(key), patient_id, actor, at)
            single["valueQuantity"] = _quantity(key, value)
            found.append(single)
    return found


def _observation(code: JSON, patient_id: str, actor: Actor, at: datetime) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": ACT, "code": "vital-signs"}]}],
        "code": code,
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
        "performer": [{"reference": actor.reference, "display": actor.name}],
    }


def _code(key: str) -> JSON:
    return {"coding": [MEASURES[key].coding], "text": MEASURES[key].name}


def _quantity(key: str, value: Decimal) -> JSON:
    measure = MEASURES[key]
    return {"value": value, "unit": measure.shown, "system": UCUM, "code": measure.unit}


def _number(sent: Form, key: str) -> Decimal | None:
    typed = sent.text(key, 20).replace(",", ".").removesuffix(MEASURES[key].shown).strip()
    if not typed:
        return None
    try:
        value = Decimal(typed)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise refuse(
            422, "value", f"“{typed}” is not a number for {MEASURES[key].plain}. Write a number such as {_such(key)}."
        )
    low, high = MEASURES[key].plausible
    if not low <= value <= high:
        raise refuse(
            422,
            "value",
            f"{typed} {MEASURES[key].shown} cannot be right for {MEASURES[key].plain}. Measure again, and check "
            "the number and the unit.",
        )
    return value


def _such(key: str) -> str:
    return HINTS["pressure" if key in PRESSURE else key].rsplit(" ", 1)[-1]


def moment(typed: str, now: datetime) -> datetime:
    """When it was measured, in London time; now when it was left empty."""
    if not typed:
        return now.astimezone(words.LONDON)
    try:
        at = datetime.fromisoformat(typed).replace(tzinfo=words.LONDON)
    except ValueError as error:
        raise refuse(
            422, "value", "The time is not complete. Write day and time, or leave it empty for now."
        ) from error
    if at > now + timedelta(minutes=2):
        raise refuse(422, "value", "The time is yet to come. Write when you measured, or leave it empty for now.")
    return at
