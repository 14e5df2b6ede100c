"""A person's plan of monitoring: what is asked for, what came, and how it is changed and changed back.

Whoever changes it needs `limit.set`; orders are ServiceRequests and go the one path of every write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any

import psycopg

from care_plans.activities import For
from care_plans.application import apply
from fhir import store
from fhir.outcome import refuse
from fhir.store import Change, instant, new_id
from hub import flows
from hub.access import visible
from hub.db import Tx
from hub.identity import Actor
from monitoring import templates
from monitoring.adherence import LOOKS_BACK, Adherence, Kept, adherence, kept
from monitoring.limits import Order, to_service_request
from monitoring.measures import MEASURES
from monitoring.overdue import STILL
from monitoring.pauses import Pause, to_come
from monitoring.schedules import LONDON
from monitoring.state import load_orders

JSON = dict[str, Any]

STOPPED = timedelta(days=30)
"""How long what was stopped is shown, so that it can be asked for again with its limits. Ours."""

Undo = tuple[str, int]
"""An order (ServiceRequest id) and the version of it that a change made."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One measure of a plan. `kept`: its readings asked for in the last 14 days and today; `last` when it was measured,
    `pause` the one that holds now; `late` is missed or silent while it is overdue."""

    order: Order
    kept: Sequence[Kept]
    last: datetime | None
    pause: Pause | None
    late: str | None = None

    @property
    def adherence(self) -> Adherence:
        return adherence(self.kept)


async def asked(pg: psycopg.AsyncConnection[Any], patient_id: str, now: datetime) -> list[Asked]:
    """What the person is asked to measure, in the order of the table of measures."""
    orders = (await load_orders(pg, [patient_id])).get(patient_id, {})
    today = datetime.combine(now.astimezone(LONDON).date(), time(), LONDON)
    since, until = today - LOOKS_BACK, today + timedelta(days=1)
    rows = await pg.execute(
        "SELECT measure, at FROM reading WHERE patient_id = %s AND measure = ANY(%s) AND at >= %s AND at < %s"
        " AND quality IN ('ok', 'check')",
        (patient_id, list(orders), since - timedelta(days=1), until),
    )
    times: dict[str, list[datetime]] = {}
    for measure, at in await rows.fetchall():
        times.setdefault(measure, []).append(at)
    rows = await pg.execute(
        "SELECT m, (SELECT max(at) FROM reading WHERE patient_id = %s AND measure = m AND quality IN ('ok', 'check'))"
        " FROM unnest(%s::text[]) AS m",
        (patient_id, list(orders)),
    )
    last: dict[str, datetime | None] = dict(await rows.fetchall())
    pauses = await to_come(pg, patient_id, since)
    rows = await pg.execute(
        f"SELECT m.measure, m.kind FROM missed m WHERE m.patient_id = %s AND {STILL.format(missed='m')}", (patient_id,)
    )
    late: dict[str, str] = dict(await rows.fetchall())
    found = []
    for key in (key for key in MEASURES if key in orders):
        order = orders[key]
        mine = [one for one in pauses if one.covers(key)]
        begun = max(since, order.starts) if order.starts else since
        over = min(until, order.ends) if order.ends else until
        slots = kept(order.schedule, times.get(key, ()), begun, over, now, mine) if begun < over else []
        holds = next((one for one in mine if one.since <= now < one.until), None)
        found.append(Asked(order, slots, last.get(key), holds, late.get(key) if holds is None else None))
    return found


async def stopped(pg: psycopg.AsyncConnection[Any], patient_id: str, now: datetime) -> list[tuple[Order, int]]:
    """Orders that were stopped lately, and are not asked for again, with their version; the last first."""
    rows = await pg.execute(
        """SELECT l.measure, l.service_request_id, r.version FROM monitoring_limit l
           JOIN r_servicerequest r ON r.id = l.service_request_id
           WHERE l.patient_id = %s AND NOT l.active AND r.updated > %s AND NOT EXISTS (
               SELECT 1 FROM monitoring_limit o
               WHERE o.patient_id = l.patient_id AND o.measure = l.measure AND o.active)
           ORDER BY r.updated DESC LIMIT 20""",
        (patient_id, now - STOPPED),
    )
    once: dict[str, tuple[Order, int]] = {}
    for measure, id_, version in await rows.fetchall():
        once.setdefault(measure, (Order(id_, patient_id, measure, active=False), version))
    return list(once.values())


async def ask(tx: Tx, actor: Actor, orders: Sequence[Order], now: datetime) -> list[Undo]:
    """Ask for readings as *orders* say (their ids do not count): what is asked for of a measure already is changed, and
    keeps its limits, reason and review. What was made of each, for `undo`."""
    flows.demand(actor, "limit.set")
    if not orders:
        return []
    patient_id = orders[0].patient_id
    before = (await load_orders(tx.pg, [patient_id])).get(patient_id, {})
    changes = []
    ids = [("ServiceRequest", one.service_request_id) for one in before.values()]
    stored = await store.load(tx.pg, ids)
    for one in orders:
        known = before.get(one.measure)
        if known is None:
            made = replace(one, service_request_id=new_id(), set_by=actor.reference)
            resource = to_service_request(made, actor.name) | {"authoredOn": instant(now)}
            changes.append(Change("create", "ServiceRequest", made.service_request_id, resource))
            continue
        at = stored["ServiceRequest", known.service_request_id]
        body = at.resource or {}
        timing = replace(
            known, every_hours=one.every_hours, windows=one.windows, starts=known.starts or one.starts, ends=one.ends
        )
        resource = {**body, "occurrenceTiming": to_service_request(timing).get("occurrenceTiming")}
        if resource["occurrenceTiming"] is None:
            del resource["occurrenceTiming"]
        changes.append(Change("update", "ServiceRequest", at.id, resource, if_match=at.version))
    return [(one.change.id, one.version) for one in await flows.write(tx, actor, changes, now)]


async def stop(tx: Tx, actor: Actor, patient_id: str, measure: str, now: datetime) -> list[Undo]:
    """Nothing of this measure is asked for any more, and its limits no longer hold. Refusal 404 when nothing is."""
    flows.demand(actor, "limit.set")
    order = (await load_orders(tx.pg, [patient_id])).get(patient_id, {}).get(measure)
    if order is None:
        raise refuse(404, "not-found", "This is not asked for.")
    stored = (await store.load(tx.pg, [("ServiceRequest", order.service_request_id)]))[
        "ServiceRequest", order.service_request_id
    ]
    change = Change(
        "update", "ServiceRequest", stored.id, {**(stored.resource or {}), "status": "revoked"}, if_match=stored.version
    )
    return [(one.change.id, one.version) for one in await flows.write(tx, actor, [change], now)]


async def undo(tx: Tx, actor: Actor, patient_id: str, made: Sequence[Undo], now: datetime) -> None:
    """As it was before: what a change made anew is stopped, the rest gets its version before. Refusal 409 when somebody
    has changed it since, 404 for what is no order of this person."""
    flows.demand(actor, "limit.set")
    changes = []
    for id_, version in made:
        seen = await store.read(tx.pg, "ServiceRequest", id_, visible(actor))
        if seen.patient_id != patient_id or seen.resource is None:
            raise refuse(404, "not-found", "There is no such order.")
        if seen.version != version:
            raise refuse(409, "conflict", "It was changed again since, so it cannot be undone.")
        if version > 1:
            was = await store.vread(tx.pg, "ServiceRequest", id_, version - 1, visible(actor))
            body = was.resource or seen.resource
        else:
            body = {**seen.resource, "status": "revoked"}
        changes.append(Change("update", "ServiceRequest", id_, body, if_match=version))
    await flows.write(tx, actor, changes, now)


async def use_template(tx: Tx, actor: Actor, patient_id: str, key: str, now: datetime) -> list[Undo]:
    """Everything that the template asks for, in one act; what is asked for already keeps its limits. Refusal 404."""
    flows.demand(actor, "limit.set")
    template = templates.TEMPLATES.get(key)
    if template is None:
        raise refuse(404, "not-found", "There is no such template.")
    proposed = apply(template, {}, For(f"Patient/{patient_id}", instant(now), practitioner=actor.reference))
    requests = [one for one in proposed["contained"] if one["resourceType"] == "ServiceRequest"]
    return await ask(tx, actor, list(templates.orders(requests, actor.reference, now)), now)
