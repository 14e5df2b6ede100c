"""What the pages about devices ask of the database: the fleet with its filters, one device, and its last messages."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from hub.access import may_read, people, visible
from hub.identity import Actor
from monitoring.doubts import CLOCK_OFF
from monitoring.instruments import INSTRUMENTS
from monitoring.measures import MEASURES

PAGE = 50
LOW_BATTERY = 20
"""Per cent. Ours."""
LATELY = timedelta(days=7)
GRACE = 1.5
"""Of what is agreed, or of the device's own rhythm: then it is silent."""
UNKNOWN_RHYTHM = 72.0
"""Hours after which a device is silent of which nothing is agreed and that has no rhythm yet. Ours."""

CHIPS = ("silent", "battery", "clock", "unassigned", "paused", "refused", "gone")


@dataclass(frozen=True, slots=True)
class Row:
    """A device of the fleet. `silent_hours`: what it was expected within. `patient_id` and the names are None where
    the reader may not see the person; `held` says whether somebody holds it."""

    id: str
    name: str
    status: str
    gone: str | None
    kind: str | None
    serial: str | None
    held: bool
    patient_id: str | None
    family: str | None
    given: str | None
    heard: datetime | None
    battery: int | None
    clock_off: float | None
    paused: datetime | None
    refused: int
    reason: str | None
    silent: bool
    expected: float | None


# The order of questions: nobody is chased while it is paused, and the rhythm is only worked out for who is quiet.
_JUDGED = f"""
WITH kind AS (SELECT key, measures FROM jsonb_to_recordset(%(kinds)s) AS one(key text, measures text[])),
mine AS MATERIALIZED (
    SELECT device.id, device.name, device.status, device.gone, device.kind, device.serial, device.patient_id,
           state.heard, state.battery, state.clock_off,
           CASE WHEN device.patient_id IS NOT NULL THEN (
               SELECT max(pause.until) FROM pause WHERE pause.patient_id = device.patient_id
               AND pause.since <= %(now)s AND pause.until > %(now)s AND coalesce(pause.device_id, device.id) = device.id
               AND (pause.measures IS NULL OR pause.device_id = device.id)) END AS paused,
           (SELECT min(every_hours) FROM monitoring_limit l LEFT JOIN kind ON kind.key = device.kind
            WHERE l.active AND l.patient_id = device.patient_id AND l.measure = ANY(kind.measures)) AS agreed
    FROM device LEFT JOIN device_state state ON state.device_id = device.id
    WHERE {{visible}} AND {{search}}
), quiet AS (
    SELECT mine.*, patient_id IS NOT NULL AND status = 'active'
               AND (heard IS NULL OR heard < %(now)s - interval '1 hour') AS quiet FROM mine
), paced AS MATERIALIZED (
    SELECT quiet.*, CASE WHEN quiet THEN coalesce(agreed * {GRACE}, (
        SELECT greatest(24, extract(epoch FROM max(at) - min(at)) / 3600 / (count(DISTINCT at) - 1) * 3)
        FROM (SELECT at FROM reading WHERE device_id = quiet.id ORDER BY received DESC LIMIT 20) AS last
        HAVING count(DISTINCT at) > 3), {UNKNOWN_RHYTHM})::float8 END AS expected
    FROM quiet
), judged AS MATERIALIZED (
    SELECT paced.*, paused IS NULL AND quiet
               AND (heard IS NULL OR heard < %(now)s - expected * interval '1 hour') AS silent,
           EXISTS (SELECT 1 FROM refusal WHERE device_id = paced.id AND at > %(lately)s) AS refused
    FROM paced
)"""

_IS = {
    "silent": "silent",
    "battery": f"status = 'active' AND battery <= {LOW_BATTERY}",
    "clock": f"status = 'active' AND abs(clock_off) > {CLOCK_OFF}",
    "unassigned": "status = 'active' AND patient_id IS NULL",
    "paused": "paused IS NOT NULL",
    "refused": "refused",
    "gone": "status <> 'active'",
}
_COUNTS = ", ".join(f"count(*) FILTER (WHERE {condition}) AS n_{chip}" for chip, condition in _IS.items())

# The counts come with the page in one statement, over the same devices.
_PAGE = f"""
SELECT counts.*, judged.id, judged.name, judged.status, judged.gone, judged.kind, judged.serial,
       judged.patient_id IS NOT NULL AS held, person.patient_id, person.family, person.given,
       judged.heard, judged.battery, judged.clock_off, judged.paused,
       coalesce(lately.n, 0) AS refused, lately.reason, judged.silent, judged.expected
FROM (SELECT count(*) AS n_all, {_COUNTS} FROM judged) counts
LEFT JOIN (SELECT * FROM judged WHERE {{chip}}
      ORDER BY status <> 'active', NOT silent, patient_id IS NULL, paused IS NOT NULL, heard NULLS FIRST, id
      LIMIT {PAGE + 1} OFFSET %(offset)s) judged ON true
LEFT JOIN person ON person.patient_id = judged.patient_id AND {{people}}
LEFT JOIN LATERAL (SELECT count(*) AS n, (array_agg(reason ORDER BY at DESC))[1] AS reason
    FROM (SELECT at, reason FROM refusal WHERE device_id = judged.id AND at > %(lately)s ORDER BY at DESC LIMIT 100) few
) lately ON true
ORDER BY judged.status <> 'active', NOT judged.silent, judged.patient_id IS NULL, judged.paused IS NOT NULL,
         judged.heard NULLS FIRST, judged.id"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """`counts` per chip over all devices that the reader sees (and the search finds), `all` beside them."""

    rows: list[Row]
    counts: dict[str, int]
    more: bool


async def fleet(
    pg: psycopg.AsyncConnection[Any],
    actor: Actor,
    now: datetime,
    *,
    chip: str | None = None,
    search: str = "",
    page: int = 1,
    only: str | None = None,
) -> Fleet:
    """The devices that *actor* may see, silent ones first. *search*: the beginning of a serial number, id or name of
    the device, or of the family name of who holds it, where the reader may see them. *only*: this device."""
    allowed = visible(actor)("Device", "device")
    if allowed is None:
        return Fleet([], {}, False)
    values: dict[str, Any] = {
        "kinds": Jsonb([{"key": one.key, "measures": one.measures} for one in INSTRUMENTS.values()]),
        "now": now,
        "lately": now - LATELY,
        "offset": PAGE * (page - 1),
    }
    seen = people(actor, "person.patient_id")
    theirs = _named(seen.text, seen.params, "seen", values) if seen else "false"
    parts = {"visible": _named(allowed.text, allowed.params, "own", values), "search": "true"}
    if only is not None:
        values["only"] = only
        parts["search"] = "device.id = %(only)s"
    elif search.strip():
        values["begins"] = _like(search) + "%"
        values["holds"] = "%" + _like(search) + "%"
        parts["search"] = (
            "(device.serial LIKE %(begins)s OR lower(device.id) LIKE %(begins)s OR lower(device.name) LIKE %(holds)s"
            " OR EXISTS (SELECT 1 FROM person WHERE person.patient_id = device.patient_id"
            f" AND person.search_name LIKE %(begins)s AND {theirs}))"
        )
    listed = _PAGE.format(chip=_IS.get(chip or "", "true"), people=theirs)
    cursor = pg.cursor(row_factory=dict_row)
    await cursor.execute(_JUDGED.format(**parts) + listed, values, prepare=False)
    told = await cursor.fetchall()
    counts = {name: told[0].pop(f"n_{name}") for name in ("all", *CHIPS)} if told else {}
    found = [Row(**{name: row[name] for name in Row.__slots__}) for row in told if row["id"] is not None]
    return Fleet(found[:PAGE], counts, len(found) > PAGE)


def _named(sql: str, params: tuple[Any, ...], name: str, values: dict[str, Any]) -> str:
    """*sql* with named parameters in place of its `%s`, which are put into *values*."""
    for number, value in enumerate(params):
        values[f"{name}{number}"] = value
        sql = sql.replace("%s", f"%({name}{number})s", 1)
    return sql


def _like(text: str) -> str:
    cleaned = text.strip().casefold()[:100].replace("\x00", "")
    return cleaned.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# -- one device --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """Who held the device; the names are None where the reader may not see the person."""

    patient_id: str | None
    family: str | None
    given: str | None
    since: datetime | None
    until: datetime | None


async def uses(pg: psycopg.AsyncConnection[Any], actor: Actor, device_id: str) -> list[Use]:
    """Who holds it, and who held it, the newest first."""
    values: dict[str, Any] = {"id": device_id}
    seen = people(actor, "person.patient_id")
    theirs = _named(seen.text, seen.params, "seen", values) if seen else "false"
    cursor = pg.cursor(row_factory=class_row(Use))
    await cursor.execute(
        "SELECT person.patient_id, person.family, person.given, held.since, held.until FROM ("
        " SELECT patient_id, since, NULL::timestamptz AS until FROM device WHERE id = %(id)s AND patient_id IS NOT NULL"
        " UNION ALL SELECT patient_id, since, until FROM device_use WHERE device_id = %(id)s AND until IS NOT NULL"
        f") held LEFT JOIN person ON person.patient_id = held.patient_id AND {theirs}"
        " ORDER BY held.until DESC NULLS FIRST, held.since DESC NULLS LAST LIMIT 50",
        values,
    )
    return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a device. `outcome`: stored, refused, duplicate or record. `what` is what was measured, None where
    the reader may not see it; `reason` and `detail` why it was refused, or what was doubtful."""

    at: datetime
    outcome: str
    what: str | None
    measured: datetime | None
    reason: str | None
    detail: str | None
    quality: str | None


_MESSAGES = """
SELECT * FROM (
    (SELECT received AS at, 'stored' AS outcome, observation_id, measure, value, word, reading.at AS measured,
            NULL AS reason, why AS detail, quality, {seen} AS shown
     FROM reading WHERE device_id = %(id)s AND received > %(since)s ORDER BY received DESC LIMIT 60)
    UNION ALL
    (SELECT at, 'refused', id, NULL, NULL, NULL, NULL, reason, detail, NULL, true
     FROM refusal WHERE device_id = %(id)s AND at > %(since)s ORDER BY at DESC LIMIT %(most)s)
    UNION ALL
    (SELECT at, CASE outcome WHEN 'duplicate' THEN outcome ELSE 'record' END, at::text AS id, NULL, NULL, NULL,
            NULL, NULL, told, NULL, true
     FROM device_aside WHERE device_id = %(id)s AND at > %(since)s ORDER BY at DESC LIMIT %(most)s)
) AS message ORDER BY at DESC, measured DESC, observation_id, measure DESC"""


async def messages(
    pg: psycopg.AsyncConnection[Any], actor: Actor, device_id: str, since: datetime, most: int = 20
) -> list[Message]:
    """The last *most* messages of a device that the reader may see, the newest first. What was measured only where they
    may see it."""
    values: dict[str, Any] = {"id": device_id, "most": most, "since": since}
    seen = people(actor, "reading.patient_id") if may_read(actor, "Observation") else None
    theirs = _named(seen.text, seen.params, "seen", values) if seen else "false"
    rows = await pg.execute(_MESSAGES.format(seen=theirs), values, prepare=False)
    found: dict[str, Message] = {}
    for at, outcome, id_, measure, value, word, measured, reason, detail, quality, shown in await rows.fetchall():
        what = _what(measure, value, word) if shown and measure else None
        if (known := found.get(id_)) is not None:
            both = ", ".join(one for one in (known.what, what) if one) or None
            found[id_] = Message(known.at, outcome, both, measured, reason, known.detail or detail, known.quality)
        else:
            told = detail if shown or outcome != "stored" else None
            found[id_] = Message(at, outcome, what, measured if shown else None, reason, told, quality)
    return list(found.values())[:most]


async def latest(pg: psycopg.AsyncConnection[Any], device_id: str) -> Any:
    """Changes whenever the device sent something: cheap enough to be asked every second by an open page."""
    rows = await pg.execute(
        "SELECT (SELECT received FROM reading WHERE device_id = %(id)s ORDER BY received DESC LIMIT 1),"
        " (SELECT at FROM refusal WHERE device_id = %(id)s ORDER BY at DESC LIMIT 1),"
        " (SELECT max(at) FROM device_aside WHERE device_id = %(id)s)",
        {"id": device_id},
    )
    return await rows.fetchone()


def _what(measure: str, value: float | None, word: str | None) -> str:
    known = MEASURES.get(measure)
    if known is None:
        return measure
    return f"{known.name} {known.show(value) if value is not None else known.words.get(word or '', word or '')}"
