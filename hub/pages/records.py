"""What the pages read of a person: flags, tasks, the plan with its goals, and whose names stand beside them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from care_plans import queries
from care_plans.plan import Plan
from fhir import store
from fhir.outcome import refuse
from fhir.store import Sql
from hub.access import people
from hub.identity import Actor
from monitoring.extents import Extent
from monitoring.states import Move
from monitoring.tables import LIVE


@dataclass(frozen=True, slots=True)
class FlagRow:
    """A row of the table `flag`, as pages show it."""

    id: str
    version: int
    patient_id: str
    rule: str
    rule_version: int
    kind: str
    severity: int
    state: str
    summary: str
    reasons: list[dict[str, Any]]
    extents: list[Extent]
    count: int
    opened: datetime
    refreshed: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    acknowledged_why: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    resolved_why: str | None
    moves: list[Move] = field(default_factory=list)
    level: int = 0
    due: datetime | None = None
    outcome: str | None = None


_FLAG = (
    "id, version, patient_id, rule, rule_version, kind, severity, state, summary, reasons, extents, count, opened,"
    " refreshed, acknowledged_by, acknowledged_at, acknowledged_why, resolved_by, resolved_at, resolved_why, moves,"
    " level, due, outcome"
)


async def open_flags(pg: psycopg.AsyncConnection[Any], patient_id: str) -> list[FlagRow]:
    """Those that wait, most severe first, doubtful readings and rules that failed among them. The caller has made sure
    that the actor may see the person."""
    cursor = pg.cursor(row_factory=class_row(FlagRow))
    await cursor.execute(
        f"SELECT {_FLAG} FROM flag WHERE patient_id = %s AND {LIVE} ORDER BY severity DESC, opened, id",
        (patient_id,),
    )
    return await cursor.fetchall()


async def flag(pg: psycopg.AsyncConnection[Any], actor: Actor, flag_id: str) -> FlagRow:
    """One flag about a person whom the actor may see. Raises Refusal 404."""
    allowed = people(actor, "flag.patient_id")
    if allowed is not None:
        cursor = pg.cursor(row_factory=class_row(FlagRow))
        await cursor.execute(f"SELECT {_FLAG} FROM flag WHERE id = %s AND {allowed.text}", (flag_id, *allowed.params))
        found = await cursor.fetchone()
        if found is not None:
            return found
    raise refuse(404, "not-found", "There is no such flag among those of people in your care.")


@dataclass(frozen=True, slots=True)
class Kept:
    """The person's plan as stored: the words, and the version that an edit is checked against."""

    plan: Plan
    version: int
    updated: datetime
    author: str


async def current_plan(pg: psycopg.AsyncConnection[Any], actor: Actor, patient_id: str) -> Kept | None:
    """The plan to show: the active one, else the one on hold, the draft, the last that was closed; None without any."""
    allowed = people(actor, "plan.patient_id")
    row = await queries.plan_of(pg, patient_id, Sql(*allowed)) if allowed else None
    found = await queries.current(pg, row.id) if row else None
    return Kept(found[0], found[1], row.updated, row.author) if row and found else None


@dataclass(frozen=True, slots=True)
class Hub:
    """How a hub is reached, as patients read it."""

    name: str
    phone: str | None


async def hub_of(pg: psycopg.AsyncConnection[Any], hub_id: str | None) -> Hub:
    stored = (await store.load(pg, [("Organization", hub_id)])).get(("Organization", hub_id)) if hub_id else None
    resource = (stored.resource if stored else None) or {}
    phones = (point.get("value") for point in resource.get("telecom", ()) if point.get("system") == "phone")
    return Hub(resource.get("name") or "your hub", next(phones, None))


async def approved(pg: psycopg.AsyncConnection[Any], patient_id: str, now: datetime) -> bool:
    """Whether an approval stands now: the latest decision that does counts."""
    row = await (
        await pg.execute(
            "SELECT given FROM approval WHERE patient_id = %s AND (given OR denied)"
            " AND (valid_from IS NULL OR valid_from <= %s) AND (valid_until IS NULL OR valid_until > %s)"
            " ORDER BY given_at DESC, denied DESC LIMIT 1",
            (patient_id, now, now),
        )
    ).fetchone()
    return bool(row and row[0])
