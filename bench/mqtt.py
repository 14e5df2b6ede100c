"""Readings over MQTT: from publishing to the receipt, which comes when it is stored and evaluated."""

import asyncio
import contextlib
import functools
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

from bench.client import percentile
from bench.fhir_server.processor import own, spent
from bench.measures import FRESH, KEPT, Row, observation
from bench.setting import Setting, environment, family

Spent = Callable[[], tuple[float, float, float]]

CONNECTIONS = 64
IN_FLIGHT = 100
"""Readings that a device publishes ahead of its receipts: less than the broker holds for it."""
PACE = 500


@dataclass(slots=True)
class _Arrived:
    """Bytes of one connection, cut into packets of MQTT 3.1.1: the first byte, and what follows the length."""

    rest: bytes = b""

    def packets(self, data: bytes) -> list[tuple[int, bytes]]:
        raw, at, found = self.rest + data, 0, []
        while len(raw) - at >= 2:
            length, shift, body = 0, 0, at + 1
            while body < len(raw):
                byte = raw[body]
                length |= (byte & 127) << shift
                shift += 7
                body += 1
                if byte < 128:
                    break
            else:
                break
            if byte > 127 or len(raw) < body + length:
                break
            found.append((raw[at], raw[body : body + length]))
            at = body + length
        self.rest = raw[at:]
        return found


class Device(asyncio.Protocol):
    """One device: `publish` numbers its readings; `taken` holds the seconds from each to its receipt, in order."""

    def __init__(self, patient: str, device: str, key: str) -> None:
        self.patient, self.name, self._key = patient, device, key
        self._transport: asyncio.Transport | None = None
        self._arrived = _Arrived()
        self._sent: deque[float] = deque()
        self._number = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.acknowledged = 0
        self.taken: list[float] = []
        self.refused: list[bytes] = []
        self.on_receipt: Callable[[Device], None] = lambda device: None

    @property
    def waiting(self) -> int:
        return len(self._sent)

    def publish(self, payload: bytes) -> None:
        assert self._transport is not None
        self._number = self._number % 65_535 + 1
        topic = _text(f"carehub/{self.name}/readings")
        self._sent.append(time.perf_counter())
        self._transport.write(_packet(0x32, topic + self._number.to_bytes(2, "big") + payload))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, but does what they do.
        self._transport = cast(asyncio.Transport, transport)
        head = _text("MQTT") + bytes([4, 0xC2]) + (60).to_bytes(2, "big")
        self._transport.write(_packet(0x10, head + _text(self.name) + _text(self.name) + _text(self._key)))

    def data_received(self, data: bytes) -> None:
        for kind, body in self._arrived.packets(data):
            if kind == 0x40:
                self.acknowledged += 1
            elif kind & 0xF0 == 0x30:
                self._receipt(body[2 + int.from_bytes(body[:2], "big") :])
            elif kind == 0x20 and body[1] == 0:
                assert self._transport is not None
                self._transport.write(_packet(0x82, b"\0\1" + _text(f"carehub/{self.name}/receipts") + b"\0"))
            elif kind == 0x90 and body[2] == 0:
                self.ready.set_result(None)
            else:
                raise RuntimeError(f"the broker says {kind:#x} {body!r}")

    def _receipt(self, payload: bytes) -> None:
        self.taken.append(time.perf_counter() - self._sent.popleft())
        if not payload.startswith(b'{"outcome":"accepted"'):
            self.refused.append(payload)
        self.on_receipt(self)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError("the broker hung up"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _packet(kind: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = size >> 7, size & 127
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


@contextlib.asynccontextmanager
async def devices(setting: Setting, passed: int = 0) -> AsyncIterator[tuple[list[Device], Spent]]:
    """`carehub broker` as it is run, and CONNECTIONS devices connected to it, those after the *passed* first; with what
    says how many seconds of processor time the bridge, nats-server and PostgreSQL have taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="carehub-bench-mqtt-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub.cli", "broker", "--port", str(port)),
            env={**environment(setting.url), "CAREHUB_DATA_DIR": folder},
            stdout=asyncio.subprocess.PIPE,
        )
        made: list[Device] = []
        try:
            assert process.stdout is not None
            if b"MQTT is taken" not in await asyncio.wait_for(process.stdout.readline(), 60):
                raise RuntimeError("the broker did not start")
            loop = asyncio.get_running_loop()
            for one in setting.devices[passed : passed + CONNECTIONS]:
                _, device = await loop.create_connection(functools.partial(Device, *one), "127.0.0.1", port)
                await asyncio.wait_for(device.ready, 60)
                made.append(device)
            server = next(pid for pid in family(process.pid) if pid != process.pid)
            yield made, lambda: (own(process.pid), own(server), spent(setting.postmaster))
        finally:
            for device in made:
                device.close()
            process.send_signal(signal.SIGTERM)
            await process.wait()


@dataclass(slots=True)
class _Round:
    """So many readings, shared out among the devices, each with IN_FLIGHT of them on their way."""

    bodies: dict[str, list[bytes]]
    left: int
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def more(self, device: Device) -> None:
        """A receipt came: send the next one."""
        self.left -= 1
        if not self.left:
            self.done.set()
        elif waiting := self.bodies[device.name]:
            device.publish(waiting.pop())


async def rate(setting: Setting, readings: int) -> Row:
    """As fast as they are taken: every device with IN_FLIGHT readings on their way."""
    async with devices(setting) as (made, spent_by):
        each = readings // len(made)
        bodies = {
            one.name: [observation(one.patient, KEPT.next(), "9" + str(n % 4 + 5)) for n in range(each)] for one in made
        }
        work = _Round(bodies, each * len(made))
        before, start = spent_by(), time.perf_counter()
        for one in made:
            one.on_receipt = work.more
            for _ in range(min(IN_FLIGHT, each)):
                one.publish(bodies[one.name].pop())
        await asyncio.wait_for(work.done.wait(), 300)
        taken = time.perf_counter() - start
        _none_refused(made)
        count = each * len(made)
        figure = count / taken
        costs = [(now - then) / count for now, then in zip(spent_by(), before, strict=True)]
        # The bridge is one process, and all of it has two cores.
        ceiling = min(1 / costs[0], 2 / sum(costs))
        bridge, server, postgres = (cost * 1e6 for cost in costs)
    return Row(
        f"MQTT to stored and evaluated, {CONNECTIONS} devices",
        f"{figure:,.0f}/s",
        f"at most {ceiling:,.0f}/s on two cores of its own: {bridge:.0f} + {server:.0f} + {postgres:.0f} µs a reading"
        " (bridge, nats-server, PostgreSQL)",
        f"{figure / ceiling:.0%}",
        ">= 3,000/s",
        figure >= 3000,
    )


async def delay(setting: Setting, seconds: float) -> Row:
    """At PACE readings a second, whether or not the ones before have their receipts; of people who have not just sent
    a day's worth by the hundred, all of which rules would look at each time."""
    async with devices(setting, CONNECTIONS) as (made, _):
        for one in made:  # once round, so that nothing is done for the first time while it is measured
            one.publish(observation(one.patient, FRESH.next(), "97"))
        await asyncio.sleep(2)
        for one in made:
            one.taken.clear()
        start, count = time.perf_counter(), int(seconds * PACE)
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / PACE - time.perf_counter()))
            one = made[number % len(made)]
            one.publish(observation(one.patient, FRESH.next(), "97"))
        for _ in range(100):
            if not any(one.waiting for one in made):
                break
            await asyncio.sleep(0.1)
        _none_refused(made)
        taken = [each for one in made for each in one.taken]
        lost = count - len(taken)
    p99 = percentile(taken, 0.99)
    return Row(
        f"MQTT, from publishing to the receipt, at {PACE} readings/s",
        f"p50 {percentile(taken, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms ({len(taken):,} readings, {lost} lost)",
        "",
        "",
        "p99 < 500 ms",
        p99 < 0.5 and not lost,
    )


def _none_refused(made: list[Device]) -> None:
    refused = [one for device in made for one in device.refused]
    if refused:
        raise RuntimeError(f"{len(refused)} refused, first: {refused[0]!r:.1000}")
