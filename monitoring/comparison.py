"""What a change of rules would mean to people: alerts of before and after side by side, and how many a day."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from monitoring.limits import AMBER, RED
from monitoring.replay import EPISODE, Alert

LONDON = ZoneInfo("Europe/London")


@dataclass(frozen=True, slots=True)
class Pair:
    """An alert of before and its counterpart of after; one of them is None where only the other was or would be."""

    before: Alert | None
    after: Alert | None

    @property
    def patient_id(self) -> str:
        one = self.before or self.after
        assert one is not None
        return one.patient_id

    @property
    def sooner(self) -> timedelta | None:
        """By how much the one of after would have called earlier; negative: later. None without a counterpart."""
        if self.before is None or self.after is None:
            return None
        return _moment(self.before) - _moment(self.after)


@dataclass(slots=True)
class Side:
    """Alerts of one side. `alerts` are amber or red at their worst: somebody is called. What stays information (a
    repeat is asked for) is counted apart."""

    alerts: list[Alert] = field(default_factory=list)
    information: int = 0

    @property
    def people(self) -> int:
        return len({one.patient_id for one in self.alerts})

    @property
    def red(self) -> int:
        return sum(one.worst == RED for one in self.alerts)

    def a_day(self, days: float) -> float:
        return len(self.alerts) / days

    def by_day(self) -> Counter[date]:
        """How many called on each day of London."""
        return Counter(_moment(one).astimezone(LONDON).date() for one in self.alerts)


@dataclass(slots=True)
class Comparison:
    """*days* of *people* (who had readings), before and after. `pairs` in the order of time."""

    days: float
    people: int
    readings: int
    before: Side
    after: Side
    pairs: list[Pair]

    @property
    def busiest(self) -> tuple[int, int]:
        """The most alerts of one day, before and after."""
        return tuple(max(side.by_day().values(), default=0) for side in (self.before, self.after))  # type: ignore[return-value]

    @property
    def gone(self) -> list[Pair]:
        return [one for one in self.pairs if one.after is None]

    @property
    def new(self) -> list[Pair]:
        return [one for one in self.pairs if one.before is None]

    @property
    def both(self) -> list[Pair]:
        return [one for one in self.pairs if one.before and one.after]

    @property
    def sooner(self) -> timedelta | None:
        """The median of how much earlier those on both sides would call; None where there are none."""
        found = [one.sooner for one in self.both if one.sooner is not None]
        return timedelta(seconds=median(one.total_seconds() for one in found)) if found else None


def side(alerts: Iterable[Alert]) -> Side:
    found = list(alerts)
    return Side([one for one in found if one.worst >= AMBER], sum(one.worst < AMBER for one in found))


def compare(before: Sequence[Alert], after: Sequence[Alert], days: float, people: int, readings: int) -> Comparison:
    """Pairs those of one person that call within an episode (`replay.EPISODE`) of each other, the nearest first."""
    was, would = side(before), side(after)
    return Comparison(days, people, readings, was, would, _pairs(was.alerts, would.alerts))


def identical(before: Collection[Alert], after: Collection[Alert]) -> bool:
    """Whether *after* is exactly *before*: each person, rule, version, reading, severity and moment."""
    return Counter(map(_whole, before)) == Counter(map(_whole, after))


def _whole(alert: Alert) -> tuple[object, ...]:
    return tuple(getattr(alert, name) for name in Alert.__dataclass_fields__)


def _pairs(before: Sequence[Alert], after: Sequence[Alert]) -> list[Pair]:
    by_person: dict[str, tuple[list[Alert], list[Alert]]] = {}
    for number, alerts in enumerate((before, after)):
        for one in alerts:
            by_person.setdefault(one.patient_id, ([], []))[number].append(one)
    pairs: list[Pair] = []
    for was, would in by_person.values():
        near = sorted(
            (abs(_moment(one) - _moment(other)), i, j) for i, one in enumerate(was) for j, other in enumerate(would)
        )
        taken: dict[int, int] = {}
        for gap, i, j in near:
            if gap <= EPISODE and i not in taken and j not in taken.values():
                taken[i] = j
        pairs += [Pair(one, would[taken[i]] if i in taken else None) for i, one in enumerate(was)]
        pairs += [Pair(None, one) for j, one in enumerate(would) if j not in taken.values()]
    return sorted(pairs, key=lambda one: _moment(one.before or one.after))


def _moment(alert: Alert | None) -> datetime:
    assert alert is not None
    return alert.called or alert.opened
