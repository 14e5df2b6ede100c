"""Writers that race: 64 real connections to several worker processes, and what is left afterwards is one."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from rest import Fresh

from fhir.store import new_id
from fhir.wire import decode, encode
from hub import accounts
from hub.db import Database

JSON = dict[str, Any]
CONNECTIONS = 64
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients with a connection of their own each, all signed in as another record system."""

    clients: list[httpx.AsyncClient]

    async def all(self, send: Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]) -> list[httpx.Response]:
        return await asyncio.gather(*(send(client, number) for number, client in enumerate(self.clients)))

    async def get(self, path: str) -> JSON:
        return decode((await self.clients[0].get(path)).content)


@contextmanager
def serving(url: str, folder: Path) -> Iterator[str]:
    """The service with its processes on a free port, until the block ends; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hub.cli", "serve", "--port", str(port), "--workers", str(WORKERS)]
    environment = os.environ | {
        "CAREHUB_DATABASE_URL": url,
        "CAREHUB_DATA_DIR": str(folder),
        "CAREHUB_DEMONSTRATION": "true",
        "CAREHUB_SECRET": "tests-of-races-" * 4,
    }
    log = folder / "log"
    with log.open("wb") as output:
        service = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not _answers(address):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        service.terminate()
        service.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
async def crowd(fresh_url: Fresh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crowd]:
    url = fresh_url()
    database = Database(url, pool_size=1)
    async with database.transaction() as tx:
        kind = ("ehr-system", "Device/race")
        await accounts.create_account(tx, "race", "demonstration", "A. Racer", *kind, demonstration=True)
        token = await accounts.issue_token(tx, "race", "test")
    await database.close()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
    with serving(url, tmp_path_factory.mktemp("races")) as address:
        base = f"{address}/fhir"
        clients = [httpx.AsyncClient(base_url=base, headers=headers, timeout=60) for _ in range(CONNECTIONS)]
        try:
            yield Crowd(clients)
        finally:
            for client in clients:
                await client.aclose()


def patient(value: str, family: str = "Race") -> JSON:
    return {
        "resourceType": "Patient",
        "name": [{"family": family}],
        "identifier": [{"system": "urn:race", "value": value}],
    }


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def test_sixty_four_conditional_creates_make_one(crowd: Crowd) -> None:
    """One person is not kept twice: alone and in transactions, under the same criteria."""
    value = new_id()
    criteria = f"identifier=urn:race|{value}"

    async def create(client: httpx.AsyncClient, number: int) -> httpx.Response:
        if number % 2:
            request = {"method": "POST", "url": "Patient", "ifNoneExist": criteria}
            entries = [{"request": request, "resource": patient(value)}]
            return await client.post(
                "", content=encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})
            )
        return await client.post("/Patient", content=encode(patient(value)), headers={"if-none-exist": criteria})

    answers = await crowd.all(create)
    told = Counter(
        decode(answer.content)["entry"][0]["response"]["status"] if number % 2 else str(answer.status_code)
        for number, answer in enumerate(answers)
    )
    assert told["201"] + told["201 Created"] == 1, told
    assert told["200"] + told["200 OK"] == CONNECTIONS - 1, told
    assert (await crowd.get(f"/Patient?{criteria}&_summary=count"))["total"] == 1


async def test_sixty_four_conditional_updates_make_one_and_lose_none(crowd: Crowd) -> None:
    value = new_id()
    path = f"/Patient?identifier=urn:race%7C{value}"
    answers = await crowd.all(lambda client, n: client.put(path, content=encode(patient(value, f"Race{n}"))))
    assert statuses(answers) == {201: 1, 200: CONNECTIONS - 1}
    found = await crowd.get(path)
    assert [one["resource"]["meta"]["versionId"] for one in found["entry"]] == [str(CONNECTIONS)]


async def test_hazard_lost_update_sixty_four_updates_of_one_version_let_one_through(crowd: Crowd) -> None:
    made = decode((await crowd.clients[0].post("/Patient", content=encode(patient(new_id())))).content)
    body = {name: value for name, value in made.items() if name != "meta"}

    async def update(client: httpx.AsyncClient, number: int) -> httpx.Response:
        changed = {**body, "name": [{"family": f"Race{number}"}]}
        return await client.put(f"/Patient/{made['id']}", content=encode(changed), headers={"if-match": 'W/"1"'})

    assert statuses(await crowd.all(update)) == {200: 1, 412: CONNECTIONS - 1}


async def test_sixty_four_creations_under_one_id_let_one_through(crowd: Crowd) -> None:
    id_ = new_id()

    async def create(client: httpx.AsyncClient, number: int) -> httpx.Response:
        made = patient(str(number)) | {"id": id_}
        return await client.put(f"/Patient/{id_}", content=encode(made), headers={"if-none-match": "*"})

    assert statuses(await crowd.all(create)) == {201: 1, 412: CONNECTIONS - 1}


async def test_hazard_lost_update_sixty_four_updates_of_what_is_not_there_yet_come_one_after_another(
    crowd: Crowd,
) -> None:
    id_ = new_id()

    async def put(client: httpx.AsyncClient, number: int) -> httpx.Response:
        return await client.put(f"/Patient/{id_}", content=encode(patient(str(number)) | {"id": id_}))

    assert statuses(await crowd.all(put)) == {201: 1, 200: CONNECTIONS - 1}
    history = await crowd.get(f"/Patient/{id_}/_history?_count=100")
    values = [one["resource"]["identifier"][0]["value"] for one in history["entry"]]
    assert len(values) == CONNECTIONS and set(values) == {str(number) for number in range(CONNECTIONS)}


async def test_creations_and_deletions_of_one_id_at_once_are_all_carried_out(crowd: Crowd) -> None:
    id_ = new_id()

    async def act(client: httpx.AsyncClient, number: int) -> httpx.Response:
        if number % 2:
            return await client.delete(f"/Patient/{id_}")
        return await client.put(f"/Patient/{id_}", content=encode(patient(str(number)) | {"id": id_}))

    found = statuses(await crowd.all(act))
    assert found[204] == CONNECTIONS // 2
    assert found[200] + found[201] == CONNECTIONS // 2
    assert found[201] >= 1


async def test_hazard_lost_update_sixty_four_patches_are_all_kept(crowd: Crowd) -> None:
    made = decode((await crowd.clients[0].post("/Patient", content=encode(patient(new_id())))).content)

    async def patch(client: httpx.AsyncClient, number: int) -> httpx.Response:
        operations = [{"op": "add", "path": "/name/-", "value": {"family": f"Race{number}"}}]
        headers = {"content-type": "application/json-patch+json"}
        return await client.patch(f"/Patient/{made['id']}", content=encode(operations), headers=headers)

    assert statuses(await crowd.all(patch)) == {200: CONNECTIONS}
    names = {one["family"] for one in (await crowd.get(f"/Patient/{made['id']}"))["name"]}
    assert names == {"Race", *(f"Race{number}" for number in range(CONNECTIONS))}


async def test_sixty_four_deletions_by_criteria(crowd: Crowd) -> None:
    value = new_id()
    made = decode((await crowd.clients[0].post("/Patient", content=encode(patient(value)))).content)
    answers = await crowd.all(lambda client, _: client.delete(f"/Patient?identifier=urn:race%7C{value}"))
    assert statuses(answers) == {204: CONNECTIONS}
    history = await crowd.get(f"/Patient/{made['id']}/_history")
    assert [one["request"]["method"] for one in history["entry"]] == ["DELETE", "POST"]
