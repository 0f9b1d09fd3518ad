"""What a command imports: nothing that the job does not use. What xarray and pandas import is theirs."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

HEAVY = {
    *("numpy", "pandas", "xarray", "h5py", "zarr", "matplotlib", "PIL", "pooch", "pingouin"),
    *("scipy.ndimage", "scipy.signal", "scipy.io", "scipy.stats", "statsmodels", "sklearn"),
    *("torch", "onnx", "onnxruntime", "openvino", "monai", "datasets", "gradio", "fastapi", "xlsxwriter"),
    *("nibabel", "pydicom", "highdicom", "brukerapi", "SimpleITK", "nrrd"),
}
ARRAYS = {"numpy", "pandas", "xarray", "h5py"}
ALLOWED = {
    "info": ("main(['info'], standalone_mode=False)", set()),
    "measure": ("main(['measure', FILE], standalone_mode=False)", {"numpy", "h5py"}),
    "load": ("mousecmr_data.load(mice=['Mouse4'], source='phantom', download=False)", {*ARRAYS, "zarr"}),
    "evaluate": ("mousecmr_data.evaluate", {*ARRAYS, "zarr", "scipy.ndimage"}),
    "segment": ("mousecmr_data.segment, mousecmr_data.load_model", {*ARRAYS, "scipy.ndimage", "pooch"}),
    "serve": (
        "import mousecmr_data.web.app, mousecmr_data.web.service",
        {*ARRAYS, "scipy.ndimage", "pooch"},
    ),
}
"""What is run, and the heavy modules that it imports. A name that is added here makes its command slower."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A mouse with masks of two frames."""
    masks = np.zeros((40, 40, 3, 4), np.uint8)
    masks[8:28, 8:28, :, ::2] = 1
    masks[12:24, 12:24, :, ::2] = 2
    with h5py.File(tmp_path / "mouse.h5", "w") as f:
        f["Images"], f["Masks"], f["Frames_with_ROI"] = masks.astype(np.uint16), masks, [0, 2]
    return tmp_path / "mouse.h5"


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_imports_what_it_uses(command: str, file: Path) -> None:
    """In a process of its own, as this one has imported everything."""
    run, allowed = ALLOWED[command]
    code = f"""
import sys, mousecmr_data
from mousecmr_data.cli.main import main
FILE = {str(file)!r}
{run}
print("imported:", *sorted({HEAVY} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    imported = set(out.splitlines()[-1].split()[1:])
    assert imported == allowed, f"{command} imports something else than its list says"
