import numpy as np
import pytest

from mousecmr_data.dataset.model import assign_phases, find_es


def disc(n: int, value: int = 2, size: int = 40) -> np.ndarray:
    """Return a plane with a square of exactly n x n pixels of ``value`` at (5, 5)."""
    plane = np.zeros((size, size), np.uint8)
    plane[5 : 5 + n, 5 : 5 + n] = value
    return plane


def test_pairs_need_no_pixels() -> None:
    assert assign_phases(4, ()).tolist() == ["unlabelled"] * 4
    assert assign_phases(3, (1,)).tolist() == ["unlabelled", "unknown", "unlabelled"]
    assert assign_phases(4, (1, 3)).tolist() == ["unlabelled", "ED", "unlabelled", "ES"]


def test_es_is_the_smallest_of_the_others_and_ties_go_to_the_earliest() -> None:
    masks = np.stack([disc(20), disc(15), disc(10), disc(10)])[:, None]
    assert find_es(masks) == 2
    assert assign_phases(6, (0, 2, 3, 5), masks).tolist() == [
        "ED",
        "unlabelled",
        "inflow",
        "ES",
        "unlabelled",
        "inflow",
    ]


def test_components_under_50_pixels_do_not_count() -> None:
    small = disc(9)
    specks = disc(8)
    specks[30:37, 30:37] = 2  # 49 pixels: dropped, so that this frame (64) is below 81
    masks = np.stack([np.full((40, 40), 2, np.uint8), small, specks])[:, None]
    assert find_es(masks) == 2
    specks[37, 36] = 2  # touches the speck, which has 50 pixels now: 64 + 50 > 81
    masks = np.stack([np.full((40, 40), 2, np.uint8), small, specks])[:, None]
    assert find_es(masks) == 1


def test_squares_that_touch_at_a_corner_are_one_component() -> None:
    """49 and 9 pixels that meet at a corner are 58: they count, as in the authors' code."""
    corner = disc(7)
    corner[12:15, 12:15] = 2
    apart = disc(7)
    apart[13:16, 13:16] = 2
    ed, other = np.full((40, 40), 2, np.uint8), disc(5)
    other[20:28, 20:26] = 2  # 48 pixels: dropped
    assert find_es(np.stack([ed, corner, other])[:, None]) == 2
    assert find_es(np.stack([ed, apart, disc(8)])[:, None]) == 1, "apart, both are dropped"


def test_only_the_ed_footprint_counts() -> None:
    ed = disc(12)
    inside = disc(11)  # 121 inside
    outside = np.zeros((40, 40), np.uint8)
    outside[5:35, 14:34] = 2  # 600 pixels, but few inside the footprint of ED
    assert find_es(np.stack([ed, inside, outside])[:, None]) == 2


def test_components_do_not_span_slices() -> None:
    """49 pixels in each of two slices are two specks, not one component of 98."""
    one, two = disc(7), disc(7)
    ed = np.full((2, 40, 40), 2, np.uint8)
    masks = np.stack([ed, np.stack([disc(8), np.zeros((40, 40), np.uint8)]), np.stack([one, two])])
    assert find_es(masks) == 2


def test_masks_are_required_if_there_is_a_choice_for_es() -> None:
    with pytest.raises(TypeError, match="masks are needed"):
        assign_phases(4, (0, 1, 2))
