"""All readings of a person: a chart per measure on one time axis, a table under each, and where each came from."""

from fastapi import APIRouter, Request, Response

from hub import flows
from hub.pages import hand, trends
from hub.pages import person as persons
from hub.pages.door import demand, demand_sight, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.period import links, period
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}/readings")
async def readings(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    demand_sight(actor, "Observation")
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
        tab="/readings",
        person=person,
        now=now,
        period=links(here, shown, now, {}),
        can_limit=actor.can("limit.set"),
        can_correct=actor.can("reading.correct"),
        own=False,
        **hand.fields(here),
        can_add=actor.can("reading.write"),
        **found,
    )


@router.post("/patients/{patient_id}/readings/{observation_id}/wrong")
async def wrong(request: Request, patient_id: str, observation_id: str) -> Response:
    """Strike a reading through, with the reason; it stays in the record."""
    actor = await signed_in(request)
    demand(actor, "reading.correct")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        await flows.mark_wrong(tx, actor, observation_id, sent.text("why", 500))
    return told(f"/patients/{patient_id}/readings", "reading-wrong")
