"""Workflows, hooks and the Makefile agree: what runs there runs here."""

import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
if not WORKFLOWS:
    pytest.skip("this is not a checkout: it has no workflows", allow_module_level=True)


def read(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def list_steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_each_step_of_a_workflow_is_a_target_of_the_makefile_or_a_command(path: Path) -> None:
    """``make -n`` knows the targets; the command has the options."""
    for run in [step["run"] for step in list_steps(path) if "run" in step]:
        program, *words = shlex.split(run)
        if program == "make":
            planned = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
            assert planned.returncode == 0, planned.stderr
        elif program == "mousecmr":
            command: click.Command = importlib.import_module(f"mousecmr_data.cli.{words.pop(0)}").command
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            command.make_context(run, words)
        else:
            assert re.fullmatch(r"python -m pip install '?\.(\[\w+\])?'?", run)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_actions_are_pinned_to_a_commit_and_dependabot_renews_them(path: Path) -> None:
    """A tag can be moved by whoever owns the action; behind the commit stands its version, for people."""
    used = re.findall(r"uses: (\S+@.+)", path.read_text(encoding="utf-8"))
    assert len(used) == len([step for step in list_steps(path) if "uses" in step])
    assert [u for u in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u)] == []
    assert read(ROOT / ".github" / "dependabot.yml")["updates"][0]["package-ecosystem"] == "github-actions"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_may_only_read_and_holds_no_secret(path: Path) -> None:
    """Rights are given to single jobs; publishing needs no token."""
    assert read(path)["permissions"] == {"contents": "read"}
    assert not re.search(r"secrets\.|password:", path.read_text(encoding="utf-8"))
    assert all("timeout-minutes" in job or "publish" in name for name, job in read(path)["jobs"].items())


def test_all_supported_versions_are_tested_on_all_systems() -> None:
    """Those that pyproject.toml names, from the lowest allowed on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"
    assert jobs["core"]["strategy"]["matrix"] == {
        "system": ["macos-latest", "windows-latest"],
        "python": [named[0], named[-1]],
    }
    set_up = [step["with"]["python-version"] for step in list_steps(ROOT / ".github" / "workflows" / "tests.yml")
              if "setup-python" in step.get("uses", "")]  # fmt: skip
    assert set(set_up) <= {*named, "${{ matrix.python }}"}
    assert jobs["lowest"]["steps"][1]["with"]["python-version"] == named[0]


def test_the_release_is_signed_and_lists_its_parts() -> None:
    build, publish = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"].values()
    used = [step.get("uses", "").partition("@")[0] for step in build["steps"]]
    assert {"actions/attest-build-provenance", "actions/attest-sbom"} <= set(used)
    assert publish["permissions"] == {"id-token": "write"}
    assert "sbom.cdx.json" in MAKEFILE


def test_hooks_use_the_version_of_ruff_that_make_check_uses() -> None:
    hooks = {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in read(ROOT / ".pre-commit-config.yaml")["repos"]}
    assert f"ruff=={hooks['ruff-pre-commit'].removeprefix('v')}" in (ROOT / "constraints.txt").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_an_issue_template_is_complete(path: Path) -> None:
    form = read(path)
    assert form["name"] and form["description"]
    assert all(field["attributes"]["label"] for field in form["body"])
