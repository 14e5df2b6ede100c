"""PATCH over HTTP and in bundles: one path with every other write, and nothing told to who may not see."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.store import new_id
from fhir.validation import check
from fhir.wire import decode, encode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
JSON_PATCH = {"content-type": "application/json-patch+json"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def operations(*made: JSON) -> bytes:
    return encode(list(made))


def gender(value: str) -> JSON:
    return {"op": "add", "path": "/gender", "value": value}


def expecting(path: str, value: Any) -> JSON:
    return {"op": "test", "path": path, "value": value}


def binary(*made: JSON) -> JSON:
    data = b64encode(operations(*made)).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


def parameters(kind: str, path: str, **value: Any) -> JSON:
    parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    if value:
        parts.append({"name": "value", **value})
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


def bundle(kind: str, *entries: JSON) -> JSON:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method: str, url: str, resource: JSON | None = None, **request: Any) -> JSON:
    return {"request": {"method": method, "url": url, **request}} | ({"resource": resource} if resource else {})


def pulse(patient_id: str, value: int = 70) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": "2026-11-20T09:30:00Z",
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


class TestPatch:
    async def test_json_patch(self, rest: Rest) -> None:
        id_ = await rest.patient()
        answer = await rest.system("PATCH", f"/Patient/{id_}", operations(gender("female")), JSON_PATCH)
        body = decode(answer.content)
        assert (answer.status_code, answer.headers["etag"], body["gender"]) == (200, 'W/"2"', "female")
        assert (body["id"], body["meta"]["versionId"], body["birthDate"]) == (id_, "2", "1950-02-03")
        assert (await rest.system("GET", f"/Patient/{id_}")).content == answer.content
        history = decode((await rest.system("GET", f"/Patient/{id_}/_history")).content)
        assert len(history["entry"]) == 2

    async def test_fhirpath_patch(self, rest: Rest) -> None:
        id_ = await rest.patient(gender="male")
        answer = await rest.system(
            "PATCH", f"/Patient/{id_}", parameters("replace", "Patient.name[0].family", valueString="Winter")
        )
        assert (answer.status_code, decode(answer.content)["name"]) == (200, [{"family": "Winter", "given": ["Ada"]}])
        gone = await rest.system("PATCH", f"/Patient/{id_}", parameters("delete", "Patient.gender"))
        assert "gender" not in decode(gone.content)

    async def test_fhirpath_patch_in_xml(self, rest: Rest) -> None:
        id_ = await rest.patient(gender="male")
        sent = (
            b'<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
            b'<part><name value="type"/><valueCode value="delete"/></part>'
            b'<part><name value="path"/><valueString value="Patient.gender"/></part></parameter></Parameters>'
        )
        answer = await rest.system("PATCH", f"/Patient/{id_}", sent, {"content-type": "application/fhir+xml"})
        assert (answer.status_code, "gender" in decode(answer.content)) == (200, False)

    async def test_prefer(self, rest: Rest) -> None:
        id_ = await rest.patient()
        for number, (prefer, resource_type) in enumerate(
            (("representation", "Patient"), ("OperationOutcome", "OperationOutcome"), ("minimal", None))
        ):
            headers = {**JSON_PATCH, "prefer": f"return={prefer}"}
            change = operations(gender(("male", "female", "other")[number]))
            answer = await rest.system("PATCH", f"/Patient/{id_}", change, headers)
            assert answer.headers["etag"] == f'W/"{number + 2}"'
            assert (decode(answer.content)["resourceType"] if answer.content else None) == resource_type

    async def test_what_changes_nothing_makes_no_version(self, rest: Rest) -> None:
        id_ = await rest.patient(gender="female")
        for body in (operations(), operations(gender("female")), operations(expecting("/gender", "female"))):
            answer = await rest.system("PATCH", f"/Patient/{id_}", body, JSON_PATCH)
            assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"1"')

    async def test_versions(self, rest: Rest) -> None:
        id_ = await rest.patient()
        path = f"/Patient/{id_}"
        stale = await rest.system("PATCH", path, operations(gender("male")), {**JSON_PATCH, "if-match": 'W/"2"'})
        assert (stale.status_code, stale.headers["etag"]) == (412, 'W/"1"')
        for if_match in ('W/"1"', "*"):
            answer = await rest.system("PATCH", path, operations(gender("male")), {**JSON_PATCH, "if-match": if_match})
            assert answer.status_code == 200

    async def test_criteria(self, rest: Rest) -> None:
        value = new_id()
        path = f"/Patient?identifier=urn:p|{value}"
        assert (await rest.system("PATCH", path, operations(), JSON_PATCH)).status_code == 404
        id_ = await rest.patient(identifier=[{"system": "urn:p", "value": value}])
        answer = await rest.system("PATCH", path, operations(gender("other")), JSON_PATCH)
        assert (answer.status_code, decode(answer.content)["id"]) == (200, id_)
        await rest.patient(identifier=[{"system": "urn:p", "value": value}])
        assert (await rest.system("PATCH", path, operations(), JSON_PATCH)).status_code == 412

    async def test_no_patch_is_lost_among_others_at_the_same_moment(self, rest: Rest) -> None:
        id_ = await rest.patient()

        async def add(number: int) -> int:
            given = {"op": "add", "path": "/name/0/given/-", "value": f"N{number}"}
            return (await rest.system("PATCH", f"/Patient/{id_}", operations(given), JSON_PATCH)).status_code

        assert set(await asyncio.gather(*(add(number) for number in range(12)))) == {200}
        names = decode((await rest.system("GET", f"/Patient/{id_}")).content)["name"][0]["given"]
        assert sorted(names) == sorted(["Ada", *(f"N{number}" for number in range(12))])

    async def test_an_address_of_this_hub_is_made_relative(self, rest: Rest) -> None:
        """Who a record is about decides who may see it: a patch must not say it in another form."""
        id_, other = await rest.patient(), await rest.patient()
        made = decode((await rest.system("POST", "/Observation", pulse(id_))).content)
        moved = {"op": "replace", "path": "/subject/reference", "value": f"http://127.0.0.1/fhir/Patient/{other}"}
        answer = await rest.system("PATCH", f"/Observation/{made['id']}", operations(moved), JSON_PATCH)
        assert decode(answer.content)["subject"] == {"reference": f"Patient/{other}"}
        assert await rest.rows("SELECT patient_id FROM r_observation WHERE id = %s", made["id"]) == [(other,)]


class TestRules:
    async def test_the_result_is_checked(self, rest: Rest) -> None:
        id_ = await rest.patient()
        answer = await rest.system("PATCH", f"/Patient/{id_}", operations(gender("sometimes")), JSON_PATCH)
        assert answer.status_code == 422
        assert decode(answer.content)["issue"][0]["expression"] == ["Patient.gender"]
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'

    async def test_rules_of_the_hub_hold(self, rest: Rest) -> None:
        """Hazard: two plans in force for one person, by the back door."""
        id_ = await rest.patient()
        async with rest.database.transaction() as tx:
            await flows.record_approval(tx, IMPORTER, id_, "verbal")
        plan = {
            "resourceType": "CarePlan",
            "intent": "plan",
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "734163000"}]}],
            "subject": {"reference": f"Patient/{id_}"},
        }
        for status in ("active", "draft"):
            made = await rest.system("POST", "/CarePlan", {**plan, "status": status})
            assert made.status_code == 201, made.text
        draft = decode(made.content)
        active = operations({"op": "replace", "path": "/status", "value": "active"})
        patched = await rest.system("PATCH", f"/CarePlan/{draft['id']}", active, JSON_PATCH)
        put = await rest.system("PUT", f"/CarePlan/{draft['id']}", {**draft, "status": "active"})
        assert patched.status_code == put.status_code >= 400
        assert decode(patched.content) == decode(put.content)

    async def test_a_patched_reading_is_typed_and_evaluated_again(self, rest: Rest) -> None:
        id_ = await rest.patient()
        made = decode((await rest.system("POST", "/Observation", pulse(id_))).content)
        change = operations({"op": "replace", "path": "/valueQuantity/value", "value": 71})
        assert (await rest.system("PATCH", f"/Observation/{made['id']}", change, JSON_PATCH)).status_code == 200
        values = await rest.rows("SELECT value FROM reading WHERE observation_id = %s", made["id"])
        assert [float(value) for (value,) in values] == [71.0]
        wrong = operations({"op": "replace", "path": "/status", "value": "entered-in-error"})
        assert (await rest.system("PATCH", f"/Observation/{made['id']}", wrong, JSON_PATCH)).status_code == 200
        found = await rest.rows("SELECT quality FROM reading WHERE observation_id = %s", made["id"])
        assert {quality for (quality,) in found} <= {"wrong"}

    async def test_the_trail(self, rest: Rest) -> None:
        id_ = await rest.patient()
        await rest.system("PATCH", f"/Patient/{id_}", operations(gender("male")), JSON_PATCH)
        refused = await rest.system("PATCH", f"/Patient/{id_}", operations(expecting("/gender", "x")), JSON_PATCH)
        assert refused.status_code == 422
        found = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", id_)
        assert sorted(found) == [("read",), ("update",)], "a test that fails has looked too"


class TestRefusals:
    @pytest.mark.parametrize(
        ("content_type", "body", "status"),
        [
            ("application/json-patch+json", b"{}", 400),
            ("application/json-patch+json", b"[", 400),
            ("application/json-patch+json", b'[{"op":"add"}]', 400),
            ("application/json-patch+json", b'[{"op":"remove","path":"/nothing"}]', 422),
            ("application/fhir+json", b'{"resourceType":"Patient"}', 400),
            ("application/fhir+json", b"[]", 400),
            ("application/merge-patch+json", b"{}", 415),
            ("application/xml-patch+xml", b"<x/>", 415),
        ],
    )
    async def test_what_is_no_patch(self, rest: Rest, content_type: str, body: bytes, status: int) -> None:
        id_ = await rest.patient()
        answer = await rest.system("PATCH", f"/Patient/{id_}", body, {"content-type": content_type})
        assert answer.status_code == status
        assert ("accept-patch" in answer.headers) is (status == 415)
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'

    async def test_what_is_not_there(self, rest: Rest) -> None:
        assert (await rest.system("PATCH", f"/Patient/{new_id()}", operations(), JSON_PATCH)).status_code == 404
        id_ = await rest.patient()
        await rest.system("DELETE", f"/Patient/{id_}")
        assert (await rest.system("PATCH", f"/Patient/{id_}", operations(), JSON_PATCH)).status_code == 410

    async def test_methods_are_listed(self, rest: Rest) -> None:
        answer = await rest.system("POST", "/Patient/x", {"resourceType": "Patient"})
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "PATCH", "DELETE"}


class TestBundles:
    async def test_both_languages_in_a_transaction(self, rest: Rest) -> None:
        first, second = await rest.patient(), await rest.patient(gender="male")
        urn = f"urn:uuid:{new_id()}"
        doctor = {"op": "add", "path": "/generalPractitioner", "value": [{"reference": urn}]}
        organisation = entry("POST", "Organization", {"resourceType": "Organization", "name": "A"}) | {"fullUrl": urn}
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "transaction",
                entry("PATCH", f"Patient/{first}", binary(gender("female"), doctor), ifMatch='W/"1"'),
                entry("PATCH", f"Patient/{second}", parameters("delete", "Patient.gender")),
                organisation,
            ),
            {"prefer": "return=representation"},
        )
        response = decode(answer.content)
        check(response)
        assert [one["response"]["status"] for one in response["entry"]] == ["200 OK", "200 OK", "201 Created"]
        made = response["entry"][2]["resource"]["id"]
        patched = response["entry"][0]["resource"]
        assert (patched["gender"], patched["generalPractitioner"]) == (
            "female",
            [{"reference": f"Organization/{made}"}],
        )
        assert "gender" not in response["entry"][1]["resource"]
        assert response["entry"][1]["response"]["etag"] == 'W/"2"'

    async def test_a_patch_that_does_not_fit_undoes_the_transaction_and_is_named(self, rest: Rest) -> None:
        first, second = await rest.patient(), await rest.patient()
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "transaction",
                entry("PATCH", f"Patient/{first}", binary(gender("female"))),
                entry("PATCH", f"Patient/{second}", parameters("replace", "Patient.gender", valueCode="male")),
            ),
        )
        assert answer.status_code == 422
        assert decode(answer.content)["issue"][0]["expression"] == ["Bundle.entry[1].resource.parameter[0]"]
        assert (await rest.system("GET", f"/Patient/{first}")).headers["etag"] == 'W/"1"'
        found = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", second)
        assert found == [("read",)]

    async def test_a_patch_and_another_write_of_one_resource(self, rest: Rest) -> None:
        id_ = await rest.patient()
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "transaction",
                entry("PATCH", f"Patient/{id_}", binary(gender("female"))),
                entry("DELETE", f"Patient/{id_}"),
            ),
        )
        assert answer.status_code == 400
        said = decode(answer.content)["issue"][0]["diagnostics"]
        assert "Bundle.entry[0] (PATCH)" in said
        assert "Bundle.entry[1] (DELETE)" in said

    async def test_in_a_batch_each_stands_alone(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=[{"system": "urn:p", "value": value}])
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "batch",
                entry("PATCH", f"Patient/{id_}", binary(gender("female"))),
                entry("PATCH", f"Patient/{id_}", binary(expecting("/gender", "male"))),
                entry("PATCH", f"Patient?identifier=urn:p|{value}", parameters("delete", "Patient.birthDate")),
                entry("PATCH", f"Patient/{new_id()}", binary(gender("female"))),
                entry("PATCH", f"Patient/{id_}", {"resourceType": "Binary", "contentType": "text/plain"}),
            ),
        )
        statuses = [one["response"]["status"][:3] for one in decode(answer.content)["entry"]]
        assert statuses == ["200", "422", "200", "404", "400"]
        body = decode((await rest.system("GET", f"/Patient/{id_}")).content)
        assert (body["meta"]["versionId"], body["gender"], "birthDate" in body) == ("3", "female", False)

    async def test_transactions_that_patch_the_same_in_opposite_order(self, rest: Rest) -> None:
        ids = [await rest.patient() for _ in range(4)]

        async def send(number: int) -> int:
            given = {"op": "add", "path": "/name/0/given/-", "value": f"N{number}"}
            order = ids[:: 1 if number % 2 else -1]
            entries = [entry("PATCH", f"Patient/{id_}", binary(given)) for id_ in order]
            return (await rest.system("POST", "", bundle("transaction", *entries))).status_code

        assert set(await asyncio.gather(*(send(number) for number in range(8)))) == {200}
        for id_ in ids:
            assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"9"'


class TestLeaks:
    """A `test` that fails or holds tells what a record says: only to who may read it."""

    @pytest.mark.parametrize("who", ["coordinator", "patient", "device", "nobody"])
    async def test_who_may_not_see_learns_nothing_by_testing(self, rest: Rest, who: str) -> None:
        theirs, own = await rest.patient(gender="female"), await rest.patient()
        callers: dict[str, Caller] = {
            "coordinator": await rest.user("care-coordinator", f"Practitioner/{new_id()}", ("Organization/elsewhere",)),
            "patient": await rest.user("patient", f"Patient/{own}"),
            "device": await rest.device(own),
            "nobody": rest.nobody,
        }
        told = set()
        for id_, value in ((theirs, "female"), (theirs, "male"), (new_id(), "male")):
            bodies: list[tuple[Any, dict[str, str]]] = [
                (operations(expecting("/gender", value)), JSON_PATCH),
                (parameters("replace", f"Patient.where(gender = '{value}').gender", valueCode=value), {}),
            ]
            for body, headers in bodies:
                answer = await callers[who]("PATCH", f"/Patient/{id_}", body, headers)
                said = decode(answer.content)["issue"][0]["diagnostics"].replace(id_, "ID")
                told.add((answer.status_code, said))
            entries = [entry("PATCH", f"Patient/{id_}", binary(expecting("/gender", value)))]
            for kind in ("batch", "transaction"):
                answer = await callers[who]("POST", "", bundle(kind, *entries))
                told.add((kind, answer.text.replace(id_, "ID")))
        assert len(told) == 3, told
        assert (await rest.system("GET", f"/Patient/{theirs}")).headers["etag"] == 'W/"1"'

    async def test_who_may_see_but_not_change_changes_nothing(self, rest: Rest) -> None:
        id_ = await rest.patient()
        person = await rest.user("patient", f"Patient/{id_}")
        assert (await person("GET", f"/Patient/{id_}")).status_code == 200
        answer = await person("PATCH", f"/Patient/{id_}", operations(gender("male")), JSON_PATCH)
        assert answer.status_code == 403
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'

    async def test_hazard_wrong_patient_a_patch_moves_no_record_to_somebody_outside_the_callers_care(
        self, rest: Rest
    ) -> None:
        id_, other = await rest.patient(), await rest.patient()
        person = await rest.user("patient", f"Patient/{id_}")
        made = decode((await person("POST", "/Observation", pulse(id_))).content)
        moved = operations({"op": "replace", "path": "/subject/reference", "value": f"Patient/{other}"})
        answer = await person("PATCH", f"/Observation/{made['id']}", moved, JSON_PATCH)
        assert answer.status_code == 403
        assert await rest.rows("SELECT patient_id FROM r_observation WHERE id = %s", made["id"]) == [(id_,)]
