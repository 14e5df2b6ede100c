"""What the rules must know of a person: approvals, active plan, team, and whose the plan's references are.

    facts = await load_facts(pg, patient_ids, now, referenced=references(resources), can_import=...)
    facts = overlay(facts, [(before, after), ...], now, can_import=...)

`overlay` lays a batch over what is stored, so that a Consent and the CarePlan that needs it may arrive in one bundle,
and an active plan may be completed in the bundle that brings its successor. `gather` does both.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from care_plans import consent
from care_plans.consent import Approval
from care_plans.plan import is_active_plan, is_persons_plan
from care_plans.shapes import JSON, literals, reference_id

# What a plan refers to that must be the same person's.
OWNED = ("Goal", "CareTeam", "Condition")

Pair = tuple[JSON | None, JSON | None]
"""(before, after) of one change: before is None when created, after is None when deleted. Both carry their id."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one person at *now*. *owners* maps a reference such as `Goal/x` to its person (None: nobody's), and
    lacks what is not stored; *own_words* are ids of goals in the words of whoever they are about."""

    patient_id: str
    now: datetime
    approvals: tuple[Approval, ...] = ()
    active_plans: frozenset[str] = frozenset()
    care_team_id: str | None = None
    can_import: bool = False
    owners: Mapping[str, str | None] = field(default_factory=dict)
    own_words: frozenset[str] = frozenset()

    @property
    def has_approval(self) -> bool:
        return consent.approves(self.approvals, self.now)

    @property
    def active_plan_id(self) -> str | None:
        return min(self.active_plans, default=None)


def person(resource: JSON | None) -> str | None:
    """Id of the Patient that a CarePlan, Goal, CareTeam, Consent or Task is about."""
    if not resource:
        return None
    path = {"Consent": "patient", "Task": "for"}.get(str(resource.get("resourceType")), "subject")
    return reference_id(resource.get(path), "Patient")


def decides(resource: JSON | None) -> bool:
    """Do the rules of this resource turn on what is stored of its person?"""
    if not resource:
        return False
    type = resource.get("resourceType")
    return type == "Consent" or (type == "CarePlan" and is_persons_plan(resource))


def references(resources: Iterable[JSON | None]) -> set[str]:
    """What person's plans among *resources* refer to, of the types in OWNED."""
    found: set[str] = set()
    for resource in resources:
        if resource and resource.get("resourceType") == "CarePlan" and is_persons_plan(resource):
            for key in ("goal", "careTeam", "addresses"):
                found.update(ref for ref in literals(resource.get(key)) if ref.partition("/")[0] in OWNED)
    return found


def expressed(goal: JSON) -> bool:
    """Is the goal the person's own? `expressedBy` is the Patient that it is about."""
    by = reference_id(goal.get("expressedBy"), "Patient")
    return by is not None and by == reference_id(goal.get("subject"), "Patient")


async def gather(
    pg: psycopg.AsyncConnection[Any], pairs: Collection[Pair], now: datetime, *, can_import: bool
) -> dict[str, Facts]:
    """The facts that a batch needs, with the batch laid over them.

    Only whoever has a plan or a decision in it is looked up and locked: tasks, goals, and the supporting plans that
    come by the thousand with an import, ask for nothing stored.
    """
    people = {id for pair in pairs if any(map(decides, pair)) for resource in pair if (id := person(resource))}
    referenced = references(after for _, after in pairs)
    facts = await load_facts(pg, people, now, referenced=referenced, can_import=can_import)
    return overlay(facts, pairs, now, can_import=can_import)


async def load_facts(
    pg: psycopg.AsyncConnection[Any],
    patient_ids: Collection[str],
    now: datetime,
    *,
    referenced: Collection[str] = (),
    can_import: bool = False,
) -> dict[str, Facts]:
    """Facts of many people in three statements (a fourth when *referenced*), for a write in the same transaction.

    The rows of their decisions are locked first. Whoever makes a plan and whoever withdraws the approval for it
    therefore take turns, and so do two who make a plan at once: the second sees what the first did. Before them come
    the active plans, in the order of a plan's own writer (plan, then decision), so that nobody waits in a circle.
    """
    people = sorted(set(patient_ids))
    if not people:
        return {}
    await pg.execute(
        "SELECT FROM r_careplan WHERE id IN (SELECT id FROM plan WHERE patient_id = ANY(%s) AND status = 'active')"
        " ORDER BY id FOR UPDATE",
        [people],
    )
    cursor = await pg.execute(
        "SELECT id, patient_id, given, denied, given_by, given_at, how, valid_from, valid_until FROM approval"
        " WHERE patient_id = ANY(%s) AND (given OR denied) ORDER BY id FOR UPDATE",
        [people],
    )
    approvals: dict[str, list[Approval]] = {}
    for row in await cursor.fetchall():
        approvals.setdefault(row[1], []).append(Approval(*row))
    cursor = await pg.execute(
        "SELECT patient_id, id, NULL FROM plan WHERE patient_id = ANY(%(people)s) AND status = 'active'"
        " UNION ALL SELECT patient_id, NULL, min(care_team_id) FROM team_member"
        " WHERE patient_id = ANY(%(people)s) GROUP BY patient_id",
        {"people": people},
    )
    plans: dict[str, set[str]] = {}
    teams: dict[str, str] = {}
    for patient_id, plan_id, team_id in await cursor.fetchall():
        if plan_id is not None:
            plans.setdefault(patient_id, set()).add(plan_id)
        if team_id is not None:
            teams[patient_id] = team_id
    owners, own_words = await _owners(pg, referenced) if referenced else ({}, frozenset[str]())
    return {
        patient_id: Facts(
            patient_id=patient_id,
            now=now,
            approvals=tuple(approvals.get(patient_id, ())),
            active_plans=frozenset(plans.get(patient_id, ())),
            care_team_id=teams.get(patient_id),
            can_import=can_import,
            owners=owners,
            own_words=own_words,
        )
        for patient_id in people
    }


async def _owners(
    pg: psycopg.AsyncConnection[Any], referenced: Collection[str]
) -> tuple[dict[str, str | None], frozenset[str]]:
    ids = {type: [ref.partition("/")[2] for ref in referenced if ref.startswith(type + "/")] for type in OWNED}
    cursor = await pg.execute(
        "SELECT 'Goal/' || g.id, g.patient_id, v.body::jsonb #>> '{expressedBy,reference}' FROM r_goal g"
        " JOIN resource_version v ON v.type = 'Goal' AND v.id = g.id AND v.version = g.version"
        " WHERE g.id = ANY(%(Goal)s)"
        " UNION ALL SELECT 'CareTeam/' || id, patient_id, NULL FROM r_careteam WHERE id = ANY(%(CareTeam)s)"
        " UNION ALL SELECT 'Condition/' || id, patient_id, NULL FROM r_condition WHERE id = ANY(%(Condition)s)",
        ids,
    )
    owners: dict[str, str | None] = {}
    own_words = set()
    for reference, patient_id, expressed_by in await cursor.fetchall():
        owners[reference] = patient_id
        if patient_id is not None and expressed_by == f"Patient/{patient_id}":
            own_words.add(reference.partition("/")[2])
    return owners, frozenset(own_words)


def overlay(
    facts: Mapping[str, Facts], pairs: Iterable[Pair], now: datetime, *, can_import: bool = False
) -> dict[str, Facts]:
    """*facts* as they will be when all *pairs* are written. People whom *facts* lack are added with what the batch
    says of them, and with *can_import*."""
    pairs = list(pairs)
    approvals = {id: {a.id: a for a in one.approvals} for id, one in facts.items()}
    plans = {id: set(one.active_plans) for id, one in facts.items()}
    teams = {id: one.care_team_id for id, one in facts.items()}
    owners: dict[str, str | None] = {}
    own_words: set[str] = set()
    for one in facts.values():
        owners.update(one.owners)
        own_words.update(one.own_words)
    for before, after in pairs:
        resource = after or before
        if resource is None:
            continue
        type, id = str(resource.get("resourceType")), str(resource.get("id"))
        for each in (before, after):
            if (patient_id := person(each)) and patient_id not in approvals:
                approvals[patient_id], plans[patient_id], teams[patient_id] = {}, set(), None
        match type:
            case "Consent":
                if before and (patient_id := person(before)):
                    approvals[patient_id].pop(id, None)
                if after and (row := consent.row(after, now)) and (row.given or row.denied):
                    approvals[row.patient_id][id] = row
            case "CarePlan":
                if before and (patient_id := person(before)):
                    plans[patient_id].discard(id)
                if after and (patient_id := person(after)) and is_active_plan(after):
                    plans[patient_id].add(id)
            case "Goal":
                own_words.discard(id)
                if after and expressed(after):
                    own_words.add(id)
            case "CareTeam":
                if after and (patient_id := person(after)) and after.get("status") == "active":
                    teams[patient_id] = teams[patient_id] or id
            case _:
                pass
        if type in OWNED:
            owners.pop(f"{type}/{id}", None)
            if after:
                owners[f"{type}/{id}"] = person(after)
    expressed_ones = frozenset(own_words)
    return {
        patient_id: replace(
            facts.get(patient_id) or Facts(patient_id, now, can_import=can_import),
            approvals=tuple(approvals[patient_id].values()),
            active_plans=frozenset(plans[patient_id]),
            care_team_id=teams[patient_id],
            owners=owners,
            own_words=expressed_ones,
        )
        for patient_id in approvals
    }
