"""Live boards: PostgreSQL says that something changed, every open board is told to look again.

An announcement names a hub and a kind, never a person: the board then fetches its list with its reader's own access.
One connection per process listens, for all open boards of that process.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from types import FrameType
from typing import Any

import psycopg

from monitoring import rule_projection

CHANNEL = "carehub_live"
CREDENTIALS = "carehub_credentials"
"""Where the tables say that a credential ended or an account was changed."""
RULES = rule_projection.CHANNEL

# Seconds. A board is told at once, then at most this often; a silent line is kept open through proxies; a stream
# ends after an hour so that a session that has ended meanwhile is noticed.
PACE = 1.0
HEARTBEAT = 15.0
LONGEST = 3600.0
RETRY_FIRST, RETRY_MOST = 0.2, 5.0

EVENT = b"event: board\ndata: look\n\n"


_ANNOUNCE = """
SELECT pg_notify(%s, hub_id || ' flag')
FROM (SELECT DISTINCT coalesce(hub_id, '') AS hub_id FROM person WHERE patient_id = ANY(%s)) hubs
"""


async def announce(pg: psycopg.AsyncConnection[Any], people: Iterable[str]) -> None:
    """Tell open boards of the hubs of *people* (patients' ids), when the transaction commits, to look again."""
    await pg.execute(_ANNOUNCE, (CHANNEL, sorted(people)))


class Live:
    """The listening side of one process: `start` on start-up, `stop` on shutdown, `events` per open board.

    *credentials* is called when a credential has ended or may have, *rules* when a rule of a hub or those whom it
    watches have changed or may have: True while this process listens, else False.
    """

    def __init__(
        self,
        url: str,
        credentials: Callable[[bool], None] = lambda listening: None,
        rules: Callable[[bool], None] = lambda listening: None,
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._rules = rules
        self._boards: dict[asyncio.Event, str | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._signals: dict[signal.Signals, tuple[Any, Any]] = {}
        self.listening = asyncio.Event()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="live")
        self._hear_signals()

    async def stop(self) -> None:
        self._hang_up()
        for number, (before, ours) in self._signals.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, before)
        self._signals.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def events(self, hub_id: str | None) -> AsyncIterator[bytes]:
        """The stream of one board. *hub_id* None: of every hub."""
        changed = asyncio.Event()
        self._boards[changed] = hub_id
        ends = asyncio.get_running_loop().time() + LONGEST
        try:
            yield b"retry: 1000\n\n: hello\n\n"
            while not self._stopping and asyncio.get_running_loop().time() < ends:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if self._stopping:
                    break
                changed.clear()
                yield EVENT
                await asyncio.sleep(PACE)
        finally:
            del self._boards[changed]

    def _hear_signals(self) -> None:
        """Let every board go as soon as the process is told to end.

        A server waits for its open requests before it shuts the application down, and a board never ends by itself:
        without this, every restart takes as long as the server's patience. Whoever listened before still hears.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def heard(got: int, frame: FrameType | None, before: Any = before) -> None:
                loop.call_soon_threadsafe(self._hang_up)
                if callable(before):
                    before(got, frame)

            if callable(before):
                signal.signal(number, heard)
                self._signals[number] = (before, heard)

    def _hang_up(self) -> None:
        self._stopping = True
        self._wake(None)

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end: nothing that stays open by itself should."""
        return self._stopping

    @property
    def boards(self) -> int:
        """How many boards are open in this process."""
        return len(self._boards)

    def _wake(self, hub_id: str | None) -> None:
        for changed, wanted in self._boards.items():
            if hub_id is None or wanted is None or wanted == hub_id:
                changed.set()

    async def _listen(self) -> None:
        """Listen for ever. When PostgreSQL comes back, every board looks again: it may have missed something."""
        wait = RETRY_FIRST
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}; LISTEN {CREDENTIALS}; LISTEN {RULES}")
                    self._credentials(True)
                    self._rules(True)
                    self._wake(None)
                    self.listening.set()
                    wait = RETRY_FIRST
                    async for notify in connection.notifies():
                        if notify.channel == CREDENTIALS:
                            self._credentials(True)
                        elif notify.channel == RULES:
                            self._rules(True)
                        else:
                            self._wake(notify.payload.partition(" ")[0] or None)
            except psycopg.OperationalError:
                self.listening.clear()
                self._credentials(False)
                self._rules(False)
                await asyncio.sleep(wait)
                wait = min(RETRY_MOST, wait * 2)
