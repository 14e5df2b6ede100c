"""Writes typed readings and receipts: set-based, in the transaction of their Observations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from monitoring.readings import Reading

COPY_FROM = 20
"""From this many rows on COPY, which costs a round trip more than one INSERT, is the cheaper."""

_COLUMNS = {
    "observation_id": "text",
    "measure": "text",
    "patient_id": "text",
    "at": "timestamptz",
    "value": "float8",
    "word": "text",
    "given": "text",
    "device_id": "text",
    "quality": "text",
    "why": "text",
    "received": "timestamptz",
}


async def project_readings(
    pg: psycopg.AsyncConnection[Any], readings: Sequence[Reading], received: datetime, replaced: Sequence[str] = ()
) -> None:
    """Store *readings*. *replaced* are the Observations that were updated or deleted: their old rows go first."""
    if replaced:
        await pg.execute("DELETE FROM reading WHERE observation_id = ANY(%s)", (list(replaced),))
    if not readings:
        return
    rows = [
        (
            one.observation_id,
            one.measure,
            one.patient_id,
            one.at,
            one.value,
            one.word,
            one.given,
            one.device_id,
            one.quality,
            one.why,
            received,
        )
        for one in readings
    ]
    if len(rows) < COPY_FROM:
        columns = [list(column) for column in zip(*rows, strict=True)]
        arrays = ", ".join(f"%s::{kind}[]" for kind in _COLUMNS.values())
        await pg.execute(f"INSERT INTO reading ({', '.join(_COLUMNS)}) SELECT * FROM unnest({arrays})", columns)
        return
    async with pg.cursor().copy(f"COPY reading ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(list(_COLUMNS.values()))
        for row in rows:
            await copy.write_row(row)
