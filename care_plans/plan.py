"""The person's plan as people speak of it, read from a FHIR CarePlan and its Goals."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from care_plans.shapes import (
    EXTENSION,
    JSON,
    SNOMED,
    codings,
    concept_text,
    extension,
    extension_value,
    nested,
    reference_id,
    set_extension,
)

# Standards: Interweave for the category, NRLF for the document type (PRSB PCSP v2.0, DAPB4022).
CARE_PLAN = (SNOMED, "734163000")
PERSONALISED_PLAN = (SNOMED, "2181441000000107")
CARE_PLAN_CODES = frozenset({CARE_PLAN, PERSONALISED_PLAN})

OPEN_GOALS = frozenset({"proposed", "planned", "accepted", "active", "on-hold"})


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal. *by_patient* says that the words are the person's own (`expressedBy` their Patient)."""

    id: str
    text: str
    by_patient: bool
    status: str
    achievement: str | None
    due: date | None
    why: str | None

    @property
    def open(self) -> bool:
        return self.status in OPEN_GOALS


@dataclass(frozen=True, slots=True)
class Activity:
    """One action: *key* names it for edits, *who* are names or references as shown, *when* is free text or a period."""

    key: str
    what: str
    who: tuple[str, ...]
    performers: tuple[str, ...]
    when: str | None
    status: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Who agreed the plan, when and how. *current*: is it the plan of now that was agreed? None: not recorded."""

    by: str
    reference: str | None
    on: date | None
    how: str | None
    current: bool | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A CarePlan resource with the Goal resources that it refers to, in its order. Never changed in place."""

    resource: JSON
    goal_resources: tuple[JSON, ...] = ()

    @property
    def id(self) -> str:
        return str(self.resource.get("id", ""))

    @property
    def patient_id(self) -> str | None:
        return reference_id(self.resource.get("subject"), "Patient")

    @property
    def status(self) -> str:
        return str(self.resource.get("status", "unknown"))

    @property
    def title(self) -> str:
        return title(self.resource)

    @property
    def what_matters(self) -> str | None:
        found = extension_value(self.resource, "what-matters", "valueString")
        return found or None

    @property
    def if_worse(self) -> str | None:
        found = extension_value(self.resource, "if-worse", "valueString")
        return found or None

    @property
    def next_review(self) -> date | None:
        return day(extension_value(self.resource, "next-review", "valueDate"))

    @property
    def goals(self) -> tuple[Goal, ...]:
        return tuple(goal(resource) for resource in self.goal_resources)

    @property
    def activities(self) -> tuple[Activity, ...]:
        found = self.resource.get("activity") or ()
        return tuple(activity(element, position) for position, element in enumerate(found))

    @property
    def agreement(self) -> Agreement | None:
        found = extension(self.resource, "agreed")
        if found is None:
            return None
        by = nested(found, "by")
        reference = by.get("valueReference") or {}
        mark = nested(found, "fingerprint").get("valueString")
        on = nested(found, "on")
        return Agreement(
            by=reference.get("display") or by.get("valueString") or reference.get("reference") or "not recorded",
            reference=reference.get("reference"),
            on=day(on.get("valueDate") or on.get("valueDateTime")),
            how=nested(found, "how").get("valueString"),
            current=None if mark is None else mark == fingerprint(self),
        )

    @property
    def stopped_why(self) -> str | None:
        found = nested(extension(self.resource, "stopped"), "why").get("valueString")
        return found or None


def is_persons_plan(resource: JSON) -> bool:
    """Is this CarePlan the person's plan? Every CarePlan is, but a *supporting plan*: one whose intent is not `plan`
    and whose category is given and is none of the care-plan ones."""
    if resource.get("intent") == "plan" or not resource.get("category"):
        return True
    return any(coding in CARE_PLAN_CODES for coding in codings(resource["category"]))


def is_active_plan(resource: JSON) -> bool:
    return resource.get("status") == "active" and is_persons_plan(resource)


def title(resource: JSON) -> str:
    words = (concept_text(concept) for concept in resource.get("category") or ())
    return resource.get("title") or resource.get("description") or next((w for w in words if w), None) or "Care plan"


def goal(resource: JSON) -> Goal:
    """A Goal resource in words; a goal without words keeps an empty text, which the pages show as such."""
    by = reference_id(resource.get("expressedBy"), "Patient")
    targets = (target.get("dueDate") for target in resource.get("target") or ())
    achieved = [code for _, code in codings(resource.get("achievementStatus"))]
    return Goal(
        id=str(resource.get("id", "")),
        text=concept_text(resource.get("description")) or "",
        by_patient=by is not None and by == reference_id(resource.get("subject"), "Patient"),
        status=str(resource.get("lifecycleStatus", "active")),
        achievement=achieved[0] if achieved else None,
        due=next((day(due) for due in targets if due), None),
        why=resource.get("statusReason"),
    )


def activity(element: JSON, position: int) -> Activity:
    detail: JSON = element.get("detail") or {}
    performers = detail.get("performer") or []
    names = (performer.get("display") or performer.get("reference") for performer in performers)
    reference: JSON = element.get("reference") or {}
    reason: JSON = detail.get("statusReason") or {}
    return Activity(
        key=activity_key(element, position),
        what=detail.get("description") or concept_text(detail.get("code")) or reference.get("display") or "",
        who=tuple(name for name in names if name),
        performers=tuple(performer["reference"] for performer in performers if performer.get("reference")),
        when=timing(detail),
        status=str(detail.get("status", "unknown")),
        why=concept_text(reason),
    )


def activity_key(element: JSON, position: int) -> str:
    """What names an activity: its element id, else what it refers to, else its place (counted from 1)."""
    return str(element.get("id") or (element.get("reference") or {}).get("reference") or f"no-{position + 1}")


def timing(detail: JSON) -> str | None:
    """When, in words: the scheduled string, the period's days, or the text of the timing's code."""
    if detail.get("scheduledString"):
        return str(detail["scheduledString"])
    period: JSON = detail.get("scheduledPeriod") or {}
    start, end = day(period.get("start")), day(period.get("end"))
    if start and end:
        return f"{words(start)} to {words(end)}"
    if start:
        return f"from {words(start)}"
    if end:
        return f"until {words(end)}"
    return concept_text((detail.get("scheduledTiming") or {}).get("code"))


def day(text: object) -> date | None:
    """The day of a FHIR date or dateTime; None when it is absent or only a year or month."""
    try:
        return date.fromisoformat(text[:10]) if isinstance(text, str) else None
    except ValueError:
        return None


def words(on: date) -> str:
    """`3 Dec 2026`."""
    return f"{on.day} {on:%b %Y}"


def fingerprint(plan: Plan) -> str:
    """A short digest of what people agree to: what matters, goals, actions with who and when, and if worse.

    Progress (statuses) and the date of review are left out: an action done as agreed needs no new agreement.
    """
    agreed = [
        plan.what_matters,
        plan.if_worse,
        [[goal.id, goal.text] for goal in plan.goals if goal.status != "entered-in-error"],
        [[activity.what, activity.who, activity.when] for activity in plan.activities],
    ]
    return hashlib.blake2b(json.dumps(agreed).encode(), digest_size=12).hexdigest()


def new_goal(goal_id: str, patient: str, text: str, expressed_by: str, today: date, due: date | None = None) -> JSON:
    """A Goal. *patient* and *expressed_by* are references; *text* stays word for word."""
    resource: JSON = {
        "resourceType": "Goal",
        "id": goal_id,
        "lifecycleStatus": "active",
        "description": {"text": text},
        "subject": {"reference": patient},
        "startDate": today.isoformat(),
        "expressedBy": {"reference": expressed_by},
    }
    if due:
        resource["target"] = [{"dueDate": due.isoformat()}]
    return resource


def new_plan(
    plan_id: str,
    patient: str,
    author: str,
    today: date,
    *,
    title: str = "My care plan",
    patient_name: str | None = None,
    author_name: str | None = None,
    care_team: str | None = None,
    addresses: Sequence[str] = (),
) -> Plan:
    """A draft plan with nothing in it yet; `care_plans.edits.apply` fills it.

    *patient* (`Patient/x`), *author*, *care_team* and *addresses* are references; ids are the caller's.
    """
    subject = {"reference": patient} | ({"display": patient_name} if patient_name else {})
    resource: JSON = {
        "resourceType": "CarePlan",
        "id": plan_id,
        "status": "draft",
        "intent": "plan",
        "category": [{"coding": [{"system": CARE_PLAN[0], "code": CARE_PLAN[1], "display": "Care plan"}]}],
        "title": title,
        "subject": subject,
        "created": today.isoformat(),
        "author": {"reference": author} | ({"display": author_name} if author_name else {}),
        "contributor": [{"reference": patient}],
    }
    if care_team:
        resource["careTeam"] = [{"reference": care_team}]
    if addresses:
        resource["addresses"] = [{"reference": reference} for reference in addresses]
    return Plan(resource)


def stopped(resource: JSON, status: str, by: str, on: date, why: str) -> JSON:
    """The CarePlan in a status that stops it (on-hold, revoked, completed), with who, when and why beside it.

    `EXT/stopped` {by, on, why} keeps them. See `is_suspended`.
    """
    plan = {**resource, "status": status}
    parts = [
        {"url": "by", "valueReference": {"reference": by}},
        {"url": "on", "valueDate": on.isoformat()},
        {"url": "why", "valueString": why},
    ]
    set_extension(plan, "stopped", {"extension": parts})
    return plan


def is_suspended(resource: JSON) -> bool:
    """Was this plan active, and put on hold by the hub? Then it may go on without a new agreement."""
    return resource.get("status") == "on-hold" and extension(resource, "stopped") is not None


def goal_ids(resource: JSON) -> tuple[str, ...]:
    """Ids of the Goals that a CarePlan refers to, in its order; contained and foreign ones are left out."""
    found = (reference_id(reference, "Goal") for reference in resource.get("goal") or ())
    return tuple(dict.fromkeys(id for id in found if id))


def with_goals(resource: JSON, goals: Iterable[JSON]) -> Plan:
    """The plan with those of *goals* that it refers to, in the plan's order."""
    by_id = {str(goal.get("id")): goal for goal in goals}
    return Plan(resource, tuple(by_id[id] for id in goal_ids(resource) if id in by_id))


def written(before: Plan | None, after: Plan) -> list[JSON]:
    """The resources to store for going from *before* to *after*, the CarePlan first.

    The CarePlan is among them whenever any goal changed: its version is what a stale edit is recognised by.
    """
    old = {str(goal.get("id")): goal for goal in before.goal_resources} if before else {}
    changed = [goal for goal in after.goal_resources if old.get(str(goal.get("id"))) != goal]
    if before and before.resource == after.resource and not changed:
        return []
    return [after.resource, *changed]


def local(name: str) -> str:
    """The FHIRPath of one of the plan's local extensions, for refusals."""
    return f"CarePlan.extension.where(url='{EXTENSION}{name}')"
