"""What the person (or a carer) does beside their readings: look at them one by one, add notes, say what was wrong."""

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal
from hub import flows
from hub.pages import me, trends
from hub.pages import person as persons
from hub.pages.door import demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.period import links, period
from hub.pages.readings import back, cursor, write_note
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/me/readings/{key}")
async def one_by_one(request: Request, key: str) -> Response:
    actor = await signed_in(request)
    async with transaction(request) as tx:
        mine = await me.own_record(request, tx, actor)
        patient_id = mine.person.patient_id
        shown = period(request.query_params, mine.now)
        found = await trends.listed(tx, actor, patient_id, key, shown, cursor(request), mine.now)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "my readings", "Observation", "search"))
    more = {"for": patient_id} if mine.everyone else {}
    return page(
        request,
        "my_readings_listed.html",
        actor,
        here="/me/readings",
        listed=found,
        period=links("/me/readings", shown, mine.now, more),
        **mine.context(),
    )


@router.post("/me/notes")
async def note(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            mine = await me.own_record(request, tx, actor)
            await write_note(tx, actor, mine.person.patient_id, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await me.readings_page(request, actor, noted=sent, note_problem=refusal.issues[0].diagnostics)
    return told(back(sent, "/me/readings", "happened"), "note-saved")


@router.post("/me/readings/{observation_id}/wrong")
async def wrong(request: Request, observation_id: str) -> Response:
    """What one typed oneself and was wrong: it stays, struck through, with the reason."""
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await me.own_record(request, tx, actor)
        await flows.mark_wrong(tx, actor, observation_id, sent.text("why", 500))
    return told(back(sent, "/me/readings"), "reading-wrong")


@router.post("/me/readings/{observation_id}/right")
async def right(request: Request, observation_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await me.own_record(request, tx, actor)
        await flows.mark_right(tx, actor, observation_id, sent.text("why", 500))
    return told(back(sent, "/me/readings"), "reading-right")
