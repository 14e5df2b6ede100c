"""What the Today and MDT boards ask of the database: few statements, ranked, limited to whom the actor may see.

Both boards page by keyset, so a row that is resolved meanwhile neither hides nor repeats another. Their statements are
never prepared on the server: after ten runs PostgreSQL would settle on one plan for every hub and caseload, which was
four times slower with 110,000 people.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row, dict_row

from fhir.outcome import refuse
from hub.access import people
from hub.identity import Actor

PAGE = 50
MOST = 1_000_000  # rows that anybody pages through
OPEN = "state IN ('open', 'acknowledged')"
# A rule that could not be worked out leaves somebody unwatched, so a person must look. A doubtful reading (operational,
# information) waits on the person's own page.
WAITING = "(f.kind <> 'operational' OR f.severity > 1)"

# A reading counts as missed when half an interval more than agreed has passed (monitoring rules, engine step 7).
GRACE = 1.5

# Ranks of the Today board, most pressing first.
RED, AMBER, OVERDUE, MISSED, SEEN, DUE, REVIEW, INFORMATION = range(1, 9)


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
    measure: str | None
    every_hours: float | None
    family: str
    given: str
    called: str | None
    birth_date: Any
    nhs_number: str | None


@dataclass(frozen=True, slots=True)
class MdtRow:
    """A person by their gravest open flag; `others` are the rest, as {id, severity, summary}, or None."""

    id: str
    patient_id: str
    rule: str
    severity: int
    state: str
    summary: str
    reasons: list[dict[str, Any]]
    count: int
    opened: datetime
    refreshed: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    others: list[dict[str, Any]] | None
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


@dataclass(frozen=True, slots=True)
class Mdt:
    """As Today; `first` is the rank of the first row."""

    rows: list[MdtRow]
    counts: dict[str, int]
    more: str | None
    first: int


@dataclass(frozen=True, slots=True)
class Trend:
    """One measure of one person: instants in seconds since 1970, oldest first, with the person's own limits and
    SpO2 scale."""

    at: list[float]
    value: list[float]
    low_red: float | None
    low_amber: float | None
    high_amber: float | None
    high_red: float | None
    scale: int | None = None


# -- Today -------------------------------------------------------------------------------------------------------------

# Whose work this is: people in whose team the actor is by name.
_MINE = """
    mine AS MATERIALIZED (
        SELECT DISTINCT a.patient_id FROM access a
        WHERE a.subject = %(me)s AND a.basis = 'team'
          AND (a.since IS NULL OR a.since <= %(now)s) AND (a.until IS NULL OR a.until > %(now)s)
    )"""

_FLAG_COLUMNS = """
    'flag' AS kind, f.id, f.patient_id,
    CASE WHEN f.severity = 1 THEN 8 WHEN f.kind = 'compliance' THEN 4 WHEN f.state = 'acknowledged' THEN 5
         WHEN f.severity = 3 THEN 1 ELSE 2 END AS rank,
    CASE WHEN f.state = 'acknowledged' THEN 'seen' WHEN f.kind = 'compliance' THEN 'missed'
         WHEN f.severity = 3 THEN 'red' WHEN f.severity = 2 THEN 'amber' ELSE 'information' END AS chip,
    f.opened AS at, NULL::text AS measure, NULL::real AS every_hours"""

_TASK_COLUMNS = """
    'task', t.id, t.patient_id, CASE WHEN t.due <= %(now)s THEN 3 ELSE 6 END, 'task', t.due, NULL, NULL"""

_TASK_OPEN = "t.status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold')"

# Agreed readings that did not come, of orders `l`. A person whose silence is a flag already is not told twice.
_MISSED = f"""
    SELECT 'missed', 'missed-' || l.service_request_id, l.patient_id, 4, 'missed', last.at, l.measure, l.every_hours
    FROM {{source}} LEFT JOIN LATERAL (
        SELECT r.at FROM reading r
        WHERE r.patient_id = l.patient_id AND r.measure = l.measure AND r.quality IN ('ok', 'check')
        ORDER BY r.at DESC LIMIT 1
    ) last ON true
    WHERE l.active AND l.every_hours IS NOT NULL AND {{people}}
      AND (last.at IS NULL OR last.at < %(now)s - l.every_hours * {GRACE} * interval '1 hour')
      AND NOT EXISTS (SELECT 1 FROM flag f WHERE f.patient_id = l.patient_id AND f.{OPEN} AND f.kind = 'compliance')"""

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

_ITEMS_MINE = f"""
    WITH {_MINE}, item AS MATERIALIZED (
        SELECT {_FLAG_COLUMNS} FROM flag f JOIN mine ON mine.patient_id = f.patient_id
        WHERE f.{OPEN} AND {WAITING}
      UNION ALL
        SELECT {_TASK_COLUMNS} FROM task t
        WHERE t.owner = ANY(%(subjects)s) AND {_TASK_OPEN} AND t.due <= %(today_ends)s
          AND t.patient_id IS NOT NULL AND {{task_people}}
      UNION ALL {_MISSED.format(**_LIMITS_MINE)}
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
      UNION ALL {_MISSED.format(**_LIMITS_HUB)}
      UNION ALL {_REVIEWS.format(**_LIMITS_HUB)}
    )"""

# The counts come with the page in one statement, over the same items.
_TODAY = """
    , page AS (
        SELECT * FROM item WHERE {chip} AND {after}
        ORDER BY rank, coalesce(at, '-infinity'), id LIMIT %(limit)s
    )
    SELECT counts.counts, page.kind, page.id, page.patient_id, page.rank, page.at, page.measure, page.every_hours,
           f.severity, f.state, coalesce(f.summary, t.description, '') AS summary, f.reasons,
           f.acknowledged_by, f.acknowledged_at,
           person.family, person.given, person.called, person.birth_date, person.nhs_number
    FROM (SELECT coalesce(jsonb_object_agg(chip, n), '{{}}') AS counts
          FROM (SELECT chip, count(*) AS n FROM item GROUP BY chip) AS per_chip) AS counts
    LEFT JOIN page ON true
    LEFT JOIN flag f ON page.kind = 'flag' AND f.id = page.id
    LEFT JOIN task t ON page.kind = 'task' AND t.id = page.id
    LEFT JOIN person ON person.patient_id = page.patient_id
    ORDER BY page.rank, coalesce(page.at, '-infinity'), page.id"""

CHIPS = ("red", "amber", "task", "missed", "review", "seen", "information")


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
        "flag_people": _named(flags.text, flags.params, "flag_people", values),
        "task_people": _named(tasks.text, tasks.params, "task_people", values),
        "limit_people": _named(limits.text, limits.params, "limit_people", values),
        "hub_people": "person.hub_id = %(hub)s" if actor.hub_id else "true",
        "hub_flags": "f.hub_id = %(hub)s" if actor.hub_id else "true",
        "hub_tasks": "t.hub_id = %(hub)s" if actor.hub_id else "true",
        "chip": "chip = %(chip)s" if chip in CHIPS else "true",
        "after": "true",
    }
    if chip in CHIPS:
        values["chip"] = chip
    if after is not None:
        values["rank"], values["at"], values["id"] = _opened(after)[:3]
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
        more = _closed(last.rank, last.at, last.id)
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


# -- MDT ---------------------------------------------------------------------------------------------------------------

_MDT_WHERE = f"f.{OPEN} AND f.kind = 'clinical' AND {{hub}} AND {{people}}"

# What a filter holds, of each person's gravest flag; `acknowledged` is true when somebody has seen all of them.
_MDT_CHIPS = {
    "red": "severity = 3",
    "amber": "severity = 2",
    "open": "NOT acknowledged",
    "seen": "acknowledged",
}

_MDT_COUNTS = ", ".join(f"count(*) FILTER (WHERE {one}) AS n_{chip}" for chip, one in _MDT_CHIPS.items())

# A meeting discusses people, so the board ranks people: each by their gravest flag, the others beside it.
_MDT = f"""
    WITH found AS MATERIALIZED (
        SELECT f.id, f.patient_id, f.severity, f.state, f.opened FROM flag f WHERE {{where}}
    ), gravest AS MATERIALIZED (
        SELECT DISTINCT ON (patient_id) id, patient_id, severity, opened,
               bool_and(state = 'acknowledged') OVER (PARTITION BY patient_id) AS acknowledged
        FROM found ORDER BY patient_id, severity DESC, opened, id
    ), page AS (
        SELECT * FROM gravest WHERE {{chip}} AND {{after}} ORDER BY severity DESC, opened, id LIMIT %(limit)s
    )
    SELECT counts.*, f.id, f.patient_id, f.rule, f.severity, f.state, f.summary, f.reasons, f.count, f.opened,
           f.refreshed, f.acknowledged_by, f.acknowledged_at, others.others,
           person.family, person.given, person.called, person.birth_date, person.nhs_number
    FROM (SELECT count(*) AS n_all,
                 {_MDT_COUNTS}
          FROM gravest) AS counts
    LEFT JOIN page ON true
    LEFT JOIN flag f ON f.id = page.id
    LEFT JOIN person ON person.patient_id = page.patient_id
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object('id', o.id, 'severity', o.severity, 'summary', o.summary)
                         ORDER BY o.severity DESC, o.opened, o.id) AS others
        FROM flag o WHERE o.patient_id = page.patient_id AND o.id <> page.id AND o.{OPEN} AND o.kind = 'clinical'
    ) AS others ON page.id IS NOT NULL
    ORDER BY page.severity DESC, page.opened, page.id"""


async def mdt(
    pg: psycopg.AsyncConnection[Any],
    actor: Actor,
    *,
    chip: str | None = None,
    after: str | None = None,
    limit: int = PAGE,
) -> Mdt:
    """People of the actor's hub with open clinical flags, whom they may see: gravest first, then longest waiting.

    One row a person. *chip* one of the keys of `Mdt.counts` but `all`; counts are people.
    """
    allowed = people(actor, "f.patient_id")
    if allowed is None:
        return Mdt([], {}, None, 1)
    values: dict[str, Any] = {"hub": actor.hub_id, "limit": limit + 1}
    where = _MDT_WHERE.format(
        hub="f.hub_id = %(hub)s" if actor.hub_id else "true",
        people=_named(allowed.text, allowed.params, "people", values),
    )
    seen, further = 0, "true"
    if after is not None:
        severity, opened, flag_id, *before = _opened(after)
        seen = before[0] if before else 0
        values.update(severity=severity, opened=opened, id=flag_id)
        further = (
            "(severity < %(severity)s"
            " OR (severity = %(severity)s AND (opened, id) > (%(opened)s::timestamptz, %(id)s::text)))"
        )
    cursor = pg.cursor(row_factory=dict_row)
    statement = _MDT.format(where=where, chip=_MDT_CHIPS.get(chip or "", "true"), after=further)
    await cursor.execute(statement, values, prepare=False)
    found = await cursor.fetchall()
    counts = {name: found[0][f"n_{name}"] for name in ("all", *_MDT_CHIPS)}
    rows = [
        MdtRow(**{key: value for key, value in row.items() if not key.startswith("n_")})
        for row in found
        if row["id"] is not None
    ]
    more = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        more = _closed(last.severity, last.opened, last.id, seen + limit)
    return Mdt(rows, counts, more, seen + 1)


async def trends(
    pg: psycopg.AsyncConnection[Any], wanted: list[tuple[str, str]], since: datetime
) -> dict[tuple[str, str], Trend]:
    """Readings of each (person, measure) since *since*, with their limits: one statement for a whole board."""
    if not wanted:
        return {}
    rows = await pg.execute(
        """SELECT w.patient_id, w.measure, series.at, series.value,
                  l.low_red, l.low_amber, l.high_amber, l.high_red, l.scale
           FROM unnest(%s::text[], %s::text[]) AS w (patient_id, measure)
           CROSS JOIN LATERAL (
               SELECT array_agg(extract(epoch FROM recent.at)::float8 ORDER BY recent.at) AS at,
                      array_agg(recent.value ORDER BY recent.at) AS value
               FROM (SELECT r.at, r.value FROM reading r
                     WHERE r.patient_id = w.patient_id AND r.measure = w.measure AND r.at >= %s
                       AND r.quality = 'ok' AND r.value IS NOT NULL
                     ORDER BY r.at DESC LIMIT 200) AS recent
           ) AS series
           LEFT JOIN monitoring_limit l ON l.patient_id = w.patient_id AND l.measure = w.measure AND l.active
           WHERE series.at IS NOT NULL""",
        ([patient for patient, _ in wanted], [measure for _, measure in wanted], since),
    )
    return {(row[0], row[1]): Trend(*row[2:]) for row in await rows.fetchall()}


@dataclass(frozen=True, slots=True)
class Gap:
    """A measure that was agreed and did not come; `at` when it last did, None when it never has."""

    measure: str
    at: datetime | None


async def gaps(pg: psycopg.AsyncConnection[Any], patient_ids: list[str], now: datetime) -> dict[str, list[Gap]]:
    """What is missing of what was agreed to be measured, by person."""
    if not patient_ids:
        return {}
    rows = await pg.execute(
        f"""SELECT l.patient_id, l.measure, last.at
            FROM monitoring_limit l
            LEFT JOIN LATERAL (
                SELECT r.at FROM reading r
                WHERE r.patient_id = l.patient_id AND r.measure = l.measure AND r.quality IN ('ok', 'check')
                ORDER BY r.at DESC LIMIT 1
            ) last ON true
            WHERE l.patient_id = ANY(%s) AND l.active AND l.every_hours IS NOT NULL
              AND (last.at IS NULL OR last.at < %s - l.every_hours * {GRACE} * interval '1 hour')
            ORDER BY l.patient_id, l.measure""",
        (list(set(patient_ids)), now),
    )
    found: dict[str, list[Gap]] = {}
    for patient_id, measure, at in await rows.fetchall():
        found.setdefault(patient_id, []).append(Gap(measure, at))
    return found


async def names(pg: psycopg.AsyncConnection[Any], references: set[str | None]) -> dict[str, str]:
    """Names of people who sign records. A reference without an account is left out."""
    wanted = [reference for reference in references if reference]
    if not wanted:
        return {}
    rows = await pg.execute("SELECT reference, name FROM account WHERE reference = ANY(%s)", (wanted,))
    return {row[0]: row[1] for row in await rows.fetchall()}


def review_horizon(today: Any) -> Any:
    """Plans to review within two weeks are shown beside the list."""
    return today + timedelta(days=14)


# -- cursors and conditions --------------------------------------------------------------------------------------------


def _named(text: str, params: tuple[Any, ...], name: str, values: dict[str, Any]) -> str:
    """An `Sql` fragment with its `%s` turned into named parameters, which the rest of the statement uses."""
    for number, value in enumerate(params):
        key = f"{name}_{number}"
        text = text.replace("%s", f"%({key})s", 1)
        values[key] = value
    return text


def _closed(*position: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _opened(cursor: str) -> list[Any]:
    """A cursor only says where to go on; it opens nothing, so it is checked but not signed."""
    try:
        position = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[Any])
        first, at, row_id = position[:3]
        numbers = (first, *position[3:])
        if not all(isinstance(number, int) and 0 <= number < MOST for number in numbers):
            raise ValueError(cursor)
        if not isinstance(row_id, str) or "\x00" in row_id:
            raise ValueError(cursor)
        return [first, datetime.fromisoformat(at) if at is not None else None, row_id, *position[3:4]]
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise refuse(
            400, "invalid", "This address does not continue a list. Start again from the first page."
        ) from error
