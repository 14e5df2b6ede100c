"""A person as every page about them shows them: the banner, the team, and what was measured last."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from care_plans import queries, team
from care_plans.team import COACH, COORDINATOR, Member
from fhir.outcome import refuse
from fhir.store import Sql
from hub import audit
from hub.access import people
from hub.identity import Actor
from hub.pages import words
from monitoring.limits import Limits, in_force
from monitoring.measures import MEASURES

TIERS = {"complex": "Complex: hub", "enhanced-primary-care": "Enhanced primary care"}

# A latest value older than this is shown as old: nobody should take it for how the person is now.
STALE_HOURS = 48


@dataclass(frozen=True, slots=True)
class Person:
    """Who it is, and who looks after them. `alike`: another person whom the reader sees has the same or nearly the same
    name, or the family name and the birth date in common."""

    patient_id: str
    nhs_number: str | None
    family: str
    given: str
    called: str | None
    about: str | None
    birth_date: date | None
    gender: str | None
    hub_id: str | None
    tier: str | None
    synthetic: bool
    practice: str | None
    hub: str | None
    coordinator: str | None
    coach: str | None
    alike: bool
    paused: datetime | None

    @property
    def name(self) -> str:
        return words.person(self.family, self.given)

    @property
    def first(self) -> str:
        """What to call the person when speaking to them."""
        return self.called or self.given.split(" ")[0] or self.family

    @property
    def reference(self) -> str:
        return f"Patient/{self.patient_id}"

    @property
    def tier_words(self) -> str | None:
        return TIERS.get(self.tier, self.tier) if self.tier else None

    def born(self, now: datetime) -> str:
        return words.born(self.birth_date, now.astimezone(words.LONDON).date())

    @property
    def nhs(self) -> str:
        return words.nhs_number(self.nhs_number)


_ORGANISATION = """(SELECT v.body::json ->> 'name' FROM r_organization o
    JOIN resource_version v ON v.type = 'Organization' AND v.id = o.id AND v.version = o.version WHERE o.id = {id})"""

_HOLDER = """(SELECT m.name FROM team_member m WHERE m.patient_id = person.patient_id AND m.role_code = %s
    AND (m.since IS NULL OR m.since <= now()) AND (m.until IS NULL OR m.until > now())
    ORDER BY m.since DESC NULLS LAST LIMIT 1)"""


async def find(pg: psycopg.AsyncConnection[Any], actor: Actor, patient_id: str) -> Person:
    """The person, when the actor may see them. Refusal 404, whether nobody is there or just not in their care."""
    allowed = people(actor)
    other = people(actor, "other.patient_id")
    if allowed is None or other is None:
        raise _nobody()
    cursor = pg.cursor(row_factory=class_row(Person))
    await cursor.execute(
        f"""SELECT person.patient_id, person.nhs_number, person.family, person.given, person.called, person.about,
                   person.birth_date, person.gender, person.hub_id, person.tier, person.synthetic,
                   {_ORGANISATION.format(id="person.practice_id")} AS practice,
                   {_ORGANISATION.format(id="person.hub_id")} AS hub,
                   {_HOLDER} AS coordinator, {_HOLDER} AS coach,
                   EXISTS (SELECT 1 FROM person other WHERE other.patient_id <> person.patient_id
                           AND (other.search_name = person.search_name
                                OR (other.birth_date = person.birth_date AND other.family = person.family))
                           AND {other.text}) AS alike,
                   (SELECT max(pause.until) FROM pause WHERE pause.patient_id = person.patient_id
                    AND pause.since <= now() AND pause.until > now() AND pause.measures IS NULL) AS paused
            FROM person WHERE person.patient_id = %s AND {allowed.text}""",
        (COORDINATOR, COACH, *other.params, patient_id, *allowed.params),
    )
    found = await cursor.fetchone()
    if found is None:
        raise _nobody()
    return found


def _nobody() -> Exception:
    return refuse(404, "not-found", "There is no such person among those in your care.")


def looked(actor: Actor, patient_id: str, what: str, type_: str = "Patient", action: str = "read") -> audit.Entry:
    """The audit row of a page: who looked at whose *what*."""
    return audit.entry(
        actor, action, type_, patient_id if type_ == "Patient" else None, patient_id, detail={"page": what}
    )


async def members(pg: psycopg.AsyncConnection[Any], actor: Actor, patient_id: str) -> list[Member]:
    """Everyone in the person's team, now or before."""
    allowed = people(actor, "team_member.patient_id")
    return await queries.team_of(pg, patient_id, Sql(*allowed)) if allowed else []


def faces(found: list[Member], now: datetime) -> list[dict[str, str]]:
    return [
        {"name": face.name, "role": face.role, "does": face.does, "initials": words.initials(face.name)}
        for face in team.faces(found, now)
        if not face.member.startswith("Organization/")
    ]


# -- what was measured last --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading of a measure. `level` red, amber or none; `stale` when it is too old to say how things are."""

    measure: str
    name: str
    plain: str
    shown: str
    at: datetime
    level: str
    stale: bool
    limits: Limits | None
    quality: str
    personal: bool = False

    def when(self, now: datetime) -> str:
        return f"{words.when(self.at, now)}, {words.ago(self.at, now)}"


async def latest(
    pg: psycopg.AsyncConnection[Any], patient_id: str, now: datetime, *, together: bool = True
) -> list[Latest]:
    """The newest reading of every measure the person has, with the limits in force. One index probe per measure.

    *together*: the two numbers of a blood pressure as one.
    """
    rows = await pg.execute(
        """SELECT m.measure, r.at, r.value, r.word, r.quality, l.scale, l.low_red, l.low_amber, l.high_amber, l.high_red
           FROM unnest(%s::text[]) WITH ORDINALITY AS m (measure, place)
           CROSS JOIN LATERAL (
               SELECT at, value, word, quality FROM reading
               WHERE patient_id = %s AND reading.measure = m.measure AND quality IN ('ok', 'check')
               ORDER BY at DESC LIMIT 1
           ) AS r
           LEFT JOIN monitoring_limit l ON l.patient_id = %s AND l.measure = m.measure AND l.active
           ORDER BY m.place""",
        (list(MEASURES), patient_id, patient_id),
    )
    found = []
    for key, at, value, word, quality, scale, *bounds in await rows.fetchall():
        measure = MEASURES[key]
        own = Limits(*bounds)
        limits = in_force(key, own, scale)
        severity = limits.level(measure.round(value))[0] if limits and value is not None and quality == "ok" else 0
        found.append(
            Latest(
                measure=key,
                name=measure.name,
                plain=measure.plain,
                shown=shown(key, value, word),
                at=at,
                level=words.SEVERITIES.get(severity, "none"),
                stale=(now - at).total_seconds() > STALE_HOURS * 3600,
                limits=limits,
                quality=quality,
                personal=own.given,
            )
        )
    return paired(found) if together else found


def paired(found: list[Latest]) -> list[Latest]:
    """Blood pressure taken at one time is one thing to people: `132/78 mmHg`."""
    by_key = {one.measure: one for one in found}
    upper, lower = by_key.get("systolic"), by_key.get("diastolic")
    if upper is None or lower is None or upper.at != lower.at:
        return found
    unit = MEASURES["systolic"].shown
    worst = next((level for level in ("red", "amber") if level in (upper.level, lower.level)), "none")
    both = Latest(
        "systolic",
        "Blood pressure",
        "blood pressure",
        f"{upper.shown.removesuffix(unit).strip()}/{lower.shown}",
        upper.at,
        worst,
        upper.stale,
        upper.limits,
        upper.quality if upper.quality != "ok" else lower.quality,
        upper.personal and lower.personal,
    )
    return [both if one is upper else one for one in found if one is not lower]


def shown(key: str, value: float | None, word: str | None) -> str:
    """`93 %`, `82.4 kg`, `breathing air`."""
    measure = MEASURES[key]
    if value is not None:
        return measure.show(value)
    return measure.words.get(word or "", word or "no value")


def limit_words(limits: Limits, unit: str) -> str:
    """`red at 92 % or less, amber at 94 % or less`."""
    number = words.number
    parts = [
        f"{level} at {number(bound)} {unit} or {side}"
        for level, bound, side in (
            ("red", limits.low_red, "less"),
            ("amber", limits.low_amber, "less"),
            ("amber", limits.high_amber, "more"),
            ("red", limits.high_red, "more"),
        )
        if bound is not None
    ]
    return ", ".join(parts)


def today(now: datetime) -> date:
    return now.astimezone(words.LONDON).date()


def present() -> datetime:
    return datetime.now(UTC)
