import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mousecmr_data._utils.environment import EXTRAS

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CASES = {
    "bruker": ("brukerapi", "import mousecmr_data.formats.bruker"),
    "dicom-seg": ("highdicom", "import mousecmr_data.formats.dicom_seg"),
    "formats": ("nibabel", "import mousecmr_data.formats.nifti"),
    "torch": ("torch", "import mousecmr_data as m; m.load_model('phantom-small', engine='eager')"),
    "training": ("monai", "import mousecmr_data.training"),
    "evaluation": (
        "pingouin",
        "from mousecmr_data.metrics.agreement import icc; icc([[1, 2], [2, 3], [3, 5], [4, 4], [5, 6]])",
    ),
    "dask": ("dask", "import mousecmr_data as m; m.load(mice=['Mouse5'], source='phantom', chunks={})['Mouse5']"),
    "huggingface": ("datasets", "import mousecmr_data.adapters.huggingface"),
    "onnx": ("onnxruntime", "import mousecmr_data.inference.engines.onnx"),
    "openvino": ("openvino", "import mousecmr_data.inference.engines.openvino"),
    "web": ("gradio", "from mousecmr_data.web.app import create_app; create_app()"),
    "remote": ("fsspec", "import mousecmr_data as m; m.load(source='https://127.0.0.1:9/x.zarr')"),
}


@pytest.mark.parametrize("extra", CASES)
def test_each_missing_extra_names_its_install_command(extra: str, phantom_cache: object) -> None:
    """Run the use in a process where the package of the extra cannot be imported."""
    module, use = CASES[extra]
    code = f"""
import os, sys
os.environ["MOUSECMR_CACHE"] = {str(phantom_cache)!r}
sys.modules[{module!r}] = None
from mousecmr_data.errors import MissingExtraError
try:
    {use}
except MissingExtraError as e:
    print(e)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'mousecmr-data[{extra}]'" in out.stdout, out.stderr


WITHDRAWN = {"requests": ["2.32.0", "2.32.1"], "hatchling": ["1.26.0"], "build": ["1.2.0"]}
"""Versions that their authors withdrew ("yanked") near the oldest version that is supported here."""
VULNERABLE = {
    "requests": ["2.32.3"],  # sends passwords of a netrc file to the wrong host: CVE-2024-47081
    "filelock": ["3.20.0"],  # empties a file behind a planted link: CVE-2025-68146
    "urllib3": ["2.5.0"],  # unpacks without a limit: CVE-2025-66418 and CVE-2025-66471
}


def test_no_bound_allows_a_withdrawn_or_vulnerable_version() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"].values()
    texts = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(t for e in optional for t in e),
    ]
    found = set()
    for requirement in map(Requirement, texts):
        for version in WITHDRAWN.get(requirement.name, []) + VULNERABLE.get(requirement.name, []):
            found.add(requirement.name)
            assert not requirement.specifier.contains(version), f"{requirement} allows {version}"
    assert found == {*WITHDRAWN, *VULNERABLE}


def list_distributions(extra: str) -> set[str]:
    """Return the distributions that an extra installs, its other extras included."""
    names = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        name, others = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == PROJECT["name"]:
            names |= set().union(*map(list_distributions, others.split(",")))
        else:
            names.add(re.sub(r"[-_.]+", "-", name).lower())
    return names


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_modules_of_an_extra_are_those_of_pyproject(extra: str) -> None:
    installed = packages_distributions()
    distributions = {re.sub(r"[-_.]+", "-", d).lower() for module in EXTRAS[extra] for d in installed.get(module, ())}
    expected = list_distributions(extra)
    absent = {m for m in EXTRAS[extra] if m not in installed}  # not in the test environment
    assert distributions | absent == expected


OPTIONAL = {module for modules in EXTRAS.values() for module in modules} - {"yaml"}  # zarr needs yaml
COMMANDS = {
    "predict Mouse5 --source phantom --weights phantom-small": "openvino",
    "train --recipe phantom-small -o run": "training",
    "tune results -o tuned --name mine": "training",
    "export --weights phantom-small": "onnx",
    "serve --no-browser": "web",
    "review results --no-browser": "web",
    "demo": "segment",
    "demo --segment 0": "evaluation",
    "evaluate Mouse5.nii.gz --source phantom": "evaluation",
    "compare a.json b.json": "evaluation",
    "segment Mouse5.nii.gz -o results": "segment",
    "show Mouse5 --source phantom": "evaluation",
    "convert Mouse5 --source phantom --to nifti -o nifti": "formats",
    "convert Mouse5 --source phantom --to mha -o mha": "metaimage",
    "reproduce --source phantom --weights phantom-small": "segment,evaluation",
    "publish --repo-id lab/phantom-synthetic --source phantom --dry-run": "huggingface",
}


def run_without(modules: set[str], command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process where ``modules`` cannot be imported, with an empty cache."""
    code = f"""
import os, sys
os.environ["MOUSECMR_CACHE"] = {str(folder / "cache")!r}
sys.modules.update(dict.fromkeys({sorted(modules)}))
from mousecmr_data.cli.main import main
main({command.split()})
"""
    (folder / "Mouse5.nii.gz").touch()
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_extra_ends_with_one_line_before_any_work(command: str, tmp_path: Path) -> None:
    out = run_without(OPTIONAL, command, tmp_path)
    lines = [line for line in out.stderr.splitlines() if "SYNTHETIC" not in line]
    assert len(lines) == 1, out.stderr
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith(f"Next: pip install 'mousecmr-data[{COMMANDS[command]}]'")
    assert out.returncode == 1
    assert [p.name for p in tmp_path.iterdir()] == ["Mouse5.nii.gz"]


def test_evaluate_names_the_extra_for_metaimage(tmp_path: Path) -> None:
    (tmp_path / "Mouse5.mha").touch()
    out = run_without({"SimpleITK"}, "evaluate Mouse5.mha --source phantom --split all", tmp_path)
    assert out.stderr.strip().endswith("pip install 'mousecmr-data[metaimage]'"), out.stderr


def test_evaluate_names_the_extra_for_nifti_before_it_loads_the_cohort(tmp_path: Path) -> None:
    out = run_without({"nibabel"}, "evaluate Mouse5.nii.gz --source phantom --split all", tmp_path)
    assert out.stderr.strip().endswith("pip install 'mousecmr-data[formats]'"), out.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["Mouse5.nii.gz"]
