import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from layout_files import arrays, write

import mousecmr_data as md
from mousecmr_data.dataset.hdf5 import read_header
from mousecmr_data.errors import FileLayoutError, LabelError, MissingDataError

STORAGE: list[dict[str, Any]] = [
    {},
    {"chunks": (8, 5, 1, 2)},
    {"chunks": (24, 20, 1, 1), "compression": "gzip", "shuffle": True},
    {"chunks": True, "compression": "lzf"},
]
KEYS: list[tuple[Any, ...]] = [
    (),
    (0,),
    (-1, 2, 3, 4),
    ([0, 0, 3],),
    (slice(None, None, -2), [2, 0]),
    (slice(1, 1),),
    ([], 1),
    (2, slice(None), slice(20, 4, -3), [1, 1, 0]),
]


@pytest.mark.parametrize("storage", STORAGE)
def test_any_storage_reads_the_same(tmp_path: Path, storage: dict[str, Any]) -> None:
    images, _ = arrays()
    ds = md.open_mouse(write(tmp_path / "m.h5", **storage))
    everything = images.transpose(3, 2, 0, 1)
    assert ds.image.dims == ("frame", "slice", "y", "x")
    assert ds.image.dtype == np.uint16
    assert ds.mask.dtype == np.uint8
    for key in KEYS:
        actual = md.open_mouse(tmp_path / "m.h5").image[key].values
        # xarray indexes each axis independently, so numpy has to as well
        expected = everything
        for axis, k in reversed(list(enumerate(key))):
            index = np.array(k, int) if isinstance(k, list) else np.arange(expected.shape[axis])[k]
            expected = np.take(expected, index, axis=axis)
        np.testing.assert_array_equal(actual, expected)


def test_opening_reads_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.h5", labelled=(0, 2, 3))
    read: list[str] = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda s, *a, **k: read.append(s.name) or original(s, *a, **k))
    ds = md.open_mouse(path)
    assert read == ["/Frames_with_ROI"]
    assert ds.phase.values.tolist() == ["ED", "unlabelled", "ES", "inflow", "unlabelled"]
    assert read == ["/Frames_with_ROI", "/Masks"]


def _sum(ds: xr.Dataset) -> int:
    return int(ds.image.sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork_spawn_and_pickle(tmp_path: Path, method: str) -> None:
    ds = md.open_mouse(write(tmp_path / "m.h5", labelled=(0, 1, 2)))
    assert len(pickle.dumps(ds)) < 20_000
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_sum, [ds, ds]) == [_sum(ds)] * 2


def test_a_file_held_open_elsewhere_can_be_read(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "m.h5"), "r"):
        assert md.open_mouse(tmp_path / "m.h5").image.sum() > 0


def test_unknown_datasets_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", attrs={"anything": "else"})
    with h5py.File(path, "a") as f:
        f["Notes/today"] = "hello"
    assert set(md.open_mouse(path).data_vars) == {"image", "mask"}


def test_a_mouse_without_masks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as f:
        f["Images"] = arrays()[0]
    ds = md.open_mouse(tmp_path / "m.h5")
    assert "mask" not in ds
    assert not ds.labelled.any()
    with pytest.raises(md.errors.UnlabelledError, match="no variable 'mask'"):
        md.measure(ds)


@pytest.mark.parametrize(
    ("dtype", "value", "ok"),
    [
        ("float64", 7.0, True),
        ("int32", 65535, True),
        ("float64", np.nan, False),
        ("float32", 0.5, False),
        ("int32", -1, False),
        ("int16", -5, False),
        ("int32", 65536, False),
        ("float64", np.inf, False),
    ],
)
def test_image_values_must_fit_exactly(tmp_path: Path, dtype: str, value: float, ok: bool) -> None:
    images = arrays()[0].astype(dtype)
    images[3, 4, 1, 2] = value
    ds = md.open_mouse(write(tmp_path / "m.h5", images=images))
    if ok:
        assert ds.image.values[2, 1, 3, 4] == value
        assert ds.image.dtype == np.uint16
    else:
        with pytest.raises(FileLayoutError, match="uint16 cannot represent"):
            ds.image.load()


def test_unknown_labels_are_errors(tmp_path: Path) -> None:
    masks = arrays()[1]
    masks[0, 0, 0, 2] = 7
    ds = md.open_mouse(write(tmp_path / "m.h5", masks=masks))
    with pytest.raises(LabelError, match="label 7"):
        md.measure(ds)


def _with(path: Path, **datasets: Any) -> Path:
    with h5py.File(write(path), "a") as f:
        for name, value in datasets.items():
            del f[name]
            if value is not None:
                f[name] = value
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Images": None}, "no dataset 'Images'"),
        ({"Images": np.zeros((4, 4, 2), np.uint16)}, "four axes"),
        ({"Images": np.zeros((4, 4, 0, 2), np.uint16)}, "none of them empty"),
        ({"Images": np.array([[b"a"]])}, "Images"),
        ({"Masks": np.zeros((4, 4, 2, 2), np.uint8)}, "same shape"),
        ({"Masks": None}, "no Masks"),
        ({"Masks": h5py.Empty("u1")}, "empty"),
        ({"Masks": np.full((24, 20, 3, 5), b"a")}, "has the type"),
        ({"Frames_with_ROI": None}, "which frames were segmented is unknown"),
        ({"Frames_with_ROI": np.array([0, 5])}, "0-based"),
        ({"Frames_with_ROI": np.array([-1, 2])}, "0 to 4"),
        ({"Frames_with_ROI": np.array([1, 1])}, "twice"),
        ({"Frames_with_ROI": np.array([0.0, np.nan])}, "whole frame numbers"),
        ({"Frames_with_ROI": np.array([[0, 2]])}, "one axis"),
        ({"Frames_with_ROI": np.array([b"0"])}, "one axis"),
    ],
)
def test_a_wrong_layout_is_reported(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FileLayoutError, match=message):
        md.open_mouse(_with(tmp_path / "m.h5", **change))


def test_a_group_in_the_place_of_masks_is_named(tmp_path: Path) -> None:
    with h5py.File(_with(tmp_path / "m.h5", Masks=None), "a") as f:
        f.create_group("Masks")
    with pytest.raises(FileLayoutError, match="Masks is a Group"):
        md.open_mouse(tmp_path / "m.h5")


def test_masks_that_went_away_after_opening_are_named(tmp_path: Path) -> None:
    mouse = md.open_mouse(write(tmp_path / "m.h5"))
    _with(tmp_path / "m.h5", Masks=None)
    with pytest.raises(FileLayoutError, match="no longer has Masks"):
        mouse.mask.load()


def test_files_that_are_not_hdf5(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no file"):
        md.open_mouse(tmp_path / "none.h5")
    with pytest.raises(FileLayoutError, match="not a file"):
        md.open_mouse(tmp_path)
    for content in (b"", b"<html>", b"\x89HDF\r\n\x1a\n" + b"\0" * 100):
        (tmp_path / "bad.h5").write_bytes(content)
        with pytest.raises(FileLayoutError, match=f"{len(content)} bytes"):
            md.open_mouse(tmp_path / "bad.h5")


def test_a_truncated_file_is_an_error_when_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5")
    header = read_header(path)
    with path.open("r+b") as f:
        f.truncate(path.stat().st_size // 2)
    with pytest.raises(FileLayoutError, match="damaged"):
        md.open_mouse(path).image.load()
    assert header.labelled_frames == (0, 2)


def test_xarray_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5")
    ds = xr.open_dataset(path, engine="mousecmr", drop_variables="mask", spacing=(0.5, 0.2, 0.2))
    assert set(ds.data_vars) == {"image"}
    assert ds.x.values[1] == pytest.approx(0.2)
    assert ds.attrs["voxel_size_source"] == "given by the caller"
