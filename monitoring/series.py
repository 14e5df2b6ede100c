"""Readings for charts and boards: one statement each, for one person's chart or for a page of people."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from monitoring.measures import MEASURES

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


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest good reading of a measure."""

    measure: str
    at: datetime
    value: float | None
    word: str | None
    observation_id: str

    def show(self) -> str:
        """`91 %`, `newly confused`."""
        measure = MEASURES[self.measure]
        return (
            measure.show(self.value) if self.value is not None else measure.words.get(self.word or "", self.word or "")
        )

    def age(self, now: datetime) -> timedelta:
        return now - self.at


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC) of a sparkline."""

    day: date
    mean: float
    low: float
    high: float


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


async def latest(pg: psycopg.AsyncConnection[Any], patient_ids: Sequence[str]) -> dict[str, dict[str, Latest]]:
    """The newest good reading of each measure, by person and measure."""
    cursor = await pg.execute(
        """SELECT who.id, last.measure, last.at, last.value, last.word, last.observation_id
           FROM unnest(%s::text[]) AS who(id) CROSS JOIN unnest(%s::text[]) AS what(measure)
           CROSS JOIN LATERAL (
               SELECT measure, at, value, word, observation_id FROM reading
               WHERE patient_id = who.id AND measure = what.measure AND quality = 'ok'
               ORDER BY at DESC LIMIT 1) AS last""",
        (list(patient_ids), list(MEASURES)),
    )
    found: dict[str, dict[str, Latest]] = {patient_id: {} for patient_id in patient_ids}
    for patient_id, *row in await cursor.fetchall():
        found[patient_id][row[0]] = Latest(*row)
    return found


async def sparklines(
    pg: psycopg.AsyncConnection[Any], wanted: Sequence[tuple[str, str]], now: datetime, days: int = 14
) -> dict[tuple[str, str], list[Day]]:
    """Daily mean, lowest and highest of the last *days*, oldest first, for each (patient id, measure) of a page."""
    cursor = await pg.execute(
        """SELECT want.patient_id, want.measure, (one.at AT TIME ZONE 'UTC')::date AS day,
                  avg(one.value), min(one.value), max(one.value)
           FROM unnest(%s::text[], %s::text[]) AS want(patient_id, measure)
           JOIN reading one ON one.patient_id = want.patient_id AND one.measure = want.measure
                AND one.at > %s AND one.at <= %s AND one.quality = 'ok' AND one.value IS NOT NULL
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
        ([patient for patient, _ in wanted], [measure for _, measure in wanted], now - timedelta(days=days), now),
    )
    found: dict[tuple[str, str], list[Day]] = {pair: [] for pair in wanted}
    for patient_id, measure, *row in await cursor.fetchall():
        found[patient_id, measure].append(Day(*row))
    return found
