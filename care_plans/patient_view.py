"""The plan as the person reads it: plain words, no codes, their own words first, and what to do when it gets worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from care_plans.plan import Activity, Goal, Plan
from care_plans.shapes import LONDON
from care_plans.team import Face, Member, faces

STATUSES = {
    "draft": "We are still writing this plan with you.",
    "active": "This is your plan now.",
    "on-hold": "Your plan is on hold. Your team does not work with it until you say yes again.",
    "completed": "This plan is finished. You can still read it.",
    "revoked": "This plan was stopped. You can still read it.",
    "entered-in-error": "This plan was written by mistake. Please do not use it.",
    "unknown": "We do not know if this plan is up to date. Please ask your team.",
}

GOALS = {
    "proposed": "an idea",
    "planned": "not started yet",
    "accepted": "agreed",
    "active": "working on it",
    "on-hold": "on hold for now",
    "completed": "finished",
    "cancelled": "no longer wanted",
    "rejected": "no longer wanted",
    "entered-in-error": "written by mistake",
}

ACHIEVEMENTS = {
    "achieved": "you did it",
    "not-achieved": "finished, not reached this time",
    "in-progress": "working on it",
    "improving": "getting there",
    "worsening": "getting harder",
    "no-change": "no change yet",
    "sustaining": "you keep it up",
    "no-progress": "no change yet",
    "not-attainable": "not possible for now",
}

ACTIONS = {
    "not-started": "not started yet",
    "scheduled": "planned",
    "in-progress": "happening now",
    "on-hold": "on hold for now",
    "completed": "done",
    "cancelled": "not needed any more",
    "stopped": "stopped",
    "entered-in-error": "written by mistake",
    "unknown": "ask your team",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One goal or action: the words, and beside them who, when and how it stands (each may be empty)."""

    text: str
    who: str
    when: str
    state: str


@dataclass(frozen=True, slots=True)
class Worse:
    """What to do if I feel worse. *own* is from the plan; the others are said to everybody, in this order."""

    own: str | None
    emergency: str
    urgent: str
    hub: str
    readings: str


@dataclass(frozen=True, slots=True)
class PatientPlan:
    """The page "My plan", ready to print: texts in the order in which they are read. Empty parts are to be hidden."""

    title: str
    status: str
    what_matters: str | None
    goals: tuple[Line, ...]
    past_goals: tuple[Line, ...]
    actions_mine: tuple[Line, ...]
    actions_others: tuple[Line, ...]
    worse: Worse
    review: str
    agreed: str
    updated: str
    team: tuple[Face, ...]


def patient_plan(
    plan: Plan,
    members: Sequence[Member],
    now: datetime,
    updated: datetime,
    *,
    hub_name: str,
    hub_phone: str | None,
    hub_hours: str | None,
) -> PatientPlan:
    """The plan in the person's words.

    *hub_hours* in words, such as "Monday to Friday, 9am to 5pm". *updated* is when this version was written, so that an
    old plan says its age.
    """
    today = now.astimezone(LONDON).date()
    patient = f"Patient/{plan.patient_id}"
    lines = [_goal(goal) for goal in plan.goals if goal.open and goal.text]
    past = [_goal(goal) for goal in plan.goals if not goal.open and goal.text and goal.status != "entered-in-error"]
    shown = [activity for activity in plan.activities if activity.status not in ("entered-in-error", "cancelled")]
    roles = {member.member: member for member in members if member.here(now)}
    mine = [activity for activity in shown if patient in activity.performers or not activity.who]
    others = [activity for activity in shown if activity not in mine]
    return PatientPlan(
        title=plan.title,
        status=STATUSES.get(plan.status, STATUSES["unknown"]),
        what_matters=plan.what_matters,
        goals=tuple(lines),
        past_goals=tuple(past),
        actions_mine=tuple(_action(activity, "You") for activity in mine if activity.what),
        actions_others=tuple(_action(activity, _who(activity, roles)) for activity in others if activity.what),
        worse=worse(plan, hub_name, hub_phone, hub_hours),
        review=_review(plan.next_review, today),
        agreed=_agreed(plan, patient),
        updated=f"Last changed on {long_date(updated.astimezone(LONDON).date())}.",
        team=tuple(faces(list(members), now)),
    )


def worse(
    plan: Plan | None, hub_name: str, hub_phone: str | None, hub_hours: str | None, present: str | None = None
) -> Worse:
    """What stands at the foot of every page of the person, plan or no plan.

    Nobody is told that readings are watched when they are not: the hours are named, and without hours none are
    promised. *present* says whether somebody looks now, for pages that are read at once; a letter that is printed has
    no now.
    """
    ring = f"ring {hub_name} on {hub_phone}" if hub_phone else f"contact {hub_name}"
    open_when = f" We are open {hub_hours}." if hub_hours else ""
    if hub_hours:
        readings = f"We only look at your readings when we are open: {hub_hours}. Do not wait for us to call."
    else:
        readings = "Nobody looks at your readings all the time. Do not wait for us to call."
    return Worse(
        own=plan.if_worse if plan and plan.status == "active" else None,
        emergency="Call 999 if you have chest pain, cannot breathe, or think your life is in danger.",
        urgent="Call 111, or go to 111.nhs.uk, if you need help now but it is not an emergency.",
        hub=f"For anything else, {ring}.{open_when}",
        readings=f"{readings} {present}" if present else readings,
    )


def _goal(goal: Goal) -> Line:
    state = ACHIEVEMENTS.get(goal.achievement or "") or GOALS.get(goal.status, "")
    who = "" if goal.by_patient else "suggested by your team"
    return Line(goal.text, who, f"by {long_date(goal.due)}" if goal.due else "", state)


def _action(activity: Activity, who: str) -> Line:
    return Line(activity.what, who, activity.when or "", ACTIONS.get(activity.status, ACTIONS["unknown"]))


def _who(activity: Activity, members: dict[str, Member]) -> str:
    """ "Sam Okafor, your care coordinator", when the action names somebody of the team."""
    names = []
    for reference in activity.performers:
        member = members.get(reference)
        if member and member.name:
            names.append(f"{member.name}, your {member.role}" if member.role else member.name)
    known = [name for name in activity.who if "/" not in name]
    return " and ".join(names or known) or "Your team"


def _review(on: date | None, today: date) -> str:
    if on is None:
        return "We have not set a day to look at this plan again. Ask your care coordinator."
    if on < today:
        return (
            f"We should have looked at this plan with you on {long_date(on)}. Ask your care coordinator for a new day."
        )
    return f"We will look at this plan with you on {long_date(on)}."


def _agreed(plan: Plan, patient: str) -> str:
    agreement = plan.agreement
    if agreement is None:
        return "This plan is not agreed yet."
    who = "You" if agreement.reference == patient else agreement.by
    on = f" on {long_date(agreement.on)}" if agreement.on else ""
    said = f"{who} agreed this plan{on}."
    return f"{said} It has changed since then." if agreement.current is False else said


def long_date(on: date) -> str:
    """`3 December 2026`."""
    return f"{on.day} {on:%B %Y}"
