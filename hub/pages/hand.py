"""Readings that people write down: the form, and the FHIR Observations it becomes."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from care_plans.shapes import set_extension
from fhir.outcome import Issue, Refusal, refuse
from fhir.store import Change
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import words
from hub.pages.door import Form
from hub.pages.person import present
from hub.pages.rendering import fresh
from monitoring import slips
from monitoring.measures import LOINC, MEASURES, UCUM

JSON = dict[str, Any]

PRESSURE = ("systolic", "diastolic")
# What people measure at home, in the order of the form. Blood pressure is two numbers of one measurement; what stands
# in MORE is folded away. Not here: what a sensor counts, what a clinician agrees, and scores, which have their forms.
FIRST = ("pressure", "spo2", "oxygen", "pulse", "weight", "glucose", "temperature", "peak-flow")
MORE = ("respiratory-rate", "consciousness", "spo2-exertion", "steps", "falls")
WORDS = tuple(key for key in (*FIRST, *MORE) if key in MEASURES and MEASURES[key].answers)
SINGLE = tuple(key for key in (*FIRST, *MORE) if key in MEASURES and key not in WORDS)
HINTS = {
    "pressure": "Upper number first, such as 132 / 78",
    "spo2": "The number with the % sign on the finger clip, such as 96",
    "pulse": "Beats in a minute, such as 72",
    "weight": "Such as 82.4",
    "glucose": "Such as 6.8",
    "temperature": "Such as 36.8",
    "peak-flow": "The best of three blows, such as 410",
    "respiratory-rate": "Breaths in a minute, counted while sitting still, such as 16",
    "spo2-exertion": "Right after walking or standing up, such as 93",
    "steps": "In the whole day, such as 4200",
    "falls": "How many, such as 1; 0 when there was none",
    "oxygen": "While the oxygen level was measured",
    "consciousness": "As somebody else sees it",
}
LABELS = {"pressure": "Blood pressure", "spo2": "Oxygen level"}
ACT = "http://terminology.hl7.org/CodeSystem/observation-category"
ENTERED = "entered"
"""Extension of an Observation that somebody typed: `by` (valueReference) and `how` (valueCode, a key of HOW)."""
HOW = {
    "measured": "I measured it",
    "telephone": "The person measured it and told me by telephone",
    "told": "The person measured it and showed or told me",
}


class Doubted(Refusal):
    """Numbers that may be slips, each with what is asked about it: they are stored when whoever typed them says that
    they are right. `sure` names them."""

    def __init__(self, doubts: Mapping[str, str]) -> None:
        text = f"{' '.join(doubts.values())} Nothing is saved yet: change it, or say below that it is right."
        super().__init__(422, [Issue("value", text)])
        self.sure = ";".join(doubts)


def fields(
    action: str,
    sent: Form | None = None,
    problem: str | None = None,
    sure: str | None = None,
    actor: Actor | None = None,
) -> dict[str, Any]:
    """What the form's template needs. *sent* is what was typed before, so that nothing is typed twice; *sure* a number
    that is asked about. Whoever is not the person says how they come to know it."""
    return {
        "reading_action": action,
        "once": (sent.text("once") if sent else "") or fresh(),
        "reading_error": problem,
        "reading_sure": sure,
        "big": False,
        "local_now": present().astimezone(words.LONDON).strftime("%Y-%m-%dT%H:%M"),
        "reading_values": {
            key: sent.text(key, 20) if sent else "" for key in (*PRESSURE, *SINGLE, *WORDS, "at", "how")
        },
        "reading_fields": [_field(key) for key in FIRST],
        "reading_more": [_field(key) for key in MORE],
        "reading_how": {} if actor is None or actor.role == "patient" else HOW,
    }


def _field(key: str) -> dict[str, Any]:
    measure = MEASURES["systolic" if key == "pressure" else key]
    return {
        "key": key,
        "label": LABELS.get(key) or measure.plain.capitalize(),
        "hint": HINTS[key],
        "unit": measure.shown,
        "words": {word: said.capitalize() for word, said in measure.words.items()},
    }


async def save(tx: Tx, actor: Actor, patient_id: str, sent: Form) -> list[JSON]:
    """Write what was typed; gives the Observations. Raises Refusal 422 in words for whoever typed, and Doubted for a
    number that may be a slip.

    The ids come from the form's own mark, so a form that is sent twice makes one set of readings.
    """
    now = present()
    at = moment(sent.text("at", 40), now)
    last = await _last(tx, patient_id, now)
    observations = _observations(sent, patient_id, actor, at, last)
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


async def _last(tx: Tx, patient_id: str, now: datetime) -> Mapping[str, float]:
    """The newest good value of each measure in the last 90 days, to hold what is typed against."""
    rows = await tx.pg.execute(
        "SELECT DISTINCT ON (measure) measure, value FROM reading WHERE patient_id = %s AND at > %s AND quality = 'ok'"
        " AND value IS NOT NULL ORDER BY measure, at DESC",
        (patient_id, now - timedelta(days=90)),
    )
    return dict(await rows.fetchall())


def _observations(
    sent: Form, patient_id: str, actor: Actor, at: datetime, last: Mapping[str, float] | None = None
) -> list[JSON]:
    found = []
    last = last or {}
    how = sent.text("how", 20) or "measured"
    if how not in HOW:
        raise refuse(422, "value", f"Say who measured: {', '.join(HOW.values())}.")
    made = partial(_observation, patient_id=patient_id, actor=actor, at=at, how=how)
    doubts: dict[str, str] = {}
    upper, lower = (_number(sent, key, last.get(key), doubts) for key in PRESSURE)
    if (upper is None) != (lower is None):
        raise refuse(422, "required", "Blood pressure has two numbers. Write both, or neither.")
    if upper is not None and lower is not None:
        if lower >= upper:
            raise refuse(422, "value", "The upper number of the blood pressure is the bigger one. Check both.")
        panel = made({"coding": [{"system": LOINC, "code": "85354-9"}], "text": "Blood pressure"})
        panel["component"] = [
            {"code": _code(key), "valueQuantity": _quantity(key, value)}
            for key, value in zip(PRESSURE, (upper, lower), strict=True)
        ]
        found.append(panel)
    for key in SINGLE:
        value = _number(sent, key, last.get(key), doubts)
        if value is not None:
            single = made(_code(key))
            single["valueQuantity"] = _quantity(key, value)
            found.append(single)
    for key in WORDS:
        word = sent.text(key, 20)
        if word:
            single = made(_code(key))
            single["valueCodeableConcept"] = _answer(key, word)
            found.append(single)
    if doubts and ";".join(doubts) != sent.text("sure", 500):
        raise Doubted(doubts)
    return found


def _answer(key: str, word: str) -> JSON:
    measure = MEASURES[key]
    coding = next(((system, code) for (system, code), said in measure.answers.items() if said == word), None)
    if coding is None:
        raise refuse(422, "value", f"Choose one of: {', '.join(measure.words.values())}.")
    return {"coding": [{"system": coding[0], "code": coding[1]}], "text": measure.words[word]}


def _observation(code: JSON, *, patient_id: str, actor: Actor, at: datetime, how: str) -> JSON:
    typist = {"reference": actor.reference, "display": actor.name}
    made: JSON = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": ACT, "code": "vital-signs"}]}],
        "code": code,
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
        "performer": [typist if how == "measured" else {"reference": f"Patient/{patient_id}"}],
    }
    entered = [{"url": "by", "valueReference": typist}, {"url": "how", "valueCode": how}]
    set_extension(made, ENTERED, {"extension": entered})
    return made


def _code(key: str) -> JSON:
    return {"coding": [MEASURES[key].coding], "text": MEASURES[key].name}


def _quantity(key: str, value: Decimal) -> JSON:
    measure = MEASURES[key]
    return {"value": value, "unit": measure.shown, "system": UCUM, "code": measure.unit}


def _number(sent: Form, key: str, last: float | None, doubts: dict[str, str]) -> Decimal | None:
    """The number typed for a measure; what may be a slip goes into *doubts*."""
    measure = MEASURES[key]
    typed = sent.text(key, 20).replace(",", ".").removesuffix(measure.shown).strip()
    if not typed:
        return None
    try:
        value = Decimal(typed)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise refuse(
            422, "value", f"“{typed}” is not a number for {measure.plain}. Write a number such as {_such(key)}."
        )
    low, high = measure.plausible
    if not low <= value <= high:
        told = f"{typed} {measure.shown} cannot be right for {measure.plain}."
        ask = _meant(slips.meant(key, value, last)) if -LARGEST < value < LARGEST else ""
        raise refuse(422, "value", f"{told}{ask} Measure again, and check the number and the unit.")
    other = slips.unlikely(key, value, last)
    if other is not None:
        assert last is not None
        shown, before = measure.show(float(value)), measure.show(last)
        doubts[f"{key} {value}"] = f"{shown} is far from the last time ({before}).{_meant(other)}"
    return value


LARGEST = 10**7


def _meant(found: list[tuple[Decimal, str]]) -> str:
    return f" Did you mean {' or '.join(how for _, how in found)}?" if found else ""


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
