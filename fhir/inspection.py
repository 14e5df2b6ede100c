"""The full half of validation: one walk that lists everything wrong with a resource, where, and what was expected."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from fhir import profiles
from fhir.fhirpath_values import Scope
from fhir.invariants import invariants_of
from fhir.outcome import Issue
from fhir.primitives import PRIMITIVES
from fhir.structure import RESOURCE_TYPES, Element, Model, Shape, model_of, shape_of
from fhir.types import LEFT_OUT, SERVED

MAX_ISSUES = 100

_LITERAL = re.compile(r"(?:\A|/)([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}(?:/_history/[A-Za-z0-9.\-]{1,64})?\Z")
_RELATIVE = re.compile(r"\A([A-Z][A-Za-z]+)(?:/[A-Za-z0-9.\-]{1,64}(?:/_history/[A-Za-z0-9.\-]{1,64})?|\?\S+)\Z")
_ELSEWHERE = re.compile(r"\A(?:#\S*|urn:\S+|[A-Za-z][A-Za-z0-9+.\-]*://\S+)\Z")


def inspect(resource: dict[str, Any]) -> list[Issue]:
    """Every issue of *resource*, at most 100; an empty list when it conforms. `code` is the FHIR IssueType."""
    type_name = resource.get("resourceType")
    path = type_name if isinstance(type_name, str) else "Resource"
    return list(islice(_resource(resource, path, Scope()), MAX_ISSUES))


def _resource(value: Any, path: str, around: Scope, contained: bool = False) -> Iterator[Issue]:
    if not isinstance(value, dict):
        yield Issue("structure", f"{path} must be a resource, it is {_kind(value)}", path)
        return
    type_name = value.get("resourceType")
    if not isinstance(type_name, str):
        yield Issue("required", "a resource needs resourceType, the name of its type", f"{path}.resourceType")
    elif type_name in LEFT_OUT:
        yield Issue("not-supported", f"{type_name} is not served: {LEFT_OUT[type_name]}", path)
    elif type_name not in SERVED:
        yield Issue("not-supported", f"{type_name[:64]!r} is no resource type of R4{_hint(type_name, SERVED)}", path)
    else:
        scope = Scope(value, around.root if contained else value, steps=around.steps)
        sound = True
        for issue in _object(model_of(type_name), value, path, scope, {"resourceType"}):
            sound = False
            yield issue
        if sound:
            yield from profiles.broken(value, scope, path, profiles.claimed(value))


def _object(model: Model, value: Any, path: str, scope: Scope, known: set[str] | None = None) -> Iterator[Issue]:
    """What is wrong with the structure, or else which of FHIR's rules it breaks: only sound objects are asked."""
    found = False
    for issue in islice(_structure(shape_of(model), value, path, scope, known), MAX_ISSUES):
        found = True
        yield issue
    if not found:
        for rule in invariants_of(model).broken(value, scope):
            yield Issue("invariant", f"{path} breaks {rule.key}: {rule.human}", path)


def _structure(shape: Shape, value: Any, path: str, scope: Scope, known: set[str] | None) -> Iterator[Issue]:
    if not isinstance(value, dict):
        yield Issue("structure", f"{path} must be an object ({shape.path}), it is {_kind(value)}", path)
        return
    if not value:
        yield Issue("structure", f"{path} is empty: leave it out or give it content", path)
    for key in value:
        element = shape.elements.get(key.removeprefix("_"))
        if not (element and (element.primitive or not key.startswith("_"))) and key not in (known or ()):
            hint = _hint(key, shape.elements)
            yield Issue("structure", f"{shape.path} has no element {key[:64]!r}{hint}", f"{path}.{key[:64]}")
    for element in shape.elements.values():
        yield from _element(element, value, f"{path}.{element.choice or element.name}", scope)
    for choice in shape.choices:
        present = [name for name in choice.names if name in value or f"_{name}" in value]
        options = ", ".join(choice.names[:12]) + (", …" if len(choice.names) > 12 else "")
        if len(present) > 1:
            text = f"{path}.{choice.name}[x] may have one value, it has {', '.join(present)}"
            yield Issue("structure", text, f"{path}.{choice.name}")
        elif choice.required and not present:
            yield Issue("required", f"{path} needs one of {options}", f"{path}.{choice.name}")


def _element(element: Element, parent: dict[str, Any], path: str, scope: Scope) -> Iterator[Issue]:
    extended = element.primitive and f"_{element.name}" in parent
    if element.name not in parent:
        if element.required and not extended:
            yield Issue("required", f"{path} is required ({element.type}{_codes(element)})", path)
        if extended:
            yield from _extensions(element, parent[f"_{element.name}"], None, path, scope)
        return
    value = parent[element.name]
    if extended:
        yield from _extensions(element, parent[f"_{element.name}"], value, path, scope)
    if not element.many:
        yield from _value(element, value, path, scope)
    elif not isinstance(value, list):
        yield Issue("structure", f"{path} must be an array, it is {_kind(value)}", path)
    elif not value:
        yield Issue("structure", f"{path} is an empty array: leave it out or give it content", path)
    else:
        beside = parent.get(f"_{element.name}") if extended else None
        for at, item in enumerate(value):
            # A null only holds the place of a primitive that has nothing but an extension.
            if item is None and isinstance(beside, list) and at < len(beside) and beside[at] is not None:
                continue
            yield from _value(element, item, f"{path}[{at}]", scope)


def _value(element: Element, value: Any, path: str, scope: Scope) -> Iterator[Issue]:
    if element.type == "Resource":
        yield from _resource(value, path, scope, contained=element.name == "contained")
    elif element.model is not None:
        yield from _object(element.model, value, path, scope)
        if element.type == "Reference":
            yield from _reference(element, value, path)
        elif element.codes and isinstance(value, dict):
            yield from _concept(element, value, path)
    elif element.codes:
        if type(value) is not str or value not in element.codes:
            yield Issue("code-invalid", f"{path} is {_shown(value)}{_codes(element)}", path)
    elif not PRIMITIVES[element.type].accepts(value):
        code = "value" if isinstance(value, str) and PRIMITIVES[element.type].python == (str,) else "structure"
        yield Issue(code, f"{path} must be {PRIMITIVES[element.type].expected}; it is {_shown(value)}", path)


def _extensions(element: Element, value: Any, beside: Any, path: str, scope: Scope) -> Iterator[Issue]:
    """The `_name` of a primitive: an object, or for an array an array as long as the values, null where none."""
    model = model_of("FHIRPrimitiveExtension")
    if not element.many:
        yield from _object(model, value, path, scope)
        return
    if not isinstance(value, list) or not value:
        yield Issue("structure", f"_{element.name} must be an array with content, as {element.name} is", path)
        return
    if isinstance(beside, list) and len(beside) != len(value):
        yield Issue("structure", f"{element.name} and _{element.name} must be equally long", path)
    for at, item in enumerate(value):
        if item is not None:
            yield from _object(model, item, f"{path}[{at}]", scope)
        elif beside is None:
            yield Issue("structure", f"{path}[{at}] has neither value nor extension", f"{path}[{at}]")


def _reference(element: Element, value: Any, path: str) -> Iterator[Issue]:
    literal = value.get("reference") if isinstance(value, dict) else None
    if not isinstance(literal, str) or not literal:
        return
    where = f"{path}.reference"
    relative = _RELATIVE.match(literal)
    found = relative or (_LITERAL.search(literal) if _ELSEWHERE.match(literal) else None)
    if relative is None and not _ELSEWHERE.match(literal):
        text = f"{where} must be Type/id, an absolute URL, urn:… or #id; it is {_shown(literal)}"
        yield Issue("value", text, where)
    elif found and found[1] in RESOURCE_TYPES:
        if element.targets and found[1] not in element.targets:
            text = f"{where} points at {found[1]}; expected {', '.join(sorted(element.targets))}"
            yield Issue("value", text, where)
    elif relative:
        yield Issue("value", f"{where} points at {relative[1][:64]}, which is no resource type", where)


def _concept(element: Element, value: dict[str, Any], path: str) -> Iterator[Issue]:
    """A CodeableConcept under a required binding: one of its codings must carry one of the codes."""
    codings = value.get("coding")
    codes = [c.get("code") for c in codings if isinstance(c, dict)] if isinstance(codings, list) else []
    if not any(isinstance(code, str) and code in (element.codes or ()) for code in codes):
        shown = _shown(codes[0]) if codes else "without a coding"
        yield Issue("code-invalid", f"{path} is {shown}{_codes(element)}", path)


def _codes(element: Element) -> str:
    if not element.codes:
        return ""
    codes = sorted(element.codes)
    more = f", … ({len(codes)} codes)" if len(codes) > 40 else ""
    return "; expected one of " + ", ".join(codes[:40]) + more


def _hint(name: str, among: Any) -> str:
    close = get_close_matches(name[:64], list(among), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: Any) -> str:
    return _kind(value) if isinstance(value, dict | list) or value is None else repr(str(value)[:80])


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
