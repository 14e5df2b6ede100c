"""Readings for a chart, in one statement however long the time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

MOST_POINTS = 500
"""More than a chart can show side by side; a longer series is summed up by equal spans of time."""


@dataclass(frozen=True, slots=True)
class Point:
    """A reading, or a span of several (`count` > 1): mean, lowest and highest. `quality` as in `Reading`.

    Doubtful and wrong readings are always points of their own, so that a chart can mark them.
    """

    at: datetime
    value: float | None
    word: str | None
    low: float | None
    high: float | None
    count: int
    quality: str
    why: str | None
    given: str | None
    observation_id: str | None
    device_id: str | None


async def series(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measure: str,
    since: datetime,
    until: datetime,
    points: int = MOST_POINTS,
) -> list[Point]:
    """Readings of *measure* from *since* to before *until*, oldest first; beyond *points* good ones, spans of them."""
    span = max((until - since) / max(points, 1), timedelta(seconds=1))
    cursor = await pg.execute(
        """WITH one AS MATERIALIZED (
               SELECT at, value, word, quality, why, given, observation_id, device_id FROM reading
               WHERE patient_id = %(patient)s AND measure = %(measure)s AND at >= %(since)s AND at < %(until)s
           ), many AS (SELECT count(*) > %(points)s AS yes FROM one WHERE quality = 'ok' AND value IS NOT NULL)
           SELECT at, value, word, value, value, 1, quality, why, given, observation_id, device_id FROM one, many
           WHERE NOT yes OR quality <> 'ok' OR value IS NULL
           UNION ALL
           SELECT min(at), avg(value), NULL, min(value), max(value), count(*)::int, 'ok', NULL,
                  CASE WHEN count(*) = 1 THEN min(given) END,
                  CASE WHEN count(*) = 1 THEN min(observation_id) END,
                  CASE WHEN count(*) = 1 THEN min(device_id) END
           FROM one, many WHERE yes AND quality = 'ok' AND value IS NOT NULL
           GROUP BY date_bin(%(span)s, at, %(since)s)
           ORDER BY 1""",
        {"patient": patient_id, "measure": measure, "since": since, "until": until, "points": points, "span": span},
    )
    return [Point(*row) for row in await cursor.fetchall()]
