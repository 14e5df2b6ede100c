"""`$export` of the system, of all patients and of a group: checks the question now, and leaves the work to a job."""

import re
from collections.abc import Mapping

from starlette.responses import Response

from fhir.outcome import refuse
from fhir.parameters import Input, Inputs, instant_of
from fhir.store import ID
from fhir.types import SERVED
from hub import audit, bulk_export, jobs
from hub.bulk_export import Order
from hub.fhir_http import answer, said
from hub.fhir_operations.inputs import inputs
from hub.flows import demand
from hub.interactions import Call

FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
MOST_PATIENTS = 10_000
_KNOWN: Mapping[str, Input] = {
    "_outputFormat": Input("string"),
    "_since": Input("instant"),
    "_type": Input("string", many=True, commas=True),
    "_typeFilter": Input("string", many=True),
}
_OF_PEOPLE: Mapping[str, Input] = {**_KNOWN, "patient": Input("Reference", many=True)}
_UNSUPPORTED = ("_elements", "includeAssociatedData", "organizeOutputBy", "allowPartialManifests")


async def carry_out(call: Call) -> Response:
    """202 with `Content-Location`, where the job tells how far it is."""
    demand(call.actor, "export")
    prefer = (call.header("prefer") or "").replace(";", ",").replace(" ", "").split(",")
    if "respond-async" not in prefer:
        raise refuse(400, "required", "an export takes its time: send Prefer: respond-async", "http.Prefer")
    if "handling=lenient" in prefer:
        call.query = [(name, value) for name, value in call.query if name not in _UNSUPPORTED]
    level = call.path[0] if len(call.path) > 1 else "system"
    order = _order(call, level, inputs(call, _KNOWN if level == "system" else _OF_PEOPLE))
    request = {**order.as_json(), "url": str(call.request.url)}
    async with call.runtime.database.transaction() as tx:
        await bulk_export.check(tx, order, call.actor)
        id_ = await jobs.start(tx, call.actor, "export", request)
        await audit.record(tx.pg, [audit.entry(call.actor, "export-asked", detail={"job": id_, "level": level})])
    call.runtime.wake.set()
    where = f"{call.service.base_url}/$job/{id_}"
    return answer(202, said(f"the export has begun; {where} tells how far it is"), {"Content-Location": where})


def _order(call: Call, level: str, given: Inputs) -> Order:
    wanted = given.text("_outputFormat")
    if wanted is not None and wanted.replace(" ", "+") not in FORMATS:
        text = f"_outputFormat is application/fhir+ndjson, not '{wanted[:64]}'"
        raise refuse(400, "not-supported", text, "_outputFormat")
    types = tuple(dict.fromkeys(given.every("_type")))
    for type_ in types:
        if type_ not in SERVED:
            raise refuse(400, "value", f"_type names resource types that are served here, not '{type_[:64]}'", "_type")
    since = given.text("_since")
    return Order(
        level,
        call.service.base_url,
        types,
        instant_of("_since", since)[0] if since else None,
        _filters(given.every("_typeFilter")),
        call.id if level == "Group" else None,
        _patients(given),
    )


def _filters(given: list[str]) -> dict[str, list[str]]:
    """Searches by type. They may be parted by commas, which also stand within a search: before a type they part."""
    found: dict[str, list[str]] = {}
    for one in (part for text in given for part in re.split(r",(?=[A-Z][A-Za-z]+\?)", text)):
        type_, mark, query = one.partition("?")
        if not mark or not query or type_ not in SERVED:
            text = f"_typeFilter is a search such as Observation?status=final, not '{one[:80]}'"
            raise refuse(400, "value", text, "_typeFilter")
        found.setdefault(type_, []).append(query)
    return found


def _patients(given: Inputs) -> tuple[str, ...]:
    ids = []
    for one in given.every("patient"):
        type_, _, id_ = str(one.get("reference", "")).rpartition("/")
        if type_ not in ("Patient", "") or not ID.fullmatch(id_):
            raise refuse(400, "value", "patient is a reference such as Patient/1", "patient")
        ids.append(id_)
    if len(ids) > MOST_PATIENTS:
        raise refuse(400, "too-costly", f"patient may be given {MOST_PATIENTS:,} times: make them a Group", "patient")
    return tuple(dict.fromkeys(ids))
