"""Readings that come in another format than FHIR and name no person: whose they are, and what they become.

The person is whoever held the device when it was measured, as the hub knows it; `hub.intake` then judges what comes of
it as it judges every other Observation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir import wire
from fhir.outcome import Refusal
from fhir.validation import parse
from hub.db import Database
from hub.identity import SANDBOX_PERSON, Actor
from hub.intake import DeviceRefused, Sent, sent
from monitoring.formats import csv_exports, open_mhealth
from monitoring.readings import instant

JSON = dict[str, Any]

NOBODY = "Patient/nobody"
"""Stands for the person while it is not known when it was measured."""


@dataclass(frozen=True, slots=True)
class Held:
    """Who held a device: from `since` to `until`; None: without bound."""

    patient_id: str
    since: datetime | None
    until: datetime | None

    def at(self, moment: datetime) -> bool:
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


Holders = Mapping[str, Sequence[Held]]
"""By the id of the device."""

_HELD = """
    SELECT id, patient_id, since, NULL FROM device WHERE id = ANY(%s) AND patient_id IS NOT NULL
    UNION ALL
    SELECT device_id, patient_id, since, until FROM device_use WHERE device_id = ANY(%s) AND until IS NOT NULL"""


async def holders(database: Database, device_ids: Iterable[str]) -> Holders:
    """Who holds and held these devices, whoever holds them now first."""
    ids = sorted(set(device_ids))
    async with database.reading() as pg:
        rows = await (await pg.execute(_HELD, (ids, ids))).fetchall()
    return {one: [Held(*rest) for id_, *rest in rows if id_ == one] for one in ids}


def translated(
    actor: Actor, raw: bytes, point: object, known: Holders, translate: Callable[[object, str], JSON]
) -> Sent:
    """What *actor*'s device sent as *raw*, of which *point* is the content, as an Observation of its holder.

    Raises Refusal when it cannot be one, or when nobody held the device then.
    """
    made = translate(point, NOBODY)
    at = instant(made)
    held = next((one for one in known.get(actor.id, ()) if at is not None and one.at(at)), None)
    if held is None and not actor.sandbox:
        text = "This device is assigned to nobody." if not known.get(actor.id) else "Nobody held this device then."
        raise DeviceRefused("unassigned-device", text, "Observation.device")
    subject = f"Patient/{held.patient_id if held else SANDBOX_PERSON}"
    made["subject"] = {"reference": subject}
    for performer in made.get("performer", ()):
        performer["reference"] = subject
    return sent(actor, parse(wire.encode(made), "Observation").resource, raw)


Line = tuple[int, Sent | tuple[Actor, bytes, Refusal]]


@dataclass(frozen=True, slots=True)
class Content:
    """What a body holds: `numbered` are line, text as it came, and what it is (JSON, an Observation without its person,
    or why it is neither); `aside` are lines that are no readings by their nature."""

    numbered: Sequence[tuple[int, bytes, object]]
    translate: Callable[[object, str], JSON]
    aside: Sequence[tuple[int, str]] = ()


def content(media: str, raw: bytes) -> Content:
    """*raw* in the format *media*, one of FORMATS. Raises Refusal for a body of which nothing can be read."""
    return FORMATS[media](raw)


def lines(actor: Actor, content: Content, known: Holders) -> list[Line]:
    """Each line as what is to be stored, or as what was refused."""
    found: list[Line] = []
    for number, raw, point in content.numbered:
        try:
            if isinstance(point, Refusal):
                raise point
            found.append((number, translated(actor, raw, point, known, content.translate)))
        except Refusal as refusal:
            found.append((number, (actor, raw, refusal)))
    return found


def _data_points(raw: bytes) -> Content:
    """One data point, or an array of them."""
    if raw.lstrip()[:1] == b"[":
        points = wire.decode_array(raw)
        return Content([(n, wire.encode(one), one) for n, one in enumerate(points, 1)], open_mhealth.observation)
    return Content([(1, raw, wire.decode(raw))], open_mhealth.observation)


def _data_point_lines(raw: bytes) -> Content:
    """A data point a line."""
    numbered: list[tuple[int, bytes, object]] = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.strip():
            try:
                numbered.append((number, line, wire.decode(line)))
            except Refusal as refusal:
                numbered.append((number, line, refusal))
    return Content(numbered, open_mhealth.observation)


def _csv(raw: bytes) -> Content:
    found = csv_exports.export(raw, NOBODY)
    return Content(
        [(row.line, row.text.encode(), row.refusal or row.observation) for row in found.rows], _as_it_is, found.aside
    )


def _as_it_is(made: object, subject: str) -> JSON:
    assert isinstance(made, dict)
    return {**made, "subject": {"reference": subject}}


FORMATS: Mapping[str, Callable[[bytes], Content]] = {
    "application/vnd.openmhealth+json": _data_points,
    "application/vnd.openmhealth+ndjson": _data_point_lines,
    "text/csv": _csv,
}
"""Content types of `$ingest` beside FHIR's own."""
