"""Rules that are shipped switched off: other published ones, and those that compare with the person's own baseline, for
which evidence in clinical use is thin. A hub switches them on for itself."""

from datetime import timedelta

from monitoring import glucose_sensor, weight
from monitoring.baseline import FLOORS, FarFromUsual
from monitoring.copd import CopdComposite
from monitoring.drift import Cusum, Ewma
from monitoring.extents import Side
from monitoring.measures import MEASURES
from monitoring.rule import Rule
from monitoring.trend import Slope


def _weight(id: str, place: str, kg: float, days: int, source: str, or_more: bool = False) -> Rule:
    much = f"{kg:g} kg or more" if or_more else f"more than {kg:g} kg"
    return Rule(
        id=f"hf-weight-{id}",
        version=1,
        name=f"Weight change ({place})",
        sentence=f"Weight {much} above the lowest or below the highest of the last {days} days (amber).",
        how=weight.WeightChange(kg, days, or_more, dry_weight_age=None),
        source=f"{source}; the fall and 7 kg are ours, unverified",
        on=False,
    )


_WORSE: dict[str, tuple[Side, ...]] = {
    "spo2": ("low",),
    "pulse": ("high",),
    "peak-flow": ("low",),
    "systolic": ("low", "high"),
    "weight": ("low", "high"),
    "temperature": ("high",),
}
"""Which side of what is usual is worse. Ours."""

_THIN = "Evidence in clinical use is thin: most published studies are small"


def _statistical(measure: str, sides: tuple[Side, ...]) -> tuple[Rule, ...]:
    """The rules that compare with the person's own baseline: z-score, and EWMA and CUSUM for each side."""
    name = MEASURES[measure].name
    way = " or ".join("below" if side == "low" else "above" for side in sides)
    found = Rule(
        id=f"usual-{measure}",
        version=1,
        name=f"{name} far from usual",
        sentence=(
            f"{name} 3 spreads or more {way} the person's own baseline, or 2 spreads twice in a row (amber). "
            "Silent without a baseline."
        ),
        how=FarFromUsual(measure, sides),
        source=(
            "engine of ours after Hurst 2010 (14 stable days); spread at least "
            f"{MEASURES[measure].show(FLOORS[measure])}. {_THIN}"
        ),
        on=False,
    )
    return (found, *(rule for side in sides for rule in _drifts(measure, side, single=len(sides) == 1)))


def _drifts(measure: str, side: Side, single: bool) -> tuple[Rule, Rule]:
    name = MEASURES[measure].name
    rest = f"{measure}" if single else f"{measure}-{side}"
    down, below = ("down", "below") if side == "low" else ("up", "above")
    return (
        Rule(
            id=f"ewma-{rest}",
            version=1,
            name=f"{name} drifting {down} (EWMA)",
            sentence=(
                f"{name}: the weighted mean of 7 days (each new reading 0.2) is 3 of its standard deviations {below} "
                "the person's own baseline (amber). Silent without a baseline."
            ),
            how=Ewma(measure, side),
            source=f"weight 0.2, width 3: standard values of process control. {_THIN}",
            on=False,
        ),
        Rule(
            id=f"cusum-{rest}",
            version=1,
            name=f"{name} drifting {down} (CUSUM)",
            sentence=(
                f"{name}: over 7 days, what is more than half a spread {below} the person's own baseline sums up to 5 "
                "spreads or more (amber). Silent without a baseline."
            ),
            how=Cusum(measure, side),
            source=f"slack 0.5, decision 5: standard values of process control. {_THIN}",
            on=False,
        ),
    )


ON_REQUEST: tuple[Rule, ...] = (
    _weight("warwickshire", "Warwickshire", 2.0, 4, "Warwickshire GP leaflet: 2 kg over 3-4 days", or_more=True),
    _weight(
        "plymouth", "Plymouth", 1.0, 2, "Plymouth Hospitals 2023: 1 kg or more in 2 consecutive days", or_more=True
    ),
    _weight("north-cumbria", "North Cumbria", 2.27, 7, "North Cumbria: more than 5 lb in a week, with symptoms"),
    _weight("tuh-dublin", "TUH Dublin", 2.0, 2, "TUH Dublin: 2 kg in 2 days, with symptoms", or_more=True),
    Rule(
        id="weight-trend",
        version=1,
        name="Weight rising slowly",
        sentence=(
            "The line through the middle weight of each of the last 14 days rises by 2 kg or more (amber). "
            "Silent below 7 days with a weight."
        ),
        how=Slope("weight", "rises", by=2.0, days=14, fewest_days=7),
        source=(
            "gradual gain precedes admission: Chaudhry, Circulation 2007 (134 pairs); 2 kg in 14 days is ours, "
            "unverified. Home weight alone is a poor detector"
        ),
        on=False,
    ),
    Rule(
        id="copd-composite",
        version=1,
        name="COPD composite",
        sentence=(
            "The mean of the fall of oxygen saturation and the rise of pulse, each in spreads of the person's own "
            "baseline, is 1 or more (amber). Silent without both baselines."
        ),
        how=CopdComposite(),
        source=(
            "Hurst 2010: AUC 0.832, sensitivity 71 %, specificity 74 %, together with symptoms; measured within one "
            "hour: ours"
        ),
        on=False,
    ),
    Rule(
        id="glucose-lasting-low",
        version=1,
        name="Low glucose that lasts",
        sentence="Glucose by sensor stays below 3.0 mmol/L for 15 minutes or more (red).",
        how=glucose_sensor.LastingLow(),
        source="level 2 event of the international consensus, PMC8481000 table 1; gaps of at most 20 minutes: ours",
        quiet=timedelta(minutes=15),
        on=False,
    ),
    Rule(
        id="glucose-time-in-range",
        version=1,
        name="Glucose time in range",
        sentence=(
            "Of the last 14 days of a glucose sensor: 70 % or less between 3.9 and 10.0 mmol/L, 4 % or more below 3.9, "
            "1 % or more below 3.0, 25 % or more above 10.0, 5 % or more above 13.9, or a coefficient of variation "
            "above 36 % (information). Silent when less than 70 % of the time was covered. Looked at once a day."
        ),
        how=glucose_sensor.RangeMissed(),
        source="international consensus targets, PMC8481000 table 1, for adults not pregnant, old or at high risk",
        quiet=timedelta(days=6),
        on=False,
    ),
    *(rule for measure, sides in _WORSE.items() for rule in _statistical(measure, sides)),
)
