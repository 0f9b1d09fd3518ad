"""The tables of an evaluation, each a pandas DataFrame."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mousecmr_data.evaluate.result import MEASURES, Evaluation
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


def frames(evaluation: Evaluation) -> pd.DataFrame:
    """A row per mouse, labelled frame and structure: dice, hd95_mm, assd_mm, truth_ul, predicted_ul, error_ul."""
    rows = [
        {"mouse": m.mouse, "phenotype": m.phenotype, "split": m.split, **asdict(f)}
        for m in evaluation.mice
        for f in m.frames
    ]
    table = pd.DataFrame(rows)
    table["error_ul"] = table["predicted_ul"] - table["truth_ul"]
    return table


def mice(evaluation: Evaluation) -> pd.DataFrame:
    """A row a mouse: mean_dice, and each measure as ``_truth``, ``_predicted`` and ``_error``; curve numbers."""
    dice = mean_dice(evaluation)
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


def mean_dice(evaluation: Evaluation) -> pd.Series:
    """A mouse's mean over ED, ES and the two structures; over its only labelled frame where there is no pair."""
    means = {}
    for m in evaluation.mice:
        pair = [f.dice for f in m.frames if f.phase in (ED, ES)]
        means[m.mouse] = float(np.mean(pair or [f.dice for f in m.frames]))
    return pd.Series(means, name="mean_dice", dtype=float)


def overlap(evaluation: Evaluation) -> pd.DataFrame:
    """Dice, HD95 and ASSD by structure and phase, over mice: mean, sd, median, ci_low, ci_high (bootstrap), n.

    "ED and ES" is of each mouse's mean over the two; "both" of its mean over the structures too. Frames of other
    phases (inflow, or the only labelled one) have rows of their own.
    """
    table = frames(evaluation)
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
                    rows.append({"score": score, "structure": structure, "phase": phase, **_described(values)})
    return pd.DataFrame(rows)


def agreement(evaluation: Evaluation, *, limits_at: float = LIMITS_SD) -> pd.DataFrame:
    """Prediction against truth, a row a measure, indexed by the published table's names.

    Columns: unit, n, truth_mean, truth_sd, model_mean, model_sd, bias, bias_low, bias_high (t), bias_boot_low,
    bias_boot_high (bootstrap by mouse), sd (of the differences), lower, upper (limits of agreement) each with
    ``_low`` and ``_high``, p (paired t), r, r_low, r_high (Pearson), r_p, rho (Spearman), rho_p, and icc_2_1,
    icc_2_1_low, icc_2_1_high, icc_3_1, ….
    """
    table = mice(evaluation)
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


def dice_anova(evaluation: Evaluation) -> pd.DataFrame:
    """Repeated-measures ANOVA of Dice, phase × structure: the paper's test."""
    table = frames(evaluation)
    return anova(table[table["phase"].isin([ED, ES])], "dice", ("phase", "structure"), "mouse")


def dice_against_errors(evaluation: Evaluation) -> pd.DataFrame:
    """Spearman's correlation of a mouse's mean Dice with the absolute error of each measure: rho, p, n."""
    table = mice(evaluation)
    rows = {}
    for key, (name, _) in MEASURES.items():
        error = table[f"{key}_error"].abs()
        found = spearman(table["mean_dice"], error)
        rows[name] = {"rho": found.r, "p": found.p, "n": int(error.notna().sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def groups(evaluation: Evaluation) -> pd.DataFrame:
    """By phenotype: n, mean ± SD of Dice and of each measure's truth, prediction and error."""
    table = mice(evaluation)
    columns = ["mean_dice", *(f"{k}_{w}" for k in MEASURES for w in ("truth", "predicted", "error"))]
    by = table.groupby("phenotype")
    return pd.concat(
        [by.size().rename("n"), by[columns].mean().add_suffix("_mean"), by[columns].std().add_suffix("_sd")], axis=1
    )


def group_tests(evaluation: Evaluation) -> pd.DataFrame:
    """Do the groups differ, and does the prediction find it too? p of Kruskal and Wallis: p_truth, p_predicted.

    Groups of fewer than three mice are left out; NaN where fewer than two are left.
    """
    table = mice(evaluation)
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


def _described(values: Any) -> dict[str, Any]:
    low, high = bootstrap_interval(values)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if values.size > 1 else np.nan,
        "median": float(np.median(values)),
        "ci_low": low,
        "ci_high": high,
        "n": int(values.size),
    }
