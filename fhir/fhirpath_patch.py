"""FHIRPath Patch (R4, fhirpatch.html): a Parameters whose operations add, insert, delete, replace and move elements."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from fhir.outcome import Refusal, refuse
from fhir.place_paths import Path, Unknown, read
from fhir.places import Node, beside, elements
from fhir.structure import Element, Shape, shape_of
from fhir.wire import survey_of

MOST_OPERATIONS = 1000
MOST_WORK = 20_000_000
"""Characters of all paths, times members of the resource: some three seconds at the worst."""

JSON = dict[str, Any]

# What each operation takes; the values are FHIR types.
_PARTS: dict[str, dict[str, str]] = {
    "add": {"path": "string", "name": "string", "value": "*"},
    "insert": {"path": "string", "index": "integer", "value": "*"},
    "delete": {"path": "string"},
    "replace": {"path": "string", "value": "*"},
    "move": {"path": "string", "source": "integer", "destination": "integer"},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: *at* is where it stands in the Parameters, `value` the part that gives one."""

    at: str
    type: str
    path: Path
    name: str = ""
    value: JSON | None = None
    index: int = 0
    source: int = 0
    destination: int = 0

    def refused(self, why: str) -> Refusal:
        said = f"{self.at}, {self.type} at {self.path.text[:200]!r}, cannot be carried out: {why}"
        return refuse(422, "processing", said, self.at)


def checked(parameters: JSON, type_: str) -> tuple[Operation, ...]:
    """The operations of a valid Parameters on a resource of *type_*. Refusal 400 with the place of what is wrong."""
    found = parameters.get("parameter", [])
    if len(found) > MOST_OPERATIONS:
        raise refuse(413, "too-costly", f"a patch has at most {MOST_OPERATIONS} operations, not {len(found)}")
    return tuple(_operation(one, f"Parameters.parameter[{place}]", type_) for place, one in enumerate(found))


def _operation(parameter: JSON, at: str, type_: str) -> Operation:
    if parameter["name"] != "operation":
        raise refuse(
            400, "value", f"{at} is named {parameter['name'][:64]!r}; a patch has operations only", f"{at}.name"
        )
    parts: dict[str, JSON] = {}
    for place, part in enumerate(parameter.get("part", ())):
        if part["name"] in parts:
            raise refuse(400, "invalid", f"{at} has {part['name'][:64]!r} twice", f"{at}.part[{place}]")
        parts[part["name"]] = part
    kind = _text(parts.pop("type", None))
    if kind not in _PARTS:
        shown = f"{kind[:40]!r}" if kind else "missing"
        raise refuse(400, "value", f"the type of {at} is {shown}; expected one of {', '.join(_PARTS)}", at)
    wanted = _PARTS[kind]
    for name in wanted.keys() - parts.keys():
        raise refuse(400, "required", f"{at} is of type {kind} and needs the part {name!r}", at)
    for name in parts.keys() - wanted.keys():
        raise refuse(400, "not-supported", f"{at} is of type {kind}, which takes no part {name[:64]!r}", at)
    path = _text(parts["path"])
    if not path:
        raise refuse(400, "value", f"the path of {at} must be a valueString", at)
    numbers = {name: _whole(parts[name], at) for name, one in wanted.items() if one == "integer"}
    name = _text(parts.get("name"))
    if kind == "add" and not name:
        raise refuse(400, "value", f"the name of {at} must be a valueString", at)
    return Operation(at, kind, read(path, type_, f"{at}.path"), name, parts.get("value"), **numbers)


def _text(part: JSON | None) -> str:
    values = [part[key] for key in ("valueString", "valueCode") if key in part] if part else []
    return str(values[0]) if values else ""


def _whole(part: JSON, at: str) -> int:
    for key in ("valueInteger", "valueUnsignedInt", "valuePositiveInt"):
        if key in part and part[key] >= 0:
            return int(part[key])
    raise refuse(400, "value", f"{part['name']} of {at} must be a valueInteger from 0", at)


def apply(operations: Sequence[Operation], resource: JSON) -> JSON:
    """*resource* changed by *operations*; it is not touched itself.

    Refusal 422 naming the one that does not fit, 413 for more than can be worked out while others wait.
    """
    if survey_of(resource).keys * sum(len(one.path.text) for one in operations) > MOST_WORK:
        raise refuse(413, "too-costly", "too many operations for a resource of this size: send fewer, or PUT it")
    changed = deepcopy(resource)
    for operation in operations:
        try:
            _ACTS[operation.type](operation, changed)
        except Unknown as error:
            raise operation.refused(str(error)) from None
    return changed


@dataclass(slots=True)
class _Row:
    """The values of one element and what stands beside each of them (`_given` beside `given`), one or many alike."""

    holder: JSON
    element: Element
    values: list[Any]
    besides: list[Any]

    def put(self, place: int, given: tuple[Any, Any]) -> None:
        self.values.insert(place, given[0])
        self.besides.insert(place, given[1])

    def close(self) -> None:
        """Write it back; what is empty is left out, as FHIR wants it."""
        for key, items in ((self.element.name, self.values), (f"_{self.element.name}", self.besides)):
            if all(item is None for item in items):
                self.holder.pop(key, None)
            else:
                self.holder[key] = items if self.element.many else items[0]


def _row(holder: JSON, element: Element) -> _Row:
    values, besides = (_items(holder.get(key), element) for key in (element.name, f"_{element.name}"))
    count = max(len(values), len(besides))
    for items in (values, besides):
        items += [None] * (count - len(items))
    return _Row(holder, element, values, besides)


def _items(value: Any, element: Element) -> list[Any]:
    return [] if value is None else list(value) if element.many else [value]


def _add(operation: Operation, resource: JSON) -> None:
    holder = _one(operation, operation.path.find(resource))
    holder = beside(holder) or holder
    among = _elements(operation, holder.shape, operation.name)
    element, given = _given(operation, among, operation.value or {})
    row = _row(holder.value, element)
    if not element.many and any(_row(holder.value, one).values for one in among):
        raise operation.refused(f"{operation.name} is there already; replace it")
    row.put(len(row.values), given)
    row.close()


def _insert(operation: Operation, resource: JSON) -> None:
    row = _list(operation, resource)
    if operation.index > len(row.values):
        raise operation.refused(f"there is no place {operation.index}: the list has {len(row.values)}")
    row.put(operation.index, _given(operation, [row.element], operation.value or {})[1])
    row.close()


def _move(operation: Operation, resource: JSON) -> None:
    row = _list(operation, resource)
    for place in (operation.source, operation.destination):
        if place >= len(row.values):
            raise operation.refused(f"there is no place {place}: the list has {len(row.values)}")
    for items in (row.values, row.besides):
        items.insert(operation.destination, items.pop(operation.source))
    row.close()


def _delete(operation: Operation, resource: JSON) -> None:
    found = operation.path.find(resource)
    if found:  # else there is nothing, which is what was asked for
        _remove(_row_of(operation, _one(operation, found)), found[0].index)


def _replace(operation: Operation, resource: JSON) -> None:
    node = _one(operation, operation.path.find(resource))
    row = _row_of(operation, node)
    among = _elements(operation, node.around, row.element.choice or row.element.name)
    element, given = _given(operation, among, operation.value or {})
    _remove(row, node.index)
    row = _row(row.holder, element)
    row.put(node.index or 0, given)
    row.close()


_ACTS = {"add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move}


def _one(operation: Operation, nodes: Sequence[Node]) -> Node:
    if len(nodes) != 1:
        found = f"{len(nodes)} elements" if nodes else "no element"
        raise operation.refused(f"the path names {found}; expected one")
    return nodes[0]


def _row_of(operation: Operation, node: Node) -> _Row:
    if node.holder is None or node.element is None:
        raise operation.refused("the resource as a whole has PUT and DELETE")
    return _row(node.holder, node.element)


def _remove(row: _Row, index: int | None) -> None:
    del row.values[index or 0]
    del row.besides[index or 0]
    row.close()


def _list(operation: Operation, resource: JSON) -> _Row:
    """The list that the path ends in, which may not be there yet."""
    name = operation.path.last
    if name is None:
        raise operation.refused("the path must end in the name of a list")
    holder = _one(operation, operation.path.holders(resource))
    holder = beside(holder) or holder
    (element, *_) = _elements(operation, holder.shape, name)
    if not element.many:
        raise operation.refused(f"{element.path} is no list")
    return _row(holder.value, element)


def _elements(operation: Operation, shape: Shape | None, name: str) -> list[Element]:
    try:
        if shape is not None:
            return elements(shape, name)
    except KeyError:
        raise operation.refused(f"{shape.path if shape else ''} has no element {name[:64]!r}") from None
    raise operation.refused("it has no elements")


def _given(operation: Operation, among: Sequence[Element], part: JSON) -> tuple[Element, tuple[Any, Any]]:
    """The one of *among* that a part gives a value for, the value, and what stands beside it when it is a primitive."""
    key = next((one for one in part if one.startswith("value")), None)
    beside_key = next((one for one in part if one.startswith("_value")), None)
    if key or beside_key:
        kind = (key or beside_key or "").removeprefix("_").removeprefix("value")
        element = _of_kind(operation, among, kind)
        extensions = part.get(f"_value{kind}") if element.primitive else None
        return element, (deepcopy(part.get(f"value{kind}")), deepcopy(extensions))
    element = among[0]
    if "resource" in part and element.type == "Resource":
        return element, (deepcopy(part["resource"]), None)
    if element.model is None or len(among) > 1:
        raise operation.refused(f"the value of {element.path} is missing")
    return element, (_built(operation, shape_of(element.model), part.get("part", [])), None)


def _of_kind(operation: Operation, among: Sequence[Element], kind: str) -> Element:
    """The element for a value of type *kind*: what stands under `value[x]` depends on it."""
    if among[0].choice is None:
        return among[0]
    for element in among:
        if element.name == f"{element.choice}{kind}":
            return element
    raise operation.refused(f"{among[0].path} cannot be a {kind[:64]}")


def _built(operation: Operation, shape: Shape, parts: Sequence[JSON]) -> JSON:
    """An element of a type that has no name of its own (`Patient.contact`), or an Extension, from its parts."""
    made: JSON = {}
    for part in parts:
        element, given = _given(operation, _elements(operation, shape, part["name"]), part)
        row = _row(made, element)
        if row.values and not element.many:
            raise operation.refused(f"{part['name'][:64]!r} is given twice")
        row.put(len(row.values), given)
        row.close()
    return made
