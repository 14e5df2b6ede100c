"""A reading posted by a device reaches the board: the whole loop, without HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import flows, intake
from hub.db import Database, Tx
from hub.identity import IMPORTER, Actor
from monitoring import evaluation, state

NOW = datetime.now(UTC).replace(microsecond=0)
HTEST = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}


async def person(tx: Tx, synthetic: bool = False, device_for: str | None = None) -> tuple[str, Actor]:
    """A person of the hub with a device: the patient's id and the device as an actor."""
    patient_id, device_id = new_id(), new_id()
    meta = {"meta": HTEST} if synthetic else {}
    await flows.write(
        tx,
        IMPORTER,
        [
            Change(
                "create",
                "Patient",
                patient_id,
                {
                    "resourceType": "Patient",
                    "name": [{"family": "Archer", "given": ["Ada"]}],
                    "birthDate": "1950-02-03",
                    "managingOrganization": {"reference": "Organization/yeovil"},
                    **meta,
                },
            ),
            Change(
                "create",
                "Device",
                device_id,
                {
                    "resourceType": "Device",
                    "status": "active",
                    "patient": {"reference": f"Patient/{device_for or patient_id}"},
                },
            ),
        ],
    )
    reference = f"Device/{device_id}"
    return patient_id, Actor("device", device_id, "Oximeter", "device", reference, (reference,))


def spo2(patient_id: str, value: str, at: datetime = NOW, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": Decimal(value), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        **more,
    }


async def send(tx: Tx, actor: Actor, *observations: dict[str, Any], now: datetime = NOW) -> list[intake.Receipt]:
    return await flows.receive_readings(tx, [intake.sent(actor, one, b"{}") for one in observations], now)


async def rows(tx: Tx, query: str, *params: Any) -> list[Any]:
    return await (await tx.pg.execute(query, params)).fetchall()


class TestLoop:
    async def test_a_low_saturation_opens_one_flag_with_its_reading(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        (receipt,) = await send(tx, device, spo2(patient_id, "88"))
        assert receipt.outcome == "accepted"
        found = await rows(
            tx, "SELECT rule, severity, state, observations, hub_id FROM flag WHERE patient_id = %s", patient_id
        )
        assert found[0][1:3] == (3, "open")
        assert found[0][3] == [receipt.observation_id]
        assert found[0][4] == "yeovil"
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(88.0,)]
        ((body,),) = await rows(
            tx, "SELECT body FROM resource_version WHERE type = 'Flag' AND patient_id = %s", patient_id
        )
        assert '"status":"active"' in body

    async def test_a_second_low_reading_refreshes_the_flag(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "90", NOW - timedelta(hours=7)), now=NOW - timedelta(hours=7))
        await send(tx, device, spo2(patient_id, "89"))
        found = await rows(tx, "SELECT count, cardinality(observations) FROM flag WHERE patient_id = %s", patient_id)
        assert found == [(2, 2)]

    async def test_a_normal_reading_raises_nothing(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "97"))
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", patient_id) == []

    async def test_everything_leaves_an_audit_row(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "88"))
        found = await rows(
            tx, "SELECT actor, action, type FROM audit WHERE patient_id = %s ORDER BY seq DESC LIMIT 2", patient_id
        )
        assert found == [
            ("Device/care-hub-engine", "create", "Flag"),
            (device.reference, "create", "Observation"),
        ]


class TestResend:
    """Hazard: duplicate device readings."""

    async def test_a_resend_is_known_already(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        (first,) = await send(tx, device, spo2(patient_id, "97"))
        again, more = await send(tx, device, spo2(patient_id, "97"), spo2(patient_id, "97"))
        assert (again.outcome, more.outcome) == ("duplicate", "duplicate")
        assert again.observation_id == more.observation_id == first.observation_id
        assert await rows(tx, "SELECT count(*) FROM reading WHERE patient_id = %s", patient_id) == [(1,)]

    async def test_the_same_reading_twice_in_one_batch_is_stored_once(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        outcomes = [one.outcome for one in await send(tx, device, spo2(patient_id, "97"), spo2(patient_id, "97"))]
        assert outcomes == ["accepted", "duplicate"]

    async def test_a_flag_shows_the_value_as_it_was_corrected(self, tx: Tx) -> None:
        """Hazard: the board says 91 %, the person has 78 %."""
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "91"))
        await send(tx, device, spo2(patient_id, "78", status="corrected"))
        query = "SELECT summary, count, reasons -> 0 ->> 'value', cardinality(observations) FROM flag"
        ((summary, count, value, readings),) = await rows(tx, f"{query} WHERE patient_id = %s", patient_id)
        assert summary.startswith("Oxygen saturation 78 %")
        assert (count, float(value), readings) == (2, 78.0, 1)
        await send(tx, device, spo2(patient_id, "78", status="corrected"))
        assert await rows(tx, "SELECT count FROM flag WHERE patient_id = %s", patient_id) == [(2,)]

    async def test_another_value_under_the_same_key_is_a_conflict_that_is_kept(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "97"))
        (receipt,) = await send(tx, device, spo2(patient_id, "91"))
        assert receipt.refusal is not None and receipt.refusal.status == 409
        assert await rows(tx, "SELECT reason FROM refusal WHERE device_id = %s", device.id) == [("conflict",)]

    async def test_a_correction_is_a_new_version_and_its_resend_is_known(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        (first,) = await send(tx, device, spo2(patient_id, "77"))
        receipts = await send(
            tx, device, spo2(patient_id, "97", status="corrected"), spo2(patient_id, "97", status="corrected")
        )
        assert [one.outcome for one in receipts] == ["corrected", "duplicate"]
        assert receipts[0].observation_id == first.observation_id
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(97.0,)]


class TestRefused:
    """Never lost: each is answered with its reason and kept as it came."""

    async def test_hazard_wrong_patient_a_device_speaks_only_for_its_holder(self, tx: Tx) -> None:
        other, _ = await person(tx)
        patient_id, device = await person(tx)
        receipts = await send(tx, device, spo2(other, "97"), spo2(patient_id, "97"))
        assert [one.outcome for one in receipts] == ["refused", "accepted"]
        assert await rows(tx, "SELECT reason, raw FROM refusal WHERE device_id = %s", device.id) == [
            ("unknown-patient", b"{}")
        ]

    async def test_hazard_wrong_unit(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        wrong = spo2(patient_id, "97")
        wrong["valueQuantity"]["code"] = wrong["valueQuantity"]["unit"] = "kPa"
        (receipt,) = await send(tx, device, wrong)
        assert receipt.refusal is not None and "kPa" in receipt.refusal.issues[0].diagnostics
        assert await rows(tx, "SELECT reason FROM refusal WHERE device_id = %s", device.id) == [("wrong-unit",)]

    async def test_hazard_clock_error_future_time(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        (receipt,) = await send(tx, device, spo2(patient_id, "97", NOW + timedelta(hours=2)))
        assert receipt.outcome == "refused"
        assert await rows(tx, "SELECT reason FROM refusal WHERE device_id = %s", device.id) == [("future-time",)]

    async def test_an_impossible_value_is_kept_to_be_checked(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        (receipt,) = await send(tx, device, spo2(patient_id, "20"))
        assert receipt.outcome == "accepted" and receipt.doubts
        assert await rows(tx, "SELECT quality FROM reading WHERE patient_id = %s", patient_id) == [("check",)]

    async def test_a_late_reading_is_charted_and_raises_nothing(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "85", NOW - timedelta(days=3)))
        assert await rows(tx, "SELECT count(*) FROM reading WHERE patient_id = %s", patient_id) == [(1,)]
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", patient_id) == []

    async def test_a_test_reading_of_a_real_person_never_alerts(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "85", meta=HTEST))
        assert await rows(tx, "SELECT quality FROM reading WHERE patient_id = %s", patient_id) == [("sandbox",)]
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", patient_id) == []

    async def test_a_device_writes_nothing_but_observations(self, tx: Tx) -> None:
        _, device = await person(tx)
        goal = {"resourceType": "Goal", "lifecycleStatus": "active", "description": {"text": "x"}}
        with pytest.raises(Refusal) as refused:
            await flows.write(tx, device, [Change("create", "Goal", new_id(), goal)])
        assert refused.value.status == 403


class TestFailingRule:
    async def test_a_failing_evaluation_never_loses_the_reading(self, tx: Tx, monkeypatch: pytest.MonkeyPatch) -> None:
        patient_id, device = await person(tx)

        def broken(*_: object) -> None:
            raise RuntimeError("a rule that nobody tested")

        monkeypatch.setattr(evaluation, "evaluate", broken)
        (receipt,) = await send(tx, device, spo2(patient_id, "88"))
        assert receipt.outcome == "accepted"
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(88.0,)]
        assert await rows(tx, "SELECT kind, state FROM flag WHERE patient_id = %s", patient_id) == [
            ("operational", "open")
        ]


class TestFlags:
    async def test_acknowledge_and_resolve_say_who_when_and_why(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "88"))
        ((flag_id,),) = await rows(tx, "SELECT id FROM flag WHERE patient_id = %s", patient_id)
        clinician = Actor("system", "c", "Dr Shah", "administrator", "Practitioner/shah", ("Practitioner/shah",))
        await flows.acknowledge_flag(tx, clinician, flag_id, "Calling now")
        await flows.resolve_flag(tx, clinician, flag_id, "Inhaler given, 95 % after")
        found = await rows(
            tx,
            "SELECT state, acknowledged_by, acknowledged_why, resolved_by, resolved_why FROM flag WHERE id = %s",
            flag_id,
        )
        assert found == [
            ("resolved", "Practitioner/shah", "Calling now", "Practitioner/shah", "Inhaler given, 95 % after")
        ]
        with pytest.raises(Refusal) as refused:
            await flows.resolve_flag(tx, clinician, flag_id, "again")
        assert refused.value.status == 409


async def test_concurrent_readings_of_one_person_open_one_flag(database: Database) -> None:
    async with database.transaction() as tx:
        patient_id, device = await person(tx)

    async def one(minute: int) -> None:
        async with database.transaction() as tx:
            await send(tx, device, spo2(patient_id, "88", NOW - timedelta(minutes=minute)))

    await asyncio.gather(*(one(minute) for minute in range(8)))
    async with database.transaction() as tx:
        assert await rows(tx, "SELECT count(*) FROM flag WHERE patient_id = %s", patient_id) == [(1,)]
        assert await rows(tx, "SELECT count(*) FROM reading WHERE patient_id = %s", patient_id) == [(8,)]


async def test_a_statement_that_fails_while_evaluating_never_loses_the_reading(
    tx: Tx, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient_id, device = await person(tx)

    async def broken(pg: Any, *_: object, **__: object) -> dict[str, Any]:
        await (await pg.execute("SELECT 1 / 0")).fetchall()
        return {}

    monkeypatch.setattr(state, "load_cases", broken)
    (receipt,) = await send(tx, device, spo2(patient_id, "88"))
    assert receipt.outcome == "accepted"
    assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(88.0,)]
    assert await rows(tx, "SELECT kind FROM flag WHERE patient_id = %s", patient_id) == [("operational",)]
