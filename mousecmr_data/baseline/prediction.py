"""One mouse segmented into one file, which says how, so that it need not be done twice."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import h5py
import numpy as np
import torch
import xarray as xr

from mousecmr_data import __version__
from mousecmr_data.baseline import export
from mousecmr_data.baseline.segmenter import Segmenter
from mousecmr_data.baseline.weights import cards, load
from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.metrics.overlap import score_frames
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema.variables import DIMS, MASK, PREDICTED

ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION = "prediction_settings", "prediction_input", "prediction_region"
AGAIN = "give another folder, or --redo (redo=True) to segment them again"

_ONE_AT_A_TIME = threading.Lock()
"""A worker of a cluster may have several threads; a segmenter serves one."""


class Mice(Protocol):
    """Named mice, opened one at a time: a cohort, or :class:`Files`. Implementations pickle."""

    @property
    def mice(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str, /) -> xr.Dataset: ...


@dataclass(frozen=True)
class Files:
    """Mice in files of one's own, of the dataset's layout, each under its path."""

    mice: tuple[str, ...]
    voxel_size_mm: tuple[float, float, float] | None = None

    def __getitem__(self, name: str, /) -> xr.Dataset:
        digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        return open_mouse_file(name, voxel_size_mm=self.voxel_size_mm).assign_attrs(sha256=digest)


@dataclass(frozen=True)
class How:
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
        card = cards().get(self.weights)
        if card:
            return card.weights.sha256
        path = Path(self.weights)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def settings(self, segmenter: Segmenter, sha256: str) -> dict[str, str]:
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
class Made:
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
def segmenter_of(how: How, sha256: str) -> Segmenter:  # noqa: ARG001 (a file that changed is loaded anew)
    """The segmenter, loaded once a process for weights of this checksum."""
    return load(how.weights, device=how.device, engine=how.engine, cache=how.cache)


def predict_one(
    mice: Mice,
    how: How,
    settings: dict[str, str],
    folder: Path,
    redo: bool,
    threads: int | None,
    name: str,
    progress: Callable[[float], None] | None = None,
) -> Made:
    """Segment the mouse ``name`` into ``folder``; never raises. ``progress`` is called with shares of the mouse."""
    begin = time.perf_counter()
    try:
        with _ONE_AT_A_TIME:
            if threads:
                torch.set_num_threads(threads)
            return _made(mice, how, settings, folder, redo, name, progress)
    except Exception as e:  # whatever it is, it must not stop the other mice
        why = str(e) if isinstance(e, MouseCMRError) else f"{type(e).__name__}: {e}"
        return Made(name, "failed", error=why, seconds=time.perf_counter() - begin)


def _made(
    mice: Mice,
    how: How,
    settings: dict[str, str],
    folder: Path,
    redo: bool,
    name: str,
    progress: Callable[[float], None] | None,
) -> Made:
    begin = time.perf_counter()
    ds = mice[name]
    who, synthetic = str(ds.attrs["mouse"]), bool(ds.attrs["synthetic"])
    path = folder / f"{who}.h5"
    came_from = {k: str(ds.attrs[k]) for k in ("source", "version", "sha256") if k in ds.attrs}
    about = {ATTR_SETTINGS: json.dumps(settings), ATTR_INPUT: json.dumps({"mouse": who, **came_from})}
    if path.exists() and not redo:
        found = attrs_of(path)
        if any(found.get(k) != v for k, v in about.items()):
            raise FileLayoutError(f"{path} was made of another file or with other settings.", about[ATTR_INPUT], AGAIN)
        with open_mouse_file(path) as before:
            made = ds.assign({PREDICTED: (DIMS, before[MASK].values)})
        region = json.loads(found.get(ATTR_REGION, "{}"))
        return Made(who, "as before", path, "", synthetic, region, _dice(made))
    segmenter = segmenter_of(how, how.sha256())
    if segmenter.engine.name != settings["engine"]:  # "auto" chose otherwise on this machine
        segmenter = segmenter_of(replace(how, engine=settings["engine"]), how.sha256())
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
    said = {k: _plain(v) for k, v in done[PREDICTED].attrs.items() if k.startswith("region")}
    export.write(done, path, {**about, ATTR_REGION: json.dumps(said)})
    seconds = time.perf_counter() - begin
    return Made(who, "segmented", path, "", synthetic, said, _dice(done), seconds)


def attrs_of(path: Path) -> dict[str, str]:
    """What a file says of its making; empty for a file that says nothing or cannot be read."""
    try:
        with h5py.File(path) as f:
            return {k: str(f.attrs[k]) for k in (ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION) if k in f.attrs}
    except OSError:
        return {}


def _dice(made: xr.Dataset) -> list[dict[str, Any]]:
    return [{str(k): _plain(v) for k, v in row.items()} for row in score_frames(made).to_dict("records")]


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()
