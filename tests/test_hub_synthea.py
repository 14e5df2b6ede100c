"""The Synthea people come in completely, can be planned for and given devices, and their vitals are trends."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import factories
import pytest
from conftest import Fresh

from fhir.store import Change, new_id
from hub import flows, importer, sources
from hub.db import Database
from hub.identity import IMPORTER
from hub.pages import trends
from hub.pages.period import period


@pytest.fixture(scope="module")
async def synthea(database: Database, shared_data: Path) -> Database:
    """The module's database with all 42 bundles."""
    summary = await importer.run(database, sources.discover([shared_data / "synthea"]))
    assert [refused.as_json() for refused in summary.refused] == []
    return database


def resources(folder: Path) -> dict[tuple[str, str], str]:
    """(type, id) -> JSON of every resource in the bundles, their urns turned to references; the last one counts."""
    entries = [entry for path in sorted(folder.glob("*.json")) for entry in json.loads(path.read_text())["entry"]]
    named = {entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries}
    found = {}
    for entry in entries:
        text = json.dumps(entry["resource"])
        for part in set(text.split('"')):
            if part in named:
                text = text.replace(f'"{part}"', f'"{named[part]}"')
        found[entry["resource"]["resourceType"], entry["resource"]["id"]] = text
    return found


class TestSynthea:
    async def test_every_resource_is_there_and_refers_to_what_is_there(
        self, synthea: Database, shared_data: Path
    ) -> None:
        expected = resources(shared_data / "synthea")
        async with synthea.transaction() as tx:
            rows = await tx.pg.execute(
                "SELECT DISTINCT ON (type, id) type, id, body FROM resource_version WHERE type <> 'Flag'"
                " ORDER BY type, id, version DESC"
            )
            stored = {(type_, ident): body async for type_, ident, body in rows}
        assert stored.keys() == expected.keys()
        assert not [key for key, body in stored.items() if "urn:uuid:" in body]
        for key in list(expected)[::50]:
            assert (
                json.loads(stored[key])["subject" if key[0] == "Observation" else "id"]
                == (json.loads(expected[key])["subject" if key[0] == "Observation" else "id"])
            )

    async def test_reading_them_again_changes_nothing(self, synthea: Database, shared_data: Path) -> None:
        paths = sorted((shared_data / "synthea").glob("A*.json"))
        summary = await importer.run(synthea, sources.discover(paths), again=True)
        assert summary.created == summary.updated == 0
        assert summary.unchanged > 1000

    async def test_vitals_are_readings_and_old_ones_flag_nobody(self, synthea: Database) -> None:
        async with synthea.transaction() as tx:
            rows = await tx.pg.execute("SELECT measure, count(DISTINCT patient_id), count(*) FROM reading GROUP BY 1")
            found = {measure: (people, many) async for measure, people, many in rows}
            flags = await (await tx.pg.execute("SELECT count(*) FROM flag WHERE kind = 'clinical'")).fetchone()
        assert {"systolic", "diastolic", "weight", "glucose"} <= found.keys()
        assert found["systolic"][0] == found["weight"][0] == 40
        assert found["systolic"][1] > 300
        assert flags == (0,)

    async def test_their_vitals_of_years_ago_show_as_trends(self, synthea: Database) -> None:
        now = datetime.now(UTC)
        async with synthea.transaction() as tx:
            rows = await tx.pg.execute("SELECT DISTINCT patient_id FROM reading")
            charts = [
                (await trends.charts_of(tx, IMPORTER, patient_id, period({"range": "decade"}, now), now))["charts"]
                for (patient_id,) in await rows.fetchall()
            ]
        drawn = [
            sum(len(chart["limits"]) for chart in person if chart["chart"] and chart["count"] > 1) for person in charts
        ]
        assert len(drawn) == 40
        assert sum(number >= 3 for number in drawn) >= 30, drawn

    async def test_their_own_plans_are_records_beside_the_persons_plan(self, synthea: Database) -> None:
        async with synthea.transaction() as tx:
            rows = await tx.pg.execute("SELECT (SELECT count(*) FROM r_careplan), (SELECT count(*) FROM plan)")
            assert await rows.fetchone() == (109, 0)

    async def test_they_can_be_planned_for_and_given_a_device_that_measures(self, synthea: Database) -> None:
        async with synthea.transaction() as tx:
            row = await (await tx.pg.execute("SELECT patient_id FROM person ORDER BY patient_id LIMIT 1")).fetchone()
            assert row is not None
            patient_id = row[0]
            await factories.consent(tx, patient_id)
            goal = await factories.goal(tx, patient_id)
            plan = await factories.plan(tx, patient_id, (goal,), contributor=[{"reference": f"Patient/{patient_id}"}])
            device = await factories.device(tx, patient_id)
            measured = datetime.now(UTC) - timedelta(minutes=2)
            observation = {
                "resourceType": "Observation",
                "id": new_id(),
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                "subject": {"reference": f"Patient/{patient_id}"},
                "device": {"reference": f"Device/{device}"},
                "effectiveDateTime": measured.isoformat(timespec="seconds"),
                "valueQuantity": {"value": 81, "system": "http://unitsofmeasure.org", "code": "kg"},
            }
            await flows.write(tx, IMPORTER, [Change("create", "Observation", observation["id"], observation)])
            rows = await tx.pg.execute("SELECT id, status FROM plan WHERE patient_id = %s", (patient_id,))
            assert await rows.fetchall() == [(plan, "active")]
            rows = await tx.pg.execute(
                "SELECT value FROM reading WHERE patient_id = %s AND measure = 'weight' ORDER BY at DESC", (patient_id,)
            )
            trend = [value for (value,) in await rows.fetchall()]
            assert trend[0] == 81
            assert len(trend) > 1


async def test_a_thousand_resources_a_second(fresh_database: Fresh, shared_data: Path) -> None:
    """The reach of the issue, on some of the bundles and with room for a busy machine; `make bench` measures all."""
    database = await fresh_database()
    paths = [*sorted((shared_data / "synthea").glob("[hp]*Information*.json"))]
    paths += sorted((shared_data / "synthea").glob("*.json"))[:8]
    began = datetime.now(UTC)
    summary = await importer.run(database, sources.discover(paths))
    seconds = (datetime.now(UTC) - began).total_seconds()
    assert summary.refused == []
    assert summary.resources / seconds > 300
