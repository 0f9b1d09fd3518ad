"""Workflows, hooks and the Makefile agree: what runs there runs here."""

import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
if not WORKFLOWS:
    pytest.skip("this is not a checkout: it has no workflows", allow_module_level=True)


def read(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [w for w in WORKFLOWS if w.stem in ("tests", "docs", "release")], ids=lambda p: p.stem)
def test_each_step_of_a_workflow_is_a_target_of_the_makefile(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    for job in read(path)["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                program, *words = step["run"].split()
                assert program == "make" and {w for w in words if "=" not in w} <= targets, step["run"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_may_only_read_and_holds_no_secret(path: Path) -> None:
    """Rights are given to single jobs; publishing needs no token."""
    assert read(path)["permissions"] == {"contents": "read"}
    assert not re.search(r"secrets\.|password:", path.read_text(encoding="utf-8"))
    assert all("timeout-minutes" in job or "publish" in name for name, job in read(path)["jobs"].items())


def test_all_supported_versions_are_tested_on_all_systems() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert jobs["core"]["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]


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
