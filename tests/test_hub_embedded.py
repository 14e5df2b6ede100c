"""The embedded PostgreSQL starts by itself, survives being killed, and stops only what it started."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from conftest import quick_folder

from hub import embedded

SMALL = {"shared_buffers": "16MB", "max_connections": "20", "max_locks_per_transaction": "64", "wal_buffers": "-1"}


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data folder whose server ran once: what it takes longest to make."""
    with TemporaryDirectory(prefix="carehub-embedded-", dir=quick_folder(), ignore_cleanup_errors=True) as folder:
        embedded.start(Path(folder), SMALL).stop()
        yield Path(folder)


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    """A short path that PostgreSQL's own user can reach, unlike pytest's `tmp_path`."""
    with TemporaryDirectory(prefix="carehub-embedded-", dir=quick_folder(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def data_dir(empty_dir: Path, initialised: Path) -> Path:
    subprocess.run(["cp", "-a", str(initialised / "postgres"), str(empty_dir)], check=True)
    return empty_dir


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _gone(pid: int) -> bool:
    """Whether *pid* has ended. A zombie has, although a container without an init never buries it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class TestStartingAndStopping:
    def test_stop_ends_the_server_and_start_finds_the_data_again(self, empty_dir: Path) -> None:
        with embedded.start(empty_dir, SMALL) as server:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 3)")
            pid = server.pid
        assert embedded.running(empty_dir / "postgres") is None
        assert _gone(pid)
        with embedded.start(empty_dir, SMALL) as server:
            assert _count(server.url) == 3

    def test_the_last_to_leave_stops_it(self, data_dir: Path) -> None:
        first = embedded.start(data_dir, SMALL)
        second = embedded.start(data_dir, SMALL)
        assert second.pid == first.pid
        first.stop()
        with psycopg.connect(second.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        second.stop()
        second.stop()
        assert embedded.running(data_dir / "postgres") is None

    def test_another_process_keeps_it_running(self, data_dir: Path) -> None:
        with embedded.start(data_dir, SMALL) as server:
            other = _user(data_dir)
            assert other.stdout is not None
            assert other.stdout.readline().strip() == str(server.pid)
        assert embedded.running(data_dir / "postgres") == server.pid
        other.communicate("leave\n", timeout=30)
        assert other.returncode == 0
        assert embedded.running(data_dir / "postgres") is None

    def test_it_listens_on_no_network_and_only_its_owner_may_connect(self, data_dir: Path) -> None:
        with embedded.start(data_dir, SMALL) as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            socket = Path(str(connection.info.host)) / embedded.SOCKET_NAME
            assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0

    def test_a_deep_data_folder_gets_a_short_socket(self, data_dir: Path) -> None:
        deep = data_dir / ("a" * 60) / ("b" * 60)
        with embedded.start(deep, SMALL) as server, psycopg.connect(server.url) as connection:
            assert len(connection.info.host) < embedded.LONGEST_SOCKET_PATH
            assert stat.S_IMODE(Path(connection.info.host).stat().st_mode) == 0o700

    def test_letters_beyond_ascii_have_case_and_a_fixed_order(self, data_dir: Path) -> None:
        with embedded.start(data_dir, SMALL) as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT lower('ŁÉ'), 'Z' < 'a'").fetchone() == ("łé", True)


class TestAfterACrash:
    def test_a_killed_user_leaves_a_server_that_the_next_start_joins(self, data_dir: Path) -> None:
        other = _user(data_dir)
        assert other.stdout is not None
        pid = int(other.stdout.readline())
        other.kill()
        other.communicate()
        assert embedded.running(data_dir / "postgres") == pid
        with embedded.start(data_dir, SMALL) as server:
            assert server.pid == pid
        assert embedded.running(data_dir / "postgres") is None

    def test_a_killed_postmaster_is_started_again_with_every_commit(self, data_dir: Path) -> None:
        with embedded.start(data_dir, SMALL) as server:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 3)")
                os.kill(server.pid, signal.SIGKILL)
            with embedded.start(data_dir, SMALL) as again:
                assert again.url == server.url
                assert _count(again.url) == 3

    def test_a_kept_server_comes_back_without_hands(self, data_dir: Path) -> None:
        with embedded.kept(data_dir) as server:
            os.kill(server.pid, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while True:
                try:
                    with psycopg.connect(server.url) as connection:
                        assert connection.execute("SELECT 1").fetchone() == (1,)
                        break
                except psycopg.OperationalError:
                    assert time.monotonic() < deadline, "it did not come back"
                    time.sleep(0.05)
            assert embedded.running(server.cluster) not in {None, server.pid}
        assert embedded.running(server.cluster) is None

    def test_a_pid_file_of_a_reused_pid_counts_for_nothing(self, data_dir: Path) -> None:
        with embedded.start(data_dir, SMALL):
            pid_file = data_dir / "postgres" / "postmaster.pid"
            lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        assert embedded.running(data_dir / "postgres") is None
        with embedded.start(data_dir, SMALL) as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_an_unfinished_initdb_is_made_anew(self, empty_dir: Path) -> None:
        unfinished = empty_dir / "postgres.new"
        unfinished.mkdir()
        (unfinished / "PG_VERSION").write_text("18\n")
        with embedded.start(empty_dir, SMALL) as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not unfinished.exists()

    def test_processes_that_outlive_their_postmaster_are_waited_for(self, data_dir: Path) -> None:
        cluster = data_dir / "postgres"
        with embedded.start(data_dir, SMALL) as server:
            family = embedded.processes(cluster)
            assert server.pid in family
            assert len(family) > 3
            os.kill(server.pid, signal.SIGKILL)
            with embedded.start(data_dir, SMALL):
                assert not set(family) & set(embedded.processes(cluster))

    def test_a_start_that_fails_says_what_the_server_said(self, data_dir: Path) -> None:
        with pytest.raises(embedded.EmbeddedError, match="no_such_setting"):
            embedded.start(data_dir, {"no_such_setting": "1"})
        with embedded.start(data_dir, SMALL) as server:
            assert _gone(server.pid) is False


def _user(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until it is told to leave; it prints the postmaster's pid first."""
    program = f"""
        from pathlib import Path
        from hub import embedded
        with embedded.start(Path({str(data_dir)!r}), {SMALL!r}) as server:
            print(server.pid, flush=True)
            input()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
