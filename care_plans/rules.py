"""The rules of plans, approvals, goals, teams and tasks. The hub calls them on every path that writes.

A rule is `rule(before, after, facts)`; it raises a Refusal or returns nothing. *before* is None for a new resource,
*after* is None for a deletion, and *facts* are those of the person, with the whole batch laid over them.

Which plans must be agreed. Approval is demanded of every plan. A plan *goes active here* when an update takes it from
draft to active, on a page or by the API: it then needs a goal in the person's own words and a recorded agreement
(SYM-04). A plan that *arrives* active was agreed elsewhere, in a form that the hub cannot judge; it is taken, and
`care_plans.quality` names what it lacks.
"""

from collections.abc import Callable, Mapping
from datetime import date

from care_plans.consent import approval_required
from care_plans.facts import Facts, Pair, person
from care_plans.plan import goal_ids, is_active_plan, is_persons_plan, is_suspended, stopped
from care_plans.shapes import EXTENSION, JSON, extension, literals
from fhir.outcome import refuse

Rule = Callable[[JSON | None, JSON | None, Facts], None]

STOPS = frozenset({"on-hold", "revoked", "completed"})


def subject_stays(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """A record never moves to another person (hazard: wrong patient). A Task may get its person later."""
    if before is None or after is None:
        return
    was, now = person(before), person(after)
    if was == now or (was is None and after["resourceType"] == "Task"):
        return
    path = {"Consent": "patient", "Task": "for"}.get(after["resourceType"], "subject")
    raise refuse(
        422,
        "business-rule",
        f"This {after['resourceType']} is about Patient/{was} and cannot be moved to another person. If it was written "
        "for the wrong person, set it to entered-in-error and make a new one.",
        f"{after['resourceType']}.{path}",
    )


def subject_is_a_patient(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """A person's plan is about one Patient, named by a literal reference."""
    if after is not None and is_persons_plan(after) and person(after) is None:
        raise refuse(
            422, "business-rule", "A person's plan needs a subject such as 'Patient/123'.", "CarePlan.subject.reference"
        )


def supporting_plans_are_imported(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """Supporting plans are another system's records, and the person's plan never turns into one."""
    supporting = [plan for plan in (before, after) if plan is not None and not is_persons_plan(plan)]
    if not supporting:
        return
    if before is not None and after is not None and is_persons_plan(before):
        raise refuse(
            422,
            "business-rule",
            "A person's plan cannot become a supporting plan: keep intent 'plan' or the care-plan category.",
            "CarePlan.intent",
        )
    if not facts.can_import:
        raise refuse(
            403,
            "forbidden",
            "Plans with another intent than 'plan' and a category other than care plan are records of another system; "
            "only an importer may write them.",
            "CarePlan.intent",
        )


def approval_comes_first(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """No plan without approval, in any status but entered-in-error. Without it, a plan can only be stopped as it is."""
    if after is None or not is_persons_plan(after):
        return
    refusal = approval_required(facts.has_approval, after.get("status"))
    if refusal and not (before is not None and only_stops(before, after)):
        raise refusal


def only_stops(before: JSON, after: JSON) -> bool:
    """Does *after* stop the plan and change nothing else?"""
    return after.get("status") in STOPS and _content(before) == _content(after)


def _content(plan: JSON) -> JSON:
    kept = {key: value for key, value in plan.items() if key not in ("status", "meta", "text", "period", "extension")}
    own = (EXTENSION + "stopped", EXTENSION + "last-edited")
    extensions = [ext for ext in plan.get("extension") or () if ext.get("url") not in own]
    return {**kept, "extension": extensions}


def one_active_plan(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """Exactly one plan of a person is active. The refusal names the other one."""
    if after is None or not is_active_plan(after):
        return
    others = sorted(facts.active_plans - {str(after.get("id"))})
    if others:
        raise refuse(
            409,
            "conflict",
            f"This person has an active plan already: CarePlan/{others[0]}. Change that plan, or complete it first.",
            "CarePlan.status",
        )


def agreed_before_active(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """A plan that goes active here has a goal in the person's words and a recorded agreement (SYM-04).

    A suspended plan (it was active before) may go on without a new agreement.
    """
    if before is None or after is None or not is_active_plan(after):
        return
    if before.get("status") == "active" or is_suspended(before):
        return
    if not facts.own_words.intersection(goal_ids(after)):
        raise refuse(
            422,
            "business-rule",
            "The plan has no goal in the person's own words. Add one (a Goal whose expressedBy is the patient) before "
            "the plan goes active.",
            "CarePlan.goal",
        )
    if extension(after, "agreed") is None:
        raise refuse(
            422,
            "business-rule",
            "Nobody has agreed this plan. Record who agreed it, when and how before it goes active.",
            f"CarePlan.extension.where(url='{EXTENSION}agreed')",
        )


def references_are_own(before: JSON | None, after: JSON | None, facts: Facts) -> None:
    """Goals, team and conditions of a plan are the same person's (hazard: wrong patient). Unknown ones are let be."""
    if after is None:
        return
    for key in ("goal", "careTeam", "addresses"):
        for position, referenced in enumerate(after.get(key) or ()):
            reference = next(iter(literals([referenced])), "")
            if reference in facts.owners and facts.owners[reference] != person(after):
                raise refuse(
                    422,
                    "business-rule",
                    f"{reference} belongs to another person than this plan.",
                    f"CarePlan.{key}[{position}]",
                )


RULES_BY_TYPE: Mapping[str, tuple[Rule, ...]] = {
    "CarePlan": (
        subject_is_a_patient,
        subject_stays,
        supporting_plans_are_imported,
        references_are_own,
        approval_comes_first,
        one_active_plan,
        agreed_before_active,
    ),
    "Consent": (subject_stays,),
    "CareTeam": (subject_stays,),
    "Goal": (subject_stays,),
    "Task": (subject_stays,),
}


def check(pair: Pair, facts: Mapping[str, Facts], unknown: Facts) -> None:
    """Hold every rule of the type against one change. *unknown* are the facts when it is about nobody."""
    before, after = pair
    resource = after or before
    if resource is None:
        return
    about = person(after) or person(before)
    known = facts.get(about, unknown) if about else unknown
    for rule in RULES_BY_TYPE.get(str(resource.get("resourceType")), ()):
        rule(before, after, known)


def suspensions(facts: Mapping[str, Facts]) -> list[str]:
    """Ids of the active plans that nobody approves any more: the hub puts each on hold in the same transaction."""
    return sorted(id for one in facts.values() if not one.has_approval for id in one.active_plans)


def suspended(plan: JSON, by: str, on: date) -> JSON:
    """The plan on hold because the approval was withdrawn or has ended."""
    return stopped(plan, "on-hold", by, on, "The person's approval was withdrawn or has ended.")
