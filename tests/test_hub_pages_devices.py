"""The pages about devices: a fleet that shows what is wrong, one device with its log, and pauses."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from rest import Rest, running
from test_hub_doubts import spo2
from test_hub_pages_access import PASSWORD, Visitor

from fhir.store import Change, new_id
from hub import accounts, flows, hearing, pauses
from hub.examples import examples
from hub.identity import IMPORTER, Actor
from hub.pages.device_words import REFUSED
from monitoring.instruments import INSTRUMENTS

NOW = datetime.now(UTC)
NHS = "9990000018"


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ("clinician", "care-coordinator", "operations", "health-coach"):
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
        yield rest


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    if not found.csrf:
        text = (await found.client.get("/devices")).text
        found.csrf = re.findall(r'name="csrf" value="([^"]+)"', text)[0]
    return found


async def cared(rest: Rest, **elements: Any) -> str:
    patient_id = await rest.patient(**elements)
    async with rest.database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis) SELECT 'Practitioner/' || role, %s, 'CareTeam/t',"
            " 'team' FROM unnest('{clinician,care-coordinator,health-coach}'::text[]) AS role",
            (patient_id,),
        )
    return patient_id


async def registered(rest: Rest, name: str, patient_id: str | None = None, **more: Any) -> str:
    id_ = new_id()
    device = {
        "resourceType": "Device", "status": "active", "deviceName": [{"name": name, "type": "user-friendly-name"}],
        "type": INSTRUMENTS["oximeter"].concept, **more,
    }  # fmt: skip
    if patient_id:
        device["patient"] = {"reference": f"Patient/{patient_id}"}
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, [Change("create", "Device", id_, device)])
        await hearing.imported(tx.pg, {id_: NOW})
    return id_


async def put(rest: Rest, query: str, *values: Any) -> None:
    async with rest.database.transaction() as tx:
        await tx.pg.execute(query, values)


def rows_of(text: str) -> list[str]:
    return re.findall(r'<a class="hub-row__person" href="/devices/[^"]+">([^<]+)</a>', text)


class TestFleet:
    async def test_what_is_wrong_is_found_by_filter_with_its_number(self, rest: Rest) -> None:
        ada, ben = await cared(rest, name=[{"family": "Quietly", "given": ["Ada"]}]), await cared(rest)
        silent = await registered(rest, "Silent one", ada, serialNumber="SN-77")
        await put(rest, "UPDATE device_state SET heard = now() - interval '9 days' WHERE device_id = %s", silent)
        weak = await registered(rest, "Weak one", ben)
        state = "UPDATE device_state SET battery = 9, clock_off = -900 WHERE device_id = %s"
        await put(rest, state, weak)
        await registered(rest, "Shelf one")
        paused = await registered(rest, "Paused one", await cared(rest))
        await put(rest, "UPDATE device_state SET heard = now() - interval '9 days' WHERE device_id = %s", paused)
        await put(
            rest,
            "INSERT INTO pause (id, patient_id, since, until, reason) SELECT 'pause', patient_id,"
            " now() - interval '1 day', now() + interval '1 day', 'Holiday' FROM device WHERE id = %s",
            paused,
        )
        who = await visitor(rest, "care-coordinator")
        everything = (await who.client.get("/devices")).text
        assert rows_of(everything)[0] == "Silent one"
        assert "expected within 3 days" in everything and "Clock 15 min behind" in everything
        assert "Battery 9 %" in everything and "paused until" in everything
        for chip, name in (("silent", "Silent one"), ("battery", "Weak one"), ("clock", "Weak one"),
                           ("unassigned", "Shelf one"), ("paused", "Paused one")):  # fmt: skip
            text = (await who.client.get(f"/devices?show={chip}")).text
            assert rows_of(text) == [name]
            assert re.search(rf'show={chip}" aria-current="true">[^<]+<b>1</b>', text), chip
        for asked in ("sn-7", "silent", "quietl"):
            answer = await who.client.post("/devices", data={"csrf": who.csrf, "q": asked})
            assert rows_of(answer.text) == ["Silent one"], asked
        assert rows_of((await who.client.post("/devices", data={"csrf": who.csrf, "q": "%"})).text) == []

    async def test_it_is_silent_by_what_is_agreed_or_by_its_own_rhythm(self, rest: Rest) -> None:
        patient_id = await cared(rest)
        device = await registered(rest, "Agreed one", patient_id)
        heard = "UPDATE device_state SET heard = now() - interval '20 hours' WHERE device_id = %s"
        await put(rest, heard, device)
        who = await visitor(rest, "care-coordinator")
        assert "Agreed one" not in rows_of((await who.client.get("/devices?show=silent")).text)
        await put(
            rest,
            "INSERT INTO monitoring_limit (service_request_id, patient_id, measure, every_hours, active)"
            " VALUES (%s, %s, 'spo2', 12, true)",
            new_id(),
            patient_id,
        )
        assert "Agreed one" in rows_of((await who.client.get("/devices?show=silent")).text)

    async def test_operations_see_devices_and_nobodys_name(self, rest: Rest) -> None:
        patient_id = await cared(rest, name=[{"family": "Hiddenname", "given": ["Ada"]}])
        device = await registered(rest, "Known one", patient_id)
        await rest.system(
            "POST", "/Observation", spo2(patient_id, 91, timedelta(hours=1), device={"reference": f"Device/{device}"})
        )
        who = await visitor(rest, "operations")
        for address in ("/devices", f"/devices/{device}", f"/devices/{device}/log", f"/devices/{device}/integration"):
            answer = await who.client.get(address)
            assert answer.status_code == 200, address
            assert "HIDDENNAME" not in answer.text and "91 %" not in answer.text
            assert patient_id not in answer.text, address
        found = await who.client.post("/devices", data={"csrf": who.csrf, "q": "hiddenname"})
        assert rows_of(found.text) == []
        assert "91 %" in (await (await visitor(rest, "clinician")).client.get(f"/devices/{device}")).text
        coach = await visitor(rest, "health-coach")
        assert (await coach.client.get(f"/devices/{device}")).status_code == 403


class TestOneDevice:
    async def test_from_the_box_to_a_person_and_back(self, rest: Rest) -> None:
        born = {
            "birthDate": "1948-03-09",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NHS}],
        }
        patient_id = await cared(rest, **born, name=[{"family": "Holder", "given": ["Jean"]}])
        who = await visitor(rest, "care-coordinator")

        async def act(address: str, **sent: str) -> Any:
            return await who.client.post(address, data={"csrf": who.csrf, **sent}, follow_redirects=True)

        problem = await act("/devices/new", name="Oximeter 7", kind="")
        assert problem.status_code == 422 and "Choose what kind" in problem.text
        made = await act("/devices/new", name="Oximeter 7", kind="oximeter", serial="BOX-1")
        address = made.url.path
        assert "In stock" in made.text and "Nobody." in made.text
        wrong = await act(address, act="assign", nhs=NHS, born="1948-03-10", why="Starts")
        assert wrong.status_code == 422 and "Nobody in your care" in wrong.text
        given = await act(address, act="assign", nhs="999 000 0018", born="1948-03-09", why="Starts oximetry")
        assert "HOLDER, Jean" in given.text and "Handed over" in given.text
        shown = await act(address, act="key", overlap="24")
        key = re.findall(r'id="new-key">(chd_[^<]+)<', shown.text)[0]
        assert key not in (await who.client.get(address)).text
        sent = await rest.client.post(
            "/fhir/Observation",
            json=spo2(patient_id, 97, effectiveDateTime=datetime.now(UTC).isoformat()),
            headers={"authorization": f"Bearer {key}", "content-type": "application/fhir+json"},
        )
        assert sent.status_code == 201, sent.text
        late = await rest.client.post(
            "/fhir/Observation",
            json=spo2(patient_id, 96, timedelta(hours=1)),
            headers={"authorization": f"Bearer {key}", "content-type": "application/fhir+json"},
        )
        assert late.status_code == 422
        log = (await who.client.get(f"{address}/log")).text
        assert "Oxygen saturation 97 %" in log and REFUSED["outside-assignment"][0] in log
        until = (date.today() + timedelta(days=3)).isoformat()
        paused = await act(address, act="pause", to=until, code="holiday", why="At her sister's", **{"from": ""})
        assert "Paused</span> until" in paused.text and "At her sister" in paused.text
        pause = re.findall(r'name="pause" value="([^"]+)"', paused.text)[0]
        assert "paused until" not in (await act(address, act="end-pause", pause=pause, why="Home again")).text.lower()
        back = await act(address, act="return", why="Has a new one", keys="end")
        assert "Nobody." in back.text and "Who held it before" in back.text and "All its keys" not in back.text
        assert "In stock" in back.text
        gone = await act(address, act="lost", why="Cannot be found")
        assert ">Lost<" in gone.text
        assert "In stock" in (await act(address, act="put-back", why="In a drawer")).text


class TestPauses:
    async def test_a_holiday_is_shown_on_every_page_about_the_person(self, rest: Rest) -> None:
        patient_id = await cared(rest)
        who = await visitor(rest, "health-coach")
        actor = Actor("user", "c", "Kit", "health-coach", "Practitioner/health-coach", ("Practitioner/health-coach",))
        async with rest.database.transaction() as tx:
            made = await pauses.pause(tx, actor, patient_id, NOW, NOW + timedelta(days=9), "At the sea", code="holiday")
        for address in (f"/patients/{patient_id}", f"/patients/{patient_id}/readings"):
            assert "Home monitoring is paused until" in (await who.client.get(address)).text
        async with rest.database.transaction() as tx:
            await pauses.end(tx, actor, made.change.id, "Back already", NOW + timedelta(seconds=2))
        await put(rest, "UPDATE pause SET until = now() WHERE id = %s", made.change.id)
        assert "is paused until" not in (await who.client.get(f"/patients/{patient_id}")).text


class TestExamples:
    @pytest.mark.parametrize("kind", [None, *INSTRUMENTS])
    def test_every_kind_of_device_has_commands_of_its_own(self, kind: str | None) -> None:
        made = examples("https://hub.example/fhir", "p", INSTRUMENTS[kind] if kind else None, "chd_x", NOW)
        assert [one.key for one in made] == ["single", "stream", "batch"]
        assert all("chd_x" in one.command and "https://hub.example/fhir" in one.command for one in made)
