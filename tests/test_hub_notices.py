"""Notices: told to the right reader, shown only while they may see it, read once what they lead to is opened."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest import Rest, running
from test_flow_readings import send, spo2
from test_hub_pages_access import PASSWORD, Visitor

from fhir.store import new_id
from hub import accounts, emergency, flows, notices
from hub.identity import IMPORTER, Actor
from hub.notices import MANY, Notice

NOW = datetime.now(UTC).replace(microsecond=0)
STAFF = ("care-coordinator", "clinician", "health-coach", "social-worker")


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in (*STAFF, "voluntary-worker", "operations"):
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
        yield rest


async def person(rest: Rest) -> str:
    """Somebody in whose team all of STAFF are, with an account of their own."""
    patient_id = await rest.patient()
    async with rest.database.transaction() as tx:
        for role in STAFF:
            await tx.pg.execute(
                "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
                (f"Practitioner/{role}", patient_id),
            )
            await tx.pg.execute(
                "INSERT INTO team_member (care_team_id, member, role_code, patient_id, role, name)"
                " VALUES (%s, %s, '', %s, '', 'N')",
                (new_id(), f"Practitioner/{role}", patient_id),
            )
        await accounts.create_account(
            tx, patient_id, PASSWORD, "Ada", "patient", f"Patient/{patient_id}", (), None, demonstration=True
        )
    return patient_id


async def raised(rest: Rest, patient_id: str, *values: str, acknowledge: bool = False) -> str:
    """The flag that SpO2 readings raise, minutes apart; acknowledged after the first."""
    caller = await rest.device(patient_id)
    device = Actor("device", caller.id, "Oximeter", "device", f"Device/{caller.id}", (f"Device/{caller.id}",))
    flag_id = ""
    for number, value in enumerate(values):
        at = NOW - timedelta(minutes=len(values) - number)
        async with rest.database.transaction() as tx:
            await send(tx, device, spo2(patient_id, value, at), now=NOW)
        ((flag_id,),) = await rest.rows("SELECT id FROM flag WHERE patient_id = %s", patient_id)
        if acknowledge and number == 0:
            async with rest.database.transaction() as tx:
                await flows.acknowledge_flag(tx, IMPORTER, flag_id, "Rang")
    return flag_id


async def visitor(rest: Rest, username: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(username)
    if not found.csrf:
        found.csrf = (await found.client.get("/notices")).text.partition('name="csrf" value="')[2].partition('"')[0]
    return found


async def listed(who: Visitor, show: str = "") -> str:
    answer = await who.client.get(f"/notices{show}")
    assert answer.status_code == 200, answer.text[-400:]
    return answer.text


async def count(who: Visitor) -> str:
    answer = await who.client.get("/notices/count")
    assert answer.status_code == 200
    return answer.text.partition("<b>")[2].partition("</b>")[0]


async def told(rest: Rest, recipient: str, patient_id: str) -> list[Any]:
    return await rest.rows(
        "SELECT kind, link, seen IS NULL FROM notice WHERE recipient = %s AND patient_id = %s ORDER BY id",
        recipient,
        patient_id,
    )


class TestWhoIsTold:
    async def test_a_flag_is_told_and_told_again_when_it_opens_again(self, rest: Rest) -> None:
        patient_id = await person(rest)
        flag_id = await raised(rest, patient_id, "91", "90", "75", acknowledge=True)
        link = f"/flags/{flag_id}"
        assert await told(rest, "Practitioner/clinician", patient_id) == [
            ("flag-opened", link, True),
            ("flag-reopened", link, True),
        ]

    async def test_hazard_carer_over_access_a_role_that_reads_no_flags_is_shown_none(self, rest: Rest) -> None:
        patient_id = await person(rest)
        await raised(rest, patient_id, "71")
        assert await told(rest, "Practitioner/social-worker", patient_id) != []
        worker = await visitor(rest, "social-worker")
        assert "71 %" not in await listed(worker) and "71 %" not in await listed(worker, "?show=all")
        assert await count(worker) == ""

    @pytest.mark.parametrize("role", ["voluntary-worker", "operations"])
    async def test_who_is_in_no_team_has_no_such_page(self, rest: Rest, role: str) -> None:
        who = Visitor(rest)
        await who.sign_in(role)
        for path in ("/notices", "/notices/count"):
            assert (await who.client.get(path)).status_code == 403
        assert "/notices" not in (await who.client.get("/nowhere")).text

    async def test_who_left_the_team_is_shown_nothing_more(self, rest: Rest) -> None:
        patient_id = await person(rest)
        await raised(rest, patient_id, "72")
        coach = await visitor(rest, "health-coach")
        assert "72 %" in await listed(coach)
        await rest.rows(
            "DELETE FROM access WHERE subject = 'Practitioner/health-coach' AND patient_id = %s RETURNING 1", patient_id
        )
        assert "72 %" not in await listed(coach, "?show=all")

    async def test_one_marks_only_ones_own(self, rest: Rest) -> None:
        patient_id = await person(rest)
        await raised(rest, patient_id, "73")
        ((theirs,),) = await rest.rows(
            "SELECT id FROM notice WHERE recipient = 'Practitioner/clinician' AND patient_id = %s", patient_id
        )
        coach = await visitor(rest, "health-coach")
        answer = await coach.client.post("/notices", data={"csrf": coach.csrf, "notice": theirs})
        assert answer.status_code == 303
        assert [one[2] for one in await told(rest, "Practitioner/clinician", patient_id)] == [True]


class TestReading:
    async def test_opening_the_flag_or_the_person_marks_it(self, rest: Rest) -> None:
        for address in ("/flags/{flag}", "/patients/{person}"):
            patient_id = await person(rest)
            flag_id = await raised(rest, patient_id, "74")
            doctor = await visitor(rest, "clinician")
            text = await listed(doctor)
            assert "74 %" in text and f'href="/flags/{flag_id}"' in text
            assert (await doctor.client.get(address.format(flag=flag_id, person=patient_id))).status_code == 200
            assert [one[2] for one in await told(rest, "Practitioner/clinician", patient_id)] == [False]
            assert [one[2] for one in await told(rest, "Practitioner/care-coordinator", patient_id)] == [True]
            assert f'href="/flags/{flag_id}"' not in await listed(doctor)
            assert f'href="/flags/{flag_id}"' in await listed(doctor, "?show=all")

    async def test_one_by_one_and_all_at_once(self, rest: Rest) -> None:
        doctor = await visitor(rest, "clinician")
        await doctor.client.post("/notices", data={"csrf": doctor.csrf, "act": "all"})
        assert await count(doctor) == "" and "You have read everything" in await listed(doctor)
        patient_id = await person(rest)
        await raised(rest, patient_id, "91", "75", acknowledge=True)
        assert await count(doctor) == "2"
        ((one, *_), _) = await rest.rows(
            "SELECT id FROM notice WHERE recipient = 'Practitioner/clinician' AND patient_id = %s", patient_id
        )
        await doctor.client.post("/notices", data={"csrf": doctor.csrf, "notice": one})
        assert await count(doctor) == "1"
        assert (await doctor.client.post("/notices", data={"csrf": doctor.csrf})).status_code == 400

    async def test_a_page_is_not_endless(self, rest: Rest) -> None:
        patient_id = await person(rest)
        many = [Notice("plan-changed", patient_id, "Practitioner/health-coach", f"No {i}.", "/x") for i in range(120)]
        async with rest.database.transaction() as tx:
            await notices.put(tx.pg, many)
        coach = await visitor(rest, "health-coach")
        assert await count(coach) == f"{MANY}+"
        first = await listed(coach)
        assert "No 119." in first and "No 70." in first and "No 69." not in first
        older = first.partition('href="/notices?before=')[2].partition('"')[0]
        second = await listed(coach, f"?before={older}")
        assert "No 69." in second and "No 70." not in second
        assert "No 119." in await listed(coach, "?before=%27;nonsense")


class TestThePersonThemselves:
    async def test_they_are_told_of_an_emergency_opening_and_of_their_plan(self, rest: Rest) -> None:
        patient_id = await person(rest)
        other = Actor("user", "z", "Dr Zed", "clinician", "Practitioner/zed", ("Practitioner/zed",))
        async with rest.database.transaction() as tx:
            await emergency.grant_emergency(tx, other, patient_id, "Found unconscious at home")
        me = await visitor(rest, patient_id)
        text = await listed(me)
        assert "Dr Zed opened your record in an emergency" in text and 'href="/me/looked"' in text
        assert "What to do if I feel worse" in text and await count(me) == "1"
        assert (await me.client.get("/me/looked")).status_code == 200
        assert await count(me) == ""

    async def test_of_others_they_are_told_nothing(self, rest: Rest) -> None:
        patient_id, other = await person(rest), await person(rest)
        await raised(rest, other, "76")
        me = await visitor(rest, patient_id)
        assert "76 %" not in await listed(me, "?show=all") and "Nothing yet" in await listed(me, "?show=all")
