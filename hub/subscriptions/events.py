"""The events of a subscription: numbered without gaps, kept to be asked for again, shown under somebody's access."""

from collections.abc import Sequence
from datetime import datetime

from fhir.store import Connection, Visible
from fhir.subscriptions import Event
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.identity import Actor
from hub.subscriptions.matching import matches
from hub.subscriptions.standing import Standing

# Versions looked at in one transaction, so that a long stretch (an import) is walked in steps.
STRETCH = 1_000
# Days that events can be asked for again.
KEPT = 30
# Bytes of resources in one notification or reply, the last of which may go beyond.
MOST_BYTES = 4 * 1024 * 1024

# An event, whom it is about, and whether it has left before.
Read = tuple[Event, str | None, bool]


async def derive(tx: Tx, standing: Standing, base_url: str, horizon: int) -> int:
    """Number what came since the position of *standing*, and move it on; how many events that made.

    The limit is what the owner may see at this moment. At most `STRETCH` versions are looked at: the caller comes again
    while the position lies below *horizon*.
    """
    if standing.owner is None:
        return 0
    await tx.pg.execute("SET LOCAL statement_timeout = '5s'")
    locked = await tx.pg.execute(
        "SELECT position, events FROM subscription WHERE id = %s AND status = 'active' FOR UPDATE", (standing.id,)
    )
    row = await locked.fetchone()
    if row is None or row[0] >= horizon:
        return 0
    position, number = row
    edge = await _edge(tx.pg, standing.type, position, horizon)
    found = await matches(
        tx.pg, standing.type, standing.asked.query, standing.topic, visible(standing.owner), base_url, position, edge
    )
    if found:
        await tx.pg.execute(
            "INSERT INTO subscription_event (subscription_id, number, resource_id, version, at)"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::timestamptz[])",
            (
                standing.id,
                list(range(number + 1, number + len(found) + 1)),
                [one.id for one in found],
                [one.version for one in found],
                [one.at for one in found],
            ),
        )
    # A websocket is told at once or asks for what it missed; only a rest-hook has to say that it has it.
    arrived = ", delivered = %(events)s" if standing.asked.channel == "websocket" else ""
    await tx.pg.execute(
        f"UPDATE subscription SET position = %(edge)s, events = %(events)s{arrived} WHERE id = %(id)s",
        {"edge": edge, "events": number + len(found), "id": standing.id},
    )
    return len(found)


async def _edge(pg: Connection, type_: str, position: int, horizon: int) -> int:
    """Where a stretch from *position* ends."""
    rows = await pg.execute(
        f"SELECT seq FROM resource_version WHERE type = '{type_}' AND seq > %s AND seq <= %s"
        " ORDER BY seq OFFSET %s LIMIT 1",
        (position, horizon, STRETCH - 1),
    )
    row = await rows.fetchone()
    return horizon if row is None else int(row[0])


async def read(
    pg: Connection, subscription_id: str, type_: str, shown: Visible, after: int, until: int | None, most: int
) -> list[Read]:
    """The events numbered above *after*, each with whom it is about, and whether it has left before.

    What *shown* hides, or has been deleted meanwhile, has no body: its number stays, and says nothing. At most *most*,
    and no more than fill `MOST_BYTES`.
    """
    condition = shown(type_, "v")
    limit, params = (condition.text, condition.params) if condition is not None else ("FALSE", ())
    live = f"EXISTS (SELECT 1 FROM r_{type_.lower()} live WHERE live.id = v.id)"
    rows = await pg.execute(
        f"SELECT e.number, e.at, e.resource_id, e.version, CASE WHEN {live} AND {limit} THEN v.body END, v.patient_id,"
        " e.sent IS NOT NULL FROM ("
        "SELECT e.*, sum(octet_length(v.body)) OVER (ORDER BY e.number) - octet_length(v.body) AS before"
        f" FROM subscription_event e JOIN resource_version v ON v.type = '{type_}' AND v.id = e.resource_id"
        " AND v.version = e.version WHERE e.subscription_id = %s AND e.number > %s"
        " AND e.number <= %s) e"
        f" JOIN resource_version v ON v.type = '{type_}' AND v.id = e.resource_id AND v.version = e.version"
        " WHERE e.before < %s ORDER BY e.number",
        # Numbers have no gaps, so this many events end there.
        (*params, subscription_id, after, after + most if until is None else min(until, after + most), MOST_BYTES),
    )
    return [
        (Event(number, at, type_, id_, version, body), patient_id, sent)
        async for number, at, id_, version, body, patient_id, sent in rows
    ]


async def leave(
    tx: Tx,
    actor: Actor,
    standing: Standing,
    found: Sequence[tuple[Event, str | None, bool]],
    content: str,
    now: datetime,
) -> list[Event]:
    """Record, before they go, what is about to leave the hub on behalf of *actor*: one row for each event shown.

    What has left before has its row; a retry says the same again.
    """
    await audit.record(
        tx.pg,
        [
            audit.entry(
                actor, "notify", event.type, event.id, patient_id,
                detail={"subscription": standing.id, "event": event.number, "content": content},
            )
            for event, patient_id, sent in found
            if event.body is not None and not sent
        ],
    )  # fmt: skip
    await tx.pg.execute(
        "UPDATE subscription_event SET sent = %s WHERE subscription_id = %s AND number = ANY(%s) AND sent IS NULL",
        (now, standing.id, [event.number for event, _, _ in found]),
    )
    return [event for event, _, _ in found]


async def oldest(pg: Connection, subscription_id: str) -> int | None:
    """The number of the first event that is still kept."""
    rows = await pg.execute("SELECT min(number) FROM subscription_event WHERE subscription_id = %s", (subscription_id,))
    row = await rows.fetchone()
    return None if row is None else row[0]


async def forget_old(tx: Tx) -> None:
    """Remove events that are older than `KEPT` days and have arrived."""
    await tx.pg.execute(
        "DELETE FROM subscription_event e USING subscription s WHERE s.id = e.subscription_id"
        " AND e.number <= s.delivered AND e.at < now() - make_interval(days => %s)",
        (KEPT,),
    )
