"""A reproduction as tables, a page and files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data.evaluate import plots, tables, timing
from mousecmr_data.evaluate.page import Page, Section, Table, number, span
from mousecmr_data.evaluate.policies import Policies
from mousecmr_data.evaluate.reproduction import Reproduction

SCHEMA, SCHEMA_VERSION = "mousecmr-reproduction", 1


def side_by_side(r: Reproduction, cohort: str) -> pd.DataFrame:
    """The published rows of a cohort beside what was measured under each pair of policies.

    Columns: name, what, unit, published; then, of the article's own policies, "phases / postprocessing", tolerance
    and verdict; then the other pairs of policies.
    """
    by = r.rows[cohort]
    own = by[r.headline]
    out = pd.DataFrame([{"name": x.name, "what": x.what, "unit": x.unit, "published": x.published} for x in own])
    out[words(r.headline)] = [x.measured for x in own]
    out["tolerance"] = [x.tolerance for x in own]
    out["verdict"] = [x.verdict for x in own]
    for policies, rows in by.items():
        if policies != r.headline:
            out[words(policies)] = [x.measured for x in rows]
    return out


def cohorts(r: Reproduction) -> pd.DataFrame:
    """The cohorts side by side, under the article's policies: n, mean_dice, ICC, bias and limits of EDV and EF."""
    rows = []
    for name, by in r.evaluations.items():
        e = by[r.headline]
        found, dice = tables.agreement(e), tables.mean_dice(e)
        row: dict[str, Any] = {"cohort": name, "source": e.truth["source"], "split": e.truth["split"], "n": len(e.mice)}
        row |= {"mean_dice": float(dice.mean()), "mean_dice_sd": float(dice.std(ddof=1)) if len(dice) > 1 else math.nan}
        row["smallest_icc_2_1"] = float(found["icc_2_1"].min())
        for measure in ("EDV", "EF"):
            for key in ("bias", "lower", "upper"):
                row[f"{measure}_{key}"] = float(found.loc[measure, key])  # type: ignore[arg-type]
        rows.append(row)
    return pd.DataFrame(rows)


def words(policies: Policies) -> str:
    """A pair of policies in a column's head."""
    return f"{policies.phases} / {policies.postprocessing}"


def write(r: Reproduction, folder: str | Path) -> list[Path]:
    """Write ``reproduction.html``, ``reproduction.json``, the result file of every run, tables and figures."""
    folder = Path(folder)
    written = _page(r).write(folder, "reproduction.html")
    for cohort, by in r.evaluations.items():
        for policies, evaluation in by.items():
            name = f"{cohort}_{policies.phases}_{policies.postprocessing}.json".replace(" ", "-")
            written.append(evaluation.write(folder / "results" / name))
    path = folder / "reproduction.json"
    path.write_text(json.dumps(document(r), indent=1, ensure_ascii=False, default=str), encoding="utf-8")
    return [*written, path]


def document(r: Reproduction) -> dict[str, Any]:
    """The content of ``reproduction.json``; missing numbers are null."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": r.synthetic,
        "created": r.created,
        "weights": {"name": r.name, "trained_on": r.trained_on, "limits": r.limits},
        "verdict": r.verdict,
        "reproduced": None if r.synthetic else not r.disagreeing,
        "policies_judged": words(r.headline),
        "rows": {c: _records(side_by_side(r, c)) for c in r.rows},
        "cohorts": _records(cohorts(r)),
        "times": _records(timing.table(r.watch, r.published)),
        "times_note": timing.NOTE,
        "machine": r.machine,
        "notes": list(r.notes),
    }


def shown_rows(r: Reproduction, cohort: str) -> pd.DataFrame:
    """``side_by_side`` for people."""
    full = side_by_side(r, cohort)
    out = pd.DataFrame(
        {"": [f"{n}, {w}{f' ({u})' if u else ''}" for n, w, u in full.iloc[:, :3].itertuples(index=False)]}
    )
    digits = [2 if n.startswith(("Dice", "mean", "smallest")) or w == "r" else 3 if w == "p" else 1 for n, w in
              full[["name", "what"]].itertuples(index=False)]  # fmt: skip
    for column in full.columns[3:]:
        texts = column == "verdict"
        out[column] = full[column] if texts else [number(v, d) for v, d in zip(full[column], digits, strict=True)]
    return out.rename(columns={"tolerance": "± tolerance"})


def shown_cohorts(r: Reproduction) -> pd.DataFrame:
    """``cohorts`` for people."""
    full = cohorts(r)
    out = full[["cohort", "source", "split", "n"]].copy()
    out["mean Dice"] = [
        f"{number(a, 3)} ± {number(b, 3)}" for a, b in zip(full.mean_dice, full.mean_dice_sd, strict=True)
    ]
    out["smallest ICC(2,1)"] = [number(v, 2) for v in full["smallest_icc_2_1"]]
    for measure, unit in (("EDV", "µL"), ("EF", "%")):
        columns = (full[f"{measure}_{k}"] for k in ("bias", "lower", "upper"))
        out[f"{measure} bias (limits), {unit}"] = [
            f"{number(b, 1)} ({span(low, high, 1)})" for b, low, high in zip(*columns, strict=True)
        ]
    return out


def shown_times(r: Reproduction) -> pd.DataFrame:
    """The times for people."""
    full = timing.table(r.watch, r.published)
    out = full[["what"]].copy()
    for who in ("published", "measured"):
        out[f"{who} (ms)"] = [
            number(m, 1) + ("" if pd.isna(sd) else f" ± {number(sd, 1)}")
            for m, sd in zip(full[f"{who}_ms"], full[f"{who}_sd_ms"], strict=True)
        ]
    return out.assign(n=full["n"])


def _page(r: Reproduction) -> Page:
    lead = [f"Weights: {r.name}. Trained on: {r.trained_on}. {r.limits}", r.verdict, *r.notes]
    how = f"Verdict: on the article's own policies ({words(r.headline)}). Published: {r.published.source}."
    sections = []
    for k, cohort in enumerate(r.rows):
        full = side_by_side(r, cohort)
        shown = Table(f"rows_{k}_{cohort.replace(' ', '-')}", how, shown_rows(r, cohort), full)
        evaluation = r.evaluations[cohort][r.headline]
        figures = {f"dice_{k}": (plots.overlap(evaluation), f"Dice, {cohort}.")}
        if tables.mice(evaluation)["ef_percent_truth"].notna().any():
            figures[f"agreement_{k}"] = (plots.agreement(evaluation), f"Identity and Bland–Altman plots, {cohort}.")
        sections.append(Section(f"Published and measured: {cohort}", (), [shown], figures))
    side = Table("cohorts", "Under the article's policies.", shown_cohorts(r), cohorts(r))
    sections.append(Section("Cohorts side by side", (), [side]))
    times = Table("times", r.machine, shown_times(r), timing.table(r.watch, r.published))
    sections.append(Section("Times", (timing.NOTE,), [times]))
    return Page("The published table, reproduced", r.synthetic, lead, sections)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]
