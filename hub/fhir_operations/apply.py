"""`$apply` of a PlanDefinition or ActivityDefinition: what it proposes for one person. Nothing is stored."""

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from care_plans.activities import For, activity
from care_plans.application import apply, definitions_of
from fhir.codes import stored_named
from fhir.outcome import Refusal
from fhir.parameters import Input, Inputs
from fhir.store import Visible, instant
from fhir.validation import check
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.definitions import chosen, definition, person, reference
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
        plan = await definition(tx, call, given.one("planDefinition"), given.text("url"), shown)
        definitions = await _named(tx, definitions_of(plan), shown)
    return await _answered(call, for_, apply(plan, definitions, for_))


async def of_activity(call: Call) -> Response:
    given = inputs(call, _OF_ACTIVITY)
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        for_ = await _for(tx, call, given, shown)
        found = await definition(tx, call, given.one("activityDefinition"), given.text("url"), shown)
    return await _answered(call, for_, activity(found, for_, "the ActivityDefinition"))


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
    subject = f"Patient/{await person(tx, call, given, shown)}"
    found = {
        name: await reference(tx, call, given.one(name), name, type_, shown)
        for name, type_ in _WHO.items()
        if name in given
    }
    return For(subject, instant(datetime.now(UTC)), **found)


async def _named(tx: Tx, names: set[str], shown: Visible) -> dict[str, JSON]:
    """The definitions that a plan names, as far as they are here."""
    found: dict[str, JSON] = {}
    for type_ in _DEFINITIONS:
        wanted = [name for name in names if name.startswith(f"{type_}/") or ":" in name]
        stored = await stored_named(tx.pg, type_, wanted, shown) if wanted else []
        for name in wanted:
            one = chosen(stored, name)
            if one is not None:
                found[name] = one
    return found
