"""Documentation is under test: what can be set or said on the command line stands in docs/."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from hub.cli import app
from hub.settings import Settings

ROOT = Path(__file__).parents[1]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
TABLE = dict(re.findall(r"^\| `CAREHUB_(\w+)` \| `?([^`|]*?)`? \|", CONFIGURATION, re.MULTILINE))


class TestSettings:
    @pytest.mark.parametrize("name", sorted(Settings.model_fields))
    def test_each_is_documented_with_its_default(self, name: str) -> None:
        default = Settings.model_fields[name].default
        said = "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert TABLE.get(name.upper()) == said

    def test_nothing_is_documented_that_is_not_there(self) -> None:
        assert {name.lower() for name in TABLE} == set(Settings.model_fields)

    def test_each_explains_itself(self) -> None:
        assert all(field.description for field in Settings.model_fields.values())


def _commands() -> list[str]:
    def below(command: object, path: str) -> list[str]:
        children = getattr(command, "commands", {})
        if not children:
            return [path]
        return [found for name, child in children.items() for found in below(child, f"{path} {name}".strip())]

    return sorted(below(get_command(app), ""))


class TestCommands:
    @pytest.mark.parametrize("command", _commands())
    def test_each_is_documented(self, command: str) -> None:
        said = "\n".join(path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
        assert f"carehub {command}" in said

    @pytest.mark.parametrize("command", _commands())
    def test_each_has_help_that_a_stranger_understands(self, command: str) -> None:
        found: object = get_command(app)
        for name in command.split():
            found = found.commands[name]  # type: ignore[attr-defined]
        assert len(found.help or "") > 15  # type: ignore[attr-defined]
        assert all(getattr(parameter, "help", "") for parameter in found.params)  # type: ignore[attr-defined]


class TestLinks:
    @pytest.mark.parametrize(
        "path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: str(path.relative_to(ROOT))
    )
    def test_each_relative_link_leads_somewhere(self, path: Path) -> None:
        targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text())
        assert [target for target in targets if not (path.parent / target).exists()] == []
