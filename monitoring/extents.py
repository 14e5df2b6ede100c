"""How far a finding goes, and when it goes so much further that people who have seen it must look again.

A flag that is red cannot rise in severity: without this, 91 % acknowledged at noon would keep 75 % at night in silence
(hazard: snooze hides deterioration; monitoring-rules 4.10: a worse value breaks it).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from monitoring.limits import AMBER, RED
from monitoring.measures import AGREED, MEASURES

NEWS2 = "news2"

Side = Literal["low", "high"]


class Extent(TypedDict):
    """`measure` is one of MEASURES, or `news2` for the total; `value` is in its unit, rounded as shown; `side` says
    which way is worse."""

    measure: str
    side: Side
    value: float


@dataclass(frozen=True, slots=True)
class Step:
    """How much further, in the unit of the measure, opens an acknowledged flag again: `low` downwards, `high` upwards.
    Findings count from the severities `low_from` and `high_from` on: amber where no rule but personal limits has a red
    on that side, since nothing else would call for eyes again."""

    low: float
    high: float
    unit: str
    source: str
    low_from: int = RED
    high_from: int = RED

    def of(self, side: Side) -> tuple[float, int]:
        """(how much, from which severity on)"""
        return (self.low, self.low_from) if side == "low" else (self.high, self.high_from)


_OURS = "unverified, clinician to set"

STEPS: dict[str, Step] = {
    # A measure without a step of its own opens again at any worse value: noise is better than silence.
    **{
        key: Step(10.0**-measure.decimals, 10.0**-measure.decimals, measure.shown, "any worse value; ours, unverified")
        for key, measure in MEASURES.items()
        if not measure.answers and key not in AGREED
    },
    NEWS2: Step(1, 1, "points", "any point more; RCP 2017 names none: unverified, clinician to set"),
    "spo2": Step(2, 2, "%", f"the width of the NEWS2 bands of SpO2 (RCP 2017); {_OURS}", high_from=AMBER),
    "spo2-exertion": Step(2, 2, "%", f"as at rest; {_OURS}"),
    "pulse": Step(10, 10, "/min", _OURS),
    "respiratory-rate": Step(2, 2, "/min", _OURS),
    "systolic": Step(10, 10, "mmHg", _OURS, high_from=AMBER),
    "diastolic": Step(5, 5, "mmHg", _OURS, high_from=AMBER),
    "temperature": Step(0.5, 0.5, "°C", _OURS),
    "weight": Step(1.0, 1.0, "kg", _OURS, AMBER, AMBER),
    "glucose": Step(0.3, 3.0, "mmol/L", _OURS, high_from=AMBER),
    "glucose-sensor": Step(0.3, 3.0, "mmol/L", _OURS, high_from=AMBER),
    "peak-flow": Step(30, 30, "L/min", _OURS),
    "steps": Step(1000, 1000, "steps", _OURS),
}


def extent(measure: str, side: Side, value: float) -> Extent:
    rounded = MEASURES[measure].round(value) if measure in MEASURES else value
    return Extent(measure=measure, side=side, value=float(rounded))


def beyond(found: Extent, known: Extent) -> float:
    """How much further *found* goes than *known*, of the same measure and side; negative when it falls short."""
    further = found["value"] - known["value"] if found["side"] == "high" else known["value"] - found["value"]
    return round(further, 6)  # 2.9 - 2.6 in binary is a little less than 0.3


def exceeds(found: Iterable[Extent], known: Sequence[Extent]) -> bool:
    """Whether any of *found* goes further than what is *known* of its measure and side, be it ever so little."""
    return any(beyond(one, other) > 0 for one in found for other in known if _same(one, other))


def breaks(found: Iterable[Extent], severity: int, known: Sequence[Extent]) -> bool:
    """Whether a finding of *severity* goes a whole step further than the *known* extents that somebody acknowledged, or
    in a direction of which they knew nothing."""
    for one in found:
        step, least = STEPS[one["measure"]].of(one["side"])
        before = [beyond(one, other) for other in known if _same(one, other)]
        if severity >= least and (not before or max(before) >= step):
            return True
    return False


def furthest(found: Iterable[Extent]) -> tuple[Extent, ...]:
    """One extent for each measure and side: the one that goes furthest."""
    kept: dict[tuple[str, str], Extent] = {}
    for one in found:
        key = one["measure"], one["side"]
        if key not in kept or beyond(one, kept[key]) > 0:
            kept[key] = one
    return tuple(kept.values())


def again(known: Extent, severity: int) -> str | None:
    """From where on an acknowledged flag of this extent and severity opens again: `89 % or less`, `NEWS2 8 or more`;
    None where only a rise in severity does."""
    step, least = STEPS[known["measure"]].of(known["side"])
    if severity < least:
        return None
    low = known["side"] == "low"
    value = known["value"] - step if low else known["value"] + step
    measure = MEASURES.get(known["measure"])
    shown = measure.show(value) if measure else f"NEWS2 {value:g}"
    return f"{shown} or {'less' if low else 'more'}"


def _same(one: Extent, other: Extent) -> bool:
    return (one["measure"], one["side"]) == (other["measure"], other["side"])
