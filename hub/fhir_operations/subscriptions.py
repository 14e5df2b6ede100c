"""What a caller may ask of a Subscription: how it stands, its events again, a token for a websocket, a new secret."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from fhir import store
from fhir.outcome import refuse
from fhir.parameters import Input, Inputs
from fhir.store import ID, instant
from fhir.subscriptions import CONTENTS, State, notification, status
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.identity import fingerprint, new_secret
from hub.interactions import Call
from hub.subscriptions import events
from hub.subscriptions.register import SECRET_PREFIX
from hub.subscriptions.standing import OFF, Standing, load

JSON = dict[str, Any]

MOST_EVENTS = 1_000
MOST_ASKED = 100
TOKEN_PREFIX = "chw_"  # noqa: S105 (what these tokens begin with)
TOKEN_LASTS = timedelta(minutes=5)

_IDS = Input("id", many=True, commas=True)
_STATUS = {"id": _IDS, "status": Input("code", many=True, commas=True)}
_EVENTS = {"eventsSinceNumber": Input("string"), "eventsUntilNumber": Input("string"), "content": Input("code")}
_TOKEN = {"id": _IDS}


async def stands(call: Call) -> Response:
    """`$status`: of one subscription, or of those named by `id`, or of all that the caller sees."""
    given = inputs(call, _STATUS)
    async with call.runtime.database.transaction() as tx:
        single = ID.fullmatch(call.id)
        found = [await _one(tx, call)] if single else await _several(tx, call, given.every("id"))
    wanted = given.every("status")
    states = [one.state for one in found if not wanted or one.status in wanted]
    await call.runtime.reads.record(*[audit.entry(call.actor, "read", "Subscription", state.id) for state in states])
    return answer(200, _statuses(call.service.base_url, states))


def _statuses(base_url: str, states: Sequence[State]) -> JSON:
    entries = []
    for state in states:
        one = status(base_url, state, "query-status")
        entries.append({"fullUrl": f"urn:uuid:{one['id']}", "resource": one, "search": {"mode": "match"}})
    bundle: JSON = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return bundle | ({"entry": entries} if entries else {})


async def again(call: Call) -> Response:
    """`$events`: what was numbered from `eventsSinceNumber` to `eventsUntilNumber`, under the caller's own access."""
    given = inputs(call, _EVENTS)
    since, until = _number(given, "eventsSinceNumber") or 1, _number(given, "eventsUntilNumber")
    content = given.text("content")
    if content is not None and content not in CONTENTS:
        raise refuse(400, "value", f"content is one of {', '.join(CONTENTS)}, not {content[:40]!r}", "content")
    async with call.runtime.database.transaction() as tx:
        standing = await _one(tx, call)
        shown = visible(call.actor)
        oldest = await events.oldest(tx.pg, standing.id) or standing.events + 1
        if since < oldest and "eventsSinceNumber" in given:
            text = f"events are kept for {events.KEPT} days: send eventsSinceNumber={oldest} or more"
            raise refuse(410, "deleted", text, "eventsSinceNumber")
        after = max(since, oldest) - 1
        found = await events.read(tx.pg, standing.id, standing.type, shown, after, until, MOST_EVENTS)
        last = found[-1][0].number if found else standing.events
        if last < min(until or standing.events, standing.events):
            text = f"that is too much for one reply, which ends at event {last}: send eventsUntilNumber={last}"
            raise refuse(400, "too-costly", text, "eventsUntilNumber")
        chosen = content or standing.asked.content
        batch = [event for event, _, _ in found]
        await audit.record(
            tx.pg,
            [
                audit.entry(
                    call.actor, "read", event.type, event.id, patient_id,
                    detail={"subscription": standing.id, "event": event.number, "content": chosen},
                )
                for event, patient_id, _ in found
                if event.body is not None
            ],
        )  # fmt: skip
    said = notification(call.service.base_url, standing.state, "query-event", batch, chosen, datetime.now(UTC))
    return answer(200, said)


async def binding_token(call: Call) -> Response:
    """`$get-ws-binding-token`: lets a websocket be bound, once, within five minutes, to the caller's subscriptions."""
    named = _named(call, inputs(call, _TOKEN))
    now = datetime.now(UTC)
    async with call.runtime.database.transaction() as tx:
        found = await _several(tx, call, named)
        chosen = [one for one in found if one.asked.channel == "websocket" and _is_owner(call, one)]
        if not chosen or (named and len(chosen) < len(found)):
            text = "a token is for subscriptions of your own whose channel is a websocket"
            raise refuse(422, "business-rule", text, "Subscription.channel.type")
        if any(one.status == OFF for one in chosen):
            raise refuse(
                422, "business-rule", "it is off: send it with the status requested first", "Subscription.status"
            )
        token = new_secret(TOKEN_PREFIX)
        await tx.pg.execute("DELETE FROM subscription_token WHERE expires < now()")
        await tx.pg.execute(
            "INSERT INTO subscription_token (hash, account_id, subscriptions, expires) VALUES (%s, %s, %s, %s)",
            (fingerprint(token), call.actor.id, [one.id for one in chosen], now + TOKEN_LASTS),
        )
        await audit.record(
            tx.pg, [audit.entry(call.actor, "subscription-token", "Subscription", one.id) for one in chosen]
        )
    base = call.service.base_url.removesuffix("/fhir")
    parameters: list[JSON] = [
        {"name": "token", "valueString": token},
        {"name": "expiration", "valueDateTime": instant(now + TOKEN_LASTS)},
        *({"name": "subscription", "valueString": one.id} for one in chosen),
        {"name": "websocket-url", "valueUrl": base.replace("http", "ws", 1) + "/fhir/$subscriptions"},
    ]
    return answer(200, {"resourceType": "Parameters", "parameter": parameters})


async def secret(call: Call) -> Response:
    """`$new-secret`: the secret that signs from now on, shown this once to the owner; the one before is void."""
    inputs(call, {})
    async with call.runtime.database.transaction() as tx:
        standing = await _one(tx, call)
        if not _is_owner(call, standing):
            raise refuse(403, "forbidden", "only whose subscription it is is given its secret", "Subscription.id")
        made = new_secret(SECRET_PREFIX)
        await tx.pg.execute("UPDATE subscription SET secret = %s WHERE id = %s", (made, standing.id))
        await audit.record(tx.pg, [audit.entry(call.actor, "subscription-secret", "Subscription", standing.id)])
    parameters = [{"name": "secret", "valueString": made}]
    return answer(200, {"resourceType": "Parameters", "parameter": parameters})


def _named(call: Call, given: Inputs) -> list[str]:
    """The one of the path, or those of `id`; none named stands for all."""
    return [call.id] if ID.fullmatch(call.id) else given.every("id")


def _is_owner(call: Call, standing: Standing) -> bool:
    return standing.owner is not None and standing.owner.id == call.actor.id


async def _one(tx: Tx, call: Call) -> Standing:
    """The subscription of the path, if the caller may see it. Refusal 404 otherwise."""
    id_ = call.id
    await store.read(tx.pg, "Subscription", id_, visible(call.actor))
    found = (await load(tx.pg, [id_])).get(id_)
    if found is None:
        raise refuse(404, "not-found", f"Subscription/{id_} is kept, and is none that is delivered", "Subscription")
    return found


async def _several(tx: Tx, call: Call, wanted: Sequence[str]) -> list[Standing]:
    """Those named, or all, that the caller may see."""
    wanted = list(wanted)
    if len(wanted) > MOST_ASKED or not all(ID.fullmatch(one) for one in wanted):
        raise refuse(400, "value", f"id names up to {MOST_ASKED} subscriptions by their ids", "id")
    limit = store.permitted("Subscription", "r", visible(call.actor))
    rows = await tx.pg.execute(
        f"SELECT r.id FROM r_subscription r WHERE {limit.text} AND (cardinality(%s::text[]) = 0 OR r.id = ANY(%s))"
        " ORDER BY r.id LIMIT %s",
        (*limit.params, wanted, wanted, MOST_ASKED),
    )
    there = [row[0] for row in await rows.fetchall()]
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise refuse(404, "not-found", f"there is no Subscription/{missing[0]}")
    found = await load(tx.pg, there)
    return [found[one] for one in there if one in found]


def _number(given: Inputs, name: str) -> int | None:
    """A number of an event: as text, because it may outgrow the integers of R4."""
    text = given.text(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise refuse(400, "value", f"{name} is a whole number, not {text[:40]!r}", name)
    return int(text)
