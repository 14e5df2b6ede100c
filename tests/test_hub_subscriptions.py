"""Subscriptions: who may ask for what, what is never read back, and how to ask for events again."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rest import Fresh
from subscribing import (
    World,
    coordinator,
    focuses,
    nothing_subscribed,
    numbers,
    parameter,
    posted,
    pulse,
    world,
)

from fhir.store import Change, new_id
from hub import doctor, flows
from hub.identity import IMPORTER
from hub.subscriptions import events, signature
from hub.subscriptions.topics import TOPICS

JSON = dict[str, Any]
PAGE = (Path(__file__).parents[1] / "docs" / "subscriptions.md").read_text()


@pytest.fixture(scope="module")
async def made(fresh_url: Fresh) -> AsyncIterator[World]:
    async with world(fresh_url()) as one:
        yield one


@pytest.fixture
async def hub(made: World) -> AsyncIterator[World]:
    async with nothing_subscribed(made) as one:
        yield one


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

    @pytest.mark.parametrize("header", ["Host: elsewhere", "content-length: 3", "X-CareHub-Signature: t=1", "no colon"])
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


class TestFiles:
    async def test_an_imported_one_is_a_record_that_is_off_and_keeps_no_secret(self, hub: World) -> None:
        asked = hub.asking(channel={"header": ["Authorization: Bearer s3cr3t"]})
        id_ = new_id()
        resource = {**asked, "id": id_, "status": "active", "channel": asked["channel"] | {"type": "email"}}
        for _ in range(2):
            async with hub.rest.database.transaction() as tx:
                [written] = await flows.write(tx, IMPORTER, [Change("update", "Subscription", id_, resource)])
            assert written.body is not None and "s3cr3t" not in written.body
            assert written.change.resource is not None and written.change.resource["status"] == "off"
            resource = written.change.resource
        assert await hub.rest.rows("SELECT 1 FROM subscription WHERE id = %s", id_) == []
        administrator = await hub.rest.user("administrator", f"Practitioner/{new_id()}")
        assert (await administrator("GET", f"/Subscription/{id_}/$status")).status_code == 404

    async def test_an_export_that_comes_back_changes_nothing(self, hub: World) -> None:
        mine = await hub.subscribe(hub.rest.system, channel={"header": ["Authorization: Bearer abc"]})
        async with hub.rest.database.transaction() as tx:
            [written] = await flows.write(tx, IMPORTER, [Change("update", "Subscription", mine["id"], mine)])
        assert written.version == 1
        rows = await hub.rest.rows("SELECT headers FROM subscription WHERE id = %s", mine["id"])
        assert rows == [(["Authorization", "Bearer abc"],)]


class TestDocuments:
    def test_every_topic_is_described(self) -> None:
        described = re.findall(r"^\| `\.\.\./SubscriptionTopic/([a-z-]+)` \| (\w+) \|", PAGE, re.MULTILINE)
        assert described == [(topic.name, topic.type) for topic in TOPICS.values()]

    def test_the_receiver_of_the_example_knows_what_is_genuine(self) -> None:
        example = re.search(r"```python\n(.*?)HTTPServer\(", PAGE, re.DOTALL)
        assert example is not None
        names: dict[str, Any] = {}
        exec(example[1], names)
        now = int(datetime.now(UTC).timestamp())
        for body in (b"", b"{}"):
            assert names["genuine"](signature.sign(names["SECRET"], body, now), body)
            assert not names["genuine"](signature.sign(names["SECRET"], body, now), body + b"x")
            assert not names["genuine"](signature.sign("other", body, now), body)
            assert not names["genuine"](signature.sign(names["SECRET"], body, now - 301), body)


class TestAskingAgain:
    async def test_nobody_else_is_told(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received", content="full-resource"))
        stored = await posted(hub.rest.system, pulse(patient))
        await hub.deliver()
        callers = {
            "coordinator of another hub": await coordinator(hub, await hub.rest.patient()),
            "the person": await hub.rest.user("patient", f"Patient/{patient}"),
            "device": await hub.rest.device(patient),
            "nobody": hub.rest.nobody,
        }
        for who, caller in callers.items():
            for path in ("$events", "$status", "$get-ws-binding-token"):
                refused = await caller("GET", f"/Subscription/{mine['id']}/{path}")
                assert refused.status_code in (401, 403, 404), (who, path)
                assert stored["id"] not in refused.text
            everything = await caller("GET", "/Subscription/$status")
            assert everything.status_code in (401, 403) or "entry" not in everything.json(), who
        # Whoever looks after the service sees that it is there, and none of the records.
        operator = await hub.rest.user("operations", f"Practitioner/{new_id()}")
        told = (await operator("GET", f"/Subscription/{mine['id']}/$events?content=full-resource")).json()
        assert numbers(told) == [1] and focuses(told) == [] and len(told["entry"]) == 1

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

    async def test_what_is_too_old_is_said_to_be_gone(self, hub: World) -> None:
        patient = await hub.rest.patient()
        mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
        for n in range(3):
            await posted(hub.rest.system, pulse(patient, str(70 + n)))
        await hub.deliver()
        async with hub.rest.database.transaction() as tx:
            await tx.pg.execute("UPDATE subscription_event SET at = at - interval '31 days' WHERE number < 3")
            await events.forget_old(tx)
        path = f"/Subscription/{mine['id']}/$events"
        assert numbers((await hub.rest.system("GET", path)).json()) == [3]
        gone = await hub.rest.system("GET", f"{path}?eventsSinceNumber=2")
        assert gone.status_code == 410
        assert "eventsSinceNumber=3" in gone.text

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


async def test_doctor_names_those_that_do_not_get_through(hub: World) -> None:
    with psycopg.connect(hub.rest.database.url) as connection:
        assert doctor.subscriptions(connection).level is doctor.Level.OK
    hub.receiver.answer = lambda request: (404, "")
    mine = await hub.subscribe(hub.rest.system, **hub.topical("reading-received"))
    await hub.deliver()
    with psycopg.connect(hub.rest.database.url) as connection:
        found = doctor.subscriptions(connection)
    assert found.level is doctor.Level.WARN
    assert f"{mine['id']} (tried again): answered 404" in found.detail
