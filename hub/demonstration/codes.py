"""Codes and building blocks that the synthetic resources share."""

from typing import Any

from care_plans.shapes import EXTENSION, JSON, LOCAL, LOINC, SNOMED

__all__ = ["EXTENSION", "JSON", "LOCAL", "LOINC", "SNOMED"]

UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
SDS_USER = "https://fhir.nhs.uk/Id/sds-user-id"

SYNTHETIC = {"security": [{"system": TERMINOLOGY + "v3-ActReason", "code": "HTEST"}]}


def concept(system: str, code: str, display: str) -> JSON:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def reference(target: str, display: str | None = None) -> JSON:
    return {"reference": target, "display": display} if display else {"reference": target}


def extension(name: str, **value: Any) -> JSON:
    return {"url": EXTENSION + name, **value}
