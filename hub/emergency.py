"""Break-glass: opening a record outside one's care, for a reason, for a few hours, in sight of everybody concerned."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from fhir.outcome import refuse
from fhir.store import new_id
from hub import audit, notices
from hub.access import Grant, project_access
from hub.db import Tx
from hub.identity import Actor

HOURS = 4
SHORTEST_REASON = 10


async def grant_emergency(tx: Tx, actor: Actor, patient_id: str, reason: str) -> datetime:
    """Open one person's record to *actor* alone for `HOURS`, and give the end of it.

    The reason is kept for those who look into it, the opening stands in the trail, and the person is told. Raises
    Refusal 403 (not allowed to), 404 (no such person) or 422 (no reason worth the name).
    """
    if not actor.can("emergency.access"):
        raise refuse(403, "forbidden", "Your role may not open records outside your care.")
    reason = " ".join(reason.split())
    if len(reason) < SHORTEST_REASON:
        raise refuse(422, "required", f"Say why, in at least {SHORTEST_REASON} letters.", "reason")
    now = datetime.now(UTC)
    until, ident = now + timedelta(hours=HOURS), new_id()
    opened = await tx.pg.execute(
        "INSERT INTO emergency_access (id, actor, actor_name, patient_id, reason, at, until)"
        " SELECT %s, %s, %s, patient_id, %s, %s, %s FROM person WHERE patient_id = %s",
        (ident, actor.reference, actor.name, reason, now, until, patient_id),
    )
    if opened.rowcount == 0:
        raise refuse(404, "not-found", "There is no such person.")
    grant = Grant(actor.reference, patient_id, "emergency", until=until)
    await project_access(tx.pg, {f"Emergency/{ident}": [grant]})
    told = f"{actor.name} opened your record in an emergency"
    notice = notices.Notice("emergency-access", patient_id, f"Patient/{patient_id}", told, "/me/looked")
    await notices.put(tx.pg, [notice])
    await audit.record(tx.pg, [audit.entry(actor, "emergency-access", "Patient", patient_id, patient_id)])
    return until


@dataclass(frozen=True, slots=True)
class Emergency:
    id: str
    actor: str
    actor_name: str
    patient_id: str
    reason: str
    at: datetime
    until: datetime
    reviewed_by: str | None
    reviewed_at: datetime | None


async def emergencies(pg: psycopg.AsyncConnection[Any], unreviewed: bool = True, limit: int = 100) -> list[Emergency]:
    """Records that were opened outside the care relationship, newest first, for whoever `can("emergency.review")`."""
    rows = await pg.execute(
        "SELECT id, actor, actor_name, patient_id, reason, at, until, reviewed_by, reviewed_at FROM emergency_access"
        " WHERE reviewed_at IS NULL OR NOT %s ORDER BY at DESC LIMIT %s",
        (unreviewed, limit),
    )
    return [Emergency(*row) for row in await rows.fetchall()]


async def review_emergency(tx: Tx, actor: Actor, ident: str) -> None:
    """Note that somebody looked into it. Nobody reviews their own. Raises Refusal 403 or 404."""
    if not actor.can("emergency.review"):
        raise refuse(403, "forbidden", "Your role may not review emergency openings.")
    row = await (
        await tx.pg.execute(
            "UPDATE emergency_access SET reviewed_by = %s, reviewed_at = now()"
            " WHERE id = %s AND reviewed_at IS NULL AND actor <> %s RETURNING patient_id",
            (actor.reference, ident, actor.reference),
        )
    ).fetchone()
    if row is None:
        raise refuse(404, "not-found", "There is no such opening that you could review.")
    await audit.record(tx.pg, [audit.entry(actor, "emergency-review", "Patient", row[0], row[0])])
