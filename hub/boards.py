"""What the MDT board asks of the database, and what both boards stand on: few statements, ranked, limited to whom the
actor may see. The Today board's own stand in `hub.worklist`.

Both boards page by keyset, so a row that is resolved meanwhile neither hides nor repeats another. Their statements are
never prepared on the server: after ten runs PostgreSQL would settle on one plan for every hub and caseload, which was
four times slower with 110,000 people.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from fhir.outcome import refuse
from hub.access import people
from hub.identity import Actor
from monitoring.overdue import ORDERED, STILL
from monitoring.tables import LIVE, SEEN

PAGE = 50
MOST = 1_000_000  # rows that anybody pages through
OPEN = LIVE


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
    level: int
    due: datetime | None
    others: list[dict[str, Any]] | None
    family: str
    given: str
    called: str | None
    birth_date: Any
    nhs_number: str | None


@dataclass(frozen=True, slots=True)
class Mdt:
    """`counts` per filter over the whole board, not the page; `more` is the cursor of the next page; `first` is the
    rank of the first row."""

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
               bool_and({SEEN}) OVER (PARTITION BY patient_id) AS acknowledged
        FROM found ORDER BY patient_id, severity DESC, opened, id
    ), page AS (
        SELECT * FROM gravest WHERE {{chip}} AND {{after}} ORDER BY severity DESC, opened, id LIMIT %(limit)s
    )
    SELECT counts.*, f.id, f.patient_id, f.rule, f.severity, f.state, f.summary, f.reasons, f.count, f.opened,
           f.refreshed, f.acknowledged_by, f.acknowledged_at, f.level, f.due, others.others,
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
        people=named(allowed.text, allowed.params, "people", values),
    )
    seen, further = 0, "true"
    if after is not None:
        severity, since, flag_id, *before = opened(after)
        seen = before[0] if before else 0
        values.update(severity=severity, opened=since, id=flag_id)
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
        more = closed(last.severity, last.opened, last.id, seen + limit)
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


async def gaps(pg: psycopg.AsyncConnection[Any], patient_ids: list[str]) -> dict[str, list[Gap]]:
    """What is missing of what was agreed to be measured, by person."""
    if not patient_ids:
        return {}
    rows = await pg.execute(
        f"""SELECT l.patient_id, l.measure, l.last_at
            FROM missed l {ORDERED.format(missed="l")}
            WHERE l.patient_id = ANY(%s) AND {STILL.format(missed="l")}
            ORDER BY l.patient_id, l.measure""",
        (list(set(patient_ids)),),
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


# -- cursors and conditions --------------------------------------------------------------------------------------------


def named(text: str, params: tuple[Any, ...], name: str, values: dict[str, Any]) -> str:
    """An `Sql` fragment with its `%s` turned into named parameters, which the rest of the statement uses."""
    for number, value in enumerate(params):
        key = f"{name}_{number}"
        text = text.replace("%s", f"%({key})s", 1)
        values[key] = value
    return text


def closed(*position: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def opened(cursor: str) -> list[Any]:
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
