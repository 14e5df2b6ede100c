"""Rules that a clinician composes without code: one or several conditions on measures, read back in plain English.

A condition that nothing was measured for is not met: what is missing is never scored, neither as normal nor as ill.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.baseline import LENGTH, TooFew, usual
from monitoring.case import Case, Reason, Verdict, reason
from monitoring.extents import Extent, Side, extent
from monitoring.kind import furthest_back
from monitoring.limits import AMBER, INFORMATION, RED
from monitoring.measures import MEASURES, Measure
from monitoring.peak_flow import BEST_AGE
from monitoring.readings import Reading
from monitoring.trend import moved
from monitoring.weight import DRY_WEIGHT_AGE

Match = Literal["all", "any"]

SEVERITIES: dict[str, int] = {"red": RED, "amber": AMBER, "information": INFORMATION}
SEVERITY_WORDS = {number: word for word, number in SEVERITIES.items()}


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at a measure. `words` say it, with {value} and {over}; `unit`: of the value, None: that of the
    measure; `only`: the measures that it is for, None: all numbers. `window`, `several`: whether the time that it looks
    back over, and a number of readings on end, are chosen. `side` is the one that is worse."""

    name: str
    words: str
    side: Side
    unit: str | None = None
    only: tuple[str, ...] | None = None
    window: bool = False
    several: bool = False


LOOKS: dict[str, Look] = {
    "at-least": Look("is at or above", "at or above {value}", "high", several=True),
    "at-most": Look("is at or below", "at or below {value}", "low", several=True),
    "rises": Look("has risen by", "{value} or more above its lowest of the {over} before", "high", window=True),
    "falls": Look("has fallen by", "{value} or more below its highest of the {over} before", "low", window=True),
    "above-usual": Look(
        "is above what is usual by (spreads)", "{value} or more above what is usual", "high", "spreads"
    ),
    "below-usual": Look("is below what is usual by (spreads)", "{value} or more below what is usual", "low", "spreads"),
    "above-dry-weight": Look(
        "is above the dry weight by", "{value} or more above dry weight", "high", only=("weight",)
    ),
    "below-dry-weight": Look("is below the dry weight by", "{value} or more below dry weight", "low", only=("weight",)),
    "below-best": Look("is below, in % of the personal best,", "below {value} of the best", "low", "%", ("peak-flow",)),
    "is": Look("is, in words,", "“{value}”", "high", several=True),
}

MOST_SPREADS = 10.0
MOST_CLAUSES = 6
MOST_ON_END = 10
LONGEST = timedelta(days=14)
SHORTEST = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition. `value` is in the unit that the look says, `word` one of the measure's words for the look `is`;
    `over` the time that a look with a window, or several readings on end, look back over."""

    measure: str
    look: str
    value: float | None = None
    word: str | None = None
    over: timedelta = timedelta(hours=24)
    count: int = 1

    def sentence(self) -> str:
        """`pulse is at or above 100 /min in 2 readings on end within 24 hours`."""
        measure, look = MEASURES[self.measure], LOOKS[self.look]
        shown = (
            measure.words.get(self.word or "", self.word or "") if self.look == "is" else self.shown(self.value or 0)
        )
        text = f"{in_running(measure.name)} is {look.words.format(value=shown, over=span(self.over))}"
        if self.count > 1:
            text += f" in {self.count} readings on end within {span(self.over)}"
        return text

    def shown(self, value: float) -> str:
        unit = LOOKS[self.look].unit
        return MEASURES[self.measure].show(value) if unit is None else f"{value:g} {unit}"

    def needs(self) -> Mapping[str, timedelta]:
        """How far back it looks, from the reading that it judges on."""
        match self.look:
            case "above-usual" | "below-usual":
                return {self.measure: LENGTH}
            case "above-dry-weight" | "below-dry-weight":
                return {"dry-weight": DRY_WEIGHT_AGE}
            case "below-best":
                return {"peak-flow-best": BEST_AGE}
            case _:
                return {self.measure: self.over if LOOKS[self.look].window or self.count > 1 else timedelta(0)}

    def met(self, case: Case, reading: Reading) -> tuple[Reason, ...]:
        """Why *reading* meets it; empty when it does not, or when what it is compared with is missing."""
        if self.look == "is":
            return self._run(case, reading, lambda one: one.word == self.word)
        if reading.value is None or self.value is None:
            return ()
        measure = MEASURES[self.measure]
        sign = 1 if LOOKS[self.look].side == "high" else -1
        wanted = self.value
        match self.look:
            case "at-least" | "at-most":
                return self._run(case, reading, lambda one: _reaches(one, measure, wanted, sign))
            case "rises" | "falls":
                found = moved(case, reading, "rises" if sign > 0 else "falls", self.over)
                if found is None or found[0] < wanted:
                    return ()
                much, other = found
                text = f"{self._named(reading)}, {measure.show(much)} {_beyond(sign)} {other.show()} before"
                return (reason(reading, text), reason(other, f"{measure.name} {other.show()}"))
            case "above-usual" | "below-usual":
                known = usual(case, self.measure, reading.at)
                if isinstance(known, TooFew) or sign * known.z(reading.value) < wanted:
                    return ()
                far = abs(known.z(reading.value))
                text = f"{self._named(reading)}, {far:.1f} spreads {_beyond(sign)} {known.text()}"
                return (reason(reading, text),)
            case "above-dry-weight" | "below-dry-weight":
                dry = case.latest("dry-weight", reading.at, DRY_WEIGHT_AGE)
                if dry is None or dry.value is None:
                    return ()
                much = round(sign * (measure.round(reading.value) - measure.round(dry.value)), 6)
                if much < wanted:
                    return ()
                text = f"{self._named(reading)}, {measure.show(much)} {_beyond(sign)} the dry weight of {dry.show()}"
                return (reason(reading, text), reason(dry, f"Dry weight {dry.show()}"))
            case _:
                best = case.latest("peak-flow-best", reading.at, BEST_AGE)
                value = measure.round(reading.value)
                if best is None or not best.value or value * 100 >= wanted * best.value:
                    return ()
                text = f"{self._named(reading)}, {100 * value / best.value:.0f} % of the best of {best.show()}"
                return (reason(reading, text), reason(best, f"Personal best {best.show()}"))

    def _named(self, reading: Reading) -> str:
        return f"{MEASURES[self.measure].name} {reading.show()}"

    def _run(self, case: Case, reading: Reading, holds: Callable[[Reading], bool]) -> tuple[Reason, ...]:
        if not holds(reading):
            return ()
        run = [reading, *case.before(reading, self.over)][: self.count] if self.count > 1 else [reading]
        if len(run) < self.count or not all(holds(one) for one in run):
            return ()
        shown = MEASURES[self.measure].words.get(self.word or "") if self.look == "is" else self.shown(self.value or 0)
        measure = MEASURES[self.measure]
        rest = f" in {self.count} readings on end" if self.count > 1 else ""
        words = "" if self.look == "is" else f", {LOOKS[self.look].words.format(value=shown, over='')}"
        return (
            reason(reading, f"{measure.name} {reading.show()}{words}{rest}"),
            *(reason(one, f"{measure.name} {one.show()}") for one in run[1:]),
        )


def _reaches(reading: Reading, measure: Measure, wanted: float, sign: int) -> bool:
    return reading.value is not None and sign * (measure.round(reading.value) - wanted) >= 0


def _beyond(sign: int) -> str:
    return "above" if sign > 0 else "below"


@dataclass(frozen=True, slots=True)
class Composed:
    """All or any of up to six conditions, each on the newest reading of its measure, at most `together` apart. Looks
    when a reading of one of the measures comes; a measure without a reading meets nothing."""

    match: Match
    clauses: tuple[Clause, ...]
    severity: int
    together: timedelta = timedelta(hours=1)
    told: str | None = None

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset(one.measure for one in self.clauses)

    @property
    def needs(self) -> Mapping[str, timedelta]:
        reach = {one.measure: self.together for one in self.clauses}
        back = [{key: within + self.together for key, within in one.needs().items()} for one in self.clauses]
        return furthest_back(reach, *back)

    def sentence(self) -> str:
        """The rule in plain English, without who it is for."""
        parts = [one.sentence() for one in self.clauses]
        joined = f" {'and' if self.match == 'all' else 'or'} ".join(parts)
        within = f" All measured within {span(self.together)}." if self.match == "all" and len(parts) > 1 else ""
        told = (
            f" The person is told at once: “{self.told}”" if self.told else " Nothing of it is told the person at once."
        )
        return f"When {joined}: {SEVERITY_WORDS[self.severity]}.{within}{told}"

    def evaluate(self, case: Case) -> Verdict | None:
        new = [one for clause in self.clauses for one in case.new.get(clause.measure, ())]
        fresh = {one.observation_id for one in new}
        for moment in self._moments(case, new):
            found = self._at(case, moment)
            if found is None or not any(one["observation"] in fresh for one in found[0]):
                continue
            reasons, extents, texts = found
            return Verdict(self.severity, f"{'; '.join(texts)}.", tuple(reasons), self.told, extents=tuple(extents))
        return None

    def _at(self, case: Case, moment: datetime) -> tuple[list[Reason], list[Extent], list[str]] | None:
        reasons: list[Reason] = []
        extents: list[Extent] = []
        texts: list[str] = []
        for clause in self.clauses:
            reading = case.latest(clause.measure, moment, self.together)
            met = clause.met(case, reading) if reading is not None else ()
            if met:
                reasons += met
                texts.append(met[0]["text"])
                if reading is not None and reading.value is not None:
                    extents.append(extent(clause.measure, LOOKS[clause.look].side, reading.value))
            elif self.match == "all":
                return None
        return (reasons, extents, texts) if reasons else None

    def _moments(self, case: Case, new: Sequence[Reading]) -> list[datetime]:
        """Newest first: each new reading, and what was measured up to `together` later but came first."""
        first, last = min(one.at for one in new), max(one.at for one in new) + self.together
        known: set[datetime] = set()
        for clause in self.clauses:
            for one in case.recent.get(clause.measure, ()):
                if one.at < first:
                    break
                if one.at <= last:
                    known.add(one.at)
        return sorted(known, reverse=True)


def in_running(name: str) -> str:
    """A name as it stands within a sentence: `Pulse` as `pulse`, `PHQ-9 total` as it is."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def span(within: timedelta) -> str:
    """`15 minutes`, `24 hours`, `3 days`"""
    minutes = round(within.total_seconds() / 60)
    if minutes % 1440 == 0 and minutes > 1440:
        return f"{minutes // 1440} days"
    if minutes % 60:
        return f"{minutes} minutes"
    return f"{minutes // 60} hour{'s' if minutes > 60 else ''}"
