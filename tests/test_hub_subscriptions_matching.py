"""The search row that is made again for a version that was superseded is the one the store would have written."""

from datetime import UTC, datetime

import pytest
from minimal import minimal

from fhir import store
from fhir.registry import SPECS
from fhir.store import Change, new_id
from fhir.types import SERVED
from hub.db import Tx
from hub.subscriptions.matching import _rows_of

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
