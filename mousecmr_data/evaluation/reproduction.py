"""Compare a network (or its masks) with the published table, on one or more cohorts, under every policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import to_json_value, write_json
from mousecmr_data._utils.environment import describe_machine
from mousecmr_data._utils.outputs import write_folder
from mousecmr_data._utils.text import make_file_name, make_unique
from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.html import (
    ReportPage,
    ReportSection,
    ReportTable,
    format_bias,
    format_column,
    format_mean,
    format_number,
)
from mousecmr_data.evaluation.plots import plot_agreement, plot_overlap
from mousecmr_data.evaluation.predictions import Prediction, open_predictions, read_dataset_prediction
from mousecmr_data.evaluation.result import Evaluation, MouseScore, Problem, get_timestamp, make_evaluation
from mousecmr_data.evaluation.scoring import EvaluationConfig, PhaseRule, describe_cohort, score_mouse
from mousecmr_data.evaluation.tables import (
    BOTH,
    PAIR,
    SIGNIFICANCE,
    compute_mean_dice,
    has_measures,
    tabulate_agreement,
    tabulate_overlap,
)
from mousecmr_data.evaluation.timing import TIMES_NOTE, Stopwatch, tabulate_times
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema.manifest import Published, PublishedMeasure, load_manifest
from mousecmr_data.schema.variables import ED, ES, PREDICTED

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor

SCHEMA, SCHEMA_VERSION = "mousecmr-reproduction", 1
PAGE_FILE, DOCUMENT_FILE = "reproduction.html", "reproduction.json"

POSTPROCESSING_RULES: tuple[PostprocessingRule, ...] = ("paper", "upstream-code")
PHASES: tuple[PhaseRule, ...] = ("annotated", "volume-curve")
HEADLINE = EvaluationConfig("annotated", "paper")
"""The article's own choices: the verdict is on these, the others are shown beside them."""
INTERNAL = "internal"
AGREES, DIFFERS, NOT_MEASURED = "agrees", "differs", "not measured"

LEAKAGE = (
    "The article's split is not published. The published weights may have been trained on some of the mice scored "
    "here; numbers on them are then too good, and do not show how the network performs on unseen mice."
)


@dataclass(frozen=True)
class PublishedRow:
    """A published number beside the measured one."""

    name: str
    what: str
    unit: str
    published: float
    measured: float
    tolerance: float
    """NaN where the verdict does not come from a distance."""
    verdict: str


@dataclass(frozen=True)
class Reproduction:
    """The results, by cohort and by policies (phases, postprocessing), beside the published numbers."""

    name: str
    trained_on: str
    limits: str
    published: Published
    evaluations: Mapping[str, Mapping[EvaluationConfig, Evaluation]]
    rows: Mapping[str, Mapping[EvaluationConfig, Sequence[PublishedRow]]]
    watch: Stopwatch
    notes: Sequence[str]
    created: str
    machine: str = field(default_factory=describe_machine)

    @property
    def synthetic(self) -> bool:
        """Whether any mouse is synthetic: then nothing published is reproduced."""
        return any(e.synthetic for by_policies in self.evaluations.values() for e in by_policies.values())

    @property
    def headline(self) -> EvaluationConfig:
        """The policies that the verdict is on: the article's."""
        policies = next(iter(self.rows.values()))
        return HEADLINE if HEADLINE in policies else next(iter(policies))

    @property
    def disagreeing(self) -> list[PublishedRow]:
        """The rows, of every cohort, that differ from what was published or could not be measured."""
        rows = (r for by_policies in self.rows.values() for r in by_policies[self.headline])
        return [r for r in rows if r.verdict in (DIFFERS, NOT_MEASURED)]

    @property
    def verdict(self) -> str:
        """The verdict in a sentence."""
        if self.synthetic:
            return (
                "SYNTHETIC mice: it ran from end to end, and nothing published was reproduced. The verdicts of the "
                "rows only say how close synthetic mice are to real ones."
            )
        total = sum(len(by_policies[self.headline]) for by_policies in self.rows.values())
        bad = len(self.disagreeing)
        return f"{total - bad} of {total} rows agree with what was published{'' if bad else ': reproduced'}."


def reproduce(
    network: Predictor | Any,
    cohorts: Mapping[str, Any],
    *,
    published: Published | None = None,
    rules: Sequence[PostprocessingRule] = POSTPROCESSING_RULES,
    phases: Sequence[PhaseRule] = PHASES,
    progress: Callable[[int], None] | None = None,
) -> Reproduction:
    """Score a network on ``cohorts`` under every pair of ``rules`` and ``phases``, beside the published numbers.

    ``network`` is a predictor (``mousecmr_data.load_model(...)``, or an object with its ``origin`` and ``segment``), or
    existing predictions (a path or a mapping, without post-processing); then no times are measured. ``cohorts`` are by
    name; those whose name starts with "internal" are compared with the published table, the others with what was
    published of external cohorts. Each mouse is segmented once; whole cines only where "volume-curve" is among
    ``phases``. ``progress`` is called with 1 after each mouse.
    """
    published = published or load_manifest().published
    if published is None:
        raise PredictionError("There are no published numbers.", "a manifest with published.toml")
    watch = Stopwatch()
    policies = [EvaluationConfig(p, r) for r, p in product(rules, phases)]
    is_network = hasattr(network, "segment")
    reader = _NetworkMasks(network, "volume-curve" in phases, watch) if is_network else _ExistingMasks(network)
    evaluations: dict[str, dict[EvaluationConfig, Evaluation]] = {}
    rows: dict[str, dict[EvaluationConfig, Sequence[PublishedRow]]] = {}
    notes = []
    for cohort, mice in cohorts.items():
        scores: dict[EvaluationConfig, list[MouseScore]] = {p: [] for p in policies}
        problems = []
        for mouse in mice.mice:
            ds = mice[mouse]
            prediction = reader.read(mouse, ds)
            for config in policies:
                scores[config].append(score_mouse(ds, prediction, config))
            if doubt := scores[policies[0]][-1].doubt:
                problems.append(Problem(mouse, "orientation", doubt))
            if progress:
                progress(1)
        about = describe_cohort(mice)
        if about["caveat"]:
            notes.append(f"{cohort} ({about['source']}, {about['split_scheme']}): {about['caveat']}")
        evaluations[cohort] = {
            config: make_evaluation(reader.name, about, config.to_dict(), s, problems) for config, s in scores.items()
        }
        kind = INTERNAL if cohort.startswith(INTERNAL) else "external"
        rows[cohort] = {config: compare_with_published(e, published, kind) for config, e in evaluations[cohort].items()}
    notes, now = [*dict.fromkeys(notes), LEAKAGE], get_timestamp()
    return Reproduction(reader.name, reader.trained_on, reader.limits, published, evaluations, rows, watch, notes, now)


class _NetworkMasks:
    """Segment mice with a network and measure the time."""

    def __init__(self, network: Predictor, whole: bool, watch: Stopwatch) -> None:
        self.network, self.whole, self.watch, self.warm = network, whole, watch, False
        origin = network.origin
        self.name, self.trained_on, self.limits = str(origin.name), str(origin.trained_on), str(origin.limits)

    def read(self, mouse: str, ds: xr.Dataset) -> Prediction:
        images = ds.drop_vars([v for v in ds.data_vars if v != "image"])
        labelled = images.isel(frame=np.flatnonzero(ds["labelled"].values))
        pair = images.isel(frame=np.flatnonzero(np.isin(ds["phase"].values, [ED, ES]))).load()
        if not self.warm:  # the first call prepares things that later calls need not
            self._segment(labelled.isel(frame=slice(1)).load())
            self.warm = True
        if pair.sizes["frame"]:
            self.watch.time("pair", lambda: self._segment(pair))
        if not self.whole:
            return read_dataset_prediction(self._segment(labelled.load()), mouse)
        cine = images.load()
        predicted = self.watch.time("cine", lambda: self._segment(cine))
        self.watch.add("image", self.watch.seconds["cine"][-1] / (ds.sizes["frame"] * ds.sizes["slice"]))
        return read_dataset_prediction(predicted, mouse)

    def _segment(self, ds: xr.Dataset) -> xr.Dataset:
        return self.network.segment(ds, postprocessing="none")[[PREDICTED]]


class _ExistingMasks:
    """Read masks that exist already."""

    def __init__(self, predictions: Any) -> None:
        self.predictions = open_predictions(predictions)
        self.name, self.trained_on = self.predictions.name, "not stated"
        self.limits = "Existing masks: this library does not know how they were made."

    def read(self, mouse: str, ds: xr.Dataset) -> Prediction:
        key = self.predictions.find(mouse, False)
        if key is None:
            raise PredictionError(
                f"There is no prediction of {mouse} in {self.name}.",
                "a prediction for every mouse, without post-processing",
                f"mousecmr predict {mouse} --postprocessing none -o FOLDER --weights NAME",
            )
        prediction = self.predictions.read(key, ds)
        self.trained_on = prediction.about.get("trained_on", self.trained_on)
        return prediction


# Comparison with the published table


def compare_with_published(evaluation: Evaluation, published: Published, cohort: str = INTERNAL) -> list[PublishedRow]:
    """Compare a cohort with the rows of ``published``: all rows for "internal", only bounds for other cohorts.

    The published numbers are of N = 25 mice of a split that was not published, so even the same network, on other mice
    of the same kind, will not repeat them digit by digit. A row agrees when the two numbers differ by no more than
    two samples of one population do in 95 of 100 cases (normal theory), plus half a unit of the last printed digit:

    - mean: 1.96 · SD · √(1/N + 1/n), with the published SD;
    - bias: the same with the SD of the differences, (upper − lower limit) / 3.92;
    - a limit of agreement: √3 times that of the bias (Bland & Altman 1986);
    - r: 1.96 · √(1/(N − 3) + 1/(n − 3)) on Fisher's z, given here as the distance to its farther end;
    - p: agrees when it is on the same side of 0.05;
    - a published bound ("at least"): agrees when it is reached.
    """
    dice, measures = tabulate_overlap(evaluation), tabulate_agreement(evaluation)
    means = dice[dice["score"] == "dice"].set_index(["structure", "phase"])[["mean", "n"]].T.to_dict("list")
    rows: list[PublishedRow] = []
    if cohort == INTERNAL:
        for m in published.measures:
            rows += _compare_measure(m, dict(measures.loc[m.name]), published.n_mice)
        for d in published.dice:
            mean, n = means.get((d.structure, d.phase), (np.nan, 0))
            name = f"Dice {d.structure}, {d.phase}"
            tolerance = _get_mean_tolerance(d.sd, n, published.n_mice) + 0.005
            rows.append(_make_row(name, "mean", "", d.mean, mean, tolerance))
    for bound in published.bounds:
        if bound.cohort in (cohort, "every"):
            is_dice = bound.what == "mean Dice"
            value = float(means.get((BOTH, PAIR), [np.nan])[0] if is_dice else measures["icc_2_1"].min())
            reached = round(value, 2) >= bound.at_least  # printed with two digits
            verdict = _make_verdict(value, reached)
            rows.append(PublishedRow(bound.what, "at least", "", bound.at_least, value, np.nan, verdict))
    return rows


def _compare_measure(m: PublishedMeasure, measured: Mapping[str, Any], n_published: int) -> list[PublishedRow]:
    n, p = int(measured["n"]), float(measured["p"])
    low, high = m.limits_of_agreement
    bias = _get_mean_tolerance((high - low) / (2 * 1.96), n, n_published)
    numbers = [
        ("truth, mean", m.truth[0], "truth_mean", _get_mean_tolerance(m.truth[1], n, n_published)),
        ("model, mean", m.model[0], "model_mean", _get_mean_tolerance(m.model[1], n, n_published)),
        ("bias", m.bias, "bias", bias),
        ("lower limit", low, "lower", 3**0.5 * bias),
        ("upper limit", high, "upper", 3**0.5 * bias),
    ]
    return [
        *(_make_row(m.name, what, m.unit, value, measured[key], width + 0.05) for what, value, key, width in numbers),
        _make_row(m.name, "r", "", m.r, measured["r"], _get_r_tolerance(m.r, n, n_published) + 0.005),
        PublishedRow(m.name, "p", "", m.p, p, np.nan, _make_verdict(p, (p < SIGNIFICANCE) == (m.p < SIGNIFICANCE))),
    ]


def _make_row(name: str, what: str, unit: str, published: float, measured: float, tolerance: float) -> PublishedRow:
    measured = float(measured)
    is_close = abs(measured - published) <= tolerance
    verdict = _make_verdict(measured + tolerance, is_close)  # the sum is NaN where either is
    return PublishedRow(name, what, unit, published, measured, tolerance, verdict)


def _make_verdict(number: float, agrees: bool) -> str:
    return NOT_MEASURED if np.isnan(number) else AGREES if agrees else DIFFERS


def _get_mean_tolerance(sd: float, n: int, n_published: int) -> float:
    return 1.96 * sd * (1 / n_published + 1 / n) ** 0.5 if n and n_published else np.nan


def _get_r_tolerance(r: float, n: int, n_published: int) -> float:
    """Return how far below r the other end of the interval is: Fisher's interval is longer on that side."""
    if min(n, n_published) < 4:
        return np.nan
    z = np.arctanh(min(r, 0.9999))
    return float(r - np.tanh(z - 1.96 * (1 / (n_published - 3) + 1 / (n - 3)) ** 0.5))


# Tables, page and files


def tabulate_side_by_side(r: Reproduction, cohort: str) -> pd.DataFrame:
    """Return the published rows of a cohort beside what was measured under each pair of policies.

    Columns: name, what, unit, published; then, of the article's own policies, "phases / postprocessing", tolerance
    and verdict; then the other pairs of policies.
    """
    table = pd.DataFrame(r.rows[cohort][r.headline], columns=[f.name for f in fields(PublishedRow)])
    table = table.rename(columns={"measured": describe_policies(r.headline)})
    for policies, rows in r.rows[cohort].items():
        if policies != r.headline:
            table[describe_policies(policies)] = [row.measured for row in rows]
    return table


def tabulate_cohorts(r: Reproduction) -> pd.DataFrame:
    """Return one row per cohort, under the article's policies: n, mean_dice, ICC, bias and limits of EDV and EF."""
    rows = []
    for name, by_policies in r.evaluations.items():
        e = by_policies[r.headline]
        measures, dice = tabulate_agreement(e), compute_mean_dice(e)
        row: dict[str, Any] = {"cohort": name, "source": e.truth["source"], "split": e.truth["split"], "n": len(e.mice)}
        row |= {"mean_dice": float(dice.mean()), "mean_dice_sd": float(dice.std(ddof=1)) if len(dice) > 1 else math.nan}
        row["smallest_icc_2_1"] = float(measures["icc_2_1"].min())
        for measure, key in product(("EDV", "EF"), ("bias", "lower", "upper")):
            row[f"{measure}_{key}"] = float(measures.loc[measure, key])  # type: ignore[arg-type]
        rows.append(row)
    return pd.DataFrame(rows)


def describe_policies(policies: EvaluationConfig) -> str:
    """Return the heading of a column: a pair of policies."""
    return f"{policies.phases} / {policies.postprocessing}"


def write_reproduction(r: Reproduction, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``reproduction.html``, ``reproduction.json``, the result file of every run, tables and figures.

    Raises OutputError where a file of somebody else is in the way; one of an earlier run that was edited is replaced
    only with ``overwrite``.
    """
    folder = Path(folder)
    with write_folder(folder, overwrite=overwrite, inside=True, keep=True) as partial:
        paths = _build_page(r).write(partial, PAGE_FILE)
        names = make_unique(map(make_file_name, r.evaluations))
        for name, by_policies in zip(names, r.evaluations.values(), strict=True):
            for policies, evaluation in by_policies.items():
                path = partial / "results" / f"{name}_{policies.phases}_{policies.postprocessing}.json"
                paths.append(evaluation.write(path))
        paths.append(write_json(partial / DOCUMENT_FILE, make_document(r)))
    return [folder / path.relative_to(partial) for path in paths]


def make_document(r: Reproduction) -> dict[str, Any]:
    """Return the content of ``reproduction.json``; missing numbers are null."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": r.synthetic,
        "created": r.created,
        "weights": {"name": r.name, "trained_on": r.trained_on, "limits": r.limits},
        "verdict": r.verdict,
        "reproduced": None if r.synthetic else not r.disagreeing,
        "policies_judged": describe_policies(r.headline),
        "rows": {cohort: tabulate_side_by_side(r, cohort).to_dict("records") for cohort in r.rows},
        "cohorts": tabulate_cohorts(r).to_dict("records"),
        "times": tabulate_times(r.watch, r.published).to_dict("records"),
        "times_note": TIMES_NOTE,
        "machine": r.machine,
        "notes": list(r.notes),
    }
    return to_json_value(document)  # type: ignore[no-any-return]


def format_rows(r: Reproduction, cohort: str) -> pd.DataFrame:
    """Format :func:`tabulate_side_by_side` for people."""
    full = tabulate_side_by_side(r, cohort)
    labels, digits = [], []
    for name, what, unit in full[["name", "what", "unit"]].itertuples(index=False):
        labels.append(f"{name}, {what}{f' ({unit})' if unit else ''}")
        has_two = what == "r" or name.startswith(("Dice", "mean", "smallest"))
        digits.append(2 if has_two else 3 if what == "p" else 1)
    table = pd.DataFrame({"": labels})
    for column in full.columns[3:]:
        values = full[column]
        is_text = column == "verdict"
        table[column] = values if is_text else [format_number(v, d) for v, d in zip(values, digits, strict=True)]
    return table.rename(columns={"tolerance": "± tolerance"})


def format_cohorts(r: Reproduction) -> pd.DataFrame:
    """Format :func:`tabulate_cohorts` for people."""
    full = tabulate_cohorts(r)
    table = full[["cohort", "source", "split", "n"]].copy()
    table["mean Dice"] = [format_mean(m, sd, 3) for m, sd in zip(full.mean_dice, full.mean_dice_sd, strict=True)]
    table["smallest ICC(2,1)"] = format_column(full["smallest_icc_2_1"], 2)
    for measure, unit in (("EDV", "µL"), ("EF", "%")):
        columns = [f"{measure}_{key}" for key in ("bias", "lower", "upper")]
        table[f"{measure} bias (limits), {unit}"] = [format_bias(*row) for row in full[columns].itertuples(index=False)]
    return table


def format_times(r: Reproduction) -> pd.DataFrame:
    """Format the times for people."""
    full = tabulate_times(r.watch, r.published)
    table = full[["what"]].copy()
    for source in ("published", "measured"):
        table[f"{source} (ms)"] = [
            format_number(mean, 1) if pd.isna(sd) else format_mean(mean, sd, 1)
            for mean, sd in zip(full[f"{source}_ms"], full[f"{source}_sd_ms"], strict=True)
        ]
    return table.assign(n=full["n"])


def _build_page(r: Reproduction) -> ReportPage:
    lead = [f"Weights: {r.name}. Trained on: {r.trained_on}. {r.limits}", r.verdict, *r.notes]
    policies = describe_policies(r.headline)
    caption = f"Verdict: on the article's own policies ({policies}). Published: {r.published.source}."
    sections = []
    for k, cohort in enumerate(r.rows):
        rows = tabulate_side_by_side(r, cohort)
        table = ReportTable(make_file_name(f"rows_{k}_{cohort}"), caption, format_rows(r, cohort), rows)
        evaluation = r.evaluations[cohort][r.headline]
        figures = {f"dice_{k}": (plot_overlap(evaluation), f"Dice, {cohort}.")}
        if has_measures(evaluation):
            figures[f"agreement_{k}"] = (plot_agreement(evaluation), f"Identity and Bland–Altman plots, {cohort}.")
        sections.append(ReportSection(f"Published and measured: {cohort}", (), [table], figures))
    cohorts = ReportTable("cohorts", "Under the article's policies.", format_cohorts(r), tabulate_cohorts(r))
    times = ReportTable("times", r.machine, format_times(r), tabulate_times(r.watch, r.published))
    sections += [ReportSection("Cohorts side by side", (), [cohorts]), ReportSection("Times", (TIMES_NOTE,), [times])]
    return ReportPage("The published table, reproduced", r.synthetic, lead, sections)
