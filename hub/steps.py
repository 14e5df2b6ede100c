"""Steps carried out: one request, or the entries of a bundle, through the same flows, searches and audit."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from fhir import search, store
from fhir.bundle import Plan
from fhir.matching import claim, met
from fhir.outcome import Issue, Refusal, refuse
from fhir.steps import LOOKS, Condition, Step
from fhir.store import Change, Overtaken, Stored, Written
from hub import audit, flows, intake, watch
from hub.access import may_write, visible
from hub.db import Tx
from hub.fhir_http import localise
from hub.fhir_reads import history_read, looked, searched
from hub.identity import Actor
from monitoring.doubts import Doubt

JSON = dict[str, Any]
Result = TypeVar("Result")
Found = Mapping[Condition, Stored | None]

ATTEMPTS = 5
"""How often a request begins, when each time somebody else writes the same before it does."""

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes that the reads and searches of one bundle may answer together."""


@dataclass(frozen=True, slots=True)
class Service:
    """What answers need to know of the service: its address (ends in `/fhir`), what signs cursors, its largest page."""

    base_url: str
    secret: bytes
    max_page: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one step is answered. `version` 0 has no ETag; `body` is JSON text or an encodable value."""

    status: int
    type: str = ""
    id: str | None = None
    version: int = 0
    updated: datetime | None = None
    body: Any = None
    refusal: Refusal | None = None
    looked: bool = False
    doubts: Sequence[Doubt] = ()


Answers = dict[int | None, Answer]


async def settled(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """What *attempt* gives, in a transaction (or savepoint) of its own each time: again when somebody else wrote the
    same at the same moment, because its conditions are then judged by what is there. Raises Overtaken in the end."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except (Overtaken, psycopg.errors.DeadlockDetected):
            continue
    return await attempt()


async def carry_out(tx: Tx, actor: Actor, plan: Plan, service: Service, seen: list[audit.Entry]) -> Answers:
    """The answers to all steps by their positions, or Refusal for all of them.

    What criteria and patches looked at is added to *seen*: whoever rolls the transaction back because of a Refusal
    leaves these rows in the trail, because a refusal too tells something of a record.
    """
    await claim(tx.pg, plan.conditions())
    found = await _look_up(tx, actor, plan, service, seen)
    answers: Answers = {}
    steps: list[Step] = []
    # A reference that is resolved tells who was meant.
    named = [stored for condition in plan.sought if (stored := found[condition]) is not None]
    rows = [looked(actor, "search", stored) for stored in named if stored.patient_id is not None]
    plan = plan.bound({condition: stored.id if stored else None for condition, stored in found.items()})
    for step in plan.steps:
        if step.method == "POST" and step.where is not None and (stored := found[step.where]) is not None:
            answers[step.position] = replace(_of_stored(stored), looked=False)
            rows.append(looked(actor, "read", stored))
        elif step.method == "DELETE" and step.id is None:
            answers[step.position] = _nothing_to_delete(actor, step)
        elif step.method not in LOOKS:
            steps.append(step)
    changes = await _changes(tx, actor, steps, service, seen)
    try:
        written = await flows.write(tx, actor, changes)
    except Overtaken:
        raise
    except Refusal as refusal:
        raise _located(refusal, steps) from None
    for step, one in zip(steps, written, strict=True):
        check_existence(step, one)
        answers[step.position] = of_written(one, one.doubts if isinstance(one, intake.Kept) else ())
    await _check_criteria(tx, actor, steps)
    size = 0
    for step in plan.steps:
        if step.method in LOOKS:
            answer = await _look(tx, actor, step, service, rows)
            answers[step.position] = answer if step.method == "GET" else replace(answer, body=None)
            size += len(answer.body or "")
            if size > LARGEST_ANSWER:
                said = f"the answer is larger than {LARGEST_ANSWER // 2**20} MB: ask for less at a time"
                raise refuse(413, "too-costly", said, step.at("request.url"))
    await audit.record(tx.pg, rows)
    return answers


# -- which resources are meant -----------------------------------------------------------------------------------------


async def _look_up(tx: Tx, actor: Actor, plan: Plan, service: Service, seen: list[audit.Entry]) -> Found:
    """What each criteria of *plan* meets among what the actor may see: one resource, or None. Refusal 412 for several.

    What they may not see does not count, so that no answer tells that it is there.
    """
    conditions = plan.conditions() | plan.sought
    matches = await met(tx.pg, conditions, visible(actor), service.base_url) if conditions else {}
    for condition, stored in matches.items():
        seen += [looked(actor, "search", one) for one in stored]
        if len(stored) > 1:
            said = f"more than one {condition.type} matches {condition}"
            at = next((step.criteria_at for step in plan.steps if step.where == condition), None)
            raise refuse(412, "multiple-matches", said, at)
    return {condition: stored[0] if stored else None for condition, stored in matches.items()}


def _nothing_to_delete(actor: Actor, step: Step) -> Answer:
    if not may_write(actor, step.type):
        raise refuse(403, "forbidden", f"Your role ({actor.role}) may not write {step.type}.", step.at("request"))
    return Answer(204, step.type)


def check_existence(step: Step, done: Written) -> None:
    """Refusal 412 for a step that wanted its resource to be there, or not to be, and found it otherwise.

    Said after the write, which is rolled back: only then is it certain, whoever else was writing.
    """
    was = done.before is not None
    if step.exists is not None and step.exists is not was:
        said = f"{step.name} exists already" if was else f"{step.name} does not exist"
        part = "request.ifNoneMatch" if was else "request.ifMatch"
        raise refuse(412, "conflict", said, step.at(part))


async def _check_criteria(tx: Tx, actor: Actor, steps: Sequence[Step]) -> None:
    """Refusal 412 when a transaction has made several resources that meet criteria which were to name one."""
    made = [step for step in steps if step.method in ("POST", "PUT") and step.existing is None]
    doubtful = [step for step in made if step.where is not None and sum(1 for one in made if one.type == step.type) > 1]
    if not doubtful:
        return
    matches = await met(tx.pg, {step.where for step in doubtful if step.where}, visible(actor))
    for step in doubtful:
        assert step.where is not None
        ids = {stored.id for stored in matches[step.where]}
        if len(ids) > 1:
            both = " and ".join(one.at("resource") for one in made if one.id in ids)
            said = f"{step.where} would name more than one resource afterwards: {both}"
            raise refuse(412, "multiple-matches", said, step.at("request"))


# -- what is to be written ---------------------------------------------------------------------------------------------


async def _changes(
    tx: Tx, actor: Actor, steps: Sequence[Step], service: Service, seen: list[audit.Entry]
) -> list[Change]:
    patched = await _patched(tx, actor, [step for step in steps if step.patch], service, seen, steps)
    return [patched.get(step.position) or change_of(step) for step in steps]


def change_of(step: Step) -> Change:
    assert step.id is not None
    if step.method == "DELETE":
        return Change("delete", step.type, step.id, None, step.if_match)
    fresh = step.where is not None and step.existing is None and "id" not in (step.resource or {})
    if step.method == "POST" or fresh:
        return Change("create", step.type, step.id, step.resource, step.if_match)
    return Change("update", step.type, step.id, step.resource, step.if_match)


async def _patched(
    tx: Tx, actor: Actor, steps: Sequence[Step], service: Service, seen: list[audit.Entry], others: Sequence[Step]
) -> dict[int | None, Change]:
    """The updates that patches amount to, by the positions of their steps.

    The actor must see what they patch, since an operation tells by failing what is there. The rows stay locked, so that
    a patch is never refused because somebody else was quicker; turns come first, as everywhere.
    """
    if not steps:
        return {}
    names = {step.position: Condition(step.type, (("_id", step.id or ""),)) for step in steps}
    shown = await met(tx.pg, set(names.values()), visible(actor))
    for step in steps:
        if not shown[names[step.position]]:
            await store.read(tx.pg, step.type, step.id or "", visible(actor))  # says why not: unknown, or deleted
    before = [stored for matches in shown.values() for stored in matches]
    seen += [looked(actor, "read", stored) for stored in before]
    known = [Change("update", stored.type, stored.id, stored.resource) for stored in before]
    await watch.take_turns(tx, [*known, *(change_of(step) for step in others if step.patch is None)])
    keys = [(step.type, step.id) for step in others if step.id is not None and step.method != "POST"]
    latest = await store.load(tx.pg, keys, lock=True)
    return {step.position: _patch(step, latest[step.type, step.id or ""], service) for step in steps}


def _patch(step: Step, stored: Stored, service: Service) -> Change:
    assert step.patch is not None
    resource = stored.resource
    if resource is None:
        raise refuse(410, "deleted", f"{step.name} was deleted", step.at("request.url"))
    if step.if_match and stored.version not in step.if_match:
        seen = store.either(step.if_match)
        said = f"{step.name} is at version {stored.version}, not at version {seen}: read it again"
        raise Refusal(412, [Issue("conflict", said, step.at("request.ifMatch"))], {"ETag": f'W/"{stored.version}"'})
    try:
        changed = localise(step.patch.apply(resource), service.base_url)
    except Refusal as refusal:
        raise _within(refusal, step) from None
    return Change("update", stored.type, stored.id, changed, stored.version)


def _within(refusal: Refusal, step: Step) -> Refusal:
    """An issue of the patch itself, not of what it would make, says in which entry the patch stands."""
    issues = []
    for issue in refusal.issues:
        _, patch, rest = (issue.expression or "").partition("Parameters")
        if patch and step.position is not None:
            issue = replace(issue, expression=f"{step.at('resource')}{rest}")
        elif (issue.expression or "").startswith("["):
            part = "http.body" if step.position is None else step.at("resource")
            issue = replace(issue, expression=part)
        issues.append(issue)
    return Refusal(refusal.status, issues, refusal.headers)


def _located(refusal: Refusal, steps: Sequence[Step]) -> Refusal:
    """Where only one entry writes the type that an issue names, the issue says which entry."""
    issues = []
    for issue in refusal.issues:
        type_, dot, rest = (issue.expression or "").partition(".")
        about = [step for step in steps if step.type == type_]
        if len(about) == 1:
            issue = replace(issue, expression=f"{about[0].at('resource')}{dot}{rest}")
        issues.append(issue)
    return Refusal(refusal.status, issues, refusal.headers)


# -- reads and searches ------------------------------------------------------------------------------------------------


async def _look(tx: Tx, actor: Actor, step: Step, service: Service, rows: list[audit.Entry]) -> Answer:
    limit = visible(actor)
    pages = (service.base_url, service.secret, service.max_page)
    match step.path:
        case [*scope, "_history"]:
            type_, id_ = (*scope, None, None)[:2]
            page = await search.history(tx.pg, step.query, limit, *pages, type_, id_)
            rows += history_read(actor, type_, id_, page)
            return Answer(200, body=page.as_bytes().decode(), looked=True)
        case [] | [_] | [_, _, _]:
            compartment = (step.path[0], step.path[1]) if len(step.path) == 3 else None
            kind = step.path[-1] if step.path and step.path[-1] != "*" else None
            if kind is None:
                page = await search.across(tx.pg, step.query, limit, *pages, compartment)
            else:
                page = await search.search(tx.pg, kind, step.query, limit, *pages, compartment)
            rows += searched(actor, kind, page)
            return Answer(200, body=page.as_bytes().decode(), looked=True)
        case [type_, id_, "_history", version]:
            stored = await store.vread(tx.pg, type_, id_, int(version), limit)
            rows.append(looked(actor, "vread", stored))
        case _:
            stored = await store.read(tx.pg, step.type, step.path[1], limit)
            rows.append(looked(actor, "read", stored))
    unchanged = step.known in ("*", stored.version) if step.known else step.since and stored.updated <= step.since
    return replace(_of_stored(stored), status=304, body=None) if unchanged else _of_stored(stored)


def _of_stored(stored: Stored) -> Answer:
    return Answer(200, stored.type, stored.id, stored.version, stored.updated, stored.body, looked=True)


def of_written(one: Written, doubts: Sequence[Doubt] = ()) -> Answer:
    return Answer(one.status, one.change.type, one.change.id, one.version, one.updated, one.body, doubts=doubts)
