"""All readings of a person: a chart per measure on one time axis, a table under each, and where each came from."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import hand, trends
from hub.pages import person as persons
from hub.pages.door import Form, demand, demand_sight, form, local, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.period import links, period
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}/readings")
async def readings(request: Request, patient_id: str) -> Response:
    return await _page(request, await _reader(request), patient_id)


async def _reader(request: Request) -> Actor:
    actor = await signed_in(request)
    demand(actor, "person.search")
    demand_sight(actor, "Observation")
    return actor


async def _page(
    request: Request, actor: Actor, patient_id: str, noted: Form | None = None, problem: str | None = None
) -> Response:
    now = persons.present()
    shown = period(request.query_params, now)
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        found = await trends.charts_of(tx, actor, patient_id, shown, now)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "readings", "Observation", "search"))
    here = f"/patients/{patient_id}/readings"
    return page(
        request,
        "readings.html",
        actor,
        422 if problem else 200,
        tab="/readings",
        person=person,
        now=now,
        period=links(here, shown, now, {}),
        can_limit=actor.can("limit.set"),
        own=False,
        **hand.fields(here, actor=actor),
        **note_fields(noted, problem),
        can_add=actor.can("reading.write"),
        sees_rules=actor.can("rule.read"),
        **found,
    )


@router.get("/patients/{patient_id}/readings/{key}")
async def one_by_one(request: Request, patient_id: str, key: str) -> Response:
    """Every reading of a measure, without summing up, a page at a time."""
    actor = await _reader(request)
    now = persons.present()
    shown = period(request.query_params, now)
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        found = await trends.listed(tx, actor, patient_id, key, shown, cursor(request), now)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "readings", "Observation", "search"))
    here = f"/patients/{patient_id}/readings"
    return page(
        request,
        "readings_listed.html",
        actor,
        tab="/readings",
        person=person,
        now=now,
        listed=found,
        period=links(here, shown, now, {}),
        own=False,
    )


def cursor(request: Request) -> tuple[datetime, str] | None:
    """Where the page before ended. Refusal 400 when the address says no instant."""
    at, last = request.query_params.get("at"), request.query_params.get("id")
    if not at or not last:
        return None
    try:
        instant = datetime.fromisoformat(at)
        if instant.tzinfo is None or "\x00" in last:
            raise ValueError(at)
    except ValueError as error:
        raise refuse(
            400, "invalid", "This address does not continue a list. Start again from the first page."
        ) from error
    return instant, last


def note_fields(sent: Form | None = None, problem: str | None = None) -> dict[str, Any]:
    """What the form of a note needs; *sent* is what was typed before."""
    return {
        "note_problem": problem,
        "note_text": sent.text("text") if sent else "",
        "note_at": sent.text("at", 40) if sent else "",
    }


# -- notes, and what was wrong -----------------------------------------------------------------------------------------


@router.post("/patients/{patient_id}/notes")
async def note(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            await write_note(tx, actor, patient_id, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _page(request, await _reader(request), patient_id, sent, refusal.issues[0].diagnostics)
    return told(back(sent, f"/patients/{patient_id}/readings", "happened"), "note-saved")


async def write_note(tx: Tx, actor: Actor, patient_id: str, sent: Form) -> None:
    await flows.write_note(
        tx, actor, patient_id, hand.moment(sent.text("at", 40), persons.present()), sent.text("text")
    )


@router.post("/patients/{patient_id}/readings/{observation_id}/wrong")
async def wrong(request: Request, patient_id: str, observation_id: str) -> Response:
    """Strike a reading or a note through, with the reason; it stays in the record."""
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        await flows.mark_wrong(tx, actor, observation_id, sent.text("why", 500))
    return told(back(sent, f"/patients/{patient_id}/readings"), "reading-wrong")


@router.post("/patients/{patient_id}/readings/{observation_id}/right")
async def right(request: Request, patient_id: str, observation_id: str) -> Response:
    """Take the striking through back."""
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        await flows.mark_right(tx, actor, observation_id, sent.text("why", 500))
    return told(back(sent, f"/patients/{patient_id}/readings"), "reading-right")


def back(sent: Form, here: str, part: str | None = None) -> str:
    """Where the form was: the same time, at the same chart."""
    address = local(sent.text("back", 300), here)
    part = part or sent.text("part", 40)
    return f"{address}#{part}" if part.replace("-", "").isalnum() else address
