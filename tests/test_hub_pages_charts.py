"""Charts: which time they show, where things stand in them, and what they never hide."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from hub.pages.axis import MOST_TICKS, Times, Values
from hub.pages.chart import Band, Line, Mark, draw, together
from hub.pages.period import links, period
from monitoring.limits import Limits
from monitoring.measures import MEASURES
from monitoring.series import MOST_SPANS, Point, edges, runs

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
SPO2 = MEASURES["spo2"]


def ago(**given: float) -> datetime:
    return NOW - timedelta(**given)


def point(at: datetime, value: float, quality: str = "ok") -> Point:
    return Point(at, at, value, value, value, 1, None, quality, None, None, "o", "cuff")


def span(at: datetime, low: float, mean: float, high: float) -> Point:
    return Point(at, at + timedelta(hours=23), mean, low, high, 480, None, "ok", None, None, None, None)


def drawn(*points: Point, limits: Limits | None = None, alerts: tuple[Mark, ...] = (), band: Band | None = None) -> str:
    line = Line(SPO2, points, limits, band, timedelta(hours=24))
    return draw("Oxygen saturation", [line], Times(ago(days=7), NOW), alerts, ())


class TestPeriod:
    def test_is_up_to_now_when_only_a_range_is_asked_for(self) -> None:
        shown = period({"range": "week"}, NOW)
        assert (shown.since, shown.current, shown.text) == (ago(days=7), True, "the last week")

    def test_an_unknown_range_is_a_month(self) -> None:
        assert period({"range": "aeon"}, NOW).key == "month"

    def test_days_are_days_of_london_both_in_it(self) -> None:
        shown = period({"from": "2026-03-29", "to": "2026-03-29"}, NOW)
        assert (shown.until - shown.since) == timedelta(hours=23)
        assert shown.text == "29 Mar 2026"

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ({"from": "2026-03-02", "to": "2026-03-01"}, "later day"),
            ({"from": "yesterday"}, "is not a day"),
            ({"from": "2026-01-01", "to": "2027-01-01"}, "and today"),
            ({"from": "0001-01-01"}, "and today"),
        ],
    )
    def test_says_what_is_wrong_with_days_and_shows_the_usual_month(self, query: dict[str, str], said: str) -> None:
        shown = period(query, NOW)
        assert said in (shown.problem or "")
        assert shown.key == "month"

    def test_earlier_and_later_lead_there_and_back(self) -> None:
        shown = period({"range": "week"}, NOW)
        before = links("/r", shown, NOW, {"for": "p1"})
        assert before["later"] is None
        assert before["earlier"] == "/r?range=week&to=2026-11-15&for=p1"
        earlier = period({"range": "week", "to": "2026-11-15"}, NOW)
        assert (earlier.first.isoformat(), earlier.last.isoformat()) == ("2026-11-09", "2026-11-15")
        assert links("/r", earlier, NOW, {})["later"] == "/r?range=week"


class TestSpans:
    @pytest.mark.parametrize("days", [0.2, 1, 7, 31, 366, 3653, 40_000])
    def test_are_never_more_than_a_chart_shows_side_by_side(self, days: float) -> None:
        found = edges(ago(days=days), NOW)
        assert 2 <= len(found) <= MOST_SPANS + 1
        assert found[0] <= ago(days=days)
        assert found == sorted(found)

    def test_a_day_is_a_day_of_london_when_the_clocks_change(self) -> None:
        found = edges(datetime(2025, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
        instants = [one.astimezone(UTC) for one in found]
        assert {one.hour for one in found} == {0}
        assert {later - earlier for earlier, later in pairwise(instants)} == {timedelta(hours=n) for n in (23, 24, 25)}


class TestHazardMissingDataShownAsContinuity:
    def test_no_line_joins_readings_more_than_half_an_interval_too_far_apart(self) -> None:
        found = runs([point(ago(days=n), 95) for n in (6, 5, 4, 2, 1)], timedelta(hours=24))
        assert [len(run) for run in found] == [3, 2]

    def test_who_measures_more_often_than_asked_has_gaps_at_their_own_pace(self) -> None:
        sensor = [point(ago(minutes=3 * n), 95) for n in range(900, 500, -1)] + [point(ago(minutes=5), 95)]
        assert [len(run) for run in runs(sensor, timedelta(hours=24))] == [400, 1]

    def test_two_readings_together_morning_and_evening_are_one_line(self) -> None:
        twice = [point(ago(hours=12 * n, minutes=minute), 95) for n in range(10, 0, -1) for minute in (2, 1)]
        assert len(runs(twice, timedelta(hours=12))) == 1

    def test_a_night_is_no_gap_for_who_measures_three_times_a_day(self) -> None:
        found = [point(datetime(2026, 11, d, h, tzinfo=UTC), 95) for d in (18, 19, 20) for h in (8, 14, 19)]
        assert len(runs(found, timedelta(hours=8))) == 1

    def test_a_single_reading_is_a_dot_without_a_line(self) -> None:
        assert [len(run) for run in runs([point(NOW, 95)], None)] == [1]


class TestHazardAveragedAway:
    def test_a_red_value_within_a_span_is_drawn_red(self) -> None:
        svg = drawn(span(ago(days=3), 85, 96, 99), limits=Limits(low_red=92, low_amber=94))
        assert 'class="dots dots--red"' in svg
        assert 'class="between"' in svg

    def test_values_on_both_sides_of_a_limit(self) -> None:
        limits = Limits(low_red=92, low_amber=94)
        assert "dots--red" in drawn(point(ago(days=1), 92.4), limits=limits)
        assert "dots--amber" in drawn(point(ago(days=1), 93), limits=limits)
        assert "dots--" not in drawn(point(ago(days=1), 95), limits=limits)

    def test_a_wrong_reading_is_crossed_and_does_not_press_the_others_flat(self) -> None:
        svg = drawn(point(ago(days=2), 95), point(ago(days=1), 9, "wrong"))
        assert "Wrong: 9 %" in svg
        assert "M-5-5" in svg
        assert ">20<" not in svg


class TestMarks:
    def test_open_their_reason_and_say_it(self) -> None:
        svg = drawn(point(ago(days=1), 88), alerts=(Mark(ago(days=1), "red", "88 % <now>", "/flags/f1"),))
        assert 'href="/flags/f1"' in svg
        assert "88 % &lt;now&gt;" in svg

    def test_that_would_cover_each_other_are_the_gravest_with_their_number(self) -> None:
        marks = [Mark(ago(hours=hours), kind, kind) for hours, kind in ((30, "amber"), (29, "red"), (3, "amber"))]
        found = together(marks, Times(ago(days=7), NOW))
        assert [(one.kind, one.count) for one in found] == [("red", 2), ("amber", 1)]

    def test_nothing_measured_is_nothing_drawn(self) -> None:
        assert drawn() == ""

    def test_what_is_usual_is_a_band(self) -> None:
        assert 'class="usual"' in drawn(point(ago(days=1), 95), band=Band(93, 95, 97, ago(days=5), NOW))


class TestAxes:
    @pytest.mark.parametrize("days", [1, 7, 31, 100, 366, 3653, 36_000])
    def test_labels_are_few_enough_for_a_phone(self, days: int) -> None:
        ticks = Times(ago(days=days), NOW).ticks()
        assert 3 <= len(ticks) <= MOST_TICKS
        assert all(0 <= tick.place <= 100 for tick in ticks)

    def test_of_a_day_in_summer_are_hours_of_london(self) -> None:
        noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
        assert [tick.label for tick in Times(noon - timedelta(days=1), noon).ticks()][:3] == ["16:00", "20:00", "1 Jul"]

    @pytest.mark.parametrize(
        ("shown", "decimals"), [((88, 99), 0), ((5.1, 5.1), 1), ((0, 23_000), 0), ((37.2, 37.3), 1), ((-3, 2), 0)]
    )
    def test_values_are_round_and_few(self, shown: tuple[float, float], decimals: int) -> None:
        ticks = Values(shown, 180, decimals).ticks()
        assert 2 <= len(ticks) <= 7
        assert len({label for _, label in ticks}) == len(ticks)
