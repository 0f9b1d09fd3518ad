"""Agreement of two measurements of the same mice.

Bias and limits of agreement, paired test, correlation, intervals, and the intraclass correlation and repeated-measures
ANOVA of pingouin (the extra ``evaluation``). pingouin takes seconds to import, so it is imported on the first call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mousecmr_data._utils.environment import import_matplotlib, require_extra
from mousecmr_data.errors import ArgumentError

ICC_FORMS: dict[str, str] = {
    "ICC(1,1)": "one-way random effects, single rater",
    "ICC(2,1)": "two-way random effects, absolute agreement, single rater",
    "ICC(3,1)": "two-way mixed effects, consistency, single rater",
    "ICC(1,k)": "one-way random effects, mean of the raters",
    "ICC(2,k)": "two-way random effects, absolute agreement, mean of the raters",
    "ICC(3,k)": "two-way mixed effects, consistency, mean of the raters",
}
"""The forms of the intraclass correlation, named as in Shrout & Fleiss, Psychol Bull 1979;86:420-428."""

_PINGOUIN = {"ICC(A,1)": "ICC(2,1)", "ICC(C,1)": "ICC(3,1)", "ICC(A,k)": "ICC(2,k)", "ICC(C,k)": "ICC(3,k)"}


def icc(ratings: ArrayLike) -> pd.DataFrame:
    """Return the six intraclass correlations of ``ratings`` (target, rater), by form.

    Columns: icc, ci_low, ci_high (95 %), f, df1, df2, p, meaning. Targets with a missing rating are dropped; the
    numbers are NaN if fewer than five targets remain or the ratings do not vary.
    """
    table = np.asarray(ratings, float)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ArgumentError(f"The ratings have the shape {table.shape}.", "(target, rater) with two raters or more")
    table = table[np.isfinite(table).all(axis=1)]
    columns = ["icc", "ci_low", "ci_high", "f", "df1", "df2", "p"]
    rows: dict[str, list[float]] = {form: [np.nan] * len(columns) for form in ICC_FORMS}
    if len(table) >= 5 and np.ptp(table) > 0:
        target, rater = (index.ravel() for index in np.indices(table.shape))
        long = pd.DataFrame({"target": target, "rater": rater, "rating": table.ravel()})
        with _pingouin() as pg:
            result = pg.intraclass_corr(long, targets="target", raters="rater", ratings="rating")
        for row in result.to_dict("records"):
            low, high = row["CI95"]
            form = _PINGOUIN.get(row["Type"], row["Type"])
            rows[form] = [float(v) for v in (row["ICC"], low, high, row["F"], row["df1"], row["df2"], row["pval"])]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).assign(meaning=pd.Series(ICC_FORMS))


def anova(data: pd.DataFrame, value: str, within: tuple[str, str], subject: str) -> pd.DataFrame:
    """Return the two-way repeated-measures ANOVA of ``value``, one row per effect.

    Columns: f, df1, df2, p, ng2 (generalised eta squared). ``data`` is long: one row per subject and cell of the two
    factors ``within``. Subjects that lack a cell are dropped; if fewer than two remain, the table is empty.
    """
    cells = data.dropna(subset=[value]).groupby([subject, *within], observed=True)[value].mean().reset_index()
    n_cells = int(np.prod([cells[factor].nunique() for factor in within]))
    cells = cells[cells.groupby(subject)[value].transform("size") == n_cells]
    columns = {"F": "f", "ddof1": "df1", "ddof2": "df2", "p_unc": "p", "ng2": "ng2"}
    if n_cells < 4 or cells[subject].nunique() < 2 or np.ptp(cells[value]) == 0:
        return pd.DataFrame(columns=list(columns.values()), dtype=float)
    with _pingouin() as pg:
        result: pd.DataFrame = pg.rm_anova(data=cells, dv=value, within=list(within), subject=subject)
    result["Source"] = result["Source"].str.replace(" * ", " × ", regex=False)
    return result.set_index("Source")[list(columns)].rename(columns=columns).rename_axis(None)


@contextmanager
def _pingouin() -> Iterator[Any]:
    """Import pingouin, with intervals in full precision and without its warnings about other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require_extra("evaluation", "pingouin")
        import_matplotlib()  # pingouin imports it
        import pingouin  # type: ignore[import-untyped]

        key = "round.column.CI95"
        before = pingouin.options[key]
        pingouin.options[key] = 15
        try:
            yield pingouin
        finally:
            pingouin.options[key] = before


Interval = tuple[float, float]
Values = NDArray[np.float64]

LIMITS_SD = 1.96
"""Standard deviations from the bias to a limit of agreement (Bland & Altman 1986 round it to 2 in their example)."""
CONFIDENCE = 0.95
RESAMPLES = 2000
MIN_FOR_INTERVAL, MIN_FOR_BOOTSTRAP = 3, 20
"""Fewest mice for any interval, and for one by bootstrap: percentile intervals of 5 mice hold the true mean in 83 %
instead of 95 % of cases."""
NO_INTERVAL: Interval = (np.nan, np.nan)


@dataclass(frozen=True)
class BlandAltman:
    """Differences prediction − truth (Bland & Altman, Lancet 1986;327:307-310)."""

    n: int
    bias: float
    sd: float
    """Standard deviation of the differences (n − 1)."""
    limits: Interval
    bias_ci: Interval
    lower_ci: Interval
    upper_ci: Interval


def bland_altman(prediction: ArrayLike, truth: ArrayLike, *, limits_at: float = LIMITS_SD) -> BlandAltman:
    """Return bias and limits of agreement with 95 % confidence intervals.

    Intervals: of the bias, t with n − 1 degrees of freedom; of a limit, exact for normal differences by the noncentral
    t distribution (Carkeet, Optom Vis Sci 2015;92:e71-e80), at any n. Pairs with a missing (NaN) value are dropped.
    One pair has a bias, its difference, and nothing else; two pairs have limits without intervals.
    """
    a, b = drop_missing_pairs(prediction, truth)
    n = a.size
    differences = a - b
    bias = float(differences.mean()) if n else np.nan
    if n < 2:
        return BlandAltman(n, bias, np.nan, NO_INTERVAL, NO_INTERVAL, NO_INTERVAL, NO_INTERVAL)
    sd = float(differences.std(ddof=1))
    low, high = bias - limits_at * sd, bias + limits_at * sd
    if n < MIN_FOR_INTERVAL:
        return BlandAltman(n, bias, sd, (low, high), NO_INTERVAL, NO_INTERVAL, NO_INTERVAL)
    error, tails = sd * n**-0.5, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    inner, outer = (error * stats.nct.ppf(tails, n - 1, limits_at * n**0.5)).tolist()
    half = error * float(stats.t.ppf(tails[1], n - 1))
    lower_ci, upper_ci = (bias - outer, bias - inner), (bias + inner, bias + outer)
    return BlandAltman(n, bias, sd, (low, high), (bias - half, bias + half), lower_ci, upper_ci)


def compute_variation(a: ArrayLike, b: ArrayLike) -> float:
    """Return the coefficient of variation of two measurements of the same mice, in percent.

    The standard deviation of the differences divided by the mean of both, as studies of the reproducibility of CMR
    state it (Grothues et al., Am J Cardiol 2002;90:29-34). NaN for fewer than two pairs.
    """
    x, y = drop_missing_pairs(a, b)
    mean = float(np.mean([x, y])) if x.size > 1 else 0.0
    return 100 * float((x - y).std(ddof=1)) / mean if mean else float("nan")


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient with its p-value and, for Pearson's, its 95 % interval (Fisher's z)."""

    r: float
    p: float
    ci: Interval = NO_INTERVAL


def pearson(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Return Pearson's r; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = drop_missing_pairs(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    result = stats.pearsonr(x, y)
    r = float(result.statistic)
    ci = result.confidence_interval(CONFIDENCE) if x.size > 3 and abs(r) < 1 - 1e-12 else NO_INTERVAL
    return Correlation(r, float(result.pvalue), (float(ci[0]), float(ci[1])))


def spearman(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Return Spearman's rho; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = drop_missing_pairs(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    result: Any = stats.spearmanr(x, y)
    return Correlation(float(result.statistic), float(result.pvalue))


def run_paired_t_test(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Return p of the paired t-test; NaN for fewer than two pairs or differences that do not vary."""
    a, b = drop_missing_pairs(prediction, truth)
    differences = a - b
    if a.size < 2 or np.ptp(differences) <= 1e-9 * max(1.0, float(np.abs(a).max())):
        return float("nan")
    return float(stats.ttest_rel(a, b).pvalue)


def correlate_bias_with_size(prediction: ArrayLike, truth: ArrayLike) -> Correlation:
    """Return Pearson's correlation of the differences prediction − truth with the means of both.

    A bias that grows with the size shows as a correlation (Bland & Altman, Lancet 1986;327:307-310).
    """
    a, b = drop_missing_pairs(prediction, truth)
    return pearson(a - b, (a + b) / 2)


def adjust_holm(p: ArrayLike) -> Values:
    """Return p-values adjusted for the number of tests by Holm's method (Scand J Stat 1979;6:65-70); NaN stays NaN."""
    with _pingouin() as pg:
        return np.asarray(pg.multicomp(np.asarray(p, float), method="holm")[1], float)


def compute_mean_interval(values: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the 95 % interval of the mean of ``values`` (mouse,); missing values are dropped.

    One number per mouse, because the measurements of one mouse are not independent. With 20 mice or more it is the
    percentile interval of a bootstrap over mice (the same seed gives the same interval), with 3 to 19 that of Student's
    t. Fewer have none (NaN).
    """
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    n = array.size
    if n < MIN_FOR_INTERVAL:
        return NO_INTERVAL
    if n < MIN_FOR_BOOTSTRAP:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * array.std(ddof=1) * n**-0.5)
        return float(array.mean()) - half, float(array.mean()) + half
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    low, high = np.percentile(array[drawn].mean(axis=1), [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def drop_missing_pairs(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    """Return both as floats, without the pairs in which a value is missing."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ArgumentError(f"The values have the shapes {x.shape} and {y.shape}.", "two lists of equal length")
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _varies(x: Values, y: Values) -> bool:
    return x.size > 2 and all(np.ptp(v) > 1e-12 * max(1.0, float(np.abs(v).max())) for v in (x, y))
