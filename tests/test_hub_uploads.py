"""Readings that people bring: from a file, looked at first, then kept, once; by hand, asked back before they are."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from factories import team
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from hub import accounts, flows
from hub.identity import Actor

NOW = datetime.now(UTC).replace(microsecond=0, second=0)


@dataclass
class World:
    rest: Rest
    person: str
    coach: Visitor
    patient: Visitor
    outside: Visitor
    voluntary: Visitor

    async def values(self) -> list[float]:
        rows = await self.rest.rows("SELECT value FROM reading WHERE patient_id = %s ORDER BY at", self.person)
        return [row[0] for row in rows]


@pytest.fixture(scope="module")
async def world(fresh_url: Callable[[], str]) -> AsyncIterator[World]:
    async with running(fresh_url(), demonstration=True) as rest:
        person = await rest.patient()
        async with rest.database.transaction() as tx:
            await team(tx, person, {"Practitioner/coach": "432100008"})
            for name, role, reference, where in (
                ("coach", "health-coach", "Practitioner/coach", ["Organization/yeovil"]),
                ("patient", "patient", f"Patient/{person}", []),
                ("outside", "health-coach", "Practitioner/outside", ["Organization/elsewhere"]),
                ("voluntary", "voluntary-worker", "Practitioner/voluntary", ["Organization/yeovil"]),
            ):
                await accounts.create_account(
                    tx, name, PASSWORD, name.title(), role, reference, where, "yeovil", demonstration=True
                )
        visitors = [Visitor(rest) for _ in range(4)]
        for name, visitor in zip(("coach", "patient", "outside", "voluntary"), visitors, strict=True):
            await visitor.sign_in(name)
        yield World(rest, person, *visitors)


def dexcom(*values: str, start: datetime = NOW - timedelta(hours=1)) -> bytes:
    head = "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Source Device ID,Glucose Value (mmol/L)"
    rows = [f"{n},{(start + timedelta(minutes=5 * n)).isoformat()},EGV,G6,{value}" for n, value in enumerate(values, 2)]
    return "\n".join([head, "1,,LastName,,", *rows]).encode()


async def send(visitor: Visitor, address: str, raw: bytes) -> httpx.Response:
    files = {"file": ("export.csv", raw, "text/csv")}
    return await visitor.client.post(address, data={"csrf": visitor.csrf}, files=files)


async def keep(visitor: Visitor, address: str, preview: httpx.Response) -> httpx.Response:
    found = re.search(r'name="content" value="([^"]*)"', preview.text)
    assert found is not None, preview.text
    data = {"csrf": visitor.csrf, "content": found.group(1), "keep": "yes"}
    return await visitor.client.post(address, data=data)


class TestUpload:
    async def test_it_is_looked_at_first_then_kept_and_the_same_again_adds_nothing(self, world: World) -> None:
        address = f"/patients/{world.person}/readings/upload"
        raw = dexcom("6.1", "High", "oops", "7.2")
        preview = await send(world.coach, address, raw)
        assert preview.status_code == 200
        for said in (
            "read this file as <strong>Dexcom</strong>",
            "<strong>3</strong> new readings",
            "<td>5</td><td>&#39;oops&#39;",
        ):
            assert said in preview.text, said
        assert await world.values() == []
        kept = await keep(world.coach, address, preview)
        assert "3 readings saved" in kept.text
        assert await world.values() == [6.1, 22.2, 7.2]
        filed = await world.rest.rows("SELECT actor, reason, raw FROM refusal")
        assert [(actor, reason) for actor, reason, _ in filed] == [("Practitioner/coach", "value")]
        assert b"oops" in bytes(filed[0][2])
        longer = dexcom("6.1", "High", "oops", "7.2", "7.5")
        again = await send(world.patient, "/me/upload", longer)
        assert "<strong>1</strong> new readings" in again.text and "<strong>3</strong> are there already" in again.text
        assert "1 reading saved" in (await keep(world.patient, "/me/upload", again)).text
        assert await world.values() == [6.1, 22.2, 7.2, 7.5]
        signed = await world.rest.rows(
            "SELECT DISTINCT body::jsonb->'performer'->0->>'reference' FROM resource_version WHERE type = 'Observation'"
        )
        assert {one for (one,) in signed} == {"Practitioner/coach", f"Patient/{world.person}"}

    async def test_a_reading_that_was_struck_through_is_not_brought_back(self, world: World) -> None:
        address = f"/patients/{world.person}/readings/upload"
        raw = dexcom("5.5", start=NOW - timedelta(days=3))
        await keep(world.coach, address, await send(world.coach, address, raw))
        ((id_,),) = await world.rest.rows("SELECT observation_id FROM reading WHERE value = 5.5")
        coach = Actor(
            "user", "c", "Coach", "health-coach", "Practitioner/coach", ("Practitioner/coach", "Organization/yeovil")
        )
        async with world.rest.database.transaction() as tx:
            await flows.mark_wrong(tx, coach, id_, "Somebody else's sensor")
        again = await send(world.coach, address, raw)
        assert "struck through" in again.text and "<strong>0</strong> new readings" in again.text
        other = await send(world.coach, address, dexcom("9.9", start=NOW - timedelta(days=3)))
        assert "Another value stands in the record" in other.text

    async def test_a_file_that_is_none_says_so(self, world: World) -> None:
        for raw, said in ((b"", "No file was chosen"), (b"a,b\n1,2\n", "Known are: Dexcom"), (b"\xff", "no text")):
            answer = await send(world.patient, "/me/upload", raw)
            assert answer.status_code == 422 and said in answer.text
        broken = {"csrf": world.patient.csrf, "content": "!", "keep": "yes"}
        assert (await world.patient.client.post("/me/upload", data=broken)).status_code == 400


class TestHazardWrongPatient:
    async def test_nobody_brings_a_file_for_a_person_outside_their_care(self, world: World) -> None:
        address = f"/patients/{world.person}/readings/upload"
        before = await world.values()
        for visitor, status in ((world.outside, 404), (world.voluntary, 403), (world.patient, 403)):
            assert (await visitor.client.get(address)).status_code == status
            assert (await send(visitor, address, dexcom("1.1"))).status_code == status
        assert (await world.coach.client.get("/me/upload")).status_code == 403
        assert await world.values() == before


class TestByHand:
    """What a coach hears on the telephone counts as much as what a device sends, and whoever typed it takes it back."""

    async def test_a_slip_is_asked_back_then_it_is_stored_evaluated_and_undone(self, world: World) -> None:
        address = f"/patients/{world.person}/readings"
        typed = {"csrf": world.coach.csrf, "once": "o1", "how": "telephone", "weight": "82.4", "spo2": "97"}
        assert (await world.coach.client.post(address, data=typed)).status_code == 303
        slip = typed | {"once": "o2", "weight": "184", "spo2": "84", "oxygen": "air"}
        asked = await world.coach.client.post(address, data=slip)
        assert asked.status_code == 422 and "83.5 kg (184 lb)" in asked.text and 'name="sure"' in asked.text
        weights = "SELECT value FROM reading WHERE patient_id = %s AND measure = 'weight' ORDER BY value"
        assert await world.rest.rows(weights, world.person) == [(82.4,)]
        for _ in range(2):  # the second is the same form, sent again
            answer = await world.coach.client.post(address, data=slip | {"weight": "83.5"})
            assert answer.status_code == 303
        assert await world.rest.rows(weights, world.person) == [(82.4,), (83.5,)]
        flags = await world.rest.rows(
            "SELECT severity FROM flag WHERE patient_id = %s AND state = 'open'", world.person
        )
        assert (3,) in flags
        ((id_,),) = await world.rest.rows(
            "SELECT observation_id FROM reading WHERE patient_id = %s AND value = 84", world.person
        )
        gone = {"csrf": world.coach.csrf, "why": "I misheard: it was 94"}
        assert (await world.coach.client.post(f"{address}/{id_}/wrong", data=gone)).status_code == 303
        assert await world.rest.rows("SELECT quality FROM reading WHERE observation_id = %s", id_) == [("wrong",)]

    async def test_a_patient_types_and_is_not_asked_who_measured(self, world: World) -> None:
        page = await world.patient.client.get("/me/readings")
        assert "Who measured?" not in page.text and "More measurements" in page.text
        typed = {"csrf": world.patient.csrf, "once": "p1", "falls": "1"}
        assert (await world.patient.client.post("/me/readings", data=typed)).status_code == 303
        rows = await world.rest.rows(
            "SELECT value FROM reading WHERE patient_id = %s AND measure = 'falls'", world.person
        )
        assert rows == [(1.0,)]
