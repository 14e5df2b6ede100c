"""Rules that a hub makes for itself: who is watched, what is said, and the steps from draft to live to retired.

Each version of a rule is a record of its own, and at most one version is live. What is live is therefore never
rewritten, and flags keep the version they had. `monitoring.plan_definitions` has their shape in FHIR.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.baseline import FLOORS
from monitoring.composed import LONGEST, LOOKS, MOST_ON_END, MOST_SPREADS, SHORTEST, Clause, Composed, span
from monitoring.measures import MEASURES, Code
from monitoring.rules import BY_ID, Rule

DRAFT, LIVE, RETIRED = "draft", "active", "retired"
Who = Literal["hub", "condition", "monitored", "chosen"]
WHO: dict[Who, str] = {
    "hub": "everybody of the hub",
    "condition": "people of the hub with a condition",
    "monitored": "people of the hub whose home monitoring has a measure",
    "chosen": "people chosen one by one",
}

MOST_NAME, MOST_TOLD, MOST_WHY = 80, 300, 500
MOST_CODES = 20


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a rule watches: people of the hub, all of them or those with one of `codes` among their active conditions,
    with a monitoring order of `measure`, or with an order of the rule itself."""

    hub_id: str
    who: Who = "hub"
    codes: tuple[Code, ...] = ()
    condition: str = ""
    measure: str | None = None

    def sentence(self) -> str:
        """`for people of the hub with COPD`"""
        if self.who == "condition":
            return f"for people of the hub with {self.condition}"
        if self.who == "monitored":
            return f"for people of the hub whose {MEASURES[self.measure or ''].name.lower()} is monitored"
        return f"for {WHO[self.who]}"


@dataclass(frozen=True, slots=True)
class Step:
    """To which state, by whom (a reference), when and why."""

    to: str
    by: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class LocalRule:
    """One version of a rule of a hub: what it says, or which shipped rule it switches on, or `off`."""

    id: str
    key: str
    version: int
    status: str
    name: str
    scope: Scope
    what: Composed | None = None
    shipped: str | None = None
    off: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def rule_id(self) -> str:
        """What its flags are filed under."""
        return self.shipped or self.key

    def rule(self) -> Rule:
        """What the engine evaluates."""
        if self.what is None:
            return BY_ID[self.shipped or ""]
        made = next((one for one in reversed(self.steps) if one.to == LIVE), None)
        source = f"composed by the hub; made live by {made.by}: {made.why}" if made else "composed by the hub; a draft"
        quiet = timedelta(minutes=15) if "glucose-sensor" in self.what.triggers else timedelta(0)
        return Rule(self.key, self.version, self.name, self.what.sentence(), self.what, source, quiet=quiet)

    def sentence(self) -> str:
        """The whole of it in plain English."""
        if self.what is not None:
            said = self.what.sentence()
            return f"F{self.scope.sentence()[1:]}. {said}"
        found = BY_ID[self.shipped or ""]
        switched = "Switched off" if self.off else "Switched on"
        return f"{switched} {self.scope.sentence()}: {found.name}. {found.sentence}"


def problems(clause: Clause) -> list[tuple[str, str]]:
    """What is wrong with *clause*, whose measure and look are known: (text, the part it is about)."""
    measure, look = MEASURES[clause.measure], LOOKS[clause.look]
    found: list[tuple[str, str]] = []
    if bool(measure.answers) != (clause.look == "is") or (look.only and clause.measure not in look.only):
        return [(f"{measure.name} cannot be looked at so: “{look.name}”.", "look")]
    if look.unit == "spreads" and clause.measure not in FLOORS:
        return [(f"There is no baseline of {measure.name.lower()}: {', '.join(FLOORS)} have one.", "look")]
    if clause.look == "is":
        if clause.word not in measure.words:
            found.append((f"The word is one of {', '.join(measure.words)}.", "word"))
    elif clause.value is None:
        found.append((f"{measure.name}: a value is needed.", "value"))
    else:
        low, high = allowed(clause.measure, clause.look)
        if not low <= clause.value <= high:
            unit = look.unit or measure.shown
            found.append((f"{measure.name}: the value is from {low:g} to {high:g} {unit}.".replace(" .", "."), "value"))
    if not SHORTEST <= clause.over <= LONGEST:
        found.append((f"The time to look back over is from {span(SHORTEST)} to {span(LONGEST)}.", "over"))
    if not 1 <= clause.count <= (MOST_ON_END if look.several else 1):
        text = (
            f"The number of readings on end is from 1 to {MOST_ON_END}."
            if look.several
            else "One reading decides here."
        )
        found.append((text, "count"))
    return found


def allowed(measure: str, look: str) -> tuple[float, float]:
    """Lowest and highest value of a condition, in its unit."""
    low, high = MEASURES[measure].plausible
    match look:
        case "at-least" | "at-most":
            return low, high
        case "above-usual" | "below-usual":
            return 0.5, MOST_SPREADS
        case "below-best":
            return 10, 100
        case _:
            return 10.0 ** -MEASURES[measure].decimals, high - low


def unit_of(measure: str, look: str) -> str:
    """The UCUM code of a condition's value."""
    unit = LOOKS[look].unit
    return {"spreads": "{spread}", "%": "%", None: MEASURES[measure].unit}[unit]
