"""Devices by when they were last heard: two weeks of silence that nobody noticed is how such systems fail."""

from fastapi import APIRouter, Request, Response

from hub import audit
from hub.access import visible
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)

MOST = 200
SILENT_DAYS = 3


@router.get("/devices")
async def devices(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    now = persons.present()
    allowed = visible(actor)("Device", "device")
    async with transaction(request) as tx:
        rows = await tx.pg.execute(
            "SELECT device.id, device.name, device.status, device.patient_id IS NOT NULL, heard.at, refused.n"
            " FROM device LEFT JOIN LATERAL (SELECT received AS at FROM reading WHERE device_id = device.id"
            "   ORDER BY received DESC LIMIT 1) heard ON true"
            " LEFT JOIN LATERAL (SELECT count(*) AS n FROM (SELECT 1 FROM refusal WHERE device_id = device.id"
            "   AND at > now() - interval '7 days' LIMIT 100) few) refused ON true"
            f" WHERE {allowed.text if allowed else 'false'}"
            " ORDER BY device.patient_id IS NULL, heard.at NULLS FIRST, device.id LIMIT %s",
            (*(allowed.params if allowed else ()), MOST),
        )
        found = await rows.fetchall()
    await runtime(request).reads.record(audit.entry(actor, "search", "Device", detail={"page": "devices"}))
    return page(
        request,
        "devices.html",
        actor,
        here="/devices",
        most=MOST,
        devices=[
            {
                "id": id_,
                "name": name,
                "status": status,
                "held": held,
                "heard": f"{words.when(at, now)} ({words.ago(at, now)})" if at else "never",
                "silent": held and status == "active" and (at is None or (now - at).days >= SILENT_DAYS),
                "refused": refused,
            }
            for id_, name, status, held, at, refused in found
        ],
    )
