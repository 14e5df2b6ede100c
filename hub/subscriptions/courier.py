"""Carries notifications: derives events, sends them in order, tries again with growing pauses, and gives up aloud.

One process of all does this, whoever holds the lock; nothing is kept in memory that a successor would miss. Each
subscription has a task of its own while there is something to send, so that a slow receiver delays nobody else.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import structlog

from fhir.outcome import Refusal
from fhir.store import Connection
from fhir.subscriptions import Event, notification
from fhir.wire import encode
from hub.access import visible
from hub.db import Database, Tx
from hub.faults import told
from hub.subscriptions import events, signature
from hub.subscriptions.horizon import Horizon
from hub.subscriptions.standing import ACTIVE, ERROR, OFF, PERMISSIONS, REQUESTED, Standing, load, settle
from hub.subscriptions.targets import NotAllowed, Policy, Target, Unreachable

log = structlog.get_logger()

# Any constant: one courier at a time among all processes on one database.
LOCK = 0x5CB5C
TURN = 0.5  # seconds between looks at the record
STANDBY = 2.0  # seconds between attempts to become the courier
CLEANING = 3600.0
AT_ONCE = 4  # transactions of the courier at a time: the pool belongs to the requests
PATIENCE = timedelta(days=3)
LONGEST_PAUSE = 3600.0

FHIR_JSON = "application/fhir+json"
FULL = 5.0  # seconds between looks at those that have nothing new: their heartbeats, their end, their owner
# Those with nothing new of their type move on together.
_MOVE_ON = """
UPDATE subscription SET position = %(horizon)s
WHERE status = 'active' AND position < %(horizon)s AND NOT EXISTS (
    SELECT 1 FROM resource_version v
    WHERE v.type = subscription.type AND v.seq > subscription.position AND v.seq <= %(horizon)s)
"""
# Whose turn it may be, and whether something new waits for it; null for those that wait after a failure.
_DUE = """
SELECT id, CASE WHEN coalesce(next_attempt, '-infinity') <= now() AND (%(full)s OR due) THEN due END
FROM (SELECT *, status = 'requested' OR delivered < events OR position < %(horizon)s AS due FROM subscription
      WHERE status IN ('requested', 'active')) s ORDER BY last_sent NULLS FIRST, id
"""
_WELL = "attempts = 0, failing_since = NULL, next_attempt = NULL, error = NULL"
_ARRIVED = f"""
UPDATE subscription SET delivered = greatest(delivered, %s), last_sent = %s, {_WELL}
WHERE id = %s AND status IN ('requested', 'active')
"""


def pause(attempts: int, luck: float) -> float:
    """Seconds before the next attempt after *attempts* failed ones: 2, 4, 8 ... an hour, each by *luck* (0 to 1) up to
    half longer, so that those who failed together do not come back together."""
    return float(min(LONGEST_PAUSE, 2.0 ** min(attempts, 12)) * (1 + luck / 2))


class Courier:
    """Delivers for the database; *policy* says where to, *base_url* (ends in `/fhir`) how the hub calls itself."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        base_url: str,
        target: Callable[[Policy, str, float], Target] = Target,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._policy = policy
        self._base_url = base_url
        self._target = target
        self._now = now
        self._horizon = Horizon()
        self._transactions = asyncio.Semaphore(AT_ONCE)
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._random = random.SystemRandom()
        self._full_at = 0.0

    async def turn(self, pg: Connection) -> bool:
        """One look: whoever has something to do is given a task, unless it has one. *pg* is in no transaction.

        False when there are no subscriptions to deliver for.
        """
        clock = asyncio.get_running_loop().time()
        full = clock >= self._full_at
        if full:
            self._full_at = clock + FULL
        horizon = await self._horizon.look(pg)
        await pg.execute(_MOVE_ON, {"horizon": horizon})
        rows = await (await pg.execute(_DUE, {"horizon": horizon, "full": full})).fetchall()
        due = {str(id_): bool(new) for id_, new in rows if new is not None and id_ not in self._at_work}
        found = await load(pg, list(due)) if due else {}
        for id_, new in due.items():
            standing = found.get(id_)
            if new or standing is None or self._due(standing):
                task = asyncio.create_task(self._work(id_, standing, horizon), name=f"subscription {id_}")
                self._at_work[id_] = task
                task.add_done_callback(partial(self._done, id_))
        return bool(rows)

    def _due(self, standing: Standing) -> bool:
        """Whether something is to be said or done though nothing happened."""
        may = standing.owner is not None and standing.owner.can(PERMISSIONS[standing.asked.channel])
        return not may or self._over(standing) or self._heartbeat_due(standing)

    def _over(self, standing: Standing) -> bool:
        return standing.asked.end is not None and standing.asked.end <= self._now()

    def _done(self, id_: str, task: asyncio.Task[None]) -> None:
        # Called however the task ended; one that is cancelled before it began runs none of its own code.
        self._at_work.pop(id_, None)

    async def rest(self) -> None:
        """Wait for the tasks that are under way."""
        while self._at_work:
            await asyncio.gather(*self._at_work.values(), return_exceptions=True)
            await asyncio.sleep(0)

    async def stop(self) -> None:
        for task in list(self._at_work.values()):
            task.cancel()
        await self.rest()

    async def _work(self, id_: str, standing: Standing | None, horizon: int) -> None:
        """All that there is to do for one subscription."""
        try:
            if standing is None:
                await self._failed(id_, "the subscription cannot be read any more: write it again")
            else:
                await self._serve(standing, horizon)
        except psycopg.OperationalError as error:
            log.warning("subscription waits for the database", subscription=id_, kind=type(error).__name__)
        except Exception as error:  # the outermost place of this task: it must not spin, nor end in silence
            log.error("subscription failed", subscription=id_, **told(error))
            with suppress(psycopg.Error):
                await self._failed(id_, f"the hub itself failed ({type(error).__name__})")

    async def _serve(self, standing: Standing, horizon: int) -> None:
        try:
            if standing.owner is None:
                await self._settle(standing, OFF, "the account that asked for this is closed")
            elif not standing.owner.can(needed := PERMISSIONS[standing.asked.channel]):
                await self._settle(standing, OFF, f"the role of who asked for this does not allow it: {needed}")
            elif self._over(standing):
                await self._end(standing)
            elif standing.asked.channel == "websocket":
                await self._listened(standing, horizon)
            else:
                await self._hooked(standing, horizon)
            if standing.attempts:
                await self._well(standing.id)
        except Unreachable as error:
            await self._failed(standing.id, str(error), error.wait)
        except NotAllowed as error:
            await self._settle(standing, ERROR, str(error))
        except Refusal as refusal:
            await self._settle(standing, ERROR, f"the criteria cannot be answered any more: {refusal}")
        except psycopg.errors.QueryCanceled:
            await self._failed(standing.id, "the criteria take too long to answer: narrow them")

    async def _listened(self, standing: Standing, horizon: int) -> None:
        if standing.status == REQUESTED:
            await self._settle(standing, ACTIVE, None)
        else:
            while await self._derived(standing.id, standing.version, horizon):
                pass

    async def _hooked(self, standing: Standing, horizon: int) -> None:
        idle = standing.status == ACTIVE and standing.delivered == standing.events
        due = self._heartbeat_due(standing)
        if idle and not due and not await self._derived(standing.id, standing.version, horizon):
            return
        assert standing.asked.endpoint is not None
        async with self._target(self._policy, standing.asked.endpoint, standing.asked.timeout) as target:
            version = standing.version
            if standing.status == REQUESTED:
                if not await self._activate(standing, target):
                    return
                version += 1
            number = 0
            while True:
                now, batch = await self._next(standing.id, version, number)
                if now is not None and batch:
                    await self._send(now, target, batch)
                    number = batch[-1].number
                elif not await self._derived(standing.id, version, horizon):
                    break
            if due and not number:
                await self._say(standing, target, "heartbeat")

    async def _derived(self, id_: str, version: int, horizon: int) -> int:
        """Number what is new; only once all that is numbered has arrived, so that nothing piles up."""
        while True:
            async with self._transactions, self._database.transaction() as tx:
                standing = await _unchanged(tx, id_, version)
                if standing is None or standing.position >= horizon:
                    return 0
                made = await events.derive(tx, standing, self._base_url, horizon)
            if made:
                return made

    async def _next(self, id_: str, version: int, arrived: int) -> tuple[Standing | None, list[Event]]:
        """The next events to send, recorded as leaving, once it is noted that those up to *arrived* have arrived."""
        async with self._transactions, self._database.transaction() as tx:
            if arrived:
                await tx.pg.execute(_ARRIVED, (arrived, self._now(), id_))
            standing = await _unchanged(tx, id_, version)
            if standing is None or standing.owner is None:
                return None, []
            shown = visible(standing.owner)
            # A search of R4 sends each by itself: only what is about to leave is recorded as having left.
            most = standing.asked.most if standing.asked.topic is not None else 1
            found = await events.read(tx.pg, id_, standing.type, shown, standing.delivered, None, most)
            return standing, await events.leave(
                tx, standing.owner, standing, found, standing.asked.content, self._now()
            )

    async def _send(self, standing: Standing, target: Target, batch: list[Event]) -> None:
        if standing.asked.topic is not None:
            await self._say(standing, target, "event-notification", batch)
        else:
            await self._search_event(standing, target, batch[0])

    async def _search_event(self, standing: Standing, target: Target, event: Event) -> None:
        """R4: with a payload the endpoint is a FHIR service that is given the resource, else it is only called."""
        if event.body is None:
            return
        if standing.asked.content == "empty":
            await self._post(standing, target, "POST", "", b"")
        else:
            await self._post(standing, target, "PUT", event.focus, event.body.encode())

    async def _say(self, standing: Standing, target: Target, kind: str, batch: list[Event] | None = None) -> None:
        said = notification(self._base_url, standing.state, kind, batch or [], standing.asked.content, self._now())
        await self._post(standing, target, "POST", "", encode(said))
        if kind != "event-notification":
            await self._arrived(standing.id, standing.delivered)

    async def _post(self, standing: Standing, target: Target, method: str, path: str, body: bytes) -> None:
        headers = {name.lower(): value for name, value in standing.headers}
        if body:
            headers["content-type"] = f"{FHIR_JSON}; charset=utf-8"
        headers |= {
            "user-agent": "CareHub",
            "x-carehub-subscription": standing.id,
            signature.HEADER: signature.sign(standing.secret, body, int(self._now().timestamp())),
        }
        await target.send(method, path, body, headers)

    async def _activate(self, standing: Standing, target: Target) -> bool:
        """With a topic, the endpoint says yes to a handshake first; a search of R4 knows of none."""
        if standing.asked.topic is not None:
            await self._say(standing, target, "handshake")
        return await self._settle(standing, ACTIVE, None)

    async def _end(self, standing: Standing) -> None:
        """Its time is over: say so once, if it can be heard, and turn it off."""
        await self._settle(standing, OFF, None)
        if standing.asked.topic is None or standing.asked.endpoint is None or standing.status != ACTIVE:
            return
        with suppress(Unreachable, NotAllowed):
            async with self._target(self._policy, standing.asked.endpoint, standing.asked.timeout) as target:
                over = (await self._again(standing.id)) or standing
                await self._say(over, target, "heartbeat")

    async def _again(self, id_: str) -> Standing | None:
        async with self._transactions, self._database.transaction() as tx:
            return (await load(tx.pg, [id_])).get(id_)

    def _heartbeat_due(self, standing: Standing) -> bool:
        every = standing.asked.heartbeat
        if every is None or standing.status != ACTIVE:
            return False
        return self._now() - (standing.last_sent or standing.created) >= timedelta(seconds=every)

    async def _arrived(self, id_: str, number: int) -> None:
        async with self._transactions, self._database.transaction() as tx:
            await tx.pg.execute(_ARRIVED, (number, self._now(), id_))

    async def _well(self, id_: str) -> None:
        async with self._transactions, self._database.transaction() as tx:
            await tx.pg.execute(f"UPDATE subscription SET {_WELL} WHERE id = %s AND status = 'active'", (id_,))

    async def _failed(self, id_: str, why: str, wait: float | None = None) -> None:
        """Note it and come back later; after three days of nothing else, stop and say so."""
        now = self._now()
        async with self._transactions, self._database.transaction() as tx:
            rows = await tx.pg.execute(
                "UPDATE subscription SET attempts = attempts + 1, failing_since = coalesce(failing_since, %s),"
                " error = %s WHERE id = %s RETURNING attempts, failing_since",
                (now, why, id_),
            )
            row = await rows.fetchone()
            if row is None:
                return
            attempts, since = row
            after = max(pause(attempts, self._random.random()), min(wait or 0.0, LONGEST_PAUSE))
            await tx.pg.execute(
                "UPDATE subscription SET next_attempt = %s WHERE id = %s", (now + timedelta(seconds=after), id_)
            )
        if now - since < PATIENCE:
            log.warning("subscription not delivered", subscription=id_, why=why, attempts=attempts, again=round(after))
            return
        # In a transaction of its own: whoever writes a subscription locks the resource first, then the row beside it.
        async with self._transactions, self._database.transaction() as tx:
            said = f"{why}; given up after {attempts} attempts since {since:%Y-%m-%d %H:%M} UTC"
            await settle(tx, id_, ERROR, said, now)
        log.error("subscription stopped", subscription=id_, why=why, attempts=attempts)

    async def _settle(self, standing: Standing, status: str, why: str | None) -> bool:
        async with self._transactions, self._database.transaction() as tx:
            done = await settle(tx, standing.id, status, why, self._now(), standing.version)
        if done and status == ERROR:
            log.error("subscription stopped", subscription=standing.id, why=why)
        return done


async def _unchanged(tx: Tx, id_: str, version: int) -> Standing | None:
    """The subscription as it stands now; None when it is not on any more, or asks for something else than in *version*:
    the criteria and headers of one version must not meet the endpoint of another."""
    standing = (await load(tx.pg, [id_])).get(id_)
    same = standing is not None and standing.version == version and standing.status == ACTIVE
    return standing if same else None


async def keep(database: Database, policy: Policy, public: str | None, every: float = TURN) -> None:
    """For ever: wait until nobody else is the courier, then be it until the connection with the lock is lost.

    *public* is the hub's public address; without one, notifications name resources as `Type/id` only.
    """
    base_url = f"{public}/fhir" if public else ""
    while True:
        try:
            if await _needed(database):
                await _deliver(database, policy, base_url, every)
        except psycopg.Error as error:
            log.warning("subscriptions wait for the database", kind=type(error).__name__)
        except Exception as error:  # the outermost place of this task: without it nobody would be told any more
            log.error("subscriptions stopped, and go on", **told(error))
        await asyncio.sleep(min(STANDBY, every * 4))


async def _needed(database: Database) -> bool:
    """Whether there is anything to deliver, and nobody who does."""
    async with database.transaction() as tx:
        rows = await tx.pg.execute("SELECT EXISTS (SELECT 1 FROM subscription WHERE status IN ('requested', 'active'))")
        row = await rows.fetchone()
        if row is None or not row[0]:
            return False
        row = await (await tx.pg.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))).fetchone()
        return row is not None and bool(row[0])


async def _deliver(database: Database, policy: Policy, base_url: str, every: float) -> None:
    """Be the courier. The lock belongs to a connection, which a process that is killed leaves at once."""
    courier = Courier(database, policy, base_url)
    loop = asyncio.get_running_loop()
    cleaned = loop.time()
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))).fetchone()
        if row is None or not row[0]:
            return
        try:
            while True:
                if not await courier.turn(connection):
                    return
                if loop.time() - cleaned > CLEANING:
                    cleaned = loop.time()
                    async with database.transaction() as tx:
                        await events.forget_old(tx)
                await asyncio.sleep(every)
        finally:
            await courier.stop()
