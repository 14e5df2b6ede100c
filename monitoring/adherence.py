"""What became of each reading that was asked for: done, missed, paused, or still to come. Pure.

Three kinds of nothing are told apart: *missed* (this measure did not come, others did), *silent* (nothing at all came
of what was asked for), *paused* (nobody expected it). How many came says nothing clinical, and is never scored as such.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.pauses import Pause
from monitoring.schedules import Schedule, Slot

State = Literal["done", "missed", "paused", "open", "later"]
DONE: State = "done"
MISSED: State = "missed"
PAUSED: State = "paused"
OPEN: State = "open"
LATER: State = "later"

SILENT = "silent"

LOOKS_BACK = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Kept:
    """A slot and what became of it; `at` when it was measured."""

    slot: Slot
    state: State
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Adherence:
    """How many of the readings that were asked for came. `expected` are those done and missed: a pause expects none."""

    done: int
    missed: int
    paused: int

    @property
    def expected(self) -> int:
        return self.done + self.missed

    @property
    def percent(self) -> int | None:
        """None when nothing was expected: no reading asked for is not a reading kept."""
        return round(100 * self.done / self.expected) if self.expected else None


def kept(
    schedule: Schedule,
    times: Iterable[datetime],
    since: datetime,
    until: datetime,
    now: datetime,
    pauses: Sequence[Pause] = (),
) -> list[Kept]:
    """Every slot from *since* to before *until*; *times* are those of the readings that came, *pauses* those of this
    measure. A reading counts for one slot only, the first that it fits."""
    left = sorted(times)
    found = []
    for slot in schedule.slots(since, until):
        while left and left[0] < slot.opens:
            left.pop(0)
        if left and left[0] < slot.closes:
            found.append(Kept(slot, DONE, left.pop(0)))
        elif any(one.since < slot.end and one.until > slot.start for one in pauses):
            found.append(Kept(slot, PAUSED))
        elif slot.closes <= now:
            found.append(Kept(slot, MISSED))
        else:
            found.append(Kept(slot, OPEN if slot.start <= now else LATER))
    return found


def adherence(found: Iterable[Kept]) -> Adherence:
    states = [one.state for one in found]
    return Adherence(*(states.count(state) for state in (DONE, MISSED, PAUSED)))
