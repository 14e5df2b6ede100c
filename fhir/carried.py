"""The value sets of R4's required bindings and their code systems, as resources: known to every hub, stored nowhere.

The codes come from `data/required-bindings.json` (HL7 FHIR R4, CC0), which names no systems. Most value sets are all of
the code system of the same name; `_SYSTEMS` has the others, after the `compose` of each in R4 (4.0.1).
"""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

JSON = dict[str, Any]

_FHIR = "http://hl7.org/fhir/"
_HL7 = "http://terminology.hl7.org/CodeSystem/"
_SYSTEMS = {
    "adverse-event-outcome": f"{_HL7}adverse-event-outcome",
    "adverse-event-severity": f"{_HL7}adverse-event-severity",
    "allergyintolerance-clinical": f"{_HL7}allergyintolerance-clinical",
    "allergyintolerance-verification": f"{_HL7}allergyintolerance-verification",
    "care-plan-activity-kind": f"{_FHIR}resource-types",
    "care-plan-intent": f"{_FHIR}request-intent",
    "clinicalimpression-status": f"{_FHIR}event-status",
    "condition-clinical": f"{_HL7}condition-clinical",
    "condition-ver-status": f"{_HL7}condition-ver-status",
    "immunization-evaluation-status": f"{_HL7}medication-admin-status",
    "immunization-status": f"{_FHIR}event-status",
    "measure-improvement-notation": f"{_HL7}measure-improvement-notation",
    "medication-admin-status": f"{_HL7}medication-admin-status",
    "medication-statement-status": f"{_FHIR}CodeSystem/medication-statement-status",
    "medication-status": f"{_FHIR}CodeSystem/medication-status",
    "medicationdispense-status": f"{_HL7}medicationdispense-status",
    "medicationknowledge-status": f"{_HL7}medicationknowledge-status",
    "medicationrequest-intent": f"{_FHIR}CodeSystem/medicationrequest-intent",
    "medicationrequest-status": f"{_FHIR}CodeSystem/medicationrequest-status",
    "supplydelivery-type": f"{_HL7}supply-item-type",
    "system-restful-interaction": f"{_FHIR}restful-interaction",
    "type-restful-interaction": f"{_FHIR}restful-interaction",
    "units-of-time": "http://unitsofmeasure.org",
    "v3-ConfidentialityClassification": f"{_HL7}v3-Confidentiality",
    "verificationresult-status": f"{_FHIR}CodeSystem/status",
}
# Value sets of two or three systems: the one that stands alone, and what of it.
_ABSTRACT = frozenset({"Type", "Any"})
_OF_FHIR_TIMING = frozenset({"MORN", "MORN.early", "MORN.late", "NOON", "AFT", "AFT.early", "AFT.late", "EVE",
                             "EVE.early", "EVE.late", "NIGHT", "PHS"})  # fmt: skip
# Systems of which a value set holds a part only, so that the hub does not know them whole.
_IN_PART = frozenset({"http://unitsofmeasure.org", f"{_HL7}v3-TimingEvent"})


@cache
def carried_codes() -> dict[str, list[str]]:
    """Codes by the address of their value set."""
    raw = msgspec.json.decode((Path(__file__).parent / "data" / "required-bindings.json").read_bytes())
    return {name.partition("|")[0]: codes for name, codes in raw["valueSets"].items()}


def _system(name: str, code: str) -> str:
    if name in ("all-types", "defined-types"):
        if code in _ABSTRACT:
            return f"{_FHIR}abstract-types"
        return (
            f"{_FHIR}resource-types"
            if code in carried_codes()[f"{_FHIR}ValueSet/resource-types"]
            else f"{_FHIR}data-types"
        )
    if name == "task-intent":
        return f"{_FHIR}task-intent" if code == "unknown" else f"{_FHIR}request-intent"
    if name == "event-timing":
        return f"{_FHIR}event-timing" if code in _OF_FHIR_TIMING else f"{_HL7}v3-TimingEvent"
    return _SYSTEMS.get(name, f"{_FHIR}{name}")


@cache
def value_sets() -> dict[str, JSON]:
    """By url."""
    found = {}
    for url, codes in carried_codes().items():
        name = url.rpartition("/")[2]
        parts: dict[str, list[JSON]] = {}
        for code in codes:
            parts.setdefault(_system(name, code), []).append({"code": code})
        include = [{"system": system, "concept": concepts} for system, concepts in parts.items()]
        found[url] = {
            "resourceType": "ValueSet", "url": url, "version": "4.0.1", "name": name, "status": "active",
            "compose": {"include": include},
        }  # fmt: skip
    return found


@cache
def systems() -> dict[str, JSON]:
    """By url, with the codes that the value sets have of each. HL7's names of the codes are not carried."""
    codes: dict[str, dict[str, None]] = {}
    for value_set in value_sets().values():
        for part in value_set["compose"]["include"]:
            codes.setdefault(part["system"], {}).update(dict.fromkeys(one["code"] for one in part["concept"]))
    return {
        url: {
            "resourceType": "CodeSystem", "url": url, "version": "4.0.1", "name": url.rpartition("/")[2],
            "status": "active", "content": "fragment" if url in _IN_PART else "complete",
            "concept": [{"code": code} for code in found],
        }
        for url, found in codes.items()
    }  # fmt: skip
