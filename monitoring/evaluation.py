"""Rules on a case: pure, each rule by itself."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType

from monitoring.case import Case, Facts, Failure, Finding
from monitoring.kind import furthest_back
from monitoring.limits import Order
from monitoring.readings import CHECK, NO_TIME, OK, Reading
from monitoring.rules import RULES, Rule

LATE = timedelta(hours=24)
"""A reading that is older than this when it arrives is charted but raises nothing: nobody should be called out for
yesterday. Ours."""


def evaluate(case: Case, rules: Sequence[Rule] = RULES) -> list[Finding | Failure]:
    """What *rules* find in *case*. A rule that raises becomes a `Failure`; the others still speak."""
    found: list[Finding | Failure] = []
    sent = case.new.keys()
    for rule in rules:
        # Most rules look at other measures than the one that came, and a call for each would take as long as the rest.
        if (rule.triggers and rule.triggers.isdisjoint(sent)) or not applies(rule, case):
            continue
        try:
            verdict = rule.evaluate(case)
        except Exception as error:  # whatever is wrong with one rule, the readings are kept and the others are heard
            new = tuple(one for key in rule.triggers for one in case.new.get(key, ()))
            found.append(Failure(case.patient_id, rule.id, rule.version, error, new))
            continue
        if verdict is not None:
            found.append(
                Finding(
                    patient_id=case.patient_id,
                    rule=rule.id,
                    rule_version=rule.version,
                    kind=rule.kind,
                    severity=verdict.severity,
                    summary=verdict.summary,
                    reasons=verdict.reasons,
                    advice=verdict.advice,
                    repeat=verdict.repeat,
                    quiet=rule.quiet,
                    extents=verdict.extents,
                )
            )
    return found


def applies(rule: Rule, case: Case) -> bool:
    """Whether a new reading of the case makes *rule* look."""
    if rule.triggers.isdisjoint(case.new):
        return not rule.triggers and bool(case.doubtful)
    return not rule.personal or any(
        order.personal for key in rule.triggers if (order := case.orders.get(key)) and key in case.new
    )


def looking(rules: Sequence[Rule], new: Sequence[Reading]) -> Sequence[Rule]:
    """*rules* without those that look at certain readings of the day only, of which none is *new*."""
    if all(rule.looks is None for rule in rules):
        return rules
    return [rule for rule in rules if rule.looks is None or any(map(rule.looks, new))]


def window(
    measures: Iterable[str], orders: Mapping[str, Order], rules: Sequence[Rule] = RULES
) -> Mapping[str, timedelta]:
    """How far back each measure must be known to evaluate new readings of *measures* for a person with *orders*."""
    new = frozenset(measures)
    limited = frozenset(key for key, order in orders.items() if order.personal and key in new)
    return _window(new, limited, tuple(rules))


@lru_cache(2048)
def _window(new: frozenset[str], limited: frozenset[str], rules: tuple[Rule, ...]) -> Mapping[str, timedelta]:
    # The same few measures come again and again, under the same rules.
    hit = [rule for rule in rules if not rule.triggers.isdisjoint(limited if rule.personal else new)]
    return MappingProxyType(furthest_back(*(rule.needs for rule in hit)))


def case(
    patient_id: str,
    new: Iterable[Reading],
    earlier: Iterable[Reading],
    now: datetime,
    facts: Facts | None = None,
    orders: Mapping[str, Order] | None = None,
) -> Case | None:
    """A case from the readings that came in and those known before (both may hold the same ones); None when nothing of
    *new* may be told: late, wrong and sandbox readings never are, doubtful ones only as doubtful."""
    fresh: dict[str, list[Reading]] = {}
    doubtful: list[Reading] = []
    for reading in new:
        if now - reading.at > LATE:
            continue
        if reading.quality == OK:
            fresh.setdefault(reading.measure, []).append(reading)
        elif reading.quality == CHECK and reading.why != NO_TIME:
            doubtful.append(reading)
    if not fresh and not doubtful:
        return None
    recent = {measure: list(found) for measure, found in fresh.items()}
    known = {one.observation_id for found in fresh.values() for one in found}
    for reading in earlier:
        if reading.quality == OK and reading.observation_id not in known:
            recent.setdefault(reading.measure, []).append(reading)
    for by_measure in (recent, fresh):
        for found in by_measure.values():
            if len(found) > 1:
                found.sort(key=_ORDER, reverse=True)
    doubtful.sort(key=_ORDER, reverse=True)
    return Case(patient_id, now, facts or Facts(), orders or {}, fresh, recent, doubtful)


# Two devices may measure at one instant: in one order always, so that what is replayed sees what was seen.
_ORDER = attrgetter("at", "observation_id", "measure")
