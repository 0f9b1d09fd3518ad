"""Judge measured numbers by the published ones: agrees, better or differs, with a stated rate of error.

The published numbers are of N mice of a split that was not published, so even the same network, on other mice of the
same kind, will not repeat them digit by digit. A row is judged by the test of two samples of one population, with the
published spread (N − 1 degrees of freedom) and half a unit of the last printed digit allowed:

- bias, and mean Dice: Student's t with the standard error SD · √(1/N + 1/n);
- SD of the differences (the width of the limits of agreement): F test of the two variances;
- "at least": the mean Dice by Student's t, the smallest of the six ICC by its interval (Fisher's z), one-sided.

The level of a row is :data:`LEVEL` divided by the number of rows that are judged in all cohorts (Bonferroni). So the
same network, measured once more, agrees in at least 95 of 100 cases at any number of mice; ``benchmarks/verdict.py``
measures this. All other rows are shown and not judged, each with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mousecmr_data.evaluation.result import Evaluation
from mousecmr_data.evaluation.tables import (
    PAIR,
    compute_mean_dice,
    list_missed_hearts,
    tabulate_agreement,
    tabulate_overlap,
)
from mousecmr_data.metrics.agreement import LIMITS_SD
from mousecmr_data.schema.manifest import Published, PublishedBound, PublishedDice, PublishedMeasure
from mousecmr_data.schema.variables import ED, ES

LEVEL = 0.03
"""Of all rows together. Less than 0.05, because the errors in the article's figure have heavier tails than normal."""
INTERNAL = "internal"
AGREES, BETTER, DIFFERS = "agrees", "better", "differs"
"""The outcomes."""
SHOWN, NOT_MEASURED = "shown", "not measured"
"""Verdicts of rows that are not judged."""


@dataclass(frozen=True)
class PublishedRow:
    """A published number beside the measured one; NaN is missing."""

    name: str
    what: str
    unit: str
    published: float
    published_sd: float
    measured: float
    """As the article took it: SDs and limits with n in the denominator (ddof 0), r is Pearson's."""
    measured_sd: float
    ours: float
    """The same number with n − 1; for r, Spearman's ρ."""
    low: float
    high: float
    """The row agrees while ``measured`` is between these two."""
    verdict: str
    reason: str = ""
    """Why the row is not judged."""
    ours_sd: float = math.nan
    """``measured_sd`` with n − 1, of the values themselves."""

    @property
    def judged(self) -> bool:
        """Whether the row counts in the outcome."""
        return self.verdict in (AGREES, BETTER, DIFFERS)


def compare_with_published(
    evaluation: Evaluation, published: Published, cohort: str = INTERNAL, cohorts: int = 1
) -> list[PublishedRow]:
    """Compare a cohort with the rows of ``published``: all rows for "internal", only bounds for other cohorts.

    ``cohorts`` is the number of cohorts that are judged together: the rate of error is for all of them.
    """
    bounds = [b for b in published.bounds if b.cohort in (cohort, "every")]
    level = get_row_level(published, cohort) / cohorts
    measures = tabulate_agreement(evaluation)
    rows: list[PublishedRow] = []
    if cohort == INTERNAL:
        dice = tabulate_overlap(evaluation)
        scores = {(r["structure"], r["phase"]): r for r in dice[dice["score"] == "dice"].to_dict("records")}
        for m in published.measures:
            rows += compare_measure(m, dict(measures.loc[m.name]), published.n_mice, level)
        rows += [compare_dice(d, scores, published.n_mice, level) for d in published.dice]
        rows += _list_others(evaluation, published)
    return [*rows, *(_compare_bound(b, evaluation, measures, level) for b in bounds)]


def get_row_level(published: Published, cohort: str = INTERNAL) -> float:
    """Return the level of one row: :data:`LEVEL` divided by the number of rows that are judged."""
    n_judged = sum(b.cohort in (cohort, "every") for b in published.bounds)
    if cohort == INTERNAL:
        n_judged += 2 * len(published.measures) + sum(d.phase in (ED, ES) for d in published.dice)
    return LEVEL / max(1, n_judged)


def judge(evaluation: Evaluation, rows: Iterable[PublishedRow]) -> tuple[str | None, list[str]]:
    """Return the outcome of a cohort, and what it is because of; None where no row could be judged.

    A heart that was missed (a structure of the truth of which nothing was predicted) always differs: the article's
    worst stack has a Dice of 0.87, so it has none. Leaving hearts out can therefore not improve an outcome.
    """
    judged = [r for r in rows if r.judged]
    reasons = [f"{m}: nothing was predicted" for m in list_missed_hearts(evaluation)]
    if reasons:
        return DIFFERS, reasons
    for outcome in (DIFFERS, BETTER):
        if reasons := [f"{r.name}, {r.what}" for r in judged if r.verdict == outcome]:
            return outcome, reasons
    return (AGREES, []) if judged else (None, ["no row could be judged"])


def compare_measure(m: PublishedMeasure, now: Mapping[str, Any], n_published: int, level: float) -> list[PublishedRow]:
    """Compare a measure: ``now`` is its row of :func:`~mousecmr_data.evaluation.tables.tabulate_agreement`."""
    n = int(now["n"])
    to_article = ((n - 1) / n) ** 0.5 if n > 1 else math.nan
    low, high = m.limits_of_agreement
    sd, sd_now = (high - low) / (2 * LIMITS_SD), float(now["sd"])
    sd_sample = sd * _get_sample_factor(n_published)
    bias, spread = float(now["bias"]), LIMITS_SD * sd_now * to_article
    bias_limits = _find_mean_limits(m.bias, sd_sample, n, n_published, level, 0.05)
    sd_low, sd_high = _find_sd_limits(sd_sample, n, n_published, level, 0.1)
    sd_limits = (sd_low * to_article, sd_high * to_article)

    def show(what: str, value: float, measured: float, ours: float, reason: str, *sds: float) -> PublishedRow:
        of_published, of_measured = sds or (math.nan, math.nan)
        unit = "" if what in ("r", "p") else m.unit
        numbers = (measured, of_measured * to_article, ours)
        row = _make_row(m.name, what, unit, (value, of_published), numbers, (math.nan,) * 2, SHOWN, reason)
        return replace(row, ours_sd=float(of_measured))

    def test(
        what: str, value: float, measured: float, ours: float, limits: tuple[float, float], better: bool
    ) -> PublishedRow:
        numbers, verdict = (measured, math.nan, ours), _decide(measured, limits, better)
        return _make_row(m.name, what, m.unit, (value, math.nan), numbers, limits, verdict)

    follows = "follows from the bias and the SD of the differences"
    return [
        show("truth", m.truth[0], now["truth_mean"], now["truth_mean"], m.note or "describes the mice, not the network",
             m.truth[1], now["truth_sd"]),
        show("model", m.model[0], now["model_mean"], now["model_mean"], "follows from the truth and the bias",
             m.model[1], now["model_sd"]),
        test("bias", m.bias, bias, bias, bias_limits, abs(bias) < abs(m.bias)),
        test("SD of the differences", sd, sd_now * to_article, sd_now, sd_limits, sd_now * to_article < sd),
        show("lower limit", low, bias - spread, now["lower"], follows),
        show("upper limit", high, bias + spread, now["upper"], follows),
        show("r", m.r, now["r"], now["rho"], "depends on the spread of the mice; the article's r is Pearson's"),
        show("p", m.p, now["p"], now["p"], "depends on the number of mice"),
    ]  # fmt: skip


def compare_dice(
    d: PublishedDice, scores: Mapping[tuple[Any, Any], Any], n_published: int, level: float
) -> PublishedRow:
    """Compare a Dice: ``scores`` has mean, sd and n by structure and phase."""
    mean = sd = math.nan
    n = 0
    if row := scores.get((d.structure, d.phase)):
        mean, n = float(row["mean"]), int(row["n"])
        sd = float(row["sd"]) * ((n - 1) / n) ** 0.5
    name, numbers = f"Dice {d.structure}, {d.phase}", (mean, sd, mean)
    if d.phase == PAIR:
        limits = (math.nan, math.nan)
        return _make_row(name, "mean", "", (d.mean, d.sd), numbers, limits, SHOWN, "the mean of ED and ES")
    sample = (d.sd + 0.005) * _get_sample_factor(n_published)  # the largest SD that is printed so
    limits = _find_mean_limits(d.mean, sample, n, n_published, level, 0.005)
    return _make_row(name, "mean", "", (d.mean, d.sd), numbers, limits, _decide(mean, limits, mean > d.mean))


def _compare_bound(bound: PublishedBound, evaluation: Evaluation, measures: pd.DataFrame, level: float) -> PublishedRow:
    low = math.nan
    if bound.what == "mean Dice":
        dice = compute_mean_dice(evaluation).to_numpy(float)
        value, n = float(dice.mean()), dice.size
        if n > 2:
            low = bound.at_least - 0.005 - float(stats.t.isf(level, n - 1)) * float(dice.std(ddof=1)) * n**-0.5
    else:
        forms = measures[["icc_2_1", "icc_2_1_high"]].dropna().clip(upper=1 - 1e-9).sort_values("icc_2_1")
        value = float(forms["icc_2_1"].min())
        if len(forms):
            z, z_high = np.arctanh(forms.iloc[0])
            error = float(z_high - z) / float(stats.norm.ppf(0.975))
            low = float(np.tanh(np.arctanh(bound.at_least - 0.005) - stats.norm.isf(level / len(forms)) * error))
    reached = value >= bound.at_least - 0.005  # printed with two digits
    verdict = AGREES if reached else _decide(value, (low, math.inf), False)
    return _make_row(
        bound.what, "at least", "", (bound.at_least, math.nan), (value, math.nan, value), (low, math.nan), verdict
    )


def _list_others(evaluation: Evaluation, published: Published) -> list[PublishedRow]:
    """Return the rows of best, median and worst Dice, which no test compares."""
    dice = compute_mean_dice(evaluation)
    now = (dice.max(), dice.median(), dice.min())
    limits, names = (math.nan, math.nan), ("best", "median", "worst")
    reason = "depends on the number of mice"
    return [
        _make_row("Dice of the stack", what, "", (value, math.nan), (v, math.nan, v), limits, SHOWN, reason)
        for what, value, v in zip(names, published.ranked_dice, now, strict=False)
    ]


def _make_row(
    name: str,
    what: str,
    unit: str,
    published: tuple[float, float],
    measured: tuple[float, float, float],
    limits: Sequence[float],
    verdict: str,
    reason: str = "",
) -> PublishedRow:
    low, high = map(float, limits)
    value, sd, ours = map(float, measured)
    return PublishedRow(name, what, unit, *published, value, sd, ours, low, high, verdict, reason)


def _decide(value: float, limits: tuple[float, float], better: bool) -> str:
    low, high = limits
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return NOT_MEASURED
    return AGREES if low <= value <= high else BETTER if better else DIFFERS


def _get_sample_factor(n: int) -> float:
    """Return the factor from the SD with n in the denominator, as published, to that with n − 1."""
    return (n / (n - 1)) ** 0.5 if n > 1 else math.nan


def _find_mean_limits(
    published: float, sd: float, n: int, n_published: int, level: float, rounding: float
) -> tuple[float, float]:
    if not n or n_published < 2:
        return math.nan, math.nan
    half = rounding + float(stats.t.isf(level / 2, n_published - 1)) * sd * (1 / n_published + 1 / n) ** 0.5
    return published - half, published + half


def _find_sd_limits(sd: float, n: int, n_published: int, level: float, rounding: float) -> tuple[float, float]:
    if n < 2 or n_published < 2:
        return math.nan, math.nan
    low, high = np.sqrt(stats.f.ppf([level / 2, 1 - level / 2], n - 1, n_published - 1))
    slack = rounding / (2 * LIMITS_SD)  # of the two printed limits
    return float((sd - slack) * low), float((sd + slack) * high)
