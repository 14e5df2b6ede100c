"""The `carehub` command. Each command is a thin function: its imports stand inside, so that `--help` is instant."""

import json
from typing import Annotated

import typer
from rich.console import Console

from hub import accounts_cli, data_cli, demo_cli, devices_cli, mqtt_cli, reports_cli

app = typer.Typer(
    name="carehub",
    help="Care Hub: a FHIR R4 service and web application for integrated-care hubs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
audit = typer.Typer(help="The audit trail.", no_args_is_help=True)
app.add_typer(audit, name="audit")

console = Console()
errors = Console(stderr=True)


def stop(message: str, code: int = 1) -> typer.Exit:
    """Say why on standard error: `raise stop("...")`."""
    errors.print(f"[bold red]carehub:[/] {message}", highlight=False)
    return typer.Exit(code)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core, four at most.")] = None,
) -> None:
    """Run the service until Ctrl-C.

    Uses the PostgreSQL of CAREHUB_DATABASE_URL, or starts the embedded one. Refuses to start on a database that is not
    migrated, with a placeholder secret, or with demonstration accounts.
    """
    from hub import embedded, server

    def started() -> None:
        console.print(f"Care Hub listens at http://{host}:{port} (Ctrl-C stops it)", highlight=False)

    try:
        server.serve(host, port, workers or server.default_workers(), started)
    except (server.Unfit, embedded.EmbeddedError) as error:
        raise stop(str(error)) from error


@app.command()
def migrate() -> None:
    """Bring the database to the schema that this version needs. Safe to repeat."""
    import psycopg

    from hub import embedded, migrations
    from hub.db import database_url
    from hub.settings import settings

    try:
        with database_url(settings()) as url:
            before = migrations.current(url)
            with console.status("migrating"):
                migrations.upgrade(url)
    except (psycopg.Error, embedded.EmbeddedError) as error:
        raise stop(f"{error}; `carehub doctor` says more") from error
    head = migrations.head()
    console.print(f"already at revision {head}" if before == head else f"migrated from {before or 'empty'} to {head}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    port: Annotated[int | None, typer.Option(help="Port that `serve` is to use: is it free?")] = None,
) -> None:
    """Say what is wrong with this installation, and what to do. Exit code 1 when something must be put right."""
    from hub.doctor import Level, examine, table

    findings = examine(port)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        console.print(table(findings))
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


@audit.command("verify")
def verify_audit(
    expect_head: Annotated[
        str | None, typer.Option(help="A head that was kept outside the database, as this command prints it.")
    ] = None,
) -> None:
    """Recompute the hash chain of the audit trail. Exit code 1 when a row or a seal was changed, removed or added.

    Keep the head that it prints outside the database: giving it back later proves that nothing before it was rewritten.
    """
    import asyncio

    import psycopg

    from hub import embedded
    from hub.audit import Verification, verify
    from hub.db import Database, database_url, reach
    from hub.settings import settings

    async def run(url: str) -> Verification:
        # One statement reads the whole trail: no time limit.
        database = Database(url, pool_size=1, statement_timeout_ms=0)
        try:
            async with database.transaction() as tx:
                with console.status("verifying") as status:
                    return await verify(tx.pg, expect_head, lambda rows: status.update(f"{rows:,} rows verified"))
        finally:
            await database.close()

    try:
        with database_url(settings()) as url:
            reach(url)
            result = asyncio.run(run(url))
    except (psycopg.Error, embedded.EmbeddedError, ValueError) as error:
        raise stop(f"{error}; `carehub doctor` says more") from error
    if not result.intact:
        raise stop(f"the audit trail does not hold at block {result.broken_block}: {result.why}")
    console.print(f"intact: {result.rows:,} rows in {result.blocks:,} blocks, {result.unsealed:,} not yet sealed")
    if result.head is not None:
        console.print(f"head: {result.head}", highlight=False, soft_wrap=True)


accounts_cli.register(app)
devices_cli.register(app)
data_cli.register(app)
demo_cli.register(app)
mqtt_cli.register(app)
reports_cli.register(app)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
