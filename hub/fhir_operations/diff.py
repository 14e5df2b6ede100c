"""`$diff`: what changed between two versions of a resource, as a patch and in words."""

import asyncio
import re
from typing import NamedTuple

from starlette.responses import Response

from fhir import parameters, store
from fhir.comparison import compare
from fhir.outcome import refuse
from fhir.parameters import Input, Inputs
from fhir.store import Stored
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.fhir_reads import looked
from hub.interactions import Call

MOST = 10_000
"""Differences in one answer."""
_OF_ONE = {
    "fromVersion": Input("positiveInt"),
    "toVersion": Input("positiveInt"),
    "includeMeta": Input("boolean"),
}
_OF_TWO = {"from": Input("Reference"), "to": Input("Reference"), "includeMeta": Input("boolean")}
_VERSION = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([0-9]{1,9}))?")


class _Versions(NamedTuple):
    before: Stored
    after: Stored


async def of_one(call: Call) -> Response:
    """`Type/x/$diff`: the current version and the one before, or `fromVersion` and `toVersion`."""
    given = inputs(call, _OF_ONE)
    async with call.runtime.database.transaction() as tx:
        shown = visible(call.actor)
        last = await store.read(tx.pg, call.type, call.id, shown)
        to = given.one("toVersion") or last.version
        after = last if to == last.version else await store.vread(tx.pg, call.type, call.id, to, shown)
        start = given.one("fromVersion") or to - 1
        if not start:
            raise refuse(422, "not-found", f"{call.type}/{call.id} has one version only", "fromVersion")
        before = await store.vread(tx.pg, call.type, call.id, start, shown)
    return await _answered(call, given, _Versions(before, after))


async def of_two(call: Call) -> Response:
    """`$diff`: `from` and `to` name any two of one type, such as `Patient/1/_history/2`."""
    given = inputs(call, _OF_TWO)
    async with call.runtime.database.transaction() as tx:
        found = _Versions(*[await _named(tx, call, given, name) for name in ("from", "to")])
    if found.before.type != found.after.type:
        raise refuse(400, "invalid", "from and to must be of one type", "to")
    return await _answered(call, given, found)


async def _named(tx: Tx, call: Call, given: Inputs, name: str) -> Stored:
    reference = str(given.required(name).get("reference", ""))
    found = _VERSION.fullmatch(reference.removeprefix(f"{call.service.base_url}/"))
    if found is None:
        text = f"{name} is a reference such as Patient/1 or Patient/1/_history/2, not '{reference[:100]}'"
        raise refuse(400, "value", text, name)
    type_, id_, version = found.groups()
    shown = visible(call.actor)
    if version is None:
        return await store.read(tx.pg, type_, id_, shown)
    return await store.vread(tx.pg, type_, id_, int(version), shown)


async def _answered(call: Call, given: Inputs, found: _Versions) -> Response:
    await call.runtime.reads.record(*[looked(call.actor, "diff", one) for one in found])
    before, after = (one.resource or {} for one in found)
    # Two large resources take a while: others are answered meanwhile.
    differences = await asyncio.to_thread(compare, before, after, bool(given.one("includeMeta")))
    if len(differences) > MOST:
        raise refuse(422, "too-costly", f"they differ in {len(differences):,} places, more than {MOST:,}")
    parts = [difference.operation for difference in differences]
    parts += [parameters.part("words", "string", difference.words) for difference in differences]
    return answer(200, parameters.answer(parts))
