"""The fast half of validation: msgspec structs compiled from the shapes, type by type, when first used.

A struct accepts only what the full inspection accepts as well. It may be stricter where FHIR is rare (a null in an
array of primitives, a required primitive that is only extended, an absolute reference that does not end in Type/id):
what it refuses is decided by `fhir.inspection`.

FHIR's invariants are asked only where the members of an object leave them in doubt: of the elements while they are
read, of a resource afterwards, on its own JSON. One of an element that asks beyond it is left to the full half.
"""

import keyword
from collections.abc import Callable, Iterator
from decimal import Decimal
from operator import attrgetter
from threading import Lock
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fhir import profiles
from fhir.fhirpath_values import Scope
from fhir.inspection import inspect
from fhir.invariants import SAID, Condition, Invariant, Invariants, invariants_of, local_references
from fhir.primitives import MAX_STRING, PRIMITIVES
from fhir.structure import Choice, Element, Model, Shape, model_of, shape_of
from fhir.types import SERVED


class Nested:
    """Stands for a resource inside a resource: which struct it needs is known only from its `resourceType`."""


class Held(Nested):
    """One that is contained: what it refers to by `#id` stands beside it."""


_NESTED = Nested()
_HELD = Held()


def fits(resource: dict[str, Any]) -> bool:
    """Whether *resource*, whose `resourceType` is a served one, certainly conforms. No reasons are given."""
    try:
        _convert(resource, _nested)
    except (msgspec.ValidationError, _Broken):
        return False
    return True


def prepare(*type_names: str) -> None:
    """Compile these types now (some 0.3 s for the first), so that the first request need not wait for it."""
    for type_name in type_names:
        _resource(type_name, False)


class _Broken(Exception):
    """A resource inside does not conform. Not a ValueError, so that it passes through msgspec at once."""


def _convert(resource: dict[str, Any], inner: Callable[[type, Any], Any], held: bool = False) -> None:
    type_name = resource["resourceType"]
    struct = _resource(type_name, held or "contained" in resource)
    # Decimal counts as a type of its own, so that text is not taken for one.
    msgspec.convert(resource, struct, builtin_types=(Decimal,), dec_hook=inner)
    rules = _rules[type_name]
    if (rules.always or not rules.triggers.isdisjoint(resource)) and (doubtful := rules.doubtful(resource)):
        scope = Scope(resource, resource)
        if "contained" in resource:
            # ref-1, and more: whatever looks like `#id` here names a contained resource.
            scope.memo[SAID] = said = set(local_references(resource))
            if not said.issubset([f"#{one.get('id')}" for one in resource["contained"]]):
                raise msgspec.ValidationError
        for rule in doubtful:
            if not rule.holds(resource, scope):
                raise msgspec.ValidationError
    if "meta" in resource and (urls := profiles.claimed(resource)):
        for _ in profiles.broken(resource, Scope(resource, resource), type_name, urls):
            raise msgspec.ValidationError


def _nested(kind: type, value: Any) -> Any:
    """A rare form in one entry must not send a whole bundle to the full half: that one is told at once."""
    try:
        return _further(kind, value)
    except msgspec.ValidationError:
        # What is contained can only be told with what contains it.
        if kind is Held:
            raise
        if inspect(value):
            raise _Broken from None
    return _NESTED


def _further(kind: type, value: Any) -> Any:
    """One below that: told only by its struct, or a bundle in a bundle in a bundle would be walked over and over."""
    if not isinstance(value, dict) or value.get("resourceType") not in SERVED:
        raise _Broken
    _convert(value, _further, kind is Held)
    return _HELD if kind is Held else _NESTED


_resources: dict[tuple[str, bool], type[msgspec.Struct]] = {}
_rules: dict[str, Invariants] = {}
_compiling = Lock()


def _resource(type_name: str, local: bool) -> type[msgspec.Struct]:
    """The struct of a type; structs of the elements below come with it, each once. *local*: `#id` may be referred to.

    Compiled by one thread at a time: half of a struct would accept anything, and msgspec crashes when two threads
    work the same types out.
    """
    struct = _resources.get((type_name, local))
    if struct is None:
        with _compiling:
            struct = _struct(model_of(type_name), None, local)
            # Makes msgspec work the types out now.
            msgspec.convert({}, dict[str, struct], dec_hook=_nested)  # type: ignore[valid-type]
            _rules[type_name] = invariants_of(model_of(type_name))
            _resources[type_name, local] = struct
    return struct


_structs: dict[tuple[Model, frozenset[str] | None, bool], type[msgspec.Struct]] = {}


def _struct(model: Model, limit: frozenset[str] | None, local: bool) -> type[msgspec.Struct]:
    """*limit*: the targets of a Reference, or the codes of a Coding or CodeableConcept."""
    if (model, limit, local) in _structs:
        return _structs[model, limit, local]
    shape = shape_of(model)
    struct = _untyped_struct(model, shape, limit)
    # Structs refer to one another in circles: each is known before its types are worked out.
    _structs[model, limit, local] = struct
    types: dict[str, Any] = {}
    for field in struct.__struct_fields__:
        key = field.rstrip("_") if keyword.iskeyword(field.rstrip("_")) else field
        if key == "resourceType":
            types[field] = Literal[shape.path]
        elif key.startswith("_"):
            types[field] = _struct(model_of("FHIRPrimitiveExtension"), None, local)
        else:
            types[field] = _annotation(shape, shape.elements[key], limit, local)
    struct.__annotations__.update(types)
    return struct


def _untyped_struct(model: Model, shape: Shape, limit: frozenset[str] | None) -> type[msgspec.Struct]:
    coded = {("CodeableConcept", "coding"), ("Coding", "code")} if limit else set()
    fields: list[Any] = [("resourceType", Any)] if shape.path in SERVED else []
    rename = {}
    for element in shape.elements.values():
        field = _field(element.name)
        rename[field] = element.name
        required = element.required or (shape.path, element.name) in coded
        fields.append((field, Any) if required else (field, Any, None))
    # Last, for they are rare: members are looked for in the order of the fields.
    fields += [(f"_{element.name}", Any, None) for element in shape.elements.values() if _may_be_extended(element)]
    return msgspec.defstruct(
        shape.path.replace(".", "_"),
        fields,
        kw_only=True,
        gc=False,
        forbid_unknown_fields=True,
        rename=rename,
        omit_defaults=True,
        namespace=_checked([*_one_of_each(shape), *_held(model, shape)]),
    )


Check = Callable[[Any], None]


def _checked(checks: list[Check]) -> dict[str, Any] | None:
    """What msgspec calls once the members of an object are right; a ValueError refuses it."""
    if len(checks) < 2:
        return {"__post_init__": checks[0]} if checks else None

    def check(self: Any) -> None:
        for one in checks:
            one(self)

    return {"__post_init__": check}


def _one_of_each(shape: Shape) -> Iterator[Check]:
    def one_of(choice: Choice) -> Check:
        values_of = attrgetter(*choice.names)
        size = len(choice.names)
        allowed = (size - 1,) if choice.required else (size - 1, size)

        def check(self: Any) -> None:
            if values_of(self).count(None) not in allowed:
                raise ValueError("one of the choice")

        return check

    # Every choice of R4 has two names or more, so that attrgetter gives a tuple.
    return map(one_of, shape.choices)


def _held(model: Model, shape: Shape) -> Iterator[Check]:
    if shape.path in SERVED:
        return
    for rule in invariants_of(model).every:
        # Where nothing is contained, the pattern of references leaves `#id` to the full half.
        if rule.key != "ref-1":
            fields = {name: _field(name) for name in rule.reads if _has_field(shape, name)}
            yield from (_unless_doubtful(rule, condition, fields) for condition in rule.doubts)


def _has_field(shape: Shape, name: str) -> bool:
    return not name.startswith("_") or _may_be_extended(shape.elements[name[1:]])


def _may_be_extended(element: Element) -> bool:
    """Whether the struct has a `_name` for it: extended arrays and choices are rare, and left to the full half."""
    return element.primitive and not element.many and element.choice is None


def _unless_doubtful(rule: Invariant, condition: Condition, fields: dict[str, str]) -> Check:
    present = [_any_of([fields[name] for name in names if name in fields]) for names in condition.present]
    absent = _any_of([fields[name] for name in condition.absent if name in fields]) if condition.absent else None

    def check(self: Any) -> None:
        for is_there in present:
            if not is_there(self):
                return
        if absent is not None and absent(self):
            return
        if not rule.local:
            raise ValueError("to be told by the full half")
        node = {
            name: _plain(getattr(self, field)) for name, field in fields.items() if getattr(self, field) is not None
        }
        if not rule.holds(node, Scope()):
            raise ValueError(rule.key)

    return check


def _any_of(fields: list[str]) -> Callable[[Any], bool]:
    if len(fields) == 1:
        one = attrgetter(fields[0])
        return lambda self: one(self) is not None
    several = attrgetter(*fields)
    size = len(fields)
    return lambda self: several(self).count(None) < size


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(Decimal,))


def _field(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _annotation(shape: Shape, element: Element, limit: frozenset[str] | None, local: bool) -> Any:
    annotation: Any
    if element.type == "Resource":
        annotation = Held if element.name == "contained" else Nested
    elif element.model is not None:
        inherited = limit if shape.path == "CodeableConcept" and element.name == "coding" else None
        annotation = _struct(element.model, element.targets or element.codes or inherited, local)
    elif element.codes:
        annotation = Literal[tuple(sorted(element.codes))]
    elif shape.path == "Reference" and element.name == "reference":
        annotation = Annotated[str, Meta(pattern=_literal_reference(limit, local), min_length=1, max_length=MAX_STRING)]
    elif shape.path == "Coding" and element.name == "code" and limit:
        annotation = Literal[tuple(sorted(limit))]
    else:
        annotation = PRIMITIVES[element.type].annotation
    return Annotated[list[annotation], Meta(min_length=1)] if element.many else annotation


def _literal_reference(targets: frozenset[str] | None, local: bool) -> str:
    types = "|".join(sorted(targets or SERVED))
    one = rf"(?:{types})/[A-Za-z0-9.\-]{{1,64}}(?:/_history/[A-Za-z0-9.\-]{{1,64}})?"
    held = r"|#\S+" if local else ""
    return rf"\A(?:{one}{held}|urn:(?:uuid|oid):\S+|(?:{types})\?\S+)\Z"
