"""Every rule fires and stays silent by example; every threshold is tested on both sides, with its source."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from monitoring_cases import NOW, case, days, hours, reading
from msgspec.structs import replace

from monitoring import blood_pressure, rulebook, thresholds, weight
from monitoring.case import Case
from monitoring.evaluation import applies, evaluate
from monitoring.glucose_sensor import SENSOR
from monitoring.limits import Limits
from monitoring.measures import MEASURES
from monitoring.readings import CHECK, Reading
from monitoring.rules import BY_ID, SHIPPED, name_of

OXIMETER, WEIGHING = BY_ID["oximetry-at-home"].evaluate, BY_ID["hf-weight"].evaluate
GLUCOSE_RULE = BY_ID["glucose"].evaluate
VERY_HIGH, AVERAGE = BY_ID["home-bp-high"].evaluate, BY_ID["home-bp-week"].evaluate


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def pressure(upper: float, lower: float, ago: timedelta = timedelta(minutes=5)) -> list[Reading]:
    one = reading("systolic", upper, ago)
    return [one, reading("diastolic", lower, ago, id=one.observation_id)]


def pressure_week(upper: float, lower: float, number: int = 5) -> Case:
    """*number* days of a morning and an evening reading, the last of them just sent."""
    earlier = [
        one
        for day in range(number)
        for hour in (0, 2)
        for one in pressure(upper, lower, days(day) + hours(hour) + timedelta(minutes=10))
    ]
    return case(*pressure(upper, lower), earlier=earlier)


def limited(key: str, value: float) -> Case:
    measure = MEASURES[key]
    low, high = measure.plausible
    return case(reading(key, value), limits={key: Limits(low_red=low, high_red=high)})


def fortnight(measure: str, centre: float, *latest: float, spread: float = 0.0) -> list[Reading]:
    """Two readings a day for two weeks, at *centre* give or take *spread*, then *latest* in the last 40 hours, the
    newest last: it was just sent."""
    sides = (centre - spread, centre + spread)
    usual = [reading(measure, sides[number % 2], hours(60 + 12 * number)) for number in range(23)]
    ago = [minutes(5) + hours(8 * number) for number in range(len(latest))][::-1]
    return [*usual, *(reading(measure, value, past) for value, past in zip(latest, ago, strict=True))]


def after_a_fortnight(measure: str, centre: float, *latest: float, spread: float = 0.0) -> Case:
    *earlier, newest = fortnight(measure, centre, *latest, spread=spread)
    return case(newest, earlier=earlier)


def sensor(*values: float) -> Case:
    """A glucose sensor that reads every five minutes, newest last."""
    found = [reading(SENSOR, value, minutes(5 * back)) for back, value in enumerate(reversed(values), 1)]
    return case(found[0], earlier=found[1:])


def sensed(value: float, days_worn: float = 14) -> Case:
    """A sensor that showed *value* at every quarter of an hour until six in the morning."""
    six = NOW.replace(hour=6)
    found = [reading(SENSOR, value, NOW - six + minutes(15 * back)) for back in range(int(96 * days_worn))]
    return case(found[0], earlier=found[1:])


USUAL: dict[str, tuple[float, float, str]] = {
    "spo2": (95, 1, "low"),
    "pulse": (70, 5, "high"),
    "peak-flow": (400, 10, "low"),
    "systolic": (130, 8, "high"),
    "weight": (80, 0.5, "high"),
    "temperature": (36.5, 0.3, "high"),
}
"""What is usual in the examples, and the least spread (Hurst 2010; the last three ours)."""


def statistical(rule_id: str) -> tuple[Callable[[], Case], Callable[[], Case]]:
    """Examples of a rule about a baseline: just what it takes, and a little less."""
    kind, measure = rule_id.split("-", 1)
    side = USUAL[measure.removesuffix("-low").removesuffix("-high")][2]
    side = measure.rpartition("-")[2] if measure.endswith(("-low", "-high")) else side
    measure = measure.removesuffix("-low").removesuffix("-high")
    centre, floor, _ = USUAL[measure]
    step = floor if side == "high" else -floor

    def shown(*far: float) -> Callable[[], Case]:
        return lambda: after_a_fortnight(measure, centre, *(centre + one * step for one in far))

    return {
        "usual": (shown(3), shown(2)),
        "ewma": (shown(2, 2, 2, 2), shown(1, 1, 1, 1)),
        "cusum": (shown(2, 2, 2, 2), shown(1, 1, 1, 1)),
    }[kind]


def best(value: float, years: float = 1) -> Reading:
    return reading("peak-flow-best", value, days(365.25 * years))


# One case that makes the rule speak, and one, much like it, that does not.
EXAMPLES: dict[str, tuple[Callable[[], Case], Callable[[], Case]]] = {
    "news2": (
        lambda: case(reading("pulse", 131), reading("temperature", 39.1)),
        lambda: case(reading("pulse", 130), reading("temperature", 39.1)),
    ),
    "oximetry-at-home": (lambda: case(reading("spo2", 92)), lambda: case(reading("spo2", 95))),
    "hf-weight": (
        lambda: case(reading("weight", 82.1), earlier=[reading("weight", 80.0, days(2))]),
        lambda: case(reading("weight", 82.0), earlier=[reading("weight", 80.0, days(2))]),
    ),
    "hf-weight-warwickshire": (
        lambda: case(reading("weight", 82.0), earlier=[reading("weight", 80.0, days(3.9))]),
        lambda: case(reading("weight", 81.9), earlier=[reading("weight", 80.0, days(3.9))]),
    ),
    "hf-weight-plymouth": (
        lambda: case(reading("weight", 81.0), earlier=[reading("weight", 80.0, days(1.9))]),
        lambda: case(reading("weight", 80.9), earlier=[reading("weight", 80.0, days(1.9))]),
    ),
    "hf-weight-north-cumbria": (
        lambda: case(reading("weight", 82.3), earlier=[reading("weight", 80.0, days(6.9))]),
        lambda: case(reading("weight", 82.2), earlier=[reading("weight", 80.0, days(6.9))]),
    ),
    "hf-weight-tuh-dublin": (
        lambda: case(reading("weight", 82.0), earlier=[reading("weight", 80.0, days(1.9))]),
        lambda: case(reading("weight", 82.0), earlier=[reading("weight", 80.0, days(2.1))]),
    ),
    "weight-trend": (
        lambda: case(
            reading("weight", 82), earlier=[reading("weight", 82 - 0.15 * day, days(day)) for day in range(1, 14)]
        ),
        lambda: case(
            reading("weight", 82), earlier=[reading("weight", 82 - 0.14 * day, days(day)) for day in range(1, 14)]
        ),
    ),
    "home-bp-high": (lambda: case(*pressure(170, 90)), lambda: case(*pressure(169, 114))),
    "home-bp-week": (lambda: pressure_week(135, 80), lambda: pressure_week(134, 84)),
    "glucose": (lambda: case(reading("glucose", 3.8)), lambda: case(reading("glucose", 3.9))),
    "glucose-lasting-low": (lambda: sensor(2.9, 2.8, 2.7, 2.9), lambda: sensor(3.0, 2.8, 2.7, 2.9)),
    "glucose-time-in-range": (lambda: sensed(10.1), lambda: sensed(10.0)),
    "peak-flow": (
        lambda: case(reading("peak-flow", 299), earlier=[best(500)]),
        lambda: case(reading("peak-flow", 400), earlier=[best(500)]),
    ),
    "copd-composite": (
        lambda: case(
            reading("spo2", 94), reading("pulse", 75), earlier=[*fortnight("spo2", 95), *fortnight("pulse", 70)]
        ),
        lambda: case(
            reading("spo2", 95), reading("pulse", 75), earlier=[*fortnight("spo2", 95), *fortnight("pulse", 70)]
        ),
    ),
    "phq-9-item-9": (lambda: case(reading("phq-9-item-9", 1)), lambda: case(reading("phq-9-item-9", 0))),
    "phq-9": (lambda: case(reading("phq-9", 10)), lambda: case(reading("phq-9", 9))),
    "gad-7": (lambda: case(reading("gad-7", 10)), lambda: case(reading("gad-7", 9))),
    "ucla-3": (lambda: case(reading("ucla-3", 6)), lambda: case(reading("ucla-3", 5))),
    "breathlessness": (
        lambda: case(reading("mmrc", 2), earlier=[reading("mmrc", 1, days(80))]),
        lambda: case(reading("mmrc", 2), earlier=[reading("mmrc", 2, days(80)), reading("mmrc", 1, days(91))]),
    ),
    "fall": (lambda: case(reading("falls", 1)), lambda: case(reading("falls", 0))),
    "check-reading": (
        lambda: case(replace(reading("spo2", 40), quality=CHECK, why="Oxygen saturation of 40 % is not believable.")),
        lambda: case(reading("spo2", 97)),
    ),
    **{rule.id: statistical(rule.id) for rule in SHIPPED if rule.id.split("-")[0] in ("usual", "ewma", "cusum")},
    **{
        rule.id: (
            lambda key=key: limited(key, MEASURES[key].plausible[0]),
            lambda key=key: limited(key, sum(MEASURES[key].plausible) / 2),
        )
        for rule in SHIPPED
        if rule.personal
        for key in rule.triggers
    },
}


class TestEveryRule:
    def test_has_examples(self) -> None:
        assert EXAMPLES.keys() == BY_ID.keys()

    @pytest.mark.parametrize("rule_id", BY_ID)
    def test_fires(self, rule_id: str) -> None:
        found = evaluate(EXAMPLES[rule_id][0](), [BY_ID[rule_id]])
        assert [(one.rule, one.rule_version) for one in found] == [(rule_id, BY_ID[rule_id].version)]

    @pytest.mark.parametrize("rule_id", BY_ID)
    def test_stays_silent(self, rule_id: str) -> None:
        quiet = EXAMPLES[rule_id][1]()
        assert applies(BY_ID[rule_id], quiet) or rule_id == "check-reading"
        assert evaluate(quiet, [BY_ID[rule_id]]) == []

    @pytest.mark.parametrize("rule_id", BY_ID)
    def test_says_why_with_numbers_and_readings(self, rule_id: str) -> None:
        (found,) = evaluate(EXAMPLES[rule_id][0](), [BY_ID[rule_id]])
        assert found.summary.endswith((".", "?"))
        assert any(character.isdigit() for character in found.summary)
        assert found.reasons
        assert all(one["observation"] and one["at"] and one["text"] for one in found.reasons)
        assert set(found.observations) == {one["observation"] for one in found.reasons}

    @pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.id)
    def test_names_its_source_and_looks_back_at_what_it_reads(self, rule) -> None:
        assert rule.source and rule.sentence and rule.name
        assert rule.needs.keys() <= MEASURES.keys()
        assert rule.triggers <= MEASURES.keys()
        assert name_of(rule.id) == rule.name

    def test_a_failed_or_unknown_rule_still_has_a_name(self) -> None:
        assert name_of("failed-news2") == "NEWS2 (could not be worked out)"
        assert name_of("gone") == "gone"

    def test_the_page_is_written_from_the_rules(self) -> None:
        page = Path(__file__).parents[1] / "docs" / "clinical-rules.md"
        assert page.read_text() == rulebook.render(), "python -m monitoring.rulebook > docs/clinical-rules.md"


# value, value of the reading before it or None, severity, repeat asked for.
# Source: NHS COVID Oximetry @home C1396 v1.3 diary: 95 or more stay, 93-94 recheck, 92 or less urgent.
OXIMETRY: list[tuple[float, float | None, int, bool]] = [
    (100, None, 0, False),
    (95, None, 0, False),
    (95, 93, 0, False),
    (94.5, None, 0, False),
    (94.4, None, 1, True),
    (94, None, 1, True),
    (93, None, 1, True),
    (94, 95, 1, True),
    (94, 94, 2, False),
    (93, 92, 2, False),
    (92.4, None, 3, False),
    (92, None, 3, False),
    (80, 99, 3, False),
]

# The same for scale 2 on air. Source: NEWS2 SpO2 scale 2 (RCP 2017), target 88-92 %.
OXIMETRY_SCALE_2: list[tuple[float, float | None, int, bool]] = [
    (97, None, 0, False),
    (92, None, 0, False),
    (88, None, 0, False),
    (87, None, 1, True),
    (87, 88, 1, True),
    (84, 86, 2, False),
    (83, None, 3, False),
]


class TestOximetry:
    def look(self, value: float, before: float | None, scale: int | None) -> tuple[int, bool]:
        earlier = [] if before is None else [reading("spo2", before, hours(1))]
        verdict = OXIMETER(case(reading("spo2", value), earlier=earlier, scale=scale))
        return (verdict.severity, verdict.repeat) if verdict else (0, False)

    @pytest.mark.parametrize(("value", "before", "severity", "repeat"), OXIMETRY)
    def test_bands(self, value: float, before: float | None, severity: int, repeat: bool) -> None:
        assert self.look(value, before, None) == (severity, repeat)

    @pytest.mark.parametrize(("value", "before", "severity", "repeat"), OXIMETRY_SCALE_2)
    def test_bands_of_scale_2(self, value: float, before: float | None, severity: int, repeat: bool) -> None:
        assert self.look(value, before, 2) == (severity, repeat)

    @pytest.mark.parametrize(("value", "severity"), [(94, 0), (95, 2), (97, 2)])
    def test_too_much_oxygen_on_scale_2(self, value: float, severity: int) -> None:
        verdict = OXIMETER(case(reading("spo2", value), reading("oxygen", "oxygen"), scale=2))
        assert (verdict.severity if verdict else 0) == severity

    def test_hazard_scale_2_misuse(self) -> None:
        """88 % is an emergency unless a named clinician ordered scale 2 for this person."""
        assert self.look(88, None, None) == (3, False)
        assert self.look(88, None, 1) == (3, False)
        assert self.look(88, None, 2) == (0, False)

    def test_the_patient_is_told_what_to_do_without_waiting_for_staff(self) -> None:
        red = OXIMETER(case(reading("spo2", 90)))
        amber = OXIMETER(case(reading("spo2", 93)))
        assert red is not None and red.advice is not None and "999" in red.advice
        assert amber is not None and amber.advice is not None and "within the hour" in amber.advice

    def test_a_reading_of_another_day_confirms_nothing(self) -> None:
        old = reading("spo2", 93, thresholds.CONFIRM_WITHIN + timedelta(minutes=6))
        verdict = OXIMETER(case(reading("spo2", 93), earlier=[old]))
        assert verdict is not None and verdict.repeat

    def test_a_reading_that_arrives_late_confirms_too(self) -> None:
        known = reading("spo2", 93, hours(1))
        verdict = OXIMETER(case(reading("spo2", 94, hours(2)), earlier=[known]))
        assert verdict is not None and verdict.severity == 2

    def test_only_the_readings_next_to_it_confirm(self) -> None:
        earlier = [reading("spo2", 97, hours(1)), reading("spo2", 93, hours(2))]
        verdict = OXIMETER(case(reading("spo2", 93), earlier=earlier))
        assert verdict is not None and verdict.severity == 1

    def test_the_worst_of_several(self) -> None:
        sent = [reading("spo2", 97), reading("spo2", 91, hours(3)), reading("spo2", 96, hours(6))]
        verdict = OXIMETER(case(*sent))
        assert verdict is not None
        assert verdict.summary == "Oxygen saturation 91 %, at or below 92 %."

    def test_personal_limits_speak_instead(self) -> None:
        own = {"spo2": Limits(low_red=85, low_amber=88)}
        assert evaluate(case(reading("spo2", 90), limits=own)) == []
        (found,) = evaluate(case(reading("spo2", 85), limits=own))
        assert (found.rule, found.severity) == ("limit-spo2", 3)


class TestPersonalLimits:
    OWN = Limits(low_red=45, low_amber=50, high_amber=100, high_red=120)

    @pytest.mark.parametrize(
        ("value", "before", "severity"),
        [
            (45, None, 3),
            (46, None, 1),
            (50, None, 1),
            (50, 48, 2),
            (51, None, 0),
            (99, None, 0),
            (100, None, 1),
            (100, 48, 1),
            (100, 104, 2),
            (119, 104, 2),
            (120, None, 3),
        ],
    )
    def test_each_bound(self, value: float, before: float | None, severity: int) -> None:
        earlier = [] if before is None else [reading("pulse", before, hours(2))]
        verdict = BY_ID["limit-pulse"].evaluate(
            case(reading("pulse", value), earlier=earlier, limits={"pulse": self.OWN})
        )
        assert (verdict.severity if verdict else 0) == severity

    def test_an_order_without_limits_leaves_the_defaults(self) -> None:
        (found,) = evaluate(case(reading("spo2", 92), scale=1))
        assert found.rule == "oximetry-at-home"


# new weight, weight n days before, dry weight, severity.
# Source: heartfailurematters.org (ESC/HFA), more than 2 kg in 3 days; dry weight's margin ours.
WEIGHT: list[tuple[float, tuple[float, float] | None, float | None, int]] = [
    (82.0, (80.0, 1), None, 0),
    (82.1, (80.0, 1), None, 2),
    (82.1, (80.0, 2.9), None, 2),
    (82.1, (80.0, 3.1), None, 0),
    (82.04, (80.0, 1), None, 0),
    (78.0, (80.0, 1), None, 0),
    (77.9, (80.0, 1), None, 2),
    (82.0, None, 80.0, 0),
    (82.1, None, 80.0, 2),
    (77.9, None, 80.0, 2),
    (82.1, None, None, 0),
    (87.0, (80.0, 1), None, 2),
    (87.1, (80.0, 1), None, 1),
    (60.0, (80.0, 1), None, 1),
]


class TestWeight:
    @pytest.mark.parametrize(("value", "before", "dry", "severity"), WEIGHT)
    def test_gain_and_fall(
        self, value: float, before: tuple[float, float] | None, dry: float | None, severity: int
    ) -> None:
        earlier = [reading("weight", before[0], days(before[1]))] if before else []
        if dry is not None:
            earlier.append(reading("dry-weight", dry, days(90)))
        verdict = WEIGHING(case(reading("weight", value), earlier=earlier))
        assert (verdict.severity if verdict else 0) == severity

    def test_against_the_lowest_of_the_window(self) -> None:
        earlier = [reading("weight", 81.5, days(1)), reading("weight", 79.9, days(2))]
        verdict = WEIGHING(case(reading("weight", 82.0), earlier=earlier))
        assert verdict is not None
        assert verdict.summary == "Weight 82.0 kg: 2.1 kg heavier in 2 days."

    @pytest.mark.parametrize(
        ("before", "said"),
        [
            (timedelta(seconds=40), "within the hour"),
            (hours(5), "in 5 hours"),
            (hours(17.9), "in 18 hours"),
            (hours(23), "in 1 day"),
            (days(2), "in 2 days"),
        ],
    )
    def test_it_says_how_soon(self, before: timedelta, said: str) -> None:
        earlier = [reading("weight", 80.0, before + timedelta(minutes=5))]
        verdict = WEIGHING(case(reading("weight", 82.4), earlier=earlier))
        assert verdict is not None
        assert verdict.summary == f"Weight 82.4 kg: 2.4 kg heavier {said}."

    def test_both_reasons_are_told(self) -> None:
        earlier = [reading("weight", 80.0, days(1)), reading("dry-weight", 79.0, days(100))]
        verdict = WEIGHING(case(reading("weight", 82.4), earlier=earlier))
        assert verdict is not None
        assert verdict.summary == "Weight 82.4 kg: 2.4 kg heavier in 1 day, 3.4 kg above the dry weight of 79.0 kg."
        assert len(verdict.reasons) == 3

    def test_an_old_dry_weight_is_not_used(self) -> None:
        old = reading("dry-weight", 70, weight.DRY_WEIGHT_AGE + days(1))
        assert WEIGHING(case(reading("weight", 82), earlier=[old])) is None

    def test_hazard_device_swapped_between_household_members(self) -> None:
        verdict = WEIGHING(case(reading("weight", 61.2), earlier=[reading("weight", 82.0, days(1))]))
        assert verdict is not None and verdict.repeat
        assert verdict.severity == 1
        assert "somebody else" in verdict.summary

    def test_pounds_and_kilograms_of_one_weight(self) -> None:
        """176.4 lb is 80.01 kg: no change beside 80.0 kg."""
        assert WEIGHING(case(reading("weight", 82.01), earlier=[reading("weight", 80.0, days(1))])) is None


class TestBloodPressure:
    @pytest.mark.parametrize(
        ("upper", "lower", "fires"),
        [(169, 114, False), (170, 80, True), (120, 115, True), (169.5, 80, True), (200, 120, True)],
    )
    def test_one_very_high_reading(self, upper: float, lower: float, fires: bool) -> None:
        """Source: home equivalent of NICE NG136's clinic 180/120; unverified, and says so."""
        verdict = VERY_HIGH(case(*pressure(upper, lower)))
        assert (verdict is not None) == fires
        if verdict:
            assert verdict.repeat and verdict.severity == 2
            assert "unverified" in verdict.summary

    # mean systolic, mean diastolic, stage. Source: NICE NG136 home averages.
    @pytest.mark.parametrize(
        ("upper", "lower", "stage"),
        [
            (134, 84, 0),
            (135, 80, 1),
            (120, 85, 1),
            (149, 94, 1),
            (150, 80, 2),
            (120, 95, 2),
            (134.4, 84.4, 0),
            (134.5, 80, 1),
        ],
    )
    def test_stages(self, upper: float, lower: float, stage: int) -> None:
        found = pressure_week(upper, lower)
        week = blood_pressure.week(found.recent["systolic"], found.recent["diastolic"])
        assert week.stage == stage
        verdict = AVERAGE(found)
        assert (verdict.severity if verdict else 0) == stage

    @pytest.mark.parametrize(("number", "stage"), [(3, None), (4, 2), (7, 2)])
    def test_never_classified_on_fewer_than_four_days(self, number: int, stage: int | None) -> None:
        found = pressure_week(160, 100, number)
        week = blood_pressure.week(found.recent["systolic"], found.recent["diastolic"])
        assert (len(week.days), week.stage) == (number, stage)
        if stage is None:
            assert week.text() == "Home blood pressure: 3 of the 4 valid days needed"

    def test_the_first_day_is_left_out(self) -> None:
        earlier = [one for day in range(3) for h in (0, 2) for one in pressure(130, 80, days(day) + hours(h))]
        earlier += [one for h in (0, 2) for one in pressure(190, 110, days(3) + hours(h))]
        week = blood_pressure.week(
            *([one for one in earlier if one.measure == key] for key in ("systolic", "diastolic"))
        )
        assert (week.systolic, week.diastolic, week.stage) == (130, 80, 0)
        assert week.discarded == (NOW - days(3)).date()

    def test_a_day_with_one_reading_does_not_count(self) -> None:
        found = [one for day in range(4) for one in pressure(160, 100, days(day))]
        week = blood_pressure.week(*([one for one in found if one.measure == key] for key in ("systolic", "diastolic")))
        assert week.stage is None

    def test_an_upper_number_without_its_lower_one_does_not_count(self) -> None:
        week = blood_pressure.week([reading("systolic", 160)], [reading("diastolic", 100)])
        assert week.days == ()

    def test_hazard_timezone_days_are_those_of_the_patient(self) -> None:
        """23:30 UTC in July is the next day at home."""
        at = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)
        upper, lower = (replace(one, at=at) for one in pressure(140, 90))
        again = [replace(one, at=at + hours(1), observation_id="second") for one in (upper, lower)]
        week = blood_pressure.week([upper, again[0]], [lower, again[1]])
        assert [day.isoformat() for day in week.days] == ["2026-07-02"]

    def test_personal_limits_speak_instead(self) -> None:
        own = {"systolic": Limits(high_amber=180, high_red=200)}
        assert VERY_HIGH(case(*pressure(175, 90), limits=own)) is None
        assert VERY_HIGH(case(*pressure(175, 116), limits=own)) is not None


# value, value of the reading before it or None, severity, repeat asked for.
# Source: international consensus levels (PMC8481000 table 1); the waiting for a repeat of highs is ours.
GLUCOSE: list[tuple[float, float | None, int, bool]] = [
    (2.9, None, 3, False),
    (2.94, None, 3, False),
    (2.95, None, 2, False),
    (3.0, None, 2, False),
    (3.8, None, 2, False),
    (3.84, None, 2, False),
    (3.85, None, 0, False),
    (3.9, None, 0, False),
    (10.0, None, 0, False),
    (13.9, None, 0, False),
    (13.94, None, 0, False),
    (13.95, None, 1, True),
    (14.0, None, 1, True),
    (14.0, 9.0, 1, True),
    (14.0, 14.0, 2, False),
]


class TestGlucose:
    @pytest.mark.parametrize(("value", "before", "severity", "repeat"), GLUCOSE)
    def test_levels(self, value: float, before: float | None, severity: int, repeat: bool) -> None:
        earlier = [] if before is None else [reading("glucose", before, hours(1))]
        verdict = GLUCOSE_RULE(case(reading("glucose", value), earlier=earlier))
        assert ((verdict.severity, verdict.repeat) if verdict else (0, False)) == (severity, repeat)

    @pytest.mark.parametrize(
        ("milligrams", "severity"), [(53, 3), (54, 2), (69, 2), (70, 0), (180, 0), (250, 0), (252, 1)]
    )
    def test_the_consensus_in_milligrams(self, milligrams: int, severity: int) -> None:
        """The consensus gives 54, 70 and 250 mg/dL as 3.0, 3.9 and 13.9 mmol/L: neither side of them may move."""
        verdict = GLUCOSE_RULE(case(reading("glucose", round(milligrams / 18.016, 2))))
        assert (verdict.severity if verdict else 0) == severity

    def test_a_high_that_persists(self) -> None:
        high = [reading("glucose", 11.2, hours(3)), reading("glucose", 12.0, hours(6.5))]
        verdict = GLUCOSE_RULE(case(reading("glucose", 10.1), earlier=high))
        assert verdict is not None and verdict.severity == 1
        assert "3 readings on end" in verdict.summary

    @pytest.mark.parametrize("between", [10.0, 6.0])
    def test_a_high_that_came_back_does_not_persist(self, between: float) -> None:
        earlier = [
            reading("glucose", between, hours(3)),
            reading("glucose", 12.0, hours(7)),
            reading("glucose", 12, hours(9)),
        ]
        assert GLUCOSE_RULE(case(reading("glucose", 10.1), earlier=earlier)) is None

    def test_a_short_high_does_not_persist(self) -> None:
        earlier = [reading("glucose", 12.0, hours(number)) for number in (1, 2, 5)]
        assert GLUCOSE_RULE(case(reading("glucose", 10.1), earlier=earlier)) is None

    def test_a_low_is_treated_without_waiting_for_staff(self) -> None:
        verdict = GLUCOSE_RULE(case(reading("glucose", 3.2)))
        assert verdict is not None and verdict.advice is not None
        assert "sugary" in verdict.advice

    def test_personal_limits_speak_instead(self) -> None:
        own = {"glucose": Limits(low_red=3.5, low_amber=4.5)}
        (found,) = evaluate(case(reading("glucose", 3.5), limits=own))
        assert found.rule == "limit-glucose"
