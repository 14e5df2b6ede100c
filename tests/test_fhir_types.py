"""The served types are those that R4 and the installed models share."""

import json
import os
import pkgutil
from importlib import import_module
from pathlib import Path

import fhir.resources.R4B as models
import pytest
from fhir.resources.R4B.resource import Resource

from fhir.structure import RESOURCE_TYPES, Shape, model_of, reference_targets, required_codes, shape_of
from fhir.types import LEFT_OUT, SERVED

DEFINITIONS = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "hl7-definitions"


def test_every_type_of_r4_and_of_the_models_is_served_or_left_out_with_a_reason() -> None:
    bindings = json.loads((DEFINITIONS / "required-bindings.json").read_bytes())
    r4 = set(bindings["GraphDefinition.start"]["codes"])
    r4b = {
        name
        for module in pkgutil.iter_modules(models.__path__)
        for name, value in vars(import_module(f"fhir.resources.R4B.{module.name}")).items()
        if isinstance(value, type) and issubclass(value, Resource) and name.lower() == module.name
    }
    assert SERVED | LEFT_OUT.keys() == r4 | r4b
    assert not SERVED - (r4 & r4b)
    assert not SERVED & LEFT_OUT.keys()
    assert all(LEFT_OUT.values())
    assert len(SERVED) == 126


def test_the_documentation_names_what_is_left_out_and_why() -> None:
    said = (Path(__file__).parents[1] / "docs" / "fhir.md").read_text()
    lines = [line.split(" | ") for line in said.splitlines() if line.startswith("| ")]
    rows = {name: line[-1] for line in lines for name in line[0].removeprefix("| ").split(", ")}
    assert all(why in rows[name] for name, why in LEFT_OUT.items())
    assert f"the {len(SERVED)} types" in said


def every_path() -> dict[str, str]:
    """Definition path of each element of the served types and their data types -> FHIR type."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    todo: list[Shape] = [shape_of(model_of(name)) for name in sorted(SERVED)]
    while todo:
        shape = todo.pop()
        if id(shape) in seen:
            continue
        seen.add(id(shape))
        for element in shape.elements.values():
            if element.type != "Reference" and element.path in found:
                continue
            found[element.path] = element.type
            if element.model is not None:
                todo.append(shape_of(element.model))
    return found


def test_every_binding_and_reference_of_the_definitions_stands_in_the_shapes() -> None:
    """A path that the models lack would be a type reshaped since R4, or a check that silently never runs."""
    paths = every_path()
    missing = [
        path
        for path in [*required_codes(), *reference_targets()]
        if path not in paths and path.split(".")[0] not in LEFT_OUT and path.split(".")[0] in RESOURCE_TYPES
    ]
    assert missing == []


@pytest.mark.parametrize("added", ["PlanDefinition.subjectCanonical", "ActivityDefinition.subjectCanonical"])
def test_what_r4b_added_is_unknown(added: str) -> None:
    type_name, name = added.split(".")
    assert name not in shape_of(model_of(type_name)).elements
    assert "valueCodeableReference" not in shape_of(model_of("Extension")).elements


def test_every_element_below_a_served_type_has_a_shape_of_its_own_path() -> None:
    paths = every_path()
    assert paths["Questionnaire.item.item"] == "QuestionnaireItem"
    assert paths["CapabilityStatement.rest.resource.searchParam.type"] == "code"
    assert "Observation.component.referenceRange.low" not in paths
    assert paths["Observation.referenceRange.low"] == "Quantity"
