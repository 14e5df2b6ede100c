"""Who held a device when: told by the Device, kept as DeviceUseStatements, whichever door a Device comes through.

`Device.patient` says who holds it; its extension `assignment` since when, why and by whom. Whenever the holder changes,
the time of the one before becomes a completed DeviceUseStatement and that of the new one an active one, in the same
transaction. A reading belongs to whoever held the device when it was measured (`hub.intake`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from care_plans.shapes import EXTENSION, extension, instant, nested, reference_id, set_extension
from fhir import store
from fhir.outcome import Refusal, refuse
from fhir.store import Change, Key, Stored, new_id
from hub.db import Tx
from hub.identity import Actor

JSON = dict[str, Any]

TYPES = ("Device", "DeviceUseStatement")
ASSIGNMENT = "assignment"
SYSTEM = "https://carehub.example/fhir/Id/assignment"
"""Identifier by which a DeviceUseStatement is one of ours: others tell of implants and the like."""

WHERE = f"Device.extension('{EXTENSION}{ASSIGNMENT}')"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the extension of a Device says: `since` of its holder, or, when nobody holds it, `until` of the last one.
    `use`: id of the DeviceUseStatement."""

    since: datetime | None = None
    until: datetime | None = None
    why: str | None = None
    use: str | None = None


def holder(device: JSON | None) -> str | None:
    """Id of the Patient who holds *device*: one that is out of use is nobody's."""
    if device is None or device.get("status", "active") != "active":
        return None
    return reference_id(device.get("patient"), "Patient")


def assignment(device: JSON | None) -> Assignment:
    found = extension(device, ASSIGNMENT) if device else None
    return Assignment(
        since=instant(nested(found, "since").get("valueDateTime")),
        until=instant(nested(found, "until").get("valueDateTime")),
        why=nested(found, "why").get("valueString"),
        use=reference_id(nested(found, "use").get("valueReference"), "DeviceUseStatement"),
    )


def say(device: JSON, said: Assignment, by: str) -> None:
    """Put *said* on *device*, in place."""
    parts: list[JSON] = []
    if said.since:
        parts.append({"url": "since", "valueDateTime": text(said.since)})
    if said.until:
        parts.append({"url": "until", "valueDateTime": text(said.until)})
    if said.why:
        parts.append({"url": "why", "valueString": said.why})
    if said.use:
        parts.append({"url": "use", "valueReference": {"reference": f"DeviceUseStatement/{said.use}"}})
    parts.append({"url": "by", "valueReference": {"reference": by}})
    set_extension(device, ASSIGNMENT, {"extension": parts})


def is_assignment(statement: JSON | None) -> bool:
    return statement is not None and any(one.get("system") == SYSTEM for one in statement.get("identifier", ()))


# -- what follows from a change of a Device ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Move:
    """A change of the holder of a device, *at* a time."""

    change: Change
    stored: JSON | None
    before: str | None
    after: str | None
    was: Assignment
    said: Assignment
    at: datetime | None


async def follow(
    tx: Tx, actor: Actor, changes: Sequence[Change], before: dict[Key, Stored], now: datetime
) -> list[Change]:
    """*changes*, with each Device saying since when it is whose, and after them the DeviceUseStatements that follow.

    What is loaded on the way is put into *before*. Raises Refusal 422 for a time that cannot be, and 409 when readings
    of somebody else lie where the assignment would begin. Hazard: readings on the wrong person.
    """
    now = now.replace(microsecond=0)
    if not actor.can("record.import"):
        _refuse_by_hand(changes, before)
    made = list(changes)
    moves: list[_Move] = []
    for place, change in enumerate(changes):
        if change.type != "Device":
            continue
        stored = before.get((change.type, change.id))
        was = stored.resource if stored is not None else None
        if change.resource is not None:
            # Ours to change: who sent it may look at it again.
            change = made[place] = replace(change, resource=dict(change.resource))
        move = _move(actor, change, was, now)
        if move is not None:
            moves.append(move)
    if moves:
        await _check(tx.pg, moves, now)
        made += await _statements(tx, actor, moves, before, now)
    return made


def _move(actor: Actor, change: Change, was: JSON | None, now: datetime) -> _Move | None:
    """None when the holder stays the same: then what is on record about it stays too."""
    holds, held = holder(change.resource), holder(was)
    known, said = assignment(was), assignment(change.resource)
    if holds == held:
        if was is not None and change.resource is not None and extension(was, ASSIGNMENT) is not None:
            found = extension(was, ASSIGNMENT)
            assert found is not None
            set_extension(change.resource, ASSIGNMENT, {"extension": found["extension"]})
        return None
    new = Assignment() if said == known else said
    at = new.since if holds else new.until
    if was is None and actor.can("record.import"):
        # Another system brings a device as it stood: with the time it names, or none.
        return None if at is None or said.use else _Move(change, was, held, holds, known, new, at)
    return _Move(change, was, held, holds, known, new, at or now)


def _refuse_by_hand(changes: Sequence[Change], before: Mapping[Key, Stored]) -> None:
    for change in changes:
        if change.type != "DeviceUseStatement":
            continue
        stored = before.get((change.type, change.id))
        if is_assignment(change.resource) or (stored is not None and is_assignment(stored.resource)):
            text_ = "The hub writes who held a device when: change Device.patient, and it follows."
            raise refuse(422, "business-rule", text_, "DeviceUseStatement.identifier")


_AROUND = """
SELECT one.id, device.since, last.until, coalesce(others.n, 0)
FROM unnest(%s::text[], %s::timestamptz[], %s::text[]) AS one(id, at, holder)
LEFT JOIN device ON device.id = one.id
LEFT JOIN LATERAL (SELECT max(until) AS until FROM device_use WHERE device_id = one.id) last ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS n FROM (SELECT 1 FROM reading WHERE device_id = one.id AND received >= one.at - interval '1 hour'
        AND reading.at >= one.at AND patient_id IS DISTINCT FROM one.holder AND quality IN ('ok', 'check')
        LIMIT 1000) few) others ON one.at < %s"""


async def _check(pg: psycopg.AsyncConnection[Any], moves: Sequence[_Move], now: datetime) -> None:
    rows = await pg.execute(
        _AROUND,
        (
            [one.change.id for one in moves],
            [one.at for one in moves],
            [one.after for one in moves],
            # What came in just before the hand-over is the earlier holder's, and no reason to refuse it.
            now - timedelta(minutes=1),
        ),
    )
    around = {id_: rest for id_, *rest in await rows.fetchall()}
    for move in moves:
        since, last, others = around[move.change.id]
        assert move.at is not None
        if move.at > now + timedelta(minutes=1):
            raise _impossible("A device is handed over now or was before, not in the future.")
        earliest = max((one for one in (since if move.before else None, last) if one), default=None)
        if earliest is not None and move.at < earliest:
            raise _impossible(f"It was handed over last at {text(earliest)}: this time is before that.")
        if others:
            raise refuse(
                409,
                "conflict",
                f"{others} readings since {text(move.at)} are on the record of whoever held the device before. Mark"
                " them as wrong first, or give the time after them.",
                WHERE,
            )


def _impossible(why: str) -> Refusal:
    return refuse(422, "value", why, WHERE)


async def _statements(
    tx: Tx, actor: Actor, moves: Sequence[_Move], before: dict[Key, Stored], now: datetime
) -> list[Change]:
    open_ = [("DeviceUseStatement", one.was.use) for one in moves if one.before and one.was.use]
    before.update(await store.load(tx.pg, open_, lock=True) if open_ else {})
    made: list[Change] = []
    for move in moves:
        assert move.at is not None
        if move.before is not None:
            made.append(_closed(actor, move, move.before, before, now))
        use = new_id() if move.after else move.was.use
        if move.change.resource is not None and (move.after or move.before):
            times = {"since": move.at} if move.after else {"until": move.at}
            say(move.change.resource, Assignment(**times, why=move.said.why, use=use), actor.reference)
        if move.after is not None and use is not None:
            resource = _statement(use, move.change.id, move.after, "active", move.at, None, now)
            _note(resource, actor, now, move.said.why)
            made.append(Change("create", "DeviceUseStatement", use, resource))
    return made


def _closed(actor: Actor, move: _Move, held: str, before: Mapping[Key, Stored], now: datetime) -> Change:
    id_ = move.was.use or new_id()
    stored = before.get(("DeviceUseStatement", id_))
    if stored is not None and stored.resource is not None:
        resource = dict(stored.resource)
        period = {**resource.get("timingPeriod", {}), "end": text(move.at)}
        resource |= {"status": "completed", "timingPeriod": period}
    else:
        resource = _statement(id_, move.change.id, held, "completed", move.was.since, move.at, now)
    _note(resource, actor, now, move.said.why)
    return Change("create" if stored is None else "update", "DeviceUseStatement", id_, resource)


def _statement(
    id_: str, device: str, patient: str, status: str, since: datetime | None, until: datetime | None, now: datetime
) -> JSON:
    period = {name: text(at) for name, at in (("start", since), ("end", until)) if at is not None}
    return {
        "resourceType": "DeviceUseStatement",
        "id": id_,
        "identifier": [{"system": SYSTEM, "value": id_}],
        "status": status,
        "subject": {"reference": f"Patient/{patient}"},
        "timingPeriod": period,
        "recordedOn": text(now),
        "device": {"reference": f"Device/{device}"},
    }


def _note(statement: JSON, actor: Actor, now: datetime, why: str | None) -> None:
    signed = (
        {"authorReference": {"reference": actor.reference, "display": actor.name}}
        if actor.reference.startswith("Practitioner/")
        else {"authorString": actor.name}
    )
    note = {**signed, "time": text(now), "text": why or "No reason was given."}
    statement["note"] = [*statement.get("note", ()), note]


def text(at: datetime | None) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else ""
