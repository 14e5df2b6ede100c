"""One reading against limits: red opens at once, amber counts when a second reading confirms it."""

from dataclasses import replace
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


def oximetry(case: Case) -> Verdict | None:
    """Home oximetry bands, or those of scale 2; silent where a clinician set limits for SpO2."""
    limits = case.default("spo2")
    if limits is None or case.personal("spo2"):
        return None
    verdict = crossing(case, "spo2", limits)
    if case.scale == 2:
        return worst((verdict, _too_much_oxygen(case)))
    if verdict is None:
        return None
    advice = RECHECK_RED if verdict.severity == RED else RECHECK_AMBER
    return replace(verdict, advice=advice)


def personal(case: Case, measure: str) -> Verdict | None:
    """The limits that a clinician set for this person, whatever the measure."""
    limits = case.personal(measure)
    return crossing(case, measure, limits) if limits else None


def crossing(case: Case, measure: str, limits: Limits) -> Verdict | None:
    """The worst of the new readings of *measure* that reach *limits*, the furthest of equals; None when none does.

    An amber value with no earlier one on the same side within `CONFIRM_WITHIN` is information with a request to repeat:
    on the board at the lowest rank, so that a person who never repeats it is not lost.
    """
    return worst(_crosses(case, reading, limits) for reading in case.new.get(measure, ()))


def _crosses(case: Case, reading: Reading, limits: Limits) -> Verdict | None:
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
            for one in case.neighbours(reading, CONFIRM_WITHIN)
            if one.value is not None and limits.level(of.round(one.value))[1] == side
        ]
        if not confirming:
            asked = f"{text}; a repeat is asked for."
            return Verdict(INFORMATION, asked, tuple(reasons), MEASURE_AGAIN, repeat=True, extents=extents)
        reasons += [reason(one, f"confirmed by {one.show()}") for one in confirming[:1]]
    return Verdict(severity, f"{text}.", tuple(reasons), extents=extents)


def _too_much_oxygen(case: Case) -> Verdict | None:
    for reading in case.new.get("spo2", ()):
        gas = case.latest("oxygen", reading.at, OXYGEN_WINDOW)
        if gas is None or gas.word != OXYGEN or reading.value is None:
            continue
        value = MEASURES["spo2"].round(reading.value)
        if value >= TOO_MUCH_OXYGEN:
            text = f"Oxygen saturation {value:.0f} % on oxygen, above the target of 88 to 92 % (scale 2)"
            reasons = (reason(reading, text), reason(gas, "on oxygen"))
            return Verdict(AMBER, f"{text}.", reasons, extents=(extent("spo2", "high", value),))
    return None
