"""Writes the tables of this folder from the HL7 FHIR R4 definitions: `python fhir/data/definitions.py FOLDER`."""

import json
import sys
from pathlib import Path
from typing import Any


def main(source: Path, target: Path) -> None:
    """Compact `required-bindings.json` and `reference-targets.json` of *source* (see README.md) into *target*."""
    bindings: dict[str, Any] = json.loads((source / "required-bindings.json").read_bytes())
    value_sets = {b["valueSet"]: b["codes"] for b in bindings.values() if b["codes"]}
    elements = {path: b["valueSet"] for path, b in bindings.items() if b["codes"]}
    write(target / "required-bindings.json", {"valueSets": value_sets, "elements": elements})
    write(target / "reference-targets.json", json.loads((source / "reference-targets.json").read_bytes()))


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
