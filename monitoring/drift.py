"""Slow change against the person's own baseline: EWMA and one-sided CUSUM, with the usual values of process control.

In clinical use the evidence is thin (CUSUM on bio-impedance: 60 % sensitivity, Gyllensten 2016), so a hub switches
these on for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.baseline import LENGTH, Baseline, TooFew, usual
from monitoring.case import Case, Verdict, reason
from monitoring.extents import Side, extent
from monitoring.limits import AMBER
from monitoring.measures import MEASURES
from monitoring.readings import Reading

CHART = timedelta(days=7)
"""How far back a chart begins. Ours."""


@dataclass(frozen=True, slots=True)
class Ewma:
    """The exponentially weighted mean of the last `chart`, of which each new reading has the share `weight`, leaves the
    baseline by `width` of its own standard deviations on the side that is worse (amber)."""

    measure: str
    side: Side
    weight: float = 0.2
    width: float = 3.0
    chart: timedelta = CHART

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: LENGTH}

    def evaluate(self, case: Case) -> Verdict | None:
        chart = _chart(case, self.measure, self.chart)
        if chart is None:
            return None
        baseline, readings = chart
        mean = 0.0
        for z in _worse(baseline, readings, self.side):
            mean += self.weight * (z - mean)
        left = (1 - self.weight) ** (2 * len(readings))
        limit = self.width * (self.weight / (2 - self.weight) * (1 - left)) ** 0.5
        if round(mean - limit, 6) < 0:
            return None
        drifted = f"the weighted mean of {len(readings)} readings is {mean:.1f} spreads (told from {limit:.1f})"
        return _told(baseline, readings, self.side, drifted)


@dataclass(frozen=True, slots=True)
class Cusum:
    """The sum of how far each reading of the last `chart` is from the baseline beyond `slack` spreads, on the side that
    is worse and never below nought, reaches `decision` spreads (amber)."""

    measure: str
    side: Side
    slack: float = 0.5
    decision: float = 5.0
    chart: timedelta = CHART

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: LENGTH}

    def evaluate(self, case: Case) -> Verdict | None:
        chart = _chart(case, self.measure, self.chart)
        if chart is None:
            return None
        baseline, readings = chart
        together = 0.0
        for z in _worse(baseline, readings, self.side):
            together = max(0.0, together + z - self.slack)
        if round(together - self.decision, 6) < 0:
            return None
        drifted = f"the sum of {len(readings)} readings is {together:.1f} spreads (told from {self.decision:g})"
        return _told(baseline, readings, self.side, drifted)


def _chart(case: Case, measure: str, length: timedelta) -> tuple[Baseline, list[Reading]] | None:
    """The baseline at the newest new reading, and the readings up to it, oldest first; None without a baseline."""
    newest = case.new[measure][0]
    baseline = usual(case, measure, newest.at)
    if isinstance(baseline, TooFew):
        return None
    key = ("chart", measure, length)
    readings: list[Reading] | None = case.memo.get(key)
    if readings is None:
        first, last = newest.at - length, newest.at
        found = [one for one in case.recent.get(measure, ()) if first <= one.at <= last and one.value is not None]
        readings = case.memo[key] = found[::-1]
    return baseline, readings


def _worse(baseline: Baseline, readings: list[Reading], side: Side) -> list[float]:
    """How many spreads each reading is on the side that is worse."""
    centre, spread = baseline.centre, baseline.spread if side == "high" else -baseline.spread
    return [((one.value or 0.0) - centre) / spread for one in readings]


def _told(baseline: Baseline, readings: list[Reading], side: Side, drifted: str) -> Verdict:
    newest = readings[-1]
    measure = MEASURES[baseline.measure]
    way = "above" if side == "high" else "below"
    text = f"{measure.name} {newest.show()}, drifting {way} what is usual: {drifted}; {baseline.text()}"
    reasons = [reason(newest, text), *(reason(one, f"{measure.name} {one.show()}") for one in readings[-2:-10:-1])]
    extents = (extent(baseline.measure, side, newest.value or 0.0),)
    return Verdict(AMBER, f"{text}.", tuple(reasons), extents=extents)
