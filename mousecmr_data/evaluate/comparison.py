"""Two evaluations of the same mice, mouse by mouse: is one better than the other?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluate.result import MEASURES, Evaluation, differing
from mousecmr_data.evaluate.tables import BOTH, PAIR, SCORES, STRUCTURES, frames, mice
from mousecmr_data.metrics.agreement import bootstrap_interval, drop_missing_pairs, run_paired_t_test
from mousecmr_data.schema.phases import ED, ES

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """Paired differences b − a."""

    a: str
    b: str
    mice: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    policies_differ: tuple[str, ...]
    synthetic: bool
    table: pd.DataFrame
    """A row a number: what, structure, phase, n, a, b (means), difference, ci_low, ci_high (95 %, bootstrap by
    mouse), p (paired t), better ("a", "b", or "" where the interval holds zero)."""


def compare(a: Evaluation, b: Evaluation) -> Comparison:
    """Compare the mice that both have scored.

    Raises :class:`~mousecmr_data.errors.PredictionError` where they have none in common, or where a mouse's truth
    is not the same in both (by checksum): then the difference would not be the predictions'.
    """
    first, second = a.by_name, b.by_name
    both = [m for m in first if m in second]
    if not both:
        raise PredictionError(f"{a.name} and {b.name} have no mouse in common.", "evaluations of the same mice")
    if changed := [m for m in both if first[m].truth_sha256 != second[m].truth_sha256]:
        raise PredictionError(
            f"The truth of {', '.join(changed[:5])} is not the same in {a.name} and {b.name}.",
            "evaluations against one version of the masks",
            "evaluate both again, against the same source",
        )
    rows = [*_overlap_rows(a, b, both), *_error_rows(a, b, both)]
    return Comparison(
        a.name,
        b.name,
        tuple(both),
        tuple(m for m in first if m not in second),
        tuple(m for m in second if m not in first),
        tuple(differing(a.policies, b.policies)),
        a.synthetic or b.synthetic,
        pd.DataFrame(rows),
    )


def _overlap_rows(a: Evaluation, b: Evaluation, both: list[str]) -> list[dict[str, Any]]:
    tables = [frames(e) for e in (a, b)]
    others = [p for p in tables[0]["phase"].unique() if p not in (ED, ES)]
    rows = []
    for score in SCORES:
        for structure in (*STRUCTURES, BOTH):
            for phase in (ED, ES, PAIR, *others):
                values = []
                for table in tables:
                    chosen = table["phase"].isin([ED, ES] if phase == PAIR else [phase])
                    if structure != BOTH:
                        chosen &= table["structure"] == structure
                    values.append(table[chosen].groupby("mouse")[score].mean().reindex(both).to_numpy(float))
                if np.isfinite(values[0]).any():
                    rows.append(_row(SCORES[score], structure, phase, *values, larger_is_better=score == "dice"))
    return rows


def _error_rows(a: Evaluation, b: Evaluation, both: list[str]) -> list[dict[str, Any]]:
    tables = [mice(e).set_index("mouse").reindex(both) for e in (a, b)]
    rows = []
    for key, (name, unit) in MEASURES.items():
        values = [t[f"{key}_error"].abs().to_numpy(float) for t in tables]
        if np.isfinite(values[0]).any():
            rows.append(_row(f"|error of {name}| ({unit})", "", "", *values, larger_is_better=False))
    return rows


def _row(what: str, structure: str, phase: str, a: Any, b: Any, *, larger_is_better: bool) -> dict[str, Any]:
    x, y = drop_missing_pairs(a, b)
    low, high = bootstrap_interval(y - x)
    p, better = run_paired_t_test(y, x), ""
    if (low > 0 or high < 0) and p < SIGNIFICANT:  # of few mice, a bootstrap alone is too sure
        better = "b" if (low > 0) == larger_is_better else "a"
    return {
        "what": what,
        "structure": structure,
        "phase": phase,
        "n": int(x.size),
        "a": float(x.mean()) if x.size else np.nan,
        "b": float(y.mean()) if x.size else np.nan,
        "difference": float((y - x).mean()) if x.size else np.nan,
        "ci_low": low,
        "ci_high": high,
        "p": p,
        "better": better,
    }
