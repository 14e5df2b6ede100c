"""NEWS2: both sides of every boundary of the RCP chart, both SpO2 scales, and nothing missing taken for normal."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from monitoring_cases import case, hours, reading

from monitoring import news2
from monitoring.case import Case, Facts
from monitoring.limits import Limits
from monitoring.measures import MEASURES
from monitoring.news2 import PARAMETERS, EarlyWarning, at, points, response, score
from monitoring.readings import Reading

evaluate = EarlyWarning().evaluate

# Source of every row: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, chart 1.
BOUNDARIES: list[tuple[str, float, int]] = [
    ("respiratory-rate", 3, 3),
    ("respiratory-rate", 8, 3),
    ("respiratory-rate", 9, 1),
    ("respiratory-rate", 11, 1),
    ("respiratory-rate", 12, 0),
    ("respiratory-rate", 20, 0),
    ("respiratory-rate", 21, 2),
    ("respiratory-rate", 24, 2),
    ("respiratory-rate", 25, 3),
    ("respiratory-rate", 60, 3),
    ("spo2", 85, 3),
    ("spo2", 91, 3),
    ("spo2", 92, 2),
    ("spo2", 93, 2),
    ("spo2", 94, 1),
    ("spo2", 95, 1),
    ("spo2", 96, 0),
    ("spo2", 100, 0),
    ("systolic", 60, 3),
    ("systolic", 90, 3),
    ("systolic", 91, 2),
    ("systolic", 100, 2),
    ("systolic", 101, 1),
    ("systolic", 110, 1),
    ("systolic", 111, 0),
    ("systolic", 219, 0),
    ("systolic", 220, 3),
    ("systolic", 260, 3),
    ("pulse", 30, 3),
    ("pulse", 40, 3),
    ("pulse", 41, 1),
    ("pulse", 50, 1),
    ("pulse", 51, 0),
    ("pulse", 90, 0),
    ("pulse", 91, 1),
    ("pulse", 110, 1),
    ("pulse", 111, 2),
    ("pulse", 130, 2),
    ("pulse", 131, 3),
    ("pulse", 200, 3),
    ("temperature", 33.0, 3),
    ("temperature", 35.0, 3),
    ("temperature", 35.1, 1),
    ("temperature", 36.0, 1),
    ("temperature", 36.1, 0),
    ("temperature", 38.0, 0),
    ("temperature", 38.1, 1),
    ("temperature", 39.0, 1),
    ("temperature", 39.1, 2),
    ("temperature", 41.5, 2),
]

# value, points on air, points on oxygen. Source: the same, SpO2 scale 2.
SCALE_2: list[tuple[float, int, int]] = [
    (80, 3, 3),
    (83, 3, 3),
    (84, 2, 2),
    (85, 2, 2),
    (86, 1, 1),
    (87, 1, 1),
    (88, 0, 0),
    (92, 0, 0),
    (93, 0, 1),
    (94, 0, 1),
    (95, 0, 2),
    (96, 0, 2),
    (97, 0, 3),
    (100, 0, 3),
]

# Halves go up before banding, so that every value falls in one band.
ROUNDED: list[tuple[str, float, int]] = [
    ("temperature", 35.04, 3),
    ("temperature", 35.05, 1),
    ("temperature", 36.05, 0),
    ("temperature", 38.04, 0),
    ("temperature", 38.05, 1),
    ("temperature", 39.05, 2),
    ("spo2", 91.4, 3),
    ("spo2", 91.5, 2),
    ("spo2", 95.5, 0),
    ("respiratory-rate", 8.5, 1),
    ("respiratory-rate", 24.5, 3),
    ("systolic", 90.5, 2),
    ("systolic", 219.4, 0),
    ("systolic", 219.5, 3),
    ("pulse", 40.5, 1),
    ("pulse", 130.5, 3),
]

WELL: dict[str, float | str] = {
    "respiratory-rate": 16,
    "spo2": 97,
    "oxygen": "air",
    "systolic": 125,
    "pulse": 72,
    "consciousness": "alert",
    "temperature": 36.8,
}


class TestChart:
    @pytest.mark.parametrize(("parameter", "value", "scored"), BOUNDARIES)
    def test_both_sides_of_each_boundary(self, parameter: str, value: float, scored: int) -> None:
        assert points(parameter, value) == scored

    @pytest.mark.parametrize(("parameter", "value", "scored"), ROUNDED)
    def test_between_two_bands(self, parameter: str, value: float, scored: int) -> None:
        assert points(parameter, value) == scored

    @pytest.mark.parametrize(("value", "on_air", "on_oxygen"), SCALE_2)
    def test_spo2_scale_2(self, value: float, on_air: int, on_oxygen: int) -> None:
        assert points("spo2", value, scale=2, oxygen="air") == on_air
        assert points("spo2", value, scale=2, oxygen="oxygen") == on_oxygen

    def test_scale_2_cannot_be_scored_above_the_target_without_knowing_the_gas(self) -> None:
        assert points("spo2", 92, scale=2) == 0
        assert points("spo2", 93, scale=2) is None
        assert score({**WELL, "spo2": 95, "oxygen": None}, scale=2).missing == ("spo2", "oxygen")

    @pytest.mark.parametrize(
        ("parameter", "word", "scored"),
        [
            ("oxygen", "air", 0),
            ("oxygen", "oxygen", 2),
            ("consciousness", "alert", 0),
            ("consciousness", "confused", 3),
            ("consciousness", "voice", 3),
            ("consciousness", "pain", 3),
            ("consciousness", "unresponsive", 3),
        ],
    )
    def test_words(self, parameter: str, word: str, scored: int) -> None:
        assert score({parameter: word}).points == {parameter: scored}

    def test_the_highest_total(self) -> None:
        worst = {**dict.fromkeys(("respiratory-rate", "spo2", "systolic", "pulse"), 25), "temperature": 40.0}
        assert score({**worst, "oxygen": "oxygen", "consciousness": "pain"}).total == 19
        assert score({**worst, "temperature": 34.0, "oxygen": "oxygen", "consciousness": "pain"}).total == 20

    def test_all_well(self) -> None:
        assert score(WELL).total == 0

    def test_one_patient_on_two_scales(self) -> None:
        """88 % on air is 3 points on scale 1 and none on scale 2: why scale 2 needs a named clinician."""
        assert score({**WELL, "spo2": 88}).total == 3
        assert score({**WELL, "spo2": 88}, scale=2).total == 0


class TestMissing:
    @pytest.mark.parametrize("absent", PARAMETERS)
    def test_hazard_false_reassurance_no_total_with_a_part_missing(self, absent: str) -> None:
        result = score({**WELL, absent: None})
        assert result.total is None
        assert result.missing == (absent,)

    def test_hazard_false_reassurance_an_unknown_word_is_missing(self) -> None:
        assert score({**WELL, "consciousness": "sleepy"}).missing == ("consciousness",)

    def test_the_partial_score_names_what_is_missing(self) -> None:
        values = {"spo2": 94, "pulse": 112, "temperature": 36.8, "systolic": 120}
        assert score(values).text() == (
            "NEWS2 partial 4 of 7, at least 3 (missing: respiratory rate, air or oxygen, consciousness)"
        )

    def test_only_the_last_hour_counts(self) -> None:
        """A stale value is not used: 61 minutes before the newest is missing, 60 is not."""
        new = reading("pulse", 72)
        inside = reading("temperature", 36.8, ago=timedelta(minutes=65))
        outside = reading("systolic", 125, ago=timedelta(minutes=66))
        result, used = at(case(new, earlier=[inside, outside]), new.at)
        assert set(used) == {"pulse", "temperature"}
        assert "systolic" in result.missing


class TestResponse:
    @pytest.mark.parametrize(
        ("values", "asked"),
        [
            ({}, "routine"),
            ({"pulse": 112, "spo2": 93}, "routine"),
            ({"pulse": 131}, "urgent-single"),
            ({"pulse": 131, "temperature": 39.1}, "urgent"),
            ({"pulse": 131, "spo2": 91}, "urgent"),
            ({"pulse": 131, "spo2": 91, "temperature": 38.1}, "emergency"),
        ],
    )
    def test_thresholds_of_the_royal_college(self, values: dict[str, float], asked: str) -> None:
        assert response(score({**WELL, **values})) == asked


def full_set(**values: float | str) -> list:
    return [reading(key, value) for key, value in {**WELL, **values}.items()]


class TestRule:
    @pytest.mark.parametrize(
        ("values", "severity"),
        [
            ({"pulse": 131, "spo2": 91, "temperature": 38.1}, 3),
            ({"pulse": 131, "temperature": 39.1}, 2),
            ({"pulse": 131}, 2),
            ({"spo2": 91}, 2),
        ],
    )
    def test_severity(self, values: dict[str, float], severity: int) -> None:
        verdict = evaluate(case(*full_set(**values)))
        assert verdict is not None
        assert verdict.severity == severity

    @pytest.mark.parametrize("values", [{}, {"pulse": 112, "temperature": 39.1}])
    def test_silent_up_to_4_without_a_single_3(self, values: dict[str, float]) -> None:
        assert evaluate(case(*full_set(**values))) is None

    def test_the_reasons_are_what_scores_worst_first(self) -> None:
        verdict = evaluate(case(*full_set(**{"pulse": 131, "spo2": 93, "systolic": 105})))
        assert verdict is not None
        assert [one["text"] for one in verdict.reasons] == [
            "Pulse 131 /min scores 3",
            "Oxygen saturation 93 % scores 2",
            "Systolic blood pressure 105 mmHg scores 1",
        ]
        assert verdict.summary == "NEWS2 6; scoring 3 alone: pulse 131 /min."

    def test_a_partial_score_may_raise(self) -> None:
        verdict = evaluate(case(reading("pulse", 131), reading("temperature", 39.4)))
        assert verdict is not None
        assert verdict.severity == 2
        assert verdict.summary.startswith("NEWS2 partial 2 of 7, at least 5 (missing: ")

    def test_in_a_partial_set_spo2_alone_is_left_to_oximetry(self) -> None:
        assert evaluate(case(reading("spo2", 90))) is None

    def test_in_a_partial_set_personal_limits_speak_for_their_measure(self) -> None:
        assert evaluate(case(reading("pulse", 131))) is not None
        assert evaluate(case(reading("pulse", 131), limits={"pulse": Limits(high_red=140)})) is None

    def test_the_worst_of_several_sets_sent_together(self) -> None:
        """A device that comes back after hours must not hide what happened in between."""
        bad = [
            reading(key, value, ago=hours(5))
            for key, value in {**WELL, "spo2": 90, "pulse": 135, "temperature": 39.5}.items()
        ]
        verdict = evaluate(case(*bad, *full_set()))
        assert verdict is not None
        assert verdict.severity == 3

    def test_scale_2_only_where_ordered(self) -> None:
        retainer = full_set(spo2=88)
        assert evaluate(case(*retainer)) is not None
        assert evaluate(case(*retainer, scale=2)) is None

    def test_not_for_children_nor_in_pregnancy(self) -> None:
        ill = full_set(pulse=140, temperature=39.5)
        assert evaluate(case(*ill, facts=Facts(date(2010, 11, 21)))) is not None
        assert evaluate(case(*ill, facts=Facts(date(2010, 11, 22)))) is None
        assert evaluate(case(*ill, facts=Facts(date(1990, 1, 1), pregnant=True))) is None

    def test_a_reading_that_arrives_late_joins_what_came_before_it(self) -> None:
        """Pulse at 11:55 came first; the temperature measured at 11:30 arrives after it."""
        known = reading("pulse", 131, timedelta(minutes=5))
        verdict = evaluate(case(reading("temperature", 39.4, timedelta(minutes=30)), earlier=[known]))
        assert verdict is not None
        assert verdict.severity == 2

    def test_a_very_high_pressure_in_a_partial_set_is_left_to_its_rule(self) -> None:
        assert evaluate(case(reading("systolic", 225))) is None
        assert evaluate(case(reading("systolic", 88))) is not None


class TestCannotReach:
    """The short way gives the answer of the long one."""

    @pytest.mark.parametrize("seed", range(60))
    def test_it_never_silences_what_scoring_would_tell(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        chance = Random(seed)
        told = 0
        for _ in range(40):
            one = _random_case(chance)
            short = evaluate(one)
            with monkeypatch.context() as patch:
                patch.setattr(news2, "cannot_reach", lambda *_: False)
                long = evaluate(one)
            assert short == long
            told += long is not None
        assert told > 0

    @pytest.mark.parametrize("parameter", ["respiratory-rate", "spo2", "systolic", "pulse", "temperature"])
    def test_points_fall_and_then_rise_with_the_number(self, parameter: str) -> None:
        low, high = MEASURES[parameter].plausible
        steps = [news2.points(parameter, float(low) + step * (float(high) - float(low)) / 500) for step in range(501)]
        numbers = [step for step in steps if step is not None]
        lowest = numbers.index(min(numbers))
        assert numbers[: lowest + 1] == sorted(numbers[: lowest + 1], reverse=True)
        assert numbers[lowest:] == sorted(numbers[lowest:])


def _random_case(chance: Random) -> Case:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    spread = {
        "respiratory-rate": (8, 26), "spo2": (90, 99), "systolic": (88, 225), "pulse": (38, 135),
        "temperature": (34.5, 39.5),
    }  # fmt: skip
    found: dict[str, list[Reading]] = {}
    for key, (low, high) in spread.items():
        for number in range(chance.choice((0, 0, 1, 3))):
            at = now - timedelta(minutes=chance.randint(0, 90))
            value = round(chance.uniform(low, high) if chance.random() < 0.4 else (low + high) / 2, 1)
            found.setdefault(key, []).append(Reading(key, at, value, observation_id=f"{key}{number}"))
    if chance.random() < 0.3:
        word = chance.choice(("air", "oxygen"))
        found["oxygen"] = [Reading("oxygen", now - timedelta(minutes=5), None, word, observation_id="o")]
    if chance.random() < 0.3:
        word = chance.choice(("alert", "confused"))
        found["consciousness"] = [Reading("consciousness", now - timedelta(minutes=6), None, word, observation_id="c")]
    if not found:
        found["spo2"] = [Reading("spo2", now, 97.0, observation_id="s")]
    recent = {key: sorted(readings, key=lambda one: one.at, reverse=True) for key, readings in found.items()}
    return Case("p", now, new={key: readings[:1] for key, readings in recent.items()}, recent=recent)
