"""Writing a Subscription: who may, what it may ask for, and what is kept beside the resource instead of in it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir.criteria import Criteria
from fhir.outcome import Refusal, refuse
from fhir.registry import SPECS
from fhir.store import Change, Key, Stored
from fhir.subscriptions import HIDDEN, Wanted, hidden, wanted
from hub import access
from hub.db import Tx
from hub.identity import Actor, new_secret
from hub.roles import SYSTEM_ROLES
from hub.subscriptions.horizon import NEWEST
from hub.subscriptions.standing import ACTIVE, ERROR, OFF, PERMISSIONS, REQUESTED, subject
from hub.subscriptions.topics import TOPICS

JSON = dict[str, Any]

MOST_PER_OWNER = 20
SECRET_PREFIX = "chs_"  # noqa: S105 (what signing secrets begin with, so that scanners of leaked secrets find them)


async def prepare(tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored]) -> list[Change]:
    """*changes* as they are to be stored: what must not stand in a Subscription is kept beside it.

    Refusal 403 for who may not, 404 for another's, 409 for too many, 422 for what cannot be watched or sent.
    """
    return [
        await _prepared(tx, actor, change, before.get((change.type, change.id)))
        if change.type == "Subscription"
        else change
        for change in changes
    ]


async def _prepared(tx: Tx, actor: Actor, change: Change, stored: Stored | None) -> Change:
    live = stored is not None and stored.body is not None
    row = await _row(tx, change.id)
    if live and (row is None or row["account_id"] != actor.id):
        if not actor.can("subscription.stop"):
            raise refuse(404, "not-found", f"Subscription/{change.id} is not known here.", "Subscription")
        return await _stopped_by_another(tx, actor, change, stored)
    if change.method == "delete":
        await _forget(tx, change.id)
        return change
    assert change.resource is not None
    if actor.role in SYSTEM_ROLES:
        return replace(change, resource=_record(change.resource))
    asked = wanted(change.resource)
    _may(actor, asked)
    type_ = _subject(actor, change.resource, asked)
    status = _status(change.resource, stored if live else None)
    if row is None:
        await _not_too_many(tx, actor)
    elif row["type"] != type_:
        raise _bad("criteria", f"this subscription is about {row['type']}; for {type_}, make another")
    headers = _headers(asked, row)
    values = [actor.reference, actor.id, status, asked.channel, type_, [part for pair in headers for part in pair]]
    if row is None:
        await tx.pg.execute(
            "INSERT INTO subscription (id, owner, account_id, status, channel, type, headers, secret, position)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, ({NEWEST}))",
            (change.id, *values, new_secret(SECRET_PREFIX)),
        )
    else:
        # What was missed while it failed is sent; what happened while it was off was not wanted.
        start = f"({NEWEST})" if row["status"] == OFF and status != OFF else "position"
        await tx.pg.execute(
            "UPDATE subscription SET owner = %s, account_id = %s, status = %s, channel = %s, type = %s, headers = %s,"
            f" position = {start}, attempts = 0, failing_since = NULL, next_attempt = NULL, error = NULL"
            " WHERE id = %s",
            (*values, change.id),
        )
    return replace(change, resource=hidden(_without_error(change.resource, status), headers))


async def _row(tx: Tx, id_: str) -> dict[str, Any] | None:
    rows = await tx.pg.execute(
        "SELECT account_id, status, type, headers FROM subscription WHERE id = %s FOR UPDATE", (id_,)
    )
    row = await rows.fetchone()
    return None if row is None else dict(zip(("account_id", "status", "type", "headers"), row, strict=True))


async def _stopped_by_another(tx: Tx, actor: Actor, change: Change, stored: Stored | None) -> Change:
    """Whoever looks after the service may end another's subscription, or send it as it is, and nothing else."""
    if change.method == "delete":
        await _forget(tx, change.id)
        return change
    was = stored.resource if stored is not None else None
    assert was is not None and change.resource is not None
    told = {**change.resource, "meta": None}
    if told == {**was, "meta": None}:
        return change
    if told != {**was, "status": OFF, "meta": None}:
        text = "another's subscription can be turned off or deleted: send it as it is, with the status off"
        raise refuse(403, "forbidden", text, "Subscription.status")
    await tx.pg.execute("UPDATE subscription SET status = %s WHERE id = %s", (OFF, change.id))
    return change


def _record(resource: JSON) -> JSON:
    """A subscription out of a file: nobody's here, so it is kept as a record that is off, without its secrets."""
    lines = resource["channel"].get("header", ())
    return hidden(resource | {"status": OFF}, [(line.partition(":")[0].strip(), "") for line in lines])


async def _forget(tx: Tx, id_: str) -> None:
    await tx.pg.execute("DELETE FROM subscription_event WHERE subscription_id = %s", (id_,))
    await tx.pg.execute("DELETE FROM subscription WHERE id = %s", (id_,))


def _may(actor: Actor, asked: Wanted) -> None:
    needed = PERMISSIONS[asked.channel]
    if not actor.can(needed):
        said = f"Your role ({actor.role}) may not have the hub send to a {asked.channel}: {needed}."
        raise refuse(403, "forbidden", said, "Subscription.channel.type")


def _subject(actor: Actor, resource: JSON, asked: Wanted) -> str:
    """The type it is about, once it is known that the criteria can be answered for this actor."""
    if asked.topic is not None and asked.topic not in TOPICS:
        raise _bad("criteria", f"there is no topic {asked.topic[:120]!r}; there are {', '.join(TOPICS)}")
    type_ = subject(resource, asked)
    if type_ is None:
        raise _bad("criteria.extension", "the filters name another type than the topic is about")
    visible = access.visible(actor)
    if visible(type_, "r") is None:
        raise refuse(403, "forbidden", f"Your role ({actor.role}) may not see any {type_}.", "Subscription.criteria")
    try:
        Criteria(visible).where(SPECS[type_], "r", asked.query)
    except Refusal as refusal:
        # The same words as for a search, about the element that asked.
        raise _bad("criteria" if asked.topic is None else "criteria.extension", str(refusal)) from None
    return type_


def _status(resource: JSON, stored: Stored | None) -> str:
    """`requested` or `off`: the rest is the hub's to say. What is active may be sent back as it is."""
    status = str(resource["status"])
    was = stored.resource if stored is not None else None
    if status in (REQUESTED, OFF):
        return status
    if was is not None and was.get("status") == status == ACTIVE and was.get("channel") == resource.get("channel"):
        return ACTIVE
    if was is not None and status == ERROR == was.get("status"):
        raise _bad("status", "it has stopped: send the status requested to have it tried again, or off")
    raise _bad("status", f"send the status requested (or off); the hub itself says {status}")


async def _not_too_many(tx: Tx, actor: Actor) -> None:
    await tx.pg.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"subscriptions of {actor.id}",))
    rows = await tx.pg.execute("SELECT count(*) FROM subscription WHERE account_id = %s", (actor.id,))
    row = await rows.fetchone()
    if row is not None and row[0] >= MOST_PER_OWNER:
        text = f"you have {row[0]} subscriptions, and {MOST_PER_OWNER} is the most: delete one first"
        raise refuse(409, "too-costly", text, "Subscription")


def _headers(asked: Wanted, row: dict[str, Any] | None) -> list[tuple[str, str]]:
    """The headers to send. A value that comes back as it is shown stands for the one that is kept."""
    kept = {} if row is None else dict(zip(row["headers"][::2], row["headers"][1::2], strict=True))
    found = []
    for place, (name, value) in enumerate(asked.headers):
        if value == HIDDEN:
            if name not in kept:
                raise _bad(f"channel.header[{place}]", f"no value is kept for {name!r}: send it")
            value = kept[name]
        found.append((name, value))
    return found


def _without_error(resource: JSON, status: str) -> JSON:
    """A subscription that is tried again has no error yet."""
    return resource if status == OFF else {name: value for name, value in resource.items() if name != "error"}


def _bad(element: str, why: str) -> Refusal:
    return refuse(422, "business-rule", why, f"Subscription.{element}")
