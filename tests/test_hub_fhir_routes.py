"""FHIR over HTTP: every interaction, its headers, and its refusals."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from psycopg import OperationalError, errors
from rest import Fresh, Rest, running

from fhir.store import new_id
from fhir.validation import check
from fhir.wire import decode, encode

JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def patient(**elements: Any) -> JSON:
    return {"resourceType": "Patient", "name": [{"family": "Frost", "given": ["Jo"]}], **elements}


def pulse(patient_id: str, value: str = "70", **elements: Any) -> bytes:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": "2026-11-20T09:30:00+00:00",
        **elements,
    }
    quantity = {"value": Decimal(value), "system": "http://unitsofmeasure.org", "code": "/min"}
    return encode(observation | {"valueQuantity": quantity})


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/Patient"),
            ("GET", "/Patient/x"),
            ("GET", "/Patient/x/_history"),
            ("GET", "/_history"),
            ("POST", "/Patient"),
            ("POST", ""),
            ("POST", "/Patient/_search"),
            ("PUT", "/Patient/x"),
            ("DELETE", "/Patient/x"),
        ],
    )
    async def test_nobody_who_has_not_signed_in(self, rest: Rest, method: str, path: str) -> None:
        response = await rest.nobody(method, path, b"{}" if method in ("POST", "PUT") else None)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")

    async def test_a_stranger_learns_nothing(self, rest: Rest) -> None:
        id_ = await rest.patient()
        stranger = await rest.user("clinician", "Practitioner/stranger")
        for path in (f"/Patient/{id_}", f"/Patient/{id_}/_history", f"/Patient/{id_}/_history/1"):
            assert (await stranger("GET", path)).status_code == 404
        assert "entry" not in decode((await stranger("GET", f"/Patient?_id={id_}")).content)
        assert id_ not in (await stranger("GET", "/Patient/_history")).text
        assert id_ not in (await stranger("GET", "/_history")).text
        assert (await stranger("PUT", f"/Patient/{id_}", patient(id=id_))).status_code in (403, 404)
        assert (await stranger("DELETE", f"/Patient/{id_}")).status_code in (403, 404)

    async def test_a_refused_attempt_stands_in_the_trail(self, rest: Rest) -> None:
        coach = await rest.user("health-coach", "Practitioner/coach")
        assert (await coach("POST", "/Organization", {"resourceType": "Organization", "name": "A"})).status_code == 403
        found = await rest.rows(
            "SELECT action, type FROM audit WHERE actor = 'Practitioner/coach' AND outcome = 'refused'"
        )
        assert found == [("create", "Organization")]

    async def test_reads_stand_in_the_trail_of_the_person(self, rest: Rest) -> None:
        id_ = await rest.patient()
        await rest.system("GET", f"/Patient/{id_}")
        await rest.system("GET", f"/Patient?_id={id_}")
        await rest.system("GET", f"/Patient/{id_}/_history")
        found = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", id_)
        assert sorted(found) == [("history",), ("read",), ("search",)]


class TestWriteAndRead:
    async def test_the_life_of_a_resource(self, rest: Rest) -> None:
        created = await rest.system("POST", "/Patient", patient(id="ignored"))
        assert created.status_code == 201
        assert created.headers["etag"] == 'W/"1"'
        body = decode(created.content)
        path = f"/Patient/{body['id']}"
        assert body["id"] != "ignored"
        assert created.headers["location"] == f"http://127.0.0.1/fhir{path}/_history/1"

        read = await rest.system("GET", path)
        assert read.content == created.content
        assert read.headers["last-modified"] == created.headers["last-modified"]

        updated = await rest.system("PUT", path, body | {"gender": "female"}, {"if-match": 'W/"1"'})
        assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"')
        stale = await rest.system("PUT", path, body | {"gender": "male"}, {"if-match": 'W/"1"'})
        assert stale.status_code == 412
        assert decode((await rest.system("GET", path)).content)["gender"] == "female"
        assert decode((await rest.system("GET", f"{path}/_history/1")).content) == body

        deleted = await rest.system("DELETE", path)
        assert (deleted.status_code, deleted.content) == (204, b"")
        gone = await rest.system("GET", path)
        assert (gone.status_code, gone.headers["etag"]) == (410, 'W/"3"')
        history = decode((await rest.system("GET", f"{path}/_history")).content)
        assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE", "PUT", "POST"]
        check(history)

        revived = await rest.system("PUT", path, body)
        assert (revived.status_code, revived.headers["etag"]) == (201, 'W/"4"')

    async def test_create_on_put(self, rest: Rest) -> None:
        id_ = new_id()
        made = await rest.system("PUT", f"/Patient/{id_}", patient(id=id_))
        assert made.status_code == 201
        assert made.headers["location"].endswith(f"/Patient/{id_}/_history/1")

    async def test_decimals_keep_their_written_precision(self, rest: Rest) -> None:
        id_ = await rest.patient()
        made = await rest.system("POST", "/Observation", pulse(id_, "71.50"))
        assert b'"value":71.50' in made.content
        assert b'"value":71.50' in (await rest.system("GET", f"/Observation/{decode(made.content)['id']}")).content

    @pytest.mark.parametrize(
        ("prefer", "expected"),
        [
            ("return=minimal", None),
            ("return=representation", "Patient"),
            ("return=OperationOutcome", "OperationOutcome"),
        ],
    )
    async def test_prefer(self, rest: Rest, prefer: str, expected: str | None) -> None:
        made = await rest.system("POST", "/Patient", patient(), {"prefer": prefer})
        assert made.status_code == 201
        assert (decode(made.content)["resourceType"] if made.content else None) == expected

    async def test_conditional_read(self, rest: Rest) -> None:
        id_ = await rest.patient()
        first = await rest.system("GET", f"/Patient/{id_}")
        for headers, status in [
            ({"if-none-match": 'W/"1"'}, 304),
            ({"if-none-match": '"7", W/"1"'}, 304),
            ({"if-none-match": 'W/"7"'}, 200),
            ({"if-modified-since": first.headers["last-modified"]}, 304),
            ({"if-modified-since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
            ({"if-modified-since": "no date"}, 200),
        ]:
            assert (await rest.system("GET", f"/Patient/{id_}", None, headers)).status_code == status, headers

    async def test_head_has_headers_only(self, rest: Rest) -> None:
        head = await rest.system("HEAD", f"/Patient/{await rest.patient()}")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", 'W/"1"')

    async def test_references_to_this_hub_become_relative(self, rest: Rest) -> None:
        """Hazard: a record about somebody, filed as if about nobody."""
        id_ = await rest.patient()
        absolute = {"subject": {"reference": f"http://127.0.0.1/fhir/Patient/{id_}"}}
        made = await rest.system("POST", "/Observation", pulse(id_, **absolute))
        assert decode(made.content)["subject"] == {"reference": f"Patient/{id_}"}


class TestConditionalCreate:
    def one(self, value: str) -> JSON:
        return {"resourceType": "Organization", "name": "A", "identifier": [{"system": "urn:test", "value": value}]}

    async def test_creates_once(self, rest: Rest) -> None:
        header = {"if-none-exist": "identifier=urn:test|once"}
        first = await rest.system("POST", "/Organization", self.one("once"), header)
        second = await rest.system("POST", "/Organization", self.one("once"), header)
        assert (first.status_code, second.status_code) == (201, 200)
        assert decode(first.content)["id"] == decode(second.content)["id"]
        assert second.headers["location"] == first.headers["location"]

    async def test_many_at_once_create_one(self, rest: Rest) -> None:
        header = {"if-none-exist": "identifier=urn:test|race"}
        answers = await asyncio.gather(
            *(rest.system("POST", "/Organization", self.one("race"), header) for _ in range(12))
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
        assert len({decode(answer.content)["id"] for answer in answers}) == 1

    async def test_several_matches_are_refused(self, rest: Rest) -> None:
        for _ in range(2):
            await rest.system("POST", "/Organization", self.one("twin"))
        answer = await rest.system(
            "POST", "/Organization", self.one("twin"), {"if-none-exist": "identifier=urn:test|twin"}
        )
        assert answer.status_code == 412

    @pytest.mark.parametrize("criteria", ["", "nonsense=1", "identifier=", "_sort=name"])
    async def test_criteria_that_choose_nothing_are_refused(self, rest: Rest, criteria: str) -> None:
        answer = await rest.system("POST", "/Organization", self.one("x"), {"if-none-exist": criteria})
        assert answer.status_code == 400


class TestSearch:
    async def test_get_and_post_find_the_same(self, rest: Rest) -> None:
        id_ = await rest.patient(identifier=[{"system": "urn:a", "value": "x+y"}])
        query = "identifier=urn%3Aa%7Cx%2By"
        got = await rest.system("GET", f"/Patient?{query}")
        form = {"content-type": "application/x-www-form-urlencoded"}
        posted = await rest.system("POST", "/Patient/_search", query.encode(), form)
        bundle = decode(got.content)
        assert [entry["resource"]["id"] for entry in bundle["entry"]] == [id_]
        assert decode(posted.content)["entry"] == bundle["entry"]
        assert bundle["entry"][0]["fullUrl"] == f"http://127.0.0.1/fhir/Patient/{id_}"
        check(bundle)

    async def test_pages_are_followed_by_their_link(self, rest: Rest) -> None:
        made = {await rest.patient(identifier=[{"system": "urn:page", "value": "all"}]) for _ in range(5)}
        path: str | None = "/Patient?identifier=urn:page|all&_count=2"
        found = []
        while path:
            bundle = decode((await rest.system("GET", path)).content)
            found += [entry["resource"]["id"] for entry in bundle["entry"]]
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            path = None
            if "next" in links:
                parts = urlsplit(links["next"])
                path = f"{parts.path.removeprefix('/fhir')}?{parts.query}"
        assert len(found) == 5
        assert set(found) == made

    @pytest.mark.parametrize(
        "query", ["gendre=male", "birthdate=lately", "_cursor=forged", "name=%00", "name=%ff", "_include=Patient:name"]
    )
    async def test_what_is_not_understood_is_refused(self, rest: Rest, query: str) -> None:
        assert (await rest.system("GET", f"/Patient?{query}")).status_code == 400

    async def test_the_compartment_of_a_person(self, rest: Rest) -> None:
        id_, other = await rest.patient(), await rest.patient()
        for one in (id_, other):
            await rest.system("POST", "/Observation", pulse(one))
        bundle = decode((await rest.system("GET", f"/Patient/{id_}/Observation")).content)
        assert [e["resource"]["subject"]["reference"] for e in bundle["entry"]] == [f"Patient/{id_}"]
        form = {"content-type": "application/x-www-form-urlencoded"}
        bundle = decode((await rest.system("GET", f"/Patient/{id_}/*?_type=Observation,Patient")).content)
        assert sorted(e["resource"]["resourceType"] for e in bundle["entry"]) == ["Observation", "Patient"]
        posted = await rest.system("POST", f"/Patient/{id_}/*/_search", b"_type=Patient", form)
        assert [e["resource"]["id"] for e in decode(posted.content)["entry"]] == [id_]

    async def test_the_compartments_of_an_encounter_and_of_a_related_person(self, rest: Rest) -> None:
        about = await rest.patient()
        carer = {"resourceType": "RelatedPerson", "patient": {"reference": f"Patient/{about}"}}
        carer_id = decode((await rest.system("POST", "/RelatedPerson", carer)).content)["id"]
        visit = {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH"},
            "subject": {"reference": f"Patient/{about}"},
            "participant": [{"individual": {"reference": f"RelatedPerson/{carer_id}"}}],
        }
        visit_id = decode((await rest.system("POST", "/Encounter", visit)).content)["id"]
        measured = decode(pulse(about)) | {
            "encounter": {"reference": f"Encounter/{visit_id}"},
            "performer": [{"reference": f"RelatedPerson/{carer_id}"}],
        }
        pulse_id = decode((await rest.system("POST", "/Observation", measured)).content)["id"]
        await rest.system("POST", "/Observation", pulse(about))

        async def inside(path: str) -> set[str]:
            found = decode((await rest.system("GET", path)).content)
            return {f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in found.get("entry", ())}

        both = {f"Encounter/{visit_id}", f"Observation/{pulse_id}"}
        assert await inside(f"/Encounter/{visit_id}/*") == both
        assert await inside(f"/Encounter/{visit_id}/Observation") == {f"Observation/{pulse_id}"}
        assert await inside(f"/RelatedPerson/{carer_id}/*") == {*both, f"RelatedPerson/{carer_id}"}
        assert await inside(f"/RelatedPerson/{carer_id}/Encounter?status=planned") == set()
        assert (await rest.system("GET", f"/Encounter/{visit_id}/Flag")).status_code == 404

    async def test_over_all_types(self, rest: Rest) -> None:
        id_ = await rest.patient()
        await rest.system("POST", "/Observation", pulse(id_))
        form = {"content-type": "application/x-www-form-urlencoded"}
        bundle = decode((await rest.system("GET", f"?_type=Observation,Patient&_id={id_}")).content)
        assert [entry["resource"]["id"] for entry in bundle["entry"]] == [id_]
        assert "/fhir?_type=Observation,Patient" in bundle["link"][0]["url"]
        posted = await rest.system("POST", "/_search", f"_id={id_}&_count=1".encode(), form)
        assert [entry["resource"]["id"] for entry in decode(posted.content)["entry"]] == [id_]

    async def test_a_lenient_client_is_told_what_was_not_understood(self, rest: Rest) -> None:
        id_ = await rest.patient()
        assert (await rest.system("GET", f"/Patient?_id={id_}&nmae=x")).status_code == 400
        prefer = {"prefer": "return=minimal; handling=lenient"}
        bundle = decode((await rest.system("GET", f"/Patient?_id={id_}&nmae=x", None, prefer)).content)
        assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "outcome"]
        assert bundle["entry"][1]["resource"]["issue"][0]["expression"] == ["Patient?nmae"]


class TestHistory:
    async def test_of_a_type_by_pages(self, rest: Rest) -> None:
        id_ = await rest.patient()
        for gender in ("male", "female", "other"):
            await rest.system("PUT", f"/Patient/{id_}", patient(id=id_, gender=gender))
        first = decode((await rest.system("GET", f"/Patient/{id_}/_history?_count=3")).content)
        assert [entry["resource"]["meta"]["versionId"] for entry in first["entry"]] == ["4", "3", "2"]
        parts = urlsplit({link["relation"]: link["url"] for link in first["link"]}["next"])
        rest_of_it = decode((await rest.system("GET", f"{parts.path.removeprefix('/fhir')}?{parts.query}")).content)
        assert [entry["resource"]["meta"]["versionId"] for entry in rest_of_it["entry"]] == ["1"]
        assert id_ in (await rest.system("GET", "/Patient/_history")).text
        assert id_ in (await rest.system("GET", "/_history")).text


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/Nothing", 404),
            ("GET", "/Evidence", 404),
            ("GET", "/$nothing", 404),
            ("GET", "/Patient/a/b/c/d", 404),
            ("GET", "/Patient/not%20an%20id", 404),
            ("GET", "/Patient/unknown", 404),
            ("GET", "/Patient/unknown/_history", 404),
            ("GET", "/Patient/unknown/_history/x", 404),
            ("GET", "/Patient/unknown/_history/99999999999999999999", 404),
            ("PUT", "", 405),
            ("GET", "/Patient/x/ValueSet", 404),
            ("GET", "/Organization/x/Patient", 404),
            ("PUT", "/Patient/x/*", 405),
            ("DELETE", "/Patient", 400),
            ("PUT", "/Patient/x/_history", 405),
            ("PATCH", "/_history", 405),
            ("POST", "/Patient/x", 405),
            ("POST", "/metadata", 405),
            ("OPTIONS", "/Patient", 405),
            ("GET", "/Patient/x?name=a", 400),
            ("DELETE", "/Patient/x?name=a", 400),
            ("GET", "/Patient?_format=html", 406),
        ],
    )
    async def test_paths_and_methods(self, rest: Rest, method: str, path: str, status: int) -> None:
        response = await rest.system(method, path)
        assert response.status_code == status
        if status == 405:
            assert response.headers["allow"]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"content-type": "application/xml; charset=utf-16"}, 415),
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "application/json; charset=utf-16"}, 415),
            ({"content-type": "application/fhir+json; fhirVersion=5.0"}, 415),
            ({"content-encoding": "br"}, 415),
            ({"accept": "text/html"}, 406),
            ({"accept": "application/fhir+json; q=0"}, 406),
            ({"content-type": "application/json; charset=UTF-8"}, 201),
            ({"content-type": "application/fhir+json; fhirVersion=4.0"}, 201),
            ({"accept": "text/html, application/xml;q=0.7, */*;q=0.8"}, 201),
        ],
    )
    async def test_media_types(self, rest: Rest, headers: dict[str, str], status: int) -> None:
        assert (await rest.system("POST", "/Patient", patient(), headers)).status_code == status

    @pytest.mark.parametrize("if_match", ["x", 'W/"x"', 'W/"1",'])
    async def test_versions_that_are_none(self, rest: Rest, if_match: str) -> None:
        id_ = await rest.patient()
        answer = await rest.system("PUT", f"/Patient/{id_}", patient(id=id_), {"if-match": if_match})
        assert answer.status_code == 400

    async def test_an_id_that_is_not_that_of_the_address(self, rest: Rest) -> None:
        for resource in (patient(id="other"), patient()):
            answer = await rest.system("PUT", "/Patient/x", resource)
            assert answer.status_code == 400
            assert decode(answer.content)["issue"][0]["expression"] == ["Patient.id"]

    async def test_says_where(self, rest: Rest) -> None:
        answer = await rest.system("POST", "/Patient", patient(gender="x", birthDate="soon"))
        issues = decode(answer.content)["issue"]
        assert sorted(issue["expression"][0] for issue in issues) == ["Patient.birthDate", "Patient.gender"]

    async def test_a_broken_rule_of_the_hub_is_422_and_says_why(self, rest: Rest) -> None:
        plan = {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "734163000"}]}],
            "subject": {"reference": f"Patient/{await rest.patient()}"},
        }
        answer = await rest.system("POST", "/CarePlan", plan)
        assert answer.status_code == 422
        assert "approv" in answer.text

    async def test_too_large(self, rest: Rest) -> None:
        answer = await rest.system("POST", "/Patient", b" " * (16 * 1024 * 1024 + 1))
        assert answer.status_code == 413


class TestTheDatabase:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (errors.DeadlockDetected(), 409, "conflict"),
            (errors.QueryCanceled(), 503, "too-costly"),
            (OperationalError("gone"), 503, "transient"),
            (RuntimeError("family name"), 500, "exception"),
        ],
    )
    async def test_what_goes_wrong_there_is_said_in_fhir(
        self, rest: Rest, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
    ) -> None:
        async def broken(*_: Any) -> None:
            raise error

        monkeypatch.setattr("hub.fhir_routes.authenticate", broken)
        answer = await rest.client.get("/fhir/Patient")
        assert answer.status_code == status
        assert [issue["code"] for issue in decode(answer.content)["issue"]] == [code]
        assert "family name" not in answer.text


class TestMetadata:
    async def test_tells_what_is_answered(self, rest: Rest) -> None:
        answer = await rest.nobody("GET", "/metadata")
        statement = decode(answer.content)
        check(statement)
        resources = {resource["type"]: resource for resource in statement["rest"][0]["resource"]}
        assert len(resources) == 126
        for type_ in ("Patient", "Observation", "CarePlan", "Binary"):
            for param in resources[type_]["searchParam"]:
                value = {"date": "2020", "reference": "Patient/x", "number": "1", "quantity": "1"}
                if param["type"] in ("composite", "special"):
                    continue  # tests/test_fhir_capability.py has values for them
                asked = await rest.system("GET", f"/{type_}?{param['name']}={value.get(param['type'], 'x')}&_count=1")
                assert asked.status_code == 200, (type_, param, asked.text)

    async def test_pretty(self, rest: Rest) -> None:
        assert "\n  " in (await rest.nobody("GET", "/metadata?_pretty=true")).text

    @pytest.mark.parametrize(("query", "status"), [("mode=full", 200), ("mode=terminology", 400), ("mod=full", 400)])
    async def test_modes(self, rest: Rest, query: str, status: int) -> None:
        assert (await rest.nobody("GET", f"/metadata?{query}")).status_code == status


class TestReadingsOfDevices:
    async def test_a_reading_sent_twice_is_stored_once(self, rest: Rest) -> None:
        id_ = await rest.patient()
        device = await rest.device(id_)
        first = await device("POST", "/Observation", pulse(id_))
        again = await device("POST", "/Observation", pulse(id_))
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.headers["location"] == again.headers["location"]
        assert decode(first.content)["device"] == {"reference": f"Device/{device.id}"}

    async def test_many_at_once(self, rest: Rest) -> None:
        id_ = await rest.patient()
        device = await rest.device(id_)
        answers = await asyncio.gather(
            *(
                device("POST", "/Observation", pulse(id_, effectiveDateTime=f"2026-11-20T10:{minute:02}:00Z"))
                for minute in range(40)
            )
        )
        assert {answer.status_code for answer in answers} == {201}
        assert (await rest.rows("SELECT count(*) FROM reading WHERE patient_id = %s", id_)) == [(40,)]

    async def test_what_is_refused_is_kept_with_the_reason(self, rest: Rest) -> None:
        """Hazard: a reading that is lost silently."""
        id_ = await rest.patient()
        device = await rest.device(id_)
        for body in (b"{broken", pulse(id_, status="bogus"), pulse(await rest.patient())):
            assert (await device("POST", "/Observation", body)).status_code in (400, 422)
        assert await rest.rows("SELECT count(*) FROM refusal WHERE device_id = %s", device.id) == [(3,)]

    async def test_a_device_does_nothing_else(self, rest: Rest) -> None:
        id_ = await rest.patient()
        device = await rest.device(id_)
        assert (await device("GET", f"/Patient/{id_}")).status_code == 403
        assert (await device("POST", "/Patient", patient())).status_code == 403
        assert (await device("DELETE", f"/Patient/{id_}")).status_code == 403
