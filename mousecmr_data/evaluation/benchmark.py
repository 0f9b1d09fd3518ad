"""Run a protocol: train networks, segment its test mice, score them, rank the networks, and write one page.

A step is one network with one seed on one part of the protocol. Its folder appears whole or not at all, and a step that
is there is not done again, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mousecmr_data import api
from mousecmr_data._utils.atomic import atomic_folder, remove_leftovers, to_json_value, write_json
from mousecmr_data._utils.environment import describe_machine, list_versions
from mousecmr_data._utils.hdf5 import open_hdf5
from mousecmr_data._utils.locks import try_lock
from mousecmr_data._utils.outputs import check_apart, make_foreign_error, write_folder
from mousecmr_data._utils.parallel import ProgressCallback, count_results, map_in_processes, map_on_cluster
from mousecmr_data._utils.text import make_file_name
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.download.cache import list_input_folders
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, MouseCMRError
from mousecmr_data.evaluation.leaderboard import STEP_FILE, Run, score_masks, tabulate_runs
from mousecmr_data.evaluation.plots import MODEL_COLOUR
from mousecmr_data.evaluation.predictions import match_frames, open_predictions
from mousecmr_data.evaluation.protocols import Protocol, load_condition, load_training
from mousecmr_data.evaluation.report import ReportPage, ReportSection, ReportTable
from mousecmr_data.evaluation.result import MEASURES, parse_mouse
from mousecmr_data.evaluation.tables import SCORES, format_interval, format_mean, format_number, format_p
from mousecmr_data.inference.grid import make_training_grid
from mousecmr_data.inference.predictor import Predictor
from mousecmr_data.inference.speed import count_gflop
from mousecmr_data.metrics.agreement import MIN_FOR_INTERVAL, RESAMPLES, adjust_holm, run_paired_t_test
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.plotting import MARGIN_MM, create_figure, escape_math, find_crop, mark_title
from mousecmr_data.schema.labels import COLOURS
from mousecmr_data.schema.manifest import is_file_name
from mousecmr_data.schema.variables import (
    ATTR_MOUSE,
    ATTR_SEGMENTED_BY,
    ATTR_SYNTHETIC,
    ATTR_TRAINED_ON,
    DIMS,
    ES,
    FRAMES_WITH_ROI,
    IMAGE,
    MASK,
    MASKS,
    MODEL_TO_FILE,
    PREDICTED,
)
from mousecmr_data.training.config import TrainConfig, get_recipe, update_config
from mousecmr_data.training.trainer import BEST_FILE, CURVES_FILE, RUN_FILE, read_run, train

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

PAGE_FILE, WORK_FOLDER = "benchmark.html", ".work"
POSTPROCESSING: PostprocessingRule = "paper"
"""Of every network's masks, before they are scored."""
SCHEMA, SCHEMA_VERSION = "mousecmr-benchmark-step", 1


def find_config(network: str, settings: Mapping[str, Any] | None = None) -> tuple[str, TrainConfig]:
    """Return the name and the configuration of a network.

    ``network`` is the name of a recipe ("phantom-small"), the import path of a class ("monai.networks.nets:UNet"), or
    the path of a ``config.json`` whose folder or stem is the name. ``settings`` are keys of TrainConfig. The networks
    learn from the protocol's mice only: recipes that invent mice (``pool_mice``) do not here.
    """
    path = Path(network)
    values = {"pool_mice": 0, **(settings or {})}
    if path.suffix == ".json":
        if not path.is_file():
            raise MissingDataError(f"There is no file {path}.", "a config.json of mousecmr train")
        config = TrainConfig.from_json(path.read_text(encoding="utf-8"))
        name = path.parent.name if path.stem == "config" else path.stem
    elif ":" in network:
        name, config = network.partition(":")[2], update_config(get_recipe("published"), {"network": network})
    else:
        name, config = network, get_recipe(network)
    config = update_config(config, values)
    if config.pool_mice:
        raise ArgumentError(f"pool_mice is {config.pool_mice}.", "0: the mice of the protocol only")
    return make_file_name(name), config


@dataclass(frozen=True)
class Step:
    """One network, seed and part."""

    method: str
    seed: int
    part: str

    @property
    def path(self) -> Path:
        """The folder of the step, below that of the benchmark."""
        return Path(self.method) / f"seed-{self.seed}" / self.part

    @property
    def name(self) -> str:
        return self.path.as_posix()


@dataclass(frozen=True)
class Job:
    """What all steps of a benchmark have in common."""

    protocol: Protocol
    source: str
    methods: Mapping[str, TrainConfig]
    folder: Path
    cache: Path | None = None
    threads: int | None = None

    def list_steps(self, seeds: Sequence[int]) -> dict[str, Step]:
        """Return all steps by name."""
        steps = [Step(m, s, p.name) for p in self.protocol.parts for s in seeds for m in self.methods]
        return {step.name: step for step in steps}


def run_benchmark(
    protocol: Protocol,
    methods: Mapping[str, TrainConfig],
    folder: str | Path,
    *,
    source: str,
    seeds: Sequence[int] = (0, 1, 2),
    cache: Path | None = None,
    workers: int = 1,
    client: Any = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Train, test and rank ``methods`` by ``protocol``, and return the path of the page in ``folder``.

    Parameters
    ----------
    methods
        The configuration of each network by name; ``seed`` is replaced by each of ``seeds``.
    folder
        Gets ``METHOD/seed-0/PART/`` with the masks of each condition, weights, curves and ``step.json``, then
        ``benchmark.html`` with ``tables/`` and ``figures/``. Steps that are there are kept.
    workers, client
        Number of processes, which share the cores; or a ``distributed.Client`` whose workers reach ``folder``.
    progress
        Called with 1 after each step.

    Raises FileLayoutError if ``folder`` holds steps of another protocol or source, or of a network of the same name
    with another configuration, and OutputError if it holds files of others where a step belongs, or lies in an input.
    """
    folder = Path(folder)
    protocol.check_source(source)
    if wrong := [name for name in methods if not is_file_name(name)]:
        raise ArgumentError(f"A network is called {wrong[0]!r}.", "a name that can be a folder's")
    if not methods or not seeds:
        raise ArgumentError("There is no network or no seed.", "one or more", "--network phantom-small --seeds 3")
    check_apart([folder], list_input_folders(api.resolve_manifest(source), cache))
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
    job = Job(protocol, source, dict(methods), folder, cache, threads)
    steps = job.list_steps(seeds)
    for step in steps.values():
        _check_step(job, step)
    work = partial(_run_step, job, steps)
    left = [name for name, step in steps.items() if not (folder / step.path / STEP_FILE).is_file()]
    for name in steps.keys() - set(left):  # killed before it removed its training
        shutil.rmtree(folder / WORK_FOLDER / name, ignore_errors=True)
    if progress:
        progress(len(steps) - len(left))
    if client is None:
        map_in_processes(work, left, workers, count_results(progress))
    else:
        map_on_cluster(work, left, client, count_results(progress))
    return write_benchmark(job, list(steps.values()), overwrite=overwrite)


def _describe_step(job: Job, step: Step) -> dict[str, Any]:
    """Return what a step depends on."""
    config = replace(job.methods[step.method], seed=step.seed)
    about = {"protocol": job.protocol.reference, "source": job.source, **asdict(step), "config": asdict(config)}
    return dict(to_json_value(about))


def _check_step(job: Job, step: Step) -> None:
    path = job.folder / step.path / STEP_FILE
    if not path.is_file():
        if path.parent.exists():
            raise make_foreign_error(path.parent.parent, [path.parent.name])
        return
    stored, expected = read_step(path), _describe_step(job, step)
    # A setting that a release before did not have had the value that is its default now.
    stored["config"] = to_json_value(asdict(TrainConfig())) | stored["config"]
    if differ := [k for k in expected if stored.get(k) != expected[k]]:
        found = {k: v for k, v in stored[differ[0]].items() if v != expected[differ[0]].get(k)} if differ[0] in (
            "config", "protocol"
        ) else stored[differ[0]]  # fmt: skip
        raise FileLayoutError(
            f"{path.parent} was made with another {differ[0]}: {found}.",
            "the same protocol, source and configuration",
            "give another folder with -o, or another name to the network",
        )


def read_step(path: Path) -> dict[str, Any]:
    """Read the ``step.json`` of a finished step; raises FileLayoutError where it is not one."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if (table["schema"], table["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(f"schema {table['schema']} {table['schema_version']}")
    except (OSError, ValueError, KeyError, TypeError) as e:
        found = f"{path} cannot be read: {type(e).__name__}: {e}"
        raise FileLayoutError(
            found, f"{SCHEMA} {SCHEMA_VERSION}", "remove its folder: the step is then done again"
        ) from e
    return dict(table)


def _run_step(job: Job, steps: Mapping[str, Step], name: str) -> None:
    """Do a step; wait where another process, perhaps of a run whose parent was killed, is doing it."""
    try:
        _do_step(job, steps[name])
    except MouseCMRError as e:
        raise type(e)(f"{name}: {e.found}", e.expected, e.next_step) from e


def _do_step(job: Job, step: Step) -> None:
    target, work = job.folder / step.path, job.folder / WORK_FOLDER / step.path
    (job.folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    with try_lock(job.folder / WORK_FOLDER, step.name):
        if (target / STEP_FILE).is_file():
            return
        if job.threads:
            torch.set_num_threads(job.threads)
        part = job.protocol.get_part(step.part)
        config = replace(job.methods[step.method], seed=step.seed)
        training, validation = load_training(job.protocol, part, job.source, job.cache)
        predictor = train(training, validation, work, config)
        remove_leftovers(target.parent, target.name)
        with atomic_folder(target) as partial:
            runs = []
            for condition in part.conditions:
                mice = load_condition(job.protocol, condition, job.source, job.cache)
                for mouse, ds in mice.items():
                    masks = predictor.segment(ds, postprocessing=POSTPROCESSING)
                    n_frames = mice.cohort.source.summarize(mouse).n_frames
                    _write_masks(partial / condition.name / f"{mouse}.h5", masks, n_frames)
                key = (step.seed, step.part, condition.name)
                runs.append(score_masks(job.protocol, job.source, partial / condition.name, key, cache=job.cache))
            for file in (BEST_FILE, CURVES_FILE, RUN_FILE):
                shutil.copyfile(work / file, partial / file)
            first = api.load(
                mice=part.conditions[0].mice[:1], source=part.conditions[0].source or job.source, cache=job.cache
            )
            table = {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                **_describe_step(job, step),
                "synthetic": training.synthetic,
                "training": {"train": part.train, "validation": part.validation},
                "cost": measure_cost(predictor, next(iter(first.values()))) | _read_training_cost(work),
                "machine": describe_machine(),
                "versions": list_versions("torch", "monai", "numpy", "scipy", "xarray"),
                "runs": [asdict(run) for run in runs],
            }
            write_json(partial / STEP_FILE, table)
        shutil.rmtree(work, ignore_errors=True)


def _write_masks(path: Path, ds: xr.Dataset, n_frames: int) -> None:
    """Write ``predicted`` of the frames of ``ds`` as HDF5 in the dataset's layout, without images."""
    frames = ds["frame"].values
    masks = np.zeros((n_frames, *(ds.sizes[d] for d in DIMS[1:])), np.uint8)
    masks[frames] = ds[PREDICTED].transpose(*DIMS).values
    path.parent.mkdir(exist_ok=True)
    with open_hdf5(path, "w") as f:
        stored = np.ascontiguousarray(masks.transpose([MODEL_TO_FILE.index(k) for k in range(len(DIMS))]))
        f.create_dataset(MASKS, data=stored, compression="gzip", shuffle=True)
        f.create_dataset(FRAMES_WITH_ROI, data=frames)
        attrs = ds[PREDICTED].attrs
        f.attrs[ATTR_MOUSE], f.attrs[ATTR_SYNTHETIC] = str(ds.attrs["mouse"]), bool(ds.attrs["synthetic"])
        f.attrs[ATTR_SEGMENTED_BY], f.attrs[ATTR_TRAINED_ON] = str(attrs["weights"]), str(attrs["trained_on"])


# What a network costs


def measure_cost(predictor: Predictor, ds: xr.Dataset) -> dict[str, float]:
    """Return parameters, GFLOP and memory of a slice on the training grid, and the seconds of the whole cine ``ds``.

    ``gflop`` counts the multiplications and additions of a prediction; ``memory_mb`` is what training needs for a batch
    of one slice: parameters, gradients, two moments of Adam and the activations that are kept for the gradients.
    """
    started = time.perf_counter()
    predictor.segment(ds, postprocessing=POSTPROCESSING)
    seconds = time.perf_counter() - started
    network = deepcopy(predictor.network).train()  # as in training; the batch statistics of the copy change
    x = torch.rand(1, network.n_inputs, *make_training_grid().shape_yx, device=next(network.parameters()).device)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(x)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    activations = sum(size for pointer, size in kept.items() if pointer not in own)
    del outputs
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "parameters": parameters,
        "gflop": count_gflop(network),
        "memory_mb": (16 * parameters + activations) / 1e6,
        "seconds_per_cine": seconds,
    }


def _read_training_cost(work: Path) -> dict[str, float]:
    outcome = read_run(work)["outcome"]
    return {"training_seconds": outcome["seconds"], "epochs": outcome["epochs"]}


# Ranks


@dataclass(frozen=True)
class Ranking:
    """Networks by their mean score over mice and seeds, best first."""

    table: pd.DataFrame
    """By method: rank, mean, ci_low, ci_high (95 %), and the share of draws with each rank as ``rank_1``, …."""
    tests: pd.DataFrame
    """Pairs: a, b, n, difference (b − a, over mice), p (paired t), p_adjusted (Holm)."""


def rank_methods(values: pd.DataFrame) -> Ranking:
    """Rank methods by ``values``: columns method, seed, mouse and value, larger is better.

    The intervals and the stability of the ranks are of a bootstrap over mice and seeds together: each draw takes the
    same mice for all methods. Fewer than three mice have neither.
    """
    cells = values.groupby(["method", "seed", "mouse"], sort=False)["value"].mean()
    means = cells.groupby(level=["method", "mouse"]).mean().unstack("method")
    order = means.mean().sort_values(ascending=False, kind="stable").index.tolist()
    cube = np.stack([cells[m].unstack("mouse").reindex(columns=means.index).to_numpy(float) for m in order])
    draws = _draw_means(cube)
    ranks = (draws[:, None, :] > draws[:, :, None]).sum(axis=2)  # how many are better
    table = pd.DataFrame(
        {"rank": range(1, len(order) + 1), "mean": _average(cube)}, index=pd.Index(order, name="method")
    )
    enough = means.shape[0] >= MIN_FOR_INTERVAL
    low, high = np.percentile(draws, [2.5, 97.5], axis=0) if enough else np.full((2, len(order)), np.nan)
    table = table.assign(ci_low=low, ci_high=high)
    for k in range(len(order)):
        table[f"rank_{k + 1}"] = (ranks == k).mean(axis=0) if enough else np.nan
    pairs = [
        (a, b, means.shape[0], float((means[b] - means[a]).mean()), run_paired_t_test(means[b], means[a]))
        for a, b in combinations(order, 2)
    ]
    tests = pd.DataFrame(pairs, columns=["a", "b", "n", "difference", "p"])
    return Ranking(table, tests.assign(p_adjusted=adjust_holm(tests["p"]) if len(tests) else tests["p"]))


def _draw_means(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means (draw, method) of a bootstrap of ``cube`` (method, seed, mouse) over mice and seeds."""
    rng = np.random.default_rng(0)
    _, n_seeds, n_mice = cube.shape
    seeds = rng.integers(n_seeds, size=(RESAMPLES, n_seeds, 1))
    mice = rng.integers(n_mice, size=(RESAMPLES, 1, n_mice))
    return np.stack([_average(values[seeds, mice]) for values in cube], axis=1)


def _average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over seeds and mice, the last axes, without missing values; NaN where there are no others."""
    count = np.isfinite(values).sum(axis=(-2, -1))
    return np.asarray(np.where(count, np.nansum(values, axis=(-2, -1)) / np.maximum(count, 1), np.nan))


# The page


def write_benchmark(job: Job, steps: Sequence[Step], *, overwrite: bool = False) -> Path:
    """Write the page of finished steps, its tables and figures, and return its path."""
    tables = [read_step(job.folder / step.path / STEP_FILE) for step in steps]
    page = _build_page(job, steps, tables)
    with try_lock(job.folder / WORK_FOLDER, PAGE_FILE):
        remove_leftovers(job.folder)
        with write_folder(job.folder, overwrite=overwrite, inside=True, keep=True) as partial:
            page.write(partial, PAGE_FILE)
    return job.folder / PAGE_FILE


def _read_scores(job: Job, tables: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the scores of all steps: the columns of ``tabulate_runs``, and method."""
    parts = []
    for table in tables:
        runs = [
            Run(r["seed"], r["part"], r["condition"], tuple(parse_mouse(m) for m in r["mice"])) for r in table["runs"]
        ]
        parts.append(tabulate_runs(job.protocol, runs).assign(method=table["method"]))
    return pd.concat(parts, ignore_index=True)


def _build_page(job: Job, steps: Sequence[Step], tables: Sequence[Mapping[str, Any]]) -> ReportPage:
    p, scores = job.protocol, _read_scores(job, tables)
    synthetic = any(table["synthetic"] for table in tables)
    primary = p.metrics[0]
    values = scores[scores["metric"] == primary]
    ranking = rank_methods(values)
    order = ranking.table.index.tolist()
    seeds = sorted({step.seed for step in steps})
    lead = [
        f"{p.title}. Protocol {p.name}, version {p.version}, checksum {p.sha256[:16]}…, on {job.source}; {len(order)} "
        f"networks, {len(seeds)} seed{'s' * (len(seeds) != 1)}, {values['mouse'].nunique()} test mice.",
        f"Ranked by {SCORES[primary]}, the mean over mice, structures, phases, parts and conditions. 95 % intervals: "
        "bootstrap over mice and seeds together.",
    ]
    if p.unlabelled != "none":
        lead.append(f"The protocol allows {p.unlabelled} without labels; this trainer does not use them.")
    is_stable_known = bool(ranking.table["rank_1"].notna().all())
    ranks = {"ranks": (_plot_ranks(ranking, synthetic), _RANK_CAPTION)} if is_stable_known else {}
    sections = [
        ReportSection("Ranking", (), _format_ranking(ranking, primary), ranks),
        ReportSection("Overlap and distances", (), [_format_overlap(scores, order)]),
        ReportSection("Volumes, ejection fraction, mass", (), [_format_measures(scores, order)]),
    ]
    for title, column, names in (
        ("Conditions", "condition", [c.name for c in p.parts[0].conditions]),
        ("Parts", "part", [part.name for part in p.parts]),
        ("Groups", "phenotype", sorted(values["phenotype"].unique())),
    ):
        if len(names) > 1:
            figures = {}
            if column == "condition" and any(c.severity for c in p.parts[0].conditions):
                figures["severity"] = (
                    _plot_severity(p, values, order, synthetic),
                    "Mean Dice; severity 0: as scanned.",
                )
            if column == "part" and len({len(part.train) for part in p.parts}) > 1:
                figures["mice"] = (
                    _plot_sizes(p, values, order, synthetic),
                    "Mean Dice; dots: draws; line: their mean.",
                )
            sections.append(ReportSection(title, (), [_format_by(values, order, column, names)], figures))
    sections.append(ReportSection("Cost", (), [_format_costs(tables, order)]))
    pictures, caption = (
        _plot_pictures(job, values, order, synthetic),
        "Outlines at end-systole, middle slice. Solid: predicted; ",
    )
    sections.append(
        ReportSection("Best, median, worst", figures={"pictures": (pictures, f"{caption}dotted: ground truth.")})
    )
    sections.append(ReportSection("Choices and versions", (), [_format_settings(tables, order)]))
    return ReportPage(f"Benchmark {p.name}", synthetic, lead, sections)


_RANK_CAPTION = "How often each network has each rank when mice and seeds are drawn again."


def _interval(values: pd.DataFrame, metric: str, digits: int) -> str:
    """Format mean and interval over mice and seeds of one method's values; of measures, the mean absolute error."""
    part = values.assign(method="x", value=values["value"].abs() if metric in MEASURES else values["value"])
    return _format_mean_interval(rank_methods(part).table.iloc[0], digits)


def _format_mean_interval(row: Any, digits: int) -> str:
    interval = format_interval(row["ci_low"], row["ci_high"], digits)
    return f"{format_number(row['mean'], digits)}{'' if interval == '–' else f' ({interval})'}"


def _format_ranking(ranking: Ranking, primary: str) -> list[ReportTable]:
    rows = [
        {
            "rank": int(r["rank"]),
            "network": method,
            f"{SCORES[primary]} (95 % CI)": _format_mean_interval(r, 3),
            **{f"rank {k}": _format_share(r[f"rank_{k}"]) for k in range(1, len(ranking.table) + 1)},
        }
        for method, r in ranking.table.iterrows()
    ]
    tables = [ReportTable("ranking", _RANK_CAPTION, pd.DataFrame(rows), ranking.table.reset_index())]
    if len(ranking.tests):
        shown = ranking.tests[["a", "b", "n"]].copy()
        shown["b − a"] = [format_number(v, 3) for v in ranking.tests["difference"]]
        shown["p"], shown["p adjusted"] = ([format_p(v) for v in ranking.tests[k]] for k in ("p", "p_adjusted"))
        caption = f"{SCORES[primary]} of each mouse, mean over seeds: paired t, adjusted by Holm's method."
        tables.append(ReportTable("tests", caption, shown, ranking.tests))
    return tables


def _format_share(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "–"


def _format_overlap(scores: pd.DataFrame, order: Sequence[str]) -> ReportTable:
    rows, full = [], []
    overlap = scores[scores["metric"].isin(SCORES)]
    for (structure, phase), cell in overlap.groupby(["structure", "phase"], sort=False):
        for method in order:
            row: dict[str, Any] = {"structure": structure, "phase": phase, "network": method}
            for metric in overlap["metric"].unique():
                values = cell[(cell["method"] == method) & (cell["metric"] == metric)]
                row[SCORES[metric]] = _interval(values, metric, 3)
                full.append((method, structure, phase, metric, values["value"].mean()))
            rows.append(row)
    table = pd.DataFrame(full, columns=["method", "structure", "phase", "metric", "mean"])
    return ReportTable("overlap", "Mean (95 % CI) over mice and seeds.", pd.DataFrame(rows), table)


def _format_measures(scores: pd.DataFrame, order: Sequence[str]) -> ReportTable:
    rows, full = [], []
    for key, (name, unit) in MEASURES.items():
        for method in order:
            values = scores[(scores["metric"] == key) & (scores["method"] == method)]
            if values.empty:
                continue
            errors = values.groupby("mouse")["value"].mean()
            rows.append(
                {
                    "measure": f"{name} ({unit})",
                    "network": method,
                    "bias ± SD": format_mean(errors.mean(), errors.std(), 2),
                    "|error| (95 % CI)": _interval(values, key, 2),
                }
            )
            full.append((method, key, errors.mean(), errors.std(), values["value"].abs().mean()))
    table = pd.DataFrame(full, columns=["method", "measure", "bias", "sd", "mean_absolute_error"])
    return ReportTable(
        "measures", "Predicted − true, over mice; |error|: mean absolute error.", pd.DataFrame(rows), table
    )


def _format_by(values: pd.DataFrame, order: Sequence[str], column: str, names: Sequence[str]) -> ReportTable:
    rows, full = [], []
    for name in names:
        cell = values[values[column] == name]
        methods = {m: cell[cell["method"] == m] for m in order}
        rows.append(
            {column: name, "mice": cell["mouse"].nunique(), **{m: _interval(v, "dice", 3) for m, v in methods.items()}}
        )
        full += [(m, name, v["value"].mean()) for m, v in methods.items()]
    table = pd.DataFrame(full, columns=["method", column, "mean"])
    return ReportTable(f"by_{column}", "Dice (95 % CI) of each network.", pd.DataFrame(rows), table)


def _format_costs(tables: Sequence[Mapping[str, Any]], order: Sequence[str]) -> ReportTable:
    full = (
        pd.DataFrame([{"method": t["method"], **t["cost"]} for t in tables]).groupby("method").mean().loc[list(order)]
    )
    titles = {
        "parameters": ("parameters", 0), "gflop": ("GFLOP a slice", 2), "memory_mb": ("training memory (MB)", 0),
        "seconds_per_cine": ("s a cine", 2), "training_seconds": ("training (s)", 0), "epochs": ("epochs", 1),
    }  # fmt: skip
    shown = pd.DataFrame({"network": order})
    for key, (title, digits) in titles.items():
        shown[title] = [f"{v:,.{digits}f}" for v in full[key]]
    machines = "; ".join(dict.fromkeys(t["machine"] for t in tables))
    return ReportTable("cost", f"Means over steps, on {machines}.", shown, full.reset_index())


def _format_settings(tables: Sequence[Mapping[str, Any]], order: Sequence[str]) -> ReportTable:
    configs = {t["method"]: t["config"] for t in tables}
    default = to_json_value(asdict(TrainConfig()))
    rows = [
        {
            "what": f"{method}: settings",
            "value": json.dumps({k: v for k, v in configs[method].items() if v != default.get(k)}),
        }
        for method in order
    ]
    rows += [{"what": "post-processing", "value": POSTPROCESSING}]
    rows += [{"what": f"version of {k}", "value": v} for k, v in tables[0]["versions"].items()]
    return ReportTable("settings", "What differs from the published recipe.", pd.DataFrame(rows))


def _plot_ranks(ranking: Ranking, synthetic: bool) -> Figure:
    order = ranking.table.index.tolist()
    figure = create_figure(figsize=(8, 1.2 + 0.45 * len(order)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(order))
    for k in range(len(order)):
        share = ranking.table[f"rank_{k + 1}"].to_numpy(float)
        axes.barh(
            range(len(order)),
            share,
            left=left,
            color=MODEL_COLOUR,
            alpha=1 - 0.8 * k / max(1, len(order) - 1),
            label=f"rank {k + 1}",
        )
        left += np.nan_to_num(share)
    axes.set_yticks(range(len(order)), [escape_math(m) for m in order])
    axes.set(xlabel="share of draws", xlim=(0, 1))
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(mark_title("stability of the ranks", synthetic), fontsize=10)
    return figure


def _plot_severity(p: Protocol, values: pd.DataFrame, order: Sequence[str], synthetic: bool) -> Figure:
    means = values.groupby(["method", "condition"])["value"].mean()
    conditions = p.parts[0].conditions
    kinds = list(dict.fromkeys(c.corruption for c in conditions if c.corruption))
    clean = next((c.name for c in conditions if not c.corruption and not c.source), None)
    figure = create_figure(figsize=(11, 5.6), layout="constrained")
    grid = figure.subplots(2, -(-len(kinds) // 2), squeeze=False, sharey=True)
    for axes, kind in zip(grid.flat, kinds, strict=False):
        points = [c for c in conditions if c.corruption == kind or c.name == clean]
        for method in order:
            axes.plot(
                [c.severity for c in points],
                [means[method, c.name] for c in points],
                "o-",
                ms=3,
                lw=1.2,
                label=escape_math(method),
            )
        axes.set_title(kind, fontsize=9)
        axes.set_xlabel("severity", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(frameon=False, fontsize=8)
    grid[0, 0].set_ylabel("Dice")
    figure.suptitle(mark_title("Dice and severity", synthetic), fontsize=10)
    return figure


def _plot_sizes(p: Protocol, values: pd.DataFrame, order: Sequence[str], synthetic: bool) -> Figure:
    sizes = {part.name: len(part.train) for part in p.parts}
    means = values.groupby(["method", "part"])["value"].mean()
    figure = create_figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, method in enumerate(order):
        points = pd.Series({name: means[method, name] for name in sizes})
        axes.plot(list(sizes.values()), points, "o", ms=4, alpha=0.6, color=f"C{k}")
        line = points.groupby(pd.Series(sizes)).mean()
        axes.plot(line.index, line, "-", lw=1.4, color=f"C{k}", label=escape_math(method))
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(sizes.values())), [str(n) for n in sorted(set(sizes.values()))])
    axes.minorticks_off()
    axes.set(xlabel="training mice", ylabel="Dice")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(mark_title("Dice and the number of training mice", synthetic), fontsize=10)
    return figure


def _plot_pictures(job: Job, values: pd.DataFrame, order: Sequence[str], synthetic: bool) -> Figure:
    """Draw the best, the median and the worst mouse (rows) of each method (columns), of its first seed."""
    ranks = ("best", "median", "worst")
    figure = create_figure(figsize=(2.3 * len(order) + 0.4, 8.4), facecolor="black")
    grid = figure.subplots(3, len(order), squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.89, bottom=0.01, hspace=0.22, wspace=0.03)
    for column, method in enumerate(order):
        own = values[values["method"] == method]
        own = own[own["seed"] == own["seed"].min()]
        by_mouse = (
            own.groupby(["part", "condition", "mouse"])["value"].mean().sort_values(ascending=False, kind="stable")
        )
        for row, (rank, place) in enumerate(zip(ranks, (0, len(by_mouse) // 2, len(by_mouse) - 1), strict=True)):
            part, condition, mouse = by_mouse.index[place]
            step = Step(method, int(own["seed"].min()), part)
            _draw_mouse(grid[row, column], job, step, condition, mouse)
            where = f", {condition}" if len(job.protocol.parts[0].conditions) > 1 else ""
            title = f"{method}\n{rank}: {mouse}{where}\nDice {by_mouse.iloc[place]:.3f}"
            grid[row, column].set_title(escape_math(title), color="white", fontsize=7.5)
    figure.suptitle(mark_title("best, median and worst mouse", synthetic), color="white", fontsize=10)
    return figure


def _draw_mouse(axes: Any, job: Job, step: Step, condition_name: str, mouse: str) -> None:
    conditions = {c.name: c for c in job.protocol.get_part(step.part).conditions}
    ds = load_condition(job.protocol, conditions[condition_name], job.source, job.cache)[mouse]
    masks = open_predictions(job.folder / step.path / condition_name)
    prediction = masks.read(masks.find(mouse, False), ds)
    phases = ds["phase"].values.astype(str).tolist()
    frame = phases.index(ES) if ES in phases else 0
    predicted = prediction.labels[match_frames(prediction, ds).index(int(ds["frame"].values[frame]))]
    truth = ds[MASK].transpose(*DIMS).values
    _, dy, dx = get_spacing(ds)
    rows, columns = find_crop(truth, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    slices = np.flatnonzero(truth[frame].any(axis=(1, 2)))
    middle = int(slices[len(slices) // 2]) if slices.size else 0
    image = ds[IMAGE].transpose(*DIMS).values[frame, middle][rows, columns]
    axes.imshow(image, cmap="gray", vmax=max(np.percentile(image, 99.7), 1), aspect=dy / dx)
    for level, colour in zip((0.5, 1.5), COLOURS.values(), strict=True):
        for mask, style in ((predicted[middle], "solid"), (truth[frame, middle], "dotted")):
            if (mask[rows, columns] > level).any():
                axes.contour(mask[rows, columns], [level], colors=[colour], linewidths=0.9, linestyles=style)
    axes.set_xticks([])
    axes.set_yticks([])
