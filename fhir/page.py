"""A page of a search or a history, and the Bundle that says it."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from fhir.asked import Query
from fhir.outcome import Issue, operation_outcome
from fhir.paging import Cursor, sign
from fhir.store import Entry, instant
from fhir.wire import decode, encode


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a page. *mode* is match or include."""

    mode: str
    type: str
    id: str
    body: str
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a search or history found. `total` is None where it was neither asked for nor known anyway; `issues` are
    told in an entry of their own."""

    type: str
    total: int | None
    links: list[tuple[str, str]]
    entries: list[Found] = field(default_factory=list)
    versions: list[Entry] = field(default_factory=list)
    base_url: str = ""
    issues: list[Issue] = field(default_factory=list)

    def as_bytes(self) -> bytes:
        """The Bundle as JSON. Stored bodies go in as they are: none is decoded to be encoded again."""
        head: dict[str, Any] = {"resourceType": "Bundle", "type": self.type}
        if self.total is not None:
            head["total"] = self.total
        head["link"] = [{"relation": relation, "url": url} for relation, url in self.links]
        written = [_search_entry(self.base_url, found) for found in self.entries]
        written += [_history_entry(self.base_url, entry) for entry in self.versions]
        if self.issues:
            outcome = encode(operation_outcome(self.issues)).decode()
            written.append(f'{{"resource":{outcome},"search":{{"mode":"outcome"}}}}')
        if not written:
            return encode(head)
        return encode(head)[:-1] + b',"entry":[' + ",".join(written).encode() + b"]}"

    def as_json(self) -> dict[str, Any]:
        return decode(self.as_bytes())


def url_of(base_url: str, path: str, query: Query) -> str:
    """The address of *query*, with the characters that FHIR uses in values left readable."""
    text = urlencode(list(query), quote_via=quote, safe=":/,|$-._~")
    return (f"{base_url.rstrip('/')}/{path}" if path else base_url.rstrip("/")) + (f"?{text}" if text else "")


def next_url(base_url: str, scope: str, cursor: Cursor, secret: bytes) -> str:
    """The address of the page after *cursor*. It names nothing that was searched for."""
    return url_of(base_url, scope, [("_cursor", sign(cursor, secret))])


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
