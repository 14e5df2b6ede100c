"""Twenty-four simulated hours, twice: nobody's readings, alerts or timers show that everything was killed in turn."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import quick_folder
from simulated_day import EACH, EVERYTHING, Left, twice

PEOPLE = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="carehub-day-", dir=quick_folder(), ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.mark.fault
@pytest.mark.timeout(600)
async def test_a_day_with_everything_killed_in_turn_leaves_what_a_calm_one_leaves(folder: Path) -> None:
    """Hazard: a reading that was acknowledged is lost or doubled, an alert is missed, a timer fires twice or never."""
    check(*await twice(PEOPLE, timedelta(minutes=30), EACH, folder))


def check(calm: Left, rough: Left) -> None:
    assert rough.killed.keys() == set(EACH.values())
    assert rough.messages == calm.messages
    # Every acknowledged reading is there, once; what was refused was refused in both.
    assert rough.taken == calm.taken == calm.messages - calm.statuses[422]
    for day in (calm, rough):
        assert len({row[:3] for row in day.readings}) == len(day.readings)
        assert day.failures == 0
    assert rough.readings == calm.readings
    # The same alerts, and whatever time had to do to them was done, once each.
    assert rough.flags == calm.flags
    for day in (calm, rough):
        assert day.overdue == 0
        assert day.told_twice == []
        assert escalations(day) > 0
    assert escalated(rough) == escalated(calm)


def main() -> None:
    """`make faults PEOPLE=1500`: the figures go to standard output."""
    people = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory(prefix="carehub-day-", ignore_cleanup_errors=True) as made:
        days = twice(people, timedelta(minutes=10), EVERYTHING, Path(made), lambda words: print(words, flush=True))
        check(*asyncio.run(days))
    print("the same readings, alerts and timers")


def escalated(day: Left) -> int:
    """Flags that were told further up."""
    return sum(any(move["to"] == "escalated" for move in moves) for _, moves in day.moves)


def escalations(day: Left) -> int:
    """How often timers told further up. No flag was told twice within the shortest delay there is."""
    count = 0
    for id_, moves in day.moves:
        at = [datetime.fromisoformat(move["at"]) for move in moves if move["to"] == "escalated"]
        assert all(later - earlier >= timedelta(minutes=15) for earlier, later in pairwise(at)), id_
        count += len(at)
    return count


if __name__ == "__main__":
    main()
