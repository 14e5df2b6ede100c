"""A receiver of notifications on this machine, and a courier that goes when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from rest import Caller, Rest, running

from fhir.store import new_id
from fhir.subscriptions import CONTENT, FILTER
from fhir.wire import decode
from hub.subscriptions.courier import LOCK, Courier
from hub.subscriptions.targets import Policy
from hub.subscriptions.topics import BASE

JSON = dict[str, Any]


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def json(self) -> JSON:
        return decode(self.body)

    @property
    def kind(self) -> str:
        return str(parameter(self.json["entry"][0]["resource"], "type")["valueCode"])

    @property
    def numbers(self) -> list[int]:
        return numbers(self.json)


def parameter(parameters: JSON, name: str) -> JSON:
    return next(one for one in parameters["parameter"] if one["name"] == name)


def numbers(bundle: JSON) -> list[int]:
    """The numbers of the events in a notification."""
    return [
        int(part["valueString"])
        for one in bundle["entry"][0]["resource"]["parameter"]
        if one["name"] == "notification-event"
        for part in one["part"]
        if part["name"] == "event-number"
    ]


def focuses(bundle: JSON) -> list[str]:
    return [
        part["valueReference"]["reference"]
        for one in bundle["entry"][0]["resource"]["parameter"]
        if one["name"] == "notification-event"
        for part in one["part"]
        if part["name"] == "focus"
    ]


@dataclass
class Receiver:
    """An HTTP server that keeps what it is sent and answers as `answer` says: a status, and headers."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, str]] = lambda request: (200, "")
    delay: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def policy(self) -> Policy:
        return Policy.of(f"127.0.0.1:{self.port}", True, "127.0.0.0/8")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(method, path, headers, body)
                await asyncio.sleep(self.delay)
                request.status, more = self.answer(request)
                self.requests.append(request)
                writer.write(f"HTTP/1.1 {request.status} Said\r\ncontent-length: 0\r\n{more}\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@dataclass
class World:
    """The application, a receiver, and the courier's hands: nothing is delivered until `deliver`."""

    rest: Rest
    receiver: Receiver
    pg: psycopg.AsyncConnection[Any]
    ahead: timedelta = timedelta()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def courier(self, **more: Any) -> Courier:
        return Courier(self.rest.database, self.receiver.policy, "https://hub.test/fhir", now=lambda: self.now, **more)

    async def deliver(self, courier: Courier | None = None) -> None:
        """Everything that is due now, whatever pause it is in."""
        await self.pg.execute("UPDATE subscription SET next_attempt = NULL")
        chosen = courier or self.courier()
        await chosen.turn(self.pg)
        await chosen.rest()

    async def subscribe(self, caller: Caller, **elements: Any) -> JSON:
        response = await caller("POST", "/Subscription", self.asking(**elements))
        assert response.status_code == 201, response.text
        return decode(response.content)

    def asking(self, criteria: str = "Observation?code=http://loinc.org|8867-4", **elements: Any) -> JSON:
        channel = {"type": "rest-hook", "endpoint": self.receiver.url, **elements.pop("channel", {})}
        asked = {"resourceType": "Subscription", "status": "requested", "reason": "Test", "criteria": criteria}
        return {**asked, "channel": channel, **elements}

    def topical(self, topic: str, *filters: str, content: str = "id-only", **elements: Any) -> JSON:
        channel = {
            "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": CONTENT, "valueCode": content}]},
            **elements.pop("channel", {}),
        }
        more: JSON = {}
        if filters:
            more["_criteria"] = {"extension": [{"url": FILTER, "valueString": one} for one in filters]}
        return self.asking(BASE + topic, channel=channel, **more, **elements)

    async def status(self, id_: str) -> str:
        return str((await self.rest.rows("SELECT status FROM subscription WHERE id = %s", id_))[0][0])


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    async with (
        running(url) as rest,
        receiving() as receiver,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as pg,
    ):
        # Whoever holds the lock is the courier: the application's own then stays out of it.
        await pg.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield World(rest, receiver, pg)


@asynccontextmanager
async def nothing_subscribed(made: World) -> AsyncIterator[World]:
    """*made* as it began: no subscriptions, and a receiver that has heard nothing."""
    async with made.rest.database.transaction() as tx:
        await tx.pg.execute("DELETE FROM subscription_event")
        await tx.pg.execute("DELETE FROM subscription")
    made.receiver.requests.clear()
    made.receiver.answer = lambda request: (200, "")
    made.receiver.delay = 0.0
    made.ahead = timedelta()
    yield made


def pulse(patient_id: str, value: str = "70", **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": datetime.now(UTC).isoformat(),
        "valueQuantity": {"value": Decimal(value), "system": "http://unitsofmeasure.org", "code": "/min"},
        **elements,
    }


async def posted(caller: Caller, resource: JSON) -> JSON:
    response = await caller("POST", f"/{resource['resourceType']}", resource)
    assert response.status_code == 201, response.text
    return decode(response.content)


async def coordinator(hub: World, *patients: str) -> Caller:
    """A care coordinator in the team of *patients*."""
    reference = f"Practitioner/{new_id()}"
    caller = await hub.rest.user("care-coordinator", reference)
    for one in patients:
        await team(hub, one, reference)
    return caller


async def team(hub: World, patient_id: str, *members: str, status: str = "active") -> JSON:
    return await posted(
        hub.rest.system,
        {
            "resourceType": "CareTeam",
            "status": status,
            "subject": {"reference": f"Patient/{patient_id}"},
            "participant": [{"member": {"reference": one}} for one in members],
        },
    )
