"""The FHIR REST interface at `/fhir`: who asks, for which interaction, and how a refusal is said.

One ASGI endpoint with its own small table instead of one framework route per interaction: every answer, also "no such
path" and "not with this method", is then FHIR JSON.
"""

import asyncio

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fhir.capability import statement
from fhir.compartments import OWNERS
from fhir.outcome import Issue, Refusal, refuse
from fhir.patch import JSON_PATCH
from fhir.store import ID
from fhir.types import LEFT_OUT, SERVED
from hub import audit, bundle_door, hearing, interactions, operations
from hub.fhir_formats import AS_STORED, from_xml, is_xml, shape, written
from hub.fhir_http import FHIR_JSON, FHIR_XML, answer, base_of, check_media, parameters, preference, refused
from hub.identity import authenticate
from hub.interactions import LARGE, Call
from hub.oauth import token_url
from hub.operations import Handler, Operation
from hub.runtime import Runtime
from hub.security import SAFE_METHODS, check_csrf, headers_of
from hub.steps import Service
from hub.subscriptions.topics import TOPICS

# So that memory stays bounded, whoever sends and however much.
LARGE_AT_ONCE = 2
# Seconds for a body to arrive; a sender that is slower gives way to the others.
ARRIVAL = 60
_LATE = "the body is late"


class Fhir:
    """The endpoint. Routes of others below `/fhir`, such as `/fhir/$ingest`, stand before it."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request.scope["format"] = AS_STORED
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = refused(refusal)
        except ClientDisconnect:
            return
        response = await written(response, request.scope["format"])
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        runtime: Runtime = request.app.state.runtime
        headers = headers_of(request.scope)
        path = [part for part in request.scope["path"].removeprefix("/fhir").split("/") if part]
        operation = operations.asked(path)
        query, request.scope["format"] = shape(parameters(request), _accepted(headers.get("accept"), operation))
        handler = _handler(request.method, path)
        service = service_of(runtime, request)
        if handler is None:
            _check_mode(query)
            token = token_url(service.base_url)
            return answer(200, statement(service.base_url, operations.declared, tuple(TOPICS), token))
        actor = await authenticate(headers, {} if "authorization" in headers else request.cookies, runtime.database)
        if request.method not in SAFE_METHODS:
            check_csrf(actor, headers.get("x-csrf-token"))
        if hearing.HEADER in headers and actor.kind == "device":
            hearing.of(runtime.database).clock(actor.id, headers[hearing.HEADER])
        prefer = preference(headers.get("prefer"))
        call = Call(request, headers, runtime, actor, service, query, path, prefer)
        held = [False]
        try:
            if request.method in ("POST", "PUT", "PATCH") and not (operation and operation.streams):
                await self._read(call, operation.media if operation else (), held)
            return await handler(call)
        except Refusal as refusal:
            if refusal.status == 403:
                named = path[0] if path and path[0] in SERVED else None
                await runtime.reads.record(
                    audit.entry(actor, _ACTIONS[request.method], named, outcome="refused", detail={"status": 403})
                )
            raise
        finally:
            if held[0]:
                self._large.release()

    async def _read(self, call: Call, media: tuple[str, ...], held: list[bool]) -> None:
        """Read the body into the call. A large one holds one of few places until it is carried out."""
        if call.path[-1:] != ["_search"]:
            _check_media(call, media)
        task = asyncio.current_task()
        assert task is not None
        # What `asyncio.timeout` does, for a fifth of its price: a body is nearly always there already.
        timer = asyncio.get_running_loop().call_later(ARRIVAL, task.cancel, _LATE)
        try:
            call.raw = await self._arrived(call.request.receive, held)
        except asyncio.CancelledError as cancelled:
            if cancelled.args != (_LATE,) or task.uncancel() > 0:
                raise
            raise refuse(408, "timeout", f"the body did not arrive within {ARRIVAL} seconds") from None
        finally:
            timer.cancel()
        if is_xml(call.header("content-type")):
            async with interactions.kept_if_refused(call):
                call.raw = await from_xml(call.raw)

    async def _arrived(self, receive: Receive, held: list[bool]) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            if size > LARGE and not held[0]:
                await self._large.acquire()
                held[0] = True
            if not message.get("more_body", False):
                return b"".join(pieces)


def _check_media(call: Call, others: tuple[str, ...]) -> None:
    patching = call.request.method == "PATCH"
    try:
        check_media(call.header("content-type"), (JSON_PATCH,) if patching else others)
    except Refusal as refusal:
        if patching:  # RFC 5789: what is read instead
            refusal.headers["Accept-Patch"] = f"{JSON_PATCH}, {FHIR_JSON}, {FHIR_XML}"
        raise


_ACTIONS = {"GET": "read", "HEAD": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


def register(app: FastAPI) -> Fhir:
    """Put the interface on *app*, and give it back; routes of others below `/fhir` must stand before."""
    endpoint = Fhir()
    app.router.routes += [Route("/fhir", endpoint), Route("/fhir/{path:path}", endpoint)]
    return endpoint


def service_of(runtime: Runtime, request: Request) -> Service:
    """The address that answers name: the public one when it is set, else the one that was asked."""
    return Service(base_of(runtime.settings.base_url, request), runtime.secret, runtime.settings.max_page_size)


def _handler(method: str, path: list[str]) -> Handler | None:
    """The interaction that is asked for; None for the statement. Refusal 404 for no such path, 405 no such method."""
    known = offered(path)
    asked = "GET" if method == "HEAD" else method
    if asked not in known:
        allowed = ", ".join([*known, *(["HEAD"] if "GET" in known else [])])
        text = f"{method[:16]} is not supported here; {allowed} {'is' if len(known) == 1 else 'are'}"
        raise Refusal(405, [Issue("not-supported", text)], {"Allow": allowed})
    return known[asked]


def _check_mode(query: list[tuple[str, str]]) -> None:
    """Of the statement: `mode=full` is all there is."""
    for name, value in query:
        if (name, value) != ("mode", "full"):
            said = f"the statement takes mode=full, not {name[:64]}={value[:64]}"
            raise refuse(400, "not-supported", said, f"metadata?{name[:64]}")


def _changing() -> dict[str, Handler | None]:
    """At an id, or with criteria at the type."""
    return {"PUT": interactions.update, "PATCH": interactions.patch, "DELETE": interactions.delete}


def offered(path: list[str]) -> dict[str, Handler | None]:
    """Methods at *path* (the parts below `/fhir`), and who carries them out. Refusal 404 when there is no such path."""
    operation = operations.asked(path)
    if operation is not None:
        return dict.fromkeys(operation.methods, operation.handler)
    match path:
        case []:
            return {"GET": interactions.find, "POST": bundle_door.bundle}
        case ["_search"]:
            return {"POST": interactions.find_by_form}
        case ["metadata"]:
            return {"GET": None}
        case ["_history"]:
            return {"GET": interactions.history}
    type_, *rest = path
    if type_ not in SERVED:
        raise _unknown_type(type_)
    match rest:
        case []:
            return {"GET": interactions.find, "POST": interactions.create, **_changing()}
        case ["_search"]:
            return {"POST": interactions.find_by_form}
        case ["_history"]:
            return {"GET": interactions.history}
        case [id_] if ID.fullmatch(id_):
            return {"GET": interactions.read, **_changing()}
        case [id_, "_history"] if ID.fullmatch(id_):
            return {"GET": interactions.history}
        case [id_, "_history", _] if ID.fullmatch(id_):
            return {"GET": interactions.vread}
        case [id_, within] if type_ in OWNERS and ID.fullmatch(id_) and (within in SERVED or within == "*"):
            return {"GET": interactions.find}
        case [id_, within, "_search"] if type_ in OWNERS and ID.fullmatch(id_) and (within in SERVED or within == "*"):
            return {"POST": interactions.find_by_form}
    named = next((part for part in rest if part.startswith("$")), None)
    if named is not None:
        raise _unknown_operation(named)
    raise refuse(404, "not-found", f"there is nothing at {'/fhir/' + '/'.join(path)[:200]!r}")


def _accepted(accept: str | None, operation: Operation | None) -> str | None:
    """The Accept header, unless it names what only this operation answers with."""
    if operation is None or accept is None:
        return accept
    named = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return None if named & set(operation.answers) else accept


def _unknown_operation(name: str) -> Refusal:
    known = ", ".join(["$ingest", *operations.names()])
    return refuse(
        404, "not-supported", f"there is no operation {name[:64]} here; there are {known}, not all everywhere"
    )


def _unknown_type(type_: str) -> Refusal:
    if type_.startswith("$"):
        return _unknown_operation(type_)
    why = LEFT_OUT.get(type_, "it is no resource type of R4")
    return refuse(404, "not-supported", f"{type_[:64]!r} is not served: {why}")
