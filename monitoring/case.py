"""What a rule is given (Case) and what it may say (Verdict, Finding, Failure): plain values, no database, no clock."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, TypedDict

from monitoring.extents import Extent, exceeds, furthest
from monitoring.limits import Limits, Order, in_force, with_source
from monitoring.measures import MEASURES
from monitoring.readings import Reading


@dataclass(frozen=True, slots=True)
class Facts:
    """What `hub` tells about a person. *pregnant* and an age under 16 silence NEWS2, which is not made for them.
    *hub_id*: the home hub, whose rules watch them."""

    birth_date: date | None = None
    pregnant: bool = False
    hub_id: str | None = None


class Reason(TypedDict):
    """One reading behind a finding, as stored with the flag. `at` is ISO 8601 with offset; `value` is in `unit`."""

    text: str
    measure: str
    value: float | None
    word: str | None
    unit: str
    at: str
    observation: str


@dataclass(slots=True)
class Case:
    """One person as the rules see them.

    `new` holds the readings that just came in, fresh enough to alarm, `recent` those and the earlier ones; both by
    measure and newest first, only of quality `ok`. `doubtful` are fresh new readings of quality `check`. `memo` keeps
    what several rules work out of the same case, such as a baseline.
    """

    patient_id: str
    now: datetime
    facts: Facts = field(default_factory=Facts)
    orders: Mapping[str, Order] = field(default_factory=dict)
    new: Mapping[str, Sequence[Reading]] = field(default_factory=dict)
    recent: Mapping[str, Sequence[Reading]] = field(default_factory=dict)
    doubtful: Sequence[Reading] = ()
    memo: dict[Hashable, Any] = field(default_factory=dict, compare=False)

    @property
    def scale(self) -> int:
        """The SpO2 scale of NEWS2: 2 only where a named clinician ordered it (see `limits.check`)."""
        order = self.orders.get("spo2")
        return order.scale or 1 if order else 1

    def personal(self, measure: str) -> Limits | None:
        """The limits that a clinician set for this person, or None."""
        order = self.orders.get(measure)
        return with_source(order) if order and order.personal else None

    def default(self, measure: str) -> Limits | None:
        """The limits that hold where no clinician set any."""
        return in_force(measure, None, self.scale)

    def before(self, reading: Reading, within: timedelta) -> Sequence[Reading]:
        """Earlier readings of the same measure, at most *within* older, newest first."""
        oldest = reading.at - within
        return [
            one
            for one in self.recent.get(reading.measure, ())
            if oldest <= one.at < reading.at and one.observation_id != reading.observation_id
        ]

    def neighbours(self, reading: Reading, within: timedelta) -> Sequence[Reading]:
        """The readings of the same measure just before and just after it, at most *within* away. What was measured
        earlier may arrive later, so either may be the one that confirms."""
        after: list[Reading] = []
        for one in self.recent.get(reading.measure, ()):
            if one.observation_id == reading.observation_id:
                continue
            if one.at < reading.at:
                return [near for near in (one, *after) if abs(near.at - reading.at) <= within]
            after = [one]
        return [near for near in after if near.at - reading.at <= within]

    def latest(self, measure: str, at: datetime, within: timedelta) -> Reading | None:
        """The newest reading not after *at* and at most *within* older."""
        for one in self.recent.get(measure, ()):
            if one.at <= at:
                return one if at - one.at <= within else None
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a case: severity 3 red, 2 amber, 1 information.

    `summary` is one sentence for staff with number and unit. `advice`, if any, is for the patient at once. `repeat`
    means that the patient is asked to measure again before it counts for more. `extents` say how far it goes.
    """

    severity: int
    summary: str
    reasons: tuple[Reason, ...]
    advice: str | None = None
    repeat: bool = False
    extents: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the rule that gave it. It ends when a person resolves its flag, never by itself."""

    patient_id: str
    rule: str
    rule_version: int
    kind: str
    severity: int
    summary: str
    reasons: tuple[Reason, ...]
    advice: str | None = None
    repeat: bool = False
    quiet: timedelta = timedelta(0)
    extents: tuple[Extent, ...] = ()

    @property
    def observations(self) -> tuple[str, ...]:
        """Ids of the readings behind it, oldest first, each once."""
        ordered = sorted(self.reasons, key=lambda one: datetime.fromisoformat(one["at"]))
        return tuple(dict.fromkeys(one["observation"] for one in ordered if one["observation"]))


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that raised. The readings are kept; the hub opens an operational flag from `finding()`, logs `error`."""

    patient_id: str
    rule: str
    rule_version: int
    error: Exception
    readings: tuple[Reading, ...]

    def finding(self) -> Finding:
        why = type(self.error).__name__
        text = f"The rule {self.rule} could not be worked out ({why}); look at the readings yourself."
        return Finding(
            patient_id=self.patient_id,
            rule=f"failed-{self.rule}",
            rule_version=self.rule_version,
            kind="operational",
            severity=2,
            summary=text,
            reasons=tuple(
                reason(one, f"{MEASURES[one.measure].name} {one.show()} was not evaluated") for one in self.readings
            ),
        )


def worst(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The most severe of *verdicts*; of equals the one that goes furthest, else the first. It bears the extents of all
    that are as severe, so that none of them comes as news later."""
    equals: list[Verdict] = []
    for verdict in verdicts:
        if verdict is None or (equals and verdict.severity < equals[0].severity):
            continue
        if equals and verdict.severity > equals[0].severity:
            equals.clear()
        equals.append(verdict)
    if len(equals) < 2:
        return equals[0] if equals else None
    found = equals[0]
    for verdict in equals[1:]:
        if exceeds(verdict.extents, found.extents):
            found = verdict
    return replace(found, extents=furthest(extent for verdict in equals for extent in verdict.extents))


def reason(reading: Reading, text: str) -> Reason:
    """*reading* as a reason that says *text*."""
    return Reason(
        text=text,
        measure=reading.measure,
        value=reading.value,
        word=reading.word,
        unit=MEASURES[reading.measure].unit,
        at=reading.at.isoformat(),
        observation=reading.observation_id,
    )
