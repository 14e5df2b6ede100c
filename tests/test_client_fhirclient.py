"""fhirclient, whose models refuse what R4 does not know, against the running service."""

import pytest
from fhirclient import server as fhirserver
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.capabilitystatement import CapabilityStatement
from fhirclient.models.goal import Goal
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.patient import Patient
from requests import HTTPError
from serving import READINGS, Served


@pytest.fixture
def smart(served: Served) -> FHIRClient:
    client = FHIRClient(settings={"app_id": "tests", "api_base": served.base})
    client.server.session.headers["Authorization"] = f"Bearer {served.system}"
    return client


def test_the_capability_statement_fits_its_strict_models(served: Served) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": served.base})
    assert not client.prepare()  # it knows where systems get their tokens, and has none yet
    statement = client.server.capabilityStatement
    assert isinstance(statement, CapabilityStatement)
    assert statement.implementation.url == served.base
    assert {one.type for one in statement.rest[0].resource} >= {"Patient", "Observation", "CarePlan"}
    assert client.server.auth.auth_type == "oauth2"
    assert client.server.auth._token_uri == served.base.removesuffix("/fhir") + "/oauth/token"


def test_without_a_token_there_is_nothing(served: Served) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": served.base})
    with pytest.raises(fhirserver.FHIRUnauthorizedException):
        Patient.read(served.person, client.server)


def test_create_read_update_delete(smart: FHIRClient) -> None:
    patient = Patient({"resourceType": "Patient", "name": [{"family": "Fhirclient"}], "birthDate": "1950-02-03"})
    made = patient.create(smart.server)
    read = Patient.read(made["id"], smart.server)
    assert read.birthDate.isostring == "1950-02-03"
    read.name.append(HumanName({"given": ["Nick"], "use": "nickname"}))
    read.update(smart.server)
    assert Patient.read(made["id"], smart.server).meta.versionId == "2"
    read.delete()
    with pytest.raises(HTTPError, match="410"):
        Patient.read(made["id"], smart.server)


def test_an_update_of_an_older_version_is_refused(smart: FHIRClient) -> None:
    made = Patient({"name": [{"family": "Conflict"}]}).create(smart.server)
    first, second = (Patient.read(made["id"], smart.server) for _ in range(2))
    first.active, second.active = True, False
    smart.server.session.headers["If-Match"] = 'W/"1"'
    first.update(smart.server)
    with pytest.raises(HTTPError) as refused:
        second.update(smart.server)
    assert refused.value.response.status_code == 412
    outcome = OperationOutcome(refused.value.response.json())
    assert "version" in outcome.issue[0].diagnostics


def test_a_search_is_paged_to_its_end(served: Served, smart: FHIRClient) -> None:
    search = Observation.where({"patient": served.person, "code": "8867-4", "_count": "8", "_sort": "date"})
    pages = list(search.perform_iter(smart.server))
    assert len(pages) == -(-READINGS // 8)
    assert all(isinstance(page, Bundle) for page in pages)
    values = [entry.resource.valueQuantity.value for page in pages for entry in page.entry]
    assert values == [60 + minute for minute in range(READINGS)]
    included = Observation.where({"patient": served.person, "_count": "2"}).include("subject")
    types = {type(one) for one in included.perform_resources_iter(smart.server)}
    assert types == {Observation, Patient}
    dated = Observation.where({"patient": served.person, "date": "lt2026-11-20T09:10:00Z"})
    assert len(list(dated.perform_resources_iter(smart.server))) == 10


def test_a_transaction_and_everything(served: Served, smart: FHIRClient) -> None:
    goal = Goal({"lifecycleStatus": "proposed", "description": {"text": "Walk"},
                 "subject": {"reference": f"Patient/{served.person}"}})  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction",
              "entry": [{"resource": goal.as_json(), "request": {"method": "POST", "url": "Goal"}}]}  # fmt: skip
    answer = Bundle(smart.server.post_json("", Bundle(bundle).as_json()).json())
    assert answer.entry[0].response.status == "201 Created"
    everything = Bundle.read_from(f"Patient/{served.person}/$everything?_count=200", smart.server)
    assert {type(entry.resource) for entry in everything.entry} >= {Patient, Observation, Goal}
    history = Bundle.read_from(f"Patient/{served.person}/_history", smart.server)
    assert history.entry[0].response.status
