"""What is said beside charts: the home blood pressure week, and a sensor's day."""

from datetime import timedelta

from monitoring_cases import NOW, days, hours, reading

from hub.db import Tx
from hub.pages import profiles
from monitoring.baseline import Baseline, TooFew
from monitoring.projection import project_readings
from monitoring.summaries import SLOT, pressure_week, sensor_profile, usual_of


async def twice_a_day(tx: Tx, number: int) -> None:
    found = []
    for day in range(number):
        for part in (1, 5):
            one = f"bp-{day}-{part}"
            found += [reading("systolic", 150 + day, days(day) + hours(part), id=one)]
            found += [reading("diastolic", 96, days(day) + hours(part), id=one)]
    await project_readings(tx.pg, found, NOW)


class TestPressureWeek:
    async def test_says_average_stage_and_the_day_left_out(self, tx: Tx) -> None:
        await twice_a_day(tx, 6)
        (said,) = profiles.week_words(await pressure_week(tx.pg, "p1", NOW), plain=False)
        assert "152/96 mmHg (stage 2" in said
        assert "16 Nov 2026, is left out" in said
        (plain,) = profiles.week_words(await pressure_week(tx.pg, "p1", NOW), plain=True)
        assert "stage" not in plain

    async def test_missing_days_are_said_and_nothing_is_classified(self, tx: Tx) -> None:
        await twice_a_day(tx, 3)
        (said,) = profiles.week_words(await pressure_week(tx.pg, "p1", NOW), plain=False)
        assert "days needed" in said and "average" not in said
        assert profiles.week_words(await pressure_week(tx.pg, "p2", NOW), plain=False) == []


class TestSensorProfile:
    async def sent(self, tx: Tx, fewer: int = 1) -> None:
        found = [
            reading("glucose-sensor", 3.0 if n % 10 == 0 else 7.0, timedelta(minutes=15 * n), id=f"s{n}")
            for n in range(0, 14 * 96, fewer)
        ]
        await project_readings(tx.pg, found, NOW)

    async def test_shares_are_the_whole_and_the_day_has_every_half_hour(self, tx: Tx) -> None:
        await self.sent(tx)
        found = await sensor_profile(tx.pg, "p1", NOW)
        assert found is not None
        shown = profiles.sensor(found)
        assert shown["enough"]
        assert round(sum(one["share"] for one in shown["shares"])) == 100
        assert [one.minute for one in found.slots] == list(range(0, 24 * 60, int(SLOT.total_seconds() // 60)))
        assert all(one.p5 <= one.p25 <= one.p50 <= one.p75 <= one.p95 for one in found.slots)
        assert 'class="nine"' in shown["chart"]

    async def test_too_little_of_the_time_says_so_and_no_share(self, tx: Tx) -> None:
        await self.sent(tx, fewer=4)
        found = await sensor_profile(tx.pg, "p1", NOW)
        assert found is not None
        shown = profiles.sensor(found)
        assert (shown["enough"], shown["shares"], shown["bar"]) == (False, [], "")
        assert await sensor_profile(tx.pg, "p2", NOW) is None


class TestUsual:
    async def test_is_a_baseline_or_says_what_is_missing(self, tx: Tx) -> None:
        await project_readings(tx.pg, [reading("pulse", 70 + n % 3, days(n) + hours(1)) for n in range(14)], NOW)
        found = await usual_of(tx.pg, "p1", ["pulse", "spo2", "glucose"], {}, NOW)
        assert isinstance(found["pulse"], Baseline) and isinstance(found["spo2"], TooFew)
        assert "glucose" not in found
