"""`$export`: asked for, carried out by a job, fetched; by whoever may, of what they may see, and by nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from rest import Caller, Fresh, Rest, running

from fhir.store import Change, new_id
from fhir.wire import decode, encode
from hub import accounts, bulk_export, flows, jobs
from hub.identity import IMPORTER

JSON = dict[str, Any]
ASYNC = {"prefer": "respond-async"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


async def put(rest: Rest, *resources: JSON) -> list[str]:
    changes = [Change("create", one["resourceType"], new_id(), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)
    return [change.id for change in changes]


def condition(patient_id: str, code: str = "a") -> JSON:
    return {
        "resourceType": "Condition",
        "subject": {"reference": f"Patient/{patient_id}"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
    }


class Export:
    """One export as its caller sees it."""

    def __init__(self, rest: Rest, caller: Caller) -> None:
        self._rest = rest
        self._caller = caller
        self.where = ""

    async def ask(self, path: str, content: Any = None) -> httpx.Response:
        answered = await self._caller("POST" if content else "GET", path, content, ASYNC)
        if answered.status_code == 202:
            self.where = answered.headers["content-location"]
        return answered

    async def status(self) -> httpx.Response:
        return await self.get(self.where)

    async def get(self, url: str, **headers: str) -> httpx.Response:
        sent = {**self._caller._headers, **headers}
        return await self._rest.client.get(url, headers=sent)

    async def manifest(self) -> JSON:
        for _ in range(1200):
            answered = await self.status()
            if answered.status_code != 202:
                assert answered.status_code == 200, answered.text
                return decode(answered.content)
            assert answered.headers["x-progress"]
            assert int(answered.headers["retry-after"]) > 0
            await asyncio.sleep(0.05)
        raise AssertionError("the export did not end")

    async def resources(self, manifest: JSON) -> list[JSON]:
        found = []
        for file in manifest["output"]:
            answered = await self.get(file["url"], accept="application/fhir+ndjson")
            assert answered.status_code == 200, answered.text
            assert answered.headers["content-type"].startswith("application/fhir+ndjson")
            lines = [decode(line) for line in answered.content.splitlines()]
            assert len(lines) == file["count"]
            assert {line["resourceType"] for line in lines} == {file["type"]}
            found += lines
        return found


async def exported(rest: Rest, path: str, content: Any = None, caller: Caller | None = None) -> list[JSON]:
    export = Export(rest, caller or rest.system)
    answered = await export.ask(path, content)
    assert answered.status_code == 202, answered.text
    return await export.resources(await export.manifest())


def ids(resources: list[JSON]) -> set[str]:
    return {f"{one['resourceType']}/{one['id']}" for one in resources}


class TestWhoMayAsk:
    @pytest.mark.parametrize("path", ["/$export", "/Patient/$export", "/Group/g/$export"])
    async def test_only_roles_that_may_export(self, rest: Rest, path: str) -> None:
        person = await rest.patient()
        assert (await rest.nobody("GET", path, headers=ASYNC)).status_code == 401
        callers = [
            await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",)),
            await rest.user("clinician", "Practitioner/c", ("Organization/yeovil",)),
            await rest.user("patient", f"Patient/{person}"),
            await rest.user("information-governance", "Practitioner/ig"),
            await rest.device(person),
        ]
        for caller in callers:
            assert (await caller("GET", path, headers=ASYNC)).status_code == 403

    async def test_another_callers_job_is_like_none(self, rest: Rest) -> None:
        await put(rest, condition(await rest.patient()))
        mine = Export(rest, rest.system)
        await mine.ask("/$export?_type=Condition")
        manifest = await mine.manifest()
        other = Export(rest, await rest.user("ehr-system", "Device/other-ehr"))
        patient = Export(rest, await rest.user("patient", f"Patient/{await rest.patient()}"))
        for stranger in (other, patient):
            for url in (mine.where, manifest["output"][0]["url"]):
                assert (await stranger.get(url)).status_code == 404
            deleted = await rest.client.delete(mine.where, headers=stranger._caller._headers)
            assert deleted.status_code == 404
        assert (await rest.client.get(manifest["output"][0]["url"])).status_code == 401
        assert (await mine.status()).status_code == 200

    async def test_areas_that_the_role_does_not_read_are_left_out_or_refused(self, rest: Rest) -> None:
        [event] = await put(
            rest,
            {
                "resourceType": "AuditEvent",
                "type": {"code": "rest"},
                "recorded": "2026-11-01T09:00:00Z",
                "agent": [{"requestor": True}],
                "source": {"observer": {"display": "A"}},
            },
        )
        assert f"AuditEvent/{event}" not in ids(await exported(rest, "/$export"))
        assert (await Export(rest, rest.system).ask("/$export?_type=AuditEvent")).status_code == 403
        administrator = await rest.user("administrator", "Practitioner/admin")
        assert f"AuditEvent/{event}" in ids(await exported(rest, "/$export?_type=AuditEvent", caller=administrator))

    async def test_an_account_that_was_closed_meanwhile_gets_nothing(self, rest: Rest) -> None:
        async with rest.database.transaction() as tx:
            name = new_id()
            await accounts.create_account(
                tx, name, "demonstration", "A", "ehr-system", "Device/closed", demonstration=True
            )
            caller = Caller(rest.client, await accounts.issue_token(tx, name, "test"))
            rows = await tx.pg.execute("SELECT id FROM account WHERE username = %s", (name,))
            row = await rows.fetchone()
            assert row is not None
            order = bulk_export.Order("system", "http://127.0.0.1/fhir", ("Condition",))
            await tx.pg.execute(
                "INSERT INTO job (id, kind, state, owner, account_id, request, expires)"
                " VALUES ('late', 'export', 'waiting', 'Device/closed', %s, %s::jsonb, now() + interval '1 hour')",
                (row[0], encode(order.as_json() | {"url": "x"}).decode()),
            )
            await tx.pg.execute("UPDATE account SET active = false WHERE username = %s", (name,))
        for _ in range(1200):
            [(state, result)] = await rest.rows("SELECT state, result FROM job WHERE id = 'late'")
            if state == "failed":
                break
            await asyncio.sleep(0.05)
        assert state == "failed"
        assert "closed" in result["outcome"]["issue"][0]["diagnostics"]
        assert (await caller("GET", "/$job/late")).status_code == 401

    async def test_it_stands_in_the_trail(self, rest: Rest) -> None:
        person = await rest.patient()
        await put(rest, condition(person))
        [group] = await put(rest, group_of(person))
        caller = await rest.user("ehr-system", "Device/trail")
        await exported(rest, f"/Group/{group}/$export?_type=Condition", caller=caller)
        rows = await rest.rows("SELECT action, patient_id FROM audit WHERE actor = 'Device/trail' ORDER BY seq")
        assert ("export-asked", None) in rows
        assert ("export", person) in rows
        assert ("export-fetched", None) in rows


def group_of(*people: str, **elements: Any) -> JSON:
    members = [{"entity": {"reference": f"Patient/{one}"}} for one in people]
    return {"resourceType": "Group", "type": "person", "actual": True, "member": members, **elements}


class TestWhatGoesOut:
    async def test_the_system(self, rest: Rest) -> None:
        person = await rest.patient()
        [one] = await put(rest, condition(person))
        [place] = await put(rest, {"resourceType": "Location", "name": "Ward"})
        export = Export(rest, rest.system)
        assert (await export.ask("/$export?_outputFormat=application/fhir+ndjson")).status_code == 202
        manifest = await export.manifest()
        assert {f"Condition/{one}", f"Patient/{person}", f"Location/{place}"} <= ids(await export.resources(manifest))
        assert manifest["requiresAccessToken"] is True
        assert manifest["error"] == []
        assert manifest["request"].endswith("/fhir/$export?_outputFormat=application/fhir+ndjson")

    async def test_patients_and_what_is_about_them(self, rest: Rest) -> None:
        person, other = await rest.patient(), await rest.patient()
        one, two = await put(rest, condition(person), condition(other))
        [place] = await put(rest, {"resourceType": "Location", "name": "Ward"})
        found = ids(await exported(rest, "/Patient/$export"))
        assert {f"Condition/{one}", f"Condition/{two}", f"Patient/{person}"} <= found
        assert f"Location/{place}" not in found
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": "patient", "valueReference": {"reference": f"Patient/{person}"}}],
        }
        assert ids(await exported(rest, "/Patient/$export", asked)) == {f"Condition/{one}", f"Patient/{person}"}

    async def test_a_group_without_those_who_left_it(self, rest: Rest) -> None:
        inside, outside, gone = await rest.patient(), await rest.patient(), await rest.patient()
        one, _, three = await put(rest, condition(inside), condition(outside), condition(gone))
        group = group_of(inside, gone)
        group["member"][1]["inactive"] = True
        [id_] = await put(rest, group)
        found = ids(await exported(rest, f"/Group/{id_}/$export"))
        assert found == {f"Patient/{inside}", f"Condition/{one}"}
        assert f"Condition/{three}" not in found
        assert (await Export(rest, rest.system).ask("/Group/unknown/$export")).status_code == 404

    async def test_types_filters_and_since(self, rest: Rest) -> None:
        person = await rest.patient()
        one, two, three = await put(rest, condition(person, "x1"), condition(person, "x2"), condition(person, "x3"))
        sct = "http://snomed.info/sct|"
        path = f"/$export?_type=Condition&_typeFilter=Condition?code={sct}x1,Condition?code={sct}x2"
        assert ids(await exported(rest, path)) == {f"Condition/{one}", f"Condition/{two}"}
        repeated = "/$export?_type=Condition&_typeFilter=Condition%3Fcode%3Dx1,x3"
        assert ids(await exported(rest, repeated)) == {f"Condition/{one}", f"Condition/{three}"}
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Condition")
        moment = (await export.manifest())["transactionTime"]
        [late] = await put(rest, condition(person))
        assert f"Condition/{late}" in ids(await exported(rest, f"/$export?_type=Condition&_since={moment}"))
        assert f"Condition/{one}" not in ids(await exported(rest, f"/$export?_type=Condition&_since={moment}"))

    async def test_what_was_deleted_since(self, rest: Rest) -> None:
        person, other = await rest.patient(), await rest.patient()
        one, two, kept = await put(rest, condition(person), condition(other), condition(person))
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Condition")
        first = await export.manifest()
        assert first["deleted"] == []
        for id_ in (one, two, kept):
            await rest.system("DELETE", f"/Condition/{id_}")
        await rest.system("PUT", f"/Condition/{kept}", {**condition(person), "id": kept})
        [group] = await put(rest, group_of(person))
        for path, expected in (("/$export", {one, two}), (f"/Group/{group}/$export", {one})):
            await export.ask(f"{path}?_type=Condition&_since={first['transactionTime']}")
            [file] = (await export.manifest())["deleted"]
            lines = [decode(line) for line in (await export.get(file["url"])).content.splitlines()]
            urls = {line["entry"][0]["request"]["url"] for line in lines}
            assert urls == {f"Condition/{id_}" for id_ in expected}
            assert {line["entry"][0]["request"]["method"] for line in lines} == {"DELETE"}
            assert file["type"] == "Bundle"

    async def test_files_and_pieces_lose_nothing(self, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_export, "FILE_ROWS", 7)
        monkeypatch.setattr(bulk_export, "PIECE_BYTES", 400)
        monkeypatch.setattr(bulk_export, "FETCHED", 3)
        person = await rest.patient()
        made = await put(rest, *[condition(person, "pieces") for _ in range(40)])
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Condition&_typeFilter=Condition?code=pieces")
        manifest = await export.manifest()
        assert ids(await export.resources(manifest)) == {f"Condition/{one}" for one in made}
        assert len(manifest["output"]) > 3
        assert sum(file["count"] for file in manifest["output"]) == 40


class TestLifeOfAJob:
    async def test_it_can_be_ended_and_is_gone_with_its_files(self, rest: Rest) -> None:
        await put(rest, condition(await rest.patient()))
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Condition")
        manifest = await export.manifest()
        id_ = export.where.rpartition("/")[2]
        assert (await rest.system("DELETE", f"/$job/{id_}")).status_code == 202
        assert (await export.status()).status_code == 404
        assert (await export.get(manifest["output"][0]["url"])).status_code == 404
        assert await rest.rows("SELECT 1 FROM job_piece WHERE job_id = %s", id_) == []

    async def test_one_that_is_running_stops_when_it_is_deleted(
        self, rest: Rest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = asyncio.Event()

        async def endless(*_: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(bulk_export._Writing, "files", endless)
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Patient")
        await asyncio.wait_for(begun.wait(), 10)
        id_ = export.where.rpartition("/")[2]
        assert (await rest.system("DELETE", f"/$job/{id_}")).status_code == 202
        monkeypatch.undo()
        # The process is free again: the next one is carried out.
        assert isinstance(await exported(rest, "/$export?_type=Patient"), list)

    async def test_one_whose_process_died_is_begun_anew_by_another(self, rest: Rest) -> None:
        made = await put(rest, condition(await rest.patient(), "survivor"))
        [(account, owner)] = await rest.rows("SELECT id, reference FROM account WHERE role = 'ehr-system' LIMIT 1")
        order = bulk_export.Order(
            "system", "http://127.0.0.1/fhir", ("Condition",), None, {"Condition": ["code=survivor"]}
        )
        await rest.rows(
            "INSERT INTO job (id, kind, state, owner, account_id, request, attempts, worker, lease, expires)"
            " VALUES ('orphan', 'export', 'running', %s, %s, %s::jsonb, 1, 'a process that is gone',"
            " now() - interval '1 second', now() + interval '1 hour') RETURNING id",
            owner, account, encode(order.as_json() | {"url": "x"}).decode(),
        )  # fmt: skip
        await rest.rows("INSERT INTO job_piece VALUES ('orphan', 1, 0, 'half') RETURNING file")
        for _ in range(1200):
            [(state, result)] = await rest.rows("SELECT state, result FROM job WHERE id = 'orphan'")
            if state == "done":
                break
            await asyncio.sleep(0.05)
        assert state == "done"
        assert [file["count"] for file in result["output"]] == [len(made)]

    async def test_one_that_never_ends_is_given_up(self, rest: Rest) -> None:
        [(account, owner)] = await rest.rows("SELECT id, reference FROM account WHERE role = 'ehr-system' LIMIT 1")
        order = bulk_export.Order("system", "http://127.0.0.1/fhir")
        await rest.rows(
            "INSERT INTO job (id, kind, state, owner, account_id, request, attempts, worker, lease, expires)"
            " VALUES ('poison', 'export', 'running', %s, %s, %s::jsonb, %s, 'gone', now() - interval '1 second',"
            " now() + interval '1 hour') RETURNING id",
            owner, account, encode(order.as_json() | {"url": "x"}).decode(), jobs.ATTEMPTS,
        )  # fmt: skip
        for _ in range(1200):
            [(state, _)] = await rest.rows("SELECT state, result FROM job WHERE id = 'poison'")
            if state == "failed":
                break
            await asyncio.sleep(0.05)
        assert state == "failed"

    async def test_what_has_expired_is_removed(self, rest: Rest) -> None:
        await put(rest, condition(await rest.patient()))
        export = Export(rest, rest.system)
        await export.ask("/$export?_type=Condition")
        await export.manifest()
        id_ = export.where.rpartition("/")[2]
        await rest.rows("UPDATE job SET expires = now() WHERE id = %s RETURNING id", id_)
        assert (await export.status()).status_code == 404
        for _ in range(1200):
            if not await rest.rows("SELECT 1 FROM job_piece WHERE job_id = %s", id_):
                break
            await asyncio.sleep(0.05)
        assert await rest.rows("SELECT 1 FROM job WHERE id = %s", id_) == []

    async def test_one_caller_has_so_many_under_way(self, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jobs, "MOST_OPEN", 0)
        answered = await Export(rest, rest.system).ask("/$export")
        assert answered.status_code == 429
        assert answered.headers["retry-after"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("_type=Conditon", "Conditon"),
            ("_outputFormat=text/csv", "application/fhir+ndjson"),
            ("_since=yesterday", "_since"),
            ("_typeFilter=Condition", "_typeFilter"),
            ("_typeFilter=Condition?cod=1", "cod"),
            ("_type=Patient&_typeFilter=Condition?code=1", "leaves out"),
            ("_elements=id", "_elements"),
            ("patient=Patient/1", "patient"),
        ],
    )
    async def test_what_is_not_understood_is_named_at_once(self, rest: Rest, query: str, said: str) -> None:
        answered = await Export(rest, rest.system).ask(f"/$export?{query}")
        assert answered.status_code == 400
        assert said in answered.text

    async def test_it_takes_its_time_or_none(self, rest: Rest) -> None:
        answered = await rest.system("GET", "/$export")
        assert answered.status_code == 400
        assert "respond-async" in answered.text

    async def test_lenient_handling_passes_over_what_is_not_supported(self, rest: Rest) -> None:
        prefer = {"prefer": "respond-async, handling=lenient"}
        answered = await rest.system("GET", "/$export?_type=Location&_elements=id", headers=prefer)
        assert answered.status_code == 202

    async def test_a_type_outside_the_compartment(self, rest: Rest) -> None:
        assert (await Export(rest, rest.system).ask("/Patient/$export?_type=Location")).status_code == 400

    async def test_somebody_who_is_not_there(self, rest: Rest) -> None:
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": "patient", "valueReference": {"reference": "Patient/unknown"}}],
        }
        assert (await Export(rest, rest.system).ask("/Patient/$export", asked)).status_code == 404

    @pytest.mark.parametrize("path", ["/$job", "/$job/unknown", "/$job/unknown/1"])
    async def test_no_such_job(self, rest: Rest, path: str) -> None:
        assert (await rest.system("GET", path)).status_code == 404
