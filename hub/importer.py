"""Imports files of resources through the one path for every write, in batches, so that it can stop and go on again.

How far a file is done is committed with what was written of it; a file of which everything is in is passed over the
next time. Ids follow from the file (see `hub.sources`), so that even a second reading changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

import msgspec
import psycopg

from fhir import store
from fhir.outcome import Issue, Refusal, refuse
from fhir.store import Change, Stored
from hub import flows, sources
from hub.aliases import Aliases
from hub.db import Database, Tx
from hub.identity import IMPORTER, Actor
from hub.sources import Entry, Source

JSON = dict[str, Any]

# Changes in one transaction: many enough to write in sets, few enough that one bad resource costs little to find.
BATCH = 1000
PIECES = 32


@dataclass(frozen=True, slots=True)
class Refused:
    """One resource that was not imported, and why. *entry* counts from 1; 0 stands for the file as a whole."""

    file: str
    entry: int
    type: str
    id: str
    status: int
    issues: tuple[Issue, ...]

    def as_json(self) -> JSON:
        found = [issue.as_json() for issue in self.issues]
        return {
            "file": self.file,
            "entry": self.entry,
            "type": self.type,
            "id": self.id,
            "status": self.status,
            "issue": found,
        }


@dataclass(slots=True)
class Summary:
    files: int = 0
    passed_over: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def resources(self) -> int:
        return self.created + self.updated + self.unchanged + self.deleted + len(self.refused)


class Watcher(Protocol):
    """Hears how an import goes on."""

    def file(self, source: Source, passed_over: bool) -> None: ...

    def progress(self, source: Source, offset: int, summary: Summary) -> None: ...


async def run(
    database: Database,
    found: Sequence[Source],
    watcher: Watcher | None = None,
    *,
    again: bool = False,
    now: datetime | None = None,
    actor: Actor = IMPORTER,
) -> Summary:
    """Import *found* (see `hub.sources.discover`) in their order. *again* reads files that were imported before.

    *actor* is in whose name, and within whose rights, it is written.

    *now* is the moment that readings are judged against. What a file holds that cannot be imported stands in the
    summary; nothing is raised for it.
    """
    importing = _Importing(database, watcher, now, actor)
    for source in found:
        await importing.file(source, again)
    await importing.settle()
    return importing.summary


class _Importing:
    def __init__(self, database: Database, watcher: Watcher | None, now: datetime | None, actor: Actor) -> None:
        self._database = database
        self._watcher = watcher
        self._now = now
        self._actor = actor
        self._aliases = Aliases(actor)
        self.summary = Summary()

    async def file(self, source: Source, again: bool) -> None:
        digest = await asyncio.to_thread(sources.digest, source.path)
        done, finished = (0, False) if again else await self._progress(digest)
        self.summary.files += 1
        if self._watcher:
            self._watcher.file(source, finished)
        if finished:
            self.summary.passed_over += 1
            return
        refused = len(self.summary.refused)
        try:
            async for batch in self._batches(source, digest, done):
                done = await self._import(source, digest, batch, done)
        except Refusal as refusal:
            self.summary.refused.append(Refused(str(source.path), 0, "", "", refusal.status, refusal.issues))
        # A file of which something was refused is read again the next time: what was missing may be there by then.
        finished = len(self.summary.refused) == refused
        async with self._transaction() as tx:
            await _remember(tx, digest, done if finished else 0, finished)

    async def settle(self) -> None:
        """One commit that waits for the disk, and with it for all commits before."""
        async with self._database.transaction() as tx:
            await tx.pg.execute(
                "UPDATE imported_file SET at = at WHERE digest = (SELECT digest FROM imported_file LIMIT 1)"
            )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Tx]:
        """A commit that does not wait for the disk: after a power cut, what is done and how far it is done agree, and
        the import goes on from there. Nothing is called imported before `settle`."""
        async with self._database.transaction() as tx:
            await tx.pg.execute("SET LOCAL synchronous_commit = off")
            yield tx

    async def _progress(self, digest: bytes) -> tuple[int, bool]:
        async with self._database.transaction() as tx:
            rows = await tx.pg.execute("SELECT entries_done, finished FROM imported_file WHERE digest = %s", (digest,))
            return await rows.fetchone() or (0, False)

    async def _batches(self, source: Source, digest: bytes, done: int) -> AsyncIterator[list[Entry]]:
        """Batches of entries, the next one read and checked while the database is busy with the one before."""
        found: Iterator[Entry] = sources.entries(source, digest, done)
        self._aliases.enter(())
        if not source.lines:
            everything = await asyncio.to_thread(list, found)
            self._aliases.enter(everything)
            found = (entry for entry in everything if entry.number > done)
        reading = asyncio.create_task(asyncio.to_thread(list, islice(found, BATCH)))
        try:
            while batch := await reading:
                reading = asyncio.create_task(asyncio.to_thread(list, islice(found, BATCH)))
                yield batch
        finally:
            reading.cancel()

    async def _import(self, source: Source, digest: bytes, batch: list[Entry], done: int) -> int:
        """Write a batch; gives how many entries are done."""
        whole = [entry for entry in batch if entry.refusal is None]
        settled = await self._aliases.settle(self._database, whole)
        self.summary.unchanged += len(whole) - len(settled)
        for entry in batch:
            if entry.refusal is not None:
                self._refuse(source, entry, entry.refusal)
        await self._write(source, digest, [entry for entry in settled if entry.refusal is None])
        done = max(done, batch[-1].number)
        if self._watcher:
            self._watcher.progress(source, batch[-1].offset, self.summary)
        return done

    async def _write(self, source: Source, digest: bytes, entries: list[Entry]) -> None:
        """All of *entries* in one transaction, or pieces of them, down to the one that is refused."""
        if not entries:
            return
        try:
            async with self._transaction() as tx:
                counted = await self._write_in(tx, entries)
                await _remember(tx, digest, entries[-1].number, finished=False)
        except Refusal as refusal:
            await self._split(source, digest, entries, refusal)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            # The primary message names the constraint; the detail, which would hold values, is left out.
            problem = refuse(422, "processing", f"the database refuses it: {error.diag.message_primary}")
            await self._split(source, digest, entries, problem)
        else:
            created, updated, unchanged, deleted = counted
            self.summary.created += created
            self.summary.updated += updated
            self.summary.unchanged += unchanged
            self.summary.deleted += deleted

    async def _split(self, source: Source, digest: bytes, entries: list[Entry], refusal: Refusal) -> None:
        """Into pieces rather than halves: with many bad resources in a batch the good ones are written twice, not
        once for each level."""
        if len(entries) == 1:
            self._refuse(source, entries[0], refusal)
            return
        size = -(-len(entries) // PIECES)
        for start in range(0, len(entries), size):
            await self._write(source, digest, entries[start : start + size])

    async def _write_in(self, tx: Tx, entries: list[Entry]) -> tuple[int, int, int, int]:
        there = await store.load(tx.pg, [(entry.type, entry.id) for entry in entries])
        changes = [_change(entry, there.get((entry.type, entry.id))) for entry in entries]
        written = await flows.write(tx, self._actor, changes, self._now)
        created = updated = unchanged = deleted = 0
        for one in written:
            before = there.get((one.change.type, one.change.id))
            if one.status == 204:
                deleted += 1
            elif before is None or before.body is None:
                created += 1
            elif one.version == before.version:
                unchanged += 1
            else:
                updated += 1
        return created, updated, unchanged, deleted

    def _refuse(self, source: Source, entry: Entry, refusal: Refusal) -> None:
        self.summary.refused.append(
            Refused(str(source.path), entry.number, entry.type, entry.id, refusal.status, refusal.issues)
        )


def _change(entry: Entry, there: Stored | None) -> Change:
    if entry.deletes:
        return Change("delete", entry.type, entry.id, None)
    return Change("create" if there is None else "update", entry.type, entry.id, entry.resource)


async def _remember(tx: Tx, digest: bytes, done: int, finished: bool) -> None:
    await tx.pg.execute(
        """INSERT INTO imported_file (digest, entries_done, finished, at) VALUES (%s, %s, %s, %s)
           ON CONFLICT (digest) DO UPDATE
           SET entries_done = excluded.entries_done, finished = excluded.finished, at = excluded.at""",
        (digest, done, finished, datetime.now(UTC)),
    )


def report(refused: Sequence[Refused]) -> bytes:
    """What was refused, as JSON lines."""
    return b"".join(msgspec.json.encode(one.as_json()) + b"\n" for one in refused)


def reasons(refused: Sequence[Refused]) -> list[tuple[int, str, str, str]]:
    """(how many, type, why, where for example) of what was refused, most frequent first."""
    counts: dict[tuple[str, str], list[Refused]] = {}
    for one in refused:
        issue = one.issues[0]
        why = f"{issue.expression}: {issue.diagnostics}" if issue.expression else issue.diagnostics
        counts.setdefault((one.type, why), []).append(one)
    rows = [(len(ones), type_, why, f"{ones[0].file}:{ones[0].entry}") for (type_, why), ones in counts.items()]
    return sorted(rows, reverse=True)


__all__ = ["Refused", "Summary", "Watcher", "reasons", "report", "run"]
