"""Real DICOM files of scanners: the right array, spacing and order, or a refusal whose next step works.

They are not in the repository. The expected arrays are put together by pydicom alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from click.testing import CliRunner

from mousecmr_data.cli.main import main
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, UnitsError
from mousecmr_data.formats.discover import find_scans
from mousecmr_data.formats.nifti import read_nifti_labels
from mousecmr_data.formats.read import read_scan

FOLDER = Path(__file__).parents[3] / "shared" / "real_files"
SPACING = (1.0, 0.1, 0.1)

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the folder of real files is not here"),
    pytest.mark.filterwarnings("ignore"),  # pydicom's remarks on values of these headers
]


def read_one(path: Path, **options: Any) -> Any:
    (scan,) = find_scans(path)
    return read_scan(scan, **options)


def copy_here(names: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in names:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def is_same_up_to_orientation(image: Any, expected: Any) -> bool:
    """Whether two arrays (frame, slice, y, x) differ only by turning slices and planes over."""
    turns = (expected, expected.swapaxes(2, 3))
    return any(
        image.shape == turned.shape and np.allclose(image, turned[:, ::s, ::y, ::x])
        for turned in turns
        for s in (1, -1)
        for y in (1, -1)
        for x in (1, -1)
    )


@pytest.fixture(scope="module")
def mouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the real mouse cine."""
    pytest.importorskip("torch")
    pytest.importorskip("highdicom")
    folder = tmp_path_factory.mktemp("out")
    words = ["segment", str(FOLDER / "bruker_PV360_enhanced_mouse"), "-o", str(folder), "--weights", "phantom-small"]
    result = CliRunner().invoke(main, [*words, "--engine", "eager"])
    assert result.exit_code == 0, result.output
    return folder


def test_the_real_mouse_is_one_mouse_of_its_short_axis_slices(mouse: Path) -> None:
    (row,) = pd.read_csv(mouse / "mice.csv").to_dict("records")
    assert (row["status"], row["slices"], row["frames"]) == ("done", 3, 15)
    assert row["heart_rate_bpm"] == pytest.approx(451, abs=1)
    assert row["heart_rate_source"] == "the file (RRIntervalTimeNominal, 0020,9251)"
    assert (row["voxel_z_mm"], row["frame_time_ms"]) == (1.0, 8.0)
    assert set(row["flags"].split()) - {"check_slice", "myocardium_hole"} == {"input_note"}
    pools = pd.read_csv(mouse / "slices.csv").query(f"frame == {row['ed_frame']}")["blood_pool_mm2"]
    assert pools.between(7, 12).all(), "the ventricle is in all three slices, by eye 9 to 10 mm² in each"
    notes = pd.read_csv(mouse / "flags.csv").query("level == 'mouse'")["message"].tolist()
    assert notes == [
        "Copies were left out: SA_1/EnIm1.dcm is a copy of SA_1/2.dcm.",
        "Left out of this study: LA_2CH (series 230001): 1 slice, 15 frames, a long-axis view by its name.",
    ]
    folder = mouse / row["mouse"]
    for name in (
        "masks.nii.gz",
        "ED_mask.nii.gz",
        "montage.png",
        "curve.png",
        "movie.webp",
        "frames.csv",
        "slices.csv",
    ):
        assert (folder / name).is_file(), name
    assert b"Mouse^One" not in b"".join(p.read_bytes() for p in mouse.rglob("*") if p.is_file())


def test_the_real_mouse_has_dicom_masks_of_the_right_frames_and_places(mouse: Path) -> None:
    hd: Any = pytest.importorskip("highdicom")
    folder = mouse / "bruker_PV360_enhanced_mouse"
    masks = read_nifti_labels(folder / "masks.nii.gz")
    sources = {}
    for path in (FOLDER / "bruker_PV360_enhanced_mouse").rglob("SA_*/EnIm1.dcm"):
        ds = pydicom.dcmread(path)
        sources[ds.SOPInstanceUID] = ds.SharedFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    files = sorted((folder / "dicom-seg").iterdir())
    assert len(files) == int((masks > 0).any((2, 3)).sum())
    for path in files:
        seg, frame = hd.seg.segread(path), int(path.name.split("_")[1][:3])
        (reference,) = seg.ReferencedSeriesSequence
        (source,) = reference.ReferencedInstanceSequence
        for item in seg.PerFrameFunctionalGroupsSequence:
            (used,) = item.DerivationImageSequence[0].SourceImageSequence
            assert used.ReferencedSOPInstanceUID == source.ReferencedSOPInstanceUID
            assert used.ReferencedFrameNumber == frame + 1
            assert item.PlanePositionSequence[0].ImagePositionPatient == sources[source.ReferencedSOPInstanceUID]
        stored = seg.get_volume(combine_segments=True).array
        assert any(is_same_up_to_orientation(stored[None], masks[frame : frame + 1, k : k + 1]) for k in range(3))


def test_the_pixels_of_the_real_mouse_are_those_that_pydicom_reads() -> None:
    ds = read_one(FOLDER / "bruker_PV360_enhanced_mouse")
    stack = []
    for k in (1, 2, 3):
        file = pydicom.dcmread(FOLDER / "bruker_PV360_enhanced_mouse" / f"SA_{k}" / "EnIm1.dcm")
        shared = file.SharedFunctionalGroupsSequence[0]
        stack.append(file.pixel_array * float(shared.PixelValueTransformationSequence[0].RescaleSlope))
    assert is_same_up_to_orientation(ds["image"].values, np.stack(stack, axis=1).astype(np.float32))
    assert get_spacing(ds) == pytest.approx((1.0, 25 / 192, 25 / 192), rel=1e-5)
    assert ds["time"].values.tolist() == [8.0 * k for k in range(15)]


def read_siemens() -> Any:
    files = [pydicom.dcmread(FOLDER / "enh_siemens_xa10" / f"6_{k}.dcm") for k in (1, 2, 3, 4)]
    return np.stack([f.pixel_array for f in files])


def read_agfa() -> Any:
    return pydicom.dcmread(FOLDER / "enh_agfa" / "011-0001.img").pixel_array[None]


@pytest.mark.parametrize(("name", "read"), [("enh_siemens_xa10", read_siemens), ("enh_agfa", read_agfa)])
def test_sizes_of_one_frame_each_are_read_and_masks_written(tmp_path: Path, name: str, read: Callable[[], Any]) -> None:
    with pytest.raises(UnitsError, match="not those of a mouse") as e:
        read_one(FOLDER / name)
    assert "--spacing" in str(e.value.next_step)
    ds = read_one(FOLDER / name, spacing=SPACING)
    assert is_same_up_to_orientation(ds["image"].values, read())
    assert get_spacing(ds) == SPACING
    assert ds.attrs["purpose"] == "an EPI"
    pytest.importorskip("torch")
    pytest.importorskip("highdicom")
    words = ["segment", str(FOLDER / name), "-o", str(tmp_path), "--weights", "phantom-small", "--engine", "eager"]
    result = CliRunner().invoke(main, [*words, "--no-pictures", "--spacing", "1", "0.1", "0.1"])
    assert result.exit_code == 0, result.output
    mouse = pd.read_csv(tmp_path / "mice.csv").iloc[0]
    assert "not_short_axis" in mouse["flags"].split()
    assert "output_missing" not in mouse["flags"].split()
    if "heart_not_found" not in mouse["flags"].split():  # they show no heart: there may be nothing to write
        assert list((tmp_path / mouse["mouse"] / "dicom-seg").iterdir())


def test_files_of_osirix_with_an_empty_private_item(tmp_path: Path) -> None:
    """Ten of 120 files: the outer slices have one frame, the others two. The voxels are those of a human."""
    with pytest.raises(FileLayoutError, match="most slices have 2 frames, slice 0 has 1, slice 5 has 1") as e:
        read_one(FOLDER / "ge_osirix")
    files = sorted((FOLDER / "ge_osirix").iterdir())
    kept = [p for p in files if p.name not in str(e.value.next_step)]
    folder = copy_here(kept, tmp_path / "kept")
    ds = read_one(folder, spacing=SPACING)
    headers = {p: pydicom.dcmread(p) for p in kept}
    times = sorted({h.TriggerTime for h in headers.values()})
    places = sorted({tuple(h.ImagePositionPatient) for h in headers.values()})
    expected = np.empty((2, 4, 256, 256))
    for h in headers.values():
        expected[times.index(h.TriggerTime), places.index(tuple(h.ImagePositionPatient))] = h.pixel_array
    assert is_same_up_to_orientation(ds["image"].values, expected)
    assert not ds.attrs["frame_time_known"]  # 581 ms apart: not those of a mouse
    assert ds.attrs["heart_rate_bpm"] == pytest.approx(62, abs=0.1)


def test_an_enhanced_stack_of_paravision_5() -> None:
    path = FOLDER / "mr_brucker_PV51_enhanced.dcm"
    ds = read_one(path)
    assert is_same_up_to_orientation(ds["image"].values, pydicom.dcmread(path).pixel_array[None])
    assert get_spacing(ds) == (1.0, 0.2, 0.1)
    assert ds.attrs["notes"].startswith("Pixels are not square")


def test_maps_and_other_modalities_are_refused() -> None:
    for name, kind in (("parametric_map", "Parametric Map Storage, modality OT"), ("tilted_stack", "modality CT")):
        with pytest.raises(FileLayoutError, match=kind) as e:
            read_one(FOLDER / name)
        assert e.value.next_step == "give the MR images of the short-axis cine"


def test_a_tilted_stack_is_refused_and_one_slice_of_it_is_read(tmp_path: Path) -> None:
    folder = copy_here(sorted((FOLDER / "tilted_stack" / "001").iterdir()), tmp_path / "mr")
    for path in folder.iterdir():  # the same stack, as if it were MR
        ds = pydicom.dcmread(path)
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        ds.save_as(path)
    with pytest.raises(FileLayoutError, match="shifted within their plane") as e:
        read_one(folder, spacing=SPACING)
    assert "give one slice" in str(e.value.next_step)
    path = sorted(folder.iterdir())[0]
    assert is_same_up_to_orientation(
        read_one(path, spacing=SPACING)["image"].values, pydicom.dcmread(path).pixel_array[None, None] - 1024.0
    )


def test_a_long_axis_alone_has_flags_and_no_ejection_fraction(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = FOLDER / "bruker_PV360_enhanced_mouse" / "LA_2CH"
    words = ["segment", str(path), "-o", str(tmp_path), "--weights", "phantom-small", "--engine", "eager"]
    result = CliRunner().invoke(main, [*words, "--no-pictures", "--no-dicom-seg"])
    assert result.exit_code == 0, result.output
    (row,) = pd.read_csv(tmp_path / "mice.csv").to_dict("records")
    assert np.isnan(row["ef_percent"])
    assert {"single_slice", "not_short_axis"} <= set(row["flags"].split())
    assert not (tmp_path / "LA_2CH" / "dicom-seg").exists()
