"""Make `search-parameters.json` from the HL7 definitions: `python fhir/data/search_parameters.py DEFINITIONS_FOLDER`.

Source: HL7 FHIR R4 4.0.1 `search-parameters.json` and `CompartmentDefinition-*.json` (CC0); the compartments of
Encounter and RelatedPerson stand here, as hl7.org/fhir/R4/compartmentdefinition-encounter.html and -relatedperson.html
have them. Shape of the result:
`{"params": {type: {code: [kind, expression, targets]}}, "compartments": {type: {type: [codes]}}}`. The parameters of
every type stand under `Resource`; `targets` is empty for anything but a reference. A fourth item, true, marks a token
whose element is a bare `code` (its system is implied by the element), which the models of fhir.resources tell. A
composite has its components there: `[code of the search parameter, path from where the composite stands]`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from fhir.types import SERVED

_BY_ENCOUNTER = (
    "CarePlan CareTeam Claim ClinicalImpression Communication CommunicationRequest Composition Condition DeviceRequest"
    " DiagnosticReport DocumentReference ExplanationOfBenefit Media MedicationRequest NutritionOrder Observation"
    " Procedure QuestionnaireResponse RequestGroup ServiceRequest VisionPrescription"
)
ENCOUNTER = {
    **{type_: ["encounter"] for type_ in _BY_ENCOUNTER.split()},
    "ChargeItem": ["context"],
    "DocumentManifest": ["related-ref"],
    "Encounter": ["{def}"],
    "MedicationAdministration": ["context"],
}
RELATED_PERSON = {
    "AdverseEvent": ["recorder"],
    "AllergyIntolerance": ["asserter"],
    "Appointment": ["actor"],
    "AppointmentResponse": ["actor"],
    "Basic": ["author"],
    "CarePlan": ["performer"],
    "CareTeam": ["participant"],
    "ChargeItem": ["enterer", "performer-actor"],
    "Claim": ["payee"],
    "Communication": ["sender", "recipient"],
    "CommunicationRequest": ["sender", "recipient", "requester"],
    "Composition": ["author"],
    "Condition": ["asserter"],
    "Coverage": ["policy-holder", "subscriber", "payor"],
    "DocumentManifest": ["author", "recipient"],
    "DocumentReference": ["author"],
    "Encounter": ["participant"],
    "ExplanationOfBenefit": ["payee"],
    "Invoice": ["recipient"],
    "MedicationAdministration": ["performer"],
    "MedicationStatement": ["source"],
    "Observation": ["performer"],
    "Patient": ["link"],
    "Person": ["link"],
    "Procedure": ["performer"],
    "Provenance": ["agent"],
    "QuestionnaireResponse": ["author", "source"],
    "RelatedPerson": ["{def}"],
    "RequestGroup": ["participant"],
    "Schedule": ["actor"],
    "ServiceRequest": ["performer"],
    "SupplyRequest": ["requester"],
}

TARGET = Path(__file__).parent / "search-parameters.json"
# A parameter that names nearly every type as its target means any type.
ANY = 100


def alternatives(expression: str, base: str) -> list[str]:
    """The parts of `A.x | B.y` that start at type *base*; a lone `x` (InsurancePlan.name) starts there as well."""
    parts = [part.strip() for part in expression.split("|")]
    parts = [f"{base}.{part}" if re.fullmatch("[a-z][A-Za-z]*", part) else part for part in parts]
    return [part for part in parts if re.match(rf"\(?{base}(\.|$)", part)]


def element(path: str) -> str:
    """`(DeviceRequest.code as Reference)` -> `DeviceRequest.code`."""
    return re.sub(r"\.(where|as|extension)\(.*", "", path.strip("()").split(" as ")[0])


def targets(parameter: dict[str, Any], paths: list[str], allowed: dict[str, list[str]]) -> list[str]:
    """Types that the references of *parameter* may name; `["Resource"]` when any will do."""
    named = set(parameter.get("target", ()))
    if len(named) > ANY or not named:
        named = set()
    found: set[str] = set()
    for path in paths:
        restricted = re.search(r"resolve\(\) is (\w+)", path)
        listed = allowed.get(element(path)) or allowed.get(element(path) + "[x]")
        if restricted:
            found.add(restricted[1])
        elif listed and "Resource" not in listed:
            found |= set(listed) & named if named & set(listed) else set(listed)
        else:
            found |= named or {"Resource"}
    return ["Resource"] if "Resource" in found else sorted(found)


def is_bare_code(path: str) -> bool:
    """Whether `Type.a.b` is an element of type `code`, such as `Patient.gender`."""
    type_, *names = path.split(".")
    if not re.fullmatch(r"[\w.]+", path) or not names:
        return False
    for name in names:
        fields = get_fhir_model_class(type_).model_fields
        found = next((field for key, field in fields.items() if name in (key, field.alias)), None)
        if found is None:
            return False
        annotation = str(found.annotation)
        if "Code()" in annotation:
            return name == names[-1]
        inner = re.search(r"abc\.(\w+)Type", annotation)
        if inner is None:
            return False
        type_ = inner[1]
    return False


def component(part: dict[str, str]) -> list[str]:
    """Code and path of one component of a composite."""
    code = part["definition"].rpartition("/")[2].partition("-")[2]
    # R4 names these two parameters of DocumentReference the one way, and their paths the other way round.
    return [code, {"relatesto": "target", "relation": "code"}.get(code, part["expression"])]


def compact(folder: Path) -> dict[str, Any]:
    definitions = json.loads((folder / "search-parameters.json").read_text())
    allowed = json.loads((folder / "reference-targets.json").read_text())
    compartments = [json.loads(path.read_text()) for path in sorted(folder.glob("CompartmentDefinition-*.json"))]
    params: dict[str, dict[str, list[Any]]] = {}
    for definition in definitions:
        for base in definition.get("base", ()):
            if base not in SERVED | {"Resource"} or "expression" not in definition:
                continue
            paths = alternatives(definition["expression"], base)
            if base == "Resource" and not definition["expression"].startswith("Resource."):
                continue
            kind = definition["type"]
            if not paths:
                continue
            names = targets(definition, paths, allowed) if kind == "reference" else []
            row: list[Any] = [kind, " | ".join(paths), names]
            if kind == "token" and base != "Resource" and all(map(is_bare_code, paths)):
                row.append(True)
            if kind == "composite":
                row.append([component(part) for part in definition["component"]])
            params.setdefault(base, {})[definition["code"]] = row
    return {
        "params": {base: dict(sorted(codes.items())) for base, codes in sorted(params.items())},
        "compartments": {
            one["code"]: {item["code"]: item["param"] for item in one["resource"] if item.get("param")}
            for one in compartments
        }
        | {"Encounter": dict(sorted(ENCOUNTER.items())), "RelatedPerson": RELATED_PERSON},
    }


def text(table: dict[str, Any]) -> str:
    """JSON with one line per parameter, so that a difference can be read."""
    lines = []
    for base, codes in table["params"].items():
        inner = ",\n".join(
            f"{json.dumps(code)}:{json.dumps(row, separators=(',', ':'))}" for code, row in codes.items()
        )
        lines.append(f"{json.dumps(base)}:{{\n{inner}}}")
    inside = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in table["compartments"].items()]
    return '{"params":{\n' + ",\n".join(lines) + '},\n"compartments":{\n' + ",\n".join(inside) + "}}\n"


if __name__ == "__main__":
    TARGET.write_text(text(compact(Path(sys.argv[1]))))
