"""One person's record is found by that person, however many others the caller may see."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from test_fhir_plans import FILL, READINGS, everything, of_the_hub

from fhir import everything as whole
from fhir.latest import latest
from fhir.paging import Cursor
from fhir.plans import Explaining
from fhir.search import across, search
from fhir.store import Connection, Sql, Visible
from hub.db import Database

SECRET = b"plans"
PERSON = ("Patient", "p7")
# Somebody cares for this person and for one other, who measures all day long.
OF_ANOTHER = f"""
INSERT INTO r_observation (id, version, updated, patient_id, keys, d_date)
SELECT 'b' || n, 1, now(), 'busy', ARRAY['status=final', 'code=2', 'subject=Patient/busy'],
       tstzrange(now() - n * interval '1 minute', now())
FROM generate_series(1, {READINGS}) AS n;
INSERT INTO access (subject, patient_id, source, basis)
VALUES ('Practitioner/coach', 'p7', 'CareTeam/a', 'team'), ('Practitioner/coach', 'busy', 'CareTeam/b', 'team')
"""
Ask = Callable[[Connection, Visible], Awaitable[Any]]


@pytest.fixture(scope="module")
async def filled(database: Database) -> AsyncIterator[Database]:
    async with database.transaction() as tx:
        for statement in FILL.split(";"):
            if statement.strip():
                await tx.pg.execute(statement)
        for statement in OF_ANOTHER.split(";"):
            await tx.pg.execute(statement)
        await tx.pg.execute("ANALYZE")
    yield database


def of_two(type_: str, alias: str) -> Sql | None:
    related = f"EXISTS (SELECT 1 FROM access WHERE access.patient_id = {alias}.patient_id AND access.subject = ANY(%s))"
    return Sql(related, (["Practitioner/coach"],))


async def listed(pg: Connection, visible: Visible) -> Any:
    return await search(pg, "Observation", [], visible, "https://x", SECRET, 1000, PERSON)


async def coded(pg: Connection, visible: Visible) -> Any:
    return await search(pg, "Observation", [("code", "2")], visible, "https://x", SECRET, 1000, PERSON)


async def of_all_types(pg: Connection, visible: Visible) -> Any:
    return await across(pg, [], visible, "https://x", SECRET, 1000, PERSON)


async def all_of_it(pg: Connection, visible: Visible) -> Any:
    cursor = Cursor("Patient/p7/$everything", [], [])
    return await whole.everything(pg, whole.Wanted("p7", 20), visible, "https://x", SECRET, cursor)


async def newest(pg: Connection, visible: Visible) -> Any:
    return await latest(pg, [("patient", "p7")], 3, visible, "https://x")


@pytest.mark.parametrize("visible", [everything, of_the_hub, of_two])
@pytest.mark.parametrize("ask", [listed, coded, of_all_types, all_of_it, newest])
async def test_it_begins_with_the_person(filled: Database, ask: Ask, visible: Visible) -> None:
    async with filled.transaction() as tx:
        explaining = Explaining(tx.pg)
        found = await ask(cast(Connection, explaining), visible)
    plan = "\n".join(explaining.plans)
    assert found if isinstance(found, list) else found.entries, plan
    assert "Seq Scan on r_observation" not in plan, plan
    rows = [
        int(count)
        for count in re.findall(r"Rows Removed by Filter: (\d+)|actual rows=(\d+)", plan)
        for count in count
        if count
    ]
    assert max(rows) < READINGS / 10, plan
