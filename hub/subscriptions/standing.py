"""How a subscription stands: its row beside the resource, whose it is now, and the resource's own account of it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, Connection
from fhir.subscriptions import State, Wanted, filtered_type, wanted
from fhir.wire import decode
from hub import effects
from hub.db import Tx
from hub.identity import ENGINE, Actor, account_actor
from hub.subscriptions.topics import TOPICS, Topic

JSON = dict[str, Any]

REQUESTED, ACTIVE, ERROR, OFF = "requested", "active", "error", "off"
# What an owner must be allowed to, when it is written and whenever it is delivered.
PERMISSIONS = {"rest-hook": "subscription.send", "websocket": "subscription.listen"}


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription, as *version* of the resource has it.

    Everything up to `position` was looked at; `events` is the last number given, `delivered` the last that arrived.
    `owner` is None when the account is closed.
    """

    id: str
    version: int
    status: str
    asked: Wanted
    type: str
    owner: Actor | None
    secret: str
    headers: tuple[tuple[str, str], ...]
    position: int
    events: int
    delivered: int
    attempts: int
    failing_since: datetime | None
    next_attempt: datetime | None
    error: str | None
    last_sent: datetime | None
    created: datetime

    @property
    def topic(self) -> Topic | None:
        return TOPICS.get(self.asked.topic) if self.asked.topic is not None else None

    @property
    def state(self) -> State:
        return State(self.id, self.status, self.asked.topic, self.events, self.error)


_SELECT = """
SELECT s.id, v.version, s.status, v.body, s.type, s.secret, s.headers, s.position, s.events, s.delivered, s.attempts,
       s.failing_since, s.next_attempt, s.error, s.last_sent, s.created,
       account.id, account.name, account.role, account.reference, account.organisations, account.hub_id
FROM subscription s
JOIN r_subscription r ON r.id = s.id
JOIN resource_version v ON v.type = 'Subscription' AND v.id = r.id AND v.version = r.version
LEFT JOIN account ON account.id = s.account_id AND account.active AND account.reference = s.owner
WHERE s.id = ANY(%s)
"""


async def load(pg: Connection, ids: list[str]) -> dict[str, Standing]:
    """Those of *ids* that there are, and that can be read: one that was written under other rules is left out."""
    rows = await pg.execute(_SELECT, (ids,))
    found = {}
    for row in await rows.fetchall():
        with suppress(Refusal):
            found[row[0]] = _standing(row)
    return found


def _standing(row: tuple[Any, ...]) -> Standing:
    id_, version, status, body, type_, secret, headers, *counts = row[:16]
    account = row[16:]
    asked = wanted(decode(body.encode()))
    owner = account_actor(*account) if account[0] is not None else None
    pairs = tuple(zip(headers[::2], headers[1::2], strict=True))
    return Standing(id_, version, status, asked, type_, owner, secret, pairs, *counts)


def subject(resource: JSON, asked: Wanted) -> str | None:
    """The FHIR type that a subscription is about; None for a topic that there is not."""
    if asked.topic is None:
        return asked.type
    topic = TOPICS.get(asked.topic)
    named = filtered_type(resource)
    return topic.type if topic is not None and named in (None, topic.type) else None


async def settle(tx: Tx, id_: str, status: str, why: str | None, now: datetime, version: int | None = None) -> bool:
    """Say in the resource, and beside it, that the subscription is *status* now. Written by the hub itself.

    False, and nothing is said, when somebody has ended it, or written another version than *version*, meanwhile.
    """
    found = (await store.load(tx.pg, [("Subscription", id_)], lock=True)).get(("Subscription", id_))
    resource = found.resource if found is not None else None
    if found is None or resource is None or resource["status"] not in (REQUESTED, ACTIVE):
        return False
    if version is not None and found.version != version:
        return False
    changed = {name: value for name, value in resource.items() if name != "error"} | {"status": status}
    if why is not None:
        changed["error"] = why
    key = ("Subscription", id_)
    await effects.carry_out(tx, [ENGINE], [Change("update", *key, changed)], {key: found}, (), now)
    well = ", attempts = 0, failing_since = NULL, next_attempt = NULL" if status == ACTIVE else ""
    await tx.pg.execute(f"UPDATE subscription SET status = %s, error = %s{well} WHERE id = %s", (status, why, id_))
    return True
