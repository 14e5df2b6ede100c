"""The work of `$import`: NDJSON that lies in `job_piece`, written line by line in the name of whoever sent it.

A process that dies leaves what it has written, and the next one begins with the first line again: what is in already is
recognised and makes no version, so that the report is whole whoever finishes it.
"""

import asyncio
import zlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fhir.outcome import Issue, operation_outcome, refuse
from fhir.wire import encode
from hub import importer
from hub.db import Database
from hub.identity import Actor
from hub.importer import Refused, Summary
from hub.jobs import JSON, Job, Told
from hub.pieces import fetched, put
from hub.sources import Source, discover

PATH = "/fhir/$import"
GIVEN, REPORT = 0, 1
"""Files of the job: what was sent, and what was refused of it."""
MOST_REFUSED = 10_000


class _Watching:
    """Says how far it is, and ends an import of which too much is refused: such a file is the wrong one."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def file(self, source: Source, passed_over: bool) -> None:
        self._told.words = "reading"

    def progress(self, source: Source, offset: int, summary: Summary) -> None:
        share = offset * 100 // max(1, source.size)
        self._told.words = f"{share} %: {summary.resources:,} lines, {len(summary.refused):,} refused"
        if len(summary.refused) >= MOST_REFUSED:
            raise refuse(422, "too-costly", f"{MOST_REFUSED:,} lines were refused; the rest was not read")


async def run(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
    """Carry out the import; gives what the manifest is made of."""
    if not actor.can("record.import"):
        raise refuse(403, "forbidden", "your role does not allow imports any more")
    with TemporaryDirectory(prefix="carehub-import-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "given.ndjson"
        with path.open("wb") as file:
            async for raw in fetched(database, job.id, GIVEN, job.request["pieces"]):
                await asyncio.to_thread(file.write, raw)
        found = await asyncio.to_thread(discover, [path])
        summary = await importer.run(database, found, _Watching(told), again=True, actor=actor)
    errors = [await _report(database, job, summary.refused)] if summary.refused else []
    async with database.transaction() as tx:
        await tx.pg.execute("DELETE FROM job_piece WHERE job_id = %s AND file = %s", (job.id, GIVEN))
    counts = {name: getattr(summary, name) for name in ("created", "updated", "unchanged")}
    return {"error": errors, "counts": {**counts, "refused": len(summary.refused)}}


async def _report(database: Database, job: Job, refused: Sequence[Refused]) -> JSON:
    raw = b"".join(encode(operation_outcome([_told(one, issue) for issue in one.issues])) + b"\n" for one in refused)
    await put(database, job.id, REPORT, 0, await asyncio.to_thread(zlib.compress, raw, 3))
    return {"file": REPORT, "type": "OperationOutcome", "count": len(refused), "bytes": len(raw), "pieces": 1}


def _told(one: Refused, issue: Issue) -> Issue:
    """The issue with the line it is about; lines count from 1, 0 is the file as a whole."""
    what = f" ({one.type}/{one.id})" if one.type and one.id else ""
    return Issue(issue.code, f"line {one.entry}{what}: {issue.diagnostics}", issue.expression, issue.severity)
