"""NEWS2 (Royal College of Physicians, 2017): the table as data, both SpO2 scales, no total with a part missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import inf

from monitoring.case import Case, Verdict, reason
from monitoring.extents import NEWS2, extent
from monitoring.limits import AMBER, RED
from monitoring.measures import AIR, ALERT, CONFUSED, MEASURES, OXYGEN, PAIN, UNRESPONSIVE, VOICE
from monitoring.readings import Reading

Bands = tuple[tuple[float, int], ...]
"""(highest value of the band, points), rising."""

BANDS: dict[str, Bands] = {
    "respiratory-rate": ((8, 3), (11, 1), (20, 0), (24, 2), (inf, 3)),
    "spo2": ((91, 3), (93, 2), (95, 1), (inf, 0)),
    "systolic": ((90, 3), (100, 2), (110, 1), (219, 0), (inf, 3)),
    "pulse": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (inf, 3)),
    "temperature": ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (inf, 2)),
}
"""Source: RCP 2017, chart 1; SpO2 is scale 1."""

SPO2_SCALE_2_AIR: Bands = ((83, 3), (85, 2), (87, 1), (inf, 0))
SPO2_SCALE_2_OXYGEN: Bands = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (inf, 3))
"""Source: RCP 2017, chart 1, SpO2 scale 2; 93 or more scores only on oxygen."""

_HARMLESS: dict[str, tuple[float, float]] = {
    "respiratory-rate": (12, 20),
    "spo2": (96, inf),
    "systolic": (111, 219),
    "pulse": (51, 90),
    "temperature": (36.1, 38.0),
}
"""From and to which values a part scores nothing, rounded or not: most readings need no closer look."""

OXYGEN_POINTS: dict[str, int] = {AIR: 0, OXYGEN: 2}
CONSCIOUSNESS_POINTS: dict[str, int] = {ALERT: 0, CONFUSED: 3, VOICE: 3, PAIN: 3, UNRESPONSIVE: 3}

PARAMETERS = ("respiratory-rate", "spo2", "oxygen", "systolic", "pulse", "consciousness", "temperature")

WINDOW = timedelta(hours=1)
"""The seven belong together when they were measured within it. Ours."""

EMERGENCY, URGENT, SINGLE = 7, 5, 3
"""RCP 2017 table of thresholds and triggers: 7 or more emergency, 5-6 urgent, any single 3 urgent review."""

YOUNGEST = 16
"""NEWS2 is not for children under 16, nor in pregnancy (RCP 2017; wording unverified). See `monitoring.pregnancy`."""


@dataclass(frozen=True, slots=True)
class Score:
    """Points of each part that could be scored. `total` is None unless all seven could."""

    points: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def at_least(self) -> int:
        return sum(self.points.values())

    @property
    def total(self) -> int | None:
        return None if self.missing else self.at_least

    @property
    def singles(self) -> tuple[str, ...]:
        """The parts that score 3 alone."""
        return tuple(key for key, points in self.points.items() if points == SINGLE)

    def text(self) -> str:
        """`NEWS2 7` or `NEWS2 partial 4 of 7, at least 3 (missing: temperature, ...)`."""
        if not self.missing:
            return f"NEWS2 {self.at_least}"
        missing = ", ".join(MEASURES[key].name.lower() for key in self.missing)
        return f"NEWS2 partial {len(self.points)} of {len(PARAMETERS)}, at least {self.at_least} (missing: {missing})"


def points(parameter: str, value: float, *, scale: int = 1, oxygen: str | None = None) -> int | None:
    """Points of a number, rounded half-up first (temperature to one decimal, the rest to whole numbers).

    None when it cannot be scored: SpO2 on scale 2 from 93 % without knowing whether on air or oxygen.
    """
    rounded = MEASURES[parameter].round(value)
    bands = BANDS[parameter]
    if parameter == "spo2" and scale == 2:
        bands = SPO2_SCALE_2_OXYGEN if oxygen == OXYGEN else SPO2_SCALE_2_AIR
        if oxygen is None and rounded > 92:
            return None
    return next(score for highest, score in bands if rounded <= highest)


def score(values: Mapping[str, float | str | None], scale: int = 1) -> Score:
    """Score what is there of the seven `PARAMETERS`; absent or None is missing, never normal."""
    found: dict[str, int] = {}
    gas = values.get("oxygen")
    for parameter in PARAMETERS:
        value = values.get(parameter)
        scored: int | None = None
        if isinstance(value, str):
            scored = (OXYGEN_POINTS if parameter == "oxygen" else CONSCIOUSNESS_POINTS).get(value)
        elif value is not None:
            scored = points(parameter, value, scale=scale, oxygen=gas if isinstance(gas, str) else None)
        if scored is not None:
            found[parameter] = scored
    return Score(found, tuple(parameter for parameter in PARAMETERS if parameter not in found))


def response(result: Score) -> str:
    """What RCP asks for: `emergency`, `urgent`, `urgent-single`, `routine`; of a partial score, at least that."""
    if result.at_least >= EMERGENCY:
        return "emergency"
    if result.at_least >= URGENT:
        return "urgent"
    return "urgent-single" if result.singles else "routine"


def applies(case: Case) -> bool:
    """Not under 16 and not in pregnancy."""
    born = case.facts.birth_date
    return not case.facts.pregnant and (born is None or _age(born, case.now) >= YOUNGEST)


def at(case: Case, moment: datetime, within: timedelta = WINDOW) -> tuple[Score, dict[str, Reading]]:
    """The score of what was measured up to *within* before *moment*, and the readings it rests on."""
    used: dict[str, Reading] = {}
    for parameter in PARAMETERS:
        reading = case.latest(parameter, moment, within)
        if reading is not None:
            used[parameter] = reading
    values = {key: reading.word if reading.value is None else reading.value for key, reading in used.items()}
    return score(values, case.scale), used


@dataclass(frozen=True, slots=True)
class EarlyWarning:
    """The NEWS2 score of what was measured within `within`: red from 7, amber from 5 or with a single 3.

    A partial score is a lower bound, so it may raise but never reassure. In a partial set a single 3 is left to the
    rule that watches that measure by itself (oximetry, very high pressure, personal limits): one fact, one flag.
    """

    within: timedelta = WINDOW

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset(PARAMETERS)

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {parameter: self.within for parameter in PARAMETERS}

    def evaluate(self, case: Case) -> Verdict | None:
        if cannot_reach(case, self.within) or not applies(case):
            return None
        best: tuple[int, Score, dict[str, Reading]] | None = None
        for moment in _moments(case, self.within):
            result, used = at(case, moment, self.within)
            severity = _severity(case, result, used)
            if severity and (best is None or (severity, result.at_least) > (best[0], best[1].at_least)):
                best = severity, result, used
        if best is None:
            return None
        severity, result, used = best
        reasons = tuple(
            reason(used[key], f"{MEASURES[key].name} {used[key].show()} scores {scored}")
            for key, scored in sorted(result.points.items(), key=lambda one: -one[1])
            if scored
        )
        worst = ", ".join(f"{MEASURES[key].name.lower()} {used[key].show()}" for key in result.singles)
        single = f"; scoring 3 alone: {worst}" if worst else ""
        return Verdict(
            severity, f"{result.text()}{single}.", reasons, extents=(extent(NEWS2, "high", result.at_least),)
        )


def cannot_reach(case: Case, within: timedelta = WINDOW) -> bool:
    """Whether the worst values near the new readings, taken together, stay short of everything that is told: then no
    moment needs to be scored, which is so of most people at most times.

    Points fall and then rise with a number, so the worst of many stands at one end.
    """
    together = 0
    near = _near(case, within)
    for parameter, found in near.items():
        if parameter in ("oxygen", "consciousness"):
            words = OXYGEN_POINTS if parameter == "oxygen" else CONSCIOUSNESS_POINTS
            worst = max(words.get(one.word or "", 0) for one in found)
        elif parameter == "spo2" and case.scale == 2:
            return False
        else:
            numbers = [one.value for one in found if one.value is not None]
            low, high = _HARMLESS[parameter]
            if not numbers or (low <= min(numbers) and max(numbers) <= high):
                continue
            worst = max(points(parameter, min(numbers)) or 0, points(parameter, max(numbers)) or 0)
        if worst >= SINGLE:
            return False
        together += worst
    return together < URGENT


def _near(case: Case, within: timedelta) -> dict[str, list[Reading]]:
    """What stands at most *within* from a new reading, by part. Other rules look back for weeks: that is not scored."""
    new = [one.at for key in PARAMETERS for one in case.new.get(key, ())]
    first, last = min(new) - within, max(new) + within
    near: dict[str, list[Reading]] = {}
    for parameter in PARAMETERS:
        for one in case.recent.get(parameter, ()):
            if one.at < first:
                break
            if one.at <= last:
                near.setdefault(parameter, []).append(one)
    return near


def _moments(case: Case, within: timedelta) -> list[datetime]:
    """When to score, newest first: at each new reading, and at what was measured up to *within* later but came
    first."""
    new = [one.at for key in PARAMETERS for one in case.new.get(key, ())]
    known = {one.at for found in _near(case, within).values() for one in found}
    return sorted((at for at in known if any(one <= at <= one + within for one in new)), reverse=True)


def _severity(case: Case, result: Score, used: Mapping[str, Reading]) -> int:
    if result.at_least >= EMERGENCY:
        return RED
    if result.at_least >= URGENT:
        return AMBER
    singles = result.singles
    if result.missing:
        singles = tuple(key for key in singles if not _watched(case, used[key]))
    return AMBER if singles else 0


def _watched(case: Case, reading: Reading) -> bool:
    """Whether another rule speaks of this value."""
    if reading.measure == "spo2" or case.personal(reading.measure):
        return True
    limits = case.default(reading.measure)
    return limits is not None and reading.value is not None and limits.level(reading.value)[0] > 0


def _age(born: date, now: datetime) -> int:
    today = now.date()
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
