"""`Patient/x/$everything`: the whole record, no page twice, nothing of anybody else's."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.store import Change, new_id
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


async def put(rest: Rest, *resources: JSON) -> list[str]:
    changes = [Change("create", one["resourceType"], new_id(), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)
    return [f"{change.type}/{change.id}" for change in changes]


def weight(patient_id: str, at: str, **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at,
        "valueQuantity": {"value": 80, "system": "http://unitsofmeasure.org", "code": "kg", "unit": "kg"},
        **elements,
    }


async def world(rest: Rest) -> tuple[str, str, dict[str, str]]:
    """A person with a record, another one who is linked to it, and names of what there is."""
    person, other = await rest.patient(), await rest.patient()
    doctor, medicine, unused = await put(
        rest,
        {"resourceType": "Practitioner", "name": [{"family": "Gale"}]},
        {"resourceType": "Medication", "code": {"text": "Furosemide"}},
        {"resourceType": "Medication", "code": {"text": "Another"}},
    )
    allergy, prescription, early, late, others = await put(
        rest,
        {
            "resourceType": "AllergyIntolerance",
            "patient": {"reference": f"Patient/{person}"},
            "recorder": {"reference": doctor},
            "recordedDate": "1990",
        },
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationReference": {"reference": medicine},
            "subject": {"reference": f"Patient/{person}"},
            "authoredOn": "2019-01-01",
        },
        weight(person, "2026-01-10T09:00:00Z", performer=[{"reference": doctor}]),
        weight(person, "2026-10-10T09:00:00Z", focus=[{"reference": f"Patient/{other}"}]),
        weight(other, "2026-10-10T09:00:00Z"),
    )
    names = {
        "doctor": doctor, "medicine": medicine, "unused": unused, "allergy": allergy, "prescription": prescription,
        "early": early, "late": late, "others": others,
    }  # fmt: skip
    return person, other, names


async def pages(caller: Caller, path: str) -> list[JSON]:
    found = []
    while path:
        response = await caller("GET", path)
        assert response.status_code == 200, response.text
        found.append(decode(response.content))
        path = ""
        for link in found[-1]["link"]:
            if link["relation"] == "next":
                parts = urlsplit(link["url"])
                path = f"{parts.path.removeprefix('/fhir')}?{parts.query}"
    return found


def shown(found: list[JSON]) -> list[str]:
    return [
        f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for page in found
        for entry in page.get("entry", ())
    ]


class TestWhoMaySee:
    async def test_nobody_who_has_not_signed_in(self, rest: Rest) -> None:
        person = await rest.patient()
        assert (await rest.nobody("GET", f"/Patient/{person}/$everything")).status_code == 401

    async def test_a_coordinator_of_another_hub_and_another_person_learn_nothing(self, rest: Rest) -> None:
        person, other, _ = await world(rest)
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        neighbour = await rest.user("patient", f"Patient/{other}")
        for caller in (coordinator, neighbour):
            answered = await caller("GET", f"/Patient/{person}/$everything")
            assert answered.status_code == 404
            assert (await caller("GET", "/Patient/unknown/$everything")).status_code == 404

    async def test_a_device_of_the_person_itself_may_not(self, rest: Rest) -> None:
        person, _, _ = await world(rest)
        assert (await (await rest.device(person))("GET", f"/Patient/{person}/$everything")).status_code == 403

    async def test_a_person_sees_their_own_record_and_nobody_elses(self, rest: Rest) -> None:
        person, other, names = await world(rest)
        found = shown(await pages(await rest.user("patient", f"Patient/{person}"), f"/Patient/{person}/$everything"))
        assert {f"Patient/{person}", names["allergy"], names["early"], names["late"], names["medicine"]} <= set(found)
        assert names["others"] not in found
        assert f"Patient/{other}" not in found
        assert names["doctor"] not in found, "not in their team"

    async def test_a_carer_is_shown_no_clinical_record(self, rest: Rest) -> None:
        person, _, names = await world(rest)
        [carer] = await put(
            rest, {"resourceType": "RelatedPerson", "active": True, "patient": {"reference": f"Patient/{person}"}}
        )
        found = shown(await pages(await rest.user("carer", carer), f"/Patient/{person}/$everything"))
        assert names["late"] in found
        assert names["allergy"] not in found
        assert names["medicine"] not in found, "what is referred to by what they may not see"

    async def test_it_stands_in_the_trail(self, rest: Rest) -> None:
        person, _, _ = await world(rest)
        await rest.system("GET", f"/Patient/{person}/$everything")
        rows = await rest.rows("SELECT action, type, detail FROM audit WHERE patient_id = %s ORDER BY seq", person)
        assert ("everything", None, {"shown": 5}) in rows


class TestWhatIsThere:
    async def test_the_person_the_compartment_and_what_they_refer_to(self, rest: Rest) -> None:
        person, _, names = await world(rest)
        [page] = await pages(rest.system, f"/Patient/{person}/$everything")
        found = shown([page])
        assert found[0] == f"Patient/{person}"
        inside = {names[name] for name in ("allergy", "prescription", "early", "late")}
        assert set(found) == {f"Patient/{person}", names["doctor"], names["medicine"]} | inside
        assert len(found) == len(set(found)) == page["total"]
        modes = {entry["resource"]["resourceType"]: entry["search"]["mode"] for entry in page["entry"]}
        assert modes["Practitioner"] == "include"
        assert modes["Observation"] == "match"

    @pytest.mark.parametrize("count", [1, 2, 3, 50])
    async def test_pages_lose_and_repeat_nothing(self, rest: Rest, count: int) -> None:
        person, _, _ = await world(rest)
        whole = shown(await pages(rest.system, f"/Patient/{person}/$everything"))
        found = await pages(rest.system, f"/Patient/{person}/$everything?_count={count}")
        assert shown(found) == whole
        assert all(len(page["entry"]) <= count for page in found)

    async def test_pages_stay_steady_while_others_write(self, rest: Rest) -> None:
        person, _, _ = await world(rest)
        whole = shown(await pages(rest.system, f"/Patient/{person}/$everything"))
        first = decode((await rest.system("GET", f"/Patient/{person}/$everything?_count=2")).content)
        await put(rest, weight(person, "2026-11-01T09:00:00Z"))
        following = urlsplit(next(link["url"] for link in first["link"] if link["relation"] == "next"))
        rest_of_it = await pages(rest.system, f"{following.path.removeprefix('/fhir')}?{following.query}")
        found = shown([first, *rest_of_it])
        assert len(found) == len(set(found))
        assert set(whole) <= set(found)

    async def test_care_dates_leave_what_holds_until_it_is_ended(self, rest: Rest) -> None:
        person, _, names = await world(rest)
        path = f"/Patient/{person}/$everything?start=2026-06-01&end=2026-12-31"
        found = shown(await pages(rest.system, path))
        assert names["late"] in found
        assert names["early"] not in found
        assert {names["allergy"], names["prescription"], f"Patient/{person}"} <= set(found)

    async def test_types_and_since(self, rest: Rest) -> None:
        person, _, names = await world(rest)
        path = f"/Patient/{person}/$everything?_type=Observation,Practitioner"
        assert set(shown(await pages(rest.system, path))) == {names["early"], names["late"], names["doctor"]}
        assert shown(await pages(rest.system, f"/Patient/{person}/$everything?_since=2999-01-01T00:00:00Z")) == []

    async def test_posted_parameters_are_followed_by_the_same_links(self, rest: Rest) -> None:
        person, _, names = await world(rest)
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": "_type", "valueCode": "Observation"}, {"name": "_count", "valueInteger": 1}],
        }
        first = decode((await rest.system("POST", f"/Patient/{person}/$everything", asked)).content)
        following = urlsplit(next(link["url"] for link in first["link"] if link["relation"] == "next"))
        others = await pages(rest.system, f"{following.path.removeprefix('/fhir')}?{following.query}")
        assert set(shown([first, *others])) == {names["early"], names["late"]}


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("_typ=Observation", "there are _count"),
            ("_type=Observatoin", "Observatoin"),
            ("start=yesterday", "start"),
            ("_count=many", "_count"),
            ("_cursor=made-up", "_cursor"),
            ("start=2026-01-01&start=2026-01-02", "2 times"),
        ],
    )
    async def test_what_is_not_understood_is_named(self, rest: Rest, query: str, said: str) -> None:
        person = await rest.patient()
        answered = await rest.system("GET", f"/Patient/{person}/$everything?{query}")
        assert answered.status_code == 400
        assert said in answered.text

    async def test_a_cursor_opens_no_other_record(self, rest: Rest) -> None:
        person, other, _ = await world(rest)
        first = decode((await rest.system("GET", f"/Patient/{person}/$everything?_count=1")).content)
        query = urlsplit(next(link["url"] for link in first["link"] if link["relation"] == "next")).query
        assert (await rest.system("GET", f"/Patient/{other}/$everything?{query}")).status_code == 400
        stranger = await rest.user("clinician", "Practitioner/stranger")
        assert (await stranger("GET", f"/Patient/{person}/$everything?{query}")).status_code == 404

    async def test_it_is_asked_of_a_patient_only(self, rest: Rest) -> None:
        assert (await rest.system("GET", "/Observation/x/$everything")).status_code == 404
        person = await rest.patient()
        assert (await rest.system("PUT", f"/Patient/{person}/$everything", b"{}")).status_code == 405
