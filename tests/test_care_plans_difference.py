"""Changes of a plan in plain English."""

import json
from datetime import date
from pathlib import Path
from random import Random

import pytest

from care_plans.difference import compare, difference
from care_plans.edits import (
    Activate,
    AddActivity,
    AddGoal,
    ChangeActivity,
    ChangeGoal,
    CloseGoal,
    Edit,
    RecordAgreement,
    SetActivityStatus,
    SetIfWorse,
    SetNextReview,
    SetTitle,
    SetWhatMatters,
    apply,
)
from care_plans.parts import join, split
from care_plans.plan import Plan, new_plan, stopped, with_goals

TODAY = date(2026, 11, 21)
ME = "Practitioner/sam"


def start() -> Plan:
    return apply(
        new_plan("pl", "Patient/p", ME, TODAY),
        [
            AddGoal("g", "Walk to the shop"),
            AddActivity("a", "Walk", "Ann", None, "daily"),
            SetNextReview(date(2026, 12, 3)),
        ],
        ME,
        TODAY,
    )


def said(*edits: Edit) -> list[str]:
    before = start()
    return [change.sentence for change in difference(before, apply(before, edits, ME, TODAY))]


class TestSentences:
    def test_no_change_says_nothing(self) -> None:
        assert said() == []
        assert said(SetTitle("My care plan")) == []

    @pytest.mark.parametrize(
        ("edit", "sentence"),
        [
            (SetTitle("Ann’s plan"), "Title changed from “My care plan” to “Ann’s plan”."),
            (SetWhatMatters("Family"), "“What matters to me” was written."),
            (SetIfWorse("Ring"), "“If I get worse” was written."),
            (SetNextReview(date(2027, 1, 10)), "Next review moved from 3 Dec 2026 to 10 Jan 2027."),
            (SetNextReview(None), "Next review on 3 Dec 2026 was removed."),
            (AddGoal("h", "Dance"), "Goal added (in the person’s own words): Dance"),
            (AddGoal("h", "Lose 5 kg", by_patient=False), "Goal added: Lose 5 kg"),
            (ChangeGoal("g", "Run"), "Goal changed: “Walk to the shop” is now “Run”."),
            (
                ChangeGoal("g", "Walk to the shop", due=date(2027, 3, 1)),
                "The goal “Walk to the shop” is wanted by 1 Mar 2027.",
            ),
            (CloseGoal("g", "achieved"), "Goal achieved: Walk to the shop"),
            (CloseGoal("g", "not-achieved", "Knee"), "Goal not achieved: Walk to the shop (Knee)"),
            (CloseGoal("g", "not-wanted", "Moved"), "Goal no longer wanted: Walk to the shop (Moved)"),
            (AddActivity("b", "Ring"), "Action added: Ring (not started)"),
            (SetActivityStatus("a", "completed"), "Action done: Walk"),
            (
                ChangeActivity("a", "Walk", when="weekly"),
                "Action changed: Walk (Ann, daily, not started) is now Walk (Ann, weekly, not started)",
            ),
            (RecordAgreement("Ann", "in person", TODAY), "Agreed by Ann on 21 Nov 2026 (in person)."),
        ],
    )
    def test_one_edit_one_sentence(self, edit: Edit, sentence: str) -> None:
        assert said(edit) == [sentence]

    def test_they_stand_in_the_order_in_which_a_plan_is_read(self) -> None:
        agree = RecordAgreement("Ann", "in person", TODAY)
        edits = [SetNextReview(None), SetIfWorse("Ring"), SetWhatMatters("Family"), agree, Activate()]
        assert [sentence.split(" ")[0] for sentence in said(*edits)][:2] == ["The", "Agreed"]
        assert said(*edits)[2:4] == ["“What matters to me” was written.", "“If I get worse” was written."]

    def test_both_texts_are_kept_for_side_by_side(self) -> None:
        before = apply(start(), [SetWhatMatters("Family")], ME, TODAY)
        (change,) = difference(before, apply(before, [SetWhatMatters("Friends")], ME, TODAY))
        assert (change.kind, change.before, change.after) == ("changed", "Family", "Friends")

    def test_the_first_version_names_everything(self) -> None:
        sentences = [change.sentence for change in difference(None, start())]
        assert "The plan is now a draft." in sentences
        assert "Goal added (in the person’s own words): Walk to the shop" in sentences

    def test_a_goal_taken_out_by_another_system(self) -> None:
        before = start()
        after = with_goals({key: value for key, value in before.resource.items() if key != "goal"}, ())
        assert [change.sentence for change in difference(before, after)] == [
            "Goal taken out of the plan: Walk to the shop"
        ]

    def test_a_goal_that_was_deleted(self) -> None:
        before = start()
        (change,) = difference(before, Plan(before.resource))
        assert change.sentence == "Goal can no longer be read: Walk to the shop"

    def test_an_action_taken_out_by_another_system(self) -> None:
        before = start()
        after = Plan({key: value for key, value in before.resource.items() if key != "activity"}, before.goal_resources)
        (change,) = difference(before, after)
        assert change.sentence == "Action taken out of the plan: Walk (Ann, daily, not started)"

    @pytest.mark.parametrize(
        ("due", "words"), [(date(2027, 3, 1), "is wanted by 1 Mar 2027"), (None, "has no date any more")]
    )
    def test_a_goals_date(self, due: date | None, words: str) -> None:
        before = apply(start(), [ChangeGoal("g", "Walk to the shop", due=date(2027, 1, 1))], ME, TODAY)
        (change,) = difference(before, apply(before, [ChangeGoal("g", "Walk to the shop", due=due)], ME, TODAY))
        assert change.sentence == f"The goal “Walk to the shop” {words}."

    def test_details_without_words_of_their_own(self) -> None:
        before = start()
        (goal,), (element,) = before.goal_resources, before.resource["activity"]
        after = Plan(
            {**before.resource, "activity": [{**element, "progress": [{"text": "Fine"}]}]},
            ({**goal, "note": [{"text": "x"}]},),
        )
        assert [change.sentence for change in difference(before, after)] == [
            "Details of the goal “Walk to the shop” changed.",
            "Details of the action “Walk” changed.",
        ]

    def test_when_it_was_edited_is_no_change_of_the_plan(self) -> None:
        before = start()
        mark = {
            "url": "https://carehub.example/fhir/StructureDefinition/last-edited",
            "valueDateTime": "2026-11-21T09:00:00Z",
        }
        extended = [*before.resource["extension"], mark]
        assert difference(before, Plan({**before.resource, "extension": extended}, before.goal_resources)) == []

    def test_why_it_was_stopped(self) -> None:
        before = start()
        after = Plan(stopped(before.resource, "on-hold", ME, TODAY, "In hospital"), before.goal_resources)
        assert [(change.sentence, change.after) for change in difference(before, after)] == [
            ("The plan is now on hold.", "on hold"),
            ("Why it was stopped: In hospital", "In hospital"),
        ]

    def test_an_extension_of_another_system(self) -> None:
        before = start()
        extended = [*before.resource["extension"], {"url": "urn:other", "valueString": "x"}]
        (change,) = difference(before, Plan({**before.resource, "extension": extended}, before.goal_resources))
        assert change.sentence == "Other details added."

    def test_a_change_that_has_no_words_is_still_told(self) -> None:
        before = start()
        after = Plan({**before.resource, "identifier": [{"value": "7"}]}, before.goal_resources)
        assert len(difference(before, after)) == 1

    def test_no_code_is_shown(self) -> None:
        before = start()
        team = Plan({**before.resource, "careTeam": [{"reference": "CareTeam/t"}]}, before.goal_resources)
        assert [change.sentence for change in difference(before, team)] == ["Care team added."]


class TestParts:
    def test_a_plan_taken_apart_and_put_together_is_the_same(self) -> None:
        plan = start()
        assert join(split(plan), plan) == plan

    def test_official_examples_too(self, shared_data: Path) -> None:
        for path in sorted((shared_data / "hl7-examples" / "CarePlan").glob("*.json")):
            plan = Plan(json.loads(path.read_bytes()))
            assert join(split(plan), plan).resource == plan.resource

    def test_two_actions_on_one_request_are_both_kept(self) -> None:
        twice = [{"reference": {"reference": "Task/1"}}, {"reference": {"reference": "Task/1"}, "progress": []}]
        plan = Plan({"resourceType": "CarePlan", "activity": twice})
        assert join(split(plan), plan).resource["activity"] == twice

    def test_modifier_extensions_are_no_extensions(self) -> None:
        resource = {
            "resourceType": "CarePlan",
            "modifierExtension": [{"url": "urn:m", "valueBoolean": True}],
            "extension": [{"url": "urn:e", "valueString": "1"}, {"url": "urn:e", "valueString": "2"}],
        }
        plan = Plan(resource)
        assert join(split(plan), plan).resource == resource


class TestCompare:
    def test_words_that_went_and_came(self) -> None:
        runs = compare("walk to the shop daily", "walk to the park daily")
        assert [(run.kind, run.text) for run in runs] == [
            ("same", "walk to the "),
            ("cut", "shop"),
            ("new", "park"),
            ("same", " daily"),
        ]

    def test_both_texts_can_be_made_from_it_again(self) -> None:
        random = Random(7)
        letters = ["walk", "shop", "daily", " ", "  ", "\n", "ä", "."]
        for _ in range(300):
            old, new = ("".join(random.choices(letters, k=random.randrange(12))) for _ in range(2))
            runs = compare(old, new)
            assert "".join(run.text for run in runs if run.kind != "new") == old
            assert "".join(run.text for run in runs if run.kind != "cut") == new
