"""A person's plan of monitoring: what they measure, how often, within which limits, and what came of it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from fhir.outcome import Refusal, refuse
from hub import asked, boards, pauses
from hub.asked import Asked, Undo
from hub.identity import Actor
from hub.pages import asking, words
from hub.pages import person as persons
from hub.pages.door import Form, demand, demand_sight, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import limit_words
from hub.pages.questions import may_answer
from hub.pages.rendering import page
from monitoring import schedules, templates
from monitoring.limits import Order, in_force
from monitoring.measures import AGREED, MEASURES
from monitoring.pauses import REASONS, Pause, to_come
from monitoring.questionnaires import INSTRUMENTS
from monitoring.schedules import LONDON, Schedule, Window

router = APIRouter(route_class=PageRoute)

TAB = "/monitoring"
EVERY = {
    "24": "Once a day", "12": "2 a day", "8": "3 a day", "6": "4 a day", "168": "Once a week", "672": "Every 4 weeks",
    "2184": "Every 13 weeks",
}  # fmt: skip
WINDOWS = 4
"""How many windows of a day the form has."""

CHOICES = tuple(
    key
    for key, measure in MEASURES.items()
    if key not in AGREED and key not in asking.PARTS and not measure.answers and key != "phq-9-item-9"
)
"""What can be asked for by itself: the lower blood pressure comes with the upper one."""


@router.get("/patients/{patient_id}/monitoring")
async def monitoring(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    demand_sight(actor, "Observation")
    return await _page(request, actor, patient_id)


async def _page(request: Request, actor: Actor, patient_id: str, problem: str | None = None) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        found = await asked.asked(tx.pg, patient_id, now)
        latest = {one.measure: one for one in await persons.latest(tx.pg, patient_id, now)}
        names = await boards.names(tx.pg, {one.order.set_by for one in found})
        stopped = await asked.stopped(tx.pg, patient_id, now)
        paused = await to_come(tx.pg, patient_id, now)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "plan of monitoring", "ServiceRequest"))
    by_key = {one.order.measure: one for one in found}
    return page(
        request,
        "monitoring.html",
        actor,
        422 if problem else 200,
        tab=TAB,
        person=person,
        now=now,
        problem=problem,
        rows=[_row(one, by_key, latest, names, now) for one in found if not _is_part(one, by_key)],
        stopped=[{"name": asking.name_of(one.measure), "undo": f"{one.service_request_id}.{version}"}
                 for one, version in stopped],
        pauses=[{"id": one.id, "words": _pause_words(one, now)} for one in paused],
        reasons=REASONS,
        templates=[
            {"key": key, "title": one["title"], "description": one["description"], "source": one["purpose"]}
            for key, one in templates.TEMPLATES.items()
        ],
        measures=[{"key": key, "name": asking.name_of(key)} for key in CHOICES if key not in by_key],
        questions=[{"key": key, "title": one.definition["title"]} for key, one in INSTRUMENTS.items()]
        if may_answer(actor)
        else [],
        undo=request.query_params.get("undo", "")[:2000],
        can_edit=actor.can("limit.set"),
        can_pause=actor.can("monitoring.pause"),
        tomorrow=(persons.today(now) + timedelta(days=1)).isoformat(),
        **({"said": None} if problem else {}),
    )  # fmt: skip


def _is_part(one: Asked, by_key: dict[str, Asked]) -> bool:
    return one.order.measure in asking.PARTS and "systolic" in by_key


def _row(
    one: Asked, by_key: dict[str, Asked], latest: dict[str, persons.Latest], names: dict[str, str], now: datetime
) -> dict[str, Any]:
    orders = [one.order]
    if one.order.measure == "systolic":
        lower = by_key.get("diastolic")
        orders.append(lower.order if lower else Order("", one.order.patient_id, "diastolic"))
    newest = latest.get(one.order.measure)
    return asking.row(one, now) | {
        "value": newest.shown if newest else None,
        "limits": [_limits(each, names, len(orders) > 1, now) for each in orders],
    }


def _limits(order: Order, names: dict[str, str], named: bool, now: datetime) -> dict[str, Any]:
    measure = MEASURES[order.measure]
    own = limit_words(order.limits, measure.shown) if order.personal else None
    default = in_force(order.measure, None, order.scale)
    return {
        "key": order.measure,
        "name": measure.name if named else None,
        "own": own,
        "scale": order.scale,
        "default": limit_words(default, measure.shown) if default else None,
        "by": names.get(order.set_by or "", "a clinician") if own or order.scale else None,
        "reason": order.reason,
        "review": words.long_date(order.review_on) if order.review_on else None,
        "overdue": order.review_due(persons.today(now)),
    }


def _pause_words(one: Pause, now: datetime) -> str:
    what = "Everything" if one.measures is None else ", ".join(asking.name_of(key) for key in sorted(one.measures))
    since = "" if one.since <= now else f" from {words.when(one.since, now)}"
    return f"{what}{since} until {words.when(one.until, now)}: {one.reason}"


# -- changes -----------------------------------------------------------------------------------------------------------


@router.get("/patients/{patient_id}/monitoring/{key}")
async def measure(request: Request, patient_id: str, key: str) -> Response:
    """How often and when one measure is asked for."""
    actor = await signed_in(request)
    demand(actor, "limit.set")
    return await _form(request, actor, patient_id, _known(key))


def _known(key: str) -> str:
    if key not in CHOICES:
        raise refuse(404, "not-found", "There is no such measure to be asked for.")
    return key


async def _form(
    request: Request, actor: Actor, patient_id: str, key: str, sent: Form | None = None, problem: str | None = None
) -> Response:
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        orders = {one.order.measure: one.order for one in await asked.asked(tx.pg, patient_id, now)}
    await runtime(request).reads.record(persons.looked(actor, patient_id, "plan of monitoring", "ServiceRequest"))
    order = orders.get(key)
    schedule = order.schedule if order else Schedule(24.0)
    times = [tuple(str(one).split("-")) for one in schedule.windows]
    every = f"{schedule.every_hours:g}" if schedule.every_hours and not schedule.windows else "24"
    return page(
        request,
        "monitoring_measure.html",
        actor,
        422 if problem else 200,
        tab=TAB,
        person=person,
        now=now,
        key=key,
        name=asking.name_of(key),
        problem=problem,
        known=order is not None,
        every=sent.text("every") if sent else every,
        everies=EVERY if every in EVERY else {every: words.every(float(every)), **EVERY},
        windows=[
            {
                "number": number + 1,
                "start": sent.text(f"start-{number}") if sent else (times[number][0] if number < len(times) else ""),
                "end": sent.text(f"end-{number}") if sent else (times[number][1] if number < len(times) else ""),
            }
            for number in range(WINDOWS)
        ],
        days=[
            {
                "number": str(number),
                "name": name,
                "checked": str(number) in sent.texts("day") if sent else number in schedule.days,
            }
            for number, name in enumerate(asking.DAYS, 1)
        ],
        ends=sent.text("ends") if sent else _day_of(order),
        earliest=persons.today(now).isoformat(),
        **({"said": None} if problem else {}),
    )


def _day_of(order: Order | None) -> str:
    return (order.ends - timedelta(seconds=1)).astimezone(LONDON).date().isoformat() if order and order.ends else ""


@router.post("/patients/{patient_id}/monitoring/{key}")
async def save(request: Request, patient_id: str, key: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "limit.set")
    sent = await form(request, actor)
    now = persons.present()
    try:
        order = replace(_order(sent, patient_id, _known(key), now), set_by=actor.reference)
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            made = await asked.ask(tx, actor, [order], now)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _form(request, actor, patient_id, key, sent, refusal.issues[0].diagnostics)
    return _changed(patient_id, made, "monitoring-saved")


def _order(sent: Form, patient_id: str, key: str, now: datetime) -> Order:
    windows = [
        {"url": schedules.WINDOW, "extension": [{"url": "start", "valueTime": start}, {"url": "end", "valueTime": end}]}
        for number in range(WINDOWS)
        if (start := sent.text(f"start-{number}", 8)) or sent.text(f"end-{number}", 8)
        for end in [sent.text(f"end-{number}", 8)]
    ]
    chosen = [schedules.WEEK[int(one) - 1] for one in sent.texts("day") if one in "1234567" and one]
    found, days = schedules.from_repeat({"extension": windows, "dayOfWeek": chosen})
    every = sent.text("every", 10)
    hours = schedules.every(found, days) if found else float(every) if every in EVERY else None
    if hours is None:
        raise refuse(422, "required", "Say how often it is measured.")
    typed = sent.text("ends", 10)
    try:
        last = date.fromisoformat(typed) if typed else None
    except ValueError as error:
        raise refuse(422, "value", f"“{typed}” is not a day.") from error
    if last is not None and last < persons.today(now):
        raise refuse(422, "value", "The last day is over already. Choose today or a day to come.")
    ends = datetime.combine(last + timedelta(days=1), time(), LONDON) if last else None
    return Order("", patient_id, key, every_hours=hours, windows=_text(found, days), starts=now, ends=ends)


def _text(windows: Sequence[Window], days: Sequence[int]) -> str:
    return Schedule(None, tuple(windows), tuple(days)).text


@router.post("/patients/{patient_id}/monitoring")
async def change(request: Request, patient_id: str) -> Response:
    """What one button does: use a template, add a measure, stop one, undo, pause, end a pause."""
    actor = await signed_in(request)
    sent = await form(request, actor)
    act = sent.text("act", 20)
    now = persons.present()
    if act == "add":
        demand(actor, "limit.set")
        return RedirectResponse(f"/patients/{patient_id}/monitoring/{_known(sent.text('measure', 40))}", 303)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            match act:
                case "template" if not sent.text("template", 40):
                    raise refuse(422, "required", "Choose a template.")
                case "template":
                    made = await asked.use_template(tx, actor, patient_id, sent.text("template", 40), now)
                    said = "template-used"
                case "stop":
                    made, said = (
                        await asked.stop(tx, actor, patient_id, sent.text("key", 40), now),
                        "monitoring-stopped",
                    )
                case "undo":
                    await asked.undo(tx, actor, patient_id, _undo(sent.text("undo", 2000)), now)
                    made, said = [], "monitoring-undone"
                case "pause":
                    since = max(now, _midnight(sent.text("since", 10), "from"))
                    until = _midnight(sent.text("until", 10), "until") + timedelta(days=1)
                    reason = sent.text("reason", 300) or REASONS.get(sent.text("code", 20), "")
                    code = sent.text("code", 20)
                    await pauses.pause(tx, actor, patient_id, since, until, reason, code=code, now=now)
                    made, said = [], "monitoring-paused"
                case "resume":
                    why = sent.text("why", 300) or "Ended on the plan of monitoring"
                    await pauses.end(tx, actor, sent.text("pause", 64), why, now)
                    made, said = [], "monitoring-resumed"
                case _:
                    raise refuse(400, "invalid", "The form was not complete. Go back and try again.", "act")
    except Refusal as refusal:
        if refusal.status not in (409, 422):
            raise
        return await _page(request, actor, patient_id, refusal.issues[0].diagnostics)
    return _changed(patient_id, made, said)


def _midnight(typed: str, which: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(typed), time(), LONDON)
    except ValueError as error:
        raise refuse(422, "value", f"Say {which} which day, such as 24 12 2026.") from error


def _undo(typed: str) -> list[Undo]:
    found = []
    for one in typed.split(","):
        id_, _, version = one.rpartition(".")
        if not id_ or not version.isdigit():
            raise refuse(422, "value", "There is nothing to undo.")
        found.append((id_, int(version)))
    return found


def _changed(patient_id: str, made: Sequence[Undo], said: str) -> Response:
    undo = ",".join(f"{id_}.{version}" for id_, version in made)
    return told(f"/patients/{patient_id}/monitoring{f'?undo={undo}' if undo else ''}", said)
