"""`Observation/$stats`: average, highest, lowest, spread of a person's readings, in the unit that the hub keeps."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.responses import Response

from fhir import parameters, store
from fhir.outcome import refuse
from fhir.parameters import Input, Inputs, instant_of
from fhir.store import ID, Sql, instant, permitted
from fhir.wire import decode
from hub import audit
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.interactions import Call
from monitoring.measures import BY_CODE, LOINC, UCUM, Measure
from monitoring.statistics import COUNTS, NOTHING, STATISTICS, Summary, statistics

JSON = dict[str, Any]

_KNOWN = {
    "subject": Input("uri"), "code": Input("string", many=True, commas=True), "system": Input("uri"),
    "coding": Input("Coding", many=True), "duration": Input("decimal"), "period": Input("Period"),
    "statistic": Input("code", many=True, commas=True), "include": Input("boolean"), "limit": Input("positiveInt"),
}  # fmt: skip
SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-statistics"
MOST_SOURCES = 1000
LONGEST = 24 * 366 * 20
"""Hours of a duration."""
_ABSENT = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}],
    "text": "no reading to compute it from",
}


async def carry_out(call: Call) -> Response:
    given = inputs(call, _KNOWN)
    patient = _patient(call, given)
    measures = _measures(given)
    wanted = dict.fromkeys(given.every("statistic"))
    for code in wanted or ("",):
        if code not in STATISTICS:
            there = ", ".join(STATISTICS)
            raise refuse(400, "value", f"statistic is one or more of {there}, not '{code[:40]}'", "statistic")
    since, until = _bounds(given)
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        await store.read(tx.pg, "Patient", patient, shown)
        limit = permitted("Observation", "r", shown)
        found = await statistics(tx.pg, patient, [one.key for one in measures], since, until, *limit)
        sources = await _sources(tx, patient, measures, (since, until), limit, given) if given.one("include") else []
    detail = {"shown": len(sources), "measures": len(measures)}
    await call.runtime.reads.record(audit.entry(call.actor, "stats", "Observation", None, patient, detail=detail))
    parts = [
        {
            "name": "statistics",
            "resource": _observation(patient, measure, found.get(measure.key, NOTHING), list(wanted)),
        }
        for measure in measures
    ]
    parts += [{"name": "source", "resource": one} for one in sources]
    return answer(200, parameters.answer(parts))


def _patient(call: Call, given: Inputs) -> str:
    subject = str(given.required("subject")).removeprefix(f"{call.service.base_url}/")
    type_, _, id_ = subject.partition("/")
    if type_ != "Patient" or not ID.fullmatch(id_):
        raise refuse(400, "value", f"subject is a reference such as Patient/1, not '{subject[:80]}'", "subject")
    return id_


def _measures(given: Inputs) -> list[Measure]:
    system = given.text("system") or LOINC
    codes = [(system, code) for code in given.every("code")]
    codes += [(one.get("system", LOINC), one.get("code", "")) for one in given.every("coding")]
    if not codes:
        raise refuse(400, "required", "the parameter code or coding is required", "code")
    found: dict[str, Measure] = {}
    for known, code in codes:
        measure = BY_CODE.get((known, code))
        if measure is None:
            said = f"statistics are kept of what is monitored here, which {known[:100]}|{code[:40]} is not"
            raise refuse(422, "not-supported", said, "code")
        if measure.answers:
            raise refuse(
                422, "not-supported", f"{measure.name} is answered in words: there is nothing to add up", "code"
            )
        found[measure.key] = measure
    return list(found.values())


def _bounds(given: Inputs) -> tuple[datetime | None, datetime | None]:
    """From when until when readings count; either `duration`, in hours until now, or `period`."""
    duration, period = given.one("duration"), given.one("period")
    if duration is not None and period is not None:
        raise refuse(400, "invalid", "give duration or period, not both", "duration")
    if duration is not None:
        if not 0 < duration <= LONGEST:
            raise refuse(400, "value", f"duration is hours, more than 0 and at most {LONGEST:,}", "duration")
        return datetime.now(UTC) - timedelta(hours=float(duration)), None
    start, end = (period or {}).get("start"), (period or {}).get("end")
    return (
        instant_of("period", start)[0] if start else None,
        instant_of("period", end)[1] if end else None,
    )


def _observation(patient: str, measure: Measure, summary: Summary, wanted: list[str]) -> JSON:
    """One Observation whose components are the statistics; without a reading, each says that it is absent."""
    found: JSON = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [measure.coding], "text": measure.name},
        "subject": {"reference": f"Patient/{patient}"},
    }
    if summary.first is not None and summary.last is not None:
        found["effectivePeriod"] = {"start": instant(summary.first), "end": instant(summary.last)}
    if summary.left_out:
        text = f"{summary.left_out} that are wrong, need checking or come from a sandbox device are left out"
        found["note"] = [{"text": text}]
    found["component"] = [_component(code, summary.values[code], measure) for code in wanted]
    return found


def _component(code: str, value: float | int | None, measure: Measure) -> JSON:
    component: JSON = {"code": {"coding": [{"system": SYSTEM, "code": code}]}}
    if value is None:
        return {**component, "dataAbsentReason": _ABSENT}
    if code in COUNTS:
        return {**component, "valueInteger": int(value)}
    number = Decimal(str(round(float(value), 4))).normalize()
    # A variance is in the unit's square, which UCUM writes so.
    unit = f"({measure.unit})2" if code == "variance" else measure.unit
    plain = format(number, "f")
    return {**component, "valueQuantity": {"value": Decimal(plain), "unit": unit, "system": UCUM, "code": unit}}


async def _sources(
    tx: Tx,
    patient: str,
    measures: list[Measure],
    bounds: tuple[datetime | None, datetime | None],
    limit: Sql,
    given: Inputs,
) -> list[JSON]:
    since, until = bounds
    rows = await tx.pg.execute(
        "SELECT v.body FROM (SELECT DISTINCT r.id, r.version, reading.at FROM reading"
        " JOIN r_observation r ON r.id = reading.observation_id"
        " WHERE reading.patient_id = %s AND measure = ANY(%s) AND quality = 'ok'"
        " AND (%s::timestamptz IS NULL OR at >= %s) AND (%s::timestamptz IS NULL OR at < %s)"
        f" AND ({limit.text}) ORDER BY reading.at DESC LIMIT %s) f"
        " JOIN resource_version v ON v.type = 'Observation' AND v.id = f.id AND v.version = f.version"
        " ORDER BY f.at DESC",
        (
            patient, [one.key for one in measures], since, since, until, until, *limit.params,
            min(given.one("limit") or 100, MOST_SOURCES),
        ),
        prepare=False,
    )  # fmt: skip
    return [decode(body.encode()) async for (body,) in rows]
