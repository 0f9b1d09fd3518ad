import pytest

from mousecmr_data._utils import limits
from mousecmr_data.errors import ArgumentError, FileLayoutError


def test_sizes_are_refused_and_the_advice_works(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.check_size("a", 2 * 10**9)
    with pytest.raises(FileLayoutError, match=r"a states that it holds 2\.50 GB") as e:
        limits.check_size("a", 25 * 10**8)
    variable, _, value = str(e.value.next_step).partition("export ")[2].partition("=")
    monkeypatch.setenv(variable, value)
    limits.check_size("a", 25 * 10**8)


def test_small_files_cannot_state_much() -> None:
    limits.check_size("a", limits.RATIO_FROM, 10)
    limits.check_size("a", 10**9, 10**6)
    with pytest.raises(FileLayoutError, match=r"a \(999\.0 kB\) states"):
        limits.check_size("a", 10**9, 999_000)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two"])
def test_variables_that_are_no_numbers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.SECONDS_VARIABLE, text)
    with pytest.raises(ArgumentError, match="export MOUSECMR_MAX_SECONDS=300"):
        limits.get_max_seconds()
    monkeypatch.setenv(limits.SECONDS_VARIABLE, "")
    assert limits.get_max_seconds() == limits.MAX_SECONDS
