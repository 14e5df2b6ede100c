"""When a hub looks at its flags, and who is told if nobody does: read by staff, set by whoever may, with a preview."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import psycopg
from fastapi import APIRouter, Request, Response

from fhir import store
from fhir.outcome import Refusal, refuse
from fhir.store import Change, new_id
from hub import audit, flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import records, words
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page
from monitoring import cover as covers
from monitoring.cover import Cover
from monitoring.escalation import AGAIN, CHAIN_WORDS
from monitoring.feedback import watching
from monitoring.hours import DAYS, MIDNIGHT, Closure, Hours, Span, span

router = APIRouter(route_class=PageRoute)

AHEAD = 14
BLANK = 2
"""Rows for closures that are to come, beside those there are."""

_SPAN = re.compile(r"([01]?\d|2[0-4])(?:[:.]([0-5]\d))?\s*(?:to|-|–)\s*([01]?\d|2[0-4])(?:[:.]([0-5]\d))?")


@dataclass(frozen=True, slots=True)
class Kept:
    """The cover of a hub as stored: the resource (None: the default holds), its id, and the version that was read."""

    cover: Cover
    id: str
    version: int
    resource: dict[str, Any] | None


@router.get("/hours")
async def hours(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "board.today")
    return await _page(request, actor, _hub(actor, request.query_params.get("hub", "")))


@router.post("/hours")
async def save(request: Request) -> Response:
    actor = await signed_in(request)
    sent = await form(request, actor)
    demand(actor, "cover.set")
    hub_id = _hub(actor, sent.text("hub", 64))
    if hub_id is None:
        raise refuse(422, "required", "Choose a hub.")
    try:
        tried = _cover(sent)
        if sent.text("act") == "try":
            return await _page(request, actor, hub_id, sent=sent, tried=tried)
        async with transaction(request) as tx:
            kept = await _kept(tx.pg, hub_id)
            if sent.number("version") != kept.version:
                raise refuse(409, "conflict", "Somebody else saved these hours meanwhile. Look at theirs first.")
            resource = covers.to_fhir(tried, hub_id, kept.id, kept.resource)
            method: Any = "update" if kept.version else "create"
            change = Change(method, "HealthcareService", kept.id, resource, if_match=kept.version or None)
            await flows.write(tx, actor, [change])
    except Refusal as refusal:
        if refusal.status not in (409, 412, 422):
            raise
        return await _page(request, actor, hub_id, refusal.issues[0].diagnostics, sent)
    return told(f"/hours?hub={hub_id}", "hours-saved")


def _hub(actor: Actor, asked: str) -> str | None:
    """The hub that is meant: the actor's own; of who belongs to none, the one that is asked for."""
    return actor.hub_id or asked or None


async def _page(
    request: Request,
    actor: Actor,
    hub_id: str | None,
    problem: str | None = None,
    sent: Form | None = None,
    tried: Cover | None = None,
) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        hubs = [] if actor.hub_id else await _hubs(tx)
        hub_id = hub_id if hub_id is None or actor.hub_id or hub_id in [one["id"] for one in hubs] else None
        hub_id = hub_id or (hubs[0]["id"] if hubs else None)
        hub = await records.hub_of(tx.pg, hub_id)
        kept = await _kept(tx.pg, hub_id) if hub_id else Kept(covers.NONE_OF_ITS_OWN, "", 0, None)
        people = await _people(tx, hub_id)
    await runtime(request).reads.record(audit.entry(actor, "read", "HealthcareService", kept.id or None))
    shown = tried or kept.cover
    names = {one["reference"]: one["name"] for one in people}
    return page(
        request,
        "hours.html",
        actor,
        422 if problem else 200,
        here="/hours",
        hub=hub,
        hub_id=hub_id,
        hubs=hubs,
        problem=problem,
        can_set=actor.can("cover.set") and hub_id is not None,
        own=kept.resource is not None,
        tried=tried is not None,
        version=sent.text("version", 10) if sent and problem else kept.version,
        fields=_fields(sent, shown),
        people=people,
        leads=sent.texts("lead") if sent else list(shown.leads),
        on_call=sent.texts("on_call") if sent else list(shown.on_call),
        said_hours=shown.hours.words() or "never",
        said_now=watching(shown, now),
        chain=_chain(shown, names),
        ahead=[_day(one, persons.today(now)) for one in shown.hours.preview(persons.today(now), AHEAD)],
        **({"said": None} if problem or tried else {}),
    )


def _chain(cover: Cover, names: dict[str, str]) -> list[str]:
    red, amber = (words.span(one.total_seconds()) for one in (cover.red, cover.amber))
    coordinator, clinician, lead = CHAIN_WORDS.values()
    leads = words_of([names.get(one, "someone") for one in cover.leads])
    said = [
        f"At once: {coordinator}; without one, everybody in the team.",
        f"Not acknowledged after {red} (red) or {amber} of open hours (amber): {clinician}.",
        f"Not acknowledged after as long again: {lead}{f' ({leads})' if leads else ', that is every clinician here'}; "
        f"then again and again, not more often than every {words.span(AGAIN.total_seconds())}, until somebody does.",
    ]
    if cover.on_call:
        on_call = words_of([names.get(one, "someone") for one in cover.on_call])
        return [*said, f"While the hub is closed, {on_call} is told of red flags too, and their clock goes on."]
    return [*said, "While the hub is closed, the clock stands still: nobody is there to be told."]


def words_of(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _day(day: Any, today: date) -> dict[str, str]:
    return {
        "when": f"{DAYS[day.on.weekday()]} {day.on.day} {words.MONTHS[day.on.month - 1]}",
        "hours": ", ".join(span(one) for one in day.spans) or "Closed",
        "why": day.why or "",
    }


def _fields(sent: Form | None, cover: Cover) -> dict[str, Any]:
    """What stands in the form: what was sent, else what holds."""
    closures = [(one.first.isoformat(), one.last.isoformat(), one.why) for one in cover.hours.closures]
    if sent:
        rows = zip(sent.texts("first"), sent.texts("last"), sent.texts("closed_why"), strict=False)
        closures = [one for one in rows if any(one)]
    return {
        "days": [
            {"name": name, "value": sent.text(f"day-{number}", 80) if sent else _typed(cover.hours.week[number])}
            for number, name in enumerate(DAYS)
        ],
        "bank_holidays": "bank_holidays" in sent if sent else cover.hours.bank_holidays,
        "closures": [*closures, *[("", "", "")] * BLANK],
        "red": sent.text("red", 10) if sent else str(cover.red // timedelta(minutes=1)),
        "amber": sent.text("amber", 10) if sent else words.number(cover.amber / timedelta(hours=1), 2),
        "on_call_phone": sent.text("on_call_phone", 40) if sent else cover.on_call_phone or "",
    }


def _typed(spans: tuple[Span, ...]) -> str:
    if spans == ((0, MIDNIGHT),):
        return "all day"
    return ", ".join(f"{a // 60:02}:{a % 60:02} to {b // 60:02}:{b % 60:02}" for a, b in spans)


def _cover(sent: Form) -> Cover:
    """What the form says. Raises Refusal 422 in words for whoever typed."""
    closures = []
    rows = zip(sent.texts("first"), sent.texts("last"), sent.texts("closed_why"), strict=False)
    for first, last, why in rows:
        if not (first or last or why):
            continue
        if not first or not why:
            raise refuse(422, "required", "A closure has a first day and a reason.")
        closures.append(Closure(_date(first), _date(last or first), why[:200]))
    week = tuple(_spans(sent.text(f"day-{number}", 80), name) for number, name in enumerate(DAYS))
    try:
        hours = Hours(week, "bank_holidays" in sent, tuple(sorted(closures, key=lambda one: one.first)))
    except ValueError as error:
        raise refuse(422, "value", f"These hours cannot be: {error}.") from error
    made = Cover(
        hours,
        timedelta(minutes=_number(sent, "red", "Red: minutes")),
        timedelta(minutes=round(60 * _number(sent, "amber", "Amber: hours"))),
        tuple(sent.texts("lead")),
        tuple(sent.texts("on_call")),
        sent.text("on_call_phone", 40) or None,
    )
    # The same that every other door is held to, before anything is tried or saved.
    covers.from_fhir(covers.to_fhir(made, "x", "x"))
    return made


def _spans(typed: str, name: str) -> tuple[Span, ...]:
    found = []
    for part in filter(None, (one.strip().casefold() for one in typed.split(","))):
        if part in ("all day", "day and night", "24 hours"):
            found.append((0, MIDNIGHT))
            continue
        match = _SPAN.fullmatch(part)
        if match is None:
            raise refuse(
                422, "value", f"{name}: “{part}” is not a time of day. Write such as 09:00 to 17:00, or all day."
            )
        a, b, c, d = (int(one or 0) for one in match.groups())
        found.append((a * 60 + b, c * 60 + d))
    return tuple(sorted(found))


def _number(sent: Form, name: str, label: str) -> float:
    typed = sent.text(name, 10).replace(",", ".")
    try:
        value = float(typed)
    except ValueError as error:
        raise refuse(422, "value", f"{label}: “{typed}” is not a number.") from error
    if not 0 < value < 10_000:
        raise refuse(422, "value", f"{label}: {typed} is too little or too much.")
    return value


def _date(typed: str) -> date:
    try:
        return date.fromisoformat(typed)
    except ValueError as error:
        raise refuse(422, "value", f"“{typed}” is not a day.") from error


async def _kept(pg: psycopg.AsyncConnection[Any], hub_id: str) -> Kept:
    row = await (await pg.execute("SELECT service_id FROM cover WHERE hub_id = %s", (hub_id,))).fetchone()
    if row is None:
        return Kept(covers.NONE_OF_ITS_OWN, new_id(), 0, None)
    stored = (await store.load(pg, [("HealthcareService", row[0])]))["HealthcareService", row[0]]
    found = covers.from_fhir(stored.resource or {})
    return Kept(found[1] if found else covers.NONE_OF_ITS_OWN, row[0], stored.version, stored.resource)


async def _hubs(tx: Tx) -> list[dict[str, str]]:
    """Every hub that has people, for whoever belongs to none."""
    rows = await tx.pg.execute("SELECT DISTINCT hub_id FROM person WHERE hub_id IS NOT NULL ORDER BY 1 LIMIT 100")
    return [{"id": row[0], "name": (await records.hub_of(tx.pg, row[0])).name} for row in await rows.fetchall()]


async def _people(tx: Tx, hub_id: str | None) -> list[dict[str, str]]:
    """Whom the hub may name as leads and on call: its clinicians and coordinators."""
    rows = await tx.pg.execute(
        "SELECT reference, name, role FROM account WHERE active AND hub_id = %s"
        " AND role IN ('clinician', 'care-coordinator') ORDER BY role, name LIMIT 200",
        (hub_id,),
    )
    return [
        {"reference": reference, "name": name, "role": role.replace("-", " ")}
        for reference, name, role in await rows.fetchall()
    ]
