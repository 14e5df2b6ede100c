"""What must hold before anything is written: who may write what for whom, and the rules of each type."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import care_plans.facts
import care_plans.rules
from care_plans.facts import Facts, Pair
from fhir.index import patient_of
from fhir.outcome import refuse
from fhir.registry import SPECS
from fhir.store import Change, Key, Stored
from hub import access
from hub.db import Tx
from hub.identity import Actor
from monitoring.limits import from_service_request

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
        if change.type == "Task" and _answered(actor, stored, change.resource):
            continue
        people = _people(change, stored)
        linked, new = bool(people), change.method != "delete" and stored is None
        # Sending the same again changes nothing: whoever may add it may repeat it.
        if not access.may_write(actor, change.type, linked, new) and not (
            access.may_write(actor, change.type, linked) and _same(stored, change.resource)
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
            raise refuse(404, "not-found", f"{change.type}/{change.id} is not known here.", change.type)
        raise refuse(
            403,
            "forbidden",
            f"You are not in the care of Patient/{unknown}, or there is no such person.",
            f"{change.type}.{'id' if change.type == 'Patient' else 'subject'}",
        )


def _answered(actor: Actor, stored: Stored | None, resource: JSON | None) -> bool:
    before = stored.resource if stored is not None else None
    return before is not None and resource is not None and access.answers(actor, before, resource)


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
    for change in changes:
        if change.type == "ServiceRequest" and change.resource is not None:
            # Limits are a clinician's act; a referral is not. Reading them refuses limits out of order.
            order = from_service_request(change.resource)
            sets_limits = order is not None and (order.personal or order.scale is not None)
            if sets_limits and not (actor.can("limit.set") or actor.can("record.import")):
                raise refuse(
                    403, "forbidden", f"Your role ({actor.role}) may not set limits.", "ServiceRequest.extension"
                )
        if change.type == "Flag":
            _flag_closes_with_permission(actor, change, before)
    return facts


def _flag_closes_with_permission(actor: Actor, change: Change, before: Mapping[Key, Stored]) -> None:
    """A flag that the rules raised is closed by someone who may close flags, whichever door they come through."""
    stored = before.get((change.type, change.id))
    was_active = stored is not None and stored.resource is not None and stored.resource.get("status") == "active"
    still_active = change.resource is not None and change.resource.get("status") == "active"
    if was_active and not still_active and not actor.can("flag.resolve"):
        raise refuse(403, "forbidden", f"Your role ({actor.role}) may not close flags.", "Flag.status")


def _pair(change: Change, before: Mapping[Key, Stored]) -> Pair:
    stored = before.get((change.type, change.id))
    return (stored.resource if stored is not None else None, change.resource)


def involves(changes: Collection[Change], type_: str) -> bool:
    return any(change.type == type_ for change in changes)
