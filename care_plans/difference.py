"""What changed between two versions of a plan, in plain English."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from care_plans import plan as plans
from care_plans.parts import (
    ACTIVITY_WORDS,
    GOAL_WORDS,
    STATUS_WORDS,
    TEXTS,
    UNTOLD,
    activity_text,
    as_text,
    label,
    split,
)
from care_plans.plan import Plan, words
from care_plans.shapes import JSON


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One change. *part* as in `care_plans.parts`; *sentence* says it; *before* and *after* are the texts, if any."""

    part: str
    kind: Literal["added", "changed", "removed"]
    sentence: str
    before: str | None = None
    after: str | None = None


def difference(before: Plan | None, after: Plan) -> list[PlanChange]:
    """The changes from *before* (None: there was no plan) to *after*, in the order in which the plan is read."""
    old, new = split(before) if before else {}, split(after)
    changes = [
        change
        for name in dict.fromkeys([*new, *old])
        if name not in UNTOLD and old.get(name) != new.get(name)
        for change in _changes(name, old.get(name), new.get(name))
    ]
    return sorted(changes, key=_reading_order)


ORDER = ("status", "stopped", "title", "agreed", "what-matters", "goal", "activity", "if-worse", "next-review")


def _reading_order(change: PlanChange) -> int:
    name = change.part.partition("/")[0]
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _changes(name: str, old: Any, new: Any) -> Iterator[PlanChange]:
    if name.startswith("goal/"):
        yield from _goal_changes(name, old, new)
    elif name.startswith("activity/"):
        yield from _activity_changes(name, old, new)
    else:
        yield _section_change(name, old, new)


def _section_change(name: str, old: Any, new: Any) -> PlanChange:
    was, now = as_text(name, old), as_text(name, new)
    kind: Literal["added", "changed", "removed"] = "added" if old is None else "removed" if new is None else "changed"
    title = label(name)
    match name:
        case "status":
            sentence = f"The plan is now {STATUS_WORDS.get(new, new)}." if new else "The status was removed."
        case "agreed":
            sentence = f"Agreed by {now}." if now else "The agreement was removed."
        case "stopped":
            sentence = f"Why it was stopped: {now}" if now else "It was taken up again."
        case "period" if now:
            sentence = f"The plan runs {now}."
        case "next-review" if was and now:
            sentence = f"Next review moved from {was} to {now}."
        case "next-review":
            sentence = f"Next review set for {now}." if now else f"Next review on {was} was removed."
        case "title" if was and now:
            sentence = f"Title changed from “{was}” to “{now}”."
        case _ if name in TEXTS:
            done = {"added": "written", "changed": "changed", "removed": "removed"}[kind]
            sentence = f"“{title}” was {done}."
        case _:
            sentence = f"{title} {kind}."
    return PlanChange(name, kind, sentence, was, now)


def _goal_changes(name: str, old: JSON | None, new: JSON | None) -> Iterator[PlanChange]:
    was_text, now_text = as_text(name, old), as_text(name, new)
    was = plans.goal(old["goal"]) if old and old["goal"] else None
    now = plans.goal(new["goal"]) if new and new["goal"] else None
    if new is None:
        yield PlanChange(name, "removed", f"Goal taken out of the plan: {was_text}", was_text, None)
        return
    if old is None or was is None:
        whose = " (in the person’s own words)" if now and now.by_patient else ""
        yield PlanChange(name, "added", f"Goal added{whose}: {now_text}", None, now_text)
        return
    if now is None:
        yield PlanChange(name, "removed", f"Goal can no longer be read: {was_text}", was_text, None)
        return
    said = False
    if was.text != now.text:
        said = True
        yield PlanChange(name, "changed", f"Goal changed: “{was.text}” is now “{now.text}”.", was.text, now.text)
    if (was.status, was.achievement) != (now.status, now.achievement):
        said = True
        state = now.achievement.replace("-", " ") if now.achievement else GOAL_WORDS.get(now.status, now.status)
        why = f" ({now.why})" if now.why else ""
        yield PlanChange(name, "changed", f"Goal {state}: {now.text}{why}", was_text, now_text)
    if was.due != now.due:
        said = True
        moved = f"is wanted by {words(now.due)}" if now.due else "has no date any more"
        yield PlanChange(name, "changed", f"The goal “{now.text}” {moved}.", was_text, now_text)
    if not said:
        yield PlanChange(name, "changed", f"Details of the goal “{now.text}” changed.", was_text, now_text)


def _activity_changes(name: str, old: JSON | None, new: JSON | None) -> Iterator[PlanChange]:
    was_text, now_text = (activity_text(element) if element else None for element in (old, new))
    if old is None:
        yield PlanChange(name, "added", f"Action added: {now_text}", None, now_text)
        return
    if new is None:
        yield PlanChange(name, "removed", f"Action taken out of the plan: {was_text}", was_text, None)
        return
    was, now = plans.activity(old, 0), plans.activity(new, 0)
    described = (was.what, was.who, was.when) != (now.what, now.who, now.when)
    if was.status != now.status:
        why = f" ({now.why})" if now.why else ""
        state = ACTIVITY_WORDS.get(now.status, now.status)
        yield PlanChange(name, "changed", f"Action {state}: {now.what}{why}", was_text, now_text)
    if described:
        yield PlanChange(name, "changed", f"Action changed: {was_text} is now {now_text}", was_text, now_text)
    elif was.status == now.status:
        yield PlanChange(name, "changed", f"Details of the action “{now.what}” changed.", was_text, now_text)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of words that both texts have (`same`), or that only the older (`cut`) or newer (`new`) one has."""

    kind: Literal["same", "cut", "new"]
    text: str


def compare(before: str, after: str) -> list[Run]:
    """Two texts word by word, for versions side by side. The runs that are not `new` make *before* again, exactly."""
    old, new = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    runs: list[Run] = []
    for _, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        cut, came = "".join(old[start:end]), "".join(new[new_start:new_end])
        if cut == came:
            runs.append(Run("same", cut))
        else:
            runs += [Run("cut", cut)] if cut else []
            runs += [Run("new", came)] if came else []
    return runs
