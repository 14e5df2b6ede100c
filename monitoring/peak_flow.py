"""Asthma: peak flow as a share of the person's own best, which has a day and grows old."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER, INFORMATION, RED
from monitoring.measures import MEASURES
from monitoring.readings import Reading

BEST_OLD = timedelta(days=730)
BEST_AGE = timedelta(days=3653)
"""A best of more than two years ago is used and said to be old; one of more than ten is not used. Ten is ours."""

STEP_UP, STEROIDS, URGENT = 80, 60, 40
"""% of the personal best below which the action plan takes its next step (Breathe 2015, table 2)."""

ACT = "Follow your asthma action plan. If your blue inhaler does not help or you can hardly speak, call 999."
AGAIN = "Take your reliever as your plan says, and measure again. Follow your asthma action plan."


@dataclass(frozen=True, slots=True)
class ShareOfBest:
    """Peak flow below `red_below` % of the personal best red, below `amber_below` % amber at once, below `step_up` %
    amber when the reading next to it is as low, else a repeat is asked for. Silent without a personal best, and where a
    clinician set limits in L/min."""

    step_up: int = STEP_UP
    amber_below: int = STEROIDS
    red_below: int = URGENT
    confirm_within: timedelta = timedelta(hours=24)

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"peak-flow"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {"peak-flow": self.confirm_within, "peak-flow-best": BEST_AGE}

    def evaluate(self, case: Case) -> Verdict | None:
        if case.personal("peak-flow"):
            return None
        return worst(self._look(case, reading) for reading in case.new.get("peak-flow", ()))

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        best = case.latest("peak-flow-best", reading.at, BEST_AGE)
        if best is None or not best.value or reading.value is None:
            return None
        severity, bound = self._band(reading.value, best.value)
        if not severity:
            return None
        share = 100 * reading.value / best.value
        aged = ", which is more than 2 years old" if reading.at - best.at > BEST_OLD else ""
        text = f"Peak flow {reading.show()}, {share:.0f} % of the best of {best.show()}{aged}: below {bound} %"
        extents = (extent("peak-flow", "low", reading.value),)
        reasons = (reason(reading, text), reason(best, f"Personal best {best.show()} of {best.at:%-d %B %Y}"))
        verdict = Verdict(severity, f"{text}.", reasons, ACT, extents=extents)
        if bound != self.step_up:
            return verdict
        for near in case.neighbours(reading, self.confirm_within):
            if near.value is not None and self._band(near.value, best.value)[0]:
                confirmed = reason(near, f"confirmed by {near.show()}")
                return replace(verdict, severity=AMBER, reasons=(*reasons, confirmed))
        return replace(verdict, summary=f"{text}; a repeat is asked for.", advice=AGAIN, repeat=True)

    def _band(self, value: float, best: float) -> tuple[int, int]:
        """(severity, % below which it is); severity 0 from `step_up` on."""
        shown = MEASURES["peak-flow"].round(value)
        for severity, bound in ((RED, self.red_below), (AMBER, self.amber_below), (INFORMATION, self.step_up)):
            if shown * 100 < bound * best:
                return severity, bound
        return 0, 0
