"""Headers of real files with changed bytes: refused in words, or read as an independent reading of the same bytes does.

The files are not part of the repository (``../shared/real_files``); without them these tests are skipped.
"""

import gzip
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.build import suppress_warnings
from mousecmr_data.formats.discover import find_scans
from mousecmr_data.formats.fdf import read_procpar
from mousecmr_data.formats.orientation import FileGrid
from mousecmr_data.formats.read import read_scan

REAL = Path(__file__).parents[3] / "shared" / "real_files"
FULL = bool(os.environ.get("MOUSECMR_STRESS"))
nib: Any = nibabel
mutate = settings(
    max_examples=1000 if FULL else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here: ../shared/real_files"),
]


def change_bytes(data: st.DataObject, content: bytes, start: int, stop: int) -> bytes:
    """Replace one to four bytes from ``start`` to ``stop``, mostly by bytes that stand elsewhere in the header."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, stop - 1))
        other = st.integers(start, stop - 1).map(lambda k: content[k])
        changed[at] = data.draw(st.one_of(other, st.integers(0, 255)))
    return bytes(changed)


def change_text(data: st.DataObject, text: str) -> str:
    """Change a number, or a few characters, of a text of parameters."""
    if data.draw(st.booleans()):
        numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
        place = data.draw(st.sampled_from(numbers))
        new = data.draw(st.sampled_from(["0", "1", "2", "3", "5", "-1", "0.5", "1e9", "nan", "64", "", "7 7"]))
        return text[: place.start()] + new + text[place.end() :]
    return change_bytes(data, text.encode("latin-1"), 0, len(text)).decode("latin-1")


def read_or_refuse(path: Path, **options: Any) -> xr.Dataset | None:
    """Return the scan in ``path``, or None after an error of this library."""
    try:
        return read_scan(find_scans(path)[0], **options)
    except MouseCMRError as e:
        assert e.found
        return None


def get_file_array(ds: xr.Dataset) -> np.ndarray:
    """Return the pixels in the order of the file."""
    return FileGrid.from_dataset(ds).to_file(ds["image"].values)


# NIfTI, against nibabel


def shrink(content: bytes, factor: float) -> bytes:
    """Divide the sizes in a NIfTI header, so that its voxels can be those of a mouse."""
    order = "<" if struct.unpack("<i", content[:4])[0] == 348 else ">"
    changed = bytearray(content)
    for first, n in ((80, 3), (280, 12)):
        values = struct.unpack_from(f"{order}{n}f", content, first)
        struct.pack_into(f"{order}{n}f", changed, first, *(v / factor for v in values))
    return bytes(changed)


@pytest.mark.parametrize("name", ["minimal.nii", "e4.60005.nii.gz", "ras.hdr"])
@mutate
@given(st.data())
def test_nifti(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content = (REAL / "nifti" / name).read_bytes()
    content = shrink(gzip.decompress(content) if name.endswith(".gz") else content, 20)
    path = tmp_path / name.removesuffix(".gz")
    path.write_bytes(change_bytes(data, content, 0, 348))
    if name == "ras.hdr":
        path.with_suffix(".img").write_bytes((REAL / "nifti" / "ras.img").read_bytes())
    for spacing in (None, (1.0, 0.1, 0.1)):
        ds = read_or_refuse(path, spacing=spacing, axes=None)
        if ds is None:
            continue
        array = get_file_array(ds)
        try:
            with suppress_warnings("nibabel.global"):
                image = nib.load(path)
                expected = np.asarray(image.dataobj, float).reshape(array.shape, order="F")
        except Exception:  # ours reads headers of Analyze with gaps, too
            header = path.read_bytes()
            assert path.suffix == ".hdr"
            assert header[344:348] != b"ni1\0"
            kind = {2: "u1", 130: "i1"}[max(header[70:72])]
            expected = np.frombuffer(path.with_suffix(".img").read_bytes(), kind).reshape(array.shape, order="F")
            image = None
        np.testing.assert_allclose(array, expected, rtol=1e-5)
        if spacing is None and image is not None:
            code = path.read_bytes()[123] & 7 if isinstance(image, nib.Nifti1Pair) else 0
            unit = {1: 1e3, 3: 1e-3}.get(code, 1.0)  # metres, micrometres
            steps = np.linalg.norm(image.affine[:3, :3], axis=0) * unit
            np.testing.assert_allclose(sorted(get_spacing(ds)), sorted(steps), rtol=0.03)


# FDF, against its text and the last bytes of the file


@mutate
@given(st.data())
def test_fdf(tmp_path: Path, data: st.DataObject) -> None:
    content = (REAL / "fdf" / "test.fdf").read_bytes()
    end = content.index(0)
    header = change_text(data, content[:end].decode("latin-1"))
    path = tmp_path / "test.fdf"
    path.write_bytes(header.encode("latin-1") + content[end:])
    ds = read_or_refuse(path)
    if ds is None:
        return

    def find(name: str, k: int = 0) -> str:
        values = re.findall(rf"^\s*(?:float|int|char)[\s*]*\b{name}\s*(?:\[\s*\])?\s*=\s*(.*?);", header, re.MULTILINE)
        return values[-1].strip("{} ").split(",")[k].strip().strip('"')  # type: ignore[no-any-return]

    columns, rows, bits = int(float(find("matrix"))), int(float(find("matrix", 1))), int(float(find("bits")))
    kind = {"float": "f", "double": "f", "short": "i", "integer": "i"}[find("storage")] + str(bits // 8)
    n = rows * columns
    pixels = np.frombuffer(content[-n * bits // 8 :], f">{kind}").reshape(rows, columns)
    np.testing.assert_allclose(ds["image"].values[0, 0], pixels, rtol=1e-5)
    sizes = [float(find("roi", 2)) * 10, float(find("span", 1)) * 10 / rows, float(find("span")) * 10 / columns]
    assert get_spacing(ds) == pytest.approx([abs(v) for v in sizes], rel=1e-4)


@mutate
@given(st.data())
def test_procpar(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(p.name for p in (REAL / "procpar").iterdir())))
    text = (REAL / "procpar" / name).read_text("latin-1")
    path = tmp_path / "procpar"
    path.write_bytes(change_text(data, text).encode("latin-1"))
    try:
        parameters = read_procpar(path)
    except MouseCMRError as e:
        assert e.found
        return
    heads = re.findall(r"^(\S+)(?: -?[\d.e+-]+){10} *$", path.read_text("latin-1"), re.MULTILINE)
    assert len(set(parameters).symmetric_difference(heads)) <= 4  # one for each changed byte


# Bruker, against the text of visu_pars


def find_values(text: str, name: str, convert: Callable[[str], Any] = float) -> list[Any]:
    """Return the values of a parameter; ends the trial where a changed byte hides them from this simple reading."""
    found = re.findall(rf"^##\${name}=(?:\([^)]*\)\s)?([^#$]*)", text, re.MULTILINE)
    try:
        return [convert(v) for v in re.sub(r"\r?\n", "", found[-1]).split()]  # ParaVision wraps after the blank
    except (IndexError, ValueError):
        reject()


@pytest.mark.parametrize("folder", ["bruker_PV5_banana/1/pdata/1", "bruker_PV7_cycle"])
@mutate
@given(st.data())
def test_bruker(folder: str, tmp_path: Path, data: st.DataObject) -> None:
    pytest.importorskip("brukerapi")
    text = (REAL / folder / "visu_pars").read_text("latin-1")
    text = text.replace("\n44 44\n", "\n8.8 8.8\n").replace("\n50 50\n", "\n10 10\n")  # sizes of a mouse
    text = text.replace("VisuCoreFrameThickness=( 1 )\n30", "VisuCoreFrameThickness=( 1 )\n1")
    geometry = re.search(r"##\$VisuCoreFrameCount.*?##\$VisuGroupDepVals", text, re.DOTALL)
    assert geometry is not None
    changed = change_text(data, geometry[0])
    text = text.replace(geometry[0], changed)
    path = tmp_path / "2dseq"
    path.write_bytes((REAL / folder / "2dseq").read_bytes())
    (tmp_path / "visu_pars").write_bytes(text.encode("latin-1"))
    ds = read_or_refuse(path)
    if ds is None:
        return
    columns, rows = (int(float(v)) for v in find_values(text, "VisuCoreSize"))
    n = int(find_values(text, "VisuCoreFrameCount")[0])
    word = find_values(text, "VisuCoreWordType", str)[0]
    kind = {"_16BIT_SGN_INT": "i2", "_32BIT_SGN_INT": "i4", "_32BIT_FLOAT": "f4", "_8BIT_UNSGN_INT": "u1"}[word]
    order = {"littleEndian": "<", "bigEndian": ">"}[find_values(text, "VisuCoreByteOrder", str)[0]]
    raw = np.frombuffer(path.read_bytes(), order + kind).reshape(n, rows, columns).astype(float)
    for name, scale in (("VisuCoreDataSlope", np.multiply), ("VisuCoreDataOffs", np.add)):
        raw = scale(raw, np.resize(find_values(text, name), n)[:, None, None])
    positions = np.reshape(find_values(text, "VisuCorePosition"), (-1, 3))
    normal = np.median(np.reshape(find_values(text, "VisuCoreOrientation"), (-1, 9)), axis=0)[6:]  # most slices'
    array = get_file_array(ds)  # (column, row, slice, frame)
    if ds.sizes["slice"] > 1:
        kept = np.argsort((positions * normal).sum(1))
        if ds.sizes["slice"] < n:  # those in another direction were left out
            directions = np.reshape(find_values(text, "VisuCoreOrientation"), (-1, 9))
            same = [k for k in kept if np.allclose(directions[k], np.median(directions, axis=0), atol=1e-3)]
            kept = np.array(same)
            assert "only the largest stack is used" in ds.attrs["notes"]
        raw = raw[kept][None]
        assert get_spacing(ds)[0] == pytest.approx(np.diff(np.sort((positions[kept] * normal).sum(1))).mean(), rel=1e-3)
    else:
        raw = raw[:, None]
    np.testing.assert_allclose(array, raw.transpose(3, 2, 1, 0).reshape(array.shape), rtol=1e-5)
    extent = find_values(text, "VisuCoreExtent")
    assert sorted(get_spacing(ds)[1:]) == pytest.approx(sorted([extent[0] / columns, extent[1] / rows]), rel=1e-4)


# DICOM, against pydicom


TRANSFORMATION = "PixelValueTransformationSequence"
DICOM = (
    "enh_agfa/011-0001.img",
    "mr_brucker_PV51_enhanced.dcm",
    "ge_osirix/IM-0009-0048.dcm",
    "enh_siemens_xa10/6_1.dcm",
)


def list_planes(path: Path) -> list[Any]:
    """Return the images of a DICOM file as pydicom reads them, rescaled as the file says for each."""
    ds = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns).astype(float)
    shared = ds.get("SharedFunctionalGroupsSequence") or [ds]
    own = ds.get("PerFrameFunctionalGroupsSequence") or [ds] * len(pixels)
    planes = []
    for plane, group in zip(pixels, own, strict=False):
        found = [
            g.PixelValueTransformationSequence[0] for g in (group, shared[0]) if "PixelValueTransf" in str(g.dir())
        ]
        rescale = found[0] if found else ds
        planes.append(plane * float(rescale.get("RescaleSlope", 1)) + float(rescale.get("RescaleIntercept", 0)))
    return planes


def is_one_of(plane: Any, others: list[Any]) -> bool:
    turned = [plane[::y, ::x] for y in (1, -1) for x in (1, -1)]
    turned += [t.T for t in turned]
    return any(t.shape == o.shape and np.allclose(t, o, rtol=1e-5) for o in others for t in turned)


@pytest.mark.parametrize("name", DICOM)
@pytest.mark.filterwarnings("ignore")
@mutate
@given(st.data())
def test_dicom(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content = (REAL / name).read_bytes()
    start = content.rindex(b"\xe0\x7f\x10\x00")  # of the pixels
    path = tmp_path / "a.dcm"
    path.write_bytes(change_bytes(data, content, 132, start))
    ds = read_or_refuse(path, spacing=(1.0, 0.1, 0.1), axes=None)
    if ds is not None:
        others = list_planes(path)
        for plane in ds["image"].values.reshape(-1, *ds["image"].shape[2:]):
            assert is_one_of(plane, others)
