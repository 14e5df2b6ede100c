"""Two people edit one plan: nobody's words are lost (hazard: lost update)."""

from collections.abc import Callable
from dataclasses import fields
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest

from care_plans.conflict import Conflict, StaleEdit, resolve, three_way
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
from care_plans.parts import as_text, split
from care_plans.plan import Plan, new_plan, with_goals
from fhir.outcome import Refusal

TODAY = date(2026, 11, 21)
ME, THEM = "Practitioner/me", "Practitioner/them"


def base() -> Plan:
    return apply(
        new_plan("pl", "Patient/p", ME, TODAY),
        [
            SetWhatMatters("Family"),
            SetIfWorse("Ring the hub"),
            AddGoal("g1", "Walk to the shop"),
            AddGoal("g2", "Sleep well"),
            AddActivity("a1", "Walk", "Ann", None, "daily"),
        ],
        ME,
        TODAY,
    )


def conflict(mine: list[Edit], theirs: list[Edit]) -> Conflict:
    start = base()
    return three_way(start, apply(start, mine, ME, TODAY), apply(start, theirs, THEM, TODAY))


class TestClash:
    @pytest.mark.parametrize(
        ("mine", "theirs", "part", "texts"),
        [
            (SetWhatMatters("Friends"), SetWhatMatters("My dog"), "what-matters", ("Family", "Friends", "My dog")),
            (SetWhatMatters("Friends"), SetWhatMatters(""), "what-matters", ("Family", "Friends", None)),
            (SetTitle("A"), SetTitle("B"), "title", ("My care plan", "A", "B")),
            (ChangeGoal("g1", "Run"), ChangeGoal("g1", "Swim"), "goal/g1", ("Walk to the shop", "Run", "Swim")),
            (
                ChangeGoal("g1", "Run"),
                CloseGoal("g1", "achieved"),
                "goal/g1",
                ("Walk to the shop", "Run", "Walk to the shop (achieved)"),
            ),
            (
                SetActivityStatus("a1", "completed"),
                ChangeActivity("a1", "Walk far"),
                "activity/a1",
                ("Walk (Ann, daily, not started)", "Walk (Ann, daily, done)", "Walk far (Ann, daily, not started)"),
            ),
            (
                SetNextReview(TODAY),
                SetNextReview(TODAY + timedelta(days=9)),
                "next-review",
                (None, "21 Nov 2026", "30 Nov 2026"),
            ),
        ],
    )
    def test_a_part_that_both_changed_shows_all_three_texts(
        self, mine: Edit, theirs: Edit, part: str, texts: tuple[str | None, ...]
    ) -> None:
        (clash,) = conflict([mine], [theirs]).clashes
        assert clash.part == part
        assert (clash.base, clash.mine, clash.theirs) == texts

    def test_what_they_did_meanwhile_is_told_in_words(self) -> None:
        found = conflict([SetTitle("A")], [ChangeGoal("g1", "Run")])
        assert [change.sentence for change in found.changed_by_them] == [
            "Goal changed: “Walk to the shop” is now “Run”."
        ]
        assert [change.sentence for change in found.changed_by_me] == ["Title changed from “My care plan” to “A”."]

    def test_until_people_choose_the_newer_record_stands(self) -> None:
        assert conflict([SetWhatMatters("Friends")], [SetWhatMatters("My dog")]).merged.what_matters == "My dog"

    def test_a_goal_that_another_system_took_out_while_i_changed_it(self) -> None:
        start = base()
        without = {**start.resource, "goal": [{"reference": "Goal/g2"}]}
        theirs = with_goals(without, start.goal_resources)
        found = three_way(start, apply(start, [ChangeGoal("g1", "Run")], ME, TODAY), theirs)
        (clash,) = found.clashes
        assert (clash.mine, clash.theirs, clash.combinable) == ("Run", None, False)
        assert [goal.text for goal in resolve(found, {"goal/g1": "mine"}).goals] == ["Sleep well", "Run"]
        assert [goal.text for goal in resolve(found, {"goal/g1": "theirs"}).goals] == ["Sleep well"]


class TestNoClash:
    def test_different_parts_are_both_kept(self) -> None:
        found = conflict(
            [SetWhatMatters("Friends"), AddGoal("m", "Dance")], [SetIfWorse("Ring 999"), AddGoal("t", "Cook")]
        )
        assert found.clashes == ()
        assert (found.merged.what_matters, found.merged.if_worse) == ("Friends", "Ring 999")
        assert {goal.text for goal in found.merged.goals} == {"Walk to the shop", "Sleep well", "Dance", "Cook"}

    def test_the_same_words_from_both_are_no_clash(self) -> None:
        found = conflict([SetWhatMatters("Friends")], [SetWhatMatters("Friends")])
        assert found.clashes == ()
        assert found.merged.what_matters == "Friends"

    def test_the_merged_plan_keeps_the_identity_of_the_newer_one(self) -> None:
        start = base()
        theirs = Plan({**start.resource, "title": "B", "meta": {"versionId": "9"}}, start.goal_resources)
        merged = three_way(start, apply(start, [SetIfWorse("Ring 999")], ME, TODAY), theirs).merged
        assert merged.resource["meta"] == {"versionId": "9"}

    def test_an_agreement_to_one_text_does_not_cover_the_merged_one(self) -> None:
        agreed = RecordAgreement("Ann", "in person", TODAY)
        merged = conflict([agreed], [SetIfWorse("Ring 999")]).merged
        assert merged.agreement is not None
        assert merged.agreement.current is False


class TestResolve:
    FOUND = staticmethod(lambda: conflict([SetWhatMatters("Friends"), SetTitle("A")], [SetWhatMatters("My dog")]))

    @pytest.mark.parametrize("choices", [{}, {"what-matters": "neither"}, {"title": "mine"}])
    def test_every_clash_wants_a_choice(self, choices: dict[str, str]) -> None:
        with pytest.raises(Refusal, match="choose one of mine, theirs, both, write") as caught:
            resolve(self.FOUND(), choices)
        assert (caught.value.status, caught.value.issues[0].expression) == (422, "what-matters")

    def test_dates_cannot_be_combined(self) -> None:
        found = conflict([SetNextReview(TODAY)], [SetNextReview(TODAY + timedelta(days=9))])
        with pytest.raises(Refusal, match="choose one of mine, theirs"):
            resolve(found, {"next-review": "both"})

    def test_writing_wants_words(self) -> None:
        with pytest.raises(Refusal, match="write the text"):
            resolve(self.FOUND(), {"what-matters": "write"}, {"what-matters": " "})

    @pytest.mark.parametrize(
        ("choice", "text"),
        [("mine", "Friends"), ("theirs", "My dog"), ("both", "My dog\n\nFriends"), ("write", "My dog and friends")],
    )
    def test_a_choice_is_carried_out_and_the_rest_is_merged(self, choice: str, text: str) -> None:
        plan = resolve(self.FOUND(), {"what-matters": choice}, {"what-matters": "My dog and friends"})
        assert (plan.what_matters, plan.title) == (text, "A")

    def test_both_does_not_repeat_what_one_contains(self) -> None:
        found = conflict([SetWhatMatters("Family and friends")], [SetWhatMatters("Family and friends, and my dog")])
        assert resolve(found, {"what-matters": "both"}).what_matters == "Family and friends, and my dog"

    def test_a_goal_can_be_combined(self) -> None:
        found = conflict([ChangeGoal("g1", "Run")], [ChangeGoal("g1", "Swim", due=date(2027, 1, 1))])
        goal = resolve(found, {"goal/g1": "both"}).goals[0]
        assert (goal.text, goal.due, goal.by_patient) == ("Swim\n\nRun", date(2027, 1, 1), True)

    def test_an_action_can_be_combined(self) -> None:
        found = conflict([ChangeActivity("a1", "Run")], [ChangeActivity("a1", "Swim", when="weekly")])
        action = resolve(found, {"activity/a1": "write"}, {"activity/a1": "Run or swim"}).activities[0]
        assert (action.what, action.when) == ("Run or swim", "weekly")

    def test_a_plan_does_not_go_active_with_words_that_nobody_agreed(self) -> None:
        found = conflict([RecordAgreement("Ann", "in person", TODAY), Activate()], [SetIfWorse("Ring 999")])
        with pytest.raises(Refusal, match="Agree it again"):
            resolve(found, {})


class TestStaleEdit:
    def test_it_is_a_409_that_carries_both_texts(self) -> None:
        found = conflict([SetWhatMatters("Friends")], [SetWhatMatters("My dog")])
        refusal = StaleEdit(found, 3, 5)
        assert (refusal.status, refusal.issues[0].code, refusal.conflict) == (409, "conflict", found)
        assert "version 3" in refusal.issues[0].diagnostics
        assert "What matters to me" in refusal.issues[0].diagnostics

    def test_without_a_clash_it_says_so(self) -> None:
        refusal = StaleEdit(conflict([SetTitle("A")], [SetIfWorse("B")]), 1, 2)
        assert "different parts" in refusal.issues[0].diagnostics


def _edit(random: Random, who: str, number: int) -> Edit:
    """Some edit whose words are unlike those of any other."""
    text = f"{who} {number} {random.randrange(10**6)}"
    makers: list[Callable[[], Edit]] = [
        lambda: SetTitle(text),
        lambda: SetWhatMatters(random.choice([text, text, ""])),
        lambda: SetIfWorse(random.choice([text, text, ""])),
        lambda: SetNextReview(TODAY + timedelta(days=random.randrange(1, 99))),
        lambda: AddGoal(text.replace(" ", "-"), text),
        lambda: ChangeGoal(random.choice(["g1", "g2"]), text),
        lambda: AddActivity(text.replace(" ", "-"), text),
        lambda: ChangeActivity("a1", text, when=random.choice([None, text])),
        lambda: SetActivityStatus("a1", random.choice(["completed", "in-progress", "scheduled"])),
        lambda: RecordAgreement(text, "in person", TODAY),
    ]
    return random.choice(makers)()


def _typed(edits: list[Edit]) -> set[str]:
    """The words that the last edit of each part typed: an editor's own later words replace their earlier ones."""
    last: dict[Any, str] = {}
    for edit in edits:
        part = (
            type(edit).__name__.removeprefix("Add").removeprefix("Change"),
            getattr(edit, "id", getattr(edit, "key", "")),
        )
        values = {field.name: getattr(edit, field.name) for field in fields(edit)}
        words = values.get("text") or values.get("what") or values.get("by")
        if words is not None:
            last[part] = words
        elif part in last and "text" in values:
            del last[part]
    return {words for words in last.values() if words}


class TestNothingTypedIsLost:
    @pytest.mark.parametrize("seed", range(100))
    def test_all_words_of_both_are_in_the_merged_plan_or_in_a_clash(self, seed: int) -> None:
        random = Random(seed)
        mine = [_edit(random, "mine", n) for n in range(random.randrange(1, 6))]
        theirs = [_edit(random, "theirs", n) for n in range(random.randrange(1, 6))]
        found = conflict(mine, theirs)
        kept = " ".join(text for name, part in split(found.merged).items() if (text := as_text(name, part)))
        shown = " ".join(text for clash in found.clashes for text in (clash.mine, clash.theirs) if text)
        for words in _typed(mine) | _typed(theirs):
            assert words in kept or words in shown

    @pytest.mark.parametrize("seed", range(100))
    def test_whatever_is_chosen_every_part_comes_from_where_it_was_chosen(self, seed: int) -> None:
        random = Random(seed)
        start = base()
        mine = apply(start, [_edit(random, "mine", n) for n in range(4)], ME, TODAY)
        theirs = apply(start, [_edit(random, "theirs", n) for n in range(4)], THEM, TODAY)
        found = three_way(start, mine, theirs)
        choices = {clash.part: random.choice(["mine", "theirs"]) for clash in found.clashes}
        result, was, my_parts, their_parts = (split(plan) for plan in (resolve(found, choices), start, mine, theirs))
        for name in {*was, *my_parts, *their_parts}:
            if name in choices:
                expected = (my_parts if choices[name] == "mine" else their_parts).get(name)
            else:
                expected = their_parts.get(name) if my_parts.get(name) == was.get(name) else my_parts.get(name)
            assert result.get(name) == expected

    @pytest.mark.parametrize("seed", range(100))
    def test_with_both_wherever_it_is_offered_all_texts_are_in_the_plan(self, seed: int) -> None:
        random = Random(seed)
        found = conflict([_edit(random, "mine", n) for n in range(5)], [_edit(random, "theirs", n) for n in range(5)])
        choices = {clash.part: "both" if clash.combinable else "mine" for clash in found.clashes}
        plan = resolve(found, choices)
        texts = {name: as_text(name, part) or "" for name, part in split(plan).items()}
        for clash in found.clashes:
            if clash.combinable and clash.part in ("title", "what-matters", "if-worse"):
                assert clash.mine in texts[clash.part]  # type: ignore[operator]
                assert clash.theirs in texts[clash.part]  # type: ignore[operator]

    def test_a_merge_with_oneself_changes_nothing(self) -> None:
        start = base()
        mine = apply(start, [SetTitle("A"), AddGoal("m", "Dance")], ME, TODAY)
        assert three_way(start, mine, start).merged == mine
        assert three_way(start, start, mine).merged == mine
        assert three_way(start, mine, mine).merged == mine
