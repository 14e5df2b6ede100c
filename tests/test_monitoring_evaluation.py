"""Cases and their evaluation: what may alarm, what is known, and that one failing rule silences no other."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from monitoring_cases import NOW, case, days, hours, reading
from msgspec import structs

from monitoring import evaluation
from monitoring.case import Case, Failure, Finding, Verdict
from monitoring.evaluation import LATE, evaluate, looking, window
from monitoring.limits import Limits, Order
from monitoring.news2 import EarlyWarning
from monitoring.readings import CHECK, NO_TIME, SANDBOX, WRONG
from monitoring.rules import BY_ID, RULES, Rule


class Broken(EarlyWarning):
    """A kind with a mistake in it."""

    def evaluate(self, case: Case) -> Verdict | None:
        raise ZeroDivisionError("in a rule")


class TestCase:
    def test_late_readings_raise_nothing(self) -> None:
        late = reading("spo2", 85, ago=LATE + timedelta(seconds=1))
        assert evaluation.case("p1", [late], [], NOW) is None
        assert evaluate(case(reading("spo2", 85, ago=LATE))) != []

    @pytest.mark.parametrize("quality", [SANDBOX, WRONG])
    def test_readings_that_are_none(self, quality: str) -> None:
        assert evaluation.case("p1", [structs.replace(reading("spo2", 85), quality=quality)], [], NOW) is None

    def test_a_day_without_a_time_is_not_told(self) -> None:
        assert (
            evaluation.case("p1", [structs.replace(reading("spo2", 85), quality=CHECK, why=NO_TIME)], [], NOW) is None
        )

    def test_a_doubtful_reading_is_never_evaluated_clinically(self) -> None:
        doubtful = structs.replace(reading("spo2", 40), quality=CHECK, why="Not believable 40 %.")
        (found,) = evaluate(case(doubtful))
        assert isinstance(found, Finding)
        assert (found.rule, found.kind, found.severity) == ("check-reading", "operational", 1)

    def test_doubtful_earlier_readings_confirm_nothing(self) -> None:
        earlier = structs.replace(reading("spo2", 93, hours(1)), quality=CHECK)
        (found,) = evaluate(case(reading("spo2", 93), earlier=[earlier]))
        assert isinstance(found, Finding) and found.repeat

    def test_the_new_reading_may_be_known_already(self) -> None:
        new = reading("spo2", 93)
        (found,) = evaluate(case(new, earlier=[new]))
        assert isinstance(found, Finding) and found.repeat

    def test_newest_first(self) -> None:
        found = case(reading("pulse", 70, hours(2)), reading("pulse", 71), earlier=[reading("pulse", 72, hours(1))])
        assert [one.value for one in found.recent["pulse"]] == [71, 72, 70]
        assert [one.value for one in found.new["pulse"]] == [71, 70]


class TestFailure:
    def test_one_failing_rule_silences_no_other(self) -> None:
        bad = replace(BY_ID["news2"], how=Broken())
        failure, finding = evaluate(case(reading("spo2", 91)), [bad, BY_ID["oximetry-at-home"]])
        assert isinstance(failure, Failure) and isinstance(failure.error, ZeroDivisionError)
        assert isinstance(finding, Finding) and finding.severity == 3

    def test_a_failure_becomes_an_operational_finding(self) -> None:
        (failure,) = evaluate(case(reading("spo2", 91)), [replace(BY_ID["news2"], how=Broken())])
        assert isinstance(failure, Failure)
        finding = failure.finding()
        assert (finding.rule, finding.kind, finding.severity) == ("failed-news2", "operational", 2)
        assert "ZeroDivisionError" in finding.summary and "in a rule" not in finding.summary
        assert finding.reasons[0]["text"] == "Oxygen saturation 91 % was not evaluated"


class TestLooking:
    """A rule that needs two weeks of a sensor looks once a day, and its past is fetched for that reading alone."""

    @pytest.mark.parametrize(("hour", "minute", "looks"), [(5, 59, False), (6, 0, True), (6, 14, True), (6, 15, False)])
    def test_at_its_time_of_the_day(self, hour: int, minute: int, looks: bool) -> None:
        rules = (*RULES, BY_ID["glucose-time-in-range"])
        sensed = structs.replace(reading("glucose-sensor", 6), at=NOW.replace(hour=hour, minute=minute))
        found = looking(rules, [sensed])
        assert (tuple(found) == rules) == looks
        assert window({"glucose-sensor"}, {}, found)["glucose-sensor"] == (days(14) if looks else hours(24))

    def test_without_such_a_rule_nothing_is_left_out(self) -> None:
        assert looking(RULES, [reading("pulse", 70)]) is RULES


class TestWindow:
    def order(self, measure: str, limits: Limits) -> dict[str, Order]:
        return {measure: Order("s1", "p1", measure, limits)}

    def test_only_what_a_rule_needs(self) -> None:
        assert window({"steps"}, {}) == {}
        assert window({"weight"}, {}).keys() == {"weight", "dry-weight"}
        assert window({"consciousness"}, {}) == BY_ID["news2"].needs

    def test_the_longest_that_a_rule_needs(self) -> None:
        assert window({"systolic"}, {})["systolic"] == days(7)
        assert window({"spo2"}, {})["spo2"] == hours(24)

    def test_personal_rules_only_with_limits(self) -> None:
        assert window({"steps"}, self.order("steps", Limits())) == {}
        assert window({"steps"}, self.order("steps", Limits(low_amber=500))) == {"steps": hours(24)}


class TestReplay:
    def test_the_same_case_gives_the_same_answer(self) -> None:
        found = case(reading("pulse", 135), reading("temperature", 39.4), reading("spo2", 91))
        assert evaluate(found) == evaluate(found)

    def test_the_order_of_rules_does_not_matter(self) -> None:
        found = case(reading("pulse", 135), reading("temperature", 39.4), reading("spo2", 91))
        rules: list[Rule] = list(reversed(RULES))
        assert {one.rule for one in evaluate(found, rules)} == {one.rule for one in evaluate(found)}


def test_evaluation_keeps_up_with_ingestion() -> None:
    """20,000 readings/s is four times what a hub must ingest; the bound is low enough for a busy machine."""
    history = [reading(key, value, hours(n)) for n in range(1, 7) for key, value in (("spo2", 97), ("weight", 80))]
    cases = [
        case(reading("spo2", 93), reading("pulse", 88), reading("weight", 80.4), earlier=history) for _ in range(1000)
    ]
    started = time.process_time()
    found = sum(len(evaluate(one)) for one in cases)
    assert found == 1000
    assert 3 * len(cases) / (time.process_time() - started) > 20_000
