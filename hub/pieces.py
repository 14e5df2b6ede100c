"""The files of a job: NDJSON in pieces, each compressed by itself, so that no file ever stands in memory."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

from fhir.outcome import refuse
from hub.db import Database

PIECE_BYTES = 2 * 1024 * 1024
"""Of a piece before it is compressed, about."""


async def put(database: Database, job_id: str, file: int, number: int, data: bytes) -> None:
    """Keep one piece; Refusal 410 once the job was deleted."""
    async with database.transaction() as tx:
        await tx.pg.execute("SET LOCAL synchronous_commit = off")
        result = await tx.pg.execute(
            "INSERT INTO job_piece (job_id, file, number, data) SELECT id, %s, %s, %s FROM job WHERE id = %s"
            " ON CONFLICT (job_id, file, number) DO UPDATE SET data = excluded.data",
            (file, number, data, job_id),
        )
        if result.rowcount == 0:
            raise refuse(410, "deleted", "the job was deleted")


async def fetched(database: Database, job_id: str, file: int, count: int) -> AsyncIterator[bytes]:
    """What a file holds, a piece at a time, each in a transaction of its own: a slow reader holds no connection."""
    for number in range(count):
        async with database.transaction() as tx:
            rows = await tx.pg.execute(
                "SELECT data FROM job_piece WHERE job_id = %s AND file = %s AND number = %s", (job_id, file, number)
            )
            row: tuple[Any, ...] | None = await rows.fetchone()
        if row is None:
            # Deleted meanwhile. The answer has begun, so its connection breaks: nobody takes it for the whole.
            raise refuse(410, "deleted", "the job was deleted")
        yield await asyncio.to_thread(zlib.decompress, row[0])
