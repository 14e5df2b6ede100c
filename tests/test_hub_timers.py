"""The life of an alert in the record: who is told when, what time does to it, through which door it is moved."""

import asyncio
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import pytest
from conftest import Fresh
from test_flow_readings import HTEST, person, rows, send, spo2

from fhir.outcome import Refusal
from fhir.store import Change, load, new_id
from hub import accounts, flows, timers
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from monitoring import cover, flags
from monitoring.cover import NONE_OF_ITS_OWN, Cover
from monitoring.hours import DEFAULT, MIDNIGHT, Hours

JSON = dict[str, Any]
MORNING = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)  # a Friday
NIGHT = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
COORDINATOR, CLINICIAN, LEAD = (f"Practitioner/{one}" for one in ("cara", "clive", "leah"))


def actor(role: str, reference: str) -> Actor:
    return Actor("user", role, role, role, reference, (reference,), "yeovil")


async def watched(tx: Tx, **given: Any) -> tuple[str, Actor]:
    """A person with a device, a coordinator and a clinician in their team; Leah leads the hub. *given* is its Cover."""
    patient_id, device = await person(tx)
    for name, role in (("cara", "care-coordinator"), ("clive", "clinician"), ("leah", "clinician")):
        if not await rows(tx, "SELECT 1 FROM account WHERE username = %s", name):
            await accounts.create_account(
                tx, name, factories.PASSWORD, name, role, f"Practitioner/{name}", (), "yeovil", demonstration=True
            )
    for reference, code in ((COORDINATOR, "768820003"), (CLINICIAN, "224540001")):
        await tx.pg.execute(
            "INSERT INTO team_member (care_team_id, member, role_code, patient_id, role, name)"
            " VALUES (%s, %s, %s, %s, '', 'N')",
            (new_id(), reference, code, patient_id),
        )
    for reference in (COORDINATOR, CLINICIAN, LEAD):
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, 'CareTeam/t', 'team')",
            (reference, patient_id),
        )
    if given:
        await covered(tx, Cover(**given))
    return patient_id, device


async def covered(tx: Tx, given: Cover, id_: str = "cover-yeovil") -> None:
    resource = cover.to_fhir(given, "yeovil", id_)
    await flows.write(tx, IMPORTER, [Change("update", "HealthcareService", id_, resource)])


async def red(tx: Tx, patient_id: str, device: Actor, now: datetime = MORNING, value: str = "88") -> str:
    """A reading of *value*; the id of the flag of its rule that is live."""
    await send(tx, device, spo2(patient_id, value, now), now=now)
    ((flag_id,),) = await rows(
        tx,
        "SELECT id FROM flag WHERE patient_id = %s AND rule = 'oximetry-at-home' AND resolved_at IS NULL",
        patient_id,
    )
    return str(flag_id)


async def told(tx: Tx, patient_id: str) -> list[tuple[str, str]]:
    found = await rows(tx, "SELECT kind, recipient FROM notice WHERE patient_id = %s ORDER BY id", patient_id)
    return [(kind, recipient) for kind, recipient in found]


async def state(tx: Tx, flag_id: str) -> tuple[Any, ...]:
    return tuple((await rows(tx, "SELECT state, level, due FROM flag WHERE id = %s", flag_id))[0])


class TestChain:
    async def test_coordinator_then_clinician_then_lead_each_with_a_notice_and_a_line(self, tx: Tx) -> None:
        patient_id, device = await watched(tx, leads=(LEAD,))
        flag_id = await red(tx, patient_id, device)
        assert await told(tx, patient_id) == [("flag-opened", COORDINATOR)]
        assert await timers.fire_due(tx, MORNING + 14 * MINUTE) == 0
        assert await timers.fire_due(tx, MORNING + 15 * MINUTE) == 1
        assert await timers.fire_due(tx, MORNING + 15 * MINUTE) == 0
        assert await timers.fire_due(tx, MORNING + 30 * MINUTE) == 1
        assert await told(tx, patient_id) == [
            ("flag-opened", COORDINATOR),
            ("flag-escalated", CLINICIAN),
            ("flag-escalated", LEAD),
        ]
        assert await state(tx, flag_id) == ("escalated", 2, MORNING + 30 * MINUTE + HOUR)
        stored = (await load(tx.pg, [("Flag", flag_id)]))["Flag", flag_id]
        assert stored.resource is not None
        found = flags.from_fhir(stored.resource, stored.version)
        assert found is not None and [one["to"] for one in found.moves] == ["open", "escalated", "escalated"]
        assert stored.resource["status"] == "active"

    async def test_hazard_alert_not_seen_it_never_ends_by_itself(self, tx: Tx) -> None:
        patient_id, device = await watched(tx, hours=Hours((((0, MIDNIGHT),),) * 7, bank_holidays=False))
        flag_id = await red(tx, patient_id, device)
        now = MORNING
        for _ in range(10):
            now += 2 * HOUR
            assert await timers.fire_due(tx, now) == 1
        assert (await state(tx, flag_id))[:2] == ("escalated", 10)

    async def test_who_acknowledges_stops_the_chain(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        flag_id = await red(tx, patient_id, device)
        await flows.acknowledge_flag(tx, actor("care-coordinator", COORDINATOR), flag_id, "Ringing her")
        assert await timers.fire_due(tx, MORNING + HOUR) == 0
        assert (await state(tx, flag_id))[0] == "acknowledged"

    async def test_a_person_escalates_by_hand(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        flag_id = await red(tx, patient_id, device)
        await flows.move_flag(tx, actor("care-coordinator", COORDINATOR), flag_id, "escalated", "I am on the road")
        assert (await told(tx, patient_id))[1:] == [("flag-escalated", CLINICIAN)]

    async def test_hazard_alert_to_absent_staff_nobody_is_told_at_night_but_who_is_on_call(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        await red(tx, patient_id, device, NIGHT)
        assert await timers.fire_due(tx, NIGHT + 10 * HOUR) == 0
        night = "Practitioner/night"
        await covered(tx, Cover(on_call=(night,)))
        other, theirs = await watched(tx)
        await red(tx, other, theirs, NIGHT)
        assert ("flag-opened", night) in await told(tx, other)
        assert await timers.fire_due(tx, NIGHT + 15 * MINUTE) == 1
        assert ("flag-escalated", night) in await told(tx, other)

    async def test_a_team_without_a_coordinator_is_told_as_a_whole(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        await tx.pg.execute("DELETE FROM team_member WHERE member = %s AND patient_id = %s", (COORDINATOR, patient_id))
        await red(tx, patient_id, device)
        assert await told(tx, patient_id) == [("flag-opened", CLINICIAN)]

    async def test_each_fires_once_though_two_processes_look_and_one_is_killed(self, fresh_database: Fresh) -> None:
        class Killed(Exception):
            pass

        database = await fresh_database()
        async with database.transaction() as tx:
            people = [await watched(tx) for _ in range(3)]
            for patient_id, device in people:
                await red(tx, patient_id, device)
        due = MORNING + 20 * MINUTE
        with pytest.raises(Killed):
            async with database.transaction() as tx:
                assert await timers.fire_due(tx, due) == 3
                raise Killed

        async def fire() -> int:
            async with database.transaction() as tx:
                return await timers.fire_due(tx, due)

        assert sorted(await asyncio.gather(fire(), fire())) == [0, 3]
        async with database.transaction() as tx:
            for patient_id, _ in people:
                assert [kind for kind, _ in await told(tx, patient_id)] == ["flag-opened", "flag-escalated"]


class TestConfirming:
    async def test_it_calls_nobody_and_falls_away_and_nobody_takes_silence_for_calm(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        flag_id = await red(tx, patient_id, device, value="94")
        assert (await state(tx, flag_id))[0] == "confirming" and await told(tx, patient_id) == []
        assert await timers.fire_due(tx, MORNING + 24 * HOUR) == 1
        found = await rows(tx, "SELECT state, outcome, resolved_why FROM flag WHERE id = %s", flag_id)
        assert found == [("resolved", "not-confirmed", "No second reading came within 24 hours")]
        assert await told(tx, patient_id) == [("flag-lapsed", COORDINATOR)]

    async def test_a_normal_second_reading_lets_it_fall_away_quietly(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        flag_id = await red(tx, patient_id, device, value="94")
        await send(tx, device, spo2(patient_id, "97", MORNING + HOUR), now=MORNING + HOUR)
        assert await timers.fire_due(tx, MORNING + 24 * HOUR) == 1
        found = await rows(tx, "SELECT state, resolved_why FROM flag WHERE id = %s", flag_id)
        assert found == [("resolved", "The readings that came did not confirm it")]
        assert await told(tx, patient_id) == []

    async def test_a_second_low_one_opens_it_and_tells(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        flag_id = await red(tx, patient_id, device, value="94")
        assert await red(tx, patient_id, device, MORNING + HOUR, "93") == flag_id
        assert await state(tx, flag_id) == ("open", 0, MORNING + 5 * HOUR)
        assert await told(tx, patient_id) == [("flag-opened", COORDINATOR)]

    async def test_a_timer_that_is_late_changes_nothing(self, tx: Tx) -> None:
        """What is raised must be the same whether the timers were looked at in between or not."""
        patient_id, device = await watched(tx)
        await red(tx, patient_id, device, value="94")
        await send(tx, device, spo2(patient_id, "94", MORNING + 30 * HOUR), now=MORNING + 30 * HOUR)
        found = await rows(tx, "SELECT state, resolved_at FROM flag WHERE patient_id = %s ORDER BY opened", patient_id)
        assert found == [("resolved", MORNING + 24 * HOUR), ("confirming", None)]


class TestSnooze:
    async def test_hazard_snooze_hides_deterioration_a_worse_value_breaks_it(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        now = datetime.now(UTC)
        flag_id = await red(tx, patient_id, device, now)
        clinician = actor("clinician", CLINICIAN)
        await flows.move_flag(tx, clinician, flag_id, "snoozed", "Seen today", until=now + 12 * HOUR)
        assert await state(tx, flag_id) == ("snoozed", 0, now + 12 * HOUR)
        await red(tx, patient_id, device, now + HOUR, "87")
        assert (await state(tx, flag_id))[0] == "snoozed"
        await red(tx, patient_id, device, now + 2 * HOUR, "84")
        assert (await state(tx, flag_id))[0] == "open"
        assert await told(tx, patient_id) == [("flag-opened", COORDINATOR), ("flag-reopened", COORDINATOR)]

    async def test_its_end_wakes_it(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        now = datetime.now(UTC)
        flag_id = await red(tx, patient_id, device, now)
        until = now + 12 * HOUR
        await flows.move_flag(tx, actor("clinician", CLINICIAN), flag_id, "snoozed", "Seen today", until=until)
        assert await timers.fire_due(tx, until - MINUTE) == 0 and await timers.fire_due(tx, until) == 1
        assert (await state(tx, flag_id))[0] == "open"
        assert (await told(tx, patient_id))[-1] == ("flag-reopened", COORDINATOR)


def stepped(resource: JSON, to: str, **parts: Any) -> JSON:
    """The Flag *resource* with a move to *to*, as a client writes it."""
    resource = deepcopy(resource)
    extension = next(one for one in resource["extension"] if one["url"] == flags.EXT)
    said = [{"url": "to", "valueCode": to}, {"url": "why", "valueString": "Rang"}]
    extension["extension"].append({"url": "move", "extension": [*said, *parts.values()]})
    return resource


class TestThroughFhir:
    async def put(self, tx: Tx, who: Actor, resource: JSON) -> None:
        await flows.write(tx, who, [Change("update", "Flag", resource["id"], resource)])

    async def flag(self, tx: Tx) -> JSON:
        patient_id, device = await watched(tx)
        return await self.now(tx, await red(tx, patient_id, device, datetime.now(UTC)))

    async def now(self, tx: Tx, flag_id: str) -> JSON:
        stored = (await load(tx.pg, [("Flag", flag_id)]))["Flag", flag_id]
        assert stored.resource is not None
        return stored.resource

    async def test_a_move_is_signed_dated_and_carried_out(self, tx: Tx) -> None:
        resource = await self.flag(tx)
        who = actor("care-coordinator", COORDINATOR)
        await self.put(tx, who, stepped(resource, "in-progress"))
        found = flags.from_fhir(await self.now(tx, resource["id"]), 1)
        assert found is not None
        assert (found.state, found.acknowledged_by, found.due) == ("in-progress", COORDINATOR, None)
        assert found.moves[-1]["by"] == COORDINATOR and found.moves[-1]["at"] == found.acknowledged_at.isoformat()
        outcome = {"url": "outcome", "valueCoding": {"code": "phone-call"}}
        await self.put(tx, who, stepped(await self.now(tx, resource["id"]), "resolved", outcome=outcome))
        ended = await self.now(tx, resource["id"])
        assert ended["status"] == "inactive" and ended["period"]["end"]
        undo = {"url": "undo", "valueBoolean": True}
        await self.put(tx, who, stepped(ended, "in-progress", undo=undo))
        again = flags.from_fhir(await self.now(tx, resource["id"]), 1)
        assert again is not None and (again.state, again.outcome, len(again.moves)) == ("in-progress", None, 4)

    @pytest.mark.parametrize(
        ("role", "to", "parts", "status"),
        [
            ("health-coach", "resolved", {"o": {"url": "outcome", "valueCoding": {"code": "visit"}}}, 403),
            ("health-coach", "snoozed", {"u": {"url": "until", "valueDateTime": "2027-01-01T00:00:00Z"}}, 403),
            ("clinician", "acknowledged", {"b": {"url": "by", "valueReference": {"reference": LEAD}}}, 403),
            ("clinician", "resolved", {}, 422),
            ("clinician", "snoozed", {}, 422),
            ("clinician", "confirming", {}, 409),
            ("clinician", "gone", {}, 422),
        ],
    )
    async def test_what_is_refused(self, tx: Tx, role: str, to: str, parts: dict[str, JSON], status: int) -> None:
        resource = await self.flag(tx)
        with pytest.raises(Refusal) as caught:
            await self.put(tx, actor(role, CLINICIAN), stepped(resource, to, **parts))
        assert caught.value.status == status
        assert (await state(tx, resource["id"]))[0] == "open"

    async def test_two_steps_at_once_are_refused(self, tx: Tx) -> None:
        resource = await self.flag(tx)
        twice = stepped(stepped(resource, "acknowledged"), "in-progress")
        with pytest.raises(Refusal) as caught:
            await self.put(tx, actor("clinician", CLINICIAN), twice)
        assert caught.value.status in (403, 422)

    async def test_when_it_was_is_the_hubs_to_say(self, tx: Tx) -> None:
        resource = await self.flag(tx)
        long_ago = {"url": "at", "valueDateTime": "2020-01-01T00:00:00Z"}
        await self.put(tx, actor("clinician", CLINICIAN), stepped(resource, "acknowledged", at=long_ago))
        ((at,),) = await rows(tx, "SELECT acknowledged_at FROM flag WHERE id = %s", resource["id"])
        assert datetime.now(UTC) - at < MINUTE


class TestWhatNeverPages:
    async def test_hazard_test_readings_of_a_real_person_raise_no_flag_no_notice_no_timer(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        sandbox = {"resourceType": "Device", "status": "active", "patient": {"reference": f"Patient/{patient_id}"}}
        await flows.write(tx, IMPORTER, [Change("update", "Device", device.id, {**sandbox, "meta": HTEST})])
        (receipt,) = await send(tx, device, spo2(patient_id, "80", MORNING), now=MORNING)
        assert receipt.outcome == "accepted" and [one.code for one in receipt.doubts] == ["test"]
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", patient_id) == []
        assert await told(tx, patient_id) == [] and await timers.fire_due(tx, MORNING + 99 * HOUR) == 0

    async def test_hazard_synthetic_people_among_real_ones_a_test_flag_stands_on_no_real_persons_board(
        self, tx: Tx
    ) -> None:
        made_up, device = await person(tx, synthetic=True)
        await red(tx, made_up, device)
        ((flag_id,),) = await rows(tx, "SELECT id FROM flag WHERE patient_id = %s", made_up)
        stored = (await load(tx.pg, [("Flag", flag_id)]))["Flag", flag_id]
        real, _ = await watched(tx)
        forged = {**(stored.resource or {}), "id": new_id(), "subject": {"reference": f"Patient/{real}"}, "meta": HTEST}
        with pytest.raises(Refusal, match="this person is real"):
            async with tx.pg.transaction():
                await flows.write(tx, IMPORTER, [Change("create", "Flag", forged["id"], forged)])
        labelled = {**forged, "subject": {"reference": f"Patient/{(await person(tx, synthetic=True))[0]}"}}
        await flows.write(tx, IMPORTER, [Change("create", "Flag", forged["id"], labelled)])
        assert await rows(tx, "SELECT 1 FROM flag WHERE patient_id = %s", real) == []

    async def test_late_readings_are_charted_and_neither_page_nor_escalate(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        late = spo2(patient_id, "80", MORNING - 25 * HOUR)
        (receipt,) = await send(tx, device, late, now=MORNING)
        assert [one.code for one in receipt.doubts] == ["late"]
        assert await rows(tx, "SELECT value FROM reading WHERE patient_id = %s", patient_id) == [(80.0,)]
        assert await told(tx, patient_id) == [] and await timers.fire_due(tx, MORNING + 99 * HOUR) == 0

    async def test_nor_do_they_open_what_somebody_has_seen(self, tx: Tx) -> None:
        patient_id, device = await watched(tx)
        now = datetime.now(UTC)
        flag_id = await red(tx, patient_id, device, now)
        await flows.acknowledge_flag(tx, actor("clinician", CLINICIAN), flag_id, "Seen")
        await send(tx, device, spo2(patient_id, "70", now - 25 * HOUR), now=now)
        assert (await state(tx, flag_id))[0] == "acknowledged"


class TestCover:
    async def test_there_and_back_and_the_default(self, tx: Tx) -> None:
        split = Hours((((540, 720), (780, 1020)), *DEFAULT.week[1:]), bank_holidays=False)
        given = Cover(split, 10 * MINUTE, HOUR, (LEAD,), ("Practitioner/night",), "01935 100")
        await covered(tx, given)
        assert await cover.load_cover(tx.pg, ["yeovil", "other", None]) == {
            "yeovil": given, "other": NONE_OF_ITS_OWN, None: NONE_OF_ITS_OWN,
        }  # fmt: skip

    async def test_a_second_of_one_hub_is_refused_and_one_that_ends_leaves_the_default(self, tx: Tx) -> None:
        await covered(tx, Cover(red=10 * MINUTE))
        with pytest.raises(Refusal) as caught:
            async with tx.pg.transaction():
                await covered(tx, Cover(), "cover-second")
        assert caught.value.status == 409
        ended = {**cover.to_fhir(Cover(), "yeovil", "cover-yeovil"), "active": False}
        await flows.write(tx, IMPORTER, [Change("update", "HealthcareService", "cover-yeovil", ended)])
        assert (await cover.load_cover(tx.pg, ["yeovil"]))["yeovil"] == NONE_OF_ITS_OWN

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda one: one["extension"][0]["extension"][0].update(valueInteger=0), "Red waits"),
            (lambda one: one["extension"][0]["extension"][1].update(valueInteger=99_999), "Amber waits"),
            (lambda one: one["availableTime"][0].update(availableEndTime="08:00:00"), "ends before it begins"),
            (lambda one: one["availableTime"].append(dict(one["availableTime"][0])), "overlap"),
            (lambda one: one.pop("providedBy"), "whose cover"),
            (
                lambda one: one["extension"][0]["extension"].append(
                    {"url": "lead", "valueReference": {"reference": "Patient/p"}}
                ),
                "Practitioner",
            ),
        ],
    )
    async def test_hours_that_cannot_be_are_refused(self, tx: Tx, spoil: Any, said: str) -> None:
        resource = cover.to_fhir(Cover(), "yeovil", "cover-yeovil")
        spoil(resource)
        with pytest.raises(Refusal, match=said) as caught:
            await flows.write(tx, IMPORTER, [Change("create", "HealthcareService", "cover-yeovil", resource)])
        assert caught.value.status == 422
