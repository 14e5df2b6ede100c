"""Delivery by the running service, killed at random: every event arrives, the first time in order, without gaps."""

import asyncio
import base64
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from subscribing import Receiver, Request, focuses, numbers, parameter, receiving
from test_flow_faults import Hub
from test_flow_readings import person, spo2

from fhir.subscriptions import CONTENT
from fhir.wire import decode, encode
from hub import accounts, embedded, migrations
from hub.db import Database
from hub.subscriptions.topics import BASE

pytestmark = pytest.mark.fault

KILLS = 4
EVENTS = 60
JSON = dict[str, Any]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def hub(data_dir: Path, receiver: Receiver) -> AsyncIterator[Hub]:
    """A service of two processes that may send to the receiver; `token` is another system's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Hub(data_dir, probe.getsockname()[1])
    made.settings = {
        "CAREHUB_SUBSCRIPTION_TARGETS": f"127.0.0.1:{receiver.port}",
        "CAREHUB_SUBSCRIPTION_HTTP": "true",
        "CAREHUB_SUBSCRIPTION_NETWORKS": "127.0.0.0/8",
    }
    with embedded.start(data_dir) as server:
        migrations.upgrade(server.url)
        database = Database(server.url)
        async with database.transaction() as tx:
            patient_id, device = await person(tx)
            made.devices.append((patient_id, device.id, await accounts.issue_device_key(tx, device.id, "test")))
            await accounts.create_account(
                tx, "ehr", "correct horse battery", name="EHR", role="ehr-system", reference="Organization/ehr",
                organisations=[], hub_id=None,
            )  # fmt: skip
            made.token = await accounts.issue_token(tx, "ehr", "test")
        await database.close()
        made.start()
        try:
            yield made
        finally:
            made.stop()


async def until_answered(client: httpx.AsyncClient, path: str, token: str, resource: JSON | None = None) -> JSON:
    """As a device does it: again, until there is an answer."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
    for _ in range(300):
        with suppress(httpx.TransportError):
            method = "GET" if resource is None else "POST"
            body = None if resource is None else encode(resource)
            answer = await client.request(method, path, content=body, headers=headers)
            if answer.status_code < 500:
                assert answer.status_code in (200, 201), answer.text
                return decode(answer.content)
        await asyncio.sleep(0.1)
    raise AssertionError(f"{path} was not answered")


def asking(channel: JSON) -> JSON:
    payload = {"extension": [{"url": CONTENT, "valueCode": "id-only"}]}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "Test",
        "criteria": BASE + "reading-received",
        "channel": {"payload": "application/fhir+json", "_payload": payload, **channel},
    }


async def test_killed_at_random_every_event_arrives_in_order(hub: Hub, receiver: Receiver) -> None:
    patient_id, _, key = hub.devices[0]
    sent: list[str] = []
    # A receiver that fails now and then as well.
    receiver.answer = lambda request: (503 if random.random() < 0.2 else 200, "")

    async def device(client: httpx.AsyncClient) -> None:
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=20)
        for number in range(EVENTS):
            answer = await until_answered(
                client, "/Observation", key, spo2(patient_id, "97", at + timedelta(seconds=number))
            )
            sent.append(answer["id"])
            await asyncio.sleep(0.05)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.port}/fhir", timeout=10) as client:
        mine = await until_answered(
            client, "/Subscription", hub.token, asking({"type": "rest-hook", "endpoint": receiver.url})
        )
        posting = asyncio.create_task(device(client))
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.8, 2.0))
            victim = random.choice(hub.family())
            os.kill(victim, signal.SIGKILL)
            assert hub.process is not None
            if victim == hub.process.pid:
                hub.process.wait(10)
                hub.start()
        await posting
        for _ in range(300):
            if len(set(arrived(receiver))) == EVENTS:
                break
            await asyncio.sleep(0.2)
        status = await until_answered(client, f"/Subscription/{mine['id']}/$status", hub.token)
        assert parameter(status["entry"][0]["resource"], "status")["valueCode"] == "active"

    for seen in (receiver.requests, taken(receiver)):
        order = list(dict.fromkeys(number for one in seen for number in one.numbers))
        assert order == list(range(1, EVENTS + 1)), "the first time that each came, in order and without gaps"
    found = list(dict.fromkeys(arrived(receiver)))
    assert found == sent


def taken(receiver: Receiver) -> list[Request]:
    return [one for one in receiver.requests if one.status == 200]


def arrived(receiver: Receiver) -> list[str]:
    """The readings of all notifications that were taken, in the order they came."""
    return [focus.rpartition("/")[2] for one in taken(receiver) for focus in focuses(one.json)]


async def test_a_websocket_of_the_running_service(hub: Hub) -> None:
    """Through granian, by hand: upgrade, bind, handshake, event."""
    patient_id, _, key = hub.devices[0]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.port}/fhir", timeout=10) as client:
        mine = await until_answered(client, "/Subscription", hub.token, asking({"type": "websocket"}))
        for _ in range(100):
            read = await until_answered(client, f"/Subscription/{mine['id']}", hub.token)
            if read["status"] == "active":
                break
            await asyncio.sleep(0.1)
        got = await until_answered(client, f"/Subscription/{mine['id']}/$get-ws-binding-token", hub.token)
        url = httpx.URL(parameter(got, "websocket-url")["valueUrl"])
        reader, writer = await asyncio.open_connection(url.host, url.port)
        secret = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {url.path} HTTP/1.1\r\nhost: {url.host}:{url.port}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {secret}\r\n\r\n".encode()
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(f"bind-with-token {parameter(got, 'token')['valueString']}"))
        handshake = decode(await message(reader))
        assert parameter(handshake["entry"][0]["resource"], "type")["valueCode"] == "handshake"
        stored = await until_answered(client, "/Observation", key, spo2(patient_id, "97", datetime.now(UTC)))
        event = decode(await message(reader))
        assert numbers(event) == [1]
        assert focuses(event) == [f"Observation/{stored['id']}"]
        hub.stop()
        # The service lets go of whoever listens, instead of waiting for them.
        assert hub.process is not None and hub.process.returncode == 0
        writer.close()


def frame(text: str) -> bytes:
    """A short masked text frame (RFC 6455, 5.2)."""
    mask = os.urandom(4)
    payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text.encode()))
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload))) + mask + payload


async def message(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(15):
        first, length = await reader.readexactly(2)
        assert first == 0x81
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)
