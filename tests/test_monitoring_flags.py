"""The life of a flag: one live flag per rule and person, no worsening unseen, no end without a person and a reason."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from monitoring_cases import JSON, NOW, acknowledge, case, hours, reading, resolve

from fhir.outcome import Refusal
from fhir.validation import check
from fhir.wire import decode, encode
from hub.db import Database, Tx
from monitoring import flags
from monitoring.case import Finding
from monitoring.decision import MOST_OBSERVATIONS, MOST_REASONS, decide
from monitoring.evaluation import evaluate
from monitoring.flags import (
    Flag,
    from_fhir,
    live_flags,
    project_flags,
    take_turns,
    to_fhir,
)

NURSE = "Practitioner/n1"


def finding(value: float = 91, before: float | None = None) -> Finding:
    """What the oximetry rule finds: red to 92, amber at 93 and 94 when repeated, else information."""
    earlier = [] if before is None else [reading("spo2", before, hours(1))]
    (found,) = (
        one for one in evaluate(case(reading("spo2", value), earlier=earlier)) if one.rule == "oximetry-at-home"
    )
    assert isinstance(found, Finding)
    return found


def opened(found: Finding | None = None, at: datetime = NOW) -> Flag:
    decision = decide(None, found or finding(), at, id="f1", hub_id="h1")
    assert decision is not None and decision.act == "open"
    return replace(decision.flag, version=1)


class TestDecide:
    def test_a_finding_opens_a_flag(self) -> None:
        flag = opened()
        assert (flag.state, flag.severity, flag.count, flag.patient_id, flag.hub_id) == ("open", 3, 1, "p1", "h1")
        assert (flag.rule, flag.rule_version, flag.kind) == ("oximetry-at-home", 1, "clinical")
        assert flag.summary == "Oxygen saturation 91 %, at or below 92 %."
        assert len(flag.observations) == 1
        assert flag.advice is not None and flag.advice.startswith("Check again straight away.")

    def test_a_later_reading_refreshes_the_one_flag(self) -> None:
        flag = opened()
        later = NOW + timedelta(minutes=30)
        decision = decide(flag, finding(90), later, id="never used")
        assert decision is not None
        assert (decision.act, decision.worse, decision.flag.id) == ("refresh", False, "f1")
        assert (decision.flag.count, decision.flag.opened, decision.flag.refreshed) == (2, NOW, later)
        assert len(decision.flag.observations) == 2
        assert decision.flag.reasons[0]["value"] == 90

    def test_the_same_reading_again_changes_nothing(self) -> None:
        found = finding()
        assert decide(opened(found), found, NOW, id="x") is None

    def test_a_part_of_news2_that_scores_nothing_completes_what_the_flag_says(self) -> None:
        """Whoever measured all seven must not read that two are missing, in whichever order they arrived."""
        values = (("respiratory-rate", 25), ("spo2", 97), ("systolic", 95), ("pulse", 115), ("temperature", 39.2))
        parts = [reading(measure, value) for measure, value in values]
        parts += [reading("consciousness", "alert"), reading("oxygen", "air")]
        (partial,) = (one for one in evaluate(case(*parts[:5])) if one.rule == "news2")
        (whole,) = (one for one in evaluate(case(*parts[5:], earlier=parts[:5])) if one.rule == "news2")
        assert isinstance(partial, Finding) and isinstance(whole, Finding)
        assert "missing: air or oxygen, consciousness" in partial.summary
        decision = decide(opened(partial), whole, NOW, id="x")
        assert decision is not None and not decision.worse
        assert decision.flag.summary == "NEWS2 9; scoring 3 alone: respiratory rate 25 /min."
        assert decide(decision.flag, whole, NOW, id="x") is None

    def test_severity_never_falls_silently(self) -> None:
        decision = decide(opened(finding(90)), finding(94, before=94), NOW, id="x")
        assert decision is not None
        assert decision.flag.severity == 3
        assert decision.flag.summary == "Oxygen saturation 90 %, at or below 92 %."
        assert decision.flag.reasons[0]["value"] == 94

    def test_hazard_alert_not_seen_an_acknowledged_flag_that_worsens_is_open_again(self) -> None:
        amber = acknowledge(opened(finding(94, before=94)), NURSE, NOW, "Will call")
        decision = decide(amber, finding(88), NOW + hours(1), id="x")
        assert decision is not None and decision.worse
        assert (decision.flag.state, decision.flag.severity) == ("open", 3)
        assert decision.flag.acknowledged_by is None

    def test_an_acknowledged_flag_that_does_not_worsen_by_a_step_stays_acknowledged(self) -> None:
        """What a step is: tests of `extents`."""
        red = acknowledge(opened(), NURSE, NOW, "Will call")
        decision = decide(red, finding(90), NOW + hours(1), id="x")
        assert decision is not None
        assert (decision.flag.state, decision.flag.acknowledged_by) == ("acknowledged", NURSE)

    def test_a_sensor_does_not_rewrite_the_flag_each_time(self) -> None:
        found = replace(finding(91), quiet=timedelta(minutes=15))
        flag = opened(found)
        again = replace(finding(91), quiet=found.quiet)
        assert decide(flag, again, NOW + timedelta(minutes=14), id="x") is None
        assert decide(flag, again, NOW + timedelta(minutes=15), id="x") is not None

    def test_worse_is_never_quiet(self) -> None:
        amber = opened(replace(finding(94, before=94), quiet=hours(1)))
        assert decide(amber, replace(finding(90), quiet=hours(1)), NOW, id="x") is not None

    def test_lists_are_capped_and_the_count_goes_on(self) -> None:
        flag = opened()
        for number in range(150):
            decision = decide(flag, finding(91), NOW + timedelta(minutes=number), id="x")
            assert decision is not None
            flag = decision.flag
        assert flag.count == 151
        assert (len(flag.reasons), len(flag.observations)) == (MOST_REASONS, MOST_OBSERVATIONS)


class TestPeople:
    def test_acknowledge(self) -> None:
        flag = acknowledge(opened(), NURSE, NOW, "  Calling her now ")
        assert (flag.state, flag.acknowledged_by, flag.acknowledged_why) == ("acknowledged", NURSE, "Calling her now")
        assert flag.live

    @pytest.mark.parametrize(("code", "outcome"), [("visit", "resolved"), ("artefact", "false-alarm")])
    @pytest.mark.parametrize("before", [lambda flag: flag, lambda flag: acknowledge(flag, NURSE, NOW, "Seen")])
    def test_resolve(self, before: Callable[[Flag], Flag], code: str, outcome: str) -> None:
        flag = resolve(before(opened()), NURSE, NOW, "Cold fingers, 96 % on repeat", code)
        assert (flag.state, flag.resolved_by, flag.resolved_at, flag.outcome) == (outcome, NURSE, NOW, code)
        assert not flag.live

    @pytest.mark.parametrize(
        ("act", "status"),
        [
            (lambda flag: acknowledge(acknowledge(flag, NURSE, NOW, "Seen"), NURSE, NOW, "Again"), 409),
            (lambda flag: acknowledge(resolve(flag, NURSE, NOW, "Done"), NURSE, NOW, "Late"), 409),
            (lambda flag: resolve(resolve(flag, NURSE, NOW, "Done"), NURSE, NOW, "Twice"), 409),
            (lambda flag: acknowledge(flag, NURSE, NOW, " "), 422),
            (lambda flag: resolve(flag, NURSE, NOW, ""), 422),
            (lambda flag: resolve(flag, NURSE, NOW, "Why", "gone"), 422),
        ],
    )
    def test_what_cannot_be_done(self, act: Callable[[Flag], Flag], status: int) -> None:
        with pytest.raises(Refusal) as caught:
            act(opened())
        assert caught.value.status == status


class TestFhir:
    @pytest.mark.parametrize(
        "flag",
        [
            opened(),
            opened(finding(94, before=94)),
            acknowledge(opened(), NURSE, NOW, "Seen"),
            resolve(acknowledge(opened(), NURSE, NOW, "Seen"), NURSE, NOW, "Home visit done"),
            resolve(opened(), NURSE, NOW, "Cold fingers", "artefact"),
            replace(opened(), hub_id=None),
        ],
        ids=lambda flag: flag.state,
    )
    def test_there_and_back(self, flag: Flag) -> None:
        resource = decode(encode(to_fhir(flag)))
        check(resource)
        assert from_fhir(resource, flag.version) == flag

    def test_words_there_and_back(self) -> None:
        ill = case(reading("pulse", 80), reading("consciousness", "confused"), reading("temperature", 39.4))
        (found,) = evaluate(ill)
        assert isinstance(found, Finding)
        flag = opened(found)
        assert [one["word"] for one in flag.reasons] == ["confused", None]
        assert from_fhir(decode(encode(to_fhir(flag))), 1) == flag

    def test_its_shape(self) -> None:
        resource = to_fhir(resolve(opened(), NURSE, NOW, "Done"))
        assert resource["status"] == "inactive"
        assert resource["code"]["coding"][0] == {
            "system": flags.RULE,
            "version": "1",
            "code": "oximetry-at-home",
            "display": "Oxygen level at home",
        }
        assert resource["period"] == {"start": NOW.isoformat(), "end": NOW.isoformat()}

    def test_what_others_wrote_into_it_stays(self) -> None:
        other = {"url": "https://example.org/other", "valueString": "x"}
        before = {**to_fhir(opened()), "meta": {"security": [{"code": "HTEST"}]}, "identifier": [{"value": "7"}]}
        before["extension"].append(other)
        after = to_fhir(acknowledge(opened(), NURSE, NOW, "Seen"), before)
        assert after["meta"] == before["meta"] and after["identifier"] == before["identifier"]
        assert other in after["extension"] and len(after["extension"]) == 2

    def test_a_flag_of_another_system_is_not_ours(self) -> None:
        assert from_fhir({**to_fhir(opened()), "extension": []}, 1) is None

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda resource, state: resource.update(code={"text": "Fall risk"}),
            lambda resource, state: resource.update(status="inactive"),
            lambda resource, state: resource["period"].update(start="2026-11-21"),
            lambda resource, state: resource.update(category=[]),
            lambda resource, state: state.update(state={"url": "state", "valueCode": "gone"}),
            lambda resource, state: state.update(state={"url": "state", "valueCode": "acknowledged"}),
            lambda resource, state: state.update(severity={"url": "severity", "valueInteger": 9}),
            lambda resource, state: state.update(count={"url": "count", "valueInteger": 2**31}),
            lambda resource, state: state.update(count={"url": "count", "valueString": "two"}),
            lambda resource, state: state.pop("refreshed"),
            lambda resource, state: state["reason"]["extension"].pop(0),
        ],
    )
    def test_a_malformed_one_is_refused(self, spoil: Callable[[JSON, JSON], object]) -> None:
        resource = to_fhir(opened())
        state = {part["url"]: part for part in resource["extension"][0]["extension"]}
        spoil(resource, state)
        resource["extension"][0]["extension"] = list(state.values())
        with pytest.raises(Refusal) as caught:
            from_fhir(resource, 1)
        assert caught.value.status == 422

    def test_a_flag_cannot_be_closed_without_a_reason(self) -> None:
        resource = to_fhir(resolve(opened(), NURSE, NOW, "Done"))
        resolved = next(part for part in resource["extension"][0]["extension"] if part["url"] == "resolved")
        resolved["extension"].pop()
        with pytest.raises(Refusal, match="when and why"):
            from_fhir(resource, 2)


class TestProjection:
    async def test_there_and_back(self, tx: Tx) -> None:
        flag = opened(finding(94, before=94))
        await project_flags(tx.pg, [(to_fhir(flag), 1)])
        assert await live_flags(tx.pg, ["p1", "p2"]) == {("p1", "oximetry-at-home"): flag}

    async def test_a_refresh_replaces_the_row(self, tx: Tx) -> None:
        flag = acknowledge(opened(), NURSE, NOW, "Seen")
        await project_flags(tx.pg, [(to_fhir(opened()), 1)])
        await project_flags(tx.pg, [(to_fhir(flag), 2)])
        assert (await live_flags(tx.pg, ["p1"]))["p1", "oximetry-at-home"] == replace(flag, version=2)

    async def test_ended_removed_and_foreign_flags_are_not_live(self, tx: Tx) -> None:
        ended = resolve(opened(), NURSE, NOW, "Done")
        await project_flags(tx.pg, [(to_fhir(ended), 2)])
        assert await live_flags(tx.pg, ["p1"]) == {}
        again = replace(opened(), id="f2")
        await project_flags(tx.pg, [(to_fhir(again), 1)])
        await project_flags(tx.pg, [({**to_fhir(again), "extension": []}, 2)])
        assert await live_flags(tx.pg, ["p1"]) == {}
        await project_flags(tx.pg, [(to_fhir(again), 3)])
        await project_flags(tx.pg, [], ["f2"])
        assert await live_flags(tx.pg, ["p1"]) == {}

    async def test_a_second_live_flag_of_one_rule_is_refused(self, database: Database) -> None:
        with pytest.raises(Refusal, match="live flag of this rule already") as caught:
            async with database.transaction() as tx:
                two = [replace(opened(), id=one, patient_id="p7") for one in ("f1", "f2")]
                await project_flags(tx.pg, [(to_fhir(flag), 1) for flag in two])
        assert caught.value.status == 409

    async def test_times_keep_their_instant(self, tx: Tx) -> None:
        flag = opened(at=datetime(2026, 10, 25, 1, 30, 0, 123456, tzinfo=UTC))
        await project_flags(tx.pg, [(to_fhir(flag), 1)])
        assert (await live_flags(tx.pg, ["p1"]))["p1", "oximetry-at-home"].opened == flag.opened

    async def test_two_transactions_never_open_the_same_flag(self, database: Database) -> None:
        """The one that comes second waits for its turn, sees the first one's flag, and refreshes it."""
        acts: list[str] = []

        async def receive(number: int) -> None:
            async with database.transaction() as tx:
                await take_turns(tx.pg, ["p8", "p9"] if number % 2 else ["p9", "p8"])
                live = (await live_flags(tx.pg, ["p9"])).get(("p9", "oximetry-at-home"))
                decision = decide(live, replace(finding(91), patient_id="p9"), NOW, id=f"race-{number}")
                assert decision is not None
                acts.append(decision.act)
                version = decision.flag.version + 1
                await project_flags(tx.pg, [(to_fhir(replace(decision.flag, patient_id="p9")), version)])

        await asyncio.gather(*(receive(number) for number in range(8)))
        assert sorted(acts) == ["open", *["refresh"] * 7]
