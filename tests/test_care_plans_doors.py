"""The rules of plans on every path to the record: the FHIR API, bundles and the flows of the pages."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from rest import Fresh, Rest, running

from care_plans import consent, queries, team
from care_plans.conflict import StaleEdit, resolve
from care_plans.edits import Activate, AddGoal, ChangeGoal, RecordAgreement, SetIfWorse, SetTitle, SetWhatMatters
from care_plans.plan import new_goal, words
from care_plans.shapes import LONDON
from fhir.outcome import Refusal
from fhir.store import new_id
from fhir.wire import decode
from hub import flows
from hub.identity import Actor

JSON = dict[str, Any]
SAM = "Practitioner/sam"
COORDINATOR = Actor("user", "sam", "Sam Okafor", "care-coordinator", SAM, (SAM, "Organization/yeovil"), "yeovil")
TODAY = datetime.now(LONDON).date()


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


@pytest.fixture
async def person(rest: Rest) -> str:
    """Somebody whom Sam looks after, with nothing approved yet."""
    patient_id = await rest.patient()
    begun = datetime.now(UTC) - timedelta(days=1)
    made = team.new_team(new_id(), f"Patient/{patient_id}", begun, hub="Organization/yeovil")
    made = team.assign(made, team.COORDINATOR, SAM, "Sam Okafor", begun)
    assert (await rest.system("PUT", f"/CareTeam/{made['id']}", made)).status_code == 201
    return patient_id


def plan(patient_id: str, status: str = "active", **elements: Any) -> JSON:
    """The least that another system sends."""
    return {
        "resourceType": "CarePlan",
        "status": status,
        "intent": "plan",
        "subject": {"reference": f"Patient/{patient_id}"},
        **elements,
    }


def approval(patient_id: str, **elements: Any) -> JSON:
    begun = datetime.now(UTC) - timedelta(hours=1)
    made = consent.new_consent("c", f"Patient/{patient_id}", "Organization/yeovil", begun, "in person")
    return {**{key: value for key, value in made.items() if key != "id"}, **elements}


def bundle(kind: str, *resources: JSON) -> JSON:
    entries = [
        {
            "fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{n}",
            "resource": resource,
            "request": {"method": "POST", "url": resource["resourceType"]},
        }
        for n, resource in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


async def approve(rest: Rest, patient_id: str) -> JSON:
    response = await rest.system("POST", "/Consent", approval(patient_id))
    assert response.status_code == 201
    return decode(response.content)


async def make(rest: Rest, resource: JSON) -> JSON:
    response = await rest.system("POST", f"/{resource['resourceType']}", resource)
    assert response.status_code == 201, response.text
    return decode(response.content)


async def statuses(rest: Rest, patient_id: str) -> list[str]:
    """Of every plan of the person: what a reader of the API is told, and what the pages read."""
    found = decode((await rest.system("GET", f"/CarePlan?patient={patient_id}")).content)
    told = sorted(entry["resource"]["status"] for entry in found.get("entry", ()))
    rows = await rest.rows("SELECT status FROM plan WHERE patient_id = %s ORDER BY status", patient_id)
    assert told == [row[0] for row in rows]
    return told


@dataclass(frozen=True)
class Door:
    """A way to write one CarePlan; *status_of* finds the status of its entry in the answer."""

    name: str
    send: Callable[[Rest, JSON], Awaitable[httpx.Response]]
    status_of: Callable[[httpx.Response], int]


def _batch_status(response: httpx.Response) -> int:
    return int(decode(response.content)["entry"][0]["response"]["status"].split()[0])


async def _post(rest: Rest, resource: JSON) -> httpx.Response:
    return await rest.system("POST", "/CarePlan", resource)


async def _put(rest: Rest, resource: JSON) -> httpx.Response:
    id = new_id()
    return await rest.system("PUT", f"/CarePlan/{id}", {**resource, "id": id})


async def _transaction(rest: Rest, resource: JSON) -> httpx.Response:
    return await rest.system("POST", "", bundle("transaction", resource))


async def _batch(rest: Rest, resource: JSON) -> httpx.Response:
    return await rest.system("POST", "", bundle("batch", resource))


DOORS = [
    Door("post", _post, lambda response: response.status_code),
    Door("put", _put, lambda response: response.status_code),
    Door("transaction", _transaction, lambda response: response.status_code),
    Door("batch", _batch, _batch_status),
]


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


class TestWir03ApprovalBeforeAnyPlan:
    @pytest.mark.parametrize("status", ["draft", "active", "on-hold"])
    async def test_without_it_every_door_is_shut(self, rest: Rest, person: str, door: Door, status: str) -> None:
        response = await door.send(rest, plan(person, status))
        assert door.status_of(response) == 422
        assert "No approval is recorded" in response.text
        assert await statuses(rest, person) == []

    async def test_the_pages_too(self, rest: Rest, person: str) -> None:
        with pytest.raises(Refusal, match="No approval") as caught:
            async with rest.database.transaction() as tx:
                await flows.start_plan(tx, COORDINATOR, person, [])
        assert caught.value.status == 422

    async def test_with_it_every_door_is_open(self, rest: Rest, person: str, door: Door) -> None:
        await approve(rest, person)
        response = await door.send(rest, plan(person))
        assert door.status_of(response) in (200, 201), response.text
        assert await statuses(rest, person) == ["active"]

    async def test_approval_and_plan_arrive_in_one_transaction(self, rest: Rest, person: str) -> None:
        goal = {
            key: value
            for key, value in new_goal("g", f"Patient/{person}", "Walk", f"Patient/{person}", TODAY).items()
            if key != "id"
        }
        linked = plan(person, goal=[{"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"}])
        response = await rest.system("POST", "", bundle("transaction", linked, goal, approval(person)))
        assert response.status_code == 200, response.text
        assert await statuses(rest, person) == ["active"]

    async def test_an_approval_that_has_ended_is_none(self, rest: Rest, person: str) -> None:
        await make(rest, approval(person, provision={"type": "permit", "period": {"end": "2026-01-31"}}))
        assert (await rest.system("POST", "/CarePlan", plan(person))).status_code == 422

    async def test_a_mistake_can_be_marked_without_it(self, rest: Rest, person: str) -> None:
        given = await approve(rest, person)
        made = await make(rest, plan(person))
        await rest.system("PUT", f"/Consent/{given['id']}", {**given, "status": "inactive"})
        wrong = {**plan(person, "entered-in-error"), "id": made["id"]}
        assert (await rest.system("PUT", f"/CarePlan/{made['id']}", wrong)).status_code == 200


class TestWir03WithdrawalSuspendsThePlan:
    @pytest.mark.parametrize("how", ["inactive", "deleted", "a later no"])
    async def test_in_the_same_act(self, rest: Rest, person: str, how: str) -> None:
        given = await approve(rest, person)
        made = await make(rest, plan(person))
        if how == "inactive":
            response = await rest.system("PUT", f"/Consent/{given['id']}", {**given, "status": "inactive"})
        elif how == "deleted":
            response = await rest.system("DELETE", f"/Consent/{given['id']}")
        else:
            no = approval(person, provision={"type": "deny"}, dateTime=datetime.now(UTC).isoformat())
            response = await rest.system("POST", "/Consent", no)
        assert response.status_code in (200, 201, 204)
        assert await statuses(rest, person) == ["on-hold"]
        history = decode((await rest.system("GET", f"/CarePlan/{made['id']}/_history")).content)
        assert [entry["resource"]["status"] for entry in history["entry"]] == ["on-hold", "active"]

    async def test_a_suspended_plan_is_not_edited_on_a_page(self, rest: Rest, person: str) -> None:
        given = await approve(rest, person)
        made = await make(rest, plan(person))
        await rest.system("PUT", f"/Consent/{given['id']}", {**given, "status": "inactive"})
        with pytest.raises(Refusal, match="No approval"):
            async with rest.database.transaction() as tx:
                await flows.edit_plan(tx, COORDINATOR, made["id"], [SetTitle("New")], 2)

    async def test_it_goes_on_when_the_person_says_yes_again(self, rest: Rest, person: str) -> None:
        given = await approve(rest, person)
        made = await make(rest, plan(person))
        await rest.system("PUT", f"/Consent/{given['id']}", {**given, "status": "inactive"})
        await make(rest, approval(person, dateTime=datetime.now(UTC).isoformat()))
        async with rest.database.transaction() as tx:
            await flows.edit_plan(tx, COORDINATOR, made["id"], [Activate()], 2)
        assert await statuses(rest, person) == ["active"]


class TestSym03OneActivePlan:
    async def test_a_second_one_is_a_conflict_at_every_door(self, rest: Rest, person: str, door: Door) -> None:
        await approve(rest, person)
        made = await make(rest, plan(person))
        response = await door.send(rest, plan(person))
        assert door.status_of(response) == 409
        assert f"CarePlan/{made['id']}" in response.text
        assert await statuses(rest, person) == ["active"]

    async def test_two_in_one_transaction(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        response = await rest.system("POST", "", bundle("transaction", plan(person), plan(person)))
        assert response.status_code == 409
        assert await statuses(rest, person) == []

    async def test_eight_at_the_same_moment(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        responses = await asyncio.gather(*(rest.system("POST", "/CarePlan", plan(person)) for _ in range(8)))
        assert sorted(response.status_code for response in responses) == [201] + [409] * 7
        assert await statuses(rest, person) == ["active"]

    async def test_a_successor_and_the_end_of_the_old_one_in_one_transaction(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        made = await make(rest, plan(person))
        swap = bundle("transaction", plan(person))
        ended = {**plan(person, "completed"), "id": made["id"]}
        swap["entry"].append({"resource": ended, "request": {"method": "PUT", "url": f"CarePlan/{made['id']}"}})
        response = await rest.system("POST", "", swap)
        assert response.status_code == 200, response.text
        assert await statuses(rest, person) == ["active", "completed"]


class TestSym04GoesActive:
    async def test_not_without_goal_and_agreement_by_the_api(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        made = await make(rest, plan(person, "draft"))
        response = await rest.system("PUT", f"/CarePlan/{made['id']}", {**plan(person), "id": made["id"]})
        assert response.status_code == 422
        assert "own words" in response.text
        assert await statuses(rest, person) == ["draft"]

    async def test_nor_on_a_page(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        made = await make(rest, plan(person, "draft"))
        with pytest.raises(Refusal, match="own words"):
            async with rest.database.transaction() as tx:
                await flows.edit_plan(tx, COORDINATOR, made["id"], [Activate()], 1)

    async def test_with_both_and_each_edit_shows_who_wrote_it(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        async with rest.database.transaction() as tx:
            started = await flows.start_plan(tx, COORDINATOR, person, [SetWhatMatters("Seeing my grandchildren")])
        plan_id = started.change.id
        agree = RecordAgreement("Ada Archer", "in person", date(2026, 1, 1), f"Patient/{person}")
        async with rest.database.transaction() as tx:
            await flows.edit_plan(
                tx, COORDINATOR, plan_id, [AddGoal(new_id(), "Walk to the shop"), agree, Activate()], 1
            )
        assert await statuses(rest, person) == ["active"]
        async with rest.database.transaction() as tx:
            found = await queries.versions(tx.pg, plan_id)
        assert [(one.version, one.author) for one in found] == [(1, SAM), (2, SAM)]
        assert [change.sentence for change in found[1].changes] == [
            "The plan is now active.",
            "Agreed by Ada Archer on 1 Jan 2026 (in person).",
            "Goal added (in the person’s own words): Walk to the shop",
            f"The plan runs from {words(TODAY)}.",
        ]


class TestHazardLostUpdate:
    async def test_an_old_version_does_not_overwrite_by_the_api(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        made = await make(rest, plan(person, title="One"))
        path, headers = f"/CarePlan/{made['id']}", {"if-match": 'W/"1"'}
        first = await rest.system("PUT", path, {**plan(person, title="Two"), "id": made["id"]}, headers)
        second = await rest.system("PUT", path, {**plan(person, title="Three"), "id": made["id"]}, headers)
        assert (first.status_code, second.status_code) == (200, 412)
        assert decode((await rest.system("GET", path)).content)["title"] == "Two"

    async def test_a_stale_edit_on_a_page_shows_both_and_keeps_what_was_chosen(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        goal_id = new_id()
        async with rest.database.transaction() as tx:
            started = await flows.start_plan(tx, COORDINATOR, person, [SetIfWorse("Ring"), AddGoal(goal_id, "Walk")])
        plan_id = started.change.id
        async with rest.database.transaction() as tx:
            await flows.edit_plan(tx, COORDINATOR, plan_id, [SetIfWorse("Ring 999"), ChangeGoal(goal_id, "Run")], 1)
        with pytest.raises(StaleEdit) as caught:
            async with rest.database.transaction() as tx:
                await flows.edit_plan(tx, COORDINATOR, plan_id, [SetIfWorse("Ring 111"), SetTitle("Mine")], 1)
        conflict = caught.value.conflict
        assert [(clash.part, clash.base, clash.mine, clash.theirs) for clash in conflict.clashes] == [
            ("if-worse", "Ring", "Ring 111", "Ring 999")
        ]
        settled = resolve(conflict, {"if-worse": "both"})
        async with rest.database.transaction() as tx:
            await flows.save_plan(tx, COORDINATOR, conflict.theirs, settled, caught.value.version)
        async with rest.database.transaction() as tx:
            found = await queries.current(tx.pg, plan_id)
        assert found is not None
        kept, version = found
        assert (kept.if_worse, kept.title, kept.goals[0].text, version) == ("Ring 999\n\nRing 111", "Mine", "Run", 3)

    async def test_two_editors_at_the_same_moment(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        async with rest.database.transaction() as tx:
            plan_id = (await flows.start_plan(tx, COORDINATOR, person, [])).change.id

        async def edit(words: str) -> str:
            async with rest.database.transaction() as tx:
                await flows.edit_plan(tx, COORDINATOR, plan_id, [SetWhatMatters(words)], 1)
            return words

        outcomes = await asyncio.gather(*(edit(f"words {n}") for n in range(6)), return_exceptions=True)
        (saved,) = [one for one in outcomes if isinstance(one, str)]
        stale = [one for one in outcomes if isinstance(one, StaleEdit)]
        assert len(stale) == 5
        assert {clash.theirs for one in stale for clash in one.conflict.clashes} == {saved}

    async def test_a_goal_that_the_api_changed_meanwhile(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        goal_id = new_id()
        async with rest.database.transaction() as tx:
            plan_id = (await flows.start_plan(tx, COORDINATOR, person, [AddGoal(goal_id, "Walk")])).change.id
        changed = new_goal(goal_id, f"Patient/{person}", "Swim", f"Patient/{person}", TODAY)
        assert (await rest.system("PUT", f"/Goal/{goal_id}", changed)).status_code == 200
        with pytest.raises(Refusal, match="It now reads: Swim") as caught:
            async with rest.database.transaction() as tx:
                await flows.edit_plan(tx, COORDINATOR, plan_id, [ChangeGoal(goal_id, "Run", was="Walk")], 1)
        assert caught.value.status == 409


class TestHazardWrongPatient:
    async def test_a_plan_does_not_move_to_another_person(self, rest: Rest, person: str) -> None:
        other = await rest.patient()
        await approve(rest, person)
        await approve(rest, other)
        made = await make(rest, plan(person))
        response = await rest.system("PUT", f"/CarePlan/{made['id']}", {**plan(other), "id": made["id"]})
        assert response.status_code == 422
        assert "CarePlan.subject" in response.text

    async def test_a_plan_does_not_hold_another_persons_goal(self, rest: Rest, person: str) -> None:
        other = await rest.patient()
        await approve(rest, person)
        theirs = new_goal(new_id(), f"Patient/{other}", "Swim", f"Patient/{other}", TODAY)
        assert (await rest.system("PUT", f"/Goal/{theirs['id']}", theirs)).status_code == 201
        response = await rest.system("POST", "/CarePlan", plan(person, goal=[{"reference": f"Goal/{theirs['id']}"}]))
        assert response.status_code == 422
        assert "belongs to another person" in response.text

    async def test_a_plan_of_a_group(self, rest: Rest, person: str) -> None:
        response = await rest.system("POST", "/CarePlan", {**plan(person), "subject": {"reference": "Group/g"}})
        assert response.status_code == 422


class TestSupportingPlans:
    SUPPORTING = {"intent": "order", "category": [{"text": "Diabetes self management plan"}]}  # noqa: RUF012

    async def test_a_coordinator_cannot_write_one_around_the_approval(self, rest: Rest, person: str) -> None:
        sam = await rest.user("care-coordinator", SAM, ("Organization/yeovil",))
        response = await sam("POST", "/CarePlan", plan(person, **self.SUPPORTING))
        assert response.status_code == 403

    async def test_an_importer_brings_them_beside_the_plan(self, rest: Rest, person: str) -> None:
        await approve(rest, person)
        await make(rest, plan(person))
        assert (await rest.system("POST", "/CarePlan", plan(person, **self.SUPPORTING))).status_code == 201
        assert await rest.rows("SELECT count(*) FROM plan WHERE patient_id = %s", person) == [(1,)]
