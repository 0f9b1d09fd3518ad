"""Anyone's predictions, whatever they are written in: a folder, a file, a Zarr store, a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from mousecmr_data.dataset.source import ZarrSource
from mousecmr_data.dataset.zarr_store import open_store as zarr_store
from mousecmr_data.errors import FileLayoutError, LabelError, MissingDataError, PredictionError
from mousecmr_data.schema.labels import MEANINGS, Label
from mousecmr_data.schema.variables import DIMS, FRAMES_WITH_ROI, MASK, MASKS, MODEL_TO_FILE, PREDICTED

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
FORMATS = "HDF5 (.h5), NIfTI (.nii, .nii.gz) or a Zarr store"


@dataclass(frozen=True)
class Prediction:
    """The predicted labels of one mouse."""

    labels: NDArray[np.uint8]
    """(frame, slice, y, x)."""
    frames: tuple[int, ...] | None = None
    """The frame numbers of the first axis; None where the file does not say."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the file says of itself: segmented_by, trained_on."""


class Predictions(Protocol):
    """Where predictions come from. Those of a path pickle."""

    @property
    def name(self) -> str:
        """Path or words, for people."""

    def names(self) -> Sequence[str]:
        """What is there."""

    def find(self, mouse: str, alone: bool) -> Any | None:
        """A key for :meth:`read`, None where nothing belongs to the mouse. ``alone``: it is the only one."""

    def read(self, key: Any) -> Prediction:
        """The labels."""


def open_predictions(given: Any, name: str | None = None) -> Predictions:
    """Predictions from a path (file, folder, Zarr store), or from a mapping of mice to arrays or datasets.

    In a mapping, an array is (frame, slice, y, x) or, for one frame, (slice, y, x); a dataset has the variable
    ``predicted``, or ``mask``.
    """
    if isinstance(given, Mapping):
        return MappingPredictions(given, name or "a mapping")
    if isinstance(given, str | PathLike):
        path = Path(given)
        if not path.exists():
            raise MissingDataError(f"There are no predictions at {path}.", FORMATS, "mousecmr predict  (makes some)")
        if path.suffix in (".zarr", ".zip") or (path / "zarr.json").is_file():
            return ZarrPredictions(path)
        return FilePredictions(path)
    return given  # type: ignore[no-any-return]  # an object with the methods of Predictions


@dataclass(frozen=True)
class MappingPredictions:
    """Predictions in memory."""

    given: Mapping[str, Any]
    name: str

    def names(self) -> Sequence[str]:
        """The keys."""
        return [str(k) for k in self.given]

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names here are exact)
        """The mouse's own key."""
        return mouse if mouse in self.given else None

    def read(self, key: Any) -> Prediction:
        """Array or dataset, checked to hold labels only."""
        value = self.given[key]
        if isinstance(value, Prediction):
            return value
        if isinstance(value, xr.Dataset):
            return read_dataset_prediction(value, str(key))
        if isinstance(value, xr.DataArray):
            value = value.transpose(*(d for d in DIMS if d in value.dims)).values
        return Prediction(ensure_four_axes(check_labels(np.asarray(value), str(key)), str(key)))


@dataclass(frozen=True)
class FilePredictions:
    """A file, or a folder of files named for their mice: Mouse4.h5, Mouse4_anything.nii.gz, or one 3D file a
    frame, Mouse4_frame007.nii.gz."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @cached_property
    def index(self) -> dict[str, Path]:
        """Files by stem."""
        files = [self.path] if self.path.is_file() else sorted(self.path.iterdir())
        found: dict[str, Path] = {}
        for file in files:
            stem = _strip_suffix(file)
            if stem is None or file.name.startswith("."):
                continue
            if stem in found:
                raise PredictionError(f"{found[stem].name} and {file.name} are both there.", "one file a mouse")
            found[stem] = file
        if not found:
            raise MissingDataError(f"{self.path} holds no predictions.", f"files in {FORMATS}, named for their mice")
        return found

    def names(self) -> Sequence[str]:
        """The files' names without their ending."""
        return list(self.index)

    def find(self, mouse: str, alone: bool) -> Any | None:
        """The file of ``mouse``, or those of its frames by number."""
        if mouse in self.index:
            return self.index[mouse]
        single = re.compile(rf"{re.escape(mouse)}[_.-](?:frame|f|t)[_-]?(\d+)")
        frames = {int(m[1]): p for stem, p in self.index.items() if (m := single.fullmatch(stem))}
        if frames:
            return frames
        named = [p for stem, p in self.index.items() if re.match(rf"{re.escape(mouse)}[_. -]", stem)]
        if len(named) > 1:
            raise PredictionError(
                f"Several files could be {mouse}: {', '.join(p.name for p in named[:4])}.", "one file a mouse"
            )
        if named:
            return named[0]
        return next(iter(self.index.values())) if alone and self.path.is_file() else None

    def read(self, key: Any) -> Prediction:
        """The labels of a file, or of several, one a frame."""
        if isinstance(key, dict):
            parts = [_read_file(key[k]) for k in sorted(key)]
            if any(p.labels.shape != (1, *parts[0].labels.shape[1:]) for p in parts):
                raise FileLayoutError(f"{key[min(key)].name} and its like are not one frame each.", "stacks (3D)")
            return Prediction(np.concatenate([p.labels for p in parts]), tuple(sorted(key)))
        return _read_file(key)


def read_dataset_prediction(ds: xr.Dataset, name: str) -> Prediction:
    """The predicted labels of a dataset: all frames of ``predicted``, or the labelled ones of ``mask``."""
    if PREDICTED in ds:
        chosen, variable = ds, PREDICTED
    elif MASK in ds:
        chosen, variable = ds.isel(frame=np.flatnonzero(ds["labelled"].values)), MASK
    else:
        raise FileLayoutError(f"{name} has neither {PREDICTED!r} nor {MASK!r}.", "a segmented dataset")
    labels = chosen[variable].transpose(*DIMS).values
    frames = tuple(chosen["frame"].values.tolist()) if "frame" in chosen.coords else None
    about = {"segmented_by": "weights", "trained_on": "trained_on"}
    attrs = {ours: str(ds[variable].attrs[theirs]) for ours, theirs in about.items() if theirs in ds[variable].attrs}
    return Prediction(check_labels(labels, name), frames, attrs)


def check_labels(labels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """``labels`` as uint8, if they are labels."""
    if labels.dtype == object or labels.dtype.kind not in "uifb":
        raise FileLayoutError(f"{name} is an array of {labels.dtype}.", "numbers 0, 1, 2")
    strange = labels[~np.isin(labels, list(Label))]
    if strange.size:
        raise LabelError(
            f"{name} holds the labels {', '.join(f'{v:g}' for v in np.unique(strange)[:8])}.",
            ", ".join(f"{label.value} ({meaning})" for label, meaning in MEANINGS.items()),
        )
    return labels.astype(np.uint8, copy=False)


def ensure_four_axes(labels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """A single stack (slice, y, x) as one frame."""
    if labels.ndim not in (3, 4):
        raise FileLayoutError(f"{name} has the shape {labels.shape}.", "(frame, slice, y, x), or (slice, y, x)")
    return labels if labels.ndim == 4 else labels[None]


def _strip_suffix(path: Path) -> str | None:
    """The name without a known ending; None for other files."""
    for ending in sorted((*HDF5_SUFFIXES, *NIFTI_SUFFIXES), key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return None


def _read_file(path: Path) -> Prediction:
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        from mousecmr_data.formats.nifti import read_nifti_labels

        return Prediction(ensure_four_axes(read_nifti_labels(path), path.name))
    return _read_hdf5(path)


def _read_hdf5(path: Path) -> Prediction:
    """``Masks`` (row, column, slice, frame) of a file of the dataset's layout; images need not be there."""
    import h5py

    from mousecmr_data.dataset.hdf5 import HDF5Array

    try:
        with h5py.File(path, "r") as f:
            if MASKS not in f:
                raise FileLayoutError(f"{path} has no dataset {MASKS!r}; it holds {', '.join(f) or 'nothing'}.")
            shape = f[MASKS].shape
            roi = f[FRAMES_WITH_ROI][()] if FRAMES_WITH_ROI in f else None
            about = {k: str(f.attrs[k]) for k in ("segmented_by", "trained_on") if k in f.attrs}
    except OSError as e:
        raise FileLayoutError(f"{path} is damaged or not HDF5.", "an HDF5 file") from e
    if len(shape) != 4:
        raise FileLayoutError(f"{path}: {MASKS} has the shape {shape}.", "(row, column, slice, frame)")
    labels = HDF5Array(path, MASKS, tuple(shape[k] for k in MODEL_TO_FILE), "uint8").read_all()
    if roi is None:
        return Prediction(labels, None, about)
    frames = tuple(sorted(int(v) for v in np.ravel(roi)))
    if frames and not 0 <= frames[0] <= frames[-1] < len(labels):
        raise FileLayoutError(f"{path}: {FRAMES_WITH_ROI} is {list(frames)[:20]}.", f"0 to {len(labels) - 1}")
    return Prediction(labels[list(frames)], frames, about)


# MERGED evaluation.predictions: Predictions in a Zarr store: one written by this library, or a group of arrays named for their mice.


@dataclass(frozen=True)
class ZarrPredictions:
    """A store of ``mousecmr convert`` (its masks count), or arrays ``MOUSE`` or ``MOUSE/predicted`` (or ``mask``)."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def names(self) -> Sequence[str]:
        """The groups and arrays at the root."""
        return sorted(self._root())

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names here are exact)
        """The mouse's own name."""
        return mouse if mouse in self._root() else None

    def read(self, key: Any) -> Prediction:
        """The labels of a mouse."""
        try:
            source = ZarrSource(str(self.path))
            ours = key in source.rows
        except FileLayoutError:
            ours = False  # not written by this library
        if ours:
            return read_dataset_prediction(source.open_mouse(key, {}), str(key))
        node = self._root()[key]
        if isinstance(node, zarr.Group):
            held = [n for n in (PREDICTED, MASK, MASKS) if n in node]
            if not held:
                raise FileLayoutError(f"{self.path}: {key} has none of {PREDICTED}, {MASK}.", "an array of labels")
            node = node[held[0]]
        labels = check_labels(np.asarray(node[...]), f"{self.path}: {key}")  # type: ignore[index]
        return Prediction(ensure_four_axes(labels, str(key)))

    def _root(self) -> zarr.Group:
        try:
            return zarr.open_group(zarr_store(str(self.path)), mode="r")
        except (ValueError, KeyError, OSError) as e:
            raise FileLayoutError(f"{self.path} is no Zarr group: {e}", "a Zarr store") from e
