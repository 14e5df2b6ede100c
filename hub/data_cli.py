"""The commands that bring data in and out: `population`, `import`, `export`. Slow imports stand inside them."""

import asyncio
import signal
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import TypeVar

    from hub.db import Database
    from hub.importer import Summary
    from hub.sources import Source

    Result = TypeVar("Result")

console = Console()
errors = Console(stderr=True)

# Longest statement of an import or export, in milliseconds: a batch is large, and nobody waits for a page.
PATIENCE_MS = 600_000


def register(app: typer.Typer) -> None:
    app.command("population")(population)
    app.command("import")(import_)
    app.command("export")(export)


def population(
    out: Annotated[Path, typer.Option(help="Folder to write into; made when missing.")],
    size: Annotated[int, typer.Option(min=1, max=900_000, help="How many people.")] = 50,
    seed: Annotated[int, typer.Option(help="Another seed gives other people.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Days of readings for those who measure at home.")] = 30,
    readings: Annotated[int | None, typer.Option(min=1, help="This many readings in all, instead of days.")] = None,
    as_of: Annotated[datetime | None, typer.Option(help="The moment it is made for, UTC; default: now.")] = None,
    zipped: Annotated[bool, typer.Option("--gzip", help="Compress the files.")] = False,
) -> None:
    """Make synthetic people of an invented county as NDJSON, a file per FHIR type, to be loaded with `carehub import`.

    The same size, seed, days (or readings) and moment give the same bytes. Everything carries the tag HTEST.
    """
    from hub.population import Recipe, write

    moment = (as_of or datetime.now(UTC).replace(second=0, microsecond=0)).replace(tzinfo=UTC)
    recipe = Recipe(size, moment, seed, days, readings)
    with _bar("people") as progress:
        task = progress.add_task("making", total=size)
        made = write(recipe, out, zipped, lambda more: progress.advance(task, more))
    table = Table("type", Column("resources", justify="right"), box=None, pad_edge=False)
    for name, count in made.counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(
        f"{sum(made.counts.values()):,} resources in {out}, made for {moment:%Y-%m-%dT%H:%M} UTC", highlight=False
    )


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders: bundles, resources, NDJSON; plain or .gz.")],
    report: Annotated[Path | None, typer.Option(help="Write what was refused, as JSON lines.")] = None,
    again: Annotated[bool, typer.Option(help="Read files again that were imported before.")] = False,
) -> None:
    """Import FHIR files. Safe to stop and to repeat: it goes on where it stopped, and nothing is stored twice.

    Files are read in the order that references need (organisations, staff, patients, ...). What cannot be imported is
    told with its reason, and the rest is imported; exit code 1 says that something was refused.
    """
    with _told_when_stopped():
        from fhir.outcome import Refusal
        from hub import importer, sources

        async def run(database: "Database") -> "Summary":
            loop = asyncio.get_running_loop()
            with watching(found) as watcher:

                def stop() -> None:
                    watcher.stop()
                    loop.remove_signal_handler(signal.SIGINT)  # the second one gives the batch up

                loop.add_signal_handler(signal.SIGINT, stop)
                loop.add_signal_handler(signal.SIGTERM, watcher.stop)
                return await importer.run(database, found, watcher, again=again)

        try:
            found = sources.discover(paths)
        except Refusal as refusal:
            errors.print(f"[bold red]carehub:[/] {refusal}", highlight=False)
            raise typer.Exit(2) from refusal
        if not found:
            errors.print("[bold red]carehub:[/] no .json or .ndjson file there", highlight=False)
            raise typer.Exit(2)
        started = datetime.now(UTC)
        summary = with_database(run)
    seconds = (datetime.now(UTC) - started).total_seconds()
    if report:
        report.write_bytes(importer.report(summary.refused))
    parts = [
        f"{summary.created:,} created",
        f"{summary.updated:,} updated",
        f"{summary.unchanged:,} unchanged",
        *([f"{summary.deleted:,} deleted"] if summary.deleted else []),
        f"{len(summary.refused):,} refused",
        *([f"{summary.passed_over} of {summary.files} files imported before"] if summary.passed_over else []),
    ]
    rate = f" ({summary.resources / seconds:,.0f}/s)" if seconds else ""
    console.print(f"{summary.resources:,} resources{rate}: {', '.join(parts)}", highlight=False)
    if summary.refused:
        table = Table(Column("refused", justify="right"), "type", "why", "first seen", box=None, pad_edge=False)
        for count, type_, why, where in importer.reasons(summary.refused)[:20]:
            table.add_row(f"{count:,}", type_, Text(why, overflow="fold"), Text(where, overflow="fold"))
        console.print(table)
        if report:
            console.print(f"each with its reason in {report}", highlight=False)
        raise typer.Exit(1)


def export(
    out: Annotated[Path, typer.Option(help="Folder to write into; made when missing.")],
    types: Annotated[list[str] | None, typer.Option("--type", help="FHIR type; repeat for more. Default: all.")] = None,
    patients: Annotated[list[str] | None, typer.Option("--patient", help="Only what is about this Patient id.")] = None,
    zipped: Annotated[bool, typer.Option("--gzip", help="Compress the files.")] = False,
) -> None:
    """Export the record as NDJSON, a file per FHIR type, in an order that `carehub import` can read."""
    from fhir.outcome import Refusal
    from hub import exporter

    async def run(database: "Database") -> exporter.Exported:
        with _bar("resources") as progress:
            task = progress.add_task("exporting", total=None)

            def tell(name: str, more: int) -> None:
                progress.update(task, description=name)
                progress.advance(task, more)

            return await exporter.run(database, out, types or (), patients or (), zipped=zipped, progress=tell)

    try:
        exported = with_database(run)
    except Refusal as refusal:
        errors.print(f"[bold red]carehub:[/] {refusal}", highlight=False)
        raise typer.Exit(2) from refusal
    total = sum(exported.counts.values())
    console.print(f"{total:,} resources of {len(exported.counts)} types in {out}", highlight=False)


class _Stopped(Exception):
    """Somebody pressed Ctrl-C."""


@contextmanager
def _told_when_stopped() -> "Iterator[None]":
    """Ctrl-C, whenever it comes, is answered with what it means."""
    try:
        yield
    except (_Stopped, KeyboardInterrupt):
        errors.print("stopped; the same command goes on from here", highlight=False)
        raise typer.Exit(130) from None


class _Watcher:
    """Shows an import as a bar over the bytes of all its files, and ends it after a batch when it was stopped."""

    def __init__(self, progress: Progress, found: "list[Source]") -> None:
        self._progress = progress
        self.task = progress.add_task("importing", total=sum(source.size for source in found) or 1, done=0)
        self._before = 0
        self._last = 0
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True
        self._progress.console.print("stopping after this batch; Ctrl-C once more gives it up", highlight=False)

    def file(self, source: "Source", passed_over: bool) -> None:
        self._before += self._last
        self._last = source.size
        self._progress.update(self.task, completed=self._before, description=source.path.name[:32])

    def progress(self, source: "Source", offset: int, summary: "Summary") -> None:
        self._progress.update(self.task, completed=self._before + offset, done=summary.resources)
        if self._stopping:
            raise _Stopped


@contextmanager
def watching(found: "list[Source]") -> "Iterator[_Watcher]":
    """A bar on standard error for the import of *found*, gone when it ends."""
    with _bar("resources", remaining=True) as progress:
        yield _Watcher(progress, found)


def _bar(unit: str, remaining: bool = False) -> Progress:
    done = TextColumn("{task.fields[done]:,} " + unit) if remaining else TextColumn("{task.completed:,.0f} " + unit)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        done,
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if remaining else []),
        console=errors,
        transient=True,
    )


def with_database(work: "Callable[[Database], Awaitable[Result]]") -> "Result":
    """Run *work* on the database of this installation, whose schema must be current."""
    import psycopg

    from hub import migrations
    from hub.db import Database, database_url
    from hub.embedded import EmbeddedError
    from hub.settings import settings

    async def run(url: str) -> "Result":
        database = Database(url, pool_size=2, statement_timeout_ms=PATIENCE_MS)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        with database_url(settings()) as url:
            if migrations.current(url) != migrations.head():
                errors.print("[bold red]carehub:[/] the schema is not current: run `carehub migrate` first")
                raise typer.Exit(1)
            return asyncio.run(run(url))
    except (psycopg.OperationalError, EmbeddedError) as error:
        errors.print(f"[bold red]carehub:[/] {error}; `carehub doctor` says more", highlight=False)
        raise typer.Exit(1) from error
