"""What claims a profile keeps it, where the profile is carried here; anything else may be claimed."""

import copy
from decimal import Decimal
from typing import Any

import pytest

from fhir.capability import statement
from fhir.compiled import fits
from fhir.inspection import inspect
from fhir.profiles import HL7, PROFILES, UK_CORE_PATIENT

JSON = dict[str, Any]
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
EXTENSION = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
STATUS = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"

UNITS = {
    "resprate": ("9279-1", "/min"),
    "heartrate": ("8867-4", "/min"),
    "oxygensat": ("2708-6", "%"),
    "bodytemp": ("8310-5", "Cel"),
    "bodyheight": ("8302-2", "cm"),
    "headcircum": ("9843-4", "[in_i]"),
    "bodyweight": ("29463-7", "kg"),
    "bmi": ("39156-5", "kg/m2"),
}


def quantity(unit: str, value: str = "37.5") -> JSON:
    return {"value": Decimal(value), "unit": unit, "system": UCUM, "code": unit}


def coded(code: str) -> JSON:
    return {"coding": [{"system": LOINC, "code": code}]}


def vital_sign(name: str, code: str, **members: Any) -> JSON:
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
    made: JSON = {
        "resourceType": "Observation",
        "meta": {"profile": [HL7 + name]},
        "status": "final",
        "category": [{"coding": [category]}],
        "code": coded(code),
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-11-21T09:30:00Z",
    }
    return {key: value for key, value in (made | members).items() if value is not None}


def pressure(**members: Any) -> JSON:
    parts = [{"code": coded(code), "valueQuantity": quantity("mm[Hg]", "120")} for code in ("8480-6", "8462-4")]
    return vital_sign("bp", "85354-9", **({"component": parts} | members))


def person(*identifiers: JSON, **members: Any) -> JSON:
    made: JSON = {"resourceType": "Patient", "meta": {"profile": [UK_CORE_PATIENT + "|2.6.0"]}, **members}
    return made | ({"identifier": list(identifiers)} if identifiers else {})


def nhs_number(*statuses: JSON, value: str | None = "9000000009") -> JSON:
    made: JSON = {"system": "https://fhir.nhs.uk/Id/nhs-number"} | ({"value": value} if value else {})
    extensions = [{"url": EXTENSION + "NHSNumberVerificationStatus", **status} for status in statuses]
    return made | ({"extension": extensions} if extensions else {})


def status(code: str, system: str = STATUS) -> JSON:
    return {"valueCodeableConcept": {"coding": [{"system": system, "code": code}]}}


def broken_by(resource: JSON) -> list[str]:
    """The keys of the broken rules; both halves of validation agree."""
    issues = inspect(resource)
    assert fits(resource) is (not issues)
    assert {issue.code for issue in issues} <= {"invariant"}, issues
    return [issue.diagnostics.partition("), ")[2].partition(":")[0] for issue in issues]


class TestVitalSigns:
    @pytest.mark.parametrize("name", UNITS)
    def test_each_measure(self, name: str) -> None:
        code, unit = UNITS[name]
        assert broken_by(vital_sign(name, code, valueQuantity=quantity(unit))) == []
        assert broken_by(vital_sign(name, "1234-4", valueQuantity=quantity(unit))) == ["code"]
        assert broken_by(vital_sign(name, code, valueQuantity=quantity("stone"))) == ["unit"]
        assert broken_by(vital_sign(name, code, valueString="high")) == ["unit"]
        assert broken_by(vital_sign(name, code)) == ["vs-2"]
        assert broken_by(vital_sign(name, code, dataAbsentReason={"text": "refused"})) == []

    @pytest.mark.parametrize(
        ("key", "members"),
        [
            ("category", {"category": [{"text": "vital signs"}]}),
            ("category", {"category": None}),
            ("subject", {"subject": None}),
            ("effective", {"effectiveDateTime": None}),
            ("vs-1", {"effectiveDateTime": "2026-11"}),
            ("vs-2", {"valueInteger": None}),
            ("vs-3", {"component": [{"code": coded("8480-6")}]}),
        ],
    )
    def test_what_all_of_them_need(self, key: str, members: JSON) -> None:
        assert broken_by(vital_sign("vitalsigns", "1-1", **({"valueInteger": 1} | members))) == [key]

    @pytest.mark.parametrize("missing", ["value", "unit", "system", "code"])
    def test_a_quantity_is_whole(self, missing: str) -> None:
        value = {key: part for key, part in quantity("/min").items() if key != missing}
        found = broken_by(vital_sign("heartrate", "8867-4", valueQuantity=value))
        # A code without a system breaks FHIR itself, which is said alone.
        assert found == ([""] if missing == "system" else ["unit"])

    def test_blood_pressure(self) -> None:
        assert broken_by(pressure()) == []
        whole = pressure()["component"]
        assert broken_by(pressure(component=whole[:1])) == ["diastolic"]
        assert broken_by(pressure(component=[*whole, whole[0]])) == ["systolic"]
        wrong = copy.deepcopy(whole)
        wrong[0]["valueQuantity"] = quantity("kPa", "16")
        assert broken_by(pressure(component=wrong)) == ["systolic-unit"]
        assert broken_by(pressure(component=None, dataAbsentReason={"text": "a"})) == ["systolic", "diastolic"]

    def test_a_panel_has_members(self) -> None:
        assert broken_by(vital_sign("vitalspanel", "85353-1")) == ["vs-2", "members"]
        assert broken_by(vital_sign("vitalspanel", "85353-1", hasMember=[{"reference": "Observation/x"}])) == []


class TestUkCorePatient:
    @pytest.mark.parametrize(
        "patient",
        [
            person(),
            person(nhs_number()),
            person(nhs_number(status("01")), {"system": "urn:other", "value": "7"}),
            person(nhs_number(status("Number present", "https://fhir.hl7.org.uk/CodeSystem/of-Wales"))),
            person(nhs_number({"valueCodeableConcept": {"text": "verified"}})),
            person(communication=[{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "cy"}]}}]),
        ],
    )
    def test_conforms(self, patient: JSON) -> None:
        assert broken_by(patient) == []

    @pytest.mark.parametrize(
        ("key", "patient"),
        [
            ("nhs-number", person(nhs_number(), nhs_number())),
            ("nhs-number-value", person(nhs_number(value=None))),
            ("nhs-number-value", person(nhs_number(value="900 000 0009"))),
            ("nhs-number-status", person(nhs_number(status("01"), status("02")))),
            ("nhs-number-status-value", person(nhs_number(status("09")))),
            ("nhs-number-status-value", person(nhs_number({"valueCode": "01"}))),
            ("language", person(communication=[{"language": {"text": "Welsh"}}])),
            (
                "death-notification",
                person(extension=[{"url": EXTENSION + "DeathNotificationStatus", "valueCode": "1"}]),
            ),
            ("ethnic-category", person(extension=[{"url": EXTENSION + "EthnicCategory", "valueCode": "A"}] * 2)),
        ],
    )
    def test_does_not(self, key: str, patient: JSON) -> None:
        assert broken_by(patient) == [key]


class TestClaims:
    def test_what_is_not_carried_may_be_claimed(self) -> None:
        assert inspect({"resourceType": "Patient", "meta": {"profile": ["https://elsewhere.example/Patient"]}}) == []

    def test_a_profile_of_another_type(self) -> None:
        [issue] = inspect({"resourceType": "Patient", "meta": {"profile": [HL7 + "heartrate"]}})
        assert "no Observation" in issue.diagnostics
        assert issue.expression == "Patient.meta.profile"

    def test_inside_a_bundle(self) -> None:
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": pressure(component=None)}]}
        assert {issue.expression for issue in inspect(bundle)} == {"Bundle.entry[0].resource"}
        assert not fits(bundle)

    def test_every_profile_can_be_kept(self) -> None:
        assert set(PROFILES) == {
            UK_CORE_PATIENT,
            *(HL7 + name for name in (*UNITS, "bp", "vitalsigns", "vitalspanel")),
        }

    def test_the_statement_names_them(self) -> None:
        rest = statement("https://hub.example/fhir", lambda type_: [])["rest"][0]
        named = {
            one["type"]: one["supportedProfile"]
            for one in rest["resource"]
            if one["type"] in ("Patient", "Observation")
        }
        assert named == {
            type_: [profile.url for profile in PROFILES.values() if profile.type == type_] for type_ in named
        }
