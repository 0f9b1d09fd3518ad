"""The published table again: a network (or its given masks) on one or more cohorts, under every policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.json import write_json
from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.html import ReportPage, ReportSection, ReportTable, format_interval, format_number
from mousecmr_data.evaluation.plots import plot_agreement, plot_overlap
from mousecmr_data.evaluation.predictions import Prediction, open_predictions, read_dataset_prediction
from mousecmr_data.evaluation.result import Evaluation, MouseScore, Problem, list_versions
from mousecmr_data.evaluation.scoring import EvaluationConfig, PhaseRule, describe_cohort, score_mouse
from mousecmr_data.evaluation.tables import (
    BOTH,
    PAIR,
    compute_mean_dice,
    tabulate_agreement,
    tabulate_mice,
    tabulate_overlap,
)
from mousecmr_data.evaluation.timing import TIMES_NOTE, Stopwatch, describe_machine, tabulate_times
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema.manifest import Published, load_manifest
from mousecmr_data.schema.variables import PREDICTED

# MERGED evaluation.reproduction: The published table beside a measured one, row by row, with a tolerance and a verdict.
#
# The published numbers are of 25 mice of a split that was not published, so even the same network, on other mice of
# the same kind, will not repeat them digit by digit. A row agrees when the two numbers differ by no more than two
# samples of one population do in 95 of 100 cases (normal theory), plus half a unit of the last printed digit:
#
# - mean: 1.96 · SD · √(1/25 + 1/n), with the published SD;
# - bias: the same with the SD of the differences, (upper − lower limit) / 3.92;
# - a limit of agreement: √3 times that of the bias (Bland & Altman 1986);
# - r: 1.96 · √(1/22 + 1/(n − 3)) on Fisher's z, given here as the distance to its farther end;
# - p: agrees when it lies on the same side of 0.05;
# - a published bound ("at least"): agrees when it is reached.


PUBLISHED_MICE = 25
"""Test mice of the published table (source: the paper)."""
SIGNIFICANCE = 0.05

AGREES, DIFFERS, NOT_MEASURED, NOT_JUDGED = "agrees", "differs", "not measured", "not judged"


@dataclass(frozen=True)
class PublishedRow:
    """A published number and ours."""

    name: str
    what: str
    unit: str
    published: float
    measured: float
    tolerance: float
    """NaN where the verdict does not come from a distance."""
    verdict: str


def compare_with_published(
    evaluation: Evaluation, published: Published, cohort: str = "internal"
) -> list[PublishedRow]:
    """The rows of ``published`` that a cohort can be held against: all for "internal", bounds for the others."""
    dice, measures = tabulate_overlap(evaluation), tabulate_agreement(evaluation)
    rows: list[PublishedRow] = []
    if cohort == "internal":
        for m in published.measures:
            rows += _compare_measure(m, dict(measures.loc[m.name]))
        for d in published.dice:
            found = dice[(dice["score"] == "dice") & (dice["structure"] == d.structure) & (dice["phase"] == d.phase)]
            mean, n = (found["mean"].iloc[0], found["n"].iloc[0]) if len(found) else (np.nan, 0)
            name = f"Dice {d.structure}, {d.phase}"
            rows.append(_make_row(name, "mean", "", d.mean, mean, _mean_tolerance(d.sd, n) + 0.005))
    for bound in published.bounds:
        if bound.cohort in (cohort, "every"):
            rows.append(_compare_bound(bound.what, bound.at_least, dice, measures))
    return rows


def tabulate_rows(rows: list[PublishedRow]) -> pd.DataFrame:
    """The rows as a table."""
    return pd.DataFrame(rows, columns=list(PublishedRow.__dataclass_fields__))


def select_disagreeing(rows: list[PublishedRow]) -> list[PublishedRow]:
    """The rows that differ, or could not be measured."""
    return [r for r in rows if r.verdict in (DIFFERS, NOT_MEASURED)]


def _compare_measure(m: Any, found: Mapping[str, Any]) -> list[PublishedRow]:
    n = int(found["n"])
    low, high = m.limits_of_agreement
    spread = (high - low) / (2 * 1.96)
    apart = _mean_tolerance(spread, n)
    rows = [
        _make_row(
            m.name, "truth, mean", m.unit, m.truth[0], found["truth_mean"], _mean_tolerance(m.truth[1], n) + 0.05
        ),
        _make_row(
            m.name, "model, mean", m.unit, m.model[0], found["model_mean"], _mean_tolerance(m.model[1], n) + 0.05
        ),
        _make_row(m.name, "bias", m.unit, m.bias, found["bias"], apart + 0.05),
        _make_row(m.name, "lower limit", m.unit, low, found["lower"], 3**0.5 * apart + 0.05),
        _make_row(m.name, "upper limit", m.unit, high, found["upper"], 3**0.5 * apart + 0.05),
        _make_row(m.name, "r", "", m.r, found["r"], _r_tolerance(m.r, n) + 0.005),
    ]
    p = float(found["p"])
    verdict = NOT_MEASURED if np.isnan(p) else AGREES if (p < SIGNIFICANCE) == (m.p < SIGNIFICANCE) else DIFFERS
    return [*rows, PublishedRow(m.name, "p", "", m.p, p, np.nan, verdict)]


def _compare_bound(what: str, at_least: float, dice: pd.DataFrame, measures: pd.DataFrame) -> PublishedRow:
    if what == "mean Dice":
        found = dice[(dice["score"] == "dice") & (dice["structure"] == BOTH) & (dice["phase"] == PAIR)]["mean"]
        value = float(found.iloc[0]) if len(found) else np.nan
    else:
        value = float(measures["icc_2_1"].min())
    reached = round(value, 2) >= at_least  # printed with two digits
    verdict = NOT_MEASURED if np.isnan(value) else AGREES if reached else DIFFERS
    return PublishedRow(what, "at least", "", at_least, value, np.nan, verdict)


def _make_row(name: str, what: str, unit: str, published: float, measured: float, tolerance: float) -> PublishedRow:
    measured = float(measured)
    if np.isnan(measured) or np.isnan(tolerance):
        verdict = NOT_MEASURED
    else:
        verdict = AGREES if abs(measured - published) <= tolerance else DIFFERS
    return PublishedRow(name, what, unit, published, measured, tolerance, verdict)


def _mean_tolerance(sd: float, n: int) -> float:
    return 1.96 * sd * (1 / PUBLISHED_MICE + 1 / n) ** 0.5 if n else np.nan


def _r_tolerance(r: float, n: int) -> float:
    """How far below r the other end of the interval lies: Fisher's interval is longer on that side."""
    if n < 4:
        return np.nan
    z = np.arctanh(min(r, 0.9999))
    return float(r - np.tanh(z - 1.96 * (1 / (PUBLISHED_MICE - 3) + 1 / (n - 3)) ** 0.5))


POSTPROCESSING_RULES: tuple[PostprocessingRule, ...] = ("paper", "upstream-code")
PHASES: tuple[PhaseRule, ...] = ("annotated", "volume-curve")
HEADLINE = EvaluationConfig("annotated", "paper")
"""The article's own choices: the verdict is on these, the others stand beside them."""
INTERNAL = "internal"

LEAKAGE = (
    "The article's split is not published. The published weights may have been trained on some of the mice scored "
    "here; numbers on them are then too good, and no evidence of how the network does on unseen mice."
)


class PredictorProtocol(Protocol):
    """What is needed of a network: ``mousecmr_data.training.load`` gives one."""

    @property
    def origin(self) -> Any:
        """Name, trained_on, limits of the weights."""

    def segment(self, ds: xr.Dataset, *, postprocessing: PostprocessingRule) -> xr.Dataset:
        """``ds`` with the variable ``predicted``."""


@dataclass(frozen=True)
class Reproduction:
    """What came out. ``evaluations`` by cohort and by policies (phases, postprocessing)."""

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
        return any(e.synthetic for by in self.evaluations.values() for e in by.values())

    @property
    def headline(self) -> EvaluationConfig:
        """The policies that the verdict is on: the article's."""
        every = next(iter(self.rows.values()))
        return HEADLINE if HEADLINE in every else next(iter(every))

    @property
    def disagreeing(self) -> list[PublishedRow]:
        """The rows, of every cohort, that differ from what was published or could not be measured."""
        return [r for by in self.rows.values() for r in select_disagreeing(list(by[self.headline]))]

    @property
    def verdict(self) -> str:
        """In a sentence."""
        judged = sum(len(by[self.headline]) for by in self.rows.values())
        if self.synthetic:
            return (
                "SYNTHETIC mice: it ran from end to end, and nothing published was reproduced. The verdicts of the "
                "rows only say how near synthetic mice come to real ones."
            )
        bad = len(self.disagreeing)
        return f"{judged - bad} of {judged} rows agree with what was published{'' if bad else ': reproduced'}."


def reproduce(
    network: PredictorProtocol | Any,
    cohorts: Mapping[str, Any],
    *,
    published: Published | None = None,
    rules: Sequence[PostprocessingRule] = POSTPROCESSING_RULES,
    phases: Sequence[PhaseRule] = PHASES,
    progress: Callable[[int], None] | None = None,
) -> Reproduction:
    """Score a network on ``cohorts`` under every pair of ``rules`` and ``phases``, beside the published numbers.

    ``network`` is a predictor (``mousecmr_data.load_model(...)``), or predictions that are there already (a path or a mapping,
    without post-processing); then nothing is timed. ``cohorts`` are by name; those whose name starts with "internal"
    are held against the published table, the others against what was published of external ones. Each mouse is
    segmented once; whole cines only where "volume-curve" is among ``phases``. ``progress`` is called with 1 after
    each mouse.
    """
    known = published or load_manifest().published
    if known is None:
        raise PredictionError("There are no published numbers.", "a manifest with published.toml")
    watch = Stopwatch()
    chosen = [EvaluationConfig(p, r) for r, p in product(rules, phases)]
    whole = "volume-curve" in phases
    maker = _NetworkMasks(network, whole, watch) if hasattr(network, "segment") else _GivenMasks(network)
    evaluations: dict[str, dict[EvaluationConfig, Evaluation]] = {}
    rows: dict[str, dict[EvaluationConfig, Sequence[PublishedRow]]] = {}
    notes = []
    for cohort, mice in cohorts.items():
        scores: dict[EvaluationConfig, list[MouseScore]] = {p: [] for p in chosen}
        problems = []
        for mouse in mice.mice:
            ds = mice[mouse]
            prediction = maker(mouse, ds)
            for policies in chosen:
                scores[policies].append(score_mouse(ds, prediction, policies))
            if doubt := scores[chosen[0]][-1].doubt:
                problems.append(Problem(mouse, "orientation", doubt))
            if progress:
                progress(1)
        about = describe_cohort(mice)
        if about["caveat"]:
            notes.append(f"{cohort} ({about['source']}, {about['split_scheme']}): {about['caveat']}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        evaluations[cohort] = {
            p: Evaluation(maker.name, about, p.to_dict(), list_versions(), now, tuple(s), tuple(problems))
            for p, s in scores.items()
        }
        kind = INTERNAL if cohort.startswith(INTERNAL) else "external"
        rows[cohort] = {p: compare_with_published(e, known, kind) for p, e in evaluations[cohort].items()}
    return Reproduction(
        maker.name,
        maker.trained_on,
        maker.limits,
        known,
        evaluations,
        rows,
        watch,
        [*dict.fromkeys(notes), LEAKAGE],
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


@dataclass
class _NetworkMasks:
    """Segments mice, and takes the time."""

    network: PredictorProtocol
    whole: bool
    watch: Stopwatch
    warm: bool = False

    @property
    def name(self) -> str:
        return str(self.network.origin.name)

    @property
    def trained_on(self) -> str:
        return str(self.network.origin.trained_on)

    @property
    def limits(self) -> str:
        return str(self.network.origin.limits)

    def __call__(self, mouse: str, ds: xr.Dataset) -> Prediction:
        labelled = np.flatnonzero(ds["labelled"].values)
        images = ds.drop_vars([v for v in ds.data_vars if v != "image"])
        pair = images.isel(frame=np.flatnonzero(np.isin(ds["phase"].values, ["ED", "ES"]))).load()
        if not self.warm:  # the first call prepares things that no later one has to
            self._segmented(images.isel(frame=labelled[:1]).load())
            self.warm = True
        if pair.sizes["frame"]:
            self.watch.time("pair", lambda: self._segmented(pair))
        if not self.whole:
            return read_dataset_prediction(self._segmented(images.isel(frame=labelled).load()), mouse)
        whole = images.load()
        made = self.watch.time("cine", lambda: self._segmented(whole))
        self.watch.add("image", self.watch.seconds["cine"][-1] / (ds.sizes["frame"] * ds.sizes["slice"]))
        return read_dataset_prediction(made, mouse)

    def _segmented(self, ds: xr.Dataset) -> xr.Dataset:
        return self.network.segment(ds, postprocessing="none")[[PREDICTED]]


class _GivenMasks:
    """Masks that are there already."""

    def __init__(self, given: Any) -> None:
        self.found = open_predictions(given)
        self.name, self.limits = self.found.name, "Masks that were given: what made them is theirs to say."
        self.trained_on = "not stated"

    def __call__(self, mouse: str, ds: xr.Dataset) -> Prediction:  # noqa: ARG002 (as the network's)
        key = self.found.find(mouse, False)
        if key is None:
            raise PredictionError(
                f"There is no prediction of {mouse} in {self.found.name}.",
                "a prediction for every mouse, without post-processing",
                f"mousecmr predict {mouse} --postprocessing none -o FOLDER --weights NAME",
            )
        prediction = self.found.read(key)
        self.trained_on = prediction.about.get("trained_on", self.trained_on)
        return prediction


# MERGED evaluation.reproduction: A reproduction as tables, a page and files.


SCHEMA, SCHEMA_VERSION = "mousecmr-reproduction", 1


def tabulate_side_by_side(r: Reproduction, cohort: str) -> pd.DataFrame:
    """The published rows of a cohort beside what was measured under each pair of policies.

    Columns: name, what, unit, published; then, of the article's own policies, "phases / postprocessing", tolerance
    and verdict; then the other pairs of policies.
    """
    by = r.rows[cohort]
    own = by[r.headline]
    out = pd.DataFrame([{"name": x.name, "what": x.what, "unit": x.unit, "published": x.published} for x in own])
    out[describe_policies(r.headline)] = [x.measured for x in own]
    out["tolerance"] = [x.tolerance for x in own]
    out["verdict"] = [x.verdict for x in own]
    for policies, rows in by.items():
        if policies != r.headline:
            out[describe_policies(policies)] = [x.measured for x in rows]
    return out


def tabulate_cohorts(r: Reproduction) -> pd.DataFrame:
    """The cohorts side by side, under the article's policies: n, mean_dice, ICC, bias and limits of EDV and EF."""
    rows = []
    for name, by in r.evaluations.items():
        e = by[r.headline]
        found, dice = tabulate_agreement(e), compute_mean_dice(e)
        row: dict[str, Any] = {"cohort": name, "source": e.truth["source"], "split": e.truth["split"], "n": len(e.mice)}
        row |= {"mean_dice": float(dice.mean()), "mean_dice_sd": float(dice.std(ddof=1)) if len(dice) > 1 else math.nan}
        row["smallest_icc_2_1"] = float(found["icc_2_1"].min())
        for measure in ("EDV", "EF"):
            for key in ("bias", "lower", "upper"):
                row[f"{measure}_{key}"] = float(found.loc[measure, key])  # type: ignore[arg-type]
        rows.append(row)
    return pd.DataFrame(rows)


def describe_policies(policies: EvaluationConfig) -> str:
    """A pair of policies in a column's head."""
    return f"{policies.phases} / {policies.postprocessing}"


def write_reproduction(r: Reproduction, folder: str | Path) -> list[Path]:
    """Write ``reproduction.html``, ``reproduction.json``, the result file of every run, tables and figures."""
    folder = Path(folder)
    written = _build_page(r).write(folder, "reproduction.html")
    for cohort, by in r.evaluations.items():
        for policies, evaluation in by.items():
            name = f"{cohort}_{policies.phases}_{policies.postprocessing}.json".replace(" ", "-")
            written.append(evaluation.write(folder / "results" / name))
    path = folder / "reproduction.json"
    write_json(path, make_document(r))
    return [*written, path]


def make_document(r: Reproduction) -> dict[str, Any]:
    """The content of ``reproduction.json``; missing numbers are null."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": r.synthetic,
        "created": r.created,
        "weights": {"name": r.name, "trained_on": r.trained_on, "limits": r.limits},
        "verdict": r.verdict,
        "reproduced": None if r.synthetic else not r.disagreeing,
        "policies_judged": describe_policies(r.headline),
        "rows": {c: _to_records(tabulate_side_by_side(r, c)) for c in r.rows},
        "cohorts": _to_records(tabulate_cohorts(r)),
        "times": _to_records(tabulate_times(r.watch, r.published)),
        "times_note": TIMES_NOTE,
        "machine": r.machine,
        "notes": list(r.notes),
    }


def format_rows(r: Reproduction, cohort: str) -> pd.DataFrame:
    """``side_by_side`` for people."""
    full = tabulate_side_by_side(r, cohort)
    out = pd.DataFrame(
        {"": [f"{n}, {w}{f' ({u})' if u else ''}" for n, w, u in full.iloc[:, :3].itertuples(index=False)]}
    )
    digits = [2 if n.startswith(("Dice", "mean", "smallest")) or w == "r" else 3 if w == "p" else 1 for n, w in
              full[["name", "what"]].itertuples(index=False)]  # fmt: skip
    for column in full.columns[3:]:
        texts = column == "verdict"
        out[column] = (
            full[column] if texts else [format_number(v, d) for v, d in zip(full[column], digits, strict=True)]
        )
    return out.rename(columns={"tolerance": "± tolerance"})


def format_cohorts(r: Reproduction) -> pd.DataFrame:
    """``cohorts`` for people."""
    full = tabulate_cohorts(r)
    out = full[["cohort", "source", "split", "n"]].copy()
    out["mean Dice"] = [
        f"{format_number(a, 3)} ± {format_number(b, 3)}" for a, b in zip(full.mean_dice, full.mean_dice_sd, strict=True)
    ]
    out["smallest ICC(2,1)"] = [format_number(v, 2) for v in full["smallest_icc_2_1"]]
    for measure, unit in (("EDV", "µL"), ("EF", "%")):
        columns = (full[f"{measure}_{k}"] for k in ("bias", "lower", "upper"))
        out[f"{measure} bias (limits), {unit}"] = [
            f"{format_number(b, 1)} ({format_interval(low, high, 1)})" for b, low, high in zip(*columns, strict=True)
        ]
    return out


def format_times(r: Reproduction) -> pd.DataFrame:
    """The times for people."""
    full = tabulate_times(r.watch, r.published)
    out = full[["what"]].copy()
    for who in ("published", "measured"):
        out[f"{who} (ms)"] = [
            format_number(m, 1) + ("" if pd.isna(sd) else f" ± {format_number(sd, 1)}")
            for m, sd in zip(full[f"{who}_ms"], full[f"{who}_sd_ms"], strict=True)
        ]
    return out.assign(n=full["n"])


def _build_page(r: Reproduction) -> ReportPage:
    lead = [f"Weights: {r.name}. Trained on: {r.trained_on}. {r.limits}", r.verdict, *r.notes]
    how = f"Verdict: on the article's own policies ({describe_policies(r.headline)}). Published: {r.published.source}."
    sections = []
    for k, cohort in enumerate(r.rows):
        full = tabulate_side_by_side(r, cohort)
        shown = ReportTable(f"rows_{k}_{cohort.replace(' ', '-')}", how, format_rows(r, cohort), full)
        evaluation = r.evaluations[cohort][r.headline]
        figures = {f"dice_{k}": (plot_overlap(evaluation), f"Dice, {cohort}.")}
        if tabulate_mice(evaluation)["ef_percent_truth"].notna().any():
            figures[f"agreement_{k}"] = (plot_agreement(evaluation), f"Identity and Bland–Altman plots, {cohort}.")
        sections.append(ReportSection(f"Published and measured: {cohort}", (), [shown], figures))
    side = ReportTable("cohorts", "Under the article's policies.", format_cohorts(r), tabulate_cohorts(r))
    sections.append(ReportSection("Cohorts side by side", (), [side]))
    times = ReportTable("times", r.machine, format_times(r), tabulate_times(r.watch, r.published))
    sections.append(ReportSection("Times", (TIMES_NOTE,), [times]))
    return ReportPage("The published table, reproduced", r.synthetic, lead, sections)


def _to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]
