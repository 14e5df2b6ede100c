"""What nobody may do to limits and flags, whichever door they come through."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from typing import Any

import pytest

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import flows, intake
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from monitoring.limits import Limits, Order, to_service_request

JSON = dict[str, Any]


def staff(role: str) -> Actor:
    reference = f"Practitioner/{role}"
    return Actor("user", role, role, role, reference, (reference, "Organization/yeovil"))


CLINICIAN, COACH, COORDINATOR = staff("clinician"), staff("health-coach"), staff("care-coordinator")


async def person(tx: Tx) -> str:
    """A person in the care of the hub that all staff here work for."""
    patient_id, team_id = new_id(), new_id()
    hub = {"reference": "Organization/yeovil"}
    patient = {"resourceType": "Patient", "name": [{"family": "Archer"}], "managingOrganization": hub}
    team = {
        "resourceType": "CareTeam", "status": "active", "subject": {"reference": f"Patient/{patient_id}"},
        "managingOrganization": [hub], "participant": [{"member": hub}],
    }  # fmt: skip
    await flows.write(
        tx, IMPORTER, [Change("create", "Patient", patient_id, patient), Change("create", "CareTeam", team_id, team)]
    )
    return patient_id


async def stored(tx: Tx, type_: str, id_: str) -> JSON:
    found = (await store.load(tx.pg, [(type_, id_)]))[type_, id_].resource
    assert found is not None
    return found


async def change(tx: Tx, actor: Actor, resource: JSON | None, type_: str, id_: str) -> None:
    async with tx.pg.transaction():
        await flows.write(tx, actor, [Change("delete" if resource is None else "update", type_, id_, resource)])


async def test_deleting_what_is_not_there_answers_as_for_another_persons_record(tx: Tx) -> None:
    """Or a guess at an id would tell whether somebody is a patient."""
    subject = {"reference": f"Patient/{await person(tx)}"}
    some: list[JSON] = [{"resourceType": "Condition", "id": new_id(), "subject": subject} for _ in range(2)]
    elsewhere, gone = some
    for one in (elsewhere, gone):
        await flows.write(tx, IMPORTER, [Change("create", "Condition", one["id"], one)])
    await change(tx, IMPORTER, None, "Condition", gone["id"])
    stranger = Actor("user", "x", "Xan", "clinician", "Practitioner/xan", ("Practitioner/xan",))
    said = set()
    for id_ in (elsewhere["id"], gone["id"], "never-there"):
        with pytest.raises(Refusal) as caught:
            await change(tx, stranger, None, "Condition", id_)
        said.add((caught.value.status, str(caught.value).replace(id_, "ID")))
    assert len(said) == 1 and said.pop()[0] == 404


class TestLimits:
    """Hazard: limits that a clinician set are gone, and nobody watches the level any more."""

    async def ordered(self, tx: Tx) -> tuple[str, JSON]:
        patient_id = await person(tx)
        order = Order(
            new_id(), patient_id, "weight", Limits(high_amber=71.0), set_by=CLINICIAN.reference, reason="Heart failure",
            review_on=date(2027, 3, 1), every_hours=24.0,
        )  # fmt: skip
        written = await flows.set_limits(tx, CLINICIAN, order)
        return patient_id, await stored(tx, "ServiceRequest", written.change.id)

    async def in_force(self, tx: Tx, patient_id: str) -> list[Any]:
        rows = await tx.pg.execute(
            "SELECT high_amber FROM monitoring_limit WHERE active AND patient_id = %s", (patient_id,)
        )
        return await rows.fetchall()

    @pytest.mark.parametrize("actor", [COACH, COORDINATOR], ids=lambda one: one.role)
    @pytest.mark.parametrize(
        "take_away",
        [
            lambda order: {**order, "extension": [{"url": "https://example.org/x", "valueString": "x"}]},
            lambda order: {**order, "status": "revoked"},
            lambda order: {**order, "category": [{"text": "something else"}]},
            lambda order: None,
        ],
        ids=["stripped", "revoked", "renamed", "deleted"],
    )
    async def test_only_who_may_set_limits_takes_them_away(
        self, tx: Tx, actor: Actor, take_away: Callable[[JSON], JSON | None]
    ) -> None:
        patient_id, order = await self.ordered(tx)
        with pytest.raises(Refusal) as caught:
            await change(tx, actor, take_away(deepcopy(order)), "ServiceRequest", order["id"])
        assert caught.value.status == 403
        assert await self.in_force(tx, patient_id) == [(71.0,)]

    async def test_a_day_of_review_that_has_come_is_refused_at_every_door(self, tx: Tx) -> None:
        _, order = await self.ordered(tx)
        past = deepcopy(order)
        for one in past["extension"]:
            if "valueDate" in one:
                one["valueDate"] = "2020-01-01"
        with pytest.raises(Refusal) as caught:
            await change(tx, CLINICIAN, past, "ServiceRequest", order["id"])
        assert caught.value.status == 422
        assert "after today" in str(caught.value)
        await change(tx, IMPORTER, past, "ServiceRequest", order["id"])  # another system brings what stood
        noted = {**past, "note": [{"text": "Seen"}]}
        await change(tx, CLINICIAN, noted, "ServiceRequest", order["id"])  # an overdue order may be changed otherwise

    async def test_a_later_order_without_limits_does_not_take_their_place(self, tx: Tx) -> None:
        patient_id, _ = await self.ordered(tx)
        plain = to_service_request(Order(new_id(), patient_id, "weight", every_hours=48.0))
        with pytest.raises(Refusal) as caught:
            async with tx.pg.transaction():
                await flows.write(tx, COACH, [Change("create", "ServiceRequest", plain["id"], plain)])
        assert caught.value.status == 403
        assert await self.in_force(tx, patient_id) == [(71.0,)]

    async def test_a_clinician_ends_them_and_anybody_on_the_team_orders_readings_and_refers(self, tx: Tx) -> None:
        patient_id, order = await self.ordered(tx)
        await change(tx, CLINICIAN, {**order, "status": "revoked"}, "ServiceRequest", order["id"])
        assert await self.in_force(tx, patient_id) == []
        plain = to_service_request(Order(new_id(), patient_id, "weight", every_hours=48.0))
        referral: JSON = {
            "resourceType": "ServiceRequest", "id": new_id(), "status": "active", "intent": "order",
            "code": {"text": "Walking group"}, "subject": {"reference": f"Patient/{patient_id}"},
        }  # fmt: skip
        await flows.write(tx, COACH, [Change("create", "ServiceRequest", one["id"], one) for one in (plain, referral)])
        assert await self.in_force(tx, patient_id) == [(None,)]


def _state(flag: JSON) -> list[JSON]:
    found: list[JSON] = flag["extension"][-1]["extension"]
    return found


def _milder(flag: JSON) -> JSON:
    for part in _state(flag):
        if part["url"] == "severity":
            part["valueInteger"] = 1
    return flag


def _renamed(flag: JSON) -> JSON:
    flag["code"]["text"] = "Nothing to see"
    return flag


def _hidden(flag: JSON) -> JSON:
    return {key: value for key, value in flag.items() if key != "extension"}


def _ended(flag: JSON, by: str, name: str = "resolved") -> JSON:
    for part in _state(flag):
        if part["url"] == "state":
            part["valueCode"] = name
    who = [
        {"url": "by", "valueReference": {"reference": by}},
        {"url": "at", "valueDateTime": datetime.now(UTC).isoformat()},
        {"url": "why", "valueString": "Rang, feels well"},
    ]
    _state(flag).append({"url": name, "extension": who})
    return {**flag, "status": "inactive"} if name == "resolved" else flag


class TestFlags:
    """Hazard: a red flag made to look like none."""

    async def raised(self, tx: Tx) -> tuple[str, JSON]:
        patient_id = await person(tx)
        device_id = new_id()
        device = {"resourceType": "Device", "status": "active", "patient": {"reference": f"Patient/{patient_id}"}}
        await flows.write(tx, IMPORTER, [Change("create", "Device", device_id, device)])
        reference = f"Device/{device_id}"
        observation = {
            "resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{patient_id}"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
            "effectiveDateTime": datetime.now(UTC).isoformat(),
            "valueQuantity": {"value": 88, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        }  # fmt: skip
        oximeter = Actor("device", device_id, "Oximeter", "device", reference, (reference,))
        await flows.receive_readings(tx, [intake.sent(oximeter, observation, b"{}")])
        rows = await tx.pg.execute("SELECT id FROM flag WHERE patient_id = %s", (patient_id,))
        ((flag_id,),) = await rows.fetchall()
        return patient_id, await stored(tx, "Flag", flag_id)

    @pytest.mark.parametrize("actor", [COACH, CLINICIAN], ids=lambda one: one.role)
    @pytest.mark.parametrize(
        "forge",
        [
            _milder,
            _renamed,
            _hidden,
            lambda flag: None,
            lambda flag: _ended(flag, "Practitioner/somebody-else"),
            lambda flag: _ended(flag, "Practitioner/somebody-else", "acknowledged"),
            lambda flag: _milder(_ended(flag, CLINICIAN.reference)),
        ],
        ids=["milder", "renamed", "hidden", "deleted", "ended-as-another", "acknowledged-as-another", "ended-milder"],
    )
    async def test_what_a_rule_found_cannot_be_rewritten(
        self, tx: Tx, actor: Actor, forge: Callable[[JSON], JSON | None]
    ) -> None:
        patient_id, flag = await self.raised(tx)
        with pytest.raises(Refusal) as caught:
            await change(tx, actor, forge(deepcopy(flag)), "Flag", flag["id"])
        assert caught.value.status == 403
        rows = await tx.pg.execute("SELECT severity, state FROM flag WHERE patient_id = %s", (patient_id,))
        assert await rows.fetchall() == [(3, "open")]

    async def test_nor_made(self, tx: Tx) -> None:
        """A made one would stand in the way of the real one: there is one live flag per rule."""
        _, flag = await self.raised(tx)
        other = {**deepcopy(flag), "id": new_id(), "subject": {"reference": f"Patient/{await person(tx)}"}}
        with pytest.raises(Refusal) as caught:
            async with tx.pg.transaction():
                await flows.write(tx, CLINICIAN, [Change("create", "Flag", other["id"], other)])
        assert caught.value.status == 403

    async def test_it_is_acknowledged_and_ended_in_ones_own_name_by_page_or_interface(self, tx: Tx) -> None:
        patient_id, flag = await self.raised(tx)
        await change(tx, COACH, _ended(deepcopy(flag), COACH.reference, "acknowledged"), "Flag", flag["id"])
        await flows.resolve_flag(tx, CLINICIAN, flag["id"], "Rang, feels well")
        rows = await tx.pg.execute(
            "SELECT state, acknowledged_by, resolved_by FROM flag WHERE patient_id = %s", (patient_id,)
        )
        assert await rows.fetchall() == [("resolved", COACH.reference, CLINICIAN.reference)]

    async def test_a_flag_of_no_rule_is_written_freely(self, tx: Tx) -> None:
        patient_id = await person(tx)
        note: JSON = {
            "resourceType": "Flag", "id": new_id(), "status": "active", "code": {"text": "Dog bites"},
            "subject": {"reference": f"Patient/{patient_id}"},
        }  # fmt: skip
        await flows.write(tx, COACH, [Change("create", "Flag", note["id"], note)])
        await change(tx, COACH, {**note, "code": {"text": "Dog is gone"}}, "Flag", note["id"])
        assert (await stored(tx, "Flag", note["id"]))["code"]["text"] == "Dog is gone"
