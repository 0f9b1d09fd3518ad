import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragged
from click.testing import CliRunner

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.evaluation.protocols import PROTOCOLS_FOLDER, hash_protocol

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


def test_a_part_of_a_protocol_has_its_mice_and_no_label_of_a_test_mouse(tmp_path: Path, phantom_cache: Path) -> None:
    table = json.loads((PROTOCOLS_FOLDER / "few.json").read_text(encoding="utf-8"))
    noise = {"name": "noise-5", "corruption": "noise", "severity": 5, "strength": 0.22}
    table |= {"validation": ["Mouse5"], "test": ["Mouse6"], "conditions": [{"name": "clean"}, noise]}
    table["parts"] = [{"name": "one", "train": ["Mouse9"]}, {"name": "two", "train": ["Mouse1", "Mouse9"]}]
    own = tmp_path / "own.json"
    own.write_text(json.dumps({**table, "sha256": hash_protocol(table)}), encoding="utf-8")
    folder = tmp_path / "Dataset101_Few"
    words = ["convert", "--to", "nnunet", "--source", "phantom-64", "--cache", str(phantom_cache), "-o", str(folder)]
    result = CliRunner().invoke(main, [*words, "--protocol", f"{own}/one", "--json"])
    assert result.exit_code == 0, result.output
    assert {p.name.split("_")[0] for p in (folder / "labelsTr").iterdir()} == {"Mouse5", "Mouse9"}
    assert {p.name for p in folder.iterdir()} == {
        "imagesTr", "labelsTr", "imagesTs", "dataset.json", "splits_final.json",
    }  # fmt: skip
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    assert [{c.split("_")[0] for c in fold[k]} for k in ("train", "val")] == [{"Mouse9"}, {"Mouse5"}]
    about = json.loads((folder / "dataset.json").read_text())
    assert about["protocol"]["part"] == "one" and list(about["mice"]) == ["Mouse9", "Mouse5"]
    assert about["numTraining"] == len(fold["train"] + fold["val"]) and "Mouse6" not in json.dumps(about)
    ds = md.open_mouse("Mouse6", source="phantom-64", cache=phantom_cache)
    frames = np.flatnonzero(ds["labelled"].values)
    names = {f"Mouse6_frame{frame:02d}_0000.nii.gz" for frame in frames}
    images = {}
    for condition in ("clean", "noise-5"):
        assert {p.name for p in (folder / "imagesTs" / condition).iterdir()} == names
        first = nib.load(folder / "imagesTs" / condition / f"Mouse6_frame{frames[0]:02d}_0000.nii.gz")
        images[condition] = np.asarray(first.dataobj).T
    assert (images["clean"] == ds["image"].values[frames[0]]).all() and (images["noise-5"] != images["clean"]).any()
    for change in (["--split", "test"], ["Mouse4"], ["--to", "nifti"]):
        assert CliRunner().invoke(main, [*words, "--protocol", f"{own}/one", *change]).exit_code == 2
    assert f"--protocol {own}/one" in CliRunner().invoke(main, [*words, "--protocol", str(own)]).output


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
