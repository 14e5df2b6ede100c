"""The FHIRPath of a FHIRPath Patch: it finds places in a resource, where other FHIRPath finds values.

Known: names (also of choice elements, `value`), `[n]`, `first() last() tail() skip(n) take(n)`, `where(...)`,
`ofType(T)`, `as(T)`, `(x as T)`, `extension('url')`, and in the criteria of `where` also `= != and or`, `exists()`,
`empty()`, `not()`, `startsWith('x')`, `$this`, texts, numbers, dates and truth values. Anything else is refused when it
is read, never guessed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhir.outcome import refuse
from fhir.places import Node, beside, children, root

JSON = dict[str, Any]
LONGEST = 1000
"""Characters of one path."""
_DEEPEST = 20
"""Brackets within brackets."""

_TOKEN = re.compile(
    r"""\s*(?: (?P<text>'(?:[^'\\]|\\.)*') | (?P<date>@[0-9][0-9T:.Z+\-]*) | (?P<number>[0-9]+(?:\.[0-9]+)?)
      | (?P<name>\$?[A-Za-z_][A-Za-z0-9_]*|`[^`]+`) | (?P<mark>!=|[.()\[\]=,]) )""",
    re.VERBOSE,
)


class Unknown(Exception):
    """A path asks for an element that its type does not have."""


Nodes = list[Node]
Step = Callable[[Nodes, Nodes], Nodes]
"""(what stands before the point, what `$this` is) -> what it finds."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path as it was read: its steps, and the name of the last one when that is a plain name."""

    text: str
    steps: tuple[Step, ...]
    last: str | None

    def find(self, resource: JSON) -> Nodes:
        """What the path names. Raises Unknown."""
        return _follow(self.steps, [root(resource)], [root(resource)])

    def holders(self, resource: JSON) -> Nodes:
        """What holds the element that the path ends with: for places in a list that may not exist yet."""
        start = [root(resource)]
        return _follow(self.steps[:-1], start, start)


def _follow(steps: Sequence[Step], nodes: Nodes, this: Nodes) -> Nodes:
    for step in steps:
        nodes = step(nodes, this)
    return nodes


def read(text: str, type_: str, at: str) -> Path:
    """*text*, a path within a resource of *type_*. Refusal 400 for what is not understood; *at* is where it stands."""
    if len(text) > LONGEST:
        raise refuse(400, "too-long", f"{at} is longer than {LONGEST} characters", at)
    try:
        reader = _Reader(_tokens(text), type_)
        steps, last = reader.path()
        reader.end()
    except ValueError as error:
        raise refuse(400, "value", f"{at} is not understood here: {error}", at) from None
    return Path(text, steps, last)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise ValueError(f"at {text[position : position + 40]!r}")
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


class _Reader:
    """Recursive descent, a few lines a rule; each rule gives steps that are followed later."""

    def __init__(self, tokens: list[tuple[str, str]], type_: str) -> None:
        self._tokens = tokens
        self._type = type_
        self._place = 0
        self._depth = 0
        self._criteria = 0

    def path(self) -> tuple[tuple[Step, ...], str | None]:
        steps: list[Step] = []
        last: str | None = None
        kind, text = self._next()
        if text == "(":
            steps.append(self._nested())
            self._expect(")")
        elif not self._criteria and text in (self._type, "Resource", "DomainResource"):
            pass
        elif text == "$this":
            steps.append(lambda _, this: this)
        elif kind == "name":
            steps, last = [self._named(text)], self._plain(text)
        else:
            raise ValueError(f"a path begins with a name, not with {text!r}")
        while self._at in (".", "["):
            if self._next()[1] == "[":
                steps.append(_sliced(*self._number()))
                self._expect("]")
                last = None
            else:
                kind, text = self._next()
                if kind != "name":
                    raise ValueError(f"a name comes after a point, not {text!r}")
                steps.append(self._named(text))
                last = self._plain(text)
        return tuple(steps), last

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise ValueError(f"at {self._at!r}")

    @property
    def _at(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._place == len(self._tokens):
            raise ValueError("it ends too early")
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, mark: str) -> None:
        found = self._next()[1]
        if found != mark:
            raise ValueError(f"expected {mark!r}, found {found!r}")

    def _number(self) -> tuple[int, int | None]:
        kind, text = self._next()
        if kind != "number" or not text.isdigit() or len(text) > 9:
            raise ValueError(f"{text!r} is no place in a list")
        return int(text), int(text) + 1

    def _plain(self, name: str) -> str | None:
        """*name*, when it was no function."""
        return name.strip("`") if self._tokens[self._place - 1][1] == name else None

    def _named(self, name: str) -> Step:
        if self._at != "(":
            return _child(name.strip("`"))
        self._next()
        step = self._function(name)
        self._expect(")")
        return step

    def _function(self, name: str) -> Step:
        if name in _SLICES:
            return _sliced(*_SLICES[name])
        if name in ("skip", "take"):
            count, _ = self._number()
            return _sliced(count, None) if name == "skip" else _sliced(0, count)
        if name == "where":
            self._criteria += 1
            criteria = self._nested()
            self._criteria -= 1
            return _where(criteria)
        if name in ("ofType", "as"):
            return _of_type(self._next()[1])
        if name in ("extension", "startsWith"):
            kind, text = self._next()
            if kind != "text":
                raise ValueError(f"{name} takes a text, not {text!r}")
            return _extension(_unquoted(text)) if name == "extension" else _starts_with(_unquoted(text))
        if name in ("exists", "empty", "not"):
            return _TESTS[name]
        raise ValueError(f"there is no function {name}")

    def _nested(self) -> Step:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST}")
        found = self._either()
        self._depth -= 1
        return found

    def _either(self) -> Step:
        found = self._both()
        while self._at == "or":
            self._next()
            found = _or(found, self._both())
        return found

    def _both(self) -> Step:
        found = self._comparison()
        while self._at == "and":
            self._next()
            found = _and(found, self._comparison())
        return found

    def _comparison(self) -> Step:
        found = self._term()
        if self._at in ("=", "!="):
            wanted = self._next()[1] == "="
            return _compared(found, self._term(), wanted)
        if self._at == "as":
            self._next()
            of_type = _of_type(self._next()[1])
            return lambda nodes, this: of_type(found(nodes, this), this)
        return found

    def _term(self) -> Step:
        kind = self._tokens[self._place][0] if self._place < len(self._tokens) else ""
        text = self._at
        if kind in ("text", "number", "date") or text in ("true", "false"):
            self._next()
            return _constant(kind, text)
        steps, _ = self.path()
        return lambda nodes, this: _follow(steps, nodes, this)


_SLICES: dict[str, tuple[int, int | None]] = {"first": (0, 1), "last": (-1, None), "tail": (1, None)}


def _sliced(start: int, end: int | None) -> Step:
    return lambda nodes, this: nodes[start:end]


def _child(name: str) -> Step:
    def child(nodes: Nodes, this: Nodes) -> Nodes:
        found: Nodes = []
        for node in nodes:
            holder = beside(node) if name in ("extension", "id") and _is_primitive(node) else node
            try:
                found += children(holder or node, name)
            except KeyError:
                where = node.shape.path if node.shape else node.key or "a result"
                raise Unknown(f"{where} has no element {name[:64]!r}") from None
        return found

    return child


def _is_primitive(node: Node) -> bool:
    return node.element is not None and node.element.primitive


def _of_type(type_: str) -> Step:
    """Values of *type_*, such as `Quantity` or `string`, and resources of it."""
    return lambda nodes, this: [node for node in nodes if _type_of(node) == type_]


def _type_of(node: Node) -> str:
    if isinstance(node.value, dict) and "resourceType" in node.value:
        return str(node.value["resourceType"])
    return node.element.type if node.element else ""


def _extension(url: str) -> Step:
    def extension(nodes: Nodes, this: Nodes) -> Nodes:
        return [node for node in _child("extension")(nodes, this) if node.value.get("url") == url]

    return extension


def _where(criteria: Step) -> Step:
    return lambda nodes, this: [node for node in nodes if _holds(criteria([node], [node]))]


def _holds(found: Nodes) -> bool:
    return len(found) == 1 and found[0].value is True


def _truth(value: bool) -> Nodes:
    return [Node(value)]


def _or(one: Step, other: Step) -> Step:
    return lambda nodes, this: _truth(_holds(one(nodes, this)) or _holds(other(nodes, this)))


def _and(one: Step, other: Step) -> Step:
    return lambda nodes, this: _truth(_holds(one(nodes, this)) and _holds(other(nodes, this)))


_TESTS: dict[str, Step] = {
    "exists": lambda nodes, this: _truth(bool(nodes)),
    "empty": lambda nodes, this: _truth(not nodes),
    "not": lambda nodes, this: _truth(not _holds(nodes)) if nodes else [],
}


def _starts_with(text: str) -> Step:
    return lambda nodes, this: [Node(str(node.value).startswith(text)) for node in nodes[:1]]


def _compared(one: Step, other: Step, wanted: bool) -> Step:
    def compared(nodes: Nodes, this: Nodes) -> Nodes:
        left, right = one(nodes, this), other(nodes, this)
        if not left or not right:
            return []
        equal = len(left) == len(right) and all(_equal(a.value, b.value) for a, b in zip(left, right, strict=True))
        return _truth(equal is wanted)

    return compared


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _constant(kind: str, text: str) -> Step:
    value: Any = text == "true"
    if kind == "text":
        value = _unquoted(text)
    elif kind == "number":
        value = Decimal(text)
    elif kind == "date":
        value = text[1:]
    return lambda nodes, this: [Node(value)]


def _unquoted(text: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), text[1:-1])
