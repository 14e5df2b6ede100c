"""The person's own page: what a rule tells them stands there at once, whoever sent the reading."""

from datetime import timedelta

from test_flow_readings import NOW, person, send, spo2

from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages.me import _advised

CLINICIAN = Actor("system", "c", "Dr Shah", "administrator", "Practitioner/shah", ("Practitioner/shah",))


class TestHazardAlertToAbsentStaff:
    async def test_red_advice_of_a_devices_reading_does_not_wait_for_staff(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        assert await _advised(tx, patient_id, NOW) == []
        await send(tx, device, spo2(patient_id, "84"))
        (advice,) = await _advised(tx, patient_id, NOW + timedelta(minutes=1))
        assert "999" in advice

    async def test_it_ends_with_the_flag_and_after_a_day(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "84"))
        assert await _advised(tx, patient_id, NOW + timedelta(hours=25)) == []
        row = await (await tx.pg.execute("SELECT id FROM flag WHERE patient_id = %s", (patient_id,))).fetchone()
        assert row is not None
        await flows.resolve_flag(tx, CLINICIAN, row[0], "Seen at home")
        assert await _advised(tx, patient_id, NOW + timedelta(minutes=1)) == []
