"""Exports what is stored as NDJSON, a file per type, streamed; the names keep the order in which it can be imported."""

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import sql

from fhir.outcome import refuse
from fhir.registry import SPECS
from hub import audit
from hub.db import Database, Tx
from hub.identity import IMPORTER
from hub.sources import rank

# Rows between two words about progress.
STEP = 1000

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """How many resources of each type were written, and where."""

    counts: dict[str, int]
    files: tuple[Path, ...]


async def run(
    database: Database,
    folder: Path,
    types: Sequence[str] = (),
    patients: Sequence[str] = (),
    *,
    zipped: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the current version of every resource of *types* (all when empty) into *folder*, made when missing.

    With *patients* (ids) only what is about them. All files show one moment. A file appears under its name when it is
    complete; types of which there is nothing get none. *progress* hears of a type and how many more are written.
    Refusal 404 for an unknown type or patient.
    """
    for name in types:
        if name not in SPECS:
            raise refuse(404, "not-found", f"There is no FHIR type {name!r} here.")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    wanted = sorted(types or SPECS, key=lambda name: (rank(name), name))
    counts: dict[str, int] = {}
    files: list[Path] = []
    async with database.transaction() as tx:
        await tx.pg.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await tx.pg.execute("SET LOCAL statement_timeout = 0")
        await _require(tx, patients)
        for name in wanted:
            path = folder / f"{len(files) + 1:02d}-{name}.ndjson{'.gz' if zipped else ''}"
            count = await _write(tx, name, patients, path, zipped, progress)
            if count:
                counts[name] = count
                files.append(path)
        detail = {"types": counts, "patients": len(patients) or "all"}
        about: Sequence[str | None] = patients or [None]
        await audit.record(
            tx.pg, [audit.entry(IMPORTER, "export", patient_id=patient_id, detail=detail) for patient_id in about]
        )
    return Exported(counts, tuple(files))


async def _require(tx: Tx, patients: Sequence[str]) -> None:
    rows = await tx.pg.execute("SELECT id FROM r_patient WHERE id = ANY(%s)", (list(patients),))
    there = {row[0] for row in await rows.fetchall()}
    missing = [ident for ident in patients if ident not in there]
    if missing:
        raise refuse(404, "not-found", f"There is no Patient/{missing[0]}.")


async def _write(
    tx: Tx, name: str, patients: Sequence[str], path: Path, zipped: bool, progress: Progress | None
) -> int:
    query = sql.SQL(
        """COPY (SELECT v.body FROM {table} r
                 JOIN resource_version v ON v.type = {type} AND v.id = r.id AND v.version = r.version
                 {limited} ORDER BY r.id) TO STDOUT (FORMAT binary)"""
    ).format(
        table=sql.Identifier(f"r_{name.lower()}"),
        type=sql.Literal(name),
        limited=sql.SQL("WHERE r.patient_id = ANY({})").format(sql.Literal(list(patients)))
        if patients
        else sql.SQL(""),
    )
    unfinished = path.with_name(f".{path.name}.part")
    count = told = 0
    with _open(unfinished, zipped) as file:
        async with tx.pg.cursor().copy(query) as copy:
            copy.set_types(["text"])
            async for (body,) in copy.rows():
                file.write(body.encode() + b"\n")
                count += 1
                if progress and count - told == STEP:
                    progress(name, STEP)
                    told = count
    if count:
        unfinished.rename(path)
    else:
        unfinished.unlink()
    if progress and count > told:
        progress(name, count - told)
    return count


def _open(path: Path, zipped: bool) -> IO[bytes]:
    return gzip.open(path, "wb", compresslevel=4) if zipped else path.open("wb")  # type: ignore[return-value]
