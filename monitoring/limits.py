"""Limits: the defaults with their source, and the personal ones that a named clinician sets (FHIR ServiceRequest)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import inf, isfinite
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import Issue, Refusal
from monitoring import schedules
from monitoring.measures import BY_CODE, MEASURES, UCUM, Measure
from monitoring.schedules import Schedule

JSON = dict[str, Any]

EXT = "https://carehub.example/fhir/StructureDefinition/"
CATEGORY = ("https://carehub.example/fhir/CodeSystem/service-category", "home-monitoring")
PANEL = frozenset({("http://loinc.org", "85354-9"), ("http://snomed.info/sct", "75367002")})
"""Blood pressure ordered as a whole: expected as often as its upper number; limits go on the parts."""

RED, AMBER, INFORMATION = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in the measure's unit: at or beyond `low_red` / `high_red` is red, at or beyond the amber ones amber."""

    low_red: float | None = None
    low_amber: float | None = None
    high_amber: float | None = None
    high_red: float | None = None
    source: str = ""

    @property
    def bounds(self) -> tuple[float | None, float | None, float | None, float | None]:
        return self.low_red, self.low_amber, self.high_amber, self.high_red

    @property
    def given(self) -> bool:
        """Whether there is any bound."""
        return any(bound is not None for bound in self.bounds)

    @property
    def inside(self) -> tuple[float, float]:
        """Between which bounds, neither reached, a value is within the limits."""
        low = [bound for bound in (self.low_red, self.low_amber) if bound is not None]
        high = [bound for bound in (self.high_red, self.high_amber) if bound is not None]
        return max(low, default=-inf), min(high, default=inf)

    def level(self, value: float) -> tuple[int, str | None, float | None]:
        """(severity, side, bound crossed) of a rounded *value*: (3, "low", 92.0), (0, None, None)."""
        if self.low_red is not None and value <= self.low_red:
            return RED, "low", self.low_red
        if self.high_red is not None and value >= self.high_red:
            return RED, "high", self.high_red
        if self.low_amber is not None and value <= self.low_amber:
            return AMBER, "low", self.low_amber
        if self.high_amber is not None and value >= self.high_amber:
            return AMBER, "high", self.high_amber
        return 0, None, None


_GLUCOSE = Limits(
    low_red=2.9,
    low_amber=3.8,
    high_amber=14.0,
    source="consensus levels (PMC8481000 table 1): below 3.9 level 1, below 3.0 level 2, above 13.9 level 2 high",
)

DEFAULTS: dict[str, Limits] = {
    "spo2": Limits(
        low_red=92, low_amber=94, source="NHS COVID Oximetry @home C1396 v1.3 diary: 93-94 recheck, 92 or less urgent"
    ),
    "systolic": Limits(high_amber=170, source="home equivalent of NICE NG136's clinic 180/120; unverified"),
    "diastolic": Limits(high_amber=115, source="home equivalent of NICE NG136's clinic 180/120; unverified"),
    "glucose": _GLUCOSE,
    "glucose-sensor": _GLUCOSE,
}
"""What holds for a person with no limits of their own. A measure that is absent has none: nothing watches its level."""

SCALE_2_DEFAULT = Limits(
    low_red=83,
    low_amber=87,
    source="NEWS2 SpO2 scale 2 (RCP 2017): 86-87 scores 1, 84-85 scores 2, 83 or less scores 3; target 88-92",
)
"""SpO2 for a person whom a clinician put on scale 2 without other limits."""


def in_force(measure: str, own: Limits | None, scale: int | None) -> Limits | None:
    """The limits that hold for a person: their *own* where any bound is set, else the default of the measure, which for
    SpO2 depends on the *scale*. None where nothing watches the level."""
    if own is not None and own.given:
        return own
    if measure == "spo2" and scale == 2:
        return SCALE_2_DEFAULT
    return DEFAULTS.get(measure)


@dataclass(frozen=True, slots=True)
class Order:
    """Home monitoring of one measure for one person, as ordered: the row of `monitoring_limit`. `windows` are those of
    the day, as `Schedule.text` writes them; readings are asked for from `starts` until `ends`, where these are set.
    `shared`: whether the person sees the limits on their own pages."""

    service_request_id: str
    patient_id: str
    measure: str
    limits: Limits = Limits()
    scale: int | None = None
    every_hours: float | None = None
    set_by: str | None = None
    reason: str | None = None
    review_on: date | None = None
    active: bool = True
    windows: str = ""
    starts: datetime | None = None
    ends: datetime | None = None
    shared: bool = False

    @property
    def personal(self) -> bool:
        """Whether limits were set; an order may ask for readings only and leave the defaults in force."""
        return self.limits.given

    @property
    def schedule(self) -> Schedule:
        """When readings are asked for."""
        return schedules.of(self.every_hours, self.windows)

    def review_due(self, today: date) -> bool:
        """Whether the day has come on which what a clinician set is to be looked at again."""
        return (self.personal or self.scale is not None) and self.review_on is not None and self.review_on <= today


_BOUNDS = ("low-red", "low-amber", "high-amber", "high-red")
LONGEST_HOURS = 24 * 366.0
"""A reading asked for less often than once a year is not home monitoring, and nothing is overdue."""
SHORTEST_HOURS = 1 / 60
"""FHIR allows any decimal as a period, also a negative one."""

_HOURS = {"h": 1.0, "d": 24.0, "wk": 168.0, "min": 1 / 60}


def from_service_request(resource: JSON) -> Order | None:
    """The order that *resource* holds, or None when it is not home monitoring of a measure that we know.

    Raises `Refusal` (422) where `check` would.
    """
    if not _is_monitoring(resource):
        return None
    measure = _ordered_measure(resource)
    if measure is None:
        return None
    extensions = {one.get("url"): one for one in resource.get("extension", ())}
    bounds: dict[str, float] = {}
    for one in extensions.get(EXT + "limits", {}).get("extension", ()):
        quantity = one.get("valueQuantity") or {}
        if one.get("url") in _BOUNDS and quantity.get("value") is not None:
            if _is_panel(resource):
                text = "Set limits on systolic (8480-6) or diastolic (8462-4) pressure, not on the panel."
                raise Refusal(422, [Issue("value", text, "ServiceRequest.code")])
            bounds[one["url"]] = _bound(measure, one["url"], quantity)
    repeat = resource.get("occurrenceTiming", {}).get("repeat", {})
    every = None
    if repeat.get("frequency") and repeat.get("period") and repeat.get("periodUnit") in _HOURS:
        every = float(repeat["period"]) * _HOURS[repeat["periodUnit"]] / float(repeat["frequency"])
        every = every if SHORTEST_HOURS <= every <= LONGEST_HOURS else None
    windows, days = schedules.from_repeat(repeat)
    if windows:
        every = schedules.every(windows, days)
    bounds_of = repeat.get("boundsPeriod", {})
    review = extensions.get(EXT + "review-on", {}).get("valueDate")
    requester = resource.get("requester", {})
    order = Order(
        service_request_id=resource.get("id", ""),
        patient_id=resource.get("subject", {}).get("reference", "").removeprefix("Patient/"),
        measure=measure.key,
        limits=Limits(
            low_red=bounds.get("low-red"),
            low_amber=bounds.get("low-amber"),
            high_amber=bounds.get("high-amber"),
            high_red=bounds.get("high-red"),
        ),
        scale=extensions.get(EXT + "spo2-scale", {}).get("valueInteger"),
        every_hours=every,
        set_by=requester.get("reference"),
        reason=next((one.get("text") for one in resource.get("reasonCode", ()) if one.get("text")), None),
        review_on=date.fromisoformat(review) if review and len(review) == 10 else None,
        active=resource.get("status") == "active",
        windows=Schedule(every, windows, days).text,
        starts=_day_or_instant(bounds_of.get("start")),
        ends=_day_or_instant(bounds_of.get("end"), end=True),
        shared=extensions.get(EXT + "limits-shared", {}).get("valueBoolean") is True,
    )
    if order.active:
        check(order)
    return order


def to_service_request(order: Order, requester_name: str | None = None) -> JSON:
    """*order* as FHIR. Raises `Refusal` (422) where `check` would."""
    check(order)
    measure = MEASURES[order.measure]
    extensions: list[JSON] = []
    bounds = [
        {
            "url": name,
            "valueQuantity": {"value": _number(value), "unit": measure.shown, "system": UCUM, "code": measure.unit},
        }
        for name, value in zip(
            _BOUNDS,
            order.limits.bounds,
            strict=True,
        )
        if value is not None
    ]
    if bounds:
        extensions.append({"url": EXT + "limits", "extension": bounds})
    if order.scale is not None:
        extensions.append({"url": EXT + "spo2-scale", "valueInteger": order.scale})
    if order.review_on:
        extensions.append({"url": EXT + "review-on", "valueDate": order.review_on.isoformat()})
    if order.shared:
        extensions.append({"url": EXT + "limits-shared", "valueBoolean": True})
    requester: JSON = {"reference": order.set_by} if order.set_by else {}
    if requester_name:
        requester["display"] = requester_name
    resource: JSON = {
        "resourceType": "ServiceRequest",
        "id": order.service_request_id,
        "status": "active" if order.active else "revoked",
        "intent": "order",
        "category": [{"coding": [{"system": CATEGORY[0], "code": CATEGORY[1]}]}],
        "code": {"coding": [measure.coding], "text": measure.name},
        "subject": {"reference": f"Patient/{order.patient_id}"},
    }
    if extensions:
        resource["extension"] = extensions
    if requester:
        resource["requester"] = requester
    if order.reason:
        resource["reasonCode"] = [{"text": order.reason}]
    if order.every_hours:
        repeat = schedules.to_repeat(order.schedule) or {
            "frequency": 1,
            "period": _number(order.every_hours),
            "periodUnit": "h",
        }
        between = {"start": order.starts, "end": order.ends}
        if bounds_of := {name: at.isoformat(timespec="seconds") for name, at in between.items() if at}:
            repeat["boundsPeriod"] = bounds_of
        resource["occurrenceTiming"] = {"repeat": repeat}
    return resource


def check(order: Order) -> None:
    """Refuse (422, every issue) limits out of order, nameless or unreasoned limits, and a misused SpO2 scale 2."""
    issues: list[Issue] = []
    measure = MEASURES[order.measure]
    limits = order.limits
    given = [(name, bound) for name, bound in zip(_BOUNDS, limits.bounds, strict=True) if bound is not None]
    for (lower_name, lower), (upper_name, upper) in pairwise(given):
        if lower >= upper:
            issues.append(
                Issue(
                    "invariant",
                    f"{lower_name} ({lower:g}) must be below {upper_name} ({upper:g}).",
                    "ServiceRequest.extension",
                )
            )
    if measure.answers and given:
        issues.append(Issue("invariant", f"{measure.name} is a word and takes no limits.", "ServiceRequest.extension"))
    low, high = measure.plausible
    for name, bound in given:
        if not measure.answers and not low <= bound <= high:
            text = f"{name} of {bound:g} is outside the believable range {low:g} to {high:g} {measure.shown}."
            issues.append(Issue("value", text, "ServiceRequest.extension"))
    if order.personal or order.scale is not None:
        clinician = (order.set_by or "").partition("/")[0]
        if clinician not in ("Practitioner", "PractitionerRole"):
            text = "Personal limits are set by a named clinician (Practitioner or PractitionerRole)."
            issues.append(Issue("required", text, "ServiceRequest.requester"))
        if not (order.reason or "").strip():
            issues.append(Issue("required", "Personal limits need a reason.", "ServiceRequest.reasonCode"))
        if order.review_on is None:
            issues.append(Issue("required", "Personal limits need a review date.", "ServiceRequest.extension"))
    if order.scale not in (None, 1, 2):
        issues.append(Issue("value", "The SpO2 scale is 1 or 2.", "ServiceRequest.extension"))
    if order.scale is not None and order.measure != "spo2":
        issues.append(Issue("invariant", "Only oxygen saturation has an SpO2 scale.", "ServiceRequest.extension"))
    if issues:
        raise Refusal(422, issues)


COLUMNS = (
    "service_request_id", "patient_id", "measure", "low_red", "low_amber", "high_amber", "high_red",
    "scale", "every_hours", "set_by", "reason", "review_on", "active", "windows", "starts", "ends",
    "shared",
)  # fmt: skip


async def project_limits(
    pg: psycopg.AsyncConnection[Any], orders: Sequence[Order], removed: Sequence[str] = ()
) -> None:
    """Write the rows of *orders*, drop those of *removed* (ServiceRequest ids).

    Of two active orders of one measure for one person the one written last counts; the other's row turns inactive.
    """
    if removed:
        await pg.execute("DELETE FROM monitoring_limit WHERE service_request_id = ANY(%s)", (list(removed),))
    if not orders:
        return
    last = {(one.patient_id, one.measure): one.service_request_id for one in orders if one.active}
    rows = [_row(one, last.get((one.patient_id, one.measure)) == one.service_request_id) for one in orders]
    await pg.execute(
        """UPDATE monitoring_limit m SET active = false
           FROM unnest(%s::text[], %s::text[], %s::text[]) AS one(patient_id, measure, id)
           WHERE m.active AND m.patient_id = one.patient_id AND m.measure = one.measure
                 AND m.service_request_id <> one.id""",
        ([p for p, _ in last], [m for _, m in last], list(last.values())),
    )
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
    await pg.execute(
        f"""INSERT INTO monitoring_limit ({", ".join(COLUMNS)})
            SELECT {", ".join(COLUMNS)} FROM jsonb_populate_recordset(NULL::monitoring_limit, %s)
            ORDER BY active
            ON CONFLICT (service_request_id) DO UPDATE SET {update}""",
        (Jsonb(rows),),
    )


def _row(order: Order, active: bool) -> JSON:
    limits = order.limits
    return {
        "service_request_id": order.service_request_id,
        "patient_id": order.patient_id,
        "measure": order.measure,
        "low_red": limits.low_red,
        "low_amber": limits.low_amber,
        "high_amber": limits.high_amber,
        "high_red": limits.high_red,
        "scale": order.scale,
        "every_hours": order.every_hours,
        "set_by": order.set_by,
        "reason": order.reason,
        "review_on": order.review_on.isoformat() if order.review_on else None,
        "active": order.active and active,
        "windows": order.windows,
        "starts": order.starts.isoformat() if order.starts else None,
        "ends": order.ends.isoformat() if order.ends else None,
        "shared": order.shared,
    }


def _day_or_instant(text: Any, end: bool = False) -> datetime | None:
    """A FHIR dateTime. A day alone begins at its midnight in London, and *end*s at the next one."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    if at.tzinfo is not None:
        return at
    return (at + timedelta(days=1) if end else at).replace(tzinfo=schedules.LONDON).astimezone(UTC)


def with_source(order: Order) -> Limits:
    """The order's limits, saying who set them and why."""
    who = "a clinician" if not order.set_by else order.set_by
    return replace(order.limits, source=f"personal limits set by {who}: {order.reason or 'no reason given'}")


def _is_monitoring(resource: JSON) -> bool:
    return any(
        (coding.get("system"), coding.get("code")) == CATEGORY
        for category in resource.get("category", ())
        for coding in category.get("coding", ())
    )


def _is_panel(resource: JSON) -> bool:
    return any((one.get("system"), one.get("code")) in PANEL for one in resource.get("code", {}).get("coding", ()))


def _ordered_measure(resource: JSON) -> Measure | None:
    for coding in resource.get("code", {}).get("coding", ()):
        code = (coding.get("system"), coding.get("code"))
        measure = MEASURES["systolic"] if code in PANEL else BY_CODE.get(code)
        if measure:
            return measure
    return None


def _bound(measure: Measure, name: str, quantity: JSON) -> float:
    # A limit in another unit would be compared as if it were ours.
    code = quantity.get("code") or measure.spellings.get(quantity.get("unit") or "")
    if code != measure.unit:
        text = f"{name} is in {code or 'no unit'}; limits of {measure.name} are in {measure.unit}."
        raise Refusal(422, [Issue("value", text, "ServiceRequest.extension")])
    value = float(quantity["value"])
    if not isfinite(value):
        raise Refusal(
            422, [Issue("value", f"{name} is not a number that anything measures.", "ServiceRequest.extension")]
        )
    return value


def _number(value: float) -> int | Decimal:
    return int(value) if value == int(value) else Decimal(str(value))
