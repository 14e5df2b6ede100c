"""Synthetic people as FHIR resources, in the shapes of docs/architecture.md."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random

from care_plans.plan import Plan, fingerprint
from hub.demonstration import names, words
from hub.demonstration.codes import (
    JSON,
    LOCAL,
    LOINC,
    NHS_NUMBER,
    SNOMED,
    SYNTHETIC,
    TERMINOLOGY,
    UCUM,
    concept,
    extension,
    reference,
)
from hub.demonstration.people import Person
from hub.demonstration.places import COUNTY, PARTNERS
from hub.demonstration.staff import (
    COACH,
    COORDINATOR,
    GERIATRICIAN,
    NURSE,
    OCCUPATIONAL_THERAPIST,
    PHARMACIST,
    SOCIAL_WORKER,
    VILLAGE_AGENT,
    Role,
    Staff,
    Worker,
)
from hub.demonstration.vitals import Kind
from monitoring.instruments import INSTRUMENTS
from monitoring.measures import MEASURES, Measure
from monitoring.schedules import Schedule, Window, to_repeat

# FHIR's administrative day for things that began earlier; a plan lasts a year.
PLAN_DAYS = 365
HOSPITAL = PARTNERS[0]

CARE_PLAN = concept(SNOMED, "734163000", "Care plan")
HOME_MONITORING = concept(LOCAL + "service-category", "home-monitoring", "Home monitoring")

# What a home-monitoring order is for: a blood pressure order asks for the upper number.
ORDERED: dict[Kind, str] = {"blood-pressure": "systolic"}

# device key -> what it is called and what it measures
DEVICES: dict[str, tuple[str, frozenset[Kind]]] = {
    "cuff": ("Blood pressure cuff", frozenset({"blood-pressure"})),
    "oximeter": ("Finger oximeter", frozenset({"spo2", "pulse"})),
    "scales": ("Bathroom scales", frozenset({"weight"})),
    "meter": ("Glucose meter", frozenset({"glucose"})),
    "tablet": ("Tablet for the daily questions", frozenset({"respiratory-rate", "temperature", "consciousness"})),
}


def device_id(person: Person, kind: Kind) -> str:
    """Which of the person's devices measures *kind*; the cuff also gives the pulse to people without an oximeter."""
    kinds = person.profile.kinds if person.profile else ()
    if kind == "pulse" and "spo2" not in kinds:
        kind = "blood-pressure"
    key = next(key for key, (_, measures) in DEVICES.items() if kind in measures)
    return f"{key}-{person.number:06d}"


def resources(person: Person, staff: Staff, as_of: datetime, rng: Random) -> Iterator[JSON]:
    """Everything about a person but the readings. Dates are days before *as_of*."""
    today = as_of.date()
    yield patient(person)
    yield from conditions(person, today, rng)
    if person.carer:
        yield carer(person)
    if person.tier is None:
        return
    yield consent(person, today)
    yield care_team(person, staff, today)
    goals = list(goals_of(person, today, rng))
    yield from goals
    yield plan(person, goals, today, rng)
    yield from orders(person, today, rng)
    yield from devices(person)
    yield from encounters(person, as_of)
    yield from referrals(person, staff, today)
    yield from tasks(person, staff, as_of, rng)


def patient(person: Person) -> JSON:
    practice = person.practice
    name: list[JSON] = [{"use": "official", "family": person.family, "given": [person.given]}]
    if person.called:
        name.append({"use": "nickname", "text": person.called})
    telephone = f"07700 {900_000 + person.number % 1000}"
    resource: JSON = {
        "resourceType": "Patient",
        "id": person.id,
        "meta": SYNTHETIC,
        "identifier": [{"system": NHS_NUMBER, "value": person.nhs_number}],
        "active": True,
        "name": name,
        "telecom": [{"system": "phone", "value": telephone, "use": "mobile"}],
        "gender": person.gender,
        "birthDate": person.born.isoformat(),
        "address": [
            {
                "use": "home",
                "line": [person.house],
                "city": practice.town,
                "district": COUNTY,
                "postalCode": f"{practice.district} {person.number % 9 + 1}{_letters(person.number)}",
                "country": "GBR",
            }
        ],
        "generalPractitioner": [reference(f"Organization/{practice.id}", practice.name)],
        "managingOrganization": reference(f"Organization/{practice.hub.id}", practice.hub.name),
    }
    extensions = []
    if person.about:
        extensions.append(extension("about-me", valueString=person.about))
    if person.tier:
        extensions.append(extension("tier", valueCode=person.tier))
    if extensions:
        resource["extension"] = extensions
    return resource


def carer(person: Person) -> JSON:
    close = person.carer
    assert close is not None
    return {
        "resourceType": "RelatedPerson",
        "id": f"carer-{person.number:06d}",
        "meta": SYNTHETIC,
        "active": True,
        "patient": reference(person.reference, person.name),
        "relationship": [concept(TERMINOLOGY + "v3-RoleCode", close.code, close.relationship)],
        "name": [{"use": "official", "family": close.family, "given": [close.given]}],
        "telecom": [{"system": "phone", "value": f"07700 {900_500 + person.number % 500}", "use": "mobile"}],
        "gender": close.gender,
    }


def conditions(person: Person, today: date, rng: Random) -> Iterator[JSON]:
    for condition in person.conditions:
        yield {
            "resourceType": "Condition",
            "id": f"condition-{person.number:06d}-{condition.key}",
            "meta": SYNTHETIC,
            "clinicalStatus": {"coding": [{"system": TERMINOLOGY + "condition-clinical", "code": "active"}]},
            "verificationStatus": {"coding": [{"system": TERMINOLOGY + "condition-ver-status", "code": "confirmed"}]},
            "category": [concept(TERMINOLOGY + "condition-category", "problem-list-item", "Problem List Item")],
            "code": concept(SNOMED, condition.code, condition.display),
            "subject": reference(person.reference),
            "onsetDateTime": str(max(person.born.year + 1, today.year - rng.randrange(1, 22))),
        }


def consent(person: Person, today: date) -> JSON:
    hub = person.practice.hub
    by_carer = person.carer is not None and person.frail
    how = "In person, at home" if person.number % 3 else "By telephone, read back and confirmed"
    return {
        "resourceType": "Consent",
        "id": f"approval-{person.number:06d}",
        "meta": SYNTHETIC,
        "extension": [extension("approval-how", valueString=f"By representative: {how}" if by_carer else how)],
        "status": "active",
        "scope": concept(TERMINOLOGY + "consentscope", "patient-privacy", "Privacy Consent"),
        "category": [concept(LOINC, "59284-0", "Consent Document")],
        "patient": reference(person.reference, person.name),
        "dateTime": _days(today, 60 + person.number % 300),
        "performer": [
            reference(f"RelatedPerson/carer-{person.number:06d}") if by_carer else reference(person.reference)
        ],
        "organization": [reference(f"Organization/{hub.id}", hub.name)],
        "policyRule": {"text": "I agree that the hub and its team make a plan with me and see what they need for it."},
        "provision": {"type": "permit"},
    }


def care_team(person: Person, staff: Staff, today: date) -> JSON:
    hub = person.practice.hub
    since = {"start": _days(today, 50 + person.number % 300)}

    def member(worker: Worker) -> JSON:
        role = worker.role
        return {
            "role": [concept(role.system, role.code, role.title)],
            "member": reference(worker.reference, worker.title),
            "period": since,
        }

    workers = [worker for worker in (person.coordinator, person.coach, person.gp) if worker]
    if person.tier == "complex":
        workers.append(person.nurse)
        if person.frail:
            workers.append(staff.at(hub.id, GERIATRICIAN)[0])
        if len(person.conditions) > 4:
            workers.append(staff.at(hub.id, PHARMACIST)[0])
        if person.lives_alone:
            workers.append(staff.at(hub.id, SOCIAL_WORKER)[0])
    the_hub = {"member": reference(f"Organization/{hub.id}", hub.name), "period": since}
    return {
        "resourceType": "CareTeam",
        "id": f"team-{person.number:06d}",
        "meta": SYNTHETIC,
        "status": "active",
        "name": f"Team around {person.called or person.given}",
        "subject": reference(person.reference, person.name),
        "participant": [*(member(worker) for worker in workers), the_hub],
        "managingOrganization": [reference(f"Organization/{hub.id}", hub.name)],
    }


def goals_of(person: Person, today: date, rng: Random) -> Iterator[JSON]:
    texts = [rng.choice(condition.goals) for condition in person.conditions if condition.goals][:3]
    texts.append(rng.choice(words.OTHER_GOALS))
    for number, text in enumerate(texts, 1):
        yield {
            "resourceType": "Goal",
            "id": f"goal-{person.number:06d}-{number}",
            "meta": SYNTHETIC,
            "lifecycleStatus": "active",
            "achievementStatus": concept(
                TERMINOLOGY + "goal-achievement",
                *rng.choice((("in-progress", "In Progress"), ("improving", "Improving"), ("no-change", "No Change"))),
            ),
            "description": {"text": text},
            "subject": reference(person.reference),
            "startDate": _days(today, 40 + person.number % 200),
            "expressedBy": reference(person.reference, person.name),
        }


def plan(person: Person, goals: list[JSON], today: date, rng: Random) -> JSON:
    author = person.coordinator or person.coach or person.gp
    started = 40 + person.number % 200
    # Often enough that origins show, not so often that they define anyone.
    own = 6 * words.WHAT_MATTERS_BY_ORIGIN.get(names.origin(person.family), ())
    what_matters = rng.choice(words.WHAT_MATTERS + own)
    if_worse = " ".join(text for condition in person.conditions[:2] for text in condition.if_worse)
    activities = []
    for position, condition in enumerate(person.conditions):
        performer = reference(person.reference, person.name)
        activities.append(_activity(f"a{position + 1}", rng.choice(condition.actions), performer))
    staffed = "Ring every fortnight about how the goals are going."
    activities.append(_activity("review", staffed, reference(author.reference, author.title)))
    resource: JSON = {
        "resourceType": "CarePlan",
        "id": f"plan-{person.number:06d}",
        "meta": SYNTHETIC,
        "extension": [
            extension("what-matters", valueString=what_matters),
            extension("if-worse", valueString=if_worse),
            extension("next-review", valueDate=_days(today, -((person.number * 7) % 120) + 10)),
        ],
        "status": "active",
        "intent": "plan",
        "category": [CARE_PLAN],
        "title": rng.choice(words.TITLES),
        "subject": reference(person.reference, person.name),
        "period": {"start": _days(today, started)},
        "created": _days(today, started),
        "author": reference(author.reference, author.title),
        "contributor": [reference(person.reference, person.name)],
        "careTeam": [reference(f"CareTeam/team-{person.number:06d}")],
        "addresses": [
            reference(f"Condition/condition-{person.number:06d}-{condition.key}", condition.display)
            for condition in person.conditions
        ],
        "goal": [reference(f"Goal/{goal['id']}") for goal in goals],
        "activity": activities,
    }
    if not resource["addresses"]:
        del resource["addresses"]
    resource["extension"].append(
        {
            "url": extension("agreed")["url"],
            "extension": [
                {"url": "by", "valueReference": reference(person.reference, person.name)},
                {"url": "on", "valueDate": _days(today, started)},
                {"url": "how", "valueString": "In person, with the plan on the table"},
                {"url": "fingerprint", "valueString": fingerprint(Plan(resource, tuple(goals)))},
            ],
        }
    )
    return resource


def orders(person: Person, today: date, rng: Random) -> Iterator[JSON]:
    """One order for each thing measured at home, some with limits of the person's own."""
    profile = person.profile
    if profile is None:
        return
    for kind in profile.kinds:
        measure = MEASURES[ORDERED.get(kind, kind)]
        clinician = person.nurse if kind in ("weight", "glucose") else person.gp
        begins = [(minute - 20) // 60 * 60 for minute, kinds in profile.rounds if kind in kinds]
        asked = Schedule(windows=tuple(Window(start, start + 180) for start in begins))
        resource: JSON = {
            "resourceType": "ServiceRequest",
            "id": f"order-{person.number:06d}-{kind}",
            "meta": SYNTHETIC,
            "status": "active",
            "intent": "order",
            "category": [HOME_MONITORING],
            "code": {"coding": [measure.coding], "text": measure.name},
            "subject": reference(person.reference, person.name),
            "occurrenceTiming": {"repeat": to_repeat(asked)},
            "authoredOn": _days(today, 35 + person.number % 200),
            "requester": reference(clinician.reference, clinician.title),
        }
        limits = _own_limits(person, kind, rng)
        if limits:
            parts = [{"url": name, "valueQuantity": quantity(value, measure)} for name, value in limits.items()]
            resource["extension"] = [
                {"url": extension("limits")["url"], "extension": parts},
                extension("review-on", valueDate=_days(today, -90)),
            ]
            resource["reasonCode"] = [{"text": words.LIMIT_REASONS[kind]}]
            if kind == "spo2":
                resource["extension"].append(extension("spo2-scale", valueInteger=2))
        yield resource


def referrals(person: Person, staff: Staff, today: date) -> Iterator[JSON]:
    """To the village agent, for people who live alone: all that a voluntary worker sees of them."""
    if not (person.tier == "complex" and person.lives_alone):
        return
    agent = staff.at(person.practice.hub.id, VILLAGE_AGENT)[0]
    asker = person.coordinator or person.gp
    yield {
        "resourceType": "ServiceRequest",
        "id": f"referral-{person.number:06d}",
        "meta": SYNTHETIC,
        "status": "active",
        "intent": "order",
        "code": concept(SNOMED, "871731000000106", "Social prescribing referral"),
        "subject": reference(person.reference, person.name),
        "authoredOn": _days(today, 3 + person.number % 20),
        "requester": reference(asker.reference, asker.title),
        "performer": [reference(agent.reference, agent.title)],
        "reasonCode": [{"text": "Lives alone and would like company. Please ring before you visit."}],
    }


def _own_limits(person: Person, kind: Kind, rng: Random) -> dict[str, float]:
    profile = person.profile
    assert profile is not None
    if kind == "spo2" and profile.spo2 < 93:
        return {"low-red": 83, "low-amber": 87}
    if kind == "weight" and rng.random() < 0.4:
        return {"high-amber": round(profile.weight + 2, 1), "high-red": round(profile.weight + 3, 1)}
    if kind == "glucose" and (profile.trouble == "hypo" or rng.random() < 0.2):
        return {"low-red": 3.5, "low-amber": 4.5}
    if kind == "pulse" and any(condition.key == "atrial-fibrillation" for condition in person.conditions):
        return {"high-amber": 115, "high-red": 135}
    return {}


def devices(person: Person) -> Iterator[JSON]:
    if person.profile is None:
        return
    hub = person.practice.hub
    for ident in dict.fromkeys(device_id(person, kind) for kind in person.profile.kinds):
        name = DEVICES[ident.split("-")[0]][0]
        yield {
            "resourceType": "Device",
            "id": ident,
            "meta": SYNTHETIC,
            "identifier": [{"system": "https://carehub.example/fhir/Id/device", "value": ident}],
            "status": "active",
            "deviceName": [{"name": f"{name} {person.number}", "type": "user-friendly-name"}],
            "serialNumber": ident,
            "type": {**INSTRUMENTS[ident.split("-")[0]].concept, "text": name},
            "patient": reference(person.reference, person.name),
            "owner": reference(f"Organization/{hub.id}", hub.name),
        }


def encounters(person: Person, as_of: datetime) -> Iterator[JSON]:
    if person.discharged is None:
        return
    left = (as_of - timedelta(days=person.discharged)).replace(hour=14, minute=20, second=0, microsecond=0)
    left = min(left, as_of - timedelta(hours=2))
    came = left - timedelta(days=3 + person.number % 9, hours=5)
    yield {
        "resourceType": "Encounter",
        "id": f"stay-{person.number:06d}",
        "meta": SYNTHETIC,
        "status": "finished",
        "class": {"system": TERMINOLOGY + "v3-ActCode", "code": "IMP", "display": "inpatient encounter"},
        "type": [{"text": "Emergency admission"}],
        "subject": reference(person.reference, person.name),
        "period": {"start": came.isoformat(timespec="seconds"), "end": left.isoformat(timespec="seconds")},
        "reasonCode": [{"text": person.conditions[0].display if person.conditions else "Fall"}],
        "hospitalization": {"dischargeDisposition": concept(TERMINOLOGY + "discharge-disposition", "home", "Home")},
        "serviceProvider": reference(f"Organization/{HOSPITAL[0]}", HOSPITAL[1]),
    }


_OWNERS: dict[str, Role] = {
    role.key: role
    for role in (COORDINATOR, COACH, NURSE, PHARMACIST, OCCUPATIONAL_THERAPIST, SOCIAL_WORKER, VILLAGE_AGENT)
}


def tasks(person: Person, staff: Staff, as_of: datetime, rng: Random) -> Iterator[JSON]:
    """What somebody has to do for the person: half of the people have something open, a third of it is overdue."""
    chosen = [task for task in words.TASKS[5:] if rng.random() < 0.08]
    if person.discharged is not None and person.discharged < 4:
        chosen += [words.TASKS[0], words.TASKS[4]]
    if rng.random() < 0.15:
        chosen.append(words.TASKS[1])
    keys = {condition.key for condition in person.conditions}
    if "depression" in keys and rng.random() < 0.3:
        chosen.append(words.TASKS[2])
    if "diabetes" in keys and rng.random() < 0.2:
        chosen.append(words.TASKS[3])
    hub = person.practice.hub.id
    for number, (description, (earliest, latest), priority, owner_key) in enumerate(chosen, 1):
        role = _OWNERS[owner_key]
        owner = {"coordinator": person.coordinator, "coach": person.coach, "nurse": person.nurse}.get(owner_key)
        if owner is None:
            candidates = staff.at(hub, role if role is not NURSE else COORDINATOR)
            owner = candidates[person.number % len(candidates)]
        due = as_of + timedelta(days=rng.randrange(earliest, latest + 1))
        asked = as_of - timedelta(days=rng.randrange(2, 12), hours=rng.randrange(1, 9))
        status = rng.choice(("requested", "requested", "accepted", "in-progress"))
        asker = person.coordinator or person.coach or person.gp
        yield {
            "resourceType": "Task",
            "id": f"task-{person.number:06d}-{number}",
            "meta": SYNTHETIC,
            "status": status,
            "intent": "order",
            "priority": priority,
            "description": description,
            "for": reference(person.reference, person.name),
            "authoredOn": min(asked, due - timedelta(days=1)).isoformat(timespec="seconds"),
            "requester": reference(asker.reference, asker.title),
            "owner": reference(owner.reference, owner.title),
            "restriction": {"period": {"end": due.replace(hour=17, minute=0, second=0).isoformat(timespec="seconds")}},
        }


def quantity(value: float, measure: Measure) -> JSON:
    return {"value": value, "unit": measure.shown, "system": UCUM, "code": measure.unit}


def _activity(key: str, description: str, performer: JSON) -> JSON:
    return {"id": key, "detail": {"status": "in-progress", "description": description, "performer": [performer]}}


def _letters(number: int) -> str:
    """Two letters of the inward half of a postcode, of those that Royal Mail uses there."""
    letters = "ABDEFGHJLNPQRSTUWXYZ"
    return letters[number % 20] + letters[number // 20 % 20]


def _days(today: date, back: int) -> str:
    return (today - timedelta(days=back)).isoformat()
