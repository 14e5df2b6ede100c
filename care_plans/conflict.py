"""Two people changed one plan: what each wrote, what both wrote, and a plan that loses neither.

    conflict = three_way(base, mine, theirs)
        base: the version that the editor had in front of them; mine: `apply(base, edits)`; theirs: the version of now
    if conflict.clashes:   show each clash, let people choose `mine`, `theirs`, `both` or write a new text
    plan = resolve(conflict, {clash.part: choice}, {clash.part: text})

A part that only one of them changed is in `conflict.merged` already; a part that both changed alike is no clash.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from care_plans import plan as plans
from care_plans.difference import PlanChange, difference
from care_plans.parts import TEXTS, as_text, join, label, split
from care_plans.plan import Plan, local
from care_plans.shapes import EXTENSION, JSON
from fhir.outcome import Issue, Refusal, refuse

Choice = Literal["mine", "theirs", "both", "write"]


@dataclass(frozen=True, slots=True)
class Clash:
    """A part that both changed. The texts are as people read them (None: absent there); *combinable* says whether
    `both` and `write` are choices."""

    part: str
    label: str
    base: str | None
    mine: str | None
    theirs: str | None
    combinable: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """*merged* is theirs, with what only I changed put in; in a clash it holds theirs until people choose."""

    clashes: tuple[Clash, ...]
    merged: Plan
    mine: Plan
    theirs: Plan
    changed_by_me: tuple[PlanChange, ...]
    changed_by_them: tuple[PlanChange, ...]


class StaleEdit(Refusal):
    """409: the plan has a newer version than the one that was edited. *conflict* holds everything that was typed."""

    def __init__(self, conflict: Conflict, expected_version: int, version: int) -> None:
        if conflict.clashes:
            parts = ", ".join(dict.fromkeys(clash.label for clash in conflict.clashes))
            what = f"You both changed: {parts}. Choose which text stays, or keep both."
        else:
            what = "You changed different parts. Look at the other change, then save both."
        super().__init__(
            409,
            [
                Issue(
                    "conflict",
                    f"You edited version {expected_version}; the plan is at version {version}. {what}",
                    "CarePlan",
                )
            ],
        )
        self.conflict = conflict
        self.expected_version = expected_version
        self.version = version


def three_way(base: Plan, mine: Plan, theirs: Plan) -> Conflict:
    """Compare two plans that both came from *base*, part by part."""
    was, i_have, they_have = split(base), split(mine), split(theirs)
    merged: dict[str, Any] = {}
    clashes: list[Clash] = []
    for name in dict.fromkeys([*they_have, *i_have, *was]):
        before, my_part, their_part = was.get(name), i_have.get(name), they_have.get(name)
        part = their_part
        if their_part == before:
            part = my_part
        elif my_part not in (before, their_part):
            clashes.append(
                Clash(
                    name,
                    label(name),
                    as_text(name, before),
                    as_text(name, my_part),
                    as_text(name, their_part),
                    combinable(name, my_part, their_part),
                )
            )
        if part is not None:
            merged[name] = part
    return Conflict(
        tuple(clashes),
        join(merged, theirs),
        mine,
        theirs,
        tuple(difference(base, mine)),
        tuple(difference(base, theirs)),
    )


def combinable(name: str, mine: Any, theirs: Any) -> bool:
    """Can both texts stand in one part? Only where each side has words of its own."""
    if mine is None or theirs is None:
        return False
    if name.startswith("goal/"):
        return mine["goal"] is not None and theirs["goal"] is not None
    return name in TEXTS or (name.startswith("activity/") and "detail" in mine and "detail" in theirs)


def resolve(conflict: Conflict, choices: Mapping[str, str], texts: Mapping[str, str] | None = None) -> Plan:
    """The plan after people chose for every clash. *texts* holds what they wrote for the choice `write`.

    Refused 422 when a clash has no choice, or one that it does not offer; and when the plan would go active though what
    was agreed is no longer what it says.
    """
    parts = split(conflict.merged)
    mine, theirs = split(conflict.mine), split(conflict.theirs)
    for clash in conflict.clashes:
        name, choice = clash.part, choices.get(clash.part)
        allowed = ("mine", "theirs", "both", "write") if clash.combinable else ("mine", "theirs")
        if choice not in allowed:
            raise refuse(422, "required", f"{clash.label}: choose one of {', '.join(allowed)}.", name)
        match choice:
            case "mine":
                part = mine.get(name)
            case "both":
                part = _with_words(name, theirs[name], _both(_words(name, theirs[name]), _words(name, mine[name])))
            case "write":
                text = ((texts or {}).get(name) or "").strip()
                if not text:
                    raise refuse(422, "required", f"{clash.label}: write the text that shall stay.", name)
                part = _with_words(name, theirs[name], text)
            case _:
                part = theirs.get(name)
        if part is None:
            parts.pop(name, None)
        else:
            parts[name] = part
    plan = join(parts, conflict.theirs)
    agreement = plan.agreement
    goes_active = plan.status == "active" != conflict.theirs.status
    if goes_active and agreement is not None and agreement.current is False:
        raise refuse(
            422, "business-rule", "The plan has changed since it was agreed. Agree it again first.", local("agreed")
        )
    return plan


def _both(theirs: str, mine: str) -> str:
    """Both texts, theirs first; one of them when it holds the other."""
    if mine in theirs:
        return theirs
    return mine if theirs in mine else f"{theirs}\n\n{mine}"


def _words(name: str, part: Any) -> str:
    """The bare words of a combinable part, without dates and statuses."""
    if name.startswith("goal/"):
        return plans.goal(part["goal"]).text
    if name.startswith("activity/"):
        return plans.activity(part, 0).what
    return as_text(name, part) or ""


def _with_words(name: str, part: Any, text: str) -> Any:
    """*part* with other words; dates, statuses and people stay as they are in it."""
    changed: JSON = copy.deepcopy(part)
    if name.startswith("goal/"):
        changed["goal"]["description"] = {"text": text}
        return changed
    if name.startswith("activity/"):
        changed["detail"]["description"] = text
        return changed
    return text if name == "title" else [{"url": EXTENSION + name, "valueString": text}]
