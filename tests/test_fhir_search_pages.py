"""Pages of searches and histories: stable while others write, whatever they are sorted by; and what a reply says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from search_world import BASE, NOW, SECRET, UCUM, everything, ids, load, observation, page, patient

from fhir import search, store
from fhir.outcome import Refusal
from fhir.store import Change
from hub.db import Database, Tx


@pytest.fixture(scope="module")
async def loaded(database: Database) -> AsyncIterator[Database]:
    await load(database)
    yield database


class TestPages:
    async def walk(self, database: Database, path: str, visible: store.Visible = everything) -> list[str]:
        found: list[str] = []
        while path:
            one = await page(database, path, visible)
            assert one.entries
            found += [entry.id for entry in one.entries]
            link = dict(one.links).get("next", "")
            assert not link or link.startswith(f"{BASE}/")
            path = link.removeprefix(f"{BASE}/")
        return found

    @pytest.mark.parametrize(
        "order",
        [
            "",
            "_id",
            "-_id",
            "date",
            "-date",
            "-_lastUpdated",
            "_lastUpdated,-date",
            "value-date,-date",
            "-value-date,_id",
        ],
    )
    async def test_show_everything_once_in_order(self, loaded: Database, order: str) -> None:
        whole = await ids(loaded, f"Observation?_sort={order or '-_id'}")
        for size in (1, 2, 3):
            sorted_ = f"&_sort={order}" if order else ""
            assert await self.walk(loaded, f"Observation?_count={size}{sorted_}") == whole.split()

    async def test_lose_and_repeat_nothing_while_others_write(self, fresh_database: Any) -> None:
        database = await fresh_database()
        kept = [f"k{n:03}" for n in range(60)]

        async def write(names: Sequence[str], method: Any = "update", value: str = "final") -> None:
            async with database.transaction() as tx:
                changes = [
                    Change(
                        method,
                        "Observation",
                        id_,
                        None if method == "delete" else observation(id_, "Patient/x", "1", None, status=value),
                    )
                    for id_ in names
                ]
                await store.write(tx.pg, changes, "Device/d", NOW)

        await write([*kept, *(f"k{n:03}-gone" for n in range(60))])
        path, seen = "Observation?_count=7&code=1", []
        for round_ in range(100):
            one = await page(database, path)
            seen += [entry.id for entry in one.entries]
            await write([f"k{round_:03}-gone"], "delete")
            await write([f"k{round_:03}-new", kept[round_ % 60]], value=f"amended-{round_}")
            link = dict(one.links).get("next")
            if link is None:
                break
            path = link.removeprefix(f"{BASE}/")
        assert len(seen) == len(set(seen))
        assert [id_ for id_ in seen if id_ in kept] == kept[::-1]

    @pytest.mark.parametrize(
        "order",
        [
            "_lastUpdated",
            "-_lastUpdated",
            "date",
            "-date",
            "code,-date",
            "-value-quantity",
            "-status,subject",
            "patient.family",
        ],
    )
    async def test_lose_and_repeat_nothing_whatever_others_change(self, fresh_database: Any, order: str) -> None:
        """Another connection changes what is sorted by, adds and deletes, in the midst of every page."""
        database = await fresh_database()
        kept = [f"k{n:03}" for n in range(40)]
        gone = [f"g{n:03}" for n in range(40)]
        stop = asyncio.Event()
        rounds = count()

        def made(id_: str, number: int) -> dict[str, Any]:
            at = f"2026-11-{1 + (number * 7) % 28:02}"
            status = ("final", "amended", "preliminary")[number % 3]
            value = {"valueQuantity": {"value": number * 13 % 101, "system": UCUM, "code": "kg"}}
            return observation(id_, f"Patient/p{number % 5}", str(number % 4), at, **value) | {"status": status}

        async def write(names: Sequence[str], number: int, method: Any = "update") -> None:
            async with database.transaction() as tx:
                changes = [
                    Change(method, "Observation", one, None if method == "delete" else made(one, number + place))
                    for place, one in enumerate(names)
                ]
                await store.write(tx.pg, changes, "Device/d", datetime.now(UTC))
                await asyncio.sleep(0.002)

        async def busy() -> None:
            while not stop.is_set():
                number = next(rounds)
                await write([kept[(number * 11 + step) % 40] for step in range(6)], number * 17)
                await write([f"n{number:04}"], number)
                if gone:
                    await write([gone.pop()], 0, "delete")

        async with database.transaction() as tx:
            people = [Change("update", "Patient", f"p{n}", patient(f"p{n}", f"F{n * 3 % 5}", "G")) for n in range(5)]
            await store.write(tx.pg, people, "Device/d", datetime.now(UTC))
        await write([*kept, *gone], 0)
        writer = asyncio.create_task(busy())
        try:
            for _ in range(2):
                seen: list[str] = []
                path = f"Observation?_count=3&_sort={order}&status=final,amended,preliminary"
                while path:
                    one = await page(database, path)
                    seen += [entry.id for entry in one.entries]
                    path = dict(one.links).get("next", "").removeprefix(f"{BASE}/")
                assert len(seen) == len(set(seen)), sorted(id_ for id_ in seen if seen.count(id_) > 1)
                assert set(kept) <= set(seen), sorted(set(kept) - set(seen))
        finally:
            stop.set()
            await writer
        assert next(rounds) > 2

    async def test_what_is_under_way_within_a_savepoint_is_not_there_yet(self, fresh_database: Any) -> None:
        """No snapshot of PostgreSQL knows the numbers of savepoints, in which batches write."""
        database = await fresh_database()

        def written(number: int, code: str) -> Change:
            return Change("update", "Observation", f"k{number}", observation(f"k{number}", "Patient/x", code, None))

        for number in range(6):
            async with database.transaction() as tx:
                await store.write(tx.pg, [written(number, "1")], "Device/d", datetime.now(UTC))
        async with database.transaction() as tx:
            await tx.pg.execute("SELECT pg_current_xact_id()")
            async with tx.pg.transaction():
                await store.write(tx.pg, [written(0, "2")], "Device/d", datetime.now(UTC))
            one = await page(database, "Observation?_sort=-_lastUpdated&_count=2")
        seen = [entry.id for entry in one.entries]
        while link := dict(one.links).get("next"):
            one = await page(database, link.removeprefix(f"{BASE}/"))
            seen += [entry.id for entry in one.entries]
        assert seen == ["k5", "k4", "k3", "k2", "k1", "k0"]

    @pytest.mark.parametrize(
        "asked", ["date=ge2026-11-20", "date=lt2027", "_lastUpdated=ge2026", "code=8867-4&date=ne2020"]
    )
    async def test_of_a_search_by_date_hold_the_same(self, loaded: Database, asked: str) -> None:
        whole = (await ids(loaded, f"Observation?{asked}")).split()
        assert len(whole) > 2
        assert sorted(await self.walk(loaded, f"Observation?{asked}&_count=1")) == whole

    async def test_cursors_carry_the_search_and_stand_alone(self, loaded: Database) -> None:
        first = await page(loaded, "Observation?code=8867-4&_count=2")
        link = dict(first.links)["next"]
        assert "8867-4" not in link
        cursor = link.split("?")[1]
        assert await ids(loaded, f"Observation?{cursor}") == "o2 o3"
        for wrong in (
            f"{cursor}&code=1",
            cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"),
            "_cursor=",
            "_cursor=é",
            f"{cursor}&{cursor}",
        ):
            with pytest.raises(Refusal) as refusal:
                await page(loaded, f"Observation?{wrong}")
            assert refusal.value.status == 400
        with pytest.raises(Refusal):
            await page(loaded, f"Patient?{cursor}")

    async def test_sizes_and_totals(self, loaded: Database) -> None:
        assert (await page(loaded, "Observation")).total == 13
        assert (await page(loaded, "Observation?_count=2")).total is None
        assert (await page(loaded, "Observation?_count=2&_total=accurate")).total == 13
        assert (await page(loaded, "Observation?_count=2&_total=estimate")).total is not None
        empty = await page(loaded, "Observation?_count=0&code=8867-4")
        assert (empty.total, empty.entries) == (5, [])
        assert (await page(loaded, "Observation?_summary=count")).total == 13
        assert len((await page(loaded, "Observation?_count=1000", most=3)).entries) == 3


class TestReply:
    async def test_is_spliced_from_stored_bodies(self, loaded: Database) -> None:
        found = await page(loaded, "Patient?_id=ann")
        bundle = found.as_json()
        async with loaded.transaction() as tx:
            stored = await store.read(tx.pg, "Patient", "ann", everything)
        assert bundle["resourceType"] == "Bundle" and bundle["type"] == "searchset"
        assert bundle["entry"][0]["resource"] == stored.resource
        assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient?_id=ann"}]

    async def test_without_matches_has_no_entries(self, loaded: Database) -> None:
        bundle = (await page(loaded, "Patient?_id=nobody")).as_json()
        assert bundle["total"] == 0 and "entry" not in bundle

    async def test_elements_are_marked_as_a_subset(self, loaded: Database) -> None:
        bundle = (await page(loaded, "Patient?_id=ann&_elements=gender,birthDate")).as_json()
        resource = bundle["entry"][0]["resource"]
        assert set(resource) == {"resourceType", "id", "meta", "gender", "birthDate"}
        assert resource["meta"]["tag"][-1]["code"] == "SUBSETTED"


class TestHistory:
    async def test_pages_newest_first(self, tx: Tx) -> None:
        for value in ("a", "b", "c"):
            change = Change("update", "Basic", "h", {"resourceType": "Basic", "code": {"text": value}})
            await store.write(tx.pg, [change], "Practitioner/doc", NOW)
        await store.write(tx.pg, [Change("delete", "Basic", "h", None)], "Practitioner/doc", NOW)
        first = await search.history(tx.pg, [("_count", "3")], everything, BASE, SECRET, 100, "Basic", "h")
        bundle = first.as_json()
        assert bundle["type"] == "history"
        assert [entry["request"]["method"] for entry in bundle["entry"]] == ["DELETE", "PUT", "PUT"]
        assert [entry["response"]["etag"] for entry in bundle["entry"]] == ['W/"4"', 'W/"3"', 'W/"2"']
        assert "resource" not in bundle["entry"][0]
        link = dict(first.links)["next"]
        assert link.startswith(f"{BASE}/Basic/h/_history?_cursor=")
        query = [("_cursor", link.split("_cursor=")[1])]
        second = await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic", "h")
        assert [entry["response"]["status"] for entry in second.as_json()["entry"]] == ["201"]
        with pytest.raises(Refusal):
            await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic")

    async def test_refuses_what_it_does_not_know(self, tx: Tx) -> None:
        for query in ([("_since", "soon")], [("code", "x")], [("_count", "x")]):
            with pytest.raises(Refusal) as refusal:
                await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic")
            assert refusal.value.status == 400
        with pytest.raises(Refusal) as refusal:
            await search.history(tx.pg, [], everything, BASE, SECRET, 100, "Basic", "nothing")
        assert refusal.value.status == 404
