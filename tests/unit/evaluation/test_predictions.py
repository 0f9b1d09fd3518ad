"""Formats of predictions, and errors in them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from evaluated import beating, cohort, mouse, shifted

from mousecmr_data.errors import ArgumentError, MissingDataError, PredictionError
from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate
from mousecmr_data.formats.nifti import write_nifti_labels


def hdf5(path: Path, labels: np.ndarray, frames: list[int] | None = None) -> Path:
    with h5py.File(path, "w") as f:
        f.create_dataset("Masks", data=labels.transpose(2, 3, 1, 0))
        if frames is not None:
            f.create_dataset("Frames_with_ROI", data=np.array(frames))
    return path


def write(folder: Path, kind: str, mice: dict[str, Any], labels: dict[str, np.ndarray]) -> Any:
    folder.mkdir()
    if kind == "zarr":
        root = zarr.open_group(folder / "p.zarr", mode="w")
        for name, array in labels.items():
            root.create_group(name).create_array("predicted", data=array)
        return folder / "p.zarr"
    for name, array in labels.items():
        if kind == "hdf5":
            hdf5(folder / f"{name}.h5", array)
        elif kind == "nifti":
            write_nifti_labels(array, folder / f"{name}.nii.gz", mice[name])
        else:
            for k in np.flatnonzero(mice[name]["labelled"].values):
                write_nifti_labels(array[[k]], folder / f"{name}_frame{k:03d}.nii.gz", mice[name])
    return folder


@pytest.mark.parametrize("kind", ["hdf5", "nifti", "zarr"])
def test_every_format_gives_the_same_numbers(kind: str, tmp_path: Path) -> None:
    if kind == "nifti":
        pytest.importorskip("nibabel", reason="the extra formats is not installed")
    mice = cohort(3)
    labels = shifted(mice)
    actual = evaluate(write(tmp_path / "p", kind, mice, labels), mice.values(), name="x")
    expected = evaluate(labels, mice.values(), name="x")
    assert actual.to_dict()["mice"] == expected.to_dict()["mice"]
    assert actual.mice[0].curve is not None


def test_one_file_per_frame(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="the extra formats is not installed")
    mice = cohort(2)
    labels = shifted(mice)
    actual = evaluate(write(tmp_path / "p", "frames", mice, labels), mice.values())
    expected = evaluate(labels, mice.values())
    assert actual.mice[1].frames == expected.mice[1].frames
    assert actual.mice[1].curve is None


def test_labelled_frames_alone_are_scored_but_have_no_curve() -> None:
    ds = beating("M")
    labelled = ds["mask"].values[[0, 3]]
    result = evaluate({"M": labelled}, [ds]).mice[0]
    assert result.curve is None
    assert [f.dice for f in result.frames] == [1.0] * 4
    with pytest.raises(PredictionError, match=r"2 of 6 frames were predicted[\s\S]*annotated"):
        evaluate({"M": labelled}, [ds], EvaluationConfig("volume-curve"))


def test_a_segmented_dataset_names_its_weights() -> None:
    ds = beating("M")
    segmented = ds.assign(predicted=(ds["mask"].dims, ds["mask"].values, {"weights": "some", "trained_on": "mice"}))
    assert evaluate({"M": segmented}, [ds]).mice[0].about == {"segmented_by": "some", "trained_on": "mice"}


TURNS: dict[str, tuple[Any, str]] = {
    "swapped labels": (lambda m: np.array([0, 2, 1], np.uint8)[m], "labels 1 and 2 look swapped"),
    "mirrored": (lambda m: m[:, :, :, ::-1], "columns look mirrored"),
    "upside down": (lambda m: m[:, ::-1], "slices look to be in the opposite order"),
    "transposed in a square plane": (lambda m: m.transpose(0, 1, 3, 2), "rows and columns look transposed"),
}


@pytest.mark.parametrize("turn", TURNS)
def test_masks_with_a_wrong_orientation_are_named(turn: str) -> None:
    mask = beating("M")["mask"].values[..., :40]
    ds = mouse("M", mask, [0, 3])
    function, message = TURNS[turn]
    with pytest.raises(PredictionError, match=rf"M \(orientation\): {message}"):
        evaluate({"M": function(mask)}, [ds])
    result = evaluate({"M": function(mask)}, [ds], strict=False)
    assert result.problems[0].kind == "orientation"
    assert result.mice[0].doubt is not None


def test_a_poor_but_upright_mask_is_not_suspected() -> None:
    ds = beating("M")
    poor = np.roll(ds["mask"].values, 6, axis=3)
    result = evaluate({"M": poor}, [ds])
    assert result.mice[0].frames[0].dice < 0.6
    assert result.problems == ()


def test_every_mouse_with_a_problem_is_named() -> None:
    mice = cohort(5)
    labels: dict[str, Any] = shifted(mice)
    labels["M0"] = labels["M0"].transpose(2, 3, 1, 0)
    labels["M1"] = labels["M1"][:, :2]
    labels["M2"] = labels["M2"] * 3
    del labels["M3"]
    labels["Other"] = labels["M4"]
    with pytest.raises(PredictionError) as e:
        evaluate(labels, mice.values())
    text = str(e.value)
    assert "M0 (shape)" in text and "they are (y, x, slice, frame)" in text
    assert "M1 (shape): the prediction has the shape (6, 2, 40, 44)" in text
    assert "M2 (labels)" in text and "3, 6" in text
    assert "M3 (missing)" in text
    result = evaluate(labels, mice.values(), strict=False)
    assert [m.mouse for m in result.mice] == ["M4"]
    assert {p.mouse: p.kind for p in result.problems} == {
        "M0": "shape", "M1": "shape", "M2": "labels", "M3": "missing", "Other": "ignored"
    }  # fmt: skip


def test_frames_that_were_not_segmented_are_not_background(tmp_path: Path) -> None:
    ds = beating("M")
    path = hdf5(tmp_path / "M.h5", ds["mask"].values, [0])
    with pytest.raises(PredictionError, match="frame 3 of the truth were not predicted"):
        evaluate(path, [ds])


def test_file_names_are_matched_to_mice(tmp_path: Path) -> None:
    mice = cohort(2)
    for name, array in shifted(mice).items():
        hdf5(tmp_path / f"{name}_seg.h5", array)
    hdf5(tmp_path / "M10.h5", shifted(mice)["M1"])
    result = evaluate(tmp_path, mice.values())
    assert [p.mouse for p in result.problems] == ["M10"]
    hdf5(tmp_path / "M1-other.h5", shifted(mice)["M1"])
    with pytest.raises(PredictionError, match="Several files could be M1"):
        evaluate(tmp_path, mice.values())


def test_no_predictions_and_no_truth(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no predictions at"):
        evaluate(tmp_path / "nowhere", cohort(1).values())
    with pytest.raises(MissingDataError, match="holds no predictions"):
        evaluate(tmp_path, cohort(1).values())
    with pytest.raises(ArgumentError, match="no mouse"):
        evaluate({}, [])
    with pytest.raises(PredictionError, match="M0 \\(unlabelled\\)"):
        bare = beating("M0").drop_vars("mask")
        evaluate({"M0": beating("M0")["mask"].values}, [bare])
