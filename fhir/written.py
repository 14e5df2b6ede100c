r"""The conditions of a search as text: `name:modifier.chain=value`, and what `\`, `,`, `|` and `$` mean in a value."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fhir.outcome import Issue, Refusal

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """One condition of a search as it was written, taken apart: `name:modifier.chain=value`."""

    name: str
    modifier: str | None
    chain: str | None
    value: str
    written: str

    @classmethod
    def of(cls, written: str, value: str) -> "Asked":
        head, dot, chain = written.partition(".")
        name, colon, modifier = head.partition(":")
        return cls(name, modifier if colon else None, chain if dot else None, value, written)


def split(value: str, mark: str = ",") -> list[str]:
    r"""The values between the marks, still escaped: `a\,b,c` -> `["a\\,b", "c"]`."""
    if "\\" not in value:
        return value.split(mark)
    values, start, escaped = [], 0, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == mark:
            values.append(value[start:position])
            start = position + 1
    return [*values, value[start:]]


def unescaped(value: str) -> str:
    r"""`a\,b\|c\$d\\e` -> `a,b|c$d\e`."""
    return _ESCAPE.sub(r"\1", value) if "\\" in value else value


def escaped(value: str) -> str:
    """The value that `unescaped` makes *value* of."""
    return re.sub(r"([\\,|$])", r"\\\1", value)


def bar_split(value: str) -> tuple[str, bool, str]:
    """`system|code` as system, whether there was a bar, and code; a value without one comes first, alone."""
    match = re.match(r"((?:[^|\\]|\\.)*)(\|?)(.*)", value, re.DOTALL)
    assert match is not None
    return unescaped(match[1]), bool(match[2]), unescaped(match[3])


class NotUnderstood(Refusal):
    """Of a parameter or modifier that is not there. A client that asks for leniency has it reported instead."""


def bad(type_: str, written: str, why: str) -> Refusal:
    """A condition whose value cannot be."""
    return Refusal(400, [_issue(type_, written, why)])


def too_much(type_: str, written: str, why: str) -> Refusal:
    """A condition beyond what one request may ask for."""
    return Refusal(400, [_issue(type_, written, why, "too-costly")])


def unknown(type_: str, written: str, why: str) -> NotUnderstood:
    return NotUnderstood(400, [_issue(type_, written, why)])


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _issue(type_: str, written: str, why: str, code: str = "invalid") -> Issue:
    return Issue(code, why, f"{type_}?{written.split('=')[0][:120]}")
