"""Cases from the database: two statements for any number of people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from monitoring import evaluation
from monitoring.case import Case, Facts
from monitoring.in_force import ONLY_SHIPPED, RulesInForce
from monitoring.limits import COLUMNS, Limits, Order
from monitoring.readings import Reading
from monitoring.rules import Rule

MOST = 7000
"""Readings of one measure that a case looks at: two weeks of a sensor that reads every three minutes. Hardly any rule
looks further back than a day where so much is measured (see `evaluation.window`)."""

NOBODY = Facts()


async def load_cases(
    pg: psycopg.AsyncConnection[Any],
    new: Sequence[Reading],
    now: datetime,
    facts: Mapping[str, Facts] | None = None,
    in_force: RulesInForce = ONLY_SHIPPED,
) -> dict[str, Case]:
    """The case of every person with a new reading that may alarm, with as much of the past as the rules *in_force* for
    them look at. *new* may be in the database already or not yet."""
    by_patient: dict[str, list[Reading]] = {}
    for reading in new:
        if now - reading.at <= evaluation.LATE:
            by_patient.setdefault(reading.patient_id, []).append(reading)
    if not by_patient:
        return {}
    orders = await load_orders(pg, list(by_patient), telling=True)
    known = facts or {}
    rules = {one: in_force.of(one, known.get(one, NOBODY).hub_id) for one in by_patient}
    earlier = await _earlier(pg, by_patient, orders, rules)
    cases: dict[str, Case] = {}
    for patient_id, readings in by_patient.items():
        found = evaluation.case(
            patient_id,
            readings,
            earlier.get(patient_id, ()),
            now,
            known.get(patient_id, NOBODY),
            orders.get(patient_id, {}),
        )
        if found is not None:
            cases[patient_id] = found
    return cases


_TELLING = " AND num_nonnulls(low_red, low_amber, high_amber, high_red, scale) > 0"


async def load_orders(
    pg: psycopg.AsyncConnection[Any], patient_ids: Sequence[str], *, telling: bool = False
) -> dict[str, dict[str, Order]]:
    """Active orders by person and measure. Only those with limits or a scale when *telling*: to a rule, an order that
    merely asks for readings is as good as none."""
    cursor = await pg.execute(
        f"SELECT {', '.join(COLUMNS)} FROM monitoring_limit WHERE active AND patient_id = ANY(%s)"
        + (_TELLING if telling else ""),
        (list(patient_ids),),
    )
    orders: dict[str, dict[str, Order]] = {}
    for row in await cursor.fetchall():
        order = Order(row[0], row[1], row[2], Limits(*row[3:7]), *row[7:])
        orders.setdefault(order.patient_id, {})[order.measure] = order
    return orders


async def _earlier(
    pg: psycopg.AsyncConnection[Any],
    by_patient: Mapping[str, Sequence[Reading]],
    orders: Mapping[str, Mapping[str, Order]],
    rules: Mapping[str, Sequence[Rule]],
) -> dict[str, list[Reading]]:
    """What the rules need of each person. Most people of a batch need the same, so a need is sent once and joined.

    Later readings than the new ones come too: what is measured earlier may arrive later.
    """
    needs: dict[frozenset[tuple[str, float]], int] = {}
    people: list[tuple[str, int, float]] = []
    # Most people of a batch send the same measures under the same rules, and ask for the same past.
    asked: dict[tuple[object, ...], frozenset[tuple[str, float]]] = {}
    for patient_id, readings in by_patient.items():
        looking = evaluation.looking(rules[patient_id], readings)
        given = orders.get(patient_id, {})
        measures = {one.measure for one in readings}
        alike = (
            *map(id, looking),
            *sorted(measures),
            *sorted(key for key in measures & given.keys() if given[key].personal),
        )
        need = asked.get(alike)
        if need is None:
            windows = evaluation.window(measures, given, looking)
            need = asked[alike] = frozenset((measure, back.total_seconds()) for measure, back in windows.items())
        if need:
            first = min(one.at for one in readings).timestamp()
            people.append((patient_id, needs.setdefault(need, len(needs)), first))
    earlier: dict[str, list[Reading]] = {}
    if not people:
        return earlier
    wanted = [(number, measure, back) for need, number in needs.items() for measure, back in need]
    cursor = pg.cursor(binary=True)
    await cursor.execute(
        """SELECT found.measure, found.at, found.value, found.word, found.observation_id, who.patient_id
           FROM unnest(%s::text[], %s::int[], %s::float8[]) AS who(patient_id, need, first)
           JOIN unnest(%s::int[], %s::text[], %s::float8[]) AS need(number, measure, back) ON need.number = who.need
           CROSS JOIN LATERAL (
               SELECT measure, at, value, word, observation_id FROM reading
               WHERE patient_id = who.patient_id AND measure = need.measure AND quality = 'ok'
                 AND at >= to_timestamp(who.first - need.back)
               ORDER BY at DESC LIMIT %s) AS found""",
        (*map(list, zip(*people, strict=True)), *map(list, zip(*wanted, strict=True)), MOST),
    )
    for measure, at, value, word, observation_id, patient_id in await cursor.fetchall():
        earlier.setdefault(patient_id, []).append(
            Reading(measure, at, value, word, observation_id=observation_id, patient_id=patient_id)
        )
    return earlier
