"""What the Today board asks of the database: one ranked list of what needs a coordinator or a coach.

As on the MDT board (`hub.boards`), pages go by keyset and statements are never prepared on the server.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from hub.access import people
from hub.boards import OPEN, PAGE, closed, named, opened
from hub.identity import Actor
from monitoring.overdue import ORDERED, STILL
from monitoring.pauses import PAUSED

# A rule that could not be worked out leaves somebody unwatched, so a person must look. A doubtful reading (operational,
# information) waits on the person's own page.
WAITING = "(f.kind <> 'operational' OR f.severity > 1)"

# Ranks of the Today board, most pressing first.
RED, AMBER, OVERDUE, MISSED, SEEN, DUE, REVIEW, INFORMATION, SNOOZED = range(1, 10)


@dataclass(frozen=True, slots=True)
class TodayRow:
    """One thing to do: `kind` flag, task, missed or review (of limits); `at` since when it waits (a flag opened, a task
    due, a reading last seen, limits to be looked at again; None when there never was a reading)."""

    kind: str
    id: str
    patient_id: str
    rank: int
    at: datetime | None
    severity: int | None
    state: str | None
    summary: str
    reasons: list[dict[str, Any]] | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    level: int | None
    due: datetime | None
    measure: str | None
    every_hours: float | None
    family: str
    given: str
    called: str | None
    birth_date: Any
    nhs_number: str | None


@dataclass(frozen=True, slots=True)
class Today:
    """`counts` per filter over the whole list, not the page; `more` is the cursor of the next page."""

    rows: list[TodayRow]
    counts: dict[str, int]
    more: str | None


# Whose work this is: people in whose team the actor is by name.
_MINE = """
    mine AS MATERIALIZED (
        SELECT DISTINCT a.patient_id FROM access a
        WHERE a.subject = %(me)s AND a.basis = 'team'
          AND (a.since IS NULL OR a.since <= %(now)s) AND (a.until IS NULL OR a.until > %(now)s)
    )"""

_FLAG_COLUMNS = """
    'flag' AS kind, f.id, f.patient_id,
    CASE WHEN f.state = 'snoozed' THEN 9 WHEN f.severity = 1 OR f.state = 'confirming' THEN 8
         WHEN f.kind = 'compliance' THEN 4 WHEN f.state IN ('acknowledged', 'in-progress') THEN 5
         WHEN f.severity = 3 THEN 1 ELSE 2 END AS rank,
    CASE WHEN f.state IN ('confirming', 'snoozed') THEN f.state
         WHEN f.state IN ('acknowledged', 'in-progress') THEN 'seen' WHEN f.kind = 'compliance' THEN 'missed'
         WHEN f.severity = 3 THEN 'red' WHEN f.severity = 2 THEN 'amber' ELSE 'information' END AS chip,
    f.opened AS at, NULL::text AS measure, NULL::real AS every_hours"""

_TASK_COLUMNS = """
    'task', t.id, t.patient_id, CASE WHEN t.due <= %(now)s THEN 3 ELSE 6 END, 'task', t.due, NULL, NULL"""

_TASK_OPEN = "t.status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold')"

# Agreed readings that did not come, as the last check found them (`monitoring.overdue`), unless they came meanwhile. A
# person whose silence is a flag already is not told twice.
_MISSED = f"""
    SELECT 'missed', 'missed-' || l.service_request_id, l.patient_id, 4, 'missed', l.last_at, l.measure, o.every_hours
    FROM {{source}} {ORDERED.format(missed="l")}
    WHERE {{people}} AND {STILL.format(missed="l")}
      AND NOT EXISTS (SELECT 1 FROM flag f WHERE f.patient_id = l.patient_id AND f.{OPEN} AND f.kind = 'compliance')
      AND NOT {PAUSED.format(patient_id="l.patient_id", at="%(now)s", measure="l.measure")}"""

# Personal limits whose day of review is today or past, in London.
_REVIEWS = """
    SELECT 'review', 'review-' || l.service_request_id, l.patient_id, 7, 'review',
           l.review_on::timestamp AT TIME ZONE 'Europe/London', l.measure, NULL
    FROM {source}
    WHERE l.active AND l.review_on < (%(today_ends)s::timestamptz AT TIME ZONE 'Europe/London')::date AND {people}
      AND coalesce(l.low_red, l.low_amber, l.high_amber, l.high_red, l.scale) IS NOT NULL"""

_LIMITS_MINE = {"source": "mine JOIN monitoring_limit l ON l.patient_id = mine.patient_id", "people": "true"}
_LIMITS_HUB = {
    "source": "person JOIN monitoring_limit l ON l.patient_id = person.patient_id",
    "people": "{hub_people} AND {limit_people}",
}

_MISSED_MINE, _MISSED_HUB = (
    {**one, "source": one["source"].replace("monitoring_limit", "missed")} for one in (_LIMITS_MINE, _LIMITS_HUB)
)

_ITEMS_MINE = f"""
    WITH {_MINE}, item AS MATERIALIZED (
        SELECT {_FLAG_COLUMNS} FROM flag f JOIN mine ON mine.patient_id = f.patient_id
        WHERE f.{OPEN} AND {WAITING}
      UNION ALL
        SELECT {_TASK_COLUMNS} FROM task t
        WHERE t.owner = ANY(%(subjects)s) AND {_TASK_OPEN} AND t.due <= %(today_ends)s
          AND t.patient_id IS NOT NULL AND {{task_people}}
      UNION ALL {_MISSED.format(**_MISSED_MINE)}
      UNION ALL {_REVIEWS.format(**_LIMITS_MINE)}
    )"""

_ITEMS_HUB = f"""
    WITH item AS MATERIALIZED (
        SELECT {_FLAG_COLUMNS} FROM flag f
        WHERE f.{OPEN} AND {WAITING} AND {{hub_flags}} AND {{flag_people}}
      UNION ALL
        SELECT {_TASK_COLUMNS} FROM task t
        WHERE {_TASK_OPEN} AND t.due <= %(today_ends)s AND t.patient_id IS NOT NULL
          AND {{hub_tasks}} AND {{task_people}}
      UNION ALL {_MISSED.format(**_MISSED_HUB)}
      UNION ALL {_REVIEWS.format(**_LIMITS_HUB)}
    )"""

# The counts come with the page in one statement, over the same items.
_TODAY = """
    , page AS (
        SELECT * FROM item WHERE {chip} AND {after}
        ORDER BY rank, coalesce(at, '-infinity'), id LIMIT %(limit)s
    )
    SELECT counts.counts, page.kind, page.id, page.patient_id, page.rank, page.at, page.measure, page.every_hours,
           f.severity, coalesce(f.state, missed.kind) AS state, coalesce(f.summary, t.description, '') AS summary,
           f.reasons, f.acknowledged_by, f.acknowledged_at, f.level, f.due,
           person.family, person.given, person.called, person.birth_date, person.nhs_number
    FROM (SELECT coalesce(jsonb_object_agg(chip, n), '{{}}') AS counts
          FROM (SELECT chip, count(*) AS n FROM item GROUP BY chip) AS per_chip) AS counts
    LEFT JOIN page ON true
    LEFT JOIN flag f ON page.kind = 'flag' AND f.id = page.id
    LEFT JOIN missed ON page.kind = 'missed' AND missed.patient_id = page.patient_id AND missed.measure = page.measure
    LEFT JOIN task t ON page.kind = 'task' AND t.id = page.id
    LEFT JOIN person ON person.patient_id = page.patient_id
    ORDER BY page.rank, coalesce(page.at, '-infinity'), page.id"""

CHIPS = ("red", "amber", "task", "missed", "review", "seen", "confirming", "information", "snoozed")


async def today(
    pg: psycopg.AsyncConnection[Any],
    actor: Actor,
    now: datetime,
    today_ends: datetime,
    *,
    scope: str = "mine",
    chip: str | None = None,
    after: str | None = None,
    limit: int = PAGE,
) -> Today:
    """The ranked list of what needs the actor. *scope* mine (people in whose team they are) or hub (everyone there whom
    they may see). *chip* one of CHIPS. *after* is `Today.more` of the page before."""
    flags, tasks, limits = (people(actor, f"{table}.patient_id") for table in "ftl")
    if flags is None or tasks is None or limits is None:
        return Today([], {}, None)
    values: dict[str, Any] = {
        "me": actor.reference,
        "subjects": list(actor.subjects),
        "now": now,
        "today_ends": today_ends,
        "limit": limit + 1,
        "hub": actor.hub_id,
    }
    parts = {
        "flag_people": named(flags.text, flags.params, "flag_people", values),
        "task_people": named(tasks.text, tasks.params, "task_people", values),
        "limit_people": named(limits.text, limits.params, "limit_people", values),
        "hub_people": "person.hub_id = %(hub)s" if actor.hub_id else "true",
        "hub_flags": "f.hub_id = %(hub)s" if actor.hub_id else "true",
        "hub_tasks": "t.hub_id = %(hub)s" if actor.hub_id else "true",
        "chip": "chip = %(chip)s" if chip in CHIPS else "true",
        "after": "true",
    }
    if chip in CHIPS:
        values["chip"] = chip
    if after is not None:
        values["rank"], values["at"], values["id"] = opened(after)[:3]
        parts["after"] = (
            "(rank, coalesce(at, '-infinity'), id)"
            " > (%(rank)s::int, coalesce(%(at)s::timestamptz, '-infinity'), %(id)s::text)"
        )
    items = (_ITEMS_HUB if scope == "hub" else _ITEMS_MINE) + _TODAY
    cursor = pg.cursor(row_factory=dict_row)
    await cursor.execute(items.format(**parts), values, prepare=False)
    found = await cursor.fetchall()
    counts = dict(found[0]["counts"]) if found else {}
    rows = []
    for row in found:
        del row["counts"]
        if row["id"] is not None:
            rows.append(TodayRow(**row))
    more = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        more = closed(last.rank, last.at, last.id)
    return Today(rows, counts, more)


@dataclass(frozen=True, slots=True)
class Caseload:
    people: int
    with_red: int
    reviews_due: int
    no_plan: int


async def caseload(pg: psycopg.AsyncConnection[Any], actor: Actor, now: datetime, review_by: Any) -> Caseload:
    """The actor's own people in numbers: how many, how many with an open red flag, with a plan to review by
    *review_by* (a date), without an active plan."""
    cursor = pg.cursor(row_factory=class_row(Caseload))
    await cursor.execute(
        f"""WITH {_MINE}
        SELECT count(*) AS people,
               count(*) FILTER (WHERE EXISTS (SELECT 1 FROM flag f WHERE f.patient_id = mine.patient_id
                                              AND f.{OPEN} AND f.severity = 3)) AS with_red,
               count(*) FILTER (WHERE plan.review_on <= %(review_by)s) AS reviews_due,
               count(*) FILTER (WHERE plan.id IS NULL) AS no_plan
        FROM mine LEFT JOIN plan ON plan.patient_id = mine.patient_id AND plan.status = 'active'""",
        {"me": actor.reference, "now": now, "review_by": review_by},
        prepare=False,
    )
    found = await cursor.fetchone()
    assert found is not None
    return found


def review_horizon(today: Any) -> Any:
    """Plans to review within two weeks are shown beside the list."""
    return today + timedelta(days=14)
