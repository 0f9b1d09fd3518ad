"""Each flag is raised by a constructed case, and not by valid masks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mousecmr_data.pipeline.quality import (
    FLAGS,
    Flag,
    check_curve,
    check_function,
    check_heart_rate,
    check_images,
    check_masks,
    check_slices,
)

Labels = NDArray[np.uint8]


@pytest.fixture
def valid() -> Labels:
    """(frame 4, slice 5, y 64, x 64): a ring around a pool in slices 1 to 3."""
    y, x = np.mgrid[:64, :64]
    radius = np.hypot(y - 32, x - 30)
    plane = np.where(radius < 6, 2, np.where(radius < 11, 1, 0))
    labels = np.zeros((4, 5, 64, 64), np.uint8)
    labels[:, 1:4] = plane
    return labels


def flags(labels: Labels, before: Labels | None = None) -> list[tuple[str, int | None, int | None]]:
    return [(f.flag, f.frame, f.slice) for f in check_masks(labels, labels if before is None else before)]


def test_valid_masks_raise_no_flag(valid: Labels) -> None:
    assert flags(valid) == []


def test_slices_that_may_be_wrong_are_flagged_the_most_probable_first(valid: Labels) -> None:
    expected = np.full(valid.shape[:2], 0.99)
    assert list(check_slices(expected, valid)) == []
    expected[1, 2], expected[2, 0] = 0.5, 0.8
    valid[0, 3] = np.roll(valid[0, 3], 20, 1)  # certain, but beside the ventricle of the slice before it
    found = list(check_slices(expected, valid))
    assert [(f.frame, f.slice) for f in found] == [(0, 3), (2, 0), (1, 2)]
    assert found[0].message.startswith("Expected Dice 0.99, the last with ventricle, ")
    assert "beside that of the next slice: " in found[0].message
    assert found[1].message.startswith("Expected Dice 0.80, the first without ventricle: ")
    assert list(check_slices(np.full((4, 1), 0.95), valid[:, 1:2])) == [], "a slice alone has no neighbours"


def test_heart_not_found(valid: Labels) -> None:
    assert flags(np.zeros_like(valid)) == [("heart_not_found", None, None)]
    valid[2] = 0
    assert flags(valid) == [("heart_not_found", 2, None)]


def test_slice_gap(valid: Labels) -> None:
    valid[1, 2] = 0
    assert flags(valid) == [("slice_gap", 1, 2)]


def test_islands_removed(valid: Labels) -> None:
    before = valid.copy()
    before[3, 4, 2:4, 2:4] = 2
    assert flags(valid, before) == []  # four voxels
    before[3, 4, 2:12, 2:12] = 1
    assert flags(valid, before) == [("islands_removed", 3, 4)]


def test_myocardium_hole(valid: Labels) -> None:
    holed, opened = valid.copy(), valid.copy()
    holed[0, 2, 31:34, 22:24] = 0  # inside the wall
    assert flags(holed) == [("myocardium_hole", 0, 2)]
    opened[0, 3, :, :30][opened[0, 3, :, :30] == 1] = 0  # half of the wall is gone
    assert flags(opened) == [("myocardium_hole", 0, 3)]


def test_at_edge(valid: Labels) -> None:
    moved = np.roll(valid, -20, axis=3)
    assert {f[0] for f in flags(moved)} == {"at_edge"}
    assert len(flags(moved)) == 4 * 3


def test_intensity_unlike_training_and_dark_blood(valid: Labels) -> None:
    rng = np.random.default_rng(0)
    images = np.where(valid == 2, 2000, np.where(valid == 1, 900, 500)) + rng.normal(0, 60, valid.shape)
    images[..., :20, :20] += 500  # a chest wall: 5 to 95 % of the range is used, as in a mouse
    assert [f.flag for f in check_images(images, valid)] == []
    inverted = images.max() - images
    assert {f.flag for f in check_images(inverted, valid)} == {"intensity_unlike_training", "dark_blood"}
    spiked = images.copy()
    spiked[0, 1, 0, 0] = 1e6
    spiked[:, 0] = 7
    assert [(f.flag, f.slice) for f in check_images(spiked, valid)] == [
        ("intensity_unlike_training", 0),
        ("intensity_unlike_training", 1),
    ]


def test_curve_jump() -> None:
    beat = 45 + 20 * np.cos(np.linspace(0, 2 * np.pi, 22, endpoint=False))
    assert list(check_curve(beat)) == []
    beat[7] += 15
    assert [(f.flag, f.frame) for f in check_curve(beat)] == [("curve_jump", 7)]
    assert list(check_curve([10.0])) == []


def test_function_out_of_range() -> None:
    assert list(check_function(65.0, 59.0)) == []
    assert list(check_function(np.nan, np.nan)) == []
    assert list(check_heart_rate(480.0, "the file")) == []
    assert [f.flag for f in check_heart_rate(4000.0, "the file")] == ["heart_rate_out_of_range"]
    assert [f.flag for f in check_function(400.0, 5.0)] == ["volume_out_of_range", "ef_out_of_range"]
    assert [f.flag for f in check_function(4.0, 95.0)] == ["volume_out_of_range", "ef_out_of_range"]


def test_levels_and_names() -> None:
    assert [Flag("a", "", *where).level for where in ((), (1,), (1, 2), (None, 2))] == [
        "mouse",
        "frame",
        "slice",
        "slice",
    ]
    assert all(FLAGS.values())
