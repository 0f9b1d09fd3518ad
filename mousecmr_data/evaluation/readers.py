"""Two readers of the same scans: how much their masks and their numbers agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.text import join_names
from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.result import MEASURES
from mousecmr_data.metrics.agreement import bland_altman, compute_variation, icc
from mousecmr_data.metrics.overlap import dice
from mousecmr_data.metrics.volumes import measure
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS
from mousecmr_data.schema.variables import DIMS, ED, ES, PREDICTED


@dataclass(frozen=True)
class ReaderAgreement:
    """The agreement of two readers, A − B."""

    measures: pd.DataFrame
    """One row per measure: measure, unit, n, a_mean, b_mean, bias, lower, upper (limits of agreement), cv_percent, icc,
    icc_low, icc_high (ICC(2,1): absolute agreement, single rater)."""
    overlap: pd.DataFrame
    """One row per structure and phase: structure, phase, n, dice (mean over mice), sd. ED and ES are those of B."""
    mice: pd.DataFrame
    """One row per mouse: ED and ES frames and each measure of both."""
    synthetic: bool


def compare_readers(a: Mapping[str, xr.Dataset], b: Mapping[str, xr.Dataset]) -> ReaderAgreement:
    """Compare the masks ``predicted`` (frame, slice, y, x) of the same mice by two readers, or by one reader twice.

    Each dataset has ``phase`` with the reader's own ED and ES, so that a choice of another frame counts in the numbers.
    Raises :class:`~mousecmr_data.errors.PredictionError` if the mice, or the sizes of their masks, differ.
    """
    if set(a) != set(b) or not a:
        alone = sorted(set(a) ^ set(b))
        raise PredictionError(
            f"The readers have not the same mice: {join_names(alone) or 'there are none'}.",
            "the same scans, segmented into two folders",
            "give two folders of mousecmr segment with the same mice",
        )
    rows, overlap = [], []
    for name in a:
        one, two = (cines[name].transpose(..., *DIMS) for cines in (a, b))
        if one[PREDICTED].shape != two[PREDICTED].shape:
            text = f"{name}: the masks are {one[PREDICTED].shape} and {two[PREDICTED].shape} (frame, slice, y, x)."
            raise PredictionError(text, "masks of the same images")
        row: dict[str, Any] = {"mouse": name}
        for reader, ds in (("a", one), ("b", two)):
            numbers = measure(ds, mask=PREDICTED)
            phases = ds["phase"].values.tolist()
            row |= {f"{p.lower()}_frame_{reader}": phases.index(p) if p in phases else None for p in (ED, ES)}
            row |= {f"{key}_{reader}": getattr(numbers, key) for key in MEASURES}
        rows.append(row)
        for phase in (ED, ES):
            for frame in np.flatnonzero(two["phase"].values == phase).tolist():
                masks = [ds[PREDICTED].values[frame] for ds in (one, two)]
                for label in FOREGROUND:
                    overlap.append((MEANINGS[label], phase, dice(masks[0] == label, masks[1] == label)))
    mice = pd.DataFrame(rows)
    table = pd.DataFrame(overlap, columns=["structure", "phase", "dice"]).groupby(["structure", "phase"], sort=False)
    means = table["dice"].agg(n="size", dice="mean", sd="std").reset_index()
    return ReaderAgreement(_tabulate(mice), means, mice, any(bool(ds.attrs.get("synthetic")) for ds in a.values()))


def _tabulate(mice: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for key, (name, unit) in MEASURES.items():
        values = mice[[f"{key}_a", f"{key}_b"]].dropna().to_numpy(float)
        limits, form = bland_altman(*values.T), icc(values).loc[["ICC(2,1)"]].to_dict("records")[0]
        rows.append(
            {
                "measure": name,
                "unit": unit,
                "n": len(values),
                "a_mean": float(values[:, 0].mean()) if len(values) else np.nan,
                "b_mean": float(values[:, 1].mean()) if len(values) else np.nan,
                "bias": limits.bias,
                "lower": limits.limits[0],
                "upper": limits.limits[1],
                "cv_percent": compute_variation(*values.T),
                "icc": float(form["icc"]),
                "icc_low": float(form["ci_low"]),
                "icc_high": float(form["ci_high"]),
            }
        )
    return pd.DataFrame(rows)
