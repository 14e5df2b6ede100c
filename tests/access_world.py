"""A small world for tests of access: one row of every kind per type, an actor per role, and who should see what.

The table below is written by hand, apart from the code, so that a slip in `hub.roles` shows.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fhir import store
from fhir.registry import SPECS
from fhir.store import Change
from fhir.types import SERVED
from hub.access import GRANTING_TYPES, grants, project_access
from hub.db import Database
from hub.identity import Actor
from hub.roles import TYPE_AREAS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

# m: about the person in whose care the actor is   o: about another person   n: about nobody   -: nothing at all
# A type whose rows are all about nobody shows its n only.
EXPECTED = """
                        identity consent plan monitoring triage clinical referral messages device directory staff definition financial audit operations subscription protocol
care-coordinator        m        m       m    m          m      m        m        m        mn     mn        mn    mn         -         -     -          -   mn
health-coach            m        m       m    m          m      m        m        m        m      mn        mn    mn         -         -     -          -   mn
clinician               m        m       m    m          m      m        m        m        mn     mn        mn    mn         -         -     -          -   mn
practice-staff          m        m       m    m          m      m        m        m        m      mn        mn    mn         -         -     -          -   mn
social-worker           m        m       m    -          -      -        m        m        -      mn        mn    mn         -         -     -          -   mn
voluntary-worker        -        -       -    -          -      -        -        -        -      n         -     n          -         -     -          -   n
patient                 m        m       m    m          -      m        m        m        m      mn        -     mn         -         -     -          -   mn
carer                   m        -       m    m          -      -        m        -        m      mn        -     mn         -         -     -          -   mn
device                  -        -       -    -          -      -        -        -        -      -         -     -          -         -     -          -   -
ehr-system              mon      mon     mon  mon        mon    mon      mon      mon      mon    mon       mon   mon        mon       -     -          -   mon
information-governance  -        mon     -    -          -      -        -        -        -      mon       mon   mon        -         mon   -          n   mon
operations              -        -       -    -          -      -        -        -        mon    mon       mon   mon        -         -     mon        n   mon
administrator           mon      mon     mon  mon        mon    mon      mon      mon      mon    mon       mon   mon        mon       mon   mon        n   mon
importer                mon      mon     mon  mon        mon    mon      mon      mon      mon    mon       mon   mon        mon       mon   mon        n   mon
engine                  mo       mo      mo   mo         mo     -        mo       mo       mon    mon       mon   mon        -         -     -          -   mon
"""  # noqa: E501
# Types of which a role sees only rows that name it.
NAMED = {
    ("voluntary-worker", "ServiceRequest"): {"ServiceRequest-x"},
    ("voluntary-worker", "Task"): {"Task-x"},
    ("device", "Device"): {"Device-m"},
    ("carer", "RelatedPerson"): {"RelatedPerson-m"},
    ("patient", "Practitioner"): {"Practitioner-n"},
    ("carer", "Practitioner"): {"Practitioner-n"},
    # Only what their own account made; the row of this world is nobody's.
    ("care-coordinator", "Subscription"): set(),
    ("clinician", "Subscription"): set(),
    ("ehr-system", "Subscription"): set(),
}

ACTORS = {
    "patient": ("patient", "Patient/Patient-m", ()),
    "carer": ("patient", "RelatedPerson/RelatedPerson-m", ()),
    "device": ("device", "Device/Device-m", ()),
    "practice-staff": ("user", "Practitioner/p1", ("Organization/practice-1",)),
    "voluntary-worker": ("user", "Practitioner/p2", ("Organization/charity",)),
    "information-governance": ("user", "Practitioner/p4", ()),
    "social-worker": ("user", "Practitioner/Practitioner-n", ()),
}
# Rows beside those of `rows_of`, with the letter they count as.
EXTRA = {
    "ServiceRequest": {"ServiceRequest-x": "o"},
    "Task": {"Task-x": "o"},
    "Practitioner": {"Practitioner-z": "n"},
    "RelatedPerson": {"RelatedPerson-y": "m"},
}


def actor(role: str) -> Actor:
    kind, reference, organisations = ACTORS.get(role, ("user", "Practitioner/p3", ("Organization/hub-1",)))
    return Actor(kind, role, role, role, reference, (reference, *organisations))


def expected_letters() -> Mapping[tuple[str, str], str]:
    head, *lines = [line.split() for line in EXPECTED.strip().splitlines()]
    return {(line[0], area): letters for line in lines for area, letters in zip(head, line[1:], strict=True)}


LETTERS = expected_letters()


def rows_of(type_: str) -> dict[str, dict[str, Any]]:
    """One resource about the person in care (m), one about another (o), one about nobody (n), by id."""
    rows: dict[str, dict[str, Any]] = {}
    for letter in "mon":
        resource: dict[str, Any] = {"resourceType": type_, "id": f"{type_}-{letter}"}
        if letter != "n":
            if type_ == "Patient":
                pass
            elif SPECS[type_].patient_paths:
                _put(resource, SPECS[type_].patient_paths[0].split(".")[1:], {"reference": f"Patient/Patient-{letter}"})
            else:
                continue
        elif type_ == "Patient":
            continue
        rows[resource["id"]] = resource
    return rows


def _put(resource: dict[str, Any], path: list[str], value: dict[str, Any]) -> None:
    if len(path) == 1:
        resource[path[0]] = value
    else:
        resource[path[0]] = [{}]
        _put(resource[path[0]][0], path[1:], value)


def everything() -> list[dict[str, Any]]:
    """What the matrix reads, and what makes the care relationship."""
    found = {row["id"]: row for type_ in sorted(SERVED) for row in rows_of(type_).values()}
    found["Patient-m"] |= {
        "managingOrganization": {"reference": "Organization/hub-1"},
        "generalPractitioner": [{"reference": "Organization/practice-1"}],
    }
    # Another person of the same hub and practice's neighbour: being employed by the hub opens nobody's record.
    found["Patient-o"] |= {
        "managingOrganization": {"reference": "Organization/hub-1"},
        "generalPractitioner": [{"reference": "Organization/practice-2"}],
    }
    found["CareTeam-m"] |= {
        "status": "active",
        "managingOrganization": [{"reference": "Organization/hub-1"}],
        "participant": [
            {"member": {"reference": "Organization/hub-1"}},
            {"member": {"reference": "Practitioner/Practitioner-n"}},
        ],
    }
    about_other = {"reference": "Patient/Patient-o"}
    charity = {"reference": "Organization/charity"}
    found["ServiceRequest-x"] = {
        "resourceType": "ServiceRequest", "id": "ServiceRequest-x", "subject": about_other, "performer": [charity],
    }  # fmt: skip
    found["Task-x"] = {
        "resourceType": "Task", "id": "Task-x", "status": "requested", "intent": "order", "description": "Visit",
        "for": about_other, "owner": charity,
    }  # fmt: skip
    found["Practitioner-z"] = {"resourceType": "Practitioner", "id": "Practitioner-z"}
    found["RelatedPerson-y"] = {
        "resourceType": "RelatedPerson", "id": "RelatedPerson-y", "patient": {"reference": "Patient/Patient-m"},
    }  # fmt: skip
    return list(found.values())


def expected(role: str, type_: str) -> set[str]:
    """Ids that *role* sees of *type_*."""
    if (role, type_) in NAMED:
        return NAMED[role, type_]
    letters = LETTERS[role, TYPE_AREAS[type_]]
    ids = {one for one in rows_of(type_) if one[-1] in letters}
    return ids | {ident for ident, letter in EXTRA.get(type_, {}).items() if letter in letters}


async def fill(database: Database) -> None:
    """Store everything, with the care relationships that follow from it."""
    resources = everything()
    async with database.transaction() as tx:
        changes = [Change("create", one["resourceType"], one["id"], one) for one in resources]
        await store.write(tx.pg, changes, "Device/test", NOW)
        await project_access(
            tx.pg,
            {f"{one['resourceType']}/{one['id']}": grants(one)
             for one in resources if one["resourceType"] in GRANTING_TYPES},
        )  # fmt: skip
        await tx.pg.execute(
            "INSERT INTO team_member (care_team_id, member, role_code, patient_id, role, name)"
            " VALUES ('CareTeam-m', 'Practitioner/Practitioner-n', '', 'Patient-m', '', 'N'),"
            "        ('CareTeam-o', 'Practitioner/Practitioner-z', '', 'Patient-o', '', 'Z')"
        )
