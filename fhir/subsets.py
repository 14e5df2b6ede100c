"""Parts of resources: what `_elements` and `_summary` leave of them, and the tag that says so."""

from functools import cache
from typing import Any

from fhir.paths import CHOICES
from fhir.resources.R4B.backboneelement import BackboneElement
from fhir.structure import Model, model_of, shape_of
from fhir.wire import decode, encode
from fhir.written import bad, listed

JSON = dict[str, Any]

_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_ALWAYS = frozenset({"resourceType", "id", "meta"})


def subset(body: str, elements: frozenset[str], summary: str) -> str:
    """The stored JSON *body* with only what is asked for. Elements that FHIR demands stay in."""
    resource = decode(body.encode())
    type_ = resource["resourceType"]
    if elements:
        keep = _ALWAYS | _required(type_)
        resource = {name: value for name, value in resource.items() if _named(name, elements | keep)}
    elif summary == "text":
        keep = _ALWAYS | {"text"} | _required(type_)
        resource = {name: value for name, value in resource.items() if name.removeprefix("_") in keep}
    elif summary == "data":
        resource.pop("text", None)
    else:
        resource = {"resourceType": type_} | _summarised(resource, model_of(type_))
    meta = resource.setdefault("meta", {})
    meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]
    return encode(resource).decode()


def check_elements(type_: str, elements: frozenset[str]) -> None:
    """Refusal 400 for a name that no element of *type_* has."""
    if not elements:
        return
    known = {name for element in shape_of(model_of(type_)).elements for name in (element, *_chosen(type_, element))}
    for name in sorted(elements - known):
        said = f"'{name[:80]}' is no element of {type_}; there are {listed(known)}"
        raise bad(type_, "_elements", said)


def _named(key: str, names: frozenset[str]) -> bool:
    """Whether the member *key* is one of *names*; `value` names `valueQuantity` too."""
    plain = key.removeprefix("_")
    if plain in names:
        return True
    return any(plain.startswith(name) and plain[len(name) :] in CHOICES for name in names)


def _chosen(type_: str, element: str) -> tuple[str, ...]:
    choice = shape_of(model_of(type_)).elements[element].choice
    return (choice,) if choice else ()


@cache
def _required(type_: str) -> frozenset[str]:
    return frozenset(name for name, element in shape_of(model_of(type_)).elements.items() if element.required)


@cache
def _summary(model: Model) -> frozenset[str]:
    names = frozenset(model.summary_elements_sequence())
    # What changes the meaning of the rest is never left out.
    return (
        names | {"implicitRules", "modifierExtension"} | {n for n, e in shape_of(model).elements.items() if e.required}
    )


def _summarised(node: JSON, model: Model) -> JSON:
    keep, elements = _summary(model), shape_of(model).elements
    found: JSON = {}
    for name, value in node.items():
        plain = name.removeprefix("_")
        if plain in keep or plain == "id":
            element = elements.get(name)
            below = element.model if element is not None else None
            found[name] = _below(value, below) if below is not None and issubclass(below, BackboneElement) else value
    return found


def _below(value: Any, model: Model) -> Any:
    if isinstance(value, list):
        return [_below(item, model) for item in value]
    return _summarised(value, model) if isinstance(value, dict) else value
