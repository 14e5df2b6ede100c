"""The typed tables, kept in step with the FHIR resources in the transaction that writes these."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from nhs_number.validate import is_valid

from care_plans.projections import Changed, project_approvals, project_plans, project_tasks, project_team
from fhir.outcome import refuse
from fhir.store import Written
from hub import live_rules
from hub.access import GRANTING_TYPES, Grant, grants, project_access
from hub.db import Tx
from hub.device_rows import project_devices, project_uses
from hub.watch import is_test
from monitoring import pauses
from monitoring.cover import project_cover
from monitoring.flags import project_flags
from monitoring.limits import from_service_request, project_limits
from monitoring.pregnancy import project_pregnancies
from monitoring.projection import project_readings
from monitoring.readings import Reading
from monitoring.rule_projection import MEMBERS_BY, members_may_differ, project_rules

JSON = dict[str, Any]
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
EXTENSION = "https://carehub.example/fhir/StructureDefinition/"


async def project(tx: Tx, written: Sequence[Written], author: str, readings: Sequence[Reading], now: datetime) -> None:
    """Bring every typed table up to date with *written*; *readings* are those of the Observations among them."""
    by_type: dict[str, list[Changed]] = defaultdict(list)
    for one in written:
        by_type[one.change.type].append(Changed(one.change.id, one.change.resource, one.version, one.updated, author))
    pg = tx.pg
    if patients := by_type.get("Patient"):
        await _people(pg, patients)
    if devices := by_type.get("Device"):
        await project_devices(pg, devices)
    if uses := by_type.get("DeviceUseStatement"):
        await project_uses(pg, uses)
    sources = {
        f"{type_}/{one.id}": grants(one.resource) if one.resource else []
        for type_ in GRANTING_TYPES & by_type.keys()
        for one in by_type[type_]
    }
    sources |= _registrations(written, author, now)
    await project_access(pg, sources)
    if consents := by_type.get("Consent"):
        await project_approvals(pg, consents)
    if plans := by_type.get("CarePlan"):
        await project_plans(pg, plans)
    if teams := by_type.get("CareTeam"):
        await project_team(pg, teams)
    if tasks := by_type.get("Task"):
        await project_tasks(pg, tasks, await _hubs(pg, tasks))
    if requests := by_type.get("ServiceRequest"):
        orders = [order for one in requests if one.resource and (order := from_service_request(one.resource))]
        ordered = {order.service_request_id for order in orders}
        await project_limits(pg, orders, [one.id for one in requests if one.id not in ordered])
        paused = [pause for one in requests if one.resource and (pause := pauses.from_service_request(one.resource))]
        await pauses.project_pauses(pg, paused, [one.id for one in requests])
    if conditions := by_type.get("Condition"):
        made = {one.change.id for one in written if one.status == 201}
        await project_pregnancies(pg, [(one.id, one.resource) for one in conditions], made)
    if services := by_type.get("HealthcareService"):
        await project_cover(pg, [(one.id, one.resource) for one in services])
    if definitions := by_type.get("PlanDefinition"):
        live_rules.writing(tx)
        await project_rules(pg, [(one.id, one.resource) for one in definitions])
    if changing := by_type.keys() & MEMBERS_BY.keys():
        await members_may_differ(pg, changing)
    if flags := by_type.get("Flag"):
        await project_flags(pg, [(one.resource, one.version) for one in flags if one.resource], _gone(flags))
    moved = [one.change.id for one in written if one.change.type == "Patient" and one.status == 200 and _moved(one)]
    moved += [about for one in written if one.change.type == "Flag" and (about := one.patient_id)]
    if moved:
        await _follow_home_hub(pg, moved)
    if "Observation" in by_type:
        # An updated Observation may measure something else now, or nothing: its old rows go first.
        replaced = [one.change.id for one in written if one.change.type == "Observation" and one.status != 201]
        await project_readings(pg, readings, now, replaced)


REGISTERED = timedelta(days=30)
"""How long whoever registered a person sees them by that alone: time to put a team around them."""


def _registrations(written: Sequence[Written], author: str, now: datetime) -> dict[str, list[Grant]]:
    return {
        f"Patient/{one.change.id}#registered": [Grant(author, one.change.id, "registered", None, now + REGISTERED)]
        for one in written
        if one.change.type == "Patient" and one.status == 201 and author.startswith("Practitioner/")
    }


def _moved(one: Written) -> bool:
    """Whether the person may have another home hub than before."""
    after = one.change.resource or {}
    return one.before is None or one.before.get("managingOrganization") != after.get("managingOrganization")


def _gone(changed: Sequence[Changed]) -> list[str]:
    return [one.id for one in changed if one.resource is None]


async def _hubs(pg: psycopg.AsyncConnection[Any], tasks: Sequence[Changed]) -> dict[str, str]:
    people = [
        one.resource.get("for", {}).get("reference", "").removeprefix("Patient/") for one in tasks if one.resource
    ]
    rows = await pg.execute(
        "SELECT patient_id, hub_id FROM person WHERE patient_id = ANY(%s) AND hub_id IS NOT NULL", (people,)
    )
    return dict(await rows.fetchall())


# -- people ------------------------------------------------------------------------------------------------------------

_PERSON = """
INSERT INTO person (patient_id, nhs_number, family, given, search_name, called, about, birth_date, gender, hub_id,
                    practice_id, tier, synthetic)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::date[],
                     %s::text[], %s::text[], %s::text[], %s::text[], %s::bool[])
ON CONFLICT (patient_id) DO UPDATE SET
    (nhs_number, family, given, search_name, called, about, birth_date, gender, hub_id, practice_id, tier, synthetic) =
    (excluded.nhs_number, excluded.family, excluded.given, excluded.search_name, excluded.called, excluded.about,
     excluded.birth_date, excluded.gender, excluded.hub_id, excluded.practice_id, excluded.tier, excluded.synthetic)
"""


async def _people(pg: psycopg.AsyncConnection[Any], changed: Sequence[Changed]) -> None:
    if gone := _gone(changed):
        await pg.execute("DELETE FROM person WHERE patient_id = ANY(%s)", (gone,))
    rows = [_person(one.resource) for one in changed if one.resource]
    if rows:
        try:
            await pg.execute(_PERSON, [list(column) for column in zip(*rows, strict=True)])
        except psycopg.errors.UniqueViolation as error:
            raise refuse(
                409,
                "duplicate",
                "Another person has this NHS number already. Look them up instead of registering them twice.",
                "Patient.identifier",
            ) from error


async def _follow_home_hub(pg: psycopg.AsyncConnection[Any], patient_ids: Sequence[str]) -> None:
    """What waits for somebody stands on the boards of the hub that the person belongs to now."""
    for table in ("flag", "task"):
        await pg.execute(
            f"UPDATE {table} SET hub_id = person.hub_id FROM person WHERE {table}.patient_id = person.patient_id"
            f" AND person.patient_id = ANY(%s) AND {table}.hub_id IS DISTINCT FROM person.hub_id",
            (list(patient_ids),),
        )


def _person(patient: JSON) -> tuple[Any, ...]:
    names = patient.get("name", ())
    official = next((name for name in names if name.get("use") in ("official", "usual")), names[0] if names else {})
    family = official.get("family") or official.get("text") or ""
    given = " ".join(official.get("given", ()))
    called = next(
        (name.get("text") or " ".join(name.get("given", ())) for name in names if name.get("use") == "nickname"), None
    )
    return (
        patient["id"],
        nhs_number_of(patient),
        family,
        given,
        f"{family} {given}".strip().casefold(),
        called,
        _extension(patient, "about-me", "valueString"),
        _birth_date(patient.get("birthDate")),
        patient.get("gender"),
        _local(patient.get("managingOrganization")),
        next((id_ for one in patient.get("generalPractitioner", ()) if (id_ := _local(one))), None),
        _extension(patient, "tier", "valueCode"),
        is_test(patient),
    )


def nhs_number_of(patient: JSON) -> str | None:
    """The ten digits, without spaces. Refusal 422 for a number whose check digit is wrong: it names somebody else, or
    nobody."""
    for identifier in patient.get("identifier", ()):
        if identifier.get("system") == NHS_NUMBER and identifier.get("use") != "old":
            number = "".join(identifier.get("value", "").split())
            # Ten equal digits pass the sum and belong to nobody.
            if number and (not is_valid(number) or len(set(number)) == 1):
                raise refuse(
                    422,
                    "value",
                    "This is not an NHS number: it has ten digits, and the last one must agree with the others.",
                    "Patient.identifier",
                )
            return number or None
    return None


def _extension(resource: JSON, name: str, value: str) -> str | None:
    return next((one.get(value) for one in resource.get("extension", ()) if one.get("url") == EXTENSION + name), None)


def _birth_date(text: str | None) -> date | None:
    """Only a full date: a year alone would show an age that nobody knows."""
    return date.fromisoformat(text) if text and len(text) == 10 else None


def _local(reference: JSON | None) -> str | None:
    parts = (reference or {}).get("reference", "").split("/")
    return parts[1] if len(parts) == 2 and parts[0] == "Organization" else None
