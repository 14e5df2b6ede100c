"""`$import`: keeps the NDJSON that is sent, piece by piece, and leaves the writing to a job."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.responses import Response

from fhir.outcome import refuse
from hub import audit, bulk_import, jobs
from hub.fhir_http import answer, said
from hub.flows import demand
from hub.ingest import NDJSON
from hub.interactions import Call
from hub.pieces import PIECE_BYTES, put

__all__ = ["NDJSON", "carry_out"]

MOST_BYTES = 4 * 1024**3
"""Of one file, unpacked."""
ARRIVAL = 3600
"""Seconds for it to arrive."""


async def carry_out(call: Call) -> Response:
    demand(call.actor, "record.import")
    if call.query:
        raise refuse(400, "not-supported", "$import takes no parameters; the resources are the body, one a line")
    media = (call.header("content-type") or "").partition(";")[0].strip().lower()
    if media not in NDJSON:
        raise refuse(415, "not-supported", "$import reads application/fhir+ndjson: one resource a line")
    if "respond-async" not in (call.header("prefer") or ""):
        raise refuse(400, "required", "an import takes its time: send Prefer: respond-async", "http.Prefer")
    database = call.runtime.database
    request = {"url": str(call.request.url), "pieces": 0}
    async with database.transaction() as tx:
        id_ = await jobs.start(tx, call.actor, "import", request, state="arriving")
        await audit.record(tx.pg, [audit.entry(call.actor, "import-asked", detail={"job": id_})])
    whole = False
    try:
        async with asyncio.timeout(ARRIVAL):
            count = await _keep(call, id_)
        async with database.transaction() as tx:
            await tx.pg.execute(
                "UPDATE job SET state = 'waiting', request = request || jsonb_build_object('pieces', %s::int)"
                " WHERE id = %s",
                (count, id_),
            )
        whole = True
    except TimeoutError:
        raise refuse(408, "timeout", f"the body did not arrive within {ARRIVAL} seconds") from None
    finally:
        if not whole:
            async with database.transaction() as tx:
                await jobs.remove(tx, [id_])
    call.runtime.wake.set()
    where = f"{call.service.base_url}/$job/{id_}"
    return answer(202, said(f"the import has begun; {where} tells how far it is"), {"Content-Location": where})


async def _keep(call: Call, job_id: str) -> int:
    """How many pieces were kept. Refusal 400 when there was nothing, 413 when it was too much."""
    number = size = 0
    async for piece in _pieces(call.request.stream()):
        size += len(piece)
        if size > MOST_BYTES:
            raise refuse(413, "too-long", f"the body is larger than {MOST_BYTES:,} bytes: send several files")
        data = await asyncio.to_thread(zlib.compress, piece, 3)
        await put(call.runtime.database, job_id, bulk_import.GIVEN, number, data)
        number += 1
    if not number:
        raise refuse(400, "structure", "there is nothing in the body: send a resource on each line", "http.body")
    return number


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    async for some in stream:
        waiting.append(some)
        size += len(some)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)
