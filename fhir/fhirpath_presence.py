"""What the presence of members alone decides about an expression, so that a rule costs nothing where it cannot matter.

`code.empty() or system.exists()` can be broken only by an object that has `code` and lacks `system`: that is all a fast
check has to look at. The tree is worked through with three answers, true, false and unknown, for each combination of
members that are there or not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product

from fhir.fhirpath import Node

MOST_MEMBERS = 4
"""2^4 combinations; an expression that mentions more members is never decided by presence."""


class Known(Enum):
    """What is known of a collection: that it is empty, holds exactly true or false, holds something, or nothing."""

    EMPTY = 0
    TRUE = 1
    FALSE = 2
    SOME = 3
    ANY = 4


@dataclass(frozen=True, slots=True)
class Doubt:
    """Only where all of *present* are there and all of *absent* are not can the expression be anything but true."""

    present: tuple[str, ...]
    absent: tuple[str, ...]


def members(node: Node) -> list[str]:
    """The members of the object itself that *node* mentions, in order."""
    return list(dict.fromkeys(_members(node)))


def doubts(node: Node) -> tuple[Doubt, ...]:
    """Where *node* has to be worked out; an empty condition when always."""
    names = members(node)
    if len(names) > MOST_MEMBERS:
        return (Doubt((), ()),)
    found = []
    for there in product((True, False), repeat=len(names)):
        present = dict(zip(names, there, strict=True))
        if _known(node, present) not in (Known.TRUE, Known.EMPTY):
            found.append(present)
    return _fewer(found)


def _fewer(found: list[dict[str, bool]]) -> tuple[Doubt, ...]:
    """Members that do not matter are left away: `{a, b}` and `{a, not b}` are `{a}`."""
    conditions = [frozenset(present.items()) for present in found]
    for _ in range(MOST_MEMBERS):
        joined = {
            a & b
            for a in conditions
            for b in conditions
            if len(a) == len(b) and len(a - b) == 1 and {name for name, _ in a} == {name for name, _ in b}
        }
        conditions = [one for one in conditions if not any(wider < one for wider in joined)] + list(joined)
    kept = sorted({one for one in conditions if not any(other < one for other in conditions)}, key=sorted)
    return tuple(
        Doubt(
            tuple(sorted(name for name, there in one if there)), tuple(sorted(name for name, there in one if not there))
        )
        for one in kept
    )


def _members(node: Node) -> Iterator[str]:
    if node.kind == "member" and node.args[0].kind == "this":
        yield node.name
    args = node.args[:1] if node.kind == "call" and node.name in _EACH else node.args
    for arg in args:
        yield from _members(arg)


def _known(node: Node, present: dict[str, bool]) -> Known:
    match node.kind:
        case "literal":
            return {True: Known.TRUE, False: Known.FALSE}[node.value] if isinstance(node.value, bool) else Known.SOME
        case "member" if node.args[0].kind == "this":
            return Known.SOME if present[node.name] else Known.EMPTY
        case "operator" if node.name in _OPERATORS:
            return _OPERATORS[node.name](*(_known(arg, present) for arg in node.args))
        case "member" | "call" | "type" | "index" if node.args:
            return _FUNCTIONS.get(node.name, _kept)(_known(node.args[0], present), len(node.args))
    return Known.ANY


_EACH = frozenset({"where", "exists", "all", "select"})


def _truth(known: Known) -> bool | None:
    return {Known.TRUE: True, Known.FALSE: False}.get(known)


def _said(value: bool | None) -> Known:
    return Known.ANY if value is None else Known.TRUE if value else Known.FALSE


def _and(left: Known, right: Known) -> Known:
    if Known.FALSE in (left, right):
        return Known.FALSE
    return Known.TRUE if left is right is Known.TRUE else Known.ANY


def _or(left: Known, right: Known) -> Known:
    if Known.TRUE in (left, right):
        return Known.TRUE
    return Known.FALSE if left is right is Known.FALSE else Known.ANY


def _xor(left: Known, right: Known) -> Known:
    a, b = _truth(left), _truth(right)
    return Known.ANY if a is None or b is None else _said(a != b)


def _equal(left: Known, right: Known) -> Known:
    if Known.EMPTY in (left, right):
        return Known.EMPTY
    a, b = _truth(left), _truth(right)
    return Known.ANY if a is None or b is None else _said(a == b)


def _compared(left: Known, right: Known) -> Known:
    return Known.EMPTY if Known.EMPTY in (left, right) else Known.ANY


def _union(left: Known, right: Known) -> Known:
    if left is right is Known.EMPTY:
        return Known.EMPTY
    return Known.ANY if Known.ANY in (left, right) else Known.SOME


_OPERATORS: dict[str, Callable[[Known, Known], Known]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": lambda left, right: _or(_not(left, 1), right),
    "=": _equal,
    "!=": lambda left, right: _not(_equal(left, right), 1),
    "<": _compared,
    "<=": _compared,
    ">": _compared,
    ">=": _compared,
    "|": _union,
}


def _kept(known: Known, arguments: int) -> Known:
    """Of a path or filter it is known only that nothing comes of nothing."""
    return Known.EMPTY if known is Known.EMPTY else Known.ANY


def _not(known: Known, arguments: int) -> Known:
    return {Known.TRUE: Known.FALSE, Known.FALSE: Known.TRUE, Known.EMPTY: Known.EMPTY}.get(known, Known.ANY)


def _exists(known: Known, arguments: int) -> Known:
    if known is Known.EMPTY:
        return Known.FALSE
    return Known.ANY if known is Known.ANY or arguments > 1 else Known.TRUE


def _empty_gives(answer: Known) -> Callable[[Known, int], Known]:
    return lambda known, arguments: answer if known is Known.EMPTY else Known.ANY


_FUNCTIONS: dict[str, Callable[[Known, int], Known]] = {
    "exists": _exists,
    "empty": lambda known, arguments: _not(_exists(known, arguments), 1),
    "not": _not,
    "hasValue": _empty_gives(Known.FALSE),
    "all": _empty_gives(Known.TRUE),
    "isDistinct": _empty_gives(Known.TRUE),
    "count": lambda known, arguments: Known.ANY,
    "combine": lambda known, arguments: Known.ANY,
    "iif": lambda known, arguments: Known.ANY,
}
