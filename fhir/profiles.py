"""The profiles that are carried here: what a resource that claims one in `meta.profile` has to keep besides FHIR.

R4's vital signs (http://hl7.org/fhir/R4/observation-vitalsigns.html) and UK Core Patient 2.6.0 (HL7 UK, Apache-2.0).
Each is a list of rules in FHIRPath, as FHIR's own invariants are. A profile that is not carried is nobody's business
here: a resource may claim it, and `$validate` says that it was not checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fhir.fhirpath_values import Scope
from fhir.invariants import Invariants, of_rows
from fhir.outcome import Issue
from fhir.structure import model_of, shape_of

JSON = dict[str, Any]
Row = tuple[str, str, str]

HL7 = "http://hl7.org/fhir/StructureDefinition/"
UK_CORE_PATIENT = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"
_UK = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
_NHS_NUMBER = "identifier.where(system = 'https://fhir.nhs.uk/Id/nhs-number')"
_VERIFICATION = f"extension.where(url = '{_UK}NHSNumberVerificationStatus')"


@dataclass(frozen=True, slots=True)
class Profile:
    """What *type* must keep to conform to *url*; *title* stands in what a sender is told."""

    url: str
    type: str
    title: str
    rows: tuple[Row, ...]


def _vital_sign(name: str, title: str, *rows: Row) -> Profile:
    return Profile(HL7 + name, "Observation", title, (*_VITAL_SIGN, *rows))


def _coded(code: str) -> Row:
    found = f"code.coding.where(system = 'http://loinc.org' and code = '{code}').exists()"
    return ("code", f"the code is LOINC {code}", found)


def _measured(key: str, value: str, units: str) -> Row:
    codes = " | ".join(f"'{unit}'" for unit in units.split())
    whole = "value.exists() and unit.exists() and system = 'http://unitsofmeasure.org' and code.exists()"
    demanded = f"{whole} and code in ({codes})"
    return (
        key,
        f"a value is a Quantity with value, unit, system http://unitsofmeasure.org and code {units}",
        f"{value}.all(iif({demanded}, true, false))",
    )


def _simple(name: str, title: str, code: str, units: str) -> Profile:
    return _vital_sign(name, title, _coded(code), _measured("unit", "value", units))


def _pressure(key: str, name: str, code: str) -> tuple[Row, Row]:
    part = f"component.where(code.coding.where(system = 'http://loinc.org' and code = '{code}').exists())"
    one = (key, f"one component is the {name} pressure, LOINC {code}", f"{part}.count() = 1")
    return one, _measured(f"{key}-unit", f"{part}.value", "mm[Hg]")


_VITAL_SIGN: tuple[Row, ...] = (
    (
        "category",
        "a category is vital-signs of http://terminology.hl7.org/CodeSystem/observation-category",
        "category.coding.where(system = 'http://terminology.hl7.org/CodeSystem/observation-category'"
        " and code = 'vital-signs').exists()",
    ),
    ("subject", "the subject is named", "subject.exists()"),
    ("effective", "effective is a dateTime or a Period", "effectiveDateTime.exists() or effectivePeriod.exists()"),
    ("vs-1", "effectiveDateTime is precise to the day", "effectiveDateTime.all(matches('^.{10}'))"),
    (
        "vs-2",
        "without components or members there is a value, or the reason why not",
        "component.exists() or hasMember.exists() or dataAbsentReason.exists() or value.exists()",
    ),
    (
        "vs-3",
        "each component has a value, or the reason why not",
        "component.all(value.exists() or dataAbsentReason.exists())",
    ),
)

_MEMBERS: Row = ("members", "it has members", "hasMember.exists()")

_PROFILES = (
    _vital_sign("vitalsigns", "Vital Signs"),
    _vital_sign("vitalspanel", "Vital Signs Panel", _coded("85353-1"), _MEMBERS),
    _simple("resprate", "Respiratory Rate", "9279-1", "/min"),
    _simple("heartrate", "Heart Rate", "8867-4", "/min"),
    _simple("oxygensat", "Oxygen Saturation", "2708-6", "%"),
    _simple("bodytemp", "Body Temperature", "8310-5", "Cel [degF]"),
    _simple("bodyheight", "Body Height", "8302-2", "cm [in_i]"),
    _simple("headcircum", "Head Circumference", "9843-4", "cm [in_i]"),
    _simple("bodyweight", "Body Weight", "29463-7", "g kg [lb_av]"),
    _simple("bmi", "Body Mass Index", "39156-5", "kg/m2"),
    _vital_sign(
        "bp",
        "Blood Pressure",
        _coded("85354-9"),
        *_pressure("systolic", "systolic", "8480-6"),
        *_pressure("diastolic", "diastolic", "8462-4"),
    ),
    Profile(
        UK_CORE_PATIENT,
        "Patient",
        "UK Core Patient",
        (
            ("nhs-number", "there is at most one NHS number", f"{_NHS_NUMBER}.count() <= 1"),
            ("nhs-number-value", "an NHS number has a value of ten digits",
             f"{_NHS_NUMBER}.all(iif(value.matches('^[0-9]{{10}}$'), true, false))"),
            ("nhs-number-status", "an NHS number has at most one verification status",
             f"{_NHS_NUMBER}.all({_VERIFICATION}.count() <= 1)"),
            ("nhs-number-status-value", "a verification status is a CodeableConcept, and of its own codes 01 to 08",
             f"{_NHS_NUMBER}.all({_VERIFICATION}.all(valueCodeableConcept.exists() and "
             "valueCodeableConcept.coding.where(system in ("
             "'https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus'"
             " | 'https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland'))"
             ".all(iif(code.matches('^0[1-8]$'), true, false))))"),
            ("ethnic-category", "there is at most one ethnic category",
             f"extension.where(url = '{_UK}EthnicCategory').count() <= 1"),
            ("death-notification", "a death notification status says its parts",
             f"extension.where(url = '{_UK}DeathNotificationStatus').all(extension.exists())"),
            ("language", "a language of communication is coded with urn:ietf:bcp:47",
             "communication.all(language.coding.where(system = 'urn:ietf:bcp:47').exists())"),
            ("proficiency", "a language has at most one proficiency",
             "communication.all(extension.where("
             "url = 'http://hl7.org/fhir/StructureDefinition/patient-proficiency').count() <= 1)"),
        ),
    ),
)  # fmt: skip

PROFILES: dict[str, Profile] = {profile.url: profile for profile in _PROFILES}
"""By canonical URL, without version."""


def claimed(resource: JSON) -> list[str]:
    """The canonical URLs in `meta.profile`."""
    meta = resource.get("meta")
    found = meta.get("profile") if type(meta) is dict else None
    return [url for url in found if type(url) is str] if type(found) is list else []


def carried(url: str) -> Profile | None:
    """The profile at *url*, with or without `|version`; None when it is not carried here."""
    return PROFILES.get(url.partition("|")[0])


def broken(resource: JSON, scope: Scope, path: str, urls: list[str]) -> Iterator[Issue]:
    """Where *resource*, which is valid FHIR, does not conform to those of the profiles *urls* that are carried."""
    for profile in filter(None, map(carried, urls)):
        if resource.get("resourceType") != profile.type:
            text = f"{path} is no {profile.type}, so it cannot conform to {profile.title} ({profile.url})"
            yield Issue("invariant", text, f"{path}.meta.profile")
            continue
        for rule in _rules(profile.url).broken(resource, scope):
            text = f"{path} does not conform to {profile.title} ({profile.url}), {rule.key}: {rule.human}"
            yield Issue("invariant", text, path)


@cache
def _rules(url: str) -> Invariants:
    profile = PROFILES[url]
    return of_rows(shape_of(model_of(profile.type)), profile.rows)
