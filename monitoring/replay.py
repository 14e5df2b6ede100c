"""The past evaluated again, as it would have been with other rules or limits, or with those that stood.

It goes through what the engine was told in the order in which it was told (`monitoring.past`), with the engine's own
functions: late readings raise nothing, one live flag per rule and person is opened and refreshed, people end it when
they did. With the rules and limits that stood it therefore raises what was raised, exactly; a test holds it to that.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import Any

import psycopg

from monitoring import escalation
from monitoring.case import Facts, Failure, Finding
from monitoring.cover import NONE_OF_ITS_OWN
from monitoring.decision import decide
from monitoring.evaluation import LATE, case, evaluate, window
from monitoring.flags import Flag
from monitoring.limits import AMBER, Order
from monitoring.past import (
    READINGS,
    VERSIONS,
    Batch,
    Born,
    Expecting,
    Flagged,
    Gone,
    Ordered,
    Past,
    Told,
    asked,
    pasts,
)
from monitoring.pregnancy import Pregnancy
from monitoring.readings import CHECK, OK, Reading
from monitoring.rules import RULES, Rule
from monitoring.state import MOST
from monitoring.states import CONFIRMING, OPEN, SEEN, SNOOZED

EPISODE = timedelta(hours=24)
"""A flag that was never raised in truth had nobody who could end it: it counts as ended when no finding has added to it
for so long, and nothing of its rule is open in truth. Ours."""


@dataclass(slots=True)
class Alert:
    """A flag that was raised, or would have been. It opened with `severity`, by `version` of its rule, because of
    `reading` (an Observation id). `worst` is the gravest it came to, `called` when it first was amber or red,
    `reopened` how often a reading called for eyes again.
    """

    patient_id: str
    rule: str
    version: int
    severity: int
    opened: datetime
    reading: str
    worst: int
    called: datetime | None
    reopened: int = 0

    @classmethod
    def of(cls, flag: Flag) -> "Alert":
        return cls(
            patient_id=flag.patient_id,
            rule=flag.rule,
            version=flag.rule_version,
            severity=flag.severity,
            opened=flag.opened,
            reading=flag.observations[0] if flag.observations else "",
            worst=flag.severity,
            called=flag.opened if flag.severity >= AMBER else None,
        )

    def grew(self, before: Flag, flag: Flag) -> None:
        """A finding added to the flag that it is about."""
        self.worst = max(self.worst, flag.severity)
        ended = escalation.lapses(before, flag.refreshed)
        self.reopened += before.state in SEEN and not ended and flag.state == OPEN
        if self.called is None and flag.severity >= AMBER:
            self.called = flag.refreshed


def raised(past: Past, since: datetime, rules: Collection[str]) -> list[Alert]:
    """The alerts of these *rules* (ids) that readings raised in truth from *since* on."""
    found: dict[str, Alert] = {}
    seen: dict[str, Flag] = {}
    for told in past.told:
        if not isinstance(told, Flagged) or told.flag is None or told.at < since:
            continue
        flag = told.flag
        if flag.rule.removeprefix("failed-") not in rules:
            continue
        if told.first and told.found:
            found[told.id] = Alert.of(flag)
        elif told.found and told.id in found:
            found[told.id].grew(seen[told.id], flag)
        seen[told.id] = flag
    return list(found.values())


def replay(
    past: Past,
    since: datetime,
    rules: Sequence[Rule] = RULES,
    only: Collection[str] | None = None,
    instead: Mapping[str, Order] | None = None,
) -> list[Alert]:
    """The alerts that *rules* would have raised from *since* on, in the order in which they would have opened.

    *only*: the rules that speak; the others are in force, but say nothing here. *instead*: orders by measure that hold
    from the beginning in place of those of the record.
    """
    return _Replay(past, since, rules, only, instead or {}).run()


class _Replay:
    def __init__(
        self,
        past: Past,
        since: datetime,
        rules: Sequence[Rule],
        only: Collection[str] | None,
        instead: Mapping[str, Order],
    ) -> None:
        self._past = past
        self._since = since
        self._rules = rules
        self._speaking = rules if only is None else [rule for rule in rules if rule.id in only]
        self._only = only
        self._instead = instead
        self._known: dict[str, _Known] = {}
        self._birth_date: date | None = None
        self._pregnancies: dict[str, Pregnancy] = {}
        self._orders: dict[str, Order] = {}
        self._in_force: Mapping[str, Order] = instead
        self._looking: dict[frozenset[str], tuple[Mapping[str, timedelta], list[Rule]]] = {}
        self._live: dict[str, Flag] = {}
        self._true: dict[str, Flag] = {}
        self._open: dict[str, Alert] = {}
        self._alerts: list[Alert] = []

    def run(self) -> list[Alert]:
        told, next_ = self._past.told, 0
        for batch in self._past.batches:
            while next_ < len(told) and told[next_].seq < batch.seq:
                self._hear(told[next_])
                next_ += 1
            self._receive(batch)
        for one in told[next_:]:
            self._hear(one)
        return self._alerts

    # -- what is told --------------------------------------------------------------------------------------------------

    def _hear(self, told: Told) -> None:
        match told:
            case Gone():
                self._known[told.reading.measure].forget(told.reading)
            case Flagged():
                self._flagged(told)
            case Born():
                self._birth_date = told.birth_date
            case Expecting():
                _put(self._pregnancies, told.id, told.pregnancy)
            case Ordered():
                self._ordered(told)

    def _ordered(self, told: Ordered) -> None:
        order = told.order
        if order is not None and order.active:
            # As `limits.project_limits` has it: of two active orders of one measure the one written last counts.
            for id_, other in self._orders.items():
                if id_ != told.id and other.active and other.measure == order.measure:
                    self._orders[id_] = replace(other, active=False)
        _put(self._orders, told.id, order)
        telling = {
            one.measure: one for one in self._orders.values() if one.active and (one.personal or one.scale is not None)
        }
        self._in_force = {**telling, **self._instead}
        self._looking.clear()

    def _flagged(self, told: Flagged) -> None:
        """People and time did something to a flag; before the replay begins, it is all taken as it was."""
        flag = told.flag
        if flag is None:
            rule = next((rule for rule, one in self._true.items() if one.id == told.id), None)
            if rule is not None:
                self._true.pop(rule)
                self._end(rule)
            return
        if self._only is not None and flag.rule.removeprefix("failed-") not in self._only:
            return
        if flag.live:
            self._true[flag.rule] = flag
        elif flag.rule in self._true and self._true[flag.rule].id == flag.id:
            self._true.pop(flag.rule)
        if told.at < self._since:
            _put(self._live, flag.rule, flag if flag.live else None)
        elif not told.by_engine:
            # What the engine did is done again here, or follows from time as the flag itself says.
            before = self._live.get(flag.rule)
            if before is None:
                # Somebody wrote it by hand.
                if told.first and flag.live:
                    self._live[flag.rule] = flag
            elif flag.live:
                self._live[flag.rule] = replace(before, **{name: getattr(flag, name) for name in _DONE_TO_IT})
            else:
                self._end(flag.rule)

    def _end(self, rule: str) -> None:
        self._live.pop(rule, None)
        self._open.pop(rule, None)

    # -- what is received ----------------------------------------------------------------------------------------------

    def _receive(self, batch: Batch) -> None:
        now = batch.received
        fresh: list[Reading] = []
        for reading in batch.readings:
            if reading.quality == OK:
                known = self._known.get(reading.measure)
                if known is None:
                    known = self._known[reading.measure] = _Known()
                known.learn(reading)
            elif reading.quality != CHECK:
                continue
            if now - reading.at <= LATE:
                fresh.append(reading)
        if not fresh or now < self._since:
            return
        measures = frozenset(reading.measure for reading in fresh)
        looking = self._looking.get(measures)
        if looking is None:
            heard = [rule for rule in self._speaking if not rule.triggers or rule.triggers & measures]
            looking = self._looking[measures] = window(measures, self._in_force, self._rules), heard
        windows, speaking = looking
        first = min(reading.at for reading in fresh)
        earlier: list[Reading] = []
        for measure, back in windows.items():
            if measure in self._known:
                earlier += self._known[measure].since(first - back)
        facts = Facts(self._birth_date, any(one.why_not(now.date()) is None for one in self._pregnancies.values()))
        made = case(self._past.patient_id, fresh, earlier, now, facts, self._in_force)
        if made is None:
            return
        for found in evaluate(made, speaking):
            self._found(found.finding() if isinstance(found, Failure) else found, now)

    def _found(self, finding: Finding, now: datetime) -> None:
        was = before = self._live.get(finding.rule)
        if before is not None and escalation.lapses(before, now):
            before = escalation.fall_due(before, NONE_OF_ITS_OWN, now)
        elif before is not None and now - before.refreshed > EPISODE and finding.rule not in self._true:
            before = None
        if before is None or not before.live:
            was = before = None
            self._end(finding.rule)
        else:
            self._live[finding.rule] = before
        made = decide(before, finding, now, id=str(len(self._alerts)))
        if made is None:
            return
        flag = made.flag
        if flag.state in (CONFIRMING, SNOOZED):
            flag = escalation.timed(before, flag, NONE_OF_ITS_OWN, now)
        self._live[finding.rule] = flag
        if before is None:
            self._open[finding.rule] = Alert.of(flag)
            self._alerts.append(self._open[finding.rule])
        elif finding.rule in self._open:
            self._open[finding.rule].grew(was or before, flag)


class _Known:
    """The good readings of one measure, oldest first."""

    __slots__ = ("_readings",)

    def __init__(self) -> None:
        self._readings: list[Reading] = []

    def learn(self, reading: Reading) -> None:
        readings = self._readings
        if not readings or readings[-1].at <= reading.at:
            readings.append(reading)
        else:
            insort(readings, reading, key=_AT)

    def forget(self, reading: Reading) -> None:
        if reading.quality == OK:
            self._readings.remove(reading)

    def since(self, at: datetime) -> list[Reading]:
        """The newest MOST of those from *at* on."""
        return self._readings[bisect_left(self._readings, at, key=_AT) :][-MOST:]


_AT = attrgetter("at")

_FOUND = {
    *("id", "version", "patient_id", "hub_id", "rule", "rule_version", "kind", "severity", "summary", "reasons"),
    *("observations", "count", "opened", "refreshed", "advice", "extents"),
}
# What people and time make of a flag, whatever there will be: all that no finding says.
_DONE_TO_IT = tuple(one.name for one in fields(Flag) if one.name not in _FOUND)


def _put(known: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value


# -- on a connection ---------------------------------------------------------------------------------------------------


async def load_past(
    pg: psycopg.AsyncConnection[Any], patient_id: str, rules: Iterable[Rule], since: datetime, until: datetime
) -> Past:
    """The past of one person, as far back as replaying *rules* from *since* on takes."""
    params = asked([patient_id], rules, since, until)
    versions = await (await pg.execute(VERSIONS, params)).fetchall()
    readings = await (await pg.execute(READINGS, params)).fetchall()
    return next(pasts(readings, versions), Past(patient_id))


async def would_have_raised(
    pg: psycopg.AsyncConnection[Any], order: Order, now: datetime, days: int = 30, rules: Sequence[Rule] = RULES
) -> tuple[list[Alert], list[Alert]]:
    """What was raised in the last *days* by the rules that look at the measure of *order*, and what they would have
    raised had *order*, not yet in force, stood all the time."""
    since = now - timedelta(days=days)
    past = await load_past(pg, order.patient_id, rules, since, now)
    looking = [rule.id for rule in rules if order.measure in rule.triggers]
    return raised(past, since, looking), replay(past, since, rules, looking, {order.measure: order})
