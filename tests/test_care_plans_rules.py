"""The rules that no path to the record bypasses."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from care_plans import consent, rules
from care_plans.facts import Facts, overlay, references
from care_plans.plan import new_goal, new_plan, stopped
from care_plans.shapes import EXTENSION
from fhir.outcome import Refusal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TODAY = date(2026, 11, 21)
UNKNOWN = Facts("", NOW)


def approval(patient: str = "p", **changes: Any) -> dict[str, Any]:
    return {**consent.new_consent(f"c-{patient}", f"Patient/{patient}", "Organization/h", NOW, "in person"), **changes}


def plan(id: str = "pl", patient: str = "p", **changes: Any) -> dict[str, Any]:
    return {**new_plan(id, f"Patient/{patient}", "Practitioner/x", TODAY).resource, **changes}


def own_goal(id: str = "g", patient: str = "p") -> dict[str, Any]:
    return new_goal(id, f"Patient/{patient}", "Walk to the shop", f"Patient/{patient}", TODAY)


AGREED = [{"url": EXTENSION + "agreed", "extension": [{"url": "by", "valueReference": {"display": "Ann"}}]}]


def facts(*stored: dict[str, Any], can_import: bool = False) -> dict[str, Facts]:
    """Facts of p and q when *stored* is what the record holds."""
    start = {id: Facts(id, NOW, can_import=can_import) for id in ("p", "q")}
    return overlay(start, [(None, resource) for resource in stored], NOW)


def check(before: dict[str, Any] | None, after: dict[str, Any] | None, known: dict[str, Facts]) -> None:
    rules.check((before, after), overlay(known, [(before, after)], NOW), UNKNOWN)


def refused(before: dict[str, Any] | None, after: dict[str, Any] | None, known: dict[str, Facts]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check(before, after, known)
    return caught.value


class TestApprovalComesFirst:
    @pytest.mark.parametrize("status", ["draft", "active", "on-hold", "revoked", "completed", "unknown"])
    def test_no_new_plan_of_any_status_without_approval(self, status: str) -> None:
        assert refused(None, plan(status=status), facts()).status == 422

    def test_the_approval_of_another_person_is_none(self) -> None:
        assert refused(None, plan(), facts(approval("q"))).issues[0].code == "business-rule"

    def test_a_category_does_not_help_around_it(self) -> None:
        assert refused(None, plan(category=[{"text": "Weight management plan"}]), facts()).status == 422

    def test_neither_does_a_missing_category(self) -> None:
        other = {key: value for key, value in plan(intent="order").items() if key != "category"}
        assert refused(None, other, facts(can_import=True)).status == 422

    def test_without_it_a_plan_is_not_edited(self) -> None:
        before = plan(status="on-hold")
        assert refused(before, {**before, "title": "New"}, facts(before)).status == 422

    def test_nor_edited_while_it_is_stopped(self) -> None:
        before = plan(status="active")
        assert refused(before, {**before, "status": "on-hold", "title": "New"}, facts(before)).status == 422

    @pytest.mark.parametrize("status", ["on-hold", "revoked", "completed"])
    def test_without_it_a_plan_can_be_stopped_as_it_is(self, status: str) -> None:
        before = plan(status="active", meta={"versionId": "1"})
        check(before, stopped({**before, "meta": {}}, status, "Practitioner/x", TODAY, "Withdrawn"), facts(before))
        assert rules.only_stops(before, {**before, "status": status})

    def test_without_it_a_plan_can_be_marked_as_a_mistake(self) -> None:
        before = plan(status="active")
        check(before, {**before, "status": "entered-in-error"}, facts(before))

    @pytest.mark.parametrize("status", ["draft", "active"])
    def test_with_approval_a_minimal_plan_of_another_system_is_taken(self, status: str) -> None:
        minimal = {
            "resourceType": "CarePlan",
            "id": "x",
            "status": status,
            "intent": "plan",
            "subject": {"reference": "Patient/p"},
        }
        check(None, minimal, facts(approval()))

    def test_approval_and_plan_in_one_bundle(self) -> None:
        batch = [(None, plan(status="active")), (None, approval())]
        known = overlay(facts(), batch, NOW)
        for pair in batch:
            rules.check(pair, known, UNKNOWN)
        assert known["p"].has_approval

    def test_a_bundle_that_withdraws_it_brings_no_plan(self) -> None:
        stored = approval()
        batch = [(stored, consent.withdrawn(stored)), (None, plan())]
        known = overlay(facts(stored), batch, NOW)
        with pytest.raises(Refusal, match="No approval"):
            rules.check(batch[1], known, UNKNOWN)


class TestOneActivePlan:
    def test_a_second_active_plan_is_a_conflict_that_names_the_first(self) -> None:
        refusal = refused(None, plan("second", status="active"), facts(approval(), plan("first", status="active")))
        assert refusal.status == 409
        assert "CarePlan/first" in refusal.issues[0].diagnostics

    def test_so_is_a_draft_that_goes_active(self) -> None:
        known = facts(approval(), plan("first", status="active"), plan("second"))
        assert refused(plan("second"), plan("second", status="active"), known).status == 409

    def test_two_in_one_bundle_refuse_each_other(self) -> None:
        batch = [(None, plan("a", status="active")), (None, plan("b", status="active"))]
        known = overlay(facts(approval()), batch, NOW)
        for pair in batch:
            with pytest.raises(Refusal) as caught:
                rules.check(pair, known, UNKNOWN)
            assert caught.value.status == 409

    def test_a_draft_beside_it_is_fine(self) -> None:
        check(None, plan("second"), facts(approval(), plan("first", status="active")))

    def test_the_active_plan_itself_is_updated(self) -> None:
        stored = plan(status="active")
        check(stored, {**stored, "title": "New"}, facts(approval(), stored))

    def test_its_successor_may_come_in_the_bundle_that_completes_it(self) -> None:
        old = plan("old", status="active")
        batch = [(None, plan("new", status="active")), (old, {**old, "status": "completed"})]
        known = overlay(facts(approval(), old), batch, NOW)
        for pair in batch:
            rules.check(pair, known, UNKNOWN)
        assert known["p"].active_plan_id == "new"

    def test_supporting_plans_do_not_count(self) -> None:
        supporting = plan("s", status="active", intent="order", category=[{"text": "Diabetes self management plan"}])
        check(None, plan(status="active"), facts(approval(), supporting))


class TestSym04:
    """A plan without patient-authored goal or agreement cannot go active."""

    def test_without_a_goal(self) -> None:
        draft = plan(extension=AGREED)
        assert refused(draft, {**draft, "status": "active"}, facts(approval())).issues[0].expression == "CarePlan.goal"

    def test_with_a_professionals_goal_alone(self) -> None:
        theirs = new_goal("g", "Patient/p", "Lose 5 kg", "Practitioner/x", TODAY)
        draft = plan(extension=AGREED, goal=[{"reference": "Goal/g"}])
        refusal = refused(draft, {**draft, "status": "active"}, facts(approval(), theirs))
        assert refusal.issues[0].expression == "CarePlan.goal"

    def test_without_agreement(self) -> None:
        draft = plan(goal=[{"reference": "Goal/g"}])
        refusal = refused(draft, {**draft, "status": "active"}, facts(approval(), own_goal()))
        assert "agreed" in (refusal.issues[0].expression or "")

    def test_with_both(self) -> None:
        draft = plan(extension=AGREED, goal=[{"reference": "Goal/g"}])
        check(draft, {**draft, "status": "active"}, facts(approval(), own_goal()))

    def test_a_detour_over_on_hold_does_not_help(self) -> None:
        held = plan(status="on-hold")
        assert refused(held, {**held, "status": "active"}, facts(approval())).status == 422

    def test_a_suspended_plan_goes_on_once_approval_is_back(self) -> None:
        held = stopped(plan(status="active"), "on-hold", "Device/care-hub-engine", TODAY, "Withdrawn")
        check(held, {**held, "status": "active"}, facts(approval()))
        assert refused(held, {**held, "status": "active"}, facts()).status == 422


class TestHazardWrongPatient:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (plan(), plan(patient="q")),
            (own_goal(), own_goal(patient="q")),
            (approval(), {**approval(), "patient": {"reference": "Patient/q"}}),
            (
                {"resourceType": "CareTeam", "id": "t", "subject": {"reference": "Patient/p"}},
                {"resourceType": "CareTeam", "id": "t", "subject": {"reference": "Patient/q"}},
            ),
            (
                {"resourceType": "Task", "id": "t", "for": {"reference": "Patient/p"}},
                {"resourceType": "Task", "id": "t", "for": {"reference": "Patient/q"}},
            ),
            (plan(), plan(subject={"display": "Ann"})),
        ],
    )
    def test_no_record_moves_to_another_person(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        refusal = refused(before, after, facts(approval("p"), approval("q")))
        assert refusal.status == 422
        assert refusal.issues[0].expression

    @pytest.mark.parametrize("subject", [{"reference": "Group/g"}, {"display": "Ann"}, {"reference": "#p"}])
    def test_a_plan_is_about_a_patient(self, subject: dict[str, str]) -> None:
        assert (
            refused(None, plan(subject=subject), facts(approval())).issues[0].expression == "CarePlan.subject.reference"
        )

    def test_a_plan_never_holds_another_persons_goal(self) -> None:
        mixed = plan(goal=[{"reference": "Goal/mine"}, {"reference": "Goal/theirs"}])
        refusal = refused(None, mixed, facts(approval(), own_goal("mine"), own_goal("theirs", "q")))
        assert refusal.issues[0].expression == "CarePlan.goal[1]"

    def test_nor_one_that_comes_in_the_same_bundle(self) -> None:
        batch = [(None, own_goal("theirs", "q")), (None, plan(goal=[{"reference": "Goal/theirs"}]))]
        with pytest.raises(Refusal, match="another person"):
            rules.check(batch[1], overlay(facts(approval()), batch, NOW), UNKNOWN)

    def test_a_task_may_get_its_person_later(self) -> None:
        before = {"resourceType": "Task", "id": "t"}
        check(before, {**before, "for": {"reference": "Patient/p"}}, facts())


class TestSupportingPlans:
    SUPPORTING = plan("s", intent="order", category=[{"text": "Diabetes self management plan"}], status="active")

    def test_only_an_importer_writes_them(self) -> None:
        refusal = refused(None, self.SUPPORTING, facts(approval()))
        assert (refusal.status, refusal.issues[0].code) == (403, "forbidden")

    def test_only_an_importer_deletes_them(self) -> None:
        assert refused(self.SUPPORTING, None, facts()).status == 403

    def test_they_need_no_approval(self) -> None:
        check(None, self.SUPPORTING, facts(can_import=True))

    def test_a_persons_plan_never_becomes_one(self) -> None:
        before = plan("s")
        assert refused(before, self.SUPPORTING, facts(approval(), can_import=True)).status == 422

    def test_one_that_becomes_the_persons_plan_needs_approval(self) -> None:
        after = {**self.SUPPORTING, "intent": "plan"}
        assert refused(self.SUPPORTING, after, facts(can_import=True)).status == 422


class TestWir03Withdrawal:
    """POST CarePlan without Consent is refused; withdrawal suspends the plan."""

    def test_the_active_plan_is_suspended(self) -> None:
        stored = approval()
        known = facts(stored, plan(status="active"))
        assert rules.suspensions(known) == []
        assert rules.suspensions(overlay(known, [(stored, consent.withdrawn(stored))], NOW)) == ["pl"]

    def test_so_it_is_when_the_consent_is_deleted(self) -> None:
        stored = approval()
        assert rules.suspensions(overlay(facts(stored, plan(status="active")), [(stored, None)], NOW)) == ["pl"]

    def test_so_it_is_by_a_new_no(self) -> None:
        no = {**approval(), "id": "no", "provision": {"type": "deny"}}
        assert rules.suspensions(overlay(facts(approval(), plan(status="active")), [(None, no)], NOW)) == ["pl"]

    def test_the_suspension_itself_is_let_through(self) -> None:
        before = plan(status="active")
        check(before, rules.suspended(before, "Device/care-hub-engine", TODAY), facts(before))

    def test_other_plans_are_left_alone(self) -> None:
        assert (
            rules.suspensions(facts(plan("d"), plan("h", status="on-hold"), plan("x", "q", status="completed"))) == []
        )


class TestDeletion:
    def test_a_plan_can_be_taken_back_without_approval(self) -> None:
        check(plan(), None, facts())

    def test_deleting_what_never_was_breaks_no_rule(self) -> None:
        check(None, None, facts())


class TestDocumented:
    @pytest.mark.parametrize(
        "rule", sorted({rule.__name__ for found in rules.RULES_BY_TYPE.values() for rule in found})
    )
    def test_every_rule_is(self, rule: str) -> None:
        assert f"| `{rule}` |" in (Path(__file__).parents[1] / "docs" / "care-plans.md").read_text()


class TestReferences:
    def test_they_are_those_whose_owner_matters(self) -> None:
        resource = plan(
            goal=[{"reference": "Goal/g"}, {"reference": "#inside"}],
            careTeam=[{"reference": "CareTeam/t"}],
            addresses=[{"reference": "Condition/c"}, {"display": "Diabetes"}],
        )
        assert references([resource, None, own_goal()]) == {"Goal/g", "CareTeam/t", "Condition/c"}
