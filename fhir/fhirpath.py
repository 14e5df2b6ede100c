"""FHIRPath as it is read: the expressions of FHIR's invariants become a tree of `Node`.

The grammar of FHIRPath N1 without arithmetic other than `+`, without units, dates as literals and user functions:
what HL7's definitions of R4 use. Anything else is a ValueError when it is read, never a wrong answer later.
"""

import re
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\]|\\.)*')
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[$%]?[A-Za-z_][A-Za-z0-9_]*|`[^`]+`)
      | (?P<sign><=|>=|!=|[=<>|&+().,\[\]])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}

# From what binds loosest to what binds tightest (http://hl7.org/fhirpath/N1/#operator-precedence).
_LEVELS = (
    frozenset({"implies"}),
    frozenset({"or", "xor"}),
    frozenset({"and"}),
    frozenset({"in", "contains"}),
    frozenset({"=", "!="}),
    frozenset({"<", "<=", ">", ">="}),
    frozenset({"|"}),
    frozenset({"is", "as"}),
    frozenset({"+", "&"}),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One step. `kind` says what `name`, `value` and `args` are:

    literal (value), this (`$this`), variable (`%resource`: name), member (name, of args[0]), call (function name on
    args[0], with the rest), index (value, of args[0]), operator (name, args[0] and args[1]), type (`is` or `as`: name,
    of args[0]; value is the type).
    """

    kind: str
    name: str = ""
    args: tuple["Node", ...] = ()
    value: Any = None


THIS = Node("this")


def read(expression: str) -> Node:
    """The tree of *expression*. ValueError when it is none, or uses what the docstring above leaves out."""
    reader = _Reader(expression)
    node = reader.operator(0)
    if reader.ahead() is not None:
        raise reader.error()
    return node


class _Reader:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                raise ValueError(f"FHIRPath not understood at '{expression[position:]}' in '{expression}'")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def ahead(self) -> str | None:
        """The next token, unless it is a literal text or none is left."""
        if self.at >= len(self.tokens):
            return None
        kind, text = self.tokens[self.at]
        return "'" if kind == "text" else text

    def error(self) -> ValueError:
        rest = " ".join(text for _, text in self.tokens[self.at :])
        return ValueError(f"FHIRPath not understood at '{rest}' in '{self.expression}'")

    def take(self, *expected: str) -> str:
        token = self.ahead()
        if token is None or (expected and token not in expected):
            raise self.error()
        text = self.tokens[self.at][1]
        self.at += 1
        return text

    def operator(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.path()
        left = self.operator(level + 1)
        while self.ahead() in _LEVELS[level]:
            name = self.take()
            if name in ("is", "as"):
                left = Node("type", name, (left,), self.take())
            else:
                left = Node("operator", name, (left, self.operator(level + 1)))
        return left

    def path(self) -> Node:
        node = self.first()
        while self.ahead() in (".", "["):
            if self.take() == ".":
                node = self.invocation(node)
            else:
                node = Node("index", args=(node,), value=int(self.take()))
                self.take("]")
        return node

    def first(self) -> Node:
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")
        if text == "(":
            self.take()
            node = self.operator(0)
            self.take(")")
            return node
        if kind == "text":
            self.take()
            return Node("literal", value=_ESCAPE.sub(_unescaped, text[1:-1]))
        if kind == "number":
            self.take()
            return Node("literal", value=int(text))
        if kind == "name" and text in ("true", "false"):
            self.take()
            return Node("literal", value=text == "true")
        if kind == "name" and text.startswith("%"):
            return Node("variable", self.take()[1:])
        if text == "$this":
            self.take()
            return THIS
        return self.invocation(THIS)

    def invocation(self, base: Node) -> Node:
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")
        if kind != "name" or text[0] in "$%":
            raise self.error()
        name = self.take().strip("`")
        if self.ahead() != "(":
            # `Appointment.status`, said of an Appointment, is its `status`.
            return THIS if base is THIS and name[0].isupper() else Node("member", name, (base,))
        self.take()
        if name in ("is", "as", "ofType"):
            node = Node("type", name, (base,), self.take())
            self.take(")")
            return node
        args: list[Node] = []
        while self.ahead() != ")":
            args.append(self.operator(0))
            if self.ahead() == ",":
                self.take()
        self.take(")")
        return Node("call", name, (base, *args))


def _unescaped(match: re.Match[str]) -> str:
    found = match[1]
    return chr(int(found[1:], 16)) if len(found) == 5 else _ESCAPED.get(found, found)
