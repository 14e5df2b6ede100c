"""What synthetic people's devices measure: personal baselines, the time of day, and how some of them get worse.

Numbers are for demonstration, chosen so that steady people stay inside the published bands most days.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

Kind = Literal[
    "blood-pressure", "pulse", "spo2", "respiratory-rate", "temperature", "consciousness", "weight", "glucose"
]
Trouble = Literal["hypoxia", "fluid", "infection", "hypo", "silent"]

LONDON = ZoneInfo("Europe/London")

# Hours from the first sign to the worst, before the moment that the population is made for.
ONSET: dict[Trouble, float] = {"hypoxia": 30.0, "fluid": 80.0, "infection": 20.0, "hypo": 14.0, "silent": 96.0}

# A reading is forgotten about this often.
FORGOTTEN = 0.05

FULL_ROUND: tuple[Kind, ...] = ("blood-pressure", "pulse", "spo2", "respiratory-rate", "temperature", "consciousness")


@dataclass(frozen=True, slots=True)
class Profile:
    """How one person's body reads when steady, what they measure and when, and what is going wrong if anything."""

    number: int
    systolic: int
    diastolic: int
    pulse: int
    spo2: int
    respiration: int
    temperature: float
    weight: float
    glucose: float
    on_oxygen: bool
    rounds: tuple[tuple[int, tuple[Kind, ...]], ...]
    """(minute of the local day, what is measured then)"""
    trouble: Trouble | None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(kind for _, kinds in self.rounds for kind in kinds))

    @property
    def per_day(self) -> int:
        return sum(len(kinds) for _, kinds in self.rounds)


class Measured(NamedTuple):
    """One reading: *values* are decimal text in the measure's unit, or the coded word for consciousness."""

    kind: Kind
    at: str
    values: tuple[str, ...]


def severity(trouble: Trouble | None, hours_before: float) -> float:
    """0 when well, 1 at the worst; grows from the onset until the moment the population is made for."""
    if trouble is None:
        return 0.0
    onset = ONSET[trouble]
    return min(1.0, max(0.0, (onset - hours_before) / (onset * 0.85)))


def measure(person: Profile, kind: Kind, hour: float, ill: float, rng: Random) -> tuple[str, ...]:
    """One measurement at *hour* of the local day with the trouble grown to *ill* (0 to 1)."""
    trouble = person.trouble
    noise = rng.gauss(0.0, 1.0)
    if kind == "blood-pressure":
        # Lower on waking, highest in the afternoon.
        systolic = person.systolic + 4.0 * (1 - abs(hour - 16) / 8) + 4.0 * noise
        if trouble == "infection":
            systolic -= ill * (person.systolic - 94)
        diastolic = person.diastolic + 2.5 * noise - (systolic < 105) * 8
        return str(round(systolic)), str(round(diastolic))
    if kind == "pulse":
        faster = {"infection": 44, "hypoxia": 26, "fluid": 12, "hypo": 14}.get(trouble or "", 0)
        return (str(round(person.pulse + 3.0 * noise + ill * faster)),)
    if kind == "spo2":
        fall = {"hypoxia": 8, "infection": 4, "fluid": 2}.get(trouble or "", 0)
        return (str(max(80, min(100, round(person.spo2 + 0.4 * noise - ill * fall)))),)
    if kind == "respiratory-rate":
        faster = {"infection": 10, "hypoxia": 9, "fluid": 4}.get(trouble or "", 0)
        return (str(round(person.respiration + 0.8 * noise + ill * faster)),)
    if kind == "temperature":
        rise = {"infection": 2.2, "hypoxia": 0.7}.get(trouble or "", 0.0)
        return (f"{person.temperature + 0.2 * (hour > 14) + 0.12 * noise + ill * rise:.1f}",)
    if kind == "consciousness":
        return ("confused" if trouble == "infection" and ill > 0.9 else "alert",)
    if kind == "weight":
        return (f"{person.weight + 0.22 * noise + (3.6 * ill if trouble == 'fluid' else 0.0):.1f}",)
    if trouble == "hypo" and ill > 0.0:
        return (f"{3.8 - 1.1 * ill + 0.1 * noise:.1f}",)
    return (f"{max(4.4, person.glucose + 0.9 * (hour > 15) + 0.55 * noise):.1f}",)


def history(person: Profile, as_of: datetime, readings: int, rng: Random) -> Iterator[Measured]:
    """About the last *readings* measurements up to *as_of* (aware), oldest first; never one in the future.

    Local days decide the times, so an offset changes with the clocks as it does on a real device.
    """
    trouble = person.trouble
    chance = rng.random
    for date, zone, hours_at_midnight in _days(as_of, -(-readings // person.per_day) + 1):
        for minute, kinds in person.rounds:
            start = minute + int(chance() * 19) - 9
            before = hours_at_midnight - (start + len(kinds)) / 60
            if before <= 0 or (trouble is None and chance() < FORGOTTEN):
                continue
            if trouble == "silent" and before < ONSET["silent"]:
                return
            ill = severity(trouble, before)
            for step, kind in enumerate(kinds):
                hour, minutes = divmod(start + step, 60)
                at = f"{date}{hour:02d}:{minutes:02d}:{int(chance() * 60):02d}{zone}"
                yield Measured(kind, at, measure(person, kind, hour, ill, rng))
    if trouble and trouble != "silent":
        # Someone who feels worse measures once more.
        now = (as_of - timedelta(minutes=12 + rng.randrange(45))).astimezone(LONDON)
        for step, kind in enumerate(person.rounds[-1][1]):
            moment = now + timedelta(minutes=step)
            yield Measured(kind, moment.isoformat(timespec="seconds"), measure(person, kind, now.hour, 1.0, rng))


@lru_cache(maxsize=64)
def _days(as_of: datetime, back: int) -> tuple[tuple[str, str, float], ...]:
    """`2026-11-21T`, `+00:00` and the hours from its midnight to *as_of*, for each local day since *back* days ago."""
    last_day = as_of.astimezone(LONDON).replace(hour=12, minute=0, second=0, microsecond=0)
    days = []
    for number in range(back, -1, -1):
        # Wall-clock subtraction keeps noon at noon across a change of the clocks.
        noon = last_day - timedelta(days=number)
        offset = noon.strftime("%z")
        hours = (as_of - noon.astimezone(UTC)).total_seconds() / 3600 + 12
        days.append((noon.strftime("%Y-%m-%dT"), f"{offset[:3]}:{offset[3:]}", hours))
    return tuple(days)


def draw_profile(number: int, conditions: set[str], trouble: Trouble | None, frail: bool, rng: Random) -> Profile:
    """A steady body with these condition keys; people with lung or heart disease measure a full round each morning."""
    hypercapnic = "copd" in conditions and rng.random() < 0.4
    untreated = "hypertension" in conditions and rng.random() < 0.08
    systolic = rng.randrange(150, 161) if untreated else rng.randrange(118, 133)
    rounds: list[tuple[int, tuple[Kind, ...]]] = []
    full = bool(conditions & {"copd", "heart-failure"}) or trouble in ("infection", "hypoxia", "fluid")
    weight: tuple[Kind, ...] = ("weight",) if "heart-failure" in conditions or trouble == "fluid" else ()
    glucose: tuple[Kind, ...] = ("glucose",) if "diabetes" in conditions or trouble == "hypo" else ()
    rounds.append((7 * 60 + 40, glucose + weight + (FULL_ROUND if full else ("blood-pressure", "pulse"))))
    if full and "copd" in conditions:
        rounds.append((15 * 60, ("spo2", "pulse")))
    evening = (
        glucose
        + (FULL_ROUND if trouble in ("infection", "hypoxia") else ("blood-pressure",))
        + (weight if trouble == "fluid" else ())
    )
    rounds.append((18 * 60 + 30, evening))
    return Profile(
        number=number,
        systolic=systolic,
        diastolic=round(systolic * 0.58),
        pulse=rng.randrange(62, 83),
        spo2=rng.randrange(89, 92) if hypercapnic else rng.randrange(96, 99),
        respiration=rng.randrange(14, 18),
        temperature=36.4 + rng.randrange(5) / 10,
        weight=rng.randrange(52, 108) + rng.randrange(10) / 10 - (6 if frail else 0),
        glucose=5.8 + rng.randrange(16) / 10,
        on_oxygen=hypercapnic and rng.random() < 0.15,
        rounds=tuple(rounds),
        trouble=trouble,
    )
