"""A page of a search or a history, and the Bundle that says it."""

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from fhir.asked import Query, Request
from fhir.paging import Cursor, sign
from fhir.store import Entry, instant
from fhir.wire import decode, encode

_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a page. *mode* is match, include or outcome."""

    mode: str
    type: str
    id: str
    body: str
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a search or history found. `total` is None where it was neither asked for nor known anyway."""

    type: str
    total: int | None
    links: list[tuple[str, str]]
    entries: list[Found] = field(default_factory=list)
    versions: list[Entry] = field(default_factory=list)
    base_url: str = ""

    def as_bytes(self) -> bytes:
        """The Bundle as JSON. Stored bodies go in as they are: none is decoded to be encoded again."""
        head: dict[str, Any] = {"resourceType": "Bundle", "type": self.type}
        if self.total is not None:
            head["total"] = self.total
        head["link"] = [{"relation": relation, "url": url} for relation, url in self.links]
        written = [_search_entry(self.base_url, found) for found in self.entries]
        written += [_history_entry(self.base_url, entry) for entry in self.versions]
        if not written:
            return encode(head)
        return encode(head)[:-1] + b',"entry":[' + ",".join(written).encode() + b"]}"

    def as_json(self) -> dict[str, Any]:
        return decode(self.as_bytes())


def url_of(base_url: str, path: str, query: Query) -> str:
    """The address of *query*, with the characters that FHIR uses in values left readable."""
    text = urlencode(list(query), quote_via=quote, safe=":/,|$-._~")
    return f"{base_url.rstrip('/')}/{path}" + (f"?{text}" if text else "")


def next_url(base_url: str, scope: str, cursor: Cursor, secret: bytes) -> str:
    """The address of the page after *cursor*. It names nothing that was searched for."""
    return url_of(base_url, scope, [("_cursor", sign(cursor, secret))])


def subset(entry: Found, request: Request) -> Found:
    """The resource with only what `_elements` or `_summary` ask for, and the tag that says so."""
    resource = decode(entry.body.encode())
    keep = {"resourceType", "id", "meta"}
    if request.elements:
        keep |= request.elements
        resource = {name: value for name, value in resource.items() if name.removeprefix("_") in keep}
    elif request.summary == "text":
        resource = {name: value for name, value in resource.items() if name in keep | {"text"}}
    else:
        resource.pop("text", None)
    meta = resource.setdefault("meta", {})
    meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]
    return replace(entry, body=encode(resource).decode())


def _search_entry(base_url: str, found: Found) -> str:
    return (
        f'{{"fullUrl":"{base_url.rstrip("/")}/{found.type}/{found.id}","resource":{found.body},'
        f'"search":{{"mode":"{found.mode}"}}}}'
    )


def _history_entry(base_url: str, entry: Entry) -> str:
    stored = entry.stored
    name = f"{stored.type}/{stored.id}"
    body = f'"resource":{stored.body},' if stored.body is not None else ""
    status = "204" if stored.body is None else "201" if entry.method == "POST" or stored.version == 1 else "200"
    url = stored.type if entry.method == "POST" else name
    return (
        f'{{"fullUrl":"{base_url.rstrip("/")}/{name}",{body}"request":{{"method":"{entry.method}","url":"{url}"}},'
        f'"response":{{"status":"{status}","etag":"W/\\"{stored.version}\\"","lastModified":"{instant(stored.updated)}"}}}}'
    )
