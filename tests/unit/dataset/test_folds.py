import pytest

import mousecmr_data as md
from mousecmr_data.dataset.cohort import check_no_leakage
from mousecmr_data.errors import ArgumentError


@pytest.mark.parametrize("stratify", [False, True])
def test_each_mouse_is_validated_once(stratify: bool) -> None:
    cohort = md.load(source="phantom")
    folds = cohort.folds(5, stratify=stratify, seed=1)
    assert [len(v) for _, v in folds] == [26] * 5
    assert sorted(m for _, v in folds for m in v.mice) == sorted(cohort.mice)
    for train, validation in folds:
        assert len(train) + len(validation) == 130
        check_no_leakage(train, validation)
    assert [v.mice for _, v in cohort.folds(5, stratify=stratify, seed=1)] == [v.mice for _, v in folds]
    assert [v.mice for _, v in cohort.folds(5, stratify=stratify, seed=2)] != [v.mice for _, v in folds]


def test_strata_are_even() -> None:
    cohort = md.load(source="phantom")
    for group in set(cohort.phenotypes.values()):
        counts = [sum(g == group for g in v.phenotypes.values()) for _, v in cohort.folds(5, stratify=True)]
        assert max(counts) - min(counts) <= 1


def test_leakage_and_invalid_numbers_of_folds_are_errors() -> None:
    cohort = md.load("validation", source="phantom")
    with pytest.raises(ArgumentError, match="Mouse5 is on both sides"):
        check_no_leakage(cohort, cohort.select(["Mouse5"]))
    for k in (1, 16):
        with pytest.raises(ArgumentError, match="2 to 15"):
            cohort.folds(k)
