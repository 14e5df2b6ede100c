"""The pages around a pregnancy: recorded and ended by a clinician, seen on the summary."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from rest import Rest, running
from test_hub_pages_access import PASSWORD, Visitor

from fhir.store import Change
from hub import accounts, flows
from hub.identity import IMPORTER
from hub.pages import person as persons

TODAY = persons.today(datetime.now(UTC))


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        async with rest.database.transaction() as tx:
            for role in ("clinician", "care-coordinator", "social-worker"):
                await accounts.create_account(
                    tx, role, PASSWORD, f"In {role}", role, f"Practitioner/{role}", (), "yeovil", demonstration=True
                )
        yield rest


async def person(rest: Rest) -> str:
    """Somebody in whose team all three are."""
    patient_id = await rest.patient()
    async with rest.database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis) SELECT 'Practitioner/' || role, %s, 'CareTeam/t',"
            " 'team' FROM unnest('{clinician,care-coordinator,social-worker}'::text[]) AS role",
            (patient_id,),
        )
    return patient_id


async def visitor(rest: Rest, role: str) -> Visitor:
    found = Visitor(rest)
    await found.sign_in(role)
    return found


async def shown(who: Visitor, patient_id: str) -> str:
    answer = await who.client.get(f"/patients/{patient_id}")
    assert answer.status_code == 200
    return answer.text


async def test_a_clinician_records_it_and_its_end(rest: Rest) -> None:
    patient_id = await person(rest)
    doctor = await visitor(rest, "clinician")
    address = f"/patients/{patient_id}/pregnancy"
    since = TODAY - timedelta(weeks=12)
    form = {"csrf": doctor.csrf, "act": "record", "on": since.isoformat()}
    assert "Record a pregnancy" in await shown(doctor, patient_id)
    assert (await doctor.client.post(address, data=form)).status_code == 303
    summary = await shown(await visitor(rest, "care-coordinator"), patient_id)
    assert "NEWS2 is not scored: pregnant since" in summary and "Use the maternity chart" in summary
    assert "Recorded by In clinician" in summary and f"{address}" not in summary
    again = await doctor.client.post(address, data=form)
    assert again.status_code == 422 and "on record already" in again.text
    ((condition,),) = await rest.rows("SELECT condition_id FROM pregnancy WHERE patient_id = %s", patient_id)
    end = {"csrf": doctor.csrf, "act": "end", "condition": condition, "on": (since - timedelta(days=1)).isoformat()}
    assert (await doctor.client.post(address, data=end)).status_code == 422
    assert (await doctor.client.post(address, data=end | {"on": TODAY.isoformat()})).status_code == 303
    assert "pregnant" not in await shown(doctor, patient_id)
    gone = await doctor.client.post(address, data=end | {"on": TODAY.isoformat()})
    assert gone.status_code == 422 and "not on record any more" in gone.text


@pytest.mark.parametrize("on", ["", "soon", "1990-01-01", (TODAY + timedelta(days=1)).isoformat()])
async def test_a_day_that_cannot_be_is_asked_again(rest: Rest, on: str) -> None:
    patient_id = await person(rest)
    doctor = await visitor(rest, "clinician")
    form = {"csrf": doctor.csrf, "act": "record", "on": on}
    answer = await doctor.client.post(f"/patients/{patient_id}/pregnancy", data=form)
    assert answer.status_code == 422 and "There is a problem" in answer.text
    assert await rest.rows("SELECT 1 FROM pregnancy WHERE patient_id = %s", patient_id) == []


async def test_hazard_wrong_score_a_forgotten_record_says_that_it_does_not_count(rest: Rest) -> None:
    patient_id = await person(rest)
    old = {
        "resourceType": "Condition",
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "77386006"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "onsetDateTime": date(2019, 5, 1).isoformat(),
        "recorder": {"reference": "Practitioner/clinician"},
    }
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, [Change("create", "Condition", f"old-{patient_id}", old)])
    summary = await shown(await visitor(rest, "clinician"), patient_id)
    assert "does not count" in summary and "nobody recorded its end" in summary and "NEWS2 is scored" in summary


async def test_who_does_not_read_the_clinical_record_is_not_told(rest: Rest) -> None:
    patient_id = await person(rest)
    doctor = await visitor(rest, "clinician")
    form = {"csrf": doctor.csrf, "act": "record", "on": TODAY.isoformat()}
    assert (await doctor.client.post(f"/patients/{patient_id}/pregnancy", data=form)).status_code == 303
    assert "pregnan" not in await shown(await visitor(rest, "social-worker"), patient_id)
    for role in ("social-worker", "care-coordinator"):
        who = await visitor(rest, role)
        assert (await who.client.get(f"/patients/{patient_id}/pregnancy")).status_code == 403
        form = {"csrf": who.csrf, "act": "record", "on": TODAY.isoformat()}
        assert (await who.client.post(f"/patients/{patient_id}/pregnancy", data=form)).status_code == 403
