"""What happened around the readings: flags, changes of plan and limits, and notes, each in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from care_plans import queries
from fhir.store import Sql
from fhir.wire import decode
from hub import boards
from hub.access import may_read, people
from hub.db import Tx
from hub.identity import Actor
from hub.pages import words
from hub.pages.chart import Mark
from hub.pages.period import Period
from monitoring.annotations import CODE_KEY, annotation
from monitoring.measures import MEASURES

MOST = 200
"""Flags, notes and changes of one period that are shown, the newest (of flags: the gravest)."""

KINDS = {3: "red", 2: "amber", 1: "info"}


@dataclass(frozen=True, slots=True)
class Alert:
    """A flag at the readings that raised it: `at` by measure."""

    flag_id: str
    severity: int
    state: str
    summary: str
    advice: str | None
    at: list[tuple[str, datetime]]
    opened: datetime


@dataclass(frozen=True, slots=True)
class Happening:
    """A change of plan or limits (`kind` plan) or a note, with who did it; `author` is their reference.

    Of a note, `observation_id`, and `struck`: why it was wrong, where somebody (`struck_by`) said so.
    """

    at: datetime
    kind: str
    text: str
    who: str
    author: str
    observation_id: str | None = None
    struck: str | None = None
    struck_by: str | None = None

    def mark(self, now: datetime, href: str) -> Mark:
        return Mark(self.at, self.kind, f"{words.when(self.at, now)}: {self.text} ({self.who})", href)


async def alerts(tx: Tx, actor: Actor, patient_id: str, shown: Period) -> list[Alert]:
    """Flags that were raised or refreshed in the period, oldest first. The caller has made sure that the actor may see
    the person."""
    if not may_read(actor, "Flag"):
        return []
    rows = await tx.pg.execute(
        "SELECT id, severity, state, summary, advice, reasons, opened FROM flag"
        " WHERE patient_id = %s AND opened < %s AND refreshed >= %s AND kind <> 'operational'"
        " ORDER BY severity DESC, opened DESC LIMIT %s",
        (patient_id, shown.until, shown.since, MOST),
    )
    found = []
    for flag_id, severity, state, summary, advice, reasons, opened in await rows.fetchall():
        at = [
            (reason["measure"], moment)
            for reason in reasons
            if reason.get("measure") in MEASURES and (moment := _instant(reason.get("at"))) is not None
        ]
        found.append(Alert(flag_id, severity, state, summary, advice, at, opened))
    return sorted(found, key=lambda one: one.opened)


async def changes(tx: Tx, actor: Actor, patient_id: str, shown: Period) -> list[Happening]:
    """Versions of the person's plans and limits that were written in the period, and what changed, in words."""
    found: list[Happening] = []
    allowed = people(actor, "plan.patient_id")
    if allowed is not None and may_read(actor, "CarePlan"):
        for plan in (await queries.plans_of(tx.pg, patient_id, Sql(*allowed)))[:5]:
            if plan.updated < shown.since:
                continue
            for version in (await queries.versions(tx.pg, plan.id))[-MOST:]:
                if shown.since <= version.updated < shown.until:
                    text = "; ".join(change.sentence.rstrip(".") for change in version.changes[:3]) or "Plan saved"
                    text = "The plan was written" if version.version == 1 else text
                    found.append(Happening(version.updated, "plan", text, "", version.author))
    if may_read(actor, "ServiceRequest"):
        rows = await tx.pg.execute(
            "SELECT v.updated, v.author, v.body FROM monitoring_limit l"
            " JOIN resource_version v ON v.type = 'ServiceRequest' AND v.id = l.service_request_id"
            " WHERE l.patient_id = %s AND v.updated >= %s AND v.updated < %s AND v.body IS NOT NULL"
            " ORDER BY v.updated DESC LIMIT %s",
            (patient_id, shown.since, shown.until, MOST),
        )
        together: dict[tuple[datetime, str], list[str]] = {}
        for updated, author, body in await rows.fetchall():
            name = decode(body.encode()).get("code", {}).get("text") or "a measure"
            together.setdefault((updated, author), []).append(name.lower())
        for (updated, author), of in together.items():
            text = f"Monitoring or limits set: {', '.join(sorted(dict.fromkeys(of)))}"
            found.append(Happening(updated, "plan", text, "", author))
    return await _named(tx, found)


async def notes(tx: Tx, actor: Actor, patient_id: str, shown: Period) -> list[Happening]:
    """Notes about a time in the period, also those that were struck through: they stay, with who and why."""
    rows = await tx.pg.execute(
        "SELECT v.body FROM r_observation o"
        " JOIN resource_version v ON v.type = 'Observation' AND v.id = o.id AND v.version = o.version"
        " WHERE o.patient_id = %s AND o.keys @> ARRAY[%s] AND o.d_date && tstzrange(%s, %s)"
        " ORDER BY o.d_date DESC LIMIT %s",
        (patient_id, CODE_KEY, shown.since, shown.until, MOST),
        prepare=False,
    )
    read = [one for (body,) in await rows.fetchall() if (one := annotation(decode(body.encode()))) is not None]
    return await _named(
        tx, [Happening(one.at, "note", one.text, "", one.by, one.id, one.struck, one.struck_by) for one in read]
    )


async def _named(tx: Tx, found: Sequence[Happening]) -> list[Happening]:
    names = await boards.names(tx.pg, {one for each in found for one in (each.author, each.struck_by)})

    def name(reference: str) -> str:
        return names.get(reference, "another system" if "/" in reference else reference)

    return [
        replace(one, who=name(one.author), struck_by=name(one.struck_by) if one.struck_by else None)
        for one in sorted(found, key=lambda one: one.at)
    ]


def _instant(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None
