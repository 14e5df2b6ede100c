"""Pauses of home monitoring: by whom, for how long, through the pages' flow and through FHIR alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_flow_readings import person, rows, send, spo2

from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import flows, pauses
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from monitoring.pauses import LONGEST, Pause, from_service_request, paused, to_service_request, until

NOW = datetime.now(UTC).replace(microsecond=0)
WEEK = timedelta(days=7)
COACH = Actor("user", "c", "Kit", "health-coach", "Practitioner/kit", ("Practitioner/kit",))
PRACTICE = Actor("user", "p", "Sam", "practice-staff", "Practitioner/kit", ("Practitioner/kit",))


async def somebody(tx: Tx) -> tuple[str, Actor]:
    """A person in whose care COACH and PRACTICE are, and their device."""
    patient_id, device = await person(tx)
    await tx.pg.execute(
        "INSERT INTO access (subject, patient_id, source, basis) VALUES ('Practitioner/kit', %s, 'CareTeam/t', 'team')",
        (patient_id,),
    )
    return patient_id, device


def made(patient_id: str, **given: Any) -> Pause:
    return replace(Pause(new_id(), patient_id, NOW, NOW + WEEK, "Away at the sea", COACH.reference), **given)


async def put(tx: Tx, actor: Actor, resource: dict[str, Any], method: str = "create") -> None:
    await flows.write(tx, actor, [Change(method, "ServiceRequest", resource["id"], resource)], NOW)  # type: ignore[arg-type]


class TestShape:
    def test_it_survives_fhir(self) -> None:
        pause = made("p", device_id="d", measures=frozenset({"spo2", "pulse"}))
        resource = to_service_request(pause, "holiday", NOW, "Kit")
        assert resource["doNotPerform"] is True and resource["performer"] == [{"reference": "Device/d"}]
        assert from_service_request(resource) == pause
        assert pause.covers("spo2") and not pause.covers("weight")

    @pytest.mark.parametrize(
        ("wrong", "where"),
        [
            ({"until": NOW}, "occurrence"),
            ({"until": NOW + LONGEST + timedelta(days=1)}, "occurrence"),
            ({"reason": " "}, "reasonCode"),
            ({"device_id": "d"}, "orderDetail"),
        ],
    )
    def test_what_does_not_say_when_or_why_is_refused(self, wrong: dict[str, Any], where: str) -> None:
        with pytest.raises(Refusal) as refused:
            to_service_request(made("p", **wrong))
        assert refused.value.status == 422 and where in (refused.value.issues[0].expression or "")

    def test_the_end_that_shows_is_that_of_what_covers_the_measure(self) -> None:
        everything, spo2_only = made("p"), made("p", until=NOW + 2 * WEEK, measures=frozenset({"spo2"}))
        assert until([everything, spo2_only]) == NOW + WEEK
        assert until([everything, spo2_only], "spo2") == NOW + 2 * WEEK
        assert until([spo2_only], "weight") is None


class TestPause:
    async def test_it_holds_from_its_beginning_to_its_end(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        await pauses.pause(tx, COACH, patient_id, NOW, NOW + WEEK, "In hospital", code="admission", now=NOW)
        ids = [patient_id, "somebody-else"]
        assert [one.reason for one in (await paused(tx.pg, ids, NOW))[patient_id]] == ["In hospital"]
        for at in (NOW - timedelta(seconds=1), NOW + WEEK):
            assert await paused(tx.pg, ids, at) == {}

    async def test_a_reading_that_comes_all_the_same_is_evaluated(self, tx: Tx) -> None:
        """Hazard: a pause hides deterioration."""
        patient_id, device = await somebody(tx)
        await pauses.pause(tx, COACH, patient_id, NOW, NOW + WEEK, "Holiday", now=NOW)
        await send(tx, device, spo2(patient_id, "80"))
        assert await rows(tx, "SELECT severity FROM flag WHERE patient_id = %s", patient_id) == [(3,)]

    async def test_it_is_ended_and_kept(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        pause = await pauses.pause(tx, COACH, patient_id, NOW, NOW + WEEK, "Holiday", now=NOW)
        later = NOW + timedelta(days=2)
        await pauses.end(tx, COACH, pause.change.id, "Came home early", later)
        assert await paused(tx.pg, [patient_id], later) == {}
        assert len((await paused(tx.pg, [patient_id], NOW))[patient_id]) == 1
        with pytest.raises(Refusal) as again:
            await pauses.end(tx, COACH, pause.change.id, "Again", later)
        assert again.value.status == 409

    async def test_one_that_has_not_begun_is_revoked(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        pause = await pauses.pause(tx, COACH, patient_id, NOW + WEEK, NOW + 2 * WEEK, "Holiday", now=NOW)
        await pauses.end(tx, COACH, pause.change.id, "Does not go", NOW)
        assert await rows(tx, "SELECT 1 FROM pause WHERE id = %s", pause.change.id) == []


class TestEveryDoor:
    """Hazard: a pause excuses silence afterwards, or somebody pauses whose business it is not."""

    async def test_others_roles_and_names_are_refused(self, tx: Tx) -> None:
        patient_id, device = await somebody(tx)
        resource = to_service_request(made(patient_id))
        for actor in (PRACTICE, device, replace(COACH, reference="Practitioner/other")):
            with pytest.raises(Refusal) as refused:
                await put(tx, actor, resource)
            assert refused.value.status == 403
        elsewhere, _ = await person(tx)
        with pytest.raises(Refusal) as refused:
            await pauses.pause(tx, COACH, elsewhere, NOW, NOW + WEEK, "Holiday", now=NOW)
        assert refused.value.status == 403

    async def test_silence_is_not_excused_afterwards(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        for since, end in ((NOW - WEEK, NOW - timedelta(days=1)), (NOW - timedelta(days=40), NOW + WEEK)):
            with pytest.raises(Refusal) as refused:
                await put(tx, COACH, to_service_request(made(patient_id, since=since, until=end)))
            assert refused.value.status == 422

    async def test_one_that_has_begun_is_neither_moved_nor_taken_back(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        begun = to_service_request(made(patient_id, since=NOW - timedelta(days=1)))
        await put(tx, COACH, begun)
        for changed in (
            to_service_request(made(patient_id, id=begun["id"], since=NOW - timedelta(days=3))),
            to_service_request(made(patient_id, id=begun["id"], since=NOW - timedelta(days=1), measures={"spo2"})),
            {**begun, "status": "revoked"},
            {**begun, "category": [{"text": "no pause any more"}]},
        ):
            with pytest.raises(Refusal) as refused:
                await put(tx, COACH, changed, "update")
            assert refused.value.status == 422
        with pytest.raises(Refusal):
            await flows.write(tx, COACH, [Change("delete", "ServiceRequest", begun["id"], None)], NOW)
        await put(
            tx,
            COACH,
            to_service_request(made(patient_id, id=begun["id"], since=NOW - timedelta(days=1), until=NOW + 2 * WEEK)),
            "update",
        )
        assert list(await paused(tx.pg, [patient_id], NOW + 10 * timedelta(days=1))) == [patient_id]

    async def test_another_system_brings_what_stood(self, tx: Tx) -> None:
        patient_id, _ = await somebody(tx)
        old = made(patient_id, since=NOW - 9 * WEEK, until=NOW - 8 * WEEK)
        await put(tx, IMPORTER, to_service_request(old))
        assert list(await paused(tx.pg, [patient_id], NOW - 9 * WEEK)) == [patient_id]
