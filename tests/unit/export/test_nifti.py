import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragged

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort

nib = pytest.importorskip("nibabel", reason="the extra 'formats' is not installed")
from mousecmr_data.export.nifti import write_nifti_dataset, write_nnunet_dataset  # noqa: E402

AFFINE = np.diag([0.1, 0.1, 1.0, 1.0])


def test_written_niftis_are_read_back_unchanged(cohort: Cohort, tmp_path: Path) -> None:
    folder = write_nifti_dataset(cohort, tmp_path / "nii")
    assert sorted(p.name for p in folder.iterdir()) == sorted(cohort.mice)
    for mouse, (images, masks) in ragged.source(cohort).items():
        about = json.loads((folder / mouse / f"{mouse}.json").read_text())
        cine = nib.load(folder / mouse / about["cine"])
        assert cine.get_data_dtype() == np.uint16
        np.testing.assert_array_equal(np.asarray(cine.dataobj).transpose(3, 2, 1, 0), images)
        np.testing.assert_allclose(cine.affine, AFFINE)
        assert cine.header.get_xyzt_units() == ("mm", "sec")
        assert cine.header.get_zooms() == pytest.approx((0.1, 0.1, 1.0, 0.005))
        assert about["frame_time_ms"] == 5.0
        assert "not in the file" in about["voxel_size_source"]
        assert about["masks"].keys() == set(map(str, ragged.LABELLED[mouse])), "unlabelled frames have no mask"
        for frame, name in about["masks"].items():
            mask = nib.load(folder / mouse / name)
            assert mask.get_data_dtype() == np.uint8
            np.testing.assert_allclose(mask.affine, AFFINE)
            np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), masks[int(frame)])
    assert "frame02_ES" in json.loads((folder / "Pair" / "Pair.json").read_text())["masks"]["2"]


def test_synthetic_niftis_are_marked(tmp_path: Path) -> None:
    folder = write_nifti_dataset(ragged.cohort(tmp_path, synthetic=True).select(["Pair"]), tmp_path / "nii") / "Pair"
    assert all(b"SYNTHETIC" in nib.load(p).header["descrip"].item() for p in folder.glob("*.nii.gz"))
    assert json.loads((folder / "Pair.json").read_text())["synthetic"] is True


def test_nnunet_accepts_its_dataset(cohort: Cohort, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK", reason="nnunetv2 is not installed")
    folder = write_nnunet_dataset(cohort, tmp_path / "Dataset130_MouseCMR")
    code = f"""
from importlib.util import find_spec
import sys
if __name__ == "__main__":
    if find_spec("nnunetv2") is None:
        sys.exit(77)
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
    verify_dataset_integrity({str(folder)!r}, 1)
"""
    script = tmp_path / "verify.py"
    script.write_text(code)
    env = {**os.environ, **{f"nnUNet_{k}": str(tmp_path) for k in ("raw", "preprocessed", "results")}}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        pytest.skip("nnunetv2 is not installed")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "verify_dataset_integrity Done" in done.stdout
    assert "Warning" not in done.stdout
    assert "Error" not in done.stdout


def test_nnunet_cases_equal_the_source(cohort: Cohort, tmp_path: Path) -> None:
    folder = write_nnunet_dataset(cohort, tmp_path / "Dataset001_Mice")
    table = json.loads((folder / "dataset.json").read_text())
    assert table["labels"] == {"background": 0, "LV myocardium": 1, "LV blood pool": 2}
    assert table["numTraining"] == len(list((folder / "labelsTr").iterdir())) == 2 + 4 + 2
    assert [p.name for p in (folder / "imagesTs").iterdir()] == ["Single_frame03_0000.nii.gz"]
    (split,) = json.loads((folder / "splits_final.json").read_text())
    assert split["val"] == ["Late_frame01", "Late_frame03"]
    assert {case.split("_")[0] for case in split["train"]} == {"Pair", "Inflow"}, "by mouse"
    source = ragged.source(cohort)
    for label in (folder / "labelsTr").iterdir():
        mouse, frame = label.name.removesuffix(".nii.gz").split("_frame")
        image = nib.load(folder / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz"))
        for file, expected in ((image, source[mouse][0]), (nib.load(label), source[mouse][1])):
            assert file.shape == expected.shape[:0:-1]
            np.testing.assert_allclose(file.affine, AFFINE)
            np.testing.assert_array_equal(np.asarray(file.dataobj).transpose(2, 1, 0), expected[int(frame)])


def test_no_incomplete_folder_is_left(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(md.errors.ArgumentError, match="Dataset130_MouseCMR"):
        write_nnunet_dataset(cohort, tmp_path / "mice")
    with pytest.raises(md.errors.ArgumentError, match="Dataset130_MouseCMR"):
        write_nnunet_dataset(cohort, ".")
    with pytest.raises(md.errors.UnlabelledError, match="train or validation"):
        write_nnunet_dataset(cohort.select(["Single"]), tmp_path / "Dataset001_Mice")

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_nifti_dataset(cohort, tmp_path / "nii", stop)
    assert list(tmp_path.iterdir()) == []
    write_nifti_dataset(cohort.select(["Pair"]), tmp_path / "nii")
    with pytest.raises(md.errors.CacheError, match="exists"):
        write_nifti_dataset(cohort, tmp_path / "nii")
