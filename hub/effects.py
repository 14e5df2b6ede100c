"""What follows from a permitted write, in its transaction: storing, typed tables, audit, notices, evaluation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import care_plans.rules
from care_plans.plan import is_persons_plan
from fhir import store
from fhir.index import patient_of
from fhir.registry import SPECS
from fhir.store import Change, Key, Stored, Written
from hub import audit, live, notices, projections, routing, watch
from hub.db import Tx
from hub.identity import ENGINE, Actor
from monitoring.case import Facts
from monitoring.readings import Reading

JSON = dict[str, Any]


async def carry_out(
    tx: Tx,
    actors: Sequence[Actor],
    changes: Sequence[Change],
    before: Mapping[Key, Stored],
    found: Sequence[Reading],
    now: datetime,
    facts: Mapping[str, Facts] | None = None,
) -> list[Written]:
    """Store what is permitted, and everything that follows. `actors[i]` makes `changes[i]`."""
    written = await store.write(tx.pg, changes, actors[0].reference, now, before)
    await projections.project(tx, written, actors[0].reference, found, now)
    await audit.record(
        tx.pg, [entry for actor, one in zip(actors, written, strict=True) for entry in _entries(actor, one)]
    )
    await _tell(tx, actors[0], written, now)
    raised = await watch.evaluate(tx, found, now, facts)
    if raised:
        # Flags are the engine's, whoever sent the reading; they bring no readings, so this ends here.
        known = await store.load(tx.pg, [("Flag", one.id) for one in raised if one.method == "update"], lock=True)
        await carry_out(tx, [ENGINE] * len(raised), raised, known, (), now)
    return written


def _entries(actor: Actor, one: Written) -> list[audit.Entry]:
    """One row, or two when the record was moved from one person to another: it belongs to the story of both."""
    change = one.change
    action = {201: "create", 204: "delete"}.get(one.status, "update")
    people = [one.patient_id]
    if one.before is not None and (was := patient_of(SPECS[change.type], one.before)) != one.patient_id:
        people.append(was)
    detail = {"version": one.version}
    return [
        audit.entry(actor, action, change.type, change.id, person, detail=detail, request_id=change.request)
        for person in people
    ]


async def _tell(tx: Tx, actor: Actor, written: Sequence[Written], now: datetime) -> None:
    """Notices to the team about what others did, and a wake-up for open boards."""
    touched = {
        type_: {
            person
            for one in written
            if one.change.type == type_ and one.change.resource is not None and (person := _about(one.change.resource))
        }
        for type_ in ("Flag", "CarePlan", "Task")
    }
    people = set().union(*touched.values())
    if not people:
        return
    await live.announce(tx.pg, people)
    calls = [
        call
        for one in written
        if one.change.type == "Flag" and one.change.resource and (call := routing.call(one.before, one.change.resource))
    ]
    told = await routing.notices(tx, calls, now)
    plans = [one.change.resource for one in written if one.change.type == "CarePlan" and one.change.resource]
    changed = [about for one in plans if is_persons_plan(one) and (about := _about(one))]
    members = await notices.teams(tx.pg, changed) if changed else {}
    for about in changed:
        link = f"/patients/{about}/plan/versions"
        told += [notices.Notice("plan-changed", about, one, "The plan was changed", link) for one in members[about]]
        told.append(notices.Notice("plan-changed", about, f"Patient/{about}", "The plan was changed", "/me/plan"))
    await notices.put(tx.pg, [one for one in told if one.recipient != actor.reference])


def _about(resource: JSON) -> str | None:
    return patient_of(SPECS[resource["resourceType"]], resource)


async def suspend(tx: Tx, plans: Sequence[str], now: datetime) -> None:
    """Put these active plans (ids) on hold: nobody approves them any more."""
    if not plans:
        return
    found = await store.load(tx.pg, [("CarePlan", one) for one in plans], lock=True)
    changes = [
        Change("update", "CarePlan", one.id, care_plans.rules.suspended(one.resource, ENGINE.reference, now.date()))
        for one in found.values()
        if one.resource is not None
    ]
    await carry_out(tx, [ENGINE] * len(changes), changes, found, (), now)
