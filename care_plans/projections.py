"""Writes the typed tables from FHIR resources: set-based, in the transaction of the resources themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg

from care_plans import consent, tasks, team
from care_plans.facts import person
from care_plans.plan import Plan, is_persons_plan
from care_plans.shapes import JSON
from fhir.outcome import refuse

Connection = psycopg.AsyncConnection[Any]


class Changed(NamedTuple):
    """One resource as just written; *resource* is None when it was deleted. *author* is a reference."""

    id: str
    resource: JSON | None
    version: int
    updated: datetime
    author: str


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row of the table `plan`."""

    id: str
    patient_id: str
    status: str
    version: int
    title: str
    review_on: date | None
    updated: datetime
    author: str


def plan_row(resource: JSON, version: int, updated: datetime, author: str) -> PlanRow | None:
    """The row of a CarePlan; None for a supporting plan and for one that names no Patient."""
    plan = Plan(resource)
    if not is_persons_plan(resource) or plan.patient_id is None:
        return None
    return PlanRow(plan.id, plan.patient_id, plan.status, version, plan.title, plan.next_review, updated, author)


async def project_plans(pg: Connection, changed: Sequence[Changed]) -> None:
    """Bring `plan` up to date. Raises Refusal 409 when a concurrent request made another plan of the person active."""
    rows = [plan_row(one.resource, one.version, one.updated, one.author) for one in changed if one.resource]
    found = [row for row in rows if row]
    await _delete(pg, "plan", "id", changed, {row.id for row in found})
    # The others first: a plan is completed before its successor takes the one active place.
    await _upsert(pg, "plan", ("id",), [row for row in found if row.status != "active"])
    try:
        await _upsert(pg, "plan", ("id",), [row for row in found if row.status == "active"])
    except psycopg.errors.UniqueViolation as error:
        raise refuse(409, "conflict", "This person has an active plan already.", "CarePlan.status") from error


async def project_approvals(pg: Connection, changed: Sequence[Changed]) -> None:
    rows = [consent.row(one.resource, one.updated) for one in changed if one.resource]
    found = [row for row in rows if row]
    await _delete(pg, "approval", "id", changed, {row.id for row in found})
    await _upsert(pg, "approval", ("id",), found)


async def project_team(pg: Connection, changed: Sequence[Changed]) -> None:
    """Replace each CareTeam's rows: members who left the resource leave the table."""
    await _delete(pg, "team_member", "care_team_id", changed, set())
    rows = [row for one in changed if one.resource for row in team.rows(one.resource)]
    await _upsert(pg, "team_member", ("care_team_id", "member", "role_code"), rows)


async def project_tasks(pg: Connection, changed: Sequence[Changed], hubs: Mapping[str, str] | None = None) -> None:
    """Bring `task` up to date. *hubs* maps a patient id to their home hub, whose board shows the task."""
    found = []
    for one in changed:
        if one.resource:
            patient_id = person(one.resource)
            found.append(tasks.row(one.resource, one.version, (hubs or {}).get(patient_id or "")))
    await _delete(pg, "task", "id", changed, {row.id for row in found})
    await _upsert(pg, "task", ("id",), found)


async def _delete(pg: Connection, table: str, key: str, changed: Sequence[Changed], kept: set[str]) -> None:
    gone = [one.id for one in changed if one.id not in kept]
    if gone:
        await pg.execute(f"DELETE FROM {table} WHERE {key} = ANY(%s)", [gone])


ARRAYS = {
    "version": "int[]",
    "given": "bool[]",
    "denied": "bool[]",
    "review_on": "date[]",
    **dict.fromkeys(
        ("updated", "given_at", "valid_from", "valid_until", "withdrawn_at", "since", "until", "due"), "timestamptz[]"
    ),
}


async def _upsert(pg: Connection, table: str, keys: tuple[str, ...], rows: Sequence[Any]) -> None:
    """One statement for all *rows* (dataclasses of one type, whose fields are columns of *table*)."""
    if not rows:
        return
    columns = [field.name for field in fields(rows[0])]
    arrays = ", ".join(f"%s::{ARRAYS.get(column, 'text[]')}" for column in columns)
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in keys)
    await pg.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}",
        [list(column) for column in zip(*(astuple(row) for row in rows), strict=True)],
    )
