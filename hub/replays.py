"""Replay for many people: their past streams out of PostgreSQL, person by person, and is replayed by several processes.

Each process gets its people on its standard input and answers in lines of JSON, so that it can be started from wherever
it is asked for (a worker of the service, a command) and is ended with it. No statement is made for a reading.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from monitoring.past import READINGS, VERSIONS, Past, asked, pasts
from monitoring.replay import Alert, raised, replay
from monitoring.rules import RULES, Rule

MOST_PROCESSES = 4
CHUNK = 20_000
"""Readings (about) of the people that are fetched together: what a process holds at a time."""
OPTIONS = "-c default_transaction_read_only=on -c timezone=UTC -c jit=off -c statement_timeout=600000"


@dataclass(frozen=True, slots=True)
class Question:
    """What is replayed. `rules` are in force, and those of `only` (ids; None: all) speak; what was raised in truth is
    told of the same."""

    since: datetime
    until: datetime
    rules: Sequence[Rule] = RULES
    only: tuple[str, ...] | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(rule.id for rule in self.rules) if self.only is None else frozenset(self.only)


@dataclass(slots=True)
class Replayed:
    """What was raised in truth, what would have been, of how many people and readings."""

    raised: list[Alert] = field(default_factory=list)
    replayed: list[Alert] = field(default_factory=list)
    people: int = 0
    readings: int = 0

    def add(self, other: "Replayed") -> None:
        self.raised += other.raised
        self.replayed += other.replayed
        self.people += other.people
        self.readings += other.readings


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process is given. `chunks` are people who are fetched together."""

    url: str
    question: Question
    chunks: list[list[str]]


async def answer(
    url: str,
    people: Sequence[tuple[str, int]],
    question: Question,
    tell: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> Replayed:
    """Replay *question* for *people*: (patient id, number of readings). *tell* hears how many of the readings are done.

    Raises RuntimeError when a process fails; its own words are on standard error.
    """
    chunks = list(_chunks(people))
    count = min(processes or min(os.cpu_count() or 1, MOST_PROCESSES), len(chunks)) or 1
    whole = Replayed()
    total = sum(number for _, number in people)

    def heard(part: Replayed) -> None:
        whole.add(part)
        if tell is not None:
            tell(whole.readings, total)

    if chunks:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(_ask(_Share(url, question, chunks[number::count]), heard))
    return whole


async def _ask(share: _Share, heard: Callable[[Replayed], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.replays", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**28
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(pickle.dumps(share))
        process.stdin.close()
        async for line in process.stdout:
            heard(msgspec.json.decode(line, type=Replayed))
        if await process.wait() != 0:
            raise RuntimeError("a process that replays has failed")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _chunks(people: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for patient_id, readings in people:
        chunk.append(patient_id)
        held += readings
        if held >= CHUNK:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


PEOPLE = "SELECT patient_id, count(*) FROM reading WHERE received < %s GROUP BY patient_id ORDER BY patient_id"
"""Everybody with readings, and how many, for `answer`."""


def _replay(share: _Share) -> Iterator[Replayed]:
    question = share.question
    with psycopg.connect(share.url, options=OPTIONS) as connection:
        for people in share.chunks:
            done = Replayed()
            with connection.transaction():
                for past in _pasts(connection, people, question):
                    done.raised += raised(past, question.since, question.names)
                    done.replayed += replay(past, question.since, question.rules, question.only)
                    done.people += 1
                    done.readings += sum(len(batch.readings) for batch in past.batches)
            yield done


def _pasts(connection: psycopg.Connection[Any], people: Sequence[str], question: Question) -> Iterator[Past]:
    params = asked(people, question.rules, question.since, question.until)
    versions = connection.execute(VERSIONS, params, binary=True).fetchall()
    with connection.cursor(name="readings") as cursor:
        cursor.itersize = 5000
        cursor.execute(READINGS, params, binary=True)
        yield from pasts(cursor, versions)


def main() -> None:
    share: _Share = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 -- from our own parent, through a pipe
    for part in _replay(share):
        sys.stdout.buffer.write(msgspec.json.encode(part) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
