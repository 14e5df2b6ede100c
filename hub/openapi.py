"""The OpenAPI document of `/fhir`, at `/fhir/openapi.json`: made from what the routes are made from.

It says which addresses there are, their parameters and answers. What a resource may hold is said by FHIR itself; here a
body is an object that names its type.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from fhir.compartments import OWNERS
from fhir.patch import JSON_PATCH
from fhir.registry import SPECS, ResourceSpec, SearchParam
from fhir.wire import encode
from hub import foreign, ingest
from hub.fhir_http import FHIR_JSON, FHIR_XML, FORM, base_of
from hub.operations import OPERATIONS, Operation

PATH = "/fhir/openapi.json"

JSON = dict[str, Any]

_ID = r"^[A-Za-z0-9.\-]{1,64}$"
_READING = (400, 401, 403, 404, 406, 410, 421, 503)
_WRITING = (*_READING, 408, 409, 412, 413, 415, 422)
_SAID = {
    400: "not understood, or not valid: every issue, and where", 401: "not signed in", 403: "not allowed",
    404: "not there, or not for you", 406: "neither JSON nor XML is wanted", 408: "the body took too long to arrive",
    409: "somebody else wrote it meanwhile", 410: "deleted", 412: "not the version, or the one record, that was meant",
    413: "too large", 415: "a Content-Type or Content-Encoding that is not read here", 421: "another host",
    422: "against a rule of the hub", 503: "too costly, or the database does not answer: Retry-After",
}  # fmt: skip
_CONTROLS: dict[str, tuple[str, JSON]] = {
    "_count": ("how many on a page; 0 counts only", {"type": "integer", "minimum": 0, "maximum": 999_999_999}),
    "_sort": ("parameters in their order, - for downwards", {"type": "string", "enum": ["_id", "-_lastUpdated"]}),
    "_total": ("whether to count", {"enum": ["accurate", "estimate", "none"]}),
    "_summary": ("a part of each resource", {"enum": ["true", "text", "data", "count", "false"]}),
}
_SHAPING: dict[str, tuple[str, JSON]] = {
    "_format": ("overrules Accept", {"enum": ["json", "xml", FHIR_JSON, FHIR_XML]}),
    "_pretty": ("indents", {"enum": ["true", "false"]}),
}
_HEADERS: dict[str, tuple[str, JSON]] = {
    "If-Match": (
        "the version that you know; 412 when there is another",
        {"type": "string", "pattern": '^W/"[1-9][0-9]{0,8}"$'},
    ),
    "If-None-Match": ("a version that you have: 304", {"type": "string", "pattern": '^W/"[1-9][0-9]{0,8}"$'}),
    "If-None-Exist": ("creates only when these criteria find nothing", {"type": "string"}),
    "Prefer": (
        "what comes back; return=minimal: nothing but headers",
        {"enum": [f"return={one}" for one in ("representation", "OperationOutcome")]},
    ),
}
_DATE = r"^(eq|ne|gt|lt|ge|le|sa|eb|ap)?(19|20)[0-9]{2}(-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)?$"
_AMOUNT = r"^(eq|ne|gt|lt|ge|le|sa|eb|ap)?-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$"
# What a value of each kind looks like at its simplest; docs/fhir.md has all of it.
_VALUES = {
    "token": r"^[A-Za-z0-9.\-]{1,32}$",
    "reference": r"^[A-Za-z0-9.\-]{1,32}$",
    "string": r"^[A-Za-z0-9]{1,32}$",
    "uri": r"^urn:[a-z0-9]{1,32}$",
    "date": _DATE,
    "number": _AMOUNT,
    "quantity": _AMOUNT,
}


_PATCH = (JSON_PATCH,)
_CRITERIA = {
    "name": "criteria",
    "in": "query",
    "description": "any parameters of a search of the type",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
_GONE: dict[int, str | None] = {200: "OperationOutcome", 204: None}


def register(app: FastAPI) -> None:
    """Put the document on *app*: it needs no sign-in, and stands before the routes of `/fhir`."""
    app.add_route(PATH, _answer, methods=["GET"], include_in_schema=False)


async def _answer(request: Request) -> Response:
    base = base_of(request.app.state.runtime.settings.base_url, request)
    return Response(encode(document(base)), media_type="application/json")


def document(base_url: str) -> JSON:
    """OpenAPI 3.1 of the service at *base_url* (ends in `/fhir`)."""
    return {**_document(), "servers": [{"url": base_url}]}


@cache
def _document() -> JSON:
    paths = _system()
    for spec in SPECS.values():
        paths |= _type(spec)
    paths |= _any_type()
    for operation in OPERATIONS:
        for path, methods in _operation(operation).items():
            for method, said in methods.items():
                there = paths.setdefault(path, {}).setdefault(method, said)
                if there is not said:
                    _joined(there, said)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Care Hub FHIR R4 interface",
            "version": version("care-hub"),
            "description": "Addresses and answers. FHIR R4 (hl7.org/fhir/R4) says what resources hold; /fhir/metadata "
            "names every search parameter and operation.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {type_: _schema(type_) for type_ in SPECS} | {"Resource": _schema(None)},
            "parameters": {
                **{name: _parameter(name, "query", *said) for name, said in (_CONTROLS | _SHAPING).items()},
                **{name: _parameter(name, "header", *said) for name, said in _HEADERS.items()},
                "criteria": _CRITERIA,
                "id": _parameter("id", "path", "of the resource", {"type": "string", "pattern": _ID}),
            },
            "responses": {
                str(status): _response(said, "OperationOutcome") for status, said in _SAID.items()
            },
        },
    }  # fmt: skip


def _system() -> JSON:
    kinds = _parameter("_type", "query", "of which types", {"type": "string", "enum": sorted(SPECS)})
    everywhere = [kinds, *_searching([param for code, param in SPECS["Basic"].params.items() if code[0] == "_"])]
    mode = _parameter("mode", "query", "all there is", {"const": "full"})
    open_ = _asked("the CapabilityStatement", [mode, *_shaped()], {200: "CapabilityStatement"}, (400, 406, 421))
    lines = _asked("a device's readings", [], {200: "Parameters"}, (400, 401, 403, 413, 415, 421, 422, 503))
    lines["requestBody"] = {"content": {media: {"schema": {}} for media in sorted({*ingest.NDJSON, *foreign.FORMATS})}}
    return {
        "/metadata": {"get": open_ | {"security": []}},
        "/": {
            "get": _asked("search over all types", everywhere, {200: "Bundle"}, _READING),
            "post": _asked("a batch or transaction", [*_shaped(), _ref("Prefer")], {200: "Bundle"}, _WRITING, "Bundle"),
        },
        "/_search": {"post": _form("search over all types", [])},
        "/_history": {"get": _asked("all versions of all records", _paged(), {200: "Bundle"}, _READING)},
        ingest.PATH.removeprefix("/fhir"): {"post": lines},
    }


def _type(spec: ResourceSpec) -> JSON:
    """What differs from type to type; the rest is said once, by `_any_type`."""
    name, given = spec.type, [*_shaped(), _ref("Prefer")]
    chosen, written = [*given, _ref("criteria")], {200: name, 201: name}
    return {
        f"/{name}": {
            "get": _asked(f"search {name}", _searching(spec.params.values()), {200: "Bundle"}, _READING),
            "post": _asked(f"create a {name}", [*given, _ref("If-None-Exist")], written, _WRITING, name),
            "put": _asked("update the one that criteria find, or create it", chosen, written, _WRITING, name),
            "patch": _asked("patch the one that criteria find", chosen, {200: name}, _WRITING, "Parameters", _PATCH),
            "delete": _asked("delete the one that criteria find", chosen, _GONE, _WRITING),
        }
    }


def _any_type() -> JSON:
    of_type, of_id = [_one_of(SPECS)], [_one_of(SPECS), _ref("id")]
    given = [*_shaped(), _ref("Prefer"), _ref("If-Match")]
    number = {"type": "integer", "minimum": 1, "maximum": 999_999}
    within = _parameter("within", "path", "of which type; * for all", {"enum": ["*", *sorted(SPECS)]})
    inside = [_one_of(OWNERS), _ref("id"), within]
    found: dict[int, str | None] = {200: "Bundle"}
    read: dict[int, str | None] = {200: "Resource", 304: None}
    written: dict[int, str | None] = {200: "Resource", 201: "Resource"}
    return {
        "/{type}/_search": {"post": _form("search one type", of_type)},
        "/{type}/_history": {"get": _asked("all versions of all of a type", [*of_type, *_paged()], found, _READING)},
        "/{type}/{id}": {
            "parameters": of_id,
            "get": _asked("read", [*_shaped(), _ref("If-None-Match")], read, _READING),
            "put": _asked("update, or create with this id", given, written, _WRITING, "Resource"),
            "patch": _asked("patch", given, {200: "Resource"}, _WRITING, "Parameters", _PATCH),
            "delete": _asked("delete", given, _GONE, _WRITING),
        },
        "/{type}/{id}/_history": {"get": _asked("all versions of one", [*of_id, *_paged()], found, _READING)},
        "/{type}/{id}/_history/{version}": {
            "parameters": [*of_id, _parameter("version", "path", "as in meta.versionId", number)],
            "get": _asked("read a version", [*_shaped(), _ref("If-None-Match")], read, _READING),
        },
        "/{type}/{id}/{within}": {
            "get": _asked("search a compartment", [*inside, *_shaped(), _ref("criteria")], found, _READING)
        },
        "/{type}/{id}/{within}/_search": {"post": _form("search a compartment", inside)},
    }


def _operation(operation: Operation) -> JSON:
    """Its paths. Those of the same path with other types are put together by the caller."""
    paths: JSON = {}
    for level in operation.levels:
        own = [] if level == "system" else [_one_of(operation.types or SPECS)]
        own += [_ref("id")] if level == "instance" else []
        stem = {"system": "", "type": "/{type}", "instance": "/{type}/{id}"}[level]
        for parts in range(min(operation.parts, 1), operation.parts + 1):
            names = [f"part{number + 1}" for number in range(parts)]
            path = "".join([f"{stem}/${operation.name}", *(f"/{{{name}}}" for name in names)])
            below = [_parameter(name, "path", "", {"type": "string", "pattern": _ID}) for name in names]
            paths[path] = {
                method.lower(): _carried_out(operation, method, [*own, *below]) for method in operation.methods
            }
    return paths


def _carried_out(operation: Operation, method: str, parameters: Sequence[JSON]) -> JSON:
    said = operation.documentation or f"${operation.name}"
    found = {200: "Resource", 202: "OperationOutcome"} | ({204: None} if method == "DELETE" else {})
    body = None if method in ("GET", "DELETE") or operation.streams else "Parameters"
    media = operation.media if method == "POST" else ()
    asked = _asked(said, parameters, found, _WRITING, body, media, operation.answers)
    return asked | {"externalDocs": {"url": operation.definition}}


def _asked(
    summary: str,
    parameters: Sequence[JSON],
    answers: Mapping[int, str | None],
    refusals: Sequence[int],
    body: str | None = None,
    media: Iterable[str] = (),
    others: Sequence[str] = (),
) -> JSON:
    """One method. *answers* name the type of each; *body* the type that is sent as FHIR, *media* what else may be."""
    asked: JSON = {"summary": summary}
    if parameters:
        asked["parameters"] = list(parameters)
    content = _content(body) if body else {}
    content |= {one: {"schema": {}} for one in media}
    if content:
        asked["requestBody"] = {"content": content, "required": body != "Parameters"}
    asked["responses"] = {str(status): _response("", type_, others) for status, type_ in answers.items()} | {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in refusals
    }
    return asked


def _form(summary: str, parameters: Sequence[JSON]) -> JSON:
    """A search that is posted: what else stands in the query stands in the form."""
    asked = _asked(summary, parameters, {200: "Bundle"}, (*_READING, 408, 413, 415))
    form = {"type": "object", "additionalProperties": {"type": "string"}}
    return asked | {"requestBody": {"content": {FORM: {"schema": form}}, "required": False}}


def _one_of(types: Iterable[str]) -> JSON:
    return _parameter("type", "path", "of the resource", {"type": "string", "enum": sorted(types)})


def _joined(there: JSON, other: JSON) -> None:
    """Two operations of one name, for other types: the path takes the types of both."""
    mine, theirs = there["parameters"][0]["schema"]["enum"], other["parameters"][0]["schema"]["enum"]
    mine[:] = sorted({*mine, *theirs})


def _searching(params: Iterable[SearchParam]) -> list[JSON]:
    own = []
    for param in sorted(params, key=lambda param: param.code):
        pattern = _VALUES.get(param.type)
        schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
        own.append(_parameter(param.code, "query", param.type, schema))
    return [*own, *(_ref(name) for name in _CONTROLS), *_shaped()]


def _paged() -> list[JSON]:
    since = _parameter("_since", "query", "an instant", {"type": "string", "format": "date-time"})
    return [_ref("_count"), since, *_shaped()]


def _shaped() -> list[JSON]:
    return [_ref(name) for name in _SHAPING]


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/parameters/{name}"}


def _parameter(name: str, where: str, description: str, schema: JSON) -> JSON:
    required = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": description, "schema": schema} | required


def _response(description: str, type_: str | None, others: Sequence[str] = ()) -> JSON:
    content = _content(type_, outcome=True) | {one: {} for one in others} if type_ else {}
    return {"description": description} | ({"content": content} if content else {})


def _content(type_: str, outcome: bool = False) -> JSON:
    """*outcome*: or an OperationOutcome, for whoever prefers it."""
    schema: JSON = {"$ref": f"#/components/schemas/{type_}"}
    if outcome:
        schema = {"anyOf": [schema, {"$ref": "#/components/schemas/OperationOutcome"}]}
    return {FHIR_JSON: {"schema": schema}, FHIR_XML: {"schema": {}}}


def _schema(type_: str | None) -> JSON:
    named = {"const": type_} if type_ else {"type": "string"}
    return {"type": "object", "required": ["resourceType"], "properties": {"resourceType": named}}
