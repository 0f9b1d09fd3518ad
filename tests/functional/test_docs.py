"""Run the examples of the documentation on synthetic mice, and check its links."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mousecmr_data.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?```(?P<kind>python|console)\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_examples_run(page: Path, tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tutorials the commands run, too, in the order of the page."""
    kinds = ("python", "console") if page.parent.name == "tutorials" else ("python",)
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    blocks = [(m["kind"], m["code"]) for m in found if not m["skip"] and m["kind"] in kinds]
    if not blocks:
        pytest.skip(f"{page.name} has no example to run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    names: dict[str, object] = {}
    for kind, code in blocks:
        if kind == "python":
            exec(compile(code, page.name, "exec"), names)
            continue
        for line in code.splitlines():
            result = CliRunner().invoke(main, shlex.split(line.removeprefix("$ "), comments=True)[1:])
            assert result.exit_code == 0, result.output


def find_commands(page: Path) -> list[list[str]]:
    """Return the words of each command of this library in the blocks of a page, also as the command of ``torchrun``."""
    blocks = re.findall(r"```(?:console)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.match(r"(?:\$ |torchrun .*?)?mousecmr (.*)", line) for line in lines]
    return [shlex.split(re.sub(r"  +→.*| > .*", "", m[1]), comments=True) for m in found if m]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_commands_have_these_options(page: Path) -> None:
    """Each command and option in a block of a page exists. Nothing runs: most need the real mice."""
    for words in find_commands(page):
        command, rest = main, words
        context = click.Context(main)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest[0])
            assert found is not None, words
            command, rest = found, rest[1:]
        try:
            command.make_parser(context).parse_args([w for w in rest if w != "..."])
        except click.UsageError as e:
            raise AssertionError(f"mousecmr {shlex.join(words)}: {e.message}") from e


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_links_have_targets(page: Path) -> None:
    broken = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / t).exists()]
    assert broken == []
