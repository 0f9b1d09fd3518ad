import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CASES = {
    "bruker": ("brukerapi", "import mousecmr_data.formats.bruker"),
    "dicom-seg": ("highdicom", "import mousecmr_data.formats.dicom_seg"),
    "formats": ("nibabel", "import mousecmr_data.pipeline.batch"),
    "torch": ("torch", "import mousecmr_data.adapters.torch"),
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
