"""How far a finding goes: what opens an acknowledged flag again, and what is never quietened."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from monitoring_cases import NOW, acknowledge, case, hours, reading
from test_flow_readings import NOW as PRESENT
from test_flow_readings import person, rows, send, spo2

from fhir.wire import decode, encode
from hub import flows
from hub.db import Tx
from hub.identity import IMPORTER
from monitoring.case import Finding
from monitoring.decision import Decision, decide
from monitoring.evaluation import evaluate
from monitoring.extents import NEWS2, STEPS, again, beyond, breaks, exceeds, extent
from monitoring.flags import Flag, called, from_fhir, to_fhir
from monitoring.limits import AMBER, INFORMATION, RED, Limits
from monitoring.measures import MEASURES
from monitoring.rules import BY_ID, RULES

NURSE = "Practitioner/n1"
PULSE = {"pulse": Limits(low_red=45, low_amber=50, high_amber=110, high_red=120)}


def found(rule: str, *readings: Any, **more: Any) -> Finding:
    (finding,) = (one for one in evaluate(case(*readings, **more)) if isinstance(one, Finding) and one.rule == rule)
    return finding


def oximetry(value: float) -> Finding:
    return found("oximetry-at-home", reading("spo2", value))


def acknowledged(finding: Finding) -> Flag:
    made = decide(None, finding, NOW, id="f1")
    assert made is not None
    return acknowledge(replace(made.flag, version=1), NURSE, NOW, "Rang her")


def then(flag: Flag, finding: Finding, after: timedelta = hours(1)) -> Decision:
    made = decide(flag, finding, NOW + after, id="never used")
    assert made is not None
    return made


class TestSteps:
    def test_everything_that_can_be_limited_has_a_step_with_unit_and_source(self) -> None:
        limited = {key for rule in RULES if rule.personal for key in rule.triggers}
        assert limited | {NEWS2} == set(STEPS)
        for key, step in STEPS.items():
            assert step.low > 0 and step.high > 0 and "unverified" in step.source
            assert step.unit == (MEASURES[key].shown if key in MEASURES else "points")

    @pytest.mark.parametrize(("side", "value", "further"), [("low", 75, 16), ("low", 92, -1), ("low", 91, 0)])
    def test_how_much_further(self, side: Any, value: float, further: float) -> None:
        assert beyond(extent("spo2", side, value), extent("spo2", side, 91)) == further

    def test_binary_fractions_do_not_hide_a_step(self) -> None:
        assert breaks([extent("glucose", "low", 2.6)], RED, [extent("glucose", "low", 2.9)])

    def test_words(self) -> None:
        assert again(extent("spo2", "low", 91), RED) == "89 % or less"
        assert again(extent("glucose", "low", 2.9), RED) == "2.6 mmol/L or less"
        assert again(extent(NEWS2, "high", 7), RED) == "NEWS2 8 or more"
        assert again(extent(NEWS2, "high", 5), AMBER) is None
        assert again(extent("glucose", "high", 15), AMBER) == "18.0 mmol/L or more"

    def test_amber_counts_only_where_there_is_no_red(self) -> None:
        assert not breaks([extent("spo2", "low", 80)], AMBER, [extent("spo2", "low", 94)])
        assert breaks([extent("weight", "high", 86)], AMBER, [extent("weight", "high", 84)])
        assert not breaks([extent("weight", "high", 86)], INFORMATION, [extent("weight", "high", 84)])

    def test_what_is_not_of_one_measure_and_side_is_not_compared(self) -> None:
        assert not exceeds([extent("pulse", "high", 140)], [extent("pulse", "low", 40), extent("spo2", "high", 97)])


class TestHazardSnoozeHidesDeterioration:
    def test_hazard_red_acknowledged_at_91_is_open_again_at_75(self) -> None:
        made = then(acknowledged(oximetry(91)), oximetry(75))
        assert made.worse and made.flag.state == "open" and made.flag.acknowledged_by is None
        assert made.flag.summary == "Oxygen saturation 75 %, at or below 92 %."

    def test_a_step_is_a_step(self) -> None:
        flag = acknowledged(oximetry(91))
        assert then(flag, oximetry(90)).flag.state == "acknowledged"
        assert then(flag, oximetry(89)).flag.state == "open"
        assert then(flag, oximetry(92)).flag.state == "acknowledged"

    def test_small_steps_add_up_against_what_was_acknowledged(self) -> None:
        flag = then(acknowledged(oximetry(91)), oximetry(90)).flag
        assert flag.state == "acknowledged" and flag.extents == [extent("spo2", "low", 91)]
        assert then(flag, oximetry(89), hours(2)).flag.state == "open"

    def test_acknowledged_again_at_the_lower_value_it_waits_for_a_lower_one_still(self) -> None:
        made = then(acknowledged(oximetry(91)), oximetry(88)).flag
        flag = acknowledge(made, NURSE, NOW + hours(1), "Ambulance is called")
        assert flag.extents == [extent("spo2", "low", 88)]
        assert then(flag, oximetry(87), hours(2)).flag.state == "acknowledged"
        assert then(flag, oximetry(86), hours(2)).flag.state == "open"

    def test_after_a_recovery_it_is_the_latest_value_that_was_acknowledged(self) -> None:
        first = decide(None, oximetry(84), NOW, id="f1")
        assert first is not None
        better = then(first.flag, oximetry(91)).flag
        flag = acknowledge(better, NURSE, NOW + hours(1), "Better on her inhaler")
        assert then(flag, oximetry(85), hours(2)).flag.state == "open"

    def test_the_other_side_was_never_acknowledged(self) -> None:
        low = found("limit-pulse", reading("pulse", 44), limits=PULSE)
        high = found("limit-pulse", reading("pulse", 125), limits=PULSE)
        assert then(acknowledged(low), high).flag.state == "open"

    def test_news2_a_point_more(self) -> None:
        def scored(temperature: float) -> Finding:
            ill: list[tuple[str, float | str]] = [
                ("pulse", 135),
                ("respiratory-rate", 26),
                ("oxygen", "air"),
                ("temperature", temperature),
            ]
            return found("news2", *(reading(key, value) for key, value in ill))

        seven, eight = scored(38.5), scored(39.4)
        assert (seven.extents, eight.extents) == ((extent(NEWS2, "high", 7),), (extent(NEWS2, "high", 8),))
        assert seven.severity == eight.severity == RED
        assert then(acknowledged(seven), scored(38.6)).flag.state == "acknowledged"
        assert then(acknowledged(seven), eight).flag.state == "open"

    def test_a_rule_without_red_opens_again_on_its_step(self) -> None:
        def heavier(kg: float) -> Finding:
            return found("hf-weight", reading("weight", kg), earlier=[reading("weight", 80, timedelta(days=2))])

        assert then(acknowledged(heavier(82.5)), heavier(83.4)).flag.state == "acknowledged"
        assert then(acknowledged(heavier(82.5)), heavier(83.5)).flag.state == "open"

    def test_a_side_without_red_opens_again_on_its_step(self) -> None:
        def high(value: float) -> Finding:
            return found("glucose", reading("glucose", value), earlier=[reading("glucose", 16, hours(3))])

        assert high(15.0).severity == AMBER
        assert then(acknowledged(high(15.0)), high(17.9)).flag.state == "acknowledged"
        assert then(acknowledged(high(15.0)), high(18.0)).flag.state == "open"

    def test_what_opens_it_is_what_it_says(self) -> None:
        low = acknowledged(found("glucose", reading("glucose", 2.8)))
        high = found("glucose", reading("glucose", 20), earlier=[reading("glucose", 19, hours(3))])
        made = then(low, high)
        assert made.flag.state == "open" and made.flag.severity == RED
        assert made.flag.summary.startswith("Glucose 20.0")

    def test_both_numbers_of_a_pressure_are_acknowledged_at_once(self) -> None:
        def pressure(upper: float, lower: float) -> Finding:
            return found("home-bp-high", reading("systolic", upper), reading("diastolic", lower))

        flag = acknowledged(pressure(172, 118))
        assert flag.extents == [extent("systolic", "high", 172), extent("diastolic", "high", 118)]
        assert then(flag, pressure(160, 118)).flag.state == "acknowledged"
        assert then(flag, pressure(160, 123)).flag.state == "open"

    def test_of_several_new_readings_the_worst_speaks(self) -> None:
        many = case(reading("spo2", 91, hours(1)), reading("spo2", 75, hours(2)), reading("spo2", 90, hours(3)))
        verdict = BY_ID["oximetry-at-home"].evaluate(many)
        assert verdict is not None and verdict.summary.startswith("Oxygen saturation 75 %")

    async def test_hazard_a_devices_worse_value_opens_what_was_acknowledged(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await send(tx, device, spo2(patient_id, "91", PRESENT - hours(2)), now=PRESENT - hours(2))
        ((flag_id, known),) = await rows(tx, "SELECT id, extents FROM flag WHERE patient_id = %s", patient_id)
        assert known == [{"measure": "spo2", "side": "low", "value": 91}]
        await flows.acknowledge_flag(tx, IMPORTER, flag_id, "Rang, will measure again")
        await send(tx, device, spo2(patient_id, "90", PRESENT - hours(1)), now=PRESENT - hours(1))
        assert await rows(tx, "SELECT state FROM flag WHERE id = %s", flag_id) == [("acknowledged",)]
        await send(tx, device, spo2(patient_id, "75"))
        assert await rows(tx, "SELECT state, acknowledged_by FROM flag WHERE id = %s", flag_id) == [("open", None)]


class TestNeverQuiet:
    def low(self, value: float) -> Finding:
        return found("glucose", reading("glucose", value))

    def test_hazard_alert_not_seen_a_lower_glucose_within_the_quiet_time_is_told(self) -> None:
        first = decide(None, self.low(2.8), NOW, id="f1")
        assert first is not None and first.flag.extents == [extent("glucose", "low", 2.8)]
        made = then(first.flag, self.low(2.2), timedelta(minutes=5))
        assert made.flag.summary.startswith("Glucose 2.2") and made.flag.count == 2

    def test_the_same_or_better_within_it_is_quiet(self) -> None:
        first = decide(None, self.low(2.8), NOW, id="f1")
        assert first is not None
        for value in (2.8, 2.9):
            assert decide(first.flag, self.low(value), NOW + timedelta(minutes=5), id="x") is None

    def test_of_an_acknowledged_flag_each_new_lowest_is_told_once(self) -> None:
        flag = then(acknowledged(self.low(2.8)), self.low(2.7), timedelta(minutes=5)).flag
        assert (flag.state, flag.count) == ("acknowledged", 2)
        assert decide(flag, self.low(2.7), NOW + timedelta(minutes=8), id="x") is None


class TestFhir:
    def test_what_was_acknowledged_is_part_of_the_flag(self) -> None:
        flag = acknowledged(found("glucose", reading("glucose", 2.8)))
        resource = decode(encode(to_fhir(flag)))
        (part,) = (one for one in resource["extension"][0]["extension"] if one["url"] == "extent")
        assert [str(list(one.values())[1]) for one in part["extension"]] == ["glucose", "low", "2.8"]
        assert from_fhir(resource, 1) == flag

    def test_open_again_is_told_apart(self) -> None:
        seen = acknowledged(oximetry(91))
        waiting = then(seen, oximetry(75)).flag
        assert called(to_fhir(seen), to_fhir(waiting)) == "reopened"
        assert called(to_fhir(seen), to_fhir(seen)) is None and called(to_fhir(waiting), to_fhir(seen)) is None
