"""Import: everything goes in once, what is wrong is told, and it can stop anywhere."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Fresh

from fhir.outcome import Refusal
from hub import importer, population, sources
from hub.db import Database
from hub.importer import Summary
from hub.population import Recipe

AS_OF = datetime.now(UTC).replace(second=0, microsecond=0)
JSON = dict[str, Any]


async def imported(database: Database, *paths: Path, **options: Any) -> Summary:
    return await importer.run(database, sources.discover(paths), **options)


async def one(database: Database, query: str, *values: Any) -> Any:
    async with database.transaction() as tx:
        row = await (await tx.pg.execute(query, values)).fetchone()
        return row[0] if row and len(row) == 1 else row


def bundle(kind: str, *entries: JSON) -> JSON:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def posted(resource: JSON, uuid: str, **request: str) -> JSON:
    """An entry as Synthea writes them."""
    return {
        "fullUrl": f"urn:uuid:{uuid}",
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], **request},
    }


def written(path: Path, content: JSON | list[JSON]) -> Path:
    lines = content if isinstance(content, list) else [content]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


PERSON = {"resourceType": "Patient", "name": [{"family": "Govier", "given": ["Hazel"]}]}
UUIDS = [f"0b5f0a5e-1c7d-4a63-9f5e-0000000000{number:02d}" for number in range(20)]


class TestPopulation:
    async def test_a_whole_county_goes_in_and_raises_the_flags_of_today(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        database = await fresh_database()
        made = population.write(Recipe(30, AS_OF, days=5), tmp_path)
        summary = await imported(database, tmp_path)
        assert summary.refused == []
        assert summary.created == sum(made.counts.values())
        assert await one(database, "SELECT count(*) FROM person") == 30
        assert await one(database, "SELECT count(*) FROM plan WHERE status = 'active'") == made.counts["CarePlan"]
        assert await one(database, "SELECT count(*) FROM reading WHERE quality <> 'ok'") == 0
        flagged = await one(database, "SELECT array_agg(DISTINCT patient_id) FROM flag WHERE kind = 'clinical'")
        assert {"person-000002", "person-000004", "person-000005"} <= set(flagged)

    async def test_old_readings_page_nobody(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        population.write(Recipe(30, datetime(2026, 1, 20, 20, tzinfo=UTC), days=4), tmp_path)
        summary = await imported(database, tmp_path, now=datetime(2026, 2, 20, 20, tzinfo=UTC))
        assert summary.refused == []
        assert await one(database, "SELECT count(*) FROM flag WHERE kind = 'clinical'") == 0


class TestAgain:
    async def test_a_finished_file_is_passed_over(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        written(tmp_path / "people.ndjson", [{**PERSON, "id": "a"}, {**PERSON, "id": "b"}])
        assert (await imported(database, tmp_path)).created == 2
        again = await imported(database, tmp_path)
        assert (again.passed_over, again.resources) == (1, 0)

    async def test_reading_a_file_again_changes_nothing(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        without_id = posted(PERSON, UUIDS[0])
        written(tmp_path / "a.json", bundle("transaction", without_id))
        written(tmp_path / "b.ndjson", [{**PERSON}, {**PERSON, "id": "named"}])
        first = await imported(database, tmp_path)
        again = await imported(database, tmp_path, again=True)
        assert first.created == again.unchanged == 3
        assert await one(database, "SELECT max(version) FROM resource_version") == 1
        assert await one(database, "SELECT count(*) FROM r_patient WHERE id = %s", UUIDS[0]) == 1

    async def test_what_was_refused_is_tried_again(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        about = {"resourceType": "Condition", "subject": {"reference": f"urn:uuid:{UUIDS[8]}"}}
        early = written(tmp_path / "a.json", bundle("transaction", posted(about, UUIDS[9])))
        assert len((await imported(database, early)).refused) == 1
        await imported(database, written(tmp_path / "b.json", bundle("transaction", posted(PERSON, UUIDS[8]))))
        assert (await imported(database, early)).created == 1
        assert (await imported(database, early)).passed_over == 1

    async def test_a_stopped_import_goes_on_where_it_stopped(
        self, fresh_database: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = await fresh_database()
        monkeypatch.setattr(importer, "BATCH", 10)
        path = written(tmp_path / "p.ndjson", [{**PERSON, "id": f"p{number}"} for number in range(35)])

        class Stop(Exception):
            pass

        class Impatient:
            def file(self, source: sources.Source, passed_over: bool) -> None:
                assert source.path == path

            def progress(self, source: sources.Source, offset: int, summary: Summary) -> None:
                if summary.created == 20:
                    raise Stop

        with pytest.raises(Stop):
            await imported(database, path, watcher=Impatient())
        assert await one(database, "SELECT entries_done, finished FROM imported_file") == (20, False)
        rest = await imported(database, path)
        assert rest.created == 15
        assert await one(database, "SELECT count(*) FROM r_patient") == 35
        assert await one(database, "SELECT entries_done, finished FROM imported_file") == (35, True)


async def test_shs_01_a_practice_list_comes_in_once_and_bad_numbers_are_told(
    fresh_database: Fresh, tmp_path: Path
) -> None:
    """SHS-01 at a tenth of its size: 1,300 people, one in a hundred with a wrong check digit."""
    recipe = Recipe(1300, AS_OF, days=1)
    people = [json.loads(line) for name, lines in population.lines(recipe) if name == "Patient" for line in lines]
    for person in people[::100]:
        number = person["identifier"][0]["value"]
        person["identifier"][0]["value"] = number[:9] + str((int(number[9]) + 1) % 10)
    path = written(tmp_path / "list.ndjson", people)
    database = await fresh_database()
    first = await imported(database, path)
    assert first.created == 1287
    assert [one.entry for one in first.refused] == list(range(1, 1301, 100))
    assert {one.issues[0].expression for one in first.refused} == {"Patient.identifier"}
    again = await imported(database, path)
    assert (again.created, again.unchanged, len(again.refused)) == (0, 1287, 13)
    assert await one(database, "SELECT count(*) FROM person") == 1287


class TestReferences:
    async def test_urns_of_other_files_are_followed(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        visit = {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": {"reference": f"urn:uuid:{UUIDS[1]}"},
            "serviceProvider": {"reference": f"urn:uuid:{UUIDS[2]}"},
        }
        written(tmp_path / "a-person.json", bundle("transaction", posted(visit, UUIDS[0]), posted(PERSON, UUIDS[1])))
        hospital = {"resourceType": "Organization", "name": "Castle Yeo"}
        written(tmp_path / "z-hospital.json", bundle("transaction", posted(hospital, UUIDS[2])))
        assert (await imported(database, tmp_path)).refused == []
        body = json.loads(await one(database, "SELECT body FROM resource_version WHERE type = 'Encounter'"))
        assert body["subject"]["reference"] == f"Patient/{UUIDS[1]}"
        assert body["serviceProvider"]["reference"] == f"Organization/{UUIDS[2]}"

    async def test_urns_of_an_earlier_import_are_found_in_the_record(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        database = await fresh_database()
        await imported(database, written(tmp_path / "a.json", bundle("transaction", posted(PERSON, UUIDS[1]))))
        condition = {"resourceType": "Condition", "subject": {"reference": f"urn:uuid:{UUIDS[1]}"}}
        path = written(tmp_path / "b.json", bundle("transaction", posted(condition, UUIDS[3])))
        assert (await imported(database, path)).created == 1

    async def test_searches_are_followed(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        npi = {"system": "http://hl7.org/fhir/sid/us-npi", "value": "99"}
        doctor = {"resourceType": "Practitioner", "id": "doc", "identifier": [npi]}
        visit = {
            "resourceType": "Encounter",
            "id": "v",
            "status": "finished",
            "class": {"code": "AMB"},
            "participant": [{"individual": {"reference": f"Practitioner?identifier={npi['system']}|99"}}],
        }
        nobody = json.loads(json.dumps(visit).replace("|99", "|100")) | {"id": "w"}
        summary = await imported(database, written(tmp_path / "a.ndjson", [doctor]))
        summary = await imported(database, written(tmp_path / "b.ndjson", [visit, nobody]))
        body = json.loads(await one(database, "SELECT body FROM resource_version WHERE type = 'Encounter'"))
        assert body["participant"][0]["individual"]["reference"] == "Practitioner/doc"
        assert [(refused.id, refused.issues[0].code) for refused in summary.refused] == [("w", "not-found")]

    async def test_a_conditional_create_finds_who_is_there(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        identifier = {"system": "https://example.org/id", "value": "7"}
        person = {**PERSON, "identifier": [identifier]}
        await imported(database, written(tmp_path / "a.ndjson", [{**person, "id": "here"}]))
        about = {"resourceType": "Condition", "subject": {"reference": f"urn:uuid:{UUIDS[5]}"}}
        condition = "identifier=https://example.org/id|7"
        content = bundle("transaction", posted(person, UUIDS[5], ifNoneExist=condition), posted(about, UUIDS[6]))
        summary = await imported(database, written(tmp_path / "b.json", content))
        assert (summary.created, summary.unchanged, summary.refused) == (1, 1, [])
        assert await one(database, "SELECT patient_id FROM r_condition") == "here"

    async def test_a_conditional_update_replaces_who_is_there(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        person = {**PERSON, "identifier": [{"system": "https://example.org/id", "value": "7"}]}
        await imported(database, written(tmp_path / "a.ndjson", [{**person, "id": "here"}]))
        request = {"method": "PUT", "url": "Patient?identifier=https://example.org/id|7"}
        entry = {"resource": {**person, "gender": "female"}, "request": request}
        summary = await imported(database, written(tmp_path / "b.json", bundle("batch", entry)))
        assert (summary.created, summary.updated, summary.refused) == (0, 1, [])
        assert await one(database, "SELECT gender FROM person WHERE patient_id = 'here'") == "female"

    async def test_an_id_of_another_system_never_lands_on_our_person(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        """Hazard: wrong patient. Two senders may both call somebody "1"; a POST names nobody."""
        database = await fresh_database()
        await imported(database, written(tmp_path / "a.ndjson", [{**PERSON, "id": "1"}]))
        stranger = {"resourceType": "Patient", "id": "1", "name": [{"family": "Slade"}]}
        about = {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}
        content = bundle("transaction", posted(about, UUIDS[8]), posted(stranger, UUIDS[7]))
        await imported(database, written(tmp_path / "b.json", content))
        assert await one(database, "SELECT patient_id FROM r_condition") == UUIDS[7]
        await imported(database, written(tmp_path / "c.json", bundle("collection", {"resource": {**about, "id": "c"}})))
        assert await one(database, "SELECT patient_id FROM r_condition WHERE id = 'c'") == "1"
        assert await one(database, "SELECT family FROM person WHERE patient_id = '1'") == "Govier"
        assert await one(database, "SELECT family FROM person WHERE patient_id = %s", UUIDS[7]) == "Slade"


class TestRefusals:
    async def test_only_what_is_wrong_is_refused_with_its_place_and_reason(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        database = await fresh_database()
        people = [{**PERSON, "id": f"p{number}"} for number in range(100)]
        people[40] = {**people[40], "gender": "bogus"}
        plan = {
            "resourceType": "CarePlan",
            "id": "plan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": "Patient/p3"},
        }
        number = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000001"}
        people[77] = {**people[77], "identifier": [number]}
        path = written(tmp_path / "a.ndjson", [*people, plan])
        summary = await imported(database, path)
        assert summary.created == 98
        assert {(one.entry, one.type, one.status) for one in summary.refused} == {
            (41, "Patient", 400),
            (78, "Patient", 422),
            (101, "CarePlan", 422),
        }
        report = [json.loads(line) for line in importer.report(summary.refused).splitlines()]
        assert all(line["issue"][0]["diagnostics"] and line["file"] == str(path) for line in report)
        assert {why for _, _, why, _ in importer.reasons(summary.refused)} == {
            f"{one.issues[0].expression}: {one.issues[0].diagnostics}" for one in summary.refused
        }

    async def test_wrong_patient_two_people_cannot_have_one_nhs_number(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        """Hazard: wrong patient."""
        database = await fresh_database()
        identifier = [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "999 000 0018"}]
        people = [{**PERSON, "id": ident, "identifier": identifier} for ident in ("a", "b")]
        summary = await imported(database, written(tmp_path / "a.ndjson", people))
        assert [(refused.id, refused.issues[0].code) for refused in summary.refused] == [("b", "duplicate")]

    async def test_broken_lines_do_not_stop_the_rest(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        path = tmp_path / "a.ndjson"
        good = json.dumps({**PERSON, "id": "good"}).encode()
        path.write_bytes(b'{"resourceType":"Patient"\n\n[1]\n{"resourceType":"Patiens"}\n\xff\n' + good + b"\n")
        summary = await imported(database, path)
        assert summary.created == 1
        assert [refused.entry for refused in summary.refused] == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.json", b'{"resourceType":"Bundle"'),
            ("a.json", b'{"resourceType":"Bundle","type":"history","entry":[]}'),
            ("a.json.gz", b"not compressed"),
            ("a.ndjson.gz", gzip.compress(b'{"resourceType":"Patient","id":"x"}\n' * 50)[:30]),
        ],
    )
    async def test_a_file_that_cannot_be_read_is_told_as_a_whole(
        self, database: Database, tmp_path: Path, name: str, content: bytes
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        summary = await imported(database, path, again=True)
        assert [(refused.file, refused.entry) for refused in summary.refused] == [(str(path), 0)]


class TestFiles:
    async def test_every_kind_of_file_is_read(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        (tmp_path / "deep").mkdir()
        written(tmp_path / "single.json", {**PERSON, "id": "single"})
        written(tmp_path / "found.json", bundle("searchset", {"fullUrl": "x", "resource": {**PERSON, "id": "found"}}))
        put = {"resource": {**PERSON, "id": "put"}, "request": {"method": "PUT", "url": "Patient/put"}}
        written(tmp_path / "deep" / "batch.json", bundle("batch", put))
        (tmp_path / "lines.ndjson.gz").write_bytes(gzip.compress(json.dumps({**PERSON, "id": "lines"}).encode()))
        (tmp_path / "collection.json.gz").write_bytes(
            gzip.compress(json.dumps(bundle("collection", {"resource": {**PERSON, "id": "collected"}})).encode())
        )
        (tmp_path / "notes.txt").write_text("not ours")
        summary = await imported(database, tmp_path)
        assert summary.refused == []
        ids = await one(database, "SELECT array_agg(id ORDER BY id) FROM r_patient")
        assert ids == ["collected", "found", "lines", "put", "single"]

    async def test_what_only_asks_is_told_apart(self, fresh_database: Fresh, tmp_path: Path) -> None:
        put = {"resource": PERSON, "request": {"method": "PUT", "url": "https://other.example/fhir/Patient/far"}}
        entries = [
            put,
            {"request": {"method": "GET", "url": "Patient/far"}},
            {"fullUrl": "urn:x"},
            {"request": {"method": "DELETE", "url": "Patient?name=x"}},
        ]
        path = written(tmp_path / "a.json", bundle("batch", *entries))
        summary = await imported(await fresh_database(), path)
        assert summary.created == 1
        assert [(one.entry, one.issues[0].code) for one in summary.refused] == [
            (2, "not-supported"), (3, "required"), (4, "not-supported")
        ]  # fmt: skip

    async def test_a_bundle_can_delete(self, fresh_database: Fresh, tmp_path: Path) -> None:
        database = await fresh_database()
        note = {"resourceType": "Basic", "id": "note", "code": {"text": "x"}}
        await imported(database, written(tmp_path / "a.ndjson", [note]))
        gone = bundle("batch", {"request": {"method": "DELETE", "url": "Basic/note"}})
        assert (await imported(database, written(tmp_path / "b.json", gone))).deleted == 1
        assert await one(database, "SELECT count(*) FROM r_basic") == 0

    def test_files_are_read_in_the_order_that_references_need(self, tmp_path: Path) -> None:
        for name, type_ in (("a", "Observation"), ("b", "Patient"), ("c", "Flag"), ("d", "Organization")):
            (tmp_path / f"{name}.ndjson").write_text(json.dumps({"resourceType": type_}))
        assert [source.first for source in sources.discover([tmp_path])] == [
            "Organization", "Patient", "Flag", "Observation"
        ]  # fmt: skip

    def test_a_missing_path_and_a_strange_file_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Refusal, match="no file or folder"):
            sources.discover([tmp_path / "nothing"])
        (tmp_path / "a.csv").write_text("a,b")
        with pytest.raises(Refusal, match="not named as JSON"):
            sources.discover([tmp_path / "a.csv"])
