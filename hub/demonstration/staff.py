"""Organisations of the county and the people who work in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from hub.demonstration import names
from hub.demonstration.codes import JSON, LOCAL, ODS, SDS_USER, SNOMED, SYNTHETIC, concept, reference
from hub.demonstration.places import HUBS, PARTNERS, PRACTICES

# People on the caseload of one coordinator and of one coach (ours; Symphony had 50+ coaches for 5,000+ people).
COORDINATOR_CASELOAD = 40
COACH_CASELOAD = 90


@dataclass(frozen=True, slots=True)
class Role:
    """SNOMED CT codes as in UK Core's PractitionerRoleCode where it has one, else a local code."""

    key: str
    system: str
    code: str
    title: str


COORDINATOR = Role("coordinator", SNOMED, "768820003", "Care coordinator")
COACH = Role("coach", SNOMED, "432100008", "Health coach")
GP = Role("gp", SNOMED, "62247001", "General practitioner")
NURSE = Role("nurse", SNOMED, "224540001", "Community nurse")
GERIATRICIAN = Role("geriatrician", SNOMED, "90655003", "Geriatrician")
PHARMACIST = Role("pharmacist", SNOMED, "734293001", "Clinical pharmacist")
OCCUPATIONAL_THERAPIST = Role("occupational-therapist", SNOMED, "80546007", "Occupational therapist")
PHYSIOTHERAPIST = Role("physiotherapist", SNOMED, "36682004", "Physiotherapist")
MENTAL_HEALTH_NURSE = Role("mental-health-nurse", SNOMED, "224564000", "Community mental health nurse")
SOCIAL_WORKER = Role("social-worker", SNOMED, "106328005", "Social worker")
VILLAGE_AGENT = Role("village-agent", LOCAL + "staff-role", "social-prescribing-link-worker", "Village agent")
PRACTICE_MANAGER = Role("practice-manager", LOCAL + "staff-role", "practice-manager", "Practice manager")
GOVERNANCE = Role("governance", LOCAL + "staff-role", "information-governance", "Information governance lead")
OPERATIONS = Role("operations", LOCAL + "staff-role", "operations", "Operations manager")
ADMINISTRATOR = Role("administrator", LOCAL + "staff-role", "administrator", "Administrator")

_HUB_ROLES = (NURSE, GERIATRICIAN, PHARMACIST, OCCUPATIONAL_THERAPIST, PHYSIOTHERAPIST, MENTAL_HEALTH_NURSE)
_WOMEN_IN_TEN = 7


@dataclass(frozen=True, slots=True)
class Worker:
    id: str
    given: str
    family: str
    gender: str
    role: Role
    organisation: str
    serves: str
    """Organisation whose people they work with: their hub or practice, or the hub a partner works with."""

    @property
    def title(self) -> str:
        prefix = "Dr " if self.role in (GP, GERIATRICIAN) else ""
        return f"{prefix}{self.given} {self.family}"

    @property
    def reference(self) -> str:
        return f"Practitioner/{self.id}"


class Staff:
    """Everyone who works in the county, found by the organisation they serve and by role."""

    def __init__(self, complex_people: int, coached_people: int, rng: Random) -> None:
        self.workers: list[Worker] = []
        self._by_place: dict[tuple[str, Role], list[Worker]] = {}
        self._rng = rng
        # How many at each hub have a caseload. There is always a second one, who covers.
        self.coordinating = -(-complex_people // (len(HUBS) * COORDINATOR_CASELOAD))
        self.coaching = -(-coached_people // (len(HUBS) * COACH_CASELOAD))
        trust, council, charity, office = (partner[0] for partner in PARTNERS)
        for hub in HUBS:
            self._employ(COORDINATOR, hub.id, hub.id, max(2, self.coordinating))
            self._employ(COACH, hub.id, hub.id, max(2, self.coaching))
            for role in _HUB_ROLES:
                self._employ(role, trust if role is GERIATRICIAN else hub.id, hub.id)
            self._employ(SOCIAL_WORKER, council, hub.id)
            self._employ(VILLAGE_AGENT, charity, hub.id)
        for practice in PRACTICES:
            self._employ(GP, practice.id, practice.id, 2)
            self._employ(NURSE, practice.id, practice.id)
            self._employ(PRACTICE_MANAGER, practice.id, practice.id)
        for role in (GOVERNANCE, OPERATIONS, ADMINISTRATOR):
            self._employ(role, office, office)

    def _employ(self, role: Role, organisation: str, serves: str, many: int = 1) -> None:
        for number in range(1, many + 1):
            gender = "female" if self._rng.randrange(10) < _WOMEN_IN_TEN else "male"
            given, family = names.draw(self._rng, gender)
            ident = f"{serves}-{role.key}-{number:02d}"
            worker = Worker(ident, given, family, gender, role, organisation, serves)
            self.workers.append(worker)
            self._by_place.setdefault((serves, role), []).append(worker)

    def at(self, serves: str, role: Role) -> list[Worker]:
        return self._by_place[serves, role]


def organisations() -> Iterator[JSON]:
    """Hubs first: a practice is part of its hub."""

    def organisation(ident: str, kind: str, title: str, name: str, town: str, ods: str, postcode: str) -> JSON:
        return {
            "resourceType": "Organization",
            "id": ident,
            "meta": SYNTHETIC,
            "identifier": [{"system": ODS, "value": ods}],
            "active": True,
            "type": [concept(LOCAL + "organisation-type", kind, title)],
            "name": name,
            "telecom": [{"system": "phone", "value": f"01632 960{sum(map(ord, ident)) % 1000:03d}"}],
            "address": [{"line": ["High Street"], "city": town, "postalCode": postcode, "country": "GBR"}],
        }

    for number, hub in enumerate(HUBS, 1):
        yield organisation(hub.id, "hub", "Integrated care hub", hub.name, hub.town, hub.ods, f"ZZ{number} 1HB")
    for ident, name, ods, kind in PARTNERS:
        yield organisation(ident, kind.replace(" ", "-"), kind.capitalize(), name, "Castle Yeo", ods, "ZZ1 9ZZ")
    for practice in PRACTICES:
        place = practice.name, practice.town, practice.ods, f"{practice.district} 1GP"
        resource = organisation(practice.id, "practice", "GP practice", *place)
        resource["partOf"] = reference(f"Organization/{practice.hub.id}", practice.hub.name)
        yield resource


def practitioners(staff: Staff) -> Iterator[JSON]:
    for number, worker in enumerate(staff.workers, 1):
        yield {
            "resourceType": "Practitioner",
            "id": worker.id,
            "meta": SYNTHETIC,
            "identifier": [{"system": SDS_USER, "value": f"99900{number:07d}"}],
            "active": True,
            "name": [
                {
                    "use": "official",
                    "family": worker.family,
                    "given": [worker.given],
                    **({"prefix": ["Dr"]} if worker.title.startswith("Dr ") else {}),
                }
            ],
            "gender": worker.gender,
        }


def practitioner_roles(staff: Staff) -> Iterator[JSON]:
    for worker in staff.workers:
        resource: JSON = {
            "resourceType": "PractitionerRole",
            "id": f"{worker.id}-role",
            "meta": SYNTHETIC,
            "active": True,
            "practitioner": reference(worker.reference, worker.title),
            "organization": reference(f"Organization/{worker.organisation}"),
            "code": [concept(worker.role.system, worker.role.code, worker.role.title)],
        }
        yield resource
