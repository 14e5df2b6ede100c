"""Reads that are asked for at once share a statement, and each still sees only what its own actor may see."""

import asyncio
from collections.abc import AsyncIterator

import factories
import pytest

from fhir.outcome import Refusal
from fhir.store import Change, Stored
from hub import flows
from hub.db import Database
from hub.identity import IMPORTER, Actor, account_actor
from hub.lookups import Lookups

DEVICE = Actor("device", "d", "Cuff", "device", "Device/d", ("Device/d",))
NOBODY = Actor("user", "n", "N", "", "Practitioner/n", ("Practitioner/n",))


@pytest.fixture
async def lookups(database: Database) -> AsyncIterator[Lookups]:
    made = Lookups(database)
    yield made
    await made.close()


def gp(practice: str) -> Actor:
    return account_actor(
        practice, "GP", "practice-staff", f"Practitioner/{practice}", [f"Organization/{practice}"], None
    )


async def outcome(lookups: Lookups, actor: Actor, type_: str, id_: str) -> Stored | int:
    try:
        return await lookups.read(actor, type_, id_)
    except Refusal as refusal:
        return refusal.status


async def test_hazard_wrong_record_everyone_who_asks_at_once_gets_what_they_may_see(
    database: Database, lookups: Lookups
) -> None:
    async with database.transaction() as tx:
        practices = [await factories.organisation(tx, "practice") for _ in range(2)]
        people = [await factories.patient(tx, practice=practice) for practice in practices for _ in range(5)]
        gone = await factories.patient(tx, practice=practices[0])
    async with database.transaction() as tx:
        await flows.write(tx, IMPORTER, [Change("delete", "Patient", gone, None)])
    theirs = account_actor("p", "P", "patient", f"Patient/{people[0]}", [], None)
    asking = [gp(practices[0]), gp(practices[1]), gp("elsewhere"), theirs, DEVICE, NOBODY, IMPORTER]
    asked = [(actor, person) for actor in asking for person in [*people, gone, "unknown", people[0]]]
    found = await asyncio.gather(*(outcome(lookups, actor, "Patient", person) for actor, person in asked))
    for (actor, person), got in zip(asked, found, strict=True):
        mine = {practices[0]: people[:5], practices[1]: people[5:], "p": people[:1]}.get(actor.id, [])
        if actor in (DEVICE, NOBODY):
            assert got == 403
        elif person in mine or (actor is IMPORTER and person in people):
            assert isinstance(got, Stored)
            assert got.id == person
            assert got.resource is not None
            assert got.resource["id"] == person
        else:
            assert got == (410 if person == gone and actor is IMPORTER else 404)


async def test_what_was_written_before_is_seen(database: Database, lookups: Lookups) -> None:
    async with database.transaction() as tx:
        person = await factories.patient(tx)
    await asyncio.gather(*(lookups.read(IMPORTER, "Patient", person) for _ in range(20)))
    for version in range(2, 6):
        async with database.transaction() as tx:
            stored = await lookups.read(IMPORTER, "Patient", person)
            changed = {**(stored.resource or {}), "birthDate": f"194{version}"}
            await flows.write(tx, IMPORTER, [Change("update", "Patient", person, changed)])
        assert (await lookups.read(IMPORTER, "Patient", person)).version == version
