"""The demonstration starts from nothing, keeps what it made, and takes everything it started with it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub import embedded
from hub.demo import PASSWORD, SIGN_INS, Demonstration, Failed
from hub.roles import ROLES, SYSTEM_ROLES

LONG = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A `carehub demo` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.log = folder.with_suffix(".log")
        command = [sys.executable, "-m", "hub.cli", "demo", "--port", str(self.port), "--data-dir", str(folder)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CAREHUB_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--size", "20", *arguments], stdout=log, stderr=log, env=environment
            )

    def words(self) -> str:
        return self.log.read_text()

    def wait(self) -> str:
        """What it printed, once it says how to stop it."""
        deadline = time.monotonic() + LONG
        while "Ctrl-C stops everything" not in self.words():
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.1)
        return self.words()

    def stop(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(LONG)

    def children(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"CAREHUB_DATA_DIR={self.folder}".encode() in path.read_bytes():
                    found.append(int(path.parts[2]))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("demo") / "data"


def signed_in(port: int, username: str) -> httpx.Response:
    """Where the sign-in of *username* leads."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=30) as client:
        page = client.get("/sign-in")
        fields = {"username": username, "password": PASSWORD}
        return client.post("/sign-in", data=fields, headers={"Origin": str(page.url.copy_with(path="/")).rstrip("/")})


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
class TestDemonstration:
    def test_it_starts_from_nothing_shows_every_sign_in_and_stops_everything(self, folder: Path) -> None:
        running = Running(folder)
        try:
            words = running.wait()
            assert f"http://127.0.0.1:{running.port}" in words
            assert PASSWORD in words
            assert all(one.username in words for one in SIGN_INS)
            for username in ("coordinator", "patient"):
                answer = signed_in(running.port, username)
                assert answer.status_code == 200
                assert "/sign-in" not in str(answer.url)
            with pytest.raises(Failed, match="Another demonstration runs"):
                Demonstration(free_port(), folder).reset()
            assert len(running.children()) >= 2
        finally:
            code = running.stop(signal.SIGTERM)
        assert code == 0, running.words()
        assert running.children() == []
        assert embedded.running(folder / "postgres") is None

    def test_a_second_start_is_quick_and_keeps_the_data(self, folder: Path) -> None:
        began = time.monotonic()
        running = Running(folder, "--no-live")
        try:
            words = running.wait()
            seconds = time.monotonic() - began
        finally:
            code = running.stop(signal.SIGINT)
        assert code == 0
        assert "Making" not in words
        assert "Loaded" not in words
        assert seconds < 30

    @pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
    def test_a_killed_demonstration_leaves_no_service_behind_and_starts_again(self, folder: Path) -> None:
        running = Running(folder, "--no-live")
        running.wait()
        running.stop(signal.SIGKILL)
        deadline = time.monotonic() + LONG
        while running.children():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        running = Running(folder, "--no-live")
        try:
            running.wait()
        finally:
            assert running.stop(signal.SIGTERM) == 0
        assert embedded.running(folder / "postgres") is None

    def test_reset_forgets_what_was_there_and_nothing_else(self, folder: Path) -> None:
        (folder / "mine.txt").write_text("keep")
        Demonstration(free_port(), folder).reset()
        assert not (folder / "postgres").exists()
        assert (folder / "mine.txt").read_text() == "keep"

    def test_records_of_real_people_are_neither_joined_nor_forgotten(self, tmp_path: Path) -> None:
        """Hazard: synthetic people among real ones. `serve` keeps its database in the same place by default."""
        (tmp_path / "postgres").mkdir()
        for act in (
            Demonstration(free_port(), tmp_path).reset,
            lambda: Demonstration(free_port(), tmp_path).run(print),
        ):
            with pytest.raises(Failed, match="no demonstration made"):
                act()
        assert (tmp_path / "postgres").is_dir()

    def test_a_taken_port_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(Failed, match="is taken"):
                Demonstration(taken.getsockname()[1], tmp_path / "data").run(lambda key: None)
        assert not (tmp_path / "data").exists()


def test_every_role_of_people_has_a_sign_in() -> None:
    assert {one.role for one in SIGN_INS} == set(ROLES) - SYSTEM_ROLES - {"ehr-system"}
