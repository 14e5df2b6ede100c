"""A CarePlan as people speak of it."""

import json
from datetime import date
from pathlib import Path

import pytest

from care_plans.plan import (
    Plan,
    activity,
    fingerprint,
    goal,
    is_persons_plan,
    new_goal,
    new_plan,
    stopped,
    with_goals,
    written,
)

TODAY = date(2026, 11, 21)
SNOMED = "http://snomed.info/sct"


def category(code: str) -> list[dict[str, object]]:
    return [{"coding": [{"system": SNOMED, "code": code}]}]


class TestIsPersonsPlan:
    @pytest.mark.parametrize("intent", ["order", "proposal", "option"])
    def test_another_intent_with_another_category_is_a_supporting_plan(self, intent: str) -> None:
        assert not is_persons_plan({"intent": intent, "category": category("698360004")})

    @pytest.mark.parametrize(
        "resource",
        [
            {"intent": "plan"},
            {"intent": "plan", "category": category("698360004")},
            {"intent": "order"},
            {"intent": "order", "category": []},
            {"intent": "order", "category": category("734163000")},
            {"intent": "order", "category": [*category("698360004"), *category("2181441000000107")]},
        ],
    )
    def test_everything_else_is_the_persons_plan(self, resource: dict[str, object]) -> None:
        assert is_persons_plan(resource)

    def test_a_category_in_words_alone_is_another_category(self) -> None:
        assert not is_persons_plan({"intent": "order", "category": [{"text": "Care plan"}]})

    def test_every_plan_of_the_synthea_bundles_is_supporting(self, shared_data: Path) -> None:
        bundles = sorted((shared_data / "synthea").glob("*.json"))[:4]
        plans = [
            entry["resource"]
            for bundle in bundles
            for entry in json.loads(bundle.read_bytes())["entry"]
            if entry["resource"]["resourceType"] == "CarePlan"
        ]
        assert plans
        assert not any(map(is_persons_plan, plans))


class TestPlan:
    def test_a_bare_plan_has_empty_sections(self) -> None:
        plan = Plan({"resourceType": "CarePlan", "status": "active", "intent": "plan"})
        assert plan.title == "Care plan"
        assert (plan.what_matters, plan.if_worse, plan.next_review, plan.agreement) == (None, None, None, None)
        assert (plan.goals, plan.activities, plan.patient_id) == ((), (), None)

    @pytest.mark.parametrize("subject", [{"reference": "Group/1"}, {"display": "Ann"}, {"reference": "#p"}, None])
    def test_only_a_literal_patient_is_a_subject(self, subject: object) -> None:
        assert Plan({"subject": subject}).patient_id is None

    def test_goals_stand_in_the_order_of_the_plan(self) -> None:
        resource = {"goal": [{"reference": "Goal/b"}, {"reference": "Goal/a"}, {"reference": "#inside"}]}
        plan = with_goals(resource, [{"id": "a"}, {"id": "b"}, {"id": "other"}])
        assert [goal["id"] for goal in plan.goal_resources] == ["b", "a"]

    def test_official_examples_are_read_without_complaint(self, shared_data: Path) -> None:
        examples = sorted((shared_data / "hl7-examples" / "CarePlan").glob("*.json"))
        plans = [Plan(json.loads(path.read_bytes())) for path in examples]
        assert len(plans) >= 6
        for plan in plans:
            assert plan.title
            assert len(plan.activities) == len(plan.resource.get("activity", ()))
            assert all(activity.key for activity in plan.activities)


class TestGoal:
    def test_words_of_a_professional_are_not_the_persons(self) -> None:
        resource = new_goal("g", "Patient/p", "Lose 5 kg", "Practitioner/x", TODAY)
        assert not goal(resource).by_patient

    def test_words_of_another_patient_are_not_the_persons(self) -> None:
        assert not goal(new_goal("g", "Patient/p", "Lose 5 kg", "Patient/q", TODAY)).by_patient

    def test_the_persons_own_words(self) -> None:
        found = goal(new_goal("g", "Patient/p", "Dance at Amy’s wedding", "Patient/p", TODAY, date(2027, 6, 1)))
        assert (found.text, found.by_patient, found.due, found.open) == (
            "Dance at Amy’s wedding",
            True,
            date(2027, 6, 1),
            True,
        )


class TestActivity:
    def test_an_action_without_an_id_is_named_by_what_it_refers_to_or_its_place(self) -> None:
        assert activity({"reference": {"reference": "Task/1", "display": "Ring"}}, 3).key == "Task/1"
        assert activity({"detail": {"status": "scheduled"}}, 3).key == "no-4"

    @pytest.mark.parametrize(
        ("period", "when"),
        [
            ({"start": "2026-12-03", "end": "2027-01-10"}, "3 Dec 2026 to 10 Jan 2027"),
            ({"start": "2026-12-03"}, "from 3 Dec 2026"),
            ({"end": "2027-01-10"}, "until 10 Jan 2027"),
            ({"start": "2026"}, None),
        ],
    )
    def test_a_period_is_told_in_days(self, period: dict[str, str], when: str | None) -> None:
        assert activity({"detail": {"scheduledPeriod": period}}, 0).when == when


class TestNewPlan:
    def test_it_is_a_draft_of_a_care_plan_for_one_person(self) -> None:
        plan = new_plan(
            "pl",
            "Patient/p",
            "Practitioner/x",
            TODAY,
            patient_name="Ann Lee",
            care_team="CareTeam/t",
            addresses=["Condition/c1", "Condition/c2"],
        )
        assert is_persons_plan(plan.resource)
        assert (plan.status, plan.patient_id, plan.title) == ("draft", "p", "My care plan")
        assert plan.resource["subject"]["display"] == "Ann Lee"
        assert plan.resource["careTeam"] == [{"reference": "CareTeam/t"}]
        assert len(plan.resource["addresses"]) == 2


class TestAgreement:
    @pytest.fixture
    def agreed(self) -> Plan:
        plan = new_plan("pl", "Patient/p", "Practitioner/x", TODAY)
        mark = {"url": "fingerprint", "valueString": fingerprint(plan)}
        parts = [{"url": "by", "valueReference": {"display": "Ann"}}, {"url": "on", "valueDate": "2026-11-20"}, mark]
        url = "https://carehub.example/fhir/StructureDefinition/agreed"
        return Plan({**plan.resource, "extension": [{"url": url, "extension": parts}]})

    def test_it_is_not_current_when_the_text_has_changed(self, agreed: Plan) -> None:
        changed = Plan({**agreed.resource, "activity": [{"detail": {"status": "scheduled", "description": "Walk"}}]})
        assert changed.agreement is not None
        assert changed.agreement.current is False

    def test_progress_leaves_it_current(self, agreed: Plan) -> None:
        agreement = Plan({**agreed.resource, "status": "active"}).agreement
        assert agreement is not None
        assert (agreement.by, agreement.on, agreement.current) == ("Ann", date(2026, 11, 20), True)

    def test_one_of_another_system_is_neither(self, agreed: Plan) -> None:
        url = "https://carehub.example/fhir/StructureDefinition/agreed"
        by = [{"url": "by", "valueString": "Ann"}]
        agreement = Plan({"extension": [{"url": url, "extension": by}]}).agreement
        assert agreement is not None
        assert (agreement.by, agreement.current) == ("Ann", None)


class TestWritten:
    def test_nothing_changed_writes_nothing(self) -> None:
        plan = new_plan("pl", "Patient/p", "Practitioner/x", TODAY)
        assert written(plan, Plan(dict(plan.resource))) == []

    def test_a_changed_goal_takes_the_plan_with_it(self) -> None:
        resource = {**new_plan("pl", "Patient/p", "Practitioner/x", TODAY).resource, "goal": [{"reference": "Goal/g"}]}
        before = with_goals(resource, [new_goal("g", "Patient/p", "Walk", "Patient/p", TODAY)])
        after = with_goals(resource, [new_goal("g", "Patient/p", "Walk daily", "Patient/p", TODAY)])
        assert [one["resourceType"] for one in written(before, after)] == ["CarePlan", "Goal"]


class TestStopped:
    def test_it_says_who_when_and_why(self) -> None:
        plan = Plan(stopped({"status": "active"}, "on-hold", "Practitioner/x", TODAY, "Moved away"))
        assert (plan.status, plan.stopped_why) == ("on-hold", "Moved away")

    def test_the_original_is_untouched(self) -> None:
        before = {"status": "active", "extension": [{"url": "urn:other", "valueString": "stays"}]}
        after = stopped(before, "on-hold", "Practitioner/x", TODAY, "Moved away")
        assert before == {"status": "active", "extension": [{"url": "urn:other", "valueString": "stays"}]}
        assert after["extension"][0]["valueString"] == "stays"
