"""`$validate`: everything that is wrong, as what the hub would say, and nothing kept."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.profiles import HL7, UK_CORE_PATIENT
from fhir.wire import decode

JSON = dict[str, Any]
SOUND: JSON = {"resourceType": "Patient", "active": True}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


async def found(caller: Caller, path: str, content: Any = None, method: str = "POST", **headers: str) -> list[JSON]:
    """The issues of a validation, which is always answered with 200."""
    response = await caller(method, path, content, headers)
    assert response.status_code == 200, response.text
    issues: list[JSON] = decode(response.content)["issue"]
    return issues


def severities(issues: list[JSON]) -> list[str]:
    return [issue["severity"] for issue in issues]


def asked(resource: JSON | None = None, **texts: str) -> JSON:
    parts: list[JSON] = [{"name": name, "valueCode": text} for name, text in texts.items()]
    return {
        "resourceType": "Parameters",
        "parameter": [*parts, *([{"name": "resource", "resource": resource}] if resource else [])],
    }


def pulse(person: str) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{person}"},
        "effectiveDateTime": "2026-11-21T09:00:00Z",
        "valueQuantity": {"value": 180, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


async def count(rest: Rest, table: str) -> int:
    async with rest.database.transaction() as tx:
        row = await (await tx.pg.execute(f"SELECT count(*) FROM {table}")).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


class TestWhoMayAsk:
    async def test_nobody_may_not(self, rest: Rest) -> None:
        person = await rest.patient()
        for path in ("/Patient/$validate", f"/Patient/{person}/$validate"):
            assert (await rest.nobody("POST", path, SOUND)).status_code == 401

    async def test_a_stored_record_is_shown_to_nobody_who_may_not_see_it(self, rest: Rest) -> None:
        person = await rest.patient()
        stranger = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        other = await rest.user("patient", f"Patient/{await rest.patient()}")
        device = await rest.device(person)
        for caller in (stranger, other):
            assert (await caller("GET", f"/Patient/{person}/$validate")).status_code == 404
        assert (await device("GET", f"/Patient/{person}/$validate")).status_code in (403, 404)
        for caller in (stranger, other, device):
            issues = await found(caller, f"/Patient/{person}/$validate?mode=delete")
            assert issues[0]["code"] in ("not-found", "forbidden")

    async def test_a_dry_run_leaves_its_row_in_the_trail(self, rest: Rest) -> None:
        person = await rest.patient()
        before = await count(rest, "audit WHERE action = 'validate'")
        await found(rest.system, f"/Patient/{person}/$validate?mode=delete")
        await found(rest.system, f"/Patient/{person}/$validate", method="GET")
        assert await count(rest, "audit WHERE action = 'validate'") == before + 2


class TestResource:
    async def test_nothing_wrong(self, rest: Rest) -> None:
        for body in (SOUND, asked(SOUND), asked(SOUND, mode="create")):
            assert severities(await found(rest.system, "/Patient/$validate", body)) == ["information"]

    async def test_everything_that_is_wrong(self, rest: Rest) -> None:
        broken = {
            "resourceType": "Patient",
            "gender": "x",
            "birthDate": "2026-02-30",
            "nmae": [],
            "contact": [{"id": "a"}],
        }
        for body in (broken, asked(broken), asked(broken, mode="create")):
            issues = await found(rest.system, "/Patient/$validate", body)
            assert {(issue["code"], issue["expression"][0]) for issue in issues} == {
                ("code-invalid", "Patient.gender"),
                ("value", "Patient.birthDate"),
                ("structure", "Patient.nmae"),
                ("invariant", "Patient.contact[0]"),
            }
            assert set(severities(issues)) == {"error"}

    async def test_what_cannot_be_read(self, rest: Rest) -> None:
        [issue] = await found(rest.system, "/Patient/$validate", b'{"resourceType": "Patient"')
        assert issue["code"] == "structure"

    async def test_in_xml(self, rest: Rest) -> None:
        xml = b'<Patient xmlns="http://hl7.org/fhir"><gender value="x"/></Patient>'
        headers = {"content-type": "application/fhir+xml", "accept": "application/fhir+json"}
        answered = await rest.system("POST", "/Patient/$validate", xml, headers)
        assert answered.status_code == 200
        assert decode(answered.content)["issue"][0]["expression"] == ["Patient.gender"]

    async def test_another_type_than_the_address_says(self, rest: Rest) -> None:
        [issue] = await found(rest.system, "/Patient/$validate", {"resourceType": "Group"})
        assert "expected Patient" in issue["diagnostics"]

    async def test_parameters_may_be_what_is_asked_about(self, rest: Rest) -> None:
        one = {"resourceType": "Parameters", "parameter": [{"name": "a"}]}
        assert severities(await found(rest.system, "/Parameters/$validate", one)) == ["error"]
        assert severities(await found(rest.system, "/Parameters/$validate", asked(one))) == ["error"]

    async def test_the_stored_one(self, rest: Rest) -> None:
        person = await rest.patient()
        assert severities(await found(rest.system, f"/Patient/{person}/$validate", method="GET")) == ["information"]
        assert severities(await found(rest.system, f"/Patient/{person}/$validate", asked(profile="urn:x"))) == [
            "warning"
        ]

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/Patient/$validate", None),
            ("/Patient/$validate?mode=create", None),
            ("/Patient/$validate?mode=destroy", SOUND),
            ("/Patient/$validate?mode=update", SOUND),
            ("/Patient/$validate?mode=profile", SOUND),
            ("/Patient/x/$validate?mode=create", SOUND),
            ("/Patient/$validate?profil=urn:x", SOUND),
            ("/Patient/$validate", asked(SOUND, moed="create")),
        ],
    )
    async def test_a_question_that_makes_no_sense(self, rest: Rest, path: str, body: JSON | None) -> None:
        assert (await rest.system("POST", path, body)).status_code == 400


class TestProfile:
    async def test_one_that_is_carried(self, rest: Rest) -> None:
        spoken = SOUND | {"communication": [{"language": {"text": "Welsh"}}]}
        for body in (asked(spoken, profile=UK_CORE_PATIENT), spoken | {"meta": {"profile": [UK_CORE_PATIENT]}}):
            [issue] = await found(rest.system, "/Patient/$validate", body)
            assert (issue["severity"], issue["code"]) == ("error", "invariant")
            assert "UK Core Patient" in issue["diagnostics"]

    async def test_one_that_is_not_is_a_warning(self, rest: Rest) -> None:
        claiming = SOUND | {"meta": {"profile": ["https://elsewhere.example/P"]}}
        [issue] = await found(rest.system, "/Patient/$validate", claiming)
        assert (issue["severity"], issue["expression"]) == ("warning", ["Patient.meta.profile"])
        assert (await rest.system("POST", "/Patient", claiming)).status_code == 201

    async def test_a_broken_claim_is_not_stored(self, rest: Rest) -> None:
        heart = {"resourceType": "Observation", "meta": {"profile": [HL7 + "heartrate"]}, "status": "final"}
        answered = await rest.system("POST", "/Observation", heart | {"code": {"text": "pulse"}})
        assert answered.status_code == 400


class TestTheHubsRules:
    async def test_what_would_be_done_is_not_done(self, rest: Rest) -> None:
        person = await rest.patient()
        tables = ("resource_version", "r_patient", "r_observation", "reading", "flag", "notice", "receipt")
        before = [await count(rest, table) for table in tables]
        changed = SOUND | {"id": person, "active": False}
        for path, body in (
            ("/Patient/$validate?mode=create", SOUND),
            ("/Observation/$validate?mode=create", pulse(person)),
            (f"/Patient/{person}/$validate?mode=update", changed),
            (f"/Patient/{person}/$validate?mode=delete", None),
        ):
            assert severities(await found(rest.system, path, body)) == ["information"], path
        assert [await count(rest, table) for table in tables] == before
        assert decode((await rest.system("GET", f"/Patient/{person}")).content)["meta"]["versionId"] == "1"

    async def test_a_reading_that_a_device_only_asked_about_is_new_when_it_comes(self, rest: Rest) -> None:
        person = await rest.patient()
        device = await rest.device(person)
        reading = pulse(person)
        before = await count(rest, "refusal")
        assert severities(await found(device, "/Observation/$validate?mode=create", reading)) == ["information"]
        [issue] = await found(device, "/Observation/$validate?mode=create", pulse(await rest.patient()))
        assert issue["severity"] == "error"
        assert await count(rest, "refusal") == before
        assert (await device("POST", "/Observation", reading)).status_code == 201

    async def test_what_a_rule_refuses_is_said(self, rest: Rest) -> None:
        person = await rest.patient()
        plan = {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": f"Patient/{person}"},
        }
        told = decode((await rest.system("POST", "/CarePlan", plan)).content)["issue"]
        assert await found(rest.system, "/CarePlan/$validate?mode=create", plan) == told
        assert severities(await found(rest.system, "/CarePlan/$validate", plan)) == ["information"]

    async def test_what_a_role_may_not_do_is_said(self, rest: Rest) -> None:
        person = await rest.patient()
        themselves = await rest.user("patient", f"Patient/{person}")
        [issue] = await found(themselves, f"/Patient/{person}/$validate?mode=delete")
        assert issue["code"] == "forbidden"

    async def test_a_version_that_is_not_the_current_one(self, rest: Rest) -> None:
        person = await rest.patient()
        path = f"/Patient/{person}/$validate?mode=update"
        body = SOUND | {"id": person}
        assert severities(await found(rest.system, path, body, **{"if-match": 'W/"1"'})) == ["information"]
        assert severities(await found(rest.system, path, body, **{"if-match": 'W/"7"'})) == ["error"]
        assert severities(await found(rest.system, path, SOUND | {"id": "another"})) == ["error"]
