"""The charts of a person on one time axis, with a table under each: what the pages of staff and of the person share."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from fhir.outcome import refuse
from hub import boards
from hub.db import Tx
from hub.identity import Actor
from hub.pages import happened, profiles, words
from hub.pages import person as persons
from hub.pages.axis import Times
from hub.pages.chart import Band, Line, Mark, draw
from hub.pages.happened import Alert
from hub.pages.period import Period
from hub.pages.person import Latest, limit_words
from hub.pages.reading_rows import PAIRS, Keys, keys_of, newest, readout, row, second, written_by
from monitoring import glucose_sensor
from monitoring.baseline import LENGTH, Baseline, TooFew
from monitoring.limits import Order, in_force
from monitoring.measures import MEASURES
from monitoring.series import Point, one_by_one, series
from monitoring.state import load_orders
from monitoring.summaries import pressure_week, sensor_profile, usual_of

ROWS = 30
"""Rows of the table under a chart; the rest stands on the page of the measure."""

PAGE = 50
"""Rows of the page that lists the readings of a measure one by one."""

WIDE = 2.0
"""Spreads on either side of the middle that a band spans: of a normal distribution, 19 of 20 readings."""


async def charts_of(
    tx: Tx, actor: Actor, patient_id: str, shown: Period, now: datetime, *, plain: bool = False
) -> dict[str, Any]:
    """What `charts.html` shows. *plain* is for the person and carers: plain names, and only limits that were set for
    this person and are shared with them."""
    latest = {one.measure: one for one in await persons.latest(tx.pg, patient_id, now, together=False)}
    points = await series(tx.pg, patient_id, list(MEASURES), shown.since, shown.until)
    # Of a measure with nothing but wrong readings there is no latest, but they stay in sight.
    known = [key for key in MEASURES if key in latest or points[key]]
    orders = (await load_orders(tx.pg, [patient_id])).get(patient_id, {})
    names = await boards.names(tx.pg, {order.set_by for order in orders.values()})
    at = min(shown.until, now)
    usual = {} if plain else await usual_of(tx.pg, patient_id, known, orders, at)
    week = await pressure_week(tx.pg, patient_id, at) if "systolic" in known else None
    sensed = await sensor_profile(tx.pg, patient_id, at) if glucose_sensor.SENSOR in known else None
    raised = await happened.alerts(tx, actor, patient_id, shown)
    changed = await happened.changes(tx, actor, patient_id, shown)
    noted = await happened.notes(tx, actor, patient_id, shown)
    events = sorted([*changed, *noted], key=lambda one: one.at, reverse=True)
    rulers = [one.mark(now, f"#happened-{number}") for number, one in enumerate(events) if one.struck is None]
    panels = [keys_of(key, known) for key in known if not second(key, known)]
    told = {keys: newest(points, keys) for keys in panels}
    written = await written_by(tx, (point.observation_id for pairs in told.values() for _, point, _ in pairs[:ROWS]))
    # A little room at the right, or the newest reading is cut in half.
    times = Times(shown.since, shown.until + (shown.until - shown.since) / 80)
    charts = []
    for keys in panels:
        lines = [_line(key, points[key], orders.get(key), usual.get(key), at, plain) for key in keys]
        marks = [_alert(one, at, keys, actor, plain, now) for one in raised for at in _places(one, keys, shown)]
        charts.append(
            _about(keys, latest, lines, orders, names, now, plain)
            | {
                "chart": _drawn(keys, lines, times, marks, rulers, plain),
                "readout": readout(keys, points, now),
                "usual": [_usual_words(usual[key], len(keys) > 1) for key in keys if key in usual],
                "week": profiles.week_words(week, plain) if week is not None and keys[0] == "systolic" else [],
                "sensor": profiles.sensor(sensed) if sensed and keys[0] == glucose_sensor.SENSOR else None,
                "told": _told(raised, keys, shown, now) if plain else [],
                "rows": [row(pair, written, lines, actor, now) for pair in told[keys][:ROWS]],
                "hidden": max(0, len(told[keys]) - ROWS),
            }
        )
    return {
        "since": round(shown.since.timestamp()),
        "until": round(times.until.timestamp()),
        "charts": charts,
        "happened": [
            {
                "when": words.sentence(words.when(one.at, now)),
                "one": one,
                "strike": one.observation_id is not None
                and one.struck is None
                and (one.author == actor.reference or actor.can("reading.correct")),
            }
            for one in events
        ],
    }


async def listed(
    tx: Tx, actor: Actor, patient_id: str, key: str, shown: Period, after: tuple[datetime, str] | None, now: datetime
) -> dict[str, Any]:
    """The readings of a measure one by one, newest first, a page of them. Refusal 404 for an unknown measure."""
    if key not in MEASURES:
        raise refuse(404, "not-found", "There is no measure of that name.")
    keys = (key, PAIRS[key]) if key in PAIRS else (key,)
    found = await one_by_one(tx.pg, patient_id, keys, shown.since, shown.until, after, len(keys) * (PAGE + 1))
    points: dict[str, list[Point]] = {one: [] for one in keys}
    for measure, point in found:
        points[measure].append(point)
    pairs = newest(points, keys)
    more = len(pairs) > PAGE
    pairs = pairs[:PAGE]
    orders = (await load_orders(tx.pg, [patient_id])).get(patient_id, {})
    plain = actor.kind == "patient"
    lines = [_line(one, points[one], orders.get(one), None, now, plain) for one in keys]
    written = await written_by(tx, (point.observation_id for _, point, _ in pairs))
    last = pairs[-1][1] if pairs else None
    return {
        "key": key,
        "name": _name(keys, plain),
        "unit": MEASURES[key].shown,
        "rows": [row(pair, written, lines, actor, now) for pair in pairs],
        "more": {"at": last.at.isoformat(), "id": last.observation_id} if more and last is not None else None,
    }


# -- which measures stand together -------------------------------------------------------------------------------------


def _name(keys: Keys, plain: bool) -> str:
    if len(keys) > 1:
        return "Blood pressure"
    return words.sentence(MEASURES[keys[0]].plain) if plain else MEASURES[keys[0]].name


# -- one chart ---------------------------------------------------------------------------------------------------------


def _line(
    key: str, points: list[Point], order: Order | None, usual: Baseline | TooFew | None, at: datetime, plain: bool
) -> Line:
    own = order.limits if order is not None else None
    limits = in_force(key, own, order.scale if order else None)
    if plain and not (order is not None and order.personal and order.shared):
        limits = None
    every = timedelta(hours=order.every_hours) if order is not None and order.every_hours else None
    band = None
    if isinstance(usual, Baseline):
        low, high = _wide(usual)
        band = Band(low, usual.centre, high, at - LENGTH, at)
    return Line(MEASURES[key], points, limits, band, every)


def _usual_words(usual: Baseline | TooFew, named: bool) -> str:
    if isinstance(usual, TooFew):
        return usual.text()
    measure = MEASURES[usual.measure]
    low, high = (measure.show(value) for value in _wide(usual))
    name = f"{measure.name}: " if named else ""
    return f"{name}{usual.text()}, mostly {low.removesuffix(measure.shown).strip()} to {high}."


def _wide(usual: Baseline) -> tuple[float, float]:
    """The ends of the band; there is no oxygen saturation of 101 %."""
    least, most = MEASURES[usual.measure].plausible
    half = WIDE * usual.spread
    return max(least, usual.centre - half), min(most, usual.centre + half)


def _drawn(
    keys: Keys, lines: Sequence[Line], times: Times, marks: list[Mark], events: list[Mark], plain: bool
) -> Markup:
    if MEASURES[keys[0]].answers:
        return Markup("")
    return draw(_name(keys, plain), lines, times, marks, events)


def _about(
    keys: Keys,
    latest: Mapping[str, Latest],
    lines: Sequence[Line],
    orders: Mapping[str, Order],
    names: Mapping[str, str],
    now: datetime,
    plain: bool,
) -> dict[str, Any]:
    measure = MEASURES[keys[0]]
    good = [point for line in lines for point in line.good]
    return {
        "key": keys[0],
        "also": keys[1:],
        "name": _name(keys, plain),
        "unit": measure.shown,
        "newest": _newest(keys, latest),
        "count": sum(point.count for point in lines[0].points),
        "limits": [_limits(line, orders.get(line.measure.key), names, now, len(keys) > 1) for line in lines],
        "spoken": _spoken(lines, plain) if good and not measure.answers else "",
        "levels": sum(
            (point.count == 1 and line.level(point.value or 0) > 0) or line.level(point.low or 0) > 0
            for line in lines
            for point in line.good
        ),
    }


def _newest(keys: Keys, latest: Mapping[str, Latest]) -> Latest | None:
    return next(iter(persons.paired([latest[key] for key in keys if key in latest])), None)


def _spoken(lines: Sequence[Line], plain: bool) -> str:
    parts = []
    for line in lines:
        good = line.good
        if good:
            lowest, highest = min(p.low or 0 for p in good), max(p.high or 0 for p in good)
            count = words.plural(sum(point.count for point in good), "reading")
            show = line.measure.show
            name = words.sentence(line.measure.plain) if plain else line.measure.name
            parts.append(f"{name}: {count}, {show(lowest)} to {show(highest)}.")
    return " ".join(parts)


def _limits(line: Line, order: Order | None, names: Mapping[str, str], now: datetime, named: bool) -> dict[str, Any]:
    measure = line.measure
    personal = order is not None and order.personal
    scale = order.scale if order is not None else None
    default = in_force(measure.key, None, scale)
    return {
        "key": measure.key,
        "name": measure.name if named else None,
        "numeric": not measure.answers,
        "text": limit_words(line.limits, measure.shown) if line.limits else None,
        "personal": personal,
        "ordered": personal or scale is not None,
        "scale": scale,
        "overdue": order is not None and order.review_due(persons.today(now)),
        "default": limit_words(default, measure.shown) if personal and default else None,
        "reason": order.reason if order else None,
        "set_by": names.get(order.set_by or "") if order else None,
        "review": words.long_date(order.review_on) if order and order.review_on else None,
    }


# -- alerts ------------------------------------------------------------------------------------------------------------


def _places(alert: Alert, keys: Keys, shown: Period) -> list[datetime]:
    """Where it stands in a chart: at its readings of these measures, one mark for each instant."""
    return sorted({at for measure, at in alert.at if measure in keys and shown.since <= at < shown.until})


def _alert(alert: Alert, at: datetime, keys: Keys, actor: Actor, plain: bool, now: datetime) -> Mark:
    kind = happened.KINDS[alert.severity]
    if plain:
        return Mark(
            at, kind, f"{words.sentence(words.when(at, now))}: noticed. What it says is below.", f"#told-{keys[0]}"
        )
    state = words.STATES.get(alert.state, alert.state).lower()
    text = f"{words.SEVERITY_WORDS[alert.severity]}, {words.when(at, now)}: {alert.summary} ({state})"
    return Mark(at, kind, text, f"/flags/{alert.flag_id}" if actor.can("flag.acknowledge") else None)


UNSEEN = "A rule noticed this reading. This does not mean that somebody has looked at it."


def _told(raised: Sequence[Alert], keys: Keys, shown: Period, now: datetime) -> list[dict[str, str]]:
    """What the person was told of their readings, newest first. The words of a flag are for staff."""
    found = [(max(at), one.advice or UNSEEN) for one in raised if (at := _places(one, keys, shown))]
    return [
        {"when": words.sentence(words.when(at, now)), "text": text} for at, text in sorted(found, reverse=True)[:10]
    ]
