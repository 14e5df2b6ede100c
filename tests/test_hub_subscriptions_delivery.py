"""What is delivered, how often, in which order, and what becomes of a receiver that fails."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest import Fresh
from subscribing import (
    World,
    focuses,
    nothing_subscribed,
    parameter,
    posted,
    pulse,
    world,
)

from fhir.wire import decode
from hub.demonstration.codes import TERMINOLOGY
from hub.subscriptions import courier, events

JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def made(fresh_url: Fresh) -> AsyncIterator[World]:
    async with world(fresh_url()) as one:
        yield one


@pytest.fixture
async def hub(made: World) -> AsyncIterator[World]:
    async with nothing_subscribed(made) as one:
        yield one


class TestSearchOfR4:
    async def test_without_payload_an_empty_post(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        (request,) = hub.receiver.requests
        assert (request.method, request.path, request.body) == ("POST", "/hook", b"")
        assert request.headers["x-carehub-subscription"] == mine["id"]
        assert await hub.status(mine["id"]) == "active"

    async def test_with_payload_the_resource_is_put(self, hub: World) -> None:
        await hub.subscribe(hub.rest.system, channel={"payload": "application/fhir+json"})
        stored = await posted(hub.rest.system, pulse(await hub.rest.patient(), "71.50"))
        await hub.deliver()
        (request,) = hub.receiver.requests
        assert (request.method, request.path) == ("PUT", f"/hook/Observation/{stored['id']}")
        assert request.json == stored
        assert b"71.50" in request.body

    async def test_only_what_matches_and_every_version_of_it(self, hub: World) -> None:
        criteria = "Observation?code=http://loinc.org|8867-4&value-quantity=gt100&status=final,amended"
        await hub.subscribe(hub.rest.system, criteria=criteria, channel={"payload": "application/fhir+json"})
        patient = await hub.rest.patient()
        await posted(hub.rest.system, pulse(patient, "90"))
        first = await posted(hub.rest.system, pulse(patient, "101"))
        path = f"/Observation/{first['id']}"
        # Superseded before anybody looked, by one that does not match any more, and by one that does again.
        for change in ({"status": "entered-in-error"}, {"status": "amended"}):
            assert (await hub.rest.system("PUT", path, first | change)).status_code == 200
        await hub.deliver()
        assert [one.json["meta"]["versionId"] for one in hub.receiver.requests] == ["1", "3"]

    async def test_chains_and_has_are_answered(self, hub: World) -> None:
        patient = await hub.rest.patient(identifier=[{"system": "urn:mrn", "value": "m-77"}])
        await hub.subscribe(hub.rest.system, criteria="Observation?subject:Patient.identifier=urn:mrn|m-77")
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        assert len(hub.receiver.requests) == 1

    async def test_what_was_written_before_is_not_told(self, hub: World) -> None:
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.subscribe(hub.rest.system)
        await hub.deliver()
        assert hub.receiver.requests == []

    async def test_what_is_uncommitted_is_told_when_it_commits_and_nothing_is_passed_over(self, hub: World) -> None:
        await hub.subscribe(
            hub.rest.system, criteria="Organization?name=late,early", channel={"payload": "application/fhir+json"}
        )
        one = hub.courier()
        async with hub.rest.database.transaction() as tx:
            # As a slow writer does: numbered now, seen later.
            body = '{"resourceType":"Organization","id":"late","meta":{"versionId":"1"},"name":"late"}'
            await tx.pg.execute(
                "INSERT INTO resource_version (type, id, version, updated, author, method, body)"
                " VALUES ('Organization', 'late', 1, now(), 'Device/x', 'POST', %s)",
                (body,),
            )
            await tx.pg.execute(
                "INSERT INTO r_organization (id, version, updated, keys, strings)"
                " VALUES ('late', 1, now(), '{}', array_to_tsvector(ARRAY['name=late']))"
            )
            await posted(hub.rest.system, {"resourceType": "Organization", "name": "early"})
            for _ in range(3):
                await hub.deliver(one)
            assert hub.receiver.requests == []
        for _ in range(2):
            await hub.deliver(one)
        assert [request.json["name"] for request in hub.receiver.requests] == ["late", "early"]


class TestTopics:
    async def test_the_handshake_comes_first(self, hub: World) -> None:
        mine = decode((await hub.rest.system("POST", "/Subscription", hub.topical("reading-received"))).content)
        await hub.deliver()
        (request,) = hub.receiver.requests
        assert request.kind == "handshake"
        status = request.json["entry"][0]["resource"]
        assert parameter(status, "subscription")["valueReference"]["reference"].endswith(mine["id"])
        read = (await hub.rest.system("GET", f"/Subscription/{mine['id']}")).json()
        assert read["status"] == "active"

    async def test_a_handshake_that_is_refused_activates_nothing(self, hub: World) -> None:
        hub.receiver.answer = lambda request: (404, "")
        mine = decode((await hub.rest.system("POST", "/Subscription", hub.topical("reading-received"))).content)
        await hub.deliver()
        assert await hub.status(mine["id"]) == "requested"
        status = (await hub.rest.system("GET", f"/Subscription/{mine['id']}/$status")).json()
        parameters = status["entry"][0]["resource"]
        assert parameter(parameters, "error")["valueCodeableConcept"]["text"] == "answered 404"

    @pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
    async def test_reading_received(self, hub: World, content: str) -> None:
        patient, other = await hub.rest.patient(), await hub.rest.patient()
        asked = hub.topical("reading-received", f"Observation?patient=Patient/{patient}", content=content)
        await hub.subscribe(hub.rest.system, **asked)
        await posted(hub.rest.system, pulse(other))
        note = {key: value for key, value in pulse(patient).items() if key != "valueQuantity"}
        await posted(hub.rest.system, note | {"code": {"text": "A remark"}, "valueString": "fine"})
        stored = await posted(hub.rest.system, pulse(patient, "71.50"))
        await hub.rest.system("PUT", f"/Observation/{stored['id']}", stored | {"status": "amended"})
        await hub.deliver()
        handshake, told = hub.receiver.requests
        assert (handshake.kind, told.kind) == ("handshake", "event-notification")
        assert told.numbers == [1]
        assert focuses(told.json) == (
            [] if content == "empty" else [f"https://hub.test/fhir/Observation/{stored['id']}"]
        )
        entries = told.json["entry"][1:]
        assert len(entries) == (0 if content == "empty" else 1)
        assert [one.get("resource") for one in entries] == (
            [] if content == "empty" else [stored if content == "full-resource" else None]
        )
        assert (stored["id"].encode() in told.body) == (content != "empty")
        assert (patient.encode() in told.body) == (content == "full-resource")

    async def test_flag_raised_once_and_not_when_it_is_refreshed(self, hub: World) -> None:
        patient = await hub.rest.patient()
        device = await hub.rest.device(patient)
        await hub.subscribe(hub.rest.system, **hub.topical("flag-raised", f"Flag?patient=Patient/{patient}"))
        for minutes in (3, 2, 1):
            at = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
            low = pulse(patient, "85", effectiveDateTime=at)
            low["code"]["coding"][0]["code"] = "59408-5"
            low["valueQuantity"]["code"] = "%"
            await posted(device, low)
        await hub.deliver()
        told = [one for one in hub.receiver.requests if one.kind == "event-notification"]
        raised = [focus for one in told for focus in focuses(one.json)]
        flags = await hub.rest.rows("SELECT id FROM r_flag WHERE patient_id = %s", patient)
        assert sorted(raised) == sorted(f"https://hub.test/fhir/Flag/{row[0]}" for row in flags)
        assert raised

    async def test_task_assigned_when_the_owner_changes(self, hub: World) -> None:
        patient = await hub.rest.patient()
        await hub.subscribe(hub.rest.system, **hub.topical("task-assigned"))
        task = {"resourceType": "Task", "status": "requested", "intent": "order", "description": "Call",
                "for": {"reference": f"Patient/{patient}"}}  # fmt: skip
        stored = await posted(hub.rest.system, task)
        for change in (
            {"owner": {"reference": "Practitioner/a"}},
            {"owner": {"reference": "Practitioner/a"}, "status": "accepted"},
            {"owner": {"reference": "Practitioner/b"}},
        ):
            assert (await hub.rest.system("PUT", f"/Task/{stored['id']}", stored | change)).status_code == 200
        await hub.deliver()
        told = hub.receiver.requests[-1]
        assert told.numbers == [1, 2]
        assert [one["response"]["etag"] for one in told.json["entry"][1:]] == ['W/"2"', 'W/"4"']

    async def test_plan_changed(self, hub: World) -> None:
        patient = await hub.rest.patient()
        await hub.subscribe(hub.rest.system, **hub.topical("plan-changed"))
        plan = {
            "resourceType": "CarePlan",
            "status": "draft",
            "intent": "plan",
            "subject": {"reference": f"Patient/{patient}"},
        }
        supporting = plan | {"intent": "order", "category": [{"text": "Diet"}], "status": "active"}
        approval = {
            "resourceType": "Consent", "status": "active", "patient": {"reference": f"Patient/{patient}"},
            "scope": {"coding": [{"system": TERMINOLOGY + "consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "dateTime": "2026-01-02T10:00:00Z", "policyRule": {"text": "Agreed"}, "provision": {"type": "permit"},
        }  # fmt: skip
        await posted(hub.rest.system, approval)
        await posted(hub.rest.system, supporting)
        stored = await posted(hub.rest.system, plan)
        await hub.deliver()
        assert focuses(hub.receiver.requests[-1].json) == [f"https://hub.test/fhir/CarePlan/{stored['id']}"]

    async def test_heartbeats_when_there_is_nothing_else_to_say(self, hub: World) -> None:
        asked = hub.topical("reading-received")
        asked["channel"]["extension"] = [
            {"url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period",
             "valueUnsignedInt": 60}
        ]  # fmt: skip
        await hub.subscribe(hub.rest.system, **asked)
        await hub.deliver()
        await hub.deliver()
        assert [one.kind for one in hub.receiver.requests] == ["handshake"]
        hub.ahead = timedelta(seconds=61)
        await hub.deliver()
        assert [one.kind for one in hub.receiver.requests] == ["handshake", "heartbeat"]
        hub.ahead = timedelta(seconds=122)
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        await hub.deliver()
        assert hub.receiver.requests[-1].kind == "event-notification"

    async def test_its_end_is_told(self, hub: World) -> None:
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received", end=end))
        await hub.deliver()
        hub.ahead = timedelta(hours=2)
        await hub.deliver()
        last = hub.receiver.requests[-1]
        assert parameter(last.json["entry"][0]["resource"], "status")["valueCode"] == "off"
        assert (await hub.rest.system("GET", f"/Subscription/{mine['id']}")).json()["status"] == "off"
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        count = len(hub.receiver.requests)
        await hub.deliver()
        assert len(hub.receiver.requests) == count


class TestFailing:
    async def test_again_and_again_in_order_and_without_gaps(self, hub: World) -> None:
        patient = await hub.rest.patient()
        await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (503, "")
        stored = [(await posted(hub.rest.system, pulse(patient, str(70 + n))))["id"] for n in range(3)]
        await hub.deliver()
        await hub.deliver()
        stored.append((await posted(hub.rest.system, pulse(patient, "99")))["id"])
        hub.receiver.answer = lambda request: (200, "")
        await hub.deliver()
        told = hub.receiver.requests[1:]
        assert [one.numbers for one in told] == [[1, 2, 3], [1, 2, 3], [1, 2, 3], [4]]
        assert [focus.rpartition("/")[2] for one in told[2:] for focus in focuses(one.json)] == stored

    async def test_pauses_grow_and_are_spread(self) -> None:
        assert [courier.pause(n, 0.0) for n in (1, 2, 3, 11, 12, 500)] == [2, 4, 8, 2048, 3600, 3600]
        assert courier.pause(3, 1.0) == 12

    async def test_what_works_again_has_its_three_days_again(self, hub: World) -> None:
        await hub.subscribe(hub.rest.system)
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        hub.receiver.answer = lambda request: (200, "")
        await hub.deliver()
        rows = await hub.rest.rows("SELECT attempts, failing_since, error FROM subscription")
        assert rows == [(0, None, None)]

    async def test_a_long_stretch_is_walked_in_steps(self, hub: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "STRETCH", 2)
        await hub.subscribe(hub.rest.system, criteria="Observation?value-quantity=ge99.5")
        patient = await hub.rest.patient()
        for n in range(8):
            await posted(hub.rest.system, pulse(patient, str(70 + 10 * n)))
        await hub.deliver()
        assert len(hub.receiver.requests) == 5

    async def test_a_failed_one_waits(self, hub: World) -> None:
        hub.receiver.answer = lambda request: (503, "retry-after: 120\r\n")
        await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        await hub.deliver()
        one = hub.courier()
        await one.turn(hub.pg)
        await one.rest()
        assert len(hub.receiver.requests) == 1
        ((pause,),) = await hub.rest.rows("SELECT next_attempt - now() FROM subscription")
        assert timedelta(seconds=100) < pause <= timedelta(seconds=120)

    async def test_after_three_days_it_stops_and_says_so_and_goes_on_when_asked(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        await posted(hub.rest.system, pulse(patient, "70"))
        await hub.deliver()
        hub.ahead = timedelta(days=2, hours=23)
        await hub.deliver()
        assert await hub.status(mine["id"]) == "active"
        hub.ahead = timedelta(days=3, minutes=1)
        await hub.deliver()
        path = f"/Subscription/{mine['id']}"
        stopped = (await hub.rest.system("GET", path)).json()
        assert stopped["status"] == "error"
        assert stopped["error"].startswith("answered 500; given up after 3 attempts")
        await posted(hub.rest.system, pulse(patient, "71"))
        hub.receiver.answer = lambda request: (200, "")
        hub.receiver.requests.clear()
        await hub.deliver()
        assert hub.receiver.requests == []
        assert (await hub.rest.system("PUT", path, stopped)).status_code == 422
        again = await hub.rest.system("PUT", path, stopped | {"status": "requested"})
        assert again.status_code == 200, again.text
        assert "error" not in again.json()
        await hub.deliver()
        assert [one.kind for one in hub.receiver.requests] == ["handshake"] + ["event-notification"] * 2
        assert [one.numbers for one in hub.receiver.requests] == [[], [1], [2]]

    async def test_off_means_that_what_happens_meanwhile_is_not_wanted(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system)
        path = f"/Subscription/{mine['id']}"
        assert (await hub.rest.system("PUT", path, mine | {"status": "off"})).status_code == 200
        await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        assert (await hub.rest.system("PUT", path, mine)).status_code == 200
        await hub.deliver()
        assert hub.receiver.requests == []

    async def test_a_slow_one_delays_nobody_else(self, hub: World) -> None:
        await hub.subscribe(hub.rest.system, channel={"endpoint": hub.receiver.url + "/slow"})
        await hub.subscribe(hub.rest.system)
        await hub.deliver()
        patient = await hub.rest.patient()
        hub.receiver.answer = lambda request: (500, "") if request.path.endswith("/slow") else (200, "")
        for n in range(3):
            await posted(hub.rest.system, pulse(patient, str(70 + n)))
        await hub.deliver()
        assert len([one for one in hub.receiver.requests if one.path == "/hook"]) == 3
        assert len([one for one in hub.receiver.requests if one.path == "/hook/slow"]) == 1

    async def test_threat_a_redirect_leads_elsewhere(self, hub: World) -> None:
        hub.receiver.answer = lambda request: (307, "location: http://169.254.169.254/latest\r\n")
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        await hub.deliver()
        assert len(hub.receiver.requests) == 1
        ((error,),) = await hub.rest.rows("SELECT error FROM subscription WHERE id = %s", mine["id"])
        assert error == "answered 307: redirects are not followed"

    async def test_threat_a_target_that_the_operator_did_not_name(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, channel={"endpoint": "https://elsewhere.example/hook"})
        await hub.deliver()
        read = (await hub.rest.system("GET", f"/Subscription/{mine['id']}")).json()
        assert read["status"] == "error"
        assert "CAREHUB_SUBSCRIPTION_TARGETS" in read["error"]


async def test_nothing_is_written_for_readings_that_nobody_wants(hub: World) -> None:
    await posted(hub.rest.system, pulse(await hub.rest.patient()))
    await hub.deliver()
    assert await hub.rest.rows("SELECT 1 FROM subscription_event") == []
