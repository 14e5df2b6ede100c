"""A hub's own rules, from draft to live to retired, and their orders for one person. All of it goes through
`flows.write`, where `rule_holds` holds the same for every door."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fhir import store
from fhir.outcome import refuse
from fhir.store import Change, Written, new_id
from hub import access, flows
from hub.db import Tx
from hub.identity import Actor
from monitoring.limits import CATEGORY
from monitoring.local_rules import DRAFT, LIVE, MOST_WHY, RETIRED, LocalRule, Step
from monitoring.plan_definitions import from_plan_definition, is_rule, to_plan_definition, url

JSON = dict[str, Any]

ORDERED = (CATEGORY[0], "monitoring-rule")
"""Category of a ServiceRequest that orders a rule for one person."""


async def find(tx: Tx, actor: Actor, rule_id: str, lock: bool = False) -> tuple[LocalRule, int]:
    """The rule and its version as a resource. Refusal 404 for one of another hub, or of no hub at all."""
    stored = await store.read(tx.pg, "PlanDefinition", rule_id, access.visible(actor))
    if lock:
        stored = (await store.load(tx.pg, [("PlanDefinition", rule_id)], lock=True))["PlanDefinition", rule_id]
    if stored.resource is None or not is_rule(stored.resource):
        raise refuse(404, "not-found", "There is no such rule.", "PlanDefinition.id")
    rule = from_plan_definition(stored.resource)
    if actor.hub_id is not None and rule.scope.hub_id != actor.hub_id:
        raise refuse(404, "not-found", "There is no such rule.", "PlanDefinition.id")
    return rule, stored.version


async def versions(tx: Tx, rule: LocalRule) -> list[LocalRule]:
    """All versions of a rule, newest first."""
    cursor = await tx.pg.execute("SELECT id FROM local_rule WHERE key = %s ORDER BY version DESC", (rule.key,))
    keys = [("PlanDefinition", row[0]) for row in await cursor.fetchall()]
    loaded = await store.load(tx.pg, keys)
    return [from_plan_definition(one.resource) for key in keys if (one := loaded[key]).resource is not None]


async def raised_by(tx: Tx, key: str, version: int) -> LocalRule | None:
    """The version of a hub's rule that a flag names, as it was when it was live; None when there is none."""
    cursor = await tx.pg.execute("SELECT id FROM local_rule WHERE key = %s AND version = %s", (key, version))
    row = await cursor.fetchone()
    if row is None:
        return None
    stored = (await store.load(tx.pg, [("PlanDefinition", row[0])]))["PlanDefinition", row[0]]
    return from_plan_definition(stored.resource) if stored.resource is not None else None


async def of_hub(tx: Tx, hub_id: str | None) -> list[LocalRule]:
    """Every rule of a hub, live ones first, then drafts and retired ones, by name; None: of every hub."""
    cursor = await tx.pg.execute(
        "SELECT id FROM local_rule WHERE %s::text IS NULL OR hub_id = %s"
        " ORDER BY array_position(ARRAY['active', 'draft', 'retired'], status), lower(name), version DESC",
        (hub_id, hub_id),
    )
    keys = [("PlanDefinition", row[0]) for row in await cursor.fetchall()]
    loaded = await store.load(tx.pg, keys)
    return [from_plan_definition(one.resource) for key in keys if (one := loaded[key]).resource is not None]


async def draft(tx: Tx, actor: Actor, rule: LocalRule, version: int | None = None) -> Written:
    """Save *rule* as a draft: a new one, or in place of the resource's *version* that its editor saw."""
    flows.demand(actor, "rule.set")
    resource = to_plan_definition(replace(rule, status=DRAFT))
    if version is None:
        change = Change("create", "PlanDefinition", rule.id, resource)
    else:
        change = Change("update", "PlanDefinition", rule.id, resource, if_match=version)
    return (await flows.write(tx, actor, [change]))[0]


async def next_version(tx: Tx, actor: Actor, rule_id: str) -> LocalRule:
    """A draft that would take the place of this rule: the one there is, or a new one that says what the rule says."""
    flows.demand(actor, "rule.set")
    rule, _ = await find(tx, actor, rule_id, lock=True)
    known = await versions(tx, rule)
    waiting = next((one for one in known if one.status == DRAFT), None)
    if waiting is not None:
        return waiting
    made = replace(rule, id=new_id(), version=known[0].version + 1, status=DRAFT, steps=())
    await draft(tx, actor, made)
    return made


async def make_live(tx: Tx, actor: Actor, rule_id: str, why: str) -> LocalRule:
    """From now on the rule watches those it is for; an earlier version of it is retired in the same moment."""
    return await _step(tx, actor, rule_id, LIVE, why)


async def retire(tx: Tx, actor: Actor, rule_id: str, why: str) -> LocalRule:
    """From now on the rule watches nobody. Its flags stay until people end them."""
    return await _step(tx, actor, rule_id, RETIRED, why)


async def _step(tx: Tx, actor: Actor, rule_id: str, to: str, why: str) -> LocalRule:
    flows.demand(actor, "rule.set")
    if not why.strip():
        raise refuse(422, "required", "Say why.", "PlanDefinition.extension")
    rule, version = await find(tx, actor, rule_id, lock=True)
    now = datetime.now(UTC)
    names = {actor.reference: actor.name}
    stepped = _stepped(rule, to, actor, now, why.strip())
    changes = []
    if to == LIVE:
        for one in await versions(tx, rule):
            if one.status == LIVE and one.id != rule.id:
                ended = _stepped(
                    one, RETIRED, actor, now, f"Version {rule.version} takes its place: {why.strip()}"[:MOST_WHY]
                )
                changes.append(Change("update", "PlanDefinition", one.id, to_plan_definition(ended, names)))
    resource = to_plan_definition(stepped, names)
    changes.append(Change("update", "PlanDefinition", rule.id, resource, if_match=version))
    await flows.write(tx, actor, changes, now)
    return stepped


def _stepped(rule: LocalRule, to: str, actor: Actor, now: datetime, why: str) -> LocalRule:
    return replace(rule, status=to, steps=(*rule.steps, Step(to, actor.reference, now, why)))


async def order(tx: Tx, actor: Actor, patient_id: str, rule: LocalRule, why: str) -> Written:
    """The rule watches this person from now on, by the actor's order."""
    flows.demand(actor, "rule.set")
    if not why.strip():
        raise refuse(422, "required", "Say why this rule is to watch this person.", "ServiceRequest.reasonCode")
    resource: JSON = {
        "resourceType": "ServiceRequest",
        "id": new_id(),
        "status": "active",
        "intent": "order",
        "instantiatesCanonical": [url(rule.key)],
        "category": [{"coding": [{"system": ORDERED[0], "code": ORDERED[1]}]}],
        "code": {"text": f"Watched by the rule: {rule.name}"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "authoredOn": datetime.now(UTC).isoformat(),
        "requester": {"reference": actor.reference, "display": actor.name},
        "reasonCode": [{"text": why.strip()}],
    }
    return (await flows.write(tx, actor, [Change("create", "ServiceRequest", resource["id"], resource)]))[0]


async def orders_of(tx: Tx, patient_id: str) -> list[JSON]:
    """The active orders of rules for one person, oldest first."""
    cursor = await tx.pg.execute(
        "SELECT id FROM r_servicerequest WHERE patient_id = %s AND keys @> ARRAY['status=active', %s] ORDER BY id",
        (patient_id, f"category={ORDERED[0]}|{ORDERED[1]}"),
    )
    keys = [("ServiceRequest", row[0]) for row in await cursor.fetchall()]
    loaded = await store.load(tx.pg, keys)
    return [one.resource for key in keys if (one := loaded[key]).resource is not None]


async def end_orders(tx: Tx, actor: Actor, patient_id: str, rule: LocalRule, why: str) -> Sequence[Written]:
    """The rule no longer watches this person, unless it watches them anyway."""
    flows.demand(actor, "rule.set")
    if not why.strip():
        raise refuse(422, "required", "Say why this rule is to stop watching this person.", "ServiceRequest.note")
    note = {
        "authorReference": {"reference": actor.reference, "display": actor.name},
        "time": datetime.now(UTC).isoformat(),
        "text": why.strip(),
    }
    found = [one for one in await orders_of(tx, patient_id) if url(rule.key) in one.get("instantiatesCanonical", ())]
    changes = [
        Change(
            "update", "ServiceRequest", one["id"], {**one, "status": "revoked", "note": [*one.get("note", ()), note]}
        )
        for one in found
    ]
    return await flows.write(tx, actor, changes)
