"""Places in a resource: what stands there, in which object, and which element of FHIR it is."""

from dataclasses import dataclass
from typing import Any

from fhir.structure import Element, Shape, model_of, shape_of
from fhir.types import SERVED

JSON = dict[str, Any]


@dataclass(slots=True)
class Node:
    """A value in a resource, and the place it stands in: `holder[key]`, or `holder[key][index]` of a repeating element.

    `around` is the shape of the holder. *element* is None for the resource itself and for what a test has worked out.
    A primitive that has only extensions has the value None.
    """

    value: Any
    shape: Shape | None = None
    holder: JSON | None = None
    key: str = ""
    index: int | None = None
    element: Element | None = None
    around: Shape | None = None


def root(resource: JSON) -> Node:
    return Node(resource, shape_of(model_of(resource["resourceType"])))


def children(node: Node, name: str) -> list[Node]:
    """What *node* holds under *name*, of any type when it is a choice. KeyError for no element of its type."""
    if node.shape is None:
        raise KeyError(name)
    candidates = elements(node.shape, name)
    return [
        child for one in candidates if isinstance(node.value, dict) for child in _under(node.value, one, node.shape)
    ]


def elements(shape: Shape, name: str) -> list[Element]:
    """The elements that *name* stands for: one, or all of a choice. KeyError when there is none."""
    plain = shape.elements.get(name)
    found = [plain] if plain is not None else [one for one in shape.elements.values() if one.choice == name]
    if not found:
        raise KeyError(name)
    return found


def _under(holder: JSON, element: Element, around: Shape) -> list[Node]:
    key = element.name
    value, beside = holder.get(key), holder.get(f"_{key}") if element.primitive else None
    if value is None and beside is None:
        return []
    if not element.many:
        return [Node(value, _shape(value, element), holder, key, None, element, around)]
    values = value or []
    count = max(len(values), len(beside or ()))
    items = [*values, *[None] * (count - len(values))]
    return [Node(item, _shape(item, element), holder, key, n, element, around) for n, item in enumerate(items)]


def _shape(value: Any, element: Element) -> Shape | None:
    if element.model is not None:
        return shape_of(element.model)
    if element.type == "Resource" and isinstance(value, dict) and value.get("resourceType") in SERVED:
        return shape_of(model_of(value["resourceType"]))
    return None


def beside(node: Node) -> Node | None:
    """The object that holds id and extensions of a primitive, made when it is not there; None for what is no primitive.

    It stands in `_birthDate` beside `birthDate`; among several values, at the same place of an array beside theirs.
    """
    if node.holder is None or node.element is None or not node.element.primitive:
        return None
    key = f"_{node.key}"
    shape = shape_of(model_of("FHIRPrimitiveExtension"))
    if node.index is None:
        return Node(node.holder.setdefault(key, {}), shape, node.holder, key)
    row = node.holder.setdefault(key, [])
    row += [None] * (node.index + 1 - len(row))
    if row[node.index] is None:
        row[node.index] = {}
    return Node(row[node.index], shape, node.holder, key, node.index)
