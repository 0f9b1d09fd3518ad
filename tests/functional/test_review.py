"""Results that were corrected: measured again, never paired with old numbers, never overwritten without being told."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch", reason="the extra torch is not installed")

import scanner_files

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.errors import ArgumentError, FileLayoutError, OutputError
from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.pipeline import Review, open_result, read_review, save_review, update_result

VOXEL_UL = 1.0 * 0.1 * 0.1


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result


def segment(*words: object, code: int = 0) -> str:
    return run("segment", *words, "--weights", "phantom-small", "--engine", "eager", "--no-pictures", code=code).output


@pytest.fixture(scope="module")
def made(phantom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames, four slices of a synthetic mouse as NIfTI and as DICOM, and their results."""
    folder = tmp_path_factory.mktemp("made")
    ds = mousecmr_data.open_mouse("Mouse5", source="phantom", cache=phantom_cache)
    few = ds.isel(frame=[0, 7, 14], slice=slice(2, 6)).load()
    write_nifti_images(few, folder / "in" / "M1.nii.gz")
    scanner_files.dicom_classic(few["image"].values, folder / "in" / "D1")
    segment(folder / "in", "-o", folder / "out")
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "study")


def change(path: Path, function: Any) -> None:
    """Edit a file of masks with nibabel."""
    image: Any = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    function(data)
    nib.save(nib.Nifti1Image(data, image.affine, image.header), path)


def empty_last_slice(data: Any) -> None:
    data[:, :, -1] = 0


def count_ef(masks: Any, ed: int = 0, es: int = 2) -> tuple[float, float, float]:
    """EDV, ESV and EF of masks (x, y, slice, frame), counted here."""
    edv, esv = (float((masks[..., f] == 2).sum() * VOXEL_UL) for f in (ed, es))
    return edv, esv, 100 * (edv - esv) / edv


def test_edited_masks_are_measured_again_and_kept(study: Path) -> None:
    out = study / "out"
    before = pd.read_csv(out / "mice.csv").set_index("mouse").loc["M1"]
    change(out / "M1" / "masks.nii.gz", empty_last_slice)
    assert "measured again" in segment(study / "in", "-o", out)
    masks = np.asarray(nib.load(out / "M1" / "masks.nii.gz").dataobj)  # type: ignore[attr-defined]
    row = pd.read_csv(out / "mice.csv").set_index("mouse").loc["M1"]
    assert (row["edv_ul"], row["esv_ul"], row["ef_percent"]) == pytest.approx(count_ef(masks), abs=1e-3)
    assert (row["edv_ul_auto"], row["ef_percent_auto"]) == (before["edv_ul"], before["ef_percent"])
    assert row["edv_ul"] < before["edv_ul"]
    assert row["slices_edited"] == 3 and "Reviewed by" in row["marks"]
    slices = pd.read_csv(out / "slices.csv").query("mouse == 'M1' and slice == 3")
    assert set(slices["status"]) == {"edited"} and (slices["blood_pool_mm2"] == 0).all()
    assert (slices["blood_pool_auto_mm2"] > 0).any()
    assert json.loads((out / "manifest.json").read_text())["mice"][0]["readers"] == "unnamed reader"
    assert segment(study / "in", "-o", out).count("left as it is") == 2
    assert "was reviewed" in segment(study / "in", "-o", out, "--postprocessing", "none", code=1)
    kept = np.asarray(nib.load(out / "M1" / "masks.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert np.array_equal(kept, masks)
    segment(study / "in", "-o", out, "--overwrite")
    row = pd.read_csv(out / "mice.csv").set_index("mouse").loc["M1"]
    assert row["edv_ul"] == before["edv_ul"] and row["slices_edited"] == 0
    assert not (out / "M1" / "review.json").exists()


def test_a_corrected_slice_that_was_confirmed_stays_so(study: Path) -> None:
    folder = study / "out" / "M1"
    result = open_result(folder)
    result.apply_edit(0, 1, result.masks[0, 2].copy(), reader="AB")
    result.apply_edit(0, 1, status="confirmed", reader="CD")
    for _ in range(2):
        (row,) = open_result(folder, reader="EF").review.slices
        assert (row.frame, row.slice, row.status, row.reader) == (0, 1, "confirmed", "CD")
        update_result(folder)
    change(folder / "masks.nii.gz", lambda data: data.__setitem__((20, 20, 1, 0), 2))
    edited = {(s.frame, s.slice): (s.status, s.reader) for s in open_result(folder, reader="EF").review.slices}
    assert edited[0, 1] == ("edited", "EF"), "another program changed the masks after the confirmation"


def test_results_are_no_inputs(study: Path, tmp_path: Path) -> None:
    change(study / "out" / "M1" / "masks.nii.gz", empty_last_slice)  # an edited one is still no input
    shutil.rmtree(study / "in" / "D1")
    text = segment(study, "-o", tmp_path / "again")
    assert [p.name for p in (tmp_path / "again").iterdir() if p.is_dir()] == ["in_M1"]
    assert "written by mousecmr segment" in text
    assert "lies in the input" in segment(study, "-o", study / "out", code=1)


def edit_with_nibabel(result: Path) -> None:
    change(result / "masks.nii.gz", empty_last_slice)


def edit_with_simpleitk(result: Path) -> None:
    sitk: Any = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(result / "masks.nii.gz"))
    array = sitk.GetArrayFromImage(image)  # (frame, slice, y, x)
    array[:, -1] = 0
    edited = sitk.GetImageFromArray(array, isVector=False)
    edited.CopyInformation(image)
    sitk.WriteImage(edited, str(result / "masks.nii.gz"))


def edit_phases_alone(result: Path) -> None:
    for name in ("ED_mask.nii.gz", "ES_mask.nii.gz"):
        change(result / name, empty_last_slice)


@pytest.mark.parametrize("edit", [edit_with_nibabel, edit_with_simpleitk, edit_phases_alone])
def test_an_edit_by_another_program_gives_the_numbers_of_its_masks(study: Path, edit: Any) -> None:
    result = study / "out" / "M1"
    before = mousecmr_data.measure(result)
    expected = np.asarray(nib.load(result / "masks.nii.gz").dataobj).copy()  # type: ignore[attr-defined]
    empty_last_slice(expected)
    edit(result)
    numbers = count_ef(expected)
    measured = mousecmr_data.measure(result)
    assert (measured.edv_ul, measured.esv_ul, measured.ef_percent) == pytest.approx(numbers)
    assert measured.edv_ul != before.edv_ul
    (row,) = json.loads(run("measure", result, "--update", "--reader", "AB", "--json").stdout)
    assert (row["edv_ul"], row["esv_ul"], row["ef_percent"]) == pytest.approx(numbers)
    written = np.asarray(nib.load(result / "masks.nii.gz").dataobj)  # type: ignore[attr-defined]
    phases = [0, 2]
    assert np.array_equal(written[..., phases], expected[..., phases])
    mice = pd.read_csv(study / "out" / "mice.csv").set_index("mouse")
    assert mice.loc["M1", "ef_percent"] == pytest.approx(numbers[2], abs=1e-3)
    assert mice.loc["M1", "readers"] == "AB"
    assert mousecmr_data.measure(result).ef_percent == pytest.approx(numbers[2])


def test_a_dicom_seg_that_was_edited_counts(study: Path) -> None:
    pydicom: Any = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    result = study / "out" / "D1"
    opened = open_result(result)
    expected = opened.masks.copy()
    path = result / "dicom-seg" / "frame_002.dcm"
    seg = pydicom.dcmread(path)
    pixels = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    planes = pixels[: seg.NumberOfFrames * seg.Rows * seg.Columns].reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    planes[:, : seg.Rows // 2] = 0
    seg.PixelData = np.packbits(planes.ravel(), bitorder="little").tobytes()
    seg.save_as(path)
    expected[2][:, : seg.Rows // 2] = 0
    changed = open_result(result)
    assert np.array_equal(changed.masks, expected)
    assert not np.array_equal(changed.masks[2], opened.masks[2])
    assert mousecmr_data.measure(result).esv_ul == pytest.approx((expected[2] == 2).sum() * VOXEL_UL)
    segment(study / "in", "-o", study / "out")  # with the images: DICOM SEG is written again
    assert np.array_equal(open_result(result).masks, expected)
    assert path.is_file()


def test_an_exported_file_is_taken_into_its_result(study: Path, tmp_path: Path) -> None:
    result = study / "out" / "M1"
    shutil.copyfile(result / "ED_mask.nii.gz", tmp_path / "my_ED.nii.gz")
    change(tmp_path / "my_ED.nii.gz", empty_last_slice)
    words = ("measure", tmp_path / "my_ED.nii.gz", "--result", result, "--json")
    (row,) = json.loads(run(*words).stdout)
    (again,) = json.loads(run("measure", result, "--json").stdout)
    assert row["edv_ul"] < again["edv_ul"]
    assert row["esv_ul"] == again["esv_ul"]
    (tmp_path / "my_ED.nii.gz").rename(tmp_path / "mine.nii.gz")
    assert "does not say which" in str(run("measure", tmp_path / "mine.nii.gz", "--result", result, code=1).output)


def test_ed_and_es_are_as_they_were_given_or_found(study: Path) -> None:
    result = study / "out" / "M1"
    masks = np.asarray(nib.load(result / "masks.nii.gz").dataobj)  # type: ignore[attr-defined]
    (row,) = json.loads(run("measure", result, "--ed", 0, "--es", 1, "--json").stdout)
    assert (row["edv_ul"], row["esv_ul"], row["ef_percent"]) == pytest.approx(count_ef(masks, 0, 1))
    assert mousecmr_data.measure(result / "masks.nii.gz", ed=0, es=1).esv_ul == pytest.approx(row["esv_ul"])
    change(result / "masks.nii.gz", lambda data: data.__setitem__((..., 2), 0))
    change(result / "masks.nii.gz", lambda data: data.__setitem__((20, 20, 1, 2), 2))
    assert mousecmr_data.measure(result).esv_ul == pytest.approx(VOXEL_UL)
    swapped = mousecmr_data.measure(result, ed=2, es=0)
    assert swapped.edv_ul == pytest.approx(VOXEL_UL)
    assert mousecmr_data.measure(result, find_phases=True).esv_ul == pytest.approx(VOXEL_UL)
    with pytest.raises(ArgumentError, match="Only one"):
        mousecmr_data.measure(result, ed=1)
    run("measure", result, "--ed", 0, "--es", 9, code=1)


def test_edits_of_slices_are_saved_with_reader_and_time(study: Path) -> None:
    result = study / "out" / "M1"
    opened = open_result(result)
    assert opened.read_images().shape == opened.masks.shape
    automatic = opened.masks.copy()
    numbers = opened.apply_edit(0, 3, status="excluded", reader="AB", minutes=0.5)
    assert numbers["edv_ul"] == pytest.approx((automatic[0, :3] == 2).sum() * VOXEL_UL)
    drawn = np.zeros((256, 256), np.uint8)
    drawn[100:110, 100:110] = 2
    numbers = opened.apply_edit(2, 1, drawn, reader="AB", minutes=1.0)
    opened.apply_edit(1, 0, status="confirmed", reader="CD")
    assert numbers["blood_pool_ul"][2] == pytest.approx((opened.masks[2] == 2).sum() * VOXEL_UL)
    again = open_result(result)  # nothing was lost if the program died here
    assert np.array_equal(again.masks, opened.masks)
    assert not again.masks[0, 3].any() and np.array_equal(again.masks[2, 1], drawn)
    status = again.review.get_status((3, 4))
    assert (status[0, 3], status[2, 1], status[1, 0], status[0, 0]) == ("excluded", "edited", "confirmed", "auto")
    assert again.review.minutes == {"AB": 1.5, "CD": 0.0}
    assert again.review.slices[0].time.startswith("20")
    again.set_phases(0, 1, reader="AB")
    update_result(result)
    row = json.loads((result / "result.json").read_text())["mouse"]
    assert (row["es_frame"], row["readers"], row["review_minutes"]) == (1, "AB, CD", 1.5)
    assert (row["slices_edited"], row["slices_excluded"], row["slices_confirmed"]) == (1, 1, 1)
    assert row["edv_ul"] == pytest.approx(again.compute_numbers()["edv_ul"], abs=1e-4)
    opened = open_result(result)
    opened.apply_edit(0, 3, status="auto", reader="AB")
    assert np.array_equal(opened.masks[0], automatic[0])
    with pytest.raises(OutputError, match="another program"):
        again.apply_edit(0, 0, status="excluded", reader="AB")
    for wrong in ({"status": "edited"}, {"labels": drawn, "status": "excluded"}, {"labels": drawn + 3}):
        with pytest.raises(ArgumentError):
            opened.apply_edit(0, 0, **wrong)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_named(study: Path) -> None:
    result = study / "out" / "M1"
    change(result / "masks.nii.gz", empty_last_slice)
    change(result / "ED_mask.nii.gz", lambda data: data.__setitem__(slice(None), 0))
    with pytest.raises(FileLayoutError, match="both edited"):
        open_result(result)
    (result / "ED_mask.nii.gz").unlink()  # as the message says
    open_result(result)
    assert read_review(result) == Review()
    save_review(result, Review(ed_frame=0, es_frame=1))
    assert read_review(result).es_frame == 1
    (result / "review.json").write_text("{}")
    with pytest.raises(FileLayoutError, match="not a valid review"):
        open_result(result)


def test_a_table_that_somebody_edited_is_not_replaced(study: Path) -> None:
    result = study / "out" / "M1"
    (result / "frames.csv").write_text("mine")
    with pytest.raises(OutputError, match="was edited"):
        update_result(result)


def test_two_readers_are_compared(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    other = shutil.copytree(study / "out", tmp_path / "other")
    same = json.loads(run("evaluate", study / "out", "--against", other, "--json").stdout)
    assert {row["dice"] for row in same["overlap"]} == {1.0}
    assert {row["bias"] for row in same["measures"]} == {0.0}
    before = mousecmr_data.measure(other / "M1").edv_ul
    after = open_result(other / "M1").apply_edit(0, 3, status="excluded", reader="CD")["edv_ul"]
    words = ("evaluate", study / "out", "--against", other)
    result = json.loads(run(*words, "-o", tmp_path / "readers.json", "--json").stdout)
    edv = result["measures"][0]
    assert (edv["measure"], edv["n"]) == ("EDV", 2)
    assert edv["bias"] == pytest.approx((before - after) / 2)
    assert edv["lower"] < edv["bias"] < edv["upper"] and edv["cv_percent"] > 0
    assert result["readers_b"] == ["CD"]
    assert min(row["dice"] for row in result["overlap"]) < 1
    assert json.loads((tmp_path / "readers.json").read_text())["mice"][0]["mouse"] == "D1"
    assert "ICC(2,1)" in run(*words).output
    shutil.rmtree(other / "D1")
    assert "not the same mice" in run(*words, code=1).output
