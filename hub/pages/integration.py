"""Five minutes for whoever integrates a device: commands of its own that work, what answers mean, and what arrives."""

from fastapi import APIRouter, Request, Response

from hub import audit, fleet
from hub import devices as flows
from hub.examples import PLACEHOLDER, examples
from hub.fhir_http import base_of
from hub.identity import SANDBOX_PERSON
from hub.pages import device_words
from hub.pages import person as persons
from hub.pages.device import LOG, row_of
from hub.pages.door import demand, form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page
from monitoring.doubts import CODES
from monitoring.instruments import INSTRUMENTS

router = APIRouter(route_class=PageRoute)


@router.get("/devices/{device_id}/integration")
async def integration(request: Request, device_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    return await _page(request, device_id)


@router.post("/devices/{device_id}/integration")
async def sandbox(request: Request, device_id: str) -> Response:
    """A sandbox key, and the commands with it: shown in this answer alone."""
    actor = await signed_in(request)
    demand(actor, "device.manage")
    await form(request, actor)
    await row_of(request, device_id)
    async with transaction(request) as tx:
        key = await flows.issue_key(tx, actor, device_id, "for trying out", sandbox=True)
    return await _page(request, device_id, key)


async def _page(request: Request, device_id: str, key: str | None = None) -> Response:
    actor = request.state.actor
    now = persons.present()
    row = await row_of(request, device_id)
    async with runtime(request).database.reading() as pg:
        sent = await fleet.messages(pg, actor, device_id, now - LOG)
    await runtime(request).reads.record(
        audit.entry(actor, "read", "Device", device_id, row.patient_id, detail={"page": "integration"})
    )
    base = base_of(runtime(request).settings.base_url, request)
    patient = row.patient_id if row.patient_id and key is None else SANDBOX_PERSON
    return page(
        request,
        "integration.html",
        actor,
        here="/devices",
        device=device_words.row(row, now),
        base=base,
        patient=patient,
        sandboxed=patient == SANDBOX_PERSON,
        key=key,
        placeholder=PLACEHOLDER,
        examples=examples(base, patient, INSTRUMENTS.get(row.kind or ""), key or PLACEHOLDER, now),
        refused=[(code, *words) for code, words in device_words.REFUSED.items()],
        doubts=sorted(CODES),
        messages=[device_words.message(one, now) for one in sent],
    )
