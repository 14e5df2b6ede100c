"""What people change in a plan, one small value each, and the pure function that carries it out.

    plan = apply(plan, [SetWhatMatters("To walk to the shop"), AddGoal(new_id(), "Walk every day")], actor, today)

`was` in an edit is the text that the person had in front of them: when the plan says something else by now, the edit
is refused 409 and nothing is overwritten, even if only the Goal changed and not the plan's version.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from care_plans import plan as plans
from care_plans.plan import OPEN_GOALS, Plan, activity_key, fingerprint, local
from care_plans.shapes import GOAL_ACHIEVEMENT, JSON, set_extension
from fhir.outcome import refuse

LONGEST = 5000
"""Characters in one text of a plan: two pages. More is a document, not a plan."""

ACTIVITY_STATUSES = ("not-started", "scheduled", "in-progress", "on-hold", "completed", "cancelled", "stopped")


@dataclass(frozen=True, slots=True)
class SetTitle:
    text: str


@dataclass(frozen=True, slots=True)
class SetWhatMatters:
    """In the person's own words; empty text clears it."""

    text: str


@dataclass(frozen=True, slots=True)
class SetIfWorse:
    """What to do if I get worse: the contingency plan."""

    text: str


@dataclass(frozen=True, slots=True)
class SetNextReview:
    """Today or later; None clears it."""

    on: date | None


@dataclass(frozen=True, slots=True)
class AddGoal:
    """*id* comes from the page, so that the same form sent twice adds one goal. *by_patient*: the words are theirs."""

    id: str
    text: str
    by_patient: bool = True
    due: date | None = None


@dataclass(frozen=True, slots=True)
class ChangeGoal:
    """*due* `keep` leaves the date alone, None clears it."""

    id: str
    text: str
    due: date | Literal["keep"] | None = "keep"
    was: str | None = None


@dataclass(frozen=True, slots=True)
class CloseGoal:
    """*outcome*: `achieved`, `not-achieved` or `not-wanted` (then *why* is demanded)."""

    id: str
    outcome: Literal["achieved", "not-achieved", "not-wanted"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class ReopenGoal:
    id: str


@dataclass(frozen=True, slots=True)
class AddActivity:
    """An action: *what*, *who* (name, with *who_reference* when it is somebody on record), *when* in free words."""

    id: str
    what: str
    who: str = ""
    who_reference: str | None = None
    when: str = ""


@dataclass(frozen=True, slots=True)
class ChangeActivity:
    """*who* and *when*: None leaves them alone, empty clears them."""

    key: str
    what: str
    who: str | None = None
    who_reference: str | None = None
    when: str | None = None
    was: str | None = None


@dataclass(frozen=True, slots=True)
class SetActivityStatus:
    """*why* is demanded for on-hold, cancelled and stopped."""

    key: str
    status: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class RecordAgreement:
    """The plan as it stands is agreed: *by* a name (with *reference*), *on* a day up to today, *how* in words."""

    by: str
    how: str
    on: date
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Needs a goal in the person's words and an agreement to the plan as it stands. Approval is the hub's rule."""


@dataclass(frozen=True, slots=True)
class Suspend:
    why: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The plan has done its work or a new one takes over: it stays readable and makes room for the next."""

    why: str


Edit = (
    SetTitle
    | SetWhatMatters
    | SetIfWorse
    | SetNextReview
    | AddGoal
    | ChangeGoal
    | CloseGoal
    | ReopenGoal
    | AddActivity
    | ChangeActivity
    | SetActivityStatus
    | RecordAgreement
    | Activate
    | Suspend
    | Complete
)


def apply(plan: Plan, edits: Iterable[Edit], actor: str, today: date) -> Plan:
    """The plan with *edits* made in order, on copies. *actor* is who edits, such as `Practitioner/x`.

    Raises Refusal: 422 with the field and what was expected; 404 for a goal or action that the plan has not; 409 for a
    text that changed under the editor, and for an edit of a plan that is closed.
    """
    draft = _Draft(copy.deepcopy(plan.resource), {str(g["id"]): copy.deepcopy(g) for g in plan.goal_resources}, plan)
    for edit in edits:
        if plan.status in ("completed", "revoked", "entered-in-error"):
            raise refuse(409, "conflict", f"This plan is {plan.status} and is not changed any more.", "CarePlan.status")
        _EDITS[type(edit)](draft, edit, actor, today)
    return draft.plan()


@dataclass(slots=True)
class _Draft:
    """The copies that the edits of one call work on."""

    resource: JSON
    goals: dict[str, JSON]
    original: Plan

    def plan(self) -> Plan:
        return plans.with_goals(self.resource, self.goals.values())

    def goal(self, id: str) -> JSON:
        if id not in self.goals:
            raise refuse(404, "not-found", f"The plan has no goal {id}.", "CarePlan.goal")
        return self.goals[id]

    def activity(self, key: str) -> JSON:
        for position, element in enumerate(self.resource.get("activity") or ()):
            if activity_key(element, position) == key:
                if "detail" not in element:
                    raise refuse(422, "business-rule", "This action is a record of its own; change it there.", key)
                detail: JSON = element["detail"]
                return detail
        raise refuse(404, "not-found", f"The plan has no action {key}.", "CarePlan.activity")


def typed(text: str, field: str, what: str) -> str:
    """*text* without space around it. Refused 422 when it is longer than LONGEST."""
    stripped = text.replace("\r\n", "\n").strip()
    if len(stripped) > LONGEST:
        raise refuse(422, "too-long", f"{what} has {len(stripped)} characters; at most {LONGEST} fit in a plan.", field)
    return stripped


def needed(text: str, field: str, what: str) -> str:
    found = typed(text, field, what)
    if not found:
        raise refuse(422, "required", f"{what} is empty. Write at least a few words.", field)
    return found


def _set_title(draft: _Draft, edit: SetTitle, actor: str, today: date) -> None:
    draft.resource["title"] = needed(edit.text, "CarePlan.title", "The title")


def _set_what_matters(draft: _Draft, edit: SetWhatMatters, actor: str, today: date) -> None:
    text = typed(edit.text, local("what-matters"), "What matters to me")
    set_extension(draft.resource, "what-matters", {"valueString": text} if text else None)


def _set_if_worse(draft: _Draft, edit: SetIfWorse, actor: str, today: date) -> None:
    text = typed(edit.text, local("if-worse"), "If I get worse")
    set_extension(draft.resource, "if-worse", {"valueString": text} if text else None)


def _set_next_review(draft: _Draft, edit: SetNextReview, actor: str, today: date) -> None:
    if edit.on and edit.on < today:
        raise refuse(
            422, "value", f"The next review is {plans.words(edit.on)}; it must be today or later.", local("next-review")
        )
    set_extension(draft.resource, "next-review", {"valueDate": edit.on.isoformat()} if edit.on else None)


def _add_goal(draft: _Draft, edit: AddGoal, actor: str, today: date) -> None:
    if edit.id in draft.goals:
        return
    patient = draft.resource["subject"]["reference"]
    text = needed(edit.text, "Goal.description.text", "The goal")
    by = patient if edit.by_patient else actor
    draft.goals[edit.id] = plans.new_goal(edit.id, patient, text, by, today, edit.due)
    draft.resource["goal"] = [*(draft.resource.get("goal") or ()), {"reference": f"Goal/{edit.id}"}]


def _change_goal(draft: _Draft, edit: ChangeGoal, actor: str, today: date) -> None:
    goal = draft.goal(edit.id)
    _unchanged(edit.was, plans.goal(goal).text, "The goal", "Goal.description.text")
    text = needed(edit.text, "Goal.description.text", "The goal")
    if text != plans.goal(goal).text:
        goal["description"] = {"text": text}
    if edit.due == "keep":
        return
    # The first target is the one that the pages show; what a measure or another system added stays.
    targets: list[JSON] = goal.get("target") or []
    first = {k: v for k, v in (targets[0] if targets else {}).items() if k not in ("dueDate", "dueDuration")}
    if edit.due:
        first["dueDate"] = edit.due.isoformat()
    goal.pop("target", None)
    if kept := [target for target in [first, *targets[1:]] if target]:
        goal["target"] = kept


def _close_goal(draft: _Draft, edit: CloseGoal, actor: str, today: date) -> None:
    goal = draft.goal(edit.id)
    why = typed(edit.why, "Goal.statusReason", "The reason")
    if goal.get("lifecycleStatus") not in OPEN_GOALS:
        raise refuse(409, "conflict", "This goal is closed already.", "Goal.lifecycleStatus")
    if edit.outcome == "not-wanted" and not why:
        raise refuse(422, "required", "Say why the goal is no longer wanted.", "Goal.statusReason")
    if edit.outcome not in ("achieved", "not-achieved", "not-wanted"):
        raise refuse(422, "value", "A goal ends achieved, not-achieved or not-wanted.", "Goal.achievementStatus")
    goal["lifecycleStatus"] = "cancelled" if edit.outcome == "not-wanted" else "completed"
    if edit.outcome != "not-wanted":
        coding = {"system": GOAL_ACHIEVEMENT, "code": edit.outcome}
        goal["achievementStatus"] = {"coding": [coding]}
    _dated(goal, today, why)


def _reopen_goal(draft: _Draft, edit: ReopenGoal, actor: str, today: date) -> None:
    goal = draft.goal(edit.id)
    goal["lifecycleStatus"] = "active"
    goal.pop("achievementStatus", None)
    _dated(goal, today, "")


def _dated(goal: JSON, today: date, why: str) -> None:
    goal["statusDate"] = today.isoformat()
    goal.pop("statusReason", None)
    if why:
        goal["statusReason"] = why


def _add_activity(draft: _Draft, edit: AddActivity, actor: str, today: date) -> None:
    activities: list[JSON] = draft.resource.get("activity") or []
    if any(activity_key(element, position) == edit.id for position, element in enumerate(activities)):
        return
    detail: JSON = {"status": "not-started"}
    _describe(detail, edit)
    draft.resource["activity"] = [*activities, {"id": edit.id, "detail": detail}]


def _change_activity(draft: _Draft, edit: ChangeActivity, actor: str, today: date) -> None:
    detail = draft.activity(edit.key)
    shown = next(a.what for a in draft.plan().activities if a.key == edit.key)
    _unchanged(edit.was, shown, "The action", "CarePlan.activity.detail.description")
    _describe(detail, edit)


def _describe(detail: JSON, edit: AddActivity | ChangeActivity) -> None:
    """Write an action's words. What the form shows and sends back unchanged keeps its coded form."""
    shown = plans.activity({"detail": detail}, 0)
    what = needed(edit.what, "CarePlan.activity.detail.description", "The action")
    if what != shown.what:
        detail["description"] = what
    if edit.when is not None:
        when = typed(edit.when, "CarePlan.activity.detail.scheduledString", "When")
        if when != (shown.when or ""):
            for key in ("scheduledTiming", "scheduledPeriod", "scheduledString"):
                detail.pop(key, None)
            if when:
                detail["scheduledString"] = when
    if edit.who is not None or edit.who_reference:
        who = typed(edit.who or "", "CarePlan.activity.detail.performer", "Who does it")
        performer = {"reference": edit.who_reference, "display": who}
        if edit.who_reference or who != ", ".join(shown.who):
            detail.pop("performer", None)
            if kept := {key: value for key, value in performer.items() if value}:
                detail["performer"] = [kept]


def _set_activity_status(draft: _Draft, edit: SetActivityStatus, actor: str, today: date) -> None:
    detail = draft.activity(edit.key)
    if edit.status not in ACTIVITY_STATUSES:
        expected = ", ".join(ACTIVITY_STATUSES)
        raise refuse(422, "value", f"The status of an action is one of {expected}.", "CarePlan.activity.detail.status")
    why = typed(edit.why, "CarePlan.activity.detail.statusReason", "The reason")
    if edit.status in ("on-hold", "cancelled", "stopped") and not why:
        raise refuse(422, "required", "Say why the action stops.", "CarePlan.activity.detail.statusReason")
    detail["status"] = edit.status
    detail.pop("statusReason", None)
    if why:
        detail["statusReason"] = {"text": why}


def _record_agreement(draft: _Draft, edit: RecordAgreement, actor: str, today: date) -> None:
    field = local("agreed")
    by = needed(edit.by, field, "Who agreed")
    how = needed(edit.how, field, "How it was agreed")
    if edit.on > today:
        raise refuse(422, "value", f"The agreement is dated {plans.words(edit.on)}, which is yet to come.", field)
    reference = {**({"reference": edit.reference} if edit.reference else {}), "display": by}
    parts = [
        {"url": "by", "valueReference": reference},
        {"url": "on", "valueDate": edit.on.isoformat()},
        {"url": "how", "valueString": how},
        {"url": "fingerprint", "valueString": fingerprint(draft.plan())},
    ]
    set_extension(draft.resource, "agreed", {"extension": parts})


def _activate(draft: _Draft, edit: Activate, actor: str, today: date) -> None:
    plan = draft.plan()
    if not plans.is_suspended(draft.resource):
        if not any(goal.by_patient and goal.open and goal.text for goal in plan.goals):
            raise refuse(
                422,
                "business-rule",
                "Add a goal in the person's own words before the plan goes active.",
                "CarePlan.goal",
            )
        if plan.agreement is None:
            raise refuse(
                422,
                "business-rule",
                "Record who agreed the plan, when and how, before it goes active.",
                local("agreed"),
            )
        if plan.agreement.current is False:
            raise refuse(
                422,
                "business-rule",
                f"The plan has changed since {plan.agreement.by} agreed it. Agree it again before it goes active.",
                local("agreed"),
            )
    draft.resource["status"] = "active"
    set_extension(draft.resource, "stopped", None)
    period: JSON = draft.resource.get("period") or {}
    draft.resource["period"] = {"start": today.isoformat(), **{k: v for k, v in period.items() if k != "end"}}


def _suspend(draft: _Draft, edit: Suspend, actor: str, today: date) -> None:
    if draft.resource.get("status") != "active":
        raise refuse(409, "conflict", "Only an active plan can be put on hold.", "CarePlan.status")
    why = needed(edit.why, local("stopped"), "The reason")
    draft.resource = plans.stopped(draft.resource, "on-hold", actor, today, why)


def _complete(draft: _Draft, edit: Complete, actor: str, today: date) -> None:
    why = needed(edit.why, local("stopped"), "The reason")
    draft.resource = plans.stopped(draft.resource, "completed", actor, today, why)
    draft.resource["period"] = {**(draft.resource.get("period") or {}), "end": today.isoformat()}


def _unchanged(was: str | None, now: str, what: str, field: str) -> None:
    if was is not None and was.replace("\r\n", "\n").strip() != now.strip():
        raise refuse(409, "conflict", f"{what} was changed while you wrote. It now reads: {now}", field)


_EDITS: Mapping[type, Callable[..., None]] = {
    SetTitle: _set_title,
    SetWhatMatters: _set_what_matters,
    SetIfWorse: _set_if_worse,
    SetNextReview: _set_next_review,
    AddGoal: _add_goal,
    ChangeGoal: _change_goal,
    CloseGoal: _close_goal,
    ReopenGoal: _reopen_goal,
    AddActivity: _add_activity,
    ChangeActivity: _change_activity,
    SetActivityStatus: _set_activity_status,
    RecordAgreement: _record_agreement,
    Activate: _activate,
    Suspend: _suspend,
    Complete: _complete,
}
