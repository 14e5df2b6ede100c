"""Conditional writes over HTTP: criteria instead of an id, preconditions, and what they must not tell."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
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
    return {"resourceType": "Patient", "name": [{"family": "Frost"}], **elements}


def known_by(value: str) -> list[JSON]:
    return [{"system": "urn:c", "value": value}]


def bundle(kind: str, *entries: JSON) -> JSON:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method: str, url: str, resource: JSON | None = None, **request: Any) -> JSON:
    return {"request": {"method": method, "url": url, **request}} | ({"resource": resource} if resource else {})


def reason(answer: Any) -> str:
    return str(decode(answer.content)["issue"][0]["diagnostics"])


class TestUpdate:
    async def test_of_nothing_creates_and_of_one_updates(self, rest: Rest) -> None:
        value = new_id()
        path = f"/Patient?identifier=urn:c|{value}"
        created = await rest.system("PUT", path, patient(identifier=known_by(value)))
        assert (created.status_code, created.headers["etag"]) == (201, 'W/"1"')
        id_ = decode(created.content)["id"]
        assert created.headers["location"].endswith(f"/Patient/{id_}/_history/1")
        updated = await rest.system("PUT", path, patient(identifier=known_by(value), gender="other"))
        assert (updated.status_code, updated.headers["etag"], decode(updated.content)["id"]) == (200, 'W/"2"', id_)
        assert "location" not in updated.headers
        same = await rest.system("PUT", path, patient(id=id_, identifier=known_by(value), gender="other"))
        assert (same.status_code, same.headers["etag"]) == (200, 'W/"2"'), "what says the same makes no version"

    async def test_under_the_id_of_the_resource(self, rest: Rest) -> None:
        value, id_ = new_id(), new_id()
        path = f"/Patient?identifier=urn:c|{value}"
        created = await rest.system("PUT", path, patient(id=id_, identifier=known_by(value)))
        assert (created.status_code, decode(created.content)["id"]) == (201, id_)
        other = await rest.system("PUT", path, patient(id=new_id(), identifier=known_by(value)))
        assert other.status_code == 400
        assert decode(other.content)["issue"][0]["expression"] == ["Patient.id"]

    async def test_of_several_is_refused(self, rest: Rest) -> None:
        value = new_id()
        for _ in range(2):
            await rest.patient(identifier=known_by(value))
        for method, body in (("PUT", patient()), ("DELETE", None)):
            answer = await rest.system(method, f"/Patient?identifier=urn:c|{value}", body)
            assert answer.status_code == 412
            assert "more than one Patient" in reason(answer)
            assert decode(answer.content)["issue"][0]["expression"] == ["http.url"]
        assert len(decode((await rest.system("GET", f"/Patient?identifier=urn:c|{value}")).content)["entry"]) == 2

    @pytest.mark.parametrize("query", ["?nonsense=1", "?_count=1", "?name=", "?_sort=name", "?name:nonsense=x"])
    async def test_criteria_that_name_nothing_are_refused(self, rest: Rest, query: str) -> None:
        for method, body in (("PUT", patient()), ("DELETE", None)):
            answer = await rest.system(method, f"/Patient{query}", body, {"prefer": "handling=lenient"})
            assert answer.status_code == 400

    async def test_version_conditions_hold_for_what_criteria_name(self, rest: Rest) -> None:
        value = new_id()
        path = f"/Patient?identifier=urn:c|{value}"
        await rest.patient(identifier=known_by(value))
        body = patient(identifier=known_by(value), gender="male")
        assert (await rest.system("PUT", path, body, {"if-match": 'W/"7"'})).status_code == 412
        assert (await rest.system("PUT", path, body, {"if-none-match": "*"})).status_code == 412
        assert (await rest.system("PUT", path, body, {"if-match": 'W/"1"'})).status_code == 200
        gone = f"/Patient?identifier=urn:c|{new_id()}"
        assert (await rest.system("PUT", gone, patient(), {"if-match": 'W/"1"'})).status_code == 412
        assert (await rest.system("PUT", gone, patient(), {"if-match": "*"})).status_code == 412


class TestDelete:
    async def test_one_or_none_is_done(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=known_by(value))
        path = f"/Patient?identifier=urn:c|{value}"
        stale = await rest.system("DELETE", path, headers={"if-match": 'W/"4"'})
        assert stale.status_code == 412
        gone = await rest.system("DELETE", path)
        assert (gone.status_code, gone.headers["etag"]) == (204, 'W/"2"')
        assert (await rest.system("GET", f"/Patient/{id_}")).status_code == 410
        again = await rest.system("DELETE", path, headers={"prefer": "return=OperationOutcome"})
        assert (again.status_code, decode(again.content)["issue"][0]["severity"]) == (200, "information")

    async def test_never_a_whole_type(self, rest: Rest) -> None:
        await rest.patient()
        before = await rest.rows("SELECT count(*) FROM r_patient")
        assert (await rest.system("DELETE", "/Patient")).status_code == 400
        assert await rest.rows("SELECT count(*) FROM r_patient") == before

    async def test_who_may_not_delete_the_type_is_told_so_whether_anything_matches_or_not(self, rest: Rest) -> None:
        coach = await rest.user("health-coach", f"Practitioner/{new_id()}")
        assert (await coach("DELETE", "/Organization?name=nobody-is-called-so")).status_code == 403

    async def test_every_criteria_counts_whatever_its_kind(self, rest: Rest) -> None:
        id_ = await rest.patient()
        unit = {"unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        pulse = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/{id_}"},
            "effectiveDateTime": "2026-11-20T09:30:00Z",
            "valueQuantity": {"value": 70, **unit},
        }
        assert (await rest.system("POST", "/Observation", pulse)).status_code == 201
        about = f"/Observation?subject=Patient/{id_}&code=8867-4"
        for other in (
            "value-quantity=gt100",
            "date=lt2020",
            "code-value-quantity=8867-4$gt100",
            "_filter=status eq amended",
        ):
            await rest.system("DELETE", f"{about}&{other}")
            assert await rest.rows("SELECT count(*) FROM r_observation WHERE patient_id = %s", id_) == [(1,)], other
        assert (await rest.system("DELETE", f"{about}&value-quantity=lt100")).status_code == 204
        assert await rest.rows("SELECT count(*) FROM r_observation WHERE patient_id = %s", id_) == [(0,)]


class TestReferences:
    async def test_criteria_in_a_reference_are_resolved_outside_of_bundles_too(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=known_by(value))
        asthma = {"resourceType": "Condition", "code": {"text": "Asthma"}}
        about = asthma | {"subject": {"reference": f"Patient?identifier=urn:c|{value}"}}
        made = await rest.system("POST", "/Condition", about)
        assert decode(made.content)["subject"] == {"reference": f"Patient/{id_}"}
        path = f"/Condition/{decode(made.content)['id']}"
        assert (await rest.system("PUT", path, about | {"id": path.rpartition("/")[2]})).headers["etag"] == 'W/"1"'
        trail = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", id_)
        assert sorted(trail) == [("create",), ("search",), ("search",), ("update",)]
        nobody = asthma | {"subject": {"reference": f"Patient?identifier=urn:c|{new_id()}"}}
        answer = await rest.system("POST", "/Condition", nobody)
        assert answer.status_code == 412
        assert decode(answer.content)["issue"][0]["expression"] == ["Condition"]


class TestPreconditions:
    async def test_only_create(self, rest: Rest) -> None:
        id_ = new_id()
        only_new = {"if-none-match": "*"}
        assert (await rest.system("PUT", f"/Patient/{id_}", patient(id=id_), only_new)).status_code == 201
        again = await rest.system("PUT", f"/Patient/{id_}", patient(id=id_, gender="male"), only_new)
        assert again.status_code == 412
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'
        await rest.system("DELETE", f"/Patient/{id_}")
        assert (await rest.system("PUT", f"/Patient/{id_}", patient(id=id_), only_new)).status_code == 201

    async def test_only_create_at_the_same_moment(self, rest: Rest) -> None:
        id_ = new_id()
        answers = await asyncio.gather(
            *(
                rest.system(
                    "PUT", f"/Patient/{id_}", patient(id=id_, name=[{"family": f"F{n}"}]), {"if-none-match": "*"}
                )
                for n in range(8)
            )
        )
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [201, *[412] * 7]

    async def test_only_change(self, rest: Rest) -> None:
        id_ = await rest.patient()
        assert (await rest.system("PUT", f"/Patient/{id_}", patient(id=id_), {"if-match": "*"})).status_code == 200
        new = new_id()
        answer = await rest.system("PUT", f"/Patient/{new}", patient(id=new), {"if-match": "*"})
        assert answer.status_code == 412
        assert decode(answer.content)["issue"][0]["expression"] == ["http.If-Match"]
        assert (await rest.system("DELETE", f"/Patient/{new}", headers={"if-match": "*"})).status_code == 412
        assert (await rest.system("DELETE", f"/Patient/{id_}", headers={"if-match": "*"})).status_code == 204

    async def test_one_of_several_versions(self, rest: Rest) -> None:
        id_ = await rest.patient()
        either = {"if-match": 'W/"1", "2"'}
        for gender, status in (("male", 200), ("other", 200), ("female", 412)):
            answer = await rest.system("PUT", f"/Patient/{id_}", patient(id=id_, gender=gender), either)
            assert answer.status_code == status
        assert "not at version 1 or 2" in decode(answer.content)["issue"][0]["diagnostics"]
        operations = encode([{"op": "replace", "path": "/gender", "value": "male"}])
        media = {"content-type": "application/json-patch+json"}
        assert (await rest.system("PATCH", f"/Patient/{id_}", operations, {**media, **either})).status_code == 412
        either = {"if-match": 'W/"7", W/"3"'}
        assert (await rest.system("PATCH", f"/Patient/{id_}", operations, {**media, **either})).status_code == 200
        assert (await rest.system("DELETE", f"/Patient/{id_}", headers={"if-match": 'W/"4",'})).status_code == 400

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("PUT", {"if-none-match": 'W/"1"'}),
            ("PUT", {"if-none-exist": "name=x"}),
            ("DELETE", {"if-none-match": "*"}),
        ],
    )
    async def test_a_condition_that_means_nothing_is_refused(
        self, rest: Rest, method: str, headers: dict[str, str]
    ) -> None:
        id_ = await rest.patient()
        body = patient(id=id_) if method == "PUT" else None
        assert (await rest.system(method, f"/Patient/{id_}", body, headers)).status_code == 400

    async def test_reads(self, rest: Rest) -> None:
        id_ = await rest.patient()
        first = await rest.system("GET", f"/Patient/{id_}")
        for headers in (
            {"if-none-match": first.headers["etag"]},
            {"if-none-match": '"9", W/"1"'},
            {"if-none-match": "*"},
            {"if-modified-since": first.headers["last-modified"]},
        ):
            answer = await rest.system("GET", f"/Patient/{id_}", headers=headers)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == 'W/"1"'
        for headers in (
            {"if-none-match": 'W/"2"'},
            {"if-modified-since": "Sat, 01 Jan 2000 00:00:00 GMT"},
            {"if-modified-since": "nonsense"},
            {"if-none-match": 'W/"2"', "if-modified-since": first.headers["last-modified"]},
        ):
            assert (await rest.system("GET", f"/Patient/{id_}", headers=headers)).status_code == 200


class TestBundles:
    async def test_criteria_in_a_transaction(self, rest: Rest) -> None:
        value, gone = new_id(), new_id()
        known = await rest.patient(identifier=known_by(value))
        await rest.patient(identifier=known_by(gone))
        urn = f"urn:uuid:{new_id()}"
        put = entry("PUT", f"Patient?identifier=urn:c|{value}", patient(identifier=known_by(value), gender="male"))
        condition = {"resourceType": "Condition", "subject": {"reference": urn}, "code": {"text": "Asthma"}}
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "transaction",
                put | {"fullUrl": urn},
                entry("POST", "Condition", condition),
                entry("DELETE", f"Patient?identifier=urn:c|{gone}"),
                entry("DELETE", f"Patient?identifier=urn:c|{new_id()}"),
            ),
            {"prefer": "return=representation"},
        )
        response = decode(answer.content)
        check(response)
        statuses = [one["response"]["status"] for one in response["entry"]]
        assert statuses == ["200 OK", "201 Created", "204 No Content", "204 No Content"]
        assert response["entry"][0]["response"]["etag"] == 'W/"2"'
        assert response["entry"][1]["resource"]["subject"] == {"reference": f"Patient/{known}"}

    async def test_two_entries_that_mean_one_resource_fail_it_naming_both(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=[*known_by(value), {"system": "urn:d", "value": value}])
        by_c = entry("PUT", f"Patient?identifier=urn:c|{value}", patient())
        for other in (
            entry("PUT", f"Patient/{id_}", patient(id=id_)),
            entry("DELETE", f"Patient?identifier=urn:d|{value}"),
            entry("POST", "Patient", patient(), ifNoneExist=f"identifier=urn:d|{value}"),
        ):
            answer = await rest.system("POST", "", bundle("transaction", by_c, other))
            assert answer.status_code == 400
            assert "Bundle.entry[0]" in reason(answer)
            assert "Bundle.entry[1]" in reason(answer)
        assert (await rest.system("GET", f"/Patient/{id_}")).headers["etag"] == 'W/"1"'

    async def test_a_transaction_that_would_make_two_that_meet_one_criteria_is_refused(self, rest: Rest) -> None:
        value = new_id()
        both = [*known_by(value), {"system": "urn:d", "value": value}]
        first = entry("POST", "Patient", patient(identifier=both), ifNoneExist=f"identifier=urn:c|{value}")
        second = entry("POST", "Patient", patient(identifier=both), ifNoneExist=f"identifier=urn:d|{value}")
        answer = await rest.system("POST", "", bundle("transaction", first, second))
        assert answer.status_code == 412
        assert "Bundle.entry[0]" in reason(answer)
        assert "Bundle.entry[1]" in reason(answer)
        assert "entry" not in decode((await rest.system("GET", f"/Patient?identifier=urn:c|{value}")).content)

    async def test_conditions_of_entries(self, rest: Rest) -> None:
        id_ = await rest.patient()
        made = (await rest.system("GET", f"/Patient/{id_}")).headers["etag"]
        updated = decode((await rest.system("GET", f"/Patient/{id_}")).content)["meta"]["lastUpdated"]
        new = new_id()
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "batch",
                entry("PUT", f"Patient/{id_}", patient(id=id_), ifNoneMatch="*"),
                entry("PUT", f"Patient/{new}", patient(id=new), ifNoneMatch="*"),
                entry("PUT", f"Patient/{new_id()}", patient(id=new), ifMatch="*"),
                entry("DELETE", f"Patient/{id_}", ifMatch='W/"3"'),
                entry("GET", f"Patient/{id_}", ifNoneMatch=made),
                entry("GET", f"Patient/{id_}", ifModifiedSince=updated),
                entry("GET", f"Patient/{id_}", ifModifiedSince="2020-01-01T00:00:00Z"),
                entry("POST", "Patient", patient(), ifMatch='W/"1"'),
                entry("HEAD", f"Patient/{id_}"),
            ),
        )
        entries = decode(answer.content)["entry"]
        statuses = [one["response"]["status"][:3] for one in entries]
        assert statuses == ["412", "201", "400", "412", "304", "304", "200", "400", "200"]
        assert ["resource" in one for one in entries[4:]] == [False, False, True, False, False]

    async def test_looks_of_every_kind(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=known_by(value))
        base = "http://127.0.0.1/fhir"
        urls = (
            f"{base}/Patient?identifier=urn:c|{value}&_summary=count",
            f"Patient?identifier={'urn:c%7C' + value}&_elements=name&_count=1",
            f"Patient/{id_}/_history",
            "Patient/_history?_count=1",
            "_history?_count=1",
            f"Patient/{id_}/Observation?code=8867-4",
            f"?_type=Patient&_id={id_}",
            f"Patient/{id_}/*?_count=1",
            f"Patient/{id_}/_history/1",
        )
        answer = await rest.system("POST", "", bundle("transaction", *(entry("GET", url) for url in urls)))
        response = decode(answer.content)
        check(response)
        assert {one["response"]["status"] for one in response["entry"]} == {"200 OK"}
        shown = [one["resource"] for one in response["entry"]]
        assert [one.get("type") for one in shown[:8]] == [
            "searchset", "searchset", "history", "history", "history", "searchset", "searchset", "searchset",
        ]  # fmt: skip
        assert (shown[0]["total"], shown[1]["entry"][0]["resource"]["id"], shown[8]["id"]) == (1, id_, id_)
        found = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", id_)
        assert {("search",), ("history",), ("vread",)} <= set(found)

    async def test_entries_of_a_batch_under_one_criteria_come_one_after_the_other(self, rest: Rest) -> None:
        value, other = new_id(), new_id()
        both = [*known_by(value), {"system": "urn:d", "value": other}]
        made = patient(identifier=both)
        answer = await rest.system(
            "POST",
            "",
            bundle(
                "batch",
                entry("POST", "Patient", made, ifNoneExist=f"identifier=urn:c|{value}"),
                entry("POST", "Patient", made, ifNoneExist=f"identifier=urn:c|{value}"),
                entry("PUT", f"Patient?identifier=urn:d|{other}", made | {"gender": "male"}),
                entry("PATCH", f"Patient?identifier=urn:c|{value}", {"resourceType": "Parameters"}),
                entry("POST", "Patient", patient(gender="x"), ifNoneExist=f"identifier=urn:c|{new_id()}"),
                entry("GET", f"Patient?identifier=urn:c|{value}"),
            ),
        )
        entries = decode(answer.content)["entry"]
        statuses = [one["response"]["status"][:3] for one in entries]
        assert statuses == ["201", "200", "200", "200", "400", "200"]
        assert [one["resource"]["gender"] for one in entries[5]["resource"]["entry"]] == ["male"]

    async def test_too_much_is_refused_before_anything_is_done(self, rest: Rest) -> None:
        many = [entry("POST", "Patient", patient()) for _ in range(5001)]
        before = await rest.rows("SELECT count(*) FROM r_patient")
        for kind in ("batch", "transaction"):
            answer = await rest.system("POST", "", bundle(kind, *many))
            assert answer.status_code == 413
            assert decode(answer.content)["issue"][0]["code"] == "too-costly"
            looks = await rest.system("POST", "", bundle(kind, *[entry("GET", "Patient")] * 501))
            assert looks.status_code == 413
        assert await rest.rows("SELECT count(*) FROM r_patient") == before

    async def test_many_conditions_in_one_transaction(self, rest: Rest) -> None:
        value = new_id()
        entries = [
            entry(
                "POST",
                "Patient",
                patient(identifier=known_by(f"{value}-{n}")),
                ifNoneExist=f"identifier=urn:c|{value}-{n}",
            )
            for n in range(250)
        ]
        for wanted in ("201 Created", "200 OK"):
            answer = await rest.system("POST", "", bundle("transaction", *entries))
            assert {one["response"]["status"] for one in decode(answer.content)["entry"]} == {wanted}


class TestHeaders:
    async def test_criteria_in_a_header_are_utf8(self, rest: Rest) -> None:
        zoe = patient(identifier=known_by(new_id()), name=[{"family": f"Zoë-{new_id()}"}])
        headers: Any = {"if-none-exist": f"family={zoe['name'][0]['family']}".encode()}
        for status in (201, 200):
            assert (await rest.system("POST", "/Patient", zoe, headers)).status_code == status
        broken: Any = {"if-none-exist": b"family=\xe9"}
        assert (await rest.system("POST", "/Patient", zoe, broken)).status_code == 400


class TestRaces:
    async def test_parallel_updates_by_criteria_make_one(self, rest: Rest) -> None:
        value = new_id()

        async def put(number: int) -> int:
            body = patient(identifier=known_by(value), name=[{"family": f"F{number}"}])
            return (await rest.system("PUT", f"/Patient?identifier=urn:c|{value}", body)).status_code

        assert sorted(await asyncio.gather(*(put(number) for number in range(8)))) == [200] * 7 + [201]
        found = decode((await rest.system("GET", f"/Patient?identifier=urn:c|{value}")).content)["entry"]
        assert [one["resource"]["meta"]["versionId"] for one in found] == ["8"]

    async def test_batches_with_criteria_in_opposite_order_do_not_stop_each_other(self, rest: Rest) -> None:
        values = [new_id() for _ in range(6)]

        def creations(order: list[str]) -> JSON:
            made = [
                entry("POST", "Patient", patient(identifier=known_by(one)), ifNoneExist=f"identifier=urn:c|{one}")
                for one in order
            ]
            return bundle("batch", *made)

        answers = await asyncio.gather(
            *(rest.system("POST", "", creations(values[:: 1 if n % 2 else -1])) for n in range(6))
        )
        statuses = [one["response"]["status"] for answer in answers for one in decode(answer.content)["entry"]]
        assert sorted(statuses) == ["200 OK"] * 30 + ["201 Created"] * 6
