"""`carehub broker`: readings over MQTT. Slow imports stand inside the function."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)


def register(app: typer.Typer) -> None:
    app.command("broker")(broker)


def broker(
    host: Annotated[str, typer.Option(help="Address to listen on for MQTT; beyond this machine only with TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on for MQTT.")] = 1883,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    room: Annotated[
        int, typer.Option(min=16, help="Megabytes that may wait for the database; full, nothing is acknowledged.")
    ] = 2048,
    sync: Annotated[
        str, typer.Option(help="How often what was acknowledged is forced to disk: 2m, 1s, or always.")
    ] = "2m",
) -> None:
    """Take readings over MQTT until Ctrl-C: a NATS server, and the bridge from it to the record.

    A device signs in with its id as user name and client id, and its key as password; it publishes Observations to
    carehub/<id>/readings with QoS 1 and hears carehub/<id>/receipts. What was acknowledged is kept while the database
    or the service are away.
    """
    import psycopg
    import uvloop

    from hub import embedded, server
    from hub.db import database_url
    from hub.mqtt import service
    from hub.mqtt.broker import BrokerError, Place
    from hub.settings import settings

    chosen = settings()
    place = Place(chosen.data_dir / "mqtt", host, port, tls_cert, tls_key, room * 1024**2, sync)

    def started() -> None:
        scheme = "mqtts" if tls_cert else "mqtt"
        console.print(f"MQTT is taken at {scheme}://{host}:{port} (Ctrl-C stops it)", highlight=False)

    async def until_told() -> None:
        running = asyncio.ensure_future(service.run(chosen, url, place, started))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running

    try:
        with database_url(chosen) as url:
            server.check(chosen, url)
            server.expect_readings()
            uvloop.run(until_told())
    except (BrokerError, server.Unfit, embedded.EmbeddedError, psycopg.Error) as error:
        errors.print(f"[bold red]carehub:[/] {error}", highlight=False)
        raise typer.Exit(1) from error
