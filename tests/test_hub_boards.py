"""The boards' statements: rank, whose rows, counts, paging, missed readings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir.outcome import Refusal
from hub import boards, worklist
from hub.db import Tx
from hub.identity import Actor
from monitoring import overdue

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
TODAY_ENDS = datetime(2026, 11, 22, tzinfo=UTC)

COORDINATOR = Actor(
    "user",
    "a1",
    "Priya Shah",
    "care-coordinator",
    "Practitioner/priya",
    ("Practitioner/priya", "Organization/hub-1"),
    "hub-1",
)
CLINICIAN = Actor(
    "user", "a2", "Dr Ola", "clinician", "Practitioner/ola", ("Practitioner/ola", "Organization/hub-1"), "hub-1"
)
DEVICE = Actor("device", "d", "cuff", "device", "Device/d", ("Device/d",))


async def person(tx: Tx, patient_id: str, family: str = "Abbott", *, hub: str = "hub-1", team: bool = True) -> None:
    await tx.pg.execute(
        "INSERT INTO person (patient_id, family, given, search_name, hub_id, synthetic)"
        " VALUES (%s, %s, 'Jim', %s, %s, true)",
        (patient_id, family, f"{family.casefold()} jim", hub),
    )
    grants = [(f"Organization/{hub}", "hub")] + ([("Practitioner/priya", "team")] if team else [])
    for subject, basis in grants:
        await tx.pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis) VALUES (%s, %s, %s, %s)",
            (subject, patient_id, f"CareTeam/{patient_id}", basis),
        )


async def flag(tx: Tx, flag_id: str, patient_id: str, **given: Any) -> None:
    row = {
        "id": flag_id, "version": 1, "patient_id": patient_id, "hub_id": "hub-1", "rule": flag_id, "rule_version": 1,
        "kind": "clinical", "severity": 3, "state": "open", "summary": "Oxygen 90 %", "reasons": "[]",
        "observations": [], "count": 1, "opened": NOW - timedelta(hours=1), "refreshed": NOW,
    } | given  # fmt: skip
    columns = ", ".join(row)
    await tx.pg.execute(f"INSERT INTO flag ({columns}) VALUES ({', '.join(['%s'] * len(row))})", tuple(row.values()))


async def task(tx: Tx, task_id: str, patient_id: str, due: datetime, owner: str = "Practitioner/priya") -> None:
    await tx.pg.execute(
        "INSERT INTO task (id, version, patient_id, hub_id, owner, status, description, due)"
        " VALUES (%s, 1, %s, 'hub-1', %s, 'requested', 'Ring about tablets', %s)",
        (task_id, patient_id, owner, due),
    )


async def limit(tx: Tx, patient_id: str, measure: str = "weight", every_hours: float = 24, **given: Any) -> None:
    row = {"service_request_id": f"{patient_id}-{measure}", "patient_id": patient_id, "measure": measure,
           "every_hours": every_hours, "active": True} | given  # fmt: skip
    await tx.pg.execute(
        f"INSERT INTO monitoring_limit ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", tuple(row.values())
    )


async def reading(
    tx: Tx, patient_id: str, at: datetime, value: float = 80, measure: str = "weight", quality: str = "ok"
) -> None:
    await tx.pg.execute(
        "INSERT INTO reading (observation_id, measure, patient_id, at, value, quality, received, seq)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, 0)",
        (f"{patient_id}-{measure}-{at.isoformat()}", measure, patient_id, at, value, quality, at),
    )


async def today(tx: Tx, actor: Actor = COORDINATOR, **given: Any) -> worklist.Today:
    await overdue.check(tx.pg, NOW)
    return await worklist.today(tx.pg, actor, NOW, TODAY_ENDS, **given)


class TestToday:
    async def test_a_device_sees_nothing(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "f1", "p1")
        assert (await today(tx, DEVICE)).rows == []

    async def test_people_of_others_do_not_show(self, tx: Tx) -> None:
        await person(tx, "p1", team=False)
        await flag(tx, "f1", "p1")
        assert (await today(tx)).rows == []

    async def test_people_outside_the_care_relationship_do_not_show_in_the_hub_list(self, tx: Tx) -> None:
        await person(tx, "p1", hub="hub-2", team=False)
        await flag(tx, "f1", "p1")
        assert (await today(tx, scope="hub")).rows == []

    async def test_a_team_that_has_ended_shows_nothing(self, tx: Tx) -> None:
        await person(tx, "p1")
        await tx.pg.execute("UPDATE access SET until = %s WHERE basis = 'team'", (NOW - timedelta(days=1),))
        await flag(tx, "f1", "p1")
        assert (await today(tx)).rows == []

    async def test_the_list_is_ranked(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "information", "p1", severity=1)
        await flag(
            tx, "acknowledged", "p1", state="acknowledged", acknowledged_at=NOW, acknowledged_by="Practitioner/x"
        )
        await flag(tx, "amber", "p1", severity=2)
        await flag(tx, "red-new", "p1")
        await flag(tx, "red-old", "p1", opened=NOW - timedelta(days=1))
        await task(tx, "due-today", "p1", NOW + timedelta(hours=2))
        await task(tx, "overdue", "p1", NOW - timedelta(days=2))
        await task(tx, "next-week", "p1", NOW + timedelta(days=7))
        await limit(tx, "p1")
        board = await today(tx)
        assert [row.id for row in board.rows] == [
            "red-old", "red-new", "amber", "overdue", "missed-p1-weight", "acknowledged", "due-today", "information",
        ]  # fmt: skip
        assert board.counts == {"red": 2, "amber": 1, "task": 2, "missed": 1, "seen": 1, "information": 1}

    async def test_resolved_flags_and_doubtful_readings_are_not_here(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "f1", "p1", state="resolved")
        await flag(tx, "check-reading", "p1", kind="operational", severity=1)
        assert (await today(tx)).rows == []

    @pytest.mark.parametrize("scope", ["mine", "hub"])
    async def test_hazard_alert_not_seen_a_rule_that_failed_asks_for_a_person(self, tx: Tx, scope: str) -> None:
        await person(tx, "p1")
        await flag(tx, "failed-news2", "p1", kind="operational", severity=2)
        assert [row.id for row in (await today(tx, scope=scope)).rows] == ["failed-news2"]

    async def test_a_filter_keeps_the_counts_of_all(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "red", "p1")
        await flag(tx, "amber", "p1", severity=2)
        board = await today(tx, chip="amber")
        assert [row.id for row in board.rows] == ["amber"]
        assert board.counts == {"red": 1, "amber": 1}

    async def test_an_empty_page_still_counts(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "red", "p1")
        board = await today(tx, chip="task")
        assert board.rows == [] and board.counts == {"red": 1}

    async def test_pages_neither_lose_nor_repeat_rows(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1")  # never measured: `at` is null
        for number in range(7):
            await flag(tx, f"f{number}", "p1", severity=2 + number % 2)
        seen: list[str] = []
        after = None
        while True:
            board = await today(tx, after=after, limit=3)
            seen += [row.id for row in board.rows]
            after = board.more
            if after is None:
                break
        assert len(seen) == 8 and len(set(seen)) == 8

    @pytest.mark.parametrize(
        "after",
        [
            "nonsense",
            "W10",
            "WyJhIiwxLDJd",
            "WzEsIm5ldmVyIiwiYSJd",
            "\u20ac",
            "WzEsIG51bGwsICJcdTAwMDAiXQ",
            "Wzk5OTk5OTk5OTk5LCBudWxsLCAiYSJd",
            "WzEsIG51bGwsICJhIiwgLTFd",
        ],
    )
    async def test_a_made_up_cursor_is_refused(self, tx: Tx, after: str) -> None:
        with pytest.raises(Refusal) as refusal:
            await today(tx, after=after)
        assert refusal.value.status == 400


class TestMissedReadings:
    async def test_half_an_interval_of_grace(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1")
        await reading(tx, "p1", NOW - timedelta(hours=35))
        assert (await today(tx)).rows == []

    async def test_late_is_missed_and_says_since_when(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1")
        await reading(tx, "p1", NOW - timedelta(hours=37))
        (row,) = (await today(tx)).rows
        assert (row.kind, row.measure, row.at) == ("missed", "weight", NOW - timedelta(hours=37))

    async def test_a_wrong_reading_does_not_count_as_one(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1")
        await reading(tx, "p1", NOW - timedelta(hours=1), quality="wrong")
        (row,) = (await today(tx)).rows
        assert row.at is None

    async def test_hazard_alert_to_absent_staff_it_shows_to_everyone_in_the_hub(self, tx: Tx) -> None:
        await person(tx, "p1", team=False)
        await person(tx, "p2", hub="hub-2", team=False)
        for patient_id in ("p1", "p2"):
            await limit(tx, patient_id)
            await reading(tx, patient_id, NOW - timedelta(hours=37))
        assert (await today(tx)).rows == []
        board = await today(tx, scope="hub")
        assert [(row.kind, row.patient_id) for row in board.rows] == [("missed", "p1")]
        assert board.counts == {"missed": 1}
        assert (await today(tx, DEVICE, scope="hub")).rows == []

    async def test_a_person_of_the_hub_outside_the_care_relationship_does_not_show(self, tx: Tx) -> None:
        await person(tx, "p1", team=False)
        await tx.pg.execute("DELETE FROM access WHERE patient_id = 'p1'")
        await limit(tx, "p1", review_on=NOW.date(), low_red=50.0)
        assert (await today(tx, scope="hub")).rows == []

    async def test_nothing_agreed_nothing_missed(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1", every_hours=None)  # type: ignore[arg-type]
        assert (await today(tx)).rows == []


class TestLimitsToReview:
    @pytest.mark.parametrize("scope", ["mine", "hub"])
    async def test_from_the_day_of_review_on(self, tx: Tx, scope: str) -> None:
        await person(tx, "p1")
        await limit(tx, "p1", every_hours=None, review_on=NOW.date(), low_red=50.0)  # type: ignore[arg-type]
        await limit(tx, "p1", "pulse", every_hours=None, review_on=NOW.date() + timedelta(days=1), low_red=40.0)  # type: ignore[arg-type]
        await limit(tx, "p1", "spo2", every_hours=None, review_on=NOW.date() - timedelta(days=9), scale=2)  # type: ignore[arg-type]
        board = await today(tx, scope=scope)
        assert [(row.kind, row.measure) for row in board.rows] == [("review", "spo2"), ("review", "weight")]
        assert board.rows[1].at == datetime(2026, 11, 21, tzinfo=UTC) and board.counts == {"review": 2}
        assert [row.measure for row in (await today(tx, scope=scope, chip="review", limit=1)).rows] == ["spo2"]

    async def test_an_order_without_limits_or_one_that_was_replaced_needs_none(self, tx: Tx) -> None:
        await person(tx, "p1")
        await reading(tx, "p1", NOW)
        await limit(tx, "p1", review_on=NOW.date())
        await limit(tx, "p1", "pulse", review_on=NOW.date(), low_red=40.0, active=False)
        assert (await today(tx)).rows == []

    async def test_hazard_alert_not_seen_they_stand_below_flags_and_what_is_missing(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "information", "p1", severity=1)
        await flag(tx, "amber", "p1", severity=2)
        await limit(tx, "p1", review_on=NOW.date(), low_red=50.0)
        assert [row.id for row in (await today(tx)).rows] == [
            "amber", "missed-p1-weight", "review-p1-weight", "information",
        ]  # fmt: skip


class TestMdt:
    async def test_a_device_sees_nothing(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "f1", "p1")
        assert (await boards.mdt(tx.pg, DEVICE)).rows == []

    async def test_another_hubs_people_do_not_show(self, tx: Tx) -> None:
        await person(tx, "p1", hub="hub-2", team=False)
        await flag(tx, "f1", "p1", hub_id="hub-2")
        await flag(tx, "f2", "p1", hub_id="hub-1")
        assert (await boards.mdt(tx.pg, CLINICIAN)).rows == []

    async def test_people_gravest_first_then_longest_open(self, tx: Tx) -> None:
        for patient_id in ("p1", "p2", "p3", "p4"):
            await person(tx, patient_id)
        await flag(tx, "amber", "p1", severity=2, opened=NOW - timedelta(days=3))
        await flag(tx, "red-new", "p2")
        await flag(tx, "red-old", "p3", opened=NOW - timedelta(days=2), state="acknowledged")
        await flag(tx, "compliance", "p4", kind="compliance")
        board = await boards.mdt(tx.pg, CLINICIAN)
        assert [row.id for row in board.rows] == ["red-old", "red-new", "amber"]
        assert board.counts == {"all": 3, "red": 2, "amber": 1, "open": 2, "seen": 1}
        seen = await boards.mdt(tx.pg, CLINICIAN, chip="seen")
        assert [row.id for row in seen.rows] == ["red-old"] and seen.counts == board.counts

    async def test_a_person_is_one_row_with_the_other_flags_beside(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "amber", "p1", severity=2, opened=NOW - timedelta(days=3), state="acknowledged")
        await flag(tx, "red", "p1")
        await flag(tx, "gone", "p1", state="resolved")
        (row,) = (await boards.mdt(tx.pg, CLINICIAN)).rows
        assert row.id == "red" and [other["id"] for other in row.others or ()] == ["amber"]
        # Somebody has seen one of two: the person still waits.
        assert (await boards.mdt(tx.pg, CLINICIAN)).counts["open"] == 1

    async def test_an_empty_page_still_counts(self, tx: Tx) -> None:
        await person(tx, "p1")
        await flag(tx, "red", "p1")
        board = await boards.mdt(tx.pg, CLINICIAN, chip="amber")
        assert board.rows == [] and board.counts["red"] == 1

    async def test_pages_go_on_with_rank(self, tx: Tx) -> None:
        for number in range(5):
            await person(tx, f"p{number}")
            await flag(tx, f"f{number}", f"p{number}", severity=2 + number % 2)
        first = await boards.mdt(tx.pg, CLINICIAN, limit=2)
        second = await boards.mdt(tx.pg, CLINICIAN, limit=2, after=first.more)
        third = await boards.mdt(tx.pg, CLINICIAN, limit=2, after=second.more)
        ids = [row.id for board in (first, second, third) for row in board.rows]
        assert len(set(ids)) == 5
        assert (first.first, second.first, third.first) == (1, 3, 5) and third.more is None

    async def test_trends_carry_values_and_personal_limits(self, tx: Tx) -> None:
        await person(tx, "p1")
        await limit(tx, "p1", low_red=70.0)
        await reading(tx, "p1", NOW - timedelta(days=20), 90)
        await reading(tx, "p1", NOW - timedelta(days=2), 82)
        await reading(tx, "p1", NOW - timedelta(days=1), 81)
        await reading(tx, "p1", NOW - timedelta(hours=1), 8, quality="check")
        trends = await boards.trends(tx.pg, [("p1", "weight"), ("p1", "spo2")], NOW - timedelta(days=14))
        assert set(trends) == {("p1", "weight")}
        assert trends["p1", "weight"].value == [82, 81] and trends["p1", "weight"].low_red == 70


async def test_the_caseload_in_numbers(tx: Tx) -> None:
    for patient_id in ("p1", "p2", "p3"):
        await person(tx, patient_id)
    await person(tx, "p4", team=False)
    await flag(tx, "f1", "p1")
    await tx.pg.execute(
        "INSERT INTO plan (id, patient_id, status, version, title, review_on, updated, author)"
        " VALUES ('c1', 'p1', 'active', 1, 'My care plan', %s, %s, 'x')",
        (NOW.date(), NOW),
    )
    load = await worklist.caseload(tx.pg, COORDINATOR, NOW, NOW.date())
    assert load == worklist.Caseload(people=3, with_red=1, reviews_due=1, no_plan=2)
