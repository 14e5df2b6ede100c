"""Limits that a named clinician sets for one person: with reason and review date, beside the default."""

from datetime import date, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from fhir.store import new_id
from hub import flows, live_rules, watch
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.asking import how_often
from hub.pages.door import Form, demand, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import limit_words
from hub.pages.rendering import page
from monitoring import replay, series
from monitoring.case import Facts
from monitoring.comparison import Pair, compare
from monitoring.limits import SCALE_2_DEFAULT, Limits, Order, in_force
from monitoring.measures import MEASURES, Measure
from monitoring.state import load_orders

router = APIRouter(route_class=PageRoute)

BOUNDS = (
    ("low_red", "Red at or below"),
    ("low_amber", "Amber at or below"),
    ("high_amber", "Amber at or above"),
    ("high_red", "Red at or above"),
)
EVERY = {"": "Not asked for", "6": "4 a day", "8": "3 a day", "12": "2 a day", "24": "Once a day", "168": "Once a week"}
DAYS = 30
MOST_SHOWN = 20


def _measure(key: str) -> Measure:
    measure = MEASURES.get(key)
    if measure is None or measure.answers:
        raise refuse(404, "not-found", "There is no measure of that name with limits.")
    return measure


@router.get("/patients/{patient_id}/limits/{key}")
async def limits(request: Request, patient_id: str, key: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "limit.set")
    return await _page(request, actor, patient_id, _measure(key))


async def _page(
    request: Request,
    actor: Actor,
    patient_id: str,
    measure: Measure,
    problem: str | None = None,
    sent: Form | None = None,
    tried: Limits | None = None,
) -> Response:
    """The form; *tried* are limits to look back with before they are saved."""
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        order = (await load_orders(tx.pg, [patient_id])).get(patient_id, {}).get(measure.key)
        since = now - timedelta(days=DAYS)
        alerts = await _alerts(tx, patient_id, measure, tried, _scale(measure, sent) if sent else None, now)
        found = await series.series(tx.pg, patient_id, [measure.key], since, now, points=10_000)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "limits", "ServiceRequest"))
    own = order.limits if order else Limits()
    good = [measure.round(point.value or 0) for point in found[measure.key] if point.good]
    scale = _scale(measure, sent) if sent else (order.scale if order else None)
    default = in_force(measure.key, None, scale)
    shown = in_force(measure.key, tried or own, scale)
    return page(
        request,
        "limits.html",
        actor,
        422 if problem else 200,
        tab="/readings",
        person=person,
        now=now,
        measure=measure,
        problem=problem,
        bounds=[
            {
                "name": name,
                "label": label,
                "value": sent.text(name) if sent else _text(getattr(own, name)),
                "default": _text(getattr(default, name)) if default else "",
            }
            for name, label in BOUNDS
        ],
        default=limit_words(default, measure.shown) if default else None,
        default_source=default.source if default else None,
        reason=sent.text("reason") if sent else (order.reason or "" if order else ""),
        overdue=words.day(order.review_on, persons.today(now))
        if order and order.review_on and order.review_due(persons.today(now))
        else None,
        scaled=measure.key == "spo2",
        scale=sent.text("scale", 1) if sent else ("2" if scale == 2 else "1"),
        scale_default=limit_words(SCALE_2_DEFAULT, measure.shown),
        review_on=sent.text("review_on")
        if sent
        else (order.review_on.isoformat() if order and order.review_on else ""),
        shared=sent.text("shared", 1) == "1" if sent else (order is None or not order.personal or order.shared),
        every=sent.text("every") if sent else (_text(order.every_hours) if order else ""),
        everies=EVERY,
        often=how_often(order.schedule) if order and (order.windows or _text(order.every_hours) not in EVERY) else None,
        earliest=(persons.today(now) + timedelta(days=1)).isoformat(),
        days=DAYS,
        tried=tried is not None,
        count=len(good),
        beyond=[
            {"word": word, "count": sum(1 for value in good if shown.level(value)[0] == level)}
            for level, word in ((3, "red"), (2, "amber"))
        ]
        if shown
        else [],
        alerts=alerts,
        **({"said": None} if problem else {}),
    )


async def _alerts(
    tx: Tx,
    patient_id: str,
    measure: Measure,
    tried: Limits | None,
    scale: int | None,
    now: datetime,
) -> dict[str, Any] | None:
    """What the rules of this measure raised in the last DAYS, and what they would have with the limits *tried*."""
    if tried is None:
        return None
    facts = (await watch.facts_of(tx, [patient_id], now)).get(patient_id, Facts())
    rules = (await live_rules.current(tx)).of(patient_id, facts.hub_id)
    was, would = await replay.would_have_raised(
        tx.pg, Order("tried", patient_id, measure.key, tried, scale), now, DAYS, rules
    )
    found = compare(was, would, DAYS, 1, 0)
    return {
        "was": len(found.before.alerts),
        "would": len(found.after.alerts),
        "asked": found.after.information,
        "rows": [_paired(one, now) for one in found.pairs[-MOST_SHOWN:]],
    }


def _paired(pair: Pair, now: datetime) -> dict[str, str]:
    def told(alert: replay.Alert | None) -> str:
        if alert is None:
            return "–"
        return f"{words.when(alert.called or alert.opened, now)}, {words.SEVERITY_WORDS[alert.worst].lower()}"

    return {"was": told(pair.before), "would": told(pair.after)}


def _text(value: float | None) -> str:
    return "" if value is None else words.number(value, 2)


@router.post("/patients/{patient_id}/limits/{key}")
async def save(request: Request, patient_id: str, key: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "limit.set")
    measure = _measure(key)
    sent = await form(request, actor)
    try:
        limits_sent = Limits(**{name: _number(sent, name, label) for name, label in BOUNDS})  # type: ignore[arg-type]
        if sent.text("act") == "try":
            return await _page(request, actor, patient_id, measure, sent=sent, tried=limits_sent)
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            known = (await load_orders(tx.pg, [patient_id])).get(patient_id, {}).get(measure.key)
            order = Order(
                service_request_id=new_id(),
                patient_id=patient_id,
                measure=measure.key,
                limits=limits_sent,
                scale=_scale(measure, sent),
                every_hours=_every(sent, known),
                set_by=actor.reference,
                reason=sent.text("reason", 500) or None,
                review_on=_day(sent.text("review_on")),
                shared=sent.text("shared", 1) == "1",
                windows=known.windows if known else "",
                starts=known.starts if known else None,
                ends=known.ends if known else None,
            )
            if order.scale == 2 and not order.reason:
                raise refuse(
                    422, "required", "Say who confirmed hypercapnic failure, and the target, such as 88 to 92 %."
                )
            if order.personal and not order.reason:
                raise refuse(422, "required", "Say why these limits are right for this person.")
            if (order.personal or order.scale) and order.review_on is None:
                raise refuse(422, "required", "Say on which day the limits are looked at again.")
            await flows.set_limits(tx, actor, order)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _page(request, actor, patient_id, measure, _as_on_the_form(refusal.issues[0].diagnostics), sent)
    return told(f"/patients/{patient_id}/readings#{measure.key}", "limits-saved")


def _every(sent: Form, known: Order | None) -> float | None:
    """How often it is asked for: as the plan of monitoring says, where that names windows of the day or anything that
    this form has no words for."""
    if known is not None and (known.windows or _text(known.every_hours) not in EVERY):
        return known.every_hours
    every = sent.text("every")
    return float(every) if every in EVERY and every else None


def _as_on_the_form(problem: str) -> str:
    """*problem* with each bound called what its field is called."""
    for name, label in BOUNDS:
        problem = problem.replace(name.replace("_", "-"), f"“{label}”")
    return problem


def _scale(measure: Measure, sent: Form) -> int | None:
    """SpO2 scale 2 where it was chosen; scale 1 is what holds without an order."""
    return 2 if measure.key == "spo2" and sent.text("scale", 1) == "2" else None


def _number(sent: Form, name: str, label: str) -> float | None:
    typed = sent.text(name, 20).replace(",", ".")
    if not typed:
        return None
    try:
        value = float(typed)
    except ValueError as error:
        raise refuse(422, "value", f"{label}: “{typed}” is not a number.") from error
    if not -1e6 < value < 1e6:
        raise refuse(422, "value", f"{label}: “{typed}” is not a number that can be measured.")
    return value


def _day(typed: str) -> date | None:
    try:
        return date.fromisoformat(typed) if typed else None
    except ValueError as error:
        raise refuse(422, "value", f"“{typed}” is not a day.") from error
