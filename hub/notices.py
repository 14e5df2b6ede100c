"""Who must hear of a change: rows that are written with it, and that their readers find until they have seen them.

A notice is a copy of what was true when it was written, so it is shown only to a reader who may still see the person
and the kind of record that it quotes. `hub.live` wakes open pages when it is committed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from fhir.store import new_id
from hub.access import may_read, people
from hub.identity import Actor

FLAGS = ("flag-opened", "flag-reopened", "flag-escalated", "flag-lapsed")
PLANS = ("plan-changed",)
LOOKS = ("emergency-access",)
REMINDERS = ("reading-due",)

# What a notice of a kind quotes, and so what its reader's role must read.
KINDS = {
    **dict.fromkeys(FLAGS, "Flag"),
    **dict.fromkeys(PLANS, "CarePlan"),
    **dict.fromkeys(LOOKS, "Patient"),
    **dict.fromkeys(REMINDERS, "Observation"),
}

PAGE = 50
MANY = 99
"""Unread notices that are counted: beyond, the number says nothing that helps."""


@dataclass(frozen=True, slots=True)
class Notice:
    """*text* is read by *recipient*, a reference such as `Practitioner/x`; *link* is a path of this site."""

    kind: str
    patient_id: str
    recipient: str
    text: str
    link: str


@dataclass(frozen=True, slots=True)
class Received:
    """A notice as its reader finds it, with the person it is about."""

    id: str
    at: datetime
    kind: str
    patient_id: str
    text: str
    link: str
    seen: datetime | None
    family: str
    given: str
    called: str | None
    birth_date: date | None
    nhs_number: str | None


async def put(pg: psycopg.AsyncConnection[Any], notices: Sequence[Notice]) -> None:
    if not notices:
        return
    await pg.execute(
        "INSERT INTO notice (id, kind, patient_id, recipient, text, link)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])",
        (
            [new_id() for _ in notices],
            [notice.kind for notice in notices],
            [notice.patient_id for notice in notices],
            [notice.recipient for notice in notices],
            [notice.text for notice in notices],
            [notice.link for notice in notices],
        ),
    )


async def teams(pg: psycopg.AsyncConnection[Any], patient_ids: Iterable[str]) -> dict[str, list[str]]:
    """The people (not organisations) now in each person's team, as references."""
    wanted = sorted(set(patient_ids))
    rows = await pg.execute(
        "SELECT DISTINCT patient_id, member FROM team_member WHERE patient_id = ANY(%s)"
        " AND starts_with(member, 'Practitioner/') AND (until IS NULL OR until > now()) ORDER BY 1, 2",
        (wanted,),
    )
    team: dict[str, list[str]] = {patient_id: [] for patient_id in wanted}
    for patient_id, member in await rows.fetchall():
        team[patient_id].append(member)
    return team


# -- their reader ------------------------------------------------------------------------------------------------------


def readable(actor: Actor) -> tuple[str, ...]:
    """The kinds of notice that *actor* can receive: of whole persons or their teams, and of what their role reads."""
    if not actor.reference.startswith(("Practitioner/", "Patient/")) or people(actor) is None:
        return ()
    return tuple(kind for kind, type_ in KINDS.items() if may_read(actor, type_))


async def received(
    pg: psycopg.AsyncConnection[Any], actor: Actor, *, unread: bool = True, before: str | None = None
) -> list[Received]:
    """The actor's notices about people whom they may still see, newest first: a page, and one more if there are more.
    *before* is the id after which the page begins."""
    allowed = people(actor, "n.patient_id")
    if allowed is None:
        return []
    cursor = pg.cursor(row_factory=class_row(Received))
    await cursor.execute(
        f"""SELECT n.id, n.at, n.kind, n.patient_id, n.text, n.link, n.seen,
                   person.family, person.given, person.called, person.birth_date, person.nhs_number
            FROM notice n JOIN person ON person.patient_id = n.patient_id
            WHERE n.recipient = %s AND n.kind = ANY(%s) {"AND n.seen IS NULL" if unread else ""} AND n.id < %s
              AND {allowed.text}
            ORDER BY n.id DESC LIMIT {PAGE + 1}""",
        (actor.reference, list(readable(actor)), before or "~", *allowed.params),
        prepare=False,
    )
    return await cursor.fetchall()


async def unread(pg: psycopg.AsyncConnection[Any], actor: Actor) -> int:
    """How many the actor has not seen, of those that `received` lists; at most MANY + 1."""
    allowed = people(actor, "n.patient_id")
    if allowed is None:
        return 0
    rows = await pg.execute(
        f"""SELECT count(*) FROM (
                SELECT 1 FROM notice n
                WHERE n.recipient = %s AND n.kind = ANY(%s) AND n.seen IS NULL AND {allowed.text} LIMIT {MANY + 1}
            ) AS first""",
        (actor.reference, list(readable(actor)), *allowed.params),
        prepare=False,
    )
    found = await rows.fetchone()
    return int(found[0]) if found else 0


async def see(
    pg: psycopg.AsyncConnection[Any], actor: Actor, patient_id: str, kinds: Sequence[str], link: str | None = None
) -> None:
    """The actor has opened what notices of these *kinds* about the person lead to; with *link*, that page alone."""
    await pg.execute(
        "UPDATE notice SET seen = now() WHERE recipient = %s AND patient_id = %s AND seen IS NULL AND kind = ANY(%s)"
        " AND (%s::text IS NULL OR link = %s)",
        (actor.reference, patient_id, list(kinds), link, link),
    )


async def mark(pg: psycopg.AsyncConnection[Any], actor: Actor, notice_id: str | None) -> None:
    """The actor has read this one of their notices, or (None) all of them."""
    await pg.execute(
        "UPDATE notice SET seen = now() WHERE recipient = %s AND seen IS NULL AND (%s::text IS NULL OR id = %s)",
        (actor.reference, notice_id, notice_id),
    )
