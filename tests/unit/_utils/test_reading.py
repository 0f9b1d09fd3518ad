import pytest

from mousecmr_data._utils import reading
from mousecmr_data.errors import ArgumentError, FileLayoutError, ReadError


def test_sizes_are_refused_and_the_advice_works(monkeypatch: pytest.MonkeyPatch) -> None:
    reading.check_size("a", 2 * 10**9)
    with pytest.raises(FileLayoutError, match=r"a states that it holds 2\.50 GB") as e:
        reading.check_size("a", 25 * 10**8)
    variable, _, value = str(e.value.next_step).partition("export ")[2].partition("=")
    monkeypatch.setenv(variable, value)
    reading.check_size("a", 25 * 10**8)


def test_small_files_cannot_state_much() -> None:
    reading.check_size("a", reading.RATIO_FROM, 10)
    reading.check_size("a", 10**9, 10**6)
    with pytest.raises(FileLayoutError, match=r"a \(999\.0 kB\) states"):
        reading.check_size("a", 10**9, 999_000)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two"])
def test_variables_that_are_no_numbers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(reading.SECONDS_VARIABLE, text)
    with pytest.raises(ArgumentError, match="export MOUSECMR_MAX_SECONDS=300"):
        reading.get_max_seconds()
    monkeypatch.setenv(reading.SECONDS_VARIABLE, "")
    assert reading.get_max_seconds() == reading.MAX_SECONDS


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = ReadError("a")
    error.__cause__ = error
    assert list(reading.list_causes(error)) == [error]
