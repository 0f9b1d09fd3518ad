"""Files that real scanners and converters wrote, against an independent reading of their bytes.

They are not part of the repository (``../shared/real_files``, see its README.md); without them these tests are skipped.
"""

import gzip
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, UnitsError
from mousecmr_data.formats.discover import collect_inputs, find_scans
from mousecmr_data.formats.fdf import read_procpar
from mousecmr_data.formats.read import read_scan

REAL = Path(__file__).parents[3] / "shared" / "real_files"
MOUSE = (1.0, 0.1, 0.1)
"""A spacing for objects that are no mouse, as the refusal proposes."""
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here: ../shared/real_files")


def read(path: Path, **options: object):  # type: ignore[no-untyped-def]
    (scan,) = find_scans(path)
    return read_scan(scan, **options)  # type: ignore[arg-type]


def test_fdf_of_vnmrj() -> None:
    path = REAL / "fdf" / "test.fdf"
    ds = read(path)
    pixels = np.frombuffer(path.read_bytes()[-256 * 256 * 4 :], ">f4").reshape(256, 256)
    np.testing.assert_array_equal(ds["image"].values[0, 0], pixels)
    assert 0 < pixels.max() < 0.04  # not truncated to whole numbers
    assert get_spacing(ds) == pytest.approx((1.0, 45 / 256, 40 / 256), rel=1e-5)
    assert ds.attrs["purpose"] == "a multi-echo series"


@pytest.mark.parametrize(
    ("name", "values"), [("cine", 885), ("src_biopack_parlib_gCLNfhsqc", 707), ("src_biopack_parlib_ghca_nA", 746),
                         ("src_common_par300_tests_C13-GammaB2", 282)],
)  # fmt: skip
def test_procpar_of_vnmrj(name: str, values: int) -> None:
    path = REAL / "procpar" / f"{name}.par_procpar"
    parameters = read_procpar(path)
    number = r"-?[\d.e+-]+"
    heads = re.findall(rf"^([a-zA-Z_]\S*)((?: {number}){{10}}) *$", path.read_text("latin-1"), re.MULTILINE)
    assert set(parameters) == {head for head, _ in heads}
    assert len(parameters) == values
    if name == "cine":
        assert parameters["heartrate"] == (461.538461538,)
    else:
        (text,) = parameters["text"] if "text" in parameters else [
            v for p in parameters.values() for v in p if isinstance(v, str) and "\n" in v
        ]  # fmt: skip
        assert "\n" in str(text)


def read_visu(folder: Path, name: str) -> np.ndarray:
    """Read numbers of visu_pars by their text alone."""
    text = re.search(rf"##\${name}=(?:\([^)]*\)\s)?([^#$]*)", (folder / "visu_pars").read_text())
    assert text is not None
    return np.array([float(v) for v in text[1].split()])


@pytest.mark.parametrize(
    ("folder", "shape"), [("bruker_PV5_banana/1/pdata/1", (1, 5, 64, 80)), ("bruker_PV7_cycle", (8, 1, 64, 64))]
)
def test_2dseq_of_paravision(folder: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("brukerapi")
    path = REAL / folder / "2dseq"
    with pytest.raises(UnitsError, match="are not those of a mouse") as e:
        read(path)
    assert "--spacing" in str(e.value)
    ds = read(path, spacing=MOUSE)
    raw = np.frombuffer(path.read_bytes(), "<i2").astype(float) * read_visu(path.parent, "VisuCoreDataSlope")[0]
    np.testing.assert_allclose(ds["image"].values, raw.reshape(shape), rtol=1e-6)
    assert "rotated" not in ds.attrs["notes"]
    assert not ds.attrs["frame_time_known"]
    own = read_visu(path.parent, "VisuCoreExtent") / read_visu(path.parent, "VisuCoreSize")
    assert f"{own[1]:g} × {own[0]:g} mm" in str(e.value)


def test_the_localiser_of_paravision_is_no_stack() -> None:
    pytest.importorskip("brukerapi")
    with pytest.raises(FileLayoutError, match="slices in 3 directions") as e:
        read(REAL / "bruker_localiser_3packages", spacing=MOUSE)
    assert "another folder of the study" in str(e.value)
    assert read(REAL / "bruker_PV5_banana", spacing=MOUSE).sizes["slice"] == 5


def test_an_export_of_paravision_is_a_zip_archive(tmp_path: Path) -> None:
    pytest.importorskip("brukerapi")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "fruits.PvDatasets", "w") as z:
        for path in sorted(p for p in (REAL / "bruker_PV5_banana").rglob("*") if p.is_file()):
            z.write(path, f"fruits/{path.relative_to(REAL / 'bruker_PV5_banana')}")
    for given in (tmp_path / "in", tmp_path / "in" / "fruits.PvDatasets"):
        with collect_inputs([given], tmp_path) as (scans, refused):
            assert not refused
            assert [s.kind for s in scans] == ["Bruker"]
            assert read_scan(scans[0], spacing=MOUSE).attrs["purpose"] == "an EPI"


def test_nifti_without_a_place_in_space_is_read_as_stored() -> None:
    path = REAL / "nifti" / "minimal.nii"
    with pytest.raises(UnitsError, match="are not those of a mouse"):
        read(path)
    ds = read(path, spacing=MOUSE)
    np.testing.assert_array_equal(
        ds["image"].values[0], np.frombuffer(path.read_bytes()[352:], np.uint8).reshape(10, 64, 64)
    )


def test_nifti_of_five_axes() -> None:
    path = REAL / "nifti" / "e4.60005.nii.gz"
    ds = read(path, spacing=MOUSE)
    content = gzip.decompress(path.read_bytes())
    (offset,) = struct.unpack("<f", content[108:112])
    raw = np.frombuffer(content[int(offset) :], "<i2").reshape(4, 34, 64, 64)
    # The affine runs to the right and to anterior: columns and rows are reversed.
    matrix = np.frombuffer(content[280:328], "<f4").reshape(3, 4)
    flips = (1, -1 if matrix[2, 2] < 0 else 1, -1 if matrix[1, 1] > 0 else 1, -1 if matrix[0, 0] > 0 else 1)
    np.testing.assert_array_equal(ds["image"].values, raw[tuple(slice(None, None, f) for f in flips)])
    assert not ds.attrs["frame_time_known"]
    assert "The file has 5 axes: the frames are number 5, whose step has no unit." in ds.attrs["notes"]


@pytest.mark.parametrize("packed", ["", "header", "pixels", "both", "names"])
def test_a_pair_of_header_and_pixels(tmp_path: Path, packed: str) -> None:
    header, pixels = ((REAL / "nifti" / f"ras.{end}").read_bytes() for end in ("hdr", "img"))
    raw = np.frombuffer(pixels, np.uint8).reshape(34, 41, 62)
    end = ".gz" if packed == "names" else ""
    names = [tmp_path / f"ras.{kind}{end}" for kind in ("hdr", "img")]
    for name, content, here in zip(names, (header, pixels), ("header", "pixels"), strict=True):
        name.write_bytes(gzip.compress(content) if packed in (here, "both", "names") else content)
    matrix = np.frombuffer(header[280:328], ">f4" if header[:1] == b"\0" else "<f4").reshape(3, 4)
    assert (np.diag(matrix[:, :3]) > 0).all()  # to the right and to anterior: both are reversed
    for given in ([names[0]], [names[1]], names, [tmp_path]):
        with collect_inputs(given, tmp_path) as (scans, refused):
            assert (len(scans), refused) == (1, [])
            np.testing.assert_array_equal(read_scan(scans[0], spacing=MOUSE)["image"].values[0], raw[:, ::-1, ::-1])
            assert sorted(scans[0].files) == sorted(names) or given == [names[1]]
