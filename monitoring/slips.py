"""What people type wrong, and what they may have meant: a point left out, the other unit.

Asked before a reading by hand is stored; a person decides. Nothing is put right by itself.
"""

from collections.abc import Iterator
from decimal import Decimal
from math import log

from monitoring.measures import MEASURES, half_up_exact

# A candidate this near to the last value (as a ratio), while what was typed is this far from it, is asked about. Ours.
NEAR, FAR = 1.15, 1.6
WEIGHT_CHANGE = 0.10
"""Of the last weight: more than that is asked about even when no slip explains it. Ours."""


def meant(key: str, typed: Decimal, last: float | None = None) -> list[tuple[Decimal, str]]:
    """Values that *typed*, which is no believable one of this measure, may stand for, and how; the nearest to the
    *last* value first: `[(Decimal("8.2"), "8.2 mmol/L")]`."""
    found = [(value, how) for value, how in _candidates(key, typed) if _believable(key, value)]
    if last:
        found.sort(key=lambda one: abs(log(float(one[0]) / last)))
    return found[:2]


def unlikely(key: str, typed: Decimal, last: float | None) -> list[tuple[Decimal, str]] | None:
    """None when a believable *typed* needs no question beside the person's *last* value; else what else it may stand
    for, which may be nothing that we know."""
    if not last or last <= 0 or typed <= 0:
        return None
    away = abs(log(float(typed) / last))
    near = [
        (value, how)
        for value, how in _candidates(key, typed)
        if _believable(key, value) and abs(log(float(value) / last)) < log(NEAR)
    ]
    if near and away > log(FAR):
        return near[:2]
    if key == "weight" and abs(float(typed) - last) > WEIGHT_CHANGE * last:
        return []
    return None


def _candidates(key: str, typed: Decimal) -> Iterator[tuple[Decimal, str]]:
    measure = MEASURES[key]
    names = {code: text for text, code in reversed(list(measure.spellings.items()))}  # the first spelling of each
    for code, unit in measure.accepts.items():
        if unit is not None:
            value = half_up_exact(unit.convert(typed), measure.decimals)
            yield value, f"{measure.show(float(value))} ({typed} {names.get(code, code)})"
    for power in (-1, 1, -2):
        value = half_up_exact(typed.scaleb(power), measure.decimals)
        yield value, measure.show(float(value))


def _believable(key: str, value: Decimal) -> bool:
    low, high = MEASURES[key].plausible
    return value > 0 and low <= value <= high
