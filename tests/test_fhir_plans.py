"""With 50,000 rows, the searches that people make read by index: an unnoticed table scan is a hub that stalls."""

import re
from collections.abc import AsyncIterator

import psycopg
import pytest

from fhir import search, units
from fhir.plans import FAMILIES, explained, scanned
from fhir.store import Sql
from hub.db import Database

PEOPLE = 5_000
READINGS = 50_000
# From 60 to 199, and once in 5,000 readings 300.
VALUE = "CASE n % 5000 WHEN 0 THEN 300 ELSE 60 + n * 7 % 140 END"
FILLED = {
    "name": "family77",
    "code": "3",
    "part": "sys",
    "patient": "p7",
    "patients": ",".join(f"p{n}" for n in range(1, 1001)),
    "day": "2026-02-04",
    "high": "140",
    "extreme": "250",
    "unit": "mm[Hg]",
    "identifier": "778",
    "reading": "778",
}

PRESSURE = units.key(units.UNITS["mm[Hg]"])

FILL = f"""
INSERT INTO r_patient (id, version, updated, patient_id, keys, strings, d_birthdate)
SELECT 'p' || n, 1, now(), 'p' || n,
       ARRAY['gender=' || CASE n % 2 WHEN 0 THEN 'male' ELSE 'female' END, 'identifier=' || n],
       array_to_tsvector(ARRAY['family=family' || n, 'name=family' || n, 'name=given' || n % 50]),
       tstzrange('1930-01-01'::timestamptz + n * interval '5 days', '1930-01-02'::timestamptz + n * interval '5 days')
FROM generate_series(1, {PEOPLE}) AS n;
INSERT INTO r_observation (id, version, updated, patient_id, keys, d_date, low, high)
SELECT 'o' || n, 1, '2026-01-01'::timestamptz + n * interval '1 minute', 'p' || n % {PEOPLE},
       ARRAY['status=final', 'code=' || n % 5, 'identifier=' || n, 'subject=Patient/p' || n % {PEOPLE},
             'device=Device/' || n % 900, '{PRESSURE}']
           || CASE n % 5 WHEN 4 THEN ARRAY['component-code=sys', 'component-code=dia'] ELSE '{{}}' END,
       tstzrange('2026-01-01'::timestamptz + n * interval '1 minute',
                 '2026-01-01'::timestamptz + n * interval '1 minute 1 second'),
       {VALUE} - CASE n % 5 WHEN 4 THEN 40 ELSE 0 END, {VALUE}
FROM generate_series(1, {READINGS}) AS n;
INSERT INTO resource_version (type, id, version, updated, patient_id, author, method, body)
SELECT 'Observation', 'o' || n, 1, now(), 'p' || n % {PEOPLE}, 'Device/d', 'POST',
       jsonb_build_object('resourceType', 'Observation', 'code', jsonb_build_object('coding', jsonb_build_array(
         jsonb_build_object('code', (n % 5)::text)))) || CASE n % 5
       WHEN 4 THEN jsonb_build_object('component', jsonb_build_array(
         jsonb_build_object('code', '{{"coding": [{{"code": "sys"}}]}}'::jsonb, 'valueQuantity', jsonb_build_object(
           'value', {VALUE}, 'system', 'http://unitsofmeasure.org', 'code', 'mm[Hg]')),
         jsonb_build_object('code', '{{"coding": [{{"code": "dia"}}]}}'::jsonb, 'valueQuantity', jsonb_build_object(
           'value', {VALUE} - 40, 'system', 'http://unitsofmeasure.org', 'code', 'mm[Hg]'))))
       ELSE jsonb_build_object('valueQuantity', jsonb_build_object(
         'value', {VALUE}, 'system', 'http://unitsofmeasure.org', 'code', 'mm[Hg]')) END
FROM generate_series(1, {READINGS}) AS n;
INSERT INTO resource_version (type, id, version, updated, patient_id, author, method, body)
SELECT 'Patient', id, version, updated, patient_id, 'Device/d', 'POST', '{{"resourceType":"Patient"}}' FROM r_patient;
INSERT INTO access (subject, patient_id, source, basis) VALUES ('Patient/p7', 'p7', 'Patient/p7', 'self');
INSERT INTO access (subject, patient_id, source, basis)
SELECT 'Organization/hub', 'p' || n, 'CareTeam/' || n, 'hub' FROM generate_series(1, {PEOPLE}) AS n
WHERE n % 7 < 3;
"""


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


def of_the_hub(type_: str, alias: str) -> Sql | None:
    related = f"EXISTS (SELECT 1 FROM access WHERE access.patient_id = {alias}.patient_id AND access.subject = ANY(%s))"
    return Sql(related, (["Organization/hub"],))


def of_one_person(type_: str, alias: str) -> Sql | None:
    related = f"EXISTS (SELECT 1 FROM access WHERE access.patient_id = {alias}.patient_id AND access.subject = ANY(%s))"
    return Sql(related, (["Patient/p7"],))


@pytest.fixture(scope="module")
async def filled(database: Database) -> AsyncIterator[Database]:
    async with database.transaction() as tx:
        await tx.pg.execute(FILL)
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE r_patient, r_observation, resource_version, access")
    yield database


async def plans(database: Database, path: str, visible: search.Visible) -> tuple[str, search.Page]:
    async with database.transaction() as tx:
        return await explained(tx.pg, path, visible)


@pytest.mark.parametrize("visible", [everything, of_the_hub, of_one_person])
@pytest.mark.parametrize(
    "path",
    [
        "Observation?code=3&_count=20",
        "Observation?identifier=777&_count=20",
        "Observation?identifier=none&_count=20",
        "Observation?patient=p7&_count=20",
        "Observation?subject=Patient/p7,Patient/p8&_count=20",
        "Observation?device=5&_count=20",
        "Observation?date=2026-01-20&_count=20",
        "Observation?date=ge2026-02-04&_count=20",
        "Observation?date=lt2026-01-01T00:10&_count=20",
        "Observation?date=le2026-01-02&_count=20",
        "Observation?date=sa2026-02-03&_count=20",
        "Observation?patient=p7&code=2&date=ge2026-01-10&_sort=-date&_count=20",
        "Observation?_sort=-date&_count=20",
        "Observation?_sort=date&_count=20",
        "Observation?_sort=-_lastUpdated&_count=20",
        "Observation?_lastUpdated=ge2026-02-04&_count=20",
        "Observation?subject:Patient.name=family77&_count=20",
        "Observation?subject:Patient.name=nobody&_count=20",
        "Observation?subject:Patient.name=nobody&_sort=-date&_count=20",
        "Observation?patient=p7&value-quantity=gt5&_count=20",
        "Observation?device=none&status=final&_sort=-_lastUpdated&_count=20",
        "Observation?patient.identifier=77&_count=20",
        "Observation?value-quantity=lt61|http://unitsofmeasure.org|mm[Hg]&code=2&_count=20",
        "Observation?value-quantity=gt33.3||kPa&_count=20",
        "Observation?component-code-value-quantity=dia$gt240&_count=20",
        "Patient?name=family49&_count=20",
        "Patient?family:exact=none&_count=20",
        "Patient?birthdate=1950-03&_count=20",
        "Patient?birthdate=gt1998&_count=20",
        "Patient?_has:Observation:patient:identifier=778&_count=20",
        "Patient?identifier=778&_revinclude=Observation:patient&_count=20",
        "Observation?identifier=778&_include=Observation:patient&_count=20",
    ],
)
async def test_reads_by_index(filled: Database, path: str, visible: search.Visible) -> None:
    plan, _ = await plans(filled, path, visible)
    assert "Seq Scan on r_" not in plan, plan
    assert "Seq Scan on resource_version" not in plan, plan
    # Nor an index from end to end, which is a table scan by another name.
    removed = [int(count) for count in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
    assert max(removed, default=0) < READINGS / 4, plan


@pytest.mark.parametrize("visible", [everything, of_the_hub])
@pytest.mark.parametrize("family", FAMILIES)
async def test_every_family_reads_by_index(filled: Database, family: str, visible: search.Visible) -> None:
    plan, page = await plans(filled, FAMILIES[family].format(**FILLED) + "&_count=20", visible)
    assert not scanned(plan), plan
    assert page.entries or visible is not everything, plan
    removed = [int(count) for count in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
    assert max(removed, default=0) < READINGS / 4, plan


async def test_the_test_would_notice(filled: Database) -> None:
    plan, _ = await plans(filled, "Observation?status:not=final&_count=20", everything)
    assert "Seq Scan on r_observation" in plan


@pytest.mark.parametrize("order", ["_id", "-date", "_lastUpdated"])
async def test_a_page_costs_what_it_holds(filled: Database, order: str) -> None:
    plan, page = await plans(filled, f"Observation?_sort={order}&_count=20", everything)
    assert len(page.entries) == 20
    assert "actual rows=50000" not in plan, plan
    link = dict(page.links)["next"].partition("?")[2]
    plan, page = await plans(filled, f"Observation?{link}", everything)
    assert len(page.entries) == 20
    assert "Seq Scan" not in plan


async def test_bodies_are_fetched_for_the_page_alone_whatever_joins_seem_cheap(filled: Database) -> None:
    async with filled.transaction() as tx:
        await tx.pg.execute("SET LOCAL enable_nestloop = off")
        plan, page = await explained(tx.pg, "Patient?name=given7&_count=20", everything)
    assert len(page.entries) == 20
    assert f"actual rows={PEOPLE}" not in plan, plan


@pytest.mark.parametrize("code", ["3", "none"])
async def test_a_code_of_many_people_costs_a_page_or_what_the_indexes_find(filled: Database, code: str) -> None:
    """Together they may be half the table or nothing: neither is read to the end in the hope of a full page."""
    people = ",".join(f"p{n}" for n in range(2, 2 * 1001, 2))
    plan, page = await plans(filled, f"Observation?code={code}&patient={people}&_count=20", everything)
    assert len(page.entries) == (20 if code == "3" else 0)
    read = [int(rows) for rows in re.findall(r"r_observation\w*.*actual rows=(\d+)", plan)]
    assert max(read) <= (3_000 if code == "3" else 20_000), plan
    assert not scanned(plan)


@pytest.mark.parametrize("code", ["3", "none"])
async def test_people_whom_many_refer_to_cost_a_page(filled: Database, code: str) -> None:
    plan, page = await plans(filled, f"Patient?_has:Observation:patient:code={code}&_count=20", everything)
    assert len(page.entries) == (20 if code == "3" else 0)
    read = [int(rows) for rows in re.findall(r"r_observation\w*.*actual rows=(\d+)", plan)]
    assert max(read) <= 1_000, plan
    assert not scanned(plan)
