"""The charts of a person on one time axis, with a table under each: what the pages of staff and of the person share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from markupsafe import Markup

from fhir.wire import decode
from hub import boards
from hub.db import Tx
from hub.identity import Actor
from hub.pages import happened, words
from hub.pages import person as persons
from hub.pages.axis import Times
from hub.pages.chart import LEVELS, Line, Mark, draw
from hub.pages.happened import Alert
from hub.pages.period import Period
from hub.pages.person import Latest, limit_words
from monitoring.limits import Order, in_force
from monitoring.measures import MEASURES
from monitoring.series import Point, series
from monitoring.state import load_orders

ROWS = 30
"""Rows of the table under a chart; the rest stands on the page of the measure."""

PAIRS: Mapping[str, str] = {"systolic": "diastolic"}
"""Two numbers of one measurement: one chart, one row."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. `observations` are what one may strike through; `who` and `why` say who did."""

    at: datetime
    when: str
    shown: str
    level: str
    quality: str
    why: str | None
    given: str | None
    source: str
    observation: str | None
    mine: bool
    who: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote an Observation, and who struck it through and why, if anybody did."""

    author: str
    name: str
    struck: str | None


async def charts_of(
    tx: Tx, actor: Actor, patient_id: str, shown: Period, now: datetime, *, plain: bool = False
) -> dict[str, Any]:
    """What `charts.html` shows. *plain* is for the person and carers: plain names, and only limits that were set for
    this person."""
    latest = {one.measure: one for one in await persons.latest(tx.pg, patient_id, now, together=False)}
    points = await series(tx.pg, patient_id, list(latest), shown.since, shown.until)
    orders = (await load_orders(tx.pg, [patient_id])).get(patient_id, {})
    names = await boards.names(tx.pg, {order.set_by for order in orders.values()})
    raised = await happened.alerts(tx, actor, patient_id, shown)
    changed = await happened.changes(tx, actor, patient_id, shown)
    noted = await happened.notes(tx, actor, patient_id, shown)
    events = [one.mark() for one in sorted([*changed, *noted], key=lambda one: one.at) if one.struck is None]
    panels = [_keys(key, latest) for key in latest if not _second(key, latest)]
    told = {key: newest(points, key) for key in panels}
    written = await written_by(tx, (point.observation_id for found in told.values() for _, point, _ in found))
    charts = []
    for keys in panels:
        lines = [_line(key, points[key], orders.get(key), plain) for key in keys]
        marks = [_alert(one, at, actor, plain, now) for one in raised for at in _places(one, keys, shown)]
        charts.append(
            _about(keys, latest, lines, orders, names, now, plain)
            | {
                "chart": _drawn(keys, lines, Times(shown.since, shown.until), marks, events, plain),
                "readout": readout(keys, points, now),
                "told": _told(raised, keys, shown, now) if plain else [],
                "rows": [_row(pair, written, lines, actor, now) for pair in told[keys][:ROWS]],
                "hidden": max(0, len(told[keys]) - ROWS),
            }
        )
    return {
        "since": round(shown.since.timestamp()),
        "until": round(shown.until.timestamp()),
        "charts": charts,
        "happened": [
            {"when": words.when(one.at, now), "one": one} for one in sorted([*changed, *noted], key=lambda one: one.at)
        ],
    }


# -- which measures stand together -------------------------------------------------------------------------------------

Keys = tuple[str, ...]
Pair = tuple[str, Point, Point | None]
"""The measure of the first point, the point, and the other number of the same measurement."""


def _keys(key: str, known: Iterable[str]) -> Keys:
    other = PAIRS.get(key)
    return (key, other) if other in set(known) else (key,)


def _second(key: str, known: Iterable[str]) -> bool:
    """Whether it stands in the chart of another measure."""
    return any(second == key and first in set(known) for first, second in PAIRS.items())


def newest(points: Mapping[str, list[Point]], keys: Keys) -> list[Pair]:
    """The readings of a panel, newest first, each with the other number of the same measurement."""
    others = {(one.at, one.observation_id): one for one in (points[keys[1]] if len(keys) > 1 else ())}
    pairs: list[Pair] = [(keys[0], one, others.pop((one.at, one.observation_id), None)) for one in points[keys[0]]]
    pairs += [(keys[1], one, None) for one in others.values()]
    return sorted(pairs, key=lambda pair: pair[1].at, reverse=True)


def _name(keys: Keys, plain: bool) -> str:
    if len(keys) > 1:
        return "Blood pressure"
    return words.sentence(MEASURES[keys[0]].plain) if plain else MEASURES[keys[0]].name


# -- one chart ---------------------------------------------------------------------------------------------------------


def _line(key: str, points: list[Point], order: Order | None, plain: bool) -> Line:
    own = order.limits if order is not None else None
    limits = in_force(key, own, order.scale if order else None)
    if plain and not (order is not None and order.personal):
        limits = None
    every = timedelta(hours=order.every_hours) if order is not None and order.every_hours else None
    return Line(MEASURES[key], points, limits, None, every)


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
        "spoken": _spoken(lines) if good and not measure.answers else "",
        "levels": sum(
            (point.count == 1 and line.level(point.value or 0) > 0) or line.level(point.low or 0) > 0
            for line in lines
            for point in line.good
        ),
    }


def _newest(keys: Keys, latest: Mapping[str, Latest]) -> Latest:
    return persons.paired([latest[key] for key in keys])[0]


def _spoken(lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        good = line.good
        if good:
            lowest, highest = min(p.low or 0 for p in good), max(p.high or 0 for p in good)
            count = words.plural(sum(point.count for point in good), "reading")
            show = line.measure.show
            parts.append(f"{line.measure.name}: {count}, {show(lowest)} to {show(highest)}.")
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


def _alert(alert: Alert, at: datetime, actor: Actor, plain: bool, now: datetime) -> Mark:
    kind = happened.KINDS[alert.severity]
    if plain:
        return Mark(at, kind, f"{words.sentence(words.when(at, now))}: noticed. What it says is below.", "#told")
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


# -- rows and what the pointer reads -----------------------------------------------------------------------------------


def _row(pair: Pair, written: Mapping[str, Written], lines: Sequence[Line], actor: Actor, now: datetime) -> Row:
    key, point, other = pair
    by = written.get(point.observation_id or "")
    each = {key: point} | ({PAIRS[key]: other} if other is not None else {})
    parts = [(line, each[line.measure.key]) for line in lines if line.measure.key in each]
    ends = ((line, end) for line, one in parts if one.good for end in (one.low or 0, one.high or 0))
    worst = max((line.level(end) for line, end in ends), default=0)
    qualities = [one.quality for _, one in parts]
    doubts = dict.fromkeys(one.why for _, one in parts if one.why)
    given = " / ".join(one.given for _, one in parts if one.given) or None
    return Row(
        at=point.at,
        when=_when(point, now),
        shown=_shown(key, point, other),
        level=LEVELS.get(worst, ""),
        quality=next((one for one in ("wrong", "check", "sandbox") if one in qualities), "ok"),
        why=" ".join(doubts) or None,
        given=given,
        source=_source(point, by),
        observation=point.observation_id,
        mine=by is not None and by.author == actor.reference and point.device_id is None,
        who=by.struck if by is not None else None,
    )


def _when(point: Point, now: datetime) -> str:
    if point.count == 1:
        return words.when(point.at, now)
    first, last = (at.astimezone(words.LONDON).date() for at in (point.at, point.until))
    if first != last:
        return f"{words.day(first, persons.today(now))} to {words.day(last, persons.today(now))}"
    return f"{words.when(point.at, now)} to {words.clock(point.until)}"


def _shown(key: str, point: Point, other: Point | None) -> str:
    measure = MEASURES[key]
    if point.count > 1:
        upper = _range(key, point)
        text = f"{upper} / {_range(PAIRS[key], other)}" if other is not None else upper
        return f"{text} {measure.shown}"
    one = persons.shown(key, point.value, point.word)
    if other is None:
        return one
    return f"{one.removesuffix(measure.shown).strip()}/{persons.shown(PAIRS[key], other.value, other.word)}"


def _range(key: str, point: Point) -> str:
    measure = MEASURES[key]
    low, mean, high = (
        f"{measure.round(value or 0):.{measure.decimals}f}" for value in (point.low, point.value, point.high)
    )
    return f"{low} to {high}, mean {mean}"


def _source(point: Point, by: Written | None) -> str:
    if point.count > 1:
        return words.plural(point.count, "reading")
    if point.device_id is not None:
        return f"device {point.device_id}"
    return f"by hand, {by.name if by is not None else 'another system'}"


def readout(keys: Keys, points: Mapping[str, list[Point]], now: datetime) -> str:
    """What `static/charts.js` shows under the pointer: [instant in seconds, words], oldest first."""
    told = [
        [round(point.middle.timestamp()), f"{_when(point, now)}: {_shown(key, point, other)}"]
        for key, point, other in reversed(newest(points, keys))
        if point.good
    ]
    return msgspec.json.encode(told).decode()


async def written_by(tx: Tx, observations: Iterable[str | None]) -> dict[str, Written]:
    """Who wrote each of these Observations first, and who said that it was wrong: one statement."""
    wanted = list({one for one in observations if one})
    if not wanted:
        return {}
    rows = await tx.pg.execute(
        "SELECT v.id, v.author, coalesce(account.name, v.author), struck.author, struck.updated, struck.body"
        " FROM resource_version v LEFT JOIN account ON account.reference = v.author"
        " LEFT JOIN reading r ON r.observation_id = v.id AND r.quality = 'wrong'"
        " LEFT JOIN LATERAL (SELECT coalesce(a.name, s.author) AS author, s.updated, s.body FROM resource_version s"
        "   LEFT JOIN account a ON a.reference = s.author"
        "   WHERE r.observation_id IS NOT NULL AND s.type = 'Observation' AND s.id = v.id"
        "   ORDER BY s.version DESC LIMIT 1) AS struck ON true"
        " WHERE v.type = 'Observation' AND v.version = 1 AND v.id = ANY(%s)",
        (wanted,),
    )
    found = {}
    for id_, author, name, who, when, body in await rows.fetchall():
        struck = _struck(who, when, body) if body is not None else None
        found[id_] = Written(author, _person(name), struck)
    return found


def _struck(who: str, when: datetime, body: str) -> str:
    """`Dr Shah on 18 Nov 2026: cuff was too small`."""
    notes = decode(body.encode()).get("note", ())
    why = f": {notes[-1]['text']}" if notes and notes[-1].get("text") else ""
    return f"{_person(who)} on {words.short_date(_local(when))}{why}"


def _person(name: str) -> str:
    return "another system" if "/" in name else name


def _local(at: datetime) -> date:
    return at.astimezone(words.LONDON).date()
