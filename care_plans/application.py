"""A PlanDefinition made into a care plan for one person: a draft and a proposal, for people to decide about.

R4: plandefinition-operation-apply.html. The CarePlan contains the RequestGroup with the actions, the requests and the
goals; nothing is stored. Conditions that decide what applies, and values that would be computed, take an engine that
the hub does not have: a plan that has them is refused, since leaving them out would propose what its authors did not
mean.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from care_plans.activities import For, activity
from fhir.outcome import Refusal, refuse

JSON = dict[str, Any]

MOST_ACTIONS = 500
_COPIED = (
    "prefix", "title", "description", "textEquivalent", "priority", "code", "documentation", "timingDateTime",
    "timingAge", "timingPeriod", "timingDuration", "timingRange", "timingTiming", "type", "groupingBehavior",
    "selectionBehavior", "requiredBehavior", "precheckBehavior", "cardinalityBehavior", "relatedAction",
)  # fmt: skip
_REFUSED = ("dynamicValue", "transform", "definitionUri", "subjectCodeableConcept", "subjectReference")


def definitions_of(plan: JSON) -> set[str]:
    """The canonicals and references of the definitions that the actions name, but for those that the plan contains."""
    named = {action["definitionCanonical"] for action in _actions(plan) if "definitionCanonical" in action}
    return {name for name in named if not name.startswith("#")}


def apply(plan: JSON, definitions: Mapping[str, JSON], for_: For) -> JSON:
    """The CarePlan that *plan* proposes *for_* a person; *definitions* are those that `definitions_of` names.

    Refusal 422 naming the element that cannot be applied, 404 a definition that is not there.
    """
    if plan.get("status") == "retired":
        raise refuse(422, "business-rule", "the PlanDefinition is retired", "PlanDefinition.status")
    wanted = plan.get("subjectCodeableConcept")
    if wanted is not None and not any(one.get("code") == "Patient" for one in wanted.get("coding", ())):
        raise _unsupported("PlanDefinition.subjectCodeableConcept", "it is for something else than a Patient")
    if "subjectReference" in plan:
        raise _unsupported("PlanDefinition.subjectReference", "it is for a group that only it knows")
    contained = {f"#{one.get('id')}": one for one in plan.get("contained", ())}
    group = _Group(contained | dict(definitions), for_)
    actions = [group.action(one, f"PlanDefinition.action[{place}]") for place, one in enumerate(plan.get("action", ()))]
    goals = [_goal(one, place, for_) for place, one in enumerate(plan.get("goal", ()), 1)]
    if not actions and not goals:
        raise _unsupported("PlanDefinition.action", "it has neither actions nor goals")
    found = _care_plan(plan, for_)
    if goals:
        found["goal"] = [{"reference": f"#{one['id']}"} for one in goals]
    if actions:
        found["activity"] = [{"reference": {"reference": "#actions"}}]
        found["contained"] = [_request_group(plan, actions, group.notes, for_), *group.made, *goals]
    else:
        found["contained"] = goals
    return found


class _Group:
    """The actions of a RequestGroup, and the requests that they made on the way."""

    def __init__(self, definitions: Mapping[str, JSON], for_: For) -> None:
        self._definitions = definitions
        self._for = for_
        self.made: list[JSON] = []
        self.notes: list[str] = []

    def action(self, action: JSON, where: str) -> JSON:
        for name in _REFUSED:
            if name in action:
                raise _unsupported(f"{where}.{name}", "values and subjects that are computed are not supported")
        made = {name: action[name] for name in ("id", *_COPIED) if name in action}
        conditions = [
            self._condition(one, f"{where}.condition[{at}]") for at, one in enumerate(action.get("condition", ()))
        ]
        if conditions:
            made["condition"] = conditions
        if people := self._people(action, where):
            made["participant"] = people
        below = [self.action(one, f"{where}.action[{at}]") for at, one in enumerate(action.get("action", ()))]
        canonical = action.get("definitionCanonical")
        # rqg-1: an action has a resource or actions below it, never both; the request then is the first of these.
        resource = {"resource": {"reference": f"#{self._request(canonical, where)}"}} if canonical else {}
        if below:
            first = [{"title": action.get("title", "Request"), **resource}] if resource else []
            made["action"] = [*first, *below]
            return made
        return made | resource

    def _condition(self, condition: JSON, where: str) -> JSON:
        if condition.get("kind") == "applicability":
            raise _unsupported(where, "conditions that decide what applies are not evaluated")
        return condition  # start and stop are for whoever carries it out

    def _people(self, action: JSON, where: str) -> list[JSON]:
        found = []
        for one in action.get("participant", ()):
            known = {"patient": self._for.subject, "practitioner": self._for.practitioner}.get(one["type"])
            if known:
                found.append({"reference": known})
            else:
                role = one.get("role", {}).get("text") or one["type"]
                self.notes.append(f"{action.get('title') or where}: {role} takes part")
        return found

    def _request(self, name: str, where: str) -> str:
        definition = self._definitions.get(name)
        if definition is None:
            said = f"{where}: {name[:200]} is not stored here, or not for you"
            raise refuse(404, "not-found", said, f"{where}.definitionCanonical")
        if len(self.made) >= MOST_ACTIONS:
            raise refuse(422, "too-costly", f"it has more than {MOST_ACTIONS} actions", "PlanDefinition.action")
        match definition["resourceType"]:
            case "ActivityDefinition":
                request = activity(definition, self._for, name)
            case "Questionnaire":
                request = self._question(definition, name)
            case _:
                said = f"{name[:200]} is a {definition['resourceType']}"
                raise _unsupported(f"{where}.definitionCanonical", said)
        request = {"resourceType": request["resourceType"], "id": f"request-{len(self.made) + 1}", **request}
        self.made.append(request)
        return str(request["id"])

    def _question(self, questionnaire: JSON, name: str) -> JSON:
        """A task to answer it."""
        return {
            "resourceType": "Task",
            "status": "draft",
            "intent": "proposal",
            "description": f"Answer the questionnaire {questionnaire.get('title') or name}",
            "for": {"reference": self._for.subject},
            "authoredOn": self._for.authored,
            "input": [{"type": {"text": "questionnaire"}, "valueCanonical": questionnaire.get("url") or name}],
        }


def _actions(holder: JSON) -> Iterator[JSON]:
    for action in holder.get("action", ()):
        yield action
        yield from _actions(action)


def _care_plan(plan: JSON, for_: For) -> JSON:
    found: JSON = {
        "resourceType": "CarePlan",
        "status": "draft",
        "intent": "proposal",
        "subject": {"reference": for_.subject},
        "created": for_.authored,
        **_named(plan),
    }
    for name in ("title", "description"):
        if plan.get(name):
            found[name] = plan[name]
    if for_.encounter:
        found["encounter"] = {"reference": for_.encounter}
    author = for_.practitioner or for_.organization
    return found | ({"author": {"reference": author}} if author else {})


def _request_group(plan: JSON, actions: list[JSON], notes: list[str], for_: For) -> JSON:
    found: JSON = {
        "resourceType": "RequestGroup",
        "id": "actions",
        "status": "draft",
        "intent": "proposal",
        "subject": {"reference": for_.subject},
        "authoredOn": for_.authored,
        **_named(plan),
        "action": actions,
    }
    if for_.practitioner:
        found["author"] = {"reference": for_.practitioner}
    return found | ({"note": [{"text": text} for text in notes]} if notes else {})


def _named(plan: JSON) -> JSON:
    """Which definition it follows, when that has a name outside this hub or in it."""
    if "url" in plan:
        url = plan["url"]
        return {"instantiatesCanonical": [f"{url}|{plan['version']}" if plan.get("version") else url]}
    return {"instantiatesUri": [f"PlanDefinition/{plan['id']}"]} if "id" in plan else {}


def _goal(goal: JSON, number: int, for_: For) -> JSON:
    made: JSON = {
        "resourceType": "Goal",
        "id": f"goal-{number}",
        "lifecycleStatus": "proposed",
        "description": goal["description"],
        "subject": {"reference": for_.subject},
    }
    if "category" in goal:
        made["category"] = [goal["category"]]
    for name, target in (("priority", "priority"), ("start", "startCodeableConcept")):
        if name in goal:
            made[target] = goal[name]
    if "target" in goal:
        made["target"] = [_target(one, goal["description"]) for one in goal["target"]]
    addressed = [one.get("text") or _display(one) for one in goal.get("addresses", ())]
    return made | ({"note": [{"text": f"For {text}"} for text in addressed if text]} if any(addressed) else {})


def _target(target: JSON, goal: JSON) -> JSON:
    made = {{"due": "dueDuration"}.get(name, name): value for name, value in target.items()}
    # gol-1: what has a detail has a measure.
    return (
        made if "measure" in made or not any(name.startswith("detail") for name in made) else {"measure": goal, **made}
    )


def _display(concept: JSON) -> str | None:
    return next((one.get("display") or one.get("code") for one in concept.get("coding", ())), None)


def _unsupported(where: str, why: str) -> Refusal:
    return refuse(422, "not-supported", f"{where} cannot be applied: {why}", where)
