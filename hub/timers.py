"""The timers of flags: what falls due is carried out, each exactly once, whatever is killed in between.

A timer is the column `flag.due`, written with the flag. Carrying one out writes the flag anew, with its next `due` or
none, in one transaction: after a crash it is due still, or it is done. `hub.upkeep` calls `fire_due` every few seconds,
one process of all at a time; a simulation calls it with a clock of its own.
"""

from collections.abc import Sequence
from datetime import datetime

from fhir import store
from fhir.store import Change
from hub import effects, notices, routing
from hub.db import Tx
from hub.identity import ENGINE
from monitoring import flags
from monitoring.cover import load_cover
from monitoring.escalation import fall_due
from monitoring.flags import COLUMNS, Flag
from monitoring.states import CONFIRMING

AT_ONCE = 200
"""Flags of one transaction: their people wait for it with their readings."""


async def fire_due(tx: Tx, now: datetime, limit: int = AT_ONCE) -> int:
    """Carry out what is due at *now*, the longest overdue first; how many there were. Call it until it gives 0."""
    rows = await tx.pg.execute(
        "SELECT patient_id FROM flag WHERE due <= %s ORDER BY due, id LIMIT %s", (now, limit), prepare=False
    )
    people = sorted({row[0] for row in await rows.fetchall()})
    if not people:
        return 0
    # Turns go before rows, as for every writer: whoever locked the rows of the flags first would meet a writer who
    # holds the turn of their person and waits for these rows. What another process did meanwhile is no longer due.
    await flags.take_turns(tx.pg, people)
    rows = await tx.pg.execute(
        f"SELECT {', '.join(COLUMNS)} FROM flag WHERE due <= %s AND patient_id = ANY(%s) ORDER BY due, id"
        " LIMIT %s FOR UPDATE SKIP LOCKED",
        (now, people, limit),
    )
    due = [Flag(*row) for row in await rows.fetchall()]
    return await _carry_out(tx, due, now) if due else 0


async def _carry_out(tx: Tx, due: Sequence[Flag], now: datetime) -> int:
    covers = await load_cover(tx.pg, [one.hub_id for one in due])
    repeated = await _repeated(tx, [one for one in due if one.state == CONFIRMING])
    before = await store.load(tx.pg, [("Flag", one.id) for one in due], lock=True)
    changes, lost = [], []
    for one in due:
        stored = before.get(("Flag", one.id))
        if stored is None or stored.resource is None:
            continue
        after = fall_due(one, covers[one.hub_id], now, one.id in repeated)
        changes.append(Change("update", "Flag", one.id, flags.to_fhir(after, stored.resource)))
        if one.state == CONFIRMING and one.id not in repeated:
            lost.append(one)
    await effects.carry_out(tx, [ENGINE] * len(changes), changes, before, (), now)
    await notices.put(tx.pg, await routing.lapsed(tx, lost, now))
    return len(changes)


async def _repeated(tx: Tx, waiting: Sequence[Flag]) -> set[str]:
    """Those of *waiting* (ids) whose person did measure again after what they wait for a second reading of."""
    if not waiting:
        return set()
    asked = [(one.id, one.patient_id, reason["measure"], reason["at"]) for one in waiting for reason in one.reasons[:1]]
    rows = await tx.pg.execute(
        "SELECT DISTINCT asked.id FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])"
        " AS asked (id, patient_id, measure, at) JOIN reading USING (patient_id, measure)"
        " WHERE reading.at > asked.at AND reading.quality = 'ok'",
        [list(column) for column in zip(*asked, strict=True)] or [[], [], [], []],
    )
    return {row[0] for row in await rows.fetchall()}
