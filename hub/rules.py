"""What must hold before anything is written: who may write what for whom, and the rules of each type."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import care_plans.facts
import care_plans.rules
from care_plans.facts import Facts, Pair
from care_plans.shapes import LONDON
from fhir.index import patient_of
from fhir.outcome import Refusal, refuse
from fhir.registry import SPECS
from fhir.store import Change, Key, Stored
from hub import access, cover_rules, pause_rules, rule_holds
from hub.db import Tx
from hub.identity import Actor
from monitoring.limits import Order, from_service_request

JSON = dict[str, Any]


async def permit(tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored]) -> None:
    """Refuse (403, 404) what the actor may not write: the type, or the person it is, was, or will be about.

    A person whom the actor may not see does not exist for them, so that a refusal never confirms who is a patient.
    """
    arriving = (
        {change.id for change in changes if change.type == "Patient" and (change.type, change.id) not in before}
        if actor.can("person.register")
        else set()
    )
    about: dict[str, Change] = {}
    for change in changes:
        stored = before.get((change.type, change.id))
        if not access.may_method(actor, change.type, "create" if stored is None else change.method):
            raise refuse(
                403, "forbidden", f"The scope of this token has no {change.method} of {change.type}.", change.type
            )
        if change.type == "Task" and _answered(actor, stored, change.resource):
            continue
        people = _people(change, stored)
        linked, new = bool(people), change.method != "delete" and stored is None
        gone = change.method == "delete" and (stored is None or stored.body is None)
        if gone and access.may_write(actor, change.type) and not access.may_write(actor, change.type, linked=False):
            # The answer for one that is there and not theirs: who is a patient elsewhere shows in neither.
            raise _unknown(change)
        # Sending the same again changes nothing: whoever may add it may repeat it.
        if not access.may_write(actor, change.type, linked, new) and not (
            access.may_write(actor, change.type, linked)
            and (_same(stored, change.resource) or _struck(actor, stored, change.resource))
        ):
            raise refuse(403, "forbidden", f"Your role ({actor.role}) may not write {change.type}.", change.type)
        if change.resource is not None:
            access.check_speaker(actor, change.resource)
        for one in people:
            about.setdefault(one, change)
    wanted = about.keys() - arriving
    for unknown in wanted - await access.writable_patients(tx.pg, actor, wanted):
        change = about[unknown]
        if change.method != "create" and (change.type, change.id) in before:
            raise _unknown(change)
        raise refuse(
            403,
            "forbidden",
            f"You are not in the care of Patient/{unknown}, or there is no such person.",
            f"{change.type}.{'id' if change.type == 'Patient' else 'subject'}",
        )


def _unknown(change: Change) -> Refusal:
    return refuse(404, "not-found", f"{change.type}/{change.id} is not known here.", change.type)


def _answered(actor: Actor, stored: Stored | None, resource: JSON | None) -> bool:
    before = stored.resource if stored is not None else None
    return before is not None and resource is not None and access.answers(actor, before, resource)


def _struck(actor: Actor, stored: Stored | None, resource: JSON | None) -> bool:
    before = stored.resource if stored is not None else None
    return before is not None and resource is not None and access.strikes_own(actor, _bare(before), _bare(resource))


def _same(stored: Stored | None, resource: JSON | None) -> bool:
    """Whether *resource* says what is stored, but for version and time."""
    before = stored.resource if stored is not None else None
    return before is not None and resource is not None and _bare(before) == _bare(resource)


def _bare(resource: JSON) -> JSON:
    kept = {key: value for key, value in resource.get("meta", {}).items() if key not in ("versionId", "lastUpdated")}
    return {**resource, "meta": kept}


def _people(change: Change, stored: Stored | None) -> set[str]:
    spec = SPECS.get(change.type)
    if spec is None:
        raise refuse(404, "not-supported", f"The hub does not keep resources of type {change.type}.", change.type)
    found = {stored.patient_id} if stored is not None and stored.body is not None else set()
    if change.resource is not None:
        found.add(patient_of(spec, change.resource))
    return {one for one in found if one is not None}


async def hold(
    tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored], now: datetime
) -> Mapping[str, Facts]:
    """Hold the rules of each type against the batch as a whole; the facts of plans come back for what follows.

    Raises Refusal 403, 409 or 422 that names element and rule.
    """
    planned = [change for change in changes if change.type in care_plans.rules.RULES_BY_TYPE]
    facts: Mapping[str, Facts] = {}
    if planned:
        pairs = [_pair(change, before) for change in planned]
        can_import = actor.can("record.import")
        facts = await care_plans.facts.gather(tx.pg, pairs, now, can_import=can_import)
        unknown = Facts("", now, can_import=can_import)
        for pair in pairs:
            care_plans.rules.check(pair, facts, unknown)
    cover_rules.hold(actor, changes, before)
    await rule_holds.hold(tx, actor, changes, before)
    await _limits_are_a_clinicians(tx, actor, changes, before)
    _reviews_are_to_come(actor, changes, before, now)
    pause_rules.hold(actor, changes, before, now)
    return facts


async def _limits_are_a_clinicians(
    tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored]
) -> None:
    """Limits, and the SpO2 scale, are a clinician's act, and so is every way to end them: change, deletion, or a later
    order of the same measure, which takes the place of this one. A referral is nobody's limit.
    """
    # Reading the orders refuses limits out of order, whoever sends them.
    orders = [(change, _limiting(change.resource)) for change in changes if change.type == "ServiceRequest"]
    if not orders or actor.can("limit.set") or actor.can("record.import"):
        return
    following: dict[tuple[str, str], Change] = {}
    for change, after in orders:
        stored = before.get((change.type, change.id))
        was = _limiting(stored.resource) if stored is not None else None
        if any(one is not None and _sets_limits(one) for one in (was, after)):
            raise _not_their_limits(actor)
        if after is not None and after.active:
            following[after.patient_id, after.measure] = change
    if following:
        rows = await tx.pg.execute(
            "SELECT 1 FROM monitoring_limit JOIN unnest(%s::text[], %s::text[]) AS one(patient_id, measure)"
            " USING (patient_id, measure) WHERE active"
            " AND coalesce(low_red, low_amber, high_amber, high_red, scale) IS NOT NULL LIMIT 1",
            ([one for one, _ in following], [measure for _, measure in following]),
        )
        if await rows.fetchone() is not None:
            raise _not_their_limits(actor)


def _reviews_are_to_come(actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored], now: datetime) -> None:
    """Whoever sets limits says a day after today on which they are looked at again. Other systems bring what stood."""
    if actor.can("record.import"):
        return
    today = now.astimezone(LONDON).date()
    for change in changes:
        after = _limiting(change.resource) if change.type == "ServiceRequest" else None
        if after is None or not after.active or not after.review_due(today):
            continue
        stored = before.get((change.type, change.id))
        was = _limiting(stored.resource) if stored is not None else None
        if was is None or was.review_on != after.review_on:
            text = "Choose a day after today, on which the limits are looked at again."
            raise refuse(422, "value", text, "ServiceRequest.extension")


def _limiting(resource: JSON | None) -> Order | None:
    return from_service_request(resource) if resource is not None else None


def _sets_limits(order: Order) -> bool:
    return order.personal or order.scale is not None


def _not_their_limits(actor: Actor) -> Refusal:
    text = f"Your role ({actor.role}) may not set limits, change them or take them away."
    return refuse(403, "forbidden", text, "ServiceRequest.extension")


def _pair(change: Change, before: Mapping[Key, Stored]) -> Pair:
    stored = before.get((change.type, change.id))
    return (stored.resource if stored is not None else None, change.resource)
