"""The real service in a process of its own, with a small population, and browsers that are signed in to it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from care_plans import team
from fhir import store
from fhir.store import Change, new_id
from hub import accounts, demo, flows, importer, population, sources
from hub.accounts import NewAccount
from hub.db import Database
from hub.identity import IMPORTER
from hub.population import Recipe

JSON = dict[str, Any]

ROOT = Path(__file__).parents[1]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
SIZE = 20
PATIENCE = 60.0
# Two cores may be busy with other tests: a slow page is not a wrong one.
expect.set_options(timeout=20_000)
HUB = demo.SIGN_INS[0].hub
SECOND = demo.SignIn("coordinator2", "care-coordinator", f"Practitioner/{HUB}-nurse-01", HUB, HUB, "")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Where the browser is. A missing one fails in CI; elsewhere the tests are skipped and say what to do."""
    found = os.environ.get("CAREHUB_CHROMIUM") or next(
        (path for name in CHROMIUM if (path := shutil.which(name))), None
    )
    if found:
        return found
    remedy = "no Chromium found: `apt-get install chromium`, or set CAREHUB_CHROMIUM to where it is"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)


@dataclass
class Service:
    """The running service. `problems` collects what browsers complained of: each test ends without any."""

    address: str
    database: Database
    browser: Browser
    device_keys: dict[str, str]
    states: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def signed_in(self, username: str | None, size: dict[str, int] = DESK, **options: Any) -> AsyncIterator[Page]:
        """A page of a browser in which *username* is signed in (None: nobody)."""
        if username is not None and username not in self.states:
            self.states[username] = await self._sign_in(username)
        context = await self.browser.new_context(
            viewport=size, base_url=self.address, locale="en-GB", timezone_id="America/New_York",
            storage_state=self.states.get(username or ""), **options,
        )  # fmt: skip
        try:
            yield await self.watched(context)
        finally:
            await context.close()

    async def watched(self, context: BrowserContext) -> Page:
        page = await context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._heard(message.type, message.text))
        return page

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and "the server responded with a status of 4" not in text:
            self.problems.append(text)

    async def _sign_in(self, username: str) -> Any:
        context = await self.browser.new_context(base_url=self.address)
        page = await self.watched(context)
        await page.goto("/sign-in")
        await page.fill("#username", username)
        await page.fill("#password", demo.PASSWORD)
        await page.click("main button:has-text('Sign in')")
        assert "/sign-in" not in page.url, await page.inner_text("main")
        state = await context.storage_state()
        await context.close()
        return state

    async def post(self, patient_id: str, code: str, value: float, unit: str, **more: Any) -> None:
        """A reading from the person's device, as a device sends it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        device = self.device_keys[patient_id]
        async with httpx.AsyncClient(base_url=self.address) as client:
            answer = await client.post(
                "/fhir/Observation",
                json={
                    "resourceType": "Observation",
                    "status": "final",
                    "category": [{"coding": [{"system": _CATEGORY, "code": "vital-signs"}]}],
                    "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                    "subject": {"reference": f"Patient/{patient_id}"},
                    "device": {"reference": f"Device/{device.partition(' ')[0]}"},
                    "effectiveDateTime": now,
                    "valueQuantity": {
                        "value": value,
                        "unit": unit,
                        "system": "http://unitsofmeasure.org",
                        "code": unit,
                    },
                    "identifier": [{"system": "urn:test", "value": new_id()}],
                    **more,
                },
                headers={"authorization": f"Bearer {device.partition(' ')[2]}"},
            )
        assert answer.status_code == 201, answer.text

    async def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        async with self.database.transaction() as tx:
            row = await (await tx.pg.execute(query, values)).fetchone()
        return row[0] if row else None

    async def column(self, query: str, *values: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return [row[0] for row in await (await tx.pg.execute(query, values)).fetchall()]


async def held(service: Service, number: int) -> str:
    """One of the people in whose team the coordinator is, who has an active plan and a device."""
    found = await service.column(
        "SELECT DISTINCT a.patient_id FROM access a"
        " JOIN plan ON plan.patient_id = a.patient_id AND plan.status = 'active'"
        " WHERE a.subject = %s AND a.basis = 'team' AND a.patient_id = ANY(%s) ORDER BY 1",
        demo.SIGN_INS[0].reference,
        list(service.device_keys),
    )
    assert found, "the population gives the coordinator nobody with a plan and a device"
    return str(found[number % len(found)])


async def cleared(service: Service, number: int) -> str:
    """One of the coordinator's people, whose flags are all closed."""
    person = await held(service, number)
    async with service.database.transaction() as tx:
        rows = await tx.pg.execute(
            "SELECT id FROM flag WHERE patient_id = %s AND state NOT IN ('resolved', 'false-alarm')", (person,)
        )
        for (flag_id,) in await rows.fetchall():
            await flows.resolve_flag(tx, IMPORTER, flag_id, "cleared for a test")
    return person


async def low_oxygen(service: Service, number: int, percent: float) -> str:
    """A red flag, just raised by a device, for one of the coordinator's people whose older flags are all closed."""
    person = await cleared(service, number)
    await service.post(person, "59408-5", percent, "%")
    return person


async def person_without_plan(service: Service) -> str:
    """A person of the hub who is registered and has a team, and nothing more."""
    patient_id, now = new_id(), datetime.now(UTC)
    hub = {"reference": f"Organization/{HUB}"}
    patient = {
        "resourceType": "Patient",
        "meta": {"security": [{"system": _REASON, "code": "HTEST"}]},
        "name": [{"family": "Newcome", "given": ["Ann"]}],
        "birthDate": "1950-02-03",
        "managingOrganization": hub,
    }
    care_team = team.new_team(new_id(), f"Patient/{patient_id}", now, hub=hub["reference"])
    async with service.database.transaction() as tx:
        changes = [
            Change("create", "Patient", patient_id, patient),
            Change("create", "CareTeam", care_team["id"], care_team),
        ]
        await flows.write(tx, IMPORTER, changes)
    return patient_id


_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Service]:
    """The service on a free port of the loopback address, with its own people, until the block ends."""
    executable = chromium()
    database = Database(url, pool_size=2)
    try:
        keys = await _settle(database)
        with tempfile.TemporaryDirectory(prefix="carehub-pages-") as folder, _serving(url, Path(folder)) as address:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=executable,
                    args=[
                        "--no-sandbox",
                        "--disable-gpu",
                        "--disable-background-networking",
                        "--disable-dev-shm-usage",
                    ],
                )
                try:
                    yield Service(address, database, browser, keys)
                finally:
                    await browser.close()
    finally:
        await database.close()


async def _settle(database: Database) -> dict[str, str]:
    """People, accounts for every role, and a device key for everyone who holds a device (`device-id key` by person)."""
    moment = datetime.now(UTC).replace(second=0, microsecond=0)
    with tempfile.TemporaryDirectory(prefix="carehub-people-") as folder:
        made = population.write(Recipe(SIZE, moment, demo.SEED, days=5), Path(folder))
        summary = await importer.run(database, sources.discover(list(made.files)))
    assert not summary.refused, summary.refused[0]
    hashed = await accounts.hash_password(demo.PASSWORD)
    keys: dict[str, str] = {}
    async with database.transaction() as tx:
        wanted = [*demo.SIGN_INS, SECOND]
        people = await store.load(tx.pg, [tuple(one.reference.split("/")) for one in wanted])  # type: ignore[misc]
        names = {f"{one.type}/{one.id}": (one.resource or {})["name"][0] for one in people.values()}
        await accounts.create_accounts(
            tx,
            [
                NewAccount(
                    one.username,
                    " ".join([*names[one.reference]["given"], names[one.reference]["family"]]),
                    one.role,
                    one.reference,
                    (f"Organization/{one.organisation}",) if one.organisation else (),
                    one.hub,
                    hashed,
                )
                for one in wanted
            ],
            demonstration=True,
        )
        rows = await tx.pg.execute(
            "SELECT DISTINCT ON (patient_id) patient_id, id FROM device"
            " WHERE patient_id IS NOT NULL AND status = 'active' ORDER BY patient_id, id"
        )
        for patient_id, device_id in await rows.fetchall():
            keys[patient_id] = f"{device_id} {await accounts.issue_device_key(tx, device_id)}"
    return keys


def _serving(url: str, folder: Path) -> "_Process":
    return _Process(url, folder)


class _Process:
    """`carehub serve`, ended by its own process id."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {
            "CAREHUB_DATABASE_URL": self._url,
            "CAREHUB_DATA_DIR": str(self._folder),
            "CAREHUB_DEMONSTRATION": "true",
            "CAREHUB_SECRET": "tests-of-pages-" * 4,
        }
        log = Path(os.environ.get("CAREHUB_TEST_LOG") or self._folder / "serve.log")
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hub.cli",
                    "serve",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--workers",
                    "1",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                    return address
            except httpx.TransportError:
                pass
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                pytest.fail(f"the service did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


@pytest.fixture(scope="session")
async def service(fresh_url: Callable[[], str]) -> AsyncIterator[Service]:
    async with running(fresh_url()) as service:
        yield service


@pytest.fixture(autouse=True)
def no_complaints(request: pytest.FixtureRequest) -> Iterator[None]:
    """No page may raise in the browser or break the content security policy."""
    yield
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        problems, service.problems = service.problems, []
        assert problems == []
