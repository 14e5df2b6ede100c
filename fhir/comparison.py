"""How one version of a resource differs from another: as operations of FHIRPath Patch, and in words.

Carried out one after the other, the operations turn the first version into the second. Within a list they go from its
end to its beginning, so that each index is the one that the first version has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Any

import msgspec

from fhir.parameters import part
from fhir.structure import Element, Shape, model_of, shape_of

JSON = dict[str, Any]
# The value of an element and what stands beside it (`birthDate` and `_birthDate`); None where there is none.
Pair = tuple[Any, Any]

# Comparing two lists takes time in proportion to the product of their lengths; beyond this they go item by item.
_MOST_COMPARED = 1_000_000
_SHOWN = 120
_canonical = msgspec.json.Encoder(order="deterministic", decimal_format="number")


@dataclass(frozen=True, slots=True)
class Difference:
    """One change. `type`: add, insert, delete or replace. `path` is FHIRPath; *index* where a list grows."""

    type: str
    path: str
    element: Element
    before: Pair | None = None
    after: Pair | None = None
    index: int | None = None

    @property
    def operation(self) -> JSON:
        """As a parameter of FHIRPath Patch."""
        name = self.element.choice or self.element.name
        parts = [part("type", "code", self.type), part("path", "string", self.path)]
        if self.type == "add":
            parts.append(part("name", "string", name))
        if self.index is not None:
            parts.append(part("index", "integer", self.index))
        if self.after is not None:
            parts.append(_given("value", self.element, self.after))
        return {"name": "operation", "part": parts}

    @property
    def words(self) -> str:
        where = self.path
        if self.type == "add":
            where += f".{self.element.choice or self.element.name}"
        elif self.index is not None:
            where += f"[{self.index}]"
        if self.type == "delete":
            return f"{where}: removed {_short(self.before)}"
        if self.type == "replace":
            return f"{where}: {_short(self.before)} became {_short(self.after)}"
        return f"{where}: added {_short(self.after)}"


def compare(before: JSON, after: JSON, meta: bool = False) -> list[Difference]:
    """What turns *before* into *after*, two valid resources of one type; their `meta` only when it is asked for."""
    type_ = after["resourceType"]
    left_out = {"resourceType", "id"} | (set() if meta else {"meta"})
    return list(_objects(shape_of(model_of(type_)), type_, before, after, left_out))


def _objects(shape: Shape, path: str, before: JSON, after: JSON, left_out: set[str]) -> Iterator[Difference]:
    added: list[Difference] = []
    for element in shape.elements.values():
        name = element.name
        if name in left_out:
            continue
        one, other = _pairs(before, element), _pairs(after, element)
        if one == other:
            continue
        place = f"{path}.{element.choice or name}"
        if element.many and one:
            yield from _lists(element, place, one, other)
        elif not one:
            added += [Difference("add", path, element, after=pair) for pair in other]
        elif not other:
            yield Difference("delete", place, element, before=one[0])
        else:
            yield from _values(element, place, one[0], other[0])
    # A value[x] of another type can only be added when the one before is gone.
    yield from added


def _pairs(holder: JSON, element: Element) -> list[Pair]:
    value, beside = holder.get(element.name), holder.get(f"_{element.name}")
    if value is None and beside is None:
        return []
    if not element.many:
        return [(value, beside)]
    values, besides = list(value or ()), list(beside or ())
    count = max(len(values), len(besides))
    return list(zip(values + [None] * (count - len(values)), besides + [None] * (count - len(besides)), strict=True))


def _values(element: Element, path: str, one: Pair, other: Pair) -> Iterator[Difference]:
    before, after = one[0], other[0]
    if element.model is not None and any(before.get(name) == value for name, value in after.items()):
        yield from _objects(shape_of(element.model), path, before, after, set())
    else:
        yield Difference("replace", path, element, one, other)


def _lists(element: Element, path: str, one: Sequence[Pair], other: Sequence[Pair]) -> Iterator[Difference]:
    for kind, start, end, first, last in reversed(_opcodes(one, other)):
        if kind == "equal":
            continue
        both = min(end - start, last - first)
        for place in reversed(range(first + both, last)):
            yield Difference("insert", path, element, after=other[place], index=end)
        for place in reversed(range(start + both, end)):
            yield Difference("delete", f"{path}[{place}]", element, before=one[place])
        for place in reversed(range(both)):
            changed = one[start + place], other[first + place]
            yield from _values(element, f"{path}[{start + place}]", *changed)


def _opcodes(one: Sequence[Pair], other: Sequence[Pair]) -> list[tuple[str, int, int, int, int]]:
    if len(one) * len(other) > _MOST_COMPARED:
        return [("replace", 0, len(one), 0, len(other))]
    texts = [[_canonical.encode(pair) for pair in pairs] for pairs in (one, other)]
    return [*SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes()]


@cache
def _open_types() -> frozenset[str]:
    """What the value[x] of a parameter may be; other types are said in parts."""
    parameter = shape_of(model_of("Parameters")).elements["parameter"].model
    assert parameter is not None
    return frozenset(name for name in shape_of(parameter).elements if name.startswith("value"))


def _given(name: str, element: Element, pair: Pair) -> JSON:
    """A value as a part of an operation."""
    value, beside = pair
    kind = f"value{element.type[0].upper()}{element.type[1:]}"
    if element.type == "Resource":
        return {"name": name, "resource": value}
    if element.primitive or kind in _open_types():
        key = kind if kind in _open_types() else "valueString"
        said: JSON = {"name": name} if value is None else {"name": name, key: value}
        return said if beside is None else {**said, f"_{key}": beside}
    assert element.model is not None
    inner = shape_of(element.model).elements.values()
    parts = [_given(one.choice or one.name, one, child) for one in inner for child in _pairs(value, one)]
    return {"name": name, "part": parts}


def _short(pair: Pair | None) -> str:
    """A value in few words."""
    value = None if pair is None else pair[0]
    text = _text(value) if value is not None else "no value, with an extension"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        for name in ("text", "display", "reference", "description", "title"):
            if isinstance(value.get(name), str):
                return str(value[name])
        if "family" in value or "given" in value:
            return " ".join([*value.get("given", ()), value.get("family", "")])
        if ("value" in value and isinstance(value["value"], str | int | float)) or "unit" in value:
            return " ".join(str(value[name]) for name in ("value", "unit") if name in value)
        if "start" in value or "end" in value:
            return f"{value.get('start', '…')} to {value.get('end', '…')}"
        if value.get("coding"):
            return _text(value["coding"][0])
        if "code" in value and isinstance(value["code"], str):
            return str(value["code"])
    return value if isinstance(value, str) else _canonical.encode(value).decode()
