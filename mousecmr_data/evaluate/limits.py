"""Two measurements of the same mice: bias, limits of agreement, paired test, correlation, bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mousecmr_data.errors import ArgumentError

Interval = tuple[float, float]
Values = NDArray[np.float64]

LIMITS_AT = 1.96
"""Standard deviations from the bias to a limit of agreement (Bland & Altman 1986 round it to 2 in their example)."""
CONFIDENCE = 0.95
RESAMPLES = 2000
NOTHING: Interval = (np.nan, np.nan)


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


def bland_altman(prediction: ArrayLike, truth: ArrayLike, *, limits_at: float = LIMITS_AT) -> BlandAltman:
    """Bias and limits of agreement with 95 % confidence intervals.

    Intervals as in the article: t with n − 1 degrees of freedom, standard errors s/√n of the bias and √(3s²/n) of a
    limit. Pairs with a missing (NaN) value are left out. With fewer than two pairs everything but ``n`` is NaN.
    """
    a, b = paired(prediction, truth)
    n = a.size
    if n < 2:
        return BlandAltman(n, np.nan, np.nan, NOTHING, NOTHING, NOTHING, NOTHING)
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
    ci: Interval = NOTHING


def pearson(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Pearson's r; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = paired(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    found = stats.pearsonr(x, y)
    r = float(found.statistic)
    ci = found.confidence_interval(CONFIDENCE) if x.size > 3 and abs(r) < 1 - 1e-12 else NOTHING
    return Correlation(r, float(found.pvalue), (float(ci[0]), float(ci[1])))


def spearman(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Spearman's rho; NaN for fewer than three pairs or a variable that does not vary."""
    x, y = paired(a, b)
    if not _varies(x, y):
        return Correlation(np.nan, np.nan)
    found: Any = stats.spearmanr(x, y)
    return Correlation(float(found.statistic), float(found.pvalue))


def paired_t(prediction: ArrayLike, truth: ArrayLike) -> float:
    """p of the paired t-test; NaN where it says nothing: fewer than two pairs, or differences that do not vary."""
    a, b = paired(prediction, truth)
    differences = a - b
    if a.size < 2 or np.ptp(differences) <= 1e-9 * max(1.0, float(np.abs(a).max())):
        return float("nan")
    return float(stats.ttest_rel(a, b).pvalue)


def bootstrap(
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
        return NOTHING
    drawn = np.random.default_rng(seed).integers(0, array.size, (resamples, array.size))
    low, high = np.percentile(statistic(array[drawn], axis=-1), [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def paired(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    """Both as floats, without the pairs in which one is missing."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ArgumentError(f"The values have the shapes {x.shape} and {y.shape}.", "two rows of one length")
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _varies(x: Values, y: Values) -> bool:
    return x.size > 2 and all(np.ptp(v) > 1e-12 * max(1.0, float(np.abs(v).max())) for v in (x, y))
