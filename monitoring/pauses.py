"""Planned pauses of home monitoring (a holiday, an admission): nobody is chased for readings that were not to come.

A pause is a ServiceRequest that says `doNotPerform`, for a time, with a reason. It stops chasing and nothing else: a
reading that comes all the same is evaluated like any other.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import Issue, Refusal
from monitoring.measures import BY_CODE, MEASURES

JSON = dict[str, Any]

LOCAL = "https://carehub.example/fhir/CodeSystem/"
CATEGORY = LOCAL + "service-category", "monitoring-pause"
REASONS = {"holiday": "Away from home", "admission": "In hospital", "device": "The device is not there", "other": ""}
"""Codes of `CodeSystem/pause-reason`, with what each is called; the text of a pause says it in words."""

LONGEST = timedelta(days=92)
"""A pause that nobody ends must not hide silence for years. Ours."""
MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody is chased for readings of this person from `since` until `until`. `measures`: those it is about, as keys
    of MEASURES; None: all. `device_id`: the device that it is about, if it is about one."""

    id: str
    patient_id: str
    since: datetime
    until: datetime
    reason: str
    by: str | None = None
    device_id: str | None = None
    measures: frozenset[str] | None = None

    def covers(self, measure: str) -> bool:
        return self.measures is None or measure in self.measures


PAUSED = (
    "EXISTS (SELECT 1 FROM pause WHERE pause.patient_id = {patient_id} AND pause.since <= {at} AND pause.until > {at}"
    " AND (pause.measures IS NULL OR {measure} = ANY(pause.measures)))"
)
"""SQL for lists of many people: whether readings of the measure are paused. `.format` with three expressions."""


def is_pause(resource: JSON) -> bool:
    """Whether *resource*, a ServiceRequest, means to pause monitoring."""
    return any(
        (coding.get("system"), coding.get("code")) == CATEGORY
        for category in resource.get("category", ())
        for coding in category.get("coding", ())
    )


def from_service_request(resource: JSON) -> Pause | None:
    """The pause that *resource* holds; None when it holds none, or one that never was (revoked, entered in error).

    Raises Refusal 422, with every issue, for one that does not say who, from when until when, or why.
    """
    if not is_pause(resource) or resource.get("status") in ("revoked", "entered-in-error", "draft"):
        return None
    issues: list[Issue] = []
    patient = resource.get("subject", {}).get("reference", "")
    if not patient.startswith("Patient/"):
        issues.append(Issue("required", "A pause is about one person: Patient/id.", "ServiceRequest.subject"))
    if resource.get("doNotPerform") is not True:
        issues.append(Issue("required", "A pause says doNotPerform: true.", "ServiceRequest.doNotPerform"))
    since, until = _period(resource.get("occurrencePeriod") or {})
    if since is None or until is None:
        text = "A pause says from when until when: occurrencePeriod with start and end, each with a time and an offset."
        issues.append(Issue("required", text, "ServiceRequest.occurrence.ofType(Period)"))
    elif not timedelta(0) < until - since <= LONGEST:
        text = f"A pause ends after it begins, and within {LONGEST.days} days. Pause again if it has to be longer."
        issues.append(Issue("value", text, "ServiceRequest.occurrence.ofType(Period)"))
    reason = next((one["text"].strip() for one in resource.get("reasonCode", ()) if one.get("text")), "")
    if not 0 < len(reason) <= MOST_WORDS:
        text = f"Say why, in 1 to {MOST_WORDS} characters: reasonCode.text."
        issues.append(Issue("required", text, "ServiceRequest.reasonCode"))
    devices = [one.get("reference", "") for one in resource.get("performer", ())]
    device = next((one.removeprefix("Device/") for one in devices if one.startswith("Device/")), None)
    measures = _measures(resource)
    if device is not None and not measures:
        text = "A pause of a device names the measures it is about: the person's other readings are still expected."
        issues.append(Issue("required", text, "ServiceRequest.orderDetail"))
    if measures is not None and len(measures) < len(resource.get("orderDetail", ())):
        issues.append(Issue("code-invalid", "Each orderDetail is a measure known here.", "ServiceRequest.orderDetail"))
    if issues or since is None or until is None:
        raise Refusal(422, issues)
    return Pause(
        id=resource.get("id", ""),
        patient_id=patient.removeprefix("Patient/"),
        since=since,
        until=until,
        reason=reason,
        by=resource.get("requester", {}).get("reference"),
        device_id=device,
        measures=measures,
    )


def to_service_request(pause: Pause, code: str = "other", now: datetime | None = None, name: str | None = None) -> JSON:
    """*pause* as FHIR; *code* is one of REASONS, *name* that of who asked. Raises Refusal 422 as reading it would."""
    if code not in REASONS:
        known = ", ".join(REASONS)
        raise Refusal(422, [Issue("code-invalid", f"The kind of reason is one of: {known}.", "reasonCode.coding")])
    requester: JSON = {"reference": pause.by} if pause.by else {}
    resource: JSON = {
        "resourceType": "ServiceRequest",
        "id": pause.id,
        "status": "active",
        "intent": "order",
        "category": [{"coding": [{"system": CATEGORY[0], "code": CATEGORY[1]}]}],
        "doNotPerform": True,
        "code": {"text": "Home monitoring"},
        "subject": {"reference": f"Patient/{pause.patient_id}"},
        "occurrencePeriod": {"start": _text(pause.since), "end": _text(pause.until)},
        "reasonCode": [{"coding": [{"system": LOCAL + "pause-reason", "code": code}], "text": pause.reason}],
    }
    if now is not None:
        resource["authoredOn"] = _text(now)
    if requester:
        resource["requester"] = requester | ({"display": name} if name else {})
    if pause.device_id:
        resource["performer"] = [{"reference": f"Device/{pause.device_id}"}]
    if pause.measures is not None:
        resource["orderDetail"] = [{"coding": [MEASURES[one].coding]} for one in sorted(pause.measures)]
    from_service_request(resource)
    return resource


def ended(resource: JSON, now: datetime, by: str, why: str) -> JSON:
    """*resource* as a pause that *by* (a reference) ends now: over if it had begun, revoked if not."""
    pause = from_service_request(resource)
    if pause is None or pause.until <= now:
        raise Refusal(409, [Issue("conflict", "This pause is over already.", "ServiceRequest.status")])
    note = {"authorReference": {"reference": by}, "time": _text(now), "text": why}
    kept = {**resource, "note": [*resource.get("note", ()), note]}
    if pause.since >= now.replace(microsecond=0):
        return {**kept, "status": "revoked"}
    return {**kept, "status": "completed", "occurrencePeriod": {**resource["occurrencePeriod"], "end": _text(now)}}


# -- on a connection ---------------------------------------------------------------------------------------------------


async def project_pauses(
    pg: psycopg.AsyncConnection[Any], pauses: Sequence[Pause], removed: Sequence[str] = ()
) -> None:
    """Write the rows of *pauses*, drop those of *removed* (ServiceRequest ids)."""
    if ids := [*removed, *(one.id for one in pauses)]:
        await pg.execute("DELETE FROM pause WHERE id = ANY(%s)", (ids,))
    if pauses:
        rows = [
            {
                "id": one.id,
                "patient_id": one.patient_id,
                "since": _text(one.since),
                "until": _text(one.until),
                "reason": one.reason,
                "set_by": one.by,
                "device_id": one.device_id,
                "measures": None if one.measures is None else sorted(one.measures),
            }
            for one in pauses
        ]
        await pg.execute("INSERT INTO pause SELECT * FROM jsonb_populate_recordset(NULL::pause, %s)", (Jsonb(rows),))


async def paused(
    pg: psycopg.AsyncConnection[Any], patient_ids: Collection[str], at: datetime
) -> dict[str, list[Pause]]:
    """The pauses that hold *at* for these people, the one that ends last first; people without one are left out."""
    rows = await pg.execute(
        "SELECT id, patient_id, since, until, reason, set_by, device_id, measures FROM pause"
        " WHERE patient_id = ANY(%s) AND since <= %s AND until > %s ORDER BY until DESC, id",
        (list(patient_ids), at, at),
    )
    found: dict[str, list[Pause]] = {}
    for row in await rows.fetchall():
        pause = _pause(row)
        found.setdefault(pause.patient_id, []).append(pause)
    return found


async def to_come(pg: psycopg.AsyncConnection[Any], patient_id: str, at: datetime) -> list[Pause]:
    """A person's pauses that are not over *at*, the next one first."""
    rows = await pg.execute(
        "SELECT id, patient_id, since, until, reason, set_by, device_id, measures FROM pause"
        " WHERE patient_id = %s AND until > %s ORDER BY since, id LIMIT 50",
        (patient_id, at),
    )
    return [_pause(row) for row in await rows.fetchall()]


def _pause(row: tuple[Any, ...]) -> Pause:
    *told, measures = row
    found = Pause(*told)
    return found if measures is None else replace(found, measures=frozenset(measures))


def until(pauses: Iterable[Pause], measure: str | None = None) -> datetime | None:
    """When the last of *pauses* ends that covers *measure* (None: everything); None when none does."""
    ends = [one.until for one in pauses if one.measures is None or (measure is not None and one.covers(measure))]
    return max(ends, default=None)


def _measures(resource: JSON) -> frozenset[str] | None:
    details = resource.get("orderDetail", ())
    if not details:
        return None
    found = (
        BY_CODE.get((one.get("system"), one.get("code"))) for detail in details for one in detail.get("coding", ())
    )
    return frozenset(measure.key for measure in found if measure is not None)


def _period(period: JSON) -> tuple[datetime | None, datetime | None]:
    return _instant(period.get("start")), _instant(period.get("end"))


def _instant(text: Any) -> datetime | None:
    if not isinstance(text, str) or "T" not in text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
