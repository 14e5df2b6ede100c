"""Heart failure: weight against the days before and the agreed dry weight. Published rules disagree, so it is data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER, INFORMATION
from monitoring.measures import MEASURES
from monitoring.readings import Reading

DRY_WEIGHT_AGE = timedelta(days=365)
"""An agreed dry weight older than this is not compared with. Ours."""

ANOTHER_PERSON = 7.0
"""A change (kg) within the window that is more likely somebody else on the scales. Ours, unverified."""

HEAVIER = (
    "Weigh yourself again tomorrow morning. "
    "If you are more breathless or swollen than usual, call your team or 111 today."
)
LIGHTER = "If you feel dizzy or have been sick or had diarrhoea, call your team or 111 today."
WHO = "Please check that nobody else used your scales, and weigh yourself again."


@dataclass(frozen=True, slots=True)
class WeightChange:
    """Weight more than `kg` above the lowest or below the highest of the days before (from `kg` on, when `or_more`),
    or that far from the agreed dry weight, unless that is no older than `dry_weight_age` (amber). A change within the
    window of more than `another_person` kg asks first whether somebody else was weighed."""

    kg: float
    days: int
    or_more: bool = False
    dry_weight_age: timedelta | None = DRY_WEIGHT_AGE
    another_person: float = ANOTHER_PERSON

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"weight"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        dry = {"dry-weight": self.dry_weight_age} if self.dry_weight_age else {}
        return {"weight": timedelta(days=self.days), **dry}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._weighing(case, reading) for reading in case.new.get("weight", ()))

    def _weighing(self, case: Case, reading: Reading) -> Verdict | None:
        if reading.value is None:
            return None
        earlier = [one for one in case.before(reading, timedelta(days=self.days)) if one.value is not None]
        found: list[tuple[float, Reading, str]] = []
        for other in _extremes(reading, earlier):
            change = _change(reading, other)
            if self._counts(change):
                way = "heavier" if change > 0 else "lighter"
                found.append((change, other, f"{abs(change):.1f} kg {way} {_within(reading.at - other.at)}"))
        dry = case.latest("dry-weight", reading.at, self.dry_weight_age) if self.dry_weight_age else None
        if dry is not None and dry.value is not None:
            change = _change(reading, dry)
            if self._counts(change):
                side = "above" if change > 0 else "below"
                found.append((change, dry, f"{abs(change):.1f} kg {side} the dry weight of {dry.show()}"))
        if not found:
            return None
        reasons = [reason(reading, f"Weight {reading.show()}")]
        reasons += [reason(other, f"Weight {other.show()}: {text}") for _, other, text in found]
        text = f"Weight {reading.show()}: {', '.join(text for _, _, text in found)}"
        if earlier and any(abs(change) > self.another_person and other is not dry for change, other, _ in found):
            asked = f"{text}; was it somebody else on the scales?"
            return Verdict(INFORMATION, asked, tuple(reasons), WHO, repeat=True)
        heavier = found[0][0] > 0
        extents = (extent("weight", "high" if heavier else "low", reading.value),)
        return Verdict(AMBER, f"{text}.", tuple(reasons), HEAVIER if heavier else LIGHTER, extents=extents)

    def _counts(self, change: float) -> bool:
        return abs(change) >= self.kg if self.or_more else abs(change) > self.kg


def _within(gap: timedelta) -> str:
    """`within the hour`, `in 5 hours`, `in 1 day`, `in 3 days`."""
    hours = gap / timedelta(hours=1)
    if hours < 1:
        return "within the hour"
    number, unit = (round(hours), "hour") if hours < 18 else (max(1, round(hours / 24)), "day")
    return f"in {number} {unit}{'s' if number > 1 else ''}"


def _extremes(reading: Reading, earlier: list[Reading]) -> list[Reading]:
    """The lowest weight if *reading* is above it, the highest if it is below that."""
    if not earlier:
        return []
    low, high = min(earlier, key=_kg), max(earlier, key=_kg)
    return [*([low] if _kg(low) < _kg(reading) else []), *([high] if _kg(high) > _kg(reading) else [])]


def _kg(reading: Reading) -> float:
    return reading.value or 0.0


def _change(reading: Reading, other: Reading) -> float:
    # Rounded as shown first: 82.1 - 80.1 in binary is a little more than 2.
    weight = MEASURES["weight"]
    return weight.round(weight.round(_kg(reading)) - weight.round(_kg(other)))
