"""Open mHealth and CSV through `$ingest`: whose the readings are, and that they meet the rules of every other."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest import Caller, Rest, running

from fhir.store import Change
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
NOW = datetime.now(UTC).replace(microsecond=0)
OMH, OMH_LINES, CSV = "application/vnd.openmhealth+json", "application/vnd.openmhealth+ndjson", "text/csv"


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        yield rest


async def held(rest: Rest) -> tuple[str, Caller]:
    patient_id = await rest.patient()
    return patient_id, await rest.device(patient_id)


def saturation(value: object, ago: timedelta = timedelta(0), number: int = 1, unit: str = "%") -> JSON:
    return {
        "header": {
            "uuid": f"8a1d6a2e-1111-4222-8333-{number:012}",
            "schema_id": {"namespace": "omh", "name": "oxygen-saturation", "version": "2.0"},
        },
        "body": {
            "oxygen_saturation": {"value": value, "unit": unit},
            "effective_time_frame": {"date_time": (NOW - ago).isoformat()},
        },
    }


async def ingest(caller: Caller, body: bytes | str, media: str) -> JSON:
    raw = body if isinstance(body, bytes) else body.encode()
    answer = await caller("POST", "/$ingest", raw, {"content-type": media})
    assert answer.status_code == 200, answer.text
    return decode(answer.content)


def counts(answer: JSON) -> dict[str, int]:
    return {one["name"]: one["valueInteger"] for one in answer["parameter"] if one.get("valueInteger")}


def refused(answer: JSON) -> list[tuple[int, str]]:
    parts = [one["part"] for one in answer["parameter"] if one["name"] == "refused-line"]
    return [(line["valuePositiveInt"], outcome["resource"]["issue"][0]["expression"][0]) for line, outcome in parts]


class TestOpenMHealth:
    async def test_a_data_point_is_evaluated_and_known_when_it_comes_again(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        low = json.dumps(saturation(85))
        assert counts(await ingest(device, low, OMH)) == {"accepted": 1}
        assert counts(await ingest(device, low, OMH)) == {"duplicate": 1}
        assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(85.0,)]
        assert await rest.rows("SELECT severity FROM flag WHERE patient_id = %s AND state = 'open'", patient_id) == [
            (3,)
        ]

    async def test_each_of_many_stands_alone_and_what_is_refused_is_filed_as_it_came(self, rest: Rest) -> None:
        _, device = await held(rest)
        unknown = saturation(97, number=3)
        unknown["header"]["schema_id"]["name"] = "sleep-episode"
        points = [saturation(97, number=1), saturation(97, number=2, unit="pct"), unknown, saturation(11, number=4)]
        points[3]["body"]["effective_time_frame"]["date_time"] = (NOW + timedelta(hours=3)).isoformat()
        found = await ingest(device, json.dumps(points), OMH)
        assert counts(found) == {"accepted": 1, "refused": 3}
        assert refused(found) == [
            (2, "body.oxygen_saturation.unit"), (3, "header.schema_id"), (4, "Observation.effective"),
        ]  # fmt: skip
        filed = await rest.rows("SELECT reason, raw FROM refusal WHERE device_id = %s ORDER BY reason", device.id)
        assert [reason for reason, _ in filed] == ["future-time", "unknown-schema", "wrong-unit"]
        assert decode(bytes(filed[1][1]))["header"]["schema_id"]["name"] == "sleep-episode"

    async def test_lines(self, rest: Rest) -> None:
        _, device = await held(rest)
        lines = "\n".join([json.dumps(saturation(96, number=5)), "{", json.dumps(saturation(96, number=6)), ""])
        found = await ingest(device, lines, OMH_LINES)
        assert counts(found) == {"accepted": 2, "refused": 1}
        assert [line for line, _ in refused(found)] == [2]

    async def test_device_swapped_between_household_members_each_has_their_own_time(self, rest: Rest) -> None:
        """It names nobody: the reading is theirs who held the device when it was measured."""
        first, device = await held(rest)
        second = await rest.patient()
        rows = await rest.rows("SELECT body FROM resource_version WHERE type = 'Device' AND id = %s", device.id)
        resource = decode(rows[0][0].encode())
        resource["patient"] = {"reference": f"Patient/{second}"}
        async with rest.database.transaction() as tx:
            await flows.write(tx, IMPORTER, [Change("update", "Device", device.id, resource)])
        points = [saturation(95, timedelta(days=2), 7), saturation(96, timedelta(0), 8)]
        points[1]["body"]["effective_time_frame"]["date_time"] = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
        assert counts(await ingest(device, json.dumps(points), OMH)) == {"accepted": 2, "doubtful": 1}
        assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s", first) == [(95.0,)]
        assert await rest.rows("SELECT value FROM reading WHERE patient_id = %s", second) == [(96.0,)]

    async def test_a_device_that_nobody_holds_is_refused(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        async with rest.database.transaction() as tx:
            change = Change(
                "update", "Device", device.id, {"resourceType": "Device", "id": device.id, "status": "active"}
            )
            await flows.write(tx, IMPORTER, [change])
        late = saturation(97, number=9)
        late["body"]["effective_time_frame"]["date_time"] = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
        assert counts(await ingest(device, json.dumps(late), OMH)) == {"refused": 1}
        assert await rest.rows("SELECT reason FROM refusal WHERE device_id = %s", device.id) == [("unassigned-device",)]
        assert await rest.rows("SELECT 1 FROM reading WHERE patient_id = %s", patient_id) == []

    async def test_whoever_is_no_device_sends_bundles(self, rest: Rest) -> None:
        for caller, status in (
            (rest.nobody, 401),
            (rest.system, 403),
            (await rest.user("health-coach", "Practitioner/c"), 403),
        ):
            answer = await caller("POST", "/$ingest", b"[]", {"content-type": OMH})
            assert answer.status_code == status

    async def test_a_body_that_is_none_is_refused_whole(self, rest: Rest) -> None:
        _, device = await held(rest)
        for body, media, status in ((b"{", OMH, 400), (b"a,b", CSV, 422), (b"x", "text/plain", 415)):
            answer = await device("POST", "/$ingest", body, {"content-type": media})
            assert answer.status_code == status, answer.text


class TestCsv:
    async def test_an_export_is_stored_once(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        at = (NOW - timedelta(hours=1)).isoformat()
        rows = [f"{at},glucose,3.1,mmol/L", f"{at},weight,70,kg", f"{at},weight,12,furlong", "soon,pulse,70,bpm"]
        raw = "\n".join(["time,measure,value,unit", *rows])
        found = await ingest(device, raw, CSV)
        assert counts(found) == {"accepted": 2, "refused": 2}
        assert refused(found) == [(4, "unit"), (5, "time")]
        assert counts(await ingest(device, raw, CSV)) == {"duplicate": 2, "refused": 2}
        found_ = await rest.rows("SELECT measure, value FROM reading WHERE patient_id = %s ORDER BY 1", patient_id)
        assert found_ == [("glucose", 3.1), ("weight", 70.0)]

    async def test_lines_that_are_no_readings_are_counted_and_kept_nowhere(self, rest: Rest) -> None:
        _, device = await held(rest)
        head = "Timestamp,Event Type,Source Device ID,Glucose Value (mg/dL)"
        raw = f"{head}\n,FirstName,Joe,\n{NOW.isoformat()},EGV,G6,120"
        assert counts(await ingest(device, raw, CSV)) == {"accepted": 1, "aside": 1}
        assert await rest.rows("SELECT 1 FROM refusal WHERE device_id = %s", device.id) == []


MDC = "urn:iso:std:iso:11073:10101"


def phd(patient_id: str, code: str, at: datetime = NOW, identifier: str | None = None, **value: Any) -> JSON:
    """As the examples of HL7's PHD guide: MDC codes, their category and gateway, an identifier without system."""
    gateway = {"url": "http://hl7.org/fhir/StructureDefinition/observation-gatewayDevice"}
    known = {"identifier": [{"value": identifier}]} if identifier else {}
    return {
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/uv/phd/StructureDefinition/PhdNumericObservation"]},
        "extension": [gateway | {"valueReference": {"reference": "Device/phg-ecde3d4e58532d31.000000000000"}}],
        "status": "final",
        **known,
        "category": [
            {
                "coding": [
                    {
                        "system": "http://hl7.org/fhir/uv/phd/CodeSystem/PhdObservationCategories",
                        "code": "phd-observation",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": MDC, "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat(),
        **value,
    }


def quantity(value: float, unit: str) -> JSON:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


class TestPhd:
    async def test_a_conditional_create_on_its_own_identifier_is_a_resend(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        own = f"74E8FFFEFF051C00-{patient_id}-149530-20181113175902.00-48.0-2720-150588"
        spot = {
            "code": {"coding": [{"system": MDC, "code": "68193"}]},
            "valueCodeableConcept": {"coding": [{"system": MDC, "code": "150588"}]},
        }
        pulse = phd(patient_id, "149530", identifier=own, valueQuantity=quantity(48, "/min"), component=[spot])
        answers = []
        for criteria in (own, f"|{own}", f"Observation?identifier={own}"):
            header = {"if-none-exist": criteria if "?" in criteria else f"identifier={criteria}"}
            answers.append(await device("POST", "/Observation", pulse, header))
        assert [one.status_code for one in answers] == [201, 200, 200]
        assert len({one.headers["location"] for one in answers}) == 1
        # How it was found is no part that a rule would have to look at.
        assert "carehub-doubt" not in answers[0].headers
        assert await rest.rows("SELECT measure, value FROM reading WHERE patient_id = %s", patient_id) == [
            ("pulse", 48.0)
        ]
        other = pulse | {"valueQuantity": quantity(49, "/min")}
        again = await device("POST", "/Observation", other, {"if-none-exist": f"identifier={own}"})
        assert again.status_code == 409

    async def test_in_batch_and_transaction(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for kind, ago in (("batch", 1), ("transaction", 2)):
            own = f"cuff-{patient_id}-{ago}"
            at = NOW - timedelta(minutes=ago)
            component = [
                {"code": {"coding": [{"system": MDC, "code": code}]}, "valueQuantity": quantity(value, "mm[Hg]")}
                for code, value in (("150021", 131), ("150022", 79))
            ]
            pressure = phd(patient_id, "150020", at, own, component=component)
            request = {"method": "POST", "url": "Observation", "ifNoneExist": f"identifier={own}"}
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [{"request": request, "resource": pressure}]}
            found = [decode((await device("POST", "", bundle)).content) for _ in range(2)]
            assert [one["entry"][0]["response"]["status"][:3] for one in found] == ["201", "200"], found
        values = await rest.rows("SELECT measure, value FROM reading WHERE patient_id = %s ORDER BY 1", patient_id)
        assert values == [("diastolic", 79.0)] * 2 + [("systolic", 131.0)] * 2

    async def test_a_device_searches_nothing_by_it(self, rest: Rest) -> None:
        """Nothing that it may say tells it whether somebody else's record is there."""
        patient_id, device = await held(rest)
        secret = await rest.patient(identifier=[{"system": "urn:c", "value": "known"}])
        reading = phd(patient_id, "149530", identifier="a", valueQuantity=quantity(60, "/min"))
        told = []
        for criteria in (
            f"subject=Patient/{secret}",
            "identifier=urn:c|known",
            "identifier=urn:c|unknown",
            "identifier=",
        ):
            answer = await device("POST", "/Observation", reading, {"if-none-exist": criteria})
            told.append(answer.status_code)
        assert set(told) == {403}
        assert await rest.rows("SELECT 1 FROM reading WHERE patient_id = %s", patient_id) == []

    async def test_a_coincident_time_stamp_is_a_record_and_no_reading(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        stamp = phd(patient_id, "67975", valueDateTime=(NOW - timedelta(seconds=1)).isoformat())
        answer = await device("POST", "/Observation", stamp)
        assert answer.status_code == 201 and answer.headers["carehub-doubt"] == "no-reading"
