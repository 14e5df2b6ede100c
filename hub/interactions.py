"""What each FHIR interaction does: parse, run in one transaction, leave its row in the trail, answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from fhir import search, store
from fhir.bundle import Plan, single
from fhir.outcome import Refusal, refuse
from fhir.patch import JSON_PATCH, Patch, of_json
from fhir.steps import CONDITIONS, step
from fhir.store import Stored
from fhir.validation import parse
from fhir.wire import decode
from hub import audit, ingest, intake
from hub.access import visible
from hub.db import Tx
from hub.fhir_formats import shape
from hub.fhir_http import (
    FHIR_JSON,
    FORM,
    answer,
    decoded,
    http_date,
    last_modified,
    lenient,
    localise,
    parameters,
    said,
)
from hub.fhir_reads import history_read, looked, searched
from hub.identity import Actor
from hub.runtime import Runtime
from hub.steps import Answer, Service, carry_out, settled
from hub.writes import LARGEST, plain
from monitoring.doubts import Doubt
from monitoring.formats import phd

DOUBT = "CareHub-Doubt"
"""The header that tells a device, in codes, why no rule looks at what it sent (`monitoring.doubts`)."""

LARGE = 1024 * 1024
"""Bytes. A body above this is checked in a thread, and few of them are held at a time."""


@dataclass(slots=True)
class Call:
    """One request: who asks, for what, and how the answer is to look."""

    request: Request
    headers: Mapping[str, str]
    runtime: Runtime
    actor: Actor
    service: Service
    query: list[tuple[str, str]]
    path: list[str]
    prefer: str | None
    raw: bytes = b""

    @property
    def type(self) -> str:
        return self.path[0]

    @property
    def id(self) -> str:
        return self.path[1]

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


async def read(call: Call) -> Response:
    no_parameters(call)
    stored = await call.runtime.lookups.read(call.actor, call.type, call.id)
    return await _shown(call, stored, "read")


async def vread(call: Call) -> Response:
    no_parameters(call)
    version = call.path[3]
    if not version.isascii() or not version.isdigit() or len(version) > 9:
        raise refuse(404, "not-found", f"there is no version {version[:64]} of {call.type}/{call.id}")
    async with call.runtime.database.reading() as pg:
        stored = await store.vread(pg, call.type, call.id, int(version), visible(call.actor))
    return await _shown(call, stored, "vread")


async def _shown(call: Call, stored: Stored, action: str) -> Response:
    await call.runtime.reads.record(looked(call.actor, action, stored))
    headers = _version_headers(stored.version, stored)
    if _unchanged(call, stored):
        return answer(304, None, headers)
    return answer(200, stored.body, headers)


def _unchanged(call: Call, stored: Stored) -> bool:
    known = call.header("if-none-match")
    if known is not None:
        return known.strip() == "*" or f'"{stored.version}"' in [
            tag.strip().removeprefix("W/") for tag in known.split(",")
        ]
    since = http_date(call.header("if-modified-since"))
    return since is not None and stored.updated.replace(microsecond=0) <= since


async def find(call: Call) -> Response:
    """At a type, in a compartment (`Patient/1/Observation`, `Patient/1/*`), or over all types."""
    return await _searched(call, call.query)


async def find_by_form(call: Call) -> Response:
    media = (call.header("content-type") or FORM).partition(";")[0].strip().lower()
    if media != FORM:
        raise refuse(415, "not-supported", f"a search is posted as {FORM}, not {media[:100]!r}")
    both = [*parameters(call.request), *decoded(call.raw)]
    query, call.request.scope["format"] = shape(both, call.header("accept"))
    return await _searched(call, query)


async def _searched(call: Call, query: Sequence[tuple[str, str]]) -> Response:
    asked = [part for part in call.path if part != "_search"]
    compartment = (asked[0], asked[1]) if len(asked) == 3 else None
    type_ = asked[-1] if asked and asked[-1] != "*" else None
    pages = (call.service.base_url, call.service.secret, call.service.max_page, compartment)
    tolerant = lenient(call.header("prefer"))
    async with call.runtime.database.reading() as pg:
        if type_ is None:
            page = await search.across(pg, query, visible(call.actor), *pages, tolerant)
        else:
            page = await search.search(pg, type_, query, visible(call.actor), *pages, tolerant)
    await call.runtime.reads.record(*searched(call.actor, type_, page))
    return answer(200, page.as_bytes().decode())


async def history(call: Call) -> Response:
    type_, id_ = (*call.path[:-1], None, None)[:2]
    service = call.service
    async with call.runtime.database.reading() as pg:
        page = await search.history(
            pg, call.query, visible(call.actor), service.base_url, service.secret, service.max_page, type_, id_
        )
    await call.runtime.reads.record(*history_read(call.actor, type_, id_, page))
    return answer(200, page.as_bytes().decode())


async def create(call: Call) -> Response:
    if call.actor.kind == "device" and call.type == "Observation" and _new_by_itself(call):
        no_parameters(call)
        return await _reading(call)
    return await update(call)


def _new_by_itself(call: Call) -> bool:
    """Whether a device asks for no condition, or for the one that each of its readings meets (see phd)."""
    criteria = call.header("if-none-exist")
    if criteria is None:
        return True
    try:
        observation = decode(call.raw)
    except Refusal:
        return True  # refused, and filed, where every reading is
    return phd.names_itself(observation, parse_qsl(criteria.removeprefix("Observation").removeprefix("?")))


async def _reading(call: Call) -> Response:
    """A device's reading: committed together with those of other requests, known again when it is sent again."""
    runtime = call.runtime
    receipt = await ingest.submit(runtime.submissions, runtime.database, call.actor, call.raw, call.service.base_url)
    if receipt.refusal is not None:
        raise receipt.refusal
    if (one := receipt.written) is not None:
        stored = Stored("Observation", one.change.id, one.version, one.updated, None, one.body)
        return _written(call, one.status, stored, True, receipt.doubts)
    assert receipt.observation_id is not None
    key = ("Observation", receipt.observation_id)
    async with call.runtime.database.transaction() as tx:
        stored = (await store.load(tx.pg, [key]))[key]
    return _written(call, 200, stored, True, receipt.doubts)


async def update(call: Call) -> Response:
    """POST or PUT of a resource: at an id, or where criteria say which one is meant."""
    async with kept_if_refused(call):
        return await _carried_out(call, await _resource(call, call.type))


async def patch(call: Call) -> Response:
    """PATCH: JSON Patch, or the Parameters of a FHIRPath Patch."""
    async with kept_if_refused(call):
        media = (call.header("content-type") or FHIR_JSON).partition(";")[0].strip().lower()
        carried = of_json(call.raw) if media == JSON_PATCH else parse(call.raw, "Parameters").resource
        return await _carried_out(call, carried)


async def delete(call: Call) -> Response:
    return await _carried_out(call, None)


async def _carried_out(call: Call, carried: dict[str, Any] | Patch | None) -> Response:
    """The one step that the request asks for, carried out like the entry of a transaction."""
    given = {name: (header, call.header(header)) for name, header in CONDITIONS.items()}
    conditions = {name: _utf8(text, header) for name, (header, text) in given.items() if text is not None}
    # On anything but GET it is to be ignored (RFC 9110).
    conditions.pop("ifModifiedSince", None)
    wanted = step(call.request.method, call.path, call.query, carried, conditions)
    done = await _done(call, single(wanted))
    if wanted.method == "DELETE":
        return _deleted(call, done)
    assert done.id is not None
    assert done.updated is not None
    stored = Stored(done.type, done.id, done.version, done.updated, None, done.body)
    return _written(call, done.status, stored, wanted.method == "POST" or done.status == 201, done.doubts)


async def _done(call: Call, plan: Plan) -> Answer:
    # What a device may not send is judged, and filed, by itself.
    if plain(plan) and call.actor.kind != "device" and len(call.raw) <= LARGEST:
        return await call.runtime.writes.write(call.actor, plan.steps[0])

    async def attempt() -> Answer:
        async with looking(call) as (tx, seen):
            [done] = (await carry_out(tx, call.actor, plan, call.service, seen)).values()
        return done

    return await settled(attempt)


def _utf8(text: str, header: str) -> str:
    """Headers come as Latin-1, whatever their bytes are; criteria in them are UTF-8, like those of an address."""
    try:
        return text.encode("latin-1").decode()
    except ValueError:
        raise refuse(400, "value", f"{header} is not UTF-8", f"http.{header}") from None


def _deleted(call: Call, done: Answer) -> Response:
    headers = {"ETag": f'W/"{done.version}"'} if done.version else {}
    if call.prefer == "OperationOutcome":
        name = f"{done.type}/{done.id} is deleted" if done.id else "nothing matches, so there was nothing to delete"
        return answer(200, said(name), headers)
    return answer(204, None, headers)


@asynccontextmanager
async def looking(call: Call) -> AsyncIterator[tuple[Tx, list[audit.Entry]]]:
    """A transaction, and rows that are kept in the trail when it is refused: it had looked at these records."""
    seen: list[audit.Entry] = []
    try:
        async with call.runtime.database.transaction() as tx:
            yield tx, seen
    except Refusal:
        if seen:
            await call.runtime.reads.record(*seen)
        raise


def _written(call: Call, status: int, stored: Stored, location: bool, doubts: Sequence[Doubt] = ()) -> Response:
    headers = _version_headers(stored.version, stored)
    if doubts:
        headers[DOUBT] = ", ".join(dict.fromkeys(doubt.code for doubt in doubts))
    name = f"{stored.type}/{stored.id}"
    if location:
        headers["Location"] = f"{call.service.base_url}/{name}/_history/{stored.version}"
    if call.prefer == "minimal":
        return answer(status, None, headers)
    if call.prefer == "OperationOutcome":
        did = "created" if status == 201 else "kept"
        return answer(status, said(f"{name} version {stored.version} was {did}", doubts), headers)
    return answer(status, stored.body, headers)


def _version_headers(version: int, stored: Stored) -> dict[str, str]:
    return {"ETag": f'W/"{version}"', "Last-Modified": last_modified(stored.updated)}


async def _resource(call: Call, type_: str) -> dict[str, Any]:
    """The body as a valid resource. A large one is checked in a thread, so that others are answered meanwhile."""
    parsed = await asyncio.to_thread(parse, call.raw, type_) if len(call.raw) > LARGE else parse(call.raw, type_)
    return localise(parsed.resource, call.service.base_url)


@asynccontextmanager
async def kept_if_refused(call: Call) -> AsyncIterator[None]:
    """What a device sends and the hub refuses is kept with the reason: nothing that a device says is lost."""
    try:
        yield
    except Refusal as refusal:
        if call.actor.kind == "device":
            async with call.runtime.database.transaction() as tx:
                await intake.file_refusals(tx, [(call.actor, call.raw, refusal)])
        raise


def no_parameters(call: Call) -> None:
    if call.query:
        names = ", ".join(sorted({name[:64] for name, _ in call.query}))
        raise refuse(400, "not-supported", f"this address takes no parameters, it was given {names}")
