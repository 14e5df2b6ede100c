"""What changes between an event and its arrival: access, deletions, endpoints, transactions that are still open."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Fresh
from subscribing import (
    World,
    focuses,
    nothing_subscribed,
    parameter,
    posted,
    pulse,
    team,
    world,
)

from fhir.store import new_id
from hub.subscriptions import events
from hub.subscriptions.horizon import Horizon
from hub.subscriptions.targets import Target

JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def made(fresh_url: Fresh) -> AsyncIterator[World]:
    async with world(fresh_url()) as one:
        yield one


@pytest.fixture
async def hub(made: World) -> AsyncIterator[World]:
    async with nothing_subscribed(made) as one:
        yield one


class TestAccess:
    async def test_only_what_the_owner_may_see_and_no_longer_than_that(self, hub: World) -> None:
        seen, unseen = await hub.rest.patient(), await hub.rest.patient()
        member = f"Practitioner/{new_id()}"
        caller = await hub.rest.user("care-coordinator", member)
        kept = await team(hub, seen, member)
        asked = hub.topical("reading-received", channel={"type": "websocket"})
        del asked["channel"]["endpoint"]
        mine = await hub.subscribe(caller, **asked)
        first = await posted(hub.rest.system, pulse(seen, "70"))
        await posted(hub.rest.system, pulse(unseen, "70"))
        await hub.deliver()
        await hub.deliver()
        events = f"/Subscription/{mine['id']}/$events?content=full-resource"
        told = (await caller("GET", events)).json()
        assert [one["resource"]["id"] for one in told["entry"][1:]] == [first["id"]]
        ended = kept | {"status": "inactive"}
        assert (await hub.rest.system("PUT", f"/CareTeam/{kept['id']}", ended)).status_code == 200
        await posted(hub.rest.system, pulse(seen, "71"))
        await hub.deliver()
        told = (await caller("GET", events)).json()
        # What was told once keeps its number, and says nothing any more; what came later has none.
        assert parameter(told["entry"][0]["resource"], "events-since-subscription-start")["valueString"] == "1"
        assert focuses(told) == [] and len(told["entry"]) == 1
        assert seen not in (await caller("GET", events)).text

    async def test_access_that_is_lost_while_a_retry_waits(self, hub: World) -> None:
        patient = await hub.rest.patient()
        member = f"Organization/{new_id()}"
        caller = await hub.rest.user("ehr-system", member)
        mine = await hub.subscribe(caller, **hub.topical("reading-received", content="full-resource"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        # The account becomes one that sees no readings, and may still have things sent.
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute("UPDATE account SET role = 'operations' WHERE reference = %s", (member,))
        hub.receiver.answer = lambda request: (200, "")
        hub.receiver.requests.clear()
        await hub.deliver()
        (told,) = hub.receiver.requests
        assert told.numbers == [1]
        assert patient.encode() not in told.body and focuses(told.json) == []
        assert await hub.status(mine["id"]) in ("active", "error")

    @pytest.mark.parametrize("change", ["active = FALSE", "role = 'practice-staff'"])
    async def test_an_account_that_is_closed_or_may_no_more(self, hub: World, change: str) -> None:
        caller = await hub.rest.user("ehr-system", f"Organization/{new_id()}")
        mine = await hub.subscribe(caller)
        await hub.deliver()
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute(
                f"UPDATE account SET {change} WHERE id = (SELECT account_id FROM subscription WHERE id = %s)",
                (mine["id"],),
            )
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        assert hub.receiver.requests == []
        assert await hub.status(mine["id"]) == "off"

    async def test_what_left_stands_in_the_trail_of_the_person_once(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        stored = await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        hub.receiver.answer = lambda request: (200, "")
        await hub.deliver()
        rows = await hub.rest.rows(
            "SELECT actor, resource_id, detail FROM audit WHERE action = 'notify' AND patient_id = %s", patient
        )
        detail = {"subscription": mine["id"], "event": 1, "content": "full-resource"}
        assert rows == [("Device/ehr", stored["id"], detail)]


class TestMeanwhile:
    """What changes between an event and its arrival."""

    async def test_what_was_deleted_keeps_its_number_and_says_nothing(self, hub: World) -> None:
        patient = await hub.rest.patient()
        await hub.subscribe(hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        stored = [await posted(hub.rest.system, pulse(patient, str(70 + n))) for n in range(2)]
        await hub.deliver()
        hub.receiver.answer = lambda request: (200, "")
        assert (await hub.rest.system("DELETE", f"/Observation/{stored[0]['id']}")).status_code == 204
        await hub.deliver()
        told = hub.receiver.requests[-1]
        assert told.numbers == [1, 2]
        assert [one["resource"]["id"] for one in told.json["entry"][1:]] == [stored[1]["id"]]

    async def test_what_was_deleted_before_anybody_looked_is_no_event(self, hub: World) -> None:
        await hub.subscribe(hub.rest.system)
        stored = await posted(hub.rest.system, pulse(await hub.rest.patient()))
        assert (await hub.rest.system("DELETE", f"/Observation/{stored['id']}")).status_code == 204
        await hub.deliver()
        assert hub.receiver.requests == []

    async def test_threat_the_headers_of_a_new_endpoint_go_to_the_old_one(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, channel={"payload": "application/fhir+json"})
        await hub.deliver()
        patient = await hub.rest.patient()
        for n in range(3):
            await posted(hub.rest.system, pulse(patient, str(70 + n)))
        changed = mine | {"status": "requested"}
        changed["channel"] = mine["channel"] | {"endpoint": hub.receiver.url + "/new", "header": ["X-Token: new"]}

        async def change() -> None:
            while not hub.receiver.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (await hub.rest.system("PUT", f"/Subscription/{mine['id']}", changed)).status_code == 200

        hub.receiver.delay = 0.2
        changing = asyncio.create_task(change())
        await hub.deliver()
        await changing
        hub.receiver.delay = 0
        await hub.deliver()
        tokens = [(one.path.startswith("/hook/new"), one.headers.get("x-token")) for one in hub.receiver.requests]
        assert set(tokens) == {(False, None), (True, "new")}
        # The one that was under way, and the two others at least, each once it was answered.
        assert len({one.path.rpartition("/")[2] for one in hub.receiver.requests}) == 3

    async def test_what_is_turned_off_during_a_handshake_stays_off(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))

        async def off() -> None:
            while not hub.receiver.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            turned = await hub.rest.system("PUT", f"/Subscription/{mine['id']}", mine | {"status": "off"})
            assert turned.status_code == 200

        answered = asyncio.Event()
        turning = asyncio.create_task(off())
        courier_ = hub.courier(target=lambda *given: Slow(*given, answered=answered))
        delivering = asyncio.create_task(hub.deliver(courier_))
        await turning
        answered.set()
        await delivering
        assert await hub.status(mine["id"]) == "off"
        assert (await hub.rest.system("GET", f"/Subscription/{mine['id']}")).json()["status"] == "off"

    async def test_a_notification_is_no_larger_than_it_need_be(
        self, hub: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        for n in range(4):
            await posted(hub.rest.system, pulse(patient, str(70 + n)))
        monkeypatch.setattr(events, "MOST_BYTES", 600)
        await hub.deliver()
        told = [one.numbers for one in hub.receiver.requests[1:]]
        assert [number for one in told for number in one] == [1, 2, 3, 4]
        assert len(told) > 1
        refused = await hub.rest.system("GET", f"/Subscription/{mine['id']}/$events")
        assert refused.status_code == 400
        assert "eventsUntilNumber" in refused.text


class Slow(Target):
    """A target that has its answer, and hands it on when it is told to."""

    def __init__(self, *given: Any, answered: asyncio.Event) -> None:
        super().__init__(*given)
        self._answered = answered

    async def send(self, *given: Any) -> None:
        await super().send(*given)
        await self._answered.wait()


async def test_a_courier_that_stops_at_once_leaves_nothing_behind(hub: World) -> None:
    """Tasks that are cancelled before they began; what they would have sent, the next courier sends."""
    await hub.subscribe(hub.rest.system)
    await posted(hub.rest.system, pulse(await hub.rest.patient()))
    one = hub.courier()
    await one.turn(hub.pg)
    await asyncio.wait_for(one.stop(), 5)
    assert hub.receiver.requests == []
    await hub.deliver()
    assert len(hub.receiver.requests) == 1


class TestHorizon:
    async def test_a_writer_holds_it_back_and_a_later_one_does_not(self, hub: World) -> None:
        horizon = Horizon()
        before = await horizon.look(hub.pg)
        assert before > 0
        insert = (
            "INSERT INTO resource_version (type, id, version, updated, author, method)"
            " VALUES ('Basic', %s, 1, now(), 'Device/x', 'DELETE') RETURNING seq"
        )
        async with hub.rest.database.transaction() as first:
            rows = await first.pg.execute(insert, (new_id(),))
            row = await rows.fetchone()
            assert row is not None and row[0] > before
            assert await horizon.look(hub.pg) == before
            async with hub.rest.database.transaction() as second:
                await second.pg.execute(insert, (new_id(),))
            assert await horizon.look(hub.pg) == before
        async with hub.rest.database.transaction() as third:
            await third.pg.execute(insert, (new_id(),))
            # Those who held it back have let go; whoever came later has a later number.
            assert await horizon.look(hub.pg) >= row[0]
            settled = horizon.settled
        assert await horizon.look(hub.pg) > settled

    async def test_those_with_nothing_new_move_on_together(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, criteria="Organization?name=nobody")
        await hub.deliver()
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        rows = await hub.rest.rows("SELECT position >= (SELECT max(seq) FROM resource_version) FROM subscription")
        assert rows == [(True,)], mine
