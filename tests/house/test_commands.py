import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mousecmr_data.cli import main as main_module
from mousecmr_data.cli.main import SECTIONS, main

DOCS = Path(__file__).parents[2] / "docs"


def list_all_commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    commands: list[tuple[str, click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        commands.append((f"{prefix}{name}", command))
        if isinstance(command, click.Group):
            commands += list_all_commands(command, f"{prefix}{name} ")
    return commands


COMMANDS = list_all_commands(main)


def test_console_scripts_import() -> None:
    scripts = [e for e in entry_points(group="console_scripts") if e.value.startswith("mousecmr_data")]
    assert [s.name for s in scripts] == ["mousecmr"]
    assert scripts[0].load() is main


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_and_is_in_the_docs(name: str, command: click.Command) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert command.help
    text = "\n".join(p.read_text(encoding="utf-8") for p in DOCS.rglob("*.md"))
    assert f"mousecmr {name}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_the_help_lists_every_command_in_a_section() -> None:
    folder = Path(main_module.__file__).parent
    modules = {p.stem for p in folder.glob("*.py")} - {"__init__", "main", "options", "output"}
    listed = [name for commands in SECTIONS.values() for name in commands]
    assert sorted(listed) == sorted(modules)
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    titles = [line.rstrip(":") for line in lines if line.rstrip(":") in SECTIONS]
    assert titles == ["Data", "Segment", "Evaluate", "Share"]
    assert max(map(len, lines)) <= 80


def test_an_option_means_the_same_in_all_commands() -> None:
    """An option of several commands has one spelling, one type and one unit."""
    kinds: dict[str, set[str]] = {}
    for _, command in COMMANDS:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not isinstance(command, click.Group):
                kinds.setdefault(parameter.opts[-1], set()).add(f"{parameter.type.name} {parameter.nargs}")
    differing = {option for option, types in kinds.items() if len(types) > 1}
    assert differing == {"--weights", "--output", "--network"}, (
        "--weights is a flag of fetch and bundle; --output is a file or a folder; --network is a flag of doctor"
    )
    assert not kinds.keys() & {"--jobs", "--voxel-size", "--redo", "--batch"}, (
        "old names of --workers, --spacing, --overwrite and --batch-size"
    )


def test_help_imports_no_heavy_package() -> None:
    modules = [f"mousecmr_data.cli.{name}" for names in SECTIONS.values() for name in names]
    code = f"""
import sys
from importlib import import_module
for module in {modules}:
    import_module(module)
print(sorted({{"torch", "numpy", "pandas", "xarray", "zarr", "h5py", "matplotlib", "pooch"}} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_unknown_command_is_named() -> None:
    result = CliRunner().invoke(main, ["sho"])
    assert result.exit_code == 2
    assert "sho" in result.output
