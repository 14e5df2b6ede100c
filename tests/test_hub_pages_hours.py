"""The page of the hours of a hub: everybody on the boards reads it, administrators change it, people are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from fhir.outcome import Refusal
from fhir.store import Change
from hub import accounts, doctor, flows
from hub.identity import Actor
from hub.settings import Settings
from monitoring import cover
from monitoring.cover import NONE_OF_ITS_OWN, Cover
from monitoring.feedback import watching

ROLES = ("administrator", "clinician", "health-coach", "practice-staff")
FORM = {
    "hub": "yeovil", "version": "0", "act": "save", "red": "10", "amber": "2.5", "bank_holidays": "1",
    **{f"day-{number}": "08:30 to 12:00, 13:00 to 18:00" for number in range(5)}, "day-5": "9 - 12", "day-6": "",
    "first": ["2027-01-04", "", ""], "last": ["", "", ""], "closed_why": ["Training day", "", ""],
    "lead": ["Practitioner/clinician"], "on_call_phone": "01935 100",
}  # fmt: skip


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ROLES:
                hub = None if role == "administrator" else "yeovil"
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), hub, demonstration=True
                )
        patient_id = await rest.patient()
        async with rest.database.transaction() as tx:
            await accounts.create_account(
                tx, "ada", PASSWORD, "Ada", "patient", f"Patient/{patient_id}", (), None, demonstration=True
            )
        yield rest


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    return found


async def kept(rest: Rest) -> Cover:
    async with rest.database.transaction() as tx:
        return (await cover.load_cover(tx.pg, ["yeovil"]))["yeovil"]


class TestWho:
    async def test_staff_read_it_and_only_an_administrator_changes_it(self, rest: Rest) -> None:
        for role in ("clinician", "health-coach"):
            who = await visitor(rest, role)
            shown = (await who.client.get("/hours")).text
            assert "The next 14 days" in shown and "An administrator of the hub can change it" in shown
            assert "Nobody has set hours for this hub" in shown and 'name="red"' not in shown
            answer = await who.client.post("/hours", data={"csrf": who.csrf, **FORM})
            assert answer.status_code == 403
        assert await kept(rest) == NONE_OF_ITS_OWN
        for role in ("ada", "practice-staff"):
            assert (await (await visitor(rest, role)).client.get("/hours")).status_code == 403

    async def test_hazard_alert_to_absent_staff_no_other_door_changes_who_is_called(self, rest: Rest) -> None:
        system = Actor("system", "ehr", "EHR", "ehr-system", "Device/ehr", ("Device/ehr",))
        async with rest.database.transaction() as tx:
            with pytest.raises(Refusal) as caught:
                resource = cover.to_fhir(Cover(red=timedelta(hours=4)), "yeovil", "theirs")
                await flows.write(tx, system, [Change("create", "HealthcareService", "theirs", resource)])
            assert caught.value.status == 403
            other = {"resourceType": "HealthcareService", "id": "gym", "name": "Gym"}
            await flows.write(tx, system, [Change("create", "HealthcareService", "gym", other)])


class TestHazardFalseReassuranceOutOfHours:
    async def test_doctor_names_hubs_whose_hours_nobody_set(self, rest: Rest) -> None:
        def asked() -> doctor.Finding:
            with psycopg.connect(rest.database.url, autocommit=True) as connection:
                return doctor.hours(connection, Settings(demonstration=False))

        found = await asyncio.to_thread(asked)
        assert found.level == "WARN" and "yeovil" in found.detail and "/hours" in found.remedy

    async def test_a_person_without_a_hub_is_promised_no_hours(self, rest: Rest) -> None:
        async with rest.database.transaction() as tx:
            told = await cover.told_cover(tx.pg, None)
        assert told.hours.words() is None
        assert watching(told, datetime.now(UTC)).startswith("Nobody looks at your readings all the time")


class TestChange:
    async def test_tried_saved_read_by_people_and_not_overwritten_unseen(self, rest: Rest) -> None:
        who = await visitor(rest, "administrator")
        form = {"csrf": who.csrf, **FORM}
        tried = await who.client.post("/hours", data={**form, "act": "try"})
        assert (
            "Not saved yet" in tried.text and "8:30am to midday" in tried.text and await kept(rest) == NONE_OF_ITS_OWN
        )
        answer = await who.client.post("/hours", data=form, follow_redirects=True)
        assert answer.status_code == 200 and "Hours saved" in answer.text and "In clinician" in answer.text
        found = await kept(rest)
        assert (found.red, found.amber) == (timedelta(minutes=10), timedelta(hours=2.5))
        assert found.hours.week[5] == ((540, 720),) and found.hours.week[6] == ()
        assert (found.leads, found.on_call_phone) == (("Practitioner/clinician",), "01935 100")
        assert [(one.why, one.first == one.last) for one in found.hours.closures] == [("Training day", True)]
        stale = await who.client.post("/hours", data={**form, "red": "99"})
        assert (
            stale.status_code == 422 and "Somebody else saved these hours" in stale.text and 'value="99"' in stale.text
        )
        assert await kept(rest) == found
        again = await who.client.post("/hours", data={**form, "version": "1", "red": "20"})
        assert again.status_code == 303 and (await kept(rest)).red == timedelta(minutes=20)
        ada = await visitor(rest, "ada")
        mine = (await ada.client.get("/me")).text
        assert "8:30am to midday and 1pm to 6pm" in mine
        assert "Nobody is looking at your readings now" in mine or "We are open until" in mine

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"day-0": "nine to five"}, "not a time of day"),
            ({"day-0": "17:00 to 09:00"}, "ends before it begins"),
            ({"day-0": "09:00 to 12:00, 11:00 to 13:00"}, "overlap"),
            ({"red": "0"}, "too little"),
            ({"red": "600"}, "at most 4 hours"),
            ({"amber": "soon"}, "not a number"),
            ({"closed_why": ["", "", ""]}, "first day and a reason"),
            ({"first": ["32 May", "", ""]}, "not a day"),
            ({"lead": ["Patient/x"]}, "Practitioner/x"),
        ],
    )
    async def test_what_cannot_be_is_refused_in_words(self, rest: Rest, given: dict[str, Any], said: str) -> None:
        before = await kept(rest)
        who = await visitor(rest, "administrator")
        answer = await who.client.post("/hours", data={"csrf": who.csrf, **FORM, **given})
        assert answer.status_code == 422 and said in answer.text
        assert await kept(rest) == before
