"""The store: versions, conflicts and the races between writers, on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, Sql, new_id
from fhir.wire import decode
from hub.db import Database, Tx

NOW = datetime(2026, 11, 21, 9, 0, 0, 123_456, tzinfo=UTC)
AUTHOR = "Practitioner/test"


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


def nothing(type_: str, alias: str) -> Sql | None:
    return None


def only_patient(patient_id: str) -> store.Visible:
    # Without brackets: whoever uses a condition must keep its OR inside.
    return lambda type_, alias: Sql(f"FALSE OR {alias}.patient_id = %s", (patient_id,))


def observation(patient: str = "p1", value: str = "71", **more: Any) -> dict[str, Any]:
    text = f'{{"resourceType":"Observation","status":"final","valueQuantity":{{"value":{value},"unit":"/min"}}}}'
    return {
        **decode(text.encode()),
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-21T08:58:00Z",
        **more,
    }


def create(resource: dict[str, Any], id_: str | None = None) -> Change:
    return Change("create", resource["resourceType"], id_ or new_id(), resource)


def put(id_: str, resource: dict[str, Any], if_match: int | None = None) -> Change:
    return Change("update", resource["resourceType"], id_, resource, if_match)


async def one(tx: Tx, change: Change, now: datetime = NOW) -> store.Written:
    return (await store.write(tx.pg, [change], AUTHOR, now))[0]


def status_of(error: pytest.ExceptionInfo[Refusal]) -> int:
    return error.value.status


class TestCreate:
    async def test_stores_the_body_once_with_its_meta(self, tx: Tx) -> None:
        resource = observation(value="1.50", meta={"tag": [{"code": "t"}], "versionId": "99"})
        written = await one(tx, create(resource))
        assert (written.status, written.version, written.before) == (201, 1, None)
        assert written.body is not None
        body = decode(written.body.encode())
        assert list(body)[:3] == ["resourceType", "id", "meta"]
        assert body["meta"] == {"tag": [{"code": "t"}], "versionId": "1", "lastUpdated": "2026-11-21T09:00:00.123Z"}
        assert '"value":1.50' in written.body
        stored = await store.read(tx.pg, "Observation", written.change.id, everything)
        assert stored.body == written.body
        assert (stored.patient_id, stored.version) == ("p1", 1)
        assert stored.updated == written.updated == NOW.replace(microsecond=123_000)

    async def test_leaves_the_callers_resource_alone(self, tx: Tx) -> None:
        resource = observation()
        before = dict(resource)
        await one(tx, create(resource))
        assert resource == before

    async def test_refuses_an_id_that_exists(self, tx: Tx) -> None:
        written = await one(tx, create(observation()))
        with pytest.raises(Refusal, match="exists already") as refusal:
            await one(tx, create(observation(), written.change.id))
        assert status_of(refusal) == 409

    @pytest.mark.parametrize("id_", ["", "a/b", "a" * 65, "é", "a\x1eb"])
    async def test_refuses_what_is_no_id(self, tx: Tx, id_: str) -> None:
        with pytest.raises(Refusal) as refusal:
            await one(tx, Change("create", "Observation", id_, observation()))
        assert status_of(refusal) == 400

    async def test_refuses_a_resource_of_another_type(self, tx: Tx) -> None:
        with pytest.raises(Refusal, match="not a Patient") as refusal:
            await one(tx, Change("create", "Patient", new_id(), observation()))
        assert status_of(refusal) == 400

    async def test_writes_many_of_many_types_in_the_order_given(self, tx: Tx) -> None:
        changes = []
        for number in range(40):
            changes.append(create(observation(f"p{number}")))
            changes.append(create({"resourceType": "Patient", "name": [{"family": f"Família {number}"}]}))
            changes.append(create({"resourceType": "Basic", "code": {"text": "x"}}))
        written = await store.write(tx.pg, changes, AUTHOR, NOW)
        assert [one.change for one in written] == changes
        loaded = await store.load(tx.pg, [(change.type, change.id) for change in changes])
        assert [loaded[change.type, change.id].body for change in changes] == [one.body for one in written]
        count = await (
            await tx.pg.execute("SELECT count(*) FROM r_patient WHERE strings @@ '''family=familia'''")
        ).fetchone()
        assert count == (40,)

    async def test_separators_in_the_text_cannot_shift_columns(self, tx: Tx) -> None:
        nasty = "a\x1eb\x1fc\\d\"e'f\tg\nh%s{},"
        resource = observation(note=[{"text": nasty}], identifier=[{"system": "urn:x", "value": nasty}])
        patient = {"resourceType": "Patient", "name": [{"family": nasty}]}
        written = await store.write(tx.pg, [create(resource), create(patient)], AUTHOR, NOW)
        stored = await store.read(tx.pg, "Observation", written[0].change.id, everything)
        assert stored.resource is not None
        assert stored.resource["note"][0]["text"] == nasty


class TestUpdate:
    async def test_makes_the_next_version_and_tells_what_was_before(self, tx: Tx) -> None:
        first = await one(tx, create(observation(value="1.50")))
        second = await one(tx, put(first.change.id, observation(value="2"), if_match=1), NOW + timedelta(hours=1))
        assert (second.status, second.version) == (200, 2)
        assert second.before == decode((first.body or "").encode())
        assert (await store.vread(tx.pg, "Observation", first.change.id, 1, everything)).body == first.body
        assert (await store.read(tx.pg, "Observation", first.change.id, everything)).body == second.body

    async def test_creates_what_is_not_there(self, tx: Tx) -> None:
        written = await one(tx, put("mine", observation()))
        assert (written.status, written.version) == (201, 1)

    async def test_identical_resource_makes_no_version(self, tx: Tx) -> None:
        first = await one(tx, create(observation(value="1.50")))
        reordered = dict(reversed(list(observation(value="1.50").items())))
        again = await one(tx, put(first.change.id, reordered), NOW + timedelta(hours=1))
        assert (again.status, again.version, again.updated, again.body) == (200, 1, first.updated, first.body)
        precise = await one(tx, put(first.change.id, observation(value="1.5")))
        assert precise.version == 2, "1.5 and 1.50 are not the same measurement"

    async def test_stale_version_is_refused_naming_the_current_one(self, tx: Tx) -> None:
        first = await one(tx, create(observation()))
        await one(tx, put(first.change.id, observation(value="2")))
        with pytest.raises(Refusal, match="is at version 2, not at version 1") as refusal:
            await one(tx, put(first.change.id, observation(value="3"), if_match=1))
        assert status_of(refusal) == 412
        assert refusal.value.headers["ETag"] == 'W/"2"'

    async def test_if_match_on_nothing_is_refused(self, tx: Tx) -> None:
        with pytest.raises(Refusal, match="does not exist") as refusal:
            await one(tx, put("mine", observation(), if_match=1))
        assert status_of(refusal) == 412

    async def test_one_identity_twice_is_refused_naming_both(self, tx: Tx) -> None:
        with pytest.raises(Refusal, match=r"Observation/mine is written twice.*1 \(update\).*3 \(delete\)") as refusal:
            changes = [
                put("mine", observation()),
                put("other", observation()),
                Change("delete", "Observation", "mine", None),
            ]
            await store.write(tx.pg, changes, AUTHOR, NOW)
        assert status_of(refusal) == 400

    async def test_moves_the_search_row(self, tx: Tx) -> None:
        first = await one(tx, create(observation("p1")))
        await one(tx, put(first.change.id, observation("p2", effectiveDateTime="2026-01")))
        rows = await tx.pg.execute(
            "SELECT version, patient_id, keys, d_date::text FROM r_observation WHERE id = %s", (first.change.id,)
        )
        version, patient_id, keys, date = await rows.fetchone() or ()
        assert (version, patient_id) == (2, "p2")
        assert "subject=Patient/p2" in keys
        assert date == '["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")'


class TestDelete:
    async def test_leaves_a_version_and_no_search_row(self, tx: Tx) -> None:
        first = await one(tx, create(observation()))
        gone = await one(tx, Change("delete", "Observation", first.change.id, None))
        assert (gone.status, gone.version, gone.body) == (204, 2, None)
        assert gone.before is not None
        with pytest.raises(Refusal) as refusal:
            await store.read(tx.pg, "Observation", first.change.id, everything)
        assert (status_of(refusal), refusal.value.issues[0].code) == (410, "deleted")
        with pytest.raises(Refusal) as refusal:
            await store.vread(tx.pg, "Observation", first.change.id, 2, everything)
        assert status_of(refusal) == 410
        rows = await tx.pg.execute("SELECT 1 FROM r_observation WHERE id = %s", (first.change.id,))
        assert await rows.fetchone() is None

    @pytest.mark.parametrize("method", ["create", "update"])
    async def test_versions_continue_afterwards(self, tx: Tx, method: Any) -> None:
        first = await one(tx, create(observation()))
        await one(tx, Change("delete", "Observation", first.change.id, None))
        again = await one(tx, Change(method, "Observation", first.change.id, observation(value="3")))
        assert (again.status, again.version) == (201, 3)
        assert again.body is not None
        assert decode(again.body.encode())["meta"]["versionId"] == "3"

    async def test_of_nothing_is_harmless(self, tx: Tx) -> None:
        gone = await one(tx, Change("delete", "Observation", "never", None))
        assert (gone.status, gone.version) == (204, 0)
        first = await one(tx, create(observation()))
        await one(tx, Change("delete", "Observation", first.change.id, None))
        again = await one(tx, Change("delete", "Observation", first.change.id, None))
        assert (again.status, again.version) == (204, 2)

    async def test_with_a_stale_version_is_refused(self, tx: Tx) -> None:
        first = await one(tx, create(observation()))
        await one(tx, put(first.change.id, observation(value="2")))
        with pytest.raises(Refusal) as refusal:
            await one(tx, Change("delete", "Observation", first.change.id, None, if_match=1))
        assert status_of(refusal) == 412


class TestAuthors:
    async def test_a_change_may_have_its_own(self, tx: Tx) -> None:
        first, second = new_id(), new_id()
        changes = [
            Change("create", "Observation", first, observation(), author="Device/a"),
            Change("create", "Observation", second, observation()),
        ]
        await store.write(tx.pg, changes, AUTHOR, NOW)
        await store.write(tx.pg, [Change("delete", "Observation", first, None, author="Device/b")], AUTHOR, NOW)
        entries = await store.history(tx.pg, everything, "Observation", first)
        assert [entry.author for entry in entries] == ["Device/b", "Device/a"]
        assert (await store.history(tx.pg, everything, "Observation", second))[0].author == AUTHOR


class TestLoaded:
    async def test_what_was_loaded_under_lock_is_not_read_again(self, tx: Tx) -> None:
        first = await one(tx, create(observation()))
        key = ("Observation", first.change.id)
        loaded = await store.load(tx.pg, [key, ("Observation", "unknown"), ("Nonsense", "x")], lock=True)
        assert list(loaded) == [key]
        changes = [put(first.change.id, observation(value="2"), if_match=1), put("unknown", observation())]
        written = await store.write(tx.pg, changes, AUTHOR, NOW, loaded)
        assert [(one.status, one.version) for one in written] == [(200, 2), (201, 1)]
        assert written[0].before == loaded[key].resource

    async def test_a_stale_load_is_refused_not_lost(self, database: Database) -> None:
        id_ = new_id()
        async with database.transaction() as tx:
            await one(tx, put(id_, observation()))
        async with database.transaction() as tx:
            loaded = await store.load(tx.pg, [("Observation", id_)])
            async with database.transaction() as other:
                await one(other, put(id_, observation(value="8")))
            with pytest.raises(Refusal, match="at the same moment") as refusal:
                await store.write(tx.pg, [put(id_, observation(value="9"))], AUTHOR, NOW, loaded)
            assert status_of(refusal) == 409


async def test_heavy_types_have_partitions_of_their_own(tx: Tx) -> None:
    changes = [create(observation()), create({"resourceType": "Basic", "code": {}})]
    await store.write(tx.pg, changes, AUTHOR, NOW)
    rows = await tx.pg.execute(
        "SELECT type, tableoid::regclass::text FROM resource_version WHERE id = ANY(%s)", ([c.id for c in changes],)
    )
    assert set(await rows.fetchall()) == {
        ("Observation", "resource_version_observation"),
        ("Basic", "resource_version_other"),
    }


class TestVisibility:
    async def test_an_invisible_type_is_forbidden(self, tx: Tx) -> None:
        first = await one(tx, create(observation()))
        for reading in (
            store.read(tx.pg, "Observation", first.change.id, nothing),
            store.vread(tx.pg, "Observation", first.change.id, 1, nothing),
            store.history(tx.pg, nothing, "Observation"),
        ):
            with pytest.raises(Refusal) as refusal:
                await reading
            assert status_of(refusal) == 403
        assert await store.history(tx.pg, nothing) == []

    async def test_anothers_resource_is_unknown_even_when_deleted(self, tx: Tx) -> None:
        first = await one(tx, create(observation("p1")))
        await one(tx, Change("delete", "Observation", first.change.id, None))
        with pytest.raises(Refusal) as refusal:
            await store.read(tx.pg, "Observation", first.change.id, only_patient("p2"))
        assert status_of(refusal) == 404

    async def test_versions_from_before_a_resource_changed_hands_stay_hidden(self, tx: Tx) -> None:
        first = await one(tx, create(observation("p1")))
        await one(tx, put(first.change.id, observation("p2")))
        with pytest.raises(Refusal):
            await store.read(tx.pg, "Observation", first.change.id, only_patient("p1"))
        entries = await store.history(tx.pg, only_patient("p2"), "Observation", first.change.id)
        assert [entry.stored.version for entry in entries] == [2]

    async def test_unknown_type(self, tx: Tx) -> None:
        with pytest.raises(Refusal) as refusal:
            await store.read(tx.pg, "Nonsense", "x", everything)
        assert status_of(refusal) == 404


class TestHistory:
    async def test_newest_first_with_deletions_and_pages(self, tx: Tx) -> None:
        first = await one(tx, create(observation("h1")))
        await one(tx, put(first.change.id, observation("h1", value="2")), NOW + timedelta(hours=1))
        await one(tx, Change("delete", "Observation", first.change.id, None), NOW + timedelta(hours=2))
        await one(tx, create({"resourceType": "Basic", "code": {}, "subject": {"reference": "Patient/h1"}}))
        entries = await store.history(tx.pg, everything, "Observation", first.change.id)
        assert [(entry.stored.version, entry.method) for entry in entries] == [(3, "DELETE"), (2, "PUT"), (1, "POST")]
        page = await store.history(tx.pg, everything, "Observation", first.change.id, before=entries[0].seq, limit=1)
        assert [entry.stored.version for entry in page] == [2]
        since = await store.history(tx.pg, everything, "Observation", since=NOW + timedelta(minutes=1))
        assert [entry.stored.version for entry in since] == [3, 2]
        system = await store.history(tx.pg, only_patient("h1"))
        assert [entry.stored.type for entry in system] == ["Basic", "Observation", "Observation", "Observation"]


class TestRaces:
    async def test_two_updates_with_one_if_match_have_one_winner(self, database: Database) -> None:
        id_ = new_id()
        async with database.transaction() as tx:
            await one(tx, put(id_, observation()))

        async def change(value: str) -> int:
            async with database.transaction() as tx:
                return (await one(tx, put(id_, observation(value=value), if_match=1))).status

        results = await asyncio.gather(*(change(str(value)) for value in range(8)), return_exceptions=True)
        assert results.count(200) == 1
        refused = [result.status for result in results if isinstance(result, Refusal)]
        assert refused == [412] * 7

    async def test_updates_without_if_match_all_count(self, database: Database) -> None:
        id_ = new_id()
        async with database.transaction() as tx:
            await one(tx, put(id_, observation()))

        async def change(value: str) -> int:
            async with database.transaction() as tx:
                return (await one(tx, put(id_, observation(value=value)))).version

        versions = await asyncio.gather(*(change(str(value)) for value in range(100, 108)))
        assert sorted(versions) == list(range(2, 10))

    async def test_sixteen_creations_by_put_have_one_winner(self, database: Database) -> None:
        for _ in range(5):
            id_ = new_id()

            async def change(value: int, id_: str = id_) -> int:
                async with database.transaction() as tx:
                    await asyncio.sleep(0)
                    return (await one(tx, put(id_, observation(value=str(value))))).status

            results = await asyncio.gather(*(change(value) for value in range(16)), return_exceptions=True)
            assert results.count(201) == 1
            others = [getattr(result, "status", result) for result in results if result != 201]
            assert set(others) <= {409, 200}
            async with database.transaction() as tx:
                entries = await store.history(tx.pg, everything, "Observation", id_)
            assert len(entries) == 1 + others.count(200)

    async def test_batches_in_opposite_order_do_not_block_each_other_for_ever(self, database: Database) -> None:
        ids = [new_id() for _ in range(50)]

        async def batch(order: list[str], value: str) -> int:
            async with database.transaction() as tx:
                return len(await store.write(tx.pg, [put(id_, observation(value=value)) for id_ in order], AUTHOR, NOW))

        await batch(ids, "1")
        results = await asyncio.gather(*(batch(ids[:: 1 if n % 2 else -1], str(n + 2)) for n in range(6)))
        assert results == [50] * 6

    async def test_a_deletion_and_an_update_have_an_order(self, database: Database) -> None:
        id_ = new_id()
        async with database.transaction() as tx:
            await one(tx, put(id_, observation()))

        async def act(change: Change) -> int:
            async with database.transaction() as tx:
                return (await one(tx, change)).version

        versions = await asyncio.gather(
            act(Change("delete", "Observation", id_, None)),
            act(put(id_, observation(value="9"))),
            return_exceptions=True,
        )
        numbers = [version for version in versions if isinstance(version, int)]
        assert sorted(numbers) in ([2, 3], [2])
        assert all(isinstance(version, int) or getattr(version, "status", 0) == 409 for version in versions)


def test_ids_are_unique_and_ordered() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
