"""What devices published, in the server's stream: taken in batches, and crossed off one by one when it is stored.

The stream is the one in which nats-server itself keeps MQTT messages of QoS 1 and 2 before it acknowledges them, so
what a device was told to have arrived is on disk. It is full at a given number of bytes: then nothing is acknowledged
any more, connections are ended, and devices keep what they have and come again.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig

from hub.mqtt import topics

STREAM, READER = "$MQTT_msgs", "carehub"
NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{READER}"

AGAIN = 5.0
"""Seconds after which the server offers a message again that nobody crossed off: so long does what a killed bridge held
wait for the next one. A message that was taken twice is a resend, which is known for one."""
AHEAD_BYTES = 8 * 1024**2
EXPIRES = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class Inflow:
    """Messages that wait for us, at most *ahead* of them at a time."""

    client: Client
    room: int
    ahead: int = 500
    _waiting: deque[Msg] = field(default_factory=deque)
    _asked_for: int = 0
    _asked_at: float = 0.0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _inbox: str = ""

    async def open(self) -> None:
        """Make the stream and our place in it, before any device may connect: what nobody wants is not kept."""
        streams = self.client.jsm()
        wanted = StreamConfig(
            name=STREAM,
            subjects=["$MQTT.msgs.>"],
            retention=RetentionPolicy.INTEREST,
            discard=DiscardPolicy.NEW,
            max_bytes=self.room,
        )
        try:
            await streams.add_stream(wanted)
        except nats.js.errors.BadRequestError:
            # It is there, with another bound: a lower one never costs what waits already.
            there = await streams.stream_info(STREAM)
            await streams.update_stream(wanted.evolve(max_bytes=max(self.room, there.state.bytes)))
        await streams.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=READER,
                filter_subject=f"{topics.STORED}.>",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=AGAIN,
                max_ack_pending=20_000,
            ),
        )
        self._inbox = self.client.new_inbox()
        await self.client.subscribe(self._inbox, cb=self._stored)
        # QoS 0 is not kept by anybody: it is taken as it passes.
        await self.client.subscribe(topics.subject("*", "readings"), cb=self._passing)
        await self.client.flush()

    async def take(self, most: int) -> list[Msg]:
        """What is there, at least one, at most *most*. Waits for ever."""
        while not self._waiting:
            await self._ask()
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), EXPIRES + 1)
            except TimeoutError:
                self._asked_for = 0  # whoever was asked is gone
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        if self._asked_for < self.ahead // 2:
            await self._ask()
        return batch

    async def cross_off(self, messages: list[Msg]) -> None:
        """These are stored, or refused and filed: they are not offered again."""
        for message in messages:
            if message.reply:
                await self.client.publish(message.reply, b"+ACK")

    async def _ask(self) -> None:
        short = self.ahead - self._asked_for - len(self._waiting)
        if short <= 0 and time.monotonic() - self._asked_at < EXPIRES:
            return
        asked = {"batch": max(short, 1), "expires": int(EXPIRES * 1e9), "max_bytes": AHEAD_BYTES}
        self._asked_for += max(short, 1)
        self._asked_at = time.monotonic()
        await self.client.publish(NEXT, msgspec.json.encode(asked), reply=self._inbox)

    async def _stored(self, message: Msg) -> None:
        headers = message.headers or {}
        if "Status" in headers:
            left = int(headers.get("Nats-Pending-Messages", self._asked_for))
            self._asked_for = max(0, self._asked_for - left)
            if headers["Status"] == "503":
                # Nobody answers, as while the server starts again: ask in a moment, not at once.
                await asyncio.sleep(0.2)
        else:
            self._asked_for = max(0, self._asked_for - 1)
            self._waiting.append(message)
        self._arrived.set()

    async def _passing(self, message: Msg) -> None:
        if (message.headers or {}).get("Nmqtt-Pub") == "0" and len(self._waiting) < 20 * self.ahead:
            message.reply = ""
            self._waiting.append(message)
            self._arrived.set()
