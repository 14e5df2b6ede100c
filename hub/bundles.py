"""Batches and transactions: their entries carried out together or each alone, and the bundle that answers."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec

from fhir import bundle as bundles
from fhir.bundle import Plan
from fhir.matching import claim
from fhir.outcome import Refusal, outcome_of, refuse
from fhir.steps import LOOKS, Condition, Step, entry_of
from fhir.store import instant
from fhir.validation import check
from fhir.wire import encode
from hub import audit, flows, intake
from hub.db import Tx
from hub.fhir_http import said
from hub.identity import Actor
from hub.steps import Answer, Answers, Service, carry_out, of_written, settled
from monitoring.formats import phd

JSON = dict[str, Any]


async def transaction(tx: Tx, actor: Actor, bundle: JSON, service: Service, seen: list[audit.Entry]) -> Answers:
    """All entries or none, in the caller's transaction. Refusal says which entry, where that is known.

    *seen* takes the rows that belong in the trail even if this is refused and rolled back.
    """
    plan = bundles.plan(bundle, service.base_url)
    if actor.kind == "device":
        plan = replace(
            plan, steps=tuple(replace(one, where=None) if _new_by_itself(one) else one for one in plan.steps)
        )
    return await carry_out(tx, actor, plan, service, seen)


async def batch(
    tx: Tx, actor: Actor, bundle: JSON, service: Service, seen: list[audit.Entry], apart: Container[int] = ()
) -> Answers:
    """Each entry alone: one that is refused is undone and answered with its reason, the others stand.

    Entries at the positions *apart* are left to the caller.
    """
    entries = bundle.get("entry", [])
    bundles.bounded(entries)
    names = frozenset(entry["fullUrl"] for entry in entries if "fullUrl" in entry)
    answers: Answers = {}
    plans: list[Plan] = []
    for position, entry in enumerate(entries):
        if position in apart:
            continue
        try:
            plans.append(_alone(entry, position, names, service))
        except Refusal as refusal:
            answers[position] = Answer(refusal.status, refusal=refusal)
    if actor.kind == "device":
        refusals = [
            (actor, encode(entries[position].get("resource")), one.refusal)
            for position, one in answers.items()
            if one.refusal and position is not None
        ]
        await intake.file_refusals(tx, refusals)
        answers |= await _received(tx, actor, [plan.steps[0] for plan in plans])
    else:
        # All at once: an entry that waited for criteria while it held what others wait for would stop both.
        await claim(tx.pg, {condition for plan in plans for condition in plan.conditions()})
        for group in _grouped(sorted(plans, key=lambda plan: bundles.order(plan.steps[0]))):
            answers |= await _together(tx, actor, group, service)
    return answers


def _alone(entry: JSON, position: int, names: frozenset[str], service: Service) -> Plan:
    if "resource" in entry:
        check(entry["resource"])
    return bundles.alone(entry_of(entry, position, service.base_url), names, entry.get("fullUrl"))


async def _together(tx: Tx, actor: Actor, plans: Sequence[Plan], service: Service) -> Answers:
    """Carry out what is wanted as one set, which is fast; if that is refused, each half by itself, down to one."""
    if not plans:
        return {}
    whole = bundles.together(plans)
    seen: list[audit.Entry] = []

    async def attempt() -> Answers:
        async with tx.pg.transaction():  # a savepoint
            return await carry_out(tx, actor, whole, service, seen)

    try:
        return await (settled(attempt) if len(plans) == 1 else attempt())
    except Refusal as refusal:
        if len(plans) == 1:
            await audit.record(tx.pg, seen)
            return {whole.steps[0].position: Answer(refusal.status, refusal=refusal)}
    middle = len(plans) // 2
    first = await _together(tx, actor, plans[:middle], service)
    return first | await _together(tx, actor, plans[middle:], service)


def _grouped(plans: Sequence[Plan]) -> list[list[Plan]]:
    """What is carried out at once: plain writes, then writes that look first; what looks alone, or for the second time
    under the same criteria, comes by itself, so that it sees what the others did."""
    plain: list[Plan] = []
    looking: list[Plan] = []
    single: list[list[Plan]] = []
    met: set[Condition] = set()
    for plan in plans:
        step = plan.steps[0]
        if step.method in LOOKS or (step.where is not None and step.where in met):
            single.append([plan])
        elif step.where is not None or step.patch is not None or step.exists is not None or plan.sought:
            looking.append(plan)
            met |= plan.conditions()
        else:
            plain.append(plan)
    return [plain, looking, *single]


async def _received(tx: Tx, actor: Actor, steps: Sequence[Step]) -> Answers:
    """Readings of a device, each accepted, known already, or refused and kept with its reason."""
    answers: Answers = {}
    readings: list[Step] = []
    for step in steps:
        if step.method == "POST" and step.type == "Observation" and _new_by_itself(step):
            readings.append(step)
        else:
            refusal = refuse(403, "forbidden", "a device may only create Observations", step.at("request"))
            answers[step.position] = Answer(403, refusal=refusal)
    sent = [intake.sent(actor, step.resource, encode(step.resource)) for step in readings if step.resource]
    for step, receipt in zip(readings, await flows.receive_readings(tx, sent), strict=True):
        if receipt.refusal is not None:
            answers[step.position] = Answer(receipt.refusal.status, refusal=receipt.refusal)
        elif receipt.written is not None:
            answers[step.position] = of_written(receipt.written, receipt.doubts)
        else:
            answers[step.position] = Answer(200, "Observation", receipt.observation_id, doubts=receipt.doubts)
    return answers


def _new_by_itself(step: Step) -> bool:
    """No condition, or the one that each reading of a device meets (see phd)."""
    return step.where is None or phd.names_itself(step.resource or {}, step.where.query)


def response(kind: str, answers: Mapping[int | None, Answer], service: Service, prefer: str | None) -> JSON:
    """The bundle of *kind* that tells these answers, in the order of the entries."""
    ordered = sorted(answers, key=lambda position: position or 0)
    entries = [_entry(answers[position], service, prefer) for position in ordered]
    made: JSON = {"resourceType": "Bundle", "type": kind}
    return made | {"entry": entries} if entries else made


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
