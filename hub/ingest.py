"""The doors for readings: single posts that share a commit, and `$ingest`, which reads a stream of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from fhir.outcome import Issue, Refusal, operation_outcome, outcome_of, refuse
from fhir.validation import parse
from hub import flows, foreign, hearing, identity, intake
from hub.audit import REQUEST_ID
from hub.db import Database
from hub.fhir_formats import wanted, written
from hub.fhir_http import answer, base_of, localise
from hub.gathering import Gathering
from hub.identity import Actor
from hub.intake import Receipt, Sent
from monitoring.doubts import Doubt

PATH = "/fhir/$ingest"
NDJSON = frozenset({"application/fhir+ndjson", "application/ndjson", "application/x-ndjson"})

LINE_BYTES = 1024 * 1024
"""A longer line is no reading."""
CHUNK = 500
"""Lines that are read ahead of the database."""
LISTED = 1000
"""Refused lines that an answer lists; all are counted and kept."""

# A database that restarts is back within seconds; a device that waits this long sends again anyway.
PATIENCE = 20.0


# Seconds that a busy door waits at most for those whom it has just answered.
PAUSE = 0.015


class Submissions:
    """Readings of all requests of this process, stored in groups: the answer comes only after the commit."""

    def __init__(self, database: Database, max_batch: int = 500, workers: int = 1) -> None:
        self._database = database
        self._hearing = hearing.of(database)
        self._gathering: Gathering[Sent, Receipt] = Gathering(self._store, max_batch, workers, PAUSE)

    async def submit(self, sent: Sent) -> Receipt:
        """The receipt of *sent*, when it is committed. Raises what the database raised once patience is over."""
        return await self._gathering.submit(sent)

    async def submit_all(self, sent: Iterable[Sent]) -> list[Receipt]:
        """The receipts of *sent*, in order, when all are committed. Raises like `submit`."""
        return await self._gathering.submit_all(sent)

    async def close(self) -> None:
        await self._gathering.close()
        await self._hearing.close()

    async def _store(self, batch: list[Sent]) -> list[Receipt]:
        """Carry out a batch; again when the database went away meanwhile, which is safe because keys are idempotent."""
        # Each reading names its own request; what follows from several is nobody's.
        REQUEST_ID.set(batch[0].request if len(batch) == 1 else None)
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                async with self._database.transaction() as tx:
                    receipts = await flows.receive_readings(tx, batch)
                self._hearing.sent(batch, receipts)
                return receipts
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.OperationalError:
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.1)


async def submit(submissions: Submissions, database: Database, actor: Actor, raw: bytes, base_url: str) -> Receipt:
    """One Observation as it came: what cannot be one is filed before the Refusal is raised."""
    try:
        observation = _parsed(raw, base_url)
    except Refusal as refusal:
        async with database.transaction() as tx:
            await intake.file_refusals(tx, [(actor, raw, refusal)])
        raise
    return await submissions.submit(intake.sent(actor, observation, raw))


def _parsed(raw: bytes, base_url: str) -> dict[str, Any]:
    """The valid Observation in *raw*; what it refers to by this hub's own address, it refers to here."""
    observation = parse(raw, "Observation").resource
    # Hardly any device does, so that nearly every reading is spared the walk.
    return localise(observation, base_url) if base_url.encode() in raw or b"\\/" in raw else observation


@dataclass(slots=True)
class Tally:
    """What became of a stream: counts by outcome, the refused lines, and those that no rule looks at as a whole."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, Refusal]] = field(default_factory=list)
    doubtful: list[tuple[int, Sequence[Doubt]]] = field(default_factory=list)

    def add(self, line: int, receipt: Receipt) -> None:
        self.counts[receipt.outcome] += 1
        if receipt.refusal is not None and len(self.refused) < LISTED:
            self.refused.append((line, receipt.refusal))
        if receipt.doubts:
            self.counts["doubtful"] += 1
            if len(self.doubtful) < LISTED:
                self.doubtful.append((line, receipt.doubts))

    def parameters(self) -> dict[str, Any]:
        """A FHIR Parameters: `accepted`, `corrected`, `duplicate`, `refused` and, of those kept, `doubtful`; a
        `refused-line` or `doubtful-line` for each. `aside`: lines of a file that are no readings (see hub.foreign)."""
        counts = [
            {"name": name, "valueInteger": self.counts[name]}
            for name in ("accepted", "corrected", "duplicate", "refused", "doubtful")
        ]
        if self.counts["aside"]:
            counts.append({"name": "aside", "valueInteger": self.counts["aside"]})
        lines = [_line("refused-line", line, outcome_of(refusal)) for line, refusal in self.refused]
        for line, doubts in self.doubtful:
            lines.append(_line("doubtful-line", line, operation_outcome([doubt.issue() for doubt in doubts])))
        return {"resourceType": "Parameters", "parameter": counts + lines}


def _line(name: str, line: int, outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "part": [{"name": "line", "valuePositiveInt": line}, {"name": "outcome", "resource": outcome}],
    }


async def ingest(request: Request) -> Response:
    """`POST /fhir/$ingest`: one Observation a line. Every line is stored, known already, or refused with its reason.

    Chunks are committed as they come, so that a stream that breaks may be sent again from its start.
    """
    runtime = request.app.state.runtime
    actor = await identity.authenticate(request.headers, request.cookies, runtime.database)
    if actor.kind != "device":
        raise refuse(403, "forbidden", "$ingest takes a device's key; other systems send bundles.")
    if (said := request.headers.get(hearing.HEADER)) is not None:
        hearing.of(runtime.database).clock(actor.id, said)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in foreign.FORMATS:
        return await written(answer(200, await _foreign(request, actor, media)), wanted(request))
    if media not in NDJSON:
        known = ", ".join(("application/fhir+ndjson", *foreign.FORMATS))
        raise refuse(415, "not-supported", f"$ingest reads {known}.")
    tally, base_url = Tally(), base_of(runtime.settings.base_url, request)
    # One chunk is stored while the next one is read and checked.
    storing: asyncio.Task[None] | None = None
    try:
        async for chunk in _chunks(request.stream()):
            ready = _checked(actor, chunk, base_url)
            if storing is not None:
                await storing
            storing = asyncio.create_task(_store(runtime.submissions, runtime.database, ready, tally))
        if storing is not None:
            await storing
    except BaseException:
        if storing is not None and not storing.done():
            await asyncio.gather(storing, return_exceptions=True)
        raise
    return await written(answer(200, tally.parameters()), wanted(request))


async def _foreign(request: Request, actor: Actor, media: str) -> dict[str, Any]:
    """The Parameters that answer a body in another format: read whole, so it is limited as every other body is."""
    runtime = request.app.state.runtime
    most, raw = runtime.settings.max_body_bytes, bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > most:
            raise refuse(413, "too-long", f"A body of {media} may have {most} bytes; send it in parts.")
    known = await foreign.holders(runtime.database, [actor.id])
    content = await asyncio.to_thread(foreign.content, media, bytes(raw))
    tally = Tally()
    tally.counts["aside"] = len(content.aside)
    ready = await asyncio.to_thread(foreign.lines, actor, content, known)
    for at in range(0, len(ready), CHUNK):
        await _store(runtime.submissions, runtime.database, ready[at : at + CHUNK], tally)
    return tally.parameters()


Line = foreign.Line


async def _chunks(stream: AsyncIterator[bytes]) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Numbered lines, CHUNK at a time; memory is bounded by one chunk and one line. A line too long comes cut."""
    rest = b""
    number = 0
    chunk: list[tuple[int, bytes]] = []
    skipping = False
    async for piece in stream:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            if skipping:
                skipping = False
                continue
            if line.strip():
                chunk.append((number, line[: LINE_BYTES + 1]))
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        if len(rest) > LINE_BYTES:
            if not skipping:
                chunk.append((number + 1, rest[: LINE_BYTES + 1]))
            skipping, rest = True, b""
    if rest.strip() and not skipping:
        chunk.append((number + 1, rest))
    if chunk:
        yield chunk


def _checked(actor: Actor, chunk: Sequence[tuple[int, bytes]], base_url: str) -> list[Line]:
    ready: list[Line] = []
    for number, raw in chunk:
        try:
            if len(raw) > LINE_BYTES:
                raise refuse(413, "too-long", f"A line is longer than {LINE_BYTES} bytes.")
            ready.append((number, intake.sent(actor, _parsed(raw, base_url), raw)))
        except Refusal as refusal:
            ready.append((number, (actor, raw, refusal)))
    return ready


async def _store(submissions: Submissions, database: Database, ready: Sequence[Line], tally: Tally) -> None:
    good = [(number, one) for number, one in ready if isinstance(one, Sent)]
    bad = [(number, one) for number, one in ready if not isinstance(one, Sent)]
    receipts = await submissions.submit_all(one for _, one in good)
    if bad:
        async with database.transaction() as tx:
            await intake.file_refusals(tx, [one for _, one in bad])
    found = [(number, receipt) for (number, _), receipt in zip(good, receipts, strict=True)]
    found += [(number, Receipt("refused", refusal=refusal)) for number, (_, _, refusal) in bad]
    for number, receipt in sorted(found, key=lambda one: one[0]):
        tally.add(number, receipt)


async def _posted_only(request: Request) -> Response:
    raise Refusal(405, [Issue("not-supported", "$ingest takes POST: one Observation a line.")], {"Allow": "POST"})


def register(app: FastAPI) -> None:
    app.add_route(PATH, ingest, methods=["POST"], include_in_schema=False)
    app.add_route(PATH, _posted_only, methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)
