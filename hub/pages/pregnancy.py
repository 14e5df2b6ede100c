"""Recording that a person is pregnant, and the end of it: NEWS2 is silent in between."""

from datetime import date
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir import store
from fhir.outcome import Refusal, refuse
from fhir.store import Change, new_id
from hub import boards, flows
from hub.access import visible
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page
from monitoring.pregnancy import LONGEST, ended, new_condition, pregnancies

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}/pregnancy")
async def pregnancy(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "clinical.write")
    return await _page(request, actor, patient_id)


async def _page(
    request: Request, actor: Actor, patient_id: str, problem: str | None = None, sent: Form | None = None
) -> Response:
    now = persons.present()
    today = persons.today(now)
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        records = await on_record(tx, patient_id, today)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "pregnancy", "Condition"))
    return page(
        request,
        "pregnancy.html",
        actor,
        422 if problem else 200,
        tab="",
        person=person,
        now=now,
        records=records,
        problem=problem,
        typed=sent.values() if sent else {},
        earliest=(today - LONGEST).isoformat(),
        latest=today.isoformat(),
    )


async def on_record(tx: Tx, patient_id: str, today: date) -> list[dict[str, Any]]:
    """What is recorded and not ended, in words: since when, by whom, and why it does not count where it does not."""
    found = await pregnancies(tx.pg, patient_id)
    names = await boards.names(tx.pg, {one.recorded_by for one in found})
    return [
        {
            "id": one.condition_id,
            "since": words.day(one.since, today) if one.since else None,
            "first": one.since.isoformat() if one.since else "",
            "by": names.get(one.recorded_by, "a clinician") if one.recorded_by else None,
            "why_not": one.why_not(today),
        }
        for one in found
    ]


@router.post("/patients/{patient_id}/pregnancy")
async def save(request: Request, patient_id: str) -> Response:
    """Record it, or end one that is on record."""
    actor = await signed_in(request)
    demand(actor, "clinical.write")
    sent = await form(request, actor)
    now = persons.present()
    today = persons.today(now)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            on = _day(sent.text("on", 20))
            if sent.text("act") == "end":
                change = await _end(tx, actor, patient_id, sent.text("condition", 64), on, today)
            else:
                if any(one.why_not(today) is None for one in await pregnancies(tx.pg, patient_id)):
                    raise refuse(422, "conflict", "A pregnancy is on record already. End that one first.")
                made = new_condition(new_id(), patient_id, on, today, actor.reference, actor.name)
                change = Change("create", "Condition", made["id"], made)
            await flows.write(tx, actor, [change], now)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _page(request, actor, patient_id, refusal.issues[0].diagnostics, sent)
    return told(f"/patients/{patient_id}", "pregnancy-ended" if sent.text("act") == "end" else "pregnancy-recorded")


async def _end(tx: Tx, actor: Actor, patient_id: str, condition_id: str, on: date, today: date) -> Change:
    if not any(one.condition_id == condition_id for one in await pregnancies(tx.pg, patient_id)):
        raise refuse(422, "value", "This pregnancy is not on record any more.")
    stored = await store.read(tx.pg, "Condition", condition_id, visible(actor))
    assert stored.resource is not None  # a deleted Condition has no row
    return Change("update", "Condition", stored.id, ended(stored.resource, on, today), stored.version)


def _day(typed: str) -> date:
    try:
        return date.fromisoformat(typed)
    except ValueError as error:
        raise refuse(422, "required", "Choose a day.") from error
