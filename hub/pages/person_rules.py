"""Which rules watch one person, and why; rules that are ordered for people one by one."""

from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import boards, composing, live_rules
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages.door import demand, demand_sight, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page
from monitoring.plan_definitions import url
from monitoring.state import load_orders

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}/rules")
async def rules(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    demand_sight(actor, "Observation")
    return await _page(request, actor, patient_id)


async def _page(request: Request, actor: Actor, patient_id: str, problem: str | None = None) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        row = await (await tx.pg.execute("SELECT hub_id FROM person WHERE patient_id = %s", (patient_id,))).fetchone()
        hub_id: str | None = row[0] if row else None
        in_force = await live_rules.current(tx)
        limited = {
            key for key, order in (await load_orders(tx.pg, [patient_id])).get(patient_id, {}).items() if order.personal
        }
        ordered = await composing.orders_of(tx, patient_id)
        names = await boards.names(tx.pg, {one.get("requester", {}).get("reference") for one in ordered})
    await runtime(request).reads.record(persons.looked(actor, patient_id, "rules", "PlanDefinition"))
    own = {one.rule_id: one for one in in_force.live if one.scope.hub_id == hub_id}
    watching = in_force.of(patient_id, hub_id)
    chosen = [one for one in own.values() if one.scope.who == "chosen"]
    return page(
        request,
        "person_rules.html",
        actor,
        422 if problem else 200,
        tab="/readings",
        person=person,
        now=now,
        problem=problem,
        rules=[
            {
                "name": one.name,
                "version": one.version,
                "sentence": one.sentence,
                "why": own[one.id].scope.sentence() if one.id in own else "for everybody",
                "id": own[one.id].id if one.id in own else None,
            }
            for one in watching
            if not one.personal or one.triggers & limited
        ],
        off=[one.name for one in own.values() if one.off],
        orders=[_order(one, names, {url(rule.key): rule.name for rule in chosen}) for one in ordered],
        may_order=[
            (one.id, one.name)
            for one in chosen
            if not any(url(one.key) in order.get("instantiatesCanonical", ()) for order in ordered)
        ]
        if actor.can("rule.set")
        else [],
        may_end=[
            (one.id, one.name)
            for one in chosen
            if any(url(one.key) in order.get("instantiatesCanonical", ()) for order in ordered)
        ]
        if actor.can("rule.set")
        else [],
        **({"said": None} if problem else {}),
    )


def _order(order: dict[str, Any], names: dict[str, str], rules: dict[str, str]) -> dict[str, str]:
    requester = order.get("requester", {})
    rule = next((rules[one] for one in order.get("instantiatesCanonical", ()) if one in rules), None)
    return {
        "name": rule or f"{order.get('code', {}).get('text', 'A rule')} (not live: it watches nobody)",
        "by": names.get(requester.get("reference", ""), requester.get("display", "a clinician")),
        "why": next((one["text"] for one in order.get("reasonCode", ()) if one.get("text")), ""),
    }


@router.post("/patients/{patient_id}/rules")
async def change(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.set")
    sent = await form(request, actor)
    act = sent.text("act", 20)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            chosen, _ = await composing.find(tx, actor, sent.text("rule", 64) or "none")
            if act == "order":
                await composing.order(tx, actor, patient_id, chosen, sent.text("why", 500))
            elif act == "end":
                await composing.end_orders(tx, actor, patient_id, chosen, sent.text("why", 500))
            else:
                raise refuse(400, "invalid", "The form was not complete. Go back and try again.")
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _page(request, actor, patient_id, refusal.issues[0].diagnostics)
    return told(f"/patients/{patient_id}/rules", "rule-ordered" if act == "order" else "rule-ended")
