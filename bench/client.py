"""A load generator that costs little beside the service on the same two cores: HTTP/1.1 over kept connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    seconds: float


class Connection(asyncio.Protocol):
    """One kept connection. `ask(raw)` sends the bytes of a request and reads its answer.

    A protocol, not streams: those take as much of the machine for a request as half of what is measured.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._arrived = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, raw: bytes) -> Answer:
        assert self._transport is not None
        start = time.perf_counter()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        status, body = await self._answer
        return Answer(status, body, time.perf_counter() - start)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, but does what they do.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        answer = _read(self._arrived)
        if answer is not None and self._answer is not None and not self._answer.done():
            self._arrived = b""
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the service hung up"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _read(arrived: bytes) -> tuple[int, bytes] | None:
    """Status and body of a whole answer; None while there is more to come."""
    end = arrived.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = arrived[:end].lower(), end + 4
    if b"transfer-encoding: chunked" in head:
        body = _chunked(arrived, start)
        return None if body is None else (int(head[9:12]), body)
    at = head.find(b"content-length: ")
    length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return None if len(arrived) < start + length else (int(head[9:12]), arrived[start : start + length])


def _chunked(arrived: bytes, at: int) -> bytes | None:
    parts: list[bytes] = []
    while (line := arrived.find(b"\r\n", at)) >= 0:
        size = int(arrived[at:line], 16)
        at = line + 2 + size + 2
        if len(arrived) < at:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(arrived[line + 2 : at - 2])
    return None


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def load(
    port: int, count: int, requests: Iterable[bytes], good: Callable[[int], bool]
) -> tuple[float, list[float]]:
    """Send *requests* over *count* connections: seconds in all, and of each. Raises when an answer is not *good*."""
    waiting = iter(requests)
    taken: list[float] = []

    async def work(connection: Connection) -> None:
        for raw in waiting:
            answer = await connection.ask(raw)
            if not good(answer.status):
                raise RuntimeError(f"{answer.status}: {answer.body[:500]!r}")
            taken.append(answer.seconds)

    async with connections(port, count) as made:
        start = time.perf_counter()
        await asyncio.gather(*(work(one) for one in made))
        return time.perf_counter() - start, taken


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
