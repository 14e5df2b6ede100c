"""Home blood pressure (NICE NG136): a very high single reading is repeated; a week of readings gives the average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER, INFORMATION
from monitoring.measures import MEASURES, half_up
from monitoring.readings import Reading

LONDON = ZoneInfo("Europe/London")

WEEK = timedelta(days=7)
FEWEST_DAYS = 4
"""NICE NG136: at least 4 days, ideally 7; the first is discarded and the rest averaged."""

READINGS_A_DAY = 2
"""NICE NG136 asks for two readings morning and evening; a day counts from two readings on. Ours."""

STAGE_1 = (135, 85)
STAGE_2 = (150, 95)
"""Home averages, systolic or diastolic at or above (NICE NG136)."""

AGAIN = (
    "Sit quietly for five minutes and measure again. "
    "If you have chest pain, a severe headache or feel confused, call 999."
)


@dataclass(frozen=True, slots=True)
class Week:
    """A week of home blood pressure. `stage` is None below four valid days: nothing is classified then."""

    days: tuple[date, ...]
    discarded: date | None
    counted: tuple[tuple[Reading, Reading], ...]
    systolic: float | None
    diastolic: float | None
    stage: int | None

    def text(self) -> str:
        if self.stage is None:
            return f"Home blood pressure: {len(self.days)} of the {FEWEST_DAYS} valid days needed"
        return (
            f"Home blood pressure average {self.systolic:.0f}/{self.diastolic:.0f} mmHg over {len(self.days) - 1} days"
            f" ({len(self.counted)} readings, first day left out)"
        )


def week(
    systolic: Sequence[Reading],
    diastolic: Sequence[Reading],
    *,
    stages: tuple[tuple[int, int], tuple[int, int]] = (STAGE_1, STAGE_2),
) -> Week:
    """The week that ends with the newest reading. Both numbers must come from one Observation to count."""
    lower = {one.observation_id: one for one in diastolic}
    pairs = [(one, lower[one.observation_id]) for one in systolic if one.observation_id in lower]
    if not pairs:
        return Week((), None, (), None, None, None)
    last = max(_day(upper) for upper, _ in pairs)
    by_day: dict[date, list[tuple[Reading, Reading]]] = {}
    for pair in pairs:
        day = _day(pair[0])
        if day > last - WEEK:
            by_day.setdefault(day, []).append(pair)
    days = tuple(sorted(day for day, found in by_day.items() if len(found) >= READINGS_A_DAY))
    if len(days) < FEWEST_DAYS:
        return Week(days, None, (), None, None, None)
    counted = tuple(pair for day in days[1:] for pair in by_day[day])
    upper = half_up(sum(one.value or 0.0 for one, _ in counted) / len(counted), 0)
    under = half_up(sum(one.value or 0.0 for _, one in counted) / len(counted), 0)
    stage = 2 if _reaches(upper, under, stages[1]) else 1 if _reaches(upper, under, stages[0]) else 0
    return Week(days, days[0], counted, upper, under, stage)


@dataclass(frozen=True, slots=True)
class VeryHigh:
    """One reading at or above the default high limit: amber at once, and a repeat is asked for. Silent for a number
    that has personal limits."""

    measures: tuple[str, ...] = ("systolic", "diastolic")
    advice: str = AGAIN

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset(self.measures)

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._look(case, one) for key in self.measures for one in case.new.get(key, ()))

    def _look(self, case: Case, reading: Reading) -> Verdict | None:
        limits = case.default(reading.measure)
        if limits is None or reading.value is None or case.personal(reading.measure):
            return None
        measure = MEASURES[reading.measure]
        severity, _, bound = limits.level(measure.round(reading.value))
        if not severity or bound is None:
            return None
        text = f"{measure.name} {reading.show()}, at or above {measure.show(bound)} at home"
        summary = f"{text} (threshold unverified); a repeat is asked for."
        extents = (extent(reading.measure, "high", reading.value),)
        return Verdict(severity, summary, (reason(reading, text),), self.advice, repeat=True, extents=extents)


@dataclass(frozen=True, slots=True)
class WeekAverage:
    """The average of a home blood pressure week (see `week`) at `stage_2` (amber) or `stage_1` (information), either
    number at or above. Silent where a clinician set limits."""

    stage_1: tuple[int, int] = STAGE_1
    stage_2: tuple[int, int] = STAGE_2

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"systolic"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {"systolic": WEEK, "diastolic": WEEK}

    def evaluate(self, case: Case) -> Verdict | None:
        if case.personal("systolic") or case.personal("diastolic") or not case.new.get("systolic"):
            return None
        recent = case.recent.get("systolic", ()), case.recent.get("diastolic", ())
        found = week(*recent, stages=(self.stage_1, self.stage_2))
        if not found.stage:
            return None
        upper, under = self.stage_2 if found.stage == 2 else self.stage_1
        summary = f"{found.text()}, at or above {upper}/{under} mmHg (stage {found.stage})."
        reasons = tuple(
            reason(one, f"{one.show().removesuffix(' mmHg')}/{other.show()}") for one, other in reversed(found.counted)
        )
        return Verdict(AMBER if found.stage == 2 else INFORMATION, summary, reasons)


def _reaches(upper: float, under: float, stage: tuple[int, int]) -> bool:
    return upper >= stage[0] or under >= stage[1]


def _day(reading: Reading) -> date:
    return reading.at.astimezone(LONDON).date()
