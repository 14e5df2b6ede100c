"""Synthetic people, their observations, and a body of each of the nine types that the mixed work writes."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

JSON = dict[str, Any]

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
PERSON, READING = "https://bench.example/person", "https://bench.example/reading"
DAYS = 1000
PRACTICES, CLINICIANS = 20, 200
SYNTHETIC = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}

# LOINC code, unit, least and greatest value, and how many of a hundred observations have it. The panel has none.
MEASURES = (
    ("8867-4", "/min", 45, 130, 20),
    ("59408-5", "%", 88, 99, 15),
    ("85354-9", "", 0, 0, 15),
    ("29463-7", "kg", 45, 130, 12),
    ("9279-1", "/min", 10, 30, 10),
    ("2339-0", "mg/dL", 60, 260, 10),
    ("8302-2", "cm", 150, 195, 8),
    ("4548-4", "%", 4, 12, 5),
    ("2160-0", "mg/dL", 1, 4, 5),
)
_BY_HUNDRED = [measure for measure in MEASURES for _ in range(measure[4])]
RARE = "33762-6"  # once in a thousand observations: NT-proBNP
RARITY = 1000
FAMILIES = ("Abara", "Bexley", "Cole", "Dunn", "Easton", "Farrow", "Gale", "Hythe", "Ives", "Jarrow")
GIVEN = ("Ada", "Ben", "Cora", "Dev", "Ella", "Finn", "Gwen", "Hari", "Isla", "Jon")


def chance(number: int, salt: int, below: int) -> int:
    """From 0 to *below* - 1, the same for the same *number*, and independent of other *salt*s."""
    return zlib.crc32(b"%d/%d" % (salt, number)) % below


def people(observations: int) -> int:
    """How many people there are with so many *observations*: a thousand can always be asked for."""
    return 1000 + observations // 100


def patient_id(number: int) -> str:
    return f"p{number:06}"


def family(number: int) -> str:
    """Some 500 names."""
    return FAMILIES[number % 10] + FAMILIES[number // 10 % 10].lower() + "aeiou"[number // 100 % 5]


def patient(number: int) -> JSON:
    return {
        "resourceType": "Patient",
        "meta": SYNTHETIC,
        "identifier": [{"system": PERSON, "value": str(number)}],
        "active": True,
        "name": [{"family": family(number), "given": [GIVEN[number * 7 % 10]]}],
        "gender": ("female", "male")[number % 2],
        "birthDate": f"{1930 + number % 70}-{number % 12 + 1:02}-{number % 28 + 1:02}",
        "generalPractitioner": [{"reference": f"Organization/practice-{number % PRACTICES}"}],
    }


def day(number: int) -> str:
    return (datetime.now(UTC) - timedelta(days=number % DAYS + 2)).date().isoformat()


def observation(number: int, about: int, start: datetime) -> JSON:
    """The *number*th, of one of *about* people, at some time of the DAYS after *start*."""
    code, unit, low, high, _ = _BY_HUNDRED[chance(number, 1, 100)]
    if number % RARITY == 7:
        code, unit, low, high = RARE, "pg/mL", 100, 900
    at = start + timedelta(seconds=chance(number, 2, DAYS * 86_400))
    made: JSON = {
        "resourceType": "Observation",
        "meta": SYNTHETIC,
        "identifier": [{"system": READING, "value": str(number)}],
        "status": "final",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")],
        "code": _concept(LOINC, code),
        "subject": {"reference": f"Patient/{patient_id(chance(number, 3, about))}"},
        "effectiveDateTime": at.isoformat(),
        "performer": [{"reference": f"Practitioner/clinician-{chance(number, 4, CLINICIANS)}"}],
    }
    if unit:
        return {**made, "valueQuantity": _quantity(low + chance(number, 5, high - low + 1), unit)}
    systolic = 95 + chance(number, 5, 100)
    component = [
        {"code": _concept(LOINC, "8480-6"), "valueQuantity": _quantity(systolic, "mm[Hg]")},
        {
            "code": _concept(LOINC, "8462-4"),
            "valueQuantity": _quantity(systolic - 40 - chance(number, 6, 20), "mm[Hg]"),
        },
    ]
    return {**made, "component": component}


def _concept(system: str, code: str) -> JSON:
    return {"coding": [{"system": system, "code": code}]}


def _quantity(value: float, unit: str) -> JSON:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of the mixed work: *make*(number, reference of a person) gives a new one; *changed* is what an update says
    anew."""

    type: str
    make: Callable[[int, str], JSON]
    changed: JSON

    def body(self, number: int, about: str) -> bytes:
        return msgspec.json.encode({"resourceType": self.type, "meta": SYNTHETIC, **self.make(number, about)})

    def update(self, number: int, about: str, id_: str) -> bytes:
        made = {"resourceType": self.type, "id": id_, "meta": SYNTHETIC, **self.make(number, about), **self.changed}
        return msgspec.json.encode(made)


def _moment(number: int) -> str:
    return (datetime.now(UTC) - timedelta(seconds=number % 3600 + 5)).isoformat(timespec="milliseconds")


def _heart_rate(number: int, about: str) -> JSON:
    made = observation(number, 1, datetime.now(UTC))
    rate = {"code": _concept(LOINC, "8867-4"), "valueQuantity": _quantity(64 + number % 16, "/min")}
    made.pop("component", None)
    return {**made, **rate, "subject": {"reference": about}, "effectiveDateTime": _moment(number)}


_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

KINDS = (
    Kind("Patient", lambda number, _: patient(10**7 + number), {"gender": "other"}),
    Kind("Observation", _heart_rate, {"note": [{"text": "taken at rest"}]}),
    Kind(
        "Condition",
        lambda number, about: {
            "clinicalStatus": _concept(_CONDITION, "active"),
            "code": {**_concept(SNOMED, "44054006"), "text": f"Diabetes, {number}"},
            "subject": {"reference": about},
            "onsetDateTime": day(number),
        },
        {"clinicalStatus": _concept(_CONDITION, "resolved")},
    ),
    Kind(
        "MedicationRequest",
        lambda number, about: {
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": f"Metformin {number % 4 + 1} tablets"},
            "subject": {"reference": about},
            "authoredOn": _moment(number),
        },
        {"status": "completed"},
    ),
    Kind(
        "Encounter",
        lambda number, about: {
            "status": "in-progress",
            "class": {"system": _ACT, "code": "AMB"},
            "subject": {"reference": about},
            "period": {"start": _moment(number)},
        },
        {"status": "finished"},
    ),
    Kind(
        "Task",
        lambda number, about: {
            "status": "requested",
            "intent": "order",
            "description": f"Telephone, {number}",
            "for": {"reference": about},
            "authoredOn": _moment(number),
        },
        {"status": "accepted"},
    ),
    Kind(
        "Procedure",
        lambda number, about: {
            "status": "in-progress",
            "code": {"text": f"Dressing {number % 9}"},
            "subject": {"reference": about},
            "performedDateTime": day(number),
        },
        {"status": "completed"},
    ),
    Kind(
        "AllergyIntolerance",
        lambda number, about: {
            "clinicalStatus": _concept(_ALLERGY, "active"),
            "code": {"text": f"Penicillin {number % 9}"},
            "patient": {"reference": about},
        },
        {"criticality": "high"},
    ),
    Kind(
        "DiagnosticReport",
        lambda number, about: {
            "status": "preliminary",
            "code": _concept(LOINC, "58410-2"),
            "subject": {"reference": about},
            "effectiveDateTime": _moment(number),
        },
        {"status": "final"},
    ),
)
