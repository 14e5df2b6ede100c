"""Reports about the hub's work: counts, never a person. Each reader gets those of their own hub."""

import csv
import io
from collections.abc import Iterable
from datetime import date
from typing import Any

import psycopg

from fhir.outcome import Refusal, refuse
from hub.identity import Actor
from hub.roles import ROLES
from monitoring import usefulness
from monitoring.usefulness import Usefulness

FIRST_WEEK, LAST_WEEK = date(2000, 1, 3), date(2199, 12, 31)


async def alerts(pg: psycopg.AsyncConnection[Any], actor: Actor, week: str) -> list[Usefulness]:
    """What became of the alerts of a *week* (`2026-W47`): of the actor's own hub, or of every hub for a role that is
    not bound to one. Refusal 403 without `report.read`, 422 for what is no week."""
    if not actor.can("report.read"):
        raise refuse(403, "forbidden", "Your role does not read reports.")
    try:
        since, until = usefulness.week(week)
    except ValueError as error:
        raise _no_week() from error
    if not FIRST_WEEK <= since.date() <= LAST_WEEK:
        raise _no_week()
    return await usefulness.report(pg, since, until, hubs(actor))


def hubs(actor: Actor) -> list[str] | None:
    """Whose reports *actor* reads: ids of hubs, or None for all."""
    if ROLES[actor.role].everyone:
        return None
    return [actor.hub_id] if actor.hub_id else []


def as_csv(lines: Iterable[Usefulness]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(map(_safe, usefulness.table(lines)))
    return out.getvalue()


def _safe(row: list[str]) -> list[str]:
    """A name may begin like a formula, which spreadsheets would carry out."""
    return [f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in row]


def _no_week() -> Refusal:
    return refuse(422, "value", "A week is written like 2026-W47.", "week")
