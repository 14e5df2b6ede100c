"""Who missed what, and what is done about it, in a fast clock: reminder, second channel, the hub in its hours."""

from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import pytest

from hub import followup
from hub.db import Tx
from monitoring import overdue
from monitoring.limits import Order, project_limits
from monitoring.schedules import LONDON

TWICE = "07:00-10:00,17:00-20:00"


def london(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LONDON).astimezone(UTC)


FRIDAY = london("2026-11-20T12:30")


async def somebody(tx: Tx, tier: str | None = None) -> str:
    hub = await factories.organisation(tx)
    patient = await factories.patient(tx, hub=hub)
    if tier:
        await tx.pg.execute("UPDATE person SET tier = %s WHERE patient_id = %s", (tier, patient))
    return patient


async def asked(tx: Tx, patient: str, measure: str = "systolic", windows: str = TWICE, every: float = 12) -> None:
    order = Order(f"{patient}-{measure}", patient, measure, every_hours=every, windows=windows)
    await project_limits(tx.pg, [order])


async def measured(tx: Tx, patient: str, at: datetime, measure: str = "systolic", quality: str = "ok") -> None:
    await tx.pg.execute(
        "INSERT INTO reading (observation_id, measure, patient_id, at, value, quality, received, seq)"
        " VALUES (%s, %s, %s, %s, 120, %s, %s, 0)",
        (f"{patient}{at.timestamp()}{measure}", measure, patient, at, quality, at),
    )


async def missed(tx: Tx, now: datetime) -> dict[str, str]:
    await overdue.check(tx.pg, now)
    rows = await tx.pg.execute("SELECT measure, kind FROM missed")
    return dict(await rows.fetchall())


async def count(tx: Tx, statement: str, *values: Any) -> int:
    row = await (await tx.pg.execute(f"SELECT count(*) FROM {statement}", values)).fetchone()
    assert row is not None
    return int(row[0])


class TestOverdue:
    @pytest.mark.parametrize(("last", "late"), [("2026-11-20T05:59", True), ("2026-11-20T06:00", False)])
    async def test_of_windows(self, tx: Tx, last: str, late: bool) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, london(last))
        assert bool(await missed(tx, FRIDAY)) is late

    @pytest.mark.parametrize(("hours", "late"), [(36.1, True), (35.9, False)])
    async def test_of_intervals(self, tx: Tx, hours: float, late: bool) -> None:
        patient = await somebody(tx)
        await asked(tx, patient, windows="", every=24)
        await measured(tx, patient, FRIDAY - timedelta(hours=hours))
        assert bool(await missed(tx, FRIDAY)) is late

    async def test_missed_silent_and_paused_are_three_kinds(self, tx: Tx) -> None:
        patient = await somebody(tx)
        for measure in ("systolic", "weight"):
            await asked(tx, patient, measure)
        await measured(tx, patient, FRIDAY - timedelta(hours=2), "weight")
        assert await missed(tx, FRIDAY) == {"systolic": "missed"}
        assert await missed(tx, FRIDAY + timedelta(days=2)) == {"systolic": "silent", "weight": "silent"}
        await tx.pg.execute(
            "INSERT INTO pause (id, patient_id, since, until, reason, measures) VALUES ('s', %s, %s, %s, 'Away', %s)",
            (patient, FRIDAY, FRIDAY + timedelta(days=9), ["weight"]),
        )
        assert await missed(tx, FRIDAY + timedelta(days=2)) == {"systolic": "silent"}

    @pytest.mark.parametrize("quality", ["wrong", "sandbox"])
    async def test_hazard_missing_value_a_wrong_or_test_reading_is_none(self, tx: Tx, quality: str) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, FRIDAY, quality=quality)
        assert await missed(tx, FRIDAY) == {"systolic": "silent"}

    @pytest.mark.parametrize("more", [{"deceasedDateTime": "2026-11-01"}, {"deceasedBoolean": True}, {"active": False}])
    async def test_hazard_nobody_is_chased_who_has_died(self, tx: Tx, more: dict[str, Any]) -> None:
        patient = await factories.patient(tx, **more)
        await asked(tx, patient)
        assert await missed(tx, FRIDAY) == {}

    async def test_before_it_was_asked_for_nothing_is_missed(self, tx: Tx) -> None:
        patient = await somebody(tx)
        begun = Order("s1", patient, "weight", every_hours=24, starts=FRIDAY - timedelta(hours=20))
        over = Order("s2", patient, "pulse", every_hours=24, ends=FRIDAY - timedelta(hours=1))
        ended = Order("s3", patient, "spo2", every_hours=24, active=False)
        await project_limits(tx.pg, [begun, over, ended])
        assert await missed(tx, FRIDAY) == {}
        assert await missed(tx, FRIDAY + timedelta(hours=17)) == {"weight": "silent"}

    async def test_twice_at_one_moment_changes_nothing_the_second_time(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        first, second = await overdue.check(tx.pg, FRIDAY), await overdue.check(tx.pg, FRIDAY)
        assert (first.missed, first.came) == (1, 1) and second.missed == 1
        await measured(tx, patient, FRIDAY + timedelta(minutes=1))
        gone = await overdue.check(tx.pg, FRIDAY + timedelta(minutes=2))
        assert (gone.missed, gone.went) == (0, 1)


async def steps(tx: Tx, patient: str) -> tuple[int, int, int]:
    """Reminders, messages for a second channel, and tasks there are."""
    return (
        await count(tx, "notice WHERE kind = 'reading-due' AND recipient = %s", f"Patient/{patient}"),
        await count(tx, "r_communicationrequest WHERE patient_id = %s", patient),
        await count(tx, "task WHERE patient_id = %s", patient),
    )


async def run(tx: Tx, start: datetime, end: datetime, every: timedelta = timedelta(minutes=30)) -> None:
    """The clock, fast: a check at each tick."""
    now = start
    while now <= end:
        await followup.check(tx, now)
        now += every


class TestFollowUp:
    async def test_the_person_then_a_second_channel_then_the_hub(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, london("2026-11-19T18:00"))
        cuff = await factories.device(tx, patient)
        await tx.pg.execute(
            "INSERT INTO device_state (device_id, heard) VALUES (%s, %s)", (cuff, london("2026-11-18T12:00"))
        )
        await run(tx, london("2026-11-20T11:30"), london("2026-11-20T11:59"))
        assert await steps(tx, patient) == (0, 0, 0)
        await run(tx, london("2026-11-20T12:00"), london("2026-11-20T13:30"))
        assert await steps(tx, patient) == (1, 0, 0)
        await run(tx, london("2026-11-20T14:00"), london("2026-11-20T15:30"))
        assert await steps(tx, patient) == (1, 1, 0)
        await run(tx, london("2026-11-20T16:00"), london("2026-11-20T16:30"))
        assert await steps(tx, patient) == (1, 1, 1)
        row = await (await tx.pg.execute("SELECT description, owner FROM task")).fetchone()
        assert row is not None and "since 19 November" in row[0] and row[1].startswith("Organization/")
        assert "Nothing at all has come; a device of theirs was last heard on 18 November." in row[0]
        await run(tx, london("2026-11-20T17:00"), london("2026-11-21T18:00"), timedelta(hours=3))
        assert await steps(tx, patient) == (1, 1, 1)

    async def test_who_measures_is_followed_up_no_further_and_the_next_gap_begins_anew(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, london("2026-11-19T18:00"))
        await run(tx, london("2026-11-20T12:00"), london("2026-11-20T12:30"))
        await measured(tx, patient, london("2026-11-20T13:00"))
        await run(tx, london("2026-11-20T13:00"), london("2026-11-20T21:30"))
        assert await steps(tx, patient) == (1, 0, 0)
        await run(tx, london("2026-11-21T08:00"), london("2026-11-21T08:30"))
        assert await steps(tx, patient) == (2, 0, 0)

    async def test_nobody_is_woken_up_and_nobody_called_on_a_sunday(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, london("2026-11-21T08:00"))
        await run(tx, london("2026-11-21T22:00"), london("2026-11-22T07:30"))
        assert await steps(tx, patient) == (0, 0, 0)
        await run(tx, london("2026-11-22T08:00"), london("2026-11-22T19:30"))
        assert await steps(tx, patient) == (1, 1, 0)
        await run(tx, london("2026-11-23T07:30"), london("2026-11-23T10:30"))
        assert await steps(tx, patient) == (1, 1, 1)

    async def test_who_is_paused_is_left_alone(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await tx.pg.execute(
            "INSERT INTO pause (id, patient_id, since, until, reason) VALUES ('s', %s, %s, %s, 'In hospital')",
            (patient, FRIDAY - timedelta(days=3), FRIDAY + timedelta(days=3)),
        )
        await run(tx, FRIDAY, FRIDAY + timedelta(hours=6))
        assert await steps(tx, patient) == (0, 0, 0)

    async def test_a_month_of_nothing_is_a_talk_and_no_message(self, tx: Tx) -> None:
        patient = await somebody(tx)
        await asked(tx, patient)
        await measured(tx, patient, FRIDAY - timedelta(days=31))
        await run(tx, FRIDAY, FRIDAY + timedelta(hours=6))
        assert await steps(tx, patient) == (0, 0, 0)


class TestTwoDays:
    @pytest.mark.parametrize(("tier", "flags"), [("complex", 1), ("enhanced-primary-care", 0)])
    async def test_call_for_a_human_where_the_risk_is_high(self, tx: Tx, tier: str, flags: int) -> None:
        """Hazard: silence is taken for calm."""
        patient = await somebody(tx, tier)
        await asked(tx, patient)
        await measured(tx, patient, london("2026-11-18T05:00"))
        await run(tx, london("2026-11-19T23:30"), london("2026-11-19T23:30"))
        assert await count(tx, "flag WHERE patient_id = %s", patient) == 0
        await run(tx, london("2026-11-20T00:30"), london("2026-11-20T06:00"))
        rows = await tx.pg.execute("SELECT kind, severity, state FROM flag WHERE patient_id = %s", (patient,))
        assert await rows.fetchall() == [("compliance", 2, "open")] * flags

    async def test_who_ended_it_is_not_asked_again_for_the_same_gap(self, tx: Tx) -> None:
        patient = await somebody(tx, "complex")
        await asked(tx, patient)
        await run(tx, FRIDAY, FRIDAY)
        await tx.pg.execute("UPDATE flag SET state = 'resolved'")
        await run(tx, FRIDAY, FRIDAY + timedelta(hours=2))
        assert await count(tx, "flag") == 1
