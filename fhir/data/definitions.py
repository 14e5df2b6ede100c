"""Writes the tables of this folder from the HL7 FHIR R4 definitions: `python fhir/data/definitions.py FOLDER`."""

import json
import sys
from pathlib import Path
from typing import Any

# Elements whose type is shared with others (or primitive), so that their rules are not those of the type.
OF_VALUES = frozenset(
    {
        "ElementDefinition.max",
        "Narrative.div",
        "Organization.address",
        "Organization.telecom",
        "RiskAssessment.prediction.probability[x]",
        "StructureDefinition.snapshot.element",
    }
)
# Elements that borrow the content of others (TestScript.setup.action): the same rules, said again.
BORROWED = ("TestScript.teardown.action.operation", "TestScript.test.action.assert", "TestScript.test.action.operation")


def main(source: Path, target: Path) -> None:
    """Compact the files of *source* (see README.md) into *target*."""
    bindings: dict[str, Any] = json.loads((source / "required-bindings.json").read_bytes())
    value_sets = {b["valueSet"]: b["codes"] for b in bindings.values() if b["codes"]}
    elements = {path: b["valueSet"] for path, b in bindings.items() if b["codes"]}
    write(target / "required-bindings.json", {"valueSets": value_sets, "elements": elements})
    write(target / "reference-targets.json", json.loads((source / "reference-targets.json").read_bytes()))
    write(target / "invariants.json", invariants(json.loads((source / "invariants.json").read_bytes())))


def invariants(source: dict[str, list[dict[str, str]]]) -> dict[str, list[list[str]]]:
    """Path -> [key, what it demands, FHIRPath]. Rules that all resources share stand once, under DomainResource.

    A rule of an element that is no object of its own is asked of each of its values, by the object that holds it:
    `probability[x]` becomes `probability.all(…)` of RiskAssessment.prediction.
    """
    found: dict[str, list[list[str]]] = {}
    for path, rules in source.items():
        if path in BORROWED:
            continue
        for rule in rules:
            owner, expression = path, rule["expression"]
            if rule["key"].startswith("dom-"):
                owner = "DomainResource"
            elif path in OF_VALUES:
                owner, _, name = path.rpartition(".")
                expression = f"{name.removesuffix('[x]')}.all({expression})"
            one = [rule["key"], rule["human"], expression]
            if one not in found.setdefault(owner, []):
                found[owner].append(one)
    return {path: rules for path, rules in sorted(found.items()) if rules}


def write(path: Path, table: dict[str, Any]) -> None:
    lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
