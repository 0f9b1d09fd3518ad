from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.dataset.model import build_dataset, resolve_sizes
from mousecmr_data.metrics.overlap import dice_by_class, score_frames
from mousecmr_data.pipeline.writers import write_mouse_hdf5
from mousecmr_data.schema.labels import Label


def segmented() -> xr.Dataset:
    """Two labelled frames of three; the prediction of the first is perfect, that of the last half right."""
    mask = np.zeros((3, 2, 32, 32), np.uint8)
    mask[[0, 2], :, 8:24, 8:24] = 1
    mask[[0, 2], :, 12:20, 12:20] = 2
    predicted = mask.copy()
    predicted[1] = mask[0]
    predicted[2, :, 12:16, 12:20] = 1
    image = mask.astype(np.uint16) * 1000
    attrs = {"mouse": "M", "synthetic": True, "source": "test"}
    ds = build_dataset(image, mask, [0, 2], resolve_sizes({}, (0.8, 0.2, 0.2), 6.0), attrs)
    origin = {"weights": "some", "trained_on": "nothing"}
    return ds.assign(predicted=(("frame", "slice", "y", "x"), predicted, origin))


def test_dice_is_of_the_whole_stack_and_empty_agrees_with_empty() -> None:
    zero = np.zeros((2, 4, 4))
    assert dice_by_class(zero, zero) == {Label.MYOCARDIUM: 1.0, Label.BLOOD_POOL: 1.0}
    assert dice_by_class(zero, zero + 2)[Label.BLOOD_POOL] == 0.0


def test_only_labelled_frames_are_scored() -> None:
    table = score_frames(segmented())
    assert table["frame"].tolist() == [0, 2]
    assert table["phase"].tolist() == ["ED", "ES"]
    assert table["dice_blood_pool"].tolist() == pytest.approx([1.0, 2 / 3])
    assert score_frames(segmented().drop_vars("mask")).empty


def test_the_written_file_is_read_back_and_states_its_origin(tmp_path: Path) -> None:
    ds = segmented()
    back = open_mouse_file(write_mouse_hdf5(ds, tmp_path / "out" / "M.h5"))
    assert np.array_equal(back["mask"].values, ds["predicted"].values)
    assert np.array_equal(back["image"].values, ds["image"].values)
    assert back["labelled"].values.all()
    assert back.attrs["synthetic"] == 1
    assert float(back["x"][1]) == pytest.approx(0.2)
    assert float(back["time"][1]) == pytest.approx(6.0)
    with h5py.File(tmp_path / "out" / "M.h5") as f:
        assert (f.attrs["segmented_by"], f.attrs["trained_on"]) == ("some", "nothing")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["M.h5"]
