from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mousecmr_data.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"


def verbs(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((f"{prefix}{name}", command))
        if isinstance(command, click.Group):
            found += verbs(command, f"{prefix}{name} ")
    return found


VERBS = verbs(main)


def test_console_scripts_import() -> None:
    scripts = [e for e in entry_points(group="console_scripts") if e.value.startswith("mousecmr_data")]
    assert [s.name for s in scripts] == ["mousecmr"]
    assert scripts[0].load() is main


@pytest.mark.parametrize(("name", "command"), VERBS, ids=[name for name, _ in VERBS])
def test_every_command_has_help_and_stands_in_the_docs(name: str, command: click.Command) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert command.help
    text = "\n".join(p.read_text(encoding="utf-8") for p in DOCS.rglob("*.md"))
    assert f"mousecmr {name}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_an_unknown_verb_is_named() -> None:
    result = CliRunner().invoke(main, ["sho"])
    assert result.exit_code == 2
    assert "sho" in result.output
