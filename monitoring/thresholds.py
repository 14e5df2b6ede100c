"""One reading against limits: red opens at once, amber counts when a second reading confirms it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import Side, extent
from monitoring.limits import AMBER, INFORMATION, RED, Limits
from monitoring.measures import MEASURES, OXYGEN
from monitoring.readings import Reading

CONFIRM_WITHIN = timedelta(hours=24)
"""How far from an amber reading the one may be that confirms it. Oximetry asks for a repeat within the hour; a late
repeat still confirms. Ours."""

TOO_MUCH_OXYGEN = 95
"""SpO2 (%) on oxygen from which a person on scale 2 scores at least 2 in NEWS2 (RCP 2017: 95-96 is 2, 97 or more 3)."""

OXYGEN_WINDOW = timedelta(hours=1)

RECHECK_RED = "Check again straight away. If it is still 92 % or lower, or you feel very unwell, call 999."
RECHECK_AMBER = "Rest for five minutes and measure again within the hour. If it stays below 95 %, call your GP or 111."
MEASURE_AGAIN = "Rest for five minutes and measure again. If you feel unwell, call 111, or 999 in an emergency."


@dataclass(frozen=True, slots=True)
class Threshold:
    """The default limits of a measure: red at once, amber when the reading next to it is beyond them too, else a repeat
    is asked for. Silent where a clinician set personal limits. `if_red` and `if_amber` are told the person at once,
    where the limits of the SpO2 scale 1 hold."""

    measure: str
    confirm_within: timedelta = CONFIRM_WITHIN
    if_red: str | None = None
    if_amber: str | None = None

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: self.confirm_within}

    def evaluate(self, case: Case) -> Verdict | None:
        limits = case.default(self.measure)
        if limits is None or case.personal(self.measure):
            return None
        verdict = crossing(case, self.measure, limits, self.confirm_within)
        if verdict is None or (self.measure == "spo2" and case.scale == 2):
            return verdict
        advice = self.if_red if verdict.severity == RED else self.if_amber
        return replace(verdict, advice=advice) if advice else verdict


@dataclass(frozen=True, slots=True)
class PersonalLimits:
    """The limits that a named clinician set for this person: red at once, amber when the reading next to it is beyond
    them too, else a repeat is asked for."""

    measure: str
    confirm_within: timedelta = CONFIRM_WITHIN

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: self.confirm_within}

    def evaluate(self, case: Case) -> Verdict | None:
        limits = case.personal(self.measure)
        return crossing(case, self.measure, limits, self.confirm_within) if limits else None


@dataclass(frozen=True, slots=True)
class TooMuchOxygen:
    """On SpO2 scale 2, saturation at or above `from_percent` while on oxygen, which NEWS2 scores (amber). Silent where
    a clinician set personal limits, and where nobody said within `within` whether it was on oxygen."""

    from_percent: int = TOO_MUCH_OXYGEN
    within: timedelta = OXYGEN_WINDOW

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"spo2"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {"oxygen": self.within}

    def evaluate(self, case: Case) -> Verdict | None:
        if case.scale != 2 or case.personal("spo2"):
            return None
        for reading in case.new.get("spo2", ()):
            gas = case.latest("oxygen", reading.at, self.within)
            if gas is None or gas.word != OXYGEN or reading.value is None:
                continue
            value = MEASURES["spo2"].round(reading.value)
            if value >= self.from_percent:
                text = f"Oxygen saturation {value:.0f} % on oxygen, above the target of 88 to 92 % (scale 2)"
                reasons = (reason(reading, text), reason(gas, "on oxygen"))
                return Verdict(AMBER, f"{text}.", reasons, extents=(extent("spo2", "high", value),))
        return None


def crossing(case: Case, measure: str, limits: Limits, confirm_within: timedelta = CONFIRM_WITHIN) -> Verdict | None:
    """The worst of the new readings of *measure* that reach *limits*, the furthest of equals; None when none does.

    An amber value with no earlier one on the same side within *confirm_within* is information with a request to
    repeat: on the board at the lowest rank, so that a person who never repeats it is not lost.
    """
    return worst(_crosses(case, reading, limits, confirm_within) for reading in case.new.get(measure, ()))


def _crosses(case: Case, reading: Reading, limits: Limits, confirm_within: timedelta) -> Verdict | None:
    if reading.value is None:
        return None
    of = MEASURES[reading.measure]
    severity, side, bound = limits.level(of.round(reading.value))
    if not severity or bound is None:
        return None
    text = f"{of.name} {of.show(reading.value)}, {'at or below' if side == 'low' else 'at or above'} {of.show(bound)}"
    reasons = [reason(reading, text)]
    extents = (extent(reading.measure, cast(Side, side), reading.value),)
    if severity == AMBER:
        confirming = [
            one
            for one in case.neighbours(reading, confirm_within)
            if one.value is not None and limits.level(of.round(one.value))[1] == side
        ]
        if not confirming:
            asked = f"{text}; a repeat is asked for."
            return Verdict(INFORMATION, asked, tuple(reasons), MEASURE_AGAIN, repeat=True, extents=extents)
        reasons += [reason(one, f"confirmed by {one.show()}") for one in confirming[:1]]
    return Verdict(severity, f"{text}.", tuple(reasons), extents=extents)
