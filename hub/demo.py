"""The demonstration: PostgreSQL, people, accounts, the service and devices posting live, all in one command.

It always uses an embedded PostgreSQL of its own, so that synthetic people never meet real ones.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from fhir import store
from hub import accounts, embedded, importer, migrations, population, sources
from hub.accounts import NewAccount
from hub.children import end_with_parent
from hub.db import Database
from hub.demonstration import fleet
from hub.demonstration.places import HUBS, PARTNERS, PRACTICES
from hub.population import Recipe
from hub.sources import Source

PASSWORD = "westlevels"  # noqa: S105  printed for everyone; the service accepts it in a demonstration only
SEED = 1
LONG = 4  # people with a year of readings behind them
# The device whose key is printed, to try a reading with.
DEVICE = "cuff-000001"

# Minutes of the simulated day in a minute: morning round to evening round takes six.
SPEED = "120"

PATIENCE = 60.0  # seconds until the service answers
GRACE = 15.0  # seconds that a child is given to end

JSON = dict[str, Any]
Tell = Callable[[str], None]


class Failed(Exception):
    """The demonstration cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class SignIn:
    username: str
    role: str
    reference: str
    organisation: str | None
    hub: str | None
    shows: str


_HUB, _PRACTICE, _COUNCIL, _CHARITY, _OFFICE = (
    HUBS[0].id, PRACTICES[0].id, PARTNERS[1][0], PARTNERS[2][0], PARTNERS[3][0],
)  # fmt: skip

SIGN_INS = (
    SignIn("coordinator", "care-coordinator", f"Practitioner/{_HUB}-coordinator-01", _HUB, _HUB, "Today board, plans"),
    SignIn("coach", "health-coach", f"Practitioner/{_HUB}-coach-01", _HUB, _HUB, "caseload and goals"),
    SignIn("clinician", "clinician", f"Practitioner/{_HUB}-geriatrician-01", _HUB, _HUB, "MDT board, limits"),
    SignIn(
        "practice", "practice-staff", f"Practitioner/{_PRACTICE}-nurse-01", _PRACTICE, _HUB, "the practice's people"
    ),
    SignIn("social", "social-worker", f"Practitioner/{_HUB}-social-worker-01", _COUNCIL, None, "plans of their people"),
    SignIn("voluntary", "voluntary-worker", f"Practitioner/{_HUB}-village-agent-01", _CHARITY, None, "their referrals"),
    SignIn("patient", "patient", "Patient/person-000001", None, None, "my plan, on a phone"),
    SignIn("carer", "carer", "RelatedPerson/carer-000001", None, None, "a relative's plan"),
    SignIn("governance", "information-governance", f"Practitioner/{_OFFICE}-governance-01", _OFFICE, None, "audit"),
    SignIn("operations", "operations", f"Practitioner/{_OFFICE}-operations-01", _OFFICE, None, "devices, health"),
    SignIn("admin", "administrator", f"Practitioner/{_OFFICE}-administrator-01", _OFFICE, None, "everything"),
)


@dataclass(slots=True)
class Demonstration:
    """What is to run: *port* on the loopback address, everything kept under *data_dir*."""

    port: int
    data_dir: Path
    size: int = 50
    live: bool = True
    tell: Tell = print
    watching: Callable[[list[Source]], AbstractContextManager[importer.Watcher | None]] = lambda _: nullcontext()
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, ready: Callable[[str], None]) -> None:
        """Until SIGINT or SIGTERM. *ready* is given a device key when everything answers. Raises Failed."""
        self._free()
        self._own()
        # SIGTERM ends everything the way Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with embedded.kept(self.data_dir) as server, self._stopping():
            migrations.upgrade(server.url)
            if lacking := migrations.lacking(server.url):
                raise Failed(
                    f"What {self.data_dir} keeps was made by an older state of Care Hub (no {lacking[0]}). Start anew "
                    "with `make demo RESET=1` (`carehub demo --reset`), or keep it and choose another --data-dir."
                )
            key = asyncio.run(self._prepare(server.url))
            self._spawn(server.url, "serve", "--host", "127.0.0.1", "--port", str(self.port))
            self._await()
            if self.live:
                self._spawn(server.url, "simulate", "--url", self.address, "--speed", SPEED, "--forever", "--quiet")
            ready(key)
            self._watch()

    @property
    def people(self) -> Path:
        """Where the synthetic people are kept as files. The folder is made first, and tells a demonstration's data
        directory from one that holds somebody's records."""
        return self.data_dir / "population"

    def _own(self) -> None:
        if (self.data_dir / "postgres").exists() and not self.people.exists():
            raise Failed(
                f"{self.data_dir} holds a database that no demonstration made; give --data-dir another folder."
            )
        self.people.mkdir(parents=True, exist_ok=True)

    def reset(self) -> None:
        """Forget everything that a demonstration kept here. Raises Failed while one runs, or when it is not one's."""
        self._own()
        cluster = self.data_dir / "postgres"
        if cluster.exists() and embedded.running(cluster) is not None:
            # A demonstration that was killed leaves PostgreSQL running: the last to leave stops it.
            embedded.start(self.data_dir).stop()
            if embedded.running(cluster) is not None:
                raise Failed(f"Another demonstration runs in {self.data_dir}; stop it first.")
        # The folder of people goes last: without it what is left would belong to nobody.
        for path in (cluster, self.people):
            if path.exists():
                shutil.rmtree(path)

    async def _prepare(self, url: str) -> str:
        """Load the people and make the accounts, whatever of it is not there yet; gives a device key."""
        database = Database(url, pool_size=2, statement_timeout_ms=600_000)
        try:
            await self._load(database)
            await self._admit(database)
            async with database.transaction() as tx:
                if await fleet.stage(tx, datetime.now(UTC).replace(microsecond=0)):
                    self.tell("Staged a fleet: silent devices, a weak battery, a swap, a pause")
                return await accounts.rotate_device_key(tx, DEVICE, "demonstration")
        finally:
            await database.close()

    async def _load(self, database: Database) -> None:
        """Resumable: the files are made once, and the import knows how far it got with each."""
        folder = self.people
        recipe = folder / "recipe.json"
        if not recipe.exists():
            self.tell(f"Making {self.size:,} people and their readings")
            moment = datetime.now(UTC).replace(second=0, microsecond=0)
            await asyncio.to_thread(population.write, Recipe(self.size, moment, SEED, long=LONG), folder, True)
            recipe.write_text(json.dumps({"size": self.size, "seed": SEED, "as_of": moment.isoformat()}))
        known = json.loads(recipe.read_text())
        if known["size"] != self.size:
            self.tell(f"Keeping the {known['size']:,} people that are there; --reset makes {self.size:,} new ones")
        found = sources.discover([folder / name for name in _files(folder)])
        with self.watching(found) as watcher:
            summary = await importer.run(database, found, watcher)
        if summary.refused:
            first = summary.refused[0]
            raise Failed(f"{len(summary.refused)} resources were refused: {first.type} {first.issues[0].diagnostics}")
        if summary.created:
            self.tell(f"Loaded {summary.created:,} resources")

    async def _admit(self, database: Database) -> None:
        hashed = await accounts.hash_password(PASSWORD)
        async with database.transaction() as tx:
            there = {account.username for account in await accounts.list_accounts(tx.pg)}
            keys = [(type_, ident) for type_, _, ident in (one.reference.partition("/") for one in SIGN_INS)]
            names = {f"{one.type}/{one.id}": _name(one.resource) for one in (await store.load(tx.pg, keys)).values()}
            new = [
                NewAccount(
                    one.username,
                    names[one.reference],
                    one.role,
                    one.reference,
                    (f"Organization/{one.organisation}",) if one.organisation else (),
                    one.hub,
                    hashed,
                )
                for one in SIGN_INS
                if one.username not in there and one.reference in names
            ]
            if new:
                await accounts.create_accounts(tx, new, demonstration=True)

    def _free(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise Failed(f"Port {self.port} is taken ({error.strerror}); give --port another.") from error

    def _spawn(self, url: str, command: str, *arguments: str) -> None:
        """A child in a session of its own: Ctrl-C reaches us alone, and we end our children in order."""
        environment = os.environ | {
            "CAREHUB_DATABASE_URL": url,
            "CAREHUB_DATA_DIR": str(self.data_dir),
            "CAREHUB_DEMONSTRATION": "true",
        }
        with (self.data_dir / f"{command}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "hub.cli", command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self.children[command] = child

    def _await(self) -> None:
        """Until the service answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._alive()
            with contextlib.suppress(URLError, ConnectionError, TimeoutError):
                with urlopen(f"{self.address}/fhir/metadata", timeout=5) as answer:  # noqa: S310  our own address
                    answer.read()
                return
            if time.monotonic() > deadline:
                raise Failed(f"The service does not answer; {self.data_dir / 'serve.log'} says more.")
            time.sleep(0.1)

    def _watch(self) -> None:
        while True:
            self._alive()
            time.sleep(0.5)

    def _alive(self) -> None:
        for command, child in self.children.items():
            if child.poll() is not None:
                log = self.data_dir / f"{command}.log"
                last = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                raise Failed(f"`carehub {command}` ended (code {child.returncode}); {log} ends with:\n{last}")

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """End the children, the last one first, and hear no second Ctrl-C meanwhile."""
        try:
            yield
        finally:
            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, signal.SIG_IGN)
            for child in reversed(self.children.values()):
                child.terminate()
            for child in reversed(self.children.values()):
                try:
                    child.wait(GRACE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _name(person: JSON | None) -> str:
    assert person is not None
    name = person["name"][0]
    return " ".join([*name.get("prefix", ()), *name["given"], name["family"]])


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.ndjson.gz"))
