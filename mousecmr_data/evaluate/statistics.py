"""What a statistics library has and SciPy has not: intraclass correlation, repeated-measures ANOVA.

The only module that imports pingouin (the extra ``evaluation``); it takes seconds to import, so it is imported
when a function is called.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mousecmr_data.errors import ArgumentError, MissingExtraError

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
            raise MissingExtraError.of("pingouin", "evaluation") from e
        key = "round.column.CI95"
        before = pingouin.options[key]
        pingouin.options[key] = 15
        try:
            yield pingouin
        finally:
            pingouin.options[key] = before
