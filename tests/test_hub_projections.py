"""The typed tables say what the resources say."""

from datetime import UTC, datetime, timedelta

import pytest
from test_flow_readings import NOW, person, rows, send, spo2

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import flows
from hub.access import visible
from hub.db import Tx
from hub.identity import IMPORTER, Actor

COORDINATOR = Actor("user", "c", "Pat", "care-coordinator", "Practitioner/pat", ("Practitioner/pat",), "yeovil")
OTHER = Actor("user", "o", "Lee", "care-coordinator", "Practitioner/lee", ("Practitioner/lee",), "yeovil")


def patient(number: str | None = None) -> Change:
    resource = {"resourceType": "Patient", "name": [{"family": "Archer", "given": ["Ada", "May"]}]}
    if number:
        resource["identifier"] = [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}]  # type: ignore[list-item]
    return Change("create", "Patient", new_id(), resource)


class TestRegistration:
    async def test_only_whoever_registered_a_person_sees_them_until_there_is_a_team(self, tx: Tx) -> None:
        change = patient()
        await flows.write(tx, COORDINATOR, [change])
        with pytest.raises(Refusal) as refused:
            await store.read(tx.pg, "Patient", change.id, visible(OTHER))
        assert refused.value.status == 404
        assert (await store.read(tx.pg, "Patient", change.id, visible(COORDINATOR))).id == change.id

    async def test_the_view_ends_and_a_later_change_of_the_person_does_not_end_it_sooner(self, tx: Tx) -> None:
        change = patient()
        await flows.write(tx, COORDINATOR, [change])
        await flows.write(
            tx, IMPORTER, [Change("update", "Patient", change.id, {**(change.resource or {}), "active": True})]
        )
        ((basis, until),) = await rows(
            tx, "SELECT basis, until FROM access WHERE patient_id = %s AND subject = 'Practitioner/pat'", change.id
        )
        assert basis == "registered"
        assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)


class TestPerson:
    async def test_hazard_wrong_patient_an_nhs_number_belongs_to_one_person(self, tx: Tx) -> None:
        await flows.write(tx, IMPORTER, [patient("999 000 0018")])
        with pytest.raises(Refusal) as refused:
            await flows.write(tx, IMPORTER, [patient("9990000018")])
        assert refused.value.status == 409
        assert refused.value.issues[0].expression == "Patient.identifier"

    async def test_the_row_holds_what_people_search_by(self, tx: Tx) -> None:
        change = patient("999 000 0026")
        await flows.write(tx, IMPORTER, [change])
        found = await rows(tx, "SELECT nhs_number, search_name FROM person WHERE patient_id = %s", change.id)
        assert found == [("9990000026", "archer ada may")]


class TestTransfer:
    """SYM-02: one person, one home hub; a transfer moves what waits with them."""

    async def test_hazard_alert_not_seen_open_flags_move_to_the_new_hubs_board(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "88"))
        stored = (await store.load(tx.pg, [("Patient", patient_id)]))["Patient", patient_id]
        moved = {**(stored.resource or {}), "managingOrganization": {"reference": "Organization/wincanton"}}
        await flows.write(tx, IMPORTER, [Change("update", "Patient", patient_id, moved)])
        assert await rows(tx, "SELECT hub_id FROM flag WHERE patient_id = %s", patient_id) == [("wincanton",)]
        await send(tx, device, spo2(patient_id, "84", NOW + timedelta(minutes=1)), now=NOW + timedelta(minutes=2))
        assert await rows(tx, "SELECT hub_id, count FROM flag WHERE patient_id = %s", patient_id) == [("wincanton", 2)]
