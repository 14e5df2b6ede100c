"""Writes that wait at once share a transaction, and each is answered as if it stood alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import factories
import pytest

from fhir.bundle import single
from fhir.outcome import Refusal
from fhir.steps import Step, step
from fhir.store import new_id
from hub.audit import REQUEST_ID
from hub.db import Database
from hub.identity import IMPORTER, Actor, account_actor
from hub.steps import Answer
from hub.writes import Writes, plain

JSON = dict[str, Any]
NOBODY = Actor("user", "n", "N", "", "Practitioner/n", ("Practitioner/n",))


@pytest.fixture
async def writes(database: Database) -> AsyncIterator[Writes]:
    made = Writes(database)
    yield made
    await made.close()


def clinician(hub: str) -> Actor:
    reference = f"Practitioner/of-{hub}"
    return account_actor(f"c-{hub}", "C", "clinician", reference, [f"Organization/{hub}"], hub)


def post(resource: JSON) -> Step:
    return step("POST", [resource["resourceType"]], [], resource, {})


def put(resource: JSON, **conditions: str) -> Step:
    return step("PUT", [resource["resourceType"], resource["id"]], [], resource, conditions)


def delete(type_: str, id_: str, **conditions: str) -> Step:
    return step("DELETE", [type_, id_], [], None, conditions)


def condition(about: str, text: str = "Asthma", **elements: Any) -> JSON:
    status = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}
    subject = {"reference": f"Patient/{about}"}
    made = {"resourceType": "Condition", "clinicalStatus": status, "code": {"text": text}, "subject": subject}
    return made | elements


async def outcome(writes: Writes, actor: Actor, wanted: Step, request: str | None = None) -> Answer | int:
    REQUEST_ID.set(request)
    try:
        return await writes.write(actor, wanted)
    except Refusal as refusal:
        return refusal.status


async def at_once(writes: Writes, *asked: tuple[Actor, Step]) -> list[Answer | int]:
    return await asyncio.gather(*(outcome(writes, actor, wanted) for actor, wanted in asked))


def codes(found: list[Answer | int]) -> list[int]:
    return [one if isinstance(one, int) else one.status for one in found]


async def person(database: Database) -> tuple[str, str]:
    """A hub, and somebody in its care."""
    async with database.transaction() as tx:
        hub = await factories.organisation(tx)
        patient_id = await factories.patient(tx, hub=hub)
        await factories.team(tx, patient_id, {}, hub)
    return hub, patient_id


async def transactions(database: Database, after: int) -> int:
    """How many wrote versions since the version with number *after*."""
    async with database.reading() as pg:
        found = await pg.execute("SELECT count(DISTINCT xact) FROM resource_version WHERE seq > %s", (after,))
        [count] = await found.fetchone() or (0,)
    return int(count)


async def last(database: Database) -> int:
    async with database.reading() as pg:
        [seq] = await (await pg.execute("SELECT coalesce(max(seq), 0) FROM resource_version")).fetchone() or (0,)
    return int(seq)


async def test_hazard_wrong_record_everybody_who_writes_at_once_writes_what_they_may(
    database: Database, writes: Writes
) -> None:
    (hub, mine), (other, theirs) = await person(database), await person(database)
    actors = [clinician(hub), clinician(other), IMPORTER, NOBODY]
    asked = [(actor, post(condition(about))) for actor in actors for about in (mine, theirs, mine)]
    assert codes(await at_once(writes, *asked)) == [
        *(201, 403, 201),
        *(403, 201, 403),
        *(201, 201, 201),
        *(403, 403, 403),
    ]


async def test_what_waits_together_is_committed_together(database: Database, writes: Writes) -> None:
    _, about = await person(database)
    before = await last(database)
    found = await at_once(writes, *((IMPORTER, post(condition(about, f"Asthma {n}"))) for n in range(40)))
    assert codes(found) == [201] * 40
    assert len({one.id for one in found if isinstance(one, Answer)}) == 40
    assert await transactions(database, before) <= 3


async def test_a_refused_one_harms_no_other(database: Database, writes: Writes) -> None:
    _, about = await person(database)
    made = await writes.write(IMPORTER, post(condition(about)))
    assert made.id is not None
    known = condition(about, "Asthma, mild", id=made.id)
    bad = [
        put(known, ifMatch='W/"7"'),
        put(condition(about, id=new_id()), ifMatch="*"),
        delete("Condition", made.id, ifMatch='W/"9"'),
        post({"resourceType": "Patient", "identifier": [{"system": factories.NHS_NUMBER, "value": "9434765918"}]}),
    ]
    good = [post(condition(about, f"Eczema {n}")) for n in range(20)]
    asked = [*good[:7], *bad[:2], *good[7:13], *bad[2:], *good[13:]]
    found = codes(await at_once(writes, *((IMPORTER, one) for one in asked)))
    refused = {asked.index(one): code for one, code in zip(bad, (412, 412, 412, 422), strict=True)}
    assert {at: code for at, code in enumerate(found) if code != 201} == refused


async def test_two_writes_of_one_identity_are_two_versions_in_their_order(database: Database, writes: Writes) -> None:
    _, about = await person(database)
    id_ = new_id()
    steps = [put(condition(about, f"Asthma {n}", id=id_)) for n in range(5)]
    found = await at_once(
        writes, *((IMPORTER, one) for one in [*steps, delete("Condition", id_), delete("Condition", id_), steps[0]])
    )
    assert [(one.status, one.version) for one in found if isinstance(one, Answer)] == [
        *((201, 1), (200, 2), (200, 3), (200, 4), (200, 5)),
        *((204, 6), (204, 6), (201, 7)),
    ]


async def test_the_trail_names_the_request_of_each(database: Database, writes: Writes) -> None:
    _, about = await person(database)
    steps = [post(condition(about, f"Asthma {n}")) for n in range(6)]
    await asyncio.gather(*(outcome(writes, IMPORTER, one, f"request-{one.id}") for one in steps))
    async with database.reading() as pg:
        rows = await pg.execute(
            "SELECT resource_id, request_id FROM audit WHERE resource_id = ANY(%s)", ([one.id for one in steps],)
        )
        assert dict(await rows.fetchall()) == {one.id: f"request-{one.id}" for one in steps}


async def test_what_looks_first_does_not_wait_with_them(database: Database) -> None:
    _, about = await person(database)
    assert plain(single(post(condition(about))))
    assert plain(single(delete("Condition", "x")))
    referring = condition(about, recorder={"reference": "Practitioner?identifier=urn:x|1"})
    assert not plain(single(post(referring)))
    assert not plain(single(step("DELETE", ["Condition"], [("code", "x")], None, {})))
    assert not plain(single(step("POST", ["Condition"], [], condition(about), {"ifNoneExist": "code=x"})))
