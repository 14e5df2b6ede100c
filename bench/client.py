"""A load generator that costs little beside the service on the same two cores: HTTP/1.1 over kept connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    seconds: float


class Connection:
    """One kept connection. `ask(raw)` sends the bytes of a request and reads its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, raw: bytes) -> Answer:
        start = time.perf_counter()
        self._writer.write(raw)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = await self._chunked()
        else:
            at = lower.find(b"content-length: ")
            length = int(lower[at + 16 : lower.index(b"\r\n", at)]) if at >= 0 else 0
            body = await self._reader.readexactly(length) if length else b""
        return Answer(status, body, time.perf_counter() - start)

    async def _chunked(self) -> bytes:
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readline()
        return b"".join(parts)

    async def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    made = [Connection(*await asyncio.open_connection("127.0.0.1", port, limit=2**24)) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.close()


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
