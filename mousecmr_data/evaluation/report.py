"""The report of an evaluation: what was scored, how, and every table and figure of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data._utils.notices import mark_title
from mousecmr_data.evaluation.html import (
    ReportPage,
    ReportSection,
    ReportTable,
    format_interval,
    format_number,
    list_records,
)
from mousecmr_data.evaluation.plots import plot_all, plot_observers, plot_overlays
from mousecmr_data.evaluation.result import MEASURES, Evaluation
from mousecmr_data.evaluation.scoring import DEFINITIONS
from mousecmr_data.evaluation.tables import (
    PAIR,
    SCORES,
    STRUCTURES,
    compare_groups,
    correlate_dice_with_errors,
    run_dice_anova,
    tabulate_agreement,
    tabulate_groups,
    tabulate_mice,
    tabulate_overlap,
)

CAPTIONS = {
    "dice": "Dice of each structure at ED and ES; a point a mouse, box: quartiles.",
    "agreement": "Identity and Bland–Altman plots. Lines: bias and limits of agreement; at the right edge, their 95 % "
    "confidence intervals.",
    "dice_and_errors": "Absolute error of each measure against the mouse's mean Dice (Spearman's ρ).",
    "curves": "Predicted volume of the LV blood pool over the heart beat, with the heart rate; dots: ground truth.",
    "groups": "Measures by group, ground truth (grey) beside prediction (blue).",
    "observers": "Bias (dot) and limits of agreement (line) with the ground truth.",
}


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    *,
    observer: Evaluation | None = None,
    mice: Any = None,
    predictions: Any = None,
) -> list[Path]:
    """Write ``report.html`` (self-contained), ``figures/`` and ``tables/`` into ``folder``; returns the paths.

    ``observer``: a second observer's masks scored against the same truth, shown beside the model. ``mice`` (a
    cohort, or datasets by name) and ``predictions``, those that were scored, add the overlays.
    """
    figures = {k: (f, CAPTIONS[k]) for k, f in plot_all(evaluation).items()}
    pair = "agreement" in figures
    measures = tabulate_agreement(evaluation)
    sections = [
        ReportSection(
            "Overlap", _describe_anova(evaluation), [format_overlap(evaluation)], _select_figures(figures, "dice")
        ),
        ReportSection(
            "Agreement of the measures",
            (),
            [format_agreement(measures)] if pair else [],
            _select_figures(figures, "agreement"),
        ),
    ]
    if pair:
        sections.append(
            ReportSection(
                "Dice and errors", (), [_format_errors(evaluation)], _select_figures(figures, "dice_and_errors")
            )
        )
    if mice is not None and predictions is not None:
        drawn = plot_overlays(evaluation, mice, predictions)
        words = "Outlines at ED and ES. Solid: predicted; dotted: ground truth."
        sections.append(ReportSection("Best, median, worst", (), (), {"overlays": (drawn, words)}))
    if "curves" in figures:
        sections.append(
            ReportSection(
                "Time–volume curves", _CURVE_TEXT, [_format_curves(evaluation)], _select_figures(figures, "curves")
            )
        )
    if "groups" in figures:
        both = [_format_groups(evaluation), _format_group_tests(evaluation)]
        sections.append(ReportSection("Groups", (), both, _select_figures(figures, "groups")))
    if observer is not None:
        theirs = tabulate_agreement(observer)
        drawn = plot_observers(measures, theirs, mark_title("", evaluation.synthetic))
        shown = [_format_observers((evaluation, observer), (measures, theirs))]
        sections.append(
            ReportSection("A second observer", _OBSERVER_TEXT, shown, {"observers": (drawn, CAPTIONS["observers"])})
        )
    sections += [ReportSection("Every mouse", (), [_format_mice(evaluation)]), _format_choices(evaluation)]
    page = ReportPage(
        f"Evaluation of {Path(evaluation.name).name}", evaluation.synthetic, _write_lead(evaluation), sections
    )
    return page.write(folder)


_CURVE_TEXT = (
    "Peak ejection and filling rate: the steepest fall and rise of a parabola fitted to five frames (Bonow et al., "
    "Circulation 1981;64:315-323; Savitzky & Golay, Anal Chem 1964;36:1627-1639). The heart rate takes the cine for "
    "one whole beat.",
)
_OBSERVER_TEXT = ("A second observer's masks against the same ground truth, beside the model's.",)


def _write_lead(e: Evaluation) -> list[str]:
    t = e.truth
    where = f"{len(e.mice)} mice of {t.get('source')} (version {t.get('version')}), split {t.get('split')}"
    scheme = f" of the scheme {t['split_scheme']}" if t.get("split_scheme") else ""
    when = e.created.replace("T", " ").replace("+00:00", " UTC")
    lines = [f"{where}{scheme}. Scored {when} with mousecmr-data {e.versions.get('mousecmr-data')}."]
    if t.get("caveat"):
        lines.append(f"Caveat: {t['caveat']}")
    trained = sorted({m.about["trained_on"] for m in e.mice if "trained_on" in m.about})
    lines += [f"The masks' network was trained on: {words}." for words in trained]
    if e.problems:
        lines.append(f"{len(e.problems)} problems are listed at the end.")
    return lines


def format_overlap(e: Evaluation) -> ReportTable:
    """``tables.overlap`` for people."""
    full = tabulate_overlap(e)
    rows = [
        {
            "score": SCORES[r["score"]],
            "structure": r["structure"],
            "phase": r["phase"],
            "n": r["n"],
            "mean ± SD": f"{format_number(r['mean'], 3)} ± {format_number(r['sd'], 3)}",
            "95 % CI of the mean": format_interval(r["ci_low"], r["ci_high"], 3),
            "median": format_number(r["median"], 3),
        }
        for _, r in list_records(full)
    ]
    return ReportTable("overlap", "Over mice; the interval is a bootstrap by mouse.", pd.DataFrame(rows), full)


def _describe_anova(e: Evaluation) -> list[str]:
    found = run_dice_anova(e)
    if found.empty:
        return []
    words = "; ".join(
        f"{name}: F({r['df1']:.0f}, {r['df2']:.0f}) = {r['f']:.2f}, p "
        + ("< 0.001" if r["p"] < 0.001 else f"= {r['p']:.3f}")
        for name, r in list_records(found)
    )
    return [f"Repeated-measures ANOVA of Dice, phase × structure: {words}."]


def format_agreement(full: pd.DataFrame) -> ReportTable:
    """``tables.agreement`` for people."""
    rows = [
        {
            "measure": f"{name} ({r['unit']})",
            "n": r["n"],
            "ground truth": f"{format_number(r['truth_mean'], 1)} ± {format_number(r['truth_sd'], 1)}",
            "prediction": f"{format_number(r['model_mean'], 1)} ± {format_number(r['model_sd'], 1)}",
            "bias (limits of agreement)": f"{format_number(r['bias'], 1)} ({format_interval(r['lower'], r['upper'], 1)})",
            "95 % CI of the bias": format_interval(r["bias_low"], r["bias_high"], 1),
            "p": format_number(r["p"], 3),
            "Pearson r": format_number(r["r"], 2),
            "Spearman ρ": format_number(r["rho"], 2),
            "ICC(2,1) [95 % CI]": f"{format_number(r['icc_2_1'], 2)} [{format_interval(r['icc_2_1_low'], r['icc_2_1_high'], 2)}]",
        }
        for name, r in list_records(full)
    ]
    words = "Mean ± SD; bias = prediction − truth; limits at 1.96 SD; p: paired t-test."
    return ReportTable("agreement", words, pd.DataFrame(rows), full)


def _format_errors(e: Evaluation) -> ReportTable:
    full = correlate_dice_with_errors(e)
    rows = [
        {
            "|error| of": name,
            "n": int(r["n"]),
            "Spearman ρ with mean Dice": format_number(r["rho"], 2),
            "p": format_number(r["p"], 3),
        }
        for name, r in list_records(full)
    ]
    return ReportTable("dice_and_errors", "Does a lower Dice come with a larger error?", pd.DataFrame(rows), full)


def _format_curves(e: Evaluation) -> ReportTable:
    rows = [{"mouse": m.mouse, **m.curve} for m in e.mice if m.curve]
    full = pd.DataFrame(rows)
    long = full[["mouse", "time_ms", "blood_pool_ul"]].explode(["time_ms", "blood_pool_ul"]).reset_index(drop=True)
    numbers = full.drop(columns=["time_ms", "blood_pool_ul"])
    shown = pd.DataFrame(
        {
            "mouse": numbers["mouse"],
            "heart rate (1/min)": numbers["heart_rate_bpm"].map(lambda v: format_number(v, 0)),
            "peak ejection (µL/s)": numbers["peak_ejection_rate_ul_s"].map(lambda v: format_number(v, 0)),
            "(EDV/s)": numbers["peak_ejection_rate_edv_s"].map(lambda v: format_number(v, 1)),
            "peak filling (µL/s)": numbers["peak_filling_rate_ul_s"].map(lambda v: format_number(v, 0)),
            "(EDV/s) ": numbers["peak_filling_rate_edv_s"].map(lambda v: format_number(v, 1)),
        }
    )
    return ReportTable("curves", "Of the predicted masks. Every point of the curves is in curves.csv.", shown, long)


def _format_groups(e: Evaluation) -> ReportTable:
    full = tabulate_groups(e)
    rows = []
    for name, r in list_records(full):
        row: dict[str, Any] = {"group": name, "n": int(r["n"])}
        row["mean Dice"] = f"{format_number(r['mean_dice_mean'], 3)} ± {format_number(r['mean_dice_sd'], 3)}"
        for key in ("edv_ul", "ef_percent", "mass_ed_mg"):
            for who in ("truth", "predicted"):
                value = f"{format_number(r[f'{key}_{who}_mean'], 1)} ± {format_number(r[f'{key}_{who}_sd'], 1)}"
                row[f"{MEASURES[key][0]} ({MEASURES[key][1]}), {who}"] = value
        rows.append(row)
    return ReportTable("groups", "Mean ± SD of each group.", pd.DataFrame(rows), full)


def _format_group_tests(e: Evaluation) -> ReportTable:
    full = compare_groups(e)
    rows = [
        {
            "measure": name,
            "p, ground truth": format_number(r["p_truth"], 3),
            "p, prediction": format_number(r["p_predicted"], 3),
        }
        for name, r in list_records(full)
    ]
    words = "Do the groups differ, and does the prediction find it too? Kruskal–Wallis, groups of three or more."
    return ReportTable("group_tests", words, pd.DataFrame(rows), full)


def _format_observers(pair: tuple[Evaluation, Evaluation], both: tuple[pd.DataFrame, pd.DataFrame]) -> ReportTable:
    rows = []
    dice = [tabulate_overlap(e) for e in pair]
    for structure in STRUCTURES:
        row = {"": f"Dice, {structure}, {PAIR}"}
        for who, table in zip(("model", "observer 2"), dice, strict=True):
            chosen = (table["score"] == "dice") & (table["structure"] == structure) & (table["phase"] == PAIR)
            found = table[chosen]
            row[who] = (
                f"{format_number(found['mean'].iloc[0], 3)} ± {format_number(found['sd'].iloc[0], 3)}"
                if len(found)
                else "–"
            )
        rows.append(row)
    for name, unit in MEASURES.values():
        beside = [dict(table.loc[name]) for table in both]
        bias = [f"{format_number(r['bias'], 1)} ({format_interval(r['lower'], r['upper'], 1)})" for r in beside]
        icc = [format_number(r["icc_2_1"], 2) for r in beside]
        rows.append({"": f"{name} ({unit}), bias (limits)", "model": bias[0], "observer 2": bias[1]})
        rows.append({"": f"{name}, ICC(2,1)", "model": icc[0], "observer 2": icc[1]})
    return ReportTable("observers", "Against the same ground truth.", pd.DataFrame(rows))


def _format_mice(e: Evaluation) -> ReportTable:
    full = tabulate_mice(e)
    shown = pd.DataFrame({"mouse": full["mouse"], "group": full["phenotype"]})
    shown["mean Dice"] = full["mean_dice"].map(lambda v: format_number(v, 3))
    for key, (name, unit) in MEASURES.items():
        shown[f"{name} ({unit})"] = [
            f"{format_number(t, 1)} → {format_number(p, 1)}"
            for t, p in zip(full[f"{key}_truth"], full[f"{key}_predicted"], strict=True)
        ]
    return ReportTable(
        "mice", "Ground truth → prediction. All numbers in mice.csv; frames in the result file.", shown, full
    )


def _format_choices(e: Evaluation) -> ReportSection:
    named = {k: e.policies.get(k) for k in ("phases", "postprocessing", "empty")}
    rows = [{"choice": k, "value": f"{v}"} for k, v in named.items()]
    rows += [{"choice": k, "value": v} for k, v in e.policies.get("definitions", DEFINITIONS).items()]
    rows += [{"choice": f"version of {k}", "value": v} for k, v in e.versions.items()]
    shown = [ReportTable("choices", "What every number stands on.", pd.DataFrame(rows))]
    if e.problems:
        problems = pd.DataFrame([{"mouse": p.mouse, "kind": p.kind, "what": p.text} for p in e.problems])
        shown.append(ReportTable("problems", "What did not fit.", problems))
    return ReportSection("Choices and versions", (), shown)


def _select_figures(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {n: figures[n] for n in names if n in figures}
