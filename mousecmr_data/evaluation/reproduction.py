"""Compare a network (or its masks) with the published table, on one or more cohorts, under every policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import to_json_value, write_json
from mousecmr_data._utils.environment import describe_machine, list_versions
from mousecmr_data._utils.outputs import write_folder
from mousecmr_data._utils.text import format_count, make_file_name, make_unique
from mousecmr_data.dataset.source import FileSource
from mousecmr_data.download.verify import Verdict, verify_files
from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluation.checks import REMARKS, check_cohort
from mousecmr_data.evaluation.plots import plot_agreement, plot_errors, plot_overlap, rank_mice
from mousecmr_data.evaluation.predictions import Prediction, open_predictions, read_dataset_prediction
from mousecmr_data.evaluation.report import (
    MISSED,
    VERDICT_CELLS,
    ReportPage,
    ReportSection,
    ReportTable,
    describe_anova,
    format_errors,
    format_post_hoc,
)
from mousecmr_data.evaluation.result import Evaluation, MouseScore, Problem, get_timestamp, make_evaluation
from mousecmr_data.evaluation.scoring import (
    EvaluationConfig,
    PhaseRule,
    describe_cohort,
    find_unused,
    make_refusal,
    try_score,
)
from mousecmr_data.evaluation.tables import (
    compute_mean_dice,
    find_missed,
    format_bias,
    format_column,
    format_mean,
    format_number,
    format_p,
    has_measures,
    tabulate_agreement,
    tabulate_frames,
)
from mousecmr_data.evaluation.verdict import (
    AGREES,
    BETTER,
    DIFFERS,
    INTERNAL,
    PublishedRow,
    compare_with_published,
    judge,
)
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema.manifest import Published, load_manifest
from mousecmr_data.schema.variables import ED, ES, PREDICTED

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort
    from mousecmr_data.inference.predictor import Predictor
import time
from typing import TypeVar

Result = TypeVar("Result")

PUBLISHED_TIMES = {"one 2D image": "image", "ED and ES": "pair", "full cine (about 200 images)": "cine"}
"""Names of the published times, and of ours."""

TIMES_NOTE = (
    "Network with resampling and normalisation, images already in memory, no post-processing. One 2D image: the cine's "
    "time divided by its number of images. The published times are from the authors' machine; they do not count in the "
    "verdict."
)


@dataclass
class Stopwatch:
    """Measured seconds by name."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], Result]) -> Result:
        """Call ``work``, add its time and return its result."""
        begin = time.perf_counter()
        result = work()
        self.add(name, time.perf_counter() - begin)
        return result

    def add(self, name: str, seconds: float) -> None:
        """Add a time that was measured or derived elsewhere."""
        self.seconds.setdefault(name, []).append(seconds)


def tabulate_times(watch: Stopwatch, published: Published | None) -> pd.DataFrame:
    """Return one row per published time: what, published_ms, published_sd_ms, measured_ms, measured_sd_ms, n."""
    rows = []
    for t in published.times if published else ():
        values = np.array(watch.seconds.get(PUBLISHED_TIMES.get(t.what, ""), []), float) * 1000
        mean = float(values.mean()) if values.size else np.nan
        sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
        rows.append((t.what, t.milliseconds, np.nan if t.sd is None else t.sd, mean, sd, values.size))
    columns = ["what", "published_ms", "published_sd_ms", "measured_ms", "measured_sd_ms", "n"]
    return pd.DataFrame(rows, columns=columns)


SCHEMA, SCHEMA_VERSION = "mousecmr-reproduction", 2
PAGE_FILE, DOCUMENT_FILE = "reproduction.html", "reproduction.json"

POSTPROCESSING_RULES: tuple[PostprocessingRule, ...] = ("paper", "upstream-code")
PHASES: tuple[PhaseRule, ...] = ("annotated", "volume-curve")
HEADLINE = EvaluationConfig("annotated", "paper")
"""The article's own choices: the verdict is on these, the others are shown beside them."""
COMPARED = "compared with the published table"
"""What a run is called that cannot show that the article was reproduced."""
EXISTING_MASKS = "existing masks do not show which network made them"
ERROR_RATE = "The same network, measured once more, would agree in at least 95 of 100 cases."
LEAKAGE = (
    "The article's split is not published. The published weights may have been trained on some of the mice scored "
    "here; numbers on them are then too good, and do not show how the network performs on unseen mice."
)


@dataclass(frozen=True)
class Reproduction:
    """The results, by cohort and by policies (phases, postprocessing), beside the published numbers."""

    name: str
    trained_on: str
    limits: str
    weights_sha256: str
    """Of the network's weights; empty for existing masks."""
    published: Published
    evaluations: Mapping[str, Mapping[EvaluationConfig, Evaluation]]
    rows: Mapping[str, Mapping[EvaluationConfig, Sequence[PublishedRow]]]
    watch: Stopwatch
    notes: Sequence[str]
    departures: Sequence[str]
    """Why this is a comparison and no reproduction; empty if it is the published network on the dataset's own files."""
    limit: int | None
    """Mice of each cohort in a trial; None for whole cohorts."""
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
    def doubts(self) -> list[str]:
        """What is wrong with the masks, by mouse; then nothing is judged."""
        evaluations = (by_policies[self.headline] for by_policies in self.evaluations.values())
        problems = (p for e in evaluations for p in e.problems)
        return [f"{p.mouse} ({p.kind}): {p.text}" for p in problems if p.kind == "truth" or p.kind not in REMARKS]

    @property
    def trial(self) -> bool:
        """Whether not all mice were used: then nothing is concluded."""
        return self.limit is not None

    @property
    def judgement(self) -> tuple[str | None, list[str]]:
        """The outcome over all cohorts by :func:`~mousecmr_data.evaluation.verdict.judge`, and what it is because of.

        The outcome is None where masks are in doubt, mice are synthetic, or a cohort has no row that can be judged.
        """
        if self.doubts:
            return None, self.doubts
        if self.synthetic:
            return None, ["the mice are synthetic"]
        of_cohorts = {c: judge(self.evaluations[c][self.headline], self.rows[c][self.headline]) for c in self.rows}
        for worst in (DIFFERS, None, BETTER):
            because = [f"{c}: {'; '.join(why)}" for c, (outcome, why) in of_cohorts.items() if outcome == worst]
            if because:
                return worst, because
        return AGREES, []

    @property
    def outcome(self) -> str | None:
        """ "agrees", "better", "differs", or None where it could not be judged."""
        return self.judgement[0]

    @property
    def reproduced(self) -> bool | None:
        """Whether the article was reproduced; None where this run could not show it, for a reason in ``departures``."""
        return None if self.departures or self.trial or self.outcome is None else self.outcome == AGREES

    @property
    def title(self) -> str:
        """The outcome as a title."""
        if self.outcome is None:
            return "Synthetic mice: nothing is judged" if self.synthetic and not self.doubts else "Could not be judged"
        if self.trial:
            return f"Trial with {format_count(self.limit, 'mouse')} of each cohort: nothing is concluded"
        if self.reproduced:
            return "The published table is reproduced"
        words = {AGREES: "Agrees with", BETTER: "Better than", DIFFERS: "Differs from"}
        return f"{words[self.outcome]} the published table"

    @property
    def verdict(self) -> str:
        """The verdict in a few sentences."""
        outcome, reasons = self.judgement
        parts = []
        if self.trial:
            parts.append(f"TRIAL with {format_count(self.limit, 'mouse')} of each cohort: nothing is concluded.")
        if self.synthetic:
            parts.append("SYNTHETIC mice: nothing published was reproduced.")
        if outcome is None:
            parts.append(f"Could not be judged: {'; '.join(reasons)}.")
            return " ".join(parts)
        if self.trial:
            return f"{parts[0]} The rows show the procedure only."
        rows = [r for by_policies in self.rows.values() for r in by_policies[self.headline]]
        judged = sum(r.judged for r in rows)
        claim = "The published table was reproduced" if self.reproduced else f"{COMPARED.capitalize()}: {outcome}"
        parts.append(f"{claim} ({' · '.join(reasons)})." if reasons else f"{claim}.")
        parts.append(f"{judged} of {len(rows)} rows are judged, the others only shown. {ERROR_RATE}")
        return " ".join(parts)


def reproduce(
    network: Predictor | Any,
    cohorts: Mapping[str, Any],
    *,
    published: Published | None = None,
    rules: Sequence[PostprocessingRule] = POSTPROCESSING_RULES,
    phases: Sequence[PhaseRule] = PHASES,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Reproduction:
    """Score a network on ``cohorts`` under every pair of ``rules`` and ``phases``, beside the published numbers.

    ``network`` is a predictor (``mousecmr_data.load_model(...)``, or an object with its ``origin`` and ``segment``), or
    existing predictions (a path or a mapping, without post-processing); then no times are measured. ``cohorts`` are by
    name; those whose name starts with "internal" are compared with the published table, the others with what was
    published of external cohorts. Each mouse is segmented once; whole cines only where "volume-curve" is among
    ``phases``. ``limit`` makes a trial with the first mice of each cohort. ``progress`` is called with 1 after each
    mouse.

    Raises :class:`~mousecmr_data.errors.PredictionError` where a prediction is missing or does not fit its mouse.
    """
    article = load_manifest().published
    published = published or article
    if published is None:
        raise PredictionError("There are no published numbers.", "a manifest with published.toml")
    watch = Stopwatch()
    policies = [EvaluationConfig(p, r) for r, p in product(rules, phases)]
    is_network = hasattr(network, "segment")
    reader = _NetworkMasks(network, "volume-curve" in phases, watch) if is_network else _ExistingMasks(network)
    evaluations: dict[str, dict[EvaluationConfig, Evaluation]] = {}
    rows: dict[str, dict[EvaluationConfig, Sequence[PublishedRow]]] = {}
    notes, departures = [], []
    for cohort, mice in cohorts.items():
        scores: dict[EvaluationConfig, list[MouseScore]] = {p: [] for p in policies}
        problems: list[Problem] = []
        names = mice.mice[:limit]
        for mouse in names:
            scored, found = try_score(mice, reader, policies, mouse)
            problems += found
            for config, score in zip(policies, scored, strict=False):
                scores[config].append(score)
            if progress:
                progress(1)
        first = scores[policies[0]]
        if len(first) < len(names):  # without every mouse there is no verdict
            lost = set(names) - {s.mouse for s in first}
            raise make_refusal([p for p in problems if p.mouse in lost], reader.name, len(names))
        problems += check_cohort(first, mice, None if is_network else reader)
        about = describe_cohort(mice)
        if about["caveat"]:
            notes.append(f"{cohort} ({about['source']}, {about['split_scheme']}): {about['caveat']}")
        evaluations[cohort] = {
            config: make_evaluation(reader.name, about, config.to_dict(), s, problems) for config, s in scores.items()
        }
        kind = INTERNAL if cohort.startswith(INTERNAL) else "external"
        if kind == INTERNAL:
            departures += find_cohort_departures(mice)
        rows[cohort] = {
            config: compare_with_published(e, published, kind, len(cohorts))
            for config, e in evaluations[cohort].items()
        }
    if not any(c.startswith(INTERNAL) for c in cohorts):
        departures.append("there is no internal cohort")
    departures.append(reader.find_departure(cohorts))
    if HEADLINE not in policies:
        departures.append(f"the article's policies, {describe_policies(HEADLINE)}, were not among those chosen")
    if published != article:
        departures.append("the table is not the article's")
    every = [m for mice in cohorts.values() for m in mice.mice]
    unused = find_unused(reader.predictions, every) if isinstance(reader, _ExistingMasks) and len(every) > 1 else []
    notes += [f"{p.mouse} ({p.kind}): {p.text}" for p in unused]
    notes = [*dict.fromkeys(notes), LEAKAGE]
    return Reproduction(
        reader.name, reader.trained_on, reader.limits, reader.sha256, published, evaluations, rows, watch, notes,
        [*dict.fromkeys(filter(None, departures))], limit, get_timestamp(),
    )  # fmt: skip


def find_cohort_departures(mice: Cohort) -> list[str]:
    """Return why ``mice`` are not the whole test split of the dataset's own files, which are hashed again."""
    manifest, source = load_manifest(), mice.source
    if not isinstance(source, FileSource) or source.manifest != manifest:
        return [f"the mice of {source.name} are not the dataset's own files"]
    departures = []
    schemes = manifest.splits
    if mice.split_scheme not in schemes or set(mice.mice) != set(schemes[mice.split_scheme].mice.get("test", ())):
        departures.append("the mice are not the whole test split")
    checked = verify_files(manifest, mice.mice, cache=source.cache_root, progress=False)
    if wrong := [str(r.mouse) for r in checked if r.verdict is not Verdict.OK]:
        departures.append(f"files without the published checksum: {', '.join(wrong[:5])}")
    return departures


class _NetworkMasks:
    """Segment mice with a network and measure the time; read like the masks of ``predictions.Predictions``."""

    def __init__(self, network: Predictor, whole: bool, watch: Stopwatch) -> None:
        self.network, self.whole, self.watch, self.warm = network, whole, watch, False
        origin = network.origin
        self.name, self.trained_on, self.limits = str(origin.name), str(origin.trained_on), str(origin.limits)
        self.sha256 = str(getattr(origin, "sha256", ""))

    def find_departure(self, cohorts: Mapping[str, Cohort]) -> str:
        if not self.sha256:
            return "the weights have no known SHA-256"
        from mousecmr_data.inference.predictor import find_weights_departure  # which needs safetensors

        roots = [c.source.cache_root for c in cohorts.values() if isinstance(c.source, FileSource)]
        return find_weights_departure(self.network, roots[0] if roots else None)

    def names(self) -> Sequence[str]:
        return ()

    def find(self, mouse: str, alone: bool) -> str:  # noqa: ARG002 (as of existing masks)
        return mouse

    def read(self, key: str, like: xr.Dataset) -> Prediction:
        images = like.drop_vars([v for v in like.data_vars if v != "image"])
        labelled = images.isel(frame=np.flatnonzero(like["labelled"].values))
        pair = images.isel(frame=np.flatnonzero(np.isin(like["phase"].values, [ED, ES]))).load()
        if not self.warm:  # the first call prepares things that later calls need not
            self._segment(labelled.isel(frame=slice(1)).load())
            self.warm = True
        if pair.sizes["frame"]:
            self.watch.time("pair", lambda: self._segment(pair))
        if not self.whole:
            return read_dataset_prediction(self._segment(labelled.load()), key)
        cine = images.load()
        predicted = self.watch.time("cine", lambda: self._segment(cine))
        self.watch.add("image", self.watch.seconds["cine"][-1] / (like.sizes["frame"] * like.sizes["slice"]))
        return read_dataset_prediction(predicted, key)

    def _segment(self, ds: xr.Dataset) -> xr.Dataset:
        return self.network.segment(ds, postprocessing="none")[[PREDICTED]]


class _ExistingMasks:
    """Masks that exist already, without post-processing."""

    def __init__(self, predictions: Any) -> None:
        self.predictions = open_predictions(predictions)
        self.name, self.trained_on, self.sha256 = self.predictions.name, "not stated", ""
        self.limits = "Existing masks: this library does not know how they were made."
        self.names, self.find = self.predictions.names, self.predictions.find

    def find_departure(self, cohorts: Mapping[str, Cohort]) -> str:  # noqa: ARG002 (as of networks)
        return EXISTING_MASKS

    def read(self, key: Any, like: xr.Dataset) -> Prediction:
        prediction = self.predictions.read(key, like)
        self.trained_on = prediction.about.get("trained_on", self.trained_on)
        return prediction


# Tables, page and files


def tabulate_side_by_side(r: Reproduction, cohort: str) -> pd.DataFrame:
    """Return the published rows of a cohort beside what was measured under each pair of policies.

    Columns: those of :class:`~mousecmr_data.evaluation.verdict.PublishedRow` under the article's own policies, then
    what was measured under the other pairs, "phases / postprocessing".
    """
    table = pd.DataFrame([asdict(row) for row in r.rows[cohort][r.headline]])
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
        row["missed"] = int(find_missed(tabulate_frames(e))["mouse"].nunique())
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
    outcome, reasons = r.judgement
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "synthetic": r.synthetic,
        "created": r.created,
        "weights": {"name": r.name, "trained_on": r.trained_on, "limits": r.limits, "sha256": r.weights_sha256 or None},
        "title": r.title,
        "verdict": r.verdict,
        "outcome": outcome,
        "because_of": reasons,
        "trial": r.trial,
        "limit": r.limit,
        "reproduced": r.reproduced,
        "compared_only_because": r.departures,
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
    first = [*PublishedRow.__dataclass_fields__]
    rows = []
    for row in full.to_dict("records"):
        name, what, unit = row["name"], row["what"], row["unit"]
        has_two = what == "r" or name.startswith(("Dice", "mean", "smallest"))
        digits = 2 if has_two else 1

        def format_value(value: Any, sd: Any = None, digits: int = digits, is_p: bool = what == "p") -> str:
            if is_p:
                return format_p(value)
            return format_number(value, digits) if sd is None or pd.isna(sd) else format_mean(value, sd, digits)

        within = " to ".join(format_number(v, digits) for v in (row["low"], row["high"]) if not pd.isna(v))
        shown = {
            "": f"{name}, {what}{f' ({unit})' if unit else ''}",
            "published": format_value(row["published"], row["published_sd"]),
            "measured": format_value(row["measured"], row["measured_sd"]),
            "with n\u00a0−\u00a01; ρ": format_value(row["ours"], row["ours_sd"]),
            "agrees within": f"from {within}" if within and pd.isna(row["high"]) else within or "–",
            "verdict": VERDICT_CELLS.get(row["verdict"], row["verdict"]),
            "why only shown": row["reason"],
        }
        others = {str(k): format_value(v) for k, v in row.items() if k not in first}
        rows.append(shown | others)
    return pd.DataFrame(rows)


def format_cohorts(r: Reproduction) -> pd.DataFrame:
    """Format :func:`tabulate_cohorts` for people."""
    full = tabulate_cohorts(r)
    table = full[["cohort", "source", "split", "n", "missed"]].copy()
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


def describe_run(r: Reproduction) -> list[str]:
    """Describe what was compared: mice, source, version, weights, options, date."""
    lines = []
    for cohort, by_policies in r.evaluations.items():
        e = by_policies[r.headline]
        scheme = f" of the scheme {e.truth['split_scheme']}" if e.truth["split_scheme"] else ""
        text = f"{cohort}: {format_count(len(e.mice), 'mouse')} of {e.truth['source']}, version {e.truth['version']}"
        lines.append(f"{text}, split {e.truth['split']}{scheme}.")
    sha256 = f", SHA-256 {r.weights_sha256}" if r.weights_sha256 else ""
    lines.append(f"Network: {r.name}{sha256}. Trained on: {r.trained_on}. {r.limits}")
    others = [describe_policies(p) for p in next(iter(r.rows.values())) if p != r.headline]
    shown = f"; also shown: {', '.join(others)}" if others else ""
    time = r.created.replace("T", " ").replace("+00:00", " UTC")
    version = list_versions()["mousecmr-data"]
    options = f"Options (ED/ES rule / post-processing): {describe_policies(r.headline)}{shown}."
    lines.append(f"{options} Made {time} with mousecmr-data {version} on {r.machine}.")
    if r.departures:
        lines.append(f"{COMPARED.capitalize()}, and no reproduction, because {'; '.join(r.departures)}.")
    return lines


def _build_page(r: Reproduction) -> ReportPage:
    policies = describe_policies(r.headline)
    caption = (
        f"Judged: on the article's own policies ({policies}). Published: {r.published.source}; mean ± SD. Measured: as "
        "the article took it (n in the denominator, Pearson's r); with n − 1, and Spearman's ρ, beside it."
    )
    sections = []
    for k, cohort in enumerate(r.rows):
        rows = tabulate_side_by_side(r, cohort)
        table = ReportTable(make_file_name(f"rows_{k}_{cohort}"), caption, format_rows(r, cohort), rows)
        evaluation = r.evaluations[cohort][r.headline]
        figures = {f"dice_{k}": (plot_overlap(evaluation), f"Dice, {cohort}.")}
        if has_measures(evaluation):
            figures[f"agreement_{k}"] = (plot_agreement(evaluation), f"Identity and Bland–Altman plots, {cohort}.")
        sections.append(ReportSection(f"Published and measured: {cohort}", (), [table], figures))
        if cohort.startswith(INTERNAL):
            sections.append(_build_details(r.published, evaluation, k, cohort))
    cohorts = ReportTable("cohorts", f"Under the article's policies. {MISSED}", format_cohorts(r), tabulate_cohorts(r))
    times = ReportTable("times", f"Mean ± SD; {r.machine}", format_times(r), tabulate_times(r.watch, r.published))
    sections += [ReportSection("Cohorts side by side", (), [cohorts]), ReportSection("Times", (TIMES_NOTE,), [times])]
    lead = [r.verdict, *describe_run(r), *r.notes]
    return ReportPage(r.title, r.synthetic, lead, sections, "none" if r.trial else r.outcome or "none")


def _build_details(published: Published, evaluation: Evaluation, k: int, cohort: str) -> ReportSection:
    """Return the section of what else the article gives: ranked mice, tests of Dice, Dice and errors."""
    dice = compute_mean_dice(evaluation)
    ranked = ", ".join(f"{rank} {mouse} ({dice[mouse]:.2f})" for rank, mouse in rank_mice(evaluation).items())
    text = [f"Mean Dice: {ranked}.", *describe_anova(evaluation)]
    if published.dice_anova:
        text.append(f"The article's ANOVA: {published.dice_anova}.")
    tables = [*format_post_hoc(evaluation), format_errors(evaluation, published.dice_and_errors)]
    tables = [replace(t, name=f"{t.name}_{k}") for t in tables]
    caption = "Absolute error of each measure against the mouse's mean Dice (Spearman's ρ)."
    figures = {f"dice_and_errors_{k}": (plot_errors(evaluation), caption)} if has_measures(evaluation) else {}
    return ReportSection(f"Dice in detail: {cohort}", text, tables, figures)
