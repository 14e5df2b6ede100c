"""Make `search-parameters.json` from the HL7 definitions: `python fhir/data/search_parameters.py DEFINITIONS_FOLDER`.

Source: HL7 FHIR R4 4.0.1 `search-parameters.json` and `CompartmentDefinition-patient.json` (CC0). Shape of the result:
`{"params": {type: {code: [kind, expression, targets]}}, "patient": {type: [codes]}}`, where the parameters of every
type stand under `Resource`, and `targets` is empty for anything but a reference.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

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


def compact(folder: Path) -> dict[str, Any]:
    definitions = json.loads((folder / "search-parameters.json").read_text())
    allowed = json.loads((folder / "reference-targets.json").read_text())
    compartment = json.loads((folder / "CompartmentDefinition-patient.json").read_text())
    params: dict[str, dict[str, list[Any]]] = {}
    for definition in definitions:
        for base in definition.get("base", ()):
            if base == "DomainResource" or "expression" not in definition:
                continue
            paths = alternatives(definition["expression"], base)
            if base == "Resource" and not definition["expression"].startswith("Resource."):
                continue
            kind = definition["type"]
            if not paths:
                continue
            names = targets(definition, paths, allowed) if kind == "reference" else []
            params.setdefault(base, {})[definition["code"]] = [kind, " | ".join(paths), names]
    return {
        "params": {base: dict(sorted(codes.items())) for base, codes in sorted(params.items())},
        "patient": {item["code"]: item["param"] for item in compartment["resource"] if item.get("param")},
    }


def text(table: dict[str, Any]) -> str:
    """JSON with one line per parameter, so that a difference can be read."""
    lines = []
    for base, codes in table["params"].items():
        inner = ",\n".join(
            f"{json.dumps(code)}:{json.dumps(row, separators=(',', ':'))}" for code, row in codes.items()
        )
        lines.append(f"{json.dumps(base)}:{{\n{inner}}}")
    patient = json.dumps(table["patient"], separators=(",", ":"))
    return '{"params":{\n' + ",\n".join(lines) + '},\n"patient":' + patient + "}\n"


if __name__ == "__main__":
    TARGET.write_text(text(compact(Path(sys.argv[1]))))
