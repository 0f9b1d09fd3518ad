import numpy as np
import pytest

from mousecmr_data.dataset.model import check_labels
from mousecmr_data.errors import LabelError


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, bool])
def test_labels_are_accepted(dtype: type) -> None:
    check_labels(np.array([[0, 1], [1, 0]], dtype), "x")
    check_labels(np.empty((0, 3), dtype), "x")
    if dtype is not bool:
        check_labels(np.array([2], dtype), "x")


@pytest.mark.parametrize(
    ("values", "text"),
    [(np.array([0, 3], np.uint8), "label 3"), (np.array([-1, 7, 2]), "labels -1, 7"), (np.array([0.5]), "label 0.5"),
     (np.array([np.nan]), "label nan")],
)  # fmt: skip
def test_other_numbers_are_named(values: np.ndarray, text: str) -> None:
    with pytest.raises(LabelError, match=rf"^masks of X holds the {text}\.\nExpected: 0 \(background\), 1 \(LV myo"):
        check_labels(values, "masks of X")
