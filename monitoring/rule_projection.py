"""The rules of hubs in their typed table, and who is watched by those that are live."""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import refuse
from fhir.wire import decode, encode
from monitoring.in_force import RulesInForce
from monitoring.local_rules import LocalRule
from monitoring.plan_definitions import from_plan_definition, is_rule, url

JSON = dict[str, Any]

CHANNEL = "carehub_rules"
"""Where is told that a rule went live or was retired, or that somebody may be watched by another one than before."""

_PUT = """
INSERT INTO local_rule (id, key, version, hub_id, status, name, who, terms, measure, resource)
SELECT id, key, version, hub_id, status, name, who, terms, measure, resource
FROM jsonb_to_recordset(%s) AS row (id text, key text, version int, hub_id text, status text, name text, who text,
    terms text[], measure text, resource text)
ORDER BY status = 'active'
ON CONFLICT (id) DO UPDATE SET (key, version, hub_id, status, name, who, terms, measure, resource) = (excluded.key,
    excluded.version, excluded.hub_id, excluded.status, excluded.name, excluded.who, excluded.terms, excluded.measure,
    excluded.resource)
"""


async def project_rules(pg: psycopg.AsyncConnection[Any], written: Sequence[tuple[str, JSON | None]]) -> None:
    """Write the rows of the PlanDefinitions (id, resource or None once deleted) that are rules; every process that
    evaluates is told when the transaction commits."""
    found = {id_: from_plan_definition(resource) for id_, resource in written if resource and is_rule(resource)}
    gone = [id_ for id_, _ in written if id_ not in found]
    rows = 0
    if gone:
        rows += (await pg.execute("DELETE FROM local_rule WHERE id = ANY(%s)", (gone,))).rowcount
    if found:
        resources = dict(written)
        made = [_row(one, resources[id_]) for id_, one in found.items()]
        try:
            await pg.execute(_PUT, (Jsonb(made),))
        except psycopg.errors.UniqueViolation as error:
            text = "Somebody wrote a version of this rule in the same moment. Look at it again."
            raise refuse(409, "conflict", text, "PlanDefinition.version") from error
        rows += len(made)
    if rows:
        await pg.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def _row(rule: LocalRule, resource: JSON | None) -> JSON:
    return {
        "id": rule.id,
        "key": rule.key,
        "version": rule.version,
        "hub_id": rule.scope.hub_id,
        "status": rule.status,
        "name": rule.name,
        "who": rule.scope.who,
        "terms": _terms(rule),
        "measure": rule.scope.measure,
        "resource": encode(resource or {}).decode(),
    }


def _terms(rule: LocalRule) -> list[str]:
    """What the search rows of those whom it watches hold: of a Condition, or of the ServiceRequest that orders it."""
    if rule.scope.who == "condition":
        return [f"code={system}|{code}" for system, code in rule.scope.codes]
    return [f"instantiates-canonical={url(rule.key)}"] if rule.scope.who == "chosen" else []


MEMBERS_BY = {"Condition": ["condition"], "ServiceRequest": ["chosen", "monitored"]}
"""Types of resources by which a rule may go in watching people, and how."""


async def members_may_differ(pg: psycopg.AsyncConnection[Any], types: Collection[str]) -> None:
    """Resources of these *types* were written: whoever evaluates looks again at whom the live rules watch, if any of
    these goes by such records."""
    wanted = [who for type_ in types for who in MEMBERS_BY[type_]]
    await pg.execute(
        "SELECT pg_notify(%s, '') WHERE EXISTS (SELECT 1 FROM local_rule WHERE status = 'active' AND who = ANY(%s))",
        (CHANNEL, wanted),
    )


_MEMBERS = """
SELECT rule.id, r.patient_id FROM local_rule rule JOIN r_condition r
    ON r.keys && rule.terms AND r.keys && ARRAY['clinical-status=active', 'clinical-status=recurrence',
        'clinical-status=relapse']
    AND NOT r.keys && ARRAY['verification-status=refuted', 'verification-status=entered-in-error']
    WHERE rule.status = 'active' AND rule.who = 'condition'
UNION SELECT rule.id, r.patient_id FROM local_rule rule JOIN r_servicerequest r
    ON r.keys && rule.terms AND r.keys @> ARRAY['status=active']
    WHERE rule.status = 'active' AND rule.who = 'chosen'
UNION SELECT rule.id, ordered.patient_id FROM local_rule rule JOIN monitoring_limit ordered
    ON ordered.measure = rule.measure AND ordered.active
    WHERE rule.status = 'active' AND rule.who = 'monitored'
"""


async def load(pg: psycopg.AsyncConnection[Any]) -> RulesInForce:
    """The live rules of all hubs, with whom they watch. Two statements; the second only where a rule goes by people."""
    cursor = await pg.execute("SELECT id, resource FROM local_rule WHERE status = 'active' ORDER BY key")
    live = tuple(_read(id_, decode(text.encode())) for id_, text in await cursor.fetchall())
    members: dict[str, set[str]] = {one.id: set() for one in live if one.scope.who != "hub"}
    if members:
        cursor = await pg.execute(_MEMBERS)
        for id_, patient_id in await cursor.fetchall():
            if patient_id is not None:
                members.setdefault(id_, set()).add(patient_id)
    return RulesInForce(live, {id_: frozenset(found) for id_, found in members.items()})


def _read(id_: str, resource: JSON) -> LocalRule:
    return from_plan_definition({**resource, "id": id_})


async def watched(pg: psycopg.AsyncConnection[Any], rule_id: str) -> set[str]:
    """The people whom the rule watches, or would: a draft, too. Not for one that watches its whole hub."""
    members = _MEMBERS.replace("rule.status = 'active'", "rule.id = %(id)s")
    cursor = await pg.execute(
        f"SELECT patient_id FROM ({members}) AS one WHERE patient_id IS NOT NULL", {"id": rule_id}
    )
    return {row[0] for row in await cursor.fetchall()}
