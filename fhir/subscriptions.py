"""What a Subscription asks for, and how a notification is written.

Two ways to ask: R4's own, where `criteria` is a search (`Observation?code=...`), and the topics of R5 as the backport
guide puts them into R4 (hl7.fhir.uv.subscriptions-backport 1.1.0), where `criteria` is the canonical URL of a topic and
extensions carry filters and content. Nothing here knows who asks, or how a notification travels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fhir.asked import CONTROLS
from fhir.index import instants
from fhir.outcome import Refusal, refuse
from fhir.registry import SPECS
from fhir.store import instant, new_id
from fhir.wire import decode

JSON = dict[str, Any]
Query = tuple[tuple[str, str], ...]

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/"
PROFILE = BACKPORT + "StructureDefinition/"
FILTER = PROFILE + "backport-filter-criteria"
CONTENT = PROFILE + "backport-payload-content"
HEARTBEAT = PROFILE + "backport-heartbeat-period"
TIMEOUT = PROFILE + "backport-timeout"
MOST_EVENTS = PROFILE + "backport-max-count"
CHANNEL_TYPE = PROFILE + "backport-channel-type"
TOPIC_OFFERED = PROFILE + "capabilitystatement-subscriptiontopic-canonical"
OPERATION = BACKPORT + "OperationDefinition/backport-subscription-"

CHANNELS = ("rest-hook", "websocket")
CONTENTS = ("empty", "id-only", "full-resource")
PAYLOADS = ("application/fhir+json", "application/json")

LONGEST_CRITERIA = 2_000
MOST_FILTERS = 10
MOST_HEADERS = 10
LONGEST_HEADER = 4_000
LONGEST_ADDRESS = 500
# Seconds. A heartbeat costs a request; a receiver that needs longer than a minute should answer first and work then.
SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT = 10, 86_400
TIMEOUT_USUAL, TIMEOUT_MOST = 20, 60
EVENTS_USUAL, EVENTS_MOST = 20, 100

# What stands in `channel.header` in the place of each value: the values are kept beside the record, never in it.
HIDDEN = "***"
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):[ \t]*([\x20-\x7e]*)\Z")
# Headers that say how a message is framed or routed, or what the hub itself says with each notification.
_OURS = re.compile(
    r"(?:host|content-.*|transfer-encoding|connection|upgrade|te|trailer|expect|proxy-.*|x-carehub-.*)\Z"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one Subscription asks for.

    `topic` is None for a search of R4, whose type and conditions are `type` and `query`; with a topic, `type` is None
    and `query` holds the filters. `content` says what a notification shows; `headers` are (name, value) pairs to send.
    `heartbeat` and `timeout` are in seconds.
    """

    topic: str | None
    type: str | None
    query: Query
    channel: str
    endpoint: str | None
    content: str
    headers: tuple[tuple[str, str], ...]
    heartbeat: int | None
    timeout: int
    most: int
    end: datetime | None


def wanted(resource: JSON) -> Wanted:
    """What *resource*, a valid Subscription, asks for. Refusal 422 naming the element that cannot be met."""
    criteria, channel = resource["criteria"], resource["channel"]
    if len(criteria) > LONGEST_CRITERIA:
        raise _bad("criteria", f"criteria may have {LONGEST_CRITERIA} characters, these have {len(criteria)}")
    kind = channel["type"]
    if _extension(channel.get("_type"), CHANNEL_TYPE) is not None or kind not in CHANNELS:
        raise _bad("channel.type", f"there are the channels {_listed(CHANNELS)}, not {kind!r}")
    topic = criteria if criteria.startswith(("http://", "https://", "urn:")) else None
    filters = _filters(resource)
    if topic is None:
        if filters:
            raise _bad("criteria", "filters go with a topic; a search has its conditions in the criteria themselves")
        type_, query = search(criteria, "criteria")
    else:
        type_, query = None, tuple(pair for one in filters for pair in one)
    end = resource.get("end")
    return Wanted(
        topic=topic,
        type=type_,
        query=query,
        channel=kind,
        endpoint=_endpoint(channel, kind),
        content=_content(channel, topic),
        headers=_headers(channel, kind),
        heartbeat=_number(channel, HEARTBEAT, "heartbeat", SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT, topic),
        timeout=_number(channel, TIMEOUT, "timeout", 1, TIMEOUT_MOST, topic) or TIMEOUT_USUAL,
        most=_number(channel, MOST_EVENTS, "max-count", 1, EVENTS_MOST, topic) or EVENTS_USUAL,
        end=instants(end)[0] if end else None,
    )


def search(text: str, element: str) -> tuple[str, Query]:
    """`Observation?code=...&status=final` as type and conditions. Refusal 422 for anything else."""
    type_, mark, query = text.partition("?")
    if type_ not in SPECS:
        raise _bad(element, f"criteria are a search such as Observation?code=..., or a topic; {text[:80]!r} is neither")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", strict_parsing=bool(mark), max_num_fields=50)
    except ValueError:
        raise _bad(element, f"{text[:80]!r} is not Type?name=value&name=value, URL-encoded") from None
    for name, _ in pairs:
        if name.partition(":")[0] in CONTROLS:
            raise _bad(element, f"{name[:40]!r} says how a reply looks, not which resources are wanted")
    return type_, tuple(pairs)


def _filters(resource: JSON) -> list[Query]:
    found = [
        one.get("valueString", "")
        for one in (resource.get("_criteria") or {}).get("extension", ())
        if one.get("url") == FILTER
    ]
    if len(found) > MOST_FILTERS or any(len(one) > LONGEST_CRITERIA for one in found):
        raise _bad("criteria.extension", f"there may be {MOST_FILTERS} filters of {LONGEST_CRITERIA} characters")
    return [search(one, "criteria.extension")[1] for one in found]


def filtered_type(resource: JSON) -> str | None:
    """The type that the filters of a topic name, None without filters. Refusal 422 when they name several."""
    named = {
        one.get("valueString", "").partition("?")[0]
        for one in (resource.get("_criteria") or {}).get("extension", ())
        if one.get("url") == FILTER
    }
    if len(named) > 1:
        raise _bad("criteria.extension", f"the filters name several types: {_listed(sorted(named))}")
    return next(iter(named), None)


def _endpoint(channel: JSON, kind: str) -> str | None:
    endpoint = channel.get("endpoint")
    if kind == "websocket":
        return None
    if endpoint is None:
        raise _bad("channel.endpoint", "a rest-hook says where to: endpoint is missing")
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or len(endpoint) > LONGEST_ADDRESS or not endpoint.isascii() or not endpoint.isprintable():
        raise _bad("channel.endpoint", f"an endpoint is https://host/path in ASCII, at most {LONGEST_ADDRESS} long")
    if " " in endpoint or "\\" in endpoint or parts.username is not None or parts.password is not None:
        raise _bad("channel.endpoint", "an endpoint holds no user, password, space or backslash; see channel.header")
    if parts.fragment:
        raise _bad("channel.endpoint", "an endpoint has no #fragment: it would never be sent")
    return str(endpoint)


def _content(channel: JSON, topic: str | None) -> str:
    """What is sent. In R4 a `payload` asks for the resource; with a topic its extension says how much."""
    payload = channel.get("payload")
    if payload is not None and payload.partition(";")[0].strip() not in PAYLOADS:
        raise _bad("channel.payload", f"{_listed(PAYLOADS)} can be sent, not {payload[:80]!r}")
    if topic is None:
        return "full-resource" if payload is not None else "empty"
    said = (_extension(channel.get("_payload"), CONTENT) or {}).get("valueCode", "id-only")
    if said not in CONTENTS:
        raise _bad("channel.payload.extension", f"content is one of {_listed(CONTENTS)}, not {str(said)[:40]!r}")
    return str(said)


def _headers(channel: JSON, kind: str) -> tuple[tuple[str, str], ...]:
    lines = channel.get("header", [])
    if lines and kind == "websocket":
        raise _bad("channel.header", "a websocket is opened by the receiver: there is nothing to send headers with")
    if len(lines) > MOST_HEADERS or any(len(line) > LONGEST_HEADER for line in lines):
        raise _bad("channel.header", f"there may be {MOST_HEADERS} headers of {LONGEST_HEADER} characters")
    found: list[tuple[str, str]] = []
    for place, line in enumerate(lines):
        match = _HEADER.match(line)
        if match is None:
            raise _bad(f"channel.header[{place}]", "a header reads `Name: value`, in printable ASCII")
        if _OURS.match(match[1].lower()):
            raise _bad(f"channel.header[{place}]", f"{match[1]!r} is set by the hub itself")
        if any(match[1].lower() == name.lower() for name, _ in found):
            raise _bad(f"channel.header[{place}]", f"{match[1]!r} is given twice")
        found.append((match[1], match[2].strip()))
    return tuple(found)


def hidden(resource: JSON, headers: Sequence[tuple[str, str]]) -> JSON:
    """*resource* with the values of its headers left out."""
    if not headers:
        return resource
    channel = resource["channel"] | {"header": [f"{name}: {HIDDEN}" for name, _ in headers]}
    return resource | {"channel": channel}


def _number(channel: JSON, url: str, name: str, least: int, most: int, topic: str | None) -> int | None:
    found = _extension(channel, url)
    if found is None:
        return None
    value = next((value for key, value in found.items() if key.startswith("value")), None)
    if topic is None or not isinstance(value, int) or not least <= value <= most:
        raise _bad("channel.extension", f"{name} goes with a topic and is a whole number from {least} to {most}")
    return value


def _extension(element: JSON | None, url: str) -> JSON | None:
    return next((one for one in (element or {}).get("extension", ()) if one.get("url") == url), None)


def _bad(element: str, why: str) -> Refusal:
    return refuse(422, "business-rule", why, f"Subscription.{element}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


# -- notifications -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a subscription. `body` is the resource as it was then; None: the receiver may not see it now."""

    number: int
    at: datetime
    type: str
    id: str
    version: int
    body: str | None

    @property
    def focus(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True)
class State:
    """How a subscription stands, for `$status` and for the head of each notification."""

    id: str
    status: str
    topic: str | None
    events: int
    error: str | None = None


def status(base_url: str, state: State, kind: str, events: Sequence[Event] = (), content: str = "empty") -> JSON:
    """SubscriptionStatus as Parameters. *kind*: handshake, heartbeat, event-notification, query-status, query-event."""
    parameters: list[JSON] = [
        {"name": "subscription", "valueReference": {"reference": _address(base_url, f"Subscription/{state.id}")}},
        {"name": "status", "valueCode": state.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(state.events)},
    ]
    if state.topic is not None:
        parameters.insert(1, {"name": "topic", "valueCanonical": state.topic})
    for event in events:
        parts: list[JSON] = [
            {"name": "event-number", "valueString": str(event.number)},
            {"name": "timestamp", "valueInstant": instant(event.at)},
        ]
        if content != "empty" and event.body is not None:
            parts.append({"name": "focus", "valueReference": {"reference": _address(base_url, event.focus)}})
        parameters.append({"name": "notification-event", "part": parts})
    if state.error is not None:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": state.error}})
    return {
        "resourceType": "Parameters",
        "id": new_id(),
        "meta": {"profile": [PROFILE + "backport-subscription-status-r4"]},
        "parameter": parameters,
    }


def _address(base_url: str, name: str) -> str:
    """Absolute where the hub knows its own address."""
    return f"{base_url}/{name}" if base_url else name


def notification(base_url: str, state: State, kind: str, events: Sequence[Event], content: str, now: datetime) -> JSON:
    """The history Bundle that is sent: the status first, then what *content* shows of each event."""
    head = status(base_url, state, kind, events, content)
    entries: list[JSON] = [
        {
            "fullUrl": f"urn:uuid:{head['id']}",
            "resource": head,
            "request": {"method": "GET", "url": f"Subscription/{state.id}/$status"},
            "response": {"status": "200"},
        }
    ]
    shown: set[tuple[str, int]] = set()
    for event in events:
        if content == "empty" or event.body is None or (event.focus, event.version) in shown:
            continue
        shown.add((event.focus, event.version))
        new = event.version == 1
        entry: JSON = {"fullUrl": _address(base_url, event.focus)} if base_url else {}
        if content == "full-resource":
            entry["resource"] = decode(event.body.encode())
        entry["request"] = {"method": "POST" if new else "PUT", "url": event.type if new else event.focus}
        entry["response"] = {"status": "201" if new else "200", "etag": f'W/"{event.version}"'}
        entries.append(entry)
    return {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"profile": [PROFILE + "backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(now),
        "entry": entries,
    }
