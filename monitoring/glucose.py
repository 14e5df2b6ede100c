"""Glucose: hypoglycaemia at once, high values when they stay."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER, DEFAULTS, INFORMATION, RED
from monitoring.measures import MEASURES
from monitoring.readings import Reading
from monitoring.thresholds import MEASURE_AGAIN

GLUCOSE = MEASURES["glucose"]
MEASURED = ("glucose", "glucose-sensor")
"""From the finger and by sensor: the levels are the same, and neither confirms the other."""

LEVEL_2_LOW = DEFAULTS["glucose"].low_red
LEVEL_1_LOW = DEFAULTS["glucose"].low_amber
LEVEL_2_HIGH = DEFAULTS["glucose"].high_amber
LEVEL_1_HIGH = 10.1
"""mmol/L, above 10.0 (consensus level 1 high, PMC8481000 table 1)."""

PERSISTS = timedelta(hours=6)
PERSISTS_READINGS = 3
"""A level 1 high is common after meals; it is told only when this many readings over this long are all high. Ours."""

WINDOW = timedelta(hours=24)

HYPO = (
    "Have something sugary now, such as a glass of juice or glucose tablets, and measure again in 15 minutes. "
    "If someone cannot swallow or does not wake, call 999."
)


@dataclass(frozen=True, slots=True)
class GlucoseLevels:
    """Level 2 low (below 3.0) red; level 1 low (below 3.9) amber at once, since waiting for a repeat is what harms;
    level 2 high (above 13.9) information, amber when the reading next to it is as high; level 1 high (above 10.0)
    information when `persists_readings` on end over `persists` are all high. Silent where a clinician set limits.

    Banded on the value as shown (one decimal), so that 70 and 54 mg/dL are 3.9 and 3.0, as the consensus writes them.
    """

    measures: tuple[str, ...] = MEASURED
    persists: timedelta = PERSISTS
    persists_readings: int = PERSISTS_READINGS
    confirm_within: timedelta = WINDOW

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset(self.measures)

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return dict.fromkeys(self.measures, self.confirm_within)

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(
            self._one(case, reading)
            for measure in self.measures
            if measure in case.new and not case.personal(measure)
            for reading in case.new[measure]
        )

    def _one(self, case: Case, reading: Reading) -> Verdict | None:
        assert LEVEL_2_LOW is not None and LEVEL_1_LOW is not None and LEVEL_2_HIGH is not None
        value = _value(reading)
        shown = f"Glucose {reading.show()}"
        low, high = (extent(reading.measure, "low", value),), (extent(reading.measure, "high", value),)
        if value <= LEVEL_2_LOW:
            text = f"{shown}, below 3.0 mmol/L (level 2 low)"
            return Verdict(RED, f"{text}.", (reason(reading, text),), HYPO, extents=low)
        if value <= LEVEL_1_LOW:
            text = f"{shown}, below 3.9 mmol/L (level 1 low)"
            return Verdict(AMBER, f"{text}.", (reason(reading, text),), HYPO, extents=low)
        if value < LEVEL_1_HIGH:
            return None
        if value >= LEVEL_2_HIGH:
            text = f"{shown}, above 13.9 mmol/L (level 2 high)"
            near = case.neighbours(reading, self.confirm_within)
            confirming = [one for one in near if _value(one) >= LEVEL_2_HIGH]
            if confirming:
                confirmed = reason(confirming[0], f"confirmed by {confirming[0].show()}")
                return Verdict(AMBER, f"{text}.", (reason(reading, text), confirmed), MEASURE_AGAIN, extents=high)
            asked = f"{text}; a repeat is asked for."
            return Verdict(INFORMATION, asked, (reason(reading, text),), MEASURE_AGAIN, repeat=True, extents=high)
        run: list[Reading] = [reading]
        for one in case.before(reading, self.confirm_within):
            if _value(one) < LEVEL_1_HIGH:
                break
            run.append(one)
        if len(run) < self.persists_readings or reading.at - run[-1].at < self.persists:
            return None
        text = f"{shown}, above 10.0 mmol/L (level 1 high) in {len(run)} readings on end"
        reasons = tuple(reason(one, f"Glucose {one.show()}") for one in run[:10])
        return Verdict(INFORMATION, f"{text}.", reasons, extents=high)


def _value(reading: Reading) -> float:
    return GLUCOSE.round(reading.value or 0.0)
