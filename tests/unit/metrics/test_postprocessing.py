import numpy as np
import pytest

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.metrics.postprocessing import postprocess


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
