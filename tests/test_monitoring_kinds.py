"""The kinds of rules: each parameter at its boundary, with the source beside it; what is missing is never normal."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from monitoring_cases import NOW, case, days, hours, reading
from msgspec.structs import replace
from test_monitoring_rules import after_a_fortnight, best, fortnight, minutes, sensed, sensor

from monitoring.baseline import FarFromUsual, TooFew, usual
from monitoring.case import Verdict
from monitoring.copd import CopdComposite
from monitoring.drift import Cusum, Ewma
from monitoring.glucose_sensor import SENSOR, LastingLow, RangeMissed, time_in_range
from monitoring.kind import WorstOf, furthest_back
from monitoring.limits import Limits
from monitoring.peak_flow import ShareOfBest
from monitoring.rules import BY_ID
from monitoring.trend import Change, Slope
from monitoring.weight import WeightChange


def said(verdict: Verdict | None) -> tuple[int, bool]:
    return (verdict.severity, verdict.repeat) if verdict else (0, False)


class TestBaseline:
    """14 days without the latest 48 hours, 7 readings on 5 days (ours); floors: Hurst 2010, some ours."""

    def test_median_and_mad(self) -> None:
        """Deviations from 77 are 3 and 7, half each: their middle is 5, and the spread 1.4826 times that."""
        values = (70, 70, 74, 74, 80, 80, 84, 84)
        earlier = [reading("pulse", value, days(3 + day)) for day, value in enumerate(values)]
        found = usual(case(reading("pulse", 80), earlier=earlier), "pulse", NOW)
        assert not isinstance(found, TooFew)
        assert (found.centre, found.readings, found.days) == (77, 8, 8)
        assert found.spread == pytest.approx(7.413)
        assert found.z(77 + 2 * 7.413) == 2

    @pytest.mark.parametrize(
        ("measure", "centre", "floor"),
        [
            ("spo2", 95, 1),
            ("pulse", 70, 5),
            ("peak-flow", 400, 10),
            ("systolic", 130, 8),
            ("weight", 80, 0.5),
            ("temperature", 36.5, 0.3),
        ],
    )
    def test_readings_that_never_differ_have_the_least_spread(self, measure: str, centre: float, floor: float) -> None:
        found = usual(after_a_fortnight(measure, centre, centre), measure, NOW)
        assert not isinstance(found, TooFew)
        assert (found.centre, found.spread) == (centre, floor)

    @pytest.mark.parametrize(
        ("number", "over", "there"), [(7, 5, True), (6, 5, False), (7, 4, False), (8, 4, False), (14, 7, True)]
    )
    def test_it_takes_7_readings_on_5_days(self, number: int, over: int, there: bool) -> None:
        earlier = [reading("pulse", 70, days(3 + index % over) + minutes(index)) for index in range(number)]
        found = usual(case(reading("pulse", 70), earlier=earlier), "pulse", NOW)
        assert isinstance(found, TooFew) != there
        if isinstance(found, TooFew):
            assert found.text() == f"No baseline yet: {number} of 7 readings, on {over} of 5 days needed."

    def test_the_latest_48_hours_and_what_is_older_than_14_days_stand_aside(self) -> None:
        inside = [reading("pulse", 70, days(day)) for day in (2.01, 5, 7, 9, 10, 12, 13.99)]
        outside = [reading("pulse", 170, days(day)) for day in (0.5, 1.99, 14.01, 20)]
        found = usual(case(reading("pulse", 170), earlier=[*inside, *outside]), "pulse", NOW)
        assert not isinstance(found, TooFew)
        assert (found.centre, found.readings) == (70, 7)

    def test_days_on_which_a_limit_was_crossed_stand_aside(self) -> None:
        """88 % for two days is no usual state of somebody at 96 %."""
        ill = [reading("spo2", 88, days(day) + hours(number)) for day in (5, 6) for number in range(8)]
        well = [reading("spo2", 96, days(day)) for day in (3, 4, 7, 8, 9, 10, 11)]
        found = usual(case(reading("spo2", 96), earlier=[*ill, *well]), "spo2", NOW)
        assert not isinstance(found, TooFew)
        assert (found.centre, found.readings, found.days) == (96, 7, 7)

    @pytest.mark.parametrize("month", [1, 3, 4, 7, 10, 12])
    def test_hazard_timezone_days_are_those_of_the_patient(self, month: int) -> None:
        """23:30 UTC is the next day at home in summer, the same in winter; in March and October the clocks change."""
        at = datetime(2026, month, 28, 12, tzinfo=UTC)
        london = ZoneInfo("Europe/London")
        for hour in (0, 0.5, 22.5, 23, 23.5):
            midnight = at.replace(hour=0)
            taken = [midnight - days(day) + hours(hour if day % 2 else 12) for day in range(3, 13)]
            earlier = [replace(reading("pulse", 70), at=one) for one in taken]
            found = usual(case(reading("pulse", 70), earlier=earlier), "pulse", at)
            assert (found.readings, found.days) == (10, len({one.astimezone(london).date() for one in taken}))

    def test_it_is_worked_out_once_for_all_rules(self) -> None:
        one = after_a_fortnight("pulse", 70, 70)
        assert usual(one, "pulse", NOW) is usual(one, "pulse", NOW)


class TestFarFromUsual:
    """|z| of 3 once or 2 twice in a row, on the side that is worse (engine of ours after Hurst 2010)."""

    @pytest.mark.parametrize(
        ("values", "fires"),
        [
            ((85,), True),  # 70 + 3 * 5
            ((84,), False),
            ((80, 80), True),  # 70 + 2 * 5, twice
            ((80, 79), False),
            ((79, 80), False),
            ((80, 70, 80), False),
            ((55,), False),  # as far on the side that is better
            ((55, 80), False),
        ],
    )
    def test_boundaries(self, values: tuple[float, ...], fires: bool) -> None:
        verdict = FarFromUsual("pulse", ("high",)).evaluate(after_a_fortnight("pulse", 70, *values))
        assert (verdict is not None) == fires

    def test_each_side_may_count(self) -> None:
        both = FarFromUsual("systolic", ("low", "high"))
        assert both.evaluate(after_a_fortnight("systolic", 130, 106)) is not None
        assert both.evaluate(after_a_fortnight("systolic", 130, 107)) is None
        assert both.evaluate(after_a_fortnight("systolic", 130, 114, 146)) is None

    def test_without_a_baseline_it_is_silent(self) -> None:
        few = case(reading("pulse", 190), earlier=[reading("pulse", 70, days(day)) for day in range(3, 9)])
        assert FarFromUsual("pulse", ("high",)).evaluate(few) is None

    def test_it_says_what_is_usual(self) -> None:
        verdict = FarFromUsual("spo2", ("low",)).evaluate(after_a_fortnight("spo2", 96, 92))
        assert verdict is not None
        assert verdict.summary == (
            "Oxygen saturation 92 %, 4.0 spreads below what is usual; usual 96 % (23 readings on 12 days)."
        )


class TestDrift:
    """EWMA with weight 0.2 and width 3, CUSUM with slack 0.5 and decision 5: standard values of process control."""

    def test_ewma_crosses_its_limit(self) -> None:
        """Of a first reading z the mean is 0.2 z and the limit 3 * 0.2, so that it takes z = 3."""
        usually = [reading("pulse", 70, days(8) + hours(12 * number)) for number in range(12)]
        rule = Ewma("pulse", "high")
        assert rule.evaluate(case(reading("pulse", 85), earlier=usually)) is not None
        assert rule.evaluate(case(reading("pulse", 84.9), earlier=usually)) is None
        assert rule.evaluate(case(reading("pulse", 55), earlier=usually)) is None

    @pytest.mark.parametrize(
        ("z", "number", "fires"), [(3.0, 2, True), (2.9, 2, False), (5.5, 1, True), (5.4, 1, False)]
    )
    def test_cusum_reaches_its_decision(self, z: float, number: int, fires: bool) -> None:
        """Each reading adds what exceeds half a spread: 2 * 2.5 is 5, and 1 * 5 is 5."""
        shown = after_a_fortnight("pulse", 70, *[70 + 5 * z] * number)
        assert (Cusum("pulse", "high").evaluate(shown) is not None) == fires

    def test_cusum_forgets_what_went_back(self) -> None:
        assert Cusum("pulse", "high").evaluate(after_a_fortnight("pulse", 70, 80, 80, 60, 60, 80, 80)) is None

    def test_without_a_baseline_they_are_silent(self) -> None:
        few = case(reading("pulse", 190), earlier=[reading("pulse", 70, days(day)) for day in range(3, 9)])
        assert Ewma("pulse", "high").evaluate(few) is None
        assert Cusum("pulse", "high").evaluate(few) is None


class TestTrend:
    @pytest.mark.parametrize(("value", "fires"), [(82.0, True), (81.9, False), (78.0, False)])
    def test_a_change_against_the_lowest(self, value: float, fires: bool) -> None:
        rule = Change("weight", "rises", 2.0, days(3))
        earlier = [reading("weight", 81, days(1)), reading("weight", 80, days(2)), reading("weight", 70, days(3.1))]
        assert (rule.evaluate(case(reading("weight", value), earlier=earlier)) is not None) == fires

    def test_a_fall_against_the_highest(self) -> None:
        rule = Change("spo2", "falls", 4, days(1))
        earlier = [reading("spo2", 97, hours(3)), reading("spo2", 95, hours(2))]
        assert rule.evaluate(case(reading("spo2", 93), earlier=earlier)) is not None
        assert rule.evaluate(case(reading("spo2", 94), earlier=earlier)) is None

    def test_without_an_earlier_reading_nothing_has_changed(self) -> None:
        assert Change("spo2", "falls", 4, days(1)).evaluate(case(reading("spo2", 70))) is None

    @pytest.mark.parametrize(("number", "fires"), [(7, True), (6, False)])
    def test_a_line_needs_its_days(self, number: int, fires: bool) -> None:
        rule = Slope("weight", "rises", 2.0, 14, 7)
        earlier = [reading("weight", 82 - 0.2 * day, days(day)) for day in range(1, number)]
        assert (rule.evaluate(case(reading("weight", 82), earlier=earlier)) is not None) == fires

    def test_one_wrong_reading_makes_no_line(self) -> None:
        rule = Slope("weight", "rises", 2.0, 14, 7)
        earlier = [reading("weight", 80, days(day)) for day in range(1, 14)]
        assert rule.evaluate(case(reading("weight", 95), earlier=earlier)) is None


class TestCopd:
    """Hurst 2010: mean of the fall of SpO2 and the rise of pulse in SDs, alert from 1."""

    @pytest.mark.parametrize(
        ("oxygen", "pulse", "fires"),
        [(94, 75, True), (95, 80, True), (93, 70, True), (94, 74, False), (93, 65, False), (96, 80, False)],
    )
    def test_boundaries(self, oxygen: float, pulse: float, fires: bool) -> None:
        earlier = [*fortnight("spo2", 95), *fortnight("pulse", 70)]
        verdict = CopdComposite().evaluate(case(reading("spo2", oxygen), reading("pulse", pulse), earlier=earlier))
        assert (verdict is not None) == fires

    def test_hazard_missing_scored_as_normal(self) -> None:
        """A pulse that nobody measured is not the usual one: the composite does not speak, nor does it reassure."""
        earlier = [*fortnight("spo2", 95), *fortnight("pulse", 70)]
        assert CopdComposite().evaluate(case(reading("spo2", 80), earlier=earlier)) is None
        only_oxygen = fortnight("spo2", 95)
        assert CopdComposite().evaluate(case(reading("spo2", 80), reading("pulse", 120), earlier=only_oxygen)) is None


# value of a best of 500, value before it, severity, repeat asked for.
# Source: Breathe 2015 table 2: below 80 % step up, below 60 % oral steroids, below 40 % urgent.
PEAK_FLOW: list[tuple[float, float | None, int, bool]] = [
    (400, None, 0, False),
    (399.5, None, 0, False),
    (399, None, 1, True),
    (399, 400, 1, True),
    (399, 399, 2, False),
    (300, None, 1, True),
    (299, None, 2, False),
    (200, None, 2, False),
    (199, None, 3, False),
    (100, None, 3, False),
]


class TestPeakFlow:
    @pytest.mark.parametrize(("value", "before", "severity", "repeat"), PEAK_FLOW)
    def test_shares_of_the_best(self, value: float, before: float | None, severity: int, repeat: bool) -> None:
        earlier = [best(500), *([] if before is None else [reading("peak-flow", before, hours(2))])]
        verdict = ShareOfBest().evaluate(case(reading("peak-flow", value), earlier=earlier))
        assert said(verdict) == (severity, repeat)

    @pytest.mark.parametrize(
        ("years", "severity", "old"), [(1.9, 3, False), (2.1, 3, True), (9.9, 3, True), (10.1, 0, False)]
    )
    def test_a_best_grows_old(self, years: float, severity: int, old: bool) -> None:
        verdict = ShareOfBest().evaluate(case(reading("peak-flow", 150), earlier=[best(500, years)]))
        assert said(verdict) == (severity, False)
        assert (verdict is not None and "more than 2 years old" in verdict.summary) == old

    def test_the_newest_best_counts(self) -> None:
        verdict = ShareOfBest().evaluate(case(reading("peak-flow", 250), earlier=[best(300, 0.5), best(600, 1)]))
        assert verdict is None  # 83 % of the newer, 42 % of the older

    def test_without_a_best_it_is_silent_and_personal_limits_speak_instead(self) -> None:
        assert ShareOfBest().evaluate(case(reading("peak-flow", 100))) is None
        own = {"peak-flow": Limits(low_red=90)}
        assert ShareOfBest().evaluate(case(reading("peak-flow", 100), earlier=[best(500)], limits=own)) is None


class TestGlucoseSensor:
    """International consensus, PMC8481000 table 1."""

    # a value held all the time, the share that it makes up, what is missed
    @pytest.mark.parametrize(
        ("value", "missed"),
        [(3.9, False), (3.8, True), (10.0, False), (10.1, True), (3.0, True), (2.9, True), (14.0, True)],
    )
    def test_the_range_is_3_9_to_10_0(self, value: float, missed: bool) -> None:
        found = time_in_range(sensed(value).recent[SENSOR])
        assert (found.in_range == 100) != missed
        assert (found.misses() != ()) == missed

    # shares in % of (2.9, 3.5, 6, 12, 15) mmol/L, the targets missed by them
    @pytest.mark.parametrize(
        ("shares", "missed"),
        [
            ((0, 3, 72, 25, 0), {"high"}),
            ((0, 3, 73, 24, 0), set()),
            ((0, 4, 76, 20, 0), {"low"}),
            ((1, 2, 77, 20, 0), {"very low"}),
            ((0, 0, 76, 19, 5), {"very high"}),
            ((0, 0, 76, 20, 4), set()),
            ((0, 3, 70, 24, 3), {"high", "range"}),
            ((0, 2, 71, 24, 3), {"high"}),
        ],
    )
    def test_targets(self, shares: tuple[int, ...], missed: set[str]) -> None:
        values = [value for value, share in zip((2.9, 3.5, 6, 12, 15), shares, strict=True) for _ in range(share)]
        readings = [reading(SENSOR, values[index % 100], minutes(15 * index)) for index in range(1301)]
        told = " ".join(time_in_range(readings).misses())
        words = {"low": "below 3.9", "very low": "below 3.0", "high": "above 10.0", "very high": "above 13.9"}
        words["range"] = "in range"
        assert {name for name, text in words.items() if text in told} == missed

    def test_variation(self) -> None:
        steady = [reading(SENSOR, (5.0, 7.0)[index % 2], minutes(15 * index)) for index in range(1344)]
        wild = [reading(SENSOR, (4.0, 9.0)[index % 2], minutes(15 * index)) for index in range(1344)]
        assert time_in_range(steady).misses() == ()
        assert time_in_range(wild).misses() == ("variation 38 % (target at most 36 %)",)

    @pytest.mark.parametrize(("worn", "told"), [(9.9, True), (9.7, False)])
    def test_nothing_is_said_below_70_percent_covered(self, worn: float, told: bool) -> None:
        found = time_in_range(sensed(12.0, worn).recent[SENSOR])
        assert (found.in_range is not None) == told
        assert (found.misses() != ()) == told

    def test_it_looks_once_a_day(self) -> None:
        rule = RangeMissed(at_hour=12)
        assert rule.looks(reading(SENSOR, 12, timedelta(0)))
        assert rule.looks(reading(SENSOR, 12, -minutes(14)))
        assert not rule.looks(reading(SENSOR, 12, -minutes(15)))
        assert not rule.looks(reading(SENSOR, 12, minutes(1)))

    @pytest.mark.parametrize(
        ("values", "fires"),
        [((2.9, 2.9, 2.9, 2.9), True), ((2.9, 2.9, 2.9), False), ((2.9, 3.0, 2.9, 2.9), False), ((2.9,), False)],
    )
    def test_a_level_2_event_lasts_15_minutes(self, values: tuple[float, ...], fires: bool) -> None:
        assert (LastingLow().evaluate(sensor(*values)) is not None) == fires

    def test_what_was_not_measured_is_not_known_to_be_low(self) -> None:
        gap = case(reading(SENSOR, 2.8), earlier=[reading(SENSOR, 2.8, minutes(26))])
        assert LastingLow().evaluate(gap) is None


class TestPublishedWeightRules:
    # rule, gain, days ago, whether it fires; sources beside the rules
    @pytest.mark.parametrize(
        ("rule", "gain", "ago", "fires"),
        [
            ("hf-weight", 2.0, 1, False),
            ("hf-weight", 2.1, 2.9, True),
            ("hf-weight", 2.1, 3.1, False),
            ("hf-weight-warwickshire", 2.0, 3.9, True),
            ("hf-weight-warwickshire", 2.0, 4.1, False),
            ("hf-weight-plymouth", 0.9, 1, False),
            ("hf-weight-plymouth", 1.0, 1.9, True),
            ("hf-weight-plymouth", 1.0, 2.1, False),
            ("hf-weight-north-cumbria", 2.2, 6, False),
            ("hf-weight-north-cumbria", 2.3, 6.9, True),
            ("hf-weight-north-cumbria", 2.3, 7.1, False),
            ("hf-weight-tuh-dublin", 1.9, 1, False),
            ("hf-weight-tuh-dublin", 2.0, 1.9, True),
            ("hf-weight-tuh-dublin", 2.0, 2.1, False),
        ],
    )
    def test_gain(self, rule: str, gain: float, ago: float, fires: bool) -> None:
        heavier = case(reading("weight", 80 + gain), earlier=[reading("weight", 80, days(ago) + minutes(5))])
        assert (BY_ID[rule].evaluate(heavier) is not None) == fires

    def test_a_rule_without_a_dry_weight_does_not_look_for_one(self) -> None:
        assert WeightChange(2.0, 3, dry_weight_age=None).needs == {"weight": days(3)}
        assert WeightChange(2.0, 3).needs == {"weight": days(3), "dry-weight": days(365)}


class TestWorstOf:
    def test_it_looks_as_far_back_as_each(self) -> None:
        assert furthest_back({"spo2": hours(1)}, {"spo2": hours(2), "pulse": hours(1)}) == {
            "spo2": hours(2),
            "pulse": hours(1),
        }

    def test_the_gravest_speaks(self) -> None:
        both = WorstOf((Change("pulse", "rises", 20, hours(3)), Change("pulse", "rises", 30, hours(3), severity=3)))
        earlier = [reading("pulse", 70, hours(1))]
        for value, severity in ((89, 0), (90, 2), (100, 3)):
            assert said(both.evaluate(case(reading("pulse", value), earlier=earlier)))[0] == severity
