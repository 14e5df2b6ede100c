"""People, their records, and short ways to search among them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fhir import search, store
from fhir.store import Change, Sql
from hub.db import Database

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
BASE = "https://hub.example/fhir"
SECRET = b"a secret of the test"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


def only(patient: str, *invisible: str) -> store.Visible:
    """Sees the record of *patient* and whatever belongs to nobody, but none of the types *invisible*."""

    def visible(type_: str, alias: str) -> Sql | None:
        if type_ in invisible:
            return None
        # Without brackets: whoever uses a condition must keep its OR inside.
        return Sql(f"{alias}.patient_id IS NULL OR {alias}.patient_id = %s", (patient,))

    return visible


def patient(id_: str, family: str, given: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, "name": [{"family": family, "given": [given]}], **more}


def coded(system: str | None, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} if system else {"code": code}]}


def observation(id_: str, subject: str, number: str, at: str | None, **more: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": coded(LOINC, number),
        "subject": {"reference": subject},
        **more,
    }
    return resource | ({"effectiveDateTime": at} if at else {})


RESOURCES: list[dict[str, Any]] = [
    patient(
        "ann",
        "O'Neill",
        "Zoë",
        gender="female",
        birthDate="1950-03-07",
        active=True,
        identifier=[
            {
                "system": "https://fhir.nhs.uk/Id/nhs-number",
                "value": "9990000018",
                "type": {**coded("urn:t", "NH"), "text": "National number"},
            },
            {"value": "local-1"},
        ],
        telecom=[{"system": "phone", "value": "01935 000001"}, {"system": "email", "value": "zoe@example.org"}],
        managingOrganization={"reference": "Organization/hub"},
        generalPractitioner=[{"reference": "Organization/gp"}, {"reference": "Practitioner/doc"}],
        address=[{"line": ["1 High Street"], "city": "Yeovil", "postalCode": "BA20 1AA"}],
        meta={"tag": [{"system": "urn:t", "code": "demo"}], "security": [{"system": "urn:s", "code": "HTEST"}]},
    ),
    patient("bob", "Smith", "Robert", gender="male", birthDate="1950-03", deceasedDateTime="2026-01-02T10:00:00Z"),
    patient(
        "cat",
        "Smithson",
        "Cathy, Ann",
        gender="female",
        birthDate="1950",
        active=False,
        deceasedBoolean=False,
        text={
            "status": "additional",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">She likes <b>gardening</b></div>',
        },
    ),
    {"resourceType": "Organization", "id": "hub", "name": "South Hub"},
    {"resourceType": "Organization", "id": "gp", "name": "The Practice", "partOf": {"reference": "Organization/hub"}},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Who"}]},
    observation(
        "o1",
        "Patient/ann",
        "8867-4",
        "2026-11-20T08:00:00Z",
        category=[coded(None, "vital-signs")],
        code={"coding": [{"system": LOINC, "code": "8867-4", "display": "Heart rate"}]},
    ),
    observation("o2", "Patient/ann", "8867-4", "2026-11-21", performer=[{"reference": "Practitioner/doc"}]),
    observation("o3", "Patient/bob", "8867-4", "2026-11-21T23:30:00-02:00", status="amended"),
    observation(
        "o4",
        "Patient/bob",
        "85354-9",
        "2026-10",
        component=[{"code": coded(LOINC, "8480-6"), "valueCodeableConcept": coded("urn:x", "high")}],
        hasMember=[{"reference": "Observation/o3"}],
    ),
    observation("o5", "Group/g", "8867-4", None, effectivePeriod={"start": "2026-11-01"}),
    observation("o6", "https://elsewhere.example/Patient/ann", "8867-4", None, device={"reference": "Device/d"}),
    {
        "resourceType": "Observation",
        "id": "o7",
        "status": "final",
        "code": {"text": "no code"},
        "subject": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}},
    },
    {
        "resourceType": "Observation",
        "id": "o8",
        "status": "preliminary",
        "code": {"text": "glucose"},
        "valueQuantity": {
            "value": Decimal("5.40"),
            "unit": "mmol per litre",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
    },
    {
        "resourceType": "Observation",
        "id": "o9",
        "status": "preliminary",
        "code": {"text": "panel"},
        "valueQuantity": {"value": 100, "comparator": ">"},
        "component": [
            {"code": {"text": "sys"}, "valueQuantity": {"value": 150, "unit": "mm[Hg]"}},
            {"code": {"text": "dia"}, "valueQuantity": {"value": 80, "unit": "mm[Hg]"}},
        ],
    },
    {
        "resourceType": "RiskAssessment",
        "id": "r1",
        "status": "final",
        "subject": {"reference": "Patient/ann"},
        "prediction": [{"probabilityDecimal": Decimal("0.8")}, {"probabilityDecimal": Decimal("0.1")}],
    },
    {
        "resourceType": "RiskAssessment",
        "id": "r2",
        "status": "final",
        "subject": {"reference": "Patient/ann"},
        "prediction": [{"probabilityRange": {"low": {"value": Decimal("0.3")}, "high": {"value": Decimal("0.6")}}}],
    },
    {
        "resourceType": "Condition",
        "id": "c2",
        "subject": {"reference": "Patient/bob"},
        "onsetAge": {"value": 52, "system": "http://unitsofmeasure.org", "code": "a"},
    },
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "subject": {"reference": "Patient/ann"},
        "period": {"start": "2026-01-01", "end": "2026-01-10"},
        "class": {"system": "urn:c", "code": "IMP"},
        "location": [{"location": {"reference": "Location/ward"}}],
    },
    {
        "resourceType": "Condition",
        "id": "c1",
        "subject": {"reference": "Patient/ann"},
        "code": coded("http://snomed.info/sct", "13645005"),
        "encounter": {"reference": "Encounter/e1"},
    },
    {
        "resourceType": "Observation",
        "id": "o10",
        "status": "final",
        "code": coded(LOINC, "8480-6"),
        "valueQuantity": {"value": Decimal("18.6"), "system": UCUM, "code": "kPa"},
    },
    {
        "resourceType": "Observation",
        "id": "o11",
        "status": "final",
        "code": coded(LOINC, "8310-5"),
        "valueQuantity": {"value": Decimal("37.0"), "system": UCUM, "code": "Cel"},
    },
    {
        "resourceType": "Observation",
        "id": "o12",
        "status": "final",
        "code": {"text": "pulse"},
        "valueQuantity": {"value": 60, "unit": "beats a minute", "system": UCUM, "code": "{beats}/min"},
    },
    {
        "resourceType": "Observation",
        "id": "o13",
        "status": "final",
        "code": {"text": "blood pressure"},
        "component": [
            {"code": coded(LOINC, "8480-6"), "valueQuantity": {"value": 150, "system": UCUM, "code": "mm[Hg]"}},
            {"code": coded(LOINC, "8462-4"), "valueQuantity": {"value": 80, "system": UCUM, "code": "mm[Hg]"}},
        ],
    },
    {
        "resourceType": "DocumentReference",
        "id": "d2",
        "status": "current",
        "content": [{"attachment": {"url": "urn:x"}}],
        "relatesTo": [
            {"code": "replaces", "target": {"reference": "DocumentReference/d1"}},
            {"code": "appends", "target": {"reference": "DocumentReference/d3"}},
        ],
    },
    {
        "resourceType": "Group",
        "id": "g1",
        "type": "person",
        "actual": False,
        "characteristic": [
            {"code": coded("urn:c", "smoker"), "valueBoolean": True, "exclude": False},
            {"code": coded("urn:c", "frail"), "valueBoolean": False, "exclude": False},
        ],
    },
    {
        "resourceType": "ValueSet",
        "id": "v2",
        "status": "active",
        "useContext": [
            {
                "code": {"system": "http://terminology.hl7.org/CodeSystem/usage-context-type", "code": "focus"},
                "valueCodeableConcept": coded("urn:f", "copd"),
            },
            {
                "code": {"system": "http://terminology.hl7.org/CodeSystem/usage-context-type", "code": "age"},
                "valueRange": {
                    "low": {"value": 40, "system": UCUM, "code": "a"},
                    "high": {"value": 60, "system": UCUM, "code": "a"},
                },
            },
        ],
    },
    {
        "resourceType": "ValueSet",
        "id": "v3",
        "status": "active",
        "url": "urn:vs:pressure",
        "version": "2",
        "compose": {"include": [{"system": LOINC, "concept": [{"code": "8480-6"}, {"code": "85354-9"}]}]},
    },
    {
        "resourceType": "ValueSet",
        "id": "v4",
        "status": "active",
        "url": "urn:vs:both",
        "compose": {
            "include": [
                {"valueSet": ["urn:vs:pressure"]},
                {"system": LOINC, "concept": [{"code": "8867-4"}, {"code": "8310-5"}]},
            ],
            "exclude": [{"system": LOINC, "concept": [{"code": "8310-5"}]}],
        },
    },
    {
        "resourceType": "ValueSet",
        "id": "v5",
        "status": "active",
        "url": "urn:vs:hearts",
        "compose": {
            "include": [{"system": "urn:cs", "filter": [{"property": "concept", "op": "is-a", "value": "heart"}]}]
        },
    },
    {
        "resourceType": "CodeSystem",
        "id": "cs",
        "status": "active",
        "content": "complete",
        "url": "urn:cs",
        "concept": [
            {"code": "heart", "concept": [{"code": "failure"}]},
            {"code": "lung"},
        ],
    },
    {
        "resourceType": "Condition",
        "id": "c3",
        "subject": {"reference": "Patient/bob"},
        "code": coded("urn:cs", "heart"),
    },
    {
        "resourceType": "Condition",
        "id": "c4",
        "subject": {"reference": "Patient/bob"},
        "code": coded("urn:cs", "failure"),
    },
    {
        "resourceType": "Location",
        "id": "site",
        "position": {"latitude": Decimal("50.9421"), "longitude": Decimal("-2.6333")},
    },
    {"resourceType": "Location", "id": "ward", "partOf": {"reference": "Location/site"}},
    {"resourceType": "Location", "id": "bed", "partOf": {"reference": "Location/ward"}},
    {
        "resourceType": "List",
        "id": "l1",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": name}} for name in ("Patient/bob", "Patient/cat", "Observation/o1")],
    },
    {"resourceType": "ValueSet", "id": "v1", "url": "http://example.org/vs|a,b", "status": "active", "name": "Thing"},
    {
        "resourceType": "CarePlan",
        "id": "p1",
        "status": "active",
        "intent": "plan",
        "subject": {"reference": "Patient/ann"},
        "instantiatesCanonical": ["http://example.org/pd|2"],
    },
]


async def load(database: Database) -> None:
    """Put RESOURCES into *database*."""
    changes = [Change("update", resource["resourceType"], resource["id"], resource) for resource in RESOURCES]
    async with database.transaction() as tx:
        await store.write(tx.pg, changes, "Practitioner/doc", NOW)


async def page(
    database: Database, path: str, visible: store.Visible = everything, patient: str | None = None, most: int = 100
) -> search.Page:
    """`page(db, "Observation?code=x")`, with `+` for nothing: values stand as they are."""
    type_, _, text = path.partition("?")
    query = [tuple(item.split("=", 1)) for item in text.split("&")] if text else []
    within = ("Patient", patient) if patient else None
    async with database.transaction() as tx:
        return await search.search(tx.pg, type_, query, visible, BASE, SECRET, most, within)  # type: ignore[arg-type]


async def ids(database: Database, path: str, visible: store.Visible = everything, patient: str | None = None) -> str:
    """The ids of the matches: in the order found when one was asked for, in their own otherwise."""
    found = await page(database, path, visible, patient)
    matches = [entry.id for entry in found.entries if entry.mode == "match"]
    return " ".join(matches if "_sort" in path else sorted(matches))


async def included(database: Database, path: str, visible: store.Visible = everything) -> list[str]:
    found = await page(database, path, visible)
    return sorted(f"{entry.type}/{entry.id}" for entry in found.entries if entry.mode == "include")


async def over_all(
    database: Database,
    text: str,
    visible: store.Visible = everything,
    compartment: tuple[str, str] | None = None,
    lenient: bool = False,
) -> search.Page:
    query = [(name, value) for name, _, value in (item.partition("=") for item in text.split("&") if item)]
    async with database.transaction() as tx:
        return await search.across(tx.pg, query, visible, BASE, SECRET, 100, compartment, lenient)


def names(page: search.Page) -> list[str]:
    return [f"{entry.type}/{entry.id}" for entry in page.entries]
