"""Edits of a plan: pure, refused with the field and what was expected."""

import copy
from datetime import date, timedelta
from typing import Any

import pytest

from care_plans.edits import (
    LONGEST,
    Activate,
    AddActivity,
    AddGoal,
    ChangeActivity,
    ChangeGoal,
    CloseGoal,
    Complete,
    Edit,
    RecordAgreement,
    ReopenGoal,
    SetActivityStatus,
    SetIfWorse,
    SetNextReview,
    SetTitle,
    SetWhatMatters,
    Suspend,
    apply,
)
from care_plans.plan import Plan, new_plan, stopped, with_goals
from fhir.outcome import Refusal

TODAY = date(2026, 11, 21)
ME = "Practitioner/sam"

AGREE = RecordAgreement(by="Ann Lee", how="in person", on=TODAY, reference="Patient/p")
FULL: list[Edit] = [
    SetWhatMatters("Seeing my grandchildren"),
    AddGoal("g1", "Walk to the shop"),
    AddActivity("a1", "Walk ten minutes", "Ann Lee", "Patient/p", "every morning"),
    SetIfWorse("Ring the hub"),
    SetNextReview(date(2027, 2, 1)),
    AGREE,
]


def draft() -> Plan:
    return new_plan("pl", "Patient/p", ME, TODAY)


def full(*more: Edit) -> Plan:
    return apply(draft(), [*FULL, *more], ME, TODAY)


def refused(plan: Plan, *edits: Edit) -> Refusal:
    with pytest.raises(Refusal) as caught:
        apply(plan, edits, ME, TODAY)
    return caught.value


class TestRefused:
    @pytest.mark.parametrize(
        ("edit", "field", "words"),
        [
            (SetTitle(" "), "CarePlan.title", "empty"),
            (SetTitle("x" * (LONGEST + 1)), "CarePlan.title", str(LONGEST)),
            (SetNextReview(TODAY - timedelta(days=1)), "next-review", "today or later"),
            (AddGoal("g", "\n"), "Goal.description.text", "empty"),
            (CloseGoal("g1", "not-wanted"), "Goal.statusReason", "why"),
            (CloseGoal("g1", "given-up"), "Goal.achievementStatus", "achieved"),  # type: ignore[arg-type]
            (AddActivity("a", ""), "CarePlan.activity.detail.description", "empty"),
            (SetActivityStatus("a1", "finished"), "CarePlan.activity.detail.status", "completed"),
            (SetActivityStatus("a1", "stopped"), "CarePlan.activity.detail.statusReason", "why"),
            (RecordAgreement("", "in person", TODAY), "agreed", "Who agreed"),
            (RecordAgreement("Ann", "", TODAY), "agreed", "How it was agreed"),
            (RecordAgreement("Ann", "in person", TODAY + timedelta(days=1)), "agreed", "yet to come"),
            (Suspend("away"), "CarePlan.status", "active"),
            (Complete(" "), "stopped", "reason"),
        ],
    )
    def test_it_names_the_field_and_what_was_expected(self, edit: Edit, field: str, words: str) -> None:
        refusal = refused(full(), edit)
        assert refusal.status in (409, 422)
        assert field in (refusal.issues[0].expression or "")
        assert words in refusal.issues[0].diagnostics

    @pytest.mark.parametrize("edit", [ChangeGoal("no", "x"), CloseGoal("no", "achieved"), ChangeActivity("no", "x")])
    def test_what_the_plan_has_not(self, edit: Edit) -> None:
        assert refused(full(), edit).status == 404

    @pytest.mark.parametrize("status", ["completed", "revoked", "entered-in-error"])
    def test_a_closed_plan_is_not_edited(self, status: str) -> None:
        plan = full()
        assert refused(Plan({**plan.resource, "status": status}, plan.goal_resources), SetTitle("New")).status == 409

    def test_a_closed_goal_is_not_closed_twice(self) -> None:
        assert refused(full(CloseGoal("g1", "achieved")), CloseGoal("g1", "not-achieved")).status == 409

    def test_an_action_that_is_a_record_of_its_own(self) -> None:
        plan = Plan({**draft().resource, "activity": [{"reference": {"reference": "Task/1"}}]})
        assert refused(plan, ChangeActivity("Task/1", "Ring")).status == 422

    def test_nothing_is_changed_when_one_edit_of_several_is_refused(self) -> None:
        plan = full()
        before = copy.deepcopy(plan)
        refused(plan, SetTitle("New"), SetTitle(""))
        assert plan == before


class TestGoesActive:
    def test_not_without_a_goal_in_the_persons_words(self) -> None:
        edits = [AddGoal("g", "Lose 5 kg", by_patient=False), AGREE, Activate()]
        assert refused(draft(), *edits).issues[0].expression == "CarePlan.goal"

    def test_not_without_an_open_one(self) -> None:
        edits = [AddGoal("g", "Walk"), CloseGoal("g", "not-wanted", "moved"), AGREE, Activate()]
        assert refused(draft(), *edits).issues[0].expression == "CarePlan.goal"

    def test_not_without_agreement(self) -> None:
        assert "agreed" in (refused(draft(), AddGoal("g", "Walk"), Activate()).issues[0].expression or "")

    def test_not_when_it_changed_since_it_was_agreed(self) -> None:
        refusal = refused(full(), SetIfWorse("Ring 999"), Activate())
        assert "Agree it again" in refusal.issues[0].diagnostics

    def test_with_all_of_them(self) -> None:
        plan = full(Activate())
        assert plan.status == "active"
        assert plan.resource["period"] == {"start": "2026-11-21"}

    def test_on_again_after_a_pause_without_a_new_agreement(self) -> None:
        paused = full(Activate(), Suspend("In hospital"))
        assert (paused.status, paused.stopped_why) == ("on-hold", "In hospital")
        changed = apply(paused, [SetIfWorse("Ring 999"), Activate()], ME, TODAY + timedelta(days=9))
        assert (changed.status, changed.stopped_why) == ("active", None)
        assert changed.resource["period"] == {"start": "2026-11-21"}

    def test_a_plan_that_another_system_put_on_hold_needs_agreement(self) -> None:
        held = Plan({**draft().resource, "status": "on-hold"})
        assert refused(held, Activate()).status == 422


class TestPure:
    def test_the_plan_that_came_in_is_untouched(self) -> None:
        plan = full()
        before = copy.deepcopy(plan)
        apply(plan, [ChangeGoal("g1", "Run"), SetActivityStatus("a1", "completed"), SetTitle("New")], ME, TODAY)
        assert plan == before

    def test_the_same_form_sent_twice_adds_once(self) -> None:
        once = full()
        twice = apply(once, [AddGoal("g1", "Walk to the shop"), AddActivity("a1", "Walk ten minutes")], ME, TODAY)
        assert twice == once


class TestSections:
    def test_they_read_back_as_they_were_written(self) -> None:
        plan = full()
        assert plan.what_matters == "Seeing my grandchildren"
        assert plan.if_worse == "Ring the hub"
        assert plan.next_review == date(2027, 2, 1)
        assert [(goal.text, goal.by_patient) for goal in plan.goals] == [("Walk to the shop", True)]
        assert [(a.what, a.who, a.when, a.status) for a in plan.activities] == [
            ("Walk ten minutes", ("Ann Lee",), "every morning", "not-started")
        ]
        agreement = plan.agreement
        assert agreement is not None
        assert (agreement.by, agreement.on, agreement.how, agreement.current) == ("Ann Lee", TODAY, "in person", True)

    def test_empty_text_clears_a_section(self) -> None:
        plan = full(SetWhatMatters(""), SetIfWorse(" "), SetNextReview(None))
        assert (plan.what_matters, plan.if_worse, plan.next_review) == (None, None, None)

    def test_what_another_system_added_stays(self) -> None:
        foreign: dict[str, Any] = {"url": "urn:other", "valueString": "stays"}
        resource = {**draft().resource, "extension": [foreign], "identifier": [{"value": "7"}]}
        plan = apply(Plan(resource), FULL, ME, TODAY)
        assert plan.resource["extension"][0] == foreign
        assert plan.resource["identifier"] == [{"value": "7"}]


class TestGoals:
    def test_a_professionals_goal_is_marked_as_theirs(self) -> None:
        goal = full(AddGoal("g2", "Weigh under 80 kg", by_patient=False)).goal_resources[1]
        assert goal["expressedBy"] == {"reference": ME}

    def test_the_date_is_kept_unless_it_is_named(self) -> None:
        plan = full(ChangeGoal("g1", "Walk", due=date(2027, 3, 1)), ChangeGoal("g1", "Run"))
        assert [(goal.text, goal.due) for goal in plan.goals] == [("Run", date(2027, 3, 1))]
        assert full(ChangeGoal("g1", "Run", due=None)).goals[0].due is None

    def test_a_measured_target_stays_beside_a_new_date(self) -> None:
        plan = full()
        measured = {"measure": {"text": "HbA1c"}, "detailString": "below 53", "dueDate": "2027-01-01"}
        goal = {**plan.goal_resources[0], "target": [measured, {"dueDate": "2028-01-01"}]}
        changed = apply(Plan(plan.resource, (goal,)), [ChangeGoal("g1", "Run", due=None)], ME, TODAY)
        assert changed.goal_resources[0]["target"] == [
            {"measure": {"text": "HbA1c"}, "detailString": "below 53"},
            {"dueDate": "2028-01-01"},
        ]

    def test_coded_words_stay_coded_while_they_read_the_same(self) -> None:
        plan = full()
        coded = {**plan.goal_resources[0], "description": {"coding": [{"code": "1", "display": "Walk"}]}}
        plan = Plan(plan.resource, (coded,))
        same = apply(plan, [ChangeGoal("g1", "Walk")], ME, TODAY)
        assert same.goal_resources[0]["description"] == coded["description"]
        assert apply(plan, [ChangeGoal("g1", "Run")], ME, TODAY).goal_resources[0]["description"] == {"text": "Run"}

    def test_closing_and_reopening(self) -> None:
        closed = full(CloseGoal("g1", "achieved", "She did it"))
        assert (closed.goals[0].achievement, closed.goals[0].why, closed.goals[0].open) == (
            "achieved",
            "She did it",
            False,
        )
        opened = apply(closed, [ReopenGoal("g1")], ME, TODAY)
        assert (opened.goals[0].achievement, opened.goals[0].why, opened.goals[0].open) == (None, None, True)

    def test_not_wanted_is_no_failure(self) -> None:
        goal = full(CloseGoal("g1", "not-wanted", "Moved house")).goals[0]
        assert (goal.status, goal.achievement) == ("cancelled", None)


class TestActivities:
    def test_who_and_when_are_kept_unless_they_are_named(self) -> None:
        activity = full(ChangeActivity("a1", "Walk for an hour")).activities[0]
        assert (activity.what, activity.performers, activity.when) == (
            "Walk for an hour",
            ("Patient/p",),
            "every morning",
        )

    def test_the_form_sent_back_unchanged_keeps_the_reference(self) -> None:
        activity = full(ChangeActivity("a1", "Walk ten minutes", who="Ann Lee", when="every morning")).activities[0]
        assert activity.performers == ("Patient/p",)

    def test_empty_who_and_when_clear_them(self) -> None:
        activity = full(ChangeActivity("a1", "Walk", who="", when="")).activities[0]
        assert (activity.who, activity.when) == ((), None)

    def test_actions_without_an_id_are_named_by_their_place(self) -> None:
        bare = Plan({**draft().resource, "activity": [{"detail": {"status": "scheduled", "description": "Ring"}}]})
        changed = apply(bare, [SetActivityStatus("no-1", "completed")], ME, TODAY)
        assert changed.activities[0].status == "completed"

    def test_a_stopped_action_says_why_until_it_goes_on(self) -> None:
        plan = full(SetActivityStatus("a1", "on-hold", "Bad knee"))
        assert plan.activities[0].why == "Bad knee"
        assert apply(plan, [SetActivityStatus("a1", "in-progress")], ME, TODAY).activities[0].why is None


class TestHazardLostUpdate:
    """The page says what its editor saw; what changed meanwhile is never overwritten."""

    def test_a_goal_that_changed_under_the_editor(self) -> None:
        refusal = refused(full(), ChangeGoal("g1", "Run", was="Walk to the park"))
        assert refusal.status == 409
        assert "Walk to the shop" in refusal.issues[0].diagnostics

    def test_an_action_that_changed_under_the_editor(self) -> None:
        assert refused(full(), ChangeActivity("a1", "Run", was="Swim")).status == 409

    def test_a_browsers_line_ends_are_no_change(self) -> None:
        plan = full(ChangeGoal("g1", "Walk\nslowly"))
        assert apply(plan, [ChangeGoal("g1", "Run", was="Walk\r\nslowly ")], ME, TODAY).goals[0].text == "Run"


class TestComplete:
    def test_it_makes_room_and_stays_readable(self) -> None:
        plan = full(Activate(), Complete("A new plan takes over"))
        assert (plan.status, plan.stopped_why) == ("completed", "A new plan takes over")
        assert plan.resource["period"] == {"start": "2026-11-21", "end": "2026-11-21"}
        assert plan.what_matters == "Seeing my grandchildren"

    def test_a_plan_on_hold_can_be_completed(self) -> None:
        plan = full()
        held = with_goals(stopped(plan.resource, "on-hold", ME, TODAY, "Away"), plan.goal_resources)
        assert apply(held, [Complete("Moved away")], ME, TODAY).status == "completed"
