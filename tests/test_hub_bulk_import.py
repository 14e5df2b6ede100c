"""`$import`: NDJSON through the one path for every write, as a job, with a report of what was refused."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import httpx
import psycopg
import pytest
from rest import Caller, Fresh, Rest, running

from fhir.store import new_id
from fhir.wire import decode, encode
from hub import bulk_import, importer
from hub.fhir_operations import imports

JSON = dict[str, Any]
SENT = {"prefer": "respond-async", "content-type": "application/fhir+ndjson"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def lines(*resources: JSON | bytes) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else encode(one) for one in resources)


def place(name: str, **elements: Any) -> JSON:
    return {"resourceType": "Location", "name": name, **elements}


async def send(caller: Caller, body: bytes, **headers: str) -> httpx.Response:
    return await caller("POST", "/$import", body, SENT | headers)


async def done(rest: Rest, caller: Caller, where: str) -> JSON:
    for _ in range(1200):
        answered = await rest.client.get(where, headers=caller._headers)
        if answered.status_code != 202:
            assert answered.status_code == 200, answered.text
            return decode(answered.content)
        await asyncio.sleep(0.05)
    raise AssertionError("the import did not end")


async def imported(rest: Rest, body: bytes, caller: Caller | None = None, **headers: str) -> JSON:
    caller = caller or rest.system
    answered = await send(caller, body, **headers)
    assert answered.status_code == 202, answered.text
    return await done(rest, caller, answered.headers["content-location"])


async def refused(rest: Rest, manifest: JSON) -> Sequence[JSON]:
    [file] = manifest["error"]
    answered = await rest.client.get(file["url"], headers=rest.system._headers)
    found = [decode(line) for line in answered.content.splitlines()]
    assert len(found) == file["count"]
    return found


class TestWhoMayAsk:
    async def test_only_roles_that_may_import(self, rest: Rest) -> None:
        person = await rest.patient()
        assert (await send(rest.nobody, lines(place("A")))).status_code == 401
        for caller in (
            await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",)),
            await rest.user("clinician", "Practitioner/c", ("Organization/yeovil",)),
            await rest.user("patient", f"Patient/{person}"),
            await rest.device(person),
        ):
            assert (await send(caller, lines(place("A")))).status_code == 403
        assert await rest.rows("SELECT 1 FROM job") == []

    async def test_another_callers_job_is_like_none(self, rest: Rest) -> None:
        answered = await send(rest.system, lines(place("A")))
        other = await rest.user("ehr-system", "Device/other-ehr")
        where = answered.headers["content-location"]
        assert (await rest.client.get(where, headers=other._headers)).status_code == 404
        await done(rest, rest.system, where)

    async def test_it_is_written_in_the_callers_name_and_within_their_rights(self, rest: Rest) -> None:
        caller = await rest.user("ehr-system", "Device/sender")
        id_ = new_id()
        event = {
            "resourceType": "AuditEvent",
            "type": {"code": "rest"},
            "recorded": "2026-11-01T09:00:00Z",
            "agent": [{"requestor": True}],
            "source": {"observer": {"display": "A"}},
        }
        manifest = await imported(rest, lines(place("Theirs", id=id_), event), caller)
        assert manifest["extension"] == {"created": 1, "updated": 0, "unchanged": 0, "refused": 1}
        assert await rest.rows("SELECT author FROM resource_version WHERE id = %s", id_) == [("Device/sender",)]
        rows = await rest.rows("SELECT action FROM audit WHERE actor = 'Device/sender' ORDER BY seq")
        assert ("import-asked",) in rows
        assert ("create",) in rows


class TestWhatIsWritten:
    async def test_each_line_once_however_often_it_is_sent(self, rest: Rest) -> None:
        person = {"resourceType": "Patient", "id": new_id(), "name": [{"family": "Voss"}]}
        body = lines(person, place("One"), place("Two"))
        first = await imported(rest, body)
        assert first["extension"] == {"created": 3, "updated": 0, "unchanged": 0, "refused": 0}
        assert first["output"] == first["error"] == []
        again = await imported(rest, body)
        assert again["extension"] == {"created": 0, "updated": 0, "unchanged": 3, "refused": 0}
        changed = await imported(rest, lines(person | {"gender": "female"}))
        assert changed["extension"]["updated"] == 1
        assert (await rest.system("GET", f"/Patient/{person['id']}")).headers["etag"] == 'W/"2"'

    async def test_a_bad_line_harms_no_other_and_is_reported_with_its_reason(self, rest: Rest) -> None:
        good = new_id()
        manifest = await imported(
            rest,
            lines(
                b"{not json", place("Good", id=good), {"resourceType": "Location", "status": "bogus"}, place("", id="!")
            ),
        )
        assert manifest["extension"]["refused"] == 3
        assert (await rest.system("GET", f"/Location/{good}")).status_code == 200
        found = await refused(rest, manifest)
        said = [outcome["issue"][0]["diagnostics"] for outcome in found]
        assert {text.split(":")[0].split(" (")[0] for text in said} == {"line 1", "line 3", "line 4"}
        assert any("Location.status" in str(outcome) for outcome in found)

    async def test_rules_hold_for_an_import_too(self, rest: Rest) -> None:
        plan = {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": f"Patient/{await rest.patient()}"},
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "734163000"}]}],
        }
        manifest = await imported(rest, lines(plan))
        assert manifest["extension"]["refused"] == 1
        assert "approv" in str(await refused(rest, manifest)).lower()

    async def test_large_and_packed(self, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imports, "PIECE_BYTES", 1000)
        body = gzip.compress(lines(*[place(f"Place {number}") for number in range(300)]))
        manifest = await imported(rest, body, **{"content-encoding": "gzip"})
        assert manifest["extension"]["created"] == 300
        assert await rest.rows("SELECT 1 FROM job_piece WHERE file = 0") == []

    async def test_a_process_that_dies_halfway_leaves_nothing_twice(
        self, rest: Rest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "BATCH", 5)
        made = [place("Half", id=new_id()) for _ in range(12)]
        whole = importer._Importing._import
        calls = 0

        async def broken(self: Any, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise psycopg.OperationalError
            return await whole(self, *arguments)

        monkeypatch.setattr(importer._Importing, "_import", broken)
        answered = await send(rest.system, lines(*made))
        where = answered.headers["content-location"]
        id_ = where.rpartition("/")[2]
        for _ in range(3000):
            if calls >= 2:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        # Whoever had it is gone; its lease runs out.
        await rest.rows(
            "UPDATE job SET state = 'running', lease = now() - interval '1 s' WHERE id = %s RETURNING id", id_
        )
        manifest = await done(rest, rest.system, where)
        assert manifest["extension"] == {"created": 7, "updated": 0, "unchanged": 5, "refused": 0}


class TestRoundTrip:
    async def test_what_one_hub_exports_another_imports(self, fresh_url: Fresh) -> None:
        async with running(fresh_url()) as one, running(fresh_url()) as other:
            async with one.database.transaction() as tx:
                hub = await factories.organisation(tx)
                person = await factories.patient(tx, hub=hub)
                await factories.consent(tx, person)
                await factories.plan(tx, person)
                reading = {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
                    "subject": {"reference": f"Patient/{person}"},
                    "effectiveDateTime": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(timespec="seconds"),
                    "valueQuantity": {"value": 70, "system": "http://unitsofmeasure.org", "code": "%", "unit": "%"},
                }
                await factories.write(tx, reading)
            before = await exported(one)
            kinds = {line["resourceType"] for line in before}
            assert {"Patient", "Consent", "CarePlan", "Observation", "Flag"} <= kinds
            manifest = await imported(other, lines(*before))
            assert manifest["extension"]["refused"] == 0, manifest
            # What the hub makes of readings by itself, such as flags, came along, and is not made a second time.
            assert named(await exported(other)) == named(before)


async def exported(rest: Rest) -> list[JSON]:
    asked = await rest.system("GET", "/$export", headers={"prefer": "respond-async"})
    manifest = await done(rest, rest.system, asked.headers["content-location"])
    found: list[JSON] = []
    for file in manifest["output"]:
        content = (await rest.client.get(file["url"], headers=rest.system._headers)).content
        found += [decode(line) for line in content.splitlines()]
    return found


def named(resources: list[JSON]) -> dict[str, JSON]:
    """By name, without what each server says of its own versions."""
    own = ("versionId", "lastUpdated")
    return {
        f"{one['resourceType']}/{one['id']}": {
            **one, "meta": {name: value for name, value in one["meta"].items() if name not in own}
        }
        for one in resources
    }  # fmt: skip


class TestRefusals:
    async def test_what_is_sent_must_be_lines_of_resources(self, rest: Rest) -> None:
        assert (await send(rest.system, b"")).status_code == 400
        assert (await send(rest.system, b"x", **{"content-type": "text/csv"})).status_code == 415
        assert (await send(rest.system, b"x", prefer="return=minimal")).status_code == 400
        assert (await rest.system("POST", "/$import?a=b", b"x", SENT)).status_code == 400
        assert (await rest.system("GET", "/$import")).status_code == 405

    async def test_too_much_is_refused_and_nothing_is_kept(self, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imports, "MOST_BYTES", 10)
        before = await rest.rows("SELECT count(*) FROM job")
        assert (await send(rest.system, lines(place("A")))).status_code == 413
        assert await rest.rows("SELECT count(*) FROM job") == before

    async def test_the_wrong_file_is_not_read_to_its_end(self, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_import, "MOST_REFUSED", 20)
        monkeypatch.setattr(importer, "BATCH", 10)
        manifest = await imported(rest, b"nothing\n" * 200)
        assert manifest["extension"]["refused"] == 21
        assert any("the rest was not read" in str(one) for one in await refused(rest, manifest))
