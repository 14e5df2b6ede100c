"""Whether the rules are of use: what became of the flags that they raised, per rule and per team, in one statement.

Counted of the flags that opened in a span of time, as they stand now. Every figure follows from the moves of the flags,
which their FHIR history holds too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from monitoring.flags import AUTHOR
from monitoring.outcomes import ACTED, NOT_CONFIRMED, OUTCOMES
from monitoring.rules import name_of

LONDON = ZoneInfo("Europe/London")

FEW = 10
"""Fewer alerts than this are few: a share of them says little. Ours."""


@dataclass(frozen=True, slots=True)
class Retune:
    """When a rule is worth another look: more than `share` of at least `least` ended alerts were false alarms."""

    share: float
    least: int
    source: str


RETUNE = Retune(0.5, 5, "ours, unverified: no guideline names a share; clinician to set")


@dataclass(frozen=True, slots=True)
class Usefulness:
    """What became of the alerts of one rule for the people of one hub; of all rules where `rule` is None.

    `alerts` are flags that called for eyes; `unconfirmed` those that waited for a second reading and never called.
    `looked` were acknowledged or answered by a person, `acted` ended with something done, `nothing` with nothing
    needed, `false_alarms` as such, `open` have not ended. `reopened` counts how often readings called for eyes again.
    `first_look` (median) and `first_look_p90` are from the call to the first answer, of those that have one. `reasons`:
    how often each outcome was said.
    """

    hub_id: str | None
    rule: str | None
    alerts: int
    people: int
    looked: int
    acted: int
    nothing: int
    false_alarms: int
    open: int
    reopened: int
    escalated: int
    unconfirmed: int
    first_look: timedelta | None
    first_look_p90: timedelta | None
    reasons: dict[str, int]

    @property
    def name(self) -> str:
        return "All rules" if self.rule is None else name_of(self.rule)

    @property
    def ended(self) -> int:
        return self.acted + self.nothing + self.false_alarms

    @property
    def few(self) -> bool:
        return self.alerts < FEW

    @property
    def false_share(self) -> float | None:
        """Of those that ended; None where none has."""
        return self.false_alarms / self.ended if self.ended else None

    @property
    def retune(self) -> bool:
        """Whether so many were false alarms that the rule is worth another look."""
        share = self.false_share
        return self.rule is not None and share is not None and self.ended >= RETUNE.least and share > RETUNE.share


_REPORT = """
WITH chosen AS MATERIALIZED (
    SELECT id, hub_id, rule, patient_id, state, outcome, opened, moves FROM flag
    WHERE opened >= %(since)s AND opened < %(until)s AND (%(hubs)s::text[] IS NULL OR hub_id = ANY(%(hubs)s))
), moved AS (
    SELECT id, move->>'to' AS "to", (move->>'at')::timestamptz AS at, move->>'by' AS by,
        lag(move->>'to') OVER life AS was, lag((move->>'until')::timestamptz) OVER life AS until
    FROM chosen CROSS JOIN jsonb_array_elements(moves) WITH ORDINALITY AS one (move, number)
    WINDOW life AS (PARTITION BY id ORDER BY number)
), life AS (
    SELECT id, min(at) FILTER (WHERE "to" IN ('open', 'escalated')) AS called,
        min(at) FILTER (WHERE by <> %(engine)s) AS looked,
        count(*) FILTER (WHERE "to" = 'open' AND by = %(engine)s
            AND (was IN ('acknowledged', 'in-progress') OR (was = 'snoozed' AND at < until))) AS reopened,
        bool_or("to" = 'escalated') AS escalated
    FROM moved GROUP BY id
), told AS (
    SELECT chosen.*, CASE WHEN moves = '[]' THEN opened ELSE called END AS called, looked,
        coalesce(reopened, 0) AS reopened, coalesce(escalated, false) AS escalated
    FROM chosen LEFT JOIN life USING (id)
), reasons AS (
    SELECT hub_id, rule, jsonb_object_agg(outcome, n) AS reasons FROM (
        SELECT hub_id, rule, outcome, count(*) AS n FROM told WHERE called IS NOT NULL AND outcome IS NOT NULL
        GROUP BY GROUPING SETS ((hub_id, rule, outcome), (hub_id, outcome))) AS counted
    GROUP BY hub_id, rule
), counted AS (
    SELECT hub_id, rule,
        count(*) FILTER (WHERE called IS NOT NULL) AS alerts,
        count(DISTINCT patient_id) FILTER (WHERE called IS NOT NULL) AS people,
        count(*) FILTER (WHERE called IS NOT NULL AND looked IS NOT NULL) AS looked,
        count(*) FILTER (WHERE called IS NOT NULL AND state = 'resolved' AND outcome = ANY(%(acted)s)) AS acted,
        count(*) FILTER (WHERE called IS NOT NULL AND state = 'resolved'
            AND NOT coalesce(outcome = ANY(%(acted)s), false)) AS nothing,
        count(*) FILTER (WHERE called IS NOT NULL AND state = 'false-alarm') AS false_alarms,
        count(*) FILTER (WHERE called IS NOT NULL AND state NOT IN ('resolved', 'false-alarm')) AS open,
        coalesce(sum(reopened) FILTER (WHERE called IS NOT NULL), 0)::int AS reopened,
        count(*) FILTER (WHERE escalated) AS escalated,
        count(*) FILTER (WHERE called IS NULL) AS unconfirmed,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) AS first_look,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY waited) AS first_look_p90
    FROM (SELECT told.*, CASE WHEN looked >= called THEN looked - called WHEN looked < called THEN interval '0' END
        AS waited FROM told) AS told GROUP BY GROUPING SETS ((hub_id, rule), (hub_id))
)
SELECT counted.*, coalesce(reasons.reasons, '{}') FROM counted LEFT JOIN reasons
    ON reasons.hub_id IS NOT DISTINCT FROM counted.hub_id AND reasons.rule IS NOT DISTINCT FROM counted.rule
ORDER BY counted.hub_id NULLS LAST, counted.rule NULLS LAST"""


async def report(
    pg: psycopg.AsyncConnection[Any], since: datetime, until: datetime, hubs: Sequence[str] | None = None
) -> list[Usefulness]:
    """Of flags that opened from *since* until before *until*, of the people of *hubs*, or of all: hub by hub a line for
    each rule, and last one for all of them."""
    rows = await pg.execute(
        _REPORT,
        {"since": since, "until": until, "hubs": None if hubs is None else list(hubs), "engine": AUTHOR,
         "acted": sorted(ACTED)},
    )  # fmt: skip
    return [Usefulness(*row) for row in await rows.fetchall()]


def week(text: str) -> tuple[datetime, datetime]:
    """`2026-W47` -> its Monday 00:00 in London, and that of the week after. Raises ValueError for anything else."""
    year, mark, number = text.partition("-W")
    if not mark or len(year) != 4 or len(number) != 2 or not (year + number).isdecimal():
        raise ValueError(f"{text!r} is no week; one is written 2026-W47")
    monday = date.fromisocalendar(int(year), int(number), 1)
    return _midnight(monday), _midnight(monday + timedelta(days=7))


def week_of(day: date) -> str:
    """The week that *day* is in: `2026-W47`."""
    year, number, _ = day.isocalendar()
    return f"{year:04}-W{number:02}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), LONDON)


COLUMNS = (
    "hub", "rule", "name", "alerts", "people", "acknowledged", "acted_on", "nothing_needed", "false_alarms",
    "still_open", "reopened", "escalated", "not_confirmed", "first_look_median_minutes", "first_look_p90_minutes",
    "worth_retuning", *(f"outcome_{code}" for code in OUTCOMES if code != NOT_CONFIRMED),
)  # fmt: skip


def table(lines: Iterable[Usefulness]) -> list[list[str]]:
    """The rows of a CSV file, its heading first."""
    return [list(COLUMNS), *([str(cell) for cell in _row(one)] for one in lines)]


def _row(one: Usefulness) -> list[object]:
    counts = [one.alerts, one.people, one.looked, one.acted, one.nothing, one.false_alarms, one.open, one.reopened]
    looks = ["" if it is None else round(it / timedelta(minutes=1), 1) for it in (one.first_look, one.first_look_p90)]
    reasons = [one.reasons.get(code, 0) for code in OUTCOMES if code != NOT_CONFIRMED]
    retune = "yes" if one.retune else "no"
    return [
        one.hub_id or "", one.rule or "", one.name, *counts, one.escalated, one.unconfirmed, *looks, retune, *reasons,
    ]  # fmt: skip
