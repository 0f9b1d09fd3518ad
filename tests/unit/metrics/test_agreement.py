"""Agreement statistics compared with the articles that defined them, and with other implementations."""

import warnings

import numpy as np
import pandas as pd
import pytest
from evaluated import cohort, load_benchmark

from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.evaluation.tables import compare_groups, tabulate_groups
from mousecmr_data.metrics.agreement import (
    adjust_holm,
    anova,
    bland_altman,
    compute_mean_interval,
    correlate_bias_with_size,
    icc,
    pearson,
    run_paired_t_test,
    spearman,
)

pytest.importorskip("pingouin", reason="the extra evaluation is not installed")

# Bland & Altman, Lancet 1986: peak expiratory flow of 17 subjects (l/min), first reading with each meter.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]

# Shrout & Fleiss, Psychol Bull 1979, table 2: four judges, six targets; and its table 4.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
TABLE_4 = {"ICC(1,1)": 0.17, "ICC(2,1)": 0.29, "ICC(3,1)": 0.71, "ICC(1,k)": 0.44, "ICC(2,k)": 0.62, "ICC(3,k)": 0.91}


def test_bland_altman_equals_the_article() -> None:
    result = bland_altman(LARGE, MINI, limits_at=2)
    assert round(result.bias, 1) == -2.1
    assert round(result.sd, 1) == 38.8
    # The article computes on with the rounded numbers: -2.1 - 2 * 38.8 and -2.1 + 2 * 38.8.
    assert result.limits == pytest.approx((-79.7, 75.5), abs=0.1)
    assert result.bias_ci == pytest.approx((-22.0, 17.8), abs=0.1)
    # The intervals of the limits are exact; the article's, −114.3 to −45.1 and 40.9 to 110.1, are too narrow outside.
    (low, high), (other_low, other_high) = result.lower_ci, result.upper_ci
    assert low < -114.3 and -57 < high < -45.1
    assert (other_low, other_high) == pytest.approx((2 * result.bias - high, 2 * result.bias - low))


@pytest.mark.parametrize("n", [3, 4, 5, 10, 25])
def test_intervals_of_95_percent_hold_the_truth_in_95_percent_of_cases(n: int) -> None:
    rows = load_benchmark("verdict").measure_intervals(600, (n,))
    for what in ("mean", "bias", "upper limit"):
        assert 0.92 <= rows[0][what] <= 0.98, (what, rows[0])


def test_two_mice_have_no_interval_and_one_has_its_difference() -> None:
    two = bland_altman([1.0, 3.0], [0.0, 1.0])
    assert np.isnan([two.bias_ci, two.lower_ci, two.upper_ci]).all() and np.isfinite(two.limits).all()
    assert np.isnan(compute_mean_interval([1.0, 2.0])).all()
    one = bland_altman([1.0], [3.0])
    assert one.bias == -2.0 and np.isnan(one.sd) and np.isnan(one.limits).all()


def test_holm_equals_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = [0.001, 0.04, 0.02, 0.3]
    assert adjust_holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert np.isnan(adjust_holm([0.01, np.nan])[1]) and adjust_holm([0.01, np.nan])[0] == 0.01


def test_a_bias_that_grows_with_the_size_is_found() -> None:
    truth = np.linspace(20, 60, 12)
    assert correlate_bias_with_size(truth * 1.1, truth).r == pytest.approx(1.0)
    noise = np.random.default_rng(0).normal(0, 1, 12)
    assert correlate_bias_with_size(truth + noise, truth).p > 0.05


def test_icc_equals_shrout_and_fleiss() -> None:
    result = icc(JUDGES)
    assert {form: round(v, 2) for form, v in result["icc"].items()} == TABLE_4
    low, high = result.loc["ICC(3,1)", ["ci_low", "ci_high"]]
    assert (round(low, 2), round(high, 2)) == (0.34, 0.95)
    assert round(low, 6) != round(low, 2), "intervals are not rounded"


def test_icc_of_perfect_and_of_too_few_ratings() -> None:
    perfect = icc(np.repeat(np.arange(6.0)[:, None], 2, axis=1))
    assert perfect.loc["ICC(2,1)", "icc"] == pytest.approx(1.0)
    assert icc([[1, 2], [2, 3]])["icc"].isna().all()
    assert icc(np.ones((8, 2)))["icc"].isna().all()


def long_dice() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for mouse in range(9):
        offset = rng.normal(0, 0.02)
        for i, phase in enumerate(("ED", "ES")):
            for j, structure in enumerate(("muscle", "pool")):
                rows.append((f"M{mouse}", phase, structure, 0.9 + offset + 0.01 * i + 0.03 * j + rng.normal(0, 0.01)))
    return pd.DataFrame(rows, columns=["mouse", "phase", "structure", "dice"])


def test_anova_equals_statsmodels() -> None:
    from statsmodels.stats.anova import AnovaRM

    table = long_dice()
    ours = anova(table, "dice", ("phase", "structure"), "mouse")
    expected = AnovaRM(table, "dice", "mouse", within=["phase", "structure"]).fit().anova_table
    for effect, other in (("phase", "phase"), ("structure", "structure"), ("phase × structure", "phase:structure")):
        assert ours.loc[effect, "f"] == pytest.approx(expected.loc[other, "F Value"], rel=1e-6)
        assert ours.loc[effect, "p"] == pytest.approx(expected.loc[other, "Pr > F"], rel=1e-6)
        assert ours.loc[effect, "df2"] == expected.loc[other, "Den DF"] == 8


def test_anova_leaves_out_mice_that_lack_a_cell() -> None:
    table = long_dice()
    missing = table.drop(table.index[-1])
    ours = anova(missing, "dice", ("phase", "structure"), "mouse")
    whole = anova(table[table["mouse"] != "M8"], "dice", ("phase", "structure"), "mouse")
    pd.testing.assert_frame_equal(ours, whole)
    assert anova(table[table["mouse"] == "M1"], "dice", ("phase", "structure"), "mouse").empty


def test_correlations_and_the_paired_test() -> None:
    r = pearson(LARGE, MINI)
    assert r.r == pytest.approx(0.943, abs=5e-4), "the article prints 0.94"
    assert r.ci[0] < r.r < r.ci[1]
    assert spearman(LARGE, MINI).r == pytest.approx(pd.Series(LARGE).corr(pd.Series(MINI), method="spearman"))
    t = np.mean(np.subtract(LARGE, MINI)) / (np.std(np.subtract(LARGE, MINI), ddof=1) / np.sqrt(17))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.stats.weightstats import DescrStatsW
    assert run_paired_t_test(LARGE, MINI) == pytest.approx(DescrStatsW(np.subtract(LARGE, MINI)).ttest_mean()[1])
    assert abs(t) < 2.12


def test_undefined_statistics_are_nan_without_a_warning() -> None:
    same = [1.0, 2.0, 3.0]
    assert np.isnan(run_paired_t_test(same, same))
    assert np.isnan(run_paired_t_test(np.add(same, 0.1), same)), "differences that do not vary have no test"
    assert np.isnan(pearson([1, 1, 1], same).r)
    assert np.isnan(bland_altman([], []).bias)
    assert bland_altman([1.0, np.nan, 3.0], [0.0, 5.0, 2.0]).n == 2


def test_from_20_mice_on_the_interval_of_a_mean_is_a_reproducible_bootstrap() -> None:
    values = np.random.default_rng(0).normal(5, 2, 40)
    low, high = compute_mean_interval(values)
    assert (low, high) == compute_mean_interval(values)
    error = values.std(ddof=1) / np.sqrt(40)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15)


def test_groups_that_differ_have_a_small_p_in_truth_and_prediction() -> None:
    mice = cohort(8)
    for k, ds in enumerate(mice.values()):
        ds.attrs["phenotype"] = "small" if k < 4 else "large"
        ds["mask"].values[:, :, :20, :10] = 0 if k < 4 else 2
    result = evaluate({m: ds["mask"].values for m, ds in mice.items()}, mice.values())
    p = compare_groups(result)
    assert p.loc["EDV", "p_truth"] == p.loc["EDV", "p_predicted"] < 0.05
    assert tabulate_groups(result)["n"].to_dict() == {"large": 4, "small": 4}
    single = evaluate({"M0": mice["M0"]["mask"].values}, [mice["M0"]])
    assert compare_groups(single)["p_truth"].isna().all()
