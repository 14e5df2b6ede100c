"""Rules that people compose: each look at its boundary, what is missing, the words they read, and the way to FHIR."""

from datetime import timedelta
from typing import Any

import pytest
from monitoring_cases import case, days, hours, reading
from test_monitoring_rules import after_a_fortnight, best, minutes

from fhir.outcome import Refusal
from fhir.validation import check
from fhir.wire import decode, encode
from monitoring.case import Case
from monitoring.composed import LOOKS, Clause, Composed
from monitoring.in_force import ONLY_SHIPPED, RulesInForce, rules_for
from monitoring.local_rules import LocalRule, Scope, Step, problems
from monitoring.measures import MEASURES
from monitoring.plan_definitions import URL, from_plan_definition, is_rule, to_plan_definition
from monitoring.rules import BY_ID, RULES


def alone(measure: str, look: str, value: float | None = None, **more: Any) -> Composed:
    return Composed("all", (Clause(measure, look, value, **more),), severity=2)


DRY = reading("dry-weight", 80.0, days(30))
TWICE = alone("pulse", "at-least", 100, count=2)

# What it says, the case, whether it fires: each look on both sides of its value, and with the comparison missing.
LOOKED: list[tuple[Composed, Case, bool]] = [
    (alone("pulse", "at-least", 100), case(reading("pulse", 100)), True),
    (alone("pulse", "at-least", 100), case(reading("pulse", 99)), False),
    (alone("pulse", "at-least", 100), case(reading("pulse", 99.5)), True),  # as shown: 100
    (alone("pulse", "at-most", 50), case(reading("pulse", 50)), True),
    (alone("pulse", "at-most", 50), case(reading("pulse", 51)), False),
    (TWICE, case(reading("pulse", 100)), False),
    (
        TWICE,
        case(reading("pulse", 100), earlier=[reading("pulse", 100, hours(2))]),
        True,
    ),
    (
        TWICE,
        case(reading("pulse", 100), earlier=[reading("pulse", 99, hours(2))]),
        False,
    ),
    (
        TWICE,
        case(reading("pulse", 100), earlier=[reading("pulse", 100, days(2))]),
        False,
    ),
    (alone("pulse", "rises", 20), case(reading("pulse", 90), earlier=[reading("pulse", 70, hours(20))]), True),
    (alone("pulse", "rises", 20), case(reading("pulse", 89), earlier=[reading("pulse", 70, hours(20))]), False),
    (alone("pulse", "rises", 20), case(reading("pulse", 190)), False),
    (alone("spo2", "falls", 3), case(reading("spo2", 94), earlier=[reading("spo2", 97, hours(20))]), True),
    (alone("spo2", "falls", 3), case(reading("spo2", 94), earlier=[reading("spo2", 97, days(2))]), False),
    (alone("spo2", "falls", 3, over=days(3)), case(reading("spo2", 94), earlier=[reading("spo2", 97, days(2))]), True),
    (alone("pulse", "above-usual", 2), after_a_fortnight("pulse", 70, 80), True),
    (alone("pulse", "above-usual", 2), after_a_fortnight("pulse", 70, 79), False),
    (alone("pulse", "above-usual", 2), case(reading("pulse", 190)), False),
    (alone("spo2", "below-usual", 2), after_a_fortnight("spo2", 96, 94), True),
    (alone("spo2", "below-usual", 2), after_a_fortnight("spo2", 96, 95), False),
    (alone("weight", "above-dry-weight", 2), case(reading("weight", 82.0), earlier=[DRY]), True),
    (alone("weight", "above-dry-weight", 2), case(reading("weight", 81.9), earlier=[DRY]), False),
    (alone("weight", "above-dry-weight", 2), case(reading("weight", 99.0)), False),
    (alone("weight", "below-dry-weight", 2), case(reading("weight", 78.0), earlier=[DRY]), True),
    (alone("peak-flow", "below-best", 50), case(reading("peak-flow", 249), earlier=[best(500)]), True),
    (alone("peak-flow", "below-best", 50), case(reading("peak-flow", 250), earlier=[best(500)]), False),
    (alone("peak-flow", "below-best", 50), case(reading("peak-flow", 40)), False),
    (alone("consciousness", "is", word="confused"), case(reading("consciousness", "confused")), True),
    (alone("consciousness", "is", word="confused"), case(reading("consciousness", "alert")), False),
]


class TestLooks:
    @pytest.mark.parametrize(("rule", "given", "fires"), LOOKED)
    def test_boundaries(self, rule: Composed, given: Case, fires: bool) -> None:
        verdict = rule.evaluate(given)
        assert (verdict is not None) == fires
        if verdict is not None:
            assert verdict.severity == 2 and verdict.summary.endswith(".") and verdict.reasons

    def test_each_look_is_tried(self) -> None:
        assert {clause.look for rule, _, _ in LOOKED for clause in rule.clauses} == LOOKS.keys()

    @pytest.mark.parametrize("rule", {rule.clauses[0].look: rule for rule, _, _ in LOOKED}.values())
    def test_it_looks_back_at_what_it_reads(self, rule: Composed) -> None:
        compared = {"above-dry-weight": "dry-weight", "below-dry-weight": "dry-weight", "below-best": "peak-flow-best"}
        look = rule.clauses[0].look
        assert rule.needs.keys() == {rule.clauses[0].measure, *([compared[look]] if look in compared else [])}
        assert all(within > rule.together or key not in compared.values() for key, within in rule.needs.items())


FAST_AND_LOW = Composed(
    "all", (Clause("pulse", "at-least", 100), Clause("spo2", "at-most", 94)), severity=3, told="Rest, and ring us."
)


class TestSeveral:
    def test_all_of_them(self) -> None:
        verdict = FAST_AND_LOW.evaluate(case(reading("pulse", 104), reading("spo2", 93, minutes(20))))
        assert verdict is not None
        assert verdict.summary == "Pulse 104 /min, at or above 100 /min; Oxygen saturation 93 %, at or below 94 %."
        assert (verdict.severity, verdict.advice) == (3, "Rest, and ring us.")
        assert {one["measure"] for one in verdict.extents} == {"pulse", "spo2"}

    def test_measured_too_far_apart(self) -> None:
        assert FAST_AND_LOW.evaluate(case(reading("pulse", 104), reading("spo2", 93, minutes(70)))) is None

    def test_what_was_measured_first_may_come_last(self) -> None:
        known = reading("pulse", 104, minutes(10))
        assert FAST_AND_LOW.evaluate(case(reading("spo2", 93, minutes(40)), earlier=[known])) is not None

    def test_a_newer_reading_that_is_well_again_counts(self) -> None:
        earlier = [reading("spo2", 93, minutes(50)), reading("spo2", 97, minutes(20))]
        assert FAST_AND_LOW.evaluate(case(reading("pulse", 104), earlier=earlier)) is None

    def test_hazard_missing_scored_as_normal(self) -> None:
        """What was not measured meets no condition; and no condition can be met by its absence."""
        assert FAST_AND_LOW.evaluate(case(reading("pulse", 180))) is None
        assert Composed("any", FAST_AND_LOW.clauses, 2).evaluate(case(reading("pulse", 180))) is not None

    def test_any_of_them_by_what_is_new_alone(self) -> None:
        """An old low value that was told already is not told again because the pulse comes."""
        rule = Composed("any", FAST_AND_LOW.clauses, 2, together=hours(24))
        known = reading("spo2", 90, hours(3))
        assert rule.evaluate(case(reading("pulse", 70), earlier=[known])) is None
        assert rule.evaluate(case(reading("pulse", 100), earlier=[known])) is not None


class TestWords:
    def test_a_rule_reads_as_english(self) -> None:
        assert FAST_AND_LOW.sentence() == (
            "When pulse is at or above 100 /min and oxygen saturation is at or below 94 %: red. All measured within 1 "
            "hour. The person is told at once: “Rest, and ring us.”"
        )

    @pytest.mark.parametrize(
        ("clause", "said"),
        [
            (
                Clause("pulse", "at-least", 100, count=2, over=hours(6)),
                "pulse is at or above 100 /min in 2 readings on end within 6 hours",
            ),
            (
                Clause("weight", "rises", 2, over=days(3)),
                "weight is 2.0 kg or more above its lowest of the 3 days before",
            ),
            (Clause("spo2", "below-usual", 2.5), "oxygen saturation is 2.5 spreads or more below what is usual"),
            (Clause("peak-flow", "below-best", 60), "peak flow is below 60 % of the best"),
            (Clause("oxygen", "is", word="oxygen"), "air or oxygen is “on oxygen”"),
        ],
    )
    def test_each_condition(self, clause: Clause, said: str) -> None:
        assert clause.sentence() == said

    def test_whom_it_is_for(self) -> None:
        rule = local(FAST_AND_LOW, Scope("yeovil", "condition", (("http://snomed.info/sct", "13645005"),), "COPD"))
        assert rule.sentence().startswith("For people of the hub with COPD. When pulse")


def local(what: Composed | None = FAST_AND_LOW, scope: Scope | None = None, **more: Any) -> LocalRule:
    given: dict[str, Any] = {"id": "r1", "key": "local-r1", "version": 1, "status": "draft", "name": "Fast and low"}
    return LocalRule(scope=scope or Scope("yeovil"), what=what, **{**given, **more})


COPD = Scope("yeovil", "condition", (("http://snomed.info/sct", "13645005"),), "COPD")
EVERY_LOOK = tuple({rule.clauses[0].look: rule.clauses[0] for rule, _, _ in LOOKED}.values())
WHEN = timedelta()


class TestFhir:
    @pytest.mark.parametrize(
        "rule",
        [
            local(),
            local(scope=COPD),
            local(scope=Scope("yeovil", "monitored", measure="spo2")),
            local(scope=Scope("yeovil", "chosen")),
            local(Composed("any", EVERY_LOOK[:6], 1, together=days(1))),
            local(Composed("all", EVERY_LOOK[6:], 2)),
            local(None, shipped="copd-composite"),
            local(None, shipped="hf-weight", off=True),
            local(
                status="active",
                version=3,
                steps=(Step("active", "Practitioner/n", reading("pulse", 1).at, "Agreed at the meeting"),),
            ),
        ],
    )
    def test_there_and_back(self, rule: LocalRule) -> None:
        resource = to_plan_definition(rule, {"Practitioner/n": "Nina Nurse"})
        assert from_plan_definition(decode(encode(resource))) == rule
        assert is_rule(resource)
        check(decode(encode(resource)))

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"url": "http://elsewhere.example/rule"}, "PlanDefinition.url"),
            ({"url": URL + "a/b"}, "PlanDefinition.url"),
            ({"version": "one"}, "PlanDefinition.version"),
            ({"version": "0"}, "PlanDefinition.version"),
            ({"status": "unknown"}, "PlanDefinition.status"),
            ({"title": " "}, "PlanDefinition.title"),
            ({"title": "x" * 81}, "PlanDefinition.title"),
            ({"type": None}, "PlanDefinition.type"),
        ],
    )
    def test_what_is_around_it(self, change: dict[str, Any], where: str) -> None:
        with pytest.raises(Refusal) as error:
            from_plan_definition({**to_plan_definition(local()), **change})
        assert [one.expression for one in error.value.issues] == [where]

    @pytest.mark.parametrize(
        ("shipped", "off", "said"),
        [
            ("nothing", False, "no shipped rule"),
            ("limit-spo2", True, "looks after itself"),
            ("check-reading", True, "looks after itself"),
            ("news2", False, "on for everybody"),
            ("copd-composite", True, "watches nobody"),
        ],
    )
    def test_what_cannot_be_switched(self, shipped: str, off: bool, said: str) -> None:
        with pytest.raises(Refusal, match=said):
            to_plan_definition(local(None, shipped=shipped, off=off))

    def test_a_shipped_rule_is_switched_off_for_the_hub_alone(self) -> None:
        with pytest.raises(Refusal, match="whole hub"):
            to_plan_definition(local(None, COPD, shipped="news2", off=True))

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            (Composed("all", (), 2), "1 to 6 conditions"),
            (Composed("all", (Clause("pulse", "at-least", 100),) * 7, 2), "1 to 6 conditions"),
            (alone("pulse", "at-least"), "a value is needed"),
            (alone("pulse", "at-least", 251), "from 20 to 250"),
            (alone("pulse", "at-least", 100, count=11), "from 1 to 10"),
            (alone("pulse", "rises", 20, count=2), "One reading decides"),
            (alone("pulse", "rises", 20, over=days(15)), "15 minutes to 14 days"),
            (alone("pulse", "above-usual", 11), "from 0.5 to 10"),
            (alone("steps", "above-usual", 2), "no baseline"),
            (alone("pulse", "above-dry-weight", 2), "cannot be looked at so"),
            (alone("consciousness", "at-least", 2), "cannot be looked at so"),
            (alone("pulse", "is", word="fast"), "cannot be looked at so"),
            (alone("consciousness", "is", word="sleepy"), "The word is one of"),
            (alone("dry-weight", "at-least", 80), "that is measured"),
            (Composed("all", FAST_AND_LOW.clauses, 2, together=days(20)), "15 minutes to 14 days"),
            (Composed("all", FAST_AND_LOW.clauses, 2, told="x" * 301), "at most 300"),
        ],
    )
    def test_what_cannot_be_evaluated(self, what: Composed, said: str) -> None:
        with pytest.raises(Refusal, match=said):
            to_plan_definition(local(what))

    @pytest.mark.parametrize("measure", [key for key in MEASURES if not MEASURES[key].answers])
    def test_every_number_may_be_looked_at(self, measure: str) -> None:
        middle = sum(MEASURES[measure].plausible) / 2
        assert problems(Clause(measure, "at-least", middle)) == []


class TestWhoIsWatched:
    def test_without_a_rule_of_their_hub_by_what_is_shipped(self) -> None:
        assert ONLY_SHIPPED.of("p1", "yeovil") is RULES
        assert RulesInForce((local(),)).of("p1", "taunton") is RULES
        assert RulesInForce((local(),)).of("p1", None) is RULES

    def test_by_those_of_their_hub_and_those_that_name_them(self) -> None:
        chosen = local(id="r2", key="local-r2", scope=Scope("yeovil", "chosen"))
        found = RulesInForce((local(), chosen), {"r2": frozenset({"p1"})})
        assert [one.id for one in found.of("p1", "yeovil")][-2:] == ["local-r1", "local-r2"]
        assert [one.id for one in found.of("p2", "yeovil")][-1:] == ["local-r1"]
        assert found.of("p3", "yeovil") is found.of("p2", "yeovil")

    def test_switched_on_and_off(self) -> None:
        on, off = local(None, shipped="copd-composite"), local(None, shipped="hf-weight", off=True, id="r2")
        ids = [one.id for one in rules_for([on, off])]
        assert "copd-composite" in ids and "hf-weight" not in ids and len(ids) == len(RULES)
        again = local(None, COPD, shipped="copd-composite", id="r3", key="local-r3")
        assert rules_for([on, again]).count(BY_ID["copd-composite"]) == 1
