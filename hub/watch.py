"""The loop from readings to flags: type what was measured, evaluate it with what is known, open or refresh flags.

A reading is never lost to its evaluation: that runs in a savepoint, and what fails there becomes an operational flag.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from fhir.index import patient_of
from fhir.registry import SPECS
from fhir.store import Change, new_id
from hub import live_rules
from hub.db import Tx
from hub.faults import told
from monitoring import decision, escalation, evaluation, flags, state
from monitoring.case import Facts, Failure, Finding
from monitoring.cover import NONE_OF_ITS_OWN, Cover, of_row
from monitoring.pregnancy import COUNTS, tells_of_pregnancy
from monitoring.readings import CHECK, HTEST, OK, Reading, readings

log = structlog.get_logger()
JSON = dict[str, Any]


def is_test(resource: JSON) -> bool:
    """Whether *resource* is labelled as test data (`HTEST`)."""
    return any(label.get("code") == HTEST for label in resource.get("meta", {}).get("security", ()))


async def take_turns(tx: Tx, changes: Sequence[Change]) -> None:
    """Make writes of what the rules see of one person wait for each other: readings, flags, limits, facts. Each must
    see the flags of the other, and the order in which they happened must be the one that is on record (see
    `monitoring.past`).

    Taken before any other lock, so that two transactions never wait for each other in a ring.
    """
    people = {_whose(change) for change in changes if change.type in SEEN_BY_RULES} - {None}
    if gone := [change for change in changes if change.method == "delete" and change.type in SEEN_BY_RULES]:
        whose = "SELECT patient_id FROM resource_version WHERE type = ANY(%s) AND id = ANY(%s)"
        await tx.pg.execute(
            flags.turns(f"(SELECT unnest(%s::text[]) AS id UNION {whose}) AS who"),
            (list(people), list({change.type for change in gone}), [change.id for change in gone]),
        )
    elif people:
        await flags.take_turns(tx.pg, [one for one in people if one is not None])


SEEN_BY_RULES = frozenset({"Observation", "QuestionnaireResponse", "Flag", "ServiceRequest", "Condition", "Patient"})


def _whose(change: Change) -> str | None:
    """The person whose readings, flags, limits or facts *change* alters."""
    resource = change.resource
    if resource is None:
        return None
    # Nobody has readings before there is a record of them; most conditions say nothing to a rule.
    silent = change.type == "Patient" or (change.type == "Condition" and not tells_of_pregnancy(resource))
    return None if silent and change.method == "create" else patient_of(SPECS[change.type], resource)


async def typed(tx: Tx, changes: Sequence[Change], now: datetime) -> list[Reading]:
    """Every reading that *changes* bring. Raises ReadingRefused for the first that must not become one."""
    observations = [
        change.resource for change in changes if change.type == "Observation" and change.resource is not None
    ]
    if not observations:
        return []
    synthetic = {
        change.id for change in changes if change.type == "Patient" and change.resource and is_test(change.resource)
    }
    synthetic |= await synthetic_people(tx, {subject_of(one) for one in observations} - synthetic)
    return [reading for one in observations for reading in readings(one, now, synthetic=subject_of(one) in synthetic)]


def subject_of(observation: JSON) -> str:
    """Id of the Patient that *observation* names, or an empty text."""
    reference = observation.get("subject", {}).get("reference", "")
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else ""


async def synthetic_people(tx: Tx, patient_ids: Iterable[str]) -> set[str]:
    """Those of *patient_ids* who are made up (tagged HTEST)."""
    rows = await tx.pg.execute(
        "SELECT patient_id FROM person WHERE synthetic AND patient_id = ANY(%s)", (list(patient_ids),)
    )
    return {row[0] for row in await rows.fetchall()}


async def evaluate(
    tx: Tx, found: Sequence[Reading], now: datetime, facts: Mapping[str, Facts] | None = None
) -> list[Change]:
    """The Flags to write, new or refreshed, because of these readings, which are projected already.

    *facts* of their people spare a look where the caller has them. Whatever goes wrong costs no reading: a rule that
    fails is flagged for operations, and so is everybody whose evaluation could not run at all.
    """
    new = [reading for reading in found if reading.quality in (OK, CHECK) and now - reading.at <= evaluation.LATE]
    if not new:
        return []
    people = {reading.patient_id for reading in new}
    # Never released, which would be one more statement for every batch: it ends with the transaction.
    await tx.pg.execute("SAVEPOINT evaluation")
    try:
        findings = await findings_of(tx, new, now, await facts_of(tx, people, now) if facts is None else facts)
    except Exception as error:  # the reading outweighs whatever this was: it is logged, flagged, and people look
        await tx.pg.execute("ROLLBACK TO SAVEPOINT evaluation")
        log.error("evaluation failed", people=len(people), **told(error))
        findings = [
            Failure(one, "evaluation", 1, error, tuple(r for r in new if r.patient_id == one)).finding()
            for one in people
        ]
    return await flags_of(tx, findings, now) if findings else []


async def facts_of(tx: Tx, people: Iterable[str], now: datetime) -> dict[str, Facts]:
    """What the rules are told of each of *people*."""
    rows = await tx.pg.execute(
        f"SELECT patient_id, birth_date, {COUNTS}, hub_id FROM person WHERE patient_id = ANY(%s)", (now, list(people))
    )
    return {patient_id: Facts(*rest) for patient_id, *rest in await rows.fetchall()}


async def findings_of(tx: Tx, new: Sequence[Reading], now: datetime, facts: Mapping[str, Facts]) -> list[Finding]:
    in_force = await live_rules.current(tx)
    cases = await state.load_cases(tx.pg, new, now, facts, in_force)
    findings: list[Finding] = []
    for case in cases.values():
        for found in evaluation.evaluate(case, in_force.of(case.patient_id, case.facts.hub_id)):
            if isinstance(found, Failure):
                log.error("rule failed", rule=found.rule, version=found.rule_version, **told(found.error))
                found = found.finding()
            findings.append(found)
    return findings


async def flags_of(tx: Tx, findings: Sequence[Finding], now: datetime) -> list[Change]:
    """The Flags to write, new or refreshed, because of *findings*; their people's turns are taken."""
    people = list({finding.patient_id for finding in findings})
    rows = await tx.pg.execute(
        "SELECT patient_id, hub_id, cover.resource FROM person LEFT JOIN cover USING (hub_id)"
        " WHERE patient_id = ANY(%s)",
        (people,),
    )
    hubs: dict[str, tuple[str | None, Cover]] = {one: (hub, of_row(told)) for one, hub, told in await rows.fetchall()}
    live = await flags.live_flags(tx.pg, people)
    changed: dict[str, flags.Flag] = {}
    for finding in findings:
        key = (finding.patient_id, finding.rule)
        hub_id, cover = hubs.get(finding.patient_id, (None, NONE_OF_ITS_OWN))
        before = live.get(key)
        if before is not None and escalation.lapses(before, now):
            # As if its timer had been on time: what raises flags must not depend on when that was looked at.
            before = escalation.fall_due(before, cover, now)
            changed[before.id] = before
        made = decision.decide(
            before if before is None or before.live else None, finding, now, id=new_id(), hub_id=hub_id
        )
        if made is not None:
            live[key] = changed[made.flag.id] = escalation.timed(before, made.flag, cover, now)
    return [
        Change("create" if one.version == 0 else "update", "Flag", one.id, flags.to_fhir(one))
        for one in changed.values()
    ]
