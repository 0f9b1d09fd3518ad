"""The tables of an evaluation, each a pandas DataFrame."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.result import MEASURES, Evaluation, find_differing_policies
from mousecmr_data.metrics.agreement import (
    LIMITS_SD,
    anova,
    bland_altman,
    bootstrap_interval,
    drop_missing_pairs,
    icc,
    pearson,
    run_paired_t_test,
    spearman,
)
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS
from mousecmr_data.schema.phases import ED, ES

PAIR = f"{ED} and {ES}"
BOTH = "both"
SCORES = {"dice": "Dice", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)"}
STRUCTURES = tuple(MEANINGS[label] for label in FOREGROUND)


def tabulate_frames(evaluation: Evaluation) -> pd.DataFrame:
    """A row per mouse, labelled frame and structure: dice, hd95_mm, assd_mm, truth_ul, predicted_ul, error_ul."""
    rows = [
        {"mouse": m.mouse, "phenotype": m.phenotype, "split": m.split, **asdict(f)}
        for m in evaluation.mice
        for f in m.frames
    ]
    table = pd.DataFrame(rows)
    table["error_ul"] = table["predicted_ul"] - table["truth_ul"]
    return table


def tabulate_mice(evaluation: Evaluation) -> pd.DataFrame:
    """A row a mouse: mean_dice, and each measure as ``_truth``, ``_predicted`` and ``_error``; curve numbers."""
    dice = compute_mean_dice(evaluation)
    rows = []
    for m in evaluation.mice:
        row: dict[str, Any] = {"mouse": m.mouse, "phenotype": m.phenotype, "split": m.split, "synthetic": m.synthetic}
        row["mean_dice"] = dice[m.mouse]
        for name in MEASURES:
            row[f"{name}_truth"], row[f"{name}_predicted"] = m.truth[name], m.predicted[name]
            row[f"{name}_error"] = m.predicted[name] - m.truth[name]
        shape = m.curve or {}
        for name in ("heart_rate_bpm", "peak_ejection_rate_ul_s", "peak_filling_rate_ul_s"):
            row[name] = shape.get(name, np.nan)
        rows.append({**row, "doubt": m.doubt or ""})
    return pd.DataFrame(rows)


def compute_mean_dice(evaluation: Evaluation) -> pd.Series:
    """A mouse's mean over ED, ES and the two structures; over its only labelled frame where there is no pair."""
    means = {}
    for m in evaluation.mice:
        pair = [f.dice for f in m.frames if f.phase in (ED, ES)]
        means[m.mouse] = float(np.mean(pair or [f.dice for f in m.frames]))
    return pd.Series(means, name="mean_dice", dtype=float)


def tabulate_overlap(evaluation: Evaluation) -> pd.DataFrame:
    """Dice, HD95 and ASSD by structure and phase, over mice: mean, sd, median, ci_low, ci_high (bootstrap), n.

    "ED and ES" is of each mouse's mean over the two; "both" of its mean over the structures too. Frames of other
    phases (inflow, or the only labelled one) have rows of their own.
    """
    table = tabulate_frames(evaluation)
    phases = [ED, ES, PAIR, *(p for p in table["phase"].unique() if p not in (ED, ES))]
    rows = []
    for score in SCORES:
        for structure in (*STRUCTURES, BOTH):
            for phase in phases:
                chosen = table["phase"].isin([ED, ES] if phase == PAIR else [phase])
                if structure != BOTH:
                    chosen &= table["structure"] == structure
                values = table[chosen].groupby("mouse", sort=False)[score].mean().to_numpy(float)
                values = values[np.isfinite(values)]
                if values.size:
                    rows.append({"score": score, "structure": structure, "phase": phase, **_describe(values)})
    return pd.DataFrame(rows)


def tabulate_agreement(evaluation: Evaluation, *, limits_at: float = LIMITS_SD) -> pd.DataFrame:
    """Prediction against truth, a row a measure, indexed by the published table's names.

    Columns: unit, n, truth_mean, truth_sd, model_mean, model_sd, bias, bias_low, bias_high (t), bias_boot_low,
    bias_boot_high (bootstrap by mouse), sd (of the differences), lower, upper (limits of agreement) each with
    ``_low`` and ``_high``, p (paired t), r, r_low, r_high (Pearson), r_p, rho (Spearman), rho_p, and icc_2_1,
    icc_2_1_low, icc_2_1_high, icc_3_1, ….
    """
    table = tabulate_mice(evaluation)
    rows = {}
    for key, (name, unit) in MEASURES.items():
        a, b = drop_missing_pairs(table[f"{key}_predicted"], table[f"{key}_truth"])
        found = bland_altman(a, b, limits_at=limits_at)
        r, rho, forms = pearson(a, b), spearman(a, b), icc(np.column_stack([b, a]))
        many = a.size > 1
        row: dict[str, Any] = {"unit": unit, "n": a.size}
        for who, values in (("truth", b), ("model", a)):
            row[f"{who}_mean"] = float(values.mean()) if a.size else np.nan
            row[f"{who}_sd"] = float(values.std(ddof=1)) if many else np.nan
        row["bias"], (row["bias_low"], row["bias_high"]) = found.bias, found.bias_ci
        row["bias_boot_low"], row["bias_boot_high"] = bootstrap_interval(a - b)
        row["sd"], (row["lower"], row["upper"]) = found.sd, found.limits
        row["lower_low"], row["lower_high"] = found.lower_ci
        row["upper_low"], row["upper_high"] = found.upper_ci
        row["p"] = run_paired_t_test(a, b)
        row["r"], (row["r_low"], row["r_high"]), row["r_p"] = r.r, r.ci, r.p
        row["rho"], row["rho_p"] = rho.r, rho.p
        for form in ("ICC(2,1)", "ICC(3,1)"):
            short = form.lower().replace("(", "_").replace(",", "_").replace(")", "")
            for suffix, column in (("", "icc"), ("_low", "ci_low"), ("_high", "ci_high")):
                row[f"{short}{suffix}"] = float(forms.loc[form, column])  # type: ignore[arg-type]
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def run_dice_anova(evaluation: Evaluation) -> pd.DataFrame:
    """Repeated-measures ANOVA of Dice, phase × structure: the paper's test."""
    table = tabulate_frames(evaluation)
    return anova(table[table["phase"].isin([ED, ES])], "dice", ("phase", "structure"), "mouse")


def correlate_dice_with_errors(evaluation: Evaluation) -> pd.DataFrame:
    """Spearman's correlation of a mouse's mean Dice with the absolute error of each measure: rho, p, n."""
    table = tabulate_mice(evaluation)
    rows = {}
    for key, (name, _) in MEASURES.items():
        error = table[f"{key}_error"].abs()
        found = spearman(table["mean_dice"], error)
        rows[name] = {"rho": found.r, "p": found.p, "n": int(error.notna().sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def tabulate_groups(evaluation: Evaluation) -> pd.DataFrame:
    """By phenotype: n, mean ± SD of Dice and of each measure's truth, prediction and error."""
    table = tabulate_mice(evaluation)
    columns = ["mean_dice", *(f"{k}_{w}" for k in MEASURES for w in ("truth", "predicted", "error"))]
    by = table.groupby("phenotype")
    return pd.concat(
        [by.size().rename("n"), by[columns].mean().add_suffix("_mean"), by[columns].std().add_suffix("_sd")], axis=1
    )


def compare_groups(evaluation: Evaluation) -> pd.DataFrame:
    """Do the groups differ, and does the prediction find it too? p of Kruskal and Wallis: p_truth, p_predicted.

    Groups of fewer than three mice are left out; NaN where fewer than two are left.
    """
    table = tabulate_mice(evaluation)
    large = table[table.groupby("phenotype")["mouse"].transform("size") >= 3]
    rows = {}
    for key, (name, _) in MEASURES.items():
        row = {}
        for who in ("truth", "predicted"):
            parts = [v.dropna() for _, v in large.groupby("phenotype")[f"{key}_{who}"]]
            told = len(parts) > 1 and all(map(len, parts)) and np.ptp(np.concatenate(parts)) > 0
            row[f"p_{who}"] = float(stats.kruskal(*parts).pvalue) if told else np.nan
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def _describe(values: Any) -> dict[str, Any]:
    low, high = bootstrap_interval(values)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if values.size > 1 else np.nan,
        "median": float(np.median(values)),
        "ci_low": low,
        "ci_high": high,
        "n": int(values.size),
    }


# MERGED evaluation.tables: Two evaluations of the same mice, mouse by mouse: is one better than the other?


SIGNIFICANCE = 0.05


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


def compare_results(a: Evaluation, b: Evaluation) -> Comparison:
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
    rows = [*_compare_overlap(a, b, both), *_compare_errors(a, b, both)]
    return Comparison(
        a.name,
        b.name,
        tuple(both),
        tuple(m for m in first if m not in second),
        tuple(m for m in second if m not in first),
        tuple(find_differing_policies(a.policies, b.policies)),
        a.synthetic or b.synthetic,
        pd.DataFrame(rows),
    )


def _compare_overlap(a: Evaluation, b: Evaluation, both: list[str]) -> list[dict[str, Any]]:
    tables = [tabulate_frames(e) for e in (a, b)]
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
                    rows.append(
                        _compare_values(SCORES[score], structure, phase, *values, larger_is_better=score == "dice")
                    )
    return rows


def _compare_errors(a: Evaluation, b: Evaluation, both: list[str]) -> list[dict[str, Any]]:
    tables = [tabulate_mice(e).set_index("mouse").reindex(both) for e in (a, b)]
    rows = []
    for key, (name, unit) in MEASURES.items():
        values = [t[f"{key}_error"].abs().to_numpy(float) for t in tables]
        if np.isfinite(values[0]).any():
            rows.append(_compare_values(f"|error of {name}| ({unit})", "", "", *values, larger_is_better=False))
    return rows


def _compare_values(what: str, structure: str, phase: str, a: Any, b: Any, *, larger_is_better: bool) -> dict[str, Any]:
    x, y = drop_missing_pairs(a, b)
    low, high = bootstrap_interval(y - x)
    p, better = run_paired_t_test(y, x), ""
    if (low > 0 or high < 0) and p < SIGNIFICANCE:  # of few mice, a bootstrap alone is too sure
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
