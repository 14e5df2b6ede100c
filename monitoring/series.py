"""Readings for charts: all measures of a person in one statement, and never more than a chart can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from monitoring.measures import MEASURES

LONDON = ZoneInfo("Europe/London")

MOST_POINTS = 500
"""A longer series is summed up by spans of time: a chart of 700 pixels shows no more side by side."""

MOST_SPANS = 366
"""Two pixels a span on a desk, one on a phone; a year is one span a day."""

MOST_DOUBTFUL = 200
"""Doubtful and wrong readings of a long series that are shown one by one, the newest."""

_MINUTES = (1, 5, 10, 15, 30, 60, 120, 240, 480, 720)
_DAYS = (1, 2, 7, 14, 28, 56, 112)


@dataclass(frozen=True, slots=True)
class Point:
    """A reading, or a span of several (`count` > 1): mean, lowest and highest of those from `at` to `until`.

    `quality` as in `Reading`. Doubtful and wrong readings are always points of their own, so that a chart marks them.
    """

    at: datetime
    until: datetime
    value: float | None
    low: float | None
    high: float | None
    count: int
    word: str | None
    quality: str
    why: str | None
    given: str | None
    observation_id: str | None
    device_id: str | None

    @property
    def good(self) -> bool:
        """Whether it is a number that nobody doubts."""
        return self.quality == "ok" and self.value is not None

    @property
    def middle(self) -> datetime:
        return self.at + (self.until - self.at) / 2

    @property
    def between(self) -> timedelta | None:
        """How far apart the readings of a span are, on average."""
        return (self.until - self.at) / (self.count - 1) if self.count > 1 else None


_READING = """SELECT at, at, value, value, value, 1, word, quality, why, given, observation_id, device_id
    FROM reading WHERE patient_id = %(patient)s AND measure = w.measure AND at >= %(since)s AND at < %(until)s"""

# Each arm is gated by a column of `w`, so that only what a measure needs is looked at. Counting, summing up and finding
# doubtful readings ask for nothing but the columns of the index `reading_window`: no arm reads a year from the table.
_SERIES = f"""
WITH wanted AS MATERIALIZED (
    SELECT w.measure, w.words,
           (SELECT count(*) FROM (SELECT 1 FROM reading WHERE patient_id = %(patient)s AND measure = w.measure
                                  AND at >= %(since)s AND at < %(until)s LIMIT %(points)s + 1) AS counted) > %(points)s AS many
    FROM unnest(%(measures)s::text[], %(words)s::bool[]) AS w(measure, words)
)
SELECT w.measure, p.* FROM wanted w CROSS JOIN LATERAL (
    SELECT * FROM ({_READING} AND (NOT w.many OR w.words) ORDER BY reading.at DESC LIMIT %(points)s) AS single
    UNION ALL
    SELECT min(at), max(at), avg(value), min(value), max(value), count(*)::int, NULL, 'ok', NULL, NULL, NULL, NULL
    FROM reading WHERE w.many AND NOT w.words AND patient_id = %(patient)s AND measure = w.measure
      AND at >= %(since)s AND at < %(until)s AND quality = 'ok' AND value IS NOT NULL
    GROUP BY width_bucket(at, %(edges)s::timestamptz[])
    UNION ALL
    {_READING} AND quality <> 'ok' AND reading.at = ANY (ARRAY(
        SELECT at FROM reading WHERE w.many AND NOT w.words AND patient_id = %(patient)s AND measure = w.measure
          AND at >= %(since)s AND at < %(until)s AND quality <> 'ok' ORDER BY at DESC LIMIT {MOST_DOUBTFUL}))
) AS p
ORDER BY 1, 2"""  # noqa: E501


async def series(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measures: Sequence[str],
    since: datetime,
    until: datetime,
    points: int = MOST_POINTS,
) -> dict[str, list[Point]]:
    """Readings of each of *measures* from *since* to before *until*, oldest first.

    Beyond *points* of one measure, spans of them instead (`edges`); of a measure of words, the newest."""
    found: dict[str, list[Point]] = {measure: [] for measure in measures}
    cursor = await pg.execute(
        _SERIES,
        {
            "patient": patient_id,
            "measures": list(measures),
            "words": [bool(MEASURES[measure].answers) for measure in measures],
            "since": since,
            "until": until,
            "points": points,
            "edges": edges(since, until, min(points, MOST_SPANS)),
        },
        prepare=False,
    )
    async for measure, *rest in cursor:
        found[measure].append(Point(*rest))
    return found


async def one_by_one(
    pg: psycopg.AsyncConnection[Any],
    patient_id: str,
    measures: Sequence[str],
    since: datetime,
    until: datetime,
    after: tuple[datetime, str] | None,
    most: int,
) -> list[tuple[str, Point]]:
    """Every reading of *measures*, newest first, at most *most*: (measure, point).

    *after* is instant and Observation of the last one that was shown.
    """
    cursor = await pg.execute(
        "SELECT measure, at, at, value, value, value, 1, word, quality, why, given, observation_id, device_id"
        " FROM reading WHERE patient_id = %(patient)s AND measure = ANY(%(measures)s)"
        " AND at >= %(since)s AND at < %(until)s"
        " AND (%(at)s::timestamptz IS NULL OR (at, observation_id) < (%(at)s, %(id)s))"
        " ORDER BY at DESC, observation_id DESC, array_position(%(measures)s, measure) LIMIT %(most)s",
        {
            "patient": patient_id,
            "measures": list(measures),
            "since": since,
            "until": until if after is None else min(until, after[0] + timedelta(microseconds=1)),
            "at": after[0] if after else None,
            "id": after[1] if after else None,
            "most": most,
        },
        prepare=False,
    )
    return [(measure, Point(*rest)) async for measure, *rest in cursor]


def edges(since: datetime, until: datetime, most: int = MOST_SPANS) -> list[datetime]:
    """Where spans begin: the shortest of a fixed choice of spans that gives at most *most* from *since* to *until*.

    Days and weeks are those of Europe/London, so a day has 23 or 25 hours when the clocks change. Shorter spans count
    from the midnight before *since*.
    """
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    midnight = datetime.combine(since.astimezone(LONDON).date(), time(), LONDON)
    for minutes in _MINUTES:
        span = timedelta(minutes=minutes)
        if (until - since) / span <= most:
            first = since - (since - midnight) % span
            return [first + number * span for number in range(int((until - first) / span) + 1)]
    days = next((days for days in _DAYS if (until - since) / timedelta(days=days) <= most), _DAYS[-1])
    whole = (until.astimezone(LONDON).date() - midnight.date()).days
    return [
        datetime.combine(midnight.date() + timedelta(days=number), time(), LONDON)
        for number in range(0, whole + 1, days)
    ]


def runs(points: Sequence[Point], asked: timedelta | None) -> list[list[Point]]:
    """Good points, oldest first, in runs: a line joins those of one run, and nothing joins two.

    Two points are in one run when they lie no further apart than half as much again as is expected: as *asked* (the
    interval of the order), or as usual in these points where that is shorter. So a gap is never drawn over.
    """
    expected = _expected(points, asked)
    found: list[list[Point]] = []
    for point in points:
        if found and expected is not None and point.at - found[-1][-1].until <= expected * GRACE:
            found[-1].append(point)
        else:
            found.append([point])
    return found


NIGHT = timedelta(hours=10)
"""Asked for several times a day, nobody measures at night: so long without a reading is no gap. Ours."""

GRACE = 1.5
"""As for readings that are missed (monitoring rules, engine step 7)."""


def _expected(points: Sequence[Point], asked: timedelta | None) -> timedelta | None:
    inside = [one for point in points if (one := point.between) is not None]
    gaps = sorted([*inside, *(later.at - earlier.until for earlier, later in pairwise(points))])
    # Two readings a minute apart, morning and evening, are one gap of a minute for each of twelve hours: the upper
    # quartile is the twelve hours.
    usual = gaps[len(gaps) * 3 // 4] if gaps else None
    known = [one for one in (asked and max(asked, NIGHT), usual) if one is not None]
    return min(known) if known else None
