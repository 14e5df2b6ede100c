"""When somebody at a hub looks at readings: hours of each weekday in Europe/London, bank holidays, closures of its own.

Pure; instants are aware datetimes. Bank holidays of England come from the package `holidays`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

import holidays

LONDON = ZoneInfo("Europe/London")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MIDNIGHT = 24 * 60

Span = tuple[int, int]
"""From and until, in minutes since midnight: (540, 1020) is 9am to 5pm, (0, 1440) the whole day."""

FURTHEST = timedelta(days=400)
"""How far ahead an opening is looked for: a hub that does not open within it does not open."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Closed from *first* to *last*, both included."""

    first: date
    last: date
    why: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the calendar: when it is open, and why it is not as usual (None: as usual)."""

    on: date
    spans: tuple[Span, ...]
    why: str | None


@dataclass(frozen=True, slots=True)
class Hours:
    """`week` holds the spans of Monday to Sunday, in order. Raises ValueError for spans that overlap or are none."""

    week: tuple[tuple[Span, ...], ...]
    bank_holidays: bool = True
    closures: tuple[Closure, ...] = ()

    def __post_init__(self) -> None:
        if len(self.week) != 7:
            raise ValueError("a week has seven days")
        for name, spans in zip(DAYS, self.week, strict=True):
            if any(not 0 <= start < end <= MIDNIGHT for start, end in spans):
                raise ValueError(f"{name} ends before it begins")
            if any(earlier[1] > later[0] for earlier, later in pairwise(spans)):
                raise ValueError(f"{name} has hours that overlap")
        for one in self.closures:
            if one.last < one.first:
                raise ValueError(f"the closure {one.why!r} ends before it begins")

    def day(self, on: date) -> Day:
        """*on* as it is worked; closures go before bank holidays, and these before the weekday."""
        for one in self.closures:
            if one.first <= on <= one.last:
                return Day(on, (), one.why)
        if self.bank_holidays and (name := bank_holiday(on)):
            return Day(on, (), name)
        return Day(on, self.week[on.weekday()], None)

    def opens(self, at: datetime) -> datetime | None:
        """*at* when it is open then, else when it next opens; None when it does not within FURTHEST."""
        for start, end in self._spans(at):
            if end > at:
                return max(start, at)
        return None

    def open_at(self, at: datetime) -> bool:
        return self.opens(at) == at

    def closes(self, at: datetime) -> datetime | None:
        """When the span ends in which it is open *at*; None when it is closed then, or does not close at all."""
        until = None
        for start, end in self._spans(at):
            if start > (until or at):
                break
            if end > at:
                until = end
            if end - at > timedelta(days=7):
                return None
        return until

    def after(self, start: datetime, delay: timedelta) -> datetime | None:
        """When *delay* of open time has passed since *start*; None when that is beyond FURTHEST."""
        left = delay
        for opening, closing in self._spans(start):
            begin = max(opening, start)
            if closing - begin >= left:
                return begin + left
            left -= max(closing - begin, timedelta(0))
        return None

    def preview(self, first: date, days: int = 14) -> list[Day]:
        return [self.day(first + timedelta(days=number)) for number in range(days)]

    def words(self) -> str | None:
        """`Monday to Friday, 9am to 5pm, but not on bank holidays`; None when it never opens."""
        if all(spans == ((0, MIDNIGHT),) for spans in self.week) and not self.bank_holidays:
            return "every day, day and night"
        groups = [(spans, [number for number, _ in found]) for spans, found in groupby(enumerate(self.week), _spans_of)]
        said = [f"{_days(numbers)}, {' and '.join(span(one) for one in spans)}" for spans, numbers in groups if spans]
        if not said:
            return None
        return "; ".join(said) + (", but not on bank holidays" if self.bank_holidays else "")

    def _spans(self, since: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Open spans from the day of *since* on, as instants."""
        on = since.astimezone(LONDON).date()
        last = on + FURTHEST
        while on <= last:
            for start, end in self.day(on).spans:
                yield _instant(on, start), _instant(on, end)
            on += timedelta(days=1)


def span(one: Span) -> str:
    """`9am to 5pm`, `9:30am to 1pm`, `day and night`."""
    return "day and night" if one == (0, MIDNIGHT) else f"{clock(one[0])} to {clock(one[1])}"


def clock(minutes: int) -> str:
    """`9am`, `12:30pm`, `midnight`, `midday`."""
    if minutes % MIDNIGHT == 0:
        return "midnight"
    if minutes == MIDNIGHT // 2:
        return "midday"
    hour, minute = divmod(minutes, 60)
    return f"{(hour - 1) % 12 + 1}{f':{minute:02}' if minute else ''}{'am' if hour < 12 else 'pm'}"


def bank_holiday(on: date) -> str | None:
    """The name of the bank holiday of England that *on* is."""
    return _bank_holidays(on.year).get(on)


@lru_cache(maxsize=64)
def _bank_holidays(year: int) -> dict[date, str]:
    return dict(holidays.country_holidays("GB", subdiv="ENG", years=year, language="en_GB").items())


def _spans_of(numbered: tuple[int, tuple[Span, ...]]) -> tuple[Span, ...]:
    return numbered[1]


def _days(numbers: list[int]) -> str:
    if len(numbers) > 2:
        return f"{DAYS[numbers[0]]} to {DAYS[numbers[-1]]}"
    return " and ".join(DAYS[number] for number in numbers)


def _instant(on: date, minutes: int) -> datetime:
    day = on + timedelta(days=minutes // MIDNIGHT)
    hour, minute = divmod(minutes % MIDNIGHT, 60)
    return datetime.combine(day, time(hour, minute), LONDON).astimezone(UTC)


OFFICE: Span = (9 * 60, 17 * 60)
DEFAULT = Hours((*((OFFICE,),) * 5, (), ()))
"""Monday to Friday, 9am to 5pm, closed on bank holidays: what holds until a hub says otherwise. Ours."""
