"""The audit trail for information governance: who did what, to whose record, and how far it is sealed."""

from typing import Any

from fastapi import APIRouter, Request, Response

from hub import audit as trail
from hub import boards
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page, role_words

router = APIRouter(route_class=PageRoute)

PAGE = 100
FILTERS = {"": "All", "refused": "Refused", "write": "Writes", "sign-in": "Sign-ins"}
_CONDITIONS = {
    "": "true",
    "refused": "outcome <> 'ok'",
    "write": "action IN ('create', 'update', 'delete')",
    "sign-in": "action IN ('sign-in', 'sign-out')",
}


@router.get("/audit")
async def audit(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "audit.read")
    now = persons.present()
    chosen = request.query_params.get("show", "")
    chosen = chosen if chosen in FILTERS else ""
    patient = request.query_params.get("patient", "").strip()[:64]
    before = request.query_params.get("before", "")
    earlier = int(before) if before.isdecimal() and len(before) < 19 else None
    values: dict[str, Any] = {"patient": patient, "before": earlier, "limit": PAGE}
    async with transaction(request) as tx:
        rows = await tx.pg.execute(
            "SELECT seq, at, actor, role, action, type, resource_id, patient_id, outcome, detail FROM audit"
            f" WHERE {_CONDITIONS[chosen]} AND (%(patient)s = '' OR patient_id = %(patient)s)"
            " AND (%(before)s::bigint IS NULL OR seq < %(before)s) ORDER BY seq DESC LIMIT %(limit)s",
            values,
            prepare=False,
        )
        found = await rows.fetchall()
        names = await boards.names(tx.pg, {row[2] for row in found})
        seal = await (
            await tx.pg.execute("SELECT block, rows, sealed FROM audit_seal ORDER BY block DESC LIMIT 1")
        ).fetchone()
    await runtime(request).reads.record(trail.entry(actor, "search", "AuditEvent", detail={"page": "audit"}))
    more = f"&patient={patient}" if patient else ""
    return page(
        request,
        "audit.html",
        actor,
        here="/audit",
        patient=patient,
        chips=[
            {"name": name, "href": f"/audit?show={key}{more}", "current": key == chosen}
            for key, name in FILTERS.items()
        ],
        seal={"block": seal[0], "at": words.when(seal[2], now), "ago": words.ago(seal[2], now)} if seal else None,
        rows=[
            {
                "when": f"{words.when(at, now)}",
                "who": names.get(who, who),
                "role": role_words(role),
                "did": action,
                "what": "/".join(part for part in (type_, id_) if part),
                "patient": patient_id,
                "outcome": outcome,
                "page": (detail or {}).get("page") if isinstance(detail, dict) else None,
            }
            for _, at, who, role, action, type_, id_, patient_id, outcome, detail in found
        ],
        more_href=f"/audit?show={chosen}{more}&before={found[-1][0]}" if len(found) == PAGE else None,
    )
