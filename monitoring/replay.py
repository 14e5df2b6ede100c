"""The past evaluated again: what rules and limits would have said, reading by reading, as it would have come in."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg

from monitoring.case import Case, Facts, Failure, Finding
from monitoring.evaluation import evaluate, window
from monitoring.limits import AMBER, Order
from monitoring.readings import OK, Reading
from monitoring.rules import RULES, Rule

EPISODE = timedelta(hours=24)
"""Findings of one rule closer together than this are one alert: nobody is called twice for one episode. Ours."""


def replay(
    patient_id: str,
    readings: Iterable[Reading],
    facts: Facts | None = None,
    orders: Mapping[str, Order] | None = None,
    rules: Sequence[Rule] = RULES,
) -> list[tuple[datetime, Finding | Failure]]:
    """Everything that *rules* would have found in one person's *readings*, in order of time.

    Each instant sees itself and what came before, nothing later. Only good readings count, as when they came.
    """
    ordered = sorted((one for one in readings if one.quality == OK), key=attrgetter("at"))
    known: dict[str, list[Reading]] = {}
    for one in ordered:
        known.setdefault(one.measure, []).append(one)
    times = {measure: [one.at for one in found] for measure, found in known.items()}
    orders = orders or {}
    windows: dict[frozenset[str], dict[str, timedelta]] = {}
    found: list[tuple[datetime, Finding | Failure]] = []
    for at, together in groupby(ordered, key=attrgetter("at")):
        new: dict[str, list[Reading]] = {}
        for one in together:
            new.setdefault(one.measure, []).append(one)
        measures = frozenset(new)
        if measures not in windows:
            windows[measures] = window(measures, orders, rules)
        recent = {measure: list(one) for measure, one in new.items()}
        for measure, back in windows[measures].items():
            if measure in known:
                first, last = bisect_left(times[measure], at - back), bisect_right(times[measure], at)
                recent[measure] = known[measure][first:last][::-1]
        case = Case(patient_id, at, facts or Facts(), orders, new, recent)
        found += [(at, one) for one in evaluate(case, rules)]
    return found


def alerts(
    found: Iterable[tuple[datetime, Finding | Failure]], severity: int = AMBER
) -> list[tuple[datetime, Finding]]:
    """The first finding of each episode of each rule, from *severity* on."""
    last: dict[str, datetime] = {}
    first: list[tuple[datetime, Finding]] = []
    for at, one in found:
        if isinstance(one, Finding) and one.severity >= severity:
            before = last.get(one.rule)
            last[one.rule] = at
            if before is None or at - before > EPISODE:
                first.append((at, one))
    return first


async def history(
    pg: psycopg.AsyncConnection[Any], patient_id: str, since: datetime, until: datetime, measures: Sequence[str] = ()
) -> list[Reading]:
    """The good readings of one person, of *measures* or of all."""
    cursor = await pg.execute(
        """SELECT measure, at, value, word, given, quality, why, observation_id, patient_id, device_id FROM reading
           WHERE patient_id = %s AND at >= %s AND at < %s AND quality = 'ok' AND (%s OR measure = ANY(%s))
           ORDER BY at""",
        (patient_id, since, until, not measures, list(measures)),
    )
    return [Reading(*row) for row in await cursor.fetchall()]


async def would_have_raised(
    pg: psycopg.AsyncConnection[Any], order: Order, now: datetime, days: int = 30, facts: Facts | None = None
) -> list[tuple[datetime, Finding]]:
    """The alerts that *order*, not yet in force, would have raised by its limits in the last *days*."""
    readings = await history(pg, order.patient_id, now - timedelta(days=days), now, [order.measure])
    rules = [rule for rule in RULES if order.measure in rule.triggers and rule.personal]
    return alerts(replay(order.patient_id, readings, facts, {order.measure: order}, rules))
