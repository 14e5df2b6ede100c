"""The values of FHIRPath: collections of plain JSON, what counts as equal, which comes first, and what is true."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from fhir.outcome import refuse

Items = list[Any]

MOST_STEPS = 20_000_000
"""Items that the rules of one body may look at together (some seconds); only a body made to be slow needs more."""

_MOMENT = re.compile(r"\A\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))?)?)?\Z")


class Valueless:
    """A primitive that is there with extensions only: it exists and has no value."""


VALUELESS = Valueless()


class Scope:
    """What stands for `%resource`, `%rootResource` and `%context`, and how much may still be looked at.

    *known* keeps the answers of paths from a variable, *memo* what a rule written by hand found out.
    """

    __slots__ = ("context", "known", "memo", "resource", "root", "steps")

    def __init__(self, resource: Any = None, root: Any = None, steps: list[int] | None = None) -> None:
        self.resource = resource
        self.root = root
        self.context: Any = None
        # A list, so that the resources of one body share it.
        self.steps = [MOST_STEPS] if steps is None else steps
        self.known: dict[int, Items] = {}
        self.memo: dict[str, set[Any]] = {}

    def spend(self, count: int) -> None:
        self.steps[0] -= count + 1
        if self.steps[0] < 0:
            raise refuse(413, "too-costly", "checking FHIR's rules on this body takes too long: send it in parts")


def truth(items: Items) -> bool | None:
    """FHIRPath's singleton evaluation: one item that is no boolean counts as true; None when it cannot be told."""
    if len(items) != 1:
        return None
    return items[0] if isinstance(items[0], bool) else True


def key_of(value: Any) -> Any:
    """Something hashable that is equal for equal values."""
    if type(value) is bool:
        return ("boolean", value)
    if type(value) is dict:
        return tuple(sorted((name, key_of(child)) for name, child in value.items()))
    return tuple(map(key_of, value)) if type(value) is list else value


def order_of(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None when these cannot be compared: other kinds, units or precisions."""
    if isinstance(left, dict) and isinstance(right, dict):
        units = [
            (side.get("system"), side.get("code")) if "code" in side else side.get("unit") for side in (left, right)
        ]
        return order_of(left.get("value"), right.get("value")) if units[0] == units[1] else None
    if isinstance(left, str) and isinstance(right, str):
        return _earlier(left, right)
    if type(left) in (int, Decimal) and type(right) in (int, Decimal):
        return int(left > right) - int(left < right)
    return None


def _earlier(left: str, right: str) -> int | None:
    if not (_MOMENT.match(left) and _MOMENT.match(right)):
        return (left > right) - (left < right)
    if len(left) > 10 and len(right) > 10:
        # Fractions beyond microseconds are cut when read: two that differ only there count as equal.
        first, second = datetime.fromisoformat(left), datetime.fromisoformat(right)
        return (first > second) - (first < second)
    size = min(len(left), len(right), 10)
    a, b = left[:size], right[:size]
    if a == b:
        return 0 if len(left) == len(right) else None
    return (a > b) - (a < b)
