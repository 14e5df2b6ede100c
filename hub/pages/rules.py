"""Every rule of monitoring in words, and those of the hub: composed, tried, made live and retired by its clinicians."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from fhir.outcome import Refusal, refuse
from fhir.store import new_id
from hub import boards, composing
from hub.audit import entry
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import rule_form, words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page, render
from hub.pages.rule_form import Row, Typed
from monitoring.composed import LOOKS, MOST_CLAUSES, SEVERITIES
from monitoring.local_rules import DRAFT, LIVE, RETIRED, WHO, LocalRule, Scope
from monitoring.rulebook import in_code
from monitoring.rules import BY_ID, CLINICAL, SHIPPED, Rule

router = APIRouter(route_class=PageRoute)

STATES = {DRAFT: "Draft", LIVE: "Live", RETIRED: "Retired"}


@router.get("/rules")
async def rules(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    async with transaction(request) as tx:
        found = await composing.of_hub(tx, actor.hub_id)
    await _looked(request, actor)
    live = [one for one in found if one.status == LIVE]
    return page(
        request,
        "rules.html",
        actor,
        here="/rules",
        own=[_listed(one) for one in found if one.status != RETIRED],
        retired=[_listed(one) for one in found if one.status == RETIRED],
        on=[_shipped(one, live) for one in SHIPPED if one.on and not one.personal],
        off=[_shipped(one, live) for one in SHIPPED if not one.on],
        personal=next(one for one in SHIPPED if one.personal),
        may_set=actor.can("rule.set") and actor.hub_id is not None,
        conditions={key: name for key, (name, _) in rule_form.CONDITIONS.items()},
    )


def _listed(rule: LocalRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "version": rule.version,
        "state": STATES[rule.status],
        "status": rule.status,
        "sentence": rule.sentence(),
    }


def _shipped(rule: Rule, live: Iterable[LocalRule]) -> dict[str, Any]:
    switches = [one for one in live if one.shipped == rule.id]
    off = next((one for one in switches if one.off), None)
    if off is not None:
        state = "Off at this hub"
    elif switches:
        state = "On " + " and ".join(sorted({one.scope.sentence() for one in switches}))
    else:
        state = "On for everybody" if rule.on else "Off"
    # A rule that is off for all may be on for several groups; one that is on is switched off once.
    switchable = rule.kind == CLINICAL and not rule.personal and off is None
    return {
        "id": rule.id,
        "name": rule.name,
        "version": rule.version,
        "sentence": rule.sentence,
        "source": rule.source,
        "kind": in_code(rule.how).replace("`", ""),
        "state": state,
        "on": (rule.on and off is None) or any(not one.off for one in switches),
        "switchable": switchable,
        "by": [(one.id, one.name) for one in switches],
    }


async def _looked(request: Request, actor: Actor, rule_id: str | None = None) -> None:
    await runtime(request).reads.record(entry(actor, "read", "PlanDefinition", rule_id, None, detail={"page": "rules"}))


# -- composing ---------------------------------------------------------------------------------------------------------


@router.get("/rules/new")
async def new(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    blank = _blank(actor)
    await _looked(request, actor)
    return _form(request, actor, blank, Typed())


@router.post("/rules/new")
async def create(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    sent = await form(request, actor)
    if shipped := sent.text("shipped", 80):
        return await _switch(request, actor, shipped, sent)
    return await _save(request, actor, _blank(actor), sent)


@router.post("/rules/preview")
async def preview(request: Request) -> Response:
    """The rule as it reads, while it is being composed."""
    actor = await signed_in(request)
    demand(actor, "rule.set")
    found = rule_form.typed(await form(request, actor))
    rule = rule_form.read(found, _blank(actor))
    said = rule.sentence() if rule else None
    return HTMLResponse(render("rule_reading.html", reading=said, problems=found.problems))


@router.get("/rules/{ident}/edit")
async def edit(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    async with transaction(request) as tx:
        rule, version = await composing.find(tx, actor, ident)
    _demand_draft(rule)
    await _looked(request, actor, ident)
    return _form(request, actor, rule, rule_form.as_typed(rule), version)


@router.post("/rules/{ident}/edit")
async def save(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        rule, _ = await composing.find(tx, actor, ident)
    _demand_draft(rule)
    return await _save(request, actor, rule, sent, sent.number("version"))


def _blank(actor: Actor) -> LocalRule:
    if actor.hub_id is None:
        raise refuse(403, "forbidden", "Rules are made by people who work at a hub.")
    id_ = new_id()
    return LocalRule(id_, f"local-{id_}", 1, DRAFT, "", Scope(actor.hub_id))


def _demand_draft(rule: LocalRule) -> None:
    if rule.status != DRAFT or rule.what is None:
        raise refuse(409, "conflict", "Only a draft that was composed here is edited. Make a next version of it.")


async def _save(request: Request, actor: Actor, rule: LocalRule, sent: Form, version: int | None = None) -> Response:
    found = rule_form.typed(sent)
    act = sent.text("act", 20)
    if act == "add":
        found.rows = [*found.rows, Row()][:MOST_CLAUSES]
        return _form(request, actor, rule, found, version)
    made = rule_form.read(found, rule)
    if made is None or act == "preview":
        return _form(request, actor, rule, found, version, made, 422 if made is None else 200)
    try:
        async with transaction(request) as tx:
            await composing.draft(tx, actor, made, version)
    except Refusal as refusal:
        if refusal.status not in (409, 412, 422):
            raise
        problem = refusal.issues[0].diagnostics
        if refusal.status == 412:
            problem = "Somebody changed this draft meanwhile. Open it again; what you typed is still below."
        found.problems.append(("name", problem))
        return _form(request, actor, rule, found, version, made, refusal.status)
    return told(f"/rules/{made.id}", "rule-saved")


def _form(
    request: Request,
    actor: Actor,
    rule: LocalRule,
    found: Typed,
    version: int | None = None,
    made: LocalRule | None = None,
    status: int = 200,
) -> Response:
    if made is None and not found.problems and any(row.measure for row in found.rows):
        quiet = Typed(**{name: getattr(found, name) for name in found.__slots__ if name != "problems"})
        made = rule_form.read(quiet, rule)
    return page(
        request,
        "rule_edit.html",
        actor,
        status,
        here="/rules",
        rule=rule,
        version=version,
        typed=found,
        rows=rule_form.numbered(found.rows),
        problems=found.problems,
        reading=made.sentence() if made else None,
        whos=WHO,
        measures=rule_form.MEASURED,
        looks={key: look.name for key, look in LOOKS.items() if key != "is"},
        overs=rule_form.OVERS,
        togethers=rule_form.TOGETHERS,
        counts=rule_form.COUNTS,
        conditions={key: name for key, (name, _) in rule_form.CONDITIONS.items()},
        severities=SEVERITIES,
        most=MOST_CLAUSES,
    )


async def _switch(request: Request, actor: Actor, shipped: str, sent: Form) -> Response:
    """A draft that switches a shipped rule on or off; it is made live on its own page, with a reason."""
    found = BY_ID.get(shipped)
    if found is None:
        raise refuse(404, "not-found", "There is no shipped rule of that name.")
    blank = _blank(actor)
    who = sent.text("who", 60)
    scope = blank.scope
    if who.startswith("condition:") and who[10:] in rule_form.CONDITIONS and not found.on:
        name, codes = rule_form.CONDITIONS[who[10:]]
        scope = Scope(scope.hub_id, "condition", codes, name)
    elif who == "chosen" and not found.on:
        scope = Scope(scope.hub_id, "chosen")
    word = "off" if found.on else "on"
    name = f"{found.name}: {word}"
    made = LocalRule(blank.id, blank.key, 1, DRAFT, name, scope, shipped=found.id, off=found.on)
    async with transaction(request) as tx:
        await composing.draft(tx, actor, made)
    return told(f"/rules/{made.id}", "rule-saved")


# -- one rule ----------------------------------------------------------------------------------------------------------


@router.get("/rules/{ident}")
async def rule(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    if ident in BY_ID:
        return RedirectResponse(f"/rules#{ident}", 303)
    return await _one(request, actor, ident)


async def _one(request: Request, actor: Actor, ident: str, problem: str | None = None) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        found, _ = await composing.find(tx, actor, ident)
        known = await composing.versions(tx, found)
        names = await boards.names(tx.pg, {step.by for one in known for step in one.steps})
        flags = await _flags(tx, found, now)
    await _looked(request, actor, ident)
    return page(
        request,
        "rule.html",
        actor,
        422 if problem else 200,
        here="/rules",
        problem=problem,
        rule=_listed(found),
        composed=found.what is not None,
        clauses=[one.sentence() for one in found.what.clauses] if found.what else [],
        versions=[
            {
                **_listed(one),
                "this": one.id == found.id,
                "steps": [
                    {
                        "to": STATES[step.to].lower(),
                        "by": names.get(step.by, "somebody"),
                        "at": words.when(step.at, now),
                        "why": step.why,
                    }
                    for step in one.steps
                ],
            }
            for one in known
        ],
        chosen=found.scope.who == "chosen",
        flags=flags,
        may_set=actor.can("rule.set"),
        **({"said": None} if problem else {}),
    )


async def _flags(tx: Tx, rule: LocalRule, now: datetime) -> int:
    """How many flags its versions raised for people of the hub in the last 30 days."""
    cursor = await tx.pg.execute(
        "SELECT count(*) FROM flag WHERE rule = %s AND hub_id = %s AND opened > %s",
        (rule.rule_id, rule.scope.hub_id, now - timedelta(days=30)),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


@router.post("/rules/{ident}")
async def step(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    sent = await form(request, actor)
    act = sent.text("act", 20)
    try:
        async with transaction(request) as tx:
            await composing.find(tx, actor, ident)
            if act == "next":
                made = await composing.next_version(tx, actor, ident)
                return RedirectResponse(f"/rules/{made.id}/edit", 303)
            if act == "live":
                await composing.make_live(tx, actor, ident, sent.text("why", 500))
            elif act == "retire":
                await composing.retire(tx, actor, ident, sent.text("why", 500))
            else:
                raise refuse(400, "invalid", "The form was not complete. Go back and try again.")
    except Refusal as refusal:
        if refusal.status not in (409, 422):
            raise
        return await _one(request, actor, ident, refusal.issues[0].diagnostics)
    return told(f"/rules/{ident}", "rule-live" if act == "live" else "rule-retired")
