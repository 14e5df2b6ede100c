"""Reads for pages. Each takes the condition that limits it to whom the actor may see (`hub.access.people`), on the
column it names; nothing here knows who asks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from care_plans.plan import Plan, goal_ids, with_goals
from care_plans.projections import PlanRow
from care_plans.shapes import JSON
from care_plans.tasks import TaskRow
from care_plans.team import COACH, COORDINATOR, Member
from care_plans.versions import Recorded, Version, goals_of, life
from fhir.store import Sql
from fhir.wire import decode

Connection = psycopg.AsyncConnection[Any]

PLAN_COLUMNS = ", ".join(f"plan.{field.name}" for field in fields(PlanRow))


async def plan_of(pg: Connection, patient_id: str, people: Sql) -> PlanRow | None:
    """The plan to show for a person: the active one, else the one on hold, the draft, or the last that was closed.

    *people* is a condition on `plan.patient_id`. Plans entered in error are never shown.
    """
    async with pg.cursor(row_factory=class_row(PlanRow)) as cursor:
        await cursor.execute(
            f"SELECT {PLAN_COLUMNS} FROM plan WHERE plan.patient_id = %s AND plan.status <> 'entered-in-error'"
            f" AND {people.text}"
            " ORDER BY array_position(ARRAY['active', 'on-hold', 'draft'], plan.status), plan.updated DESC LIMIT 1",
            [patient_id, *people.params],
        )
        return await cursor.fetchone()


async def plans_of(pg: Connection, patient_id: str, people: Sql) -> list[PlanRow]:
    """Every plan that the person ever had, the newest first. *people* is a condition on `plan.patient_id`."""
    async with pg.cursor(row_factory=class_row(PlanRow)) as cursor:
        await cursor.execute(
            f"SELECT {PLAN_COLUMNS} FROM plan WHERE plan.patient_id = %s AND {people.text} ORDER BY plan.updated DESC",
            [patient_id, *people.params],
        )
        return await cursor.fetchall()


async def reviews_due(pg: Connection, until: date, people: Sql, limit: int = 100) -> list[PlanRow]:
    """Active plans whose review is due on or before *until*, the longest overdue first."""
    async with pg.cursor(row_factory=class_row(PlanRow)) as cursor:
        await cursor.execute(
            f"SELECT {PLAN_COLUMNS} FROM plan WHERE plan.status = 'active' AND plan.review_on <= %s AND {people.text}"
            " ORDER BY plan.review_on, plan.id LIMIT %s",
            [until, *people.params, limit],
        )
        return await cursor.fetchall()


async def current(pg: Connection, plan_id: str) -> tuple[Plan, int] | None:
    """The plan as it stands, with its version; None when there is none. The caller has checked that it may be seen."""
    row = await (
        await pg.execute(
            "SELECT version, body FROM resource_version WHERE type = 'CarePlan' AND id = %s"
            " ORDER BY version DESC LIMIT 1",
            [plan_id],
        )
    ).fetchone()
    if row is None or row[1] is None:
        return None
    resource = decode(row[1].encode())
    return with_goals(resource, await goals(pg, goal_ids(resource))), row[0]


async def goals(pg: Connection, ids: Collection[str]) -> list[JSON]:
    """The newest version of each Goal that is not deleted."""
    if not ids:
        return []
    rows = await pg.execute(
        "SELECT v.body FROM r_goal g"
        " JOIN resource_version v ON v.type = 'Goal' AND v.id = g.id AND v.version = g.version"
        " WHERE g.id = ANY(%s)",
        [list(ids)],
    )
    return [decode(row[0].encode()) for row in await rows.fetchall()]


async def versions(pg: Connection, plan_id: str) -> list[Version]:
    """Every version of a plan, oldest first, in two statements. The caller has checked that it may be seen."""
    plans = await _recorded(pg, "CarePlan", [plan_id])
    ids = goals_of(one.resource for one in plans)
    return life([*plans, *(await _recorded(pg, "Goal", ids) if ids else [])])


async def _recorded(pg: Connection, type: str, ids: Sequence[str]) -> list[Recorded]:
    rows = await pg.execute(
        "SELECT id, version, seq, updated, author, body FROM resource_version WHERE type = %s AND id = ANY(%s)",
        [type, list(ids)],
    )
    return [
        Recorded(type, id, version, seq, updated, author, decode(body.encode()) if body is not None else None)
        for id, version, seq, updated, author, body in await rows.fetchall()
    ]


async def team_of(pg: Connection, patient_id: str, people: Sql) -> list[Member]:
    """Everyone who is or was in the person's team; `team.faces` and `team.coordinator` pick those of now.

    *people* is a condition on `team_member.patient_id`.
    """
    async with pg.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            "SELECT care_team_id, member, role_code, patient_id, role, name, since, until FROM team_member"
            f" WHERE team_member.patient_id = %s AND {people.text} ORDER BY since NULLS FIRST, member, role_code",
            [patient_id, *people.params],
        )
        return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class Load:
    """How many people somebody looks after, in one role."""

    member: str
    name: str
    people: int


async def caseloads(pg: Connection, people: Sql, role_codes: Collection[str] = (COORDINATOR, COACH)) -> list[Load]:
    """People per coordinator and coach now, the fullest first. *people* is a condition on `team_member.patient_id`."""
    async with pg.cursor(row_factory=class_row(Load)) as cursor:
        await cursor.execute(
            "SELECT member, max(name) AS name, count(DISTINCT patient_id) AS people FROM team_member"
            " WHERE role_code = ANY(%s) AND (since IS NULL OR since <= now()) AND (until IS NULL OR until > now())"
            f" AND {people.text} GROUP BY member ORDER BY people DESC, member",
            [list(role_codes), *people.params],
        )
        return await cursor.fetchall()


TASK_COLUMNS = ", ".join(f"task.{field.name}" for field in fields(TaskRow))
# Spelled as in the partial indexes of `care_plans.tables`, or they are not used.
OPEN = "task.status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold')"


async def open_tasks(pg: Connection, owners: Collection[str], people: Sql, limit: int = 100) -> list[TaskRow]:
    """Open tasks of any of *owners* (references), the longest overdue first. *people*: on `task.patient_id`."""
    async with pg.cursor(row_factory=class_row(TaskRow)) as cursor:
        await cursor.execute(
            f"SELECT {TASK_COLUMNS} FROM task WHERE task.owner = ANY(%s) AND {OPEN}"
            f" AND (task.patient_id IS NULL OR {people.text}) ORDER BY task.due NULLS LAST, task.id LIMIT %s",
            [list(owners), *people.params, limit],
        )
        return await cursor.fetchall()


async def tasks_of(pg: Connection, patient_id: str, people: Sql, limit: int = 100) -> list[TaskRow]:
    """A person's open tasks, the longest overdue first. *people* is a condition on `task.patient_id`."""
    async with pg.cursor(row_factory=class_row(TaskRow)) as cursor:
        await cursor.execute(
            f"SELECT {TASK_COLUMNS} FROM task WHERE task.patient_id = %s AND {OPEN} AND {people.text}"
            " ORDER BY task.due NULLS LAST, task.id LIMIT %s",
            [patient_id, *people.params, limit],
        )
        return await cursor.fetchall()


async def unapproved_plans(pg: Connection, now: datetime, limit: int = 1000) -> list[str]:
    """Ids of active plans whose approval has ended by itself: no write told the rules, so a schedule asks this."""
    rows = await pg.execute(
        "SELECT plan.id FROM plan WHERE plan.status = 'active' AND NOT coalesce((SELECT approval.given FROM approval"
        " WHERE approval.patient_id = plan.patient_id AND (approval.given OR approval.denied)"
        " AND (valid_from IS NULL OR valid_from <= %(now)s) AND (valid_until IS NULL OR valid_until > %(now)s)"
        " ORDER BY approval.given_at DESC, approval.given LIMIT 1), false) ORDER BY plan.id LIMIT %(limit)s",
        {"now": now, "limit": limit},
    )
    return [row[0] for row in await rows.fetchall()]


async def mark_read(pg: Connection, plan_id: str, reader: str, version: int, at: datetime) -> int | None:
    """Note that *reader* (a reference) saw *version*; the version that they had seen before comes back, if any."""
    row = await (
        await pg.execute(
            "WITH seen AS (SELECT version FROM plan_reader WHERE plan_id = %(plan)s AND reader = %(reader)s),"
            " noted AS (INSERT INTO plan_reader (plan_id, reader, version, at)"
            "  VALUES (%(plan)s, %(reader)s, %(version)s, %(at)s)"
            "  ON CONFLICT (plan_id, reader) DO UPDATE SET version = excluded.version, at = excluded.at"
            "  WHERE plan_reader.version <= excluded.version)"
            " SELECT version FROM seen",
            {"plan": plan_id, "reader": reader, "version": version, "at": at},
        )
    ).fetchone()
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class Reader:
    """A member of the team, with the version of the plan that they saw last (None: not yet)."""

    member: str
    name: str
    version: int | None
    at: datetime | None


async def readers(pg: Connection, plan_id: str, patient_id: str) -> list[Reader]:
    """Which people of the team have read the plan, and in which version; who has not comes first (HAR-04)."""
    async with pg.cursor(row_factory=class_row(Reader)) as cursor:
        await cursor.execute(
            "SELECT member, max(name) AS name, max(plan_reader.version) AS version, max(plan_reader.at) AS at"
            " FROM team_member LEFT JOIN plan_reader ON plan_reader.plan_id = %s AND plan_reader.reader = member"
            " WHERE team_member.patient_id = %s AND member LIKE 'Practitioner/%%'"
            " AND (since IS NULL OR since <= now()) AND (until IS NULL OR until > now())"
            " GROUP BY member ORDER BY max(plan_reader.version) NULLS FIRST, name",
            [plan_id, patient_id],
        )
        return await cursor.fetchall()
