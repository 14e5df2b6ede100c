"""Glucose by sensor: time in range, and low glucose that lasts (international consensus, PMC8481000 table 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from itertools import pairwise
from statistics import fmean, pstdev

from monitoring.baseline import LONDON
from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import INFORMATION, RED
from monitoring.measures import MEASURES
from monitoring.readings import Reading

SENSOR = "glucose-sensor"

DAYS = timedelta(days=14)
COVERED = 70
"""The consensus asks for 14 days of which the sensor was worn 70 %."""

LONGEST_GAP = timedelta(minutes=20)
"""A reading stands for the time until the next one, this long at most. Ours."""

LOW, VERY_LOW, HIGH, VERY_HIGH = 3.9, 3.0, 10.0, 13.9
"""mmol/L: below, below, above, above."""

IN_RANGE, BELOW, FAR_BELOW, ABOVE, FAR_ABOVE, VARIES = 70, 4, 1, 25, 5, 36
"""Targets in % of the time, of adults who are neither pregnant, old nor at high risk: more than 70 in range, less than
4, 1, 25 and 5 beyond; coefficient of variation at most 36 %."""


@dataclass(frozen=True, slots=True)
class TimeInRange:
    """Shares of the time in %, the coefficient of variation in %, and how much of the time is `covered` by readings.
    `in_range` and the others are None below `COVERED` %: then nothing is said."""

    covered: float
    in_range: float | None = None
    low: float | None = None
    very_low: float | None = None
    high: float | None = None
    very_high: float | None = None
    mean: float | None = None
    variation: float | None = None

    def misses(self) -> tuple[str, ...]:
        """The targets that are missed, in words; none where nothing can be said."""
        if self.in_range is None:
            return ()
        assert self.low is not None and self.very_low is not None and self.variation is not None
        assert self.high is not None and self.very_high is not None
        told = (
            (self.very_low >= FAR_BELOW, f"{self.very_low:.1f} % below 3.0 (target less than {FAR_BELOW} %)"),
            (self.low >= BELOW, f"{self.low:.1f} % below 3.9 (target less than {BELOW} %)"),
            (self.in_range <= IN_RANGE, f"{self.in_range:.0f} % in range (target more than {IN_RANGE} %)"),
            (self.very_high >= FAR_ABOVE, f"{self.very_high:.1f} % above 13.9 (target less than {FAR_ABOVE} %)"),
            (self.high >= ABOVE, f"{self.high:.0f} % above 10.0 (target less than {ABOVE} %)"),
            (self.variation > VARIES, f"variation {self.variation:.0f} % (target at most {VARIES} %)"),
        )
        return tuple(text for missed, text in told if missed)


def time_in_range(readings: Sequence[Reading], length: timedelta = DAYS) -> TimeInRange:
    """Of the *length* that ends with the newest of *readings* (newest first)."""
    numbers = [(one.at, MEASURES[SENSOR].round(one.value)) for one in readings if one.value is not None]
    if not numbers:
        return TimeInRange(0.0)
    newest = numbers[0][0]
    numbers = [(at, value) for at, value in numbers if newest - at < length]
    spans = [min(later - at, LONGEST_GAP).total_seconds() for (later, _), (at, _) in pairwise(numbers)]
    weighed = list(zip(spans, (value for _, value in numbers[1:]), strict=True))
    whole = sum(spans)
    covered = 100 * whole / length.total_seconds()
    if covered < COVERED:
        return TimeInRange(covered)

    def share(beyond: Sequence[float]) -> float:
        return 100 * sum(beyond) / whole

    values = [value for _, value in numbers]
    mean = fmean(values)
    return TimeInRange(
        covered=covered,
        in_range=share([span for span, value in weighed if LOW <= value <= HIGH]),
        low=share([span for span, value in weighed if value < LOW]),
        very_low=share([span for span, value in weighed if value < VERY_LOW]),
        high=share([span for span, value in weighed if value > HIGH]),
        very_high=share([span for span, value in weighed if value > VERY_HIGH]),
        mean=mean,
        variation=100 * pstdev(values, mean) / mean,
    )


@dataclass(frozen=True, slots=True)
class RangeMissed:
    """The last 14 days of a sensor miss a target of time in range (information). Looked at with readings taken in the
    quarter of an hour from `at_hour`:00 (Europe/London) on, since two weeks of a sensor are thousands of readings."""

    at_hour: int = 6

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({SENSOR})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {SENSOR: DAYS}

    def evaluate(self, case: Case) -> Verdict | None:
        newest = case.new[SENSOR][0]
        if not self.looks(newest):
            return None
        found = time_in_range([one for one in case.recent[SENSOR] if one.at <= newest.at])
        missed = found.misses()
        if not missed:
            return None
        text = f"Glucose by sensor over 14 days: {'; '.join(missed)}; {found.covered:.0f} % of the time covered"
        return Verdict(INFORMATION, f"{text}.", (reason(newest, text),))

    def looks(self, reading: Reading) -> bool:
        at = reading.at.astimezone(LONDON).time()
        return time(self.at_hour) <= at < time(self.at_hour, 15)


@dataclass(frozen=True, slots=True)
class LastingLow:
    """A level 2 event: glucose by sensor stays below 3.0 mmol/L for `lasts` or more (red)."""

    lasts: timedelta = timedelta(minutes=15)
    within: timedelta = timedelta(hours=2)

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({SENSOR})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {SENSOR: self.within}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._look(case, reading) for reading in case.new.get(SENSOR, ()))

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        run: list[Reading] = []
        for one in (reading, *case.before(reading, self.within)):
            if one.value is None or MEASURES[SENSOR].round(one.value) >= VERY_LOW:
                break
            if run and run[-1].at - one.at > LONGEST_GAP:
                break  # what was not measured is not known to have been low
            run.append(one)
        if not run or run[0].at - run[-1].at < self.lasts:
            return None
        minutes = int((run[0].at - run[-1].at).total_seconds() // 60)
        text = f"Glucose {reading.show()}, below 3.0 mmol/L for {minutes} minutes (level 2 event)"
        lowest = min(one.value for one in run if one.value is not None)
        reasons = (reason(reading, text), *(reason(one, f"Glucose {one.show()}") for one in run[1:10]))
        return Verdict(RED, f"{text}.", reasons, extents=(extent(SENSOR, "low", lowest),))
