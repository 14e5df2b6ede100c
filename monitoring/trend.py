"""Change over a window: against the lowest or highest of it, or along a line through the days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations
from typing import Literal

from monitoring.baseline import LONDON
from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import Side, extent
from monitoring.limits import AMBER
from monitoring.measures import MEASURES
from monitoring.readings import Reading

Way = Literal["rises", "falls"]


@dataclass(frozen=True, slots=True)
class Change:
    """A reading `by` or more above the lowest (it `rises`) or below the highest (it `falls`) of the `within` before
    it."""

    measure: str
    way: Way
    by: float
    within: timedelta
    severity: int = AMBER

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: self.within}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._look(case, reading) for reading in case.new.get(self.measure, ()))

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        found = moved(case, reading, self.way, self.within)
        if found is None or found[0] < self.by:
            return None
        much, other = found
        measure = MEASURES[self.measure]
        text = f"{measure.name} {reading.show()}, {measure.show(much)} {_than(self.way)} {other.show()} before"
        reasons = (reason(reading, text), reason(other, f"{measure.name} {other.show()}"))
        extents = (extent(self.measure, _side(self.way), reading.value or 0.0),)
        return Verdict(self.severity, f"{text}.", reasons, extents=extents)


def moved(case: Case, reading: Reading, way: Way, within: timedelta) -> tuple[float, Reading] | None:
    """How far *reading* has moved from the lowest or highest before it, and which that is; None without one."""
    earlier = [one for one in case.before(reading, within) if one.value is not None]
    if reading.value is None or not earlier:
        return None
    value = MEASURES[reading.measure].round(reading.value)
    pick, sign = (min, 1.0) if way == "rises" else (max, -1.0)
    other = pick(earlier, key=lambda one: one.value or 0.0)
    change = sign * (value - MEASURES[reading.measure].round(other.value or 0.0))
    return round(change, 6), other  # 82.1 - 80.1 in binary is a little more than 2


@dataclass(frozen=True, slots=True)
class Slope:
    """The line through the middle value of each day of the last `days` `rises` or `falls` by `by` or more over that
    time; silent below `fewest_days` days. Theil-Sen: the middle of the slopes of all pairs, so that one wrong reading
    makes no trend."""

    measure: str
    way: Way
    by: float
    days: int
    fewest_days: int
    severity: int = AMBER

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: timedelta(days=self.days)}

    def evaluate(self, case: Case) -> Verdict | None:
        newest = case.new[self.measure][0]
        readings = [newest, *case.before(newest, timedelta(days=self.days))]
        by_day: dict[date, list[float]] = {}
        for one in readings:
            if one.value is not None:
                by_day.setdefault(one.at.astimezone(LONDON).date(), []).append(one.value)
        if len(by_day) < self.fewest_days:
            return None
        points = [(day.toordinal(), _middle(values)) for day, values in by_day.items()]
        slope = _middle([(y - x) / (later - day) for (day, x), (later, y) in combinations(points, 2)])
        change = round(slope * self.days * (1 if self.way == "rises" else -1), 6)
        if change < self.by:
            return None
        measure = MEASURES[self.measure]
        text = (
            f"{measure.name} {self.way} by {measure.show(change)} in {self.days} days along the line through"
            f" {len(by_day)} days, now {newest.show()}"
        )
        reasons = [reason(newest, text), *(reason(one, f"{measure.name} {one.show()}") for one in readings[1:20])]
        extents = (extent(self.measure, _side(self.way), newest.value or 0.0),)
        return Verdict(self.severity, f"{text}.", tuple(reasons), extents=extents)


def _middle(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _than(way: Way) -> str:
    return "above" if way == "rises" else "below"


def _side(way: Way) -> Side:
    return "high" if way == "rises" else "low"
