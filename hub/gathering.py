"""Gathering: many small requests carried out together, so that one commit serves everyone who is waiting."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathering(Generic[Item, Result]):
    """Hands everything that is waiting to *handler* at once, at most *max_batch* items at a time.

    `handler(items)` returns one result per item, in order; a result that is an exception is raised to the caller of
    that item alone. When the handler itself raises, its batch is repeated item by item, so that one bad item never
    harms the others: the handler must therefore be atomic (all of a batch or nothing) or safe to repeat.

    While one batch is being committed the next one fills, which makes batches large under load and keeps a lonely item
    as fast as without gathering. *workers* batches may be under way at the same time. After a batch of several, the
    next waits until as many are here again as there were, at most *pause* seconds: those who were just answered come
    back and join it, instead of taking turns with the others in two batches half as large.
    """

    def __init__(
        self,
        handler: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        max_batch: int = 256,
        workers: int = 1,
        pause: float = 0.0,
    ) -> None:
        self._handler = handler
        self._max_batch = max_batch
        self._workers = workers
        self._pause = pause
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected = 0
        self._all_here = asyncio.Event()

    async def submit(self, item: Item) -> Result:
        """The handler's result for *item*, once its batch is done; raises what the handler raised for it."""
        return await self._put(item, asyncio.get_running_loop())

    async def submit_all(self, items: Iterable[Item]) -> list[Result]:
        """The results for *items*, in order; raises the first of what the handler raised for one of them."""
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*[self._put(item, loop) for item in items])

    def _put(self, item: Item, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._tasks) < self._workers:
            self._tasks.add(loop.create_task(self._drain()))
        elif len(self._waiting) == self._expected:
            self._all_here.set()
        return future

    async def close(self) -> None:
        """Wait until everything submitted so far is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _drain(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while self._waiting:
                batch = []
                while self._waiting and len(batch) < self._max_batch:
                    item, future = self._waiting.popleft()
                    if not future.cancelled():  # who asked has gone, and was never told that it was done
                        batch.append((item, future))
                if batch:
                    await self._carry_out(batch)
                if self._pause and len(batch) > 1:
                    await self._gather_again(len(batch) + len(self._waiting))
        finally:
            # No await stands between the last look at `_waiting` and this line: a submit that comes later sees that
            # no worker runs and starts one. After a cancellation nobody may be left waiting for an answer.
            self._tasks.discard(task)
            for _, future in batch:
                future.cancel()
            if task.cancelling():
                for _, future in self._waiting:
                    future.cancel()
                self._waiting.clear()

    async def _gather_again(self, everybody: int) -> None:
        self._expected = min(everybody, self._max_batch)
        if len(self._waiting) >= self._expected:
            return
        self._all_here.clear()
        try:
            async with asyncio.timeout(self._pause):
                await self._all_here.wait()
        except TimeoutError:
            pass  # some have nothing more to say

    async def _carry_out(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._handler([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # every kind belongs to those who wait: it is raised again in `submit`
            if len(batch) == 1:
                _answer(batch[0][1], error)
            else:
                for one in batch:
                    await self._carry_out([one])
        else:
            for (_, future), result in zip(batch, results, strict=True):
                _answer(future, result)


def _answer(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
