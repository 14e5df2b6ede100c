"""One device: who holds it and who held it, its keys, its pauses, what it sent last, and what can be done with it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from fhir.outcome import Refusal, refuse
from hub import accounts, audit, fleet, pauses
from hub import devices as flows
from hub.access import people
from hub.db import Database, Tx
from hub.identity import Actor
from hub.live import EVENT, HEARTBEAT, LONGEST, PACE
from hub.pages import device_words, words
from hub.pages import person as persons
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.period_words import day_ends, day_starts
from hub.pages.rendering import page, render
from monitoring.instruments import INSTRUMENTS
from monitoring.pauses import REASONS, to_come

router = APIRouter(route_class=PageRoute)

LOG = timedelta(days=30)
"""How far back the log of a device looks."""
OVERLAPS = (("0", "at once"), ("24", "in a day"), ("168", "in a week"))
ANSWERS = (404, 409, 410, 422)


@router.get("/devices/{device_id}")
async def device(request: Request, device_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "device.manage")
    return await show(request, device_id)


async def row_of(request: Request, device_id: str) -> fleet.Row:
    """The device, when the reader may see it. Refusal 404."""
    actor = request.state.actor
    async with runtime(request).database.reading() as pg:
        found = (await fleet.fleet(pg, actor, persons.present(), only=device_id)).rows
    if not found:
        raise refuse(404, "not-found", "There is no such device among those that you may see.")
    return found[0]


async def show(
    request: Request, device_id: str, problem: str | None = None, sent: Form | None = None, key: str | None = None
) -> Response:
    """The page; *key* is one that was just made, and is shown this once."""
    actor: Actor = request.state.actor
    now = persons.present()
    row = await row_of(request, device_id)
    async with runtime(request).database.reading() as pg:
        uses = await fleet.uses(pg, actor, device_id)
        keys = await accounts.list_credentials(pg, device_id)
        sent_last = await fleet.messages(pg, actor, device_id, now - LOG)
        planned = await to_come(pg, row.patient_id, now) if row.patient_id else []
    about = sorted({one.patient_id for one in uses if one.patient_id})
    await runtime(request).reads.record(
        audit.entry(actor, "read", "Device", device_id, row.patient_id, detail={"page": "device"}),
        *(persons.looked(actor, one, "device", "DeviceUseStatement") for one in about if one != row.patient_id),
    )
    kind = INSTRUMENTS.get(row.kind or "")
    return page(
        request,
        "device.html",
        actor,
        422 if problem else 200,
        here="/devices",
        device=device_words.row(row, now),
        kind=kind,
        uses=[device_words.use(one, now) for one in uses],
        keys=[_key(one, now) for one in keys[:20]],
        messages=[device_words.message(one, now) for one in sent_last],
        pauses=[_pause(one, now) for one in planned if one.device_id in (None, device_id)],
        can_assign=people(actor) is not None,
        can_pause=actor.can("monitoring.pause") and row.patient_id is not None and kind is not None,
        reasons=_reasons(),
        overlaps=OVERLAPS,
        problem=problem,
        typed=sent.values() if sent else {},
        key=key,
        today=persons.today(now).isoformat(),
        silent_from=f"{now - timedelta(days=30):%Y-%m-%dT%H:%M}",
    )


def _reasons() -> list[tuple[str, str]]:
    return [(code, name or "Another reason") for code, name in REASONS.items()]


def _key(one: accounts.Credential, now: datetime) -> dict[str, Any]:
    ended = one.revoked or (one.expires if one.expires and one.expires <= now else None)
    if ended:
        state = f"ended {words.when(ended, now)}"
    elif one.expires:
        state = f"ends {words.when(one.expires, now)}"
    else:
        state = "in use" if one.used else "not used yet"
    return {
        "id": one.id,
        "label": one.label,
        "sandbox": one.sandbox,
        "made": words.when(one.created, now),
        "used": f"{words.ago(one.used, now)}" if one.used else "never",
        "state": state,
        "live": ended is None,
    }


def _pause(one: Any, now: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "from": words.when(one.since, now),
        "until": words.when(one.until, now),
        "reason": one.reason,
        "begun": one.since <= now,
        "device": one.device_id is not None,
    }


# -- what it sends, live -----------------------------------------------------------------------------------------------


@router.get("/devices/{device_id}/log")
async def log(request: Request, device_id: str) -> Response:
    """The last messages alone, for the page that is open."""
    actor = await signed_in(request)
    demand(actor, "device.manage")
    row = await row_of(request, device_id)
    now = persons.present()
    async with runtime(request).database.reading() as pg:
        found = await fleet.messages(pg, actor, device_id, now - LOG)
    await runtime(request).reads.record(
        audit.entry(actor, "read", "Device", device_id, row.patient_id, detail={"page": "device log"})
    )
    made = render("device_log.html", messages=[device_words.message(one, now) for one in found])
    return HTMLResponse(made, headers={"Cache-Control": "no-store"})


@router.get("/devices/{device_id}/live")
async def live(request: Request, device_id: str) -> Response:
    """Says `board` whenever the device sent something; the words come from the log's own address."""
    actor = await signed_in(request)
    demand(actor, "device.manage")
    await row_of(request, device_id)
    return StreamingResponse(
        _events(runtime(request).database, device_id, lambda: runtime(request).live.stopping),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(database: Database, device_id: str, stopping: Any) -> AsyncIterator[bytes]:
    # Asked, not told: a word from every reading to every process would cost the readings more than this costs a page.
    known: Any = None
    clock = asyncio.get_running_loop().time
    ends, spoke = clock() + LONGEST, clock()
    yield b"retry: 1000\n\n: hello\n\n"
    while not stopping() and clock() < ends:
        async with database.reading() as pg:
            found = await fleet.latest(pg, device_id)
        if known is not None and found != known:
            yield EVENT
            spoke = clock()
        elif clock() - spoke > HEARTBEAT:
            yield b": still here\n\n"
            spoke = clock()
        known = found
        await asyncio.sleep(PACE)


# -- what is done with it ----------------------------------------------------------------------------------------------


@router.post("/devices/{device_id}")
async def act(request: Request, device_id: str) -> Response:
    """Hand it on, take it back, make a key: `act` says which."""
    actor = await signed_in(request)
    demand(actor, "device.manage")
    sent = await form(request, actor)
    await row_of(request, device_id)
    try:
        async with transaction(request) as tx:
            said, key = await _done(tx, actor, device_id, sent)
    except Refusal as refusal:
        if refusal.status not in ANSWERS:
            raise
        return await show(request, device_id, refusal.issues[0].diagnostics, sent)
    if key is not None:
        # Not another address: the key is shown in this answer alone.
        return await show(request, device_id, key=key)
    return told(f"/devices/{device_id}", said)


async def _done(tx: Tx, actor: Actor, device_id: str, sent: Form) -> tuple[str, str | None]:
    what, why = sent.text("act", 20), sent.text("why", 300)
    if what == "assign":
        patient_id = await _exactly(tx, actor, sent)
        await flows.assign(tx, actor, device_id, patient_id, why, _moment(sent.text("since", 20)))
        return "device-assigned", None
    if what == "return":
        until, keep = _moment(sent.text("until", 20)), sent.text("keys") == "keep"
        await flows.give_back(tx, actor, device_id, why, until, end_keys=not keep)
        return "device-returned", None
    if what in ("lost", "retired"):
        await flows.withdraw(tx, actor, device_id, what, why)
        return "device-gone", None
    if what == "put-back":
        await flows.put_back(tx, actor, device_id, why)
        return "device-back", None
    if what == "key":
        overlap = sent.text("overlap", 5)
        hours = float(overlap) if overlap in dict(OVERLAPS) else 0
        return "", await flows.issue_key(tx, actor, device_id, sent.text("label", 60) or "key", overlap_hours=hours)
    if what == "sandbox-key":
        return "", await flows.issue_key(tx, actor, device_id, "for trying out", sandbox=True)
    if what == "end-keys":
        await flows.end_keys(tx, actor, device_id)
        return "device-keys-ended", None
    if what == "pause":
        await _paused(tx, actor, device_id, sent)
        return "paused", None
    if what == "end-pause":
        await pauses.end(tx, actor, sent.text("pause", 64), why)
        return "pause-ended", None
    raise refuse(422, "value", "Choose what to do.")


async def _paused(tx: Tx, actor: Actor, device_id: str, sent: Form) -> None:
    rows = await tx.pg.execute("SELECT patient_id, kind FROM device WHERE id = %s", (device_id,))
    found = await rows.fetchone()
    kind = INSTRUMENTS.get(found[1] or "") if found else None
    if found is None or found[0] is None or kind is None:
        raise refuse(409, "conflict", "Only a device of a known kind that somebody holds can be paused.")
    since, until = day_starts(sent.text("from", 20), persons.present()), day_ends(sent.text("to", 20))
    await pauses.pause(
        tx, actor, found[0], since, until, sent.text("why", 300), code=sent.text("code", 20) or "device",
        device_id=device_id, measures=kind.measures,
    )  # fmt: skip


async def _exactly(tx: Tx, actor: Actor, sent: Form) -> str:
    """The person in the actor's care with this number and this date of birth: both, so that a slip hands the device to
    nobody else. Hazard: wrong patient."""
    number = "".join(letter for letter in sent.text("nhs", 30) if letter.isdigit())
    allowed = people(actor)
    if allowed is None:
        raise refuse(403, "forbidden", "Devices are handed to people by who may see the people.")
    born = day_of(sent.text("born", 20))
    rows = await tx.pg.execute(
        f"SELECT patient_id FROM person WHERE nhs_number = %s AND birth_date = %s AND {allowed.text}",
        (number, born, *allowed.params),
    )
    found = await rows.fetchone()
    if found is None:
        text = "Nobody in your care has this NHS number and this date of birth. Check both."
        raise refuse(404, "not-found", text)
    return str(found[0])


def day_of(text: str) -> Any:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise refuse(422, "value", "Write the day as year, month and day, such as 1948-03-04.") from error


def _moment(text: str) -> datetime | None:
    """A local time of a form, in London; None when it was left empty: now."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=words.LONDON)
    except ValueError as error:
        raise refuse(422, "value", "Write the time as a day and a time, such as 2026-11-21T09:30.") from error
