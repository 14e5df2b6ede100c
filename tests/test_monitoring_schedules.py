"""When readings are asked for, on the clock on the wall; what became of each; FHIR there and back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir.outcome import Refusal
from monitoring.adherence import adherence, kept
from monitoring.pauses import Pause
from monitoring.schedules import LONDON, Schedule, Window, due, from_repeat, of, to_repeat

TWICE = Schedule(12.0, (Window(7 * 60, 10 * 60), Window(17 * 60, 20 * 60)))
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)  # a Saturday


def london(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LONDON)


def day(schedule: Schedule, text: str) -> list[tuple[str, str]]:
    start = london(text)
    found = schedule.slots(start.astimezone(UTC), (start + timedelta(days=1)).astimezone(UTC))
    return [tuple(f"{at.astimezone(LONDON):%H:%M}" for at in (one.start, one.end)) for one in found]  # type: ignore[misc]


class TestSlots:
    @pytest.mark.parametrize("on", ["2026-03-29", "2026-07-01", "2026-10-25", "2026-12-25"])
    def test_hazard_clock_change_windows_stay_where_the_clock_on_the_wall_shows_them(self, on: str) -> None:
        assert day(TWICE, on) == [("07:00", "10:00"), ("17:00", "20:00")]

    def test_a_window_of_a_winter_and_a_summer_day_are_an_hour_apart(self) -> None:
        before, after = (TWICE.slots(london(one), london(two))[0].start for one, two in (
            ("2026-03-28", "2026-03-29"), ("2026-03-29", "2026-03-30")))  # fmt: skip
        assert after - before == timedelta(hours=23)

    def test_on_some_days_of_the_week(self) -> None:
        mondays = Schedule(None, (Window(480, 600),), (1, 4))
        found = mondays.slots(london("2026-11-16"), london("2026-11-23"))
        assert [one.start.isoweekday() for one in found] == [1, 4]

    @pytest.mark.parametrize(("hours", "number"), [(6, 4), (8, 3), (12, 2), (24, 1)])
    def test_so_many_a_day_without_windows(self, hours: float, number: int) -> None:
        assert len(day(Schedule(hours), "2026-10-25")) == number

    def test_once_a_week_is_a_week_of_the_calendar(self) -> None:
        (one,) = Schedule(168.0).slots(london("2026-11-16"), london("2026-11-23"))
        assert (one.start, one.end) == (london("2026-11-16"), london("2026-11-23"))

    def test_nothing_is_asked_for_without_a_schedule(self) -> None:
        assert Schedule().slots(london("2026-11-16"), london("2026-11-23")) == []

    @pytest.mark.parametrize("schedule", [TWICE, Schedule(24.0, (Window(0, 1440),), (1, 7)), Schedule(24.0)])
    def test_as_text_and_back(self, schedule: Schedule) -> None:
        assert of(schedule.every_hours, schedule.text) == schedule


class TestFhir:
    @pytest.mark.parametrize("schedule", [TWICE, Schedule(None, (Window(480, 1440),), (1, 3, 5))])
    def test_there_and_back(self, schedule: Schedule) -> None:
        assert from_repeat(to_repeat(schedule)) == (schedule.windows, schedule.days)

    def test_a_time_of_day_gets_a_window_around_it(self) -> None:
        windows, _ = from_repeat({"timeOfDay": ["08:00:00", "10:00:00"]})
        assert list(map(str, windows)) == ["07:00-09:00", "09:00-12:00"]

    def test_days_alone_are_the_whole_day(self) -> None:
        assert from_repeat({"dayOfWeek": ["sun", "mon"]}) == ((Window(0, 1440),), (1, 7))

    @pytest.mark.parametrize(
        ("repeat", "text"),
        [
            ({"timeOfDay": ["8 o'clock"]}, "not a time"),
            (to_repeat(Schedule(None, (Window(600, 480),))), "before it begins"),
            (to_repeat(Schedule(None, (Window(480, 600), Window(590, 700)))), "overlap"),
            ({"timeOfDay": [f"{hour:02}:00:00" for hour in range(13)]}, "at most 12"),
        ],
    )
    def test_what_cannot_be_is_refused(self, repeat: dict[str, Any], text: str) -> None:
        with pytest.raises(Refusal, match=text):
            from_repeat(repeat)


class TestDue:
    @pytest.mark.parametrize(
        ("now", "since"),
        [
            ("2026-11-21T11:59", "2026-11-20T16:00"),
            ("2026-11-21T12:00", "2026-11-21T06:00"),
            ("2026-11-21T21:59", "2026-11-21T06:00"),
            ("2026-11-21T22:00", "2026-11-21T16:00"),
        ],
    )
    def test_two_hours_after_the_window_closed(self, now: str, since: str) -> None:
        found = due(TWICE, london(now))
        assert found is not None and found.since == london(since)

    def test_two_days_are_the_two_that_are_over(self) -> None:
        found = due(TWICE, NOW)
        assert found is not None and found.two == london("2026-11-19T06:00")

    def test_nothing_while_nothing_was_due(self) -> None:
        assert due(Schedule(), NOW) is None


class TestKept:
    SINCE, UNTIL = london("2026-11-19"), london("2026-11-22")

    def states(self, *times: str, pauses: tuple[Pause, ...] = ()) -> list[str]:
        taken = [london(one) for one in times]
        return [one.state for one in kept(TWICE, taken, self.SINCE, self.UNTIL, NOW, pauses)]

    def test_done_missed_and_still_to_come(self) -> None:
        found = self.states("2026-11-19T08:00", "2026-11-20T06:00", "2026-11-20T21:59")
        assert found == ["done", "missed", "done", "done", "missed", "later"]

    def test_one_reading_counts_once(self) -> None:
        assert self.states("2026-11-19T08:00", "2026-11-19T08:05").count("done") == 1

    def test_missed_and_paused_are_two_things(self) -> None:
        pause = Pause("s", "p", london("2026-11-19T12:00"), london("2026-11-20T12:00"), "In hospital")
        assert self.states(pauses=(pause,)) == ["missed", "paused", "paused", "missed", "missed", "later"]

    def test_a_reading_that_came_in_a_pause_is_done(self) -> None:
        pause = Pause("s", "p", self.SINCE, self.UNTIL, "Away")
        assert self.states("2026-11-19T08:00", pauses=(pause,))[0] == "done"

    def test_hazard_missing_value_is_no_value_nothing_expected_is_no_adherence(self) -> None:
        pause = Pause("s", "p", self.SINCE, self.UNTIL, "Away")
        nothing = adherence(kept(TWICE, [], self.SINCE, self.UNTIL, NOW, (pause,)))
        assert (nothing.percent, nothing.paused) == (None, 6)
        some = adherence(kept(TWICE, [london("2026-11-19T08:00")], self.SINCE, self.UNTIL, NOW))
        assert (some.done, some.missed, some.percent) == (1, 4, 20)
