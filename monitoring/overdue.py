"""Who missed what: one statement over every order that asks for readings, however many people there are.

Overdue is what was not measured since the last window closed two hours ago, or within one and a half intervals. A day
is one of Europe/London. What is found stands in the table `missed`, which lists and pages read: one truth.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import psycopg

from monitoring import schedules
from monitoring.pauses import PAUSED
from monitoring.schedules import LONDON, OVERDUE


@dataclass(frozen=True, slots=True)
class Found:
    """What a check changed: how many rows of `missed` there are now, and how many came and went."""

    missed: int
    came: int
    went: int


_PAUSED = PAUSED.format(patient_id="told.patient_id", at="%(now)s", measure="told.measure")

# Nobody is to be reminded, or called, because of a record of somebody who has died.
_GONE = (
    "EXISTS (SELECT 1 FROM r_patient p WHERE p.id = told.patient_id"
    " AND p.keys && ARRAY['deceased=true', 'active=false'])"
)

# `heard` is the last that counts: a reading, or the day on which asking began. Silent: nothing at all came of what the
# person was asked for, since the first of it that is overdue.
_CHECK = f"""
WITH due AS (
    SELECT * FROM unnest(%(windows)s::text[], %(since)s::timestamptz[], %(two)s::timestamptz[])
        AS one (windows, since, two)
), asked AS MATERIALIZED (
    SELECT l.service_request_id, l.patient_id, l.measure, last.at,
           coalesce(greatest(last.at, l.starts), '-infinity') AS heard,
           CASE WHEN l.windows <> '' THEN due.since
                ELSE %(now)s - l.every_hours * {OVERDUE} * interval '1 hour' END AS since,
           CASE WHEN l.windows <> '' THEN due.two
                ELSE least(%(two_days)s, %(now)s - l.every_hours * 2 * interval '1 hour') END AS two
    FROM monitoring_limit l
    LEFT JOIN due ON due.windows = l.windows
    LEFT JOIN LATERAL (
        SELECT r.at FROM reading r
        WHERE r.patient_id = l.patient_id AND r.measure = l.measure AND r.quality IN ('ok', 'check')
        ORDER BY r.at DESC LIMIT 1
    ) last ON true
    WHERE l.active AND l.every_hours IS NOT NULL AND (l.ends IS NULL OR l.ends > %(now)s)
), told AS (
    SELECT *, coalesce(max(heard) OVER person, '-infinity') AS anything,
           min(since) FILTER (WHERE heard < since) OVER person AS first
    FROM asked WINDOW person AS (PARTITION BY patient_id)
), overdue AS MATERIALIZED (
    SELECT patient_id, measure, service_request_id, at, coalesce(heard < two, false) AS two_days,
           CASE WHEN anything < first THEN 'silent' ELSE 'missed' END AS kind
    FROM told WHERE heard < since AND NOT {_PAUSED} AND NOT {_GONE}
), went AS (
    DELETE FROM missed WHERE NOT EXISTS (
        SELECT 1 FROM overdue o WHERE o.patient_id = missed.patient_id AND o.measure = missed.measure)
    RETURNING 1
), came AS (
    INSERT INTO missed AS known (patient_id, measure, service_request_id, kind, found, last_at, two_days)
    SELECT patient_id, measure, service_request_id, kind, %(now)s, at, two_days FROM overdue
    ON CONFLICT (patient_id, measure) DO UPDATE SET
        (service_request_id, kind, last_at, two_days) =
        (excluded.service_request_id, excluded.kind, excluded.last_at, excluded.two_days)
    WHERE (known.service_request_id, known.kind, known.last_at, known.two_days) IS DISTINCT FROM
          (excluded.service_request_id, excluded.kind, excluded.last_at, excluded.two_days)
    RETURNING found
)
SELECT (SELECT count(*) FROM overdue), (SELECT count(*) FROM came WHERE found = %(now)s), (SELECT count(*) FROM went)
"""


async def check(pg: psycopg.AsyncConnection[Any], now: datetime) -> Found:
    """Bring `missed` up to date. Done twice at one moment, the second changes nothing."""
    rows = await pg.execute("SELECT DISTINCT windows FROM monitoring_limit WHERE active AND windows <> ''")
    due = {text: schedules.due(schedules.of(None, text), now) for (text,) in await rows.fetchall()}
    known = {text: one for text, one in due.items() if one is not None}
    midnight = datetime.combine(now.astimezone(LONDON).date(), time(), LONDON)
    two_days = datetime.combine(midnight.date() - timedelta(days=2), time(), LONDON).astimezone(UTC)
    values = {
        "now": now,
        "two_days": two_days,
        "windows": list(known),
        "since": [one.since for one in known.values()],
        "two": [one.two for one in known.values()],
    }
    found = await (await pg.execute(_CHECK, values, prepare=False)).fetchone()
    assert found is not None
    return Found(*found)


STILL = (
    "NOT EXISTS (SELECT 1 FROM reading r WHERE r.patient_id = {missed}.patient_id AND r.measure = {missed}.measure"
    " AND r.quality IN ('ok', 'check') AND r.at > coalesce({missed}.last_at, '-infinity'))"
)
ORDERED = (
    "JOIN monitoring_limit o ON o.service_request_id = {missed}.service_request_id AND o.active"
    " AND o.every_hours IS NOT NULL"
)
"""SQL for lists of rows of `missed`: their orders `o`, and whether they still stand, since the check is some minutes
old: nothing came meanwhile, and it is asked for yet. `.format(missed=alias)`."""
