"""`Type/x/$meta`, `$meta-add` and `$meta-delete`: the profiles, security labels and tags of one resource."""

from typing import Any

from starlette.responses import Response

from fhir import parameters, store
from fhir.outcome import refuse
from fhir.parameters import Input
from fhir.store import Change, Stored
from fhir.wire import decode
from hub import flows
from hub.access import visible
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.fhir_reads import looked
from hub.interactions import Call

JSON = dict[str, Any]
_KNOWN = {"meta": Input("Meta")}
LISTS = ("profile", "security", "tag")


async def show(call: Call) -> Response:
    inputs(call, {})
    async with call.runtime.database.transaction() as tx:
        stored = await store.read(tx.pg, call.type, call.id, visible(call.actor))
    await call.runtime.reads.record(looked(call.actor, "meta", stored))
    return _answered((stored.resource or {})["meta"])


async def add(call: Call) -> Response:
    return await _change(call, lambda before, given: before + [one for one in given if one not in before])


async def remove(call: Call) -> Response:
    """What is named is taken away; a coding by system and code, whatever its display."""
    return await _change(call, lambda before, given: [one for one in before if _named(one) not in map(_named, given)])


async def _change(call: Call, changed: Any) -> Response:
    given: JSON = inputs(call, _KNOWN).required("meta")
    named = [name for name in LISTS if given.get(name)]
    if not named:
        raise refuse(400, "required", f"meta must hold one of {', '.join(LISTS)}", "Parameters.parameter[0].valueMeta")
    async with call.runtime.database.transaction() as tx:
        stored = await store.read(tx.pg, call.type, call.id, visible(call.actor))
        resource = _with(stored, {name: changed(_meta(stored).get(name, []), given[name]) for name in named})
        change = Change("update", call.type, call.id, resource, if_match=stored.version)
        [written] = await flows.write(tx, call.actor, [change])
    assert written.body is not None
    return _answered(decode(written.body.encode())["meta"])


def _meta(stored: Stored) -> JSON:
    meta: JSON = (stored.resource or {})["meta"]
    return meta


def _with(stored: Stored, lists: JSON) -> JSON:
    meta = {name: value for name, value in {**_meta(stored), **lists}.items() if value != []}
    return {**(stored.resource or {}), "meta": meta}


def _named(one: Any) -> Any:
    return (one.get("system"), one.get("code")) if isinstance(one, dict) else one


def _answered(meta: JSON) -> Response:
    return answer(200, parameters.answer([parameters.part("return", "Meta", meta)]))
