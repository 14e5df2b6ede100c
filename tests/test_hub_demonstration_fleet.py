"""The fleet of the demonstration shows what fleets are like."""

from datetime import UTC, datetime

import factories

from hub import fleet
from hub.db import Tx
from hub.demonstration.fleet import stage
from hub.identity import OPERATOR
from monitoring.instruments import INSTRUMENTS

NOW = datetime.now(UTC).replace(microsecond=0)


async def test_each_filter_has_something_to_show_once(tx: Tx) -> None:
    for _ in range(4):
        patient_id = await factories.patient(tx)
        for kind in ("oximeter", "scales"):
            await factories.device(tx, patient_id, type=INSTRUMENTS[kind].concept)
    assert await stage(tx, NOW)
    counts = (await fleet.fleet(tx.pg, OPERATOR, NOW)).counts
    assert all(counts[chip] for chip in fleet.CHIPS), counts
    assert not await stage(tx, NOW)
    assert (await fleet.fleet(tx.pg, OPERATOR, NOW)).counts == counts
    uses = await tx.pg.execute("SELECT count(*) FROM device_use WHERE until IS NOT NULL")
    assert await uses.fetchone() == (1,)


async def test_a_fleet_too_small_to_show_anything_is_left_as_it_is(tx: Tx) -> None:
    await factories.device(tx, await factories.patient(tx), type=INSTRUMENTS["oximeter"].concept)
    assert not await stage(tx, NOW)
