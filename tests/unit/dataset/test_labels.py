import numpy as np
import pytest

from mousecmr_data.dataset.model import check_labels, convert_labels
from mousecmr_data.errors import ArgumentError, LabelError
from mousecmr_data.schema.labels import parse_label_map


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


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [("acdc", [0, 1, 2, 3], [0, 0, 1, 2]), ("mms", [0, 1, 2, 3], [0, 2, 1, 0]), ("ukbb", [0, 1, 2, 3], [0, 2, 1, 0]),
     ("lv=3,myo=2", [0, 1, 2, 3], [0, 0, 1, 2]), ("myo = 205, lv=500, rv=600", [0, 205, 500, 600], [0, 1, 2, 0]),
     ("lv=1", [0, 1, 2, 3], [0, 2, 0, 0])],
)  # fmt: skip
def test_label_maps_of_other_programs(text: str, numbers: list[int], expected: list[int]) -> None:
    converted = convert_labels(np.array(numbers, np.float32), "x", parse_label_map(text))
    assert converted.dtype == np.uint8
    assert converted.tolist() == expected


@pytest.mark.parametrize("text", ["", "ACD", "lv=3,myo=3", "lv=3;myo=2", "rv=1", "lv=three", "lv=1,lv=2", "lv=1,la=4"])
def test_what_is_no_label_map_names_one_that_works(text: str) -> None:
    with pytest.raises(ArgumentError) as e:
        parse_label_map(text)
    assert e.value.next_step == "--labels lv=3,myo=2"
    assert parse_label_map(e.value.next_step.split()[1]) == {"lv": 3, "myo": 2}


def test_a_map_that_names_none_of_the_numbers_is_an_error() -> None:
    assert not convert_labels(np.zeros(4), "x", {"lv": 3}).any(), "an empty mask is a mask"
    with pytest.raises(LabelError, match="x holds the numbers 1, 2, and none"):
        convert_labels(np.array([0, 1, 2]), "x", {"lv": 7, "myo": 8})
