"""The whole application in the test's own process, and callers of every kind who speak HTTP to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from fhir.store import Change, new_id
from fhir.wire import decode, encode
from hub import accounts, flows
from hub.app import create_app
from hub.db import Database
from hub.identity import IMPORTER
from hub.settings import Settings

JSON = dict[str, Any]
FHIR_JSON = "application/fhir+json"


class Caller:
    """Somebody with a bearer token or device key; every answer that is not FHIR JSON fails the test."""

    def __init__(self, client: httpx.AsyncClient, token: str | None, id_: str = "") -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self.id = id_

    async def __call__(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        body = content if content is None or isinstance(content, bytes) else encode(content)
        sent = {**self._headers, **({"content-type": FHIR_JSON} if body is not None else {}), **(headers or {})}
        response = await self._client.request(method, f"/fhir{path}", content=body, headers=sent)
        assert response.status_code < 500, (method, path, response.status_code, response.text[:500])
        if response.content:
            assert response.headers["content-type"].startswith(FHIR_JSON)
        if response.status_code >= 400 and method != "HEAD":
            outcome = decode(response.content)
            assert outcome["resourceType"] == "OperationOutcome"
            assert all(issue["diagnostics"] for issue in outcome["issue"])
        return response


@dataclass(frozen=True, slots=True)
class Rest:
    """The running application. `system` may read and write everything; `nobody` has not signed in."""

    database: Database
    client: httpx.AsyncClient
    system: Caller
    nobody: Caller

    async def user(self, role: str, reference: str, organisations: tuple[str, ...] = ()) -> Caller:
        async with self.database.transaction() as tx:
            name = new_id()
            await accounts.create_account(
                tx, name, "demonstration", "A. Test", role, reference, organisations, demonstration=True
            )
            return Caller(self.client, await accounts.issue_token(tx, name, "test"))

    async def device(self, patient_id: str) -> Caller:
        """A device that *patient_id* holds, signed in with its key."""
        device_id = new_id()
        device = {"resourceType": "Device", "status": "active", "patient": {"reference": f"Patient/{patient_id}"}}
        async with self.database.transaction() as tx:
            await flows.write(tx, IMPORTER, [Change("create", "Device", device_id, device)])
            return Caller(self.client, await accounts.issue_device_key(tx, device_id), device_id)

    async def patient(self, **elements: Any) -> str:
        """A person of hub `yeovil`; the id."""
        patient_id = new_id()
        resource = {
            "resourceType": "Patient",
            "name": [{"family": "Archer", "given": ["Ada"]}],
            "birthDate": "1950-02-03",
            "managingOrganization": {"reference": "Organization/yeovil"},
        }
        async with self.database.transaction() as tx:
            await flows.write(tx, IMPORTER, [Change("create", "Patient", patient_id, resource | elements)])
        return patient_id

    async def rows(self, query: str, *params: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return await (await tx.pg.execute(query, params)).fetchall()


@asynccontextmanager
async def running(url: str, **settings: Any) -> AsyncIterator[Rest]:
    """The application on the database at *url*."""
    app = create_app(Settings(database_url=url, secret=SecretStr("test-" * 10), **settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        database: Database = app.state.runtime.database
        async with database.transaction() as tx:
            name = f"system-{new_id()}"
            await accounts.create_account(
                tx, name, "demonstration", "Another system", "ehr-system", "Device/ehr", demonstration=True
            )
            token = await accounts.issue_token(tx, name, "test")
        yield Rest(database, client, Caller(client, token), Caller(client, None))


Fresh = Callable[[], str]
