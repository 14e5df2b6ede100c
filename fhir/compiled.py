"""The fast half of validation: msgspec structs compiled from the shapes, type by type, when first used.

A struct accepts only what the full inspection accepts as well. It may be stricter where FHIR is rare (a null in an
array of primitives, a required primitive that is only extended, an absolute reference that does not end in Type/id):
what it refuses is decided by `fhir.inspection`.
"""

import keyword
from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from threading import Lock
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fhir.primitives import MAX_STRING, PRIMITIVES
from fhir.structure import Choice, Element, Model, Shape, model_of, shape_of
from fhir.types import SERVED


class Nested:
    """Stands for a resource inside a resource: which struct it needs is known only from its `resourceType`."""


_NESTED = Nested()


def fits(resource: dict[str, Any]) -> bool:
    """Whether *resource*, whose `resourceType` is a served one, certainly conforms. No reasons are given."""
    try:
        _convert(resource)
    except msgspec.ValidationError:
        return False
    return True


def prepare(*type_names: str) -> None:
    """Compile these types now (some 0.3 s for the first), so that the first request need not wait for it."""
    for type_name in type_names:
        _resource(type_name)


def _convert(resource: dict[str, Any]) -> None:
    # Decimal counts as a type of its own, so that text is not taken for one.
    msgspec.convert(resource, _resource(resource["resourceType"]), builtin_types=(Decimal,), dec_hook=_nested)


def _nested(kind: type, value: Any) -> Any:
    if not isinstance(value, dict) or value.get("resourceType") not in SERVED:
        raise ValueError("not a served resource")
    _convert(value)
    return _NESTED


_resources: dict[str, type[msgspec.Struct]] = {}
_compiling = Lock()


def _resource(type_name: str) -> type[msgspec.Struct]:
    """The struct of a type; structs of the elements below come with it, each once.

    Compiled by one thread at a time: half of a struct would accept anything, and msgspec crashes when two threads
    work the same types out.
    """
    struct = _resources.get(type_name)
    if struct is None:
        with _compiling:
            struct = _struct(model_of(type_name))
            # Makes msgspec work the types out now.
            msgspec.convert({}, dict[str, struct], dec_hook=_nested)  # type: ignore[valid-type]
            _resources[type_name] = struct
    return struct


_structs: dict[tuple[Model, frozenset[str] | None], type[msgspec.Struct]] = {}


def _struct(model: Model, limit: frozenset[str] | None = None) -> type[msgspec.Struct]:
    """*limit*: the targets of a Reference, or the codes of a Coding or CodeableConcept."""
    if (model, limit) in _structs:
        return _structs[model, limit]
    shape = shape_of(model)
    struct = _untyped_struct(shape, limit)
    # Structs refer to one another in circles: each is known before its types are worked out.
    _structs[model, limit] = struct
    types: dict[str, Any] = {}
    for field in struct.__struct_fields__:
        key = field.rstrip("_") if keyword.iskeyword(field.rstrip("_")) else field
        if key == "resourceType":
            types[field] = Literal[shape.path]
        elif key.startswith("_"):
            types[field] = _struct(model_of("FHIRPrimitiveExtension"))
        else:
            types[field] = _annotation(shape, shape.elements[key], limit)
    struct.__annotations__.update(types)
    return struct


def _untyped_struct(shape: Shape, limit: frozenset[str] | None) -> type[msgspec.Struct]:
    coded = {("CodeableConcept", "coding"), ("Coding", "code")} if limit else set()
    fields: list[Any] = [("resourceType", Any)] if shape.path in SERVED else []
    rename = {}
    for element in shape.elements.values():
        field = f"{element.name}_" if keyword.iskeyword(element.name) else element.name
        rename[field] = element.name
        required = element.required or (shape.path, element.name) in coded
        fields.append((field, Any) if required else (field, Any, None))
        if element.primitive and not element.many:
            fields.append((f"_{element.name}", Any, None))
    return msgspec.defstruct(
        shape.path.replace(".", "_"),
        fields,
        kw_only=True,
        gc=False,
        forbid_unknown_fields=True,
        rename=rename,
        namespace={"__post_init__": _one_of_each(shape)} if shape.choices else None,
    )


def _one_of_each(shape: Shape) -> Callable[[Any], None]:
    def names(choice: Choice) -> list[str]:
        return [n for name in choice.names for n in ([name, f"_{name}"] if shape.elements[name].primitive else [name])]

    rules = []
    for choice in shape.choices:
        present = names(choice)
        # Two entries keep attrgetter returning a tuple.
        rules.append((attrgetter(*present, present[0]), len(present), choice.required))

    def check(self: Any) -> None:
        for values_of, size, required in rules:
            values = values_of(self)[:size]
            absent = values.count(None)
            if absent < size - 1 or (required and absent == size):
                raise ValueError("one of the choice")

    return check


def _annotation(shape: Shape, element: Element, limit: frozenset[str] | None) -> Any:
    annotation: Any
    if element.type == "Resource":
        annotation = Nested
    elif element.model is not None:
        inherited = limit if shape.path == "CodeableConcept" and element.name == "coding" else None
        annotation = _struct(element.model, element.targets or element.codes or inherited)
    elif element.codes:
        annotation = Literal[tuple(sorted(element.codes))]
    elif shape.path == "Reference" and element.name == "reference":
        annotation = Annotated[str, Meta(pattern=_literal_reference(limit), min_length=1, max_length=MAX_STRING)]
    elif shape.path == "Coding" and element.name == "code" and limit:
        annotation = Literal[tuple(sorted(limit))]
    else:
        annotation = PRIMITIVES[element.type].annotation
    return Annotated[list[annotation], Meta(min_length=1)] if element.many else annotation


def _literal_reference(targets: frozenset[str] | None) -> str:
    types = "|".join(sorted(targets or SERVED))
    one = rf"(?:{types})/[A-Za-z0-9.\-]{{1,64}}(?:/_history/[A-Za-z0-9.\-]{{1,64}})?"
    return rf"\A(?:{one}|#\S*|urn:(?:uuid|oid):\S+|(?:{types})\?\S+)\Z"
