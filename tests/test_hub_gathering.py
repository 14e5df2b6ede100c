"""Gathering: everyone gets their own answer, together, and one bad item harms nobody else."""

import asyncio

import pytest

from hub.gathering import Gathering


async def test_what_waits_is_carried_out_together_and_each_gets_its_own_answer() -> None:
    batches: list[list[int]] = []

    async def double(items: list[int]) -> list[int]:
        batches.append(items)
        await asyncio.sleep(0.001)
        return [2 * item for item in items]

    gathering = Gathering(double)
    assert await asyncio.gather(*(gathering.submit(n) for n in range(50))) == [2 * n for n in range(50)]
    assert batches == [list(range(50))]


async def test_a_batch_is_never_larger_than_allowed() -> None:
    sizes: list[int] = []

    async def count(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    gathering = Gathering(count, max_batch=7)
    assert await asyncio.gather(*(gathering.submit(n) for n in range(20))) == list(range(20))
    assert sizes == [7, 7, 6]


async def test_one_bad_item_does_not_harm_the_others() -> None:
    async def picky(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return items

    gathering = Gathering(picky)
    results = await asyncio.gather(*(gathering.submit(n) for n in (1, 13, 2)), return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    assert results[2] == 2


async def test_an_exception_as_a_result_is_raised_to_its_caller_only() -> None:
    async def mixed(items: list[str]) -> list[str | Exception]:
        return [LookupError(item) if item == "bad" else item for item in items]

    gathering: Gathering[str, str] = Gathering(mixed)
    good, bad = await asyncio.gather(gathering.submit("good"), gathering.submit("bad"), return_exceptions=True)
    assert good == "good"
    assert isinstance(bad, LookupError)


async def test_a_handler_that_forgets_an_item_is_an_error_not_a_wrong_answer() -> None:
    async def forgetful(items: list[int]) -> list[int]:
        return items[:-1]

    gathering = Gathering(forgetful)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await gathering.submit(1)


async def test_items_that_come_while_a_batch_runs_form_the_next_one_and_nothing_is_stuck() -> None:
    sizes: list[int] = []

    async def slow(items: list[int]) -> list[int]:
        sizes.append(len(items))
        await asyncio.sleep(0.002)
        return items

    gathering = Gathering(slow)

    async def client(start: int) -> None:
        for n in range(start, start + 20):
            assert await gathering.submit(n) == n

    await asyncio.wait_for(asyncio.gather(*(client(1000 * n) for n in range(16))), 10)
    assert sum(sizes) == 320
    assert max(sizes) > 1


async def test_a_caller_that_gave_up_is_skipped_and_the_rest_go_on() -> None:
    started = asyncio.Event()
    seen: list[int] = []

    async def slow(items: list[int]) -> list[int]:
        seen.extend(items)
        started.set()
        await asyncio.sleep(0.01)
        return items

    gathering = Gathering(slow)
    first = asyncio.create_task(gathering.submit(1))
    await started.wait()
    second, third = asyncio.create_task(gathering.submit(2)), asyncio.create_task(gathering.submit(3))
    await asyncio.sleep(0)
    second.cancel()
    assert await first == 1
    assert await third == 3
    assert seen == [1, 3]


async def test_close_waits_for_what_was_submitted() -> None:
    done: list[int] = []

    async def slow(items: list[int]) -> list[int]:
        await asyncio.sleep(0.005)
        done.extend(items)
        return items

    gathering = Gathering(slow, max_batch=1, workers=2)
    waiting = [asyncio.create_task(gathering.submit(n)) for n in range(4)]
    await asyncio.sleep(0)
    await gathering.close()
    assert sorted(done) == [0, 1, 2, 3]
    assert await asyncio.gather(*waiting) == [0, 1, 2, 3]


async def test_when_the_worker_is_stopped_nobody_waits_for_ever() -> None:
    async def never(items: list[int]) -> list[int]:
        await asyncio.sleep(60)
        return items

    gathering = Gathering(never)
    waiting = [asyncio.create_task(gathering.submit(n)) for n in range(3)]
    await asyncio.sleep(0.01)
    for task in tuple(gathering._tasks):
        task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


async def test_after_a_batch_the_next_waits_until_those_who_were_answered_are_back() -> None:
    sizes: list[int] = []

    async def count(items: list[int]) -> list[int]:
        sizes.append(len(items))
        await asyncio.sleep(0.001)
        return items

    gathering = Gathering(count, pause=30)

    async def client(n: int) -> None:
        for _ in range(3):
            await gathering.submit(n)
            await asyncio.sleep(n / 1000)  # some are slower to come back

    await asyncio.wait_for(asyncio.gather(*(client(n) for n in range(5))), 10)
    assert sizes == [5, 5, 5]


async def test_who_does_not_come_back_keeps_nobody_waiting_for_longer_than_the_pause() -> None:
    sizes: list[int] = []

    async def count(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    gathering = Gathering(count, pause=0.02)
    await gathering.submit_all(range(4))
    assert await asyncio.wait_for(gathering.submit(4), 5) == 4
    assert sizes == [4, 1]


async def test_many_items_of_one_caller_come_back_in_their_order() -> None:
    async def negative(items: list[int]) -> list[int]:
        return [-item for item in items]

    assert await Gathering(negative, max_batch=3).submit_all(range(8)) == [-n for n in range(8)]
