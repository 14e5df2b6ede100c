"""COPD: oxygen saturation falling and pulse rising together, in the person's own spreads (Hurst 2010)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.baseline import LENGTH, TooFew, usual
from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER
from monitoring.readings import Reading


@dataclass(frozen=True, slots=True)
class CopdComposite:
    """The mean of the fall of oxygen saturation and the rise of pulse, each in spreads of the person's baseline, is
    `from_score` or more (amber). Both measured at most `within` apart; silent until both have a baseline."""

    from_score: float = 1.0
    within: timedelta = timedelta(hours=1)

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"spo2", "pulse"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {"spo2": LENGTH, "pulse": LENGTH}

    def evaluate(self, case: Case) -> Verdict | None:
        new = [one for key in ("spo2", "pulse") for one in case.new.get(key, ())]
        return worst(self._look(case, one) for one in new)

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        oxygen = case.latest("spo2", reading.at, self.within)
        pulse = case.latest("pulse", reading.at, self.within)
        if oxygen is None or pulse is None or oxygen.value is None or pulse.value is None:
            return None
        usual_oxygen, usual_pulse = usual(case, "spo2", reading.at), usual(case, "pulse", reading.at)
        if isinstance(usual_oxygen, TooFew) or isinstance(usual_pulse, TooFew):
            return None
        fall, rise = -usual_oxygen.z(oxygen.value), usual_pulse.z(pulse.value)
        score = round((fall + rise) / 2, 3)
        if score < self.from_score:
            return None
        text = (
            f"Oxygen saturation {oxygen.show()} and pulse {pulse.show()}: on average {score:.1f} spreads worse than"
            " usual (COPD composite)"
        )
        reasons = (
            reason(oxygen, f"Oxygen saturation {oxygen.show()}; {usual_oxygen.text()}"),
            reason(pulse, f"Pulse {pulse.show()}; {usual_pulse.text()}"),
        )
        extents = (extent("spo2", "low", oxygen.value), extent("pulse", "high", pulse.value))
        return Verdict(AMBER, f"{text}.", reasons, extents=extents)
