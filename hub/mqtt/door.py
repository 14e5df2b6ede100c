"""Who may connect over MQTT: a device with its own id and key. When a key ends, its connections are hung up on."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fhir.outcome import Refusal
from hub import identity
from hub.db import Database
from hub.identity import Actor
from hub.mqtt import topics
from hub.mqtt.broker import DEVICES, SANDBOX
from hub.mqtt.tickets import Request, Signer, request_of

AGAIN = 60.0
"""Seconds after which everybody's key is looked at again, though nobody said that one ended: keys also run out."""

log = structlog.get_logger()


@dataclass(slots=True)
class Door:
    """Answers the server's questions on *questions*, and has connections ended through *system*."""

    database: Database
    signer: Signer
    questions: Client
    system: Client
    _inside: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    _look: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """From now on devices may come in."""
        await self.system.subscribe("$SYS.ACCOUNT.*.DISCONNECT", cb=self._left)
        await self.system.flush()
        await self.questions.subscribe("$SYS.REQ.USER.AUTH", cb=self._asked)
        await self.questions.flush()

    def look_again(self) -> None:
        """A key ended, or may have."""
        self._look.set()

    async def keep(self) -> None:
        """For ever: hang up on whoever's key is not valid any more. A database that is away is asked again."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), AGAIN)
            self._look.clear()
            try:
                await self._turn_out()
            except (psycopg.OperationalError, nats.errors.Error) as error:
                log.warning("keys of connected devices were not looked at", kind=type(error).__name__)
                await asyncio.sleep(1)
                self._look.set()

    async def _asked(self, message: Msg) -> None:
        try:
            request = request_of(message.data)
        except ValueError as error:
            log.error("mqtt door", why=str(error))
            return
        found = await self._admitted(request)
        if isinstance(found, str):
            log.info("mqtt: not let in", why=found)
            await message.respond(self.signer.refuse(request, found))
            return
        # Remembered before it is let in: a key that ends in between is noticed, too.
        self._inside[request.server, request.connection] = request.user, request.secret
        # The last is where the server itself hands a client what it subscribed to with QoS 1.
        hears = [topics.subject(found.id, "receipts"), "$MQTT.sub.>"]
        account = SANDBOX if found.sandbox else DEVICES
        await message.respond(self.signer.admit(request, account, [topics.subject(found.id, ">")], hears))

    async def _admitted(self, request: Request) -> Actor | str:
        """The device, or why it may not come in."""
        if request.kind != "mqtt":
            return "only MQTT is spoken here"
        try:
            actor = await self._whose(request.user, request.secret)
        except psycopg.OperationalError:
            return "the database does not answer"
        if actor is None:
            return "no valid key of this device"
        if request.client != topics.client_id(actor.id):
            return "the client id is not the device's"
        return actor

    async def _whose(self, device_id: str, key: str) -> Actor | None:
        """The device, when this is its key."""
        if not key.startswith(identity.DEVICE_PREFIX):
            return None
        try:
            actor = await identity.authenticate({"authorization": f"Bearer {key}"}, {}, self.database)
        except Refusal:
            return None
        return actor if actor.kind == "device" and actor.id == device_id else None

    async def _left(self, message: Msg) -> None:
        with contextlib.suppress(KeyError, ValueError):
            told = msgspec.json.decode(message.data)
            self._inside.pop((told["server"]["id"], told["client"]["id"]), None)

    async def _turn_out(self) -> None:
        inside = list(self._inside.items())
        found = await asyncio.gather(*(self._whose(*who) for _, who in inside))
        for ((server, connection), (device_id, _)), actor in zip(inside, found, strict=True):
            if actor is not None:
                continue
            log.info("mqtt: a key ended, its connection ends", device=device_id)
            asked = msgspec.json.encode({"cid": connection})
            await self.system.request(f"$SYS.REQ.SERVER.{server}.KICK", asked, timeout=5)
            self._inside.pop((server, connection), None)
