"""Searches over several types and in compartments, for lenient clients, and of parts of resources."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from search_world import BASE, RESOURCES, SECRET, everything, load, names, only, over_all, page

from fhir import search
from fhir.outcome import Refusal
from hub.db import Database


@pytest.fixture(scope="module")
async def loaded(database: Database) -> AsyncIterator[Database]:
    await load(database)
    yield database


class TestSeveralTypes:
    async def test_hide_what_the_actor_may_not_see(self, loaded: Database) -> None:
        found = await over_all(loaded, "_id=ann,bob,o1,o3,c1,c3", only("bob", "Condition"))
        assert sorted(names(found)) == ["Observation/o3", "Patient/bob"]
        with pytest.raises(Refusal) as refusal:
            await over_all(loaded, "_type=Condition", only("bob", "Condition"))
        assert refusal.value.status == 403

    async def test_are_found_by_what_all_have(self, loaded: Database) -> None:
        assert sorted(names(await over_all(loaded, "_type=Condition,Encounter&patient=ann"))) == [
            "Condition/c1",
            "Encounter/e1",
        ]
        assert names(await over_all(loaded, "_tag=urn:t|demo")) == ["Patient/ann"]
        assert names(await over_all(loaded, "_content=gardening")) == ["Patient/cat"]
        for text in ("_type=Condition,Patient&code=x", "birthdate=1950", "_type=Nothing", "_sort=_lastUpdated"):
            with pytest.raises(Refusal) as refusal:
                await over_all(loaded, text)
            assert refusal.value.status == 400

    @pytest.mark.parametrize("order", ["", "&_sort=_id", "&_sort=-_id"])
    async def test_page_through_everything_once(self, loaded: Database, order: str) -> None:
        seen: list[str] = []
        text = f"_count=7{order}"
        while text:
            page = await over_all(loaded, text)
            assert len(page.entries) <= 7
            seen += names(page)
            text = dict(page.links).get("next", "").partition("?")[2]
            assert dict(page.links)["self"].startswith(f"{BASE}?_count=7")
        assert len(seen) == len(set(seen)) == len(RESOURCES)
        assert (await over_all(loaded, "_count=7&_total=accurate")).total == len(RESOURCES)
        assert (await over_all(loaded, "_summary=count")).total == len(RESOURCES)

    async def test_bring_their_includes(self, loaded: Database) -> None:
        found = await over_all(loaded, "_id=c1,o1&_include=Condition:encounter&_include=Observation:subject")
        assert sorted(names(found)) == ["Condition/c1", "Encounter/e1", "Observation/o1", "Patient/ann"]


class TestCompartments:
    async def test_hold_all_types(self, loaded: Database) -> None:
        found = names(await over_all(loaded, "", compartment=("Patient", "bob")))
        inside = ["Condition/c2", "Condition/c3", "Condition/c4", "Observation/o3", "Observation/o4", "Patient/bob"]
        assert sorted(found) == inside
        assert names(await over_all(loaded, "_type=Encounter", compartment=("Patient", "ann"))) == ["Encounter/e1"]
        assert names(await over_all(loaded, "", compartment=("Patient", "nobody"))) == []
        assert names(await over_all(loaded, "", only("ann"), ("Patient", "bob"))) == []
        with pytest.raises(Refusal, match="is not in the compartment of a Patient"):
            await over_all(loaded, "_type=ValueSet", compartment=("Patient", "ann"))

    async def test_of_others_than_patients(self, loaded: Database) -> None:
        found = names(await over_all(loaded, "", compartment=("Practitioner", "doc")))
        assert sorted(found) == ["Observation/o2", "Patient/ann", "Practitioner/doc"]
        assert names(await over_all(loaded, "", compartment=("Device", "d"))) == ["Observation/o6"]
        async with loaded.transaction() as tx:
            page = await search.search(tx.pg, "Observation", [], everything, BASE, SECRET, 100, ("Practitioner", "doc"))
        assert [entry.id for entry in page.entries] == ["o2"]
        assert dict(page.links)["self"] == f"{BASE}/Practitioner/doc/Observation"


class TestLeniency:
    QUERY = (("nmae", "x"), ("gender", "male"), ("family:eaxct", "y"), ("_sort", "nmae"), ("_include", "Patient:nmae"))

    async def test_is_asked_for(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            with pytest.raises(Refusal, match="'nmae' is no search parameter"):
                await search.search(tx.pg, "Patient", self.QUERY, everything, BASE, SECRET, 100)
            page = await search.search(tx.pg, "Patient", self.QUERY, everything, BASE, SECRET, 100, lenient=True)
        bundle = page.as_json()
        match, outcome = bundle["entry"]
        assert match["resource"]["id"] == "bob"
        assert bundle["total"] == 1
        assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient?gender=male"}]
        assert outcome["search"] == {"mode": "outcome"}
        issues = outcome["resource"]["issue"]
        assert {issue["severity"] for issue in issues} == {"warning"}
        assert sorted(issue["expression"][0] for issue in issues) == [
            "Patient?_sort",
            "Patient?family:eaxct",
            "Patient?nmae",
            "Patient?nmae",
        ]

    async def test_does_not_excuse_a_value_that_cannot_be(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            with pytest.raises(Refusal, match="no date"):
                await search.search(tx.pg, "Patient", [("birthdate", "x")], everything, BASE, SECRET, 100, lenient=True)


class TestSubsets:
    async def test_summary_is_what_the_definitions_mark(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=true")).as_json()["entry"]
        patient = entry["resource"]
        assert set(patient) == {
            "resourceType",
            "id",
            "meta",
            "name",
            "gender",
            "birthDate",
            "active",
            "deceasedBoolean",
        }
        assert patient["meta"]["tag"][-1]["code"] == "SUBSETTED"
        [entry] = (await page(loaded, "Observation?_id=o1&_summary=true")).as_json()["entry"]
        assert "category" not in entry["resource"] and "code" in entry["resource"]
        [entry] = (await page(loaded, "Group?_id=g1&_summary=true")).as_json()["entry"]
        assert "characteristic" not in entry["resource"]
        [entry] = (await page(loaded, "DocumentReference?_id=d2&_summary=true")).as_json()["entry"]
        assert entry["resource"]["relatesTo"][0]["code"] == "replaces"

    async def test_text_and_data(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=text")).as_json()["entry"]
        assert set(entry["resource"]) == {"resourceType", "id", "meta", "text"}
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=data")).as_json()["entry"]
        assert "text" not in entry["resource"]

    async def test_elements_keep_what_fhir_demands(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Observation?_id=o8&_elements=value")).as_json()["entry"]
        assert set(entry["resource"]) == {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
        assert entry["resource"]["valueQuantity"]["value"] == Decimal("5.40")
