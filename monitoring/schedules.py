"""When readings are asked for: windows of the day in Europe/London on days of the week, or every so many hours.

Pure. A slot is one reading that is asked for. Windows are those of the clock on the wall, so that 7 to 10 stays 7 to 10
when the clocks change; a day then has 23 or 25 hours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from fhir.outcome import refuse

JSON = dict[str, Any]

LONDON = ZoneInfo("Europe/London")
DAY = 24 * 60
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW = "https://carehub.example/fhir/StructureDefinition/measuring-window"

EARLY = timedelta(hours=1)
"""A reading this long before its window counts for it. Ours."""
GRACE = timedelta(hours=2)
"""A reading this long after its window still counts, and nobody is reminded before (monitoring-rules 4.9)."""
OVERDUE = 1.5
"""Without windows, a reading is overdue after this many intervals (monitoring-rules, engine, 7)."""

BEFORE, AFTER = 60, 120
"""Minutes around a time of day that came without a window. Ours."""

MOST_WINDOWS = 12


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` until `end`, in minutes after midnight on the clock on the wall."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{_clock(self.start)}-{_clock(self.end)}"


@dataclass(frozen=True, slots=True)
class Slot:
    """One reading that is asked for from `start` until `end`; one taken from `opens` until `closes` counts for it."""

    start: datetime
    end: datetime
    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """`windows` on `days` (1 Monday to 7 Sunday; none: every day), else one reading every `every_hours`."""

    every_hours: float | None = None
    windows: tuple[Window, ...] = ()
    days: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The windows and days as one word, the same for the same schedule: `07:00-10:00,17:00-20:00/135`."""
        if not self.windows:
            return ""
        return ",".join(map(str, self.windows)) + (f"/{''.join(map(str, self.days))}" if self.days else "")

    def slots(self, since: datetime, until: datetime) -> list[Slot]:
        """What is asked for from *since* to before *until*, by its start, in order."""
        if self.every_hours is None and not self.windows:
            return []
        first, last = (at.astimezone(LONDON).date() for at in (since, until))
        days = (first + timedelta(days=number) for number in range((last - first).days + 1))
        return [slot for day in days for slot in self._of(day) if since <= slot.start < until]

    def _of(self, day: date) -> Iterator[Slot]:
        if self.windows:
            if not self.days or day.isoweekday() in self.days:
                for one in self.windows:
                    start, end = _at(day, one.start), _at(day, one.end)
                    yield Slot(start, end, start - EARLY, end + GRACE)
            return
        every = self.every_hours or 24.0
        if every < 24:
            step = DAY / max(round(24 / every), 1)
            edges = [_at(day, round(number * step)) for number in range(round(DAY / step) + 1)]
            yield from (Slot(start, end, start, end) for start, end in pairwise(edges))
            return
        length = max(round(every / 24), 1)
        if day.toordinal() % length == 1 % length:  # ordinal 1 was a Monday, so that weeks are those of the calendar
            start, end = _at(day, 0), _at(day + timedelta(days=length), 0)
            yield Slot(start, end, start, end)


def of(every_hours: float | None, text: str = "") -> Schedule:
    """The schedule of a row: *text* as `Schedule.text` wrote it."""
    windows, days = _parsed(text)
    return Schedule(every_hours, windows, days)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[tuple[Window, ...], tuple[int, ...]]:
    if not text:
        return (), ()
    windows, _, days = text.partition("/")
    found = (tuple(map(_minutes, one.split("-"))) for one in windows.split(","))
    return tuple(Window(start, end) for start, end in found), tuple(map(int, days))


@dataclass(frozen=True, slots=True)
class Due:
    """Of a schedule with windows at one moment: who has not measured since `since` is overdue; who has not since `two`
    missed two days on end (None: there were no two days)."""

    since: datetime
    two: datetime | None


def due(schedule: Schedule, now: datetime) -> Due | None:
    """None while nothing was due in the last month."""
    closed = [one for one in schedule.slots(now - timedelta(days=31), now) if one.closes <= now]
    if not closed:
        return None
    today = now.astimezone(LONDON).date()
    first_of: dict[date, Slot] = {}
    for one in closed:
        if (day := one.start.astimezone(LONDON).date()) < today:
            first_of.setdefault(day, one)
    over = list(first_of.values())
    return Due(closed[-1].opens, over[-2].opens if len(over) > 1 else None)


def every(windows: Sequence[Window], days: Sequence[int]) -> float:
    """Hours between readings, on average: what lists that know no windows go by."""
    return 168.0 / (len(windows) * (len(days) or 7))


# -- FHIR --------------------------------------------------------------------------------------------------------------


def to_repeat(schedule: Schedule) -> JSON:
    """The windows as FHIR `Timing.repeat`; empty without windows."""
    if not schedule.windows:
        return {}
    found: JSON = {
        "extension": [
            {
                "url": WINDOW,
                "extension": [
                    {"url": "start", "valueTime": f"{_clock(one.start)}:00"},
                    {"url": "end", "valueTime": f"{_clock(one.end % DAY)}:00"},
                ],
            }
            for one in schedule.windows
        ],
        "frequency": len(schedule.windows),
        "period": 1,
        "periodUnit": "d",
    }
    if schedule.days:
        found["dayOfWeek"] = [WEEK[day - 1] for day in schedule.days]
    found["timeOfDay"] = [f"{_clock(one.start)}:00" for one in schedule.windows]
    return found


def from_repeat(repeat: JSON) -> tuple[tuple[Window, ...], tuple[int, ...]]:
    """Windows and days of a FHIR `Timing.repeat`. A time of day without a window gets one around it, from BEFORE to
    AFTER minutes. Refusal 422 for windows that end before they begin, overlap, or are too many."""
    days = tuple(sorted({WEEK.index(one) + 1 for one in repeat.get("dayOfWeek", ()) if one in WEEK}))
    found: list[Window] = []
    for one in repeat.get("extension", ()):
        if one.get("url") == WINDOW:
            parts = {part.get("url"): str(part.get("valueTime", "")) for part in one.get("extension", ())}
            end = _minutes(parts.get("end", ""))
            found.append(Window(_minutes(parts.get("start", "")), end or DAY))
    if not found:
        times = sorted({_minutes(str(one)) for one in repeat.get("timeOfDay", ())})
        between = [0, *((one + other) // 2 for one, other in pairwise(times)), DAY]
        found = [
            Window(max(one - BEFORE, first), min(one + AFTER, last))
            for one, (first, last) in zip(times, pairwise(between), strict=False)
        ]
    found.sort(key=lambda one: one.start)
    for one in found:
        if not 0 <= one.start < one.end <= DAY:
            raise _wrong(f"The window {one} ends before it begins.")
    if any(one.end > after.start for one, after in pairwise(found)):
        raise _wrong("The windows of a day overlap.")
    if len(found) > MOST_WINDOWS:
        raise _wrong(f"A day has at most {MOST_WINDOWS} windows.")
    if days and not found:
        found = [Window(0, DAY)]
    return tuple(found), days if len(days) < len(WEEK) else ()


def _wrong(text: str) -> Exception:
    return refuse(422, "value", text, "ServiceRequest.occurrence.ofType(Timing).repeat")


def _minutes(clock: str) -> int:
    hours, _, rest = clock.partition(":")
    try:
        return int(hours) * 60 + int(rest[:2])
    except ValueError as error:
        raise _wrong(f"“{clock}” is not a time of day, such as 07:00.") from error


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _at(day: date, minutes: int) -> datetime:
    """The instant at which the clock on the wall shows that time."""
    if minutes >= DAY:
        day, minutes = day + timedelta(days=1), minutes - DAY
    return datetime.combine(day, time(minutes // 60, minutes % 60), LONDON).astimezone(UTC)
