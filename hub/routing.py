"""Who is told of a flag: the person's coordinator at once, then up the chain; who is on call while the hub is closed.

The chain is `monitoring.escalation.CHAIN`. Without a coordinator everybody in the team is told at once, and where a
later step has nobody the next one is told in their place: no flag is told to nobody because a team is not complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from care_plans import team
from hub.db import Tx
from hub.notices import Notice
from monitoring.cover import Cover, load_cover
from monitoring.escalation import CHAIN, CLINICIAN, COORDINATOR, LEAD, step
from monitoring.flags import Flag, called, from_fhir
from monitoring.limits import RED

JSON = dict[str, Any]

TEXTS = {
    "flag-opened": "{summary}",
    "flag-reopened": "{summary}",
    "flag-escalated": "Not acknowledged so far: {summary}",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A flag that calls for eyes, and as what: `flag-opened`, `flag-reopened` or `flag-escalated`."""

    kind: str
    flag: Flag


@dataclass(slots=True)
class Circle:
    """Who could be told of one person's flags, as references: by step of the chain, and everybody in the team."""

    steps: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CHAIN})
    everybody: list[str] = field(default_factory=list)

    def at(self, level: int) -> list[str]:
        name = step(level)
        if name == COORDINATOR:
            return self.steps[COORDINATOR] or self.everybody or self.steps[LEAD]
        return (self.steps[CLINICIAN] if name == CLINICIAN else []) or self.steps[LEAD] or self.everybody


def call(before: JSON | None, after: JSON) -> Call | None:
    """What the written Flag *after* calls for, if it does what *before* did not."""
    how = called(before, after)
    flag = from_fhir(after, 0) if how is not None else None
    return Call(f"flag-{how}", flag) if flag is not None else None


async def notices(tx: Tx, calls: Sequence[Call], now: datetime) -> list[Notice]:
    """What is told to whom: three statements for any number of *calls*."""
    if not calls:
        return []
    covers = await load_cover(tx.pg, [one.flag.hub_id for one in calls])
    circles = await _circles(tx, calls, covers, now)
    told = []
    for one in calls:
        flag, cover = one.flag, covers[one.flag.hub_id]
        recipients = list(circles[flag.patient_id].at(flag.level))
        if flag.severity == RED and not cover.hours.open_at(now):
            recipients += cover.on_call
        text = TEXTS[one.kind].format(summary=flag.summary or "Flag")
        told += [Notice(one.kind, flag.patient_id, who, text, f"/flags/{flag.id}") for who in dict.fromkeys(recipients)]
    return told


async def lapsed(tx: Tx, flags: Sequence[Flag], now: datetime) -> list[Notice]:
    """For the first step of the chain: these fell away because nobody measured again, which is no normal reading."""
    if not flags:
        return []
    covers = await load_cover(tx.pg, [one.hub_id for one in flags])
    circles = await _circles(tx, [Call("flag-lapsed", one) for one in flags], covers, now)
    return [
        Notice("flag-lapsed", one.patient_id, who, f"No second reading came: {one.summary}", f"/flags/{one.id}")
        for one in flags
        for who in circles[one.patient_id].at(0)
    ]


_TEAM = """
    SELECT t.patient_id, t.member, bool_or(t.role_code = %s AND account.id IS NOT NULL),
           coalesce(bool_or(account.role = 'clinician'), false)
    FROM team_member t LEFT JOIN account ON account.reference = t.member AND account.active
    WHERE t.patient_id = ANY(%s) AND starts_with(t.member, 'Practitioner/') AND (t.until IS NULL OR t.until > %s)
    GROUP BY 1, 2 ORDER BY 1, 2"""

# Of those whom a hub names, else of its clinicians, whoever may see the person: a notice is shown to nobody else.
_LEADS = """
    SELECT DISTINCT called.patient_id, account.reference
    FROM unnest(%s::text[], %s::text[]) AS called (patient_id, hub_id)
    JOIN unnest(%s::text[], %s::text[]) AS lead (hub_id, reference) ON lead.hub_id = called.hub_id
    JOIN account ON account.active AND CASE WHEN lead.reference = '' THEN account.role = 'clinician'
        AND account.hub_id = called.hub_id ELSE account.reference = lead.reference END
    WHERE EXISTS (SELECT 1 FROM access WHERE access.patient_id = called.patient_id
        AND access.subject = ANY(account.organisations || account.reference)
        AND (access.since IS NULL OR access.since <= %s) AND (access.until IS NULL OR access.until > %s))
    ORDER BY 1, 2"""


async def _circles(
    tx: Tx, calls: Sequence[Call], covers: Mapping[str | None, Cover], now: datetime
) -> dict[str, Circle]:
    people = {one.flag.patient_id: one.flag.hub_id for one in calls}
    found = {patient_id: Circle() for patient_id in people}
    rows = await tx.pg.execute(_TEAM, (team.COORDINATOR, list(people), now))
    for patient_id, member, coordinates, clinician in await rows.fetchall():
        circle = found[patient_id]
        circle.everybody.append(member)
        if coordinates:
            circle.steps[COORDINATOR].append(member)
        if clinician:
            circle.steps[CLINICIAN].append(member)
    named = [(hub, lead) for hub, cover in covers.items() if hub for lead in cover.leads or ("",)]
    if named:
        hubs, leads = zip(*named, strict=True)
        rows = await tx.pg.execute(_LEADS, (list(people), list(people.values()), list(hubs), list(leads), now, now))
        for patient_id, reference in await rows.fetchall():
            found[patient_id].steps[LEAD].append(reference)
    return found
