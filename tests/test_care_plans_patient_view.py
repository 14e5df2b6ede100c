"""The plan as the person reads it, the five criteria, and whether it can be read at all."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from care_plans import patient_view, team
from care_plans.edits import (
    Activate,
    AddActivity,
    AddGoal,
    CloseGoal,
    RecordAgreement,
    SetActivityStatus,
    SetIfWorse,
    SetNextReview,
    SetWhatMatters,
    apply,
)
from care_plans.patient_view import PatientPlan, patient_plan, worse
from care_plans.plan import Plan, new_plan, stopped
from care_plans.quality import quality
from care_plans.reading_age import TARGET, reading_age, syllables

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TODAY = NOW.date()
SAM = "Practitioner/sam"
HOURS = "Monday to Friday, 9am to 5pm"


def made(*more: Any) -> Plan:
    edits = [
        SetWhatMatters("Seeing my grandchildren"),
        AddGoal("g1", "Walk to the shop", due=date(2027, 3, 1)),
        AddGoal("g2", "Weigh under 80 kg", by_patient=False),
        AddActivity("a1", "Walk ten minutes", "Ann Lee", "Patient/p", "every morning"),
        AddActivity("a2", "Ring every week", "Sam", SAM),
        SetIfWorse("Use my blue inhaler, then ring the hub."),
        SetNextReview(date(2026, 12, 3)),
        RecordAgreement("Ann Lee", "in person", TODAY, "Patient/p"),
        Activate(),
    ]
    return apply(new_plan("pl", "Patient/p", SAM, TODAY), [*edits, *more], SAM, TODAY)


def members() -> list[team.Member]:
    begun = NOW - timedelta(days=9)
    whole = team.new_team("t", "Patient/p", begun)
    whole = team.assign(whole, team.COORDINATOR, SAM, "Sam Okafor", begun)
    return team.rows(team.assign(whole, team.COACH, "Practitioner/kim", "Kim Bray", begun))


def shown(plan: Plan, now: datetime = NOW, **more: Any) -> PatientPlan:
    settings = {"hub_name": "Yeovil hub", "hub_phone": "01935 496 000", "hub_hours": HOURS, **more}
    return patient_plan(plan, members(), now, NOW, **settings)


class TestPlainWords:
    def test_the_persons_words_come_as_they_wrote_them(self) -> None:
        view = shown(made())
        assert view.what_matters == "Seeing my grandchildren"
        assert [(line.text, line.who, line.when, line.state) for line in view.goals] == [
            ("Walk to the shop", "", "by 1 March 2027", "working on it"),
            ("Weigh under 80 kg", "suggested by your team", "", "working on it"),
        ]

    def test_who_does_what_by_name_and_role(self) -> None:
        view = shown(made())
        assert [(line.text, line.who, line.when) for line in view.actions_mine] == [
            ("Walk ten minutes", "You", "every morning")
        ]
        assert [(line.text, line.who) for line in view.actions_others] == [
            ("Ring every week", "Sam Okafor, your care coordinator")
        ]

    def test_the_team_by_name_and_role(self) -> None:
        assert [(face.name, face.role) for face in shown(made()).team] == [
            ("Sam Okafor", "your care coordinator"),
            ("Kim Bray", "your health coach"),
        ]

    def test_what_is_done_is_told_kindly(self) -> None:
        view = shown(made(CloseGoal("g1", "not-achieved"), CloseGoal("g2", "achieved")))
        assert [line.state for line in view.past_goals] == ["finished, not reached this time", "you did it"]
        assert view.goals == ()

    def test_what_was_cancelled_or_written_by_mistake_is_left_out(self) -> None:
        view = shown(made(SetActivityStatus("a1", "cancelled", "Bad knee")))
        assert view.actions_mine == ()

    @pytest.mark.parametrize(
        "status", ["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown", "new-code"]
    )
    def test_no_status_code_is_shown(self, status: str) -> None:
        view = shown(Plan({**made().resource, "status": status}))
        assert view.status in patient_view.STATUSES.values()

    def test_no_code_or_reference_is_shown(self) -> None:
        plan = made(AddActivity("a3", "Weigh", "", "Practitioner/unknown"))
        text = repr([shown(plan).actions_mine, shown(plan).actions_others, shown(plan).goals, shown(plan).status])
        assert "Practitioner/" not in text
        assert "Patient/" not in text
        assert "not-started" not in text

    def test_who_agreed(self) -> None:
        assert shown(made()).agreed == "You agreed this plan on 21 November 2026."
        changed = made(SetIfWorse("Ring 999"))
        assert shown(changed).agreed == "You agreed this plan on 21 November 2026. It has changed since then."
        assert shown(new_plan("pl", "Patient/p", SAM, TODAY)).agreed == "This plan is not agreed yet."

    @pytest.mark.parametrize(
        ("now", "words"),
        [
            (NOW, "We will look at this plan with you on 3 December 2026."),
            (NOW + timedelta(days=30), "We should have looked at this plan with you on 3 December 2026."),
        ],
    )
    def test_the_review_and_when_it_is_late(self, now: datetime, words: str) -> None:
        assert shown(made(), now).review.startswith(words)


class TestIfIFeelWorse:
    def test_999_and_111_are_always_said_plan_or_no_plan(self) -> None:
        found = worse(None, "Yeovil hub", None, None, False)
        assert found.emergency.startswith("Call 999")
        assert found.urgent.startswith("Call 111")
        assert found.own is None

    def test_the_persons_own_words_come_from_the_active_plan(self) -> None:
        assert shown(made()).worse.own == "Use my blue inhaler, then ring the hub."

    def test_how_to_reach_the_hub(self) -> None:
        assert shown(made()).worse.hub == (
            "For anything else, ring Yeovil hub on 01935 496 000. We are open Monday to Friday, 9am to 5pm."
        )
        assert shown(made(), hub_phone=None, hub_hours=None).worse.hub == "For anything else, contact Yeovil hub."


class TestHazardFalseReassuranceOutOfHours:
    """Nobody is told that a reading is watched when it is not."""

    def test_hours_are_named(self) -> None:
        assert "only look at your readings when we are open" in shown(made()).worse.readings

    def test_without_hours_none_are_promised(self) -> None:
        found = shown(made(), hub_hours=None).worse
        assert "Nobody looks at your readings all the time" in found.readings
        assert "open" not in found.hub

    def test_what_is_printed_says_nothing_about_now_and_a_page_does(self) -> None:
        now = "Nobody is looking at your readings now."
        assert now not in shown(made()).worse.readings
        assert worse(made(), "Yeovil hub", None, HOURS, now).readings.endswith(now)


class TestHazardStalePlanUsedInCrisis:
    def test_a_plan_that_is_not_active_gives_no_instructions(self) -> None:
        plan = made()
        for status in ("draft", "on-hold", "completed", "revoked", "entered-in-error", "unknown"):
            held = Plan(stopped(plan.resource, status, SAM, TODAY, "why"), plan.goal_resources)
            assert shown(held).worse.own is None
            assert shown(held).status != patient_view.STATUSES["active"]

    def test_a_plan_says_its_age(self) -> None:
        late = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)
        view = patient_plan(made(), [], NOW, late, hub_name="Yeovil hub", hub_phone=None, hub_hours=None)
        assert view.updated == "Last changed on 2 July 2026."

    def test_a_plan_past_its_review_says_so(self) -> None:
        assert "should have looked" in shown(made(), NOW + timedelta(days=365)).review


class TestQuality:
    """The five criteria of NHS England."""

    def test_a_bare_plan_meets_none_and_says_what_to_do(self) -> None:
        found = quality(new_plan("pl", "Patient/p", SAM, TODAY), TODAY)
        assert [criterion.met for criterion in found] == [False] * 5
        assert found[0].missing == (
            "Write down a goal in the person's own words.",
            "Record who agreed the plan, when and how.",
        )

    def test_a_whole_plan_meets_all_five(self) -> None:
        assert [criterion.met for criterion in quality(made(), TODAY)] == [True] * 5

    def test_a_plan_that_changed_since_it_was_agreed(self) -> None:
        changed = apply(made(), [SetIfWorse("Ring 999")], SAM, TODAY)
        assert quality(changed, TODAY)[0].missing == ("The plan has changed since it was agreed: agree it again.",)

    def test_a_review_that_is_overdue(self) -> None:
        found = quality(made(), date(2026, 12, 4))[4]
        assert found.missing == ("The review was due on 3 Dec 2026: hold it and set the next.",)


class TestReadingAge:
    def test_a_short_text_has_none(self) -> None:
        assert reading_age("Walk to the shop.") is None

    def test_long_words_in_long_sentences_need_an_older_reader(self) -> None:
        hard = (
            "Multidisciplinary interventions necessitate comprehensive reconciliation of pharmacological therapies "
            "notwithstanding considerable polypharmacy, deprescribing opportunities and cardiovascular comorbidities, "
            "alongside psychosocial circumstances requiring individualised consideration, interprofessional "
            "communication and continuous reassessment of individual vulnerabilities."
        )
        found = reading_age(hard)
        assert found is not None
        assert found > 20

    @pytest.mark.parametrize(
        ("word", "count"),
        [("walk", 1), ("shop", 1), ("breathe", 1), ("table", 2), ("medicine", 3), ("the", 1), ("emergency", 4)],
    )
    def test_syllables(self, word: str, count: int) -> None:
        assert syllables(word) == count

    @pytest.mark.parametrize(
        "texts",
        [
            list(patient_view.STATUSES.values()),
            [does for _, does in team.ROLES.values()],
            [
                shown(made()).worse.emergency,
                shown(made()).worse.urgent,
                shown(made()).worse.hub,
                shown(made()).worse.readings,
            ],
            [
                shown(made()).review,
                shown(made()).agreed,
                shown(made()).updated,
                shown(made(), NOW + timedelta(90)).review,
            ],
        ],
    )
    def test_what_we_write_ourselves_can_be_read_at_eleven(self, texts: list[str]) -> None:
        found = reading_age(" ".join(texts))
        assert found is not None
        assert found <= TARGET
