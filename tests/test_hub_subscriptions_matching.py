"""Which versions a subscription is about: for every type and role, nothing leaks, and what should be seen is."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from access_world import actor, expected, fill
from minimal import minimal
from rest import Fresh

from fhir import store
from fhir.registry import SPECS
from fhir.store import Change, new_id
from fhir.types import SERVED
from hub.access import visible
from hub.db import Database, Tx
from hub.roles import ROLES
from hub.subscriptions import events
from hub.subscriptions.matching import _rows_of, matches

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("type_name", sorted(SERVED))
async def test_it_has_every_column_with_the_same_value(tx: Tx, type_name: str) -> None:
    """When a search table gets a column, this fails until `hub.subscriptions.matching` makes it too."""
    spec = SPECS[type_name]
    id_ = new_id()
    change = Change("create", type_name, id_, minimal(type_name, id=id_, language="en", implicitRules="urn:x"))
    [written] = await store.write(tx.pg, [change], "Device/x", AT)
    assert written.body is not None
    columns = ", ".join(f"{column.name}::text" for column in spec.table.columns)
    stored = await (
        await tx.pg.execute(f"SELECT {columns} FROM r_{type_name.lower()} WHERE id = %s", (id_,))
    ).fetchone()
    again = _rows_of(spec, [(7, id_, 1, AT, written.body)])
    made = await (await tx.pg.execute(f"SELECT {columns}, seq FROM ({again.text}) r", again.params)).fetchone()
    assert stored is not None and made == (*stored, 7)


@pytest.fixture(scope="module")
async def world(fresh_url: Fresh) -> AsyncIterator[Database]:
    database = Database(fresh_url())
    await fill(database)
    yield database
    await database.close()


@pytest.mark.parametrize("role", sorted(ROLES))
@pytest.mark.parametrize("superseded", [False, True])
async def test_each_role_is_told_of_what_it_may_see_and_of_nothing_else(
    world: Database, role: str, superseded: bool
) -> None:
    """The same table as for every other way to read: see access_world."""
    shown = visible(actor(role))
    with suppress(Undo):
        async with world.transaction() as tx:
            if superseded:
                # As if each had been written again since: then the version is looked at, not the search row.
                for type_ in sorted(SERVED):
                    await tx.pg.execute(f"UPDATE r_{type_.lower()} SET version = 2")
            for type_ in sorted(SERVED):
                found = await matches(tx.pg, type_, (), None, shown, "", 0, 1_000_000)
                assert {match.id for match in found} == expected(role, type_), type_
            raise Undo


class Undo(Exception):
    """Leaves a transaction without a trace."""


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_what_a_role_may_not_see_is_a_number_and_nothing_else(world: Database, role: str) -> None:
    shown = visible(actor(role))
    async with world.transaction() as tx:
        for type_ in sorted(SERVED):
            await tx.pg.execute(
                "INSERT INTO subscription_event (subscription_id, number, resource_id, version, at)"
                f" SELECT '{role}-{type_}', row_number() OVER (ORDER BY id), id, 1, now() FROM r_{type_.lower()}"
            )
            found = await events.read(tx.pg, f"{role}-{type_}", type_, shown, 0, None, 100)
            told = {event.id for event, _, _ in found if event.body is not None}
            assert told == expected(role, type_), type_
            assert [event.number for event, _, _ in found] == list(range(1, len(found) + 1))
