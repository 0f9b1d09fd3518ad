"""Predictions of many mice against their truth: what fits is scored, what does not is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.checksums import hash_arrays
from mousecmr_data._utils.parallel import count_results, map_in_processes
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import (
    ArgumentError,
    LabelError,
    MissingDataError,
    MouseCMRError,
    PredictionError,
    UnlabelledError,
)
from mousecmr_data.evaluation.predictions import Prediction, Predictions, open_predictions
from mousecmr_data.evaluation.result import MEASURES, Evaluation, FrameScore, MouseScore, Problem, list_versions
from mousecmr_data.metrics.overlap import EMPTY_POLICIES, EmptyPolicy, compute_surface_distances, dice, dice_by_class
from mousecmr_data.metrics.postprocessing import RULES, PostprocessingRule, postprocess
from mousecmr_data.metrics.volumes import Measures, analyze_curve, make_phases, measure
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import DIMS, MASK, NOT_PUBLISHED, PREDICTED

# MERGED evaluation.scoring: The choices behind a number, each by its name. They stand in every result file.


PhaseRule = Literal["annotated", "volume-curve"]

PHASE_RULES: dict[str, str] = {
    "annotated": "ED and ES of the prediction are the frames that the annotators marked",
    "volume-curve": "ED and ES of the prediction are the largest and the smallest blood pool on its own smoothed volume "
    "curve, as in mousecmr segment; overlap and distances are still of the annotated frames",
}

DEFINITIONS: dict[str, str] = {
    "dice": "2|A∩B|/(|A|+|B|) of hard labels, per class, over the 3D stack at one frame; both empty = 1",
    "mean_dice": "mean of a mouse's four values (two classes at ED and ES); of its only labelled frame, where it has "
    "no ED/ES pair",
    "hd95_mm": "the larger of the two directed 95th percentiles of the distances between surface voxels, 3D, mm",
    "assd_mm": "mean of the distances of both surfaces together, 3D, mm",
    "volume": "voxels of the blood pool × voxel volume, all slices",
    "sv_ef": "SV = EDV − ESV; EF = SV / EDV",
    "mass": "voxels of the myocardium × voxel volume × 1.05 g/ml",
    "truth_phases": "ED = earliest labelled frame; ES = of the others, the smallest blood pool (the annotators' rule)",
}


@dataclass(frozen=True)
class EvaluationConfig:
    """How predictions are scored."""

    phases: PhaseRule = "annotated"
    postprocessing: PostprocessingRule = "none"
    """Applied to the predictions before they are scored."""
    empty: EmptyPolicy = "missing"

    def __post_init__(self) -> None:
        choices = {"phases": tuple(PHASE_RULES), "postprocessing": tuple(RULES), "empty": EMPTY_POLICIES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ArgumentError(
                    f"There is no policy {name}={getattr(self, name)!r}.", f"one of {', '.join(map(repr, known))}"
                )

    def to_dict(self) -> dict[str, Any]:
        """The choices by name, with the definitions they stand on."""
        return {**asdict(self), "definitions": DEFINITIONS, "phases_rule": PHASE_RULES[self.phases]}


# MERGED evaluation.scoring: Does a bad score come from the network, or from how its masks were written?
#
# A mask can have the right shape and still be transposed, mirrored, upside down, or have its labels swapped. Such a
# mask scores badly as it is and well once turned. Only masks that score badly are looked at.


BAD_DICE, GOOD_DICE, MIN_GAIN = 0.8, 0.85, 0.15
"""Mean Dice under which masks are looked at; what another reading must reach; and gain."""


def find_orientation_error(prediction: Labels, truth: Labels) -> str | None:
    """What is probably wrong with ``prediction`` (slice, y, x), in words; None if nothing is."""
    as_is = _compute_mean_dice(prediction, truth)
    if as_is >= BAD_DICE or not prediction.any():
        return None
    best, words = as_is, ""
    for swapped, flip_z, flip_y, flip_x, transposed in product((False, True), repeat=5):
        turned = _swap_labels(prediction) if swapped else prediction
        if transposed:
            turned = turned.transpose(0, 2, 1)
        turned = turned[:: -1 if flip_z else 1, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
        if turned.shape != truth.shape:
            continue
        found = _compute_mean_dice(turned, truth)
        if found > best:
            names = {
                f"labels {FOREGROUND[0]:d} and {FOREGROUND[1]:d} look swapped": swapped,
                "rows and columns look transposed": transposed,
                "slices look to be in the opposite order": flip_z,
                "rows look mirrored": flip_y,
                "columns look mirrored": flip_x,
            }
            best, words = found, " and ".join(k for k, v in names.items() if v)
    if best < GOOD_DICE or best - as_is < MIN_GAIN:
        return None
    return f"{words} (mean Dice {as_is:.2f} as given, {best:.2f} otherwise)"


def _compute_mean_dice(prediction: Labels, truth: Labels) -> float:
    return float(np.mean(list(dice_by_class(prediction, truth).values())))


def _swap_labels(labels: Labels) -> Labels:
    return np.array([0, 2, 1], np.uint8)[labels]


# MERGED evaluation.scoring: One mouse's prediction against its truth: every number of it, with the checksums of both masks.


Labels = NDArray[np.uint8]


def load_truth(ds: xr.Dataset) -> xr.Dataset:
    """The labelled frames of a mouse, masks in memory, images left where they are."""
    who = str(ds.attrs.get("mouse", "this mouse"))
    if MASK not in ds or not ds["labelled"].values.any():
        raise UnlabelledError(f"No frame of {who} is labelled: there is nothing to hold a prediction against.")
    few = ds[[MASK]].isel(frame=np.flatnonzero(ds["labelled"].values)).transpose(*DIMS)
    return few.load()


def score_mouse(ds: xr.Dataset, prediction: Prediction, config: EvaluationConfig) -> MouseScore:
    """Score ``prediction`` of the mouse ``ds`` (a dataset of the cine model; its images are not read).

    Raises :class:`~mousecmr_data.errors.PredictionError` where shape or frames do not fit, and under the policy
    ``volume-curve`` where frames are missing.
    """
    truth = load_truth(ds)
    who, numbers = str(ds.attrs.get("mouse", "")), truth["frame"].values
    frames = match_frames(prediction, ds)
    if absent := [int(n) for n in numbers if n not in frames]:
        raise PredictionError(
            f"{who}: the frame{'s'[: len(absent) > 1]} {', '.join(map(str, absent))} of the truth were not predicted.",
            f"at least the labelled frames, {numbers.tolist()}",
        )
    whole = set(ds["frame"].values.tolist()) <= set(frames)
    labels = prediction.labels
    given = labels[[frames.index(n) for n in numbers]]
    doubt = find_orientation_error(given[0], truth[MASK].values[0])
    if whole:  # the curve needs every frame
        labels = np.stack([postprocess(labels[frames.index(n)], config.postprocessing) for n in ds["frame"].values])
        ours = labels[np.flatnonzero(ds["labelled"].values)]
    else:
        ours = np.stack([postprocess(stack, config.postprocessing) for stack in given])
    size = get_spacing(ds)
    seen = truth.assign({PREDICTED: (DIMS, ours)})
    theirs, at_frames = measure(truth), measure(seen, mask=PREDICTED)
    found = at_frames
    volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * float(np.prod(size)) if whole else None
    if config.phases == "volume-curve":
        if volumes is None:
            raise PredictionError(
                f"{who}: {len(frames)} of {ds.sizes['frame']} frames were predicted.",
                "every frame, for the policy volume-curve",
                "mousecmr predict  segments whole cines; or --phases annotated",
            )
        found = measure(_assign_phases_by_curve(ds, labels, volumes), mask=PREDICTED)
    beat = ds["time"].values if "time" in ds.coords else np.array([])
    step = float(np.diff(beat).mean()) if beat.size > 1 else np.nan
    return MouseScore(
        mouse=who,
        phenotype=str(ds.attrs.get("phenotype", NOT_PUBLISHED)),
        split=str(ds.attrs.get("split", "none")),
        synthetic=bool(ds.attrs.get("synthetic", False)),
        voxel_size_mm=size,
        voxel_size_source=theirs.voxel_size_source,
        truth_sha256=hash_arrays(truth[MASK].values.astype(np.uint8)),
        prediction_sha256=hash_arrays(prediction.labels.astype(np.uint8)),
        frames=tuple(_score_frames(truth, ours, at_frames, config, size)),
        truth=_collect_measures(theirs),
        predicted=_collect_measures(found),
        curve=asdict(analyze_curve(volumes, step)) if volumes is not None and volumes.size > 1 else None,
        about=dict(prediction.about),
        doubt=doubt,
    )


def match_frames(prediction: Prediction, ds: xr.Dataset) -> list[int]:
    """The frame numbers of a prediction's first axis; :class:`PredictionError` where its shape does not fit."""
    who = str(ds.attrs.get("mouse", ""))
    expected = tuple(ds.sizes[d] for d in DIMS)
    numbers: list[int] = ds["frame"].values.tolist()
    labelled: list[int] = ds["frame"].values[ds["labelled"].values].tolist()
    shape = prediction.labels.shape
    if shape[1:] == expected[1:]:
        if prediction.frames is not None:
            return list(prediction.frames)
        if shape[0] in (len(numbers), len(labelled)):
            return numbers if shape[0] == len(numbers) else labelled
    hint = None
    if sorted(shape) == sorted(expected):
        order = _guess_axis_order(shape, expected)
        hint = f"axes look transposed: they are ({', '.join(order)}), wanted is ({', '.join(DIMS)})"
    raise PredictionError(
        f"{who}: the prediction has the shape {shape}.",
        f"{DIMS} = {expected}, or its {len(labelled)} labelled frames alone",
        hint,
    )


def _guess_axis_order(shape: tuple[int, ...], expected: tuple[int, ...]) -> list[str]:
    left = list(zip(DIMS, expected, strict=True))
    names = []
    for n in shape:  # y and x of one length are named in that order
        at = next(k for k, (_, length) in enumerate(left) if length == n)
        names.append(left.pop(at)[0])
    return names


def _score_frames(
    truth: xr.Dataset, ours: Labels, at_frames: Measures, config: EvaluationConfig, size: tuple[float, float, float]
) -> list[FrameScore]:
    rows = []
    voxel_ul = float(np.prod(size))
    for k, theirs in enumerate(truth[MASK].values):
        row = at_frames.frames.iloc[k]
        for label in FOREGROUND:
            a, b = ours[k] == label, theirs == label
            apart = compute_surface_distances(a, b, size, empty=config.empty)
            rows.append(
                FrameScore(
                    frame=int(row["frame"]),
                    phase=str(row["phase"]),
                    structure=MEANINGS[label],
                    dice=dice(a, b),
                    hd95_mm=apart.hd95_mm,
                    assd_mm=apart.assd_mm,
                    truth_ul=float(np.count_nonzero(b) * voxel_ul),
                    predicted_ul=float(np.count_nonzero(a) * voxel_ul),
                )
            )
    return rows


def _assign_phases_by_curve(ds: xr.Dataset, labels: Labels, volumes: NDArray[np.float64]) -> xr.Dataset:
    """Return the predicted masks with ED and ES named by their volume curve."""
    phases = make_phases(volumes)
    bare = ds.drop_vars(list(ds.data_vars)).assign({PREDICTED: (DIMS, labels)})
    return bare.assign_coords(labelled=("frame", np.isin(phases, [ED, ES])), phase=("frame", phases))


def _collect_measures(m: Measures) -> dict[str, float]:
    return {name: float(getattr(m, name)) for name in MEASURES}


MAX_PROBLEMS = 12
"""Problems that an error lists; the result file has them all."""


def evaluate(
    predictions: Any,
    mice: Iterable[xr.Dataset] | Mapping[str, xr.Dataset],
    config: EvaluationConfig | None = None,
    *,
    strict: bool = True,
    name: str | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score ``predictions`` of ``mice``.

    Parameters
    ----------
    predictions
        A path (folder of NIfTI or HDF5 files named for their mice, one file, a Zarr store), or a mapping of mice to
        arrays (frame, slice, y, x) of 0, 1, 2 or to datasets with the variable ``predicted``.
    mice
        The truth: a cohort (``mousecmr_data.load(split="test")``), or datasets of the cine model.
    policies
        How: ED/ES rule, post-processing, empty masks. The defaults score what was given.
    strict
        With True, anything that does not fit is an error that names every mouse and its problem. With False, what
        can be scored is, and the problems stand in the result.
    jobs
        Processes; of use where predictions are files.
    progress
        Called with 1 after each mouse.

    Raises :class:`~mousecmr_data.errors.PredictionError`.
    """
    found = open_predictions(predictions, name)
    config = config or EvaluationConfig()
    truth = _Truth.from_mice(mice)
    if not truth.names:
        raise UnlabelledError("There is no mouse to score.", "a cohort of at least one mouse")
    alone = len(truth.names) == 1
    work = partial(_evaluate_mouse, truth, found, config, alone)
    outcomes = map_in_processes(work, truth.names, workers, count_results(progress))
    scores = [s for m in truth.names if (s := outcomes[m][0])]
    problems = [p for m in truth.names for p in outcomes[m][1]]
    strangers = _find_unused(found, truth.names) if not alone else []
    if (strict and problems) or not scores:
        raise PredictionError(
            f"{len(problems)} of {len(truth.names)} mice have a problem in {name or found.name}:\n{_format_problems(problems)}",
            "a prediction for every mouse, in the frames and the axes of its images",
            "strict=False, or mousecmr evaluate --go-on, scores what can be scored and names the rest",
        )
    return Evaluation(
        name=name or found.name,
        truth=truth.about,
        policies=config.to_dict(),
        versions=list_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mice=tuple(scores),
        problems=tuple(problems + strangers),
    )


@dataclass(frozen=True)
class _Truth:
    """The mice by name, opened one at a time; pickles."""

    mice: Any
    """A cohort, or a mapping of names to datasets."""
    names: list[str]
    about: Mapping[str, Any]

    @classmethod
    def from_mice(cls, mice: Iterable[xr.Dataset] | Mapping[str, xr.Dataset]) -> _Truth:
        if isinstance(mice, Cohort):
            return cls(mice, list(mice), describe_cohort(mice))
        by_name: dict[str, xr.Dataset] = {}
        for ds in mice.values() if isinstance(mice, Mapping) else mice:
            if by_name.setdefault(str(ds.attrs.get("mouse", "mouse")), ds) is not ds:
                raise PredictionError(f"Two mice are called {ds.attrs.get('mouse', 'mouse')!r}.", "a name of its own")
        first = next(iter(by_name.values())).attrs if by_name else {}
        about = {"source": str(first.get("source", "")), "version": str(first.get("version", "")), "split": "none"}
        return cls(by_name, list(by_name), {**about, "split_scheme": "", "caveat": "", "mice": len(by_name)})


def describe_cohort(mice: Cohort) -> dict[str, Any]:
    """Where a cohort comes from, for a result's ``truth``."""
    scheme = mice.source.manifest.splits.get(mice.split_scheme)
    return {
        "source": mice.source.name,
        "version": mice.source.version,
        "split": " + ".join(sorted(set(mice.splits.values()))),
        "split_scheme": mice.split_scheme,
        "caveat": scheme.caveat if scheme else "",
        "mice": len(mice.mice),
    }


def _evaluate_mouse(
    truth: _Truth, found: Predictions, config: EvaluationConfig, alone: bool, mouse: str
) -> tuple[MouseScore | None, list[Problem]]:
    """The score of one mouse, or what is wrong; both where the score is in doubt."""
    ds = truth.mice[mouse]
    try:
        key = found.find(mouse, alone)
        if key is None:
            return None, [Problem(mouse, "missing", f"no prediction in {found.name}")]
        scored = score_mouse(ds, found.read(key), config)
    except UnlabelledError as e:
        return None, [Problem(mouse, "unlabelled", e.found)]
    except LabelError as e:
        return None, [Problem(mouse, "labels", e.found)]
    except PredictionError as e:
        return None, [Problem(mouse, "shape", " ".join(p for p in (e.found, e.next_step) if p))]
    except MissingDataError:
        raise  # a folder without predictions, a truth that is not there: of all mice, not of one
    except MouseCMRError as e:
        return None, [Problem(mouse, "unreadable", e.found)]
    return scored, [Problem(mouse, "orientation", scored.doubt)] if scored.doubt else []


def _find_unused(found: Predictions, names: list[str]) -> list[Problem]:
    """Predictions that belong to no mouse of the truth: named, and left alone."""
    keys = [found.find(m, False) for m in names]
    used = {m for m, k in zip(names, keys, strict=True) if k is not None}
    total = len(list(found.names()))
    if getattr(found, "index", None) is not None:
        files = [p for k in keys if k is not None for p in (k.values() if isinstance(k, dict) else [k])]
        left = [s for s, p in found.index.items() if p not in files]  # type: ignore[attr-defined]
    else:
        left = [n for n in found.names() if n not in used]
    return [Problem(n, "ignored", f"not among the {len(names)} mice scored ({total} are there)") for n in left]


def _format_problems(problems: list[Problem]) -> str:
    lines = [f"  {p.mouse} ({p.kind}): {p.text.replace(f'{p.mouse}: ', '', 1)}" for p in problems[:MAX_PROBLEMS]]
    more = len(problems) - MAX_PROBLEMS
    return "\n".join(lines + ([f"  … and {more} more"] if more > 0 else []))
