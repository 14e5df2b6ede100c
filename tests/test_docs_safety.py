"""Documents are held to the code: hazards to their tests, links to files, commands and routes to what is there."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fhir.modifiers import MODIFIERS
from fhir.validation import check
from hub import ingest, intake
from hub.app import create_app
from hub.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LOG = (ROOT / "docs" / "safety" / "hazard-log.md").read_text()
DEVICES = (ROOT / "docs" / "devices.md").read_text()

# The hazards that must be logged first, whatever else is.
FIRST = (
    "wrong patient",
    "wrong unit",
    "alert not seen",
    "alert to absent staff",
    "false reassurance out of hours",
    "stale plan used in crisis",
    "lost update",
    "duplicate device readings",
    "device swapped between household members",
    "opted-out person contacted",
    "message with red-flag words unread",
    "carer over-access or coercion",
    "timezone or clock error",
    "scale 2 misuse",
    "snooze hides deterioration",
)


def _rows() -> list[dict[str, str]]:
    names = ("id", "hazard", "cause", "harm", "control", "tests", "residual", "status")
    return [
        dict(zip(names, (cell.strip() for cell in line.strip("|").split(" |")), strict=True))
        for line in LOG.splitlines()
        if re.match(r"\| H\d\d \|", line)
    ]


HAZARDS = _rows()


@cache
def _tests_in(name: str) -> frozenset[str]:
    """`TestX`, `TestX::test_y`, `test_z` of a file in tests/."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], before: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(before + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{before}{node.name}::")

    walk(ast.parse((ROOT / "tests" / name).read_text()).body, "")
    return frozenset(found)


class TestHazardLog:
    def test_every_hazard_that_must_be_logged_is(self) -> None:
        assert [row["hazard"] for row in HAZARDS][: len(FIRST)] == list(FIRST)

    def test_ids_go_up_by_one(self) -> None:
        assert [row["id"] for row in HAZARDS] == [f"H{number:02d}" for number in range(1, len(HAZARDS) + 1)]

    @pytest.mark.parametrize("row", HAZARDS, ids=lambda row: row["id"])
    def test_tests_that_are_named_exist(self, row: dict[str, str]) -> None:
        for named in re.findall(r"`(test_[^`]+)`", row["tests"]):
            file, _, rest = named.partition("::")
            assert (ROOT / "tests" / file).is_file(), named
            assert not rest or rest in _tests_in(file), named

    @pytest.mark.parametrize("row", HAZARDS, ids=lambda row: row["id"])
    def test_a_control_has_a_test_and_none_is_said_plainly(self, row: dict[str, str]) -> None:
        assert row["status"] in ("controlled", "in part", "none")
        assert all(row[name] for name in ("cause", "harm", "control", "residual"))
        if row["status"] == "none":
            assert "no control yet" in row["control"]
        else:
            assert "test_" in row["tests"]


def _mentions() -> Iterator[tuple[str, str]]:
    for path in DOCS:
        for named in re.findall(
            r"`((?:hub|fhir|monitoring|care_plans|tests|docs)/[\w./-]*\w\.(?:py|md|json))`", path.read_text()
        ):
            if named != "fhir/resources.py":  # named as what must never be there
                yield str(path.relative_to(ROOT)), named


class TestMentions:
    @pytest.mark.parametrize(("document", "named"), sorted(set(_mentions())))
    def test_each_file_that_is_named_exists(self, document: str, named: str) -> None:
        assert (ROOT / named).is_file()

    @pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_each_link_to_a_heading_leads_to_one(self, path: Path) -> None:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", path.read_text()):
            text = ((path.parent / target) if target else path).read_text()
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
            assert heading in slugs, f"{target}#{heading}"


def _paths(found: Any) -> Iterator[str]:
    for one in found.routes:
        inner = getattr(one, "original_router", None)
        yield from _paths(inner) if inner is not None else [one.path]


def _families() -> list[str]:
    """The first step of every path that the service answers."""
    return sorted({f"/{path.split('/')[1]}" for path in _paths(create_app(Settings()))})


class TestSurface:
    @pytest.mark.parametrize("family", _families())
    def test_each_family_of_routes_is_in_the_architecture(self, family: str) -> None:
        said = (ROOT / "docs" / "architecture.md").read_text()
        assert re.search(rf"`{re.escape(family)}(?:/[^`]*)?`", said)

    def test_modifiers_of_searches(self) -> None:
        said = (ROOT / "docs" / "fhir-search.md").read_text().partition("<!-- modifiers")[2]
        table = dict(re.findall(r"^\| (\w+) \| ((?:`:[\w-]+`(?:, )?)+|none) \|", said, re.MULTILINE))
        found = {kind: tuple(re.findall(r"`:([\w-]+)`", cell)) for kind, cell in table.items()}
        assert {kind: tuple(one for one in names if one != "Type") for kind, names in found.items()} == MODIFIERS


def _examples() -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DEVICES, re.DOTALL)]


class TestDevices:
    @pytest.mark.parametrize("example", _examples(), ids=lambda one: one["resourceType"])
    def test_each_example_is_a_valid_resource(self, example: dict[str, Any]) -> None:
        check(example)
        assert example["resourceType"] in ("Observation", "Bundle")

    def test_each_reason_of_a_refusal_is_told(self) -> None:
        said = set(re.findall(r"`([a-z-]+)`", DEVICES))
        sources = [Path(str(module.__file__)).read_text() for module in (ingest, intake)]
        sources += [(ROOT / "monitoring" / "readings.py").read_text()]
        raised = set(re.findall(r"(?:Device|Reading)Refused\(\s*\"([a-z-]+)\"", "\n".join(sources)))
        assert raised == {
            "wrong-unit",
            "unknown-answer",
            "impossible-value",
            "future-time",
            "no-time",
            "unknown-patient",
            "outside-assignment",
            "unassigned-device",
        }
        assert raised <= said

    def test_bounds_are_those_of_the_code(self) -> None:
        assert f"first {intake.LARGEST_KEPT // 1024} KiB" in DEVICES
        assert f"first {ingest.LISTED:,} of them" in DEVICES
        assert f"up to {ingest.PATIENCE:.0f} seconds" in DEVICES
        assert ingest.LINE_BYTES == 1024 * 1024 and "beyond 1 MiB" in DEVICES
