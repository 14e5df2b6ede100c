"""Killed at random under load: every acknowledged reading is there once, no plan is half written, the audit holds."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_flow_readings import person, spo2

from fhir.store import Change, new_id
from fhir.wire import encode
from hub import accounts, audit, embedded, flows, migrations
from hub.db import Database
from hub.identity import IMPORTER

KILLS = 20
DEVICES = 8

# Transport errors and 5xx are what a device repeats; anything else would be a wrong answer.
REPEAT = frozenset({500, 502, 503, 504})


@dataclass
class Hub:
    """A service on an embedded PostgreSQL of its own, as an installation runs it: fsync on, two processes."""

    data_dir: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    devices: list[tuple[str, str, str]] = field(default_factory=list)
    token: str = ""
    plan: tuple[str, str, str] = ("", "", "")
    process: subprocess.Popen[bytes] | None = None

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres"

    def start(self) -> None:
        """What a supervisor (systemd) does when the service has gone."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CAREHUB_")},
            "CAREHUB_DATA_DIR": str(self.data_dir),
            **self.settings,
        }
        command = [sys.executable, "-m", "hub.cli", "serve", "--port", str(self.port), "--workers", "2"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def family(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


@pytest.fixture
async def hub(data_dir: Path) -> AsyncIterator[Hub]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Hub(data_dir, probe.getsockname()[1])
    with embedded.start(made.data_dir) as server:
        migrations.upgrade(server.url)
        database = Database(server.url)
        async with database.transaction() as tx:
            for _ in range(DEVICES):
                patient_id, device = await person(tx)
                made.devices.append((patient_id, device.id, await accounts.issue_device_key(tx, device.id, "test")))
            made.plan = await _plan(tx, made.devices[0][0])
            await accounts.create_account(
                tx, "admin", "correct horse battery", name="Admin", role="administrator",
                reference="Practitioner/admin", organisations=[], hub_id=None,
            )  # fmt: skip
            made.token = await accounts.issue_token(tx, "admin", "test")
        await database.close()
    made.start()
    try:
        yield made
    finally:
        made.stop()


async def _plan(tx: Any, patient_id: str) -> tuple[str, str, str]:
    plan_id, goal_id = new_id(), new_id()
    subject = {"reference": f"Patient/{patient_id}"}
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": subject,
        "dateTime": "2026-01-02T10:00:00Z",
        "policyRule": {"text": "Agreed"},
        "provision": {"type": "permit"},
    }
    await flows.write(
        tx,
        IMPORTER,
        [
            Change("create", "Consent", new_id(), consent),
            Change("create", "Goal", goal_id, _goal(subject, 0)),
            Change("create", "CarePlan", plan_id, _care_plan(subject, goal_id, 0)),
        ],
    )
    return patient_id, plan_id, goal_id


def _goal(subject: dict[str, Any], edit: int) -> dict[str, Any]:
    return {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": {"text": f"edit {edit}"},
        "subject": subject,
        "expressedBy": subject,
    }


def _care_plan(subject: dict[str, Any], goal_id: str, edit: int) -> dict[str, Any]:
    return {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "title": f"edit {edit}",
        "subject": subject,
        "goal": [{"reference": f"Goal/{goal_id}"}],
    }


class Load:
    """Devices that repeat until they are answered, and a coordinator who keeps editing the plan."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.acknowledged: dict[tuple[str, str], str] = {}
        self.wrong: list[str] = []
        self.edits = 0
        self.ending = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        address = f"http://127.0.0.1:{self._hub.port}/fhir"
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            tasks = [asyncio.create_task(self._device(client, *device)) for device in self._hub.devices]
            tasks.append(asyncio.create_task(self._coordinator(client)))
            try:
                yield self
            finally:
                self.ending = True
                await asyncio.gather(*tasks)

    async def _device(self, client: httpx.AsyncClient, patient_id: str, device_id: str, key: str) -> None:
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=20)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/fhir+json"}
        while not self.ending:
            at += timedelta(seconds=1)
            body = encode(spo2(patient_id, random.choice(["88", "95", "97"]), at))
            answer = await self._until_answered(client, "/Observation", headers, body)
            if answer.status_code in (200, 201):
                self.acknowledged[device_id, at.isoformat()] = answer.headers["location"].split("/")[-3]
            else:
                self.wrong.append(f"{answer.status_code} {answer.text[:300]}")

    async def _coordinator(self, client: httpx.AsyncClient) -> None:
        patient_id, plan_id, goal_id = self._hub.plan
        subject = {"reference": f"Patient/{patient_id}"}
        headers = {"authorization": f"Bearer {self._hub.token}", "content-type": "application/fhir+json"}
        while not self.ending:
            self.edits += 1
            goal = _goal(subject, self.edits) | {"id": goal_id}
            plan = _care_plan(subject, goal_id, self.edits) | {"id": plan_id}
            bundle = {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [
                    {"resource": goal, "request": {"method": "PUT", "url": f"Goal/{goal_id}"}},
                    {"resource": plan, "request": {"method": "PUT", "url": f"CarePlan/{plan_id}"}},
                ],
            }
            answer = await self._until_answered(client, "", headers, encode(bundle))
            if answer.status_code != 200:
                self.wrong.append(f"{answer.status_code} {answer.text[:300]}")

    async def _until_answered(
        self, client: httpx.AsyncClient, path: str, headers: dict[str, str], body: bytes
    ) -> httpx.Response:
        while True:
            try:
                answer = await client.post(path, headers=headers, content=body)
                if answer.status_code not in REPEAT:
                    return answer
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def _answers(hub: Hub) -> None:
    """Wait until the service answers; fail when it does not come back by itself."""
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient(timeout=5) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{hub.port}/health")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    pytest.fail("the service did not come back")


async def _holds(hub: Hub, load: Load) -> None:
    """The promises, looked up in the database itself."""
    assert load.wrong == []
    assert len(load.acknowledged) > KILLS
    hub.stop()
    with embedded.start(hub.data_dir) as server:
        database = Database(server.url)
        async with database.transaction() as tx:
            stored = await (
                await tx.pg.execute("SELECT device_id, at, observation_id FROM reading WHERE device_id IS NOT NULL")
            ).fetchall()
            by_key = {(device_id, at.astimezone(UTC).isoformat()): id_ for device_id, at, id_ in stored}
            assert len(by_key) == len(stored), "a reading is there twice"
            assert {key: by_key.get(key) for key in load.acknowledged} == load.acknowledged
            observations = await (
                await tx.pg.execute("SELECT count(*), count(DISTINCT id) FROM r_observation")
            ).fetchone()
            assert observations == (len(stored), len(stored))
            flags = await (
                await tx.pg.execute("SELECT patient_id, rule, count(*) FROM flag GROUP BY 1, 2 HAVING count(*) > 1")
            ).fetchall()
            assert flags == []
            titles = await _edits(tx, "CarePlan", "title")
            goals = await _edits(tx, "Goal", "description,text")
            assert titles == goals, "a plan is half written"
            assert len(titles) > 1
        # Everything is sealed once nothing is under way, and the chain holds from its first row.
        async with database.transaction() as tx:
            await audit.seal(tx.pg)
        async with database.transaction() as tx:
            found = await audit.verify(tx.pg)
            assert found.intact, found.why
            written = await (
                await tx.pg.execute("SELECT count(*) FROM audit WHERE type = 'Observation' AND action = 'create'")
            ).fetchone()
            assert written == (len(stored),)
        await database.close()


async def _edits(tx: Any, type_: str, path: str) -> set[str]:
    rows = await tx.pg.execute(
        "SELECT body::jsonb #>> string_to_array(%s, ',') FROM resource_version WHERE type = %s", (path, type_)
    )
    return {row[0] for row in await rows.fetchall()}


def _pauses() -> Iterator[float]:
    chance = random.Random()
    for _ in range(KILLS):
        yield chance.uniform(0.05, 0.8)


@pytest.mark.timeout(400)
async def test_the_service_killed_twenty_times_loses_and_doubles_nothing(hub: Hub) -> None:
    await _answers(hub)
    async with Load(hub).running() as load:
        for number, pause in enumerate(_pauses()):
            await asyncio.sleep(pause)
            family = hub.family()
            # In turn one of its processes, which the service replaces, and the whole of it, which a supervisor does.
            victim = random.choice(family[1:]) if number % 2 and len(family) > 1 else family[0]
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            assert hub.process is not None
            if victim == hub.process.pid:
                hub.process.wait(10)
                hub.start()
            await _answers(hub)
    await _holds(hub, load)


@pytest.mark.timeout(400)
async def test_postgresql_killed_twenty_times_loses_and_doubles_nothing(hub: Hub) -> None:
    await _answers(hub)
    async with Load(hub).running() as load:
        for number, pause in enumerate(_pauses()):
            await asyncio.sleep(pause)
            postmaster = embedded.running(hub.cluster)
            assert postmaster is not None, "PostgreSQL did not come back"
            # In turn the whole server, and one of its processes, after which it restarts itself.
            victim = random.choice(embedded.processes(hub.cluster) or [postmaster]) if number % 2 else postmaster
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(0.1)
            await _answers(hub)
    await _holds(hub, load)
