"""The doctor says what is wrong with an installation, and what to do."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from hub import doctor, server
from hub.cli import app
from hub.doctor import Finding, Level
from hub.settings import Settings, secret_problem, signing_secret

GOOD_SECRET = "0123456789abcdef" * 4


@pytest.fixture
def url(fresh_url: Callable[[], str]) -> str:
    return fresh_url()


@pytest.fixture
def environment(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A fit installation on a fresh database."""
    monkeypatch.setenv("CAREHUB_DATABASE_URL", url)
    monkeypatch.setenv("CAREHUB_SECRET", GOOD_SECRET)
    monkeypatch.setenv("CAREHUB_DATA_DIR", str(tmp_path))
    return monkeypatch


def _found(name: str, port: int | None = None) -> Finding:
    return next(finding for finding in doctor.examine(port) if finding.name == name)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _demonstration_account(url: str) -> None:
    _execute(
        url,
        "INSERT INTO account (id, username, password_hash, name, role, reference, organisations, demonstration)"
        " VALUES ('a', 'demo', 'x', 'Demo', 'coordinator', 'Practitioner/a', '{}', true)",
    )


@pytest.mark.usefixtures("environment")
class TestExamine:
    def test_a_fit_installation_has_nothing_to_put_right_but_the_speed_of_tests(self) -> None:
        wrong = [finding.name for finding in doctor.examine() if finding.level is not Level.OK]
        # The tests' own server trades durability for speed, which the doctor must notice.
        assert wrong in ([], ["durability"])

    def test_every_trouble_says_what_to_do(self, url: str) -> None:
        _demonstration_account(url)
        findings = doctor.examine(1)
        assert all(finding.remedy for finding in findings if finding.level is not Level.OK)

    def test_postgresql_that_does_not_answer(self, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
        environment.setenv("CAREHUB_DATABASE_URL", f"postgresql://nobody@/nothing?host={tmp_path}")
        assert _found("database").level is Level.FAIL

    def test_a_database_that_was_never_migrated(self, url: str) -> None:
        _execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        finding = _found("schema")
        assert (finding.level, finding.remedy) == (Level.FAIL, "Run `carehub migrate`.")

    def test_a_database_of_another_revision(self, url: str) -> None:
        _execute(url, "UPDATE alembic_version SET version_num = '0000'")
        assert "0000" in _found("schema").detail

    def test_a_database_of_an_older_state_of_the_same_revision(self, url: str) -> None:
        _execute(url, "ALTER TABLE account DROP COLUMN name CASCADE; DROP TABLE notice CASCADE")
        found = _found("schema")
        assert (found.level, found.detail) == (
            Level.FAIL, "made by an older state of this version: no account.name, notice"
        )  # fmt: skip
        assert "--reset" in found.remedy

    def test_a_read_only_database(self, url: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        _execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert _found("writing").level is Level.FAIL

    def test_demonstration_accounts_fail_unless_allowed(self, url: str, environment: pytest.MonkeyPatch) -> None:
        _demonstration_account(url)
        assert _found("accounts").level is Level.FAIL
        environment.setenv("CAREHUB_DEMONSTRATION", "true")
        assert _found("accounts").level is Level.OK

    def test_a_setting_that_cannot_be_read(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("CAREHUB_POOL_SIZE", "many")
        finding = _found("settings")
        assert finding.level is Level.FAIL
        assert "CAREHUB_POOL_SIZE" in finding.detail

    def test_a_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            assert _found("port", taken.getsockname()[1]).level is Level.FAIL


class TestMachine:
    def test_missing_assets(self, tmp_path: Path) -> None:
        assert doctor.assets(tmp_path).level is Level.FAIL

    def test_a_clock_in_the_past(self) -> None:
        assert doctor.clock(datetime(2020, 1, 1, tzinfo=UTC)).level is Level.FAIL

    def test_british_summer_time(self) -> None:
        assert "13:00 BST" in doctor.clock(datetime(2027, 7, 1, 12, 0, tzinfo=UTC)).detail

    def test_a_full_disk(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(doctor, "LEAST_SPACE", 2**40)
        assert doctor.space(tmp_path / "not" / "there").level is Level.FAIL


@pytest.mark.usefixtures("environment")
class TestCommand:
    def test_json_and_exit_code(self, url: str) -> None:
        _execute(url, "UPDATE alembic_version SET version_num = '0000'")
        result = CliRunner().invoke(app, ["doctor", "--json"])
        assert result.exit_code == 1
        levels = {finding["name"]: finding["level"] for finding in json.loads(result.stdout)}
        assert levels["schema"] == "FAIL"

    def test_the_table_names_what_was_looked_at(self) -> None:
        result = CliRunner().invoke(app, ["doctor"])
        assert "schema" in result.stdout


class TestSecret:
    def test_one_is_made_once_and_kept_for_its_owner_alone(self, tmp_path: Path) -> None:
        chosen = Settings(data_dir=tmp_path / "new")
        first = signing_secret(chosen)
        assert first == signing_secret(chosen)
        assert len(first) >= 32
        assert (tmp_path / "new" / "secret").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("secret", ["", "changeme", "secret" * 3, "a" * 64, "change-me" * 8])
    def test_placeholders_are_refused(self, secret: str) -> None:
        assert secret_problem(Settings(secret=secret)) is not None

    def test_a_shared_database_needs_one_that_is_given(self) -> None:
        assert secret_problem(Settings(database_url="postgresql://db/carehub")) is not None
        assert secret_problem(Settings(database_url="postgresql://db/carehub", secret=GOOD_SECRET)) is None
        assert secret_problem(Settings()) is None


class TestServeRefuses:
    def fit(self, **changes: object) -> Settings:
        return Settings.model_validate({"database_url": "postgresql://x", "secret": GOOD_SECRET, **changes})

    def test_an_unmigrated_database(self, url: str) -> None:
        _execute(url, "UPDATE alembic_version SET version_num = '0000'")
        with pytest.raises(server.Unfit, match="carehub migrate"):
            server.check(self.fit(), url)

    def test_demonstration_accounts(self, url: str) -> None:
        server.check(self.fit(), url)
        _demonstration_account(url)
        with pytest.raises(server.Unfit, match="demonstration accounts"):
            server.check(self.fit(), url)
        server.check(self.fit(demonstration=True), url)

    def test_a_placeholder_secret(self, url: str) -> None:
        with pytest.raises(server.Unfit, match="CAREHUB_SECRET"):
            server.check(self.fit(secret="changeme"), url)
        server.check(self.fit(secret="changeme", demonstration=True), url)

    def test_a_taken_port(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(server.Unfit, match="Cannot listen"),
        ):
            server.serve("127.0.0.1", taken.getsockname()[1], 1)
