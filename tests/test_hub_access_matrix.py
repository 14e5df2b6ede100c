"""Every role against every served type, in the store: nothing leaks, and what should be seen is (see access_world)."""

from collections.abc import AsyncIterator

import pytest
from access_world import LETTERS, actor, everything, expected, fill

from fhir import store
from fhir.outcome import Refusal
from fhir.types import SERVED
from hub import matrix
from hub.access import visible
from hub.db import Database
from hub.identity import Actor
from hub.roles import AREAS, ROLES, TYPE_AREAS


@pytest.fixture(scope="module")
async def world(database: Database) -> AsyncIterator[Database]:
    await fill(database)
    yield database


def test_every_served_type_has_a_deliberate_area_and_nothing_else_has() -> None:
    assert set(TYPE_AREAS) == SERVED
    assert set(TYPE_AREAS.values()) <= set(AREAS)


def test_the_page_about_access_is_up_to_date() -> None:
    page = matrix.PAGE.read_text()
    assert matrix.fresh(page) == page, "run: python -m hub.matrix"


def test_the_table_speaks_of_every_role_and_area() -> None:
    assert {role for role, _ in LETTERS} == set(ROLES)
    assert {area for _, area in LETTERS} == set(AREAS)


@pytest.mark.parametrize("role", sorted(ROLES))
class TestMatrix:
    async def test_search_tables(self, world: Database, role: str) -> None:
        shown = visible(actor(role))
        async with world.transaction() as tx:
            for type_ in sorted(SERVED):
                condition = shown(type_, "r")
                found = set()
                if condition is not None:
                    rows = await tx.pg.execute(
                        f"SELECT r.id FROM r_{type_.lower()} r WHERE {condition.text}",  # type: ignore[arg-type]
                        condition.params,
                    )
                    found = {row[0] for row in await rows.fetchall()}
                assert found == expected(role, type_), type_

    async def test_read_and_vread(self, world: Database, role: str) -> None:
        shown = visible(actor(role))
        async with world.transaction() as tx:
            for resource in everything():
                type_, ident = resource["resourceType"], resource["id"]
                allowed = ident in expected(role, type_)
                for reading in (store.read(tx.pg, type_, ident, shown), store.vread(tx.pg, type_, ident, 1, shown)):
                    if allowed:
                        assert (await reading).id == ident
                    else:
                        with pytest.raises(Refusal) as caught:
                            await reading
                        # What cannot be seen is not told from what does not exist.
                        assert caught.value.status == (403 if shown(type_, "v") is None else 404), ident

    async def test_history_of_types_and_of_everything(self, world: Database, role: str) -> None:
        shown = visible(actor(role))
        async with world.transaction() as tx:
            all_expected: set[str] = set()
            for type_ in sorted(SERVED):
                wanted = expected(role, type_)
                all_expected |= wanted
                if shown(type_, "v") is None:
                    with pytest.raises(Refusal):
                        await store.history(tx.pg, shown, type_)
                else:
                    assert {entry.stored.id for entry in await store.history(tx.pg, shown, type_)} == wanted, type_
            entries = await store.history(tx.pg, shown, limit=1000)
            assert {entry.stored.id for entry in entries} == all_expected


async def test_an_unknown_role_sees_nothing(world: Database) -> None:
    nobody = Actor("user", "1", "X", "invented", "Practitioner/p3", ("Practitioner/p3", "Organization/hub-1"))
    assert all(visible(nobody)(type_, "r") is None for type_ in SERVED)


async def test_an_unknown_type_is_invisible_even_to_an_administrator() -> None:
    assert visible(actor("administrator"))("Invented", "r") is None


def test_an_alias_that_the_inner_query_would_capture_is_refused() -> None:
    for alias in ("access", "named", "team_member"):
        with pytest.raises(ValueError, match="captured"):
            visible(actor("clinician"))("Observation", alias)
