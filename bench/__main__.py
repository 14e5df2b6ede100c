"""`make bench`: the table of what is reached. `ARGS='--people 1500 --readings 20000 --seconds 4'` for a quick look."""

import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import fhir_server, measures, mqtt, overdue, replay
from bench.measures import Measure, Row
from bench.setting import say, setting

SPINE = ("boards", "visible", "posts", "ndjson", "mqtt", "synthea")
ALONE = {"overdue": overdue.measured, "replay": replay.measured}
"""Work that makes a database of its own, and needs no service."""
SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "synthea"


def main(
    people: Annotated[int, typer.Option(help="Size of the population.")] = 110_000,
    readings: Annotated[int, typer.Option(help="Readings stored before measuring.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="How long each measure runs.")] = 15.0,
    lines: Annotated[int, typer.Option(help="Lines of the NDJSON measure.")] = 80_000,
    workers: Annotated[int, typer.Option(help="Processes of the service.")] = 2,
    observations: Annotated[
        str, typer.Option(help="Sizes at which searches are measured; the other work of the FHIR server at the last.")
    ] = "10000,100000,1000000",
    only: Annotated[
        str, typer.Option(help=f"Names, parted by commas: {' '.join((*SPINE, *ALONE, *fhir_server.NAMES))}.")
    ] = "",
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the rows here as well.")] = None,
) -> None:
    wanted = set(filter(None, only.split(",")))
    if strangers := wanted - {*SPINE, *ALONE, *fhir_server.NAMES}:
        raise typer.BadParameter(f"there is no {', '.join(sorted(strangers))}", param_hint="--only")
    sizes = sorted(int(size) for size in observations.split(","))
    rows: list[Row] = []
    if not wanted or wanted & set(SPINE):
        rows += asyncio.run(_measure(people, readings, seconds, lines, workers, wanted))
    for name, measured in ALONE.items():
        if not wanted or name in wanted:
            rows += asyncio.run(measured())
    if not wanted or wanted & set(fhir_server.NAMES):
        rows += asyncio.run(_fhir(sizes, seconds, workers, wanted))
    table = Table("work", "figure", "ceiling", "of it", "reach", "", title=_machine())
    for row in rows:
        table.add_row(row.work, row.figure, row.ceiling, row.ratio, row.reach, "yes" if row.reached else "NO")
    console = Console(width=160)
    console.print(table)
    for row in rows:
        if row.plan:
            console.print(f"\n{row.work}\n{row.plan}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        as_json.write_text(json.dumps([{name: getattr(row, name) for name in Row.__slots__} for row in rows], indent=1))


async def _measure(people: int, readings: int, seconds: float, lines: int, workers: int, wanted: set[str]) -> list[Row]:
    rows: list[Row] = []
    async with setting(people, readings, workers) as here:
        work: list[tuple[str, Measure]] = [
            ("boards", lambda s: measures.board(s, "/mdt", "clinician", seconds)),
            ("boards", lambda s: measures.board(s, "/today", "care-coordinator", seconds)),
            ("visible", lambda s: measures.until_visible(s, seconds)),
            ("posts", lambda s: measures.single_posts(s, seconds)),
            ("ndjson", lambda s: measures.ndjson(s, lines)),
            ("mqtt", lambda s: mqtt.rate(s, lines)),
            ("mqtt", lambda s: mqtt.delay(s, seconds)),
        ]
        if SHARED.is_dir():
            work.append(("synthea", lambda s: measures.synthea(s, SHARED)))
        largest = 0.0
        for name, measure in work:
            if wanted and name not in wanted:
                continue
            row = await measure(here)
            say(f"{row.work}: {row.figure}; {row.ceiling} {row.ratio}")
            rows.append(row)
            largest = max(largest, here.memory())
        rows.append(_memory("the above", largest))
    return rows


async def _fhir(sizes: list[int], seconds: float, workers: int, wanted: set[str]) -> list[Row]:
    rows, largest = await fhir_server.measured(sizes, seconds, workers, wanted, SHARED if SHARED.is_dir() else None)
    return [*rows, _memory("the FHIR server's work", largest)] if largest else rows


def _memory(work: str, largest: float) -> Row:
    return Row(
        f"resident memory of the service while doing {work}",
        f"{largest:,.0f} MB in the largest process",
        "",
        "",
        "< 400 MB a process",
        largest < 400,
    )


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {sys.version.split()[0]}, PostgreSQL on the same machine"
    )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
