"""All readings of a person: a chart per measure with its limits, a table under each, and where each came from."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from hub import boards, flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import hand, words
from hub.pages import person as persons
from hub.pages.door import demand, demand_sight, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import Latest, limit_words
from hub.pages.rendering import page
from monitoring import series
from monitoring.limits import Limits, Order, in_force
from monitoring.measures import MEASURES
from monitoring.series import Point
from monitoring.state import load_orders

router = APIRouter(route_class=PageRoute)

RANGES = {
    "day": ("Day", 1), "week": ("Week", 7), "month": ("Month", 31), "year": ("Year", 366), "decade": ("10 years", 3653),
}  # fmt: skip
ROWS = 30


@router.get("/patients/{patient_id}/readings")
async def readings(request: Request, patient_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    demand_sight(actor, "Observation")
    now = persons.present()
    range_ = request.query_params.get("range", "month")
    range_ = range_ if range_ in RANGES else "month"
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
        charts = await charts_of(tx, actor, patient_id, range_, now)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "readings", "Observation", "search"))
    here = f"/patients/{patient_id}/readings"
    return page(
        request,
        "readings.html",
        actor,
        tab="/readings",
        person=person,
        now=now,
        charts=charts,
        ranges=[
            {"name": name, "href": f"{here}?range={key}", "current": key == range_} for key, (name, _) in RANGES.items()
        ],
        range=range_,
        can_limit=actor.can("limit.set"),
        can_correct=actor.can("reading.correct"),
        **hand.fields(here),
        can_add=actor.can("reading.write"),
    )


async def charts_of(tx: Tx, actor: Actor, patient_id: str, range_: str, now: datetime) -> list[dict[str, Any]]:
    """One chart per measure that the person has; a measure of words has a table only."""
    since = now - timedelta(days=RANGES[range_][1])
    latest = {one.measure: one for one in await persons.latest(tx.pg, patient_id, now, together=False)}
    orders = (await load_orders(tx.pg, [patient_id])).get(patient_id, {})
    names = await boards.names(tx.pg, {order.set_by for order in orders.values()})
    charts = []
    for key, newest in latest.items():
        points = await series.series(tx.pg, patient_id, key, since, now + timedelta(minutes=5))
        charts.append(_chart(key, newest, points, orders.get(key), names, since, now))
    authors = await _authors(tx, [row["observation"] for chart in charts for row in chart["rows"] if row["hand"]])
    for chart in charts:
        for row in chart["rows"]:
            if row["hand"]:
                row["source"] = f"by hand, {authors.get(row['observation'], 'another system')}"
    return charts


async def _authors(tx: Tx, observations: list[str | None]) -> dict[str, str]:
    """Who wrote readings that came by hand."""
    wanted = [one for one in observations if one]
    if not wanted:
        return {}
    rows = await tx.pg.execute(
        "SELECT v.id, coalesce(account.name, v.author) FROM resource_version v"
        " LEFT JOIN account ON account.reference = v.author"
        " WHERE v.type = 'Observation' AND v.version = 1 AND v.id = ANY(%s)",
        (wanted,),
    )
    return {row[0]: row[1] if "/" not in row[1] else "another system" for row in await rows.fetchall()}


def _chart(
    key: str,
    newest: Latest,
    points: list[Point],
    order: Order | None,
    names: dict[str, str],
    since: datetime,
    now: datetime,
) -> dict[str, Any]:
    measure = MEASURES[key]
    personal = order is not None and order.personal
    scale = order.scale if order is not None else None
    limits = in_force(key, order.limits if order is not None else None, scale)
    default = in_force(key, None, scale)
    good = [point for point in points if point.quality == "ok" and point.value is not None]
    doubtful = [point for point in points if point.quality != "ok" and point.value is not None]
    return {
        "key": key,
        "name": measure.name,
        "unit": measure.shown,
        "newest": newest,
        "count": sum(point.count for point in points),
        "limits": limit_words(limits, measure.shown) if limits else None,
        "personal": personal,
        "ordered": personal or scale is not None,
        "scale": scale,
        "overdue": order is not None and order.review_due(persons.today(now)),
        "default": limit_words(default, measure.shown) if personal and default else None,
        "reason": order.reason if order else None,
        "set_by": names.get(order.set_by or "") if order else None,
        "review": words.long_date(order.review_on) if order and order.review_on else None,
        "chart": None if measure.answers or not good else _data(measure.decimals, good, doubtful, limits, since, now),
        "spoken": f"{measure.name}: {words.plural(len(good), 'reading')}, "
        f"{measure.show(min(p.low or 0 for p in good))} to {measure.show(max(p.high or 0 for p in good))}."
        if good and not measure.answers
        else "",
        "rows": [_row(key, point, now) for point in reversed(points[-ROWS:])],
        "hidden": max(0, len(points) - ROWS),
    }


def _data(
    decimals: int, good: list[Point], doubtful: list[Point], limits: Limits | None, since: datetime, now: datetime
) -> str:
    """What static/charts.js draws: instants in seconds since 1970, values, and limits."""
    series_ = sorted([*good, *doubtful], key=lambda point: point.at)
    bounds = (limits.low_red, limits.low_amber, limits.high_amber, limits.high_red) if limits else (None,) * 4
    return msgspec.json.encode(
        {
            "at": [round(point.at.timestamp()) for point in series_],
            "value": [round(point.value or 0, decimals + 1) if point.quality == "ok" else None for point in series_],
            "doubtful": [round(point.value or 0, decimals + 1) if point.quality != "ok" else None for point in series_],
            "limits": bounds,
            "decimals": decimals,
            "from": round(since.timestamp()),
            "until": round(now.timestamp()),
        }
    ).decode()


def _row(key: str, point: Point, now: datetime) -> dict[str, Any]:
    text = persons.shown(key, point.value, point.word)
    if point.count > 1:
        measure = MEASURES[key]
        text = f"{measure.show(point.low or 0)} to {measure.show(point.high or 0)}"
    return {
        "shown": text,
        "when": words.when(point.at, now),
        "given": point.given,
        "quality": point.quality,
        "why": point.why,
        "observation": point.observation_id,
        "hand": point.device_id is None and point.count == 1,
        "source": f"{point.count} readings" if point.count > 1 else f"device {point.device_id}",
    }


@router.post("/patients/{patient_id}/readings/{observation_id}/wrong")
async def wrong(request: Request, patient_id: str, observation_id: str) -> Response:
    """Strike a reading through, with the reason; it stays in the record."""
    actor = await signed_in(request)
    demand(actor, "reading.correct")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await persons.find(tx.pg, actor, patient_id)
        await flows.mark_wrong(tx, actor, observation_id, sent.text("why", 500))
    return told(f"/patients/{patient_id}/readings", "reading-wrong")
