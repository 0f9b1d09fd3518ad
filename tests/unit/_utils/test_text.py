import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mousecmr_data._utils.text import MAX_BYTES, format_count, make_file_name, make_unique
from mousecmr_data.schema.manifest import is_file_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../escaped", "escaped"),
        ("/etc/passwd", "etc_passwd"),
        ("My mouse (1)", "My_mouse_1"),
        ("小鼠乙", "小鼠乙"),
        ("Ма\u0306ус", "Мӑус"),
        ("CON", "CON_"),
        ("nul.h5", "nul_.h5"),
        ("COM¹", "COM¹_"),
        ("M1♀", "M1♀"),
        ("...", "mouse"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("a\x00b\nc:d", "a_b_c_d"),
        ("x" * 300, "x" * 80),
        ("鼠" * 300, "鼠" * 50),
        ("end. ", "end"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert make_file_name(text) == name
    assert is_file_name(name)


@pytest.mark.parametrize("text", ["", ".", "..", "../a", "a/b", "a\\b", "C:a", ".a", "a\n", " a", "x" * 300])
def test_names_that_lead_elsewhere(text: str) -> None:
    assert not is_file_name(text)


@given(st.text(max_size=300))
def test_any_text_gives_one_plain_name(text: str) -> None:
    name = make_file_name(text)
    assert name == make_file_name(name) != ""
    assert os.path.basename(name) == name  # noqa: PTH119
    assert not set(name) & set(string.whitespace + '/\\:*?"<>|\0')
    assert len(name.encode()) <= MAX_BYTES + 1
    assert is_file_name(name)
    assert not name.startswith((".", "-"))


def test_unique_names_stay_unique() -> None:
    assert make_unique(["a", "A", "b"]) == ["a", "A_2", "b"]
    assert make_unique(["a", "a", "a_2", "a_2"]) == ["a", "a_2", "a_2_2", "a_2_3"]


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "mouse", "1 mouse"),
        (2, "mouse", "2 mice"),
        (0, "file", "0 files"),
        (1, "slice", "1 slice"),
        (1000, "file", "1,000 files"),
    ],
)
def test_things_are_counted_in_words(number: int, noun: str, text: str) -> None:
    assert format_count(number, noun) == text
