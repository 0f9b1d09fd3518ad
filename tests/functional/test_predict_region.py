"""Segmentation by region of interest agrees with the whole field, and is not used where it would be unsafe."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch", reason="the extra torch is not installed")

import mousecmr_data
from mousecmr_data.errors import ArgumentError
from mousecmr_data.inference.predictor import Predictor, load_model
from mousecmr_data.metrics.overlap import dice_by_class


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_model("phantom-small", device="cpu", engine="exact")


@pytest.fixture(scope="module")
def mouse(phantom_cache: Path) -> xr.Dataset:
    """Every third frame of five slices."""
    ds = mousecmr_data.load(mice=["Mouse6"], source="phantom", cache=phantom_cache)["Mouse6"]
    return ds.isel(frame=slice(None, None, 3), slice=slice(2, 7)).load()


@pytest.fixture(scope="module")
def whole(predictor: Predictor, mouse: xr.Dataset) -> np.ndarray:
    return predictor.segment(mouse)["predicted"].values


def ejection_fraction(labels: np.ndarray) -> float:
    pool = np.count_nonzero(labels == 2, axis=(1, 2, 3))
    return float(100 * (1 - pool.min() / pool.max()))


@pytest.mark.parametrize("engine", ["exact", "openvino", "openvino-int8"])
def test_a_window_agrees_with_the_whole_field(
    predictor: Predictor, mouse: xr.Dataset, whole: np.ndarray, engine: str, phantom_cache: Path
) -> None:
    done: list[int] = []
    if engine.startswith("openvino"):
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
        predictor = load_model("phantom-small", device="cpu", engine=engine, cache=phantom_cache)
    result = predictor.segment(mouse, region="auto", progress=done.append)["predicted"]
    assert result.attrs["region"] == "window"
    _, _, rows, columns = result.attrs["region_window"]
    assert rows * columns <= 0.4 * 256 * 256
    assert result.attrs["region_whole_frames"] <= 3
    assert min(result.attrs["region_agreement"]) > 0.97
    assert sum(done) == mouse.sizes["frame"] * mouse.sizes["slice"]
    assert min(dice_by_class(result.values, whole).values()) >= 0.99
    assert abs(ejection_fraction(result.values) - ejection_fraction(whole)) <= 1.0


def test_labels_of_other_pixel_sizes_return_to_those_pixels(predictor: Predictor, mouse: xr.Dataset) -> None:
    coarse = mouse.isel(y=slice(None, None, 2), x=slice(None, None, 2), slice=slice(0, 4))
    result = predictor.segment(coarse, region="auto")["predicted"]
    assert result.attrs["region"] == "window"
    expected = predictor.segment(coarse)["predicted"]
    assert min(dice_by_class(result.values, expected.values).values()) >= 0.99


def test_a_heart_at_the_border_is_computed_whole(predictor: Predictor, mouse: xr.Dataset) -> None:
    part = mouse.isel(slice=slice(0, 4))
    _, rows, _ = np.nonzero(part["mask"].values[0])
    image = np.roll(part["image"].values, 10 - rows.max(), axis=2)  # only the lower part of the heart is left
    image[:, :, 130:] = image.min()
    cut = part.assign(image=(part["image"].dims, image))
    result = predictor.segment(cut, region="auto")["predicted"]
    assert result.attrs["region"] == "whole field"
    assert "region_window" not in result.attrs
    assert "border" in result.attrs["region_reason"] or "no heart" in result.attrs["region_reason"]
    assert np.array_equal(result, predictor.segment(cut)["predicted"])


def test_without_a_heart_or_with_few_frames_the_field_is_computed_whole(
    predictor: Predictor, mouse: xr.Dataset
) -> None:
    part = mouse.isel(slice=slice(0, 2), frame=slice(0, 6))
    noise = np.random.default_rng(0).integers(0, 4000, part["image"].shape).astype(np.uint16)
    empty = part.assign(image=(part["image"].dims, noise))
    result = predictor.segment(empty, region="auto")["predicted"]
    assert result.attrs["region_reason"] == "no heart was found (frame 0)"
    assert np.array_equal(result, predictor.segment(empty)["predicted"])
    equal_frames = mouse.isel(frame=[0] * 7)
    done: list[int] = []
    result = predictor.segment(equal_frames, region="auto", progress=done.append)["predicted"]
    assert sum(done) == 7 * equal_frames.sizes["slice"]
    assert min(dice_by_class(result.values[3], result.values[0]).values()) >= 0.99
    no_frames = predictor.segment(part.isel(frame=[]), region="auto")["predicted"]
    assert no_frames.shape[0] == 0
    two_frames = predictor.segment(part.isel(frame=slice(0, 2)), region="auto")["predicted"]
    assert two_frames.attrs["region_reason"] == "too few frames: 2"
    with pytest.raises(ArgumentError, match="'auto'"):
        predictor.segment(part, region="heart")  # type: ignore[arg-type]
