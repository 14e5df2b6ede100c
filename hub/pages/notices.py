"""What was told to the reader: staff about the people in whose teams they are, people about their own record."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from fhir.outcome import refuse
from fhir.store import ID
from hub import audit, notices
from hub.identity import Actor
from hub.notices import MANY, PAGE, Received
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.me import own_record
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)

# Shape and word of each kind. None in the colours of severity: how grave a flag is now stands on the flag.
LOOKS_OF = {
    "flag-opened": ("info", "New flag"),
    "flag-reopened": ("info", "Open again"),
    "flag-escalated": ("info", "Escalated"),
    "flag-lapsed": ("info", "Not repeated"),
    "plan-changed": ("done", "Plan"),
    "emergency-access": ("info", "Opened"),
}


async def _reader(request: Request) -> Actor:
    actor = await signed_in(request)
    if not notices.readable(actor):
        raise refuse(403, "forbidden", "Nothing is told to your role here.")
    return actor


@router.get("/notices")
async def received(request: Request) -> Response:
    actor = await _reader(request)
    now = persons.present()
    everything = request.query_params.get("show") == "all"
    before = request.query_params.get("before", "")
    mine: dict[str, Any] = {}
    async with transaction(request) as tx:
        found = await notices.received(
            tx.pg, actor, unread=not everything, before=before if ID.fullmatch(before) else None
        )
        unread = await notices.unread(tx.pg, actor)
        if actor.kind == "patient":
            mine = (await own_record(request, tx, actor)).context()
    await runtime(request).reads.record(
        audit.entry(actor, "search", "Communication", detail={"page": "notices", "found": len(found)})
    )
    here = "/notices?show=all" if everything else "/notices"
    more = found[PAGE - 1].id if len(found) > PAGE else None
    context: dict[str, Any] = {
        "notices": [shown(one, now) for one in found[:PAGE]],
        "everything": everything,
        "unread": unread,
        "back": here,
        "more_href": f"/notices?{'show=all&' if everything else ''}before={more}" if more else None,
        "own_pages": bool(mine),
    }
    if "fragment" in request.query_params:
        return page(request, "notices_rows.html", actor, **context)
    if mine:
        return page(request, "my_notices.html", actor, here="/notices", **context, **mine)
    rows_href = f"{here}{'&' if everything else '?'}fragment=1" if actor.can("board.today") else None
    return page(request, "notices.html", actor, here="/notices", rows_href=rows_href, **context)


def shown(one: Received, now: datetime) -> dict[str, Any]:
    look, word = LOOKS_OF[one.kind]
    return {
        "id": one.id,
        "look": look,
        "word": word,
        "name": words.person(one.family, one.given, one.called),
        "who": words.who(one.birth_date, one.nhs_number, now),
        "text": one.text,
        "link": one.link,
        "when": f"{words.sentence(words.when(one.at, now))} ({words.ago(one.at, now)})",
        "unread": one.seen is None,
    }


@router.get("/notices/count")
async def count(request: Request) -> Response:
    """How many are unread, for the header of every page, which asks once it is there: no page waits for the count."""
    actor = await _reader(request)
    async with transaction(request) as tx:
        number = await notices.unread(tx.pg, actor)
    shown_number = f"{MANY}+" if number > MANY else str(number)
    text = f'<b>{shown_number}</b><span class="nhsuk-u-visually-hidden"> unread</span>' if number else ""
    return HTMLResponse(text, headers={"Cache-Control": "no-store"})


@router.post("/notices")
async def read(request: Request) -> Response:
    """One is read, or all are."""
    actor = await _reader(request)
    sent = await form(request, actor)
    one = sent.text("notice", 64)
    if not one and sent.text("act") != "all":
        raise refuse(400, "invalid", "The form was not complete. Go back and try again.")
    async with transaction(request) as tx:
        await notices.mark(tx.pg, actor, one or None)
    return RedirectResponse("/notices?show=all" if sent.text("back") == "/notices?show=all" else "/notices", 303)
