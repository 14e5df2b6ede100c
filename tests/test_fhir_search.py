"""Searches on a real PostgreSQL: every kind of parameter, chains, includes, pages, and who may see what."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from fhir import search, store
from fhir.outcome import Refusal
from fhir.registry import SPECS
from fhir.store import Change, Sql
from hub.db import Database, Tx

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


@pytest.fixture(scope="module")
async def loaded(database: Database) -> AsyncIterator[Database]:
    """The module's database with RESOURCES in it."""
    changes = [Change("update", resource["resourceType"], resource["id"], resource) for resource in RESOURCES]
    async with database.transaction() as tx:
        await store.write(tx.pg, changes, "Practitioner/doc", NOW)
    yield database


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


CASES = {
    # tokens
    "Observation?code=http://loinc.org|8867-4": "o1 o2 o3 o5 o6",
    "Observation?code=8867-4": "o1 o2 o3 o5 o6",
    "Observation?code=http://snomed.info/sct|8867-4": "",
    "Observation?code=85354-9,nothing": "o4",
    "Observation?code=http://loinc.org|": "o1 o10 o11 o2 o3 o4 o5 o6",
    "Observation?category=|vital-signs": "o1",
    "Observation?code=|8867-4": "",
    "Observation?code=8867-4&status=amended": "o3",
    "Observation?status:not=final": "o3 o8 o9",
    "Observation?status=http://hl7.org/fhir/observation-status|amended": "o3",
    "Observation?status=|amended": "o3",
    "Observation?status=urn:other|amended": "",
    "Observation?category:missing=false": "o1",
    "Observation?code:missing=true": "o12 o13 o7 o8 o9",
    "Observation?combo-code=8480-6": "o10 o13 o4",
    "Observation?combo-code=8480-6,8867-4": "o1 o10 o13 o2 o3 o4 o5 o6",
    "Observation?component-code=8480-6": "o13 o4",
    "Observation?combo-value-concept=urn:x|high": "o4",
    "Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018": "ann",
    "Patient?identifier=9990000018": "ann",
    "Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|": "ann",
    "Patient?identifier=|local-1": "ann",
    "Patient?gender=female": "ann cat",
    "Patient?active=true": "ann",
    "Patient?deceased=true": "bob",
    "Patient?deceased=false": "ann cat",
    "Patient?phone=01935 000001": "ann",
    "Patient?telecom=email|zoe@example.org": "ann",
    "Patient?_tag=urn:t|demo": "ann",
    "Patient?_security=HTEST": "ann",
    "Patient?_security:not=HTEST": "bob cat",
    "Encounter?class=urn:c|IMP": "e1",
    # references
    "Observation?subject=Patient/ann": "o1 o2",
    "Observation?subject=ann": "o1 o2",
    "Observation?subject=g": "o5",
    "Observation?subject:Patient=ann": "o1 o2",
    "Observation?patient=ann": "o1 o2",
    "Observation?patient=Patient/ann,Patient/bob": "o1 o2 o3 o4",
    "Observation?patient=Group/g": "",
    "Observation?patient=https://hub.example/fhir/Patient/ann": "o1 o2",
    "Observation?subject=https://elsewhere.example/Patient/ann": "o6",
    "Observation?subject:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018": "o7",
    "Observation?subject:identifier=9990000018": "o7",
    "Observation?subject:missing=true": "o10 o11 o12 o13 o8 o9",
    "Observation?patient:missing=true": "o10 o11 o12 o13 o5 o6 o7 o8 o9",
    "Observation?device=d": "o6",
    "CarePlan?instantiates-canonical=http://example.org/pd": "p1",
    "CarePlan?instantiates-canonical=http://example.org/pd|2": "p1",
    "CarePlan?instantiates-canonical=http://example.org/pd|3": "",
    # strings
    "Patient?family=smith": "bob cat",
    "Patient?family=SMITH": "bob cat",
    "Patient?family:exact=Smith": "bob",
    "Patient?family:exact=smith": "",
    "Patient?family:contains=MITHS": "cat",
    "Patient?given=zoe": "ann",
    "Patient?given=Zoë": "ann",
    "Patient?given=ann": "cat",
    "Patient?name=neill": "ann",
    "Patient?name=o'n": "ann",
    "Patient?name=o'neill,robert": "ann bob",
    r"Patient?given=cathy\, ann": "cat",
    "Patient?address-postalcode=BA20": "ann",
    "Patient?address=high": "ann",
    "Patient?phonetic=smith": "bob cat",
    "Patient?address:missing=true": "bob cat",
    "Organization?name=south": "hub",
    "Observation?value-string:missing=true": "o1 o10 o11 o12 o13 o2 o3 o4 o5 o6 o7 o8 o9",
    # dates
    "Patient?birthdate=1950": "ann bob cat",
    "Patient?birthdate=1950-03": "ann bob",
    "Patient?birthdate=1950-03-07": "ann",
    "Patient?birthdate=ne1950-03-07": "bob cat",
    "Patient?birthdate=lt1950-03": "cat",
    "Patient?birthdate=sa1950-02": "ann bob",
    "Patient?birthdate=eb1950-03-08": "ann",
    "Patient?death-date:missing=false": "bob",
    "Patient?birthdate=ap1953": "ann bob cat",
    "Observation?date=2026-11-21": "o2",
    "Observation?date=2026-11-22": "o3",
    "Observation?date=ge2026-11-21": "o2 o3 o5",
    "Observation?date=gt2026-11-21": "o3 o5",
    "Observation?date=le2026-11-20": "o1 o4 o5",
    "Observation?date=lt2026-11-20": "o4 o5",
    "Observation?date=2026-11-20,2026-11-21": "o1 o2",
    "Observation?date=ge2026-11-20&date=lt2026-11-21": "o1 o5",
    "Observation?date=2026-11-20T08:00:00Z": "o1",
    "Observation?date=2026-11-20T09:00+01:00": "o1",
    "Encounter?date=2026-01-05": "",
    "Encounter?date=ge2026-01-05": "e1",
    "Encounter?date=2026-01": "e1",
    # numbers and quantities
    "Observation?value-quantity=5.4": "o8",
    "Observation?value-quantity=5.40": "o8",
    "Observation?value-quantity=5": "o8",
    "Observation?value-quantity=5.0": "",
    "Observation?value-quantity=gt5": "o10 o11 o12 o8 o9",
    "Observation?value-quantity=gt5||mmol/L": "o8",
    "Observation?value-quantity=gt5|http://unitsofmeasure.org|mmol/L": "o8",
    "Observation?value-quantity=gt5|http://unitsofmeasure.org|mg/dL": "",
    "Observation?value-quantity=gt200": "o9",
    "Observation?value-quantity=lt5.4": "",
    "Observation?value-quantity=le5.4": "o8",
    "Observation?value-quantity=ap5.5": "o8",
    "Observation?value-quantity=ne5.4": "o10 o11 o12 o9",
    "Observation?value-quantity=5.4,7": "o8",
    "Observation?value-quantity:missing=false": "o10 o11 o12 o8 o9",
    "Observation?component-value-quantity=ge140||mm[Hg]": "o13 o9",
    "Observation?component-value-quantity=80": "o13 o9",
    "Observation?combo-value-quantity=lt90": "o10 o11 o12 o13 o8 o9",
    "Observation?combo-value-quantity=lt90&patient=ann": "",
    # units of one kind meet, others do not
    "Observation?value-quantity=gt95||mg/dL": "",
    "Observation?value-quantity=5400|http://unitsofmeasure.org|umol/L": "o8",
    "Observation?value-quantity=5.4|http://unitsofmeasure.org|mol/m3": "o8",
    "Observation?value-quantity=140|http://unitsofmeasure.org|mm[Hg]": "o10",
    "Observation?value-quantity=139|http://unitsofmeasure.org|mm[Hg]": "",
    "Observation?value-quantity=18.6|http://unitsofmeasure.org|kPa": "o10",
    "Observation?value-quantity=18.6": "o10",
    "Observation?value-quantity=gt130||mm[Hg]": "o10",
    "Observation?value-quantity=ne140||mm[Hg]": "",
    "Observation?value-quantity=98.6||[degF]": "o11",
    "Observation?value-quantity=lt99||[degF]": "o11",
    "Observation?value-quantity=37.0|http://unitsofmeasure.org|Cel": "o11",
    "Observation?value-quantity=ap60||{beats}/min": "o12",
    "Observation?value-quantity=1.0||Hz": "o12",
    # composites: said of one place
    "Observation?code-value-quantity=http://loinc.org|8480-6$gt130||mm[Hg]": "o10",
    "Observation?code-value-quantity=8480-6$lt130||mm[Hg]": "",
    "Observation?code-value-quantity=8480-6$lt130||mm[Hg],8310-5$37.0": "o11",
    "Observation?combo-code-value-quantity=8480-6$ge130||mm[Hg]": "o10 o13",
    "Observation?component-code-value-quantity=http://loinc.org|8480-6$ge150": "o13",
    "Observation?component-code-value-quantity=http://loinc.org|8462-4$ge150": "",
    "Observation?component-code-value-quantity=8462-4$80||mm[Hg]": "o13",
    "Observation?component-code-value-quantity=|8462-4$80": "",
    "Observation?component-code-value-concept=8480-6$urn:x|high": "o4",
    "Observation?component-code-value-concept=8462-4$urn:x|high": "",
    "Observation?combo-code-value-concept=8480-6$high": "o4",
    "Observation?code-value-concept=8480-6$high": "",
    "DocumentReference?relationship=DocumentReference/d1$replaces": "d2",
    "DocumentReference?relationship=d1$http://hl7.org/fhir/document-relationship-type|replaces": "d2",
    "DocumentReference?relationship=d1$appends": "",
    "DocumentReference?relationship=d3$replaces": "",
    "Group?characteristic-value=urn:c|smoker$true": "g1",
    "Group?characteristic-value=smoker$false": "",
    "ValueSet?context-type-value=http://terminology.hl7.org/CodeSystem/usage-context-type|focus$urn:f|copd": "v2",
    "ValueSet?context-type-value=focus$asthma": "",
    "ValueSet?context-type-quantity=age$ge50||a": "v2",
    "ValueSet?context-type-quantity=focus$ge50||a": "",
    # tokens: text, value sets, hierarchies, types of identifiers
    "Observation?code:text=glu": "o8",
    "Observation?code:text=ucose": "",
    "Observation?code:text=RATE": "o1",
    "Patient?identifier:text=national": "ann",
    "Patient?identifier:of-type=urn:t|NH|9990000018": "ann",
    "Patient?identifier:of-type=urn:t|MR|9990000018": "",
    "Observation?code:in=urn:vs:pressure": "o10 o4",
    "Observation?code:in=ValueSet/v3": "o10 o4",
    "Observation?code:in=urn:vs:pressure|2": "o10 o4",
    "Observation?code:in=urn:vs:both": "o1 o10 o2 o3 o4 o5 o6",
    "Observation?code:not-in=urn:vs:both": "o11 o12 o13 o7 o8 o9",
    "Observation?status:not-in=http://hl7.org/fhir/ValueSet/observation-status": "",
    "Observation?status:in=http://hl7.org/fhir/ValueSet/observation-status&status:not=final": "o3 o8 o9",
    "Condition?code:below=urn:cs|heart": "c3 c4",
    "Condition?code:below=urn:cs|failure": "c4",
    "Condition?code:above=urn:cs|failure": "c3 c4",
    "Condition?code:in=urn:vs:hearts": "c3 c4",
    "Patient?_has:Condition:patient:code:below=urn:cs|heart": "bob",
    # references and uris with a hierarchy
    "Encounter?location:below=Location/site": "e1",
    "Encounter?location:below=site": "e1",
    "Encounter?location:above=Location/bed": "e1",
    "Encounter?location:below=Location/bed": "",
    "Encounter?location=Location/site": "",
    "ValueSet?url:below=http://example.org": "v1",
    "ValueSet?url:below=http://example.or": "",
    r"ValueSet?url:above=http://example.org/vs|a\,b/c": "v1",
    # what is searched for by rules of its own
    "Location?near=50.94|-2.63|5|km": "site",
    "Location?near=50.94|-2.63|5000|m": "site",
    "Location?near=50.0|-2.63": "",
    "Location?near=50.0|-2.63|200": "site",
    "Patient?_list=l1": "bob cat",
    "Patient?_list=l1&family=smithson": "cat",
    "Observation?_list=l1": "o1",
    "Patient?_list=none": "",
    "Patient?_text=likes gardening": "cat",
    "Patient?_text=div": "",
    "Patient?_content=yeovil": "ann",
    "Patient?_content=yeovil or gardening": "ann cat",
    "Patient?_content=smith -robert": "",
    # filters
    'Patient?_filter=family eq "smith"': "bob",
    'Patient?_filter=family sw "smith"': "bob cat",
    'Patient?_filter=family ew "SON"': "cat",
    'Patient?_filter=given co "ob"': "bob",
    'Patient?_filter=family ne "smith"': "ann cat",
    "Patient?_filter=gender eq female and birthdate lt 1950-03": "cat",
    "Patient?_filter=gender eq male or birthdate lt 1950-03": "bob cat",
    "Patient?_filter=not (gender eq male) and (active eq true or active eq false)": "ann cat",
    "Patient?_filter=identifier eq https://fhir.nhs.uk/Id/nhs-number|9990000018": "ann",
    "Patient?_filter=active pr true": "ann cat",
    "Patient?_filter=active pr false": "bob",
    "Patient?_filter=organization.name sw south": "ann",
    "Patient?_filter=general-practitioner:Practitioner.name eq who": "ann",
    "Patient?_filter=organization re Organization/hub": "ann",
    "Observation?_filter=value-quantity gt 130||mm[Hg]": "o10",
    "Observation?_filter=date po 2026-11-20": "o1 o5",
    "Observation?_filter=code in urn:vs:pressure and date pr true": "o4",
    "Condition?_filter=code sb urn:cs|heart": "c3 c4",
    "Patient?_filter=_id eq bob": "bob",
    "RiskAssessment?probability=gt0.5": "r1 r2",
    "RiskAssessment?probability=0.8": "r1",
    "Condition?onset-age=lt60": "c2",
    "Patient?_has:Observation:patient:value-quantity=gt5": "",
    # uris and meta
    r"ValueSet?url=http://example.org/vs|a\,b": "v1",
    "ValueSet?url=http://example.org/vs": "",
    "Patient?_id=ann,cat": "ann cat",
    "Patient?_id:not=ann": "bob cat",
    "Patient?_lastUpdated=2026-11-21": "ann bob cat",
    "Patient?_lastUpdated=ge2026-11-21T09:00:00Z": "ann bob cat",
    "Patient?_lastUpdated=gt2026-11-21T09:00:00Z": "",
    "Patient?_lastUpdated=lt2026-11-21T09:00:00Z": "",
    # chains
    "Observation?subject:Patient.name=neill": "o1 o2",
    "Observation?subject.name=smith": "o3 o4",
    "Observation?patient.identifier=9990000018": "o1 o2",
    "Observation?patient.organization.name=south": "o1 o2",
    "Patient?general-practitioner:Organization.partof.name=south": "ann",
    "Patient?general-practitioner.name=who": "ann",
    "Condition?encounter.class=IMP": "c1",
    "Condition?encounter:Encounter.patient.gender=male": "",
    "Observation?has-member.status=amended": "o4",
    "Patient?_has:Observation:patient:code=85354-9": "bob",
    "Patient?_has:Observation:subject:status=final": "ann bob",
    "Patient?_has:Condition:patient:encounter.class=IMP": "ann",
    "Organization?_has:Patient:general-practitioner:family=o'n": "gp",
    "Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=8867-4": "doc",
    "Encounter?_has:Condition:encounter:code=13645005": "e1",
    # order
    "Patient?_sort=birthdate": "cat bob ann",
    "Patient?_sort=-birthdate": "ann bob cat",
    "Patient?_sort=death-date": "ann cat bob",
    "Patient?_sort=-death-date,-_id": "bob cat ann",
    "Patient?_sort=-_id": "cat bob ann",
    "Patient?_sort=_lastUpdated": "ann bob cat",
    "Patient?_sort=-_lastUpdated": "cat bob ann",
    "Patient?_sort=family": "ann bob cat",
    "Patient?_sort=-family": "cat bob ann",
    "Patient?_sort=gender,-family": "cat ann bob",
    "Patient?_sort=active": "bob cat ann",
    "Patient?_sort=-organization,family": "ann bob cat",
    "Observation?_sort=value-quantity&value-quantity:missing=false": "o8 o11 o12 o9 o10",
    "Observation?_sort=-combo-value-quantity&combo-value-quantity=gt50||mm[Hg]": "o9 o13 o10",
    "Observation?_sort=patient.family,-_id&patient:missing=false": "o2 o1 o4 o3",
    "Observation?_sort=-subject:Patient.birthdate,-_id&patient:missing=false": "o2 o1 o4 o3",
    "Observation?_sort=code,-date&date=ge2026-11-20": "o3 o2 o1 o5",
    "Condition?_sort=-encounter.date,_id": "c1 c2 c3 c4",
    "ValueSet?_sort=-url&url:missing=false": "v3 v5 v4 v1",
    "Observation?_sort=-date": "o3 o2 o1 o5 o4 o9 o8 o7 o6 o13 o12 o11 o10",
}


@pytest.mark.parametrize("path", CASES)
async def test_finds(loaded: Database, path: str) -> None:
    assert await ids(loaded, path) == CASES[path]


REFUSED = {
    "Observation?nmae=x": "no search parameter of Observation; there are .*code.*subject",
    "Observation?value-quantity=five": "no number",
    "Observation?value-quantity=5|mmol/L": "write 5.4",
    "Observation?value-quantity=gt": "no number",
    "Observation?value-quantity:exact=5": "no modifier",
    "RiskAssessment?probability=0.5||x": "no unit",
    "Observation?code-value-quantity=5": r"must be written \(code\)\$\(value-quantity\)",
    "Observation?code-value-quantity=a$b": "no number",
    "Observation?code-value-quantity:missing=true": "it takes none",
    "Observation?code:exact=x": "'exact' is no modifier of 'code', a token; there are :above, :below, :in, :missing",
    "Observation?code:in=http://x": "no ValueSet 'http://x' is stored here",
    "Observation?code:below=http://x|a": "no CodeSystem .http://x. is stored here",
    "Observation?code:of-type=a|b|c": "'of-type' is no modifier of 'code'",
    "Patient?identifier:of-type=a|b": "must be written system of the type",
    "Patient?family:equals=x": "'equals' is no modifier of 'family'",
    "Patient?_list=$current-allergies": "not kept here",
    "Patient?_text=!": "no word to look for",
    "Location?near=1|2|3|4|5": "must be written latitude",
    "Location?near=91|2": "must be written latitude",
    "Location?near=50|2|5|kg": "must be written latitude",
    "Procedure?subject:below=Patient/ann": "is in no hierarchy",
    "Patient?_filter=family": "nothing where one of",
    "Patient?_filter=family xx y": "'xx' where one of",
    "Patient?_filter=family gt y": "'gt' does not compare 'family', a string; there are co, eq, ew, ne, sw",
    "Patient?_filter=nmae eq y": "'nmae' is no search parameter of Patient",
    "Patient?_filter=(family eq y": "nothing where and, or, or a closing bracket",
    "Patient?_filter=family eq y)": r"'\)' where and, or, or the end",
    "Patient?_filter=name[use eq x].family eq y": "not supported",
    "Patient?_filter=((((((((((((family eq y))))))))))))": "brackets go deeper",
    "Observation?code=": "has no value",
    "Observation?code=a,,b": "empty value",
    "Observation?code=|": "nothing to look for",
    "Patient?family= ": "nothing to look for",
    "Patient?family:contains= ": "nothing to look for",
    "Observation?date=yesterday": "no date",
    "Observation?date=2026-13": "no date",
    "Observation?date=xx2026": "no date",
    "Observation?patient=a b": "neither an id nor a reference",
    "Observation?subject:Encounter=1": "never to Encounter",
    "Observation?subject:Foo=1": "no modifier of 'subject'",
    "Observation?subject:Patient.nmae=x": "'nmae' is no search parameter of Patient",
    "Observation?code.name=x": "only references can be chained",
    "Patient?_has:Observation:code:x=1": "does not refer to Patient",
    "Patient?_has:Observation=1": "must be written _has",
    "Patient?_sort=nmae": "cannot be sorted by 'nmae'; there are _id, _lastUpdated, .*family",
    "Patient?_sort=_text": "cannot be sorted by '_text'",
    "Patient?_sort=general-practitioner.name": "sort by one link to one type",
    "Patient?_sort=family,given,gender,birthdate,active,phone": "more than 5 keys",
    "Patient?_elements=nmae": "'nmae' is no element of Patient; there are",
    "Patient?_elements=name&_summary=true": "say two things",
    "Patient?_contained=true": "_contained is false here",
    "Patient?_type=Patient": "'_type' is no search parameter of Patient",
    "Patient?_count=many": "whole number",
    "Patient?_count=-1": "whole number",
    "Patient?_total=maybe": "_total is one of",
    "Patient?_include=Patient:name": "not a reference",
    "Patient?_include=Nothing:name": "must be written",
    "Patient?_include:sometimes=Patient:organization": "no modifier of _include",
    "Patient?_count:exact=1": "takes no modifier",
    "Patient?_id=a/b": "no id",
    "Patient?family:missing=perhaps": "true or false",
    "Patient?family=a\x00": "NUL",
    "Organization?partof.partof.partof.partof.partof.name=x": "more than 4 references",
    "Observation?focus.code=1": "'focus' may refer to anything: name the type",
}


@pytest.mark.parametrize("path", REFUSED)
async def test_refuses_rather_than_ignores(loaded: Database, path: str) -> None:
    with pytest.raises(Refusal, match=REFUSED[path]) as refusal:
        await page(loaded, path)
    assert refusal.value.status == 400
    assert refusal.value.issues[0].expression


class TestVisibility:
    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("Patient", "bob"),
            ("Observation?code=8867-4", "o3 o5 o6"),
            ("Observation?subject:Patient.name=neill", ""),
            ("Patient?_has:Observation:patient:code=8867-4", "bob"),
            ("Organization?_has:Patient:organization:gender=female", ""),
            ("Organization?_has:Patient:organization:_id:missing=false", ""),
        ],
    )
    async def test_limits_rows_chains_and_reverse_chains(self, loaded: Database, path: str, found: str) -> None:
        assert await ids(loaded, path, only("bob")) == found

    async def test_limits_includes(self, loaded: Database) -> None:
        asked = "Organization?_revinclude=Patient:organization&_revinclude:iterate=Observation:patient"
        assert await included(loaded, asked) == ["Observation/o1", "Observation/o2", "Patient/ann"]
        assert await included(loaded, asked, only("bob")) == []
        assert await included(loaded, asked, only("ann", "Observation")) == ["Patient/ann"]
        found = await included(loaded, "Observation?_id=o4&_include=Observation:has-member", only("bob"))
        assert found == ["Observation/o3"]

    async def test_limits_counts(self, loaded: Database) -> None:
        assert (await page(loaded, "Patient?_summary=count", only("bob"))).total == 1
        assert (await page(loaded, "Patient?_count=1&_total=accurate", only("bob"))).total == 1

    async def test_an_invisible_type_is_forbidden_and_matches_nothing_in_a_chain(self, loaded: Database) -> None:
        hidden = only("ann", "Patient")
        with pytest.raises(Refusal) as refusal:
            await page(loaded, "Patient", hidden)
        assert refusal.value.status == 403
        assert await ids(loaded, "Observation?subject:Patient.name=neill", hidden) == ""
        assert await ids(loaded, "Organization?_has:Patient:organization:gender=female", hidden) == ""
        assert await included(loaded, "Observation?_include=Observation:subject", hidden) == []

    async def test_a_broken_chain_is_refused_even_where_nothing_is_visible(self, loaded: Database) -> None:
        with pytest.raises(Refusal):
            await page(loaded, "Observation?subject:Patient.nmae=x", only("ann", "Patient"))

    async def test_unserved_types_are_unknown(self, loaded: Database) -> None:
        with pytest.raises(Refusal) as refusal:
            await page(loaded, "Robot")
        assert refusal.value.status == 404


class TestCompartment:
    async def test_holds_what_is_about_the_patient(self, loaded: Database) -> None:
        assert await ids(loaded, "Observation", patient="ann") == "o1 o2"
        assert await ids(loaded, "Observation?status=amended", patient="bob") == "o3"
        assert await ids(loaded, "Observation", only("bob"), patient="ann") == ""

    async def test_refuses_types_outside_it(self, loaded: Database) -> None:
        with pytest.raises(Refusal) as refusal:
            await page(loaded, "Organization", patient="ann")
        assert refusal.value.status == 404

    async def test_pages_stay_inside(self, loaded: Database) -> None:
        first = await page(loaded, "Observation?_count=1", patient="ann")
        link = dict(first.links)["next"]
        assert link.startswith(f"{BASE}/Patient/ann/Observation?_cursor=")
        second = await page(loaded, "Observation?" + link.split("?")[1], patient="ann")
        assert [entry.id for entry in second.entries] == ["o1"]
        with pytest.raises(Refusal, match="_cursor"):
            await page(loaded, "Observation?" + link.split("?")[1])


class TestIncludes:
    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("Observation?_id=o1&_include=Observation:subject", ["Patient/ann"]),
            ("Observation?_id=o1,o5&_include=Observation:patient", ["Patient/ann"]),
            ("Observation?_id=o2&_include=Observation:subject:Group", []),
            ("Observation?_id=o2&_include=*", ["Patient/ann", "Practitioner/doc"]),
            ("Observation?_id=o2&_include=Observation:*", ["Patient/ann", "Practitioner/doc"]),
            (
                "Observation?_id=o1&_include=Observation:subject&_include:iterate=Patient:organization",
                ["Organization/hub", "Patient/ann"],
            ),
            (
                "Observation?_id=o1&_include=Observation:subject&_include:iterate=Patient:general-practitioner"
                "&_include:iterate=Organization:partof",
                ["Organization/gp", "Organization/hub", "Patient/ann", "Practitioner/doc"],
            ),
            ("Patient?_id=bob&_revinclude=Observation:patient", ["Observation/o3", "Observation/o4"]),
            (
                "Patient?_id=ann&_revinclude=Condition:subject&_revinclude=Encounter:patient",
                ["Condition/c1", "Encounter/e1"],
            ),
            ("Observation?_id=o4,o3&_include=Observation:has-member", []),
        ],
    )
    async def test_follow_references(self, loaded: Database, path: str, found: list[str]) -> None:
        assert await included(loaded, path) == found

    async def test_stand_beside_the_matches_and_do_not_count(self, loaded: Database) -> None:
        bundle = (await page(loaded, "Observation?_id=o1&_include=Observation:subject")).as_json()
        assert bundle["total"] == 1
        assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "include"]
        assert bundle["entry"][1]["fullUrl"] == f"{BASE}/Patient/ann"


class TestPages:
    async def walk(self, database: Database, path: str, visible: store.Visible = everything) -> list[str]:
        found: list[str] = []
        while path:
            one = await page(database, path, visible)
            assert one.entries
            found += [entry.id for entry in one.entries]
            link = dict(one.links).get("next", "")
            assert not link or link.startswith(f"{BASE}/")
            path = link.removeprefix(f"{BASE}/")
        return found

    @pytest.mark.parametrize(
        "order",
        [
            "",
            "_id",
            "-_id",
            "date",
            "-date",
            "-_lastUpdated",
            "_lastUpdated,-date",
            "value-date,-date",
            "-value-date,_id",
        ],
    )
    async def test_show_everything_once_in_order(self, loaded: Database, order: str) -> None:
        whole = await ids(loaded, f"Observation?_sort={order or '-_id'}")
        for size in (1, 2, 3):
            sorted_ = f"&_sort={order}" if order else ""
            assert await self.walk(loaded, f"Observation?_count={size}{sorted_}") == whole.split()

    async def test_lose_and_repeat_nothing_while_others_write(self, fresh_database: Any) -> None:
        database = await fresh_database()
        kept = [f"k{n:03}" for n in range(60)]

        async def write(names: Sequence[str], method: Any = "update", value: str = "final") -> None:
            async with database.transaction() as tx:
                changes = [
                    Change(
                        method,
                        "Observation",
                        id_,
                        None if method == "delete" else observation(id_, "Patient/x", "1", None, status=value),
                    )
                    for id_ in names
                ]
                await store.write(tx.pg, changes, "Device/d", NOW)

        await write([*kept, *(f"k{n:03}-gone" for n in range(60))])
        path, seen = "Observation?_count=7&code=1", []
        for round_ in range(100):
            one = await page(database, path)
            seen += [entry.id for entry in one.entries]
            await write([f"k{round_:03}-gone"], "delete")
            await write([f"k{round_:03}-new", kept[round_ % 60]], value=f"amended-{round_}")
            link = dict(one.links).get("next")
            if link is None:
                break
            path = link.removeprefix(f"{BASE}/")
        assert len(seen) == len(set(seen))
        assert [id_ for id_ in seen if id_ in kept] == kept[::-1]

    @pytest.mark.parametrize(
        "order",
        [
            "_lastUpdated",
            "-_lastUpdated",
            "date",
            "-date",
            "code,-date",
            "-value-quantity",
            "-status,subject",
            "patient.family",
        ],
    )
    async def test_lose_and_repeat_nothing_whatever_others_change(self, fresh_database: Any, order: str) -> None:
        """Another connection changes what is sorted by, adds and deletes, in the midst of every page."""
        database = await fresh_database()
        kept = [f"k{n:03}" for n in range(40)]
        gone = [f"g{n:03}" for n in range(40)]
        stop = asyncio.Event()
        rounds = count()

        def made(id_: str, number: int) -> dict[str, Any]:
            at = f"2026-11-{1 + (number * 7) % 28:02}"
            status = ("final", "amended", "preliminary")[number % 3]
            value = {"valueQuantity": {"value": number * 13 % 101, "system": UCUM, "code": "kg"}}
            return observation(id_, f"Patient/p{number % 5}", str(number % 4), at, **value) | {"status": status}

        async def write(names: Sequence[str], number: int, method: Any = "update") -> None:
            async with database.transaction() as tx:
                changes = [
                    Change(method, "Observation", one, None if method == "delete" else made(one, number + place))
                    for place, one in enumerate(names)
                ]
                await store.write(tx.pg, changes, "Device/d", datetime.now(UTC))
                await asyncio.sleep(0.002)

        async def busy() -> None:
            while not stop.is_set():
                number = next(rounds)
                await write([kept[(number * 11 + step) % 40] for step in range(6)], number * 17)
                await write([f"n{number:04}"], number)
                if gone:
                    await write([gone.pop()], 0, "delete")

        async with database.transaction() as tx:
            people = [Change("update", "Patient", f"p{n}", patient(f"p{n}", f"F{n * 3 % 5}", "G")) for n in range(5)]
            await store.write(tx.pg, people, "Device/d", datetime.now(UTC))
        await write([*kept, *gone], 0)
        writer = asyncio.create_task(busy())
        try:
            for _ in range(2):
                seen: list[str] = []
                path = f"Observation?_count=3&_sort={order}&status=final,amended,preliminary"
                while path:
                    one = await page(database, path)
                    seen += [entry.id for entry in one.entries]
                    path = dict(one.links).get("next", "").removeprefix(f"{BASE}/")
                assert len(seen) == len(set(seen)), sorted(id_ for id_ in seen if seen.count(id_) > 1)
                assert set(kept) <= set(seen), sorted(set(kept) - set(seen))
        finally:
            stop.set()
            await writer
        assert next(rounds) > 2

    async def test_what_is_under_way_within_a_savepoint_is_not_there_yet(self, fresh_database: Any) -> None:
        """No snapshot of PostgreSQL knows the numbers of savepoints, in which batches write."""
        database = await fresh_database()

        def written(number: int, code: str) -> Change:
            return Change("update", "Observation", f"k{number}", observation(f"k{number}", "Patient/x", code, None))

        for number in range(6):
            async with database.transaction() as tx:
                await store.write(tx.pg, [written(number, "1")], "Device/d", datetime.now(UTC))
        async with database.transaction() as tx:
            await tx.pg.execute("SELECT pg_current_xact_id()")
            async with tx.pg.transaction():
                await store.write(tx.pg, [written(0, "2")], "Device/d", datetime.now(UTC))
            one = await page(database, "Observation?_sort=-_lastUpdated&_count=2")
        seen = [entry.id for entry in one.entries]
        while link := dict(one.links).get("next"):
            one = await page(database, link.removeprefix(f"{BASE}/"))
            seen += [entry.id for entry in one.entries]
        assert seen == ["k5", "k4", "k3", "k2", "k1", "k0"]

    @pytest.mark.parametrize(
        "asked", ["date=ge2026-11-20", "date=lt2027", "_lastUpdated=ge2026", "code=8867-4&date=ne2020"]
    )
    async def test_of_a_search_by_date_hold_the_same(self, loaded: Database, asked: str) -> None:
        whole = (await ids(loaded, f"Observation?{asked}")).split()
        assert len(whole) > 2
        assert sorted(await self.walk(loaded, f"Observation?{asked}&_count=1")) == whole

    async def test_cursors_carry_the_search_and_stand_alone(self, loaded: Database) -> None:
        first = await page(loaded, "Observation?code=8867-4&_count=2")
        link = dict(first.links)["next"]
        assert "8867-4" not in link
        cursor = link.split("?")[1]
        assert await ids(loaded, f"Observation?{cursor}") == "o2 o3"
        for wrong in (
            f"{cursor}&code=1",
            cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"),
            "_cursor=",
            "_cursor=é",
            f"{cursor}&{cursor}",
        ):
            with pytest.raises(Refusal) as refusal:
                await page(loaded, f"Observation?{wrong}")
            assert refusal.value.status == 400
        with pytest.raises(Refusal):
            await page(loaded, f"Patient?{cursor}")

    async def test_sizes_and_totals(self, loaded: Database) -> None:
        assert (await page(loaded, "Observation")).total == 13
        assert (await page(loaded, "Observation?_count=2")).total is None
        assert (await page(loaded, "Observation?_count=2&_total=accurate")).total == 13
        assert (await page(loaded, "Observation?_count=2&_total=estimate")).total is not None
        empty = await page(loaded, "Observation?_count=0&code=8867-4")
        assert (empty.total, empty.entries) == (5, [])
        assert (await page(loaded, "Observation?_summary=count")).total == 13
        assert len((await page(loaded, "Observation?_count=1000", most=3)).entries) == 3


class TestReply:
    async def test_is_spliced_from_stored_bodies(self, loaded: Database) -> None:
        found = await page(loaded, "Patient?_id=ann")
        bundle = found.as_json()
        async with loaded.transaction() as tx:
            stored = await store.read(tx.pg, "Patient", "ann", everything)
        assert bundle["resourceType"] == "Bundle" and bundle["type"] == "searchset"
        assert bundle["entry"][0]["resource"] == stored.resource
        assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient?_id=ann"}]

    async def test_without_matches_has_no_entries(self, loaded: Database) -> None:
        bundle = (await page(loaded, "Patient?_id=nobody")).as_json()
        assert bundle["total"] == 0 and "entry" not in bundle

    async def test_elements_are_marked_as_a_subset(self, loaded: Database) -> None:
        bundle = (await page(loaded, "Patient?_id=ann&_elements=gender,birthDate")).as_json()
        resource = bundle["entry"][0]["resource"]
        assert set(resource) == {"resourceType", "id", "meta", "gender", "birthDate"}
        assert resource["meta"]["tag"][-1]["code"] == "SUBSETTED"


class TestMatches:
    async def test_give_what_is_stored(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            found = await search.matches(tx.pg, "Observation", [("code", "8867-4")], everything, 2)
            none = await search.matches(tx.pg, "Observation", [("code", "8867-4")], only("nobody", "Patient"), 2)
        assert [stored.id for stored in found] == ["o1", "o2"]
        assert found[0].resource is not None and found[0].resource["id"] == "o1"
        assert [stored.id for stored in none] == ["o5", "o6"]


class TestHistory:
    async def test_pages_newest_first(self, tx: Tx) -> None:
        for value in ("a", "b", "c"):
            change = Change("update", "Basic", "h", {"resourceType": "Basic", "code": {"text": value}})
            await store.write(tx.pg, [change], "Practitioner/doc", NOW)
        await store.write(tx.pg, [Change("delete", "Basic", "h", None)], "Practitioner/doc", NOW)
        first = await search.history(tx.pg, [("_count", "3")], everything, BASE, SECRET, 100, "Basic", "h")
        bundle = first.as_json()
        assert bundle["type"] == "history"
        assert [entry["request"]["method"] for entry in bundle["entry"]] == ["DELETE", "PUT", "PUT"]
        assert [entry["response"]["etag"] for entry in bundle["entry"]] == ['W/"4"', 'W/"3"', 'W/"2"']
        assert "resource" not in bundle["entry"][0]
        link = dict(first.links)["next"]
        assert link.startswith(f"{BASE}/Basic/h/_history?_cursor=")
        query = [("_cursor", link.split("_cursor=")[1])]
        second = await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic", "h")
        assert [entry["response"]["status"] for entry in second.as_json()["entry"]] == ["201"]
        with pytest.raises(Refusal):
            await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic")

    async def test_refuses_what_it_does_not_know(self, tx: Tx) -> None:
        for query in ([("_since", "soon")], [("code", "x")], [("_count", "x")]):
            with pytest.raises(Refusal) as refusal:
                await search.history(tx.pg, query, everything, BASE, SECRET, 100, "Basic")
            assert refusal.value.status == 400
        with pytest.raises(Refusal) as refusal:
            await search.history(tx.pg, [], everything, BASE, SECRET, 100, "Basic", "nothing")
        assert refusal.value.status == 404


async def test_every_parameter_of_every_type_makes_valid_sql(tx: Tx) -> None:
    values = {
        "token": "b",
        "reference": "x",
        "string": "a",
        "date": "2026",
        "uri": "urn:x",
        "number": "5",
        "quantity": "5.4||g",
    }
    for type_, spec in SPECS.items():
        query = [(code, values[param.type]) for code, param in spec.params.items() if param.type in values]
        query += [
            (code, "$".join(values[spec.params[part].type] for part, _ in param.components))
            for code, param in spec.params.items()
            if param.type == "composite"
        ]
        query += [("_list", "x"), ("_text", "x"), ("_content", "x"), ("_filter", "_lastUpdated ge 2026")]
        missing = [(f"{code}:missing", "true") for code, param in spec.params.items() if param.type in values]
        assert await search.matches(tx.pg, type_, [*query, *missing], everything, 1) == []


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


class TestSeveralTypes:
    async def test_hide_what_the_actor_may_not_see(self, loaded: Database) -> None:
        found = await over_all(loaded, "_id=ann,bob,o1,o3,c1,c3", only("bob", "Condition"))
        assert sorted(names(found)) == ["Observation/o3", "Patient/bob"]
        with pytest.raises(Refusal) as refusal:
            await over_all(loaded, "_type=Condition", only("bob", "Condition"))
        assert refusal.value.status == 403

    async def test_are_found_by_what_all_have(self, loaded: Database) -> None:
        assert sorted(names(await over_all(loaded, "_type=Condition,Encounter&patient=ann"))) == [
            "Condition/c1",
            "Encounter/e1",
        ]
        assert names(await over_all(loaded, "_tag=urn:t|demo")) == ["Patient/ann"]
        assert names(await over_all(loaded, "_content=gardening")) == ["Patient/cat"]
        for text in ("_type=Condition,Patient&code=x", "birthdate=1950", "_type=Nothing", "_sort=_lastUpdated"):
            with pytest.raises(Refusal) as refusal:
                await over_all(loaded, text)
            assert refusal.value.status == 400

    @pytest.mark.parametrize("order", ["", "&_sort=_id", "&_sort=-_id"])
    async def test_page_through_everything_once(self, loaded: Database, order: str) -> None:
        seen: list[str] = []
        text = f"_count=7{order}"
        while text:
            page = await over_all(loaded, text)
            assert len(page.entries) <= 7
            seen += names(page)
            text = dict(page.links).get("next", "").partition("?")[2]
            assert dict(page.links)["self"].startswith(f"{BASE}?_count=7")
        assert len(seen) == len(set(seen)) == len(RESOURCES)
        assert (await over_all(loaded, "_count=7&_total=accurate")).total == len(RESOURCES)
        assert (await over_all(loaded, "_summary=count")).total == len(RESOURCES)

    async def test_bring_their_includes(self, loaded: Database) -> None:
        found = await over_all(loaded, "_id=c1,o1&_include=Condition:encounter&_include=Observation:subject")
        assert sorted(names(found)) == ["Condition/c1", "Encounter/e1", "Observation/o1", "Patient/ann"]


class TestCompartments:
    async def test_hold_all_types(self, loaded: Database) -> None:
        found = names(await over_all(loaded, "", compartment=("Patient", "bob")))
        inside = ["Condition/c2", "Condition/c3", "Condition/c4", "Observation/o3", "Observation/o4", "Patient/bob"]
        assert sorted(found) == inside
        assert names(await over_all(loaded, "_type=Encounter", compartment=("Patient", "ann"))) == ["Encounter/e1"]
        assert names(await over_all(loaded, "", compartment=("Patient", "nobody"))) == []
        assert names(await over_all(loaded, "", only("ann"), ("Patient", "bob"))) == []
        with pytest.raises(Refusal, match="is not in the compartment of a Patient"):
            await over_all(loaded, "_type=ValueSet", compartment=("Patient", "ann"))

    async def test_of_others_than_patients(self, loaded: Database) -> None:
        found = names(await over_all(loaded, "", compartment=("Practitioner", "doc")))
        assert sorted(found) == ["Observation/o2", "Patient/ann", "Practitioner/doc"]
        assert names(await over_all(loaded, "", compartment=("Device", "d"))) == ["Observation/o6"]
        async with loaded.transaction() as tx:
            page = await search.search(tx.pg, "Observation", [], everything, BASE, SECRET, 100, ("Practitioner", "doc"))
        assert [entry.id for entry in page.entries] == ["o2"]
        assert dict(page.links)["self"] == f"{BASE}/Practitioner/doc/Observation"


class TestLeniency:
    QUERY = (("nmae", "x"), ("gender", "male"), ("family:eaxct", "y"), ("_sort", "nmae"), ("_include", "Patient:nmae"))

    async def test_is_asked_for(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            with pytest.raises(Refusal, match="'nmae' is no search parameter"):
                await search.search(tx.pg, "Patient", self.QUERY, everything, BASE, SECRET, 100)
            page = await search.search(tx.pg, "Patient", self.QUERY, everything, BASE, SECRET, 100, lenient=True)
        bundle = page.as_json()
        match, outcome = bundle["entry"]
        assert match["resource"]["id"] == "bob"
        assert bundle["total"] == 1
        assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient?gender=male"}]
        assert outcome["search"] == {"mode": "outcome"}
        issues = outcome["resource"]["issue"]
        assert {issue["severity"] for issue in issues} == {"warning"}
        assert sorted(issue["expression"][0] for issue in issues) == [
            "Patient?_sort",
            "Patient?family:eaxct",
            "Patient?nmae",
            "Patient?nmae",
        ]

    async def test_does_not_excuse_a_value_that_cannot_be(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            with pytest.raises(Refusal, match="no date"):
                await search.search(tx.pg, "Patient", [("birthdate", "x")], everything, BASE, SECRET, 100, lenient=True)


class TestSubsets:
    async def test_summary_is_what_the_definitions_mark(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=true")).as_json()["entry"]
        patient = entry["resource"]
        assert set(patient) == {
            "resourceType",
            "id",
            "meta",
            "name",
            "gender",
            "birthDate",
            "active",
            "deceasedBoolean",
        }
        assert patient["meta"]["tag"][-1]["code"] == "SUBSETTED"
        [entry] = (await page(loaded, "Observation?_id=o1&_summary=true")).as_json()["entry"]
        assert "category" not in entry["resource"] and "code" in entry["resource"]
        [entry] = (await page(loaded, "Group?_id=g1&_summary=true")).as_json()["entry"]
        assert "characteristic" not in entry["resource"]
        [entry] = (await page(loaded, "DocumentReference?_id=d2&_summary=true")).as_json()["entry"]
        assert entry["resource"]["relatesTo"][0]["code"] == "replaces"

    async def test_text_and_data(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=text")).as_json()["entry"]
        assert set(entry["resource"]) == {"resourceType", "id", "meta", "text"}
        [entry] = (await page(loaded, "Patient?_id=cat&_summary=data")).as_json()["entry"]
        assert "text" not in entry["resource"]

    async def test_elements_keep_what_fhir_demands(self, loaded: Database) -> None:
        [entry] = (await page(loaded, "Observation?_id=o8&_elements=value")).as_json()["entry"]
        assert set(entry["resource"]) == {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
        assert entry["resource"]["valueQuantity"]["value"] == Decimal("5.40")
