"""The report of an evaluation: what was scored, how, and every table and figure, as one HTML page and as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mousecmr_data._utils.atomic import write_bytes, write_text
from mousecmr_data._utils.outputs import check_folder, write_folder
from mousecmr_data._utils.tables import write_table
from mousecmr_data._utils.text import RESEARCH_ONLY, SYNTHETIC_DATA, format_count
from mousecmr_data.errors import MissingExtraError
from mousecmr_data.evaluation.plots import plot_all, plot_observers, plot_overlays
from mousecmr_data.evaluation.result import MEASURES, Evaluation
from mousecmr_data.evaluation.scoring import DEFINITIONS
from mousecmr_data.evaluation.tables import (
    PAIR,
    SCORES,
    STRUCTURES,
    compare_groups,
    correlate_dice_with_errors,
    describe_p,
    format_bias,
    format_column,
    format_interval,
    format_mean,
    format_number,
    format_p,
    list_records,
    run_dice_anova,
    run_dice_post_hoc,
    tabulate_agreement,
    tabulate_groups,
    tabulate_mice,
    tabulate_overlap,
)
from mousecmr_data.metrics.volumes import is_heart_rate_plausible
from mousecmr_data.plotting import mark_title

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

REPORT_FILE = "report.html"
CAPTIONS = {
    "dice": "Dice of each structure at ED and ES; one point per mouse, box: quartiles.",
    "agreement": "Identity and Bland–Altman plots. Lines: bias and limits of agreement; at the right edge, their 95 % "
    "confidence intervals.",
    "dice_and_errors": "Absolute error of each measure against the mouse's mean Dice (Spearman's ρ).",
    "overlays": "Outlines at ED and ES. Solid: predicted; dotted: ground truth.",
    "curves": "Predicted volume of the LV blood pool over the heart beat, with the heart rate; dots: ground truth.",
    "groups": "Measures by group, ground truth (grey) beside prediction (blue).",
    "observers": "Bias (dot) and limits of agreement (line) with the ground truth.",
}
MISSED = "missed: mice of which nothing was predicted; their Dice is 0, their distances are in no mean."
NO_INTERVALS = "Fewer than three mice have no interval."
INTERVALS = f"95 % CI: bootstrap by mouse; Student's t below 20 mice. {NO_INTERVALS}"
_CURVE_TEXT = (
    "Peak ejection and filling rate: the steepest fall and rise of a cubic fitted to seven frames (Bonow et al., "
    "Circulation 1981;64:315-323; Savitzky & Golay, Anal Chem 1964;36:1627-1639). On an analytic curve they read 2 % "
    "low at frames of 5 ms and 3 % at 8 ms. The heart rate assumes that the cine covers one whole beat; one that no "
    "mouse has is marked (?): the frames are not one beat, or their time is wrong, and the peak rates are wrong, too."
)
HEART_RATE = "heart rate (1/min)"
_CURVE_COLUMNS = {
    HEART_RATE: ("heart_rate_bpm", 0),
    "peak ejection (µL/s)": ("peak_ejection_rate_ul_s", 0),
    "(EDV/s)": ("peak_ejection_rate_edv_s", 1),
    "peak filling (µL/s)": ("peak_filling_rate_ul_s", 0),
    "(EDV/s) ": ("peak_filling_rate_edv_s", 1),
}
"""Columns of the table of curves: the result's key, and digits."""


DPI = 150
VERDICT_CELLS = {
    verdict: f"{sign} {verdict}" for verdict, sign in {"agrees": "=", "better": "▲", "differs": "✗"}.items()
}
"""How verdicts are written: a sign and the word, for readers who see no colours."""


@dataclass(frozen=True)
class ReportTable:
    """A table as it is shown (text cells) and, for the CSV file, as it was computed."""

    name: str
    """Name of its files."""
    caption: str
    shown: pd.DataFrame
    full: pd.DataFrame | None = None

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[str(v) for v in row] for row in self.shown.itertuples(index=False)]

    @property
    def classes(self) -> list[str]:
        """The verdict of each row, for its colour; empty where it has none."""
        words = [[cell.rpartition(" ")[2] for cell in row if cell in VERDICT_CELLS.values()] for row in self.cells]
        return [found[0] if found else "" for found in words]

    @property
    def sides(self) -> list[str]:
        """Alignment of each column: "left" for words, "right" for numbers."""
        columns = zip(*self.cells, strict=True)
        return ["right" if all(c[:1].isdigit() or c[:1] in "−–<" for c in column) else "left" for column in columns]


@dataclass(frozen=True)
class ReportSection:
    """A heading with its text, tables and figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    """By the name of its files: the figure and its caption."""


@dataclass(frozen=True)
class ReportPage:
    """The page: title, first paragraphs and sections."""

    title: str
    synthetic: bool
    lead: Sequence[str]
    sections: Sequence[ReportSection]
    outcome: str = ""
    """Colours the first paragraph: agrees, better, differs or none."""

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write the page, ``figures/*.png`` and ``.svg``, ``tables/*.csv``, ``.tex`` and ``.xlsx``; return the paths.

        ``folder`` is one that :func:`~mousecmr_data._utils.outputs.write_folder` moves into place.
        """
        template = _load_template()
        images = {
            (stem, suffix): _render_figure(figure, suffix)
            for section in self.sections
            for stem, (figure, _) in section.figures.items()
            for suffix in ("png", "svg")
        }
        pictures = {
            stem: f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
            for (stem, suffix), image in images.items()
            if suffix == "png"
        }
        html = template.render(page=self, pictures=pictures, synthetic=SYNTHETIC_DATA, purpose=RESEARCH_ONLY)
        paths = [write_text(folder / name, html)]
        paths += [
            write_bytes(folder / "figures" / f"{stem}.{suffix}", image) for (stem, suffix), image in images.items()
        ]
        for section in self.sections:
            for table in section.tables:
                paths += _write_table(table, folder / "tables", self.synthetic)
        return paths


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    *,
    observer: Evaluation | None = None,
    mice: Any = None,
    predictions: Any = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``report.html`` (self-contained), ``figures/`` and ``tables/`` into ``folder``; return the paths.

    ``observer``: a second observer's masks scored against the same truth, shown beside the model. ``mice`` (a
    cohort, or datasets by name) and ``predictions``, those that were scored, add the overlays.

    Raises OutputError where a file of somebody else is in the way; one of an earlier report that was edited is replaced
    only with ``overwrite``.
    """
    folder = Path(folder)
    check_folder(folder, [REPORT_FILE], overwrite=overwrite)
    figures = {name: {name: (figure, CAPTIONS[name])} for name, figure in plot_all(evaluation).items()}
    measures = tabulate_agreement(evaluation)
    overlap = [format_overlap(evaluation), *format_post_hoc(evaluation)]
    sections = [ReportSection("Overlap", describe_anova(evaluation), overlap, figures["dice"])]
    if "agreement" in figures:
        errors, agreement = format_errors(evaluation), format_agreement(measures)
        sections.append(ReportSection("Agreement of the measures", (), [agreement], figures["agreement"]))
        sections.append(ReportSection("Dice and errors", (), [errors], figures["dice_and_errors"]))
    else:
        sections.append(ReportSection("Agreement of the measures"))
    if mice is not None and predictions is not None:
        overlays = plot_overlays(evaluation, mice, predictions)
        sections.append(ReportSection("Best, median, worst", figures={"overlays": (overlays, CAPTIONS["overlays"])}))
    if "curves" in figures:
        curves = _format_curves(evaluation)
        sections.append(ReportSection("Time–volume curves", [_CURVE_TEXT], [curves], figures["curves"]))
    if "groups" in figures:
        groups = [_format_groups(evaluation), _format_group_tests(evaluation)]
        sections.append(ReportSection("Groups", (), groups, figures["groups"]))
    if observer is not None:
        text = "A second observer's masks against the same ground truth, beside the model's."
        pair = (measures, tabulate_agreement(observer))
        observers = plot_observers(*pair, mark_title("", evaluation.synthetic))
        figures["observers"] = {"observers": (observers, CAPTIONS["observers"])}
        table = _format_observers((evaluation, observer), pair)
        sections.append(ReportSection("A second observer", [text], [table], figures["observers"]))
    sections.append(ReportSection("Every mouse", (), [_format_mice(evaluation)]))
    sections.append(ReportSection("Choices and versions", (), _format_choices(evaluation)))
    title = f"Evaluation of {Path(evaluation.name).name}"
    page = ReportPage(title, evaluation.synthetic, _make_lead(evaluation), sections)
    with write_folder(folder, overwrite=overwrite, inside=True, keep=True) as partial:
        written = [path.relative_to(partial) for path in page.write(partial, REPORT_FILE)]
    return [folder / path for path in written]


def _make_lead(e: Evaluation) -> list[str]:
    t = e.truth
    mice = format_count(len(e.mice), "mouse")
    mice += f" of {t.get('source')} (version {t.get('version')}), split {t.get('split')}"
    scheme = f" of the scheme {t['split_scheme']}" if t.get("split_scheme") else ""
    time = e.created.replace("T", " ").replace("+00:00", " UTC")
    lines = [f"{mice}{scheme}. Scored {time} with mousecmr-data {e.versions.get('mousecmr-data')}."]
    if t.get("caveat"):
        lines.append(f"Caveat: {t['caveat']}")
    training = sorted({m.about["trained_on"] for m in e.mice if "trained_on" in m.about})
    lines += [f"The masks' network was trained on: {data}." for data in training]
    lines += [notice for notice in e.notices if notice != SYNTHETIC_DATA]  # which the page shows above
    if e.problems:
        lines.append(f"{len(e.problems)} problems are listed at the end.")
    return lines


def format_overlap(e: Evaluation) -> ReportTable:
    """Format :func:`~mousecmr_data.evaluation.tabulate_overlap` for people."""
    full = tabulate_overlap(e)
    rows = [
        {
            "score": SCORES[r["score"]],
            "structure": r["structure"],
            "phase": r["phase"],
            "n": r["n"],
            "missed": r["missed"],
            "mean ± SD": format_mean(r["mean"], r["sd"], 3),
            "95 % CI of the mean": format_interval(r["ci_low"], r["ci_high"], 3),
            "median": format_number(r["median"], 3),
        }
        for _, r in list_records(full)
    ]
    return ReportTable("overlap", f"Over mice. {MISSED} {INTERVALS}", pd.DataFrame(rows), full)


def describe_anova(e: Evaluation) -> list[str]:
    """Describe :func:`~mousecmr_data.evaluation.tables.run_dice_anova` in a sentence; nothing where it is empty."""
    effects = [
        f"{name}: F({r['df1']:.0f}, {r['df2']:.0f}) = {r['f']:.2f}, {describe_p(r['p'])}"
        for name, r in list_records(run_dice_anova(e))
    ]
    return [f"Repeated-measures ANOVA of Dice, phase × structure: {'; '.join(effects)}."] if effects else []


def format_post_hoc(e: Evaluation) -> list[ReportTable]:
    """Format :func:`~mousecmr_data.evaluation.tables.run_dice_post_hoc` for people; nothing where it is empty."""
    full = run_dice_post_hoc(e)
    if full.empty:
        return []
    shown = pd.DataFrame({"Dice of": full["a"], "against": full["b"], "n": full["n"]})
    shown["difference"] = format_column(full["difference"], 3)
    shown["p"], shown["p adjusted"] = ([format_p(p) for p in full[k]] for k in ("p", "p_adjusted"))
    return [ReportTable("dice_post_hoc", "Post-hoc tests: paired t, adjusted by Holm's method.", shown, full)]


def format_agreement(full: pd.DataFrame) -> ReportTable:
    """Format a table of :func:`~mousecmr_data.evaluation.tabulate_agreement` for people."""
    rows = [
        {
            "measure": f"{name} ({r['unit']})",
            "n": r["n"],
            "ground truth": format_mean(r["truth_mean"], r["truth_sd"], 1),
            "prediction": format_mean(r["model_mean"], r["model_sd"], 1),
            "bias (limits of agreement)": format_bias(r["bias"], r["lower"], r["upper"]),
            "95 % CI of the bias": format_interval(r["bias_low"], r["bias_high"], 1),
            "p": format_p(r["p"]),
            "bias and size: r (p)": f"{format_number(r['proportional_r'], 2)} ({format_p(r['proportional_p'])})",
            "Pearson r": format_number(r["r"], 2),
            "Spearman ρ": format_number(r["rho"], 2),
            "ICC(2,1) [95 % CI]": f"{format_number(r['icc_2_1'], 2)} "
            f"[{format_interval(r['icc_2_1_low'], r['icc_2_1_high'], 2)}]",
        }
        for name, r in list_records(full)
    ]
    caption = "Mean ± SD; bias = prediction − truth; limits at 1.96 SD; p: paired t-test; bias and size: does the "
    caption += f"difference grow with the mean of both? {NO_INTERVALS}"
    return ReportTable("agreement", caption, pd.DataFrame(rows), full)


def format_errors(e: Evaluation, published: Mapping[str, float] | None = None) -> ReportTable:
    """Format :func:`~mousecmr_data.evaluation.tables.correlate_dice_with_errors` beside the published numbers."""
    full = correlate_dice_with_errors(e)
    shown = pd.DataFrame({"|error| of": full.index, "n": [*full["n"]]})
    shown["Spearman ρ with mean Dice"] = format_column(full["rho"], 2)
    shown["p"] = [format_p(p) for p in full["p"]]
    if published is not None:
        full = full.assign(published_rho=[published.get(str(name), np.nan) for name in full.index])
        shown.insert(2, "published ρ", format_column(full["published_rho"], 2))
    return ReportTable("dice_and_errors", "Does a lower Dice come with a larger error?", shown, full)


def _format_curves(e: Evaluation) -> ReportTable:
    curves = pd.DataFrame([{"mouse": m.mouse, **m.curve} for m in e.mice if m.curve])
    points = ["time_ms", "blood_pool_ul"]
    plausible = [is_heart_rate_plausible(bpm) for bpm in curves["heart_rate_bpm"]]
    full = curves[["mouse", *points]].explode(points).reset_index(drop=True)
    shown = curves[["mouse"]].copy()
    for title, (key, digits) in _CURVE_COLUMNS.items():
        shown[title] = format_column(curves[key], digits)
    shown[HEART_RATE] = [f"{text}{'' if ok else ' (?)'}" for text, ok in zip(shown[HEART_RATE], plausible, strict=True)]
    return ReportTable("curves", "Of the predicted masks. Every point of the curves is in curves.csv.", shown, full)


def _format_groups(e: Evaluation) -> ReportTable:
    full = tabulate_groups(e)
    rows = []
    for name, r in list_records(full):
        row = {"group": name, "n": int(r["n"]), "mean Dice": format_mean(r["mean_dice_mean"], r["mean_dice_sd"], 3)}
        for key in ("edv_ul", "ef_percent", "mass_ed_mg"):
            for source in ("truth", "predicted"):
                value = format_mean(r[f"{key}_{source}_mean"], r[f"{key}_{source}_sd"], 1)
                row[f"{MEASURES[key][0]} ({MEASURES[key][1]}), {source}"] = value
        rows.append(row)
    return ReportTable("groups", "Mean ± SD of each group.", pd.DataFrame(rows), full)


def _format_group_tests(e: Evaluation) -> ReportTable:
    full = compare_groups(e)
    shown = pd.DataFrame({"measure": full.index})
    shown["p, ground truth"] = [format_p(p) for p in full["p_truth"]]
    shown["p, prediction"] = [format_p(p) for p in full["p_predicted"]]
    caption = "Do the groups differ in the truth and in the prediction? Kruskal–Wallis, groups of three or more."
    return ReportTable("group_tests", caption, shown, full)


def _format_observers(pair: tuple[Evaluation, Evaluation], measures: tuple[pd.DataFrame, pd.DataFrame]) -> ReportTable:
    rows = []
    dice = [
        t[(t["score"] == "dice") & (t["phase"] == PAIR)].set_index("structure") for t in map(tabulate_overlap, pair)
    ]
    for structure in STRUCTURES:
        means = [
            format_mean(t["mean"][structure], t["sd"][structure], 3) if structure in t.index else "–" for t in dice
        ]
        rows.append((f"Dice, {structure}, {PAIR}", *means))
    for name, unit in MEASURES.values():
        bias = [format_bias(*t.loc[name, ["bias", "lower", "upper"]]) for t in measures]
        rows.append((f"{name} ({unit}), bias (limits)", *bias))
        rows.append((f"{name}, ICC(2,1)", *(format_number(t["icc_2_1"][name], 2) for t in measures)))
    shown = pd.DataFrame(rows, columns=["", "model", "observer 2"])
    return ReportTable("observers", "Against the same ground truth.", shown)


def _format_mice(e: Evaluation) -> ReportTable:
    full = tabulate_mice(e)
    shown = pd.DataFrame({"mouse": full["mouse"], "group": full["phenotype"]})
    shown["mean Dice"] = format_column(full["mean_dice"], 3)
    for key, (name, unit) in MEASURES.items():
        values = (format_column(full[f"{key}_{source}"], 1) for source in ("truth", "predicted"))
        shown[f"{name} ({unit})"] = [" → ".join(pair) for pair in zip(*values, strict=True)]
    caption = "Ground truth → prediction. All numbers are in mice.csv; frames are in the result file."
    return ReportTable("mice", caption, shown, full)


def _format_choices(e: Evaluation) -> list[ReportTable]:
    rows = [{"choice": k, "value": str(e.policies.get(k))} for k in ("phases", "postprocessing", "empty")]
    rows += [{"choice": k, "value": v} for k, v in e.policies.get("definitions", DEFINITIONS).items()]
    rows += [{"choice": f"version of {k}", "value": v} for k, v in e.versions.items()]
    tables = [ReportTable("choices", "The choices behind every number.", pd.DataFrame(rows))]
    if e.problems:
        problems = pd.DataFrame([{"mouse": p.mouse, "kind": p.kind, "what": p.text} for p in e.problems])
        tables.append(
            ReportTable(
                "problems",
                "Mice that were not scored or whose score is in doubt, and predictions that were not used.",
                problems,
            )
        )
    return tables


def _load_template() -> Template:
    try:
        from jinja2 import Environment
    except ImportError as e:
        raise MissingExtraError.from_module("jinja2", "evaluation") from e
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def _write_table(table: ReportTable, folder: Path, synthetic: bool) -> list[Path]:
    full = table.shown if table.full is None else table.full
    full = full.assign(synthetic=True) if synthetic else full
    caption = _escape_latex(f"{table.caption}{' SYNTHETIC mice.' if synthetic else ''}")
    escaped = table.shown.astype(str).map(_escape_latex).rename(columns=_escape_latex)
    tex = escaped.to_latex(index=False, caption=caption, label=f"tab:{table.name}")
    return [
        *write_table(folder / f"{table.name}.csv", full, table.name),
        write_text(folder / f"{table.name}.tex", tex),
    ]


_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}",
     "]": "{]}", "\n": " ", "±": r"$\pm$", "µ": r"\textmu{}", "−": "$-$", "×": r"$\times$", "ρ": r"$\rho$", "–": "--",
     "≥": r"$\geq$"}
)  # fmt: skip


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _render_figure(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {}
    figure.savefig(buffer, format=suffix, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    figure.set_layout_engine("none")  # the layout is done; computing it again for the next format would be slow
    return buffer.getvalue()
