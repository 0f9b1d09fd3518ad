import subprocess
import sys

import pytest

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
