"""The shape of every served resource type, read from the models of `fhir.resources.R4B` when it is first asked for.

The models bring elements, types and cardinality; required bindings and reference targets come from the R4 definitions
in `data/`, since the models do not check the first and widen the second. What R4B added to R4 is left away.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from fhir_core.fhirabstractmodel import FHIRAbstractModel
from fhir_core.types import FhirBase
from fhir_core.utils import get_fhir_type_name, is_list_type, is_primitive_type
from pydantic.fields import FieldInfo

from fhir.types import LEFT_OUT, SERVED

Model = type[FHIRAbstractModel]

RESOURCE_TYPES = SERVED | LEFT_OUT.keys()

_DATA = Path(__file__).parent / "data"
# Official examples of R4 point here, beyond what their own definitions list.
_SHOWN_BY_EXAMPLES = {"DeviceMetric.parent": "DeviceDefinition", "DeviceUseStatement.reasonReference": "Procedure"}
_ADDED_BY_R4B_TYPES = {"CodeableReference", "RatioRange"}
_ADDED_BY_R4B = {"subjectCanonical"}


@dataclass(frozen=True, slots=True)
class Element:
    """One JSON property. `path` is its definition (`Observation.value[x]`), `name` its key (`valueQuantity`).

    `type` is the FHIR type (`code`, `Quantity`, `Resource`, or `BackboneElement` for elements of its own), `model` the
    model of a complex one. `codes` are those of a required binding; `targets` the types a Reference may point at,
    None when any.
    """

    name: str
    path: str
    type: str
    many: bool
    required: bool
    choice: str | None = None
    model: Model | None = None
    codes: frozenset[str] | None = None
    targets: frozenset[str] | None = None

    @property
    def primitive(self) -> bool:
        return self.model is None and self.type != "Resource"


@dataclass(frozen=True, slots=True)
class Choice:
    """A `value[x]`: at most one of *names* may be present, exactly one when required."""

    name: str
    names: tuple[str, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What one JSON object may hold; `path` is where it stands in the definitions."""

    path: str
    elements: dict[str, Element]
    choices: tuple[Choice, ...]


_shapes: dict[Model, Shape] = {}


@cache
def model_of(type_name: str) -> Model:
    """The model of a served resource type or of a data type. Importing it is what makes types cost nothing unused."""
    module = import_module(f"fhir.resources.R4B.{type_name.lower()}")
    model: Model = getattr(module, type_name)
    return model


def shape_of(model: Model) -> Shape:
    if model not in _shapes:
        _read(model)
    return _shapes[model]


def _read(owner: Model) -> None:
    """Shapes of *owner* and of the backbone elements in its module.

    An element may borrow the content of another (`Questionnaire.item.item` is `Questionnaire.item`), and then shares
    its model. The definitions give the bindings where the content is defined, which is what the model is named after.
    """
    read: dict[Model, Shape] = {}
    queue = [(owner, owner.get_resource_type())]
    while queue:
        model, path = queue.pop(0)
        read[model] = shape = _shape(model, path)
        for element in shape.elements.values():
            child = element.model
            if child is not None and _is_named_after(child, element.path):
                queue.append((child, element.path))
    # At once: another thread must not see the owner without its elements.
    _shapes.update(read)


def _is_named_after(model: Model, path: str) -> bool:
    return model.__name__ == "".join(part[0].upper() + part[1:] for part in path.split("."))


def _shape(model: Model, path: str) -> Shape:
    elements: dict[str, Element] = {}
    choices: dict[str, tuple[list[str], bool]] = {}
    # As the definitions and most JSON have them: msgspec looks for the next member behind the last one.
    order = {name: at for at, name in enumerate(model.elements_sequence())}
    fields = sorted(model.model_fields.items(), key=lambda item: order.get(item[1].alias or item[0], len(order)))
    for field_name, field in fields:
        if field_name.endswith("__ext") or field_name in ("fhir_comments", "resource_type"):
            continue
        element = _element(model, path, field_name, field)
        if element.name in _ADDED_BY_R4B or element.type in _ADDED_BY_R4B_TYPES:
            continue
        elements[element.name] = element
        if element.choice:
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            choices.setdefault(element.choice, ([], bool(extra["one_of_many_required"])))[0].append(element.name)
    if path == "Extension":
        # ext-1: either extensions or a value, never both, never neither.
        choices["value"] = ([*choices["value"][0], "extension"], True)
    return Shape(path, elements, tuple(Choice(name, tuple(n), required) for name, (n, required) in choices.items()))


def _element(model: Model, path: str, field_name: str, field: FieldInfo) -> Element:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    name = field.alias or field_name
    choice = extra.get("one_of_many")
    label = f"{choice}[x]" if choice else name
    inherited = [
        f"{base.__resource_type__}.{label}" for base in model.__mro__[1:] if hasattr(base, "__resource_type__")
    ]
    paths = [f"{path}.{label}", *inherited]
    kind, child = _type(field)
    return Element(
        name=name,
        path=paths[0],
        type=kind,
        many=is_list_type(field),
        required=bool(field.is_required() or extra.get("element_required")),
        choice=str(choice) if choice else None,
        model=child,
        codes=_first(required_codes(), paths)
        if kind in ("code", "uri", "string", "CodeableConcept", "Coding")
        else None,
        targets=_first(reference_targets(), paths) if kind == "Reference" else None,
    )


def _type(field: FieldInfo) -> tuple[str, Model | None]:
    if is_primitive_type(field):
        return get_fhir_type_name(field, "R4B."), None
    child = _model_in(field.annotation)
    assert child is not None
    name = child.get_resource_type()
    return name, None if name == "Resource" else child


def _model_in(annotation: Any) -> Model | None:
    if isinstance(annotation, type) and issubclass(annotation, FhirBase):
        return annotation.get_model_klass()
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def _first(table: dict[str, frozenset[str]], paths: list[str]) -> frozenset[str] | None:
    return next((table[path] for path in paths if path in table), None)


@cache
def required_codes() -> dict[str, frozenset[str]]:
    table = json.loads((_DATA / "required-bindings.json").read_bytes())
    sets = {url: frozenset(codes) for url, codes in table["valueSets"].items()}
    return {path: sets[url] for path, url in table["elements"].items()}


@cache
def reference_targets() -> dict[str, frozenset[str]]:
    """Where any type may be pointed at there is nothing to check, so those elements are left away."""
    table: dict[str, list[str]] = json.loads((_DATA / "reference-targets.json").read_bytes())
    for path, shown in _SHOWN_BY_EXAMPLES.items():
        table[path].append(shown)
    return {path: frozenset(types) for path, types in table.items() if types and "Resource" not in types}
