"""What is usual for a person: a robust centre and spread of their own last two weeks, and how far a reading is from it.

Hurst 2010 and Al Rajeh/Hurst 2020 use 14 stable days. Median and MAD, the days left out and the least number are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from math import inf
from typing import Literal
from zoneinfo import ZoneInfo

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import Side, extent
from monitoring.limits import AMBER, in_force
from monitoring.measures import MEASURES, half_up
from monitoring.readings import Reading

LONDON = ZoneInfo("Europe/London")

LENGTH = timedelta(days=14)
LEFT_OUT = timedelta(hours=48)
"""The latest readings are what is being judged; with them in it, a slow fall would become what is usual. Ours."""

FEWEST_READINGS = 7
FEWEST_DAYS = 5
MAD_TO_SD = 1.4826
"""Of a normal distribution, the standard deviation over the median absolute deviation."""

FLOORS: dict[str, float] = {
    "spo2": 1.0,
    "pulse": 5.0,
    "peak-flow": 10.0,
    "systolic": 8.0,
    "weight": 0.5,
    "temperature": 0.3,
}
"""The least spread, in the measure's unit: a person whose readings never differ would alarm at any other value. SpO2,
pulse and peak flow: the stable SDs of Hurst 2010; systolic, weight and temperature: ours, unverified."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Median and spread (in the measure's unit) of `readings` readings on `days` days."""

    measure: str
    centre: float
    spread: float
    readings: int
    days: int

    def z(self, value: float) -> float:
        """How many spreads *value* is above the centre; rounded, since 3.0 in binary may be a little less."""
        return round((value - self.centre) / self.spread, 3)

    def text(self) -> str:
        """`usual 78 /min (21 readings on 12 days)`"""
        return f"usual {MEASURES[self.measure].show(self.centre)} ({self.readings} readings on {self.days} days)"


@dataclass(frozen=True, slots=True)
class TooFew:
    """There is no baseline yet."""

    readings: int
    days: int

    def text(self) -> str:
        return (
            f"No baseline yet: {self.readings} of {FEWEST_READINGS} readings, on {self.days} of {FEWEST_DAYS} days"
            " needed."
        )


def usual(case: Case, measure: str, at: datetime) -> Baseline | TooFew:
    """The baseline of *measure* as it was at *at*: the `LENGTH` before, without the last `LEFT_OUT` of it and without
    days on which a reading crossed the limits in force, which are not what is usual."""
    key = ("baseline", measure, at)
    known = case.memo.get(key)
    if known is None:
        known = case.memo[key] = _usual(case, measure, at)
    found: Baseline | TooFew = known
    return found


def _usual(case: Case, measure: str, at: datetime) -> Baseline | TooFew:
    last, first = at - LEFT_OUT, at - LENGTH
    order = case.orders.get(measure)
    limits = in_force(measure, order.limits if order else None, case.scale)
    lowest, highest = limits.inside if limits else (-inf, inf)
    midnight = _midnight(first, last)
    by_day: dict[int, list[float]] = {}
    alert_days: set[int] = set()
    for one in case.recent.get(measure, ()):
        taken, value = one.at, one.value
        if taken > last or value is None:
            continue
        if taken < first:
            break
        day = (taken - midnight).days if midnight is not None else taken.astimezone(LONDON).toordinal()
        if day in by_day:
            by_day[day].append(value)
        else:
            by_day[day] = [value]
        if not lowest < value < highest:
            alert_days.add(day)
    for day in alert_days:
        del by_day[day]
    values = sorted(chain.from_iterable(by_day.values()))
    if len(values) < FEWEST_READINGS or len(by_day) < FEWEST_DAYS:
        return TooFew(len(values), len(by_day))
    centre = _median(values)
    spread = MAD_TO_SD * _median(sorted([abs(value - centre) for value in values]))
    return Baseline(measure, centre, max(spread, FLOORS[measure]), len(values), len(by_day))


def _midnight(first: datetime, last: datetime) -> datetime | None:
    """The midnight in Europe/London before *first*, from which days may be counted by 24 hours; None where the clocks
    change until *last*. Every reading of two weeks is asked for its day."""
    begins, ends = first.astimezone(LONDON), last.astimezone(LONDON)
    if begins.utcoffset() != ends.utcoffset():
        return None
    midnight = begins.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.astimezone(UTC) if midnight.utcoffset() == begins.utcoffset() else None


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True, slots=True)
class FarFromUsual:
    """z-score: a reading `twice` spreads or more from the person's baseline twice in a row, or `once` spreads or more
    at all, on the side that is worse (amber). Without a baseline it is silent."""

    measure: str
    sides: tuple[Side, ...]
    twice: float = 2.0
    once: float = 3.0

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: LENGTH}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._look(case, reading) for reading in case.new.get(self.measure, ()))

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        baseline = usual(case, self.measure, reading.at)
        if isinstance(baseline, TooFew) or reading.value is None:
            return None
        z = baseline.z(reading.value)
        side: Literal["low", "high"] = "low" if z < 0 else "high"
        if side not in self.sides or abs(z) < self.twice:
            return None
        text = f"{_far(self.measure, reading, z)}; {baseline.text()}"
        reasons = [reason(reading, text)]
        if abs(z) < self.once:
            before = next(iter(case.before(reading, LEFT_OUT)), None)
            if before is None or before.value is None:
                return None
            earlier = baseline.z(before.value)
            if abs(earlier) < self.twice or (earlier < 0) != (z < 0):
                return None
            reasons.append(reason(before, _far(self.measure, before, earlier)))
            text += ", twice in a row"
        return Verdict(AMBER, f"{text}.", tuple(reasons), extents=(extent(self.measure, side, reading.value),))


def _far(measure: str, reading: Reading, z: float) -> str:
    side = "below" if z < 0 else "above"
    return f"{MEASURES[measure].name} {reading.show()}, {half_up(abs(z), 1):.1f} spreads {side} what is usual"
