"""Opening a record outside one's care in an emergency, and looking into it afterwards."""

from datetime import date

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import audit
from hub import emergency as glass
from hub.db import Tx
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/emergency")
async def ask(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "emergency.access")
    return _page(request)


def _page(request: Request, sent: Form | None = None, problem: str | None = None) -> Response:
    typed = {name: sent.text(name) if sent else "" for name in ("nhs", "day", "month", "year", "reason")}
    status = 422 if problem else 200
    return page(request, "emergency.html", request.state.actor, status, typed=typed, problem=problem, hours=glass.HOURS)


@router.post("/emergency")
async def open_record(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "emergency.access")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            patient_id = await _exactly(tx, sent)
            await glass.grant_emergency(tx, actor, patient_id, sent.text("reason", 1000))
    except Refusal as refusal:
        if refusal.status not in (404, 422):
            raise
        # A guess is kept too: whoever looks into openings sees who tried.
        await runtime(request).reads.record(audit.entry(actor, "emergency-access", "Patient", outcome="refused"))
        return _page(request, sent, refusal.issues[0].diagnostics)
    return told(f"/patients/{patient_id}", "emergency-opened")


async def _exactly(tx: Tx, sent: Form) -> str:
    """The person with this number and this date of birth: asking for both keeps a slip from opening another record."""
    number = "".join(letter for letter in sent.text("nhs", 30) if letter.isdigit())
    try:
        born = date(sent.number("year"), sent.number("month"), sent.number("day"))
    except (ValueError, Refusal) as error:
        raise refuse(422, "value", "Write the date of birth as day, month and year.", "day") from error
    row = await (
        await tx.pg.execute("SELECT patient_id FROM person WHERE nhs_number = %s AND birth_date = %s", (number, born))
    ).fetchone()
    if row is None:
        raise refuse(404, "not-found", "Nobody here has this NHS number and this date of birth. Check both.")
    return str(row[0])


@router.get("/emergencies")
async def openings(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "emergency.review")
    now = persons.present()
    every = request.query_params.get("show") == "all"
    async with transaction(request) as tx:
        found = await glass.emergencies(tx.pg, unreviewed=not every)
    await runtime(request).reads.record(
        audit.entry(actor, "search", "AuditEvent", detail={"page": "emergencies", "found": len(found)}),
        *(persons.looked(actor, one.patient_id, "emergencies", "AuditEvent") for one in found),
    )
    return page(
        request,
        "emergencies.html",
        actor,
        here="/emergencies",
        every=every,
        rows=[
            {
                "id": one.id,
                "who": one.actor_name,
                "patient": one.patient_id,
                "reason": one.reason,
                "when": f"{words.when(one.at, now)} ({words.ago(one.at, now)})",
                "open": one.until > now,
                "reviewed": one.reviewed_at is not None,
                "mine": one.actor == actor.reference,
            }
            for one in found
        ],
    )


@router.post("/emergencies/{ident}")
async def review(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "emergency.review")
    await form(request, actor)
    async with transaction(request) as tx:
        await glass.review_emergency(tx, actor, ident)
    return told("/emergencies", "emergency-reviewed")
