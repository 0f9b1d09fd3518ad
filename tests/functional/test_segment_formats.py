"""The same mouse in each file format gives the same masks, on each file's own grid."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import scanner_files as scanner
from click.testing import CliRunner
from layout_files import write as write_hdf5
from numpy.typing import NDArray
from scipy.io import loadmat

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.formats.nifti import read_nifti_labels, write_nifti_images
from mousecmr_data.pipeline.batch import BatchResult, segment_batch
from mousecmr_data.pipeline.config import SegmentConfig

nib: Any = nibabel
N_FRAMES, SLICES = 2, slice(3, 5)
NOT_STORED_EXACTLY = "bruker_5_pdata_1_2dseq"
"""The test's writer stores even numbers only."""


@pytest.fixture(scope="module")
def images(phantom_cache: Path) -> NDArray[np.uint16]:
    ds = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
    selected: NDArray[np.uint16] = ds["image"].isel(frame=[0, 7], slice=SLICES).values
    return selected


@pytest.fixture(scope="module")
def inputs(images: NDArray[np.uint16], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one file or folder per format."""
    folder = tmp_path_factory.mktemp("in")
    write_hdf5(folder / "hdf5.h5", (0,), images.transpose(2, 3, 1, 0), np.zeros_like(images).transpose(2, 3, 1, 0))
    array, affine = images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1.0, 1.0])
    plain = nib.Nifti1Image(array, affine)
    plain.header["pixdim"][4], plain.header["xyzt_units"] = 0.005, 10
    nib.save(plain, folder / "mm.nii.gz")
    for name in ("LPS", "SAR"):
        turned = plain.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(name))
        )
        nib.save(turned, folder / f"{name}.nii.gz")
    micron = nib.Nifti1Image(array, np.diag([100.0, 100.0, 1000.0, 1.0]))
    micron.header.set_xyzt_units("micron", "msec")
    micron.header["pixdim"][4] = 5.0
    nib.save(micron, folder / "micron.nii")
    ds = mousecmr_data.open_mouse(folder / "hdf5.h5")
    write_nifti_images(ds, folder / "slicer.seq.nrrd")
    write_nifti_images(ds, folder / "meta.mhd")
    analyze = nib.AnalyzeImage(array.astype(np.int16), None)
    analyze.header.set_zooms((0.1, 0.1, 1.0, 5.0))
    nib.save(analyze, folder / "analyze.img")
    scanner.dicom_classic(images, folder / "classic")
    scanner.dicom_enhanced(images, folder / "enhanced.dcm")
    scanner.fdf(images, folder / "fdf.img")
    scanner.bruker(images, folder / "bruker" / "5" / "pdata" / "1")
    found = {p.name.split(".")[0]: p for p in sorted(folder.iterdir()) if p.suffix != ".zraw" and p.name[0] != "."}
    found[NOT_STORED_EXACTLY] = found.pop("bruker")
    return found


@pytest.fixture(scope="module")
def segmented(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchResult]:
    pytest.importorskip("torch")
    settings = SegmentConfig(weights="phantom-small", pictures=False, engine="eager", matlab=True)
    yield segment_batch(list(inputs.values()), tmp_path_factory.mktemp("out"), settings)


def test_every_format_gives_the_same_measurements(inputs: dict[str, Path], segmented: BatchResult) -> None:
    assert segmented.errors == {}
    mice = segmented.mice.set_index("mouse")
    assert set(mice.index) == set(inputs)
    assert len(inputs) == 12
    for column in ("edv_ul", "esv_ul", "ef_percent", "mass_ed_mg"):
        np.testing.assert_allclose(mice[column].astype(float), float(mice.loc["hdf5", column]), rtol=0.01)
    assert float(mice.loc["hdf5", "edv_ul"]) > 10
    assert (mice["voxel_y_mm"].astype(float) == 0.1).all()


def test_masks_lie_on_the_grid_of_their_file(inputs: dict[str, Path], segmented: BatchResult) -> None:
    """Masks are reordered by nibabel, not by the code under test."""
    expected = read_nifti_labels(segmented.folder / "hdf5" / "masks.nii.gz")
    assert np.count_nonzero(expected) > 1000
    for name, path in inputs.items():
        masks = nib.load(segmented.folder / name / "masks.nii.gz")
        if path.name.endswith((".nii", ".nii.gz")):
            stored = nib.load(path)
            assert masks.shape == stored.shape
            np.testing.assert_allclose(masks.affine, stored.affine)
            assert masks.header.get_xyzt_units() == stored.header.get_xyzt_units()
        canonical = masks if name == "analyze" else nib.as_closest_canonical(masks)  # Analyze states no directions
        array = np.asarray(canonical.dataobj).transpose(3, 2, 1, 0)
        if name in ("classic", "enhanced", NOT_STORED_EXACTLY):  # as viewers show them, which RAS reverses
            array = array[..., ::-1, ::-1]
        for label in (1, 2):
            a, b = array == label, expected == label
            dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
            assert dice == 1.0 if name != NOT_STORED_EXACTLY else dice >= 0.99, (name, label)


@pytest.mark.parametrize(("name", "ending"), [("mm", ".nii.gz"), ("slicer", ".seg.nrrd"), ("meta", ".mha")])
def test_masks_of_ed_and_es_are_also_written_alone_in_3d(segmented: BatchResult, name: str, ending: str) -> None:
    folder, row = segmented.folder / name, segmented.mice.set_index("mouse").loc[name]
    masks = read_nifti_labels(folder / "masks.nii.gz")
    for phase in ("ED", "ES"):
        stack = read_nifti_labels(folder / f"{phase}_mask{ending}")
        np.testing.assert_array_equal(stack, masks[[int(row[f"{phase.lower()}_frame"])]])
    assert nib.load(segmented.folder / "mm" / "ED_mask.nii.gz").ndim == 3


def test_matlab_files_have_masks_and_tables(segmented: BatchResult) -> None:
    folder, row = segmented.folder / "mm", segmented.mice.set_index("mouse").loc["mm"]
    content = loadmat(folder / "result.mat", squeeze_me=True)
    expected = read_nifti_labels(folder / "masks.nii.gz").transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(content["masks"], expected)
    np.testing.assert_allclose(content["spacing_mm"], (0.1, 0.1, 1.0))
    frames = pd.read_csv(folder / "frames.csv")
    np.testing.assert_allclose(content["frames"]["blood_pool_ul"].item(), frames["blood_pool_ul"])
    assert content["frames"]["phase"].item().tolist() == frames["phase"].tolist()
    assert float(content["mouse"]["edv_ul"]) == float(row["edv_ul"])
    assert "synthetic" in str(content["marks"])


def test_dicom_inputs_also_get_dicom_masks(segmented: BatchResult) -> None:
    hd = pytest.importorskip("highdicom")
    expected = read_nifti_labels(segmented.folder / "hdf5" / "masks.nii.gz")
    for name in ("classic", "enhanced"):
        files = sorted((segmented.folder / name / "dicom-seg").iterdir())
        assert len(files) == N_FRAMES
        for frame, path in enumerate(files):
            volume = hd.seg.segread(path).get_volume(combine_segments=True).array
            assert (volume == expected[frame]).all() or (volume == expected[frame][::-1]).all()
    assert not (segmented.folder / "mm" / "dicom-seg").exists()


def test_names_of_patients_are_kept_only_if_that_is_asked_for(
    inputs: dict[str, Path], segmented: BatchResult, tmp_path: Path
) -> None:
    dcm = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    masks = next((segmented.folder / "classic" / "dicom-seg").iterdir())
    assert b"Mouse^Test" not in masks.read_bytes()
    words = ["segment", str(inputs["classic"]), "-o", str(tmp_path / "out"), "--weights", "phantom-small"]
    result = CliRunner().invoke(main, [*words, "--engine", "eager", "--no-pictures", "--keep-names"])
    assert result.exit_code == 0, result.output
    assert dcm.dcmread(tmp_path / "out" / "classic" / "dicom-seg" / masks.name).PatientName == "Mouse^Test"


def test_tables_over_all_mice(inputs: dict[str, Path], segmented: BatchResult) -> None:
    frames = pd.read_csv(segmented.folder / "frames.csv")
    slices = pd.read_csv(segmented.folder / "slices.csv")
    assert len(frames) == len(inputs) * N_FRAMES
    assert len(slices) == len(inputs) * N_FRAMES * 2
    for table in (frames, slices, pd.read_csv(segmented.folder / "mice.csv")):
        assert table["marks"].str.contains("trained on synthetic mice only").all()
        assert table["marks"].str.contains("not for clinical use").all()


def break_output(*_: object, **__: object) -> None:
    raise RuntimeError("a fault of another library")


def test_an_additional_output_that_cannot_be_written_is_a_flag_beside_the_others(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("highdicom")
    monkeypatch.setattr("mousecmr_data.formats.dicom_seg.write_dicom_seg", break_output)
    monkeypatch.setattr("mousecmr_data.plotting.plot_montage", break_output)
    monkeypatch.setattr("scipy.io.savemat", break_output)
    settings = SegmentConfig(weights="phantom-small", engine="eager", matlab=True)
    batch = segment_batch([inputs["classic"]], tmp_path, settings)
    assert batch.errors == {}
    assert "output_missing" in batch.mice["flags"][0].split()
    files = {p.name for p in (tmp_path / "classic").iterdir()}
    assert {"masks.nii.gz", "ED_mask.nii.gz", "frames.csv", "slices.csv", "result.json"} <= files
    assert not files & {"dicom-seg", "montage.png", "result.mat"}
    messages = pd.read_csv(tmp_path / "flags.csv").query("flag == 'output_missing'")["message"].tolist()
    assert [m.split(":")[0] for m in messages] == ["No MATLAB file", "No DICOM SEG", "No pictures"]
    assert all("a fault of another library" in m for m in messages)


def test_dicom_masks_can_be_left_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ["segment", str(inputs["classic"]), "-o", str(tmp_path / "out"), "--weights", "phantom-small"]
    result = CliRunner().invoke(main, [*words, "--engine", "eager", "--no-pictures", "--no-dicom-seg"])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / "classic" / "dicom-seg").exists()


def test_no_output_holds_the_path_of_the_home_folder(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    home = tmp_path / "home" / "anna.b"
    (home / "5" / "pdata" / "1").mkdir(parents=True)
    (home / "5" / "pdata" / "1" / "2dseq").write_bytes(bytes(100))
    (home / "5" / "pdata" / "1" / "visu_pars").write_text("nothing")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    card = resources.files("mousecmr_data") / "inference" / "weights"
    for name in ("phantom-small.safetensors", "phantom-small.toml"):
        (home / name).write_bytes((card / name).read_bytes())
    settings = SegmentConfig(weights=str(home / "phantom-small.safetensors"), pictures=False, engine="eager")
    batch = segment_batch([inputs["mm"], home / "5"], tmp_path / "out", settings)
    assert len(batch.errors) == 1
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix != ".xlsx"):
        assert str(home).encode() not in path.read_bytes(), path
    assert "~/phantom-small.safetensors" in (tmp_path / "out" / "manifest.json").read_text()
