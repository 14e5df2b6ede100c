"""What has to be done, by whom and until when. Overdue is worked out on read and never locks a task."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from care_plans.shapes import JSON, LONDON, instant, local_reference, reference_id
from fhir.outcome import refuse

OPEN = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})
PRIORITIES = ("routine", "urgent", "asap", "stat")

Due = Literal["overdue", "today", "soon", "later", "none"]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of the table `task`. *due* is the end of the last moment in time."""

    id: str
    version: int
    patient_id: str | None
    hub_id: str | None
    owner: str | None
    status: str
    priority: str | None
    description: str
    due: datetime | None


def row(task: JSON, version: int, hub_id: str | None = None) -> TaskRow:
    """The row of a Task. *hub_id* is the patient's home hub when the caller knows it, else the owning Organization."""
    owner: JSON = task.get("owner") or {}
    return TaskRow(
        id=str(task["id"]),
        version=version,
        patient_id=reference_id(task.get("for"), "Patient"),
        hub_id=hub_id or reference_id(owner, "Organization"),
        owner=local_reference(owner),
        status=str(task["status"]),
        priority=task.get("priority"),
        description=task.get("description") or (task.get("code") or {}).get("text") or "Task",
        due=due_at(task),
    )


def due_at(task: JSON) -> datetime | None:
    period: JSON = (task.get("restriction") or {}).get("period") or {}
    return instant(period.get("end"), end=True)


def due(status: str, at: datetime | None, now: datetime) -> Due:
    """How a task stands now: `today` is today in London, `soon` within seven days. Closed tasks have `none`."""
    if status not in OPEN or at is None:
        return "none"
    if at <= now:
        return "overdue"
    # A due *day* ends at midnight, which is the first instant of the next one.
    last = (at - timedelta(microseconds=1)).astimezone(LONDON).date()
    today = now.astimezone(LONDON).date()
    if last <= today:
        return "today"
    return "soon" if last <= today + timedelta(days=7) else "later"


def due_words(status: str, at: datetime | None, now: datetime) -> str:
    """`overdue by 3 days`, `due today`, `due 3 Dec 2026`; empty when nothing is due."""
    state = due(status, at, now)
    if at is None or state == "none":
        return ""
    last = (at - timedelta(microseconds=1)).astimezone(LONDON).date()
    if state == "overdue":
        days = (now.astimezone(LONDON).date() - last).days
        return "overdue since today" if days < 1 else f"overdue by {days} day{'s' if days > 1 else ''}"
    return "due today" if state == "today" else f"due {last.day} {last:%b %Y}"


def new_task(
    task_id: str,
    description: str,
    requester: str,
    now: datetime,
    *,
    patient: str | None = None,
    owner: str | None = None,
    due: str | datetime | None = None,
    priority: str = "routine",
    based_on: str | None = None,
    focus: str | None = None,
) -> JSON:
    """A Task, requested. *due* is a day (`2026-12-03`, all of it) or an instant; references as `Practitioner/x`."""
    if not description.strip():
        raise refuse(422, "required", "Say what has to be done.", "Task.description")
    if priority not in PRIORITIES:
        raise refuse(422, "code-invalid", f"Priority is one of {', '.join(PRIORITIES)}.", "Task.priority")
    task: JSON = {
        "resourceType": "Task",
        "id": task_id,
        "status": "requested",
        "intent": "order",
        "priority": priority,
        "description": description.strip(),
        "authoredOn": now.astimezone(UTC).isoformat(),
        "requester": {"reference": requester},
    }
    for key, reference in (("for", patient), ("owner", owner), ("focus", focus)):
        if reference:
            task[key] = {"reference": reference}
    if based_on:
        task["basedOn"] = [{"reference": based_on}]
    if due is not None:
        end = due.isoformat() if isinstance(due, datetime) else due
        if instant(end) is None:
            raise refuse(422, "value", f"'{end}' is not a day such as 2026-12-03.", "Task.restriction.period.end")
        task["restriction"] = {"period": {"end": end}}
    return task


def claim(task: JSON, owner: str, now: datetime, *, take_over: bool = False) -> JSON:
    """The task, accepted by *owner*. A task that another person has is refused 409 unless *take_over*."""
    _must_be_open(task)
    holder = (task.get("owner") or {}).get("reference") or ""
    if holder.startswith("Practitioner/") and holder != owner and not take_over:
        shown = task["owner"].get("display") or holder
        raise refuse(409, "conflict", f"{shown} has this task. Take it over only after telling them.", "Task.owner")
    status = task["status"] if task["status"] in ("in-progress", "on-hold") and holder == owner else "accepted"
    return _moved({**task, "owner": {"reference": owner}}, status, now)


def assign(task: JSON, owner: str, now: datetime) -> JSON:
    """The task, given to *owner* (a person or an organisation), who has yet to accept it."""
    _must_be_open(task)
    return _moved({**task, "owner": {"reference": owner}}, "requested", now)


def start(task: JSON, now: datetime) -> JSON:
    _must_be_open(task)
    return _moved(task, "in-progress", now)


def complete(task: JSON, by: str, now: datetime, outcome: str | None = None) -> JSON:
    """The task, done. However overdue it is, it can be completed; *outcome* is kept as a note by *by*."""
    _must_be_open(task)
    done = _moved(task, "completed", now)
    period: JSON = {**(task.get("executionPeriod") or {}), "end": now.astimezone(UTC).isoformat()}
    return _noted({**done, "executionPeriod": period}, by, now, outcome)


def cancel(task: JSON, by: str, now: datetime, why: str) -> JSON:
    """The task, no longer wanted; the reason is demanded."""
    _must_be_open(task)
    if not why.strip():
        raise refuse(422, "required", "Say why the task is no longer wanted.", "Task.statusReason")
    return _noted({**_moved(task, "cancelled", now), "statusReason": {"text": why.strip()}}, by, now, None)


def reopen(task: JSON, now: datetime) -> JSON:
    """A completed or cancelled task, in progress again: the undo of a slip."""
    if task.get("status") not in ("completed", "cancelled", "failed"):
        raise refuse(
            409, "conflict", f"The task is {task.get('status')}; only a closed one can be reopened.", "Task.status"
        )
    again = {key: value for key, value in task.items() if key != "statusReason"}
    period = {key: value for key, value in (task.get("executionPeriod") or {}).items() if key != "end"}
    again.pop("executionPeriod", None)
    return _moved({**again, **({"executionPeriod": period} if period else {})}, "in-progress", now)


def _must_be_open(task: JSON) -> None:
    if task.get("status") not in OPEN | {"draft"}:
        raise refuse(409, "conflict", f"The task is {task.get('status')} already. Reopen it first.", "Task.status")


def _moved(task: JSON, status: str, now: datetime) -> JSON:
    return {**task, "status": status, "lastModified": now.astimezone(UTC).isoformat()}


def _noted(task: JSON, by: str, now: datetime, text: str | None) -> JSON:
    if not text or not text.strip():
        return task
    note = {"authorReference": {"reference": by}, "time": now.astimezone(UTC).isoformat(), "text": text.strip()}
    return {**task, "note": [*(task.get("note") or ()), note]}
