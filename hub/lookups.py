"""Reads by id: those of all requests under way in one statement for each actor and type, under that actor's limits."""

from collections.abc import Sequence

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Stored
from hub.access import visible
from hub.db import Database
from hub.gathering import Gathering
from hub.identity import Actor

Asked = tuple[Actor, str, str]


class Lookups:
    """A statement costs as much for one resource as for twenty: under load, reads wait for each other, not in turn."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathering: Gathering[Asked, Stored] = Gathering(self._load, workers=2)

    async def read(self, actor: Actor, type_: str, id_: str) -> Stored:
        """The current version. Refusal 403 for a type the actor may not see, 404 unknown or invisible, 410 deleted."""
        return await self._gathering.submit((actor, type_, id_))

    async def close(self) -> None:
        await self._gathering.close()

    async def _load(self, asked: list[Asked]) -> Sequence[Stored | Exception]:
        wanted: dict[tuple[Actor, str], dict[str, None]] = {}
        for actor, type_, id_ in asked:
            wanted.setdefault((actor, type_), {})[id_] = None
        found: dict[Asked, Stored] = {}
        refused: dict[tuple[Actor, str], Refusal] = {}
        async with self._database.reading() as pg:
            for (actor, type_), ids in wanted.items():
                try:
                    several = await store.read_several(pg, type_, list(ids), visible(actor))
                except Refusal as refusal:
                    refused[actor, type_] = refusal
                else:
                    found.update(((actor, type_, id_), stored) for id_, stored in several.items())
        return [refused.get(one[:2]) or _answer(one, found.get(one)) for one in asked]


def _answer(asked: Asked, stored: Stored | None) -> Stored | Refusal:
    try:
        return store.readable(asked[1], asked[2], stored)
    except Refusal as refusal:
        return refusal
