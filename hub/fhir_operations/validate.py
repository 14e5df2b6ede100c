"""`$validate`: what the hub would say to a resource, without keeping it.

Always asked: structure, bindings, FHIR's invariants, the profiles that it claims or is to be held against. With a mode
also what the hub's own rules would say to this caller: the write is carried out in a transaction that is rolled back.
Nothing of it stays but a row in the trail: rows, notices and wake-ups are all of that one transaction.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from fhir import profiles, store
from fhir.bundle import single
from fhir.fhirpath_values import Scope
from fhir.inspection import inspect
from fhir.outcome import Issue, Refusal, operation_outcome, refuse
from fhir.steps import step
from fhir.wire import decode
from hub import audit
from hub.access import visible
from hub.fhir_http import answer, localise
from hub.fhir_reads import looked
from hub.interactions import LARGE, Call
from hub.steps import carry_out

JSON = dict[str, Any]

METHODS = {"create": "POST", "update": "PUT", "delete": "DELETE"}
MODES = (*METHODS, "profile")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be validated, as which write (None: as none), and against which profile besides those it claims."""

    resource: JSON | None
    mode: str | None
    profile: str | None


class _Undone(Exception):
    """The write was possible; now it is rolled back."""


async def carry_out_on_type(call: Call) -> Response:
    return await _validated(call, None)


async def carry_out_on_instance(call: Call) -> Response:
    """Without a resource in the request, the stored one is validated."""
    return await _validated(call, call.id)


async def _validated(call: Call, id_: str | None) -> Response:
    try:
        body = decode(call.raw) if call.raw.strip() else None
    except Refusal as refusal:
        if refusal.status != 400:
            raise
        # That it cannot be read is an answer as well: it is what was asked.
        return _answered(refusal.issues)
    asked = _asked(call, body)
    _check_mode(asked, id_)
    if asked.mode == "delete":
        return _answered(await _what_the_hub_says(call, asked))
    resource = asked.resource if asked.resource is not None else await _stored(call)
    large = len(call.raw) > LARGE
    about = (call.type, resource, asked.profile)
    issues = await asyncio.to_thread(_found, *about) if large else _found(*about)
    if asked.mode in METHODS and not any(issue.severity == "error" for issue in issues):
        issues += await _what_the_hub_says(call, Asked(resource, asked.mode, None))
    return _answered(issues)


def _asked(call: Call, body: JSON | None) -> Asked:
    """From the query, and from a *body* that is the resource itself or Parameters around it. Refusal 400."""
    given: JSON = dict(call.query)
    if body is not None and body.get("resourceType") == "Parameters" and _is_question(call.type, body):
        for part in body["parameter"]:
            key = next((key for key in part if key.startswith(("value", "resource"))), "")
            given[str(part.get("name"))] = part.get(key)
        body = given.pop("resource", None)
    if unknown := sorted(given.keys() - {"mode", "profile"}):
        text = f"{unknown[0][:80]!r} is no parameter of $validate; there are mode, profile, resource"
        raise refuse(400, "not-supported", text, "Parameters.parameter")
    if body is not None and not isinstance(body, dict):
        raise refuse(400, "structure", "the parameter resource holds a resource", "Parameters.parameter.resource")
    return Asked(body, _text("mode", given), _text("profile", given))


def _text(name: str, given: JSON) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise refuse(400, "value", f"the parameter {name} is text", name)
    return value


def _is_question(type_: str, body: JSON) -> bool:
    """Parameters may be what is asked with, or what is asked about."""
    parts = body.get("parameter")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return False
    names = {str(part.get("name")) for part in parts}
    return type_ != "Parameters" or ("resource" in names and names <= {"resource", "mode", "profile"})


def _check_mode(asked: Asked, id_: str | None) -> None:
    mode = asked.mode
    if mode is None:
        if id_ is None and asked.resource is None:
            raise refuse(400, "required", "send the resource to be validated, or Parameters with it", "http.body")
        return
    if mode not in MODES:
        raise refuse(400, "value", f"mode is one of {', '.join(MODES)}, not {mode[:40]!r}", "mode")
    if (mode == "create") is (id_ is not None) and mode != "profile":
        where = "at the type" if mode == "create" else "at one resource: Type/id/$validate"
        raise refuse(400, "invalid", f"the mode {mode} is asked {where}", "mode")
    if mode == "profile" and asked.profile is None:
        raise refuse(400, "required", "the mode profile needs the parameter profile", "profile")
    if mode != "delete" and id_ is None and asked.resource is None:
        raise refuse(400, "required", "send the resource to be validated, or Parameters with it", "http.body")


async def _stored(call: Call) -> JSON:
    async with call.runtime.database.transaction() as tx:
        found = await store.read(tx.pg, call.type, call.id, visible(call.actor))
    await call.runtime.reads.record(looked(call.actor, "validate", found))
    return found.resource or {}


def _found(type_: str, resource: JSON, profile: str | None) -> list[Issue]:
    said = resource.get("resourceType")
    if isinstance(said, str) and said != type_:
        return [Issue("invalid", f"expected {type_}; resourceType is {said[:64]!r}", "Resource.resourceType")]
    issues = inspect(resource)
    claims = profiles.claimed(resource)
    if profile is not None and profile not in claims and not issues:
        issues += profiles.broken(resource, Scope(resource, resource), type_, [profile])
    return [*issues, *_not_checked(type_, claims, profile)]


def _not_checked(type_: str, claims: Sequence[str], profile: str | None) -> Iterator[Issue]:
    for url in dict.fromkeys([*claims, *([profile] if profile else [])]):
        if profiles.carried(url) is None:
            place = f"{type_}.meta.profile" if url in claims else "profile"
            yield Issue("not-supported", f"{url[:200]} is not carried here: not checked", place, "warning")


async def _what_the_hub_says(call: Call, asked: Asked) -> list[Issue]:
    """The refusal of the write that *asked* stands for; nothing when it would be done."""
    assert asked.mode is not None
    seen: list[audit.Entry] = []
    outcome, issues = "ok", []
    conditions = {"ifMatch": version} if asked.mode != "create" and (version := call.header("if-match")) else {}
    try:
        resource = localise(asked.resource, call.service.base_url) if asked.resource else None
        wanted = step(METHODS[asked.mode], [part for part in call.path if part[0] != "$"], (), resource, conditions)
        async with call.runtime.database.transaction() as tx:
            await carry_out(tx, call.actor, single(wanted), call.service, seen)
            raise _Undone
    except _Undone:
        pass
    except Refusal as refusal:
        outcome, issues = "refused", list(refusal.issues)
    id_ = call.id if asked.mode != "create" else None
    row = audit.entry(call.actor, "validate", call.type, id_, outcome=outcome, detail={"mode": asked.mode})
    await call.runtime.reads.record(*seen, row)
    return issues


def _answered(issues: Sequence[Issue]) -> Response:
    """All that was found; FHIR has this answered with 200 whatever it is."""
    nothing = Issue("informational", "nothing is wrong with it", severity="information")
    return answer(200, operation_outcome(issues or [nothing]))
