"""Who looks after a person, and who is assigned."""

from fastapi import APIRouter, Request, Response

from care_plans.team import COACH, COORDINATOR, ROLES
from fhir.outcome import refuse
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)

# Which accounts can be given which place in the team.
ASSIGNED = {COORDINATOR: "care-coordinator", COACH: "health-coach"}


@router.get("/patients/{patient_id}/team")
async def team(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        found = await persons.members(tx.pg, actor, patient_id)
        choices = {code: await staff(tx, actor, role) for code, role in ASSIGNED.items()}
    await runtime(request).reads.record(persons.looked(actor, patient_id, "team", "CareTeam"))
    return page(
        request,
        "team.html",
        actor,
        tab="/team",
        person=person,
        now=now,
        team=persons.faces(found, now),
        before=[
            {"name": one.name, "role": one.role, "until": words.when(one.until, now)}
            for one in found
            if one.until is not None and one.until <= now and one.name
        ],
        places=[
            {
                "code": code,
                "role": ROLES[code][0],
                "people": choices[code],
                "holder": next((m.member for m in found if m.role_code == code and m.here(now)), None),
            }
            for code in ASSIGNED
        ],
        can_assign=actor.can("team.assign"),
    )


async def staff(tx: Tx, actor: Actor, role: str) -> list[tuple[str, str]]:
    """(reference, name) of those who can take a place, of the actor's hub first."""
    rows = await tx.pg.execute(
        "SELECT reference, name FROM account WHERE role = %s AND active AND reference LIKE 'Practitioner/%%'"
        " ORDER BY hub_id IS NOT DISTINCT FROM %s DESC, name LIMIT 200",
        (role, actor.hub_id),
    )
    return [(row[0], row[1]) for row in await rows.fetchall()]


@router.post("/patients/{patient_id}/team")
async def assign(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "team.assign")
    sent = await form(request, actor)
    code, wanted = sent.text("role", 30), sent.text("member", 200)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        if code not in ASSIGNED:
            raise refuse(422, "value", "Choose care coordinator or health coach.")
        name = dict(await staff(tx, actor, ASSIGNED[code])).get(wanted)
        if name is None:
            raise refuse(422, "required", f"Choose who becomes {ROLES[code][0]}.")
        await flows.assign_team(tx, actor, patient_id, code, wanted, name)
    return told(f"/patients/{patient_id}/team", "team-saved")
