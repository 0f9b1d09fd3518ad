"""Random bytes and arrays give correct results or this library's errors, never another library's traceback."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layout_files import write

import mousecmr_data as md
from mousecmr_data.dataset.validation import validate_file

FULL = bool(os.environ.get("MOUSECMR_STRESS"))
fuzz = settings(
    max_examples=1000 if FULL else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def use_file(path: Path) -> md.Measures | None:
    """Validate, open, load and measure a file; return its measures, or None after an error of this library."""
    problems = validate_file(path)
    assert all(isinstance(p, str) and p for p in problems)
    try:
        ds = md.open_mouse(path)
        ds.load()
        return md.measure(ds)
    except md.errors.MouseCMRError as e:
        assert str(e)
        return None


@pytest.mark.stress
@fuzz
@given(st.binary(max_size=4000))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    assert use_file(path) is None


@pytest.mark.stress
@fuzz
@given(st.data())
def test_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path / "m.h5", compression=data.draw(st.sampled_from([None, "gzip"])))
    assert use_file(path) is not None
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        # Mostly in the first kilobytes, where HDF5 keeps its structure.
        position = data.draw(st.integers(0, min(len(content), data.draw(st.sampled_from([3000, 10**9]))) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    use_file(path)


SHAPES = st.one_of(
    st.just((6, 5, 2, 3)), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4), st.just((6, 5, 2))
)
DTYPES = st.sampled_from(["u1", "u2", "i2", "i4", "i8", "u8", "f4", "f8", "?", "S3", "c8"])


def draw_array(data: st.DataObject) -> np.ndarray:
    shape, dtype = data.draw(SHAPES), np.dtype(data.draw(DTYPES))
    array = np.zeros(shape, dtype)
    if array.size and dtype.kind in "uif":
        low, high = data.draw(st.sampled_from([(0, 3), (0, 2), (-2, 9), (0, 200)]))
        seed = data.draw(st.integers(0, 99))
        array = np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)
        special = data.draw(st.sampled_from([None, np.nan, np.inf, -1, 7, 0.5, 70000]))
        if special is not None and (dtype.kind == "f" or special in (-1, 7)):
            array.flat[-1] = np.array(special).astype(dtype)
    return array


@pytest.mark.stress
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@fuzz
@given(st.data())
def test_strange_arrays(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as f:
        for name in ("Images", "Masks", "Frames_with_ROI"):
            if data.draw(st.integers(0, 9)):
                array = draw_array(data)
                if name == "Frames_with_ROI" and data.draw(st.booleans()):
                    array = np.array(data.draw(st.lists(st.integers(-1, 4), max_size=4)))
                f[name] = array
    measures = use_file(path)
    if measures is None:
        return
    # The correct result, computed in another way.
    with h5py.File(path) as f:
        images, masks, frames = f["Images"][()], f["Masks"][()], sorted(f["Frames_with_ROI"][()].astype(int))
    assert images.ndim == 4
    assert set(np.unique(masks)) <= {0, 1, 2}
    assert measures.frames["frame"].tolist() == frames
    volumes = [np.count_nonzero(masks[..., i] == 2) * 0.01 for i in frames]
    assert measures.frames["blood_pool_ul"].tolist() == pytest.approx(volumes)


def test_an_empty_file_and_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"")
    assert use_file(tmp_path / "m.h5") is None
    assert use_file(write(tmp_path / "m.h5", ())) is None
