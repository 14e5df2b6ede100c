"""Pausing a person's home monitoring, or one device's part of it, and ending the pause."""

from collections.abc import Iterable
from datetime import UTC, datetime

from fhir import store
from fhir.outcome import refuse
from fhir.store import Change, Written, new_id
from hub import access, flows
from hub.db import Tx
from hub.identity import Actor
from monitoring import pauses
from monitoring.pauses import Pause


async def pause(
    tx: Tx,
    actor: Actor,
    patient_id: str,
    since: datetime,
    until: datetime,
    reason: str,
    *,
    code: str = "other",
    device_id: str | None = None,
    measures: Iterable[str] | None = None,
    now: datetime | None = None,
) -> Written:
    """Nobody is chased for this person's readings in that time (*measures*: of those alone). Readings that come are
    evaluated as ever. Refusal 422 names what is wrong with the times or the reason."""
    flows.demand(actor, "monitoring.pause")
    now = now or datetime.now(UTC)
    chosen = None if measures is None else frozenset(measures)
    made = Pause(new_id(), patient_id, since, until, reason.strip(), actor.reference, device_id, chosen)
    resource = pauses.to_service_request(made, code, now, actor.name)
    return (await flows.write(tx, actor, [Change("create", "ServiceRequest", made.id, resource)], now))[0]


async def end(tx: Tx, actor: Actor, pause_id: str, why: str, now: datetime | None = None) -> Written:
    """The pause is over now, or never begins: from here on missing readings count again. 409 when it is over."""
    flows.demand(actor, "monitoring.pause")
    if not why.strip():
        raise refuse(422, "required", "Say why the pause ends.", "ServiceRequest.note")
    now = now or datetime.now(UTC)
    stored = await store.read(tx.pg, "ServiceRequest", pause_id, access.visible(actor))
    if stored.resource is None or not pauses.is_pause(stored.resource):
        raise refuse(404, "not-found", "There is no such pause.")
    after = pauses.ended(stored.resource, now, actor.reference, why.strip())
    change = Change("update", "ServiceRequest", pause_id, after, if_match=stored.version)
    return (await flows.write(tx, actor, [change], now))[0]
