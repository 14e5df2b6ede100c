"""Subscriptions: who may ask for what, what is delivered to whom, how often, in which order, and what never leaves."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rest import Caller, Fresh
from subscribing import World, focuses, parameter, world

from fhir.store import new_id
from fhir.wire import decode
from hub.demonstration.codes import TERMINOLOGY
from hub.subscriptions import courier, signature

JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def made(fresh_url: Fresh) -> AsyncIterator[World]:
    async with world(fresh_url()) as one:
        yield one


@pytest.fixture
async def hub(made: World) -> AsyncIterator[World]:
    """The world with nothing subscribed and a receiver that has heard nothing."""
    async with made.rest.database.transaction() as tx:
        await tx.pg.execute("DELETE FROM subscription_event")
        await tx.pg.execute("DELETE FROM subscription")
    made.receiver.requests.clear()
    made.receiver.answer = lambda request: (200, "")
    made.receiver.delay = 0.0
    made.ahead = timedelta()
    yield made


def pulse(patient_id: str, value: str = "70", **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": datetime.now(UTC).isoformat(),
        "valueQuantity": {"value": Decimal(value), "system": "http://unitsofmeasure.org", "code": "/min"},
        **elements,
    }


async def posted(caller: Caller, resource: JSON) -> JSON:
    response = await caller("POST", f"/{resource['resourceType']}", resource)
    assert response.status_code == 201, response.text
    return decode(response.content)


async def coordinator(hub: World, *patients: str) -> Caller:
    """A care coordinator in the team of *patients*."""
    reference = f"Practitioner/{new_id()}"
    caller = await hub.rest.user("care-coordinator", reference)
    for one in patients:
        await team(hub, one, reference)
    return caller


async def team(hub: World, patient_id: str, *members: str, status: str = "active") -> JSON:
    return await posted(
        hub.rest.system,
        {
            "resourceType": "CareTeam",
            "status": status,
            "subject": {"reference": f"Patient/{patient_id}"},
            "participant": [{"member": {"reference": one}} for one in members],
        },
    )


class TestWhoMayAsk:
    async def test_nobody_who_has_not_signed_in(self, hub: World) -> None:
        assert (await hub.rest.nobody("POST", "/Subscription", hub.asking())).status_code == 401

    @pytest.mark.parametrize("role", ["patient", "practice-staff", "voluntary-worker", "information-governance"])
    async def test_other_roles_may_not(self, hub: World, role: str) -> None:
        caller = await hub.rest.user(role, f"Practitioner/{new_id()}")
        assert (await caller("POST", "/Subscription", hub.asking())).status_code == 403

    async def test_a_device_may_not(self, hub: World) -> None:
        device = await hub.rest.device(await hub.rest.patient())
        assert (await device("POST", "/Subscription", hub.asking())).status_code == 403

    async def test_a_coordinator_may_listen_and_not_have_records_sent_elsewhere(self, hub: World) -> None:
        caller = await coordinator(hub)
        refused = await caller("POST", "/Subscription", hub.asking())
        assert refused.status_code == 403
        assert "subscription.send" in refused.text
        listening = hub.asking(channel={"type": "websocket"})
        del listening["channel"]["endpoint"]
        assert (await caller("POST", "/Subscription", listening)).status_code == 201

    async def test_anothers_is_not_seen_and_not_changed(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        other = await coordinator(hub)
        path = f"/Subscription/{mine['id']}"
        assert (await other("GET", path)).status_code == 404
        assert (await other("GET", f"{path}/_history/1")).status_code == 404
        assert (await other("GET", f"{path}/$status")).status_code == 404
        assert (await other("GET", f"{path}/$events")).status_code == 404
        assert (await other("POST", f"{path}/$new-secret")).status_code == 404
        assert (await other("PUT", path, mine | {"status": "off"})).status_code == 404
        assert (await other("DELETE", path)).status_code == 404
        assert "entry" not in (await other("GET", "/Subscription")).json()

    async def test_whoever_runs_the_service_may_end_it_and_no_more(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        operator = await hub.rest.user("operations", f"Practitioner/{new_id()}")
        path = f"/Subscription/{mine['id']}"
        elsewhere = mine | {"channel": mine["channel"] | {"endpoint": "https://elsewhere.example/"}}
        assert (await operator("PUT", path, elsewhere)).status_code == 403
        assert (await operator("POST", f"{path}/$new-secret")).status_code == 403
        assert (await operator("PUT", path, mine | {"status": "off"})).status_code == 200
        assert await hub.status(mine["id"]) == "off"

    async def test_no_more_than_twenty(self, hub: World) -> None:
        caller = await hub.rest.user("ehr-system", "Device/many")
        for _ in range(20):
            await hub.subscribe(caller)
        refused = await caller("POST", "/Subscription", hub.asking())
        assert refused.status_code == 409


class TestWhatMayBeAsked:
    @pytest.mark.parametrize(
        ("change", "expression"),
        [
            ({"criteria": "Observation?colour=red"}, "Subscription.criteria"),
            ({"criteria": "Everything"}, "Subscription.criteria"),
            ({"criteria": "Observation?_count=3"}, "Subscription.criteria"),
            ({"criteria": "Observation?code="}, "Subscription.criteria"),
            ({"criteria": "https://elsewhere.example/SubscriptionTopic/x"}, "Subscription.criteria"),
            ({"status": "active"}, "Subscription.status"),
            ({"channel": {"type": "email", "endpoint": "mailto:a@example.org"}}, "Subscription.channel.type"),
            ({"channel": {"type": "rest-hook"}}, "Subscription.channel.endpoint"),
            ({"channel": {"type": "rest-hook", "endpoint": "ftp://x/"}}, "Subscription.channel.endpoint"),
            ({"channel": {"type": "rest-hook", "endpoint": "https://u:p@x/"}}, "Subscription.channel.endpoint"),
            ({"channel": {"type": "rest-hook", "endpoint": "https://x/#y"}}, "Subscription.channel.endpoint"),
        ],
    )
    async def test_what_cannot_be_met_is_refused(self, hub: World, change: JSON, expression: str) -> None:
        asked = hub.asking() | change
        refused = await hub.rest.system("POST", "/Subscription", asked)
        assert refused.status_code == 422, refused.text
        assert refused.json()["issue"][0]["expression"] == [expression]

    @pytest.mark.parametrize("header", ["Host: elsewhere", "Content-Length: 3", "X-CareHub-Signature: t=1", "no colon"])
    async def test_headers_that_are_the_hubs_own(self, hub: World, header: str) -> None:
        refused = await hub.rest.system("POST", "/Subscription", hub.asking(channel={"header": [header]}))
        assert refused.status_code == 422

    async def test_a_type_that_the_caller_may_not_see(self, hub: World) -> None:
        refused = await hub.rest.system("POST", "/Subscription", hub.asking("AuditEvent?date=gt2026"))
        assert refused.status_code == 403

    async def test_another_type_takes_another_subscription(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        changed = mine | {"criteria": "Condition?code=x", "status": "requested"}
        assert (await hub.rest.system("PUT", f"/Subscription/{mine['id']}", changed)).status_code == 422


class TestSecrets:
    async def test_threat_a_header_is_read_back(self, hub: World) -> None:
        token = "Bearer " + "s3cr3t" * 5
        mine = await hub.subscribe(hub.rest.system, channel={"header": [f"Authorization: {token}"]})
        assert mine["channel"]["header"] == ["Authorization: ***"]
        path = f"/Subscription/{mine['id']}"
        reads = [path, f"{path}/_history", f"{path}/_history/1", "/Subscription", f"{path}/$status"]
        administrator = await hub.rest.user("administrator", f"Practitioner/{new_id()}")
        for one in [*reads, "/_history?_count=50"]:
            for caller in (hub.rest.system, administrator):
                assert "s3cr3t" not in (await caller("GET", one)).text
        stored = await hub.rest.rows("SELECT 1 FROM resource_version WHERE body LIKE '%%s3cr3t%%'")
        assert stored == []

    async def test_it_is_sent_and_kept_when_it_comes_back_as_it_is_shown(self, hub: World) -> None:
        header = {"header": ["Authorization: Bearer abc"], "payload": "application/fhir+json"}
        mine = await hub.subscribe(hub.rest.system, channel=header)
        again = await hub.rest.system("PUT", f"/Subscription/{mine['id']}", mine | {"reason": "Another"})
        assert again.status_code == 200, again.text
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        assert hub.receiver.requests[0].headers["authorization"] == "Bearer abc"

    async def test_the_signing_secret_is_shown_once_and_signs_time_and_body(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, channel={"payload": "application/fhir+json"})
        answered = await hub.rest.system("POST", f"/Subscription/{mine['id']}/$new-secret")
        secret = parameter(answered.json(), "secret")["valueString"]
        assert secret not in (await hub.rest.system("GET", f"/Subscription/{mine['id']}/_history")).text
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        (request,) = hub.receiver.requests
        header = request.headers["x-carehub-signature"]
        now = int(datetime.now(UTC).timestamp())
        assert signature.verify(secret, request.body, header, now)
        assert not signature.verify(secret, request.body + b" ", header, now)
        assert not signature.verify(secret, request.body, header, now + 301)
        assert not signature.verify("another", request.body, header, now)


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


class TestAccess:
    async def test_only_what_the_owner_may_see_and_no_longer_than_that(self, hub: World) -> None:
        seen, unseen = await hub.rest.patient(), await hub.rest.patient()
        member = f"Practitioner/{new_id()}"
        caller = await hub.rest.user("care-coordinator", member)
        kept = await team(hub, seen, member)
        asked = hub.topical("reading-received", channel={"type": "websocket"})
        del asked["channel"]["endpoint"]
        mine = await hub.subscribe(caller, **asked)
        first = await posted(hub.rest.system, pulse(seen, "70"))
        await posted(hub.rest.system, pulse(unseen, "70"))
        await hub.deliver()
        await hub.deliver()
        events = f"/Subscription/{mine['id']}/$events?content=full-resource"
        told = (await caller("GET", events)).json()
        assert [one["resource"]["id"] for one in told["entry"][1:]] == [first["id"]]
        ended = kept | {"status": "inactive"}
        assert (await hub.rest.system("PUT", f"/CareTeam/{kept['id']}", ended)).status_code == 200
        await posted(hub.rest.system, pulse(seen, "71"))
        await hub.deliver()
        told = (await caller("GET", events)).json()
        # What was told once keeps its number, and says nothing any more; what came later has none.
        assert parameter(told["entry"][0]["resource"], "events-since-subscription-start")["valueString"] == "1"
        assert focuses(told) == [] and len(told["entry"]) == 1
        assert seen not in (await caller("GET", events)).text

    async def test_access_that_is_lost_while_a_retry_waits(self, hub: World) -> None:
        patient = await hub.rest.patient()
        member = f"Organization/{new_id()}"
        caller = await hub.rest.user("ehr-system", member)
        mine = await hub.subscribe(caller, **hub.topical("reading-received", content="full-resource"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        # The account becomes one that sees no readings, and may still have things sent.
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute("UPDATE account SET role = 'operations' WHERE reference = %s", (member,))
        hub.receiver.answer = lambda request: (200, "")
        hub.receiver.requests.clear()
        await hub.deliver()
        (told,) = hub.receiver.requests
        assert told.numbers == [1]
        assert patient.encode() not in told.body and focuses(told.json) == []
        assert await hub.status(mine["id"]) in ("active", "error")

    @pytest.mark.parametrize("change", ["active = FALSE", "role = 'practice-staff'"])
    async def test_an_account_that_is_closed_or_may_no_more(self, hub: World, change: str) -> None:
        caller = await hub.rest.user("ehr-system", f"Organization/{new_id()}")
        mine = await hub.subscribe(caller)
        await hub.deliver()
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute(
                f"UPDATE account SET {change} WHERE id = (SELECT account_id FROM subscription WHERE id = %s)",
                (mine["id"],),
            )
        await posted(hub.rest.system, pulse(await hub.rest.patient()))
        await hub.deliver()
        assert hub.receiver.requests == []
        assert await hub.status(mine["id"]) == "off"

    async def test_what_left_stands_in_the_trail_of_the_person_once(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        await hub.deliver()
        hub.receiver.answer = lambda request: (500, "")
        stored = await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        hub.receiver.answer = lambda request: (200, "")
        await hub.deliver()
        rows = await hub.rest.rows(
            "SELECT actor, resource_id, detail FROM audit WHERE action = 'notify' AND patient_id = %s", patient
        )
        detail = {"subscription": mine["id"], "event": 1, "content": "full-resource"}
        assert rows == [("Device/ehr", stored["id"], detail)]


class TestAskingAgain:
    async def test_events_by_number(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        stored = [(await posted(hub.rest.system, pulse(patient, str(70 + n))))["id"] for n in range(4)]
        await hub.deliver()
        path = f"/Subscription/{mine['id']}/$events"
        told = (await hub.rest.system("GET", f"{path}?eventsSinceNumber=2&eventsUntilNumber=3")).json()
        status = told["entry"][0]["resource"]
        assert parameter(status, "type")["valueCode"] == "query-event"
        assert parameter(status, "events-since-subscription-start")["valueString"] == "4"
        assert [focus.rpartition("/")[2] for focus in focuses(told)] == stored[1:3]
        posted_ = {"resourceType": "Parameters", "parameter": [{"name": "eventsSinceNumber", "valueString": "4"}]}
        assert [
            one.rpartition("/")[2] for one in focuses((await hub.rest.system("POST", path, posted_)).json())
        ] == stored[3:]

    @pytest.mark.parametrize("query", ["eventsSinceNumber=x", "content=all", "since=3"])
    async def test_what_is_not_understood(self, hub: World, query: str) -> None:
        mine = await hub.subscribe(hub.rest.system)
        refused = await hub.rest.system("GET", f"/Subscription/{mine['id']}/$events?{query}")
        assert refused.status_code == 400

    async def test_status_of_several(self, hub: World) -> None:
        first, second = await hub.subscribe(hub.rest.system), await hub.subscribe(hub.rest.system)
        await hub.deliver()
        found = (await hub.rest.system("GET", f"/Subscription/$status?id={first['id']},{second['id']}")).json()
        assert found["total"] == 2
        assert (await hub.rest.system("GET", "/Subscription/$status?status=error")).json()["total"] == 0
        assert (await hub.rest.system("GET", "/Subscription/$status?id=unknown")).status_code == 404

    async def test_deleting_forgets_it(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system)
        assert (await hub.rest.system("DELETE", f"/Subscription/{mine['id']}")).status_code == 204
        assert await hub.rest.rows("SELECT 1 FROM subscription WHERE id = %s", mine["id"]) == []


async def test_nothing_is_written_for_readings_that_nobody_wants(hub: World) -> None:
    await posted(hub.rest.system, pulse(await hub.rest.patient()))
    await hub.deliver()
    assert await hub.rest.rows("SELECT 1 FROM subscription_event") == []
