"""SMART scopes of systems: `system/Observation.rs`, `system/*.cruds`, and `system/*.read` of SMART v1.

A scope narrows what the role of an account allows; it never adds to it. `r` and `s` go together: who may read a type
may search it, for every search shows what reading would. Source: SMART App Launch 2.2, "Scopes for requesting FHIR
resources".
"""

import re
from dataclasses import dataclass

from fhir.types import SERVED
from hub.roles import ROLES, TYPE_AREAS

LETTERS = "cruds"
# What arrives for a subscription later is limited by its owner's account, not by the token it was made with.
NEVER = frozenset({"Subscription"})
_V1 = {"read": "rs", "write": "cud", "*": LETTERS}
_WORD = re.compile(r"system/(\*|[A-Z][A-Za-z]{1,63})\.(read|write|\*|c?r?u?d?s?)")


class Unknown(ValueError):
    """A scope that is not understood, or that nothing can be granted of."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Pairs of a type, or `*` for every one, and a letter of `cruds`."""

    grants: frozenset[tuple[str, str]]

    def allows(self, type_: str, letter: str) -> bool:
        return type_ not in NEVER and ((type_, letter) in self.grants or ("*", letter) in self.grants)

    def reads(self, type_: str) -> bool:
        return self.allows(type_, "r")

    def __str__(self) -> str:
        types = sorted({type_ for type_, _ in self.grants})
        letters = {type_: "".join(one for one in LETTERS if (type_, one) in self.grants) for type_ in types}
        return " ".join(f"system/{type_}.{letters[type_]}" for type_ in types)


def parse(text: str) -> Scope:
    """The scope that the words of *text* ask for. Unknown, naming the first word that is not understood."""
    grants: set[tuple[str, str]] = set()
    for word in text.split():
        found = _WORD.fullmatch(word)
        if found is None or not found[2] or (found[1] != "*" and found[1] not in SERVED):
            raise Unknown(f"{word[:80]!r} is not understood: system/Type.cruds, some of the letters in that order")
        letters = _V1.get(found[2], found[2])
        if ("r" in letters) != ("s" in letters):
            raise Unknown(f"{word[:80]!r}: r and s are granted together here")
        grants |= {(found[1], letter) for letter in letters}
    if not grants:
        raise Unknown("no scope was asked for")
    return Scope(frozenset(grants))


def granted(asked: Scope, role: str) -> Scope:
    """What *role* can do of what was *asked*. Unknown when that is nothing."""
    known = ROLES[role]
    kept: set[tuple[str, str]] = set()
    for type_, letter in asked.grants:
        areas = known.reads if letter in "rs" else known.writes
        if type_ == "*" or (type_ not in NEVER and (TYPE_AREAS.get(type_) in areas or type_ in known.also_writes)):
            kept.add((type_, letter))
    if not kept:
        raise Unknown(f"the role {role} has nothing of what was asked for")
    return Scope(frozenset(kept))
