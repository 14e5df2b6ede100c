"""`$apply` of a PlanDefinition or ActivityDefinition: what it proposes for one person. Nothing is stored."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from care_plans.activities import For, activity
from care_plans.application import apply, definitions_of
from fhir import store
from fhir.codes import stored_named
from fhir.outcome import Refusal, refuse
from fhir.parameters import Input, Inputs
from fhir.store import ID, Visible, instant
from fhir.types import SERVED
from fhir.validation import check
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.interactions import Call

JSON = dict[str, Any]

_COMMON = {
    "subject": Input("Reference", many=True), "practitioner": Input("Reference"), "encounter": Input("Reference"),
    "organization": Input("Reference"), "url": Input("canonical"),
}  # fmt: skip
_OF_PLAN = {**_COMMON, "planDefinition": Input("Resource")}
_OF_ACTIVITY = {**_COMMON, "activityDefinition": Input("Resource")}
_DEFINITIONS = ("ActivityDefinition", "PlanDefinition", "Questionnaire")
_WHO = {"practitioner": "Practitioner", "encounter": "Encounter", "organization": "Organization"}


async def of_plan(call: Call) -> Response:
    given = inputs(call, _OF_PLAN)
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        for_ = await _for(tx, call, given, shown)
        plan = await _definition(tx, call, given.one("planDefinition"), given, shown)
        definitions = await _named(tx, definitions_of(plan), shown)
    return await _answered(call, for_, apply(plan, definitions, for_))


async def of_activity(call: Call) -> Response:
    given = inputs(call, _OF_ACTIVITY)
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        for_ = await _for(tx, call, given, shown)
        definition = await _definition(tx, call, given.one("activityDefinition"), given, shown)
    return await _answered(call, for_, activity(definition, for_, "the ActivityDefinition"))


async def _answered(call: Call, for_: For, made: JSON) -> Response:
    try:
        check(made)
    except Refusal as refusal:
        # Of the definition: it is a valid one, and what it asks for cannot be said of a person.
        raise Refusal(422, refusal.issues) from None
    patient = for_.subject.removeprefix("Patient/")
    id_ = call.id if len(call.path) > 2 else None
    await call.runtime.reads.record(audit.entry(call.actor, "apply", call.type, id_, patient))
    return answer(200, made)


async def _for(tx: Tx, call: Call, given: Inputs, shown: Visible) -> For:
    """For whom; every reference names something that the caller may see."""
    subjects = given.every("subject")
    if len(subjects) != 1:
        raise refuse(400, "required", f"name one subject, a Patient; {len(subjects)} are given", "subject")
    subject = await _reference(tx, call, subjects[0], "subject", "Patient", shown)
    found = {
        name: await _reference(tx, call, given.one(name), name, type_, shown)
        for name, type_ in _WHO.items()
        if name in given
    }
    return For(subject, instant(datetime.now(UTC)), **found)


async def _reference(tx: Tx, call: Call, reference: JSON, name: str, type_: str, shown: Visible) -> str:
    text = str(reference.get("reference", "")).removeprefix(f"{call.service.base_url}/")
    kind, _, id_ = text.rpartition("/")
    if kind not in (type_, "") or not ID.fullmatch(id_):
        raise refuse(400, "value", f"{name} is a reference such as {type_}/1, not '{text[:80]}'", name)
    await store.read(tx.pg, type_, id_, shown)
    return f"{type_}/{id_}"


async def _definition(tx: Tx, call: Call, posted: JSON | None, given: Inputs, shown: Visible) -> JSON:
    """The definition in the address, by url, or as it was posted."""
    id_ = call.id if len(call.path) > 2 else None
    url = given.text("url")
    if [id_, url, posted].count(None) != 2:
        raise refuse(
            400, "required", f"name one {call.type}: by its id in the address, by url, or as a resource", "url"
        )
    if posted is not None:
        if posted.get("resourceType") != call.type:
            raise refuse(400, "value", f"a {call.type} is expected", "Parameters.parameter.resource")
        return posted
    if id_ is not None:
        return (await store.read(tx.pg, call.type, id_, shown)).resource or {}
    assert url is not None
    found = _chosen(await stored_named(tx.pg, call.type, [url], shown), url)
    if found is None:
        raise refuse(404, "not-found", f"no {call.type} '{url[:200]}' is stored here that you may see", "url")
    return found


async def _named(tx: Tx, names: set[str], shown: Visible) -> dict[str, JSON]:
    """The definitions that a plan names, as far as they are here."""
    found: dict[str, JSON] = {}
    for type_ in _DEFINITIONS:
        assert type_ in SERVED
        wanted = [name for name in names if name.startswith(f"{type_}/") or "/" not in name or ":" in name]
        stored = await stored_named(tx.pg, type_, wanted, shown) if wanted else []
        for name in wanted:
            chosen = _chosen(stored, name)
            if chosen is not None:
                found[name] = chosen
    return found


def _chosen(stored: Sequence[JSON], name: str) -> JSON | None:
    """The one that *name* means; of several versions the one that was written last."""
    url, _, version = name.partition("|")
    fitting = [
        one
        for one in stored
        if (one.get("url") == url and version in ("", one.get("version")))
        or f"{one['resourceType']}/{one['id']}" == name
    ]
    return fitting[-1] if fitting else None
