"""What must hold before a pause of monitoring is written, whichever door it comes through."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fhir.outcome import Refusal, refuse
from fhir.store import Change, Key, Stored
from hub.identity import Actor
from monitoring import pauses
from monitoring.pauses import Pause

JSON = dict[str, Any]

EARLIEST = timedelta(days=31)
"""How long ago a pause may have begun that is recorded now: an admission is often heard of later. Ours."""


def hold(actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored], now: datetime) -> None:
    """At every door: who may pause, that it is done in one's own name, and that no silence is excused afterwards.

    Hazard: a pause hides that somebody has stopped measuring. So nobody may move the beginning of one back, or delete
    what was paused. Systems that may import records bring what stood.
    """
    for change in changes:
        if change.type != "ServiceRequest":
            continue
        stored = before.get((change.type, change.id))
        was = stored.resource if stored is not None else None
        meant = change.resource is not None and pauses.is_pause(change.resource)
        if not meant and not (was is not None and pauses.is_pause(was)):
            continue
        after = pauses.from_service_request(change.resource) if change.resource is not None else None
        if actor.can("record.import"):
            continue
        if not actor.can("monitoring.pause"):
            text = f"Your role ({actor.role}) may not pause monitoring, or end a pause."
            raise refuse(403, "forbidden", text, "ServiceRequest.category")
        if not meant:
            raise _kept("What was paused stays on record: end the pause instead.")
        if after is not None and after.by != actor.reference and (was is None or _by(was) != after.by):
            raise refuse(403, "forbidden", "A pause is made in one's own name.", "ServiceRequest.requester")
        _check(was, after, now)


def _check(was: JSON | None, after: Pause | None, now: datetime) -> None:
    known = pauses.from_service_request(was) if was is not None else None
    if after is None:
        if known is not None and known.since < now.replace(microsecond=0):
            raise _kept("This pause has begun already: it is ended (status completed), not taken back.")
        return
    if known is None:
        if after.until <= now:
            raise _late("A pause ends in the future.")
        if after.since < now - EARLIEST:
            raise _late(f"A pause begins at most {EARLIEST.days} days ago: older silence is not excused afterwards.")
    elif known.until <= now and after.until != known.until:
        raise _late("A pause that is over stays as it was: make another.")
    elif after.since != known.since and min(after.since, known.since) < now:
        raise _late("The beginning of a pause that has begun does not change.")
    elif (after.patient_id, after.device_id, after.measures) != (known.patient_id, known.device_id, known.measures):
        raise _kept("Whom and what a pause is about does not change: end it and make another.")


def _by(resource: JSON) -> str | None:
    reference: str | None = resource.get("requester", {}).get("reference")
    return reference


def _late(text: str) -> Refusal:
    return refuse(422, "value", text, "ServiceRequest.occurrence.ofType(Period)")


def _kept(text: str) -> Refusal:
    return refuse(422, "business-rule", text, "ServiceRequest.status")
