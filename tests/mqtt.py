"""A broker for tests, and devices that speak MQTT to it as they do: through a client that others wrote."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from hub.mqtt import service, topics
from hub.mqtt.broker import Place
from hub.settings import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def broker(url: str, place: Place) -> AsyncIterator[None]:
    """`carehub broker` within this process."""
    ready = asyncio.Event()
    running = asyncio.create_task(service.run(Settings(), url, place, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if running.done():
            running.result()
        yield
    finally:
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


def place(folder: Path, **more: Any) -> Place:
    return Place(folder, port=free_port(), **{"room": 64 * 1024**2, **more})


@dataclass
class Speaker:
    """One device's MQTT client, with what happened to it."""

    port: int
    device_id: str
    key: str
    client_id: str | None = None
    receipts: list[dict[str, Any]] = field(default_factory=list)
    connects: list[str] = field(default_factory=list)
    lost: int = 0
    granted: list[str] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        name = topics.client_id(self.device_id) if self.client_id is None else self.client_id
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv311)
        self.client.username_pw_set(self.device_id, self.key)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda c, u, flags, reason, properties: self.connects.append(str(reason))
        self.client.on_disconnect = self._gone
        self.client.on_subscribe = lambda c, u, mid, reasons, properties: self.granted.extend(map(str, reasons))
        self.client.on_publish = lambda c, u, mid, reason, properties: self.acknowledged.add(mid)
        self.client.on_message = self._heard

    def _gone(self, *_: Any) -> None:
        self.lost += 1

    def _heard(self, client: Client, data: Any, message: MQTTMessage) -> None:
        self.receipts.append(json.loads(message.payload))

    @property
    def topic(self) -> str:
        return f"carehub/{self.device_id}/readings"

    async def __aenter__(self) -> "Speaker":
        await asyncio.to_thread(self.client.connect, "127.0.0.1", self.port)
        self.client.loop_start()
        await until(lambda: bool(self.connects))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)

    async def listen(self, topic: str | None = None, qos: int = 0) -> str:
        """Subscribe; what the broker said of it."""
        before = len(self.granted)
        self.client.subscribe(topic or f"carehub/{self.device_id}/receipts", qos)
        await until(lambda: len(self.granted) > before)
        return self.granted[-1]

    def send(self, payload: bytes, topic: str | None = None, qos: int = 1) -> int:
        """Publish, now or when it is connected again; the number that `acknowledged` holds when it has arrived."""
        return self.client.publish(topic or self.topic, payload, qos).mid

    async def publish(self, payload: bytes, topic: str | None = None, qos: int = 1) -> None:
        """Publish, and wait until the broker has acknowledged it."""
        number = self.send(payload, topic, qos)
        await until(lambda: number in self.acknowledged)


async def until(true: Any, seconds: float = 15.0) -> None:
    """Wait until *true()* says so; an awaitable answer is awaited."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)
