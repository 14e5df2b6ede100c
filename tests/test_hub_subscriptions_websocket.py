"""The websocket: who may bind, what is told, and what a connection that should not be there learns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest import Caller, Fresh
from subscribing import World, focuses, numbers, parameter, posted, pulse, team, world

from fhir.store import new_id
from fhir.wire import decode
from hub import accounts
from hub.identity import account_actor
from hub.subscriptions import websocket

JSON = dict[str, Any]
SOON = 5.0


@pytest.fixture(scope="module")
async def hub(fresh_url: Fresh) -> AsyncIterator[World]:
    async with world(fresh_url()) as one:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LOOK", 0.02)


class Socket:
    """The client's side of a connection, spoken to the application itself."""

    def __init__(self) -> None:
        self.to_app: asyncio.Queue[JSON] = asyncio.Queue()
        self.from_app: asyncio.Queue[JSON] = asyncio.Queue()

    async def say(self, text: str) -> None:
        await self.to_app.put({"type": "websocket.receive", "text": text})

    async def text(self) -> str:
        message = await asyncio.wait_for(self.from_app.get(), SOON)
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    async def bundle(self) -> JSON:
        return decode((await self.text()).encode())

    async def closed(self) -> int:
        message = await asyncio.wait_for(self.from_app.get(), SOON)
        assert message["type"] == "websocket.close", message
        return int(message["code"])

    async def silent(self) -> None:
        await asyncio.sleep(0.2)
        assert self.from_app.empty(), self.from_app.get_nowait()


@asynccontextmanager
async def connected(hub: World, **headers: str) -> AsyncIterator[Socket]:
    app: Any = hub.rest.client._transport.app  # type: ignore[attr-defined]
    socket = Socket()
    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "path": websocket.PATH,
        "raw_path": websocket.PATH.encode(), "query_string": b"", "root_path": "", "subprotocols": [], "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "127.0.0.1", **headers}.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    task = asyncio.create_task(app(scope, socket.to_app.get, socket.from_app.put))
    await socket.to_app.put({"type": "websocket.connect"})
    try:
        first = await asyncio.wait_for(socket.from_app.get(), SOON)
        if first["type"] != "websocket.accept":
            await socket.from_app.put(first)
        yield socket
    finally:
        await socket.to_app.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, SOON)


async def asked(hub: World, caller: Caller, **elements: Any) -> str:
    """The id of a subscription with a websocket, active."""
    elements = {**elements, "channel": {**elements.get("channel", {}), "type": "websocket"}}
    resource = hub.asking(**elements)
    resource["channel"].pop("endpoint", None)
    response = await caller("POST", "/Subscription", resource)
    assert response.status_code == 201, response.text
    await hub.deliver()
    return str(response.json()["id"])


async def token_for(caller: Caller, id_: str) -> str:
    response = await caller("POST", f"/Subscription/{id_}/$get-ws-binding-token")
    assert response.status_code == 200, response.text
    assert parameter(response.json(), "websocket-url")["valueUrl"] == "ws://127.0.0.1/fhir/$subscriptions"
    return str(parameter(response.json(), "token")["valueString"])


def bearer(caller: Caller) -> str:
    return caller._headers["authorization"]


class TestR4:
    async def test_bind_by_id_and_ping(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system)
        async with connected(hub, authorization=bearer(hub.rest.system)) as socket:
            await socket.say(f"bind {id_}")
            assert await socket.text() == f"bound {id_}"
            await posted(hub.rest.system, pulse(await hub.rest.patient()))
            await hub.deliver()
            assert await socket.text() == f"ping {id_}"
            await socket.silent()

    async def test_threat_anothers_is_not_bound(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system)
        other = await hub.rest.user("administrator", f"Practitioner/{new_id()}")
        for wrong in (id_, "unknown", "../x"):
            async with connected(hub, authorization=bearer(other)) as socket:
                await socket.say(f"bind {wrong}")
                assert await socket.closed() == websocket.REFUSED

    async def test_threat_a_token_of_limited_scope_is_told_all_that_the_account_sees(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system)
        (row,) = await hub.rest.rows(
            "SELECT account.id, name, role, reference, organisations, hub_id FROM account"
            " JOIN subscription ON subscription.account_id = account.id WHERE subscription.id = %s",
            id_,
        )
        async with hub.rest.database.transaction() as tx:
            token = await accounts.issue_scoped(tx, account_actor(*row), "system/Patient.rs", timedelta(minutes=5))
        async with connected(hub, authorization=f"Bearer {token}") as socket:
            await socket.say(f"bind {id_}")
            assert await socket.closed() == websocket.REFUSED

    async def test_threat_a_rest_hook_is_not_listened_to(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        async with connected(hub, authorization=bearer(hub.rest.system)) as socket:
            await socket.say(f"bind {mine['id']}")
            assert await socket.closed() == websocket.REFUSED

    async def test_threat_nobody_binds_by_id(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system)
        async with connected(hub) as socket:
            await socket.say(f"bind {id_}")
            assert await socket.closed() == websocket.REFUSED

    async def test_threat_a_page_of_another_site_uses_a_readers_session(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system)
        async with connected(hub, cookie="carehub_session=x", origin="https://evil.example") as socket:
            await socket.say(f"bind {id_}")
            assert await socket.closed() == websocket.REFUSED

    async def test_a_credential_that_does_not_hold(self, hub: World) -> None:
        async with connected(hub, authorization="Bearer cht_wrong") as socket:
            assert await socket.closed() == websocket.UNKNOWN

    @pytest.mark.parametrize("text", ["hello", "", "bind", "bind " + "x" * 2000])
    async def test_what_is_not_understood(self, hub: World, text: str) -> None:
        async with connected(hub, authorization=bearer(hub.rest.system)) as socket:
            await socket.say(text)
            assert await socket.closed() == websocket.REFUSED

    async def test_a_connection_that_binds_nothing(self, hub: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket, "BINDING", 0.05)
        async with connected(hub) as socket:
            assert await socket.closed() == websocket.REFUSED

    async def test_threat_so_many_connections_that_nobody_else_is_answered(
        self, hub: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(websocket, "MOST_SOCKETS", 2)
        async with connected(hub), connected(hub), connected(hub) as third:
            assert await third.closed() == websocket.TOO_MANY
        async with connected(hub) as later:
            await later.silent()

    async def test_a_connection_ends_after_a_while(self, hub: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket, "LONGEST", 0.05)
        async with connected(hub) as socket:
            assert await socket.closed() == websocket.ENDED


class TestTopics:
    async def test_a_token_binds_and_events_come(self, hub: World) -> None:
        patient = await hub.rest.patient()
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(hub.rest.system, id_)}")
            handshake = await socket.bundle()
            assert parameter(handshake["entry"][0]["resource"], "type")["valueCode"] == "handshake"
            stored = [await posted(hub.rest.system, pulse(patient, str(70 + n))) for n in range(3)]
            await hub.deliver()
            told = await socket.bundle()
            assert numbers(told) == [1, 2, 3]
            assert [entry["resource"] for entry in told["entry"][1:]] == stored
        rows = await hub.rest.rows(
            "SELECT patient_id FROM audit WHERE action = 'notify' AND detail->>'subscription' = %s", id_
        )
        assert rows == [(patient,)] * 3

    async def test_what_was_missed_is_asked_for(self, hub: World) -> None:
        patient = await hub.rest.patient()
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received"))
        stored = await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(hub.rest.system, id_)}")
            handshake = await socket.bundle()
            assert parameter(handshake["entry"][0]["resource"], "events-since-subscription-start")["valueString"] == "1"
            await socket.silent()
        again = (await hub.rest.system("GET", f"/Subscription/{id_}/$events?eventsSinceNumber=1")).json()
        assert [one.rpartition("/")[2] for one in focuses(again)] == [stored["id"]]

    async def test_threat_a_token_is_used_twice(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received"))
        token = await token_for(hub.rest.system, id_)
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {token}")
            await socket.bundle()
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {token}")
            assert await socket.closed() == websocket.REFUSED

    async def test_threat_a_token_is_used_later(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received"))
        token = await token_for(hub.rest.system, id_)
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute("UPDATE subscription_token SET expires = now()")
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {token}")
            assert await socket.closed() == websocket.REFUSED

    async def test_a_token_is_for_ones_own_and_for_websockets(self, hub: World) -> None:
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received"))
        operator = await hub.rest.user("operations", f"Practitioner/{new_id()}")
        assert (await operator("POST", f"/Subscription/{id_}/$get-ws-binding-token")).status_code == 422
        coordinator = await hub.rest.user("care-coordinator", f"Practitioner/{new_id()}")
        assert (await coordinator("POST", f"/Subscription/{id_}/$get-ws-binding-token")).status_code == 404
        hook = await hub.subscribe(hub.rest.system)
        refused = await hub.rest.system("GET", f"/Subscription/{hook['id']}/$get-ws-binding-token")
        assert refused.status_code == 422

    async def test_several_at_once(self, hub: World) -> None:
        caller = await hub.rest.user("ehr-system", f"Organization/{new_id()}")
        ids = [await asked(hub, caller, **hub.topical(topic)) for topic in ("reading-received", "task-assigned")]
        response = await caller("GET", f"/Subscription/$get-ws-binding-token?id={','.join(ids)}")
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {parameter(response.json(), 'token')['valueString']}")
            bound = [parameter((await socket.bundle())["entry"][0]["resource"], "subscription") for _ in ids]
            assert {one["valueReference"]["reference"].rpartition("/")[2] for one in bound} == set(ids)

    async def test_who_loses_access_is_told_no_more(self, hub: World) -> None:
        patient = await hub.rest.patient()
        member = f"Practitioner/{new_id()}"
        caller = await hub.rest.user("clinician", member)
        kept = await team(hub, patient, member)
        id_ = await asked(hub, caller, **hub.topical("reading-received", content="full-resource"))
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(caller, id_)}")
            await socket.bundle()
            await posted(hub.rest.system, pulse(patient, "70"))
            await hub.deliver()
            assert numbers(await socket.bundle()) == [1]
            ended = kept | {"status": "inactive"}
            assert (await hub.rest.system("PUT", f"/CareTeam/{kept['id']}", ended)).status_code == 200
            await posted(hub.rest.system, pulse(patient, "71"))
            await hub.deliver()
            await socket.silent()

    async def test_heartbeats(self, hub: World, monkeypatch: pytest.MonkeyPatch) -> None:
        asked_ = hub.topical("reading-received")
        url = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period"
        asked_["channel"]["extension"] = [{"url": url, "valueUnsignedInt": 10}]
        id_ = await asked(hub, hub.rest.system, **asked_)
        monkeypatch.setattr(websocket, "timedelta", lambda seconds: timedelta(seconds=seconds / 100))
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(hub.rest.system, id_)}")
            kinds = [parameter((await socket.bundle())["entry"][0]["resource"], "type")["valueCode"] for _ in range(2)]
            assert kinds == ["handshake", "heartbeat"]

    async def test_its_end_is_told_and_the_connection_closed(self, hub: World) -> None:
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        id_ = await asked(hub, hub.rest.system, **hub.topical("reading-received", end=end))
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(hub.rest.system, id_)}")
            await socket.bundle()
            hub.ahead = timedelta(hours=2)
            await hub.deliver()
            hub.ahead = timedelta()
            last = (await socket.bundle())["entry"][0]["resource"]
            assert parameter(last, "status")["valueCode"] == "off"
            assert await socket.closed() == websocket.ENDED

    async def test_a_closed_account_is_told_nothing(self, hub: World) -> None:
        caller = await hub.rest.user("ehr-system", f"Organization/{new_id()}")
        id_ = await asked(hub, caller, **hub.topical("reading-received"))
        async with connected(hub) as socket:
            await socket.say(f"bind-with-token {await token_for(caller, id_)}")
            await socket.bundle()
            async with hub.rest.database.transaction() as tx:
                await tx.pg.execute(
                    "UPDATE account SET active = FALSE"
                    " WHERE id = (SELECT account_id FROM subscription WHERE id = %s)", (id_,)
                )  # fmt: skip
            await posted(hub.rest.system, pulse(await hub.rest.patient()))
            await hub.deliver()
            assert parameter((await socket.bundle())["entry"][0]["resource"], "status")["valueCode"] == "off"
            assert await socket.closed() == websocket.ENDED
