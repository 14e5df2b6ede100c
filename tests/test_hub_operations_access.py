"""Every operation that shows records, as every role: nothing that the hand-written matrix does not grant."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from access_world import actor, expected, fill
from pydantic import SecretStr

from fhir.types import SERVED
from fhir.wire import decode
from hub import accounts
from hub.access import visible
from hub.app import create_app
from hub.db import Database
from hub.operations import OPERATIONS
from hub.roles import ROLES, SYSTEM_ROLES
from hub.settings import Settings

JSON = dict[str, Any]
OUTSIDE = sorted({role for role in ROLES if role not in SYSTEM_ROLES} | {"device"})
PEOPLE = ("Patient-m", "Patient-o")

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
async def asks(fresh_url: Callable[[], str]) -> AsyncIterator[dict[str, Ask]]:
    """Who asks, by role."""
    url = fresh_url()
    database = Database(url)
    await fill(database)
    keys: dict[str, str] = {}
    async with database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO device (id, patient_id, name, status, sandbox)"
            " VALUES ('Device-m', 'Patient-m', 'Scales', 'active', false)"
        )
        for role in OUTSIDE:
            if role == "device":
                keys[role] = await accounts.issue_device_key(tx, "Device-m")
                continue
            one = actor(role)
            await accounts.create_account(
                tx, role, "a long enough passphrase", role, role, one.reference, one.subjects[1:], "hub-1"
            )
            keys[role] = await accounts.issue_token(tx, role, "test")
    await database.close()
    app = create_app(Settings(database_url=url, secret=SecretStr("test-" * 10), pool_size=4))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):

        def asking(role: str) -> Ask:
            async def ask(path: str, **headers: str) -> httpx.Response:
                response = await client.get(
                    path if path.startswith("http") else f"/fhir{path}",
                    headers={"authorization": f"Bearer {keys[role]}", **headers},
                )
                assert response.status_code < 500, (role, path, response.text)
                return response

            return ask

        yield {role: asking(role) for role in OUTSIDE}


def check(role: str, resources: list[JSON]) -> None:
    for one in resources:
        assert one["id"] in expected(role, one["resourceType"]), (role, one)


def entries(response: httpx.Response) -> list[JSON]:
    return [entry["resource"] for entry in decode(response.content).get("entry", ())]


@pytest.mark.parametrize("role", OUTSIDE)
class TestEveryRole:
    async def test_everything(self, asks: dict[str, Ask], role: str) -> None:
        for person in PEOPLE:
            answered = await asks[role](f"/Patient/{person}/$everything?_count=1000")
            if person not in expected(role, "Patient"):
                assert answered.status_code in (403, 404)
                continue
            found = entries(answered)
            check(role, found)
            other = "-o" if person == "Patient-m" else "-m"
            assert not [one["id"] for one in found if one["id"].endswith(other)], "of another person"
            shown = {one["resourceType"] for one in found}
            assert {"Patient", "CarePlan"} & shown == {
                type_ for type_ in ("Patient", "CarePlan") if f"{type_}-{person[-1]}" in expected(role, type_)
            }

    async def test_lastn(self, asks: dict[str, Ask], role: str) -> None:
        for person in PEOPLE:
            answered = await asks[role](f"/Observation/$lastn?patient={person}&max=10")
            if answered.status_code == 403:
                assert visible(actor(role))("Observation", "r") is None
                continue
            found = entries(answered)
            check(role, found)
            wanted = {one for one in expected(role, "Observation") if one[-1] == person[-1]}
            assert {one["id"] for one in found} == wanted

    async def test_stats(self, asks: dict[str, Ask], role: str) -> None:
        for person in PEOPLE:
            path = f"/Observation/$stats?subject=Patient/{person}&code=8867-4&statistic=count&include=true"
            answered = await asks[role](path)
            seen = person in expected(role, "Patient") and visible(actor(role))("Observation", "r") is not None
            assert (answered.status_code == 200) is seen, (role, person, answered.text)

    async def test_meta_and_diff_of_every_type(self, asks: dict[str, Ask], role: str) -> None:
        for type_ in sorted(SERVED)[OUTSIDE.index(role) % 6 :: 6]:
            for letter in "mon":
                id_ = f"{type_}-{letter}"
                there = id_ in expected(role, type_)
                meta = await asks[role](f"/{type_}/{id_}/$meta")
                assert (meta.status_code == 200) is there, (role, id_, meta.text)
                diff = await asks[role](f"/$diff?from={type_}/{id_}&to={type_}/{id_}/_history/1")
                assert (diff.status_code == 200) is there, (role, id_, diff.text)
                assert there or id_ not in meta.text.replace(f"{type_}/{id_}", "")

    async def test_apply_and_populate(self, asks: dict[str, Ask], role: str) -> None:
        for person in PEOPLE:
            for type_ in ("PlanDefinition", "ActivityDefinition", "Questionnaire"):
                name = "$populate" if type_ == "Questionnaire" else "$apply"
                answered = await asks[role](f"/{type_}/{type_}-n/{name}?subject=Patient/{person}")
                seen = person in expected(role, "Patient")
                # The bare definitions of this world propose nothing: 422, but only to whoever sees the person.
                assert answered.status_code in ((200, 422) if seen else (403, 404)), (role, person, type_)
                assert seen or answered.status_code in (403, 404)

    async def test_export(self, asks: dict[str, Ask], role: str) -> None:
        asked = await asks[role]("/$export", prefer="respond-async")
        if "export" not in ROLES[role].permissions:
            assert asked.status_code == 403
            for path in ("/Patient/$export", "/Group/Group-n/$export"):
                assert (await asks[role](path, prefer="respond-async")).status_code == 403
            return
        where = asked.headers["content-location"]
        for _ in range(1200):
            answered = await asks[role](where)
            if answered.status_code == 200:
                break
            await asyncio.sleep(0.05)
        found: list[JSON] = []
        for file in decode(answered.content)["output"]:
            lines = (await asks[role](file["url"])).content.splitlines()
            found += [decode(line) for line in lines]
        check(role, found)
        for type_ in SERVED:
            assert {one["id"] for one in found if one["resourceType"] == type_} == expected(role, type_), type_
        for other in OUTSIDE:
            if other != role:
                assert (await asks[other](where)).status_code in (403, 404)


def test_every_operation_that_shows_records_is_tried_here_or_where_it_is_tested() -> None:
    here = {"everything", "lastn", "stats", "meta", "diff", "apply", "populate", "export"}
    # Writes, one's own jobs and subscriptions, and definitions: each has its own tests of who may ask.
    elsewhere = {
        "meta-add", "meta-delete", "import", "job", "expand", "validate-code", "lookup", "subsumes", "validate",
        "status", "events", "get-ws-binding-token", "new-secret",
    }  # fmt: skip
    assert {one.name for one in OPERATIONS} <= here | elsewhere
