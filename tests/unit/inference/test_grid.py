import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.grid import (  # noqa: E402
    SCALINGS,
    PixelGrid,
    argmax_labels,
    compute_softmax,
    estimate_dice,
    make_resampling_matrix,
    make_training_grid,
    normalize,
)


def test_images_on_the_training_grid_are_not_changed() -> None:
    grid = make_training_grid((256, 256), (0.1, 0.1))
    x = torch.rand(1, 1, 256, 256)
    assert grid == PixelGrid((256, 256), 0.1)
    assert grid.from_native(x, (0.1, 0.1)) is x
    assert grid.to_native(x, (256, 256), (0.1, 0.1)) is x


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((192, 192), (0.1, 0.1), (256, 256)),
        ((192, 192), (0.156, 0.156), (320, 320)),
        ((288, 256), (0.1, 0.1), (288, 256)),
    ],
)
def test_the_grid_covers_the_whole_field(
    shape: tuple[int, int], spacing: tuple[float, float], expected: tuple[int, int]
) -> None:
    assert make_training_grid(shape, spacing).shape_yx == expected


@pytest.mark.parametrize(("n", "mm"), [(128, 0.2), (192, 0.156), (200, 0.07), (31, 0.33)])
def test_a_ramp_stays_where_it_was(n: int, mm: float) -> None:
    """A linear ramp in mm about the middle is resampled to the same ramp: centres are aligned, without a shift."""
    at = (torch.arange(n) - (n - 1) / 2) * mm
    grid = make_training_grid((n, n), (mm, mm))
    target = (torch.arange(grid.shape_yx[0]) - (grid.shape_yx[0] - 1) / 2) * 0.1
    within = target.abs() < at.max() - 2 * mm
    resampled = torch.from_numpy(make_resampling_matrix(n, mm, grid.shape_yx[0], 0.1)) @ at
    assert torch.allclose(resampled[within], target[within], atol=2e-3)  # mm


@pytest.mark.parametrize(
    ("shape", "spacing"), [((128, 100), (0.2, 0.15)), ((300, 280), (0.08, 0.1)), ((64, 64), (0.4, 0.4))]
)
def test_resampling_there_and_back_keeps_a_smooth_map(shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    y = (torch.arange(shape[0]) - (shape[0] - 1) / 2)[:, None] * spacing[0]
    x = (torch.arange(shape[1]) - (shape[1] - 1) / 2)[None, :] * spacing[1]
    blob = torch.exp(-((y - 2.0) ** 2 + (x + 1.0) ** 2) / 18.0)[None, None]
    grid = make_training_grid(shape, spacing)
    back = grid.to_native(grid.from_native(blob, spacing), shape, spacing)
    assert back.shape == blob.shape
    assert (back - blob).abs()[..., 2:-2, 2:-2].max() < 0.02


def test_pixels_beyond_the_field_have_the_minimum() -> None:
    x = torch.full((1, 1, 64, 64), 7.0)
    x[..., 30, 30] = 90.0
    out = make_training_grid((64, 64), (0.1, 0.1)).from_native(x, (0.1, 0.1))
    assert out.shape[-2:] == (256, 256)
    assert float(out.min()) == 7.0
    assert torch.equal(out[..., 96:160, 96:160], x)


def test_arrays_and_tensors_give_the_same() -> None:
    rng = np.random.default_rng(0)
    images = rng.gamma(2.0, 100.0, (4, 1, 60, 70)).astype(np.float32)
    images[1] = 7.0
    for scaling in SCALINGS:
        scaled = normalize(images, scaling)
        assert scaled.dtype == np.float32
        assert np.array_equal(scaled, normalize(torch.from_numpy(images), scaling).numpy())
        assert not scaled[1].any() and scaled[0].max() == 1.0
    grid = make_training_grid((60, 70), (0.21, 0.17))
    resampled = grid.from_native(images, (0.21, 0.17))
    assert np.allclose(resampled, grid.from_native(torch.from_numpy(images), (0.21, 0.17)).numpy(), rtol=1e-5)
    logits = rng.normal(0, 20, (4, 3, 30, 40)).astype(np.float32)
    logits[0, :, 0] = 1.0  # the first of equal classes
    maps = compute_softmax(logits)
    assert np.allclose(maps, torch.from_numpy(logits).softmax(1).numpy(), atol=1e-6)
    tensors = torch.from_numpy(maps)
    labels = argmax_labels(maps)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, maps.argmax(1))
    assert np.array_equal(labels, argmax_labels(tensors).numpy())
    assert np.allclose(estimate_dice(maps, labels), estimate_dice(tensors, argmax_labels(tensors)).numpy())
