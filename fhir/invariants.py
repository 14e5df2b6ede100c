"""FHIR's invariants of severity error (`data/invariants.json`): which concern an object, and which of them it breaks.

Each is worked out only for an object whose members leave it in doubt (`fhir.fhirpath_presence`).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fhir import narrative
from fhir.fhirpath import Node, read
from fhir.fhirpath_evaluation import run_of
from fhir.fhirpath_presence import Doubt, doubts, members
from fhir.fhirpath_values import Scope, truth
from fhir.structure import Model, Shape, shape_of

JSON = dict[str, Any]
Test = Callable[[JSON, Scope], bool]

_TABLE: dict[str, list[list[str]]] = json.loads((Path(__file__).parent / "data" / "invariants.json").read_bytes())


@dataclass(frozen=True, slots=True)
class Condition:
    """A `Doubt` by the JSON names of its members: one name of each of *present* is there, none of *absent*."""

    present: tuple[frozenset[str], ...]
    absent: frozenset[str]

    def meets(self, node: JSON) -> bool:
        for names in self.present:
            if names.isdisjoint(node):
                return False
        return self.absent.isdisjoint(node)


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule of one kind of object. It holds wherever none of *doubts* is met, and otherwise if *holds* says so.

    A *local* one asks nothing beyond the object itself; *reads* are the JSON names that it looks at there.
    """

    key: str
    human: str
    holds: Test
    doubts: tuple[Condition, ...]
    local: bool
    reads: frozenset[str]

    def in_doubt(self, node: JSON) -> bool:
        return any(condition.meets(node) for condition in self.doubts)


@dataclass(frozen=True, slots=True)
class Invariants:
    """All of one shape: those that are asked *always*, and those that matter only where a member is, by its name."""

    every: tuple[Invariant, ...]
    always: tuple[Invariant, ...]
    by_trigger: dict[str, list[Invariant]]
    triggers: frozenset[str]

    def doubtful(self, node: JSON) -> list[Invariant]:
        found = [invariant for invariant in self.always if invariant.in_doubt(node)]
        if not self.triggers.isdisjoint(node):
            for name, invariants in self.by_trigger.items():
                if name in node:
                    found += [one for one in invariants if one not in found and one.in_doubt(node)]
        return found

    def broken(self, node: JSON, scope: Scope) -> list[Invariant]:
        """Those that *node*, whose structure is right, breaks."""
        return [invariant for invariant in self.doubtful(node) if not invariant.holds(node, scope)]


@cache
def invariants_of(model: Model) -> Invariants:
    shape = shape_of(model)
    return of_rows(
        shape, [*_TABLE.get(shape.path, ()), *(_TABLE["DomainResource"] if "contained" in shape.elements else ())]
    )


def of_rows(shape: Shape, rows: Iterable[Sequence[str]]) -> Invariants:
    """The rules in *rows*: key, what it demands in words, FHIRPath."""
    found = [_invariant(shape, key, human, expression) for key, human, expression in rows]
    always = []
    by_trigger: dict[str, list[Invariant]] = {}
    for one in found:
        if not all(condition.present for condition in one.doubts):
            always.append(one)
            continue
        for name in {name: None for condition in one.doubts for name in sorted(_rarest(condition))}:
            by_trigger.setdefault(name, []).append(one)
    return Invariants(tuple(found), tuple(always), by_trigger, frozenset(by_trigger))


def _rarest(condition: Condition) -> frozenset[str]:
    """Of the members that must be there, the one with the fewest names: `component`, not `value[x]`."""
    return min(condition.present, key=lambda names: (len(names), sorted(names)))


def _invariant(shape: Shape, key: str, human: str, expression: str) -> Invariant:
    node = read(expression)
    if key in _BY_HAND:
        member, test = _BY_HAND[key]
        names = _names(shape, member)
        return Invariant(key, human, test, (Condition((names,), frozenset()),), key in _LOCAL, names)
    run = run_of(node)

    def holds(value: JSON, scope: Scope) -> bool:
        scope.context = value
        return truth(run([value], scope)) is not False

    reads = frozenset(name for member in members(node) for name in _names(shape, member))
    return Invariant(key, human, holds, tuple(_condition(shape, doubt) for doubt in doubts(node)), _local(node), reads)


def _local(node: Node) -> bool:
    if node.kind == "variable" and node.name != "ucum":
        return False
    return node.name != "resolve" and all(map(_local, node.args))


def _condition(shape: Shape, doubt: Doubt) -> Condition:
    absent = (name for member in doubt.absent for name in _names(shape, member))
    return Condition(tuple(_names(shape, member) for member in doubt.present), frozenset(absent))


def _names(shape: Shape, member: str) -> frozenset[str]:
    """The JSON names of a member: `value` is `valueQuantity`, `valueString`, `_valueString` and so on."""
    chosen = next((choice.names for choice in shape.choices if choice.name == member), (member,))
    found = [shape.elements[name] for name in chosen if name in shape.elements]
    return frozenset(
        name
        for element in found
        for name in ([element.name, f"_{element.name}"] if element.primitive else [element.name])
    )


# Rules whose FHIRPath would cost the square of a body's size, needs the types of strings, or says less than it means.


SAID = "said"
"""Where a scope keeps what the resource says that begins with `#`."""


def _contained_is_referred_to(node: JSON, scope: Scope) -> bool:
    """dom-3: something points at each contained resource, or it points at what contains it."""
    if SAID not in scope.memo:
        scope.memo[SAID] = set(local_references(scope.resource))
    said = scope.memo[SAID]
    return all(
        f"#{one.get('id', '')}" in said or "#" in set(local_references(one)) for one in node.get("contained", ())
    )


def local_references(value: Any) -> Iterator[str]:
    """Every text below *value* that begins with `#`."""
    level = [value]
    while level:
        below: list[Any] = []
        for node in level:
            children = node.values() if type(node) is dict else node
            for child in children:
                if type(child) is str:
                    if child.startswith("#"):
                        yield child
                elif type(child) in (dict, list):
                    below.append(child)
        level = below


def _points_at_contained(node: JSON, scope: Scope) -> bool:
    """ref-1: `#id` names a contained resource. `#` alone is what contains this one (R4B corrected the rule)."""
    literal = node.get("reference")
    if not isinstance(literal, str) or not literal.startswith("#"):
        return True
    if literal == "#":
        return scope.root is not scope.resource
    if "ids" not in scope.memo:
        contained = scope.root.get("contained", ()) if type(scope.root) is dict else ()
        scope.memo["ids"] = {one.get("id") for one in contained if type(one) is dict and type(one.get("id")) is str}
    return literal[1:] in scope.memo["ids"]


def _narrative_is_formatting(node: JSON, scope: Scope) -> bool:
    div = node.get("div")
    return not isinstance(div, str) or narrative.is_formatting(div)


def _narrative_has_content(node: JSON, scope: Scope) -> bool:
    div = node.get("div")
    return not isinstance(div, str) or narrative.has_content(div)


_BY_HAND: dict[str, tuple[str, Test]] = {
    "dom-3": ("contained", _contained_is_referred_to),
    "ref-1": ("reference", _points_at_contained),
    "txt-1": ("div", _narrative_is_formatting),
    "txt-2": ("div", _narrative_has_content),
}
_LOCAL = frozenset({"txt-1", "txt-2"})
