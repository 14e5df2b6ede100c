"""What must hold when a hub writes its own rules, whichever door they come through: content that can be evaluated, a
draft before anything is live, who, when and why at each step, and nothing that is live rewritten."""

from collections.abc import Mapping, Sequence
from typing import Any

from fhir.outcome import refuse
from fhir.store import Change, Key, Stored
from hub.db import Tx
from hub.identity import Actor
from hub.roles import ROLES
from monitoring.local_rules import DRAFT, LIVE, RETIRED, LocalRule
from monitoring.plan_definitions import APPLIES, STEP, URL, from_plan_definition, is_rule

JSON = dict[str, Any]


async def hold(tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored]) -> None:
    """Refuse (403, 409, 422 with every issue) what a rule, or the order of one for a person, must not become."""
    rules: list[tuple[LocalRule | None, LocalRule | None]] = []
    orders: list[tuple[JSON | None, JSON | None]] = []
    for change in changes:
        if change.type not in ("PlanDefinition", "ServiceRequest"):
            continue
        stored = before.get((change.type, change.id))
        was = stored.resource if stored is not None else None
        if change.type == "ServiceRequest":
            orders.append((was, change.resource))
        elif is_rule(was) or is_rule(change.resource):
            if change.resource is not None and not is_rule(change.resource):
                raise refuse(422, "business-rule", "A rule stays a rule.", "PlanDefinition.url")
            rules.append((_read(was), _read(change.resource)))
    if rules:
        for one, other in rules:
            _may(actor, one, other)
        await _one_of_each(tx, rules)
    ordered = [pair for pair in orders if any(_ordered(one) for one in pair)]
    if ordered:
        await _orders(tx, actor, ordered)


def _read(resource: JSON | None) -> LocalRule | None:
    return from_plan_definition(resource) if is_rule(resource) and resource is not None else None


def _may(actor: Actor, was: LocalRule | None, rule: LocalRule | None) -> None:
    """The steps of one rule: draft, live, retired; each by a clinician of its hub, in their own name, saying why."""
    role = ROLES[actor.role]
    for one in (was, rule):
        if one is not None and not role.everyone and one.scope.hub_id != actor.hub_id:
            text = "A rule is written by the hub that it is for."
            raise refuse(403, "forbidden", text, f"PlanDefinition.extension('{APPLIES}')")
    brings = actor.can("record.import") and actor.can("rule.set")  # a record that is restored as it stood
    if brings:
        return
    if rule is None:
        if was is not None and was.status != DRAFT:
            raise refuse(409, "conflict", "What was live is retired, never deleted: flags name it.", "PlanDefinition")
        return
    before = was.status if was is not None else None
    if was is None and rule.status != DRAFT:
        raise refuse(422, "business-rule", "A rule begins as a draft.", "PlanDefinition.status")
    if before == rule.status:
        if before != DRAFT and was != rule:
            text = "What is live, or was, is not rewritten: make the next version of it as a draft."
            raise refuse(409, "conflict", text, "PlanDefinition")
        if before == DRAFT and rule.steps:
            raise refuse(422, "business-rule", "A draft has taken no step yet.", f"PlanDefinition.extension('{STEP}')")
        return
    if (before, rule.status) not in ((None, DRAFT), (DRAFT, LIVE), (DRAFT, RETIRED), (LIVE, RETIRED)):
        raise refuse(
            409, "conflict", f"A rule that is {before} does not become {rule.status}.", "PlanDefinition.status"
        )
    if was is None:
        if rule.steps:
            raise refuse(422, "business-rule", "A draft has taken no step yet.", f"PlanDefinition.extension('{STEP}')")
        return
    if not actor.can("rule.set"):
        text = f"Your role ({actor.role}) may not make rules live or retire them: a clinician of the hub does."
        raise refuse(403, "forbidden", text, "PlanDefinition.status")
    step = rule.steps[-1] if rule.steps else None
    if rule.steps[:-1] != was.steps or step is None or step.to != rule.status or step.by != actor.reference:
        text = "Whoever makes a rule live or retires it adds one step: to which state, in their own name, when and why."
        raise refuse(422, "required", text, f"PlanDefinition.extension('{STEP}')")
    if before == LIVE and _said(was) != _said(rule):
        text = "What is live is not rewritten: make the next version of it as a draft."
        raise refuse(409, "conflict", text, "PlanDefinition")


def _said(rule: LocalRule) -> tuple[object, ...]:
    return rule.key, rule.version, rule.name, rule.scope, rule.what, rule.shipped, rule.off


async def _one_of_each(tx: Tx, rules: Sequence[tuple[LocalRule | None, LocalRule | None]]) -> None:
    """One resource of each version, one live version of each rule, which stays with its hub; and one switch of each
    shipped rule where it is switched off."""
    after = [rule for _, rule in rules if rule is not None]
    if not after:
        return
    touched = {rule.id for pair in rules for rule in pair if rule is not None}
    cursor = await tx.pg.execute(
        "SELECT id, key, version, status, hub_id FROM local_rule WHERE key = ANY(%s)", ([one.key for one in after],)
    )
    known = [(*row, row[0] in touched) for row in await cursor.fetchall()]
    for rule in after:
        for id_, key, version, status, hub_id, changing in known:
            if key != rule.key or id_ == rule.id:
                continue
            if hub_id != rule.scope.hub_id:
                text = "A rule of this url is another hub's."
                raise refuse(409, "conflict", text, "PlanDefinition.url")
            if version == rule.version:
                text = f"There is a version {version} of this rule already."
                raise refuse(409, "conflict", text, "PlanDefinition.version")
            if rule.status == LIVE and status == LIVE and not changing:
                text = f"Version {version} of this rule is live: retire it in the same transaction."
                raise refuse(409, "conflict", text, "PlanDefinition.status")


# -- orders of a rule for one person -----------------------------------------------------------------------------------


def _ordered(resource: JSON | None) -> list[str]:
    """Keys of the rules that a ServiceRequest orders."""
    found = (resource or {}).get("instantiatesCanonical", ())
    return [one.partition("|")[0].removeprefix(URL) for one in found if str(one).startswith(URL)]


async def _orders(tx: Tx, actor: Actor, orders: Sequence[tuple[JSON | None, JSON | None]]) -> None:
    if not actor.can("rule.set") and not actor.can("record.import"):
        text = f"Your role ({actor.role}) may not order rules for people."
        raise refuse(403, "forbidden", text, "ServiceRequest.instantiatesCanonical")
    wanted: set[str] = set()
    for _, order in orders:
        if order is None or order.get("status") != "active":
            continue
        wanted.update(_ordered(order))
        who = str(order.get("requester", {}).get("reference", "")).partition("/")[0]
        if who not in ("Practitioner", "PractitionerRole"):
            text = "A rule is ordered for a person by a named clinician."
            raise refuse(422, "required", text, "ServiceRequest.requester")
        if not any(str(one.get("text", "")).strip() for one in order.get("reasonCode", ())):
            raise refuse(422, "required", "A rule is ordered for a person with a reason.", "ServiceRequest.reasonCode")
    if not wanted:
        return
    cursor = await tx.pg.execute(
        "SELECT DISTINCT key FROM local_rule WHERE key = ANY(%s) AND who = 'chosen' AND status = %s",
        (list(wanted), LIVE),
    )
    for key in sorted(wanted - {row[0] for row in await cursor.fetchall()}):
        text = f"There is no live rule {key} that watches people chosen one by one: nobody would be watched by it."
        raise refuse(422, "business-rule", text, "ServiceRequest.instantiatesCanonical")
