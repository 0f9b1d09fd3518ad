"""Score predictions of one mouse or many against the truth; name each mouse that cannot be scored, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from os import PathLike
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.checksums import hash_arrays
from mousecmr_data._utils.parallel import ProgressCallback, count_results, map_in_processes
from mousecmr_data._utils.progress import open_bar
from mousecmr_data.dataset.cohort import Cohort, check_is_cohort
from mousecmr_data.dataset.model import check_not_empty, get_spacing, load_truth
from mousecmr_data.errors import (
    ArgumentError,
    LabelError,
    MissingDataError,
    MouseCMRError,
    PredictionError,
    UnlabelledError,
)
from mousecmr_data.evaluation.checks import REMARKS, check_cohort, check_masks
from mousecmr_data.evaluation.predictions import Prediction, Predictions, match_frames, open_predictions
from mousecmr_data.evaluation.result import MEASURES, Evaluation, FrameScore, MouseScore, Problem, make_evaluation
from mousecmr_data.metrics.overlap import EMPTY_POLICIES, EmptyPolicy, compute_surface_distances, dice
from mousecmr_data.metrics.postprocessing import PostprocessingRule, postprocess_cine
from mousecmr_data.metrics.volumes import analyze_curve, make_phases, measure
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label, LabelMap, parse_label_map
from mousecmr_data.schema.manifest import get_constant
from mousecmr_data.schema.variables import ATTR_MOUSE, DIMS, ED, ES, MASK, NOT_PUBLISHED, NOT_STATED, PREDICTED

Labels = NDArray[np.uint8]
PhaseRule = Literal["annotated", "volume-curve"]

PHASE_RULES: dict[str, str] = {
    "annotated": "ED and ES of the prediction are the frames that the annotators marked",
    "volume-curve": "ED and ES of the prediction are the largest and the smallest blood pool on its own smoothed "
    "volume curve, as in mousecmr segment; overlap and distances are still of the annotated frames",
}

OWN_FILES = "files"
"""Source of the ground truth, where it is of no manifest: not the name of one file, so that parts can be merged."""
DEFINITIONS: dict[str, str] = {
    "dice": "2|A∩B|/(|A|+|B|) of hard labels, per class, over the 3D stack at one frame; both empty = 1",
    "mean_dice": "mean of a mouse's four values (two classes at ED and ES); of its only labelled frame, where it has "
    "no ED/ES pair",
    "hd95_mm": "the larger of the two directed 95th percentiles of the distances between surface voxels, 3D, mm",
    "assd_mm": "mean of the distances of both surfaces together, 3D, mm",
    "volume": "voxels of the blood pool × voxel volume, all slices",
    "sv_ef": "SV = EDV − ESV; EF = SV / EDV",
    "mass": f"voxels of the myocardium × voxel volume × {get_constant('myocardial_density')} g/ml",
    "truth_phases": "ED = earliest labelled frame; ES = of the others, the smallest blood pool (the annotators' rule)",
}


@dataclass(frozen=True)
class EvaluationConfig:
    """The policies by which predictions are scored; they are written into every result file."""

    phases: PhaseRule = "annotated"
    postprocessing: PostprocessingRule = "none"
    """Applied to the predictions before they are scored."""
    empty: EmptyPolicy = "missing"

    def __post_init__(self) -> None:
        choices = {
            "phases": tuple(PHASE_RULES),
            "postprocessing": get_args(PostprocessingRule),
            "empty": EMPTY_POLICIES,
        }
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise ArgumentError(
                    f"There is no policy {name}={getattr(self, name)!r}.", f"one of {', '.join(map(repr, values))}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the choices by name, with the definitions behind them."""
        return {**asdict(self), "definitions": DEFINITIONS, "phases_rule": PHASE_RULES[self.phases]}


MAX_PROBLEMS = 12
"""Problems listed in an error message; the result file has all of them."""


def score_mouse(ds: xr.Dataset, prediction: Prediction, config: EvaluationConfig) -> tuple[MouseScore, list[Problem]]:
    """Score ``prediction`` of the mouse ``ds`` (a dataset of the cine model; its images are not read).

    The result has the checksums of both masks, and the problems that :mod:`mousecmr_data.evaluation.checks` finds.
    Raises :class:`~mousecmr_data.errors.PredictionError` where shape or
    frames do not fit, and under the policy ``volume-curve`` where frames are missing.
    """
    truth = load_truth(ds)
    mouse, numbers = str(ds.attrs.get("mouse", "")), truth["frame"].values
    frames = match_frames(prediction, ds)
    if missing := [int(n) for n in numbers if n not in frames]:
        raise PredictionError(
            f"{mouse}: the frame{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))} of the truth were not "
            "predicted.",
            f"at least the labelled frames, {numbers.tolist()}",
        )
    given = prediction.labels[[frames.index(n) for n in numbers]]
    problems = list(check_masks(mouse, truth, given, prediction.about, config.postprocessing))
    size, curve = get_spacing(ds), None
    in_time = sorted(frames)
    labels = postprocess_cine(prediction.labels[[frames.index(n) for n in in_time]], config.postprocessing, size)
    labelled = labels[[in_time.index(n) for n in numbers]]
    is_whole = set(ds["frame"].values.tolist()) <= set(frames)
    if is_whole:  # the curve needs every frame
        labels = labels[[in_time.index(n) for n in ds["frame"].values]]
        volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * float(np.prod(size))
        times = ds["time"].values if "time" in ds.coords else np.array([])
        step = float(np.diff(times).mean()) if times.size > 1 else np.nan
        curve = asdict(analyze_curve(volumes, step)) if volumes.size > 1 else None
    truth_measures = measure(truth)
    annotated = predicted = measure(truth.assign({PREDICTED: (DIMS, labelled)}), mask=PREDICTED)
    if config.phases == "volume-curve":
        if not is_whole:
            raise PredictionError(
                f"{mouse}: {len(frames)} of {ds.sizes['frame']} frames were predicted.",
                "every frame, for the policy volume-curve",
                "mousecmr predict  segments whole cines; or --phases annotated",
            )
        phases = make_phases(volumes)
        bare = ds.drop_vars(list(ds.data_vars)).assign({PREDICTED: (DIMS, labels)})
        by_curve = bare.assign_coords(labelled=("frame", np.isin(phases, [ED, ES])), phase=("frame", phases))
        predicted = measure(by_curve, mask=PREDICTED)
    score = MouseScore(
        mouse=mouse,
        phenotype=str(ds.attrs.get("phenotype", NOT_PUBLISHED)),
        split=str(ds.attrs.get("split", "none")),
        synthetic=bool(ds.attrs.get("synthetic", False)),
        voxel_size_mm=size,
        voxel_size_source=truth_measures.voxel_size_source,
        truth_sha256=hash_arrays(truth[MASK].values.astype(np.uint8)),
        prediction_sha256=hash_arrays(prediction.labels.astype(np.uint8)),
        frames=tuple(_score_frames(truth[MASK].values, labelled, annotated.frames, config, size)),
        truth={name: float(getattr(truth_measures, name)) for name in MEASURES},
        predicted={name: float(getattr(predicted, name)) for name in MEASURES},
        curve=curve,
        about={k: v for k, v in prediction.about.items() if k != ATTR_MOUSE},  # it is the mouse, or a problem
        doubt="; ".join(p.text for p in problems if p.kind not in REMARKS) or None,
    )
    return score, problems


def _score_frames(
    truth: Labels, predicted: Labels, frames: pd.DataFrame, config: EvaluationConfig, size: tuple[float, float, float]
) -> Iterator[FrameScore]:
    voxel_ul = float(np.prod(size))
    for k, label in product(range(len(truth)), FOREGROUND):
        a, b = predicted[k] == label, truth[k] == label
        distances = compute_surface_distances(a, b, size, empty=config.empty)
        yield FrameScore(
            frame=int(frames["frame"].iloc[k]),
            phase=str(frames["phase"].iloc[k]),
            structure=MEANINGS[label],
            dice=dice(a, b),
            hd95_mm=distances.hd95_mm,
            assd_mm=distances.assd_mm,
            truth_ul=float(np.count_nonzero(b) * voxel_ul),
            predicted_ul=float(np.count_nonzero(a) * voxel_ul),
        )


def evaluate(
    predictions: Any,
    mice: Iterable[xr.Dataset] | Mapping[str, xr.Dataset],
    config: EvaluationConfig | None = None,
    *,
    strict: bool = True,
    name: str | None = None,
    workers: int = 1,
    labels: str | LabelMap | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Evaluation:
    """Score ``predictions`` of ``mice``.

    Parameters
    ----------
    predictions
        A path (folder of NIfTI, NRRD, MetaImage or HDF5 files named for their mice, one file, a Zarr store), or a
        mapping of mice to arrays (frame, slice, y, x) of 0, 1, 2 or to datasets with the variable ``predicted``. Image
        files are put on the grid of their mouse by their place in space.
    mice
        The truth: a cohort (``mousecmr_data.load(split="test")``), or datasets of the cine model.
    config
        ED/ES rule, post-processing, empty masks. The defaults score the predictions as given.
    strict
        With True, anything that does not fit is an error that names every mouse and its problem. With False, every
        mouse that fits is scored, and the problems are listed in the result.
    name
        Name of the predictions in the result. Default: their path.
    workers
        Number of processes; useful where predictions are files.
    labels
        What the numbers in the predictions mean, if not 1 myocardium and 2 blood pool: ``{"lv": 3, "myo": 2}``,
        ``"lv=3,myo=2"`` or a preset, "acdc", "mms" or "ukbb". Their other numbers are background.
    progress
        Called with 1 after each mouse; True draws a bar, False none, None does on a terminal and in a notebook.

    Raises
    ------
    PredictionError
        Predictions that do not fit their mice, with the problem of each.
    """
    opened = open_predictions(predictions, name, parse_label_map(labels) if isinstance(labels, str) else labels)
    name, config = name or opened.name, config or EvaluationConfig()
    truth, about = _open_truth(mice)
    names = list(truth)
    check_not_empty(names)
    work = partial(try_score, truth, opened, (config,))
    with open_bar(progress, "scoring", len(names)) as advance:
        outcomes = map_in_processes(work, names, workers, count_results(advance))
    scores = [score for m in names for score in outcomes[m][0]]
    problems = [p for m in names for p in outcomes[m][1]]
    problems += check_cohort(scores, truth, opened)
    unused = find_unused(opened, names) if len(names) > 1 else []
    refused = [p for p in problems if p.kind not in REMARKS]
    if scores and not any(f.predicted_ul for s in scores for f in s.frames):
        refused = problems
    if (strict and refused) or not scores:
        raise make_refusal(refused, name, len(names))
    return make_evaluation(name, about, config.to_dict(), scores, [*problems, *unused])


def make_refusal(problems: Sequence[Problem], name: str, n_mice: int) -> PredictionError:
    """Return the error that lists ``problems`` of the predictions ``name``."""
    lines = [f"  {p.mouse} ({p.kind}): {p.text.replace(f'{p.mouse}: ', '', 1)}" for p in problems[:MAX_PROBLEMS]]
    if (more := len(problems) - MAX_PROBLEMS) > 0:
        lines.append(f"  … and {more} more")
    wrong = len({p.mouse for p in problems})
    return PredictionError(
        "\n".join([f"{wrong} of {n_mice} mice have a problem in {name}:", *lines]),
        "a prediction for every mouse, in the frames and the axes of its images",
        "strict=False, or mousecmr evaluate --go-on, scores the mice that fit and names the others",
    )


def _open_truth(
    mice: Iterable[xr.Dataset] | Mapping[str, xr.Dataset],
) -> tuple[Mapping[str, xr.Dataset], dict[str, Any]]:
    """Return the mice by name, and the entry ``truth`` of the result. A cohort opens one mouse at a time."""
    if isinstance(mice, str | PathLike):
        check_is_cohort(mice, "evaluate(predictions, )")
    if isinstance(mice, Cohort):
        return mice, describe_cohort(mice)
    by_name: dict[str, xr.Dataset] = {}
    for ds in mice.values() if isinstance(mice, Mapping) else mice:
        mouse = ds.attrs.get("mouse", "mouse")
        if by_name.setdefault(str(mouse), ds) is not ds:
            raise PredictionError(f"Two mice are called {mouse!r}.", "a different name for each mouse")
    first = next(iter(by_name.values())).attrs if by_name else {}
    version = str(first.get("version", NOT_STATED))
    source = OWN_FILES if version == NOT_STATED else str(first.get("source", ""))
    about = {"source": source, "version": version, "split": "none", "split_scheme": "", "caveat": ""}
    return by_name, {**about, "mice": len(by_name)}


def describe_cohort(mice: Cohort) -> dict[str, Any]:
    """Describe where a cohort comes from, for the entry ``truth`` of a result."""
    scheme = mice.source.manifest.splits.get(mice.split_scheme)
    return {
        "source": mice.source.name,
        "version": mice.source.version,
        "split": " + ".join(sorted(set(mice.splits.values()))),
        "split_scheme": mice.split_scheme,
        "caveat": scheme.caveat if scheme else "",
        "mice": len(mice.mice),
    }


def try_score(
    truth: Mapping[str, xr.Dataset], predictions: Predictions, configs: Sequence[EvaluationConfig], mouse: str
) -> tuple[list[MouseScore], list[Problem]]:
    """Return the scores of one mouse, one for each of ``configs``, and its problems; no score where it has none."""
    ds = truth[mouse]
    try:
        key = predictions.find(mouse, len(truth) == 1)
        if key is None:
            return [], [Problem(mouse, "missing", f"no prediction in {predictions.name}")]
        prediction = predictions.read(key, ds)
        results = [score_mouse(ds, prediction, config) for config in configs]
    except UnlabelledError as e:
        return [], [Problem(mouse, "unlabelled", e.found)]
    except LabelError as e:
        return [], [Problem(mouse, "labels", " ".join(p for p in (e.found, e.next_step) if p))]
    except PredictionError as e:
        return [], [Problem(mouse, "shape", " ".join(p for p in (e.found, e.next_step) if p))]
    except MissingDataError:
        raise  # a folder without predictions or a missing truth concerns all mice, not one
    except MouseCMRError as e:
        return [], [Problem(mouse, "unreadable", e.found)]
    return [s for s, _ in results], list(dict.fromkeys(p for _, problems in results for p in problems))


def find_unused(predictions: Predictions, mice: list[str]) -> list[Problem]:
    """List the predictions that belong to no mouse of the truth; they are not scored."""
    keys = {m: key for m in mice if (key := predictions.find(m, False)) is not None}
    if (index := getattr(predictions, "index", None)) is not None:
        files = [p for key in keys.values() for p in (key.values() if isinstance(key, dict) else [key])]
        unused = [stem for stem, path in index.items() if path not in files]
    else:
        unused = [n for n in predictions.names() if n not in keys]
    text = f"not among the {len(mice)} mice scored (predictions in total: {len(predictions.names())})"
    return [Problem(n, "ignored", text) for n in unused]
