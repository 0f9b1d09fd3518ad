"""A cohort segmented by one call: a file a mouse, in one process, in several, or on a dask cluster."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import h5py
import numpy as np
import torch
import xarray as xr

from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.parallel import map_in_processes
from mousecmr_data._version import __version__
from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.errors import ArgumentError, CacheError, FileLayoutError, MouseCMRError
from mousecmr_data.inference.predictor import Predictor, list_models, load_model
from mousecmr_data.metrics.overlap import score_frames
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.pipeline.writers import write_mouse_hdf5
from mousecmr_data.schema.variables import DIMS, MASK, PREDICTED

if TYPE_CHECKING:
    from distributed import Client


# MERGED pipeline.predict: One mouse segmented into one file, which says how, so that it need not be done twice.


ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION = "prediction_settings", "prediction_input", "prediction_region"
AGAIN_HINT = "give another folder, or --redo (redo=True) to segment them again"

_ONE_AT_A_TIME = threading.Lock()
"""A worker of a cluster may have several threads; a segmenter serves one."""


class MiceProtocol(Protocol):
    """Named mice, opened one at a time: a cohort, or :class:`Files`. Implementations pickle."""

    @property
    def mice(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str, /) -> xr.Dataset: ...


@dataclass(frozen=True)
class HDF5Files:
    """Mice in files of one's own, of the dataset's layout, each under its path."""

    mice: tuple[str, ...]
    voxel_size_mm: tuple[float, float, float] | None = None

    def __getitem__(self, name: str, /) -> xr.Dataset:
        digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        return open_mouse_file(name, voxel_size_mm=self.voxel_size_mm).assign_attrs(sha256=digest)


@dataclass(frozen=True)
class PredictConfig:
    """How mice are segmented; equal means equal masks."""

    weights: str
    engine: str = "auto"
    region: Literal["full", "auto"] = "full"
    postprocessing: PostprocessingRule = "paper"
    device: str = "auto"
    batch_size: int = 16
    cache: str | None = None

    def sha256(self) -> str:
        """Checksum of the weights; empty for a file that is not there."""
        card = list_models().get(self.weights)
        if card:
            return card.weights.sha256
        path = Path(self.weights)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def settings(self, segmenter: Predictor, sha256: str) -> dict[str, str]:
        """What masks depend on, as it stands in each file: names, and the checksum of the weights."""
        return {
            "weights": segmenter.origin.name,
            "weights_sha256": sha256,
            "engine": segmenter.engine.name,
            "region": self.region,
            "postprocessing": self.postprocessing,
            "release": __version__,
        }


@dataclass(frozen=True)
class PredictResult:
    """What became of a mouse."""

    mouse: str
    state: Literal["segmented", "as before", "failed"]
    path: Path | None = None
    error: str = ""
    synthetic: bool = False
    region: dict[str, Any] = field(default_factory=dict)
    """What the region of interest did; see docs/predicting.md."""
    dice: list[dict[str, Any]] = field(default_factory=list)
    """Overlap with expert masks, a row a labelled frame."""
    seconds: float = 0.0


@lru_cache(maxsize=1)
def get_predictor(how: PredictConfig, sha256: str) -> Predictor:  # noqa: ARG001 (a file that changed is loaded anew)
    """The segmenter, loaded once a process for weights of this checksum."""
    return load_model(how.weights, device=how.device, engine=how.engine, cache=how.cache)


def predict_one(
    mice: MiceProtocol,
    how: PredictConfig,
    settings: dict[str, str],
    folder: Path,
    redo: bool,
    threads: int | None,
    name: str,
    progress: Callable[[float], None] | None = None,
) -> PredictResult:
    """Segment the mouse ``name`` into ``folder``; never raises. ``progress`` is called with shares of the mouse."""
    begin = time.perf_counter()
    try:
        with _ONE_AT_A_TIME:
            if threads:
                torch.set_num_threads(threads)
            return _predict_mouse(mice, how, settings, folder, redo, name, progress)
    except Exception as e:  # whatever it is, it must not stop the other mice
        why = str(e) if isinstance(e, MouseCMRError) else f"{type(e).__name__}: {e}"
        return PredictResult(name, "failed", error=why, seconds=time.perf_counter() - begin)


def _predict_mouse(
    mice: MiceProtocol,
    how: PredictConfig,
    settings: dict[str, str],
    folder: Path,
    redo: bool,
    name: str,
    progress: Callable[[float], None] | None,
) -> PredictResult:
    begin = time.perf_counter()
    ds = mice[name]
    who, synthetic = str(ds.attrs["mouse"]), bool(ds.attrs["synthetic"])
    path = folder / f"{who}.h5"
    came_from = {k: str(ds.attrs[k]) for k in ("source", "version", "sha256") if k in ds.attrs}
    about = {ATTR_SETTINGS: json.dumps(settings), ATTR_INPUT: json.dumps({"mouse": who, **came_from})}
    if path.exists() and not redo:
        found = read_prediction_attrs(path)
        if any(found.get(k) != v for k, v in about.items()):
            raise FileLayoutError(
                f"{path} was made of another file or with other settings.", about[ATTR_INPUT], AGAIN_HINT
            )
        with open_mouse_file(path) as before:
            made = ds.assign({PREDICTED: (DIMS, before[MASK].values)})
        region = json.loads(found.get(ATTR_REGION, "{}"))
        return PredictResult(who, "as before", path, "", synthetic, region, _score_mouse(made))
    segmenter = get_predictor(how, how.sha256())
    if segmenter.engine.name != settings["engine"]:  # "auto" chose otherwise on this machine
        segmenter = get_predictor(replace(how, engine=settings["engine"]), how.sha256())
    if how.settings(segmenter, how.sha256()) != settings:
        raise FileLayoutError(f"{how.weights} holds other weights here.", f"SHA-256 {settings['weights_sha256']}")
    total = ds.sizes["frame"] * ds.sizes["slice"]
    done = segmenter.segment(
        ds,
        postprocessing=how.postprocessing,
        region=how.region,
        batch_size=how.batch_size,
        progress=(lambda n: progress(n / total)) if progress else None,
    )
    said = {k: _to_plain(v) for k, v in done[PREDICTED].attrs.items() if k.startswith("region")}
    write_mouse_hdf5(done, path, {**about, ATTR_REGION: json.dumps(said)})
    seconds = time.perf_counter() - begin
    return PredictResult(who, "segmented", path, "", synthetic, said, _score_mouse(done), seconds)


def read_prediction_attrs(path: Path) -> dict[str, str]:
    """What a file says of its making; empty for a file that says nothing or cannot be read."""
    try:
        with h5py.File(path) as f:
            return {k: str(f.attrs[k]) for k in (ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION) if k in f.attrs}
    except OSError:
        return {}


def _score_mouse(made: xr.Dataset) -> list[dict[str, Any]]:
    return [{str(k): _to_plain(v) for k, v in row.items()} for row in score_frames(made).to_dict("records")]


def _to_plain(value: Any) -> Any:
    return np.asarray(value).tolist()


DoneCallback = Callable[[str], None]
PREDICT_LOCK = "predict"


def predict_cohort(
    mice: MiceProtocol,
    folder: str | Path,
    how: PredictConfig,
    *,
    redo: bool = False,
    workers: int = 1,
    client: Client | None = None,
    done: DoneCallback | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[PredictResult, ...]:
    """Segment every mouse of ``mice`` (a cohort, or :class:`~mousecmr_data.pipeline.predict.HDF5Files`).

    ``folder`` gets an HDF5 file a mouse in the dataset's layout, written whole or not at all, with the settings
    and the weights' checksum in its attributes. What is there already, with the same settings, is not done again:
    a run that was killed goes on where it stopped. Masks do not depend on how the work is spread.

    Parameters
    ----------
    redo
        Segment again what was segmented with other settings or from other files, instead of refusing.
    workers
        Processes on this machine, the cores shared among them. More than one needs a main module that can be
        imported (``if __name__ == "__main__"``).
    client
        A ``distributed.Client`` instead: each mouse is a task. ``folder``, and the source's files, must be
        within reach of its workers under the same paths.
    done
        Called with the name of each mouse that is ready, in the order in which they end.
    progress
        Called with shares of a mouse, in a single process.

    Returns what became of each mouse, in the order of ``mice``; one that failed does not stop the rest.

    Raises :class:`~mousecmr_data.errors.FileLayoutError` where ``folder`` holds masks of other settings (nothing is
    written then), :class:`~mousecmr_data.errors.CacheError` where another run is writing to it.
    """
    names = mice.mice
    if not names:
        raise ArgumentError("There is no mouse to segment.", "at least one")
    folder = Path(folder).resolve()
    sha256 = how.sha256()
    settings = how.settings(get_predictor(how, sha256), sha256)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder, PREDICT_LOCK, partial(_raise_busy, folder)):
        for leftover in folder.glob(".*.part"):  # of a run that was killed: nobody else writes here
            leftover.unlink()
        if not redo:
            _check_other_predictions(folder, settings)
        threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
        work = partial(predict_one, mice, how, settings, folder, redo, threads)
        if client is not None:
            found = _run_on_cluster(client, work, names, done)
        elif workers > 1:
            found = map_in_processes(work, names, workers, done)
        else:
            found = {}
            for name in names:
                found[name] = work(name, progress=progress)
                if done:
                    done(name)
    return tuple(found[name] for name in names)


def _run_on_cluster(
    client: Client, work: Callable[[str], PredictResult], names: Iterable[str], done: DoneCallback | None
) -> dict[str, PredictResult]:
    from distributed import as_completed

    running = {client.submit(work, name, pure=False, key=f"predict-{name}"): name for name in names}
    found = {}
    for future in as_completed(running):  # type: ignore[no-untyped-call]
        found[running[future]] = future.result()
        if done:
            done(running[future])
    return found


def _check_other_predictions(folder: Path, settings: dict[str, str]) -> None:
    """Masks of different weights in one folder would be taken for one set."""
    for path in sorted(folder.glob("*.h5")):
        found = read_prediction_attrs(path).get(ATTR_SETTINGS)
        if found == json.dumps(settings):
            continue
        other = json.loads(found) if found else {}
        differ = {k: v for k, v in other.items() if settings.get(k) != v}
        raise FileLayoutError(
            f"{path} was made with other settings: {differ or 'it does not say which'}.",
            f"{ {k: settings[k] for k in differ} if differ else settings }",
            AGAIN_HINT,
        )


def _raise_busy(folder: Path) -> None:
    raise CacheError(f"Another run is writing to {folder}.", "one at a time", "wait for it, or give another folder")
