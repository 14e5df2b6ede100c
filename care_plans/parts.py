"""A plan taken apart into named parts that change on their own, and put together again.

Names: a field of the CarePlan (`title`, `status`, `period`), a local extension (`what-matters`, `if-worse`,
`next-review`, `agreed`, `stopped`, `last-edited`), `extension/<url>` for any other, `goal/<id>` and `activity/<key>`.
Nothing is left out but ids and meta, so that what is compared and merged by parts is the whole plan.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from care_plans.plan import Plan, activity, activity_key, goal, timing, words
from care_plans.shapes import EXTENSION, JSON, reference_id

KEPT: Final = ("resourceType", "id", "meta")
"""What identifies a resource: never part of a comparison."""

LABELS: Mapping[str, str] = {
    "title": "Title",
    "what-matters": "What matters to me",
    "if-worse": "If I get worse",
    "next-review": "Next review",
    "agreed": "Agreement",
    "status": "Status",
    "stopped": "Why it was stopped",
    "careTeam": "Care team",
    "addresses": "Conditions",
    "period": "Dates",
    "author": "Author",
    "contributor": "Contributors",
    "category": "Kind of plan",
    "supportingInfo": "Supporting information",
    "note": "Notes",
    "description": "Description",
}

EXTENSIONS = frozenset({"what-matters", "if-worse", "next-review", "agreed", "stopped", "last-edited"})
"""Our own extensions that are parts of the plan in their own right."""

UNTOLD = frozenset({"last-edited", "text"})
"""Parts that only follow the others: when it was edited, and the narrative that is made from the rest."""

TEXTS = frozenset({"title", "what-matters", "if-worse"})
"""Parts of free text, besides goals and actions: two versions of one can be kept side by side."""

STATUS_WORDS: Mapping[str, str] = {
    "draft": "a draft",
    "active": "active",
    "on-hold": "on hold",
    "revoked": "withdrawn",
    "completed": "completed",
    "entered-in-error": "marked as a mistake",
    "unknown": "of unknown status",
}

ACTIVITY_WORDS: Mapping[str, str] = {
    "not-started": "not started",
    "scheduled": "planned",
    "in-progress": "under way",
    "on-hold": "on hold",
    "completed": "done",
    "cancelled": "cancelled",
    "stopped": "stopped",
    "unknown": "not known",
    "entered-in-error": "written by mistake",
}

GOAL_WORDS: Mapping[str, str] = {
    "proposed": "suggested",
    "planned": "planned",
    "accepted": "agreed",
    "active": "working on it",
    "on-hold": "on hold",
    "completed": "finished",
    "cancelled": "no longer wanted",
    "rejected": "not wanted",
    "entered-in-error": "written by mistake",
}


def split(plan: Plan) -> dict[str, Any]:
    """The parts of a plan by name, in its order. `join(split(plan), plan)` is the plan again."""
    found: dict[str, Any] = {}
    goals = {str(resource.get("id")): resource for resource in plan.goal_resources}
    for field, value in plan.resource.items():
        if field == "extension":
            for extension in value:
                found.setdefault(extension_name(extension), []).append(extension)
        elif field == "goal":
            for position, reference in enumerate(value):
                id = reference_id(reference, "Goal")
                key = f"goal/{id or reference.get('reference') or f'no-{position + 1}'}"
                resource = goals.get(id or "")
                without_meta = {k: v for k, v in resource.items() if k != "meta"} if resource else None
                found.setdefault(key, {"reference": reference, "goal": without_meta})
        elif field == "activity":
            for position, element in enumerate(value):
                key = f"activity/{activity_key(element, position)}"
                # Two actions may refer to one request: neither may vanish behind the other.
                while key in found:
                    key += "+"
                found[key] = element
        elif field not in KEPT:
            found[field] = value
    return found


def join(parts: Mapping[str, Any], like: Plan) -> Plan:
    """The plan made of *parts*, with the identity and meta of *like* and, where it had them, its order of fields."""
    resource: JSON = {key: like.resource[key] for key in KEPT if key in like.resource}
    metas = {str(goal.get("id")): goal["meta"] for goal in like.goal_resources if "meta" in goal}
    goals: list[JSON] = []
    for name, value in parts.items():
        if name.startswith("goal/"):
            resource.setdefault("goal", []).append(value["reference"])
            if value["goal"] is not None:
                meta = metas.get(str(value["goal"].get("id")))
                goals.append({**value["goal"], **({"meta": meta} if meta else {})})
        elif name.startswith("activity/"):
            resource.setdefault("activity", []).append(value)
        elif is_extension(name):
            resource.setdefault("extension", []).extend(value)
        else:
            resource[name] = value
    ordered = {key: resource[key] for key in like.resource if key in resource}
    return Plan({**ordered, **resource}, tuple(goals))


def is_extension(name: str) -> bool:
    return name in EXTENSIONS or name.startswith("extension/")


def extension_name(extension: JSON) -> str:
    url = str(extension.get("url"))
    name = url.removeprefix(EXTENSION)
    return name if name in EXTENSIONS and url != name else f"extension/{url}"


def label(name: str) -> str:
    if name.startswith("goal/"):
        return "Goal"
    if name.startswith("activity/"):
        return "Action"
    if is_extension(name):
        return LABELS.get(name, "Other details")
    return LABELS.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().capitalize()


def as_text(name: str, value: Any) -> str | None:
    """A part as people read it; None when it is absent."""
    if value is None:
        return None
    if name.startswith("goal/"):
        return goal_text(value["goal"]) if value["goal"] else value["reference"].get("display") or name
    if name.startswith("activity/"):
        return activity_text(value)
    alone = Plan({"extension": value} if is_extension(name) else {name: value})
    match name:
        case "what-matters":
            return alone.what_matters
        case "if-worse":
            return alone.if_worse
        case "next-review":
            return words(alone.next_review) if alone.next_review else None
        case "agreed":
            agreed = alone.agreement
            return (
                " ".join(_agreement(agreed.by, words(agreed.on) if agreed.on else None, agreed.how)) if agreed else None
            )
        case "period":
            return timing({"scheduledPeriod": value})
        case "stopped":
            return alone.stopped_why
        case "status":
            return STATUS_WORDS.get(value, str(value))
        case _:
            return _plain(value)


def _agreement(by: str, on: str | None, how: str | None) -> Iterable[str]:
    yield by
    if on:
        yield f"on {on}"
    if how:
        yield f"({how})"


def _plain(value: Any) -> str:
    """Some other field: its words, without codes and addresses."""
    if isinstance(value, dict):
        named = value.get("display") or value.get("text") or value.get("reference")
        return str(named) if named else ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(inner) for inner in value)
    return str(value)


def goal_text(resource: JSON) -> str:
    found = goal(resource)
    details = []
    if not found.open:
        details.append(
            found.achievement.replace("-", " ") if found.achievement else GOAL_WORDS.get(found.status, found.status)
        )
    if found.due:
        details.append(f"by {words(found.due)}")
    return found.text + (f" ({', '.join(details)})" if details else "")


def activity_text(element: JSON) -> str:
    found = activity(element, 0)
    details = [*found.who, *([found.when] if found.when else []), ACTIVITY_WORDS.get(found.status, found.status)]
    return f"{found.what} ({', '.join(details)})"
