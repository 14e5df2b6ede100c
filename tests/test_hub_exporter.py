"""Export: nothing is left behind, and what went out comes in again the same."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Fresh

from fhir.outcome import Refusal
from hub import exporter, importer, population, sources
from hub.db import Database
from hub.population import Recipe

AS_OF = datetime.now(UTC).replace(second=0, microsecond=0)


async def content(database: Database) -> dict[tuple[str, str], Any]:
    """Every current resource without its version and time of storing."""
    found = {}
    async with database.transaction() as tx:
        rows = await tx.pg.execute(
            "SELECT DISTINCT ON (type, id) body FROM resource_version ORDER BY type, id, version DESC"
        )
        async for (body,) in rows:
            if body is not None:
                resource = json.loads(body)
                resource["meta"] = {
                    key: value for key, value in resource["meta"].items() if key not in ("versionId", "lastUpdated")
                }
                found[resource["resourceType"], resource["id"]] = resource
    return found


def inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
async def full(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The module's database with a small county in it."""
    folder = tmp_path_factory.mktemp("county")
    population.write(Recipe(25, AS_OF, days=3), folder)
    summary = await importer.run(database, sources.discover([folder]))
    assert summary.refused == []
    return database


class TestExport:
    async def test_what_goes_out_comes_in_the_same(self, full: Database, fresh_database: Fresh, tmp_path: Path) -> None:
        exported = await exporter.run(full, tmp_path)
        empty = await fresh_database()
        summary = await importer.run(empty, sources.discover([tmp_path]))
        assert summary.refused == []
        before, after = await content(full), await content(empty)
        assert sum(exported.counts.values()) == len(before)
        assert {key for key in before if key[0] == "Flag"}, "a county without a flag shows nothing about flags"
        assert after == before

    async def test_deleted_resources_stay_behind(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        (tmp_path / "a.ndjson").write_text('{"resourceType":"Basic","id":"gone","code":{"text":"x"}}')
        deletion = {"request": {"method": "DELETE", "url": "Basic/gone"}}
        (tmp_path / "b.json").write_text(json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [deletion]}))
        for name in ("a.ndjson", "b.json"):
            await importer.run(database, sources.discover([tmp_path / name]))
        assert (await exporter.run(database, tmp_path / "out")).files == ()

    async def test_one_person_and_some_types(self, full: Database, tmp_path: Path) -> None:
        wanted = ["Goal", "Patient", "Practitioner"]
        exported = await exporter.run(full, tmp_path, wanted, ["person-000003"], zipped=True)
        assert [path.name for path in exported.files] == ["01-Patient.ndjson.gz", "02-Goal.ndjson.gz"]
        goals = [json.loads(line) for line in gzip.decompress(exported.files[1].read_bytes()).splitlines()]
        assert {goal["subject"]["reference"] for goal in goals} == {"Patient/person-000003"}
        assert inside(tmp_path) == list(exported.files)

    async def test_progress_counts_every_resource(self, full: Database, tmp_path: Path) -> None:
        told: dict[str, int] = {}

        def tell(name: str, more: int) -> None:
            told[name] = told.get(name, 0) + more

        exported = await exporter.run(full, tmp_path, progress=tell)
        assert told == exported.counts

    async def test_an_export_leaves_its_row_in_the_audit_trail(self, full: Database, tmp_path: Path) -> None:
        await exporter.run(full, tmp_path, ["Goal"], ["person-000003"])
        async with full.transaction() as tx:
            rows = await tx.pg.execute("SELECT patient_id FROM audit WHERE action = 'export' ORDER BY seq DESC LIMIT 1")
            assert await rows.fetchone() == ("person-000003",)

    async def test_unknown_types_and_people_are_refused(self, full: Database, tmp_path: Path) -> None:
        with pytest.raises(Refusal, match="no FHIR type 'Patiens'"):
            await exporter.run(full, tmp_path, ["Patiens"])
        with pytest.raises(Refusal, match="no Patient/nobody"):
            await exporter.run(full, tmp_path, patients=["person-000001", "nobody"])
