"""The fleet by when each device was last heard: two weeks of silence that nobody noticed is how such systems fail."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal
from hub import audit
from hub import devices as flows
from hub import fleet as ask
from hub.devices import Registration
from hub.pages import device_words
from hub.pages import person as persons
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page
from monitoring.instruments import INSTRUMENTS

router = APIRouter(route_class=PageRoute)

CHIPS = {
    "silent": "Silent",
    "battery": "Low battery",
    "clock": "Clock off",
    "unassigned": "Held by nobody",
    "paused": "Paused",
    "refused": "Refused lately",
    "gone": "Out of use",
}
MOST_PAGES = 1000


@router.get("/devices")
async def devices(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    chip = request.query_params.get("show")
    number = request.query_params.get("page", "1")
    at = min(int(number), MOST_PAGES) if number.isascii() and number.isdigit() and 0 < len(number) < 6 else 1
    return await _fleet(request, chip if chip in CHIPS else None, "", max(at, 1))


@router.post("/devices")
async def found(request: Request) -> Response:
    """The search: posted, so that no name stands in an address or a log."""
    actor = await signed_in(request)
    demand(actor, "device.manage")
    sent = await form(request, actor)
    return await _fleet(request, None, sent.text("q", 100), 1)


async def _fleet(request: Request, chip: str | None, search: str, at: int) -> Response:
    actor = request.state.actor
    now = persons.present()
    async with runtime(request).database.reading() as pg:
        shown = await ask.fleet(pg, actor, now, chip=chip, search=search, page=at)
    await runtime(request).reads.record(audit.entry(actor, "search", "Device", detail={"page": "devices"}))
    return page(
        request,
        "devices.html",
        actor,
        here="/devices",
        search=search,
        current=chip,
        chips=[
            {"key": key, "name": name, "count": shown.counts.get(key, 0), "href": _address(key)}
            for key, name in CHIPS.items()
        ],
        all=shown.counts.get("all", 0),
        rows=[device_words.row(one, now) for one in shown.rows],
        earlier=_address(chip, at - 1) if at > 1 else None,
        later=_address(chip, at + 1) if shown.more and not search else None,
        more=shown.more and bool(search),
    )


def _address(chip: str | None, at: int = 1) -> str:
    asked = {name: value for name, value in (("show", chip), ("page", at if at > 1 else None)) if value}
    return f"/devices?{urlencode(asked)}" if asked else "/devices"


@router.get("/devices/new")
async def ask_for_new(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    return _new(request)


def _new(request: Request, sent: Form | None = None, problem: str | None = None) -> Response:
    typed: dict[str, Any] = sent.values() if sent else {}
    return page(
        request,
        "device_new.html",
        request.state.actor,
        422 if problem else 200,
        here="/devices",
        kinds=list(INSTRUMENTS.values()),
        typed=typed,
        problem=problem,
    )


@router.post("/devices/new")
async def register(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    sent = await form(request, actor)
    kind = sent.text("kind", 40)
    if kind not in INSTRUMENTS:
        return _new(request, sent, "Choose what kind of device it is.")
    new = Registration(
        name=sent.text("name", 100) or INSTRUMENTS[kind].name,
        kind=kind,
        serial=sent.text("serial", 100) or None,
        udi=sent.text("udi", 200) or None,
        model=sent.text("model", 100) or None,
        manufacturer=sent.text("manufacturer", 100) or None,
        hub=actor.hub_id,
    )
    try:
        async with transaction(request) as tx:
            written = await flows.register(tx, actor, new)
    except Refusal as refusal:
        if refusal.status not in (409, 422):
            raise
        return _new(request, sent, refusal.issues[0].diagnostics)
    return told(f"/devices/{written.change.id}", "device-registered")
