"""`_filter`: `(code eq 8867-4 or code eq 8480-6) and date ge 2026-01-01 and not (status eq cancelled)`.

The grammar is R4's (https://hl7.org/fhir/R4/search_filter.html): comparisons, `and`, `or` (from the left, neither
stronger), `not (...)`, brackets, and chains with dots. Not spoken: paths with a filter inside, `name[use eq x].family`.
"""

import re
from collections.abc import Callable

from fhir.conditions import all_of, any_of, none_of
from fhir.outcome import Refusal
from fhir.store import Sql
from fhir.written import bad, escaped, listed, unknown

# How deep brackets go and how many comparisons there are: beyond it a search only costs.
DEEPEST = 10
MOST = 50
# Comparisons that no modifier of a search says, by the kind of parameter that takes them.
COMPARISONS = {"string": ("equals", "ends"), "date": ("overlaps",)}

_TOKEN = re.compile(r'\s*(?:(?P<mark>[()])|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()"]+))')
_NUMERIC = ("date", "number", "quantity")
# Operator -> for each kind of parameter, the modifier and the prefix that say it.
_SAID: dict[str, dict[str, tuple[str, str]]] = {
    "eq": {kind: ("", "eq") for kind in _NUMERIC}
    | {"string": (":equals", ""), "token": ("", ""), "reference": ("", ""), "uri": ("", "")},
    "co": {"string": (":contains", "")},
    "sw": {"string": ("", "")},
    "ew": {"string": (":ends", "")},
    **{
        operator: {kind: ("", operator) for kind in _NUMERIC} for operator in ("gt", "lt", "ge", "le", "ap", "sa", "eb")
    },
    "po": {"date": (":overlaps", "")},
    "ss": {"token": (":above", "")},
    "sb": {"token": (":below", ""), "uri": (":below", "")},
    "in": {"token": (":in", "")},
    "ni": {"token": (":not-in", "")},
    "re": {"reference": ("", "")},
}
_SAID["ne"] = _SAID["eq"]
OPERATORS = (*_SAID, "pr")

One = Callable[[str, str], Sql]
Kind = Callable[[str], str]


def condition(type_: str, text: str, kind: Kind, one: One) -> Sql:
    """The condition that *text* says. *kind* tells what a path ends in, *one* makes one comparison."""
    return _Reader(type_, text, kind, one).all()


class _Reader:
    def __init__(self, type_: str, text: str, kind: Kind, one: One) -> None:
        self.type, self.kind, self.one = type_, kind, one
        self.tokens = _tokens(type_, text)
        self.position = 0
        self.comparisons = 0

    def all(self) -> Sql:
        found = self._either(0)
        if self.position < len(self.tokens):
            raise self._wrong("and, or, or the end")
        return found

    def _either(self, depth: int) -> Sql:
        if depth > DEEPEST:
            raise bad(self.type, "_filter", f"brackets go deeper than {DEEPEST}")
        found = self._one(depth)
        while self._word() in ("and", "or"):
            together = all_of if self._take() == "and" else any_of
            found = together([found, self._one(depth)])
        return found

    def _one(self, depth: int) -> Sql:
        if self._word() == "not" and self._next(1) == ("mark", "("):
            self._take()
            return _untrue(self._bracket(depth))
        if self._next() == ("mark", "("):
            return self._bracket(depth)
        return self._comparison()

    def _bracket(self, depth: int) -> Sql:
        self.position += 1
        found = self._either(depth + 1)
        if self._next() != ("mark", ")"):
            raise self._wrong("and, or, or a closing bracket")
        self.position += 1
        return found

    def _comparison(self) -> Sql:
        self.comparisons += 1
        if self.comparisons > MOST:
            raise bad(self.type, "_filter", f"there are more than {MOST} comparisons")
        path = self._word()
        if path is None:
            raise self._wrong("a search parameter")
        self.position += 1
        if "[" in path:
            raise bad(self.type, "_filter", f"'{path[:60]}': a filter inside a path is not supported")
        operator = self._word()
        if operator not in OPERATORS:
            raise self._wrong(f"one of {listed(OPERATORS)}")
        self.position += 1
        value = self._next()
        if value is None or value[0] == "mark":
            raise self._wrong("a value")
        self.position += 1
        if operator == "pr":
            return self.one(f"{path}:missing", {"true": "false", "false": "true"}.get(value[1], value[1]))
        kind = self.kind(path)
        if kind not in _SAID[operator]:
            there = listed(name for name, kinds in _SAID.items() if kind in kinds)
            raise unknown(
                self.type, "_filter", f"'{operator}' does not compare '{path[:60]}', a {kind}; there are {there}"
            )
        modifier, prefix = _SAID[operator][kind]
        # A token or an amount may say system|code; a string or an address is taken as it stands.
        text = escaped(value[1]) if kind in ("string", "uri") else value[1].replace(",", "\\,")
        found = self.one(path + modifier, prefix + text)
        return _untrue(found) if operator == "ne" else found

    def _next(self, ahead: int = 0) -> tuple[str, str] | None:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else None

    def _word(self) -> str | None:
        found = self._next()
        return found[1] if found is not None and found[0] == "word" else None

    def _take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1][1]

    def _wrong(self, expected: str) -> Refusal:
        found = self._next()
        there = f"'{found[1][:60]}'" if found else "nothing"
        return bad(self.type, "_filter", f"the filter has {there} where {expected} should be")


def _untrue(found: Sql) -> Sql:
    """What has no value at all is not as was said, either."""
    return none_of(Sql(f"coalesce({found.text}, FALSE)", found.params))


def _tokens(type_: str, text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise bad(type_, "_filter", f"the filter is not understood at '{text[position : position + 60]}'")
        name = match.lastgroup or ""
        value = match[name]
        tokens.append((name, re.sub(r"\\(.)", r"\1", value) if name == "text" else value))
        position = match.end()
    return tokens
