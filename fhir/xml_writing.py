"""FHIR XML as it goes out: from the JSON that is stored, element by element in the order that FHIR gives them."""

import re
from functools import cache
from typing import Any

from fhir.structure import Element, Model, Shape, model_of, shape_of
from fhir.xml_narrative import as_element
from fhir.xml_reading import FHIR, attributes_of

JSON = dict[str, Any]

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
# What an attribute cannot hold as it is. Control characters are no XML at all, not even written as numbers.
_SPECIAL = re.compile('[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')
_WRITTEN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_UNWRITABLE = "\ufffd"


def encode(resource: JSON, pretty: bool = False) -> bytes:
    """*resource*, which conforms, as a UTF-8 document; with *pretty* each element stands on a line of its own.

    Characters that XML cannot hold (control characters) become U+FFFD.
    """
    pieces = [_HEAD]
    _resource(pieces, resource, "\n" if pretty else "", f' xmlns="{FHIR}"')
    if pretty:
        pieces.append("\n")
    return "".join(pieces).encode()


def _resource(out: list[str], resource: JSON, pad: str, namespace: str = "") -> None:
    model = model_of(resource["resourceType"])
    out.append(f"{pad}<{resource['resourceType']}{namespace}>")
    _children(out, model, resource, pad)
    out.append(f"{pad}</{resource['resourceType']}>")


def _children(out: list[str], model: Model, value: JSON, pad: str) -> None:
    deeper = pad and pad + "  "
    for element in elements(model):
        name = element.name
        if element.primitive:
            beside = value.get(f"_{name}")
            if name not in value and beside is None:
                continue
            if element.many:
                _primitives(out, name, value.get(name) or [], beside or [], deeper)
            else:
                _primitive(out, element, value.get(name), beside, deeper)
        elif name in value:
            for one in value[name] if element.many else [value[name]]:
                _complex(out, element, one, deeper)


def _complex(out: list[str], element: Element, value: JSON, pad: str) -> None:
    name = element.name
    if element.model is None:
        out.append(f"{pad}<{name}>")
        _resource(out, value, pad and pad + "  ")
    else:
        out.append(f"{pad}<{name}{_attributes(shape_of(element.model), value)}>")
        _children(out, element.model, value, pad)
    out.append(f"{pad}</{name}>")


def _primitives(out: list[str], name: str, values: list[Any], beside: list[Any], pad: str) -> None:
    for at in range(max(len(values), len(beside))):
        value = values[at] if at < len(values) else None
        more = beside[at] if at < len(beside) else None
        _written(out, name, value, more, pad)


def _primitive(out: list[str], element: Element, value: Any, beside: JSON | None, pad: str) -> None:
    if element.type == "xhtml":
        if value is not None:
            out.append(pad + as_element(value))
    else:
        _written(out, element.name, value, beside, pad)


def _written(out: list[str], name: str, value: Any, beside: JSON | None, pad: str) -> None:
    text = "" if value is None else f' value="{_text(value)}"'
    if not beside:
        out.append(f"{pad}<{name}{text}/>")
        return
    model = model_of("FHIRPrimitiveExtension")
    start = f"{pad}<{name}{_attributes(shape_of(model), beside)}{text}"
    if "extension" not in beside:
        out.append(f"{start}/>")
        return
    out.append(f"{start}>")
    _children(out, model, beside, pad)
    out.append(f"{pad}</{name}>")


def _attributes(shape: Shape, value: JSON) -> str:
    return "".join(f' {name}="{_text(value[name])}"' for name in sorted(attributes_of(shape)) if name in value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SPECIAL.sub(lambda found: _WRITTEN.get(found[0], _UNWRITABLE), str(value))


@cache
def elements(model: Model) -> tuple[Element, ...]:
    """The elements of *model* that are elements in XML too, in FHIR's order; the shape has them in no order."""
    shape = shape_of(model)
    own = attributes_of(shape)
    order = {name: at for at, name in enumerate(model.elements_sequence())}
    known = [element for element in shape.elements.values() if element.name not in own]
    return tuple(sorted(known, key=lambda element: order[element.name]))
