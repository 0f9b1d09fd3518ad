import pytest

from mousecmr_data._utils import deprecation
from mousecmr_data._utils.deprecation import deprecated, renamed_argument
from mousecmr_data.errors import ArgumentError


@pytest.fixture(autouse=True)
def _own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecation, "DEPRECATIONS", [])


def test_a_deprecated_function_works_and_names_what_to_use_at_the_place_of_the_call() -> None:
    @deprecated("mousecmr_data.half", "use mousecmr_data.divide", since="0.2.0", removed_in="0.4.0")
    def half(x: float) -> float:
        """Halve."""
        return x / 2

    text = r"mousecmr_data\.half is deprecated since 0\.2\.0, and 0\.4\.0 removes it\. Next: use mousecmr_data\.divide"
    with pytest.warns(FutureWarning, match=text) as caught:
        assert half(4) == 2
    assert caught[0].filename == __file__
    assert half.__doc__ == "Halve."
    assert [d.removed_in for d in deprecation.DEPRECATIONS] == ["0.4.0"]


def test_an_argument_is_taken_by_its_old_name_with_a_warning_and_not_by_both() -> None:
    @renamed_argument("jobs", "workers", since="0.2.0", removed_in="0.4.0")
    def run(*, workers: int = 1) -> int:
        return workers

    with pytest.warns(FutureWarning, match=r"the argument jobs of .*run is deprecated.* Next: write workers="):
        assert run(jobs=3) == 3  # type: ignore[call-arg]
    assert run(workers=2) == 2
    with pytest.raises(ArgumentError, match="jobs and workers"):
        run(jobs=3, workers=2)  # type: ignore[call-arg]
