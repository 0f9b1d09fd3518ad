import numpy as np
import pytest

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.metrics.postprocessing import postprocess, postprocess_cine


def stack() -> np.ndarray:
    """Blood pool in three slices; a larger component in one slice; small ones near and far; myocardium."""
    labels = np.zeros((4, 100, 100), np.uint8)
    labels[0:3, 40:46, 40:46] = 2  # 108 voxels in three slices
    labels[3, 60:80, 60:80] = 2  # 400 voxels in one slice
    labels[0:2, 60:63, 40:43] = 2  # 18 voxels, two slices, 20 pixels away
    labels[0:2, 90:94, 90:94] = 2  # 32 voxels, two slices, 70 pixels away
    labels[0, 5, 5:9] = 1  # a small component of myocardium
    labels[0:2, 30:50, 20:24] = 1
    return labels


def test_paper_keeps_the_largest_component_of_each_class() -> None:
    kept = postprocess(stack(), "paper")
    assert np.count_nonzero(kept == 2) == 400
    assert np.count_nonzero(kept == 1) == 160


def test_upstream_code_keeps_components_that_span_slices_near_the_dominant_one() -> None:
    kept = postprocess(stack(), "upstream-code")
    assert np.count_nonzero(kept == 2) == 108 + 18
    assert np.count_nonzero(kept == 1) == 160


def test_upstream_code_drops_a_class_in_one_slice_only() -> None:
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 5:15, 5:15] = 2
    assert not postprocess(labels, "upstream-code").any()
    assert postprocess(labels, "paper").any()


def test_none_changes_nothing_and_empty_stacks_stay_empty() -> None:
    assert np.array_equal(postprocess(stack(), "none"), stack())
    for rule in ("paper", "upstream-code", "none"):
        assert not postprocess(np.zeros((2, 8, 8), np.uint8), rule).any()


def test_the_error_names_an_unknown_rule() -> None:
    with pytest.raises(UnknownNameError, match="biggest"):
        postprocess(stack(), "biggest")  # type: ignore[arg-type]


def make_cine(radii: list[float], frames: int = 7, slices: int = 0) -> np.ndarray:
    """Make a ventricle with these outer radii (pixels) from slice 0 on, in all frames; the pool has half of them."""
    labels = np.zeros((frames, slices or len(radii), 80, 80), np.uint8)
    r = np.hypot(*np.ogrid[-40:40, -40:40])
    for k, radius in enumerate(radii):
        labels[:, k][:, r < radius] = 1
        labels[:, k][:, r < radius / 2] = 2
    return labels


def test_the_slice_range_keeps_a_heart_in_the_first_slice_and_a_small_apex() -> None:
    labels = make_cine([20, 24, 24, 22, 18, 12, 7], slices=9)
    assert np.array_equal(postprocess_cine(labels, "slice-range"), labels)
    assert np.array_equal(postprocess_cine(labels[:, ::-1], "slice-range"), labels[:, ::-1])


def test_the_slice_range_keeps_an_infarct_with_a_thin_apex() -> None:
    """The wall of the last two slices is hardly thicker than a pixel, and bulges to one side."""
    labels = make_cine([20, 22, 22, 20], slices=7)
    r = np.hypot(*(v - 4 for v in np.ogrid[-40:40, -40:40]))
    labels[:, 4][:, r < 17], labels[:, 5][:, r < 12] = 1, 1
    labels[:, 4][:, r < 15.5], labels[:, 5][:, r < 10.5] = 2, 2
    assert np.array_equal(postprocess_cine(labels, "slice-range"), labels)


def test_the_slice_range_keeps_one_of_two_ventricles() -> None:
    labels = make_cine([20, 24, 24, 22, 18])
    both = labels.copy()
    both[:, 1:3, 30:50, 68:78] = 2
    both[:, 1:3, 28:52, 65:68] = 1  # its wall, apart from the LV
    both[:, 5:] = 0
    assert np.array_equal(postprocess_cine(both, "slice-range"), labels)


def test_the_slice_range_drops_what_is_not_on_the_axis_and_fills_a_gap() -> None:
    labels = make_cine([0, 20, 24, 24, 22, 18])
    wrong = labels.copy()
    wrong[2, 0, 5:25, 5:25] = 1  # an atrium, far from the axis
    wrong[:, 3] = 0
    fixed = postprocess_cine(wrong, "slice-range")
    assert not fixed[:, 0].any()
    assert np.array_equal(np.delete(fixed, 3, 1), np.delete(labels, 3, 1))
    share = (fixed[:, 3] == labels[:, 3]).mean()
    assert share > 0.95 and set(np.unique(fixed[:, 3])) == {0, 1, 2}


def test_the_ends_of_the_slice_range_agree_with_neighbouring_frames() -> None:
    labels = make_cine([16, 20, 24, 24, 22, 18, 10], frames=12)
    wrong = labels.copy()
    wrong[4, 0] = 0  # one frame lacks the basal slice
    wrong[8, 6] = 0  # and one the apical slice
    assert np.array_equal(postprocess_cine(wrong, "slice-range"), labels)
    wrong[4:9, 0] = 0  # the valve plane comes down: that stays
    assert not postprocess_cine(wrong, "slice-range")[4:9, 0].any()
    wrong[5:8, 1:3] = 0  # by 3 mm it does not: only the outermost slice may be missing
    fixed = postprocess_cine(wrong, "slice-range")
    assert fixed[5:8, 1:3].any((2, 3)).all() and not fixed[5:8, 0].any()


def test_the_slice_range_of_nothing_is_nothing() -> None:
    empty = np.zeros((6, 3, 8, 8), np.uint8)
    assert not postprocess_cine(empty, "slice-range").any()
    assert postprocess_cine(empty[:, :0], "slice-range").shape == (6, 0, 8, 8)
