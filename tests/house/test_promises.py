"""The promises of the documentation name tests that exist; no module runs what a file holds."""

import ast
import importlib
import re
from pathlib import Path

from packaging.version import Version

import mousecmr_data
from mousecmr_data._utils.deprecation import DEPRECATIONS

ROOT = Path(__file__).parents[2]
UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
BETWEEN_PROCESSES = "parallel.py"
"""Pickles travel between processes of this library only, through pipes."""


def test_each_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", row)
        assert named, row
        for test, path in named:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"


def test_nothing_is_kept_past_the_version_that_removes_it() -> None:
    for path in sorted((ROOT / "mousecmr_data").rglob("*.py")):
        if "_utils.deprecation import" in path.read_text(encoding="utf-8"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert [d.what for d in DEPRECATIONS if Version(d.removed_in) <= Version(mousecmr_data.__version__)] == []


def test_no_file_is_unpickled_or_evaluated() -> None:
    found = []
    for path in sorted((ROOT / "mousecmr_data").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            unsafe = UNSAFE_MODULES & {n.partition(".")[0] for n in names} and path.name != BETWEEN_PROCESSES
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                unsafe = call in {"eval", "exec", "torch.load", "yaml.load", "pd.read_pickle"} or any(
                    k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords
                )
            if unsafe:
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
