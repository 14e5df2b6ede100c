"""Every page, found from the application's own routes: who is not signed in or not in the care gets nothing."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from rest import Rest, running

from fhir.store import Change, new_id
from hub import accounts, flows
from hub.app import create_app
from hub.identity import IMPORTER
from hub.settings import Settings

PASSWORD = "a long enough passphrase"
SECRET = "Xanthippe"
FREE = {"/sign-in"}


def _routes(found: Any) -> list[APIRoute]:
    """Routes of the pages, those of included routers too."""
    routes: list[APIRoute] = []
    for one in getattr(found, "routes", ()):
        if isinstance(one, APIRoute):
            routes.append(one)
        else:
            routes += _routes(getattr(one, "original_router", None) or getattr(one, "router", None))
    return [one for one in routes if one.endpoint.__module__.startswith("hub.pages")]


ROUTES = _routes(create_app(Settings(secret="s" * 40)))  # type: ignore[arg-type]
READS = sorted({one.path for one in ROUTES if "GET" in one.methods})
WRITES = sorted({one.path for one in ROUTES if "POST" in one.methods})


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        yield rest


class Visitor:
    """A browser without a screen: cookies, and the mark of its session."""

    def __init__(self, rest: Rest) -> None:
        self.client = httpx.AsyncClient(transport=rest.client._transport, base_url="http://127.0.0.1")
        self.csrf = ""

    async def sign_in(self, username: str) -> None:
        answer = await self.client.post("/sign-in", data={"username": username, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        first = await self.client.get("/patients")
        found = re.search(r'name="csrf" value="([^"]+)"', first.text)
        self.csrf = found.group(1) if found else ""


@pytest.fixture(scope="module")
async def world(rest: Rest) -> dict[str, str]:
    """A person of hub `yeovil` with a flag, a task and a reading, and staff of another hub."""
    patient = await rest.patient(name=[{"family": SECRET, "given": ["Otto"]}])
    device = await rest.device(patient)
    low = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueQuantity": {"value": 80, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
    }
    task_id = new_id()
    task = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": {"reference": f"Patient/{patient}"},
        "description": f"Ring {SECRET}",
        "owner": {"reference": "Practitioner/inside"},
    }
    async with rest.database.transaction() as tx:
        reading = {**low, "effectiveDateTime": (await _now(tx.pg))}
        changes = [Change("create", "Task", task_id, task), Change("create", "Observation", new_id(), reading)]
        await flows.write(tx, IMPORTER, changes)
        for role in ("care-coordinator", "clinician", "health-coach", "practice-staff", "carer", "patient"):
            kind = {"carer": "RelatedPerson", "patient": "Patient"}.get(role, "Practitioner")
            await accounts.create_account(
                tx, f"out-{role}", PASSWORD, "Out Sider", role, f"{kind}/out-{role}", ["Organization/elsewhere"],
                "elsewhere", demonstration=True,
            )  # fmt: skip
    flags = await rest.rows("SELECT id FROM flag WHERE patient_id = %s", patient)
    assert flags, "the low reading raised no flag"
    return {"patient_id": patient, "flag_id": flags[0][0], "task_id": task_id, "device": device.id}


async def _now(pg: Any) -> str:
    row = await (
        await pg.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    ).fetchone()
    return str(row[0])


def filled(path: str, world: dict[str, str]) -> str:
    known = {
        **world,
        "key": "spo2",
        "observation_id": "none",
        "ident": "none",
        "job_id": "none",
        "questionnaire": "phq-9",
        "device_id": world["device"],
    }
    return re.sub(r"{(\w+)}", lambda found: known[found.group(1)], path)


def test_pages_are_found() -> None:
    assert {"/today", "/mdt", "/patients/{patient_id}", "/me", "/audit", "/live"} <= set(READS)
    assert {"/flags/{flag_id}", "/patients/{patient_id}/plan/edit"} <= set(WRITES)


@pytest.mark.parametrize("path", READS)
async def test_nobody_reads_a_page_without_signing_in(rest: Rest, world: dict[str, str], path: str) -> None:
    answer = await rest.client.get(filled(path, world))
    if path in FREE:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("path", WRITES)
async def test_nobody_sends_a_form_without_signing_in(rest: Rest, world: dict[str, str], path: str) -> None:
    answer = await rest.client.post(filled(path, world), data={"csrf": "x"})
    assert answer.status_code == (401 if path in FREE else 303)


@pytest.mark.parametrize(
    "role", ["care-coordinator", "clinician", "health-coach", "practice-staff", "carer", "patient"]
)
async def test_hazard_wrong_patient_staff_of_another_hub_learn_nothing(
    rest: Rest, world: dict[str, str], role: str
) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in(f"out-{role}")
    for path in READS:
        if path == "/live":
            continue
        for address in (filled(path, world), filled(path, world) + f"?q={SECRET}&scope=hub&for={world['patient_id']}"):
            answer = await visitor.client.get(address, follow_redirects=True)
            assert answer.status_code < 500, (address, answer.text[-500:])
            assert SECRET.upper() not in answer.text and f"{SECRET}, Otto" not in answer.text, address
            if "{" in path:
                assert answer.status_code in (403, 404), address


@pytest.mark.parametrize("role", ["care-coordinator", "clinician", "patient"])
async def test_staff_of_another_hub_change_nothing(rest: Rest, world: dict[str, str], role: str) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in(f"out-{role}")
    before = await rest.rows("SELECT count(*) FROM resource_version")
    for path in WRITES:
        if path in ("/sign-in", "/sign-out") or "{" not in path:
            continue
        form = {
            "csrf": visitor.csrf, "why": "because", "act": "resolve", "kind": "set-what-matters", "text": "x",
            "expected_version": "1", "how": "in-person", "role": "768820003", "member": "Practitioner/out",
            "weight": "80",
        }  # fmt: skip
        answer = await visitor.client.post(filled(path, world), data=form)
        assert answer.status_code in (403, 404, 422), (path, answer.status_code, answer.text[-300:])
    assert await rest.rows("SELECT count(*) FROM resource_version") == before


async def test_a_form_without_the_sessions_mark_changes_nothing(rest: Rest, world: dict[str, str]) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in("out-clinician")
    before = await rest.rows("SELECT count(*) FROM resource_version")
    for path in WRITES:
        if path == "/sign-in":
            continue
        for mark in ({}, {"csrf": ""}, {"csrf": "forged"}):
            answer = await visitor.client.post(filled(path, world), data={"act": "complete", **mark})
            assert answer.status_code == 403, (path, answer.status_code)
    assert await rest.rows("SELECT count(*) FROM resource_version") == before


async def test_hazard_wrong_patient_search_finds_nobody_outside_the_care(rest: Rest, world: dict[str, str]) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in("out-clinician")
    for path in ("/patients", "/patients/answers"):
        answer = await visitor.client.post(path, data={"csrf": visitor.csrf, "q": SECRET})
        assert answer.status_code == 200 and "Otto" not in answer.text and "Nobody in your care" in answer.text


async def test_an_unknown_address_asks_only_visitors_to_sign_in(rest: Rest, world: dict[str, str]) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in("out-clinician")
    known = await visitor.client.get("/no/such/page")
    assert known.status_code == 404 and "Go to my first page" in known.text and "Sign out" in known.text
    unknown = await rest.client.get("/no/such/page")
    assert unknown.status_code == 404 and "Sign in" in unknown.text and "Sign out" not in unknown.text


async def test_a_token_opens_no_page(rest: Rest, world: dict[str, str]) -> None:
    async with rest.database.transaction() as tx:
        token = await accounts.issue_token(tx, "out-clinician", "test")
    answer = await rest.client.get("/mdt", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 303


async def test_pages_carry_a_policy_without_inline_script(rest: Rest) -> None:
    answer = await rest.client.get("/sign-in")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text)


async def test_every_page_that_shows_a_person_leaves_an_audit_row(rest: Rest, world: dict[str, str]) -> None:
    async with rest.database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis)"
            " VALUES ('Practitioner/inside', %s, 'CareTeam/t', 'team')",
            (world["patient_id"],),
        )
        await accounts.create_account(
            tx,
            "in-clinician",
            PASSWORD,
            "In Sider",
            "clinician",
            "Practitioner/inside",
            (),
            "yeovil",
            demonstration=True,
        )
    visitor = Visitor(rest)
    await visitor.sign_in("in-clinician")
    for path in READS:
        if "{patient_id}" not in path and "{flag_id}" not in path:
            continue
        count = "SELECT count(*) FROM audit WHERE actor = 'Practitioner/inside' AND patient_id = %s"
        before = await rest.rows(count, world["patient_id"])
        answer = await visitor.client.get(filled(path, world))
        if answer.status_code == 200:
            assert SECRET.upper() in answer.text, path
            after = await rest.rows(count, world["patient_id"])
            assert after[0][0] == before[0][0] + 1, path
        else:
            assert path.endswith(("/plan/edit", "/plan/versions")) and answer.status_code == 404, path


def test_every_page_is_documented() -> None:
    said = (Path(__file__).parents[1] / "docs" / "pages.md").read_text()
    for path in READS:
        named = (
            path.replace("{patient_id}", "{id}")
            .replace("{flag_id}", "{id}")
            .replace("{key}", "{measure}")
            .replace("{device_id}", "{id}")
        )
        assert f"`{named}`" in said or named in ("/", "/me/saved"), path


@pytest.mark.parametrize("path", READS)
async def test_an_address_that_cannot_be_is_refused_and_breaks_nothing(
    rest: Rest, world: dict[str, str], path: str
) -> None:
    visitor = Visitor(rest)
    await visitor.sign_in("out-clinician")
    if "{" in path:
        assert (await visitor.client.get(re.sub(r"\{[^}]+\}", "%00", path))).status_code in (400, 403, 404)
    address = re.sub(r"\{[^}]+\}", "x", path)
    for query in ("patient=%00&q=%00&after=%00&before=%00&show=%00", "before=99999999999999999999&after=9&page=-1"):
        if path != "/live":
            assert (await visitor.client.get(f"{address}?{query}")).status_code < 500
