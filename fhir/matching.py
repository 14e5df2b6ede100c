"""Criteria that must name one resource: met in sets, and by one writer at a time."""

from collections.abc import Collection
from hashlib import blake2b

from fhir.codes import gathered
from fhir.conditions import all_of
from fhir.criteria import Criteria
from fhir.registry import SPECS
from fhir.steps import Condition
from fhir.store import Connection, Sql, Stored, Visible, permitted

# How many locks there are for all criteria together. Locks are a bounded table that all transactions share: one for
# each condition of a large bundle would exhaust it. Two criteria with one lock wait for each other, nothing worse.
LOCKS = 2048
_SPACE = 0x0C04D  # the first half of the lock's number: nobody else has it
_AT_ONCE = 100  # criteria in one statement


async def claim(pg: Connection, conditions: Collection[Condition]) -> None:
    """Wait until nobody else acts on these criteria, and keep others waiting until the transaction ends.

    Two conditional creates with one `If-None-Exist` then come one after the other: the second finds the first's.
    To be called once, before any other lock: always in one order, so that nobody waits in a ring.
    """
    numbers = sorted({_lock(condition) for condition in conditions})
    if numbers:
        await pg.execute("SELECT pg_advisory_xact_lock(%s, lock) FROM unnest(%s::int[]) AS lock", (_SPACE, numbers))


def _lock(condition: Condition) -> int:
    return int.from_bytes(blake2b(str(condition).encode(), digest_size=8).digest()) % LOCKS


async def met(
    pg: Connection, conditions: Collection[Condition], visible: Visible, base_url: str = ""
) -> dict[Condition, list[Stored]]:
    """For each of *conditions* at most two of the resources that meet it, among those that the actor may see.

    Two are enough to know that it names more than one. Refusals as for a search, before anything is asked.
    """
    found: dict[Condition, list[Stored]] = {condition: [] for condition in conditions}
    ordered = list(conditions)
    for start in range(0, len(ordered), _AT_ONCE):
        group = ordered[start : start + _AT_ONCE]
        sets = await gathered(pg, [pair for condition in group for pair in condition.query], visible)
        parts = [_one(n, condition, Criteria(visible, base_url, sets)) for n, condition in enumerate(group)]
        # Never prepared: the plan must fit the values.
        rows = await pg.execute(
            "SELECT f.number, v.type, v.id, v.version, v.updated, v.patient_id, v.body"
            f" FROM ({' UNION ALL '.join(part.text for part in parts)}) f"
            " JOIN resource_version v ON v.type = f.type AND v.id = f.id AND v.version = f.version"
            " ORDER BY f.number, v.id",
            tuple(value for part in parts for value in part.params),
            prepare=False,
        )
        async for number, *stored in rows:
            found[group[number]].append(Stored(*stored))
    return found


def _one(number: int, condition: Condition, criteria: Criteria) -> Sql:
    allowed = permitted(condition.type, "r", criteria.visible)
    where = all_of([allowed, criteria.where(SPECS[condition.type], "r", condition.query)])
    # The fence makes PostgreSQL look up what is selective before it puts anything in order.
    fence = " OFFSET 0" if criteria.selective else ""
    return Sql(
        f"(SELECT {number} AS number, '{condition.type}' AS type, r.id, r.version FROM"
        f" (SELECT r.id, r.version FROM r_{condition.type.lower()} r WHERE {where.text}{fence}) r"
        " ORDER BY r.id LIMIT 2)",
        where.params,
    )
