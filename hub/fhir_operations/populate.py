"""`$populate` of a Questionnaire: a response in progress, with what the caller may see of the person; not stored."""

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from care_plans.questionnaires import Known, codes_of, populate
from fhir import store
from fhir.latest import latest
from fhir.outcome import Refusal
from fhir.parameters import Input
from fhir.store import Visible
from fhir.validation import check
from fhir.wire import decode
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.definitions import definition, person
from hub.fhir_operations.inputs import inputs
from hub.interactions import Call

JSON = dict[str, Any]

_KNOWN = {
    "subject": Input("Reference", many=True), "url": Input("canonical"), "canonical": Input("canonical"),
    "questionnaire": Input("Resource"), "local": Input("boolean"),
}  # fmt: skip
CODES_AT_ONCE = 500


async def carry_out(call: Call) -> Response:
    given = inputs(call, _KNOWN)
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        patient = await person(tx, call, given, shown)
        asked = await definition(
            tx, call, given.one("questionnaire"), given.text("url") or given.text("canonical"), shown
        )
        found = (await store.read(tx.pg, "Patient", patient, shown)).resource or {}
        observations = await _observations(tx, call, patient, codes_of(asked), shown)
    response = populate(asked, Known(found, observations, datetime.now(UTC)))
    try:
        check(response)
    except Refusal as refusal:
        raise Refusal(422, refusal.issues) from None
    detail = {"shown": len(observations)}
    await call.runtime.reads.record(
        audit.entry(call.actor, "populate", "Questionnaire", asked.get("id"), patient, detail=detail)
    )
    return answer(200, response)


async def _observations(
    tx: Tx, call: Call, patient: str, codes: list[tuple[str | None, str]], shown: Visible
) -> list[JSON]:
    """The newest of each code, in components too; none for a caller whose role reads no observations."""
    if not codes or shown("Observation", "r") is None:
        return []
    values = ",".join(_escaped(f"{system}|{code}" if system else code) for system, code in codes[:CODES_AT_ONCE])
    query = [("patient", patient), ("combo-code", values)]
    found = await latest(tx.pg, query, 1, shown, call.service.base_url)
    return [decode(one.body.encode()) for one in found]


def _escaped(token: str) -> str:
    return token.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
