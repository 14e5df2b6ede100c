"""The package holds together: both halves of `fhir`, one direction of imports, and a wheel with everything in it.

Runs on a checkout, and again on the wheel alone (`.ci/run`): there CAREHUB_CHECKOUT says where the checkout is.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(os.environ.get("CAREHUB_CHECKOUT", Path(__file__).parents[1]))
PACKAGES = ("hub", "care_plans", "monitoring", "fhir")
EXTENDS_ITS_PATH = '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'
ON_WHEEL = "CAREHUB_CHECKOUT" in os.environ


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Every file of the project, as paths below its root; new files that are not ignored count."""
    return [
        name
        for name in _git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        if (ROOT / name).is_file()
    ]


class TestInterpreter:
    @pytest.mark.parametrize("folder", [ROOT, Path("/")], ids=["root", "elsewhere"])
    def test_a_fresh_one_imports_both_halves_of_fhir(self, folder: Path) -> None:
        program = "import fhir.outcome, fhir.resources.R4B.observation as o; print(o.Observation.__name__)"
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stdout) == (0, "Observation\n"), result.stderr

    def test_the_command_runs_from_elsewhere(self) -> None:
        command = Path(sys.executable).parent / "carehub"
        result = subprocess.run([command, "--help"], cwd="/", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "doctor" in result.stdout

    def test_help_imports_nothing_heavy(self) -> None:
        program = "import sys, hub.cli; print(*sys.modules)"
        result = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True)
        loaded = {name.split(".")[0] for name in result.stdout.split()}
        assert not loaded & {"fastapi", "sqlalchemy", "fhir", "granian", "polars", "alembic"}

    @pytest.mark.parametrize("package", PACKAGES)
    def test_packages_come_from_where_they_should(self, package: str) -> None:
        program = f"import {package}; print({package}.__file__)"
        result = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True)
        home = Path(sys.prefix) if ON_WHEEL else ROOT
        assert Path(result.stdout.strip()).is_relative_to(home)


class TestInstalled:
    def test_it_migrates_makes_the_application_and_finds_itself_fit(self, data_dir: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CAREHUB_")}
        environment["CAREHUB_DATA_DIR"] = str(data_dir)

        def run(*command: str) -> str:
            program = Path(sys.executable).parent / command[0]
            result = subprocess.run(
                [program, *command[1:]], cwd="/", env=environment, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stdout + result.stderr
            return result.stdout

        assert "migrated from empty" in run("carehub", "migrate")
        run("python", "-c", "from hub.app import create_app; create_app()")
        assert {finding["level"] for finding in json.loads(run("carehub", "doctor", "--json"))} <= {"OK", "WARN"}


class TestSource:
    def test_fhir_extends_its_path_and_does_nothing_else(self) -> None:
        assert (ROOT / "fhir" / "__init__.py").read_text() == EXTENDS_ITS_PATH

    def test_nothing_of_ours_hides_fhir_resources(self, tracked: list[str]) -> None:
        assert [name for name in tracked if re.match(r"fhir/resources|tests/fhir/", name)] == []

    def test_imports_go_one_way(self) -> None:
        command = Path(sys.executable).parent / "lint-imports"
        result = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout

    def test_only_fhir_imports_the_models(self, tracked: list[str]) -> None:
        sources = [name for name in tracked if re.match(r"(hub|care_plans|monitoring)/.*\.py$", name)]
        assert [name for name in sources if "fhir.resources" in (ROOT / name).read_text()] == []

    def test_lock_files_hold_no_address(self) -> None:
        assert "resolved" not in (ROOT / "package-lock.json").read_text()
        assert not re.search(r"://|@|--index|--extra", (ROOT / "constraints.txt").read_text())

    def test_no_registry_and_no_path_of_ours_is_named(self, tracked: list[str]) -> None:
        # Pieced together, for this file is looked at too.
        hosts = "|".join(
            (
                "pypi" + r"\.org",
                "pythonhosted" + r"\.org",
                "npmjs" + r"\.(?:org|com)",
                "deb" + r"\.debian",
                "/wor" + "k/",
            )
        )
        named = [name for name in tracked if re.search(hosts.encode(), (ROOT / name).read_bytes())]
        assert named == []

    def test_nothing_third_party_is_committed(self, tracked: list[str]) -> None:
        assert [name for name in tracked if re.search(r"node_modules/|hub/assets/|\.min\.(js|css)$", name)] == []

    def test_every_dependency_that_is_declared_has_a_version_written_down(self) -> None:
        declared = re.findall(
            r'^(?:    |node = \[)"([\w.-]+)(?:\[[\w,]+\])?[><=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
        )
        written = {_normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
        assert [name for name in declared if _normal(name) not in written] == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def contents(tracked: list[str]) -> Iterator[set[str]]:
    """What the wheel holds: read from the installed one, or from one that is built now, of a copy without leavings."""
    if ON_WHEEL:
        installed = files("care-hub")
        assert installed is not None
        yield {str(file) for file in installed}
        return
    with TemporaryDirectory() as folder:
        source = Path(folder, "source")
        assets = [str(path.relative_to(ROOT)) for path in (ROOT / "hub" / "assets").rglob("*") if path.is_file()]
        for name in (*tracked, *assets):
            if name.startswith(PACKAGES) or "/" not in name:
                Path(source, name).parent.mkdir(parents=True, exist_ok=True)
                Path(source, name).write_bytes((ROOT / name).read_bytes())
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
        result = subprocess.run(build, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        (wheel,) = Path(folder).glob("*.whl")
        yield set(zipfile.ZipFile(wheel).namelist())


class TestWheel:
    def test_it_holds_every_file_of_the_packages(self, contents: set[str], tracked: list[str]) -> None:
        ours = {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
        assert ours - contents == set()

    def test_it_holds_the_assets(self, contents: set[str]) -> None:
        for name in ("nhsuk-frontend.min.css", "htmx.min.js", "images/favicon.ico", "packages.json"):
            assert f"hub/assets/{name}" in contents

    def test_it_holds_the_schema(self, contents: set[str]) -> None:
        versions = "hub/migrations/versions"
        assert {"hub/migrations/env.py", f"{versions}/0001_initial.py", f"{versions}/0001_initial.sql"} <= contents

    def test_it_holds_nothing_else(self, contents: set[str]) -> None:
        tops = {name.split("/")[0] for name in contents if not name.startswith("..")}
        assert {top for top in tops if not re.fullmatch(r"care_hub-[\d.]+\.dist-info", top)} == set(PACKAGES)

    def test_it_carries_the_licence(self, contents: set[str]) -> None:
        assert any(name.endswith("LICENSE") for name in contents)
