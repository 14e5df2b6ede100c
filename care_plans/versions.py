"""The life of a plan: every version with its author, and what it changed, from the append-only record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from care_plans.difference import PlanChange, difference
from care_plans.plan import Plan, goal_ids, with_goals
from care_plans.shapes import JSON


@dataclass(frozen=True, slots=True)
class Recorded:
    """One stored version of a CarePlan or Goal, as `resource_version` keeps it; *resource* None when deleted."""

    type: str
    id: str
    version: int
    seq: int
    updated: datetime
    author: str
    resource: JSON | None


@dataclass(frozen=True, slots=True)
class Version:
    """The plan after one act. *version* is the CarePlan's (the same again when only a Goal changed, through the API);
    *author* is a reference; *changes* are against the version before."""

    version: int
    updated: datetime
    author: str
    plan: Plan
    changes: tuple[PlanChange, ...]


def life(recorded: Iterable[Recorded]) -> list[Version]:
    """The versions of one plan, oldest first, from all versions of the CarePlan and of every Goal it ever had.

    What one act wrote has one `updated` and one author; a Goal written in the act of a plan's version belongs to that
    version, wherever it stands in the order. Acts that change nothing of the plan are left out.
    """
    found: list[Version] = []
    plan_resource: JSON | None = None
    plan_version = 0
    goals: dict[str, JSON] = {}
    before: Plan | None = None
    for act in _acts(recorded):
        for one in act:
            if one.type == "CarePlan":
                plan_resource, plan_version = one.resource, one.version
            elif one.resource is None:
                goals.pop(one.id, None)
            else:
                goals[one.id] = one.resource
        if plan_resource is None:
            continue
        after = with_goals(plan_resource, goals.values())
        changes = difference(before, after)
        last = act[-1]
        if changes or any(one.type == "CarePlan" for one in act):
            found.append(Version(plan_version, last.updated, last.author, after, tuple(changes)))
        before = after
    return found


def _acts(recorded: Iterable[Recorded]) -> Iterable[list[Recorded]]:
    """The versions grouped by act: neighbours in the order of writing with one time and one author.

    One act writes a resource once, so a second version of one begins the next act, however fast it came.
    """
    act: list[Recorded] = []
    for one in sorted(recorded, key=lambda one: one.seq):
        again = any((other.type, other.id) == (one.type, one.id) for other in act)
        if act and (again or (act[-1].updated, act[-1].author) != (one.updated, one.author)):
            yield act
            act = []
        act.append(one)
    if act:
        yield act


def at(versions: Iterable[Version], version: int) -> Plan | None:
    """The plan as it stood when *version* of the CarePlan was the newest and had just been written."""
    return next((one.plan for one in versions if one.version == version), None)


def since(versions: list[Version], seen: int | None) -> list[PlanChange]:
    """The changes since a reader saw version *seen*; none when it is the newest, all when they never looked."""
    if not versions:
        return []
    before = at(reversed(versions), seen) if seen is not None else None
    return difference(before, versions[-1].plan)


def goals_of(plans: Iterable[JSON | None]) -> list[str]:
    """Ids of every Goal that any of these versions of a CarePlan refers to."""
    found: Mapping[str, None] = dict.fromkeys(id for plan in plans if plan for id in goal_ids(plan))
    return list(found)
