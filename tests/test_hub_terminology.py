"""`$expand`, `$validate-code`, `$lookup`, `$subsumes`: over carried and stored terminology, for whoever may read it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.carried import systems, value_sets
from fhir.store import Change, new_id
from fhir.validation import check
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
FHIR = "http://hl7.org/fhir/"
COLOURS = "http://example.org/colours"
WARM = "http://example.org/ValueSet/warm"


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        await put(
            made, colours(), warm(), {**warm(), "url": f"{WARM}-too", "compose": {"include": [{"valueSet": [WARM]}]}}
        )
        yield made


async def put(rest: Rest, *resources: JSON) -> list[str]:
    changes = [Change("create", one["resourceType"], one.get("id", new_id()), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)
    return [change.id for change in changes]


def colours() -> JSON:
    red = {
        "code": "red", "display": "Red", "definition": "As blood",
        "designation": [{"language": "cy", "value": "Coch"}],
        "property": [{"code": "wave", "valueInteger": 700}],
        "concept": [{"code": "scarlet", "display": "Scarlet"}, {"code": "wine", "display": "Wine red"}],
    }  # fmt: skip
    old = {"code": "puce", "display": "Puce", "property": [{"code": "inactive", "valueBoolean": True}]}
    return {
        "resourceType": "CodeSystem", "id": "colours", "url": COLOURS, "version": "2", "name": "Colours",
        "status": "active", "content": "complete", "concept": [red, {"code": "blue", "display": "Blue"}, old],
    }  # fmt: skip


def warm(**compose: Any) -> JSON:
    below = {"system": COLOURS, "filter": [{"property": "concept", "op": "is-a", "value": "red"}]}
    return {
        "resourceType": "ValueSet", "id": new_id(), "url": WARM, "status": "active",
        "compose": {"include": [below], "exclude": [{"system": COLOURS, "concept": [{"code": "wine"}]}], **compose},
    }  # fmt: skip


async def asked(caller: Caller, path: str, content: Any = None) -> JSON:
    response = await caller("POST" if content else "GET", path, content)
    assert response.status_code == 200, response.text
    found = decode(response.content)
    check(found)
    return found


def values(parameters: JSON) -> JSON:
    return {
        one["name"]: next(value for key, value in one.items() if key.startswith("value"))
        for one in parameters["parameter"]
        if "part" not in one
    }


def codes(value_set: JSON) -> list[str]:
    return [one["code"] for one in value_set["expansion"].get("contains", ())]


class TestCarried:
    def test_every_bound_value_set_is_a_valid_resource_with_its_systems(self) -> None:
        assert len(value_sets()) > 200
        for value_set in value_sets().values():
            check(value_set)
            assert all(part["system"].startswith("http") for part in value_set["compose"]["include"])
        for system in systems().values():
            check(system)
        assert {one["code"] for one in systems()[f"{FHIR}request-intent"]["concept"]} >= {"plan", "proposal"}


class TestExpand:
    async def test_a_carried_value_set(self, rest: Rest) -> None:
        found = await asked(rest.system, f"/ValueSet/$expand?url={FHIR}ValueSet/flag-status")
        assert codes(found) == ["active", "entered-in-error", "inactive"]
        assert found["expansion"]["contains"][0]["system"] == f"{FHIR}flag-status"
        assert found["expansion"]["total"] == 3
        page = await asked(rest.system, f"/ValueSet/$expand?url={FHIR}ValueSet/flag-status&offset=1&count=1")
        assert codes(page) == ["entered-in-error"]
        assert page["expansion"]["total"] == 3

    async def test_a_stored_one_by_url_by_id_and_made_of_others(self, rest: Rest) -> None:
        assert codes(await asked(rest.system, f"/ValueSet/$expand?url={WARM}")) == ["red", "scarlet"]
        assert codes(await asked(rest.system, f"/ValueSet/$expand?url={WARM}-too")) == ["red", "scarlet"]
        [(id_,)] = await rest.rows("SELECT id FROM r_valueset WHERE keys @> %s", [f"url={WARM}"])
        assert codes(await asked(rest.system, f"/ValueSet/{id_}/$expand")) == ["red", "scarlet"]

    async def test_what_is_posted_filtered_active_and_in_another_language(self, rest: Rest) -> None:
        whole: JSON = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": [{"system": COLOURS}]}}

        def body(**more: JSON) -> JSON:
            given = [{"name": "valueSet", "resource": whole}, *({"name": name, **one} for name, one in more.items())]
            return {"resourceType": "Parameters", "parameter": given}

        assert len(codes(await asked(rest.system, "/ValueSet/$expand", body()))) == 5
        filtered = body(filter={"valueString": "wine re"})
        assert codes(await asked(rest.system, "/ValueSet/$expand", filtered)) == ["wine"]
        active = await asked(rest.system, "/ValueSet/$expand", body(activeOnly={"valueBoolean": True}))
        assert "puce" not in codes(active)
        welsh = body(displayLanguage={"valueCode": "cy"}, includeDesignations={"valueBoolean": True})
        first = (await asked(rest.system, "/ValueSet/$expand", welsh))["expansion"]["contains"][0]
        assert first["display"] == "Coch"
        assert first["designation"][0]["language"] == "cy"

    @pytest.mark.parametrize(
        ("filter_", "expected"),
        [
            (("concept", "is-a", "red"), {"red", "scarlet", "wine"}),
            (("concept", "descendent-of", "red"), {"scarlet", "wine"}),
            (("concept", "is-not-a", "red"), {"blue", "puce"}),
            (("concept", "in", "blue, wine"), {"blue", "wine"}),
            (("concept", "not-in", "blue,wine"), {"red", "scarlet", "puce"}),
            (("code", "=", "blue"), {"blue"}),
            (("concept", "generalizes", "wine"), {"wine", "red"}),
            (("wave", "=", "700"), {"red"}),
            (("wave", "exists", "true"), {"red"}),
            (("wave", "exists", "false"), {"blue", "puce", "scarlet", "wine"}),
            (("display", "=", "Blue"), {"blue"}),
        ],
    )
    async def test_filters(self, rest: Rest, filter_: tuple[str, str, str], expected: set[str]) -> None:
        one = dict(zip(("property", "op", "value"), filter_, strict=True))
        include = [{"system": COLOURS, "filter": [one]}]
        posted = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": include}}
        body = {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": posted}]}
        assert set(codes(await asked(rest.system, "/ValueSet/$expand", body))) == expected

    async def test_what_cannot_be_told_is_refused_never_left_out(self, rest: Rest) -> None:
        for include, status in (
            ({"system": "http://snomed.info/sct"}, 404),
            ({"valueSet": ["http://example.org/none"]}, 404),
            ({"system": COLOURS, "filter": [{"property": "display", "op": "regex", "value": ".*"}]}, 422),
        ):
            posted = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": [include]}}
            body = {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": posted}]}
            assert (await rest.system("POST", "/ValueSet/$expand", body)).status_code == status, include
        assert (await rest.system("GET", "/ValueSet/$expand")).status_code == 400
        assert (await rest.system("GET", f"/ValueSet/$expand?url={WARM}&date=2020")).status_code == 400
        assert (await rest.system("GET", "/ValueSet/$expand?url=http://example.org/none")).status_code == 404

    async def test_a_circle_of_value_sets_ends(self, rest: Rest) -> None:
        one, other = "http://example.org/one", "http://example.org/other"
        sets = [
            {**warm(), "url": a, "compose": {"include": [{"valueSet": [b]}]}} for a, b in ((one, other), (other, one))
        ]
        await put(rest, *sets)
        assert (await rest.system("GET", f"/ValueSet/$expand?url={one}")).status_code == 422


class TestValidateCode:
    async def test_in_a_value_set(self, rest: Rest) -> None:
        path = f"/ValueSet/$validate-code?url={WARM}&system={COLOURS}&code="
        assert values(await asked(rest.system, f"{path}scarlet")) == {"result": True, "display": "Scarlet"}
        wrong = values(await asked(rest.system, f"{path}blue"))
        assert wrong["result"] is False
        assert "blue" in wrong["message"]
        misnamed = values(await asked(rest.system, f"{path}scarlet&display=Crimson"))
        assert misnamed["result"] is False
        assert misnamed["display"] == "Scarlet"
        carried = f"/ValueSet/$validate-code?url={FHIR}ValueSet/task-intent&system={FHIR}request-intent&code=plan"
        assert values(await asked(rest.system, carried))["result"] is True

    async def test_any_coding_of_a_concept(self, rest: Rest) -> None:
        concept = {"coding": [{"system": "http://x", "code": "y"}, {"system": COLOURS, "code": "red"}]}
        body = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "url", "valueUri": WARM},
                {"name": "codeableConcept", "valueCodeableConcept": concept},
            ],
        }
        assert values(await asked(rest.system, "/ValueSet/$validate-code", body))["result"] is True

    async def test_in_a_code_system(self, rest: Rest) -> None:
        assert values(await asked(rest.system, f"/CodeSystem/$validate-code?url={COLOURS}&code=wine"))["result"] is True
        assert values(await asked(rest.system, "/CodeSystem/colours/$validate-code?code=pink"))["result"] is False
        assert (await rest.system("GET", "/CodeSystem/$validate-code?url=http://x&code=y")).status_code == 404
        assert (await rest.system("GET", f"/CodeSystem/$validate-code?url={COLOURS}")).status_code == 400
        path = f"/CodeSystem/$validate-code?url={COLOURS}&code=wine&version=3"
        assert (await rest.system("GET", path)).status_code == 404


class TestLookup:
    async def test_a_stored_code_with_all_that_is_known(self, rest: Rest) -> None:
        found = await asked(rest.system, f"/CodeSystem/$lookup?system={COLOURS}&code=red")
        assert values(found) == {"name": "Colours", "version": "2", "display": "Red"}
        text = str(found)
        assert "Coch" in text
        assert "As blood" in text
        assert "700" in text
        child = await asked(rest.system, f"/CodeSystem/$lookup?system={COLOURS}&code=wine&property=parent")
        assert "red" in str(child)

    async def test_what_the_hub_measures_and_what_r4_binds(self, rest: Rest) -> None:
        pulse = values(await asked(rest.system, "/CodeSystem/$lookup?system=http://loinc.org&code=8867-4"))
        assert "pulse" in pulse["display"].lower() or "heart" in pulse["display"].lower()
        bound = values(await asked(rest.system, f"/CodeSystem/$lookup?system={FHIR}flag-status&code=active"))
        assert bound["display"] == "active"
        unknown = await rest.system("GET", "/CodeSystem/$lookup?system=http://loinc.org&code=1-8")
        assert unknown.status_code == 404
        assert "a part only" in unknown.text
        coding = {"name": "coding", "valueCoding": {"system": COLOURS, "code": "blue"}}
        found = await asked(rest.system, "/CodeSystem/$lookup", {"resourceType": "Parameters", "parameter": [coding]})
        assert values(found)["display"] == "Blue"

    @pytest.mark.parametrize(
        ("one", "other", "outcome"),
        [
            ("red", "wine", "subsumes"),
            ("wine", "red", "subsumed-by"),
            ("red", "red", "equivalent"),
            ("red", "blue", "not-subsumed"),
        ],
    )
    async def test_subsumes(self, rest: Rest, one: str, other: str, outcome: str) -> None:
        path = f"/CodeSystem/$subsumes?system={COLOURS}&codeA={one}&codeB={other}"
        assert values(await asked(rest.system, path)) == {"outcome": outcome}

    async def test_subsumes_of_codes_that_are_not_there(self, rest: Rest) -> None:
        path = f"/CodeSystem/$subsumes?system={COLOURS}&codeA=red"
        assert (await rest.system("GET", f"{path}&codeB=pink")).status_code == 404
        assert (await rest.system("GET", path)).status_code == 400


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        "path",
        [
            f"/ValueSet/$expand?url={FHIR}ValueSet/flag-status",
            f"/ValueSet/$validate-code?url={WARM}&code=red",
            f"/CodeSystem/$lookup?system={COLOURS}&code=red",
            f"/CodeSystem/$subsumes?system={COLOURS}&codeA=red&codeB=red",
        ],
    )
    async def test_whoever_reads_definitions(self, rest: Rest, path: str) -> None:
        person = await rest.patient()
        assert (await rest.nobody("GET", path)).status_code == 401
        assert (await (await rest.device(person))("GET", path)).status_code == 403
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        for caller in (coordinator, await rest.user("patient", f"Patient/{person}")):
            assert (await caller("GET", path)).status_code == 200
