"""A flag moves from state to state: by people with who, when and why; by readings and time in the engine's name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fhir.outcome import Refusal, refuse
from monitoring.flags import AUTHOR, Flag
from monitoring.limits import RED
from monitoring.outcomes import OUTCOMES, chosen
from monitoring.states import (
    ACKNOWLEDGED,
    BY_ENGINE,
    BY_PEOPLE,
    ENDED,
    ESCALATED,
    SEEN,
    SNOOZED,
    UNDO,
    WORDS,
    Move,
)

UNDO_WITHIN = timedelta(minutes=15)
"""How long whoever moved a flag may take it back. Ours."""

SNOOZE_MOST = {RED: timedelta(hours=24)}
SNOOZE_MOST_ELSE = timedelta(days=14)
"""How long a red flag, and any other, may be put off. Ours, unverified."""

LONGEST_WHY = 1000


def move(
    flag: Flag,
    to: str,
    who: str,
    when: datetime,
    why: str,
    *,
    code: str | None = None,
    until: datetime | None = None,
) -> Flag:
    """*flag* after *who* moved it *to* a state. Ending it takes the *code* of an outcome, snoozing it an end, *until*.

    Refusal 409 for a move that is not in the table, 422 for a reason, code or end that is missing or makes no sense.
    """
    if to not in BY_PEOPLE[flag.state]:
        raise _refused(flag, to)
    why = why.strip()
    if not why:
        raise refuse(422, "required", "Say why.", "Flag.extension")
    if len(why) > LONGEST_WHY:
        raise refuse(422, "too-long", f"The reason is longer than {LONGEST_WHY} characters.", "Flag.extension")
    if to in ENDED:
        if code is None or code not in OUTCOMES or OUTCOMES[code].ends != to or not OUTCOMES[code].chosen:
            known = ", ".join(one.code for one in chosen(to))
            raise refuse(422, "required", f"Say how it ended, with one of: {known}.", "Flag.extension")
    elif code is not None:
        raise refuse(422, "value", f"An outcome belongs to a flag that ends, not to {to!r}.", "Flag.extension")
    if to == SNOOZED:
        _ends(flag, when, until)
    elif until is not None:
        raise refuse(422, "value", f"An end belongs to a snooze, not to {to!r}.", "Flag.extension")
    return _moved(flag, _step(to, who, when, why, code, until))


def by_engine(flag: Flag, to: str, when: datetime, why: str, code: str | None = None) -> Flag:
    """*flag* after readings or time moved it."""
    if to not in BY_ENGINE[flag.state]:
        raise _refused(flag, to)
    return _moved(flag, _step(to, AUTHOR, when, why, code, None))


def undo(flag: Flag, who: str, when: datetime) -> Flag:
    """*flag* as it stood before its last move, which *who* made by mistake; both stay in its history.

    Refusal 409 when the last move is not theirs, or is longer ago than UNDO_WITHIN.
    """
    problem = takes_back(flag.moves, flag.state, who, when)
    if problem is not None:
        raise refuse(409, "conflict", problem, "Flag.extension")
    before = _standing(flag.moves[:-1])
    why = f"Undone: {WORDS[flag.state].lower()}"
    return _as(flag, before, [*flag.moves, _step(before.state, who, when, why, UNDO, None)])


def snoozed_until(flag: Flag) -> datetime | None:
    """When the snooze ends that *flag* is in."""
    if flag.state != SNOOZED:
        return None
    ends = [one["until"] for one in flag.moves if one["to"] == SNOOZED and one["until"]]
    return datetime.fromisoformat(ends[-1]) if ends else None


def takes_back(moves: Sequence[Move], state: str, who: str, when: datetime) -> str | None:
    """Why *who* cannot take back the last of *moves*, which led to *state*; None when they can."""
    last = moves[-1] if len(moves) > 1 else None
    if last is None or (last["by"], last["to"]) != (who, state) or last["code"] == UNDO or who == AUTHOR:
        return "Only the last move can be undone, by whoever made it."
    if when - datetime.fromisoformat(last["at"]) > UNDO_WITHIN:
        minutes = UNDO_WITHIN // timedelta(minutes=1)
        return f"A move can be undone within {minutes} minutes; this one is longer ago."
    return None


def _ends(flag: Flag, when: datetime, until: datetime | None) -> None:
    most = SNOOZE_MOST.get(flag.severity, SNOOZE_MOST_ELSE)
    if until is None:
        raise refuse(422, "required", "Say when the snooze ends.", "Flag.extension")
    if not when < until <= when + most:
        words = f"{most // timedelta(hours=1)} hours" if most <= timedelta(days=1) else f"{most.days} days"
        text = f"A snooze ends later than now, and at most {words} from now for a flag of this severity."
        raise refuse(422, "value", text, "Flag.extension")


def _refused(flag: Flag, to: str) -> Refusal:
    text = f"This flag is {WORDS[flag.state].lower()}: it cannot become {WORDS.get(to, to).lower()}."
    return refuse(409, "conflict", text, "Flag.extension")


def _step(to: str, by: str, at: datetime, why: str, code: str | None, until: datetime | None) -> Move:
    return Move(to=to, at=at.isoformat(), by=by, why=why, code=code, until=until.isoformat() if until else None)


# -- how a flag stands after its moves ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the moves of a flag make of it."""

    state: str
    level: int = 0
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_why: str | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    resolved_why: str | None = None
    outcome: str | None = None


def _standing(moves: Sequence[Move]) -> _Standing:
    stood = [_Standing(moves[0]["to"])]
    for one in moves[1:]:
        if one["code"] == UNDO and len(stood) > 1:
            stood.pop()
        else:
            stood.append(_after(stood[-1], one))
    return stood[-1]


def _after(before: _Standing, one: Move) -> _Standing:
    to, at = one["to"], datetime.fromisoformat(one["at"])
    if to in ENDED:
        return replace(
            before, state=to, resolved_by=one["by"], resolved_at=at, resolved_why=one["why"], outcome=one["code"]
        )
    if to in SEEN:
        if before.acknowledged_by and to != ACKNOWLEDGED:
            return replace(before, state=to)
        return replace(before, state=to, acknowledged_by=one["by"], acknowledged_at=at, acknowledged_why=one["why"])
    # Whatever calls for eyes again begins anew: who acknowledged it before stands in the history.
    level = before.level + 1 if to == ESCALATED else 0 if before.state in SEEN else before.level
    return _Standing(to, level)


def _moved(flag: Flag, one: Move) -> Flag:
    names = _Standing.__dataclass_fields__
    now = _after(_Standing(**{name: getattr(flag, name) for name in names}), one)
    return _as(flag, now, [*flag.moves, one])


def _as(flag: Flag, standing: _Standing, moves: list[Move]) -> Flag:
    names = _Standing.__dataclass_fields__
    return replace(flag, moves=moves, **{name: getattr(standing, name) for name in names})
