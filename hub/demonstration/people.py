"""One synthetic person after another: who they are, their plan and team, what they measure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random

from hub.demonstration import names, vitals, words
from hub.demonstration.places import HOUSES, PRACTICES, STREETS, Practice
from hub.demonstration.staff import COACH, COORDINATOR, GP, NURSE, Staff, Worker
from hub.demonstration.vitals import Profile, Trouble
from hub.demonstration.words import Condition

TROUBLES: tuple[Trouble, ...] = ("hypoxia", "fluid", "infection", "hypo", "silent")

# Which conditions someone with this trouble must have.
NEEDS: dict[Trouble, tuple[str, ...]] = {
    "hypoxia": ("copd",),
    "fluid": ("heart-failure",),
    "infection": ("diabetes",),
    "hypo": ("diabetes",),
    "silent": ("heart-failure",),
}

# One in this many of those who measure at home is getting worse: 7 per cent.
WORSENING_EVERY = 14

_SHARES = [condition.share for condition in words.CONDITIONS]


@dataclass(frozen=True, slots=True)
class Carer:
    given: str
    family: str
    gender: str
    code: str
    relationship: str


@dataclass(frozen=True, slots=True)
class Person:
    number: int
    nhs_number: str
    gender: str
    given: str
    family: str
    called: str | None
    born: date
    practice: Practice
    house: str
    tier: str | None
    conditions: tuple[Condition, ...]
    frail: bool
    lives_alone: bool
    about: str | None
    carer: Carer | None
    coordinator: Worker | None
    coach: Worker | None
    gp: Worker
    nurse: Worker
    profile: Profile | None
    discharged: int | None
    """Days since the person left hospital."""

    @property
    def id(self) -> str:
        return f"person-{self.number:06d}"

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"


@dataclass(frozen=True, slots=True)
class Mix:
    """How many of a population are cared for by a hub, and how many by their practice with a coach.

    Symphony reached about 1,500 people through its hubs and 5,000 through enhanced primary care.
    """

    size: int
    complex: int
    enhanced: int

    @classmethod
    def of(cls, size: int) -> "Mix":
        return cls(size, min(round(size * 0.6), 1500), min(round(size * 0.3), 5000))

    def tier(self, number: int) -> str | None:
        if number <= self.complex:
            return "complex"
        return "enhanced-primary-care" if number <= self.complex + self.enhanced else None


def person_rng(seed: int, number: int) -> Random:
    """Every person has their own chance, so that one can be made without making those before."""
    return Random(seed * 1_000_003 + number)  # noqa: S311  nobody's secret hangs on it


def draw(number: int, nhs_number: str, mix: Mix, staff: Staff, as_of: datetime, rng: Random) -> Person:
    tier = mix.tier(number)
    practice = PRACTICES[(number - 1) % len(PRACTICES)]
    trouble: Trouble | None = None
    if tier == "complex":
        # The first people of the county are the ones that every demonstration shows.
        turn = number - 2 if number <= len(TROUBLES) + 1 else -1
        if 0 <= turn < len(TROUBLES):
            trouble = TROUBLES[turn]
        elif number > 2 * WORSENING_EVERY and number % WORSENING_EVERY == 0:
            trouble = TROUBLES[number // WORSENING_EVERY % len(TROUBLES)]
    gender = "female" if rng.random() < 0.54 else "male"
    given, family = names.draw(rng, gender)
    if tier == "complex":
        age = rng.randrange(58, 95)
    elif tier:
        age = rng.randrange(38, 88)
    else:
        age = int(rng.triangular(0, 97, 42))
    born = as_of.date() - timedelta(days=int(age * 365.25) + rng.randrange(365))
    keys = set(NEEDS[trouble]) if trouble else set()
    wanted = rng.randrange(3, 6) if tier == "complex" else rng.randrange(1, 3) if tier else int(age > 50)
    while len(keys) < wanted:
        keys.add(rng.choices(words.CONDITIONS, _SHARES)[0].key)
    conditions = tuple(condition for condition in words.CONDITIONS if condition.key in keys)
    frail = age >= 80 and rng.random() < 0.5
    carer = None
    if tier == "complex" and (number == 1 or rng.random() < 0.45):
        carer_gender = "female" if rng.random() < 0.65 else "male"
        code, relationship = {"female": ("DAUC", "daughter"), "male": ("SONC", "son")}[carer_gender]
        carer = Carer(names.draw(rng, carer_gender)[0], family, carer_gender, code, relationship)
    coordinator = coach = None
    if tier == "complex":
        coordinator = staff.at(practice.hub.id, COORDINATOR)[number // len(PRACTICES) % staff.coordinating]
    if tier and (tier != "complex" or rng.random() < 0.7 or number == 1):
        coach = staff.at(practice.hub.id, COACH)[number // len(PRACTICES) % staff.coaching]
    measures = tier == "complex" or (tier is not None and "hypertension" in keys and rng.random() < 0.5)
    profile = vitals.draw_profile(number, keys, trouble, frail, rng) if measures else None
    discharged = rng.randrange(0, 21) if tier == "complex" and (number == 4 or rng.random() < 0.1) else None
    return Person(
        number=number,
        nhs_number=nhs_number,
        gender=gender,
        given=given,
        family=family,
        called=names.SHORT_FORMS.get(given) if rng.random() < 0.6 else None,
        born=born,
        practice=practice,
        house=rng.choice(HOUSES) if rng.random() < 0.15 else f"{rng.randrange(1, 96)} {rng.choice(STREETS)}",
        tier=tier,
        conditions=conditions,
        frail=frail,
        lives_alone=carer is None and rng.random() < 0.4,
        about=rng.choice(words.ABOUT_ME + 4 * words.ABOUT_ME_BY_ORIGIN.get(names.origin(family), ())) if tier else None,
        carer=carer,
        coordinator=coordinator,
        coach=coach,
        gp=rng.choice(staff.at(practice.id, GP)),
        nurse=staff.at(practice.id, NURSE)[0],
        profile=profile,
        discharged=discharged,
    )


def everyone(
    mix: Mix, nhs_numbers: Iterator[str], staff: Staff, as_of: datetime, seed: int
) -> Iterator[tuple[Person, Random]]:
    """People in order of their number, each with the rest of their chance for what is drawn later."""
    for number in range(1, mix.size + 1):
        rng = person_rng(seed, number)
        yield draw(number, next(nhs_numbers), mix, staff, as_of, rng), rng
