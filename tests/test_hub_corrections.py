"""What was wrong is struck through, with who and why, and can be taken back; and notes beside readings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_hub_rules import CLINICIAN, COORDINATOR, person, staff, stored

from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import happened, trends
from hub.pages.period import period
from monitoring.annotations import LONGEST
from monitoring.limits import Limits, Order

JSON = dict[str, Any]
NURSE = staff("practice-staff")


def patient(patient_id: str) -> Actor:
    reference = f"Patient/{patient_id}"
    return Actor("patient", patient_id, "Ann Archer", "patient", reference, (reference,))


async def pulse(tx: Tx, actor: Actor, patient_id: str, value: int = 72, **more: Any) -> str:
    reading = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": datetime.now(UTC).isoformat(timespec="seconds"),
        "performer": [{"reference": actor.reference}],
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        **more,
    }
    id_ = new_id()
    await flows.write(tx, actor, [Change("create", "Observation", id_, reading)])
    return id_


async def rows(tx: Tx, actor: Actor, patient_id: str) -> list[Any]:
    now = datetime.now(UTC)
    found = await trends.charts_of(tx, actor, patient_id, period({}, now), now)
    return [row for chart in found["charts"] for row in chart["rows"]]


async def refused(tx: Tx, actor: Actor, id_: str, resource: JSON) -> int:
    with pytest.raises(Refusal) as caught:
        async with tx.pg.transaction():
            await flows.write(tx, actor, [Change("update", "Observation", id_, resource)])
    return caught.value.status


class TestHazardWrongReadingRewritten:
    """Whoever typed a reading may say that it was wrong. Nothing else of it changes, and nobody else's."""

    async def test_a_person_rewrites_no_reading_and_strikes_no_other(self, tx: Tx) -> None:
        patient_id = await person(tx)
        own = patient(patient_id)
        typed, nurses = await pulse(tx, own, patient_id), await pulse(tx, NURSE, patient_id)
        device = await pulse(tx, COORDINATOR, patient_id, device={"reference": "Device/d"}, performer=[])
        struck = {
            "status": "entered-in-error",
            "note": [{"authorReference": {"reference": own.reference}, "text": "no"}],
        }
        for id_ in (nurses, device):
            assert await refused(tx, own, id_, {**await stored(tx, "Observation", id_), **struck}) == 403
        body = await stored(tx, "Observation", typed)
        lower = {**body["valueQuantity"], "value": 60}
        label = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
        anothers = [{"authorReference": {"reference": NURSE.reference}, "text": "no"}]
        for changed in (
            {**body, "valueQuantity": lower},
            {**body, **struck, "valueQuantity": lower},
            {**body, **struck, "meta": {**body["meta"], **label}},
            {**body, **struck, "note": anothers},
            {**body, "status": "entered-in-error"},
        ):
            assert await refused(tx, own, typed, changed) == 403
        with pytest.raises(Refusal) as caught:
            await flows.mark_wrong(tx, patient(await person(tx)), typed, "Not mine at all")
        assert caught.value.status == 404

    async def test_one_that_staff_struck_is_not_theirs_to_take_back(self, tx: Tx) -> None:
        patient_id = await person(tx)
        own = patient(patient_id)
        typed = await pulse(tx, own, patient_id)
        await flows.mark_wrong(tx, COORDINATOR, typed, "She read the wrong number")
        assert [(row.strike, row.restore) for row in await rows(tx, own, patient_id)] == [(False, False)]
        with pytest.raises(Refusal) as caught:
            await flows.mark_right(tx, own, typed, "I did not")
        assert caught.value.status == 403

    async def test_it_stays_with_who_and_why_and_can_be_taken_back(self, tx: Tx) -> None:
        patient_id = await person(tx)
        own = patient(patient_id)
        typed = await pulse(tx, own, patient_id, 144)
        assert [(row.strike, row.restore) for row in await rows(tx, own, patient_id)] == [(True, False)]
        assert [row.strike for row in await rows(tx, NURSE, patient_id)] == [False]
        await flows.mark_wrong(tx, own, typed, "That was my neighbour's")
        (row,) = await rows(tx, own, patient_id)
        assert (row.quality, row.shown, row.restore) == ("wrong", "144 /min", True)
        assert "neighbour" in row.struck
        await flows.mark_right(tx, own, typed, "It was mine after all")
        body = await stored(tx, "Observation", typed)
        assert (body["status"], [note["text"][:4] for note in body["note"]]) == ("final", ["That", "It w"])
        assert [row.quality for row in await rows(tx, own, patient_id)] == ["ok"]

    async def test_a_reason_is_asked_for(self, tx: Tx) -> None:
        patient_id = await person(tx)
        typed = await pulse(tx, COORDINATOR, patient_id)
        for act in (flows.mark_wrong, flows.mark_right):
            with pytest.raises(Refusal) as caught:
                await act(tx, COORDINATOR, typed, " ")
            assert caught.value.status == 422
        with pytest.raises(Refusal) as caught:
            await flows.mark_right(tx, COORDINATOR, typed, "why not")
        assert caught.value.status == 409


class TestNotes:
    async def test_of_staff_and_of_the_person_stand_beside_the_readings(self, tx: Tx) -> None:
        patient_id = await person(tx)
        own, now = patient(patient_id), datetime.now(UTC)
        await flows.write_note(tx, own, patient_id, now - timedelta(days=2), "A cold since Monday")
        await flows.write_note(tx, COORDINATOR, patient_id, now - timedelta(days=1), "New tablets")
        await flows.write_note(tx, own, patient_id, now - timedelta(days=90), "Long ago")
        for reader in (own, NURSE):
            found = await happened.notes(tx, reader, patient_id, period({}, now))
            assert [(one.text, one.author) for one in found] == [
                ("A cold since Monday", own.reference),
                ("New tablets", COORDINATOR.reference),
            ]
        assert await rows(tx, own, patient_id) == []

    async def test_one_that_was_wrong_stays_struck_through(self, tx: Tx) -> None:
        patient_id = await person(tx)
        own, now = patient(patient_id), datetime.now(UTC)
        written = await flows.write_note(tx, own, patient_id, now, "New tablets")
        await flows.mark_wrong(tx, own, written.change.id, "Not started yet")
        (found,) = await happened.notes(tx, NURSE, patient_id, period({}, now))
        assert (found.text, found.struck, found.struck_by is not None) == ("New tablets", "Not started yet", True)

    async def test_nobody_writes_one_about_somebody_elses_person(self, tx: Tx) -> None:
        patient_id = await person(tx)
        stranger = Actor("user", "x", "Xan", "clinician", "Practitioner/xan", ("Practitioner/xan",))
        device = Actor("device", "d", "d", "device", "Device/d", ("Device/d",))
        for actor in (stranger, patient(await person(tx)), device):
            with pytest.raises(Refusal) as caught:
                async with tx.pg.transaction():
                    await flows.write_note(tx, actor, patient_id, datetime.now(UTC), "Hello")
            assert caught.value.status in (403, 422), actor.role
        assert await happened.notes(tx, NURSE, patient_id, period({}, datetime.now(UTC))) == []

    @pytest.mark.parametrize("text", ["", "  ", "x" * (LONGEST + 1)])
    async def test_says_what_is_wrong_with_it(self, tx: Tx, text: str) -> None:
        with pytest.raises(Refusal) as caught:
            await flows.write_note(tx, COORDINATOR, await person(tx), datetime.now(UTC), text)
        assert caught.value.status == 422


class TestLimitsOnTheOwnPages:
    """The defaults are alarms for staff; what a clinician set is for them to share."""

    async def limits(self, tx: Tx, patient_id: str) -> list[str | None]:
        now, own = datetime.now(UTC), patient(patient_id)
        found = await trends.charts_of(tx, own, patient_id, period({}, now), now, plain=True)
        return [one["text"] for chart in found["charts"] for one in chart["limits"]]

    async def test_stand_there_when_they_are_shared(self, tx: Tx) -> None:
        patient_id = await person(tx)
        await pulse(tx, patient(patient_id), patient_id)
        assert await self.limits(tx, patient_id) == [None]
        for shared, shown in ((False, None), (True, "red at 120 /min or more")):
            order = Order(
                new_id(), patient_id, "pulse", Limits(high_red=120), set_by=CLINICIAN.reference, reason="agreed",
                review_on=datetime.now(UTC).date() + timedelta(days=90), shared=shared,
            )  # fmt: skip
            await flows.set_limits(tx, CLINICIAN, order)
            assert await self.limits(tx, patient_id) == [shown]
