"""The FHIRPath that search parameters are written in, compiled to closures over plain dicts.

Known: `a.b | c`, `(x as T)`, `x.as(T)`, `x.ofType(T)`, `entry[0]`, `extension('url')`, `where(resolve() is T)`,
`where(system='phone')`, `where(hasExtension('url'))` and `x.exists() and x != false`. Anything else is a ValueError
when it is compiled, never a wrong answer later. A choice element (`value`) is found under each of its JSON names.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

Test = Callable[[Any], bool]
Values = Callable[[Any], list[Any]]

# What may follow the name of a choice element in JSON: the types that R4 allows there.
# fmt: off
CHOICES = frozenset((
    "Base64Binary", "Boolean", "Canonical", "Code", "Date", "DateTime", "Decimal", "Id", "Instant", "Integer",
    "Markdown", "Oid", "PositiveInt", "String", "Time", "UnsignedInt", "Uri", "Url", "Uuid", "Address", "Age",
    "Annotation", "Attachment", "CodeableConcept", "Coding", "ContactPoint", "Count", "Distance", "Duration",
    "HumanName", "Identifier", "Money", "Period", "Quantity", "Range", "Ratio", "Reference", "SampledData",
    "Signature", "Timing", "ContactDetail", "Contributor", "DataRequirement", "Expression",
    "ParameterDefinition", "RelatedArtifact", "TriggerDefinition", "UsageContext", "Dosage", "Meta",
))
# fmt: on
_STEP = re.compile(
    r"""(?P<name>[A-Za-z]+)(?:\[(?P<index>\d+)\])?(?=\.|$)
      | as\((?P<as>\w+)\) | ofType\((?P<of>\w+)\)
      | extension\('(?P<extension>[^']+)'\)
      | where\(resolve\(\)\ is\ (?P<target>\w+)\)
      | where\((?P<key>\w+)='(?P<value>[^']*)'\)
      | where\(hasExtension\('(?P<has>[^']+)'\)\)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One element to descend into. `chosen` is the type of a choice element; `tests` must all hold for a value."""

    name: str
    chosen: str | None = None
    index: int | None = None
    tests: tuple[Test, ...] = ()

    def named(self, key: str) -> bool:
        """Whether the JSON member *key* holds this element."""
        if self.chosen:
            return key == self.name + self.chosen[0].upper() + self.chosen[1:]
        return key == self.name or (key.startswith(self.name) and key[len(self.name) :] in CHOICES)


@dataclass(frozen=True, slots=True)
class Path:
    """One alternative of an expression: `head` is the member of the resource, `tail` what to find in its value."""

    head: Step
    tail: Values
    steps: tuple[Step, ...]
    # True where the answer is whether there is a value that is not false, as for Patient.deceased.
    truth: bool = False

    def values(self, resource: dict[str, Any]) -> list[Any]:
        plain = resource.get(self.head.name) if self.head.chosen is None else None
        if plain is not None:
            found = self.tail(plain)
        else:
            found = [value for key in resource if self.head.named(key) for value in self.tail(resource[key])]
        return [any(value is not False for value in found)] if self.truth else found


def alternatives(expression: str) -> list[str]:
    """`A.b | (A.c as T)` -> `["A.b", "(A.c as T)"]`."""
    return [part.strip() for part in expression.split("|")]


def compile_path(path: str) -> Path:
    """The closure of one alternative. ValueError when it holds something that is not in the list above."""
    if truth := re.fullmatch(r"(\S+)\.exists\(\) and \1 != false", path):
        plain = compile_path(truth[1])
        return replace(plain, truth=True)
    head, *rest = _steps(path)
    return Path(head, _tail(head, rest), (head, *rest))


def values(expression: str, resource: dict[str, Any]) -> list[Any]:
    """Everything that *expression* finds. For tests and rare use: the index keeps the compiled paths."""
    return [found for path in alternatives(expression) for found in compile_path(path).values(resource)]


def _steps(path: str) -> list[Step]:
    # `(A.b as T).c` reads the same as `A.b.as(T).c`.
    text = re.sub(r"\((\S+) as (\w+)\)", r"\1.as(\2)", path)
    steps: list[Step] = []
    position = text.index(".") + 1
    while position <= len(text):
        match = _STEP.match(text, position)
        if not match:
            raise ValueError(f"FHIRPath not understood at '{text[position:]}' in '{path}'")
        position = match.end() + 1
        if match["name"]:
            steps.append(Step(match["name"], index=int(match["index"]) if match["index"] else None))
        elif url := match["extension"]:
            steps += [Step("extension", tests=(_member("url", url),)), Step("value")]
        else:
            last = steps.pop()
            if chosen := match["as"] or match["of"]:
                steps.append(Step(last.name, chosen, last.index, last.tests))
            else:
                steps.append(Step(last.name, last.chosen, last.index, (*last.tests, _test(match))))
    return steps


def _test(match: re.Match[str]) -> Test:
    if match["target"]:
        return _refers_to(match["target"])
    if match["has"]:
        return _has_extension(match["has"])
    return _member(match["key"], match["value"])


def _member(key: str, wanted: str) -> Test:
    return lambda value: isinstance(value, dict) and value.get(key) == wanted


def _has_extension(url: str) -> Test:
    return lambda value: isinstance(value, dict) and any(e.get("url") == url for e in value.get("extension", ()))


def _refers_to(type_: str) -> Test:
    """A reference is taken for its written type: nothing is fetched while a resource is indexed."""
    pattern = re.compile(rf"(?:^|/){type_}/[^/]+(?:/_history/[^/]+)?$")

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        reference = value.get("reference")
        if isinstance(reference, str) and pattern.search(reference):
            return True
        return value.get("type") == type_ or value.get("resourceType") == type_

    return test


def _tail(head: Step, rest: Iterable[Step]) -> Values:
    steps = list(rest)
    take = _take(head)
    if not steps:
        return take
    getters = [(_getter(step), _take(step)) for step in steps]

    def tail(value: Any) -> list[Any]:
        nodes = take(value)
        for get, choose in getters:
            found: list[Any] = []
            for node in nodes:
                if isinstance(node, dict):
                    child = get(node)
                    if child is not None:
                        found += choose(child)
            nodes = found
        return nodes

    return tail


def _getter(step: Step) -> Callable[[dict[str, Any]], Any]:
    name = step.name
    if step.chosen:
        exact = name + step.chosen[0].upper() + step.chosen[1:]
        return lambda node: node.get(exact)
    length = len(name)

    def get(node: dict[str, Any]) -> Any:
        child = node.get(name)
        if child is None:
            for key in node:
                if key.startswith(name) and key[length:] in CHOICES:
                    return node[key]
        return child

    return get


def _take(step: Step) -> Values:
    """A JSON value as the list of its items that pass the step's index and tests."""
    index, tests = step.index, step.tests

    def take(value: Any) -> list[Any]:
        items = value if isinstance(value, list) else [value]
        if index is not None:
            items = items[index : index + 1]
        if tests:
            items = [item for item in items if all(test(item) for test in tests)]
        return items

    def plain(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    return take if tests or index is not None else plain
