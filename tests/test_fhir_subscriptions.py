"""What a Subscription asks for, taken apart, and what a notification looks like."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir.capability import statement
from fhir.outcome import Refusal
from fhir.subscriptions import (
    CONTENT,
    EVENTS_MOST,
    FILTER,
    HEARTBEAT,
    MOST_EVENTS,
    TIMEOUT,
    TOPIC_OFFERED,
    Event,
    State,
    filtered_type,
    hidden,
    notification,
    status,
    wanted,
)
from fhir.validation import check

JSON = dict[str, Any]
AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
TOPIC = "https://a.example/SubscriptionTopic/x"


def asking(criteria: str = "Observation?code=x", **channel: Any) -> JSON:
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "Test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": "https://a.example/hook", **channel},
    }


def filtered(*filters: str) -> JSON:
    return asking(TOPIC) | {"_criteria": {"extension": [{"url": FILTER, "valueString": one} for one in filters]}}


class TestWanted:
    def test_a_search(self) -> None:
        found = wanted(asking("Observation?code=http://loinc.org|8867-4&status=final,amended"))
        assert (found.topic, found.type) == (None, "Observation")
        assert found.query == (("code", "http://loinc.org|8867-4"), ("status", "final,amended"))
        assert found.content == "empty"

    def test_a_type_without_conditions(self) -> None:
        assert wanted(asking("Patient")).query == ()

    def test_a_topic_with_filters_that_all_hold(self) -> None:
        resource = filtered("Flag?patient=Patient/1", "Flag?category=clinical")
        found = wanted(resource)
        assert (found.topic, found.type, found.content) == (TOPIC, None, "id-only")
        assert found.query == (("patient", "Patient/1"), ("category", "clinical"))
        assert filtered_type(resource) == "Flag"

    def test_filters_of_several_types(self) -> None:
        with pytest.raises(Refusal):
            filtered_type(filtered("Flag?patient=1", "Task?patient=1"))

    def test_content_of_a_topic(self) -> None:
        payload = {"extension": [{"url": CONTENT, "valueCode": "full-resource"}]}
        assert wanted(asking(TOPIC, payload="application/fhir+json", _payload=payload)).content == "full-resource"

    def test_a_payload_of_r4_is_the_resource(self) -> None:
        assert wanted(asking(payload="application/fhir+json")).content == "full-resource"

    def test_numbers(self) -> None:
        extensions = [
            {"url": HEARTBEAT, "valueUnsignedInt": 60},
            {"url": TIMEOUT, "valueUnsignedInt": 5},
            {"url": MOST_EVENTS, "valuePositiveInt": EVENTS_MOST},
        ]
        found = wanted(asking(TOPIC, extension=extensions))
        assert (found.heartbeat, found.timeout, found.most) == (60, 5, EVENTS_MOST)

    @pytest.mark.parametrize(
        "extension",
        [
            {"url": HEARTBEAT, "valueUnsignedInt": 1},
            {"url": HEARTBEAT, "valueString": "60"},
            {"url": TIMEOUT, "valueUnsignedInt": 61},
            {"url": MOST_EVENTS, "valuePositiveInt": EVENTS_MOST + 1},
        ],
    )
    def test_numbers_out_of_bounds(self, extension: JSON) -> None:
        with pytest.raises(Refusal) as caught:
            wanted(asking(TOPIC, extension=[extension]))
        assert caught.value.issues[0].expression == "Subscription.channel.extension"

    @pytest.mark.parametrize(
        "criteria",
        [
            "",
            "Obs?code=x",
            "Observation?code",
            "Observation?_sort=date",
            "Observation?code=%ff",
            "Observation?" + "x" * 2000,
        ],
    )
    def test_criteria_that_are_none(self, criteria: str) -> None:
        with pytest.raises(Refusal) as caught:
            wanted(asking(criteria))
        assert (caught.value.status, caught.value.issues[0].expression) == (422, "Subscription.criteria")

    def test_a_payload_that_is_not_spoken(self) -> None:
        with pytest.raises(Refusal):
            wanted(asking(payload="application/fhir+xml"))

    def test_threat_a_header_that_becomes_two(self) -> None:
        with pytest.raises(Refusal):
            wanted(asking(header=["X-One: a\r\nX-Two: b"]))

    def test_headers_are_shown_without_their_values(self) -> None:
        resource = asking(header=["Authorization: Bearer abc", "X-Ward:  7 "])
        found = wanted(resource)
        assert found.headers == (("Authorization", "Bearer abc"), ("X-Ward", "7"))
        assert hidden(resource, found.headers)["channel"]["header"] == ["Authorization: ***", "X-Ward: ***"]
        assert resource["channel"]["header"][0].endswith("abc")


class TestNotification:
    BODY = '{"resourceType":"Patient","id":"1","meta":{"versionId":"2"}}'
    EVENTS = (
        Event(4, AT, "Patient", "1", 2, BODY),
        Event(5, AT, "Patient", "9", 1, None),
        Event(6, AT, "Patient", "1", 2, BODY),
    )

    @pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
    def test_it_is_a_valid_bundle_that_shows_only_what_it_may(self, content: str) -> None:
        state = State("s", "active", TOPIC, 6)
        made = notification("https://hub.test/fhir", state, "event-notification", self.EVENTS, content, AT)
        check(made)
        head, *entries = made["entry"]
        told = [one for one in head["resource"]["parameter"] if one["name"] == "notification-event"]
        assert [one["part"][0]["valueString"] for one in told] == ["4", "5", "6"]
        assert [len(one["part"]) for one in told] == ([2, 2, 2] if content == "empty" else [3, 2, 3])
        assert len(entries) == (content != "empty")
        assert all(("resource" in entry) == (content == "full-resource") for entry in entries)
        assert "Patient/9" not in str(made)

    def test_without_an_address_names_are_relative(self) -> None:
        made = notification("", State("s", "active", TOPIC, 6), "event-notification", self.EVENTS, "id-only", AT)
        check(made)
        assert made["entry"][0]["resource"]["parameter"][0]["valueReference"]["reference"] == "Subscription/s"

    def test_an_error_is_told(self) -> None:
        made = status("", State("s", "error", None, 0, "answered 500"), "query-status")
        check(made)
        assert made["parameter"][-1] == {"name": "error", "valueCodeableConcept": {"text": "answered 500"}}


def test_the_statement_offers_the_topics_and_the_websocket() -> None:
    rest = statement("https://hub.test/fhir", lambda type_: [], (TOPIC,))["rest"][0]
    (offering,) = [one for one in rest["resource"] if "extension" in one]
    assert offering["type"] == "Subscription"
    assert offering["extension"] == [{"url": TOPIC_OFFERED, "valueCanonical": TOPIC}]
    assert rest["extension"][0]["valueUri"] == "wss://hub.test/fhir/$subscriptions"
    check(statement("https://hub.test/fhir", lambda type_: [], (TOPIC,)))
