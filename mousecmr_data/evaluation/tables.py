"""The tables of an evaluation, each a pandas DataFrame, and the comparison of two evaluations of the same mice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from mousecmr_data._utils.text import join_names
from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.result import MEASURES, Evaluation, find_differing_policies
from mousecmr_data.metrics.agreement import (
    LIMITS_SD,
    adjust_holm,
    anova,
    bland_altman,
    compute_mean_interval,
    compute_variation,
    correlate_bias_with_size,
    drop_missing_pairs,
    icc,
    pearson,
    run_paired_t_test,
    spearman,
)
from mousecmr_data.metrics.overlap import dice
from mousecmr_data.metrics.volumes import measure
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS
from mousecmr_data.schema.variables import DIMS, ED, ES, PREDICTED

PAIR = f"{ED} and {ES}"
BOTH = "both"
SCORES = {"dice": "Dice", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)"}
STRUCTURES = tuple(MEANINGS[label] for label in FOREGROUND)
SIGNIFICANCE = 0.05
PRIMARY_SIGNIFICANCE = 0.04
"""Level of the primary endpoint. Differences of Dice are skewed, and the t-test then errs more often than its level: at
0.05, of 2,000 simulated pairs of equal networks 6 % were decided at 25 mice (benchmarks/verdict.py)."""
COMPARISON_NOTE = (
    "The first row is the primary endpoint: it decides which result is better. p: paired t-test. p adjusted: by Holm's "
    "method for the number of the other rows, which count only where the first one is decided (p < 0.04, the others "
    "p < 0.05): so the chance that any row of two equally good results reads better is at most 5 %. A result that "
    "lacks mice of the other, or missed more hearts, is not better by that. 95 % CI: of the mean difference, not "
    "adjusted; by bootstrap over mice, below 20 mice by Student's t, below 3 none."
)


def tabulate_frames(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row per mouse, labelled frame and structure.

    Columns: mouse, phenotype, split, frame, phase, structure, dice, hd95_mm, assd_mm, truth_ul, predicted_ul, error_ul.
    """
    rows = [
        {"mouse": m.mouse, "phenotype": m.phenotype, "split": m.split, **asdict(f)}
        for m in evaluation.mice
        for f in m.frames
    ]
    table = pd.DataFrame(rows)
    return table.assign(error_ul=table["predicted_ul"] - table["truth_ul"])


def tabulate_mice(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row per mouse.

    Columns: mean_dice; each measure as ``_truth``, ``_predicted`` and ``_error``; heart rate and peak rates of the
    volume curve; doubt.
    """
    dice = compute_mean_dice(evaluation)
    rows = []
    for m in evaluation.mice:
        row: dict[str, Any] = {"mouse": m.mouse, "phenotype": m.phenotype, "split": m.split, "synthetic": m.synthetic}
        row["mean_dice"] = dice[m.mouse]
        for name in MEASURES:
            row[f"{name}_truth"], row[f"{name}_predicted"] = m.truth[name], m.predicted[name]
            row[f"{name}_error"] = m.predicted[name] - m.truth[name]
        for name in ("heart_rate_bpm", "peak_ejection_rate_ul_s", "peak_filling_rate_ul_s"):
            row[name] = (m.curve or {}).get(name, np.nan)
        rows.append({**row, "doubt": m.doubt or ""})
    return pd.DataFrame(rows)


def compute_mean_dice(evaluation: Evaluation) -> pd.Series:
    """Return each mouse's mean Dice over ED, ES and the two structures; over its only labelled frame without a pair."""
    means = {}
    for m in evaluation.mice:
        pair = [f.dice for f in m.frames if f.phase in (ED, ES)]
        means[m.mouse] = float(np.mean(pair or [f.dice for f in m.frames]))
    return pd.Series(means, name="mean_dice", dtype=float)


def list_missed_hearts(evaluation: Evaluation) -> list[str]:
    """Return the structures of which nothing was predicted although the truth has them: mouse, structure, phase."""
    missing = find_missed(tabulate_frames(evaluation))
    return [
        f"{mouse} ({structure}, {phase})" for mouse, structure, phase in missing[["mouse", "structure", "phase"]].values
    ]


def has_measures(evaluation: Evaluation) -> bool:
    """Return whether any mouse has a true ejection fraction, that is, ED and ES."""
    return any(np.isfinite(m.truth["ef_percent"]) for m in evaluation.mice)


def tabulate_overlap(evaluation: Evaluation) -> pd.DataFrame:
    """Return Dice, HD95 and ASSD by structure and phase: mean, sd, median, ci_low, ci_high, n, missed, over mice.

    ``missed`` counts the mice with a heart of which nothing was predicted: their Dice is 0, and their distances are in
    no mean, unless the policy for empty masks gives them one.
    "ED and ES" takes each mouse's mean over the two frames, "both" its mean over the structures too. Frames of other
    phases (inflow, or the only labelled one) have their own rows.
    """
    frames = tabulate_frames(evaluation)
    missing = find_missed(frames)
    rows = []
    for score, structure, phase in _list_overlap_rows(frames):
        values = _average_by_mouse(frames, score, structure, phase).to_numpy(float)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
        interval = compute_mean_interval(values)
        missed = int(_select_frames(missing, structure, phase)["mouse"].nunique())
        rows.append((score, structure, phase, values.mean(), sd, np.median(values), *interval, values.size, missed))
    columns = ["score", "structure", "phase", "mean", "sd", "median", "ci_low", "ci_high", "n", "missed"]
    return pd.DataFrame(rows, columns=columns)


def tabulate_agreement(evaluation: Evaluation, *, limits_at: float = LIMITS_SD) -> pd.DataFrame:
    """Compare prediction and truth: one row per measure, indexed by the published table's names.

    Columns: unit, n, truth_mean, truth_sd, model_mean, model_sd, bias, bias_low, bias_high, sd (of the differences),
    lower, upper (limits of agreement) each with ``_low`` and ``_high``, p (paired t), proportional_r, proportional_p
    (does the bias grow with the size?), r, r_low, r_high (Pearson), r_p, rho (Spearman), rho_p, and icc_2_1,
    icc_2_1_low, icc_2_1_high, icc_3_1, ….
    """
    table = tabulate_mice(evaluation)
    rows = {}
    for key, (name, unit) in MEASURES.items():
        a, b = drop_missing_pairs(table[f"{key}_predicted"], table[f"{key}_truth"])
        agreement = bland_altman(a, b, limits_at=limits_at)
        r, rho, forms = pearson(a, b), spearman(a, b), icc(np.column_stack([b, a]))
        row: dict[str, Any] = {"unit": unit, "n": a.size}
        for source, values in (("truth", b), ("model", a)):
            row[f"{source}_mean"] = float(values.mean()) if a.size else np.nan
            row[f"{source}_sd"] = float(values.std(ddof=1)) if a.size > 1 else np.nan
        row["bias"], (row["bias_low"], row["bias_high"]) = agreement.bias, agreement.bias_ci
        row["sd"], (row["lower"], row["upper"]) = agreement.sd, agreement.limits
        row["lower_low"], row["lower_high"] = agreement.lower_ci
        row["upper_low"], row["upper_high"] = agreement.upper_ci
        row["p"], proportional = run_paired_t_test(a, b), correlate_bias_with_size(a, b)
        row["proportional_r"], row["proportional_p"] = proportional.r, proportional.p
        row["r"], (row["r_low"], row["r_high"]), row["r_p"] = r.r, r.ci, r.p
        row["rho"], row["rho_p"] = rho.r, rho.p
        for form, short in (("ICC(2,1)", "icc_2_1"), ("ICC(3,1)", "icc_3_1")):
            for suffix, column in (("", "icc"), ("_low", "ci_low"), ("_high", "ci_high")):
                row[f"{short}{suffix}"] = float(forms.loc[form, column])  # type: ignore[arg-type]
        rows[name] = row
    return _tabulate_measures(rows)


def run_dice_anova(evaluation: Evaluation) -> pd.DataFrame:
    """Run the paper's test: repeated-measures ANOVA of Dice, phase × structure."""
    table = tabulate_frames(evaluation)
    return anova(table[table["phase"].isin([ED, ES])], "dice", ("phase", "structure"), "mouse")


def run_dice_post_hoc(evaluation: Evaluation) -> pd.DataFrame:
    """Compare Dice between phases and between structures, each within the other: a, b, n, difference (b − a), p
    (paired t), p_adjusted (Holm). Empty without mice that have ED and ES.
    """
    table = tabulate_frames(evaluation)
    table = table[table["phase"].isin([ED, ES])]
    columns = ["a", "b", "n", "difference", "p", "p_adjusted"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    cells = table.pivot_table(index="mouse", columns=["structure", "phase"], values="dice")
    (one, two), rows = STRUCTURES, []
    for a, b in (((one, ED), (one, ES)), ((two, ED), (two, ES)), ((one, ED), (two, ED)), ((one, ES), (two, ES))):
        x, y = drop_missing_pairs(cells[a].to_numpy(float), cells[b].to_numpy(float))
        rows.append((", ".join(a), ", ".join(b), x.size, float(np.mean(y - x)), run_paired_t_test(y, x)))
    return pd.DataFrame(
        [(*row, p) for row, p in zip(rows, adjust_holm([r[-1] for r in rows]), strict=True)], columns=columns
    )


def correlate_dice_with_errors(evaluation: Evaluation) -> pd.DataFrame:
    """Return Spearman's correlation of a mouse's mean Dice with the absolute error of each measure: rho, p, n."""
    table = tabulate_mice(evaluation)
    rows = {}
    for key, (name, _) in MEASURES.items():
        error = table[f"{key}_error"].abs()
        correlation = spearman(table["mean_dice"], error)
        rows[name] = {"rho": correlation.r, "p": correlation.p, "n": int(error.notna().sum())}
    return _tabulate_measures(rows)


def tabulate_groups(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row per phenotype: n, mean ± SD of Dice and of each measure's truth, prediction and error."""
    table = tabulate_mice(evaluation)
    columns = ["mean_dice", *(f"{k}_{w}" for k in MEASURES for w in ("truth", "predicted", "error"))]
    groups = table.groupby("phenotype")
    means, sds = groups[columns].mean().add_suffix("_mean"), groups[columns].std().add_suffix("_sd")
    return pd.concat([groups.size().rename("n"), means, sds], axis=1)


def compare_groups(evaluation: Evaluation) -> pd.DataFrame:
    """Test by Kruskal and Wallis whether the groups differ in the truth and in the prediction: p_truth, p_predicted.

    Groups of fewer than three mice are left out; NaN where fewer than two are left.
    """
    table = tabulate_mice(evaluation)
    large = table[table.groupby("phenotype")["mouse"].transform("size") >= 3]
    rows = {}
    for key, (name, _) in MEASURES.items():
        row = {}
        for source in ("truth", "predicted"):
            groups = [v.dropna() for _, v in large.groupby("phenotype")[f"{key}_{source}"]]
            comparable = len(groups) > 1 and all(map(len, groups)) and np.ptp(np.concatenate(groups)) > 0
            row[f"p_{source}"] = float(stats.kruskal(*groups).pvalue) if comparable else np.nan
        rows[name] = row
    return _tabulate_measures(rows)


@dataclass(frozen=True)
class Comparison:
    """Paired differences b − a."""

    a: str
    b: str
    mice: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    missed: tuple[int, int]
    """Mice of a and b with a structure of which nothing was predicted. These have no distances, and may have no EF."""
    policies_differ: tuple[str, ...]
    synthetic: bool
    table: pd.DataFrame
    """One row per number: what, structure, phase, n, a, b (means), difference, ci_low, ci_high (95 %, not adjusted),
    p (paired t), p_adjusted, better ("a", "b" or "").

    The first row is the primary endpoint, mean Dice of both structures at ED and ES, whose p is not adjusted. The p of
    all other rows are adjusted by Holm's method, and these rows are "better" only where the primary one is decided:
    so the chance that any row of two equally good results reads "better" is at most 5 %."""


def compare_results(a: Evaluation, b: Evaluation) -> Comparison:
    """Compare two evaluations, mouse by mouse, over the mice that both have scored.

    Raises :class:`~mousecmr_data.errors.PredictionError` where they have no mouse in common, or where a mouse's truth
    is not the same in both (by checksum): then the difference would not come from the predictions alone.
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
    columns = ["what", "structure", "phase", "n", "a", "b", "difference", "ci_low", "ci_high", "p", "favours"]
    rows = []
    frames = [t[t["mouse"].isin(both)] for t in map(tabulate_frames, (a, b))]
    for score, structure, phase in _list_overlap_rows(frames[0]):
        x, y = (_average_by_mouse(t, score, structure, phase).reindex(both).to_numpy(float) for t in frames)
        if np.isfinite(x).any():
            rows.append(_compare_values(SCORES[score], structure, phase, x, y, larger_is_better=score == "dice"))
    mice = [tabulate_mice(e).set_index("mouse").reindex(both) for e in (a, b)]
    for key, (name, unit) in MEASURES.items():
        x, y = (t[f"{key}_error"].abs().to_numpy(float) for t in mice)
        if np.isfinite(x).any():
            rows.append(_compare_values(f"|error of {name}| ({unit})", "", "", x, y, larger_is_better=False))
    only_a, only_b = tuple(m for m in first if m not in second), tuple(m for m in second if m not in first)
    policies, synthetic = tuple(find_differing_policies(a.policies, b.policies)), a.synthetic or b.synthetic
    missed_a, missed_b = (int(find_missed(t)["mouse"].nunique()) for t in frames)
    left_out = "a" * bool(only_b) + "b" * bool(only_a)
    table = _find_better(pd.DataFrame(rows, columns=columns), (missed_a, missed_b), left_out)
    return Comparison(a.name, b.name, tuple(both), only_a, only_b, (missed_a, missed_b), policies, synthetic, table)


def _compare_values(
    what: str, structure: str, phase: str, a: Any, b: Any, *, larger_is_better: bool
) -> tuple[Any, ...]:
    """Return one row of the table of :class:`Comparison`, with the side that the difference favours."""
    x, y = drop_missing_pairs(a, b)
    means = (x.mean(), y.mean(), (y - x).mean()) if x.size else (np.nan,) * 3
    favours = "b" if (means[2] > 0) == larger_is_better else "a"
    return what, structure, phase, x.size, *means, *compute_mean_interval(y - x), run_paired_t_test(y, x), favours


def _find_better(table: pd.DataFrame, missed: tuple[int, int], left_out: str) -> pd.DataFrame:
    """Put the primary endpoint first, adjust the others' p, and say which side is better where it is decided.

    Leaving hearts out makes nothing better: a side that missed more hearts can be better in Dice only, where these
    count as 0, and a side in ``left_out``, which lacks mice that the other has scored, not at all.
    """
    is_primary = (table["what"] == SCORES["dice"]) & (table["structure"] == BOTH)
    is_primary &= table["phase"] == (PAIR if (table["phase"] == PAIR).any() else table["phase"].iloc[0])
    table = pd.concat([table[is_primary], table[~is_primary]], ignore_index=True)
    adjusted = np.r_[table["p"].iloc[:1], adjust_holm(table["p"].iloc[1:])]
    decided = (adjusted < SIGNIFICANCE) & (adjusted[0] < PRIMARY_SIGNIFICANCE)
    loser = "a" if missed[0] > missed[1] else "b" if missed[1] > missed[0] else ""
    decided &= (table["what"] == SCORES["dice"]) | (table["favours"] != loser)
    decided &= ~table["favours"].isin(list(left_out))
    better = table.pop("favours").where(decided, "")
    return table.assign(p_adjusted=adjusted, better=better)


def _list_overlap_rows(frames: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Yield score, structure and phase of each row of an overlap table."""
    others = (p for p in frames["phase"].unique() if p not in (ED, ES))
    return product(SCORES, (*STRUCTURES, BOTH), (ED, ES, PAIR, *others))


def _average_by_mouse(frames: pd.DataFrame, score: str, structure: str, phase: str) -> pd.Series:
    return _select_frames(frames, structure, phase).groupby("mouse", sort=False)[score].mean()


def _select_frames(frames: pd.DataFrame, structure: str, phase: str) -> pd.DataFrame:
    chosen = frames["phase"].isin([ED, ES] if phase == PAIR else [phase])
    if structure != BOTH:
        chosen &= frames["structure"] == structure
    return frames[chosen]


def find_missed(frames: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of structures of which nothing was predicted although the truth has them."""
    return frames[(frames["truth_ul"] > 0) & (frames["predicted_ul"] == 0)]


def _tabulate_measures(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def format_number(value: Any, digits: int) -> str:
    """Format a number for people; a dash where it is missing."""
    if value is None or pd.isna(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def format_p(p: Any) -> str:
    """Format a p-value for people: three digits, "< 0.001" below."""
    return "< 0.001" if p is not None and p < 0.001 else format_number(p, 3)


def describe_p(p: Any) -> str:
    """Format a p-value in a sentence: "p = 0.031", "p < 0.001"."""
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def format_column(values: pd.Series, digits: int) -> list[str]:
    """Format the numbers of a column for people."""
    return [format_number(v, digits) for v in values]


def format_interval(low: Any, high: Any, digits: int) -> str:
    """Format an interval for people: "low to high"."""
    return "–" if pd.isna(low) and pd.isna(high) else f"{format_number(low, digits)} to {format_number(high, digits)}"


def format_mean(mean: Any, sd: Any, digits: int) -> str:
    """Format a mean for people: "mean ± SD"."""
    return f"{format_number(mean, digits)} ± {format_number(sd, digits)}"


def format_bias(bias: Any, lower: Any, upper: Any) -> str:
    """Format a bias for people: "bias (lower to upper limit of agreement)"."""
    return f"{format_number(bias, 1)} ({format_interval(lower, upper, 1)})"


def list_records(table: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a table as (index, values by column)."""
    return [(str(k), {str(c): v for c, v in row.items()}) for k, row in table.to_dict("index").items()]


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
