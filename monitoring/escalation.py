"""What time does to a flag: it lapses unconfirmed, it is told further up while nobody acknowledges it, its snooze ends.

Pure. A flag's `due` is when; `hub.timers` looks for those that are due. Nothing here ends a flag that somebody has to
look at: unacknowledged never expires (monitoring-rules 4.10).
"""

from dataclasses import replace
from datetime import datetime, timedelta

from monitoring.cover import Cover
from monitoring.decision import CONFIRM_WITHIN
from monitoring.flags import Flag
from monitoring.limits import AMBER, RED
from monitoring.moves import by_engine, snoozed_until
from monitoring.outcomes import NOT_CONFIRMED
from monitoring.states import CALLING, CONFIRMING, ESCALATED, OPEN, RESOLVED, SNOOZED

COORDINATOR, CLINICIAN, LEAD = "coordinator", "clinician", "lead"
CHAIN = (COORDINATOR, CLINICIAN, LEAD)
"""Who is told of a flag: at once, and then each time that nobody has acknowledged it; the last again and again."""

CHAIN_WORDS = {
    COORDINATOR: "the care coordinator",
    CLINICIAN: "the clinicians of the team",
    LEAD: "the duty clinician of the hub",
}

AGAIN = timedelta(hours=1)
"""How often the last of the chain is told again of a red flag. Ours."""

MOST_MOVES = 100
"""Beyond these, being told again replaces the line before, or a flag that nobody looks at would grow for ever."""


def step(level: int) -> str:
    """Whom the chain tells at *level*."""
    return CHAIN[min(level, len(CHAIN) - 1)]


def timed(before: Flag | None, after: Flag, cover: Cover, now: datetime) -> Flag:
    """*after* with the moment at which something happens to it by itself; what runs already goes on running."""
    if after.state == CONFIRMING:
        return replace(after, due=after.refreshed + CONFIRM_WITHIN)
    if after.state == SNOOZED:
        return replace(after, due=snoozed_until(after))
    if after.state not in CALLING or after.severity < AMBER:
        return replace(after, due=None)
    due = _waits_until(after, cover, now)
    runs = before is not None and before.due and (before.state, before.level) == (after.state, after.level)
    if before is not None and before.due is not None and runs:
        due = min(before.due, due) if after.severity > before.severity else before.due
    return replace(after, due=due)


def _waits_until(flag: Flag, cover: Cover, now: datetime) -> datetime:
    """Until when a flag waits to be acknowledged. Where nobody is there to be told, the clock stands still: a chain
    that ran through at night would have told everybody by the morning, and nobody."""
    delay = cover.red if flag.severity == RED else cover.amber
    if flag.level >= len(CHAIN) - 1:
        delay = max(delay, AGAIN)
    if flag.severity == RED and cover.on_call:
        return now + delay
    return cover.hours.after(now, delay) or now + delay


def fall_due(flag: Flag, cover: Cover, now: datetime, repeated: bool = True) -> Flag:
    """*flag*, whose `due` is past, after what that brings. *repeated*: a reading did come after those that it waits for
    a second one of, and did not confirm it."""
    due = flag.due or now
    if flag.state == CONFIRMING:
        said = (
            "The readings that came did not confirm it"
            if repeated
            else f"No second reading came within {CONFIRM_WITHIN // timedelta(hours=1)} hours"
        )
        after = by_engine(flag, RESOLVED, due, said, NOT_CONFIRMED)
    elif flag.state == SNOOZED:
        after = by_engine(flag, OPEN, due, "The snooze has ended")
    else:
        whom = CHAIN_WORDS[step(flag.level + 1)]
        again = " again" if flag.level >= len(CHAIN) - 1 else ""
        after = by_engine(flag, ESCALATED, now, f"Nobody has acknowledged it: told to {whom}{again}")
        if len(after.moves) > MOST_MOVES:
            after = replace(after, moves=[*after.moves[:-2], after.moves[-1]])
    return timed(None, after, cover, now)


def lapses(flag: Flag, now: datetime) -> bool:
    """Whether the time of a flag that waits for a second reading, or of a snooze, is over."""
    return flag.state in (CONFIRMING, SNOOZED) and flag.due is not None and flag.due <= now
