"""FHIRPath carried out: a tree of `fhir.fhirpath` becomes one closure over plain JSON.

A collection is a list of JSON values. Where FHIRPath would fail (several items where one is needed) or cannot know
(two dates of different precision) the answer is the empty collection: a rule refuses only what certainly breaks it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir.fhirpath import Node, read
from fhir.fhirpath_values import VALUELESS, Items, Scope, Valueless, key_of, order_of, truth
from fhir.paths import CHOICES

Run = Callable[[Items, "Scope"], Items]

_NAMES = """
    abatement additive age allowed answer asNeeded author born bounds characteristic chargeItem code collected content
    created deceased defaultValue definition detail diagnosis dose doseNumber due effective entity event example
    fastingStatus fixed identified indication item legallyBinding location manufacturer maxValue medication minValue
    minimumVolume module multipleBirth name occurred occurrence offset onset participantEffective pattern performed
    probability procedure product quantity rate reported scheduled seriesDoses serviced source start statusReason
    studyEffective subject substance target time timing topic used value when
"""
CHOICE_NAMES: frozenset[str] = frozenset(_NAMES.split())
"""The elements of R4 that have several types (`value[x]`): in JSON the type is part of the name."""

FEW = 32
"""Items that are not counted: they are as quick as counting."""

_VARIABLES = {"ucum": "http://unitsofmeasure.org"}
_TYPES = {
    "boolean": (bool,),
    "decimal": (Decimal, int),
    "integer": (int,),
    "uri": (str,),
    "url": (str,),
    "canonical": (str,),
    "string": (str,),
}
_TYPE_OF = re.compile(r"(?:\A|/)([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}(?:/_history/[A-Za-z0-9.\-]{1,64})?\Z")


def compiled(expression: str) -> Run:
    """*expression* as a closure from a collection to a collection. ValueError as `fhir.fhirpath.read`."""
    return run_of(read(expression))


def run_of(node: Node) -> Run:
    match node.kind:
        case "this":
            return lambda focus, scope: focus
        case "literal":
            literal = [node.value]
            return lambda focus, scope: literal
        case "variable":
            return _variable(node.name)
        case "operator":
            run = _operator(node.name, run_of(node.args[0]), run_of(node.args[1]))
            return _once(run) if _of_variable(node) else run
    base = run_of(node.args[0])
    match node.kind:
        case "member":
            run = _member(base, node.name)
        case "index":
            at = node.value
            run = lambda focus, scope: base(focus, scope)[at : at + 1]  # noqa: E731
        case "type":
            run = _type(base, node.name, node.value)
        case _:
            run = _call(base, node.name, [run_of(arg) for arg in node.args[1:]])
    return _once(run) if _of_variable(node) else run


def _of_variable(node: Node) -> bool:
    """Whether the answer is the same for every node of the resource: `%resource.type = 'batch'`."""
    if node.kind == "variable":
        return node.name != "context"
    return any(_of_variable(arg) for arg in node.args) and all(
        arg.kind == "literal" or _of_variable(arg) for arg in node.args
    )


def _once(run: Run) -> Run:
    def answer(focus: Items, scope: Scope) -> Items:
        known = scope.known.get(id(run))
        if known is None:
            known = scope.known[id(run)] = run(focus, scope)
        return known

    return answer


def _variable(name: str) -> Run:
    if name in ("resource", "rootResource", "context"):
        attribute = {"resource": "resource", "rootResource": "root", "context": "context"}[name]
        return lambda focus, scope: [getattr(scope, attribute)]
    constant = [_VARIABLES[name]]
    return lambda focus, scope: constant


def _member(base: Run, name: str) -> Run:
    def run(focus: Items, scope: Scope) -> Items:
        found: Items = []
        for node in base(focus, scope):
            if type(node) is dict:
                child = node.get(name)
                if type(child) is list:
                    found += [VALUELESS if item is None else item for item in child] if None in child else child
                elif child is not None:
                    found.append(child)
                else:
                    found += _rare(node, name)
        if len(found) > FEW:
            scope.spend(len(found))
        return found

    return run


def _rare(node: dict[str, Any], name: str) -> Iterator[Any]:
    """A choice element under its JSON name, and a primitive that has only extensions."""
    if f"_{name}" in node:
        yield VALUELESS
    if name not in CHOICE_NAMES:
        return
    size = len(name)
    for key, child in node.items():
        if key.startswith(name) and key[size:] in CHOICES:
            yield child
        elif key.startswith("_") and key.startswith(name, 1) and key[size + 1 :] in CHOICES and key[1:] not in node:
            yield VALUELESS


def _type(base: Run, name: str, type_: str) -> Run:
    kinds = _TYPES.get(type_[0].lower() + type_[1:])

    def fits(value: Any) -> bool:
        if kinds is None:
            return type(value) is dict and value.get("resourceType") == type_
        return type(value) in kinds

    if name == "is":
        return lambda focus, scope: [fits(value) for value in base(focus, scope)[:1]]
    return lambda focus, scope: [value for value in base(focus, scope) if fits(value)]


# Operators


def _operator(name: str, left: Run, right: Run) -> Run:
    if name in _LOGIC:
        decide = _LOGIC[name]
        return lambda focus, scope: decide(left(focus, scope), lambda: truth(right(focus, scope)))
    work = _OPERATORS[name]
    return lambda focus, scope: work(left(focus, scope), right(focus, scope), scope)


def _answer(value: bool | None) -> Items:
    return [] if value is None else [value]


def _and(left: Items, right: Callable[[], bool | None]) -> Items:
    first = truth(left)
    if first is False:
        return [False]
    second = right()
    return [False] if second is False else _answer(None if first is None or second is None else True)


def _or(left: Items, right: Callable[[], bool | None]) -> Items:
    first = truth(left)
    if first is True:
        return [True]
    second = right()
    return [True] if second is True else _answer(None if first is None or second is None else False)


def _xor(left: Items, right: Callable[[], bool | None]) -> Items:
    first, second = truth(left), right()
    return _answer(None if first is None or second is None else first != second)


def _implies(left: Items, right: Callable[[], bool | None]) -> Items:
    first = truth(left)
    if first is False:
        return [True]
    second = right()
    return [True] if second is True else _answer(None if first is None or second is None else False)


def _equal(left: Items, right: Items, scope: Scope) -> Items:
    if not left or not right:
        return []
    return [[key_of(value) for value in left] == [key_of(value) for value in right]]


def _unequal(left: Items, right: Items, scope: Scope) -> Items:
    return [not equal for equal in _equal(left, right, scope)]


def _compare(holds: Callable[[int], bool]) -> Callable[[Items, Items, Scope], Items]:
    def work(left: Items, right: Items, scope: Scope) -> Items:
        order = order_of(left[0], right[0]) if len(left) == len(right) == 1 else None
        return [] if order is None else [holds(order)]

    return work


def _joined(left: Items, right: Items, scope: Scope) -> Items:
    return ["".join(str(value) for side in (left, right) for value in side[:1] if not isinstance(value, Valueless))]


def _sum(left: Items, right: Items, scope: Scope) -> Items:
    if len(left) != 1 or len(right) != 1:
        return []
    a, b = left[0], right[0]
    alike = (isinstance(a, str) and isinstance(b, str)) or (
        isinstance(a, int | Decimal) and isinstance(b, int | Decimal)
    )
    return [a + b] if alike else []


def _distinct(items: Iterable[Any]) -> Items:
    return list({key_of(item): item for item in items}.values())


def _within(left: Items, right: Items, scope: Scope) -> Items:
    if not left:
        return []
    scope.spend(len(right))
    if type(left[0]) is str:
        return [left[0] in right]
    return [key_of(left[0]) in [key_of(item) for item in right]]


_LOGIC = {"and": _and, "or": _or, "xor": _xor, "implies": _implies}
_OPERATORS: dict[str, Callable[[Items, Items, Scope], Items]] = {
    "=": _equal,
    "!=": _unequal,
    "<": _compare(lambda order: order < 0),
    "<=": _compare(lambda order: order <= 0),
    ">": _compare(lambda order: order > 0),
    ">=": _compare(lambda order: order >= 0),
    "|": lambda left, right, scope: _distinct([*left, *right]),
    "in": _within,
    "contains": lambda left, right, scope: _within(right, left, scope),
    "&": _joined,
    "+": _sum,
}

# Functions


def _call(base: Run, name: str, args: list[Run]) -> Run:
    if name in _OF_ITEMS and not args:
        work = _OF_ITEMS[name]
        return lambda focus, scope: work(base(focus, scope))
    if name in _OF_TEXT:
        return _texts(base, _OF_TEXT[name], args)
    if name in _WITH and len(args) == 1:
        join, other = _WITH[name], args[0]
        return lambda focus, scope: join(base(focus, scope), other(focus, scope), scope)
    if name in _EACH and len(args) == 1:
        each, test = _EACH[name], args[0]

        def every(focus: Items, scope: Scope) -> Items:
            items = base(focus, scope)
            scope.spend(len(items))
            return each(items, lambda item: test([item], scope))

        return every
    if name == "iif" and len(args) in (2, 3):
        return _iif(base, args)
    if name == "trace":
        return base
    if name in ("descendants", "children") and not args:
        return _below(base, deep=name == "descendants")
    if name == "resolve" and not args:
        return lambda focus, scope: [found for item in base(focus, scope) for found in _resolved(item, scope)]
    raise ValueError(f"FHIRPath function {name} with {len(args)} arguments is not known")


def _whole(items: Items) -> Items:
    value = items[0] if len(items) == 1 else None
    if isinstance(value, str):
        return [int(value)] if re.fullmatch(r"[+-]?\d{1,18}", value) else []
    return [value] if type(value) is int else []


def _text(items: Items) -> Items:
    value = items[0] if len(items) == 1 else None
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, Decimal):
        try:
            return [format(value, "f")]
        except InvalidOperation:
            return []
    return [str(value)] if isinstance(value, str | int) else []


def _negated(items: Items) -> Items:
    value = truth(items)
    return _answer(None if value is None else not value)


_OF_ITEMS: dict[str, Callable[[Items], Items]] = {
    "exists": lambda items: [bool(items)],
    "empty": lambda items: [not items],
    "not": _negated,
    "count": lambda items: [len(items)],
    "first": lambda items: items[:1],
    "tail": lambda items: items[1:],
    "isDistinct": lambda items: [len({key_of(item) for item in items}) == len(items)],
    "hasValue": lambda items: [len(items) == 1 and isinstance(items[0], str | int | Decimal)],
    "toInteger": _whole,
    "toString": _text,
}
_WITH: dict[str, Callable[[Items, Items, Scope], Items]] = {
    "combine": lambda items, others, scope: items + others,
    "intersect": lambda items, others, scope: _common(items, others, scope),
}
_EACH: dict[str, Callable[[Items, Callable[[Any], Items]], Items]] = {
    "where": lambda items, test: [item for item in items if truth(test(item)) is True],
    "exists": lambda items, test: [any(truth(test(item)) is True for item in items)],
    # What cannot be told breaks no rule.
    "all": lambda items, test: [all(truth(test(item)) is not False for item in items)],
    "select": lambda items, test: [found for item in items for found in test(item)],
}


def _common(items: Items, others: Items, scope: Scope) -> Items:
    if not items or not others:
        return []
    scope.spend(len(items) * len(others))
    return _distinct(item for item in items if item in others)


def _texts(base: Run, work: Callable[..., Any], args: list[Run]) -> Run:
    def run(focus: Items, scope: Scope) -> Items:
        items = base(focus, scope)
        given = [arg(focus, scope) for arg in args]
        if len(items) != 1 or not isinstance(items[0], str) or any(len(values) != 1 for values in given):
            return []
        return [work(items[0], *(values[0] for values in given))]

    return run


_OF_TEXT: dict[str, Callable[..., Any]] = {
    "startsWith": lambda text, part: text.startswith(part),
    "contains": lambda text, part: part in text,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "replaceMatches": lambda text, pattern, by: re.sub(pattern, by, text),
    "substring": lambda text, at: text[at:],
}


def _iif(base: Run, args: list[Run]) -> Run:
    def run(focus: Items, scope: Scope) -> Items:
        items = base(focus, scope)
        if truth(args[0](items, scope)) is True:
            return args[1](items, scope)
        return args[2](items, scope) if len(args) == 3 else []

    return run


def _below(base: Run, deep: bool) -> Run:
    def run(focus: Items, scope: Scope) -> Items:
        found: Items = []
        level = base(focus, scope)
        while level:
            below: Items = []
            for node in level:
                if type(node) is dict:
                    for key, child in node.items():
                        if key != "resourceType" and not key.startswith("_"):
                            below += child if type(child) is list else [child]
            scope.spend(len(below))
            found += below
            level = below if deep else []
        return found

    return run


def _resolved(item: Any, scope: Scope) -> Iterator[Any]:
    """What a reference says of its target: a contained resource, or the bare type. Nothing is fetched."""
    literal = item.get("reference") if type(item) is dict else item
    if not isinstance(literal, str):
        return
    if literal.startswith("#"):
        contained = scope.root.get("contained") if type(scope.root) is dict else None
        yield from (one for one in contained or () if type(one) is dict and one.get("id") == literal[1:])
    elif found := _TYPE_OF.search(literal):
        yield {"resourceType": found[1]}
