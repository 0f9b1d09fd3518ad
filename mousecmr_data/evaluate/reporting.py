"""The report of an evaluation: what was scored, how, and every table and figure of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data.evaluate import plots, tables
from mousecmr_data.evaluate.overlays import overlays
from mousecmr_data.evaluate.page import Page, Section, Table, number, records, span
from mousecmr_data.evaluate.policies import DEFINITIONS
from mousecmr_data.evaluate.result import MEASURES, Evaluation

CAPTIONS = {
    "dice": "Dice of each structure at ED and ES; a point a mouse, box: quartiles.",
    "agreement": "Identity and Bland–Altman plots. Lines: bias and limits of agreement; at the right edge, their 95 % "
    "confidence intervals.",
    "dice_and_errors": "Absolute error of each measure against the mouse's mean Dice (Spearman's ρ).",
    "curves": "Predicted volume of the LV blood pool over the heart beat, with the heart rate; dots: ground truth.",
    "groups": "Measures by group, ground truth (grey) beside prediction (blue).",
    "observers": "Bias (dot) and limits of agreement (line) with the ground truth.",
}


def report(
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
    figures = {k: (f, CAPTIONS[k]) for k, f in plots.all_plots(evaluation).items()}
    pair = "agreement" in figures
    measures = tables.agreement(evaluation)
    sections = [
        Section("Overlap", _anova_text(evaluation), [overlap_table(evaluation)], _only(figures, "dice")),
        Section(
            "Agreement of the measures", (), [agreement_table(measures)] if pair else [], _only(figures, "agreement")
        ),
    ]
    if pair:
        sections.append(Section("Dice and errors", (), [_errors(evaluation)], _only(figures, "dice_and_errors")))
    if mice is not None and predictions is not None:
        drawn = overlays(evaluation, mice, predictions)
        words = "Outlines at ED and ES. Solid: predicted; dotted: ground truth."
        sections.append(Section("Best, median, worst", (), (), {"overlays": (drawn, words)}))
    if "curves" in figures:
        sections.append(Section("Time–volume curves", _CURVE_TEXT, [_curves(evaluation)], _only(figures, "curves")))
    if "groups" in figures:
        both = [_groups(evaluation), _group_tests(evaluation)]
        sections.append(Section("Groups", (), both, _only(figures, "groups")))
    if observer is not None:
        theirs = tables.agreement(observer)
        drawn = plots.observers(measures, theirs, "SYNTHETIC mice: " if evaluation.synthetic else "")
        shown = [_observers((evaluation, observer), (measures, theirs))]
        sections.append(
            Section("A second observer", _OBSERVER_TEXT, shown, {"observers": (drawn, CAPTIONS["observers"])})
        )
    sections += [Section("Every mouse", (), [_mice(evaluation)]), _choices(evaluation)]
    page = Page(f"Evaluation of {Path(evaluation.name).name}", evaluation.synthetic, _lead(evaluation), sections)
    return page.write(folder)


_CURVE_TEXT = (
    "Peak ejection and filling rate: the steepest fall and rise of a parabola fitted to five frames (Bonow et al., "
    "Circulation 1981;64:315-323; Savitzky & Golay, Anal Chem 1964;36:1627-1639). The heart rate takes the cine for "
    "one whole beat.",
)
_OBSERVER_TEXT = ("A second observer's masks against the same ground truth, beside the model's.",)


def _lead(e: Evaluation) -> list[str]:
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


def overlap_table(e: Evaluation) -> Table:
    """``tables.overlap`` for people."""
    full = tables.overlap(e)
    rows = [
        {
            "score": tables.SCORES[r["score"]],
            "structure": r["structure"],
            "phase": r["phase"],
            "n": r["n"],
            "mean ± SD": f"{number(r['mean'], 3)} ± {number(r['sd'], 3)}",
            "95 % CI of the mean": span(r["ci_low"], r["ci_high"], 3),
            "median": number(r["median"], 3),
        }
        for _, r in records(full)
    ]
    return Table("overlap", "Over mice; the interval is a bootstrap by mouse.", pd.DataFrame(rows), full)


def _anova_text(e: Evaluation) -> list[str]:
    found = tables.dice_anova(e)
    if found.empty:
        return []
    words = "; ".join(
        f"{name}: F({r['df1']:.0f}, {r['df2']:.0f}) = {r['f']:.2f}, p "
        + ("< 0.001" if r["p"] < 0.001 else f"= {r['p']:.3f}")
        for name, r in records(found)
    )
    return [f"Repeated-measures ANOVA of Dice, phase × structure: {words}."]


def agreement_table(full: pd.DataFrame) -> Table:
    """``tables.agreement`` for people."""
    rows = [
        {
            "measure": f"{name} ({r['unit']})",
            "n": r["n"],
            "ground truth": f"{number(r['truth_mean'], 1)} ± {number(r['truth_sd'], 1)}",
            "prediction": f"{number(r['model_mean'], 1)} ± {number(r['model_sd'], 1)}",
            "bias (limits of agreement)": f"{number(r['bias'], 1)} ({span(r['lower'], r['upper'], 1)})",
            "95 % CI of the bias": span(r["bias_low"], r["bias_high"], 1),
            "p": number(r["p"], 3),
            "Pearson r": number(r["r"], 2),
            "Spearman ρ": number(r["rho"], 2),
            "ICC(2,1) [95 % CI]": f"{number(r['icc_2_1'], 2)} [{span(r['icc_2_1_low'], r['icc_2_1_high'], 2)}]",
        }
        for name, r in records(full)
    ]
    words = "Mean ± SD; bias = prediction − truth; limits at 1.96 SD; p: paired t-test."
    return Table("agreement", words, pd.DataFrame(rows), full)


def _errors(e: Evaluation) -> Table:
    full = tables.dice_against_errors(e)
    rows = [
        {"|error| of": name, "n": int(r["n"]), "Spearman ρ with mean Dice": number(r["rho"], 2), "p": number(r["p"], 3)}
        for name, r in records(full)
    ]
    return Table("dice_and_errors", "Does a lower Dice come with a larger error?", pd.DataFrame(rows), full)


def _curves(e: Evaluation) -> Table:
    rows = [{"mouse": m.mouse, **m.curve} for m in e.mice if m.curve]
    full = pd.DataFrame(rows)
    long = full[["mouse", "time_ms", "blood_pool_ul"]].explode(["time_ms", "blood_pool_ul"]).reset_index(drop=True)
    numbers = full.drop(columns=["time_ms", "blood_pool_ul"])
    shown = pd.DataFrame(
        {
            "mouse": numbers["mouse"],
            "heart rate (1/min)": numbers["heart_rate_bpm"].map(lambda v: number(v, 0)),
            "peak ejection (µL/s)": numbers["peak_ejection_rate_ul_s"].map(lambda v: number(v, 0)),
            "(EDV/s)": numbers["peak_ejection_rate_edv_s"].map(lambda v: number(v, 1)),
            "peak filling (µL/s)": numbers["peak_filling_rate_ul_s"].map(lambda v: number(v, 0)),
            "(EDV/s) ": numbers["peak_filling_rate_edv_s"].map(lambda v: number(v, 1)),
        }
    )
    return Table("curves", "Of the predicted masks. Every point of the curves is in curves.csv.", shown, long)


def _groups(e: Evaluation) -> Table:
    full = tables.groups(e)
    rows = []
    for name, r in records(full):
        row: dict[str, Any] = {"group": name, "n": int(r["n"])}
        row["mean Dice"] = f"{number(r['mean_dice_mean'], 3)} ± {number(r['mean_dice_sd'], 3)}"
        for key in ("edv_ul", "ef_percent", "mass_ed_mg"):
            for who in ("truth", "predicted"):
                value = f"{number(r[f'{key}_{who}_mean'], 1)} ± {number(r[f'{key}_{who}_sd'], 1)}"
                row[f"{MEASURES[key][0]} ({MEASURES[key][1]}), {who}"] = value
        rows.append(row)
    return Table("groups", "Mean ± SD of each group.", pd.DataFrame(rows), full)


def _group_tests(e: Evaluation) -> Table:
    full = tables.group_tests(e)
    rows = [
        {"measure": name, "p, ground truth": number(r["p_truth"], 3), "p, prediction": number(r["p_predicted"], 3)}
        for name, r in records(full)
    ]
    words = "Do the groups differ, and does the prediction find it too? Kruskal–Wallis, groups of three or more."
    return Table("group_tests", words, pd.DataFrame(rows), full)


def _observers(pair: tuple[Evaluation, Evaluation], both: tuple[pd.DataFrame, pd.DataFrame]) -> Table:
    rows = []
    dice = [tables.overlap(e) for e in pair]
    for structure in tables.STRUCTURES:
        row = {"": f"Dice, {structure}, {tables.PAIR}"}
        for who, table in zip(("model", "observer 2"), dice, strict=True):
            chosen = (table["score"] == "dice") & (table["structure"] == structure) & (table["phase"] == tables.PAIR)
            found = table[chosen]
            row[who] = f"{number(found['mean'].iloc[0], 3)} ± {number(found['sd'].iloc[0], 3)}" if len(found) else "–"
        rows.append(row)
    for name, unit in MEASURES.values():
        beside = [dict(table.loc[name]) for table in both]
        bias = [f"{number(r['bias'], 1)} ({span(r['lower'], r['upper'], 1)})" for r in beside]
        icc = [number(r["icc_2_1"], 2) for r in beside]
        rows.append({"": f"{name} ({unit}), bias (limits)", "model": bias[0], "observer 2": bias[1]})
        rows.append({"": f"{name}, ICC(2,1)", "model": icc[0], "observer 2": icc[1]})
    return Table("observers", "Against the same ground truth.", pd.DataFrame(rows))


def _mice(e: Evaluation) -> Table:
    full = tables.mice(e)
    shown = pd.DataFrame({"mouse": full["mouse"], "group": full["phenotype"]})
    shown["mean Dice"] = full["mean_dice"].map(lambda v: number(v, 3))
    for key, (name, unit) in MEASURES.items():
        shown[f"{name} ({unit})"] = [
            f"{number(t, 1)} → {number(p, 1)}"
            for t, p in zip(full[f"{key}_truth"], full[f"{key}_predicted"], strict=True)
        ]
    return Table("mice", "Ground truth → prediction. All numbers in mice.csv; frames in the result file.", shown, full)


def _choices(e: Evaluation) -> Section:
    named = {k: e.policies.get(k) for k in ("phases", "postprocessing", "empty")}
    rows = [{"choice": k, "value": f"{v}"} for k, v in named.items()]
    rows += [{"choice": k, "value": v} for k, v in e.policies.get("definitions", DEFINITIONS).items()]
    rows += [{"choice": f"version of {k}", "value": v} for k, v in e.versions.items()]
    shown = [Table("choices", "What every number stands on.", pd.DataFrame(rows))]
    if e.problems:
        problems = pd.DataFrame([{"mouse": p.mouse, "kind": p.kind, "what": p.text} for p in e.problems])
        shown.append(Table("problems", "What did not fit.", problems))
    return Section("Choices and versions", (), shown)


def _only(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {n: figures[n] for n in names if n in figures}
