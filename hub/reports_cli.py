"""`carehub report` and `carehub replay`: what the alerts were worth, and what the rules would have raised."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from hub.data_cli import with_database

if TYPE_CHECKING:
    from datetime import timedelta

    from hub.db import Database
    from hub.replays import Replayed
    from monitoring.usefulness import Usefulness

console = Console()
errors = Console(stderr=True)

reports = typer.Typer(help="Reports about the hub's work.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(reports, name="report")
    app.command()(replay)


@reports.command("alerts")
def alerts(
    week: Annotated[str | None, typer.Option(help="Such as 2026-W47. Default: the week before this one.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """How useful the alerts of a week were: per hub and rule, what became of them, and how soon somebody looked."""
    from datetime import UTC, datetime, timedelta

    from fhir.outcome import Refusal
    from hub import reports as made
    from hub.identity import OPERATOR
    from monitoring import usefulness

    chosen = week or usefulness.week_of((datetime.now(UTC) - timedelta(days=7)).astimezone(usefulness.LONDON).date())

    async def run(database: "Database") -> "list[Usefulness]":
        async with database.reading() as pg:
            return await made.alerts(pg, OPERATOR, chosen)

    try:
        lines = with_database(run)
    except Refusal as refusal:
        errors.print(f"[bold red]carehub:[/] {refusal}", highlight=False)
        raise typer.Exit(2) from refusal
    if as_csv:
        typer.echo(made.as_csv(lines), nl=False)
        return
    if not lines:
        console.print(f"no alerts opened in {chosen}")
        return
    right = ("alerts", "looked at", "acted on", "nothing needed", "false", "open", "again", "half within", "9 in 10")
    table = Table("hub", "rule", *(Column(name, justify="right") for name in right), title=f"Alerts of {chosen}")
    for one in lines:
        counts = (one.alerts, one.looked, one.acted, one.nothing, one.false_alarms, one.open, one.reopened)
        waits = (_minutes(one.first_look), _minutes(one.first_look_p90))
        note = " (few)" if one.few else " (retune?)" if one.retune else ""
        table.add_row(one.hub_id or "none", one.name + note, *map(str, counts), *waits, end_section=one.rule is None)
    console.print(table)
    about = usefulness.RETUNE
    console.print(
        f"few: fewer than {usefulness.FEW} alerts, so shares say little; retune: more than {about.share:.0%} of at"
        f" least {about.least} that ended were false alarms ({about.source})",
        highlight=False,
    )


def _minutes(gap: "timedelta | None") -> str:
    return "" if gap is None else f"{gap.total_seconds() / 60:,.0f} min"


def replay(
    rules: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Id of a rule, also of one that is switched off; repeat for more. Default: all."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far back.")] = 30,
    processes: Annotated[int | None, typer.Option(min=1, max=16, help="Default one a core, four at most.")] = None,
) -> None:
    """Evaluate the stored past again: what the rules would have raised, beside what was raised.

    Exit code 1 when a rule that stood all the time did not reproduce what it raised.
    """
    from datetime import UTC, datetime, timedelta

    from hub import replays
    from monitoring.comparison import compare, identical
    from monitoring.rules import BY_ID, RULES

    for unknown in set(rules or ()) - set(BY_ID):
        errors.print(f"[bold red]carehub:[/] there is no rule {unknown}; there are {', '.join(BY_ID)}")
        raise typer.Exit(2)
    until = datetime.now(UTC)
    tried = [BY_ID[one] for one in rules or () if BY_ID[one] not in RULES]
    question = replays.Question(until - timedelta(days=days), until, (*RULES, *tried), tuple(rules) if rules else None)

    async def run(database: "Database") -> "Replayed":
        async with database.reading() as pg:
            people = await (await pg.execute(replays.PEOPLE, (until,))).fetchall()
        with errors.status("replaying") as status:
            return await replays.answer(
                database.url,
                people,
                question,
                lambda done, of: status.update(f"{done:,} of about {of:,} readings"),
                processes,
            )

    done = with_database(run)
    console.print(f"{done.readings:,} readings of {done.people:,} people, the last {days} days", highlight=False)
    right = ("raised", "replayed", "amber or red", "people", "a day")
    table = Table("rule", *(Column(name, justify="right") for name in right), "the same", box=None, pad_edge=False)
    differ = False
    for rule in sorted({one.rule for one in (*done.raised, *done.replayed)} | set(rules or ())):
        was = [one for one in done.raised if one.rule == rule]
        would = [one for one in done.replayed if one.rule == rule]
        after = compare(was, would, days, done.people, done.readings).after
        same = identical(was, would)
        differ |= not same and rule not in {one.id for one in tried}
        counts = (len(was), len(would), len(after.alerts), after.people)
        table.add_row(rule, *(f"{count:,}" for count in counts), f"{after.a_day(days):.1f}", "yes" if same else "NO")
    console.print(table)
    if differ:
        raise typer.Exit(1)
