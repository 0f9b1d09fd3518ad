"""The published table beside a measured one, row by row, with a tolerance and a verdict.

The published numbers are of 25 mice of a split that was not published, so even the same network, on other mice of
the same kind, will not repeat them digit by digit. A row agrees when the two numbers differ by no more than two
samples of one population do in 95 of 100 cases (normal theory), plus half a unit of the last printed digit:

- mean: 1.96 · SD · √(1/25 + 1/n), with the published SD;
- bias: the same with the SD of the differences, (upper − lower limit) / 3.92;
- a limit of agreement: √3 times that of the bias (Bland & Altman 1986);
- r: 1.96 · √(1/22 + 1/(n − 3)) on Fisher's z, given here as the distance to its farther end;
- p: agrees when it lies on the same side of 0.05;
- a published bound ("at least"): agrees when it is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mousecmr_data.evaluate.result import Evaluation
from mousecmr_data.evaluate.tables import BOTH, PAIR, agreement, overlap
from mousecmr_data.schema.manifest import Published

PUBLISHED_MICE = 25
"""Test mice of the published table (source: the paper)."""
SIGNIFICANT = 0.05

AGREES, DIFFERS, NOT_MEASURED, NOT_JUDGED = "agrees", "differs", "not measured", "not judged"


@dataclass(frozen=True)
class Row:
    """A published number and ours."""

    name: str
    what: str
    unit: str
    published: float
    measured: float
    tolerance: float
    """NaN where the verdict does not come from a distance."""
    verdict: str


def against(evaluation: Evaluation, published: Published, cohort: str = "internal") -> list[Row]:
    """The rows of ``published`` that a cohort can be held against: all for "internal", bounds for the others."""
    dice, measures = overlap(evaluation), agreement(evaluation)
    rows: list[Row] = []
    if cohort == "internal":
        for m in published.measures:
            rows += _measure(m, dict(measures.loc[m.name]))
        for d in published.dice:
            found = dice[(dice["score"] == "dice") & (dice["structure"] == d.structure) & (dice["phase"] == d.phase)]
            mean, n = (found["mean"].iloc[0], found["n"].iloc[0]) if len(found) else (np.nan, 0)
            name = f"Dice {d.structure}, {d.phase}"
            rows.append(_row(name, "mean", "", d.mean, mean, _of_mean(d.sd, n) + 0.005))
    for bound in published.bounds:
        if bound.cohort in (cohort, "every"):
            rows.append(_bound(bound.what, bound.at_least, dice, measures))
    return rows


def table(rows: list[Row]) -> pd.DataFrame:
    """The rows as a table."""
    return pd.DataFrame(rows, columns=list(Row.__dataclass_fields__))


def disagree(rows: list[Row]) -> list[Row]:
    """The rows that differ, or could not be measured."""
    return [r for r in rows if r.verdict in (DIFFERS, NOT_MEASURED)]


def _measure(m: Any, found: Mapping[str, Any]) -> list[Row]:
    n = int(found["n"])
    low, high = m.limits_of_agreement
    spread = (high - low) / (2 * 1.96)
    apart = _of_mean(spread, n)
    rows = [
        _row(m.name, "truth, mean", m.unit, m.truth[0], found["truth_mean"], _of_mean(m.truth[1], n) + 0.05),
        _row(m.name, "model, mean", m.unit, m.model[0], found["model_mean"], _of_mean(m.model[1], n) + 0.05),
        _row(m.name, "bias", m.unit, m.bias, found["bias"], apart + 0.05),
        _row(m.name, "lower limit", m.unit, low, found["lower"], 3**0.5 * apart + 0.05),
        _row(m.name, "upper limit", m.unit, high, found["upper"], 3**0.5 * apart + 0.05),
        _row(m.name, "r", "", m.r, found["r"], _of_r(m.r, n) + 0.005),
    ]
    p = float(found["p"])
    verdict = NOT_MEASURED if np.isnan(p) else AGREES if (p < SIGNIFICANT) == (m.p < SIGNIFICANT) else DIFFERS
    return [*rows, Row(m.name, "p", "", m.p, p, np.nan, verdict)]


def _bound(what: str, at_least: float, dice: pd.DataFrame, measures: pd.DataFrame) -> Row:
    if what == "mean Dice":
        found = dice[(dice["score"] == "dice") & (dice["structure"] == BOTH) & (dice["phase"] == PAIR)]["mean"]
        value = float(found.iloc[0]) if len(found) else np.nan
    else:
        value = float(measures["icc_2_1"].min())
    reached = round(value, 2) >= at_least  # printed with two digits
    verdict = NOT_MEASURED if np.isnan(value) else AGREES if reached else DIFFERS
    return Row(what, "at least", "", at_least, value, np.nan, verdict)


def _row(name: str, what: str, unit: str, published: float, measured: float, tolerance: float) -> Row:
    measured = float(measured)
    if np.isnan(measured) or np.isnan(tolerance):
        verdict = NOT_MEASURED
    else:
        verdict = AGREES if abs(measured - published) <= tolerance else DIFFERS
    return Row(name, what, unit, published, measured, tolerance, verdict)


def _of_mean(sd: float, n: int) -> float:
    return 1.96 * sd * (1 / PUBLISHED_MICE + 1 / n) ** 0.5 if n else np.nan


def _of_r(r: float, n: int) -> float:
    """How far below r the other end of the interval lies: Fisher's interval is longer on that side."""
    if n < 4:
        return np.nan
    z = np.arctanh(min(r, 0.9999))
    return float(r - np.tanh(z - 1.96 * (1 / (PUBLISHED_MICE - 3) + 1 / (n - 3)) ** 0.5))
