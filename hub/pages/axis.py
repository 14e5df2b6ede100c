"""Where instants and values stand in a chart, and which of them are written beside it. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from hub.pages import words

MOST_TICKS = 6
"""As many labels as stand side by side on a phone of 360 pixels."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`place` from 0 (oldest) to 100 (newest)."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Times:
    """The time axis that all charts of a page share: percent of the width."""

    since: datetime
    until: datetime

    def place(self, at: datetime) -> float:
        return 100 * (at - self.since) / (self.until - self.since)

    def holds(self, at: datetime) -> bool:
        return self.since <= at < self.until

    def ticks(self) -> list[Tick]:
        """Hours, days, months or years of Europe/London, at most `MOST_TICKS`."""
        local = self.since.astimezone(words.LONDON)
        days = (self.until - self.since) / timedelta(days=1)
        if days <= 1.5:
            return self._at(_hours(local, 4 if days <= 1.1 else 6), _hour)
        if days <= 200:
            step = next(step for step in (1, 2, 5, 7, 14, 28, 56) if days / step <= MOST_TICKS or step == 56)
            return self._at(_days(local.date(), step), _day)
        months = next(
            step for step in (2, 3, 6, 12, 24, 60, 120, 240) if days / 30.4 / step <= MOST_TICKS or step == 240
        )
        return self._at(_months(local.date(), months), _month if months < 12 else _year)

    def _at(self, instants: Iterable[datetime], label: Callable[[datetime], str]) -> list[Tick]:
        found = []
        for at in instants:
            if at >= self.until:
                break
            if at >= self.since:
                found.append(Tick(self.place(at), label(at)))
        return found


class Values:
    """The value axis of one chart: pixels from its top. *shown* are all values that must be in sight."""

    def __init__(self, shown: Sequence[float], height: float, decimals: int) -> None:
        low, high = min(shown), max(shown)
        least = 4 * 10.0**-decimals
        room = max((high - low) * 0.08, (least - (high - low)) / 2, 0.0)
        self.low, self.high, self.height = low - room, high + room, height
        self.decimals = decimals

    def place(self, value: float) -> float:
        return self.height * (self.high - value) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Three to six round values, as (pixels, label)."""
        step = _round_step((self.high - self.low) / 5)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step)
        count = math.floor(self.high / step) - first + 1
        values = [(first + number) * step for number in range(count)]
        return [(self.place(value), f"{value:.{decimals}f}") for value in values]


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least *least*."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * 0.999)


def _hours(local: datetime, step: int) -> Iterator[datetime]:
    start = datetime.combine(local.date(), time(), words.LONDON)
    for number in range(0, 96, step):
        yield start + timedelta(hours=number)


def _days(first: date, step: int) -> Iterator[datetime]:
    # Weeks begin on Mondays, so that the same week has the same lines whatever day it is looked at.
    first -= timedelta(days=first.weekday() if step % 7 == 0 else 0)
    for number in range(0, 400, step):
        yield datetime.combine(first + timedelta(days=number), time(), words.LONDON)


def _months(first: date, step: int) -> Iterator[datetime]:
    start = first.year * 12 + (first.month - 1) // step * step
    for number in range(0, 12 * 200, step):
        year, month = divmod(start + number, 12)
        yield datetime(year, month + 1, 1, tzinfo=words.LONDON)


def _hour(at: datetime) -> str:
    local = at.astimezone(words.LONDON)
    return _day(at) if local.hour == 0 else f"{local.hour:02}:{local.minute:02}"


def _day(at: datetime) -> str:
    local = at.astimezone(words.LONDON)
    return f"{local.day} {words.MONTHS[local.month - 1]}"


def _month(at: datetime) -> str:
    """A year where it begins, else the month."""
    local = at.astimezone(words.LONDON)
    return str(local.year) if local.month == 1 else words.MONTHS[local.month - 1]


def _year(at: datetime) -> str:
    return str(at.astimezone(words.LONDON).year)
