"""A person on one screen: what waits, what was measured last, the plan, the team."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from care_plans import queries, tasks
from care_plans.parts import STATUS_WORDS
from care_plans.tasks import TaskRow
from fhir.outcome import Refusal
from fhir.store import Sql
from hub import boards, notices
from hub.access import may_read, people
from hub.db import Tx
from hub.identity import Actor
from hub.pages import flags, hand, pregnancy, records, words
from hub.pages import person as persons
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.flag_words import menu
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/patients/{patient_id}")
async def summary(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    async with transaction(request) as tx:
        context = await _context(tx, actor, patient_id)
        await notices.see(tx.pg, actor, patient_id, notices.FLAGS)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "summary"))
    return page(
        request, "summary.html", actor, **context, **hand.fields(f"/patients/{patient_id}/readings", actor=actor)
    )


@router.post("/patients/{patient_id}/readings")
async def add_reading(request: Request, patient_id: str) -> Response:
    """A reading that staff add by hand."""
    actor = await signed_in(request)
    demand(actor, "reading.write")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            await hand.save(tx, actor, patient_id, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _again(request, actor, patient_id, sent, refusal)
    return told(f"/patients/{patient_id}", "reading-saved")


async def _again(request: Request, actor: Actor, patient_id: str, sent: Form, refusal: Refusal) -> Response:
    async with transaction(request) as tx:
        context = await _context(tx, actor, patient_id)
    problem, sure = refusal.issues[0].diagnostics, getattr(refusal, "sure", None)
    return page(
        request,
        "summary.html",
        actor,
        422,
        **context,
        **hand.fields(f"/patients/{patient_id}/readings", sent, problem, sure, actor),
    )


async def _context(tx: Tx, actor: Actor, patient_id: str) -> dict[str, Any]:
    now = persons.present()
    person = await persons.find(tx.pg, actor, patient_id)
    measures = may_read(actor, "Observation")
    waiting = await records.open_flags(tx.pg, patient_id) if may_read(actor, "Flag") else []
    names = await boards.names(tx.pg, {row.acknowledged_by for row in waiting})
    kept = await records.current_plan(tx.pg, actor, patient_id)
    return {
        "tab": "",
        "person": person,
        "now": now,
        "here_address": f"/patients/{patient_id}",
        "flags": [flags.shown(row, names, now) for row in waiting],
        "pregnant": await pregnancy.on_record(tx, patient_id, persons.today(now))
        if may_read(actor, "Condition")
        else [],
        "can_write_clinical": actor.can("clinical.write"),
        "measures": measures,
        "latest": await persons.latest(tx.pg, patient_id, now) if measures else [],
        "tasks": [task_words(task, now) for task in await _tasks(tx, actor, patient_id)],
        "plan": plan_words(kept, now) if kept else None,
        "team": persons.faces(await persons.members(tx.pg, actor, patient_id), now),
        "can_acknowledge": actor.can("flag.acknowledge"),
        "menu": menu(actor),
        "can_answer": actor.can("task.answer"),
        "can_add": actor.can("reading.write"),
    }


async def _tasks(tx: Tx, actor: Actor, patient_id: str) -> list[TaskRow]:
    allowed = people(actor, "task.patient_id")
    return await queries.tasks_of(tx.pg, patient_id, Sql(*allowed)) if allowed else []


def task_words(task: TaskRow, now: datetime) -> dict[str, str]:
    state = tasks.due(task.status, task.due, now)
    return {
        "id": task.id,
        "word": {"overdue": "Overdue", "today": "Due today"}.get(state, "Task"),
        "description": task.description,
        "when": words.sentence(tasks.due_words(task.status, task.due, now)) or "No date",
    }


def plan_words(kept: records.Kept, now: datetime) -> dict[str, Any]:
    return {
        "status_words": STATUS_WORDS.get(kept.plan.status, kept.plan.status).capitalize(),
        "version": kept.version,
        "changed": words.when(kept.updated, now),
        "what_matters": kept.plan.what_matters,
        "if_worse": kept.plan.if_worse,
        "goals": [goal.text for goal in kept.plan.goals if goal.open and goal.text][:5],
    }
