"""Who has looked at or changed a person's record: the audit trail in their words."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import refuse
from hub import boards, notices
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.me import own_record
from hub.pages.rendering import page, role_words

router = APIRouter(route_class=PageRoute)

LOOKS = 300


@router.get("/me/looked")
async def looked(request: Request) -> Response:
    """Who has looked at or changed the record, from the audit trail."""
    actor = await signed_in(request)
    async with transaction(request) as tx:
        mine = await own_record(request, tx, actor)
        if not mine.own:
            raise refuse(403, "forbidden", "Only the person themselves sees who has looked at their record.")
        rows = await tx.pg.execute(
            "SELECT at, actor, role, action, type, detail FROM audit WHERE patient_id = %s AND actor <> %s"
            " AND outcome = 'ok' ORDER BY at DESC LIMIT %s",
            (mine.person.patient_id, actor.reference, LOOKS),
        )
        found = await rows.fetchall()
        await notices.see(tx.pg, actor, mine.person.patient_id, notices.LOOKS)
        names = await boards.names(tx.pg, {row[1] for row in found})
    await runtime(request).reads.record(persons.looked(actor, mine.person.patient_id, "who has looked", "AuditEvent"))
    return page(request, "looked.html", actor, here="/me/looked", days=_days(found, names, mine.now), **mine.context())


ACTIONS = {
    "create": "added",
    "update": "changed",
    "delete": "took out",
    "export": "copied out",
    "notify": "was sent",
    "emergency-access": "opened in an emergency:",
    "emergency-review": "looked into the emergency opening of",
}
THINGS = {
    "CarePlan": "your plan",
    "Goal": "your goals",
    "Observation": "readings",
    "Flag": "an alert",
    "Task": "a task",
    "CareTeam": "your team",
    "Consent": "your approval",
    "Patient": "your details",
    "ServiceRequest": "your limits",
}


def _days(rows: list[Any], names: dict[str, str], now: datetime) -> list[dict[str, Any]]:
    """By day and person: `Pauline Sparkes, care coordinator: looked at the summary, your plan`."""
    today = persons.today(now)
    days: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for at, who, role, action, type_, detail in rows:
        day = words.sentence(words.day(at.astimezone(words.LONDON).date(), today))
        if role == "device":
            name = "A device"
        elif role in ("engine", "importer"):
            name = "Care Hub"
        else:
            name = names.get(who, "Another system" if role == "ehr-system" else "Someone who works here")
        thing = THINGS.get(type_ or "", "your record")
        if action in ACTIONS:
            did = f"{ACTIONS[action]} {thing}"
        else:
            shown = (detail or {}).get("page") if isinstance(detail, dict) else None
            did = f"looked at {PAGES.get(shown or '', thing)}"
        days.setdefault(day, {}).setdefault((name, "" if name in ("A device", "Care Hub") else role_words(role)), {})[
            did
        ] = None
    return [
        {
            "day": day,
            "people": [{"name": name, "role": role, "did": ", ".join(did)} for (name, role), did in people.items()],
        }
        for day, people in days.items()
    ]


PAGES = {
    "summary": "your summary",
    "plan": "your plan",
    "plan versions": "older versions of your plan",
    "readings": "your readings",
    "team": "your team",
    "flag": "an alert",
    "limits": "your limits",
    "pregnancy": "your pregnancy",
    "approval": "your approval",
    "my page": "your page",
    "my plan": "your plan",
    "my readings": "your readings",
}
