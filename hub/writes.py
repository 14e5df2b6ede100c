"""Writes of one caller that wait at once, in one transaction: its beginning, its end and its trail cost as much for one
as for twenty."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import psycopg

from fhir.bundle import Plan
from fhir.steps import Step
from hub import flows
from hub.audit import REQUEST_ID
from hub.db import Database
from hub.gathering import Gathering
from hub.identity import Actor
from hub.steps import Answer, change_of, check_existence, of_written, settled

MOST = 64
"""Writes in one transaction."""
LARGEST = 64 * 1024
"""Bytes of a body. A larger one is written alone: it would keep the others waiting, and memory bounded by nothing."""
PAUSE = 0.01
"""Seconds that a busy door waits at most for those whom it has just answered."""

Done = Answer | Exception


def plain(plan: Plan) -> bool:
    """Whether the one step of *plan* writes what it names, and need not look for anything first."""
    [step] = plan.steps
    return step.where is None and step.patch is None and not plan.sought


class Writes:
    """Each is carried out by the rules that hold for it alone, as if one came after the other: when together they are
    refused, each half is tried by itself, down to the one that must not be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_actor: WeakValueDictionary[Actor, _OfOne] = WeakValueDictionary()

    async def write(self, actor: Actor, step: Step) -> Answer:
        """What became of a plain *step*, when it is committed. Raises Refusal as `hub.flows.write`, and 412."""
        theirs = self._by_actor.get(actor)
        if theirs is None:
            theirs = self._by_actor[actor] = _OfOne(self._database, actor)
        return await theirs.gathering.submit((step, REQUEST_ID.get()))

    async def close(self) -> None:
        for theirs in list(self._by_actor.values()):
            await theirs.gathering.close()


Asked = tuple[Step, str | None]
"""A step, and the id of the request that asks for it."""


class _OfOne:
    """The writes of one actor. Others never wait for them."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor
        self.gathering: Gathering[Asked, Answer] = Gathering(self._write, MOST, pause=PAUSE)

    async def _write(self, asked: list[Asked]) -> Sequence[Done]:
        # Each change names its own request; what follows from several is nobody's.
        REQUEST_ID.set(asked[0][1] if len(asked) == 1 else None)
        done: dict[int, Done] = {}
        for positions in _turns([step.name for step, _ in asked]):
            some = [asked[at] for at in positions]
            done.update(zip(positions, await self._together(some), strict=True))
        return [done[at] for at in range(len(asked))]

    async def _together(self, asked: Sequence[Asked]) -> Sequence[Done]:
        try:
            return await settled(lambda: self._once(asked))
        except Exception as error:  # every kind belongs to whoever asked for it: it is raised again in `submit`
            if len(asked) == 1 or _away(error):
                return [error] * len(asked)
        middle = len(asked) // 2
        return [*await self._together(asked[:middle]), *await self._together(asked[middle:])]

    async def _once(self, asked: Sequence[Asked]) -> Sequence[Done]:
        changes = [replace(change_of(step), request=request) for step, request in asked]
        async with self._database.transaction() as tx:
            written = await flows.write(tx, self._actor, changes)
            for (step, _), one in zip(asked, written, strict=True):
                check_existence(step, one)
        return [of_written(one) for one in written]


def _turns(names: Sequence[str]) -> list[list[int]]:
    """Positions in *names*, parted so that no name comes twice in one part: of two writes the later comes later."""
    turns: list[list[int]] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for position, name in enumerate(names):
        if seen[name] == len(turns):
            turns.append([])
        turns[seen[name]].append(position)
        seen[name] += 1
    return turns


def _away(error: Exception) -> bool:
    """Whether the database has gone: it is then not known what was committed, and nothing is tried again."""
    ours = (psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)
    return isinstance(error, psycopg.OperationalError) and not isinstance(error, ours)
