"""JSON or XML, as the caller asks: the same record, the same refusals."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from rest import Caller, Fresh, Rest, running

from fhir import xml_reading, xml_writing
from fhir.wire import decode, encode
from hub.fhir_formats import shape

FHIR_XML = "application/fhir+xml"
XML = {"content-type": FHIR_XML, "accept": FHIR_XML}
PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "Frost", "given": ["Jo"]}], "active": True}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


async def ask(caller: Caller, method: str, path: str, content: bytes | None = None, **headers: str) -> httpx.Response:
    """What *caller* is answered, in whatever format."""
    sent = caller._headers | {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller._client.request(method, f"/fhir{path}", content=content, headers=sent)


def issue(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == f"{FHIR_XML}; charset=utf-8"
    outcome = xml_reading.decode(answer.content)
    assert outcome["resourceType"] == "OperationOutcome"
    return dict(outcome["issue"][0])


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("accept", "xml"),
        [
            (None, False),
            ("*/*", False),
            ("application/*", False),
            ("application/fhir+json", False),
            ("application/json;fhirVersion=4.0", False),
            ("application/fhir+xml", True),
            ("APPLICATION/XML", True),
            ("text/xml; charset=utf-8", True),
            ("application/fhir+xml, application/fhir+json", True),
            ("application/fhir+json, application/fhir+xml", False),
            ("application/fhir+xml;q=0.8, application/fhir+json;q=0.9", False),
            ("application/fhir+xml;q=0.9, application/fhir+json;q=0.8", True),
            ("application/fhir+xml, */*", True),
            ("*/*, application/fhir+xml", True),
            ("*/*;q=0.9, application/fhir+xml;q=0.1", False),
            ("*/*, application/fhir+json;q=0", True),
            ("application/json;q=0.1, application/fhir+json;q=0, */*;q=0.05", False),
            ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", True),
            ("text/html, */*;q=0.8", False),
            ("application/fhir+xml;q=nonsense, application/fhir+json;q=0.1", False),
            ("application/fhir+xml; fhirVersion=5.0, application/json", False),
        ],
    )
    def test_by_the_accept_header(self, accept: str | None, xml: bool) -> None:
        assert shape([], accept)[1].xml is xml

    @pytest.mark.parametrize(
        "accept",
        [
            "text/html",
            "application/fhir+xml;q=0",
            "*/*;q=0",
            "application/fhir+json;fhirVersion=5.0",
            "application/fhir+turtle",
            "",
        ],
    )
    async def test_nothing_that_is_spoken_here(self, rest: Rest, accept: str) -> None:
        answer = await rest.nobody("GET", "/metadata", headers={"accept": accept})
        assert answer.status_code == 406
        assert "application/fhir+xml" in answer.text

    @pytest.mark.parametrize("name", ["xml", "text/xml", "application/xml", "application/fhir+xml"])
    async def test_format_overrules_accept(self, rest: Rest, name: str) -> None:
        for written in (quote(name, safe=""), name):
            answer = await ask(rest.system, "GET", f"/Patient?_format={written}&_count=1", accept="application/json")
            assert answer.headers["content-type"] == f"{FHIR_XML}; charset=utf-8"
            assert xml_reading.decode(answer.content)["type"] == "searchset"
        json = await ask(rest.system, "GET", "/Patient?_format=json&_count=1", accept=FHIR_XML)
        assert decode(json.content)["type"] == "searchset"

    @pytest.mark.parametrize("name", ["html", "application/fhir+xml;fhirVersion=5.0", "ttl", ""])
    async def test_a_format_that_is_not_spoken(self, rest: Rest, name: str) -> None:
        answer = await rest.nobody("GET", f"/metadata?_format={quote(name, safe='')}")
        assert answer.status_code == 406

    async def test_pretty(self, rest: Rest) -> None:
        for accept in (FHIR_XML, "application/fhir+json"):
            plain = await ask(rest.nobody, "GET", "/metadata", accept=accept)
            pretty = await ask(rest.nobody, "GET", "/metadata?_pretty=true", accept=accept)
            assert plain.text.count("\n") <= 1
            assert pretty.text.count("\n  ") > 1000
            assert plain.headers["vary"] == "Accept"

    async def test_the_capability_statement_is_the_same_in_both(self, rest: Rest) -> None:
        json = await ask(rest.nobody, "GET", "/metadata")
        xml = await ask(rest.nobody, "GET", "/metadata", accept=FHIR_XML)
        assert xml_reading.decode(xml.content) == decode(json.content)


class TestInteractions:
    async def test_what_is_written_in_xml_is_the_same_record_in_json(self, rest: Rest) -> None:
        made = await ask(rest.system, "POST", "/Patient", xml_writing.encode(PATIENT), **XML)
        assert made.status_code == 201
        id_ = xml_reading.decode(made.content)["id"]
        read = await ask(rest.system, "GET", f"/Patient/{id_}", accept=FHIR_XML)
        assert read.content == made.content
        assert read.headers["etag"] == 'W/"1"'
        stored = decode((await rest.system("GET", f"/Patient/{id_}")).content)
        assert stored == xml_reading.decode(read.content)
        assert {name: stored[name] for name in PATIENT} == PATIENT
        changed = await ask(
            rest.system, "PUT", f"/Patient/{id_}", xml_writing.encode(stored | {"gender": "female"}),
            if_match='W/"1"', **XML,
        )  # fmt: skip
        assert changed.headers["etag"] == 'W/"2"'
        history = await ask(rest.system, "GET", f"/Patient/{id_}/_history", accept=FHIR_XML)
        assert len(xml_reading.decode(history.content)["entry"]) == 2
        head = await ask(rest.system, "HEAD", f"/Patient/{id_}", accept=FHIR_XML)
        assert head.headers["content-type"].startswith(FHIR_XML)
        assert head.content == b""

    async def test_a_record_as_deep_as_may_be_is_shown_in_a_bundle(self, rest: Rest) -> None:
        extension: dict[str, Any] = {"url": "urn:x", "valueDecimal": Decimal("1.50")}
        for _ in range(29):
            extension = {"url": "urn:x", "extension": [extension]}
        made = await rest.system(
            "POST", "/Basic", {"resourceType": "Basic", "code": {"text": "x"}, "extension": [extension]}
        )
        assert made.status_code == 201
        id_ = decode(made.content)["id"]
        for path in (f"/Basic/{id_}", f"/Basic?_id={id_}"):
            answer = await ask(rest.system, "GET", path, accept=FHIR_XML)
            assert answer.status_code == 200
            assert b'<valueDecimal value="1.50"/>' in answer.content

    async def test_a_posted_search_says_its_format_in_the_form(self, rest: Rest) -> None:
        form = {"content_type": "application/x-www-form-urlencoded"}
        answer = await ask(rest.system, "POST", "/Patient/_search", b"_format=xml&_count=1", **form)
        assert xml_reading.decode(answer.content)["type"] == "searchset"
        answer = await ask(rest.system, "POST", "/Patient/_search?_format=xml", b"_count=1", **form)
        assert xml_reading.decode(answer.content)["type"] == "searchset"

    async def test_a_transaction(self, rest: Rest) -> None:
        entry = {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "resource": PATIENT,
                 "request": {"method": "POST", "url": "Patient"}}  # fmt: skip
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        answer = await ask(rest.system, "POST", "", xml_writing.encode(bundle), prefer="return=representation", **XML)
        made = xml_reading.decode(answer.content)
        assert made["entry"][0]["response"]["status"] == "201 Created"
        assert made["entry"][0]["resource"]["active"] is True


class TestWhoSees:
    """A format is no way round who may see what, nor past the trail."""

    async def test_nobody_sees_more_in_xml(self, rest: Rest) -> None:
        patient, other = await rest.patient(), await rest.patient()
        elsewhere = ("Organization/elsewhere",)
        strangers = [
            (await rest.user("care-coordinator", "Practitioner/elsewhere", elsewhere), 404),
            (await rest.user("patient", f"Patient/{other}"), 404),
            (await rest.device(other), 403),
            (rest.nobody, 401),
        ]
        for caller, status in strangers:
            for path in (f"/Patient/{patient}", f"/Patient/{patient}/_history"):
                answer = await ask(caller, "GET", path, accept=FHIR_XML)
                assert answer.status_code == status
                assert issue(answer)
            found = await ask(caller, "GET", f"/Patient?_id={patient}", accept=FHIR_XML)
            assert b"Archer" not in found.content

    async def test_what_is_read_in_xml_is_in_the_trail(self, rest: Rest) -> None:
        patient = await rest.patient()
        await ask(rest.system, "GET", f"/Patient/{patient}", accept=FHIR_XML)
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s ORDER BY action", patient)
        assert ("read",) in rows


class TestRefusals:
    async def test_are_said_in_the_format_asked_for(self, rest: Rest) -> None:
        accept = {"accept": FHIR_XML}
        assert issue(await ask(rest.nobody, "GET", "/Patient", **accept))["code"] == "login"
        assert issue(await ask(rest.system, "GET", "/Patient/none", **accept))["code"] == "not-found"
        assert issue(await ask(rest.system, "GET", "/Nothing", **accept))["code"] == "not-supported"
        assert issue(await ask(rest.system, "GET", "/Patient?nonsense=1&_format=xml"))["expression"]
        large = await ask(rest.system, "POST", "/Patient", b" " * (16 * 1024 * 1024 + 1), **XML)
        assert large.status_code == 413
        assert issue(large)["code"] == "too-long"

    async def test_malformed_xml_is_refused_with_line_and_column(self, rest: Rest) -> None:
        answer = await ask(rest.system, "POST", "/Patient", b"<Patient xmlns='http://hl7.org/fhir'>\n <name", **XML)
        assert answer.status_code == 400
        assert "line 2, column" in issue(answer)["diagnostics"]
        answer = await ask(rest.system, "POST", "/Patient", encode(PATIENT), **XML)
        assert answer.status_code == 400
        answer = await ask(rest.system, "POST", "/Patient", xml_writing.encode(PATIENT), content_type=FHIR_XML[:-3])
        assert answer.status_code == 415

    async def test_what_a_device_sends_as_xml_is_taken_or_kept_with_the_reason(self, rest: Rest) -> None:
        patient = await rest.patient()
        device = await rest.device(patient)
        reading = {
            "resourceType": "Observation", "status": "final", "effectiveDateTime": "2026-11-20T09:30:00+00:00",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/{patient}"},
            "valueQuantity": {"value": 70, "system": "http://unitsofmeasure.org", "code": "/min"},
        }  # fmt: skip
        assert (await ask(device, "POST", "/Observation", xml_writing.encode(reading), **XML)).status_code == 201
        answer = await ask(device, "POST", "/Observation", b"<Observation><value", **XML)
        assert answer.status_code == 400
        [(raw,)] = await rest.rows("SELECT raw FROM refusal WHERE device_id = %s", device.id)
        assert "<Observation><value" in str(raw)

    async def test_a_stream_of_readings_is_answered_in_the_format_asked_for(self, rest: Rest) -> None:
        device = await rest.device(await rest.patient())
        answer = await ask(
            device, "POST", "/$ingest?_pretty=true", b"{}\n", content_type="application/ndjson", accept=FHIR_XML
        )
        parameters = xml_reading.decode(answer.content)["parameter"]
        assert {one["name"]: one["valueInteger"] for one in parameters if "valueInteger" in one}["refused"] == 1
        assert parameters[-1]["part"][1]["resource"]["resourceType"] == "OperationOutcome"

    async def test_a_patch_is_read_as_xml_too(self, rest: Rest) -> None:
        path = {"type": ("Code", "add"), "path": ("String", "Patient"), "name": ("String", "active"),
                "value": ("Boolean", True)}  # fmt: skip
        parts = [{"name": name, f"value{kind}": value} for name, (kind, value) in path.items()]
        patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
        patient = await rest.patient()
        answer = await ask(rest.system, "PATCH", f"/Patient/{patient}", xml_writing.encode(patch), **XML)
        assert xml_reading.decode(answer.content)["active"] is True
