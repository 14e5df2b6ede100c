"""Batches and transactions carried out: through the same flows, searches and audit as single requests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from fhir import bundle as bundles
from fhir import search, store
from fhir.bundle import Condition, Plan, Step
from fhir.outcome import Refusal, outcome_of, refuse
from fhir.store import Change, Stored, Written, instant
from fhir.validation import check
from fhir.wire import encode
from hub import audit, fhir_reads, flows, intake
from hub.access import visible
from hub.db import Tx
from hub.fhir_http import said
from hub.identity import Actor
from monitoring.doubts import Doubt

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """What answers need to know of the service: its address (ends in `/fhir`), what signs cursors, its largest page."""

    base_url: str
    secret: bytes
    max_page: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one entry is answered. `version` 0 has no ETag; `body` is JSON text or an encodable value."""

    status: int
    type: str = ""
    id: str | None = None
    version: int = 0
    updated: datetime | None = None
    body: Any = None
    refusal: Refusal | None = None
    looked: bool = False
    doubts: Sequence[Doubt] = ()


async def transaction(tx: Tx, actor: Actor, bundle: JSON, service: Service, prefer: str | None) -> JSON:
    """All entries or none, in the caller's transaction. Refusal says which entry, where that is known."""
    answers = await carry_out(tx, actor, bundles.plan(bundle, service.base_url), service)
    return _response("transaction-response", answers, service, prefer)


async def batch(tx: Tx, actor: Actor, bundle: JSON, service: Service, prefer: str | None) -> JSON:
    """Each entry alone: one that is refused is undone and answered with its reason, the others stand."""
    entries = bundle.get("entry", [])
    names = frozenset(entry["fullUrl"] for entry in entries if "fullUrl" in entry)
    answers: dict[int, Answer] = {}
    plans: list[Plan] = []
    for position, entry in enumerate(entries):
        try:
            plans.append(_alone(entry, position, names, service))
        except Refusal as refusal:
            answers[position] = Answer(refusal.status, refusal=refusal)
    if actor.kind == "device":
        refusals = [
            (actor, encode(entries[position].get("resource")), one.refusal)
            for position, one in answers.items()
            if one.refusal
        ]
        await intake.file_refusals(tx, refusals)
        answers |= await _received(tx, actor, [plan.steps[0] for plan in plans])
    else:
        plans.sort(key=lambda plan: bundles.order(plan.steps[0]))
        answers |= await _together(tx, actor, [plan for plan in plans if _only_writes(plan)], service)
        for plan in plans:
            if not _only_writes(plan):
                answers |= await _together(tx, actor, [plan], service)
    return _response("batch-response", answers, service, prefer)


def _alone(entry: JSON, position: int, names: frozenset[str], service: Service) -> Plan:
    step = bundles.entry_of(entry, position, service.base_url)
    if step.resource is not None:
        check(step.resource)
    return bundles.alone(step, names, entry.get("fullUrl"))


async def _together(tx: Tx, actor: Actor, plans: Sequence[Plan], service: Service) -> dict[int, Answer]:
    """Carry out what is wanted as one set, which is fast; if that is refused, each half by itself, down to one."""
    if not plans:
        return {}
    whole = Plan("batch", tuple(step for plan in plans for step in plan.steps))
    try:
        async with tx.pg.transaction():  # a savepoint
            return await carry_out(tx, actor, whole, service)
    except Refusal as refusal:
        if len(plans) == 1:
            return {whole.steps[0].position: Answer(refusal.status, refusal=refusal)}
    middle = len(plans) // 2
    first = await _together(tx, actor, plans[:middle], service)
    return first | await _together(tx, actor, plans[middle:], service)


def _only_writes(plan: Plan) -> bool:
    step = plan.steps[0]
    return step.method in _CHANGES and step.unless is None and not plan.sought()


async def _received(tx: Tx, actor: Actor, steps: Sequence[Step]) -> dict[int, Answer]:
    """Readings of a device, each accepted, known already, or refused and kept with its reason."""
    answers: dict[int, Answer] = {}
    readings: list[Step] = []
    for step in steps:
        if step.method == "POST" and step.type == "Observation" and step.unless is None:
            readings.append(step)
        else:
            refusal = refuse(403, "forbidden", "a device may only create Observations", f"{step.path}.request")
            answers[step.position] = Answer(403, refusal=refusal)
    sent = [intake.sent(actor, step.resource, encode(step.resource)) for step in readings if step.resource]
    for step, receipt in zip(readings, await flows.receive_readings(tx, sent), strict=True):
        if receipt.refusal is not None:
            answers[step.position] = Answer(receipt.refusal.status, refusal=receipt.refusal)
        elif receipt.written is not None:
            answers[step.position] = _of_written(receipt.written, receipt.doubts)
        else:
            answers[step.position] = Answer(200, "Observation", receipt.observation_id, doubts=receipt.doubts)
    return answers


async def carry_out(tx: Tx, actor: Actor, plan: Plan, service: Service) -> dict[int, Answer]:
    """The answers to all steps by their positions, or Refusal."""
    found = await _look_up(tx, actor, plan)
    plan = plan.bound({condition: stored.id if stored else None for condition, stored in found.items()})
    answers: dict[int, Answer] = {}
    changes: list[tuple[Step, Change]] = []
    for step in plan.steps:
        if step.existing is not None:
            assert step.unless is not None
            stored = found[step.unless]
            assert stored is not None
            answers[step.position] = replace(_of_stored(stored), looked=False)
        elif step.method in _CHANGES:
            assert step.id is not None
            method = _CHANGES[step.method]
            changes.append((step, Change(method, step.type, step.id, step.resource, step.if_match)))
    try:
        written = await flows.write(tx, actor, [change for _, change in changes])
    except Refusal as refusal:
        raise _located(refusal, [step for step, _ in changes]) from None
    for (step, _), one in zip(changes, written, strict=True):
        answers[step.position] = _of_written(one, one.doubts if isinstance(one, intake.Kept) else ())
    for step in plan.steps:
        if step.method in ("GET", "HEAD"):
            answers[step.position] = await _look(tx, actor, step, service)
    return answers


_CHANGES: Any = {"POST": "create", "PUT": "update", "DELETE": "delete"}


async def existing(tx: Tx, actor: Actor, condition: Condition) -> Stored | None:
    """The one resource that meets *condition*, among those the actor may see; None for none.

    Whoever creates under the same condition waits until the caller's transaction ends, so two devices or systems that
    ask at once do not both create. Refusal 412 when several meet it.
    """
    await search.claim(tx.pg, condition.type, condition.query)
    return await _match(tx, actor, condition)


async def _look_up(tx: Tx, actor: Actor, plan: Plan) -> dict[Condition, Stored | None]:
    found: dict[Condition, Stored | None] = {}
    for condition in plan.conditions():
        found[condition] = await existing(tx, actor, condition)
    for condition in plan.sought() - found.keys():
        found[condition] = await _match(tx, actor, condition)
    return found


async def _match(tx: Tx, actor: Actor, condition: Condition) -> Stored | None:
    matches = await search.matches(tx.pg, condition.type, condition.query, visible(actor), 2)
    if len(matches) > 1:
        raise refuse(412, "multiple-matches", f"more than one {condition.type} matches {condition}")
    return matches[0] if matches else None


async def _look(tx: Tx, actor: Actor, step: Step, service: Service) -> Answer:
    if step.id is None:
        page = await search.search(
            tx.pg, step.type, step.query, visible(actor), service.base_url, service.secret, service.max_page
        )
        await audit.record(tx.pg, fhir_reads.searched(actor, step.type, page))
        return Answer(200, body=page.as_bytes().decode(), looked=True)
    if step.version is None:
        stored = await store.read(tx.pg, step.type, step.id, visible(actor))
    else:
        stored = await store.vread(tx.pg, step.type, step.id, step.version, visible(actor))
    action = "read" if step.version is None else "vread"
    await audit.record(tx.pg, [fhir_reads.looked(actor, action, stored)])
    if step.if_none_match == stored.version:
        return replace(_of_stored(stored), status=304, body=None)
    return _of_stored(stored)


def _of_stored(stored: Stored) -> Answer:
    return Answer(200, stored.type, stored.id, stored.version, stored.updated, stored.body, looked=True)


def _of_written(one: Written, doubts: Sequence[Doubt] = ()) -> Answer:
    return Answer(one.status, one.change.type, one.change.id, one.version, one.updated, one.body, doubts=doubts)


def _located(refusal: Refusal, steps: Sequence[Step]) -> Refusal:
    """Where only one entry writes the type that an issue names, the issue says which entry."""
    issues = []
    for issue in refusal.issues:
        type_, dot, rest = (issue.expression or "").partition(".")
        about = [step for step in steps if step.type == type_]
        if len(about) == 1:
            issue = replace(issue, expression=f"{about[0].path}.resource{dot}{rest}")
        issues.append(issue)
    return Refusal(refusal.status, issues, refusal.headers)


def _response(kind: str, answers: dict[int, Answer], service: Service, prefer: str | None) -> JSON:
    entries = [_entry(answers[position], service, prefer) for position in sorted(answers)]
    response: JSON = {"resourceType": "Bundle", "type": kind}
    return response | {"entry": entries} if entries else response


def _entry(answer: Answer, service: Service, prefer: str | None) -> JSON:
    response: JSON = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    entry: JSON = {}
    if answer.refusal is not None:
        return {"response": response | {"outcome": outcome_of(answer.refusal)}}
    if answer.id is not None:
        url = f"{service.base_url}/{answer.type}/{answer.id}"
        if answer.status != 204:
            entry["fullUrl"] = url
            response["location"] = f"{url}/_history/{answer.version}" if answer.version else url
        if answer.version:
            response["etag"] = f'W/"{answer.version}"'
        if answer.updated is not None:
            response["lastModified"] = instant(answer.updated)
    if answer.body is not None and (answer.looked or prefer == "representation"):
        entry["resource"] = msgspec.Raw(answer.body.encode()) if isinstance(answer.body, str) else answer.body
    if answer.doubts or (prefer == "OperationOutcome" and "resource" not in entry):
        response["outcome"] = said(f"{answer.type}/{answer.id}: {response['status']}", answer.doubts)
    return entry | {"response": response}
