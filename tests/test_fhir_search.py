"""Searches on a real PostgreSQL: every kind of parameter, what is refused, chains, includes, and who may see what."""

from collections.abc import AsyncIterator

import pytest
from search_world import BASE, everything, ids, included, load, only, page

from fhir import search
from fhir.outcome import Refusal
from fhir.registry import SPECS
from hub.db import Database, Tx


@pytest.fixture(scope="module")
async def loaded(database: Database) -> AsyncIterator[Database]:
    await load(database)
    yield database


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


class TestMatches:
    async def test_give_what_is_stored(self, loaded: Database) -> None:
        async with loaded.transaction() as tx:
            found = await search.matches(tx.pg, "Observation", [("code", "8867-4")], everything, 2)
            none = await search.matches(tx.pg, "Observation", [("code", "8867-4")], only("nobody", "Patient"), 2)
        assert [stored.id for stored in found] == ["o1", "o2"]
        assert found[0].resource is not None and found[0].resource["id"] == "o1"
        assert [stored.id for stored in none] == ["o5", "o6"]


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
