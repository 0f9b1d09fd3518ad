"""Segmenting, measuring and evaluating where PyTorch, or what only statistics need, is not installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nibabel", reason="the extra formats is not installed")

from mousecmr_data import open_mouse
from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.inference.predictor import SHIPPED_FOLDER

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("this test hides torch")

sys.meta_path.insert(0, Blocker())
"""
NOT_OF_SEGMENT = (
    "torch",
    "onnx",
    "onnxruntime",
    "pingouin",
    "statsmodels",
    "sklearn",
    "seaborn",
    "jinja2",
    "SimpleITK",
)
"""What the extra ``segment`` does not install."""


def run(code: str) -> str:
    """Run ``code`` in a process of its own; return its output and its errors."""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return out.stdout + out.stderr


@pytest.mark.parametrize(("engine", "hidden"), [("openvino", True), ("onnx", True), ("openvino", False)])
def test_a_mouse_is_segmented_without_torch(engine: str, hidden: bool, phantom_cache: Path, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine), reason=f"the extra {engine} is not installed")
    scan = tmp_path / "Mouse6.nii.gz"
    write_nifti_images(open_mouse("Mouse6", source="phantom").isel(frame=[0, 8], slice=[3, 4, 5]), scan)
    out = run(f"""{BLOCKER if hidden else "import sys"}
from mousecmr_data.cli.main import main
words = "--weights phantom-small --engine {engine} --cache {phantom_cache} --no-pictures"
main(["segment", {str(scan)!r}, "-o", {str(tmp_path / "results")!r}, *words.split()], standalone_mode=False)
main(["measure", {str(tmp_path / "results")!r}], standalone_mode=False)
main(["info"], standalone_mode=False)
import mousecmr_data.evaluation, mousecmr_data.inference.engines.{engine}
print("imported:", "torch" in sys.modules)
""")
    assert "imported: False" in out, out
    assert list((tmp_path / "results").rglob("*.nii.gz")), out


def test_the_tutorial_for_scans_needs_no_torch(phantom_cache: Path, tmp_path: Path) -> None:
    """It says: pip install 'mousecmr-data[segment]', which brings no PyTorch."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    page = Path(__file__).parents[2] / "docs" / "tutorials" / "scans.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    begin = f"import os\nos.chdir({str(tmp_path)!r})\nos.environ['MOUSECMR_CACHE'] = {str(phantom_cache)!r}\n"
    out = run("\n".join([BLOCKER, begin, *blocks, "print('imported:', 'torch' in sys.modules)"]))
    assert "imported: False" in out, out


def test_what_segment_installs_is_enough(phantom_cache: Path, tmp_path: Path) -> None:
    """NIfTI and DICOM with pictures, tables, a workbook and DICOM SEG; a MetaImage file is the one mouse that fails."""
    for module in ("openvino", "highdicom", "matplotlib", "xlsxwriter"):
        pytest.importorskip(module, reason="the extra segment is not installed")
    from scanner_files import dicom_classic

    ds = open_mouse("Mouse6", source="phantom").isel(frame=[0, 8], slice=[3, 4, 5])
    write_nifti_images(ds, tmp_path / "Mouse6.nii.gz")
    dicom_classic(ds["image"].values, tmp_path / "study")
    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "meta.mha").write_bytes(header.encode() + bytes(8))
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    code = f"import sys; sys.modules.update(dict.fromkeys({NOT_OF_SEGMENT}))"  # in the process that reads, too
    (hidden / "sitecustomize.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hidden), *sys.path])}
    inputs, results = [tmp_path / name for name in ("Mouse6.nii.gz", "study", "meta.mha")], tmp_path / "results"
    options = f"--weights phantom-small --engine openvino --spacing 1.0 0.1 0.1 --cache {phantom_cache}"
    for words in (["segment", *inputs, "-o", results, *options.split()], ["measure", results]):
        command = [sys.executable, "-m", "mousecmr_data.cli.main", *words]
        out = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert out.returncode == (words[0] == "segment"), out.stderr
        if words[0] == "segment":
            assert out.stderr.splitlines()[-1].endswith("Next: pip install 'mousecmr-data[metaimage]'"), out.stderr
    written = {path.name for path in results.rglob("*")}
    assert {"mice.csv", "tables.xlsx", "montage.png"} <= written, written
    assert any(name.endswith(".dcm") for name in written), written


def test_what_needs_torch_names_its_extra(tmp_path: Path) -> None:
    weights = SHIPPED_FOLDER / "phantom-small.safetensors"
    out = run(f"""
import sys
sys.modules["torch"] = None
from mousecmr_data import load_model
from mousecmr_data.errors import MissingExtraError
for options in ({{"engine": "eager"}}, {{"network": "package.module:Class"}}):
    try:
        load_model({str(weights)!r}, cache={str(tmp_path)!r}, **options)
    except MissingExtraError as e:
        print(e)
""")
    assert out.count("pip install 'mousecmr-data[torch]'") == 2, out
