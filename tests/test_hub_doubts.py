"""Nobody may believe that a reading is watched when it is not: what the hub answers, at every door of a device."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from monitoring_cases import NOW as THEN
from monitoring_cases import reading
from msgspec.structs import replace
from rest import Caller, Rest, running

from fhir.wire import decode, encode
from monitoring.doubts import CODES, LATE_READING, NO_READING, TEST, doubts
from monitoring.evaluation import LATE
from monitoring.readings import CHECK, SANDBOX, WRONG

JSON = dict[str, Any]
NOW = datetime.now(UTC).replace(microsecond=0)
OUTCOME = {"prefer": "return=OperationOutcome"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        yield rest


def spo2(patient_id: str, value: float = 97, ago: timedelta = timedelta(0), code: str = "59408-5", **more: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": (NOW - ago).isoformat(),
        "valueQuantity": {"value": value, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        **more,
    }


async def held(rest: Rest) -> tuple[str, Caller]:
    patient_id = await rest.patient()
    return patient_id, await rest.device(patient_id)


def unwatched(patient_id: str) -> list[tuple[str | None, JSON]]:
    """The code of the doubt (None: the rules look at it) of each Observation."""
    return [
        (None, spo2(patient_id)),
        ("no-reading", spo2(patient_id, code="4548-4")),
        ("check-reading", spo2(patient_id, 20, timedelta(minutes=1))),
        ("late", spo2(patient_id, 85, timedelta(hours=25))),
    ]


class TestDoubts:
    def test_a_reading_that_is_evaluated_has_none(self) -> None:
        for ago in (timedelta(0), LATE):
            assert doubts({}, [reading("spo2", 91, ago)], THEN) == ()

    def test_each(self) -> None:
        one = reading("spo2", 20)
        assert doubts({}, [], THEN) == (NO_READING,)
        (found,) = doubts({}, [replace(one, quality=CHECK, why="Not believable.")], THEN)
        assert (found.code, found.text) == ("check-reading", "Not believable.")
        assert doubts({}, [replace(one, quality=SANDBOX)], THEN) == (TEST,)
        assert doubts({}, [replace(one, at=THEN - LATE - timedelta(seconds=1))], THEN) == (LATE_READING,)
        assert "24 hours" in LATE_READING.text

    def test_a_part_of_a_panel_that_nobody_knows_is_named(self) -> None:
        known = {"code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]}}
        index = {"code": {"coding": [{"system": "http://loinc.org", "code": "73798-2"}]}}
        air = {
            "code": {"text": "gas"},
            "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "722742002"}]},
        }
        found = [reading("spo2", 91)]
        assert doubts({"component": [known]}, found, THEN) == ()
        (part,) = doubts({"component": [known, index]}, found, THEN)
        assert (part.code, part.expression) == ("unknown-part", "Observation.component[1].code")
        assert doubts({"component": [known, air]}, found, THEN) == ()

    def test_what_is_called_wrong_by_its_sender_is_no_surprise_to_them(self) -> None:
        assert doubts({}, [replace(reading("spo2", 20), quality=WRONG, at=THEN - 2 * LATE)], THEN) == ()

    def test_each_is_a_warning_with_its_element(self) -> None:
        for found in (NO_READING, TEST, LATE_READING):
            issue = found.issue().as_json()
            assert issue["severity"] == "warning" and issue["code"] == CODES[found.code] and issue["expression"]


class TestHazardUnknownCode:
    async def test_hazard_false_reassurance_an_unknown_code_is_answered_as_such(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        sent = spo2(patient_id, code="4548-4")
        answer = await device("POST", "/Observation", sent, OUTCOME)
        assert answer.status_code == 201 and answer.headers["carehub-doubt"] == "no-reading"
        done, doubt = decode(answer.content)["issue"]
        assert done["severity"] == "information"
        assert doubt["severity"] == "warning" and "no rule looks at it" in doubt["diagnostics"]
        again = await device("POST", "/Observation", sent)
        assert (again.status_code, again.headers["carehub-doubt"]) == (200, "no-reading")

    async def test_a_reading_that_the_rules_look_at_has_no_header(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        answer = await device("POST", "/Observation", spo2(patient_id), OUTCOME)
        assert "carehub-doubt" not in answer.headers and len(decode(answer.content)["issue"]) == 1


class TestEveryDoor:
    async def test_singly(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for code, observation in unwatched(patient_id):
            answer = await device("POST", "/Observation", observation)
            assert answer.headers.get("carehub-doubt") == code
            assert decode(answer.content)["resourceType"] == "Observation"

    @pytest.mark.parametrize("kind", ["batch", "transaction"])
    async def test_in_a_bundle(self, rest: Rest, kind: str) -> None:
        patient_id, device = await held(rest)
        known = unwatched(patient_id)
        entries = [{"request": {"method": "POST", "url": "Observation"}, "resource": one} for _, one in known]
        for _ in range(2):  # a resend says it again
            answer = await device("POST", "", {"resourceType": "Bundle", "type": kind, "entry": entries})
            told = [one["response"].get("outcome") for one in decode(answer.content)["entry"]]
            assert [bool(one) for one in told] == [code is not None for code, _ in known]
            warned = [one["issue"][1] for one in told if one]
            assert all(one["severity"] == "warning" for one in warned)
            assert "believable range" in warned[1]["diagnostics"] and "24 hours ago" in warned[2]["diagnostics"]

    async def test_in_a_stream(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        lines = b"\n".join(encode(one) for _, one in unwatched(patient_id))
        ndjson = {"content-type": "application/fhir+ndjson"}
        for outcome in ("accepted", "duplicate"):
            told = decode((await device("POST", "/$ingest", lines, ndjson)).content)["parameter"]
            counts = {one["name"]: one["valueInteger"] for one in told if "valueInteger" in one}
            assert counts[outcome] == 4 and counts["doubtful"] == 3 and counts["refused"] == 0
            listed = [one["part"] for one in told if one["name"] == "doubtful-line"]
            assert [part[0]["valuePositiveInt"] for part in listed] == [2, 3, 4]
            assert [part[1]["resource"]["issue"][0]["severity"] for part in listed] == ["warning"] * 3

    async def test_a_test_reading_of_a_real_person(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        label = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
        answer = await device("POST", "/Observation", spo2(patient_id, 80, meta=label))
        assert answer.headers["carehub-doubt"] == "test"


class TestOwnAddress:
    async def test_the_person_may_be_named_with_this_hubs_own_address(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        own = {"reference": f"http://127.0.0.1/fhir/Patient/{patient_id}"}
        answer = await device("POST", "/Observation", spo2(patient_id, 88, subject=own))
        assert answer.status_code == 201 and "carehub-doubt" not in answer.headers
        assert decode(answer.content)["subject"] == {"reference": f"Patient/{patient_id}"}
        again = await device("POST", "/Observation", spo2(patient_id, 88))
        assert again.status_code == 200, "the same reading, however the person is named"
        assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(88.0,)]

    async def test_also_with_slashes_escaped_and_in_a_stream(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        own = {"reference": f"http://127.0.0.1/fhir/Patient/{patient_id}"}
        escaped = encode(spo2(patient_id, 88, subject=own)).replace(b"/", b"\\/")
        assert (await device("POST", "/Observation", escaped)).status_code == 201
        line = encode(spo2(patient_id, 89, timedelta(minutes=2), subject=own))
        told = decode((await device("POST", "/$ingest", line, {"content-type": "application/fhir+ndjson"})).content)
        assert told["parameter"][0] == {"name": "accepted", "valueInteger": 1}

    async def test_hazard_wrong_patient_another_hubs_person_is_refused(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for base in ("https://elsewhere.example/fhir", "http://127.0.0.1.evil.example/fhir", "http://127.0.0.1/fhirx"):
            other = spo2(patient_id, subject={"reference": f"{base}/Patient/{patient_id}"})
            assert (await device("POST", "/Observation", other)).status_code == 422


class TestMethod:
    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    async def test_ingest_is_posted_to(self, rest: Rest, method: str) -> None:
        answer = await rest.nobody(method, "/$ingest")
        assert answer.status_code == 405 and answer.headers["allow"] == "POST"
        assert "takes POST" in decode(answer.content)["issue"][0]["diagnostics"]


async def test_each_reading_names_its_own_request_though_they_share_a_commit(rest: Rest) -> None:
    patient_id = await rest.patient()
    device = await rest.device(patient_id)

    async def post(number: int) -> tuple[str, str]:
        body = spo2(patient_id, 97, timedelta(seconds=number))
        answer = await device("POST", "/Observation", body, {"x-request-id": f"own-{number}"})
        assert answer.status_code == 201
        return decode(answer.content)["id"], f"own-{number}"

    sent = dict(await asyncio.gather(*(post(number) for number in range(12))))
    named = "SELECT resource_id, request_id FROM audit WHERE type = 'Observation' AND resource_id = ANY(%s)"
    assert dict(await rest.rows(named, list(sent))) == sent
