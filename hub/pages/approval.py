"""Recording a person's approval, before which no plan can begin, and its end, with which the plan goes on hold."""

from datetime import datetime, time
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import records, words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)

HOWS = {
    "in-person": "In person",
    "telephone": "By telephone",
    "video": "By video",
    "letter": "In writing",
}


@router.get("/patients/{patient_id}/approval")
async def approval(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "approval.record")
    return await _page(request, actor, patient_id)


async def _page(
    request: Request, actor: Actor, patient_id: str, problem: str | None = None, sent: Form | None = None
) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        history = await _history(tx, patient_id)
        approved = await records.approved(tx.pg, patient_id, now)
        close = await _close(tx, patient_id)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "approval", "Consent"))
    return page(
        request,
        "approval.html",
        actor,
        422 if problem else 200,
        tab="/plan",
        person=person,
        now=now,
        hows=HOWS,
        close=close,
        problem=problem,
        approved=approved,
        withdrawing=sent is not None and "why" in sent,
        typed=sent.values() if sent else {},
        history=[_words(one, dict(close), now) for one in history],
    )


def _words(row: Any, close: dict[str, str], now: datetime) -> dict[str, str]:
    """One decision in words: what was decided, how, when, and how it was withdrawn."""
    given, denied, how, at, ended, by, why = row
    when = _decided(at, now) if at else "at a time not recorded"
    if ended:
        who = f" for the person, by {close.get(by, 'somebody who decides for them')}" if by in close else ""
        return {"what": f"Approved ({how or 'how is not recorded'}), {when}. Withdrawn{who}", "how": why or "",
                "when": words.when(ended, now)}  # fmt: skip
    return {"what": "Approved" if given else ("Said no" if denied else "Withdrawn or ended"), "how": how or "",
            "when": when}  # fmt: skip


def _decided(at: datetime, now: datetime) -> str:
    """When it was decided. A Consent that names a day alone stands at its first moment: that hour was never said."""
    local = at.astimezone(words.LONDON)
    return words.day(local.date(), persons.today(now)) if local.time() == time.min else words.when(at, now)


async def _history(tx: Tx, patient_id: str) -> list[Any]:
    rows = await tx.pg.execute(
        "SELECT given, denied, how, given_at, withdrawn_at, withdrawn_by, withdrawn_why FROM approval"
        " WHERE patient_id = %s ORDER BY coalesce(withdrawn_at, given_at) DESC NULLS LAST",
        (patient_id,),
    )
    return await rows.fetchall()


async def _close(tx: Tx, patient_id: str) -> list[tuple[str, str]]:
    """(reference, name) of people close to the person, who may have decided for them."""
    rows = await tx.pg.execute(
        "SELECT 'RelatedPerson/' || r.id, v.body::json -> 'name' -> 0 FROM r_relatedperson r"
        " JOIN resource_version v ON v.type = 'RelatedPerson' AND v.id = r.id AND v.version = r.version"
        " WHERE r.patient_id = %s ORDER BY r.id",
        (patient_id,),
    )
    found = []
    for reference, name in await rows.fetchall():
        name = name or {}
        shown = name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip()
        found.append((reference, shown or "A person on record without a name"))
    return found


@router.post("/patients/{patient_id}/approval")
async def record(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "approval.record")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            how, words_ = HOWS.get(sent.text("how")), sent.text("note", 500)
            by = sent.text("by", 200)
            close = dict(await _close(tx, patient_id))
            if how is None:
                raise refuse(422, "required", "Choose how approval was given.")
            if by and by not in close:
                raise refuse(422, "value", "Choose who gave approval.")
            if by and not words_:
                raise refuse(
                    422, "required", "Say why somebody else decided: capacity, power of attorney, best interests."
                )
            text = f"{how}. {words_}" if words_ else how
            await flows.record_approval(tx, actor, patient_id, text, by or None, close.get(by))
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _page(request, actor, patient_id, refusal.issues[0].diagnostics, sent)
    return told(f"/patients/{patient_id}/plan", "approval-recorded")


@router.post("/patients/{patient_id}/approval/withdraw")
async def withdraw(request: Request, patient_id: str) -> Response:
    """The person no longer approves. To undo it, approval is recorded anew."""
    actor = await signed_in(request)
    demand(actor, "approval.record")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            by = sent.text("by", 200)
            if by and by not in dict(await _close(tx, patient_id)):
                raise refuse(422, "value", "Choose who said so.")
            await flows.withdraw_approval(tx, actor, patient_id, sent.text("why", 500), by or None)
    except Refusal as refusal:
        if refusal.status not in (409, 422):
            raise
        return await _page(request, actor, patient_id, refusal.issues[0].diagnostics, sent)
    return told(f"/patients/{patient_id}/approval", "approval-withdrawn")
