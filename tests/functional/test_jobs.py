"""Ten jobs of a researcher, each a script of at most 15 lines that was written from the documentation alone."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

JOBS = {
    "first_array": (),
    "dataloader": ("torch",),
    "own_monai_network": ("torch", "monai"),
    "nnunet": ("nnunetv2", "nibabel", "pingouin"),
    "cross_validation": ("torch", "monai", "pingouin"),
    "fine_tuning": ("torch", "monai"),
    "hugging_face": ("torch", "datasets"),
    "evaluation": ("torch", "pingouin"),
    "comparison": ("pingouin",),
    "figure": ("matplotlib",),
}
"""The scripts, and the packages of the extras that they need."""
LINES = 15
FOLDER = Path(__file__).parent / "jobs"


def test_every_job_is_in_the_list() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_job(name: str, tmp_path: Path, phantom_cache: Path) -> None:
    script = FOLDER / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= LINES
    if missing := [module for module in JOBS[name] if find_spec(module) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "MOUSECMR_CACHE": str(phantom_cache), "PATH": path, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
