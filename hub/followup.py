"""What happens when readings that were asked for do not come: the person is reminded, then by a second channel, then
somebody of the hub calls, in its hours. Who measures again, or is paused, is followed up no further.

A reminder tells of readings, never of how somebody is. What is written to the record, the engine writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from care_plans.tasks import new_task
from fhir import store
from fhir.store import Change, new_id
from hub import effects, notices, watch
from hub.db import Tx
from hub.identity import ENGINE
from monitoring import flags, overdue
from monitoring.adherence import SILENT
from monitoring.case import Finding
from monitoring.cover import NONE_OF_ITS_OWN, Cover, of_row
from monitoring.flags import AUTHOR
from monitoring.limits import AMBER
from monitoring.measures import MEASURES
from monitoring.schedules import LONDON

JSON = dict[str, Any]

RULE, RULE_VERSION = "missed-readings", 1
NOBODY, PERSON, SECOND, HUB = range(4)
"""Who was told, of the column `step`."""

SECOND_AFTER = timedelta(hours=2)
HUB_AFTER = timedelta(hours=2)
"""How long each step waits for the one before (monitoring-rules 4.9: reminder, grace of 2 h, second channel, call)."""

WAKING = (8, 20)
"""Hours of the day, in London, in which people are reminded. Ours."""

FORGOTTEN = timedelta(days=30)
"""Who has measured nothing for longer is on the lists, and reminded no more: that is a talk, not a message. Ours."""

CALL_WITHIN = timedelta(hours=4)
"""Open hours of the hub in which somebody calls. Ours."""

AT_ONCE = 500
"""People of one step and check, so that a morning on which everybody is late is no single huge transaction."""

COMPLEX = "complex"

MODE = "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode"
REMINDER = "https://carehub.example/fhir/CodeSystem/communication-category"


@dataclass(frozen=True, slots=True)
class Late:
    """One person who is overdue. `measures` as people call them, `last` when the latest of them was measured, `heard`
    when a device of theirs last spoke to the hub."""

    patient_id: str
    hub_id: str | None
    tier: str | None
    step: int
    kind: str
    two_days: bool
    measures: tuple[str, ...]
    last: datetime | None
    cover: Cover
    heard: datetime | None

    @property
    def what(self) -> str:
        """`blood pressure and weight`."""
        *most, final = self.measures
        return f"{', '.join(most)} and {final}" if most else final


async def check(tx: Tx, now: datetime) -> int:
    """Look who missed what, and take every follow-up that is due its next step; how many people were told of or about.

    Idempotent: what was done is kept with the person, in the same transaction. 0 when there is nothing more to do now.
    """
    await overdue.check(tx.pg, now)
    await tx.pg.execute(
        "DELETE FROM chase WHERE NOT EXISTS (SELECT 1 FROM missed m WHERE m.patient_id = chase.patient_id)"
    )
    await tx.pg.execute(
        "INSERT INTO chase (patient_id, found, step, stepped) SELECT patient_id, min(found), 0, %s FROM missed"
        " GROUP BY patient_id HAVING max(last_at) IS NULL OR max(last_at) > %s ON CONFLICT DO NOTHING",
        (now, now - FORGOTTEN),
    )
    late = await _due(tx, now)
    told = {step: [one for one in late if one.step + 1 == step] for step in (PERSON, SECOND, HUB)}
    told[HUB] = [one for one in told[HUB] if one.cover.hours.open_at(now)]
    await notices.put(tx.pg, [_notice(one, now) for one in told[PERSON]])
    changes = [_message(one, now) for one in told[SECOND]] + [_call(one, now) for one in told[HUB]]
    if changes:
        await effects.carry_out(tx, [ENGINE] * len(changes), changes, {}, (), now)
    stepped = [one for found in told.values() for one in found]
    await tx.pg.execute(
        "UPDATE chase SET step = step + 1, stepped = %s WHERE patient_id = ANY(%s)",
        (now, [one.patient_id for one in stepped]),
    )
    return len(stepped) + await _flag(tx, now)


_LATE = """
SELECT m.patient_id, person.hub_id, person.tier, coalesce(chase.step, 0), m.kind, m.two_days, m.measure, m.last_at,
       cover.resource, (SELECT max(state.heard) FROM device JOIN device_state state ON state.device_id = device.id
                        WHERE device.patient_id = m.patient_id)
FROM missed m JOIN person USING (patient_id) LEFT JOIN chase USING (patient_id) LEFT JOIN cover USING (hub_id)
WHERE m.patient_id = ANY(%s) ORDER BY m.patient_id, m.measure"""


async def _due(tx: Tx, now: datetime) -> list[Late]:
    """Those whose follow-up goes on now. Nobody is woken up for it."""
    if not WAKING[0] <= now.astimezone(LONDON).hour < WAKING[1]:
        return []
    rows = await tx.pg.execute(
        """SELECT one.patient_id FROM unnest(%s::int[], %s::timestamptz[]) AS due (step, before)
           CROSS JOIN LATERAL (SELECT patient_id FROM chase WHERE chase.step = due.step AND stepped <= due.before
                               ORDER BY stepped, patient_id LIMIT %s) AS one""",
        ([NOBODY, PERSON, SECOND], [now, now - SECOND_AFTER, now - HUB_AFTER], AT_ONCE),
    )
    return await _late(tx, [row[0] for row in await rows.fetchall()])


async def _late(tx: Tx, people: Sequence[str]) -> list[Late]:
    rows = await (await tx.pg.execute(_LATE, (list(people),))).fetchall() if people else []
    found = []
    for patient_id, group in groupby(rows, key=lambda row: row[0]):
        mine = list(group)
        _, hub_id, tier, step, *_, cover, heard = mine[0]
        names = (_plain(row[6]) for row in mine)
        found.append(
            Late(
                patient_id=patient_id,
                hub_id=hub_id,
                tier=tier,
                step=step,
                kind=SILENT if all(row[4] == SILENT for row in mine) else "missed",
                two_days=any(row[5] for row in mine),
                measures=tuple(dict.fromkeys(names)),
                last=max((row[7] for row in mine if row[7] is not None), default=None),
                cover=of_row(cover) if cover else NONE_OF_ITS_OWN,
                heard=heard,
            )
        )
    return found


def _plain(measure: str) -> str:
    if measure in ("systolic", "diastolic"):
        return "blood pressure"
    return MEASURES[measure].plain if measure in MEASURES else measure


def _since(one: Late) -> str:
    return f"since {one.last.astimezone(LONDON):%-d %B}" if one.last else "yet"


def _silence(one: Late) -> str:
    """Whether anything else comes, and since when their device has been out of reach."""
    if one.kind != SILENT:
        return "Other readings come"
    heard = f"a device of theirs was last heard on {one.heard.astimezone(LONDON):%-d %B}" if one.heard else ""
    return f"Nothing at all has come{f'; {heard}' if heard else ''}"


def _notice(one: Late, now: datetime) -> notices.Notice:
    text = f"It is time to measure your {one.what}. Nothing has come {_since(one)}."
    return notices.Notice("reading-due", one.patient_id, f"Patient/{one.patient_id}", text, "/me")


def _message(one: Late, now: datetime) -> Change:
    """A message for whatever system sends them: who subscribes to CommunicationRequests has it at once."""
    person = {"reference": f"Patient/{one.patient_id}"}
    text = (
        f"Reminder from your care hub: please measure your {one.what}. If you feel unwell, do not wait for us: "
        "call 111, or 999 in an emergency."
    )
    id_ = new_id()
    resource: JSON = {
        "resourceType": "CommunicationRequest",
        "id": id_,
        "status": "active",
        "category": [{"coding": [{"system": REMINDER, "code": "reading-reminder"}]}],
        "medium": [{"coding": [{"system": MODE, "code": "SMSWRIT"}]}],
        "subject": person,
        "recipient": [person],
        "sender": {"reference": AUTHOR},
        "authoredOn": now.isoformat(timespec="seconds"),
        "payload": [{"contentString": text}],
    }
    return Change("create", "CommunicationRequest", id_, resource)


def _call(one: Late, now: datetime) -> Change:
    text = (
        f"Call the person: no {one.what} {_since(one)}, and two reminders brought none. {_silence(one)}. Ask how they "
        "are, and whether the device works."
    )
    id_ = new_id()
    task = new_task(
        id_, text, AUTHOR, now, patient=f"Patient/{one.patient_id}",
        owner=f"Organization/{one.hub_id}" if one.hub_id else None,
        due=one.cover.hours.after(now, CALL_WITHIN) or now + CALL_WITHIN,
    )  # fmt: skip
    return Change("create", "Task", id_, task)


async def _flag(tx: Tx, now: datetime) -> int:
    """An amber compliance flag for people of the complex tier who missed two days on end: a human looks, whatever was
    sent before. It is no clinical finding, and says nothing of how they are."""
    rows = await tx.pg.execute(
        """SELECT DISTINCT m.patient_id FROM missed m JOIN person USING (patient_id)
           WHERE m.two_days AND person.tier = %s AND NOT EXISTS (
               SELECT 1 FROM flag f WHERE f.patient_id = m.patient_id AND f.rule = %s
                 AND (f.state NOT IN ('resolved', 'false-alarm') OR f.opened >= m.found))
           ORDER BY 1 LIMIT %s""",
        (COMPLEX, RULE, AT_ONCE),
    )
    findings = [_finding(one) for one in await _late(tx, [row[0] for row in await rows.fetchall()])]
    if not findings:
        return 0
    await flags.take_turns(tx.pg, [one.patient_id for one in findings])
    changes = await watch.flags_of(tx, findings, now)
    known = await store.load(tx.pg, [("Flag", one.id) for one in changes if one.method == "update"], lock=True)
    await effects.carry_out(tx, [ENGINE] * len(changes), changes, known, (), now)
    return len(changes)


def _finding(one: Late) -> Finding:
    text = f"No {one.what} {_since(one)}, two days on end or more. {_silence(one)}. Contact the person."
    return Finding(one.patient_id, RULE, RULE_VERSION, "compliance", AMBER, text, ())
