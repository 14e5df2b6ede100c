"""Who looks at a hub's flags, when, and who is told if nobody does: data of each hub, kept as a FHIR HealthcareService.

Delays are those of monitoring-rules 4.10 (red 15 minutes, amber 4 hours), which are local values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import psycopg

from fhir.outcome import Refusal, refuse
from monitoring.hours import DEFAULT, MIDNIGHT, Closure, Hours, Span

JSON = dict[str, Any]

SYSTEM, TYPE = "https://carehub.example/fhir/CodeSystem/service-type", "flag-cover"
EXT = "https://carehub.example/fhir/StructureDefinition/flag-cover"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

LONGEST_RED, LONGEST_AMBER = timedelta(hours=4), timedelta(days=5)
"""What a hub may choose at most. Ours."""
MOST_CLOSURES, MOST_PEOPLE = 100, 20


@dataclass(frozen=True, slots=True)
class Cover:
    """How a hub looks after its flags.

    `red` and `amber`: how long a flag waits to be acknowledged before it is told further up. `leads` are told last and
    `on_call` while the hub is closed, as references; `on_call_phone` is what patients may ring then.
    """

    hours: Hours = DEFAULT
    red: timedelta = timedelta(minutes=15)
    amber: timedelta = timedelta(hours=4)
    leads: tuple[str, ...] = ()
    on_call: tuple[str, ...] = ()
    on_call_phone: str | None = None


NONE_OF_ITS_OWN = Cover()
NO_HUB = Cover(hours=Hours(((),) * 7))
"""What a person without a home hub may be told: that nobody looks at fixed hours."""


def to_fhir(cover: Cover, hub_id: str, id: str, before: JSON | None = None) -> JSON:
    """*cover* of the hub as a HealthcareService; whatever else *before* says is kept."""
    parts: list[JSON] = [
        {"url": "red-minutes", "valueInteger": cover.red // timedelta(minutes=1)},
        {"url": "amber-minutes", "valueInteger": cover.amber // timedelta(minutes=1)},
        {"url": "bank-holidays", "valueBoolean": cover.hours.bank_holidays},
    ]
    parts += [{"url": "lead", "valueReference": {"reference": one}} for one in cover.leads]
    parts += [{"url": "on-call", "valueReference": {"reference": one}} for one in cover.on_call]
    if cover.on_call_phone:
        parts.append({"url": "on-call-phone", "valueString": cover.on_call_phone})
    others = [one for one in (before or {}).get("extension", ()) if one.get("url") != EXT]
    resource = {
        **(before or {}),
        "resourceType": "HealthcareService",
        "id": id,
        "extension": [*others, {"url": EXT, "extension": parts}],
        "active": True,
        "providedBy": {"reference": f"Organization/{hub_id}"},
        "type": [{"coding": [{"system": SYSTEM, "code": TYPE, "display": "Cover of flags"}]}],
        "name": (before or {}).get("name") or "Readings and flags",
        "availableTime": [
            {"daysOfWeek": [WEEKDAYS[number]], **_available(one)}
            for number, spans in enumerate(cover.hours.week)
            for one in spans
        ],
        "notAvailable": [
            {"description": one.why, "during": {"start": one.first.isoformat(), "end": one.last.isoformat()}}
            for one in cover.hours.closures
        ],
    }
    return {key: value for key, value in resource.items() if value != []}


def is_cover(resource: JSON) -> bool:
    codings = (coding for one in resource.get("type", ()) for coding in one.get("coding", ()))
    return any((one.get("system"), one.get("code")) == (SYSTEM, TYPE) for one in codings)


def from_fhir(resource: JSON) -> tuple[str, Cover] | None:
    """The hub (id) and its cover; None for a HealthcareService of another kind, or one that is no longer active.

    Raises Refusal 422 that says what is wrong: hours that overlap, a delay that nobody should choose.
    """
    if not is_cover(resource) or resource.get("active") is False:
        return None
    kind, _, hub_id = resource.get("providedBy", {}).get("reference", "").partition("/")
    if kind != "Organization" or not hub_id:
        raise _wrong("Say whose cover it is.", "HealthcareService.providedBy")
    found: JSON = next((one for one in resource.get("extension", ()) if one.get("url") == EXT), {})
    parts: Sequence[JSON] = found.get("extension", ())
    one = {part.get("url"): part for part in parts}
    red, amber = (
        timedelta(minutes=part["valueInteger"])
        if isinstance((part := one.get(name, {})).get("valueInteger"), int)
        else otherwise
        for name, otherwise in (("red-minutes", NONE_OF_ITS_OWN.red), ("amber-minutes", NONE_OF_ITS_OWN.amber))
    )
    for name, chosen, most in (("Red", red, LONGEST_RED), ("Amber", amber, LONGEST_AMBER)):
        if not timedelta(minutes=1) <= chosen <= most:
            words = f"{most.days} days" if most.days else f"{most // timedelta(hours=1)} hours"
            raise _wrong(f"{name} waits at least a minute and at most {words}.", "HealthcareService.extension")
    leads, on_call = (_people(parts, name) for name in ("lead", "on-call"))
    holidays = one.get("bank-holidays", {}).get("valueBoolean") is not False
    phone = one.get("on-call-phone", {}).get("valueString")
    return hub_id, Cover(_hours(resource, holidays), red, amber, leads, on_call, phone)


def _available(one: Span) -> JSON:
    if one == (0, MIDNIGHT):
        return {"allDay": True}
    start, end = (f"{minutes // 60:02}:{minutes % 60:02}:00" for minutes in one)
    return {"availableStartTime": start, "availableEndTime": end}


def _hours(resource: JSON, bank_holidays: bool) -> Hours:
    week: list[list[Span]] = [[] for _ in WEEKDAYS]
    try:
        for one in resource.get("availableTime", ()):
            for name in one.get("daysOfWeek", ()):
                week[WEEKDAYS.index(name)].append(_span(one))
        closures = tuple(
            Closure(_day(one["during"]["start"]), _day(one["during"]["end"]), one["description"])
            for one in resource.get("notAvailable", ())
        )
        if len(closures) > MOST_CLOSURES:
            raise ValueError(f"there are more than {MOST_CLOSURES} closures")
        return Hours(tuple(tuple(sorted(spans)) for spans in week), bank_holidays, closures)
    except (KeyError, ValueError) as error:
        text = f"These hours cannot be: {error.args[0] if error.args else error}."
        raise _wrong(text, "HealthcareService.availableTime") from error


def _span(one: JSON) -> Span:
    if one.get("allDay"):
        return (0, MIDNIGHT)
    start, end = (one[f"available{which}Time"].split(":") for which in ("Start", "End"))
    return int(start[0]) * 60 + int(start[1]), int(end[0]) * 60 + int(end[1])


def _day(text: str) -> date:
    return date.fromisoformat(text[:10])


def _people(parts: Sequence[JSON], name: str) -> tuple[str, ...]:
    found = [part.get("valueReference", {}).get("reference", "") for part in parts if part.get("url") == name]
    if len(found) > MOST_PEOPLE or any(not one.startswith("Practitioner/") for one in found):
        text = f"Name at most {MOST_PEOPLE} people, each as Practitioner/x."
        raise _wrong(text, "HealthcareService.extension")
    return tuple(dict.fromkeys(found))


def _wrong(text: str, expression: str) -> Refusal:
    return refuse(422, "value", text, expression)


# -- its row -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def of_row(resource: str | None) -> Cover:
    """The cover that a row of the table `cover` holds as JSON; the default where there is none."""
    found = from_fhir(msgspec.json.decode(resource)) if resource else None
    return found[1] if found else NONE_OF_ITS_OWN


async def load_cover(pg: psycopg.AsyncConnection[Any], hub_ids: Sequence[str | None]) -> dict[str | None, Cover]:
    """The cover of each hub; the default for one that has none of its own, and for nobody's (None)."""
    rows = await pg.execute("SELECT hub_id, resource FROM cover WHERE hub_id = ANY(%s)", (list(set(hub_ids)),))
    known = {hub_id: of_row(resource) for hub_id, resource in await rows.fetchall()}
    return {hub_id: known.get(hub_id, NONE_OF_ITS_OWN) for hub_id in hub_ids}


async def told_cover(pg: psycopg.AsyncConnection[Any], hub_id: str | None) -> Cover:
    """The cover of which a person of this hub is told; no hub, no hours."""
    return (await load_cover(pg, [hub_id]))[hub_id] if hub_id else NO_HUB


async def project_cover(pg: psycopg.AsyncConnection[Any], written: Sequence[tuple[str, JSON | None]]) -> None:
    """Write the rows of *written* HealthcareServices (id, resource), None for a deleted one. Refusal 409 for a second
    one of a hub."""
    found = [(id_, resource, from_fhir(resource) if resource else None) for id_, resource in written]
    await pg.execute("DELETE FROM cover WHERE service_id = ANY(%s)", ([id_ for id_, _, _ in found],))
    for id_, resource, cover in found:
        if cover is None:
            continue
        kept = {
            key: resource[key]
            for key in ("type", "providedBy", "extension", "availableTime", "notAvailable")
            if resource and key in resource
        }
        text = msgspec.json.encode(kept).decode()
        put = await pg.execute(
            "INSERT INTO cover (service_id, hub_id, resource) VALUES (%s, %s, %s) ON CONFLICT (hub_id) DO NOTHING",
            (id_, cover[0], text),
        )
        if not put.rowcount:
            raise refuse(409, "duplicate", "This hub has its cover in another HealthcareService.", "HealthcareService")
