"""The commands that bring the hub to life: `demo` and `simulate`. Slow imports stand inside them."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from hub.simulate import Event, Kit, Tally

console = Console()
errors = Console(stderr=True)


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
    app.command("simulate")(simulate)


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, on this machine only.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".carehub"),
    size: Annotated[int, typer.Option(min=20, max=200_000, help="How many synthetic people to load at first.")] = 50,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what is there and start anew.")] = False,
    live: Annotated[bool, typer.Option(help="Let devices post readings all the time.")] = True,
) -> None:
    """Show Care Hub with synthetic people: everything it needs, one sign-in per role, devices posting live.

    The first start makes the people and takes a minute at most; later ones take seconds and keep the data. Ctrl-C stops
    everything that it started.
    """
    from hub.data_cli import watching
    from hub.demo import PASSWORD, SIGN_INS, Demonstration, Failed
    from hub.embedded import EmbeddedError

    def tell(words: str) -> None:
        console.print(words, highlight=False)

    demonstration = Demonstration(port, data_dir.absolute(), size, live, tell, watching)

    def ready(key: str) -> None:
        table = Table("username", "role", "shows", box=None, pad_edge=False)
        for one in SIGN_INS:
            table.add_row(f"[bold]{one.username}[/]", one.role, one.shows)
        console.print(f"\nCare Hub runs at [bold]{demonstration.address}[/]\n", highlight=False)
        console.print(table)
        console.print(
            f"\nEveryone's password is [bold]{PASSWORD}[/]. A device's key, to post a reading with:", highlight=False
        )
        console.print(f"  {key}", highlight=False, soft_wrap=True)
        console.print("Ctrl-C stops everything.", highlight=False)

    try:
        if reset:
            demonstration.reset()
        with contextlib.suppress(KeyboardInterrupt):
            demonstration.run(ready)
    except (Failed, EmbeddedError) as error:
        errors.print(f"[bold red]carehub:[/] {error}", highlight=False)
        raise typer.Exit(1) from error
    console.print("\nstopped", highlight=False)


def simulate(
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    key_file: Annotated[
        Path | None, typer.Option(help="Devices and keys that --write-keys wrote, instead of the database.")
    ] = None,
    write_keys: Annotated[
        Path | None, typer.Option(help="Write devices and keys for another machine, and send nothing.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many of the devices in the database take part.")] = 200,
    speed: Annotated[float, typer.Option(min=0.01, help="Minutes of the simulated day that pass in a minute.")] = 60,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Readings a second, instead of the day's pace.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds after which to stop.")] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Go on with the next day, until stopped.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed lets other people get worse.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the summary only.")] = False,
) -> None:
    """Let the devices of this hub post a plausible day over HTTP, with some people getting worse.

    Keys come from the database of this installation (they last a week and end with the next simulation), or from
    --key-file where there is no database. A reading that finds no answer is sent again until the service takes it.
    """
    import httpx

    from hub import simulate as simulation

    tally = simulation.Tally()

    async def run(kits: "list[Kit]") -> None:
        if not kits:
            errors.print("[bold red]carehub:[/] nobody holds a device", highlight=False)
            raise typer.Exit(1)
        limits = httpx.Limits(max_connections=simulation.CONNECTIONS)
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
            plan = _days(kits, seed, forever or duration is not None)
            told = None if quiet else _tell
            await simulation.run(client, plan, tally, speed=speed, rate=rate, duration=duration, told=told)

    if write_keys:
        found = asyncio.run(_from_database(devices))
        write_keys.touch(mode=0o600)
        write_keys.write_text(json.dumps([simulation.as_json(kit) for kit in found]))
        console.print(f"{len(found)} devices in {write_keys}", highlight=False)
        return
    kits = (
        [simulation.from_json(one) for one in json.loads(key_file.read_text())]
        if key_file
        else asyncio.run(_from_database(devices))
    )
    # SIGTERM ends it the way Ctrl-C does, with the summary.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(kits))
    _summarise(tally)
    if tally.sent and not tally.accepted:
        raise typer.Exit(1)


async def _from_database(devices: int) -> "list[Kit]":
    from hub import simulate as simulation
    from hub.db import Database, database_url
    from hub.settings import settings

    with database_url(settings()) as address:
        database = Database(address, pool_size=2)
        try:
            return await simulation.kits(database, devices)
        finally:
            await database.close()


def _days(kits: "list[Kit]", seed: int, forever: bool) -> "Iterator[tuple[float, Event]]":
    from hub import simulate as simulation

    if forever:
        return simulation.days(kits, seed)
    events = simulation.day(kits, seed)
    return ((event.minute - events[0].minute, event) for event in events)


def _tell(event: "Event", status: int) -> None:
    hours, minutes = divmod(int(event.minute), 60)
    values = "/".join(event.values)
    console.print(f"{hours:02d}:{minutes:02d} {event.kit.device} {event.kind} {values} -> {status}", highlight=False)


def _summarise(tally: "Tally") -> None:
    half, most = (f"{tally.percentile(share) * 1000:.0f} ms" for share in (0.5, 0.99))
    console.print(
        f"{tally.sent:,} readings sent, {tally.accepted:,} accepted, {tally.resent:,} times sent again, "
        f"{tally.unanswered:,} without an answer; "
        f"half answered within {half}, 99 % within {most}",
        highlight=False,
    )
    for reason, number in tally.reasons.most_common(10):
        console.print(f"  {number:,} x {reason}", highlight=False)
