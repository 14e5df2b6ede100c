"""Batches and transactions over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rest import Fresh, Rest, running

from fhir.store import new_id
from fhir.validation import check
from fhir.wire import decode

JSON = dict[str, Any]
URN = "urn:uuid:0192f5a0-1111-4abc-8def-0123456789ab"


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def bundle(kind: str, *entries: JSON) -> JSON:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method: str, url: str, resource: JSON | None = None, full_url: str | None = None, **request: Any) -> JSON:
    made: JSON = {"request": {"method": method, "url": url, **request}}
    return made | ({"resource": resource} if resource else {}) | ({"fullUrl": full_url} if full_url else {})


def patient(**elements: Any) -> JSON:
    return {"resourceType": "Patient", "name": [{"family": "Frost"}], **elements}


def condition(reference: str) -> JSON:
    return {"resourceType": "Condition", "subject": {"reference": reference}, "code": {"text": "Asthma"}}


def pulse(patient_id: str, minute: int) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": f"2026-11-20T09:{minute:02}:00Z",
        "valueQuantity": {"value": 70, "system": "http://unitsofmeasure.org", "code": "/min"},
    }


async def sent(rest: Rest, kind: str, *entries: JSON, status: int = 200, **headers: str) -> JSON:
    answer = await rest.system("POST", "", bundle(kind, *entries), {k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status_code == status, answer.text
    return decode(answer.content)


def statuses(response: JSON) -> list[str]:
    return [one["response"]["status"] for one in response["entry"]]


class TestTransaction:
    async def test_all_or_nothing(self, rest: Rest) -> None:
        id_ = new_id()
        missing = f"Condition/{new_id()}"
        outcome = await sent(
            rest,
            "transaction",
            entry("PUT", f"Patient/{id_}", patient(id=id_)),
            entry("PUT", missing, condition(f"Patient/{id_}") | {"id": missing.split("/")[1]}, ifMatch='W/"4"'),
            status=412,
        )
        assert outcome["resourceType"] == "OperationOutcome"
        assert (await rest.system("GET", f"/Patient/{id_}")).status_code == 404

    async def test_references_are_resolved_and_answers_stand_in_order(self, rest: Rest) -> None:
        response = await sent(
            rest,
            "transaction",
            entry("POST", "Condition", condition(URN)),
            entry("POST", "Patient", patient(), URN),
            entry("GET", "Patient?family=nobody-of-this-name"),
            prefer="return=representation",
        )
        check(response)
        assert response["type"] == "transaction-response"
        assert statuses(response) == ["201 Created", "201 Created", "200 OK"]
        made = response["entry"]
        assert made[0]["resource"]["subject"]["reference"] == f"Patient/{made[1]['resource']['id']}"
        assert made[1]["response"]["etag"] == 'W/"1"'
        assert made[1]["response"]["location"] == f"{made[1]['fullUrl']}/_history/1"
        assert made[1]["response"]["lastModified"] == made[1]["resource"]["meta"]["lastUpdated"]
        assert made[2]["resource"]["type"] == "searchset"

    async def test_by_default_answers_are_short(self, rest: Rest) -> None:
        response = await sent(rest, "transaction", entry("POST", "Patient", patient()))
        assert "resource" not in response["entry"][0]
        told = await sent(rest, "transaction", entry("POST", "Patient", patient()), prefer="return=OperationOutcome")
        assert told["entry"][0]["response"]["outcome"]["issue"][0]["severity"] == "information"

    async def test_update_delete_and_read(self, rest: Rest) -> None:
        kept, gone = await rest.patient(), await rest.patient()
        response = await sent(
            rest,
            "transaction",
            entry("GET", f"Patient/{kept}"),
            entry("GET", f"Patient/{kept}/_history/1", ifNoneMatch='W/"1"'),
            entry("PUT", f"Patient/{kept}", patient(id=kept, gender="other"), ifMatch='W/"1"'),
            entry("DELETE", f"Patient/{gone}"),
        )
        assert statuses(response) == ["200 OK", "304 Not Modified", "200 OK", "204 No Content"]
        assert response["entry"][0]["resource"]["gender"] == "other", "reads come after writes"
        assert (await rest.system("GET", f"/Patient/{gone}")).status_code == 410

    async def test_two_writes_of_one_identity_fail_naming_both(self, rest: Rest) -> None:
        id_ = await rest.patient()
        outcome = await sent(
            rest,
            "transaction",
            entry("PUT", f"Patient/{id_}", patient(id=id_)),
            entry("DELETE", f"Patient/{id_}"),
            status=400,
        )
        said = outcome["issue"][0]["diagnostics"]
        assert "Bundle.entry[0]" in said
        assert "Bundle.entry[1]" in said
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'

    async def test_an_invalid_entry_is_named(self, rest: Rest) -> None:
        outcome = await sent(
            rest,
            "transaction",
            entry("POST", "Patient", patient()),
            entry("POST", "Patient", patient(gender="x")),
            status=400,
        )
        assert outcome["issue"][0]["expression"] == ["Bundle.entry[1].resource.gender"]

    async def test_a_rule_that_is_broken_names_the_entry(self, rest: Rest) -> None:
        plan = {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "734163000"}]}],
            "subject": {"reference": URN},
        }
        outcome = await sent(
            rest, "transaction", entry("POST", "Patient", patient(), URN), entry("POST", "CarePlan", plan), status=422
        )
        assert outcome["issue"][0]["expression"][0].startswith("Bundle.entry[1].resource")

    async def test_conditional_references_and_creates(self, rest: Rest) -> None:
        value = new_id()
        known = await rest.patient(identifier=[{"system": "urn:c", "value": value}])
        response = await sent(
            rest,
            "transaction",
            entry("POST", "Patient", patient(), URN, ifNoneExist=f"identifier=urn:c|{value}"),
            entry("POST", "Condition", condition(URN)),
            entry("POST", "Condition", condition(f"Patient?identifier=urn:c|{value}")),
            prefer="return=representation",
        )
        assert statuses(response) == ["200 OK", "201 Created", "201 Created"]
        assert {one["resource"]["subject"]["reference"] for one in response["entry"][1:]} == {f"Patient/{known}"}
        nothing = entry("POST", "Condition", condition("Patient?identifier=urn:c|nothing"))
        outcome = await sent(rest, "transaction", nothing, status=412)
        assert outcome["issue"][0]["expression"] == ["Bundle.entry[0].resource"]

    async def test_conditional_creates_race(self, rest: Rest) -> None:
        value = new_id()
        made = patient(identifier=[{"system": "urn:race", "value": value}])
        one = entry("POST", "Patient", made, ifNoneExist=f"identifier=urn:race|{value}")
        responses = await asyncio.gather(*(sent(rest, "transaction", one) for _ in range(8)))
        assert sorted(status for one in responses for status in statuses(one)) == ["200 OK"] * 7 + ["201 Created"]

    async def test_an_empty_one_and_other_kinds(self, rest: Rest) -> None:
        answer = await rest.system("POST", "", {"resourceType": "Bundle", "type": "transaction"})
        assert decode(answer.content) == {"resourceType": "Bundle", "type": "transaction-response"}
        for kind in ("collection", "searchset", "document"):
            assert (await rest.system("POST", "", {"resourceType": "Bundle", "type": kind})).status_code == 400
        assert (await rest.system("POST", "", patient())).status_code == 400

    async def test_a_real_one(self, rest: Rest, shared_data: Path) -> None:
        for name in ("hospitalInformation*.json", "practitionerInformation*.json", "Derek_*.json"):
            (path,) = (shared_data / "synthea").glob(name)
            answer = await rest.system("POST", "", path.read_bytes())
            assert answer.status_code == 200, answer.text[:500]
            response = decode(answer.content)
            assert set(statuses(response)) == {"201 Created"}
            check(response)


class TestBatch:
    async def test_entries_fail_alone(self, rest: Rest) -> None:
        known = await rest.patient()
        response = await sent(
            rest,
            "batch",
            entry("POST", "Patient", patient()),
            entry("POST", "Patient", patient(gender="x")),
            entry("GET", "Patient/nobody"),
            entry("PUT", f"Patient/{known}", patient(id=known), ifMatch='W/"9"'),
            {"request": {"method": "PATCH", "url": "Patient/x"}},
            entry("POST", "Condition", condition(f"Patient/{known}")),
            entry("GET", f"Patient/{known}"),
        )
        check(response)
        assert response["type"] == "batch-response"
        assert [status[:3] for status in statuses(response)] == ["201", "400", "404", "412", "400", "201", "200"]
        refusal = response["entry"][1]["response"]["outcome"]["issue"][0]
        assert refusal["expression"] == ["Patient.gender"]

    async def test_a_hundred_bad_ones_do_not_hide_a_good_one(self, rest: Rest) -> None:
        bad = [entry("POST", "Patient", patient(gender="x")) for _ in range(150)]
        response = await sent(rest, "batch", *bad, entry("POST", "Patient", patient()))
        assert statuses(response) == ["400 Bad Request"] * 150 + ["201 Created"]

    async def test_entries_that_write_one_identity_come_one_after_the_other(self, rest: Rest) -> None:
        id_ = await rest.patient()
        response = await sent(
            rest,
            "batch",
            entry("PUT", f"Patient/{id_}", patient(id=id_, gender="male")),
            entry("PUT", f"Patient/{id_}", patient(id=id_, gender="female")),
        )
        assert [one["response"]["etag"] for one in response["entry"]] == ['W/"2"', 'W/"3"']

    async def test_a_frame_that_is_broken_is_refused_whole(self, rest: Rest) -> None:
        for entries in ({"a": 1}, [1], [{"request": {"method": "FETCH", "url": "x"}}], [{}]):
            answer = await rest.system("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": entries})
            assert answer.status_code == 400


class TestDevices:
    async def test_readings_in_a_batch(self, rest: Rest) -> None:
        id_ = await rest.patient()
        device = await rest.device(id_)
        bad = pulse(id_, 2) | {"status": "bogus"}
        readings = [
            entry("POST", "Observation", one)
            for one in (pulse(id_, 1), pulse(id_, 1), bad, pulse("other", 3), pulse(id_, 4))
        ]
        answer = await device("POST", "", bundle("batch", *readings, entry("POST", "Patient", patient())))
        found = [status[:3] for status in statuses(decode(answer.content))]
        assert found == ["201", "200", "400", "422", "201", "403"]
        assert await rest.rows("SELECT count(*) FROM refusal WHERE device_id = %s", device.id) == [(2,)]
        assert await rest.rows("SELECT count(*) FROM reading WHERE patient_id = %s", id_) == [(2,)]

    async def test_readings_in_a_transaction(self, rest: Rest) -> None:
        id_ = await rest.patient()
        device = await rest.device(id_)
        good = [entry("POST", "Observation", pulse(id_, minute)) for minute in range(5)]
        first = await device("POST", "", bundle("transaction", *good))
        again = await device("POST", "", bundle("transaction", *good))
        assert set(statuses(decode(first.content))) == {"201 Created"}
        assert set(statuses(decode(again.content))) == {"200 OK"}
        refused = await device(
            "POST",
            "",
            bundle(
                "transaction", entry("POST", "Observation", pulse(id_, 9)), entry("POST", "Observation", pulse("x", 9))
            ),
        )
        assert refused.status_code == 422
        assert await rest.rows("SELECT count(*) FROM reading WHERE patient_id = %s", id_) == [(5,)]
        assert await rest.rows("SELECT count(*) FROM refusal WHERE device_id = %s", device.id) == [(1,)]


class TestOperations:
    """Operations that only look, as entries of a batch."""

    async def test_hazard_wrong_record_nobody_learns_more_than_by_asking_for_it_alone(self, rest: Rest) -> None:
        theirs = await rest.patient()
        await rest.system("POST", "/Observation", pulse(theirs, 1))
        asked = [entry("GET", f"Patient/{theirs}/$everything"), entry("GET", f"Observation/$lastn?patient={theirs}")]
        device = await rest.device(await rest.patient())
        for caller in (
            await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",)),
            await rest.user("patient", f"Patient/{await rest.patient()}"),
            await rest.user("operations", "Practitioner/operations"),
            device,
        ):
            answer = await caller("POST", "", bundle("batch", *asked))
            assert b"Archer" not in answer.content and b"8867-4" not in answer.content
            alone = [await caller("GET", "/" + one["request"]["url"]) for one in asked]
            codes = [int(one[:3]) for one in statuses(decode(answer.content))]
            assert codes == ([400, 400] if caller is device else [one.status_code for one in alone])
        assert (await rest.nobody("POST", "", bundle("batch", *asked))).status_code == 401

    async def test_they_see_what_the_other_entries_wrote(self, rest: Rest) -> None:
        id_ = new_id()
        answers = await sent(
            rest,
            "batch",
            entry("GET", f"Patient/{id_}/$everything"),
            entry("PUT", f"Patient/{id_}", patient(id=id_)),
            entry("GET", f"Patient/{id_}/$meta"),
            entry("GET", f"Patient/{new_id()}/$everything"),
            entry("GET", "Observation/$lastn?banana=1"),
        )
        assert [status[:3] for status in statuses(answers)] == ["200", "201", "200", "404", "400"]
        found = answers["entry"][0]["resource"]
        assert (found["type"], found["entry"][0]["resource"]["id"]) == ("searchset", id_)
        assert answers["entry"][2]["resource"]["resourceType"] == "Parameters"
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s ORDER BY seq", id_)
        assert [action for (action,) in rows] == ["create", "everything", "meta"]

    async def test_posted_with_parameters(self, rest: Rest) -> None:
        about = await rest.patient()
        await rest.system("POST", "/Observation", pulse(about, 2))
        said = {"resourceType": "Parameters", "parameter": [{"name": "patient", "valueString": f"Patient/{about}"}]}
        answers = await sent(rest, "batch", entry("POST", "Observation/$lastn", said))
        assert statuses(answers) == ["200 OK"]
        assert [one["resource"]["valueQuantity"]["value"] for one in answers["entry"][0]["resource"]["entry"]] == [70]

    @pytest.mark.parametrize(
        ("method", "url"),
        [("GET", "$export"), ("POST", "Patient/x/$meta-add"), ("GET", "$job/1"), ("GET", "Patient/x/$banana")],
    )
    async def test_what_changes_something_or_takes_its_time_is_asked_for_alone(
        self, rest: Rest, method: str, url: str
    ) -> None:
        carried = {"resourceType": "Parameters"} if method == "POST" else None
        answers = await sent(rest, "batch", entry(method, url, carried))
        assert statuses(answers)[0].startswith("400")

    async def test_not_in_a_transaction_and_not_without_end(self, rest: Rest) -> None:
        everything = entry("GET", f"Patient/{await rest.patient()}/$everything")
        await sent(rest, "transaction", everything, status=400)
        await sent(rest, "batch", *[everything] * 51, status=413)
