"""Rows of readings as tables show them: what was measured, where it came from, and who said that it was wrong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from fhir.wire import decode
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.chart import LEVELS, Line
from monitoring.measures import MEASURES
from monitoring.series import Point

PAIRS: Mapping[str, str] = {"systolic": "diastolic"}
"""Two numbers of one measurement: one chart, one row."""

Keys = tuple[str, ...]
Pair = tuple[str, Point, Point | None]
"""The measure of the first point, the point, and the other number of the same measurement."""


def keys_of(key: str, known: Iterable[str]) -> Keys:
    other = PAIRS.get(key)
    return (key, other) if other in set(known) else (key,)


def second(key: str, known: Iterable[str]) -> bool:
    """Whether it stands in the chart of another measure."""
    return any(second == key and first in set(known) for first, second in PAIRS.items())


def newest(points: Mapping[str, list[Point]], keys: Keys) -> list[Pair]:
    """The readings of a panel, newest first, each with the other number of the same measurement."""
    others = {(one.at, one.observation_id): one for one in (points[keys[1]] if len(keys) > 1 else ())}
    pairs: list[Pair] = [(keys[0], one, others.pop((one.at, one.observation_id), None)) for one in points[keys[0]]]
    pairs += [(keys[1], one, None) for one in others.values()]
    return sorted(pairs, key=lambda pair: pair[1].at, reverse=True)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. `why` it is doubtful; `struck` says who struck it through and why; `strike` and `restore`
    whether the reader may; `odd` whether it was sent in another unit."""

    at: datetime
    when: str
    shown: str
    level: str
    quality: str
    why: str | None
    given: str | None
    odd: bool
    source: str
    observation: str | None
    struck: str | None
    strike: bool
    restore: bool


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote an Observation, and who struck it through and why, if anybody did."""

    author: str
    name: str
    struck: str | None
    struck_by: str | None


def row(pair: Pair, written: Mapping[str, Written], lines: Sequence[Line], actor: Actor, now: datetime) -> Row:
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
        odd=point.given is not None and not point.given.endswith(("'", MEASURES[key].unit)),
        source=_source(point, by),
        observation=point.observation_id,
        struck=by.struck if by is not None else None,
        **_may(actor, point, by),
    )


def _may(actor: Actor, point: Point, by: Written | None) -> dict[str, bool]:
    """Whoever may correct readings, and whoever wrote one by hand; another's striking through is not theirs to undo."""
    if point.observation_id is None:
        return {"strike": False, "restore": False}
    anybodys = actor.can("reading.correct")
    own = by is not None and by.author == actor.reference and point.device_id is None
    wrong = point.quality == "wrong"
    taken_back = own and by is not None and by.struck_by == actor.reference
    return {"strike": not wrong and (anybodys or own), "restore": wrong and (anybodys or taken_back)}


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
        "SELECT v.id, v.author, coalesce(account.name, v.author),"
        " struck.name, struck.author, struck.updated, struck.body"
        " FROM resource_version v LEFT JOIN account ON account.reference = v.author"
        " LEFT JOIN reading r ON r.observation_id = v.id AND r.quality = 'wrong'"
        " LEFT JOIN LATERAL (SELECT coalesce(a.name, s.author) AS name, s.author, s.updated, s.body"
        "   FROM resource_version s LEFT JOIN account a ON a.reference = s.author"
        "   WHERE r.observation_id IS NOT NULL AND s.type = 'Observation' AND s.id = v.id"
        "   ORDER BY s.version DESC LIMIT 1) AS struck ON true"
        " WHERE v.type = 'Observation' AND v.version = 1 AND v.id = ANY(%s)",
        (wanted,),
    )
    found = {}
    for id_, author, name, who, struck_by, when, body in await rows.fetchall():
        struck = _struck(who, when, body) if body is not None else None
        found[id_] = Written(author, _person(name), struck, struck_by)
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
