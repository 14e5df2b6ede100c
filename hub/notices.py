"""Who must hear of a change: rows written with it. `hub.live` wakes open pages when it is committed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from fhir.store import new_id


@dataclass(frozen=True, slots=True)
class Notice:
    """*text* is read by *recipient*, a reference such as `Practitioner/x`; *link* is a path of this site."""

    kind: str
    patient_id: str
    recipient: str
    text: str
    link: str


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
