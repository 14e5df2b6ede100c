"""fhirpy, as its users write it, against the running service."""

from collections.abc import Callable
from typing import Any

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import AuthorizationError, MultipleResourcesFound, OperationOutcome, ResourceNotFound
from serving import READINGS, Served

Client = Callable[..., SyncFHIRClient]


@pytest.fixture
def client(served: Served) -> Client:
    def make(**headers: str) -> SyncFHIRClient:
        return SyncFHIRClient(served.base, authorization=f"Bearer {served.system}", extra_headers=headers or None)

    return make


def test_capability(served: Served) -> None:
    statement = SyncFHIRClient(served.base).execute("metadata", method="get")
    assert statement.fhirVersion == "4.0.1"
    assert statement.implementation.url == served.base


def test_without_a_token_there_is_nothing(served: Served) -> None:
    with pytest.raises(AuthorizationError):
        SyncFHIRClient(served.base).resources("Patient").fetch()
    with pytest.raises(AuthorizationError):
        SyncFHIRClient(served.base, authorization="Bearer cht_wrong").resources("Patient").fetch()


def test_create_read_update_delete(client: Client) -> None:
    patient = client().resource("Patient", name=[{"family": "Fhirpy", "given": ["Ann"]}])
    patient.save()
    assert patient.id
    assert patient.meta.versionId == "1"
    read = client().reference("Patient", patient.id).to_resource()
    assert read["name"][0]["family"] == "Fhirpy"
    read["active"] = True
    read.save()
    assert read.meta.versionId == "2"
    read.refresh()
    assert read["active"] is True
    read.delete()
    with pytest.raises(ResourceNotFound):
        client().reference("Patient", patient.id).to_resource()


def test_an_update_of_an_older_version_is_refused(client: Client) -> None:
    patient = client().resource("Patient", name=[{"family": "Conflict"}])
    patient.save()
    ours = client(**{"If-Match": 'W/"1"'}).resource("Patient", **patient.serialize())
    theirs = client().resource("Patient", **patient.serialize(), active=True)
    theirs.save()
    ours["active"] = False
    with pytest.raises(MultipleResourcesFound, match="version"):  # its name for 412
        ours.save()
    assert client().reference("Patient", patient.id).to_resource()["active"] is True


def test_a_search_is_paged_to_its_end(served: Served, client: Client) -> None:
    readings = client().resources("Observation").search(patient=served.person, code="http://loinc.org|8867-4")
    # It counts with a parameter of another server, which is told unless the client says that it need not be understood.
    with pytest.raises(OperationOutcome, match="_totalMethod"):
        readings.count()
    tolerant = client(Prefer="handling=lenient").resources("Observation").search(patient=served.person)
    assert tolerant.count() == READINGS
    found = readings.sort("date").limit(7).fetch_all()
    assert [one["valueQuantity"]["value"] for one in found] == [60 + minute for minute in range(READINGS)]
    with_person = readings.limit(1).include("Observation", "subject").fetch_raw()
    assert {entry.resource.resourceType for entry in with_person.entry} == {"Observation", "Patient"}
    chained = client().resources("Observation").search(patient__Patient__family="Served").limit(5).fetch_all()
    assert len(chained) == READINGS


def test_what_is_not_understood_is_told(client: Client) -> None:
    with pytest.raises(OperationOutcome, match="famly"):
        client().resources("Patient").search(famly="x").fetch()


def test_a_conditional_update_creates_once(client: Client) -> None:
    made: list[Any] = []
    for _ in range(2):
        patient = client().resource(
            "Patient", identifier=[{"system": "urn:fhirpy", "value": "1"}], name=[{"family": "O"}]
        )
        found, created = client().resources("Patient").search(identifier="urn:fhirpy|1").update(patient)
        made.append((found.id, created))
    assert [created for _, created in made] == [True, False]
    assert made[0][0] == made[1][0]
    # R4 asks for If-None-Exist; criteria in the address of a POST are refused, so that nobody believes they held.
    with pytest.raises(OperationOutcome, match="POST takes a type"):
        client().resources("Patient").search(identifier="urn:fhirpy|1").get_or_create(patient)


def test_a_transaction(client: Client) -> None:
    patient = client().resource("Patient", name=[{"family": "Transaction"}])
    entry = {
        "fullUrl": "urn:uuid:0d1b2c3d-0000-4000-8000-000000000001",
        "resource": patient.serialize(),
        "request": {"method": "POST", "url": "Patient"},
    }
    goal = {
        "resourceType": "Goal", "lifecycleStatus": "proposed", "description": {"text": "Walk"},
        "subject": {"reference": entry["fullUrl"]},
    }  # fmt: skip
    entries = [entry, {"resource": goal, "request": {"method": "POST", "url": "Goal"}}]
    answer = client().execute("", data={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert [one.response.status for one in answer.entry] == ["201 Created", "201 Created"]
    written = client().resources("Goal").search(patient=answer.entry[0].fullUrl).first()
    assert written is not None
    assert written["description"]["text"] == "Walk"


def test_everything_and_a_patch(served: Served, client: Client) -> None:
    page = client().execute(f"Patient/{served.person}/$everything", method="get", params={"_count": 10})
    assert page.resourceType == "Bundle"
    assert len(page.entry) == 10
    patient = client().resource("Patient", name=[{"family": "Patch"}])
    patient.save()
    path = [("type", "Code", "add"), ("path", "String", "Patient"), ("name", "String", "active"),
            ("value", "Boolean", True)]  # fmt: skip
    parts = [{"name": name, f"value{kind}": value} for name, kind, value in path]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    patched = client().execute(f"Patient/{patient.id}", method="patch", data=patch)
    assert patched.active is True
    # Its own patch sends a part of a resource, which R4 does not know: told, not guessed.
    with pytest.raises(OperationOutcome, match="Parameters"):
        patient.patch(active=False)
