"""Measurements as Observations, written straight to JSON: there may be a million of them."""

from collections.abc import Iterable

import msgspec

from care_plans.shapes import LOINC, SNOMED
from hub.demonstration.codes import JSON, SYNTHETIC, UCUM
from hub.demonstration.people import Person
from hub.demonstration.resources import device_id
from hub.demonstration.vitals import Kind, Measured
from monitoring.measures import MEASURES

ANSWERS = {
    "alert": ("248234008", "Alert"),
    "confused": ("130987000", "Acute confusion"),
}
AIR = {"coding": [{"system": SNOMED, "code": "722742002", "display": "Breathing room air"}]}
OXYGEN = {"coding": [{"system": SNOMED, "code": "371825009", "display": "Patient on oxygen"}]}

# LOINC codes that FHIR's vital-signs profile wants beside the measure's own.
ALSO: dict[str, JSON] = {"spo2": {"system": LOINC, "code": "2708-6", "display": "Oxygen saturation in Arterial blood"}}

VITAL_SIGNS = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]
}

# Stands where a measured number goes; no text of ours holds it.
_HOLE = "\x1a"


def _quantity(measure: str) -> JSON:
    found = MEASURES[measure]
    return {"value": _HOLE, "unit": found.shown, "system": UCUM, "code": found.unit}


def _code(measure: str) -> JSON:
    return {"coding": [MEASURES[measure].coding, *([ALSO[measure]] if measure in ALSO else [])]}


def _body(kind: Kind, on_oxygen: bool) -> JSON:
    """Code and value of an Observation of *kind*, with holes for what is measured, in the order of its values."""
    if kind == "blood-pressure":
        panel = {"system": LOINC, "code": "85354-9", "display": "Blood pressure panel"}
        parts = [{"code": _code(part), "valueQuantity": _quantity(part)} for part in ("systolic", "diastolic")]
        return {"code": {"coding": [panel]}, "component": parts}
    if kind == "consciousness":
        return {"code": _code(kind), "valueCodeableConcept": _HOLE}
    body: JSON = {"code": _code(kind), "valueQuantity": _quantity(kind)}
    if kind == "spo2":
        breathing = {"coding": [MEASURES["oxygen"].coding]}
        body["component"] = [{"code": breathing, "valueCodeableConcept": OXYGEN if on_oxygen else AIR}]
    return body


def lines(person: Person, history: Iterable[Measured]) -> list[str]:
    """The JSON of each of the person's readings; `id` follows from person, kind and time."""
    profile = person.profile
    assert profile is not None
    templates = {
        kind: template(kind, person.reference, device_id(person, kind), profile.on_oxygen) for kind in profile.kinds
    }
    short = {kind: f"{person.number:06d}-{kind}-" for kind in templates}

    def line(kind: Kind, at: str, values: tuple[str, ...]) -> str:
        # Digits of the local time; the offset tells apart the hour that the autumn clock repeats.
        ident = short[kind] + at[:19].replace("-", "").replace(":", "") + ("s" if at[20:22] == "01" else "")
        return templates[kind] % (f'"id":"{ident}",', at, *values_of(kind, values))

    return [line(*measured) for measured in history]


def template(kind: Kind, subject: str, device: str, on_oxygen: bool) -> str:
    """An Observation as text for `%`: with `"id":"...",` or nothing, the time, and what `values_of` gives."""
    resource = {
        "resourceType": "Observation",
        "id": _HOLE,
        "meta": SYNTHETIC,
        "status": "final",
        "category": [VITAL_SIGNS],
        "subject": {"reference": subject},
        "effectiveDateTime": _HOLE,
        "device": {"reference": f"Device/{device}"},
    }
    head = msgspec.json.encode(resource).decode().replace("%", "%%")
    head = head.replace(f'"id":"{_ESCAPED}",', "%s").replace(_ESCAPED, "%s")
    body = msgspec.json.encode(_body(kind, on_oxygen)).decode().replace("%", "%%")
    return head[:-1] + "," + body[1:].replace(f'"{_ESCAPED}"', "%s")


def values_of(kind: Kind, values: tuple[str, ...]) -> tuple[str, ...]:
    """What was measured, as JSON."""
    return (_ANSWER_JSON[values[0]],) if kind == "consciousness" else values


_ESCAPED = msgspec.json.encode(_HOLE).decode()[1:-1]
_ANSWER_JSON = {
    word: msgspec.json.encode({"coding": [{"system": SNOMED, "code": code, "display": display}]}).decode()
    for word, (code, display) in ANSWERS.items()
}
