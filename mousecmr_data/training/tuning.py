"""Tune a network on mice whose masks a person reviewed, and say what that gains on mice left out. docs/reviewing.md.

Each mouse (of more than five, each fifth of them) is left out once: a network is tuned on the others and stops by the
loss on what was left out. The weights to use are then tuned on all mice, for as many epochs as were best.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pandas as pd
import torch

from mousecmr_data._utils.atomic import write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.locks import try_lock
from mousecmr_data._utils.outputs import check_folder, write_folder
from mousecmr_data._utils.tables import format_csv
from mousecmr_data._utils.text import join_names, make_file_name, make_unique
from mousecmr_data._version import __version__
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.download.cache import get_own_weights_folder
from mousecmr_data.errors import ArgumentError, CacheError, MissingDataError, OutputError
from mousecmr_data.formats.masks import IMAGES_FILE
from mousecmr_data.inference.grid import make_training_grid
from mousecmr_data.inference.predictor import Predictor, WeightsInfo, is_reserved_name, list_own_models, load_model
from mousecmr_data.models.network import SegmentationNetwork
from mousecmr_data.models.safetensors import write_weights
from mousecmr_data.pipeline.analysis import AUTO
from mousecmr_data.pipeline.batch import MANIFEST_FILE
from mousecmr_data.pipeline.config import PredictConfig
from mousecmr_data.pipeline.review import ReviewedResult, open_results
from mousecmr_data.training.config import TrainConfig, get_recipe
from mousecmr_data.training.data import SliceData, join_slices, resample_slices
from mousecmr_data.training.trainer import (
    BEST_FILE,
    CURVES_FILE,
    LAST_FILE,
    TrainingProgress,
    adopt_layout,
    describe_origin,
    fit,
    make_card,
    make_header,
    validate,
)

MAX_FOLDS = 5
TUNING_FILE, MICE_FILE = "tuning.json", "mice.csv"
WORK_FOLDER = ".mousecmr-tuning"
"""Checkpoints in the output folder, by which a run that was stopped goes on; removed at the end."""
STRUCTURES = ("dice_myocardium", "dice_blood_pool")


@dataclass(frozen=True, eq=False)
class ReviewedMouse:
    """A mouse with slices that a person reviewed."""

    name: str
    slices: SliceData
    """The frames with a reviewed slice; ``known`` are the reviewed ones."""
    counts: dict[str, int]
    """Number of slices by status."""
    readers: tuple[str, ...]
    synthetic: bool
    folder: Path
    weights: tuple[str, ...]
    """Where the weights that segmented it may be: their name, and what was typed after ``--weights``."""
    weights_sha256: str


@dataclass(frozen=True)
class TuningEvent:
    """How far a run is: ``share`` of all training, 0 to 1, and an upper limit of the time left."""

    text: str
    share: float
    seconds_left: float


@dataclass(frozen=True)
class TuningResult:
    """What :func:`tune` did."""

    name: str
    weights: Path | None
    """The file of the new weights; None if they were not better, and so not written."""
    method: str
    """"leave-one-out" or "5-fold"."""
    mice: pd.DataFrame
    """One row per mouse: slices by status, readers, Dice of its reviewed slices before and after, by a network that was
    tuned without it."""
    epochs: int
    began_with: str
    left_out: dict[str, str] = field(default_factory=dict)
    """Mice that were not used, and why."""

    @property
    def dice(self) -> tuple[float, float]:
        """The mean Dice before and after, over mice that were left out."""
        return float(self.mice["dice_before"].mean()), float(self.mice["dice_after"].mean())


def tune(
    results: str | PathLike[str] | Iterable[str | PathLike[str]],
    folder: str | PathLike[str],
    name: str,
    *,
    weights: str | Path | None = None,
    config: TrainConfig | None = None,
    unreviewed: bool = False,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[TuningEvent], None] | None = None,
) -> TuningResult:
    """Tune weights on reviewed results of ``mousecmr segment``; ``load_model(name)`` then loads the new ones.

    ``results`` are folders of mice, or of the results of several. Slices that were edited, confirmed or excluded are
    the truth; ``unreviewed`` also takes the other slices of the frames that have one. Training begins with
    ``weights``, by default those that segmented the mice. ``config`` is the recipe "tuning" by default. Writes to
    ``folder``, if Dice rose on mice that were left out, ``NAME.safetensors`` and its card ``NAME.toml``, copied to
    ``cache``; always ``mice.csv``, ``curves.csv`` and ``tuning.json``. A run that was stopped goes on with the same
    arguments. ``progress`` is called after each epoch.

    Raises :class:`~mousecmr_data.errors.MissingDataError` (nothing was reviewed, no images, or the weights are not
    here), :class:`~mousecmr_data.errors.ArgumentError` (a name that others have, fewer than two mice, one mouse twice,
    mice of several networks), and :class:`~mousecmr_data.errors.OutputError` (weights of this name exist).
    """
    folder = Path(folder)
    paths = [Path(results)] if isinstance(results, str | PathLike) else [Path(path) for path in results]
    files = [f"{name}.safetensors", f"{name}.toml"]
    check_name(name, cache, overwrite)
    check_folder(folder, [*files, MICE_FILE, CURVES_FILE, TUNING_FILE], overwrite=overwrite, inputs=paths)
    mice, left_out = read_reviewed_mice(paths, unreviewed)
    start = load_model(weights or find_weights(mice, cache), device="cpu", engine="eager", cache=cache)
    config = adopt_layout(config or get_recipe("tuning"), start.network)
    folder.mkdir(parents=True, exist_ok=True)
    with try_lock(get_own_weights_folder(cache), str(folder.resolve()), partial(_refuse, folder)):
        n_folds = min(len(mice), MAX_FOLDS)
        groups = [mice[k::n_folds] for k in range(n_folds)]
        run = _Run(config, start, _make_work_folder(folder, config, start, mice), n_folds + 1, progress)
        curves = [run.fit_fold(k, mice, group).curve for k, group in enumerate(groups)]
        best = [int(np.argmin([row["validation_loss"] for row in curve])) for curve in curves]
        epochs = round(median(best))
        rows = []
        for k, (group, curve) in enumerate(zip(groups, curves, strict=True)):
            # The epoch that the other folds chose: it was not chosen on the mice that it is scored on.
            stop = min(round(median(best[:k] + best[k + 1 :])), len(curve) - 1)
            rows += [_describe_mouse(mouse, k + 1, curve[0], curve[stop]) for mouse in group]
        table = pd.DataFrame(rows).set_index("mouse").loc[[mouse.name for mouse in mice]].reset_index()
        method = "leave-one-out" if n_folds == len(mice) else f"{n_folds}-fold"
        result = TuningResult(name, None, method, table, epochs, start.origin.name, left_out)
        before, after = result.dice
        improved = epochs > 0 and after > before
        origin = _describe_origin(name, mice, start.origin)
        network = run.fit_all(mice, epochs) if improved else None
        with write_folder(folder, overwrite=overwrite, keep=True) as partial_folder:
            if network:
                write_weights(partial_folder / files[0], network, make_header(origin))
                path = partial_folder / files[0]
                card = make_card(origin, network, path, _describe_measured(result), "mousecmr tune")
                write_text(partial_folder / files[1], card)
            tables = {MICE_FILE: table, CURVES_FILE: _join_curves(curves)}
            for file, content in tables.items():
                write_text(partial_folder / file, format_csv(content, missing="nan"))
            about = {**make_header(origin), "began_with_sha256": start.origin.sha256, "method": method}
            about |= {"epochs": epochs, "dice_before": before, "dice_after": after, "improved": improved}
            about |= {"unreviewed": unreviewed, "version": __version__, "config": json.loads(config.to_json())}
            write_json(partial_folder / TUNING_FILE, {**about, "mice": rows, "left_out": left_out})
        if network:
            with write_folder(get_own_weights_folder(cache), overwrite=True, keep=True) as own:
                for file in files:
                    shutil.copyfile(folder / file, own / file)
        shutil.rmtree(folder / WORK_FOLDER)
    return replace(result, weights=folder / files[0]) if network else result


def check_name(name: str, cache: str | Path | None = None, overwrite: bool = False) -> None:
    """Raise ArgumentError if weights of the user's own may not have this name, OutputError if some have it."""
    if not name or make_file_name(name) != name or is_reserved_name(name):
        text = f"Your weights cannot be called {name!r}."
        usable = make_file_name(name, "my-weights")
        raise ArgumentError(
            text,
            "a name of your own, of letters, digits and . + - _",
            f"--name {f'{usable}-tuned' if is_reserved_name(usable) else usable}",
        )
    if name in list_own_models(cache) and not overwrite:
        raise OutputError(
            f"You have weights called {name} already.", "a new name", f"--name {name}-2, or --overwrite to replace them"
        )


def _refuse(folder: Path) -> None:
    raise CacheError(f"Another run is writing to {folder}.", "one at a time", "wait for it, or give another folder")


# Reviewed mice


def read_reviewed_mice(paths: Sequence[Path], unreviewed: bool = False) -> tuple[list[ReviewedMouse], dict[str, str]]:
    """Return the reviewed mice in folders of ``mousecmr segment``, and those that are not used, with the reason."""
    opened = [mouse for path in paths for mouse in open_results(path).values()]
    names = make_unique([str(mouse.record["mouse"]["mouse"]) for mouse in opened])
    found = {name: _read_mouse(name, mouse, unreviewed) for name, mouse in zip(names, opened, strict=True)}
    left_out = {name: mouse for name, mouse in found.items() if isinstance(mouse, str)}
    mice = [mouse for mouse in found.values() if isinstance(mouse, ReviewedMouse)]
    seen: dict[str, ReviewedMouse] = {}
    for mouse in mice:
        first = seen.setdefault(compute_sha256(mouse.folder / IMAGES_FILE), mouse)
        if first is not mouse:
            text = f"{first.folder} and {mouse.folder} are results of the same images."
            raise ArgumentError(text, "each mouse once: it cannot be left out and trained on", "give one of the two")
    if len(mice) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        text = f"{len(mice)} of {len(opened)} mice can be tuned on." + (f" {reasons}." if reasons else "")
        step = f"mousecmr review {paths[0]}"
        if not mice:
            raise MissingDataError(text, "two or more reviewed mice", step)
        raise ArgumentError(text, "two or more reviewed mice: each is left out once", step)
    return mice, left_out


def _read_mouse(name: str, opened: ReviewedResult, unreviewed: bool) -> ReviewedMouse | str:
    """Return a mouse, or why it cannot be tuned on."""
    status = opened.review.get_status(opened.masks.shape[:2])
    frames = np.flatnonzero((status != AUTO).any(1))
    known = status[frames] != AUTO
    if unreviewed:
        known[:] = True
    if not frames.size:
        return "nobody reviewed it"
    masks = opened.masks[frames]
    if not masks[known].any():
        return "no reviewed slice has a ventricle; confirm or correct some"
    n_slices, shape, spacing = masks.shape[1], masks.shape[2:], get_spacing(opened.ds)[1:]
    images = torch.from_numpy(opened.read_images()[frames].astype(np.float32)).flatten(0, 1)
    labels = torch.from_numpy(masks).flatten(0, 1)
    image, label = resample_slices(images, labels, spacing, make_training_grid(shape, spacing))
    for axis, size in zip((1, 2), make_training_grid().shape_yx, strict=True):  # the ventricle in the middle
        middle = int(np.nonzero(label.any(axis=(0, 3 - axis)))[0].mean())
        start = int(np.clip(middle - size // 2, 0, label.shape[axis] - size))
        image, label = (a.take(range(start, start + size), axis) for a in (image, label))
    network, typed = opened.record["network"], ""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((opened.folder.resolve().parent / MANIFEST_FILE).read_text(encoding="utf-8"))
        typed = str(Path(manifest["settings"]["weights"]).expanduser())
    return ReviewedMouse(
        name,
        SliceData(image, label, (n_slices,) * len(frames), tuple(np.flatnonzero(known).tolist())),
        {kind: int(np.count_nonzero(status == kind)) for kind in ("edited", "confirmed", "excluded")},
        opened.review.readers,
        bool(opened.record["mouse"]["synthetic_images"]),
        opened.folder,
        tuple(filter(None, (str(network.get("weights", "")), typed))),
        str(network.get("weights_sha256", "")),
    )


def find_weights(mice: Sequence[ReviewedMouse], cache: str | Path | None = None) -> str:
    """Return the name or path of the weights that segmented all ``mice``.

    Raises ArgumentError if they are not the same for all, and MissingDataError if they are not here.
    """
    segmented_by = {(mouse.weights[:1], mouse.weights_sha256): mouse for mouse in mice}
    names = [f"{mouse.weights[0]} ({mouse.name})" for mouse in segmented_by.values() if mouse.weights]
    if len(segmented_by) > 1 or not names:
        text = (
            f"The mice were segmented by several networks: {join_names(names)}." if names else "No weights are named."
        )
        raise ArgumentError(text, "one network to begin with", "--weights NAME (Python: weights=)")
    for name in (name for mouse in mice for name in mouse.weights):
        sha256 = PredictConfig(weights=name, cache=cache).compute_weights_sha256()
        if sha256 and sha256 == (mice[0].weights_sha256 or sha256):
            return name
    raise MissingDataError(
        f"The weights {mice[0].weights[0]} that segmented {mice[0].name} are not here, or have changed.",
        f"SHA-256 {mice[0].weights_sha256}" if mice[0].weights_sha256 else None,
        "--weights NAME_OR_FILE to begin with others (Python: weights=)",
    )


# Training


def _make_work_folder(folder: Path, config: TrainConfig, start: Predictor, mice: Sequence[ReviewedMouse]) -> Path:
    """Make the folder of the checkpoints of exactly this run."""
    made_from = [config.to_json(), start.origin.sha256, [(mouse.name, mouse.slices.checksum()) for mouse in mice]]
    work = folder / WORK_FOLDER / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    work.mkdir(parents=True, exist_ok=True)
    return work


@dataclass
class _Run:
    """The trainings of one run, and how far they are."""

    config: TrainConfig
    start: Predictor
    work: Path
    total: int
    progress: Callable[[TuningEvent], None] | None
    done: int = 0
    _started: float = field(default_factory=time.monotonic)

    def fit_fold(
        self, number: int, mice: Sequence[ReviewedMouse], held_out: Sequence[ReviewedMouse]
    ) -> TrainingProgress:
        """Tune on all ``mice`` but those that are held out, which are scored after each epoch."""
        training = join_slices([mouse.slices for mouse in mice if mouse not in held_out])
        text = f"without {join_names([mouse.name for mouse in held_out], 3)}"
        return self._fit(f"fold-{number + 1}", text, self.config, training, partial(_score, held_out, self.config))[1]

    def fit_all(self, mice: Sequence[ReviewedMouse], epochs: int) -> SegmentationNetwork:
        """Tune on all ``mice``."""
        config = replace(self.config, epochs=epochs)
        return self._fit("all", "on all mice", config, join_slices([mouse.slices for mouse in mice]), None)[0]

    def _fit(
        self,
        name: str,
        text: str,
        config: TrainConfig,
        training: SliceData,
        validation: Callable[[SegmentationNetwork], dict[str, float]] | None,
    ) -> tuple[SegmentationNetwork, TrainingProgress]:
        work, begun = self.work / name, self.done

        def report(row: dict[str, float]) -> None:
            share = (begun + row["epoch"] / config.epochs) / self.total
            left = (self.total - begun) * config.epochs - row["epoch"]
            if self.progress:
                self.progress(TuningEvent(text, share, left * row["seconds"]))

        work.mkdir(exist_ok=True)
        resume = (work / LAST_FILE).exists() and (work / BEST_FILE).exists()
        initial = self.start.network.state_dict()
        fitted = fit(config, training, validation, work, resume=resume, on_epoch=report, initial=initial)
        self.done += 1
        return fitted


def _score(mice: Sequence[ReviewedMouse], config: TrainConfig, network: SegmentationNetwork) -> dict[str, float]:
    """Return the mean loss and Dice of mice, and the Dice of each."""
    rows = {mouse.name: validate(network, mouse.slices, config) for mouse in mice}
    means = {name: fmean(row[name] for row in rows.values()) for name in ("validation_loss", *STRUCTURES)}
    return means | {f"{kind} {name}": row[kind] for name, row in rows.items() for kind in STRUCTURES}


def _describe_mouse(mouse: ReviewedMouse, fold: int, first: dict[str, float], last: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"mouse": mouse.name, "fold": fold, **mouse.counts, "readers": ", ".join(mouse.readers)}
    for when, scores in (("before", first), ("after", last)):
        dice = {kind: scores[f"{kind} {mouse.name}"] for kind in STRUCTURES}
        row |= {f"{kind}_{when}": value for kind, value in dice.items()} | {f"dice_{when}": fmean(dice.values())}
    return row


def _join_curves(curves: Sequence[Sequence[dict[str, float]]]) -> pd.DataFrame:
    columns = ("epoch", "loss", "validation_loss", *STRUCTURES, "learning_rate", "seconds")
    tables = [pd.DataFrame(curve).reindex(columns=columns).assign(fold=k + 1) for k, curve in enumerate(curves)]
    table = pd.concat(tables, ignore_index=True)
    return table[["fold", *columns]]


# What the weights say about themselves


def _describe_origin(name: str, mice: Sequence[ReviewedMouse], ancestor: WeightsInfo) -> WeightsInfo:
    readers = dict.fromkeys(reader for mouse in mice for reader in mouse.readers)
    marks = {mouse.synthetic for mouse in mice}
    synthetic = marks.pop() if len(marks) == 1 else None
    kind = {True: "reviewed SYNTHETIC mice", False: "reviewed mice", None: "reviewed mice, some SYNTHETIC"}[synthetic]
    names = join_names([mouse.name for mouse in mice], 20)
    trained_on = f"{len(mice)} {kind} ({names}; readers: {join_names(list(readers)) or 'not named'})"
    return describe_origin(name, trained_on, synthetic, ancestor)


def _describe_measured(result: TuningResult) -> dict[str, str]:
    """Return the numbers of the card."""
    rows = result.mice.itertuples()
    measured = {f"Dice, {r.mouse}, left out": f"{r.dice_before:.3f} before, {r.dice_after:.3f} after" for r in rows}
    before, after = result.dice
    return measured | {f"Dice, mean, {result.method}": f"{before:.3f} before, {after:.3f} after"}
