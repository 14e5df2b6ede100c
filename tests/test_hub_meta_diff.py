"""`$meta`, `$meta-add`, `$meta-delete` and `$diff`: one resource's labels, and what changed between its versions."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.wire import decode

JSON = dict[str, Any]
TAG = {"system": "http://example.org/tags", "code": "seen"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def asked(**meta: Any) -> JSON:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


async def answered(caller: Caller, method: str, path: str, content: Any = None) -> JSON:
    response = await caller(method, path, content)
    assert response.status_code == 200, response.text
    return decode(response.content)


async def meta(caller: Caller, path: str, method: str = "GET", content: Any = None) -> JSON:
    [found] = (await answered(caller, method, path, content))["parameter"]
    assert found["name"] == "return"
    return dict(found["valueMeta"])


class TestMeta:
    async def test_added_and_taken_away_through_the_one_path(self, rest: Rest) -> None:
        person = await rest.patient(meta={"profile": ["http://example.org/p"]})
        added = await meta(rest.system, f"/Patient/{person}/$meta-add", "POST", asked(tag=[TAG]))
        assert added["tag"] == [TAG]
        assert added["profile"] == ["http://example.org/p"]
        assert added["versionId"] == "2"
        assert await meta(rest.system, f"/Patient/{person}/$meta") == added
        again = await meta(rest.system, f"/Patient/{person}/$meta-add", "POST", asked(tag=[TAG]))
        assert again["versionId"] == "2", "nothing was new"
        taken = asked(tag=[{**TAG, "display": "Seen"}], profile=["http://example.org/p"])
        gone = await meta(rest.system, f"/Patient/{person}/$meta-delete", "POST", taken)
        assert "tag" not in gone
        assert "profile" not in gone
        assert decode((await rest.system("GET", f"/Patient?_id={person}&_tag=seen")).content).get("entry") is None

    async def test_who_may_not_see_or_write_learns_and_changes_nothing(self, rest: Rest) -> None:
        person = await rest.patient()
        stranger = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        device = await rest.device(person)
        themselves = await rest.user("patient", f"Patient/{person}")
        for path in ("$meta", "$diff"):
            assert (await rest.nobody("GET", f"/Patient/{person}/{path}")).status_code == 401
            assert (await stranger("GET", f"/Patient/{person}/{path}")).status_code == 404
            assert (await device("GET", f"/Patient/{person}/{path}")).status_code == 403
        for path in ("$meta-add", "$meta-delete"):
            assert (await rest.nobody("POST", f"/Patient/{person}/{path}", asked(tag=[TAG]))).status_code == 401
            assert (await stranger("POST", f"/Patient/{person}/{path}", asked(tag=[TAG]))).status_code == 404
            assert (await device("POST", f"/Patient/{person}/{path}", asked(tag=[TAG]))).status_code == 403
        assert (await themselves("POST", f"/Patient/{person}/$meta-add", asked(tag=[TAG]))).status_code == 403
        assert (await meta(rest.system, f"/Patient/{person}/$meta"))["versionId"] == "1"

    async def test_what_is_missing_or_not_understood_is_named(self, rest: Rest) -> None:
        person = await rest.patient()
        path = f"/Patient/{person}/$meta-add"
        assert (await rest.system("POST", path, {"resourceType": "Parameters"})).status_code == 400
        assert (await rest.system("POST", path, asked(versionId="7"))).status_code == 400
        assert (await rest.system("POST", path, {"resourceType": "Patient"})).status_code == 400
        assert (await rest.system("GET", path)).status_code == 405
        assert "no parameter" in (await rest.system("GET", f"/Patient/{person}/$meta?x=1")).text


class TestDiff:
    async def test_the_last_change_and_any_two_versions(self, rest: Rest) -> None:
        person = await rest.patient()
        for date in ("1950-02-04", "1950-02-05"):
            resource = decode((await rest.system("GET", f"/Patient/{person}")).content)
            await rest.system("PUT", f"/Patient/{person}", {**resource, "birthDate": date})
        last = await answered(rest.system, "GET", f"/Patient/{person}/$diff")
        assert words(last) == ["Patient.birthDate: 1950-02-04 became 1950-02-05"]
        [operation] = [one for one in last["parameter"] if one["name"] == "operation"]
        assert {one["name"]: one for one in operation["part"]}["value"] == {"name": "value", "valueDate": "1950-02-05"}
        whole = await answered(rest.system, "GET", f"/Patient/{person}/$diff?fromVersion=1")
        assert words(whole) == ["Patient.birthDate: 1950-02-03 became 1950-02-05"]
        back = await answered(rest.system, "GET", f"/Patient/{person}/$diff?fromVersion=3&toVersion=1")
        assert words(back) == ["Patient.birthDate: 1950-02-05 became 1950-02-03"]
        with_meta = await answered(rest.system, "GET", f"/Patient/{person}/$diff?includeMeta=true")
        assert any("meta" in one for one in words(with_meta))

    async def test_two_resources_of_one_type(self, rest: Rest) -> None:
        one, other = await rest.patient(gender="female"), await rest.patient(gender="male")
        path = f"/$diff?from=Patient/{one}&to=Patient/{other}/_history/1"
        assert words(await answered(rest.system, "GET", path)) == ["Patient.gender: female became male"]
        stranger = await rest.user("patient", f"Patient/{one}")
        assert (await stranger("GET", path)).status_code == 404
        assert (await rest.system("GET", f"/$diff?from=Patient/{one}&to=Location/x")).status_code == 404
        assert (await rest.system("GET", f"/$diff?from=Patient/{one}")).status_code == 400
        assert (await rest.system("GET", f"/$diff?from={one}&to={other}")).status_code == 400

    async def test_versions_that_are_not_there(self, rest: Rest) -> None:
        person = await rest.patient()
        assert (await rest.system("GET", f"/Patient/{person}/$diff")).status_code == 422
        assert (await rest.system("GET", f"/Patient/{person}/$diff?fromVersion=7")).status_code == 404
        assert (await rest.system("GET", f"/Patient/{person}/$diff?fromVersion=0")).status_code == 400
        assert (await rest.system("GET", f"/Patient/{person}/$diff?fromVersion=first")).status_code == 400

    async def test_it_stands_in_the_trail(self, rest: Rest) -> None:
        person = await rest.patient()
        await answered(rest.system, "GET", f"/Patient/{person}/$diff?fromVersion=1")
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s", person)
        assert ("diff",) in rows


def words(parameters: JSON) -> list[str]:
    return [one["valueString"] for one in parameters.get("parameter", ()) if one["name"] == "words"]
