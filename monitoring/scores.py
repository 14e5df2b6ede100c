"""Rules on what questionnaires and counts say: a score from a level on, a grade that rises, falls."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.case import Case, Verdict, reason, worst
from monitoring.extents import extent
from monitoring.limits import AMBER, INFORMATION, RED
from monitoring.measures import MEASURES
from monitoring.questionnaires import INSTRUMENTS
from monitoring.readings import Reading

CRISIS = (
    "If you might act on these thoughts, or you are not safe, call 999 or go to A&E now. To talk to somebody at any "
    "time, call 111 and choose the mental health option, or call Samaritans free on 116 123."
)
"""Where to turn, for whoever answers that they think of being better off dead. Never that all is well, and never that
somebody has seen it."""

HURT = "If you are hurt, hit your head or feel unwell, call 111, or 999 in an emergency."

_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ScoreFrom:
    """A score at or above a level: `red`, `amber` or `information` (None: not at that level)."""

    measure: str
    red: float | None = None
    amber: float | None = None
    information: float | None = None
    advice: str | None = None
    ask: str = ""

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._one(reading) for reading in case.new.get(self.measure, ()))

    def _one(self, reading: Reading) -> Verdict | None:
        if reading.value is None:
            return None
        value = MEASURES[self.measure].round(reading.value)
        levels = ((RED, self.red), (AMBER, self.amber), (INFORMATION, self.information))
        for severity, least in levels:
            if least is not None and value >= least:
                text = f"{MEASURES[self.measure].name}: {_with_word(self.measure, value)}"
                summary = f"{text}. {self.ask}".rstrip()
                extents = (extent(self.measure, "high", value),)
                return Verdict(severity, summary, (reason(reading, text),), self.advice, extents=extents)
        return None


@dataclass(frozen=True, slots=True)
class GradeRises:
    """A grade that is `by` or more above the lowest of the last `within`: amber."""

    measure: str
    by: float
    within: timedelta

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({self.measure})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {self.measure: self.within}

    def evaluate(self, case: Case) -> Verdict | None:
        return worst(self._one(case, reading) for reading in case.new.get(self.measure, ()))

    def _one(self, case: Case, reading: Reading) -> Verdict | None:
        before = [one for one in case.before(reading, self.within) if one.value is not None]
        if reading.value is None or not before:
            return None
        lowest = min(before, key=lambda one: one.value or 0.0)
        if reading.value - (lowest.value or 0.0) < self.by:
            return None
        text = f"{MEASURES[self.measure].name} {reading.show()}, was {lowest.show()}"
        extents = (extent(self.measure, "high", reading.value),)
        return Verdict(AMBER, f"{text}.", (reason(reading, text), reason(lowest, "before")), extents=extents)


@dataclass(frozen=True, slots=True)
class Fell:
    """A fall was told (amber), with how many there were in a year: criteria with visible reasons, since NICE NG249
    (1.1.1) says not to use tools that predict falls."""

    within: timedelta = _YEAR

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset({"falls"})

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {"falls": self.within}

    def evaluate(self, case: Case) -> Verdict | None:
        new = [one for one in case.new.get("falls", ()) if (one.value or 0) >= 1]
        if not new:
            return None
        told = [*new, *(one for one in case.before(new[-1], self.within) if (one.value or 0) >= 1)]
        count = round(sum(one.value or 0 for one in told))
        if count > 1:
            text = f"{count} falls told in 12 months"
            then = "Criteria for a comprehensive falls assessment are met (two or more falls in a year)."
        else:
            text, then = "A fall was told, the first in 12 months", ""
        ask = "Ask about injury, loss of consciousness and getting up again; with frailty, assess too."
        extents = (extent("falls", "high", count),)
        reasons = tuple(reason(one, f"{round(one.value or 0)} told") for one in told[:10])
        return Verdict(AMBER, " ".join(filter(None, (f"{text}.", then, ask))), reasons, HURT, extents=extents)


def _with_word(measure: str, value: float) -> str:
    instrument = INSTRUMENTS.get(measure)
    word = instrument.word(value) if instrument and instrument.total == measure else ""
    return f"{value:g} ({word})" if word else f"{value:g}"
