"""Two measurements of the same mice: bias, limits of agreement, paired test, correlation, bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mousecmr_data.errors import ArgumentError, MissingExtraError

# MERGED metrics.agreement: What a statistics library has and SciPy has not: intraclass correlation, repeated-measures ANOVA.
#
# The only module that imports pingouin (the extra ``evaluation``); it takes seconds to import, so it is imported
# when a function is called.


FORMS: dict[str, str] = {
    "ICC(1,1)": "one-way random effects, single rater",
    "ICC(2,1)": "two-way random effects, absolute agreement, single rater",
    "ICC(3,1)": "two-way mixed effects, consistency, single rater",
    "ICC(1,k)": "one-way random effects, mean of the raters",
    "ICC(2,k)": "two-way random effects, absolute agreement, mean of the raters",
    "ICC(3,k)": "two-way mixed effects, consistency, mean of the raters",
}
"""The forms by their names in Shrout & Fleiss, Psychol Bull 1979;86:420-428."""

_PINGOUIN = {"ICC(A,1)": "ICC(2,1)", "ICC(C,1)": "ICC(3,1)", "ICC(A,k)": "ICC(2,k)", "ICC(C,k)": "ICC(3,k)"}


def icc(ratings: ArrayLike) -> pd.DataFrame:
    """The six intraclass correlations of ``ratings`` (target, rater), by form.

    Columns: icc, ci_low, ci_high (95 %), f, df1, df2, p, meaning. Targets with a missing rating are left out; for
    fewer than five that are left, or ratings that do not vary, the numbers are NaN.
    """
    table = np.asarray(ratings, float)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ArgumentError(f"The ratings have the shape {table.shape}.", "(target, rater) with two raters or more")
    table = table[np.isfinite(table).all(axis=1)]
    columns = ["icc", "ci_low", "ci_high", "f", "df1", "df2", "p"]
    rows: dict[str, list[float]] = {form: [np.nan] * len(columns) for form in FORMS}
    if len(table) >= 5 and np.ptp(table) > 0:
        n, k = table.shape
        with _pingouin() as pg:
            long = pd.DataFrame(
                {"target": np.repeat(np.arange(n), k), "rater": np.tile(np.arange(k), n), "rating": table.ravel()}
            )
            found = pg.intraclass_corr(long, targets="target", raters="rater", ratings="rating")
        for row in found.to_dict("records"):
            low, high = row["CI95"]
            form = _PINGOUIN.get(row["Type"], row["Type"])
            rows[form] = [float(v) for v in (row["ICC"], low, high, row["F"], row["df1"], row["df2"], row["pval"])]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).assign(meaning=pd.Series(FORMS))


def anova(data: pd.DataFrame, value: str, within: tuple[str, str], subject: str) -> pd.DataFrame:
    """Two-way repeated-measures ANOVA of ``value``, a row an effect: f, df1, df2, p, ng2 (generalised eta squared).

    ``data`` is long: one row per subject and cell of the two factors ``within``. Subjects that lack a cell are left
    out; with fewer than two that are left, the table is empty.
    """
    cells = data.dropna(subset=[value]).groupby([subject, *within], observed=True)[value].mean().reset_index()
    full = int(np.prod([cells[w].nunique() for w in within]))
    whole = cells.groupby(subject)[value].transform("size") == full
    cells = cells[whole]
    empty = pd.DataFrame(columns=["f", "df1", "df2", "p", "ng2"], dtype=float)
    if full < 4 or cells[subject].nunique() < 2 or np.ptp(cells[value]) == 0:
        return empty
    with _pingouin() as pg:
        found = pg.rm_anova(data=cells, dv=value, within=list(within), subject=subject)
    names = {"F": "f", "ddof1": "df1", "ddof2": "df2", "p_unc": "p", "ng2": "ng2"}
    found["Source"] = found["Source"].str.replace(" * ", " × ", regex=False)
    renamed: pd.DataFrame = found.set_index("Source")[list(names)].rename(columns=names).rename_axis(None)
    return renamed


@contextmanager
def _pingouin() -> Iterator[Any]:
    """pingouin, with intervals in full precision and without its warnings about other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pingouin  # type: ignore[import-untyped]
        except ImportError as e:
            raise MissingExtraError.from_module("pingouin", "evaluation") from e
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
    """Bias and limits of agreement with 95 % confidence intervals.

    Intervals as in the article: t with n − 1 degrees of freedom, standard errors s/√n of the bias and √(3s²/n) of a
    limit. Pairs with a missing (NaN) value are left out. With fewer than two pairs everything but ``n`` is NaN.
    """
    a, b = drop_missing_pairs(prediction, truth)
    n = a.size
    if n < 2:
        return BlandAltman(n, np.nan, np.nan, NO_INTERVAL, NO_INTERVAL, NO_INTERVAL, NO_INTERVAL)
    differences = a - b
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    low, high = bias - limits_at * sd, bias + limits_at * sd
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    of_bias, of_limit = t * sd * n**-0.5, t * sd * (3 / n) ** 0.5
    return BlandAltman(
        n,
        bias,
        sd,
        (low, high),
        (bias - of_bias, bias + of_bias),
        (low - of_limit, low + of_limit),
        (high - of_limit, high + of_limit),
    )


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient with its p-value and, for Pearson's, its 95 % interval (Fisher's z)."""

    r: float
    p: float
    ci: Interval = NO_INTERVAL


def pearson(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Pearson's r; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = drop_missing_pairs(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    found = stats.pearsonr(x, y)
    r = float(found.statistic)
    ci = found.confidence_interval(CONFIDENCE) if x.size > 3 and abs(r) < 1 - 1e-12 else NO_INTERVAL
    return Correlation(r, float(found.pvalue), (float(ci[0]), float(ci[1])))


def spearman(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Spearman's rho; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = drop_missing_pairs(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    found: Any = stats.spearmanr(x, y)
    return Correlation(float(found.statistic), float(found.pvalue))


def run_paired_t_test(prediction: ArrayLike, truth: ArrayLike) -> float:
    """p of the paired t-test; NaN where it says nothing: fewer than two pairs, or differences that do not vary."""
    a, b = drop_missing_pairs(prediction, truth)
    differences = a - b
    if a.size < 2 or np.ptp(differences) <= 1e-9 * max(1.0, float(np.abs(a).max())):
        return float("nan")
    return float(stats.ttest_rel(a, b).pvalue)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of ``statistic`` (with an ``axis``) over mice drawn with replacement.

    ``values`` is (mouse,): one number a mouse, so that what belongs to one mouse stays together. Missing ones are
    left out. The same seed gives the same interval.
    """
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    if array.size < 2:
        return NO_INTERVAL
    drawn = np.random.default_rng(seed).integers(0, array.size, (resamples, array.size))
    low, high = np.percentile(statistic(array[drawn], axis=-1), [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def drop_missing_pairs(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    """Both as floats, without the pairs in which one is missing."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ArgumentError(f"The values have the shapes {x.shape} and {y.shape}.", "two rows of one length")
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _varies(x: Values, y: Values) -> bool:
    return x.size > 2 and all(np.ptp(v) > 1e-12 * max(1.0, float(np.abs(v).max())) for v in (x, y))
