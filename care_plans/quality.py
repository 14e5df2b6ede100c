"""How good a plan is by the five criteria of NHS England for a personalised care and support plan.

Source: the five PCSP criteria as West Yorkshire Health and Care Partnership publishes them (wypartnership.co.uk). A
plan that misses some is still a plan: these are advice to people, never a refusal.
"""

from dataclasses import dataclass
from datetime import date

from care_plans.plan import Plan, words


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of the five: *name* as published, *missing* what to do about it (empty when met)."""

    name: str
    missing: tuple[str, ...]

    @property
    def met(self) -> bool:
        return not self.missing


def quality(plan: Plan, today: date) -> list[Criterion]:
    """The five criteria in their published order."""
    own = [goal for goal in plan.goals if goal.by_patient and goal.text]
    outcomes = [goal for goal in plan.goals if goal.open and goal.text]
    agreement, review = plan.agreement, plan.next_review
    named = [activity for activity in plan.activities if activity.what and activity.who]
    return [
        _criterion(
            "The person is central in developing and agreeing their plan, including who is involved",
            (bool(own), "Write down a goal in the person's own words."),
            (agreement is not None, "Record who agreed the plan, when and how."),
            (
                agreement is None or agreement.current is not False,
                "The plan has changed since it was agreed: agree it again.",
            ),
        ),
        _criterion(
            "People have proactive, personalised conversations about what matters to them",
            (bool(plan.what_matters), "Write down what matters to the person."),
        ),
        _criterion(
            "People agree the health and wellbeing outcomes that they want to achieve",
            (bool(outcomes), "Agree at least one goal that is still open."),
        ),
        _criterion(
            "Each person has one sharable plan that records what matters, their outcomes and how to achieve them",
            (bool(named), "Add an action and say who does it."),
            (bool(plan.if_worse), "Write down what to do if the person gets worse."),
        ),
        _criterion(
            "People can review their plan, formally and informally",
            (review is not None, "Set the day of the next review."),
            (
                review is None or review >= today,
                f"The review was due on {words(review)}: hold it and set the next." if review else "",
            ),
        ),
    ]


def _criterion(name: str, *checks: tuple[bool, str]) -> Criterion:
    return Criterion(name, tuple(missing for met, missing in checks if not met))
