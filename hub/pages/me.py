"""What a person (or a carer for them) sees of their own record, on a phone first, in plain words."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from care_plans import queries
from care_plans.parts import STATUS_WORDS
from care_plans.patient_view import Worse, worse
from care_plans.versions import since
from fhir import store
from fhir.outcome import Refusal, refuse
from hub import asked, notices, watch
from hub.access import visible
from hub.db import Tx
from hub.identity import Actor
from hub.pages import asking, hand, records, words
from hub.pages import person as persons
from hub.pages.door import Form, demand, form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.period import links, period
from hub.pages.person import Latest, Person
from hub.pages.plan import letter_of
from hub.pages.readings import note_fields
from hub.pages.records import Kept
from hub.pages.rendering import page
from hub.pages.trends import charts_of
from monitoring.cover import Cover, told_cover
from monitoring.doubts import Doubt, doubts
from monitoring.feedback import feedback, watching
from monitoring.measures import MEASURES
from monitoring.readings import readings as typed_readings
from monitoring.tables import LIVE

router = APIRouter(route_class=PageRoute)


async def _whose(request: Request, tx: Tx, actor: Actor) -> tuple[str, list[dict[str, str]]]:
    """The person that this page is about, and (for a carer of several) all of them.

    `for` in the address chooses one. Raises Refusal 403 for staff, 404 when nobody has named the carer.
    """
    if actor.kind != "patient":
        raise refuse(403, "forbidden", "This page is for patients and their carers.")
    rows = await tx.pg.execute(
        "SELECT person.patient_id, coalesce(person.called, split_part(person.given, ' ', 1), person.family)"
        " FROM access JOIN person ON person.patient_id = access.patient_id"
        " WHERE access.subject = %s AND access.basis IN ('self', 'carer')"
        " AND (access.since IS NULL OR access.since <= now()) AND (access.until IS NULL OR access.until > now())"
        " GROUP BY 1, 2 ORDER BY 2, 1",
        (actor.reference,),
    )
    everyone = [{"id": row[0], "name": row[1]} for row in await rows.fetchall()]
    wanted = request.query_params.get("for")
    ids = [one["id"] for one in everyone]
    if not ids or (wanted is not None and wanted not in ids):
        raise refuse(
            404, "not-found", "Nobody's record is open to you here. Ask the person, or their care coordinator."
        )
    return wanted or ids[0], everyone if len(everyone) > 1 else []


@dataclass(slots=True)
class Own:
    """What every one of these pages stands on."""

    person: Person
    everyone: list[dict[str, str]]
    kept: Kept | None
    worse: Worse
    own: bool
    now: datetime
    cover: Cover

    def context(self) -> dict[str, Any]:
        which = f"?for={self.person.patient_id}" if self.everyone else ""
        return {
            "person": self.person,
            "everyone": self.everyone,
            "which": which,
            "own": self.own,
            "worse": self.worse,
            "now": self.now,
        }


async def own_record(request: Request, tx: Tx, actor: Actor) -> Own:
    now = persons.present()
    patient_id, everyone = await _whose(request, tx, actor)
    person = await persons.find(tx.pg, actor, patient_id)
    kept = await records.current_plan(tx.pg, actor, patient_id)
    hub = await records.hub_of(tx.pg, person.hub_id)
    cover = await told_cover(tx.pg, person.hub_id)
    advice = worse(kept.plan if kept else None, hub.name, hub.phone, cover.hours.words(), watching(cover, now))
    return Own(person, everyone, kept, advice, actor.reference == person.reference, now, cover)


@router.get("/me")
async def me(request: Request) -> Response:
    actor = await signed_in(request)
    async with transaction(request) as tx:
        mine = await own_record(request, tx, actor)
        patient_id = mine.person.patient_id
        latest = await persons.latest(tx.pg, patient_id, mine.now)
        due = asking.today(await asked.asked(tx.pg, patient_id, mine.now), mine.now)
        await notices.see(tx.pg, actor, patient_id, notices.REMINDERS)
        advised = await _advised(tx, patient_id, mine.now)
        members = await persons.members(tx.pg, actor, patient_id)
        changes = await _changes(tx, actor, mine.kept)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "my page"))
    return page(
        request,
        "me.html",
        actor,
        here="/me",
        latest=[how(one, mine.now) for one in latest],
        due=due,
        advised=advised,
        watching=watching(mine.cover, mine.now),
        team=persons.faces(members, mine.now),
        changes=changes,
        plan=plan_words(mine.kept),
        can_add=actor.can("reading.write"),
        **mine.context(),
    )


def how(one: Latest, now: datetime) -> dict[str, Any]:
    """A reading with a plain word. Within limits is said only of a fresh reading, and of limits that a clinician set
    for this person: the defaults are alarms, and a value short of an alarm may still be a bad one."""
    word = ""
    look = "none"
    if one.quality == "check":
        look, word = "amber", "This may not be right. Please measure again."
    elif one.stale:
        look, word = "missed", "This is some time ago."
    elif one.level != "none":
        look, word = one.level, "Outside your limits. See “If I feel worse” below."
    elif one.personal:
        look, word = "good", "Within your limits."
    return {
        "name": words.sentence(one.plain),
        "shown": one.shown,
        "when": one.when(now),
        "look": look,
        "word": word,
        "key": one.measure,
    }


ADVISED = timedelta(hours=24)
"""How long the advice of a rule stands on the person's page after the last reading that called for it."""


async def _advised(tx: Tx, patient_id: str, now: datetime) -> list[str]:
    """What the rules tell the person to do at once, the most urgent first: red text never waits for staff, and a
    reading that a device sent says the same as one typed by hand."""
    rows = await tx.pg.execute(
        f"SELECT advice, max(refreshed) FROM flag WHERE patient_id = %s AND {LIVE}"
        " AND advice IS NOT NULL AND refreshed > %s GROUP BY advice ORDER BY max(severity) DESC, 2 DESC",
        (patient_id, now - ADVISED),
    )
    return [f"{advice} ({words.sentence(words.when(at, now))}.)" for advice, at in await rows.fetchall()]


async def _changes(tx: Tx, actor: Actor, kept: Kept | None) -> list[str]:
    """What changed in the plan since the reader looked last; nothing when they have never looked."""
    if kept is None:
        return []
    row = await (
        await tx.pg.execute(
            "SELECT version FROM plan_reader WHERE plan_id = %s AND reader = %s", (kept.plan.id, actor.reference)
        )
    ).fetchone()
    if row is None or row[0] >= kept.version:
        return []
    return [change.sentence for change in since(await queries.versions(tx.pg, kept.plan.id), row[0])]


def plan_words(kept: Kept | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {
        "status": STATUS_WORDS.get(kept.plan.status, kept.plan.status),
        "what_matters": kept.plan.what_matters,
        "goals": [goal.text for goal in kept.plan.goals if goal.open and goal.text][:3],
    }


@router.get("/me/plan")
async def plan(request: Request) -> Response:
    actor = await signed_in(request)
    async with transaction(request) as tx:
        mine = await own_record(request, tx, actor)
        kept, person, letter = mine.kept, mine.person, None
        changes = await _changes(tx, actor, kept)
        if kept is not None:
            letter = await letter_of(tx, actor, person, kept, mine.now)
            await queries.mark_read(tx.pg, kept.plan.id, actor.reference, kept.version, mine.now)
            await notices.see(tx.pg, actor, person.patient_id, notices.PLANS)
    await runtime(request).reads.record(persons.looked(actor, person.patient_id, "my plan", "CarePlan"))
    return page(
        request, "my_plan.html", actor, here="/me/plan", letter=letter, changes=changes, kept=kept, **mine.context()
    )


@router.get("/me/readings")
async def my_readings(request: Request) -> Response:
    actor = await signed_in(request)
    return await readings_page(request, actor)


async def readings_page(
    request: Request,
    actor: Actor,
    sent: Form | None = None,
    problem: str | None = None,
    noted: Form | None = None,
    note_problem: str | None = None,
    sure: str | None = None,
) -> Response:
    async with transaction(request) as tx:
        mine = await own_record(request, tx, actor)
        shown = period(request.query_params, mine.now)
        found = await charts_of(tx, actor, mine.person.patient_id, shown, mine.now, plain=True)
    await runtime(request).reads.record(
        persons.looked(actor, mine.person.patient_id, "my readings", "Observation", "search")
    )
    context = mine.context()
    more = {"for": mine.person.patient_id} if mine.everyone else {}
    fields = hand.fields(f"/me/readings{context['which']}", sent, problem, sure, actor) | {"big": True}
    return page(
        request,
        "my_readings.html",
        actor,
        422 if problem or note_problem else 200,
        here="/me/readings",
        period=links("/me/readings", shown, mine.now, more),
        can_limit=False,
        **note_fields(noted, note_problem),
        can_add=actor.can("reading.write"),
        **found,
        **fields,
        **context,
    )


@router.post("/me/readings")
async def add_reading(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            patient_id, everyone = await _whose(request, tx, actor)
            saved = await hand.save(tx, actor, patient_id, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        sure = getattr(refusal, "sure", None)
        return await readings_page(request, actor, sent, refusal.issues[0].diagnostics, sure=sure)
    shown = "&".join(f"reading={observation['id']}" for observation in saved)
    return RedirectResponse(f"/me/saved?{shown}{f'&for={patient_id}' if everyone else ''}", 303)


@router.get("/me/saved")
async def saved(request: Request) -> Response:
    """What was saved, and what to do now: said at once, by rule, without waiting for anyone."""
    actor = await signed_in(request)
    async with transaction(request) as tx:
        mine = await own_record(request, tx, actor)
        stored = [
            await store.read(tx.pg, "Observation", observation, visible(actor))
            for observation in request.query_params.getlist("reading")[:12]
        ]
        observations = [
            one.resource for one in stored if one.resource is not None and one.patient_id == mine.person.patient_id
        ]
        if not observations:
            raise refuse(404, "not-found", "There is no such reading.")
        taken = [
            reading
            for observation in observations
            for reading in typed_readings(observation, mine.now, synthetic=mine.person.synthetic)
        ]
        facts = await watch.facts_of(tx, [mine.person.patient_id], mine.now)
        findings = await watch.findings_of(tx, taken, mine.now, facts)
        doubtful: list[Doubt] = []
        for one in observations:
            doubtful += doubts(one, [reading for reading in taken if reading.observation_id == one["id"]], mine.now)
    await runtime(request).reads.record(
        persons.looked(actor, mine.person.patient_id, "my readings", "Observation", "search")
    )
    return page(
        request,
        "saved.html",
        actor,
        here="/me/readings",
        taken=[
            {
                "name": words.sentence(MEASURES[one.measure].plain),
                "shown": one.show(),
                "when": words.when(one.at, mine.now),
            }
            for one in taken
        ],
        feedback=feedback(findings, doubtful, mine.cover, mine.now),
        **mine.context(),
    )
