"""People and things for tests, written through `hub.flows.write` as an importer. Keyword arguments override parts.

patient_id = await patient(tx, family="Hembrow")
await consent(tx, patient_id)
plan_id = await plan(tx, patient_id, title="Home by Easter")
"""

from itertools import count
from typing import Any

from fhir.store import Change, new_id
from hub import accounts, flows
from hub.db import Tx
from hub.demonstration import nhs_numbers
from hub.demonstration.codes import LOCAL, LOINC, NHS_NUMBER, ODS, SNOMED, SYNTHETIC, TERMINOLOGY, concept
from hub.identity import IMPORTER

JSON = dict[str, Any]

PASSWORD = "correct horse battery"

_nhs_numbers = nhs_numbers.numbers(500_000)
_serial = count(1)


async def write(tx: Tx, resource: JSON) -> str:
    """Store a new resource; gives its id."""
    resource = {"id": new_id(), "meta": SYNTHETIC, **resource}
    await flows.write(tx, IMPORTER, [Change("create", resource["resourceType"], resource["id"], resource)])
    return str(resource["id"])


async def organisation(tx: Tx, kind: str = "hub", **overrides: Any) -> str:
    """A hub or, with kind `practice`, a practice."""
    number = next(_serial)
    resource: JSON = {
        "resourceType": "Organization",
        "identifier": [{"system": ODS, "value": f"ZZX{number}"}],
        "active": True,
        "type": [concept(LOCAL + "organisation-type", kind, kind)],
        "name": f"{kind.capitalize()} {number}",
    }
    return await write(tx, {**resource, **overrides})


async def practitioner(tx: Tx, given: str = "Ada", family: str = "Vowles", **overrides: Any) -> str:
    name = [{"use": "official", "family": family, "given": [given]}]
    return await write(tx, {"resourceType": "Practitioner", "active": True, "name": name, **overrides})


async def patient(
    tx: Tx,
    given: str = "Jean",
    family: str = "Hembrow",
    hub: str | None = None,
    practice: str | None = None,
    **overrides: Any,
) -> str:
    """A synthetic person with an NHS number of the test range; *hub* and *practice* are Organization ids."""
    resource: JSON = {
        "resourceType": "Patient",
        "identifier": [{"system": NHS_NUMBER, "value": next(_nhs_numbers)}],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given]}],
        "gender": "female",
        "birthDate": "1948-03-09",
    }
    if hub:
        resource["managingOrganization"] = {"reference": f"Organization/{hub}"}
    if practice:
        resource["generalPractitioner"] = [{"reference": f"Organization/{practice}"}]
    return await write(tx, {**resource, **overrides})


async def consent(tx: Tx, patient_id: str, hub: str | None = None, **overrides: Any) -> str:
    """Approval of being planned for, given by the person."""
    resource: JSON = {
        "resourceType": "Consent",
        "status": "active",
        "scope": concept(TERMINOLOGY + "consentscope", "patient-privacy", "Privacy Consent"),
        "category": [concept(LOINC, "59284-0", "Consent Document")],
        "patient": {"reference": f"Patient/{patient_id}"},
        "dateTime": "2026-01-05T10:00:00Z",
        "performer": [{"reference": f"Patient/{patient_id}"}],
        "policyRule": {"text": "I agree to a plan."},
        "provision": {"type": "permit"},
    }
    if hub:
        resource["organization"] = [{"reference": f"Organization/{hub}"}]
    return await write(tx, {**resource, **overrides})


async def goal(tx: Tx, patient_id: str, text: str = "Walk to the post box on my own.", **overrides: Any) -> str:
    person = {"reference": f"Patient/{patient_id}"}
    resource: JSON = {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": {"text": text},
        "subject": person,
        "expressedBy": person,
    }
    return await write(tx, {**resource, **overrides})


async def plan(tx: Tx, patient_id: str, goals: tuple[str, ...] = (), **overrides: Any) -> str:
    """An active plan; *goals* are Goal ids. The person must have approved."""
    resource: JSON = {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "category": [concept(SNOMED, "734163000", "Care plan")],
        "title": "My plan",
        "subject": {"reference": f"Patient/{patient_id}"},
        "goal": [{"reference": f"Goal/{one}"} for one in goals],
    }
    if not goals:
        del resource["goal"]
    return await write(tx, {**resource, **overrides})


async def team(tx: Tx, patient_id: str, members: dict[str, str], hub: str | None = None, **overrides: Any) -> str:
    """A care team; *members* maps references such as `Practitioner/x` to SNOMED role codes."""
    participants: list[JSON] = [
        {"role": [concept(SNOMED, code, code)], "member": {"reference": member}} for member, code in members.items()
    ]
    resource: JSON = {"resourceType": "CareTeam", "status": "active", "subject": {"reference": f"Patient/{patient_id}"}}
    if hub:
        participants.append({"member": {"reference": f"Organization/{hub}"}})
        resource["managingOrganization"] = [{"reference": f"Organization/{hub}"}]
    return await write(tx, {**resource, "participant": participants, **overrides})


async def device(tx: Tx, patient_id: str | None = None, **overrides: Any) -> str:
    resource: JSON = {
        "resourceType": "Device",
        "status": "active",
        "deviceName": [{"name": "Cuff", "type": "user-friendly-name"}],
    }
    if patient_id:
        resource["patient"] = {"reference": f"Patient/{patient_id}"}
    return await write(tx, {**resource, **overrides})


async def account(
    tx: Tx, role: str, reference: str, organisations: tuple[str, ...] = (), hub: str | None = None, **overrides: Any
) -> str:
    """An account that signs in with its username and `PASSWORD`; gives the username. *organisations* are references."""
    username = overrides.pop("username", f"{role}-{next(_serial)}")
    name = overrides.pop("name", username)
    await accounts.create_account(tx, username, PASSWORD, name, role, reference, organisations, hub, **overrides)
    return str(username)
