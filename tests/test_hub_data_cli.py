"""`carehub population`, `import` and `export` as a stranger uses them: in a shell, with exit codes and files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

PERSON = {"resourceType": "Patient", "name": [{"family": "Govier", "given": ["Hazel"]}]}


class Shell:
    """Runs `carehub` on a database of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CAREHUB_")}
        self.environment = kept | {"CAREHUB_DATABASE_URL": url, "CAREHUB_DATA_DIR": str(folder), "COLUMNS": "200"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "hub.cli", *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        words, _ = process.communicate(timeout=120)
        return process.returncode, words

    def count(self, table: str) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
            assert row is not None
            return int(row[0])


@pytest.fixture
def shell(fresh_url: Callable[[], str], tmp_path: Path) -> Shell:
    return Shell(fresh_url(), tmp_path / "data")


def test_a_population_goes_out_in_and_out_again(shell: Shell, tmp_path: Path) -> None:
    made = ["population", "--size", "20", "--days", "2", "--as-of", "2026-11-01T10:00:00", "--out", str(tmp_path / "a")]
    code, words = shell.run(*made)
    assert (code, "made for 2026-11-01T10:00 UTC" in words) == (0, True)
    code, words = shell.run("import", str(tmp_path / "a"))
    assert code == 0, words
    assert "0 refused" in words
    assert shell.count("person") == 20
    code, words = shell.run("import", str(tmp_path / "a"))
    files = len(list((tmp_path / "a").iterdir()))
    assert f"{files} of {files} files imported before" in words
    code, words = shell.run("export", "--out", str(tmp_path / "b"), "--type", "Patient", "--gzip")
    assert code == 0, words
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["01-Patient.ndjson.gz"]


def test_what_is_refused_is_told_and_reported(shell: Shell, tmp_path: Path) -> None:
    lines = [{**PERSON, "id": "good"}, {**PERSON, "id": "bad", "gender": "bogus"}]
    (tmp_path / "a.ndjson").write_text("\n".join(json.dumps(line) for line in lines))
    code, words = shell.run("import", str(tmp_path / "a.ndjson"), "--report", str(tmp_path / "refused.jsonl"))
    assert code == 1
    assert "1 created" in words
    assert "1 refused" in words
    assert "Patient.gender" in words
    (refused,) = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert (refused["entry"], refused["type"], refused["status"]) == (2, "Patient", 400)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("import", "/nowhere"), "no file or folder /nowhere"),
        (("export", "--out", "/tmp/never", "--type", "Patiens"), "no FHIR type 'Patiens'"),
        (("simulate", "--duration", "1"), "nobody holds a device"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(shell: Shell, arguments: tuple[str, ...], said: str) -> None:
    code, words = shell.run(*arguments)
    assert code in (1, 2)
    assert said in words
    assert "Traceback" not in words


def test_ctrl_c_ends_between_batches_and_the_next_run_goes_on(shell: Shell, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({**PERSON, "id": f"p{number}"}) for number in range(20_000))
    (tmp_path / "a.ndjson").write_text(lines)
    process = shell.start("import", str(tmp_path / "a.ndjson"))
    deadline = time.monotonic() + 60
    while shell.count("imported_file") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    words, _ = process.communicate(timeout=60)
    assert (process.returncode, "the same command goes on from here" in words) == (130, True), words
    assert "stopping after this batch" in words
    done = shell.count("person")
    assert 0 < done < 20_000
    assert done % 1000 == 0
    code, words = shell.run("import", str(tmp_path / "a.ndjson"))
    assert code == 0, words
    assert f"{20_000 - done:,} created" in words
    assert shell.count("person") == 20_000


def test_help_loads_nothing_slow() -> None:
    code = (
        "import sys, hub.cli; print([name for name in ('fhir.registry', 'sqlalchemy', 'httpx') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
