"""The same matrix through the front door: every way to ask over HTTP, and the tricks somebody might try."""

import asyncio
import importlib
import json
import pkgutil
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from access_world import actor, everything, expected, fill

from fhir import store
from fhir.store import Change
from fhir.types import SERVED
from hub import accounts
from hub.access import visible
from hub.app import create_app
from hub.db import Database
from hub.identity import new_secret
from hub.roles import ROLES, SYSTEM_ROLES
from hub.settings import Settings

JSON = dict[str, Any]
PASSWORD = "a long enough passphrase"
OUTSIDE = sorted({role for role in ROLES if role not in SYSTEM_ROLES} | {"device"})
SECRET = "Xanthippe"


@pytest.fixture(scope="module")
async def url(fresh_url: Callable[[], str]) -> str:
    url = fresh_url()
    database = Database(url)
    await fill(database)
    async with database.transaction() as tx:
        # What nobody outside the care of Patient-o may learn, by whatever question.
        other = {"resourceType": "Patient", "id": "Patient-o", "name": [{"family": SECRET}], "gender": "female"}
        condition = {
            "resourceType": "Condition",
            "id": "Condition-m",
            "subject": {"reference": "Patient/Patient-m"},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "secret-diagnosis"}]},
        }
        changes = [Change("update", one["resourceType"], one["id"], one) for one in (other, condition)]
        await store.load(tx.pg, [(change.type, change.id) for change in changes], lock=True)
        await store.write(tx.pg, changes, "Device/test", (await _now(tx.pg)))
        await tx.pg.execute(
            "INSERT INTO person (patient_id, family, given, search_name, hub_id, synthetic)"
            " VALUES ('Patient-m', 'Mine', 'May', 'mine may', 'hub-1', true),"
            f"       ('Patient-o', '{SECRET}', 'Otto', '{SECRET.lower()} otto', 'hub-1', true)"
        )
        await tx.pg.execute(
            "INSERT INTO device (id, patient_id, name, status, sandbox)"
            " VALUES ('Device-m', 'Patient-m', 'Scales', 'active', false)"
        )
        for role in OUTSIDE:
            if role != "device":
                one = actor(role)
                await accounts.create_account(
                    tx, role, PASSWORD, role, role, one.reference, one.subjects[1:], "hub-1"
                )  # fmt: skip
    await database.close()
    return url


async def _now(pg: Any) -> Any:
    return (await (await pg.execute("SELECT now()")).fetchone())[0]


class Hub:
    """The application, and a client of it per role."""

    def __init__(self, app: Any, keys: dict[str, str]) -> None:
        self._app = app
        self._keys = keys

    def client(self, role: str | None = None, **headers: str) -> httpx.AsyncClient:
        if role is not None:
            headers["authorization"] = f"Bearer {self._keys[role]}"
        transport = httpx.ASGITransport(self._app)
        return httpx.AsyncClient(transport=transport, base_url="http://hub.test", headers=headers)

    @property
    def database(self) -> Database:
        database: Database = self._app.state.runtime.database
        return database


@pytest.fixture(scope="module")
async def hub(url: str) -> AsyncIterator[Hub]:
    app = create_app(Settings(database_url=url, pool_size=4))
    async with app.router.lifespan_context(app):
        keys = {}
        async with app.state.runtime.database.transaction() as tx:
            for role in OUTSIDE:
                if role == "device":
                    keys[role] = await accounts.issue_device_key(tx, "Device-m")
                else:
                    keys[role] = await accounts.issue_token(tx, role, "test")
        yield Hub(app, keys)


def resources(bundle: JSON) -> Iterator[JSON]:
    for entry in bundle.get("entry", ()):
        if "resource" in entry:
            yield entry["resource"]


def ids(bundle: JSON) -> set[str]:
    return {resource["id"] for resource in resources(bundle)}


def check_leaks(role: str, bundle: JSON) -> None:
    """Nothing in *bundle* that the role may not see, whatever brought it there."""
    for resource in resources(bundle):
        if resource["resourceType"] != "OperationOutcome":
            assert resource["id"] in expected(role, resource["resourceType"]), resource


def third(role: str) -> list[str]:
    """A third of the types, another for the next role: the store's own matrix tries all of them for every role."""
    return sorted(SERVED)[OUTSIDE.index(role) % 3 :: 3]


@pytest.mark.parametrize("role", OUTSIDE)
class TestMatrix:
    async def test_search_and_count(self, hub: Hub, role: str) -> None:
        shown = visible(actor(role))
        async with hub.client(role) as client:
            for type_ in sorted(SERVED):
                answer = await client.get(f"/fhir/{type_}?_count=100&_total=accurate")
                if shown(type_, "r") is None:
                    assert answer.status_code == 403, type_
                    continue
                assert answer.status_code == 200, (type_, answer.text)
                assert ids(answer.json()) == expected(role, type_), type_
                assert answer.json()["total"] == len(expected(role, type_)), type_

    async def test_read(self, hub: Hub, role: str) -> None:
        shown = visible(actor(role))
        async with hub.client(role) as client:
            for resource in everything():
                type_, ident = resource["resourceType"], resource["id"]
                if type_ not in third(role) and type_ not in ("Patient", "Observation", "CarePlan", "Task"):
                    continue
                answer = await client.get(f"/fhir/{type_}/{ident}")
                if ident in expected(role, type_):
                    assert (answer.status_code, answer.json()["id"]) == (200, ident)
                else:
                    assert answer.status_code == (403 if shown(type_, "r") is None else 404), ident
                    assert SECRET not in answer.text

    async def test_history(self, hub: Hub, role: str) -> None:
        shown = visible(actor(role))
        async with hub.client(role) as client:
            for type_ in third(role):
                answer = await client.get(f"/fhir/{type_}/_history?_count=100")
                if shown(type_, "r") is None:
                    assert answer.status_code == 403
                else:
                    assert ids(answer.json()) == expected(role, type_)
            check_leaks(role, (await client.get("/fhir/_history?_count=1000")).json())

    async def test_includes_both_ways(self, hub: Hub, role: str) -> None:
        queries = (
            "ServiceRequest?_include=ServiceRequest:subject&_include=ServiceRequest:performer",
            "Task?_include=Task:patient&_include=Task:owner",
            "Patient?_revinclude=Condition:subject&_revinclude=Observation:subject&_revinclude=Claim:patient",
            "Organization?_revinclude=ServiceRequest:performer&_revinclude=CareTeam:participant",
            "Practitioner?_revinclude=CareTeam:participant&_include:iterate=CareTeam:subject",
            "Device?_include=Device:patient",
            "AuditEvent?_include=AuditEvent:patient",
            "Schedule?_include=Schedule:actor",
        )
        async with hub.client(role) as client:
            for query in queries:
                answer = await client.get(f"/fhir/{query}&_count=100")
                type_ = query.partition("?")[0]
                assert answer.status_code == (403 if visible(actor(role))(type_, "r") is None else 200), answer.text
                if answer.status_code == 200:
                    check_leaks(role, answer.json())

    async def test_searches_over_all_types_and_compartments(self, hub: Hub, role: str) -> None:
        async with hub.client(role) as client:
            everywhere = await client.get("/fhir?_count=1000&_total=accurate")
            assert everywhere.status_code == 200, everywhere.text
            check_leaks(role, everywhere.json())
            assert everywhere.json()["total"] == sum(len(expected(role, type_)) for type_ in SERVED)
            for patient in ("Patient-m", "Patient-o"):
                inside = await client.get(f"/fhir/Patient/{patient}/*?_count=1000")
                assert inside.status_code == 200, inside.text
                check_leaks(role, inside.json())
            owners = ["Practitioner/Practitioner-m"]
            owners += [f"{type_}/{type_}-{of}" for type_ in ("Device", "Encounter", "RelatedPerson") for of in "mo"]
            for owner in owners:
                inside = await client.get(f"/fhir/{owner}/*?_count=1000")
                assert inside.status_code == 200, inside.text
                check_leaks(role, inside.json())
            types = [type_ for type_ in third(role) if visible(actor(role))(type_, "r") is None]
            for type_ in types:
                assert (await client.get(f"/fhir?_type={type_},Patient")).status_code == 403

    async def test_what_cannot_be_seen_cannot_be_asked_about(self, hub: Hub, role: str) -> None:
        """Chains and _has are oracles: an answer that depends on a hidden row tells of it."""
        sees_secret = "Patient-o" in expected(role, "Patient")
        sees_diagnosis = "Condition-m" in expected(role, "Condition")
        questions = (
            (f"ServiceRequest?subject:Patient.family={SECRET}", sees_secret),
            (f"Task?patient.family={SECRET}", sees_secret),
            (f"Schedule?actor:Patient.family={SECRET}", sees_secret),
            ("Patient?_has:Condition:subject:code=secret-diagnosis", sees_diagnosis),
            (f"Patient?family={SECRET}", sees_secret),
            (f"Patient?_filter=family eq {SECRET}", sees_secret),
            (f"ServiceRequest?_filter=subject:Patient.family eq {SECRET}", sees_secret),
            (f"Patient?_content={SECRET}", sees_secret),
        )
        async with hub.client(role) as client:
            for query, may_know in questions:
                answer = await client.get(f"/fhir/{query}")
                if not may_know:
                    assert answer.status_code in (200, 403), answer.text
                    assert not list(resources(answer.json())), query
                    count = await client.get(f"/fhir/{query}&_summary=count")
                    assert count.json().get("total", 0) == 0

    async def test_batches(self, hub: Hub, role: str) -> None:
        wanted = [one for one in everything() if one["resourceType"] in ("Patient", "Condition", "Task", "Claim")]
        entries = [
            {"request": {"method": "GET", "url": f"{one['resourceType']}/{one['id']}"}} for one in wanted
        ]  # fmt: skip
        entries.append({"request": {"method": "GET", "url": "Condition?_count=100"}})
        async with hub.client(role) as client:
            answer = await client.post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
            assert answer.status_code in (200, 403), answer.text
            for one, entry in zip(wanted, answer.json().get("entry", ()), strict=False):
                seen = one["id"] in expected(role, one["resourceType"]) and role != "device"
                assert entry["response"]["status"].startswith("200") is seen, (one["id"], entry)
            assert SECRET not in answer.text or "Patient-o" in expected(role, "Patient")

    async def test_conditional_requests_say_nothing_of_hidden_rows(self, hub: Hub, role: str) -> None:
        if "Patient-o" in expected(role, "Patient"):
            return
        async with hub.client(role) as client:
            answer = await client.get("/fhir/Patient/Patient-o", headers={"if-none-match": 'W/"2"'})
            assert answer.status_code in (403, 404)
            answer = await client.get("/fhir/Patient/Patient-o/_history/1")
            assert answer.status_code in (403, 404)
            answer = await client.get("/fhir/Patient/Patient-o/_history")
            assert not list(resources(answer.json()))


def observation(patient: str, **more: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                                  "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-21T08:00:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    } | more  # fmt: skip


class TestWriting:
    @pytest.mark.parametrize("role", ["patient", "carer", "health-coach", "clinician", "practice-staff", "device"])
    async def test_another_patients_record_is_not_writable(self, hub: Hub, role: str) -> None:
        async with hub.client(role) as client:
            answer = await client.post("/fhir/Observation", json=observation("Patient-o"))
            assert answer.status_code in (403, 404, 422), answer.text
            answer = await client.put("/fhir/Patient/Patient-o", json={"resourceType": "Patient", "id": "Patient-o"})
            assert answer.status_code in (403, 404)
            assert (await client.delete("/fhir/Condition/Condition-o")).status_code in (403, 404)

    @pytest.mark.parametrize("role", ["patient", "carer"])
    async def test_patients_and_carers_add_readings_and_rewrite_none(self, hub: Hub, role: str) -> None:
        async with hub.client(role) as client:
            answer = await client.post("/fhir/Observation", json=observation("Patient-m"))
            assert answer.status_code == 201, answer.text
            made = answer.json()
            again = await client.put(f"/fhir/Observation/{made['id']}", json=made)
            assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"'), "the same again changes nothing"
            changed = made | {"valueQuantity": made["valueQuantity"] | {"value": 60}}
            answer = await client.put(f"/fhir/Observation/{made['id']}", json=changed)
            assert answer.status_code == 403, answer.text
            assert (await client.delete(f"/fhir/Observation/{made['id']}")).status_code == 403
        async with hub.database.transaction() as tx:
            await tx.pg.execute("DELETE FROM r_observation WHERE id = %s", (made["id"],))
            await tx.pg.execute("DELETE FROM resource_version WHERE id = %s", (made["id"],))

    async def test_a_patient_cannot_open_their_record_to_others_nor_make_a_team(self, hub: Hub) -> None:
        bodies: tuple[JSON, ...] = (
            {"resourceType": "RelatedPerson", "patient": {"reference": "Patient/Patient-m"}},
            {"resourceType": "CareTeam", "status": "active", "subject": {"reference": "Patient/Patient-m"}},
            {"resourceType": "Flag", "status": "active", "code": {"text": "x"},
             "subject": {"reference": "Patient/Patient-m"}},
        )  # fmt: skip
        async with hub.client("patient") as client:
            for body in bodies:
                assert (await client.post(f"/fhir/{body['resourceType']}", json=body)).status_code == 403

    async def test_staff_cannot_claim_a_stranger_by_putting_themselves_into_a_team(self, hub: Hub) -> None:
        team = {
            "resourceType": "CareTeam",
            "status": "active",
            "subject": {"reference": "Patient/Patient-o"},
            "participant": [{"member": {"reference": "Practitioner/p3"}}],
        }
        async with hub.client("clinician") as client:
            assert (await client.post("/fhir/CareTeam", json=team)).status_code == 403
            moved = team | {"id": "CareTeam-m", "subject": {"reference": "Patient/Patient-o"}}
            assert (await client.put("/fhir/CareTeam/CareTeam-m", json=moved)).status_code in (403, 404)
            entries = [
                {"fullUrl": "urn:uuid:0b0e5e7e-1111-4111-8111-111111111111",
                 "resource": {"resourceType": "Patient", "id": "Patient-o"},
                 "request": {"method": "PUT", "url": "Patient/Patient-o"}},
                {"resource": team, "request": {"method": "POST", "url": "CareTeam"}},
            ]  # fmt: skip
            answer = await client.post(
                "/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}
            )
            assert answer.status_code in (403, 404), answer.text

    @pytest.mark.parametrize("role", ["information-governance", "operations", "voluntary-worker", "social-worker"])
    async def test_those_who_do_not_treat_write_no_clinical_record(self, hub: Hub, role: str) -> None:
        async with hub.client(role) as client:
            condition = {"resourceType": "Condition", "subject": {"reference": "Patient/Patient-m"}}
            assert (await client.post("/fhir/Condition", json=condition)).status_code == 403
            assert (await client.post("/fhir/Observation", json=observation("Patient-m"))).status_code == 403

    async def test_a_voluntary_worker_answers_their_task_and_changes_nothing_else(self, hub: Hub) -> None:
        async with hub.client("voluntary-worker") as client:
            task = (await client.get("/fhir/Task/Task-x")).json()
            stolen = task | {"for": {"reference": "Patient/Patient-m"}, "status": "accepted"}
            assert (await client.put("/fhir/Task/Task-x", json=stolen)).status_code == 403
            assert (await client.delete("/fhir/Task/Task-x")).status_code == 403
            answer = await client.put("/fhir/Task/Task-x", json=task | {"status": "accepted"})
            assert (answer.status_code, answer.json()["status"]) == (200, "accepted"), answer.text
        async with signed_in(hub, "voluntary-worker") as client:
            page = await client.get("/tasks")
            assert "Visit" in page.text
            assert SECRET not in page.text

    async def test_hazard_wrong_patient_moving_a_record_is_in_the_story_of_both(self, hub: Hub) -> None:
        body = {"resourceType": "Basic", "id": "moved", "code": {"text": "x"}}
        async with hub.client("administrator") as client:
            for patient in ("Patient-m", "Patient-o"):
                subject = {"subject": {"reference": f"Patient/{patient}"}}
                assert (await client.put("/fhir/Basic/moved", json=body | subject)).status_code in (200, 201)
            assert (await client.delete("/fhir/Basic/moved")).status_code == 204
        async with hub.database.transaction() as tx:
            rows = await tx.pg.execute("SELECT action, patient_id FROM audit WHERE resource_id = 'moved' ORDER BY seq")
            assert await rows.fetchall() == [
                ("create", "Patient-m"), ("update", "Patient-o"), ("update", "Patient-m"), ("delete", "Patient-o"),
            ]  # fmt: skip
            await tx.pg.execute("DELETE FROM resource_version WHERE id = 'moved'")

    async def test_what_was_refused_is_in_the_trail(self, hub: Hub) -> None:
        async with hub.client("health-coach", **{"x-request-id": "refused-1"}) as client:
            assert (await client.get("/fhir/Claim/Claim-m")).status_code == 403
        async with hub.database.transaction() as tx:
            rows = await tx.pg.execute("SELECT role, type, outcome FROM audit WHERE request_id = 'refused-1'")
            assert await rows.fetchall() == [("health-coach", "Claim", "refused")]

    async def test_every_read_and_search_is_in_the_trail_before_it_is_answered(self, hub: Hub) -> None:
        async with hub.client("clinician", **{"x-request-id": "looked-1"}) as client:
            await client.get("/fhir/Condition/Condition-m")
            await client.get("/fhir/Condition")
        async with hub.database.transaction() as tx:
            rows = await tx.pg.execute(
                "SELECT action, actor, patient_id FROM audit WHERE request_id = 'looked-1' ORDER BY seq"
            )
            assert await rows.fetchall() == [
                ("read", "Practitioner/p3", "Patient-m"),
                ("search", "Practitioner/p3", "Patient-m"),
            ]


@asynccontextmanager
async def signed_in(hub: Hub, role: str) -> AsyncIterator[httpx.AsyncClient]:
    async with hub.client() as client:
        answer = await client.post("/sign-in", data={"username": role, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        yield client


class TestPages:
    @pytest.mark.parametrize(
        "path", ["/today", "/mdt", "/patients", "/patients/Patient-m", "/live", "/patients/answers"]
    )
    async def test_nobody_opens_a_page_without_signing_in(self, hub: Hub, path: str) -> None:
        async with hub.client() as client:
            answer = await client.get(path)
            assert answer.status_code in (303, 401, 403)
            assert "May" not in answer.text

    @pytest.mark.parametrize("path", ["/today", "/mdt", "/patients", "/patients/answers?q=x"])
    @pytest.mark.parametrize("role", ["patient", "carer", "voluntary-worker"])
    async def test_patients_carers_and_volunteers_read_no_staff_pages(self, hub: Hub, path: str, role: str) -> None:
        async with signed_in(hub, role) as client:
            answer = await client.get(path)
            assert answer.status_code in (303, 403, 404), path

    @pytest.mark.parametrize("role", sorted(set(OUTSIDE) - {"device", "administrator", "ehr-system"}))
    async def test_another_persons_pages_do_not_exist(self, hub: Hub, role: str) -> None:
        async with signed_in(hub, role) as client:
            for page in ("", "/plan", "/plan/edit", "/plan/versions", "/readings", "/team"):
                answer = await client.get(f"/patients/Patient-o{page}")
                assert answer.status_code in (303, 403, 404), page
                assert SECRET not in answer.text

    @pytest.mark.parametrize("role", ["care-coordinator", "health-coach", "clinician", "practice-staff"])
    async def test_lists_and_searches_show_only_people_in_care(self, hub: Hub, role: str) -> None:
        async with signed_in(hub, role) as client:
            for path in ("/today", "/mdt", f"/patients?q={SECRET}", f"/patients/answers?q={SECRET}"):
                answer = await client.get(path)
                assert f"{SECRET.upper()}" not in answer.text.upper().replace(f"Q={SECRET.upper()}", "").replace(
                    f'VALUE="{SECRET.upper()}"', ""
                ).replace(f"“{SECRET.upper()}”", ""), path
                assert "Patient-o" not in answer.text

    async def test_a_social_worker_opens_the_plan_and_no_readings(self, hub: Hub) -> None:
        async with signed_in(hub, "social-worker") as client:
            assert (await client.get("/patients/Patient-m/plan")).status_code == 200
            assert (await client.get("/patients/Patient-m/readings")).status_code == 403
            summary = await client.get("/patients/Patient-m")
            assert summary.status_code == 200
            assert "Latest readings" not in summary.text
        async with signed_in(hub, "clinician") as client:
            assert "Latest readings" in (await client.get("/patients/Patient-m")).text

    async def test_a_form_without_the_sessions_token_changes_nothing(self, hub: Hub) -> None:
        async with signed_in(hub, "clinician") as client:
            answer = await client.post("/patients/Patient-m/readings", data={"measure": "pulse", "value": "72"})
            assert answer.status_code == 403
            answer = await client.post("/sign-out")
            assert answer.status_code == 403
            assert (await client.get("/today")).status_code == 200

    async def test_the_cookie_alone_writes_nothing_through_the_fhir_door(self, hub: Hub) -> None:
        async with signed_in(hub, "clinician") as client:
            answer = await client.post("/fhir/Observation", json=observation("Patient-m"))
            assert answer.status_code == 403
            answer = await client.post(
                "/fhir/Observation",
                content=json.dumps(observation("Patient-m")),
                headers={"content-type": "text/plain"},
            )
            assert answer.status_code in (403, 415)

    async def test_a_page_of_another_site_cannot_sign_anybody_in(self, hub: Hub) -> None:
        async with hub.client() as client:
            answer = await client.post(
                "/sign-in",
                data={"username": "clinician", "password": PASSWORD},
                headers={"origin": "https://evil.example"},
            )
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers

    async def test_the_cookie_is_for_https_only_where_a_proxy_speaks_https(self, url: str) -> None:
        app = create_app(Settings(database_url=url, pool_size=2, base_url="https://hub.test"))
        async with app.router.lifespan_context(app), Hub(app, {}).client() as client:
            form = {"username": "clinician", "password": PASSWORD}
            answer = await client.post("/sign-in", data=form, headers={"origin": "https://hub.test"})
            assert answer.status_code == 303
            assert "secure" in answer.headers["set-cookie"].lower()

    async def test_a_planted_session_cookie_is_replaced_at_sign_in(self, hub: Hub) -> None:
        async with hub.client() as client:
            client.cookies.set("carehub_session", "planted", domain="hub.test")
            answer = await client.post("/sign-in", data={"username": "clinician", "password": PASSWORD})
            cookie = answer.headers["set-cookie"]
            assert "planted" not in cookie
            assert "HttpOnly" in cookie
            assert "samesite=lax" in cookie.lower()

    async def test_tokens_and_device_keys_open_no_pages(self, hub: Hub) -> None:
        for role in ("clinician", "device"):
            async with hub.client(role) as client:
                assert (await client.get("/today")).status_code in (303, 401, 403)


def pages() -> list[str]:
    """Every address that a page answers, about the person in care."""
    import hub.pages

    found = set()
    for module in pkgutil.iter_modules(hub.pages.__path__):
        router = getattr(importlib.import_module(f"hub.pages.{module.name}"), "router", None)
        for route in router.routes if router else ():
            if "GET" in route.methods:
                found.add(re.sub("{patient_id}", "Patient-m", route.path).replace("{key}", "pulse"))
    return sorted(found - {"/", "/sign-in", "/live"})


class TestEveryPage:
    async def test_every_page_is_known(self) -> None:
        assert {"/today", "/patients/Patient-m", "/patients/Patient-m/plan", "/me", "/audit"} <= set(pages())

    @pytest.mark.parametrize("path", pages())
    async def test_nobody_gets_in_without_signing_in(self, hub: Hub, path: str) -> None:
        async with hub.client() as client:
            answer = await client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")

    @pytest.mark.parametrize("role", sorted(set(OUTSIDE) - {"device", "ehr-system"}))
    async def test_whatever_is_shown_is_in_the_trail_and_holds_nothing_that_is_not_to_be_seen(
        self, hub: Hub, role: str
    ) -> None:
        async with signed_in(hub, role) as client:
            for path in pages():
                request_id = f"{role}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}"
                # The box answers to what is typed; without a word it looks at nothing.
                typed = {"q": "mi"} if path == "/patients/answers" else {}
                answer = await client.get(path, params=typed, headers={"x-request-id": request_id})
                assert answer.status_code in (200, 303, 403, 404), (path, answer.status_code)
                if role != "administrator":
                    assert SECRET.upper() not in answer.text.upper(), path
                # A form and the number of one's own unread notices are about nobody.
                if answer.status_code == 200 and path not in ("/emergency", "/notices/count", "/devices/new"):
                    async with hub.database.transaction() as tx:
                        rows = await tx.pg.execute("SELECT count(*) FROM audit WHERE request_id = %s", (request_id,))
                        row = await rows.fetchone()
                    assert row is not None and row[0] > 0, path


class TestEmergencyPages:
    FORM = {"nhs": "999 000 0018", "day": "4", "month": "3", "year": "1948", "reason": "Found collapsed at home"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    async def stranger(self, hub: Hub) -> AsyncIterator[None]:
        async with hub.database.transaction() as tx:
            await tx.pg.execute(
                "INSERT INTO person (patient_id, nhs_number, family, given, search_name, birth_date, synthetic)"
                " VALUES ('stranger', '9990000018', 'Stranger', 'Sid', 'stranger sid', '1948-03-04', true)"
            )
        yield
        async with hub.database.transaction() as tx:
            await tx.pg.execute("DELETE FROM person WHERE patient_id = 'stranger'")
            await tx.pg.execute("DELETE FROM access WHERE patient_id = 'stranger'")
            await tx.pg.execute("DELETE FROM emergency_access")

    async def send(self, client: httpx.AsyncClient, path: str, form: dict[str, str]) -> httpx.Response:
        page = await client.get(path)
        found = re.search('name="csrf" value="([^"]+)"', page.text)
        assert found, page.text
        return await client.post(form.pop("to", path), data={**form, "csrf": found[1]})

    async def test_a_record_is_opened_used_and_looked_into(self, hub: Hub) -> None:
        async with signed_in(hub, "clinician") as client:
            assert (await client.get("/patients/stranger")).status_code == 404
            answer = await self.send(client, "/emergency", dict(self.FORM))
            assert (answer.status_code, answer.headers["location"]) == (
                303, "/patients/stranger?said=emergency-opened",
            )  # fmt: skip
            assert "STRANGER" in (await client.get("/patients/stranger")).text
        async with signed_in(hub, "practice-staff") as client:
            assert (await client.get("/patients/stranger")).status_code == 404, "it is open to one person alone"
        async with signed_in(hub, "information-governance") as client:
            page = await client.get("/emergencies")
            assert "Found collapsed at home" in page.text
            ident = re.search('/emergencies/([^"]+)', page.text)
            assert ident
            answer = await self.send(client, "/emergencies", {"to": f"/emergencies/{ident[1]}"})
            assert answer.status_code == 303
            assert "Found collapsed" not in (await client.get("/emergencies")).text
            assert "Found collapsed" in (await client.get("/emergencies?show=all")).text

    @pytest.mark.parametrize(
        "slip", [{"nhs": "9990000026"}, {"year": "1949"}, {"month": "13"}, {"day": ""}, {"reason": "urgent"}]
    )
    async def test_a_slip_opens_nothing_and_is_kept(self, hub: Hub, slip: dict[str, str]) -> None:
        async with signed_in(hub, "clinician") as client:
            client.headers["x-request-id"] = request_id = f"slip-{next(iter(slip))}"
            answer = await self.send(client, "/emergency", self.FORM | slip)
            assert answer.status_code == 422
            assert "stranger" not in answer.text.casefold()
            assert (await client.get("/patients/stranger")).status_code == 404
        async with hub.database.transaction() as tx:
            rows = await tx.pg.execute("SELECT outcome FROM audit WHERE request_id = %s AND action = %s",
                                       (request_id, "emergency-access"))  # fmt: skip
            assert ("refused",) in await rows.fetchall()

    @pytest.mark.parametrize("role", ["patient", "carer", "social-worker", "information-governance", "operations"])
    async def test_it_is_for_those_who_treat(self, hub: Hub, role: str) -> None:
        async with signed_in(hub, role) as client:
            assert (await client.get("/emergency")).status_code == 403
        async with signed_in(hub, "clinician") as client:
            assert (await client.get("/emergencies")).status_code == 403


class TestDoor:
    async def test_guessed_keys_are_401_with_a_challenge(self, hub: Hub) -> None:
        async with hub.client() as client:
            for guess in ("", "x", new_secret("chd_"), new_secret("cht_")):
                answer = await client.get("/fhir/Patient", headers={"authorization": f"Bearer {guess}"})
                assert answer.status_code == 401
                assert "Bearer" in answer.headers["www-authenticate"]
                assert answer.json()["resourceType"] == "OperationOutcome"

    async def test_without_a_credential_only_the_capability_statement_is_told(self, hub: Hub) -> None:
        async with hub.client() as client:
            assert (await client.get("/fhir/metadata")).status_code == 200
            for path in ("/fhir/Patient", "/fhir/Patient/Patient-m", "/fhir/_history", "/fhir/Questionnaire"):
                assert (await client.get(path)).status_code == 401
            assert (await client.post("/fhir", json={"resourceType": "Bundle", "type": "batch"})).status_code == 401
            assert (await client.post("/fhir/$ingest", content=b"{}")).status_code == 401

    async def test_a_cursor_of_one_actor_shows_another_only_what_they_may_see(self, hub: Hub) -> None:
        async with hub.client("administrator") as admin, hub.client("health-coach") as coach:
            first = (await admin.get("/fhir/Condition?_count=1")).json()
            (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
            answer = await coach.get(following)
            assert answer.status_code in (200, 400, 403)
            if answer.status_code == 200:
                check_leaks("health-coach", answer.json())

    async def test_a_revoked_key_is_shut_out_within_two_seconds(self, hub: Hub) -> None:
        async with hub.database.transaction() as tx:
            key = await accounts.issue_device_key(tx, "Device-m", "to be revoked")
        async with hub.client(authorization=f"Bearer {key}") as client:
            assert (await client.get("/fhir/Device/Device-m")).status_code == 200
            async with hub.database.transaction() as tx:
                listed = await accounts.list_credentials(tx.pg, "Device-m")
                (ident,) = [one.id for one in listed if one.label == "to be revoked"]
                await accounts.revoke(tx, ident)
            await asyncio.sleep(2.05)
            assert (await client.get("/fhir/Device/Device-m")).status_code == 401

    async def test_even_an_unexpected_error_carries_them_and_tells_nothing(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        async def broken(*_: Any) -> None:
            raise LookupError(f"about {SECRET}")

        monkeypatch.setattr("hub.fhir_routes.authenticate", broken)
        monkeypatch.setattr("hub.identity.authenticate", broken)
        references: list[str] = []
        async with hub.client() as client:
            for path in ("/fhir/Patient", "/today"):
                answer = await client.get(path)
                assert answer.status_code == 500
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["cache-control"] == "no-store"
                assert SECRET not in answer.text
                assert "LookupError" not in answer.text
                references.append(answer.headers["x-request-id"])
                assert path.startswith("/fhir") or references[-1] in answer.text
        logged = capfd.readouterr()
        assert "builtins.LookupError" in logged.out + logged.err
        assert SECRET not in logged.out + logged.err
        assert all(reference and reference in logged.out + logged.err for reference in references)

    async def test_every_answer_carries_the_security_headers(self, hub: Hub) -> None:
        async with hub.client() as client:
            for path in ("/sign-in", "/fhir/metadata", "/fhir/Patient", "/nowhere", "/static/carehub.css", "/health"):
                answer = await client.get(path)
                assert "default-src 'none'" in answer.headers["content-security-policy"], path
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["x-request-id"]
