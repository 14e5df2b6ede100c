"""Random valid resources, with the values that break programs: ends of time, huge numbers, text from every corner."""

from copy import deepcopy
from decimal import Decimal
from random import Random
from typing import Any

from minimal import NEEDED, minimal

from fhir.fhirpath_values import Scope
from fhir.inspection import inspect
from fhir.invariants import invariants_of
from fhir.structure import Element, Model, Shape, model_of, shape_of

JSON = dict[str, Any]

DAYS = ["9999-12-31", "0001-01-01", "2024-02-29", "2026-11-21"]
DATES = [*DAYS, "9999", "0001", "2026-11", "9999-12", "0001-01"]
CLOCKS = ["T00:00:00Z", "T23:59:59.999999999999-14:00", "T23:59:59+14:00", "T12:00:00.1+00:00"]
TEXTS = [
    "x", " ", "\n", "\x01\x1e\x1f", "☃\U0001f600", "a" * 3000, "'; DROP TABLE", "%s %(x)s {}", "\\", "\u202e", "İıßﷺ",
    "9990000018", "x|y,z", "\ud7ff\ue000\uffff", "$1", "\\x00", "e\u0301", "<script>",
]  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [0, -1, 2**31 - 1, -(2**31)],
    "unsignedInt": [0, 2**31 - 1],
    "positiveInt": [1, 2**31 - 1],
    "decimal": [0, Decimal("1E+100"), Decimal("-1E+100"), Decimal("1E-100"), Decimal("1.50"), 10**38, Decimal("-0.0")],
    "date": DATES,
    "time": ["00:00:00", "23:59:59.999999999999"],
    "id": ["x", "a" * 64, "-", "A.B-9"],
    "uri": ["urn:x", "http://a.example/" + "y" * 5000, "|", "?", "a,b|c$d\\", "☃", "%00", "http://loinc.org"],
    "oid": ["urn:oid:1.2.3"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "base64Binary": ["aGk="],
    "xhtml": ["<div>x</div>"],
    "code": ["x", "a b", "8867-4", "/min", "59408-5", "734163000", "85354-9", "☃", "a|b", "active", "%", "HTEST"],
    "instant": [day + clock for day in DAYS for clock in CLOCKS],
    "dateTime": [*DATES, *(day + clock for day in DAYS for clock in CLOCKS)],
}
VALUES["url"] = VALUES["canonical"] = VALUES["uri"]
OURS = "https://carehub.example/fhir/StructureDefinition/"
EXTENSIONS = [
    "urn:x",
    *(f"{OURS}{name}" for name in ("about-me", "tier", "limits", "flag-state", "what-matters", "agreed")),
]
# How likely an optional element is, by its depth.
LIKELY = (0.35, 0.25, 0.12, 0.05, 0.02)

# Chance seldom makes what FHIR's invariants demand of a StructureDefinition.
ATTEMPTS = 5


class Anything:
    """Makes resources; the same seed makes the same. References to a Patient mostly name one of *patients*."""

    def __init__(self, seed: int, patients: list[str]) -> None:
        self.chance = Random(seed)
        self.patients = patients

    def resource(self, type_name: str) -> JSON:
        for _ in range(ATTEMPTS):
            made = {"resourceType": type_name, **(self._object(model_of(type_name), 0) or {})}
            made.pop("id", None)
            if not inspect(made):
                return made
        return minimal(type_name)

    def _object(self, model: Model, depth: int) -> JSON | None:
        """None when what chance made breaks a rule of FHIR that leaving members away does not mend."""
        shape = shape_of(model)
        if shape.path == "Extension":
            return self._extension(shape, depth)
        made = self._members(shape, depth)
        for _ in range(len(made)):
            broken = invariants_of(model).broken(made, Scope(made, made))
            if not broken:
                break
            optional = [name for name in made if name in broken[0].reads and not self._needed(shape, name)]
            if optional:
                del made[self.chance.choice(sorted(optional))]
            else:
                made |= deepcopy(NEEDED.get(shape.path, {}))
        if not made and "extension" in shape.elements:
            made = {"extension": [{"url": "urn:x", "valueBoolean": True}]}
        return None if invariants_of(model).broken(made, Scope(made, made)) else made

    def _needed(self, shape: Shape, name: str) -> bool:
        element = shape.elements[name]
        return element.required or any(choice.required and name in choice.names for choice in shape.choices)

    def _members(self, shape: Shape, depth: int) -> JSON:
        made: JSON = {}
        for element in shape.elements.values():
            if element.choice or element.name in ("contained", "implicitRules"):
                continue
            if element.required or self._likely(depth):
                value = self._value(element, depth)
                if value is not None:
                    made[element.name] = [value] if element.many else value
        for choice in shape.choices:
            if choice.required or self._likely(depth):
                name = self.chance.choice(choice.names)
                value = self._value(shape.elements[name], depth)
                if value is not None:
                    made[name] = value
        return made

    def _likely(self, depth: int) -> bool:
        return self.chance.random() < LIKELY[min(depth, len(LIKELY) - 1)]

    def _extension(self, shape: Shape, depth: int) -> JSON:
        names = [name for name in shape.choices[0].names if name != "extension" and shape.elements[name].primitive]
        name = self.chance.choice(names)
        return {"url": self.chance.choice(EXTENSIONS), name: self._value(shape.elements[name], depth)}

    def _value(self, element: Element, depth: int) -> Any:
        if element.type == "Resource":
            return {"resourceType": "Basic", "code": {"text": "x"}}
        if element.type == "Reference":
            return self._reference(element)
        if element.type == "CodeableConcept" and element.codes:
            return {"coding": [{"code": self.chance.choice(sorted(element.codes))}]}
        if element.model is not None:
            return self._object(element.model, depth + 1)
        return self.chance.choice(sorted(element.codes) if element.codes else VALUES.get(element.type, TEXTS))

    def _reference(self, element: Element) -> JSON:
        if (element.targets is None or "Patient" in element.targets) and self.chance.random() < 0.7:
            return {"reference": f"Patient/{self.chance.choice(self.patients)}"}
        type_name = self.chance.choice(sorted(element.targets or {"Organization"}))
        forms = [
            {"display": "x"},
            {"reference": f"{type_name}/x"},
            {"reference": f"{type_name}/{'a' * 64}"},
            {"reference": f"http://127.0.0.1/fhir/{type_name}/x"},
            {"reference": f"http://other.example/{type_name}/x/_history/2"},
            {"reference": "urn:uuid:zz"},
            {"reference": "http://" + "x" * 3000},
        ]
        return self.chance.choice(forms)
