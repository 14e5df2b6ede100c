"""The plan: read like a letter, edited by section, its versions, and how it begins."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from care_plans import conflict, forms, quality, queries
from care_plans.conflict import StaleEdit
from care_plans.difference import compare
from care_plans.parts import STATUS_WORDS
from care_plans.patient_view import PatientPlan, patient_plan
from care_plans.plan import Plan
from care_plans.versions import Version, since
from fhir.outcome import Refusal, refuse
from fhir.store import Written, new_id
from hub import boards, flows, notices
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import records, words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import Person
from hub.pages.records import Kept
from hub.pages.rendering import fresh, page
from monitoring.cover import told_cover

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}/plan")
async def read(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        kept = await records.current_plan(tx.pg, actor, patient_id)
        approved = await records.approved(tx.pg, patient_id, now)
        letter = await letter_of(tx, actor, person, kept, now) if kept else None
        before = await queries.mark_read(tx.pg, kept.plan.id, actor.reference, kept.version, now) if kept else None
        changes = await _since(tx, kept, before) if kept else []
        author = (await boards.names(tx.pg, {kept.author})).get(kept.author) if kept else None
        readers = await queries.readers(tx.pg, kept.plan.id, patient_id) if kept else []
        await notices.see(tx.pg, actor, patient_id, notices.PLANS)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "plan", "CarePlan"))
    return page(
        request,
        "plan.html",
        actor,
        tab="/plan",
        person=person,
        now=now,
        kept=kept,
        letter=letter,
        approved=approved,
        changes=changes,
        author=author,
        unread=[reader.name for reader in readers if reader.version is None and reader.name],
        lacks=lacks(kept.plan, now) if kept else [],
        can_edit=actor.can("plan.edit"),
        can_approve=actor.can("approval.record"),
        once=fresh(),
    )


async def letter_of(tx: Tx, actor: Actor, person: Person, kept: Kept, now: datetime) -> PatientPlan:
    """The plan in the person's words, as they and the staff read it."""
    hub = await records.hub_of(tx.pg, person.hub_id)
    return patient_plan(
        kept.plan,
        await persons.members(tx.pg, actor, person.patient_id),
        now,
        kept.updated,
        hub_name=hub.name,
        hub_phone=hub.phone,
        hub_hours=(await told_cover(tx.pg, person.hub_id)).hours.words(),
    )


def lacks(found: Plan, now: datetime) -> list[str]:
    """What a good plan has and this one has not: advice, never a refusal."""
    return [text for criterion in quality.quality(found, persons.today(now)) for text in criterion.missing]


async def _since(tx: Tx, kept: Kept, before: int | None) -> list[str]:
    if before is None or before >= kept.version:
        return []
    return [change.sentence for change in since(await queries.versions(tx.pg, kept.plan.id), before)]


# -- beginning ---------------------------------------------------------------------------------------------------------


@router.post("/patients/{patient_id}/plan")
async def start(request: Request, patient_id: str) -> Response:
    """A draft with nothing in it yet: the edit page follows."""
    actor = await signed_in(request)
    demand(actor, "plan.edit")
    await form(request, actor)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        await flows.start_plan(tx, actor, patient_id, [])
    return RedirectResponse(f"/patients/{patient_id}/plan/edit", 303)


# -- editing -----------------------------------------------------------------------------------------------------------


@router.get("/patients/{patient_id}/plan/edit")
async def edit_page(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "plan.edit")
    return await _edit_page(request, actor, patient_id)


@router.post("/patients/{patient_id}/plan/edit")
async def edit(request: Request, patient_id: str) -> Response:
    """One edit of one section. A stale one shows both texts; nothing that was typed is lost."""
    actor = await signed_in(request)
    demand(actor, "plan.edit")
    sent = await form(request, actor)
    now = persons.present()
    try:
        async with transaction(request) as tx:
            person = await persons.find(tx.pg, actor, patient_id)
            kept = await _plan(tx, actor, patient_id)
            wanted = forms.edit(sent.text("kind", 40), sent.values(), new_id)
            try:
                saved = await flows.edit_plan(tx, actor, kept.plan.id, [wanted], sent.number("expected_version"))
            except StaleEdit as stale:
                if "seen_version" not in sent or sent.number("seen_version") != stale.version:
                    return await _conflict_page(request, tx, actor, person, kept, stale, sent, now)
                saved = await _settle(tx, actor, stale, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _edit_page(request, actor, patient_id, refusal.issues[0].diagnostics, sent)
    return told(f"/patients/{patient_id}/plan/edit", "plan-saved" if saved else "plan-same")


async def _settle(tx: Tx, actor: Actor, stale: StaleEdit, sent: Form) -> Written | None:
    """Carry out what was chosen after both texts were shown."""
    clashes = stale.conflict.clashes
    choices = {clash.part: sent.text(f"choice-{clash.part}") for clash in clashes}
    texts = {clash.part: sent.text(f"text-{clash.part}") for clash in clashes}
    settled = conflict.resolve(stale.conflict, choices, texts)
    return await flows.save_plan(tx, actor, stale.conflict.theirs, settled, stale.version)


async def _plan(tx: Tx, actor: Actor, patient_id: str) -> Kept:
    kept = await records.current_plan(tx.pg, actor, patient_id)
    if kept is None:
        raise refuse(404, "not-found", "There is no plan to edit yet.")
    return kept


async def _conflict_page(
    request: Request, tx: Tx, actor: Actor, person: Person, kept: Kept, stale: StaleEdit, sent: Form, now: datetime
) -> Response:
    author = (await boards.names(tx.pg, {kept.author})).get(kept.author, "Someone else")
    kept_fields = {
        name: value
        for name, value in sent.values().items()
        if name not in ("csrf", "seen_version") and not name.startswith(("choice-", "text-"))
    }
    return page(
        request,
        "plan_conflict.html",
        actor,
        409,
        tab="/plan",
        person=person,
        now=now,
        author=author,
        changed=f"{words.when(kept.updated, now)} ({words.ago(kept.updated, now)})",
        clashes=stale.conflict.clashes,
        mine=stale.conflict.changed_by_me,
        theirs=stale.conflict.changed_by_them,
        seen_version=stale.version,
        fields=kept_fields,
        said=None,
    )


async def _edit_page(
    request: Request, actor: Actor, patient_id: str, problem: str | None = None, sent: Form | None = None
) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        kept = await _plan(tx, actor, patient_id)
        members = await persons.members(tx.pg, actor, patient_id)
        approved = await records.approved(tx.pg, patient_id, now)
    if problem and not approved:
        problem = f"{person.first} does not approve of a plan at present."
    await runtime(request).reads.record(persons.looked(actor, patient_id, "plan", "CarePlan"))
    today = persons.today(now)
    return page(
        request,
        "plan_edit.html",
        actor,
        422 if problem else 200,
        tab="/plan",
        person=person,
        now=now,
        plan=kept.plan,
        version=kept.version,
        plan_status=STATUS_WORDS.get(kept.plan.status, kept.plan.status),
        goals=[goal for goal in kept.plan.goals if goal.open],
        past_goals=[goal for goal in kept.plan.goals if not goal.open],
        activities=kept.plan.activities,
        people=[person.first, *(face["name"] for face in persons.faces(members, now))],
        today=today.isoformat(),
        new_goal=new_id(),
        new_activity=new_id(),
        problem=problem,
        kind=sent.text("kind") if sent else None,
        typed=sent.values() if sent else {},
        lacks=lacks(kept.plan, now),
        approved=approved,
        can_approve=actor.can("approval.record"),
        can_agree=actor.can("plan.agree"),
        **({"said": None} if problem else {}),
    )


# -- versions ----------------------------------------------------------------------------------------------------------


@router.get("/patients/{patient_id}/plan/versions")
async def versions(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        kept = await _plan(tx, actor, patient_id)
        found = await queries.versions(tx.pg, kept.plan.id)
        names = await boards.names(tx.pg, {version.author for version in found})
        await notices.see(tx.pg, actor, patient_id, notices.PLANS)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "plan versions", "CarePlan", "history"))
    return page(
        request,
        "plan_versions.html",
        actor,
        tab="/plan",
        person=person,
        now=now,
        versions=[version_words(version, names, now) for version in reversed(found)],
    )


def version_words(version: Version, names: dict[str, str], now: datetime) -> dict[str, Any]:
    return {
        "number": version.version,
        "when": f"{words.when(version.updated, now)} ({words.ago(version.updated, now)})",
        "by": names.get(version.author, "another system"),
        "changes": [
            {
                "sentence": change.sentence,
                "runs": compare(change.before, change.after) if change.before and change.after else [],
            }
            for change in version.changes
        ],
    }
