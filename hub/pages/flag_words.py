"""How a flag stands, in words: on boards in a sentence, on its own page with its whole history and what may be done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.identity import Actor
from hub.pages import words
from monitoring.escalation import CHAIN_WORDS, step
from monitoring.flags import AUTHOR
from monitoring.moves import SNOOZE_MOST, SNOOZE_MOST_ELSE
from monitoring.outcomes import FALSE_ALARM as FALSE_ALARMS
from monitoring.outcomes import OUTCOMES, RESOLVED, Outcome, chosen
from monitoring.states import (
    ACKNOWLEDGED,
    BY_PEOPLE,
    CALLING,
    CONFIRMING,
    ENDED,
    ESCALATED,
    IN_PROGRESS,
    OPEN,
    SEEN,
    SNOOZED,
    UNDO,
    WORDS,
    Move,
)

SNOOZES = {
    1: "For 1 hour",
    4: "For 4 hours",
    12: "For 12 hours",
    24: "For 24 hours",
    72: "For 3 days",
    168: "For 1 week",
    336: "For 2 weeks",
}
"""How long a flag may be put off, by hours, as the form offers it."""

SOMEONE = "someone in the team"


def standing(
    state: str,
    level: int,
    due: datetime | None,
    by: str | None,
    at: datetime | None,
    names: Mapping[str, str],
    now: datetime,
) -> str:
    """One or two sentences after `Since today 07:14.`; empty for a flag that is simply open."""
    seen = f"Acknowledged by {names.get(by or '', SOMEONE)}, {words.when(at, now)}." if state in SEEN and at else ""
    if state == CONFIRMING:
        until = f", until {words.when(due, now)}" if due else ""
        return f"A second reading was asked for{until}."
    if state == ESCALATED:
        return f"Not acknowledged so far, so it was told to {CHAIN_WORDS[step(level)]}."
    if state == IN_PROGRESS:
        return f"In progress. {seen}".strip()
    if state == SNOOZED:
        until = f" until {words.when(due, now)}" if due else ""
        return f"Snoozed{until}. {seen}".strip()
    return seen


def next_step(state: str, severity: int, level: int, due: datetime | None, now: datetime) -> str | None:
    """What happens by itself if nobody does anything, for the flag's own page."""
    if due is None:
        return None
    at = words.when(due, now)
    if state == CONFIRMING:
        return f"If no second reading confirms it, it falls away {at}, and the team is told when none came at all."
    if state == SNOOZED:
        return f"It is open again {at}, or as soon as a reading is worse."
    if state in CALLING:
        return f"If nobody acknowledges it, {CHAIN_WORDS[step(level + 1)]} will hear of it {at}."
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history. `look` is its mark; `extra` the outcome, or until when it is put off."""

    what: str
    by: str
    at: str
    why: str
    extra: str


def history(moves: Sequence[Move], names: Mapping[str, str], now: datetime) -> list[Step]:
    """The newest first."""
    told = []
    for number, one in enumerate(moves):
        what = "Undone" if one["code"] == UNDO else "Raised" if number == 0 else WORDS[one["to"]]
        if one["code"] == UNDO:
            extra = f"Back to: {WORDS[one['to']].lower()}"
        elif number == 0:
            extra = WORDS[one["to"]] if one["to"] != OPEN else ""
        elif one["until"]:
            extra = f"Until {words.when(datetime.fromisoformat(one['until']), now)}"
        else:
            extra = OUTCOMES[one["code"]].words if one["code"] in OUTCOMES else ""
        by = "Care Hub" if one["by"] == AUTHOR else names.get(one["by"], SOMEONE)
        told.append(Step(what, by, words.when(datetime.fromisoformat(one["at"]), now), one["why"], extra))
    return told[::-1]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the reader may do with a flag as it stands: acts by name, outcomes by group, snoozes by hours."""

    acts: tuple[tuple[str, str], ...]
    outcomes: tuple[tuple[str, tuple[Outcome, ...]], ...]
    snoozes: tuple[tuple[int, str], ...]

    def __bool__(self) -> bool:
        return bool(self.acts or self.outcomes or self.snoozes)


_ACTS = (
    (ACKNOWLEDGED, "acknowledge", "Acknowledge: I am on it"),
    (IN_PROGRESS, "progress", "In progress: it is being done"),
    (ESCALATED, "escalate", "Escalate"),
    (OPEN, "wake", "End the snooze now"),
)


def choices(actor: Actor, state: str, severity: int, level: int) -> Choices:
    may = BY_PEOPLE.get(state, frozenset()) if actor.can("flag.acknowledge") else frozenset()
    ends = may & ENDED if actor.can("flag.resolve") else frozenset()
    most = SNOOZE_MOST.get(severity, SNOOZE_MOST_ELSE) // timedelta(hours=1)
    puts_off = SNOOZED in may and actor.can("flag.resolve")
    acts = [(act, label) for to, act, label in _ACTS if to in may]
    acts = [(act, f"Escalate to {CHAIN_WORDS[step(level + 1)]}" if act == "escalate" else label) for act, label in acts]
    return Choices(
        tuple(acts),
        outcome_groups() if ends else (),
        tuple((hours, label) for hours, label in SNOOZES.items() if hours <= most) if puts_off else (),
    )


def outcome_groups() -> tuple[tuple[str, tuple[Outcome, ...]], ...]:
    return ("What was done", chosen(RESOLVED)), ("False alarm, because", chosen(FALSE_ALARMS))


TO: dict[str, str] = {act: to for to, act, _ in _ACTS}
"""The state that each act of the form leads to."""


def menu(actor: Actor) -> dict[str, Any]:
    """What the short menu of a board needs, beside the state of each flag."""
    return {"outcomes": outcome_groups() if actor.can("flag.resolve") else ()}
