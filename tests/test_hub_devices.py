"""What is done with devices: registered, handed on, taken back, lost; their keys; and who held them when."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_flow_readings import person, rows, send, spo2

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import accounts, devices, flows, identity
from hub.db import Database, Tx
from hub.devices import Registration
from hub.holding import assignment
from hub.identity import IMPORTER, SANDBOX_PERSON, Actor
from hub.intake import TEST
from monitoring.instruments import INSTRUMENTS, instrument_of
from monitoring.measures import MEASURES

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
COORDINATOR = Actor("user", "c", "Kit", "care-coordinator", "Practitioner/kit", ("Practitioner/kit",))
COACH = replace(COORDINATOR, role="health-coach")


async def cared(tx: Tx) -> str:
    """A person in the coordinator's care."""
    patient_id, _ = await person(tx)
    await tx.pg.execute(
        "INSERT INTO access (subject, patient_id, source, basis) VALUES ('Practitioner/kit', %s, 'CareTeam/t', 'team')",
        (patient_id,),
    )
    return patient_id


async def registered(tx: Tx, patient_id: str | None = None, **given: Any) -> Actor:
    new = Registration(**{"name": "Oximeter 7", "kind": "oximeter", "serial": new_id(), **given})
    id_ = (await devices.register(tx, COORDINATOR, new, patient_id, since=NOW - 9 * HOUR, now=NOW)).change.id
    return Actor("device", id_, new.name, "device", f"Device/{id_}", (f"Device/{id_}",))


async def stored(tx: Tx, type_: str, id_: str) -> dict[str, Any]:
    found = (await store.load(tx.pg, [(type_, id_)]))[type_, id_].resource
    assert found is not None
    return found


async def uses(tx: Tx, device: Actor) -> list[Any]:
    return await rows(
        tx, "SELECT patient_id, since, until FROM device_use WHERE device_id = %s ORDER BY since NULLS FIRST", device.id
    )


class TestInstruments:
    def test_each_measures_what_is_known_and_is_found_by_its_codes(self) -> None:
        for one in INSTRUMENTS.values():
            assert one.measures and set(one.measures) <= set(MEASURES)
            assert instrument_of({"type": one.concept}) is one
            for coding in one.concept["coding"]:
                assert instrument_of({"specialization": [{"systemType": {"coding": [coding]}}]}) is one
        assert instrument_of({"type": {"text": "Oximeter"}}) is None


class TestLife:
    async def test_registered_assigned_swapped_returned_and_every_step_is_on_record(self, tx: Tx) -> None:
        ada, ben = await cared(tx), await cared(tx)
        device = await registered(tx, udi="(01)00844588003288(21)S7", model="OX-1")
        await devices.assign(tx, COORDINATOR, device.id, ada, "Starts home oximetry", NOW - 3 * HOUR, NOW)
        await devices.assign(tx, COORDINATOR, device.id, ben, "Ada has a new one", NOW - 2 * HOUR, NOW)
        await devices.give_back(tx, COORDINATOR, device.id, "Brought in by his son", NOW - HOUR, now=NOW)
        assert await uses(tx, device) == [
            (ada, NOW - 3 * HOUR, NOW - 2 * HOUR),
            (ben, NOW - 2 * HOUR, NOW - HOUR),
        ]
        ((first,),) = await rows(tx, "SELECT id FROM device_use WHERE patient_id = %s", ada)
        statement = await stored(tx, "DeviceUseStatement", first)
        assert statement["status"] == "completed" and statement["subject"] == {"reference": f"Patient/{ada}"}
        assert [one["text"] for one in statement["note"]] == ["Starts home oximetry", "Ada has a new one"]
        assert statement["note"][0]["authorReference"] == {"reference": "Practitioner/kit", "display": "Kit"}
        known = await stored(tx, "Device", device.id)
        assert "patient" not in known and assignment(known).until == NOW - HOUR
        assert known["udiCarrier"] == [{"carrierHRF": "(01)00844588003288(21)S7"}]
        audit = "SELECT action, type FROM audit WHERE actor = 'Practitioner/kit' AND patient_id = %s ORDER BY seq"
        assert ("create", "DeviceUseStatement") in await rows(tx, audit, ada)

    async def test_lost_is_nobodys_and_can_send_nothing(self, tx: Tx) -> None:
        ada = await cared(tx)
        device = await registered(tx, ada)
        await devices.issue_key(tx, COORDINATOR, device.id)
        await devices.withdraw(tx, COORDINATOR, device.id, "lost", "Left on a bus", NOW)
        query = "SELECT device.status, device.gone, device.patient_id, credential.revoked IS NOT NULL FROM device"
        assert await rows(tx, f"{query} JOIN credential ON device_id = device.id WHERE device.id = %s", device.id) == [
            ("inactive", "lost", None, True)
        ]
        (receipt,) = await send(tx, device, spo2(ada, "97", NOW - HOUR))
        assert getattr(receipt.refusal, "reason", None) == "unassigned-device"
        with pytest.raises(Refusal) as refused:
            await devices.assign(tx, COORDINATOR, device.id, ada, "Again")
        assert refused.value.status == 409
        await devices.put_back(tx, COORDINATOR, device.id, "The driver handed it in")
        await devices.assign(tx, COORDINATOR, device.id, ada, "Again")

    async def test_a_serial_number_is_registered_once(self, tx: Tx) -> None:
        await registered(tx, serial="SN 100")
        with pytest.raises(Refusal) as refused:
            await registered(tx, serial="sn 100")
        assert refused.value.status == 409
        await registered(tx, serial="SN 100", kind="cuff")

    async def test_only_who_manages_devices_and_cares_for_both(self, tx: Tx) -> None:
        ada, (elsewhere, theirs) = await cared(tx), await person(tx)
        device = await registered(tx, ada)
        doors: list[tuple[int, Callable[[], Any]]] = [
            (403, lambda: devices.assign(tx, COACH, device.id, ada, "x")),
            (403, lambda: devices.issue_key(tx, COACH, device.id)),
            (404, lambda: devices.assign(tx, COORDINATOR, device.id, elsewhere, "x")),
            (404, lambda: devices.assign(tx, COORDINATOR, theirs.id, ada, "x")),
            (404, lambda: devices.issue_key(tx, COORDINATOR, theirs.id)),
            (422, lambda: devices.give_back(tx, COORDINATOR, device.id, " ")),
        ]
        for status, door in doors:
            with pytest.raises(Refusal) as refused:
                await door()
            assert refused.value.status == status


class TestHazardReadingsOnTheWrongPerson:
    async def test_a_swap_noted_later_does_not_leave_readings_with_the_wrong_person(self, tx: Tx) -> None:
        ada, ben = await cared(tx), await cared(tx)
        device = await registered(tx, ada)
        (receipt,) = await send(tx, device, spo2(ada, "97", NOW - HOUR))
        with pytest.raises(Refusal) as refused:
            await devices.assign(tx, COORDINATOR, device.id, ben, "Swapped this morning", NOW - 2 * HOUR, NOW)
        assert refused.value.status == 409 and "1 readings" in refused.value.issues[0].diagnostics
        assert receipt.observation_id is not None
        await flows.mark_wrong(tx, IMPORTER, receipt.observation_id, "It was Ben's")
        await devices.assign(tx, COORDINATOR, device.id, ben, "Swapped this morning", NOW - 2 * HOUR, NOW)

    async def test_nobody_holds_a_device_twice_at_one_time(self, tx: Tx) -> None:
        ada, ben = await cared(tx), await cared(tx)
        device = await registered(tx)
        await devices.assign(tx, COORDINATOR, device.id, ada, "x", NOW - 3 * HOUR, NOW)
        await devices.give_back(tx, COORDINATOR, device.id, "x", NOW - HOUR, now=NOW)
        for since in (NOW - 2 * HOUR, NOW + HOUR):
            with pytest.raises(Refusal) as refused:
                await devices.assign(tx, COORDINATOR, device.id, ben, "x", since, NOW)
            assert refused.value.status == 422

    async def test_a_person_who_had_it_twice_has_both_times_and_none_between(self, tx: Tx) -> None:
        ada, ben = await cared(tx), await cared(tx)
        device = await registered(tx, ada)
        await devices.assign(tx, COORDINATOR, device.id, ben, "x", NOW - 3 * HOUR, NOW)
        await devices.assign(tx, COORDINATOR, device.id, ada, "x", NOW - HOUR, NOW)
        times = [NOW - 4 * HOUR, NOW - 2 * HOUR, NOW]
        sent = await send(tx, device, *(spo2(ada, "97", at) for at in times))
        assert [one.outcome for one in sent] == ["accepted", "refused", "accepted"]
        (between,) = await send(tx, device, spo2(ben, "96", NOW - 2 * HOUR))
        assert between.outcome == "accepted"

    async def test_the_same_rules_hold_through_fhir(self, tx: Tx) -> None:
        ada, ben = await cared(tx), await cared(tx)
        id_ = new_id()
        plain = {"resourceType": "Device", "id": id_, "status": "active", "patient": {"reference": f"Patient/{ada}"}}
        device = Actor("device", id_, "x", "device", f"Device/{id_}", (f"Device/{id_}",))
        await flows.write(tx, COORDINATOR, [Change("create", "Device", id_, plain)], NOW - 2 * HOUR)
        # Who sends it back as it was read, sends the extension of Ada's time too: it is not Ben's.
        read = await stored(tx, "Device", id_)
        swapped = {**read, "patient": {"reference": f"Patient/{ben}"}}
        written = await flows.write(tx, COORDINATOR, [Change("update", "Device", id_, swapped)], NOW - HOUR)
        assert len(written) == 1
        await flows.write(tx, COORDINATOR, [Change("update", "Device", id_, {**swapped, "modelNumber": "2"})], NOW)
        assert await uses(tx, device) == [(ada, NOW - 2 * HOUR, NOW - HOUR), (ben, NOW - HOUR, None)]
        await flows.write(tx, COORDINATOR, [Change("update", "Device", id_, {**plain, "status": "inactive"})], NOW)
        assert (await uses(tx, device))[1] == (ben, NOW - HOUR, NOW)

    async def test_who_held_it_when_is_written_by_nobody_else(self, tx: Tx) -> None:
        ada = await cared(tx)
        device = await registered(tx, ada)
        ((use,),) = await rows(tx, "SELECT id FROM device_use WHERE device_id = %s", device.id)
        statement = await stored(tx, "DeviceUseStatement", use)
        moved = {**statement, "timingPeriod": {"start": "2020-01-01T00:00:00Z"}}
        other = {**statement, "id": new_id()}
        for change in (
            Change("update", "DeviceUseStatement", use, moved),
            Change("delete", "DeviceUseStatement", use, None),
            Change("create", "DeviceUseStatement", other["id"], other),
        ):
            with pytest.raises(Refusal) as refused:
                await flows.write(tx, COORDINATOR, [change], NOW)
            assert refused.value.status == 422
        implant = {name: value for name, value in other.items() if name != "identifier"}
        await flows.write(tx, COORDINATOR, [Change("create", "DeviceUseStatement", other["id"], implant)], NOW)
        assert len(await uses(tx, device)) == 1


class TestKeys:
    async def test_an_old_key_goes_on_for_the_overlap_and_then_ends(self, tx: Tx) -> None:
        device = await registered(tx)
        await devices.issue_key(tx, COORDINATOR, device.id, "first")
        await devices.issue_key(tx, COORDINATOR, device.id, "second", overlap_hours=24)
        query = "SELECT label, round(extract(epoch FROM expires - now()) / 3600) FROM credential WHERE device_id = %s"
        assert sorted(await rows(tx, query + " AND revoked IS NULL", device.id)) == [("first", 24), ("second", None)]
        await devices.issue_key(tx, COORDINATOR, device.id, "third")
        assert await rows(tx, query + " AND revoked IS NULL", device.id) == [("third", None)]
        assert await devices.end_keys(tx, COORDINATOR, device.id) == 1
        with pytest.raises(Refusal):
            await devices.issue_key(tx, COORDINATOR, device.id, overlap_hours=1000)

    async def test_a_key_that_stays_lets_a_returned_device_empty_its_memory(self, tx: Tx) -> None:
        ada = await cared(tx)
        device = await registered(tx, ada)
        await devices.issue_key(tx, COORDINATOR, device.id)
        await devices.give_back(tx, COORDINATOR, device.id, "Has it still", NOW, end_keys=False, now=NOW)
        assert await rows(tx, "SELECT revoked FROM credential WHERE device_id = %s", device.id) == [(None,)]
        kept, new = await send(tx, device, spo2(ada, "97", NOW - HOUR), spo2(ada, "96", NOW))
        assert (kept.outcome, new.outcome) == ("accepted", "refused")


class TestSandboxKeys:
    """Hazard: synthetic people among real ones."""

    async def test_what_it_sends_is_a_test_and_alerts_nobody(self, tx: Tx) -> None:
        ada, synthetic = await cared(tx), (await person(tx, synthetic=True))[0]
        for holder in (ada, synthetic, None):
            device = await registered(tx)
            if holder is not None:
                await tx.pg.execute("UPDATE device SET patient_id = %s WHERE id = %s", (holder, device.id))
            await devices.issue_key(tx, COORDINATOR, device.id, sandbox=True)
            sandbox = replace(device, sandbox=True)
            (receipt,) = await send(tx, sandbox, spo2(holder or SANDBOX_PERSON, "70"))
            assert receipt.outcome == "accepted" and [one.code for one in receipt.doubts] == ["test"]
            assert receipt.observation_id is not None
            assert (await stored(tx, "Observation", receipt.observation_id))["meta"]["security"] == [TEST]
            query = "SELECT quality FROM reading WHERE device_id = %s"
            assert await rows(tx, query, device.id) == [("sandbox",)]
        people = [ada, synthetic, SANDBOX_PERSON]
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = ANY(%s)", people) == []

    async def test_it_never_takes_the_place_of_the_real_reading(self, tx: Tx) -> None:
        ada = await cared(tx)
        device = await registered(tx, ada)
        await send(tx, replace(device, sandbox=True), spo2(ada, "80"))
        (real,) = await send(tx, device, spo2(ada, "80"))
        assert real.outcome == "accepted" and not real.doubts
        assert await rows(tx, "SELECT severity FROM flag WHERE patient_id = %s", ada) == [(3,)]

    async def test_only_a_sandbox_key_sends_for_the_sandbox_person(self, tx: Tx) -> None:
        device = await registered(tx)
        await devices.sandbox_person(tx)
        (receipt,) = await send(tx, device, spo2(SANDBOX_PERSON, "97"))
        assert receipt.outcome == "refused"


async def test_a_key_says_whether_it_is_for_trying_out(database: Database) -> None:
    async with database.transaction() as tx:
        _, device = await person(tx)
        keys = [await accounts.issue_device_key(tx, device.id, sandbox=sandbox) for sandbox in (True, False)]
    found = [await identity.authenticate({"authorization": f"Bearer {key}"}, {}, database) for key in keys]
    assert [one.sandbox for one in found] == [True, False]
