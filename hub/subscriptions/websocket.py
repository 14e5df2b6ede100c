"""The websocket at `/fhir/$subscriptions`: whoever listens is told as soon as there is something to tell.

Two ways to bind, as the two ways to subscribe: `bind ID` of R4, on a connection that was opened with a bearer token, is
answered `bound ID` and then `ping ID`; `bind-with-token TOKEN` of the backport guide is answered with notification
bundles, the first a handshake that says how many events there were. What was missed between two connections is asked
for with `$events`. Cookies are never looked at, so no page of another site can listen with a reader's session.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from starlette.websockets import WebSocket, WebSocketDisconnect

from fhir.outcome import Refusal
from fhir.store import ID
from fhir.subscriptions import Event, notification
from fhir.wire import encode
from hub import audit
from hub.access import visible
from hub.db import Database
from hub.identity import Actor, authenticate, fingerprint
from hub.runtime import Runtime
from hub.subscriptions import events
from hub.subscriptions.standing import ACTIVE, OFF, PERMISSIONS, REQUESTED, Standing, load

PATH = "/fhir/$subscriptions"
LOOK = 0.5  # seconds between looks for something to tell
BINDING = 30.0  # seconds in which a connection must be bound
LONGEST = 3600.0  # seconds; then it is opened again, with a credential that still holds
MOST_BOUND = 20
MOST_SOCKETS = 128  # in one process: a quarter of the connections it answers at once (hub.server)
LONGEST_MESSAGE = 1_000

# Close codes: RFC 6455; 4401 is ours.
ENDED, REFUSED, RESTARTING, TOO_MANY, UNKNOWN = 1000, 1008, 1012, 1013, 4401


async def listen(socket: WebSocket) -> None:
    """The endpoint."""
    runtime: Runtime = socket.app.state.runtime
    actor = None
    if "authorization" in socket.headers:
        try:
            actor = await authenticate(socket.headers, {}, runtime.database)
        except Refusal:
            await socket.close(UNKNOWN)
            return
    audience: Audience = socket.app.state.audience
    if audience.full:
        await socket.close(TOO_MANY)
        return
    await socket.accept()
    listener = Listener(socket, runtime, actor)
    async with audience.joined(listener):
        await listener.run()


class Audience:
    """Everybody who listens to one process: one look at the database serves them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST_SOCKETS

    @asynccontextmanager
    async def joined(self, listener: "Listener") -> AsyncIterator[None]:
        self._listeners.add(listener)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="websockets")
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        """For as long as somebody listens. A database that is away is asked again; what happened is told then."""
        while True:
            await asyncio.sleep(LOOK)
            wanted = {id_ for listener in self._listeners for id_ in listener.bound}
            there: dict[str, tuple[str, int]] = {}
            try:
                if wanted:
                    async with self._database.transaction() as tx:
                        rows = await tx.pg.execute(
                            "SELECT id, status, events FROM subscription WHERE id = ANY(%s)", (list(wanted),)
                        )
                        there = {id_: (status, number) for id_, status, number in await rows.fetchall()}
            except psycopg.OperationalError:
                continue
            for listener in self._listeners:
                listener.hear_of({id_: there.get(id_, (OFF, 0)) for id_ in listener.bound if id_ in wanted})


class Closed(Exception):
    """The connection ends, with a close code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(slots=True)
class Bound:
    """A subscription that a connection is told of: the number of the last event told, and when something was said."""

    number: int
    last: datetime
    heartbeat: int | None


class Listener:
    """One connection, and the subscriptions that are bound to it."""

    def __init__(self, socket: WebSocket, runtime: Runtime, actor: Actor | None) -> None:
        self.bound: dict[str, Bound] = {}
        self._socket = socket
        self._runtime = runtime
        self._actor = actor
        self._base_url = f"{runtime.settings.base_url}/fhir" if runtime.settings.base_url else ""
        self._news: dict[str, tuple[str, int]] = {}
        self._woken = asyncio.Event()
        # A handshake comes before the first event.
        self._speaking = asyncio.Lock()

    def hear_of(self, news: dict[str, tuple[str, int]]) -> None:
        """Status and last number of what is bound, as they are now."""
        self._news = news
        self._woken.set()

    async def run(self) -> None:
        hearing = asyncio.create_task(self._hear())
        telling = asyncio.create_task(self._tell())
        try:
            done, _ = await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
            error = next((task.exception() for task in done), None)
            if isinstance(error, psycopg.OperationalError):
                error = Closed(TOO_MANY, "the database does not answer: connect again in a moment")
            if isinstance(error, Closed):
                with suppress(RuntimeError, WebSocketDisconnect):
                    await self._socket.close(error.code, str(error))
            elif error is not None and not isinstance(error, WebSocketDisconnect):
                raise error
        finally:
            for task in (hearing, telling):
                task.cancel()
            await asyncio.gather(hearing, telling, return_exceptions=True)

    async def _hear(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", ENDED))
            text = message.get("text") or ""
            word, _, rest = text.strip().partition(" ")
            if len(text) > LONGEST_MESSAGE or word not in ("bind", "bind-with-token"):
                raise Closed(REFUSED, "say bind ID or bind-with-token TOKEN")
            await (self._bind(rest.strip()) if word == "bind" else self._bind_with_token(rest.strip()))

    async def _bind(self, id_: str) -> None:
        if self._actor is None:
            raise Closed(REFUSED, "bind takes a connection with a bearer token; or bind-with-token")
        if self._actor.scope is not None:
            # What arrives is limited by the account: a token of limited scope would be told more than it was given.
            raise Closed(REFUSED, "this token's scope has no subscriptions")
        account = self._actor.id
        async with self._runtime.database.transaction() as tx:
            found = await load(tx.pg, [id_]) if ID.fullmatch(id_) else {}
        await self._take([one for one in found.values() if one.owner is not None and one.owner.id == account])

    async def _bind_with_token(self, token: str) -> None:
        async with self._runtime.database.transaction() as tx:
            rows = await tx.pg.execute(
                "DELETE FROM subscription_token WHERE hash = %s AND expires > now()"
                " RETURNING account_id, subscriptions",
                (fingerprint(token),),
            )
            row = await rows.fetchone()
            found = await load(tx.pg, row[1]) if row is not None else {}
        await self._take([one for one in found.values() if one.owner is not None and row and one.owner.id == row[0]])

    async def _take(self, found: Sequence[Standing]) -> None:
        usable = [one for one in found if _may_listen(one)]
        if not usable:
            raise Closed(REFUSED, "there is no such subscription of yours that is on and has a websocket")
        if len(self.bound) + len(usable) > MOST_BOUND:
            raise Closed(REFUSED, f"one connection is bound to {MOST_BOUND} subscriptions at most")
        for one in usable:
            assert one.owner is not None
            await self._runtime.reads.record(audit.entry(one.owner, "subscription-bound", "Subscription", one.id))
            async with self._speaking:
                self.bound[one.id] = Bound(one.events, datetime.now(UTC), one.asked.heartbeat)
                if one.asked.topic is None:
                    await self._socket.send_text(f"bound {one.id}")
                else:
                    await self._say(one, "handshake")

    async def _tell(self) -> None:
        """Tell what is new, for as long as the connection may last."""
        loop = asyncio.get_running_loop()
        opened = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._woken.wait()
            self._woken.clear()
            if self._runtime.live.stopping:
                raise Closed(RESTARTING, "the service restarts: connect again")
            if loop.time() - opened > LONGEST:
                raise Closed(ENDED, "an hour has passed: connect and bind again")
            if not self.bound and loop.time() - opened > BINDING:
                raise Closed(REFUSED, f"nothing was bound within {BINDING:.0f} seconds")
            news, self._news = self._news, {}
            async with self._speaking:
                for id_, (status, newest) in news.items():
                    await self._pass_on(id_, status, newest)

    async def _pass_on(self, id_: str, status: str, newest: int) -> None:
        bound = self.bound[id_]
        if status not in (ACTIVE, REQUESTED):
            await self._over(id_)
        elif newest > bound.number:
            await self._told(id_, bound)
        elif bound.heartbeat and datetime.now(UTC) - bound.last >= timedelta(seconds=bound.heartbeat):
            bound.last = datetime.now(UTC)
            one = await self._standing(id_)
            if one is not None and one.asked.topic is not None:
                await self._say(one, "heartbeat")

    async def _told(self, id_: str, bound: Bound) -> None:
        async with self._runtime.database.transaction() as tx:
            one = (await load(tx.pg, [id_])).get(id_)
            if one is None or one.owner is None or not _may_listen(one):
                return
            found = await events.read(tx.pg, id_, one.type, visible(one.owner), bound.number, None, one.asked.most)
            content = one.asked.content if one.asked.topic is not None else "empty"
            batch = await events.leave(tx, one.owner, one, found, content, datetime.now(UTC))
        if not batch:
            return
        bound.number, bound.last = batch[-1].number, datetime.now(UTC)
        if one.asked.topic is not None:
            await self._say(one, "event-notification", batch)
        elif any(event.body is not None for event in batch):
            await self._socket.send_text(f"ping {id_}")

    async def _over(self, id_: str) -> None:
        """It is off, or gone: say so to those who understand it, and let go."""
        del self.bound[id_]
        one = await self._standing(id_)
        if one is not None and one.asked.topic is not None:
            await self._say(one, "heartbeat")
        if not self.bound:
            raise Closed(ENDED, "the subscription has ended")

    async def _standing(self, id_: str) -> Standing | None:
        async with self._runtime.database.transaction() as tx:
            return (await load(tx.pg, [id_])).get(id_)

    async def _say(self, one: Standing, kind: str, batch: Sequence[Event] = ()) -> None:
        said = notification(self._base_url, one.state, kind, batch, one.asked.content, datetime.now(UTC))
        await self._socket.send_text(encode(said).decode())


def _may_listen(one: Standing) -> bool:
    return (
        one.asked.channel == "websocket"
        and one.status in (ACTIVE, REQUESTED)
        and one.owner is not None
        and one.owner.can(PERMISSIONS["websocket"])
    )
