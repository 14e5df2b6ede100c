"""`Questionnaire/$populate`: what the record knows, with where it comes from; the rest is left to the person."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from care_plans.questionnaires import Known, populate
from fhir.store import Change, new_id
from fhir.validation import check
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"
PATIENT = "http://hl7.org/fhir/StructureDefinition/Patient#Patient."
LOINC = "http://loinc.org"
UNIT = {"url": "http://hl7.org/fhir/StructureDefinition/questionnaire-unit"}

PERSON = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"family": "Frost", "given": ["Jo", "Ann"]}],
    "birthDate": "1950-02-03",
    "gender": "female",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000042"}],
    "telecom": [{"system": "phone", "value": "01935 000000"}],
    "deceasedBoolean": False,
}


def observation(code: str, value: str, days: int, unit: str = "kg", **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "id": f"o-{code}-{days}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "effectiveDateTime": (NOW - timedelta(days=days)).isoformat(),
        "valueQuantity": {"value": Decimal(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        **elements,
    }


def question(type_: str, **elements: Any) -> JSON:
    return {"linkId": "q", "text": "Question?", "type": type_, **elements}


def coded(code: str) -> list[JSON]:
    return [{"system": LOINC, "code": code}]


def asked(*items: JSON, **elements: Any) -> JSON:
    return {
        "resourceType": "Questionnaire", "id": "x", "url": "http://example.org/q", "version": "2", "status": "active",
        "item": list(items), **elements,
    }  # fmt: skip


def answer(item: JSON, *observations: JSON) -> Any:
    response = populate(asked(item), Known(PERSON, observations, NOW))
    check(response)
    [found] = response["item"]
    answers = found.get("answer", [])
    assert len(answers) <= 1
    if not answers:
        return None
    return next(value for name, value in answers[0].items() if name.startswith("value"))


class TestPopulate:
    def test_it_is_a_response_in_progress_with_every_question(self) -> None:
        group = {"linkId": "g", "type": "group", "item": [question("string"), {"linkId": "d", "type": "display"}]}
        response = populate(asked(group), Known(PERSON, (), NOW))
        check(response)
        assert response["status"] == "in-progress"
        assert response["questionnaire"] == "http://example.org/q|2"
        assert response["subject"] == {"reference": "Patient/p"}
        assert response["item"] == [{"linkId": "g", "item": [{"linkId": "q", "text": "Question?"}]}]

    @pytest.mark.parametrize(
        ("type_", "path", "expected"),
        [
            ("date", "birthDate", "1950-02-03"),
            ("string", "name", "Jo Ann Frost"),
            ("string", "name.family", "Frost"),
            ("string", "identifier.where(system='https://fhir.nhs.uk/Id/nhs-number').value", "9990000042"),
            ("string", "telecom.where(system='phone').value", "01935 000000"),
            ("boolean", "deceased", False),
            ("string", "maritalStatus", None),
            ("string", "name.family.nonsense(", None),
            ("date", "gender", None),
        ],
    )
    def test_who_the_person_is(self, type_: str, path: str, expected: Any) -> None:
        expression = {"language": "text/fhirpath", "expression": f"%patient.{path}"}
        extension = {"url": f"{SDC}initialExpression", "valueExpression": expression}
        assert answer(question(type_, extension=[extension])) == expected
        if "(" not in path:
            assert answer(question(type_, definition=PATIENT + path)) == expected

    def test_gender_is_one_of_the_options(self) -> None:
        options = [{"valueCoding": {"system": "http://hl7.org/fhir/administrative-gender", "code": "female"}}]
        item = question("choice", definition=PATIENT + "gender", answerOption=options)
        assert answer(item) == options[0]["valueCoding"]
        assert answer({**item, "answerOption": [{"valueCoding": {"code": "male"}}]}) is None
        assert answer({**item, "type": "open-choice", "answerOption": []}) == "female"

    def test_hazard_withdrawn_value_taken_for_todays_each_says_where_it_comes_from_and_when(self) -> None:
        item = question("quantity", code=coded("29463-7"))
        old, new = observation("29463-7", "80", 90), observation("29463-7", "78.50", 3)
        response = populate(asked(item), Known(PERSON, (old, new), NOW))
        [found] = response["item"][0]["answer"]
        assert str(found["valueQuantity"]["value"]) == "78.50"
        text = str(found["extension"])
        assert "Observation/o-29463-7-3" in text
        assert new["effectiveDateTime"] in text, "how old it is can be seen"

    def test_a_component_of_a_panel(self) -> None:
        part = {"code": {"coding": coded("8480-6")}, "valueQuantity": {"value": 130, "unit": "mmHg"}}
        panel = {name: one for name, one in observation("85354-9", "1", 1).items() if name != "valueQuantity"}
        item = question("quantity", code=coded("8480-6"))
        assert answer(item, {**panel, "component": [part]})["value"] == 130

    def test_an_old_one_is_left_out_where_the_question_says_how_recent(self) -> None:
        recent = {"url": f"{SDC}observationLinkPeriod", "valueDuration": {"value": 2, "code": "wk"}}
        item = question("quantity", code=coded("29463-7"), extension=[recent])
        assert answer(item, observation("29463-7", "80", 15)) is None
        assert answer(item, observation("29463-7", "80", 13))["value"] == 80
        undated = {name: one for name, one in observation("29463-7", "80", 1).items() if name != "effectiveDateTime"}
        assert answer(item, undated) is None

    def test_hazard_wrong_unit_a_bare_number_only_in_the_unit_that_is_asked_for(self) -> None:
        stones = {**UNIT, "valueCoding": {"code": "[stone_av]"}}
        kilograms = {**UNIT, "valueCoding": {"code": "kg"}}
        weight = observation("29463-7", "80", 1)
        assert answer(question("decimal", code=coded("29463-7")), weight) is None
        assert answer(question("decimal", code=coded("29463-7"), extension=[stones]), weight) is None
        assert answer(question("decimal", code=coded("29463-7"), extension=[kilograms]), weight) == 80
        assert answer(question("integer", code=coded("29463-7"), extension=[kilograms]), weight) == 80
        half = observation("29463-7", "80.5", 1)
        assert answer(question("integer", code=coded("29463-7"), extension=[kilograms]), half) is None
        below = observation("29463-7", "80", 1)
        below["valueQuantity"]["comparator"] = "<"
        assert answer(question("decimal", code=coded("29463-7"), extension=[kilograms]), below) is None

    def test_what_it_begins_with_otherwise(self) -> None:
        assert answer(question("string", initial=[{"valueString": "none"}])) == "none"
        option = {"valueCoding": {"code": "a"}, "initialSelected": True}
        assert answer(question("choice", answerOption=[option])) == {"code": "a"}
        assert answer(question("string", maxLength=3, definition=PATIENT + "name")) is None


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        items = [
            {**question("date", definition=PATIENT + "birthDate"), "linkId": "born"},
            {**question("quantity", code=coded("8867-4")), "linkId": "pulse"},
        ]
        await put(made, asked(*items))
        yield made


async def put(rest: Rest, *resources: JSON) -> None:
    changes = [Change("create", one["resourceType"], one.get("id", new_id()), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)


def pulse(person: str, value: str, **elements: Any) -> JSON:
    made = observation("8867-4", value, 1, "/min", subject={"reference": f"Patient/{person}"}, **elements)
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    return {**made, "id": new_id(), "effectiveDateTime": at}


async def answers(caller: Caller, path: str, content: Any = None) -> dict[str, Any]:
    response = await caller("POST" if content else "GET", path, content)
    assert response.status_code == 200, response.text
    found = decode(response.content)
    assert found["status"] == "in-progress"
    return {item["linkId"]: item.get("answer") for item in found["item"]}


class TestOverHttp:
    async def test_by_id_by_url_and_posted(self, rest: Rest) -> None:
        person = await rest.patient()
        await put(rest, pulse(person, "71"), pulse(person, "99", status="entered-in-error"))
        found = await answers(rest.system, f"/Questionnaire/x/$populate?subject=Patient/{person}")
        assert found["born"] == [{"valueDate": "1950-02-03"}]
        assert found["pulse"][0]["valueQuantity"]["value"] == 71
        assert (
            await answers(rest.system, f"/Questionnaire/$populate?url=http://example.org/q&subject={person}") == found
        )
        given = [
            {"name": "questionnaire", "resource": asked(question("date", definition=PATIENT + "birthDate"))},
            {"name": "subject", "valueReference": {"reference": f"Patient/{person}"}},
        ]
        posted = await answers(
            rest.system, "/Questionnaire/$populate", {"resourceType": "Parameters", "parameter": given}
        )
        assert posted["q"] == [{"valueDate": "1950-02-03"}]
        assert await rest.rows("SELECT 1 FROM r_questionnaireresponse") == [], "nothing is stored"

    async def test_only_with_what_the_caller_may_see(self, rest: Rest) -> None:
        person, other = await rest.patient(), await rest.patient()
        await put(rest, pulse(person, "71"))
        path = f"/Questionnaire/x/$populate?subject=Patient/{person}"
        assert (await rest.nobody("GET", path)).status_code == 401
        assert (await (await rest.device(person))("GET", path)).status_code == 403
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        assert (await coordinator("GET", path)).status_code == 404
        assert (await (await rest.user("patient", f"Patient/{other}"))("GET", path)).status_code == 404
        themselves = await answers(await rest.user("patient", f"Patient/{person}"), path)
        assert themselves["pulse"] is not None
        team: JSON = {
            "resourceType": "CareTeam",
            "status": "active",
            "subject": {"reference": f"Patient/{person}"},
            "participant": [{"member": {"reference": "Practitioner/sw"}}],
        }
        await put(rest, team)
        worker = await answers(await rest.user("social-worker", "Practitioner/sw"), path)
        assert worker["born"] is not None
        assert worker["pulse"] is None, "a social worker reads no readings"
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s", person)
        assert ("populate",) in rows

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/Questionnaire/x/$populate", 400),
            ("/Questionnaire/x/$populate?subject=Patient/unknown", 404),
            ("/Questionnaire/unknown/$populate?subject=Patient/{}", 404),
            ("/Questionnaire/$populate?subject=Patient/{}", 400),
            ("/Questionnaire/x/$populate?subject=Patient/{}&launchContext=x", 400),
        ],
    )
    async def test_refusals(self, rest: Rest, path: str, status: int) -> None:
        answered = await rest.system("GET", path.format(await rest.patient()))
        assert answered.status_code == status, answered.text

    async def test_a_retired_one_and_one_about_something_else(self, rest: Rest) -> None:
        person = await rest.patient()
        retired = asked(question("string"), id="retired", url="http://example.org/r", status="retired")
        device = asked(question("string"), id="device", url="http://example.org/d", subjectType=["Device"])
        await put(rest, retired, device)
        for id_ in ("retired", "device"):
            path = f"/Questionnaire/{id_}/$populate?subject=Patient/{person}"
            assert (await rest.system("GET", path)).status_code == 422
