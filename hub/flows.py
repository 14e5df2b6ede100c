"""The flows of the product. Whoever writes, writes through here; nothing else changes the record.

`write` is the one path: pages, FHIR routes, bundles and imports call it, or call a flow below that does.
`receive_readings` is the same path for devices, which send in streams, send again, and must never lose a reading.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from care_plans import consent, plan, queries, tasks, team
from care_plans.conflict import StaleEdit, three_way
from care_plans.edits import Edit, apply
from care_plans.rules import suspensions
from care_plans.shapes import set_extension
from fhir import store
from fhir.outcome import refuse
from fhir.store import Change, Sql, Stored, Written, new_id
from hub import access, answers, effects, hearing, holding, intake, rules, scoring, watch
from hub.db import Tx
from hub.identity import Actor
from hub.intake import Receipt, Sent
from hub.roles import STRUCK
from hub.subscriptions import register
from monitoring import annotations, flags
from monitoring.limits import Order, to_service_request
from monitoring.outcomes import OUTCOMES
from monitoring.states import ACKNOWLEDGED, RESOLVED, UNDO

JSON = dict[str, Any]
LONDON = ZoneInfo("Europe/London")
NOBODY = Sql("FALSE", ())


async def write(tx: Tx, actor: Actor, changes: Sequence[Change], now: datetime | None = None) -> list[Written]:
    """Carry out all *changes* or none in the caller's transaction, and everything that follows from them.

    Raises Refusal: 403 not allowed, 404 unknown or invisible, 409 conflict, 412 stale version, 422 a rule is broken.
    """
    now = now or datetime.now(UTC)
    if not changes:
        return []
    changes = [_identified(change) for change in changes]
    if actor.kind == "device":
        return await intake.write(tx, actor, changes, now)
    await watch.take_turns(tx, changes)
    found = await watch.typed(tx, changes, now)
    before = await store.load(
        tx.pg, [(change.type, change.id) for change in changes if change.method != "create"], lock=True
    )
    await rules.permit(tx, actor, changes, before)
    asked = len(changes)
    if any(change.type in holding.TYPES for change in changes):
        changes = await holding.follow(tx, actor, changes, before, now)
    facts = await rules.hold(tx, actor, changes, before, now)
    if any(change.type == "Flag" for change in changes):
        changes = await answers.prepare(tx, actor, changes, before, now)
    if any(change.type == "Subscription" for change in changes):
        changes = await register.prepare(tx, actor, changes, before)
    written = await effects.carry_out(tx, [actor] * len(changes), changes, before, found, now)
    measured = {one.device_id: one.at for one in sorted(found, key=lambda one: one.at) if one.device_id}
    if measured:
        await hearing.imported(tx.pg, measured)
    if any(change.type == "QuestionnaireResponse" for change in changes):
        await scoring.score(tx, written, now)
    await effects.suspend(tx, suspensions(facts), now)
    return written[:asked]


async def receive_readings(tx: Tx, sent: Sequence[Sent], now: datetime | None = None) -> list[Receipt]:
    """Receive what devices send: every Observation is stored once, known already, or refused and kept with its reason.

    Validate -> who holds the device -> store once -> typed reading -> evaluate -> open or refresh flags -> notices ->
    audit. Idempotent on device, measure, instant and identifier, so that a device may send again after any failure.
    """
    return await intake.receive(tx, sent, now or datetime.now(UTC))


def _identified(change: Change) -> Change:
    """The resource carries its identity: rules and projections look there."""
    if change.resource is None or change.resource.get("id") == change.id:
        return change
    return replace(change, resource={**change.resource, "id": change.id})


# -- plans -------------------------------------------------------------------------------------------------------------


async def record_approval(
    tx: Tx, actor: Actor, patient_id: str, how: str, given_by: str | None = None, name: str | None = None
) -> Written:
    """The person (or *given_by*, a RelatedPerson) approves of being planned for: no plan may be made before."""
    demand(actor, "approval.record")
    person = await _resource(tx, actor, "Patient", patient_id)
    hub = person.get("managingOrganization", {}).get("reference") or f"Organization/{actor.hub_id}"
    now = datetime.now(UTC)
    resource = consent.new_consent(
        new_id(), f"Patient/{patient_id}", hub, now, how,
        performer=given_by, performer_name=name, recorded_by=actor.reference,
    )  # fmt: skip
    return await _create(tx, actor, resource, now)


async def withdraw_approval(
    tx: Tx, actor: Actor, patient_id: str, why: str, said_by: str | None = None
) -> list[Written]:
    """The person (or *said_by*, a RelatedPerson) no longer approves: every approval that stands ends, and the active
    plan goes on hold. Refusal 409 when none stands."""
    demand(actor, "approval.record")
    await _resource(tx, actor, "Patient", patient_id)
    now = datetime.now(UTC)
    rows = await tx.pg.execute("SELECT id FROM approval WHERE patient_id = %s AND given ORDER BY id", (patient_id,))
    ids = [("Consent", row[0]) for row in await rows.fetchall()]
    if not ids:
        raise refuse(409, "conflict", "No approval stands that could be withdrawn.", "Consent.status")
    changes = []
    for one in (await store.load(tx.pg, ids, lock=True)).values():
        ended = consent.withdraw(_body(one), why, now, said_by or f"Patient/{patient_id}", actor.reference)
        changes.append(Change("update", "Consent", one.id, ended, if_match=one.version))
    return await write(tx, actor, changes, now)


async def start_plan(
    tx: Tx, actor: Actor, patient_id: str, edits: Sequence[Edit], title: str = "My care plan"
) -> Written:
    """A draft plan with what was said so far. Refused 422 without approval, 409 beside another active plan."""
    demand(actor, "plan.edit")
    person = await _resource(tx, actor, "Patient", patient_id)
    members = await queries.team_of(tx.pg, patient_id, access.people(actor, "team_member.patient_id") or NOBODY)
    teams = sorted({f"CareTeam/{member.care_team_id}" for member in members})
    draft = plan.new_plan(
        new_id(), f"Patient/{patient_id}", actor.reference, _today(), title=title,
        patient_name=_name(person), author_name=actor.name, care_team=next(iter(teams), None),
    )  # fmt: skip
    made = apply(draft, edits, actor.reference, _today())
    written = await write(tx, actor, [_create_change(one) for one in plan.written(None, made)])
    return written[0]


async def edit_plan(
    tx: Tx, actor: Actor, plan_id: str, edits: Sequence[Edit], expected_version: int, now: datetime | None = None
) -> Written | None:
    """Change the plan that the editor saw as version *expected_version*; None when the edits change nothing.

    Load -> pure `apply` -> new version -> who must hear -> audit. Raises StaleEdit (409) when somebody changed the plan
    meanwhile: it holds both texts, so that nothing typed is lost.
    """
    demand(actor, "plan.edit")
    await _stored(tx, actor, "CarePlan", plan_id, lock=True)
    found = await queries.current(tx.pg, plan_id)
    if found is None:
        raise refuse(404, "not-found", "There is no such plan.", "CarePlan.id")
    theirs, version = found
    if version != expected_version:
        seen = next((one for one in await queries.versions(tx.pg, plan_id) if one.version == expected_version), None)
        if seen is None:
            raise refuse(412, "conflict", f"The plan has no version {expected_version}.", "CarePlan.meta.versionId")
        mine = apply(seen.plan, edits, actor.reference, _today())
        raise StaleEdit(three_way(seen.plan, mine, theirs), expected_version, version)
    return await save_plan(tx, actor, theirs, apply(theirs, edits, actor.reference, _today()), version, now)


async def save_plan(
    tx: Tx, actor: Actor, before: plan.Plan, after: plan.Plan, version: int, now: datetime | None = None
) -> Written | None:
    """Store *after* in place of *before*, which is version *version*; also the way out of a resolved conflict."""
    demand(actor, "plan.edit")
    now = now or datetime.now(UTC)
    changed = plan.written(before, after)
    if not changed:
        return None
    # A changed goal alone is a new version of the plan too: its version is what a stale edit is recognised by.
    set_extension(changed[0], "last-edited", {"valueDateTime": now.isoformat()})
    known = {goal["id"] for goal in before.goal_resources}
    changes = [Change("update", "CarePlan", after.id, changed[0], if_match=version)]
    changes += [Change("update" if goal["id"] in known else "create", "Goal", goal["id"], goal) for goal in changed[1:]]
    return (await write(tx, actor, changes, now))[0]


async def assign_team(tx: Tx, actor: Actor, patient_id: str, role_code: str, practitioner: str, name: str) -> Written:
    """Put *practitioner* (a reference) into the team in the role (a SNOMED CT code); who had it before leaves."""
    demand(actor, "team.assign")
    person = await _resource(tx, actor, "Patient", patient_id)
    now = datetime.now(UTC)
    rows = await tx.pg.execute(
        "SELECT id FROM r_careteam WHERE patient_id = %s AND keys @> ARRAY['status=active'] ORDER BY updated LIMIT 1",
        (patient_id,),
    )
    row = await rows.fetchone()
    if row is None:
        hub = person.get("managingOrganization", {})
        made = team.new_team(
            new_id(), f"Patient/{patient_id}", now, hub=hub.get("reference"), hub_name=hub.get("display")
        )
        return await _create(tx, actor, team.assign(made, role_code, practitioner, name, now), now)
    stored = await _stored(tx, actor, "CareTeam", row[0], lock=True)
    changed = team.assign(_body(stored), role_code, practitioner, name, now)
    return await _update(tx, actor, changed, stored.version, now)


# -- flags, readings, tasks, limits ------------------------------------------------------------------------------------


async def move_flag(
    tx: Tx, actor: Actor, flag_id: str, to: str, why: str, code: str | None = None, until: datetime | None = None
) -> Written:
    """The actor moves the flag to a state of `monitoring.states`: ending it takes the code of an outcome, snoozing it
    an end. Refusal 403, 409 (it cannot become that now) or 422 (the reason, code or end)."""
    demand(actor, "flag.acknowledge")
    stored, _ = await _flag(tx, actor, flag_id)
    return await _update(tx, actor, answers.moved(_body(stored), to, why, code, until), stored.version)


async def acknowledge_flag(tx: Tx, actor: Actor, flag_id: str, why: str) -> Written:
    """The actor has seen the flag and acts on it."""
    return await move_flag(tx, actor, flag_id, ACKNOWLEDGED, why)


async def resolve_flag(tx: Tx, actor: Actor, flag_id: str, why: str, outcome: str = "none-needed") -> Written:
    """The actor ends the flag: *outcome* is one of `monitoring.outcomes.OUTCOMES`, and says as what."""
    demand(actor, "flag.resolve")
    known = OUTCOMES.get(outcome)
    return await move_flag(tx, actor, flag_id, known.ends if known else RESOLVED, why, outcome)


async def undo_flag_move(tx: Tx, actor: Actor, flag_id: str) -> Written:
    """The actor takes back the last move, which was theirs, within `monitoring.moves.UNDO_WITHIN`."""
    demand(actor, "flag.acknowledge")
    stored, found = await _flag(tx, actor, flag_id)
    return await _update(tx, actor, answers.moved(_body(stored), found.state, "Undone", UNDO), stored.version)


async def _flag(tx: Tx, actor: Actor, flag_id: str) -> tuple[Stored, flags.Flag]:
    seen = await _stored(tx, actor, "Flag", flag_id)
    if seen.patient_id is not None:
        await flags.take_turns(tx.pg, [seen.patient_id])
    stored = await _stored(tx, actor, "Flag", flag_id, lock=True)
    found = flags.from_fhir(_body(stored), stored.version)
    if found is None:
        raise refuse(422, "business-rule", "No rule raised this flag; change it through FHIR.", "Flag.extension")
    return stored, found


async def mark_wrong(tx: Tx, actor: Actor, observation_id: str, why: str) -> Written:
    """A reading (or a note) was wrong: it stays in the record, struck through with who and why, and no rule looks at it
    again. Whoever wrote it by hand may say so, and whoever may correct readings (`rules.permit`)."""
    if not why.strip():
        raise refuse(422, "required", "Say why it is wrong.", "Observation.note")
    stored = await _stored(tx, actor, "Observation", observation_id)
    return await _strike(tx, actor, stored, STRUCK, why)


async def mark_right(tx: Tx, actor: Actor, observation_id: str, why: str) -> Written:
    """Take back `mark_wrong`: the reading has the status that it had before, and rules look at it as when it came."""
    if not why.strip():
        raise refuse(422, "required", "Say why it is right after all.", "Observation.note")
    stored = await _stored(tx, actor, "Observation", observation_id)
    if _body(stored).get("status") != STRUCK:
        raise refuse(409, "conflict", "It is not struck through.", "Observation.status")
    rows = await tx.pg.execute(
        "SELECT body::json ->> 'status' FROM resource_version WHERE type = 'Observation' AND id = %s"
        " AND body::json ->> 'status' <> %s ORDER BY version DESC LIMIT 1",
        (observation_id, STRUCK),
    )
    row = await rows.fetchone()
    return await _strike(tx, actor, stored, row[0] if row else "amended", why)


async def _strike(tx: Tx, actor: Actor, stored: Stored, status: str, why: str) -> Written:
    body = _body(stored)
    now = datetime.now(UTC)
    note = {"authorReference": {"reference": actor.reference}, "time": now.isoformat(), "text": why.strip()}
    changed = {**body, "status": status, "note": [*body.get("note", ()), note]}
    return await _update(tx, actor, changed, stored.version, now)


async def write_note(tx: Tx, actor: Actor, patient_id: str, at: datetime, text: str) -> Written:
    """A note beside the readings of a person, about the instant *at* (aware)."""
    demand(actor, "reading.write")
    if not text.strip():
        raise refuse(422, "required", "Write what happened.", "Observation.value")
    if len(text) > annotations.LONGEST:
        limit = f"A note has at most {annotations.LONGEST} characters. Longer things belong into the plan or a message."
        raise refuse(422, "too-long", limit, "Observation.value")
    made = annotations.to_observation(patient_id, at, text.strip(), actor.reference, actor.name)
    return await _create(tx, actor, made | {"id": new_id()})


async def set_limits(tx: Tx, actor: Actor, order: Order) -> Written:
    """Limits personal to the patient, by a named clinician with reason and review date (checked by the type's rule)."""
    demand(actor, "limit.set")
    resource = to_service_request(order, actor.name)
    rows = await tx.pg.execute(
        "SELECT service_request_id FROM monitoring_limit WHERE active AND patient_id = %s AND measure = %s",
        (order.patient_id, order.measure),
    )
    row = await rows.fetchone()
    if row is None:
        return await _create(tx, actor, resource)
    stored = await _stored(tx, actor, "ServiceRequest", row[0], lock=True)
    return await _update(tx, actor, {**resource, "id": row[0]}, stored.version)


async def complete_task(tx: Tx, actor: Actor, task_id: str, outcome: str | None = None) -> Written:
    demand(actor, "task.answer")
    stored = await _stored(tx, actor, "Task", task_id, lock=True)
    now = datetime.now(UTC)
    return await _update(tx, actor, tasks.complete(_body(stored), actor.reference, now, outcome), stored.version, now)


# -- small shared steps ------------------------------------------------------------------------------------------------


def demand(actor: Actor, permission: str) -> None:
    """Refusal 403 unless the actor's role owns *permission*."""
    if not actor.can(permission):
        raise refuse(403, "forbidden", f"Your role ({actor.role}) does not allow this: {permission}.")


async def _stored(tx: Tx, actor: Actor, type_: str, id_: str, lock: bool = False) -> Stored:
    """The current version, if the actor may see it; with *lock* nobody changes it until the transaction ends."""
    seen = await store.read(tx.pg, type_, id_, access.visible(actor))
    if not lock:
        return seen
    return (await store.load(tx.pg, [(type_, id_)], lock=True))[type_, id_]


async def _resource(tx: Tx, actor: Actor, type_: str, id_: str) -> JSON:
    return _body(await _stored(tx, actor, type_, id_))


def _body(stored: Stored) -> JSON:
    if stored.resource is None:
        raise refuse(410, "deleted", f"{stored.type}/{stored.id} was deleted.")
    return stored.resource


def _create_change(resource: JSON) -> Change:
    return Change("create", resource["resourceType"], resource["id"], resource)


async def _create(tx: Tx, actor: Actor, resource: JSON, now: datetime | None = None) -> Written:
    return (await write(tx, actor, [_create_change(resource)], now))[0]


async def _update(tx: Tx, actor: Actor, resource: JSON, version: int, now: datetime | None = None) -> Written:
    change = Change("update", resource["resourceType"], resource["id"], resource, if_match=version)
    return (await write(tx, actor, [change], now))[0]


def _today() -> date:
    return datetime.now(LONDON).date()


def _name(person: JSON) -> str | None:
    name: JSON = next(iter(person.get("name", ())), {})
    return name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip() or None
