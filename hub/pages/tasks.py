"""Tasks addressed to the reader or to whom they work for: all that a voluntary worker sees."""

from typing import Any

from fastapi import APIRouter, Request, Response

from care_plans import tasks
from hub import audit
from hub.access import visible
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)

MOST = 100


@router.get("/tasks")
async def mine(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "task.answer")
    now = persons.present()
    allowed = visible(actor)("Task", "task")
    rows: list[Any] = []
    if allowed is not None:
        async with transaction(request) as tx:
            found = await tx.pg.execute(
                "SELECT task.id, task.description, task.due, task.status FROM task WHERE task.owner = ANY(%s)"
                f" AND task.status = ANY(%s) AND {allowed.text} ORDER BY task.due NULLS LAST, task.id LIMIT %s",
                (list(actor.subjects), list(tasks.OPEN), *allowed.params, MOST),
            )
            rows = await found.fetchall()
    await runtime(request).reads.record(audit.entry(actor, "search", "Task", detail={"page": "tasks"}))
    return page(
        request,
        "tasks.html",
        actor,
        here="/tasks",
        tasks=[
            {
                "id": id_,
                "description": description,
                "word": {"overdue": "Overdue", "today": "Due today"}.get(tasks.due(status, due, now), "Task"),
                "when": words.sentence(tasks.due_words(status, due, now)) or "No date",
            }
            for id_, description, due, status in rows
        ],
    )
