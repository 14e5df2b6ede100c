"""Devices by when they were last heard: two weeks of silence that nobody noticed is how such systems fail."""

from typing import Any

import psycopg
from fastapi import APIRouter, Request, Response

from hub import audit
from hub.access import visible
from hub.identity import Actor
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
    async with transaction(request) as tx:
        found = await fleet(tx.pg, actor)
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
                "reason": reason.replace("-", " ") if reason else "",
            }
            for id_, name, status, held, at, refused, reason in found
        ],
    )


async def fleet(pg: psycopg.AsyncConnection[Any], actor: Actor) -> list[tuple[Any, ...]]:
    """Id, name, status, whether it is held, when heard, how much was refused in 7 days (100 at most) and why the last
    time, of the devices that *actor* may see. The reason is a code: what was sent is nobody's business here."""
    allowed = visible(actor)("Device", "device")
    rows = await pg.execute(
        "SELECT device.id, device.name, device.status, device.patient_id IS NOT NULL, heard.at, refused.n, refused.why"
        " FROM device LEFT JOIN LATERAL (SELECT received AS at FROM reading WHERE device_id = device.id"
        "   ORDER BY received DESC LIMIT 1) heard ON true"
        " LEFT JOIN LATERAL (SELECT count(*) AS n, (array_agg(reason ORDER BY at DESC))[1] AS why"
        "   FROM (SELECT at, reason FROM refusal WHERE device_id = device.id"
        "     AND at > now() - interval '7 days' ORDER BY at DESC LIMIT 100) few) refused ON true"
        f" WHERE {allowed.text if allowed else 'false'}"
        " ORDER BY device.patient_id IS NULL, heard.at NULLS FIRST, device.id LIMIT %s",
        (*(allowed.params if allowed else ()), MOST),
    )
    return await rows.fetchall()
