"""Hazards of the log that no other test names: each tried on the code that is to hold it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from test_flow_readings import person as person_with_device
from test_flow_readings import rows, send, spo2

from fhir.store import Change, new_id
from hub import fleet, flows
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from hub.pages import device_words, flags, me, person, records
from monitoring.limits import Limits, Order, to_service_request

NOW = datetime.now(UTC).replace(microsecond=0)
CLINICIAN = Actor("user", "a", "Dr Ola", "clinician", "Practitioner/ola", ("Practitioner/ola", "Organization/yeovil"))


async def order(tx: Tx, patient_id: str, **given: Any) -> None:
    """A clinician's order for SpO2, put where the pages and rules read it."""
    made = Order("", patient_id, "spo2", set_by="Practitioner/ola", reason="COPD", review_on=date(2027, 3, 1), **given)
    resource = to_service_request(made, "Dr Ola")
    await flows.write(tx, IMPORTER, [Change("create", "ServiceRequest", resource["id"] or new_id(), resource)])


class TestScale2Misuse:
    async def test_pages_show_the_scale_that_the_rules_use(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        await order(tx, patient_id, scale=2)
        await send(tx, device, spo2(patient_id, "90"))
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", patient_id) == []
        (shown,) = await person.latest(tx.pg, patient_id, NOW)
        assert shown.limits is not None and shown.limits.bounds == (83, 87, None, None)
        assert shown.level == "none"

    async def test_nobody_on_scale_2_is_told_that_a_high_value_is_within_limits(self, tx: Tx) -> None:
        # On oxygen 97 % is too much for them; the limits alone cannot say so.
        patient_id, device = await person_with_device(tx)
        await order(tx, patient_id, scale=2)
        await send(tx, device, spo2(patient_id, "97"))
        (shown,) = await person.latest(tx.pg, patient_id, NOW)
        assert me.how(shown, NOW)["word"] == ""


class TestFalseReassurance:
    async def test_short_of_an_alarm_is_not_called_within_ones_limits(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        await send(tx, device, spo2(patient_id, "95"))
        (shown,) = await person.latest(tx.pg, patient_id, NOW)
        assert shown.limits is not None and not shown.personal
        assert me.how(shown, NOW)["word"] == ""

    async def test_limits_of_ones_own_are_called_so(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        await order(tx, patient_id, limits=Limits(low_red=86, low_amber=88))
        await send(tx, device, spo2(patient_id, "95"))
        (shown,) = await person.latest(tx.pg, patient_id, NOW)
        assert me.how(shown, NOW)["word"] == "Within your limits."


class TestAlertNotSeen:
    async def test_a_doubtful_reading_waits_on_the_persons_page(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        await send(tx, device, spo2(patient_id, "20"))
        (waiting,) = await records.open_flags(tx.pg, patient_id)
        assert (waiting.rule, waiting.kind, waiting.severity) == ("check-reading", "operational", 1)

    def test_a_rule_that_failed_is_not_called_out_of_use(self) -> None:
        said = flags.rule_words("failed-news2")
        assert said["name"] == "NEWS2 (could not be worked out)"
        assert "look at them yourself" in said["sentence"]

    async def test_an_acknowledged_flag_that_gets_worse_is_open_again(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        await send(tx, device, spo2(patient_id, "94", NOW - timedelta(hours=2)), now=NOW - timedelta(hours=2))
        await send(tx, device, spo2(patient_id, "94", NOW - timedelta(hours=1)), now=NOW - timedelta(hours=1))
        ((flag_id, severity),) = await rows(tx, "SELECT id, severity FROM flag WHERE patient_id = %s", patient_id)
        assert severity == 2
        await flows.acknowledge_flag(tx, IMPORTER, flag_id, "Rang, will measure again")
        await send(tx, device, spo2(patient_id, "90"))
        assert await rows(tx, "SELECT severity, state FROM flag WHERE id = %s", flag_id) == [(3, "open")]


class TestDeviceHandedOn:
    """Who held the device when it measured decides, whenever it sends."""

    async def test_hazard_wrong_patient_what_it_kept_goes_to_who_held_it_then(self, tx: Tx) -> None:
        before, device = await person_with_device(tx)
        after, _ = await person_with_device(tx)
        assert [one.outcome for one in await send(tx, device, spo2(before, "97", NOW - timedelta(hours=2)))] == [
            "accepted"
        ]
        await hand_on(tx, device, after)
        kept, theirs, too_late, too_early = await send(
            tx,
            device,
            spo2(before, "96", NOW - timedelta(hours=1)),
            spo2(after, "95", NOW + timedelta(minutes=1)),
            spo2(before, "94", NOW + timedelta(minutes=2)),
            spo2(after, "93", NOW - timedelta(minutes=30)),
            now=NOW + timedelta(minutes=5),
        )
        assert (kept.outcome, theirs.outcome) == ("accepted", "accepted")
        for refused in (too_late, too_early):
            assert getattr(refused.refusal, "reason", None) == "outside-assignment"
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", after) == [(95.0,)]
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s ORDER BY 1", before) == [
            (96.0,),
            (97.0,),
        ]

    async def test_hazard_wrong_patient_a_refusal_names_nobody_else(self, tx: Tx) -> None:
        before, device = await person_with_device(tx)
        after, _ = await person_with_device(tx)
        await hand_on(tx, device, after)
        (refused,) = await send(tx, device, spo2(after, "93", NOW - timedelta(minutes=30)))
        assert refused.refusal is not None and before not in refused.refusal.issues[0].diagnostics

    async def test_a_correction_never_moves_a_reading_to_the_new_holder(self, tx: Tx) -> None:
        before, device = await person_with_device(tx)
        after, _ = await person_with_device(tx)
        await send(tx, device, spo2(before, "97"))
        await hand_on(tx, device, after)
        later = NOW + timedelta(minutes=1)
        (receipt,) = await send(tx, device, spo2(after, "90", later, status="corrected"), now=later)
        assert receipt.outcome == "accepted"
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", before) == [(97.0,)]


async def hand_on(tx: Tx, device: Actor, patient_id: str) -> None:
    """As another system does it: a new version of the Device, and nothing more."""
    handed_on = {"resourceType": "Device", "status": "active", "patient": {"reference": f"Patient/{patient_id}"}}
    await flows.write(tx, IMPORTER, [Change("update", "Device", device.id, handed_on)], NOW)


class TestWrongReading:
    async def test_its_flag_waits_for_a_person_and_no_rule_sees_it_again(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        (receipt,) = await send(tx, device, spo2(patient_id, "80"))
        assert receipt.observation_id is not None
        await flows.mark_wrong(tx, IMPORTER, receipt.observation_id, "The probe was on the cat")
        assert await rows(tx, "SELECT quality FROM reading WHERE patient_id = %s", patient_id) == [("wrong",)]
        assert await rows(tx, "SELECT state, count FROM flag WHERE patient_id = %s", patient_id) == [("open", 1)]


class TestNothingIsLostSilently:
    async def test_the_devices_page_counts_what_was_refused_and_says_why(self, tx: Tx) -> None:
        patient_id, device = await person_with_device(tx)
        wrong_unit = {"value": 12, "unit": "kPa", "system": "http://unitsofmeasure.org", "code": "kPa"}
        await send(tx, device, spo2(patient_id, "97"), spo2(patient_id, "97", valueQuantity=wrong_unit))
        operations = Actor("user", "o", "Jean", "operations", "Practitioner/o", ("Practitioner/o",))
        (found,) = (await fleet.fleet(tx.pg, operations, NOW, only=device.id)).rows
        assert (found.refused, found.reason) == (1, "wrong-unit")
        said = device_words.row(found, NOW)
        assert said["why"] == "The unit is none that this measure has."
