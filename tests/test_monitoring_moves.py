"""The table of moves of a flag: what leads where, with who, when and why; and the way back from a mistake."""

from dataclasses import replace
from datetime import timedelta

import pytest
from monitoring_cases import NOW, acknowledge, hours, reading, resolve
from test_monitoring_flags import NURSE, finding, opened

from fhir.outcome import Refusal
from fhir.validation import check
from fhir.wire import decode, encode
from monitoring.decision import decide
from monitoring.flags import Flag, called, from_fhir, to_fhir
from monitoring.moves import by_engine, move, snoozed_until, undo
from monitoring.outcomes import ACTED, OUTCOMES, chosen
from monitoring.states import (
    BY_ENGINE,
    BY_PEOPLE,
    CONFIRMING,
    ENDED,
    ESCALATED,
    OPEN,
    SNOOZED,
    STATES,
    WORDS,
)

OTHER = "Practitioner/n2"


def moved(flag: Flag, to: str, who: str = NURSE) -> Flag:
    code = {"resolved": "visit", "false-alarm": "artefact"}.get(to)
    until = NOW + hours(2) if to == SNOOZED else None
    return move(flag, to, who, NOW, f"Because: {to}", code=code, until=until)


def waiting() -> Flag:
    return opened(finding(94))


def standing(state: str) -> Flag:
    """A flag in *state*, by the shortest way."""
    if state == CONFIRMING:
        return waiting()
    if state == OPEN:
        return opened()
    return by_engine(opened(), ESCALATED, NOW, "Nobody came") if state == ESCALATED else moved(opened(), state)


class TestTable:
    @pytest.mark.parametrize("state", STATES)
    def test_what_leads_where(self, state: str) -> None:
        for to in STATES:
            if to in BY_PEOPLE[state]:
                flag = moved(standing(state), to)
                assert (flag.state, flag.moves[-1]["by"], flag.moves[-1]["why"]) == (to, NURSE, f"Because: {to}")
                assert flag.live == (to not in ENDED)
            else:
                with pytest.raises(Refusal, match="it cannot become") as caught:
                    moved(standing(state), to)
                assert caught.value.status == 409

    def test_each_state_has_its_row_and_word(self) -> None:
        assert set(BY_PEOPLE) == set(BY_ENGINE) == set(WORDS) == set(STATES)

    def test_nothing_leads_out_of_the_end_and_the_engine_ends_only_what_was_not_confirmed(self) -> None:
        assert all(not BY_PEOPLE[one] and not BY_ENGINE[one] for one in ENDED)
        assert [state for state in STATES if BY_ENGINE[state] & ENDED] == [CONFIRMING]

    def test_every_step_travels_as_fhir(self) -> None:
        for state in STATES:
            flag = standing(state)
            resource = decode(encode(to_fhir(flag)))
            check(resource)
            assert from_fhir(resource, 1) == flag


class TestReasons:
    @pytest.mark.parametrize(
        ("to", "given", "said"),
        [
            ("acknowledged", {"why": " "}, "Say why"),
            ("acknowledged", {"why": "x" * 1001}, "longer"),
            ("resolved", {}, "phone-call, visit"),
            ("resolved", {"code": "artefact"}, "phone-call, visit"),
            ("false-alarm", {"code": "visit"}, "artefact, wrong-person"),
            ("resolved", {"code": "not-confirmed"}, "phone-call, visit"),
            ("acknowledged", {"code": "visit"}, "belongs to a flag that ends"),
            ("snoozed", {}, "when the snooze ends"),
            ("snoozed", {"until": NOW}, "later than now"),
            ("snoozed", {"until": NOW + hours(25)}, "at most 24 hours"),
            ("acknowledged", {"until": NOW + hours(1)}, "belongs to a snooze"),
        ],
    )
    def test_what_is_missing_is_named(self, to: str, given: dict[str, object], said: str) -> None:
        with pytest.raises(Refusal, match=said) as caught:
            move(opened(), to, NURSE, NOW, **{"why": "Why", **given})  # type: ignore[arg-type]
        assert caught.value.status == 422

    def test_amber_may_be_put_off_for_longer_than_red(self) -> None:
        amber = opened(finding(94, before=94))
        until = NOW + timedelta(days=14)
        flag = move(amber, SNOOZED, NURSE, NOW, "On holiday with her kit", until=until)
        assert snoozed_until(flag) == until and flag.acknowledged_by == NURSE

    def test_codes_say_what_counts_as_acted_on(self) -> None:
        assert {"phone-call", "visit", "medication-change", "gp", "emergency"} <= ACTED
        assert "none-needed" not in ACTED and not ACTED & {one.code for one in chosen("false-alarm")}
        assert all(one.ends in ENDED for one in OUTCOMES.values())


class TestUndo:
    @pytest.mark.parametrize("to", sorted(BY_PEOPLE[OPEN]))
    def test_it_stands_as_before_and_both_steps_are_kept(self, to: str) -> None:
        before = opened()
        after = undo(moved(before, to), NURSE, NOW + timedelta(minutes=14))
        assert len(after.moves) == 3 and after.moves[-1]["code"] == "undo"
        assert replace(after, moves=before.moves) == before
        assert from_fhir(decode(encode(to_fhir(after))), 1) == after

    def test_of_several_steps_only_the_last(self) -> None:
        flag = undo(resolve(acknowledge(opened(), NURSE, NOW, "Mine"), NURSE, NOW, "Wrong flag"), NURSE, NOW)
        assert (flag.state, flag.acknowledged_why) == ("acknowledged", "Mine")
        assert (flag.resolved_by, flag.outcome) == (None, None)
        flag = undo(acknowledge(moved(flag, ESCALATED), NURSE, NOW, "Again"), NURSE, NOW)
        assert (flag.state, flag.level, flag.acknowledged_by) == (ESCALATED, 1, None)

    @pytest.mark.parametrize(
        ("flag", "who", "later"),
        [
            (lambda: opened(), NURSE, 0),
            (lambda: moved(opened(), "acknowledged"), OTHER, 0),
            (lambda: moved(opened(), "acknowledged"), NURSE, 16),
            (lambda: undo(moved(opened(), "acknowledged"), NURSE, NOW), NURSE, 0),
            (lambda: by_engine(opened(), ESCALATED, NOW, "Nobody came"), NURSE, 0),
            (lambda: by_engine(opened(), ESCALATED, NOW, "Nobody came"), "Device/care-hub-engine", 0),
            (lambda: by_engine(moved(opened(), "acknowledged"), OPEN, NOW, "Worse"), NURSE, 0),
        ],
        ids=["raised", "another's", "too late", "twice", "escalated", "engine's own", "worse since"],
    )
    def test_nothing_else_is_taken_back(self, flag: object, who: str, later: int) -> None:
        with pytest.raises(Refusal) as caught:
            undo(flag(), who, NOW + timedelta(minutes=later))  # type: ignore[operator]
        assert caught.value.status == 409


class TestConfirming:
    def test_amber_waits_for_a_second_reading_and_red_opens_at_once(self) -> None:
        flag = waiting()
        assert (flag.state, flag.severity, called(None, to_fhir(flag))) == (CONFIRMING, 1, None)
        assert opened(finding(91)).state == OPEN and called(None, to_fhir(opened())) == "opened"

    def test_a_second_reading_opens_it(self) -> None:
        before = waiting()
        made = decide(before, finding(93, before=94), NOW + hours(1), id="x")
        assert made is not None and made.worse and (made.flag.state, made.flag.severity) == (OPEN, 2)
        assert made.flag.moves[-1]["why"].startswith("Confirmed: Oxygen saturation 93 %")
        assert called(to_fhir(before), to_fhir(made.flag)) == "opened"

    def test_a_red_one_opens_it(self) -> None:
        made = decide(waiting(), finding(88), NOW + hours(1), id="x")
        assert made is not None and (made.flag.state, made.flag.severity) == (OPEN, 3)

    def test_the_same_reading_again_does_not(self) -> None:
        found = finding(94)
        assert decide(opened(found), found, NOW, id="x") is None

    def test_a_rule_that_asks_for_each_again_is_confirmed_by_the_second(self) -> None:
        """One that looks at single readings alone says the same of the second: two of them are a confirmation."""
        first, second = (replace(finding(94), rule="single") for _ in range(2))
        made = decide(opened(first), second, NOW + hours(1), id="x")
        assert made is not None and made.flag.state == OPEN

    def test_one_that_goes_the_other_way_does_not(self) -> None:
        first = replace(finding(94), rule="single")
        other = replace(finding(94), rule="single", extents=({"measure": "pulse", "side": "high", "value": 120.0},))
        made = decide(opened(first), other, NOW + hours(1), id="x")
        assert made is not None and made.flag.state == CONFIRMING

    def test_a_doubtful_reading_waits_for_nobody(self) -> None:
        doubtful = replace(finding(94), kind="operational")
        assert opened(doubtful).state == OPEN
        assert reading("spo2", 94).measure == "spo2"


class TestHazardSnoozeHidesDeterioration:
    def snoozed(self) -> Flag:
        return moved(opened(finding(91)), SNOOZED)

    def test_a_worse_value_breaks_it_at_once(self) -> None:
        made = decide(self.snoozed(), finding(85), NOW + hours(1), id="x")
        assert made is not None and (made.flag.state, made.flag.acknowledged_by) == (OPEN, None)
        assert made.flag.moves[-1]["why"].startswith("Worse: Oxygen saturation 85 %")
        assert called(to_fhir(self.snoozed()), to_fhir(made.flag)) == "reopened"

    def test_one_as_bad_does_not_and_is_kept_with_it(self) -> None:
        made = decide(self.snoozed(), finding(90), NOW + hours(1), id="x")
        assert made is not None and (made.flag.state, made.flag.count) == (SNOOZED, 2)
