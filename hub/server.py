"""The HTTP server: granian's processes around `hub.app.create_app`, and what has to be true before they start."""

import gc
import importlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server

from fhir import compiled
from fhir.tables import HEAVY
from hub import migrations
from hub.db import database_url
from hub.settings import Settings, secret_problem, settings, signing_secret

APP = "hub.app:create_app"
MOST_WORKERS = 4

# Connections a process answers at once; an open board holds one for its events. The rest wait in the kernel's queue.
CONNECTIONS_PER_WORKER = 512
QUEUE = 2048
# Seconds that requests in flight are given when the service stops.
GRACE = 10
# Runs that end by themselves within SHORT seconds, so many in a row, are a fault that comes at every start.
SHORT = 2.0
ATTEMPTS = 5


class Unfit(Exception):
    """The service must not start; the message says why and what to do."""


def default_workers() -> int:
    return max(1, min(MOST_WORKERS, os.cpu_count() or 1))


def serve(host: str, port: int, workers: int, started: Callable[[], None] | None = None) -> None:
    """Run the service until SIGINT or SIGTERM. Raises Unfit before anything listens.

    *started* is called once the address is bound and the processes are being started.
    """
    chosen = settings()
    _claim(host, port)
    with database_url(chosen) as url:
        check(chosen, url)
        # The processes read the same settings from the environment that they inherit.
        os.environ["CAREHUB_DATABASE_URL"] = url
        os.environ["CAREHUB_SECRET"] = signing_secret(chosen).decode()
        settings.cache_clear()
        run(host, port, workers, started)


def _claim(host: str, port: int) -> None:
    """Refuse a taken port here: the processes share theirs (SO_REUSEPORT), so a second service would silently halve
    the first one's requests. The processes of a killed service are given a moment to notice and go."""
    deadline = time.monotonic() + 3
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Unfit(f"Cannot listen on {host}:{port}: {error.strerror}. Give --port another.") from error
        time.sleep(0.1)


def check(settings: Settings, url: str) -> None:
    """Raises Unfit for an unmigrated database, a placeholder secret, or demonstration accounts among real people."""
    try:
        revision = migrations.current(url)
    except psycopg.OperationalError as error:
        raise Unfit(f"PostgreSQL does not answer: {error}. `carehub doctor` says more.") from error
    if revision != migrations.head():
        raise Unfit(f"The database is at revision {revision}, not {migrations.head()}: run `carehub migrate` first.")
    if settings.demonstration:
        return
    problem = secret_problem(settings)
    if problem is not None:
        raise Unfit(problem)
    accounts = demonstration_accounts(url)
    if accounts:
        raise Unfit(
            f"{accounts} demonstration accounts can sign in, and everyone knows their password. Use a database without "
            "them, or set CAREHUB_DEMONSTRATION=true where no real person's data is kept."
        )


def demonstration_accounts(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM account WHERE demonstration AND active").fetchone()
        return 0 if row is None else int(row[0])


# Containers made before the young ones are looked through; young rounds before the middle ones; those before all.
COLLECTED = (50_000, 20, 50)


def expect_readings() -> None:
    """Have this process, and those that it forks, look for cycles rarely. A batch of readings makes thousands of small
    dicts that live until its commit. Python's own thresholds would look them through again and again, for a quarter of
    the time; almost nothing here is a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED)


def run(host: str, port: int, workers: int, started: Callable[[], None] | None = None) -> None:
    """Start granian, and start it again when its processes died together; give up when that happens at every start."""
    # Read once here and inherited by fork: the processes share these pages, and a new one is ready at once.
    importlib.import_module(APP.partition(":")[0])
    compiled.prepare("Bundle", *HEAVY)
    expect_readings()
    attempts = 0
    while True:
        server = Server(
            APP,
            host,
            port,
            interface=Interfaces.ASGI,
            factory=True,
            workers=workers,
            http=HTTPModes.auto,
            websockets=True,
            backlog=QUEUE,
            backpressure=CONNECTIONS_PER_WORKER,
            respawn_failed_workers=True,
            respawn_interval=0.1,
            workers_kill_timeout=GRACE,
            log_level=LogLevels.error,
        )
        if started is not None and attempts == 0:
            server.on_startup(started)
        begun = time.monotonic()
        try:
            server.serve(target_loader=_load, wrap_loader=False)
        except SystemExit:
            # granian gives up when a process dies twice in five seconds, however it died.
            attempts = attempts + 1 if time.monotonic() - begun < SHORT else 1
            if server.interrupt_signal:
                return
            if attempts >= ATTEMPTS:
                raise
            time.sleep(0.2)
            continue
        return


def _load() -> Callable[..., Any]:
    """The application, made in its process."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    module, _, name = APP.partition(":")
    application: Callable[..., Any] = getattr(importlib.import_module(module), name)()
    return application


def _end_with(parent: int) -> None:
    """A killed parent takes its processes along: otherwise they would hold the port that its successor needs."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
