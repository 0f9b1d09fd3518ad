"""Read predictions from a folder of files, one file, a Zarr store or a mapping."""

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

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.hdf5 import get_item
from mousecmr_data.dataset.model import check_labels
from mousecmr_data.dataset.source import ZarrSource
from mousecmr_data.dataset.zarr_store import open_store
from mousecmr_data.errors import FileLayoutError, MissingDataError, PredictionError
from mousecmr_data.schema.variables import (
    DIMS,
    FRAMES_WITH_ROI,
    HDF5_SUFFIXES,
    MASK,
    MASKS,
    MODEL_TO_FILE,
    NIFTI_SUFFIXES,
    PREDICTED,
)

_FILE_NAME = re.compile(rf"([^.].*?)({'|'.join(map(re.escape, HDF5_SUFFIXES + NIFTI_SUFFIXES))})", re.IGNORECASE)
FORMATS = "HDF5 (.h5), NIfTI (.nii, .nii.gz) or a Zarr store"


@dataclass(frozen=True)
class Prediction:
    """The predicted labels of one mouse."""

    labels: NDArray[np.uint8]
    """(frame, slice, y, x)."""
    frames: tuple[int, ...] | None = None
    """The frame numbers of the first axis; None where the file does not say."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The file's own description: segmented_by, trained_on."""


class Predictions(Protocol):
    """Predictions of several mice. Those of a path can be pickled."""

    @property
    def name(self) -> str:
        """Path or description, for people."""

    def names(self) -> Sequence[str]:
        """Return the names of all predictions."""

    def find(self, mouse: str, alone: bool) -> Any | None:
        """Return a key for :meth:`read`; None where no prediction belongs to the mouse.

        ``alone``: it is the only mouse that is scored.
        """

    def read(self, key: Any) -> Prediction:
        """Read the labels."""


def open_predictions(predictions: Any, name: str | None = None) -> Predictions:
    """Open predictions from a path (file, folder, Zarr store), or from a mapping of mice to arrays or datasets.

    In a mapping, an array is (frame, slice, y, x) or, for one frame, (slice, y, x); a dataset has the variable
    ``predicted``, or ``mask``.
    """
    if isinstance(predictions, Mapping):
        return MappingPredictions(predictions, name or "a mapping")
    if isinstance(predictions, str | PathLike):
        path = Path(predictions)
        if not path.exists():
            raise MissingDataError(f"There are no predictions at {path}.", FORMATS, "make some with: mousecmr predict")
        if path.suffix in (".zarr", ".zip") or (path / "zarr.json").is_file():
            return ZarrPredictions(path)
        return FilePredictions(path)
    return predictions  # type: ignore[no-any-return]  # an object with the methods of Predictions


@dataclass(frozen=True)
class MappingPredictions:
    """Predictions in memory; the key of a mouse is its name."""

    mapping: Mapping[str, Any]
    name: str

    def names(self) -> Sequence[str]:
        return [str(k) for k in self.mapping]

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names are exact)
        return mouse if mouse in self.mapping else None

    def read(self, key: Any) -> Prediction:
        value = self.mapping[key]
        if isinstance(value, Prediction):
            return value
        if isinstance(value, xr.Dataset):
            return read_dataset_prediction(value, str(key))
        if isinstance(value, xr.DataArray):
            value = value.transpose(*(d for d in DIMS if d in value.dims)).values
        return Prediction(convert_labels(np.asarray(value), str(key)))


@dataclass(frozen=True)
class FilePredictions:
    """A file, or a folder of files named for their mice.

    Names: Mouse4.h5, Mouse4_anything.nii.gz, or one 3D file per frame, Mouse4_frame007.nii.gz.
    """

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def index(self) -> dict[str, Path]:
        """The files by name without suffix."""
        index: dict[str, Path] = {}
        for file in [self.path] if self.path.is_file() else sorted(self.path.iterdir()):
            if match := _FILE_NAME.fullmatch(file.name):
                if match[1] in index:
                    raise PredictionError(f"{index[match[1]].name} and {file.name} both exist.", "one file per mouse")
                if match[2].lower() in NIFTI_SUFFIXES:
                    require_extra("formats", "nibabel")
                index[match[1]] = file
        if not index:
            raise MissingDataError(f"{self.path} holds no predictions.", f"files in {FORMATS}, named for their mice")
        return index

    def names(self) -> Sequence[str]:
        return list(self.index)

    def find(self, mouse: str, alone: bool) -> Any | None:
        """Return the file of ``mouse``, or the files of its frames by frame number."""
        if mouse in self.index:
            return self.index[mouse]
        frame_name = re.compile(rf"{re.escape(mouse)}[_.-](?:frame|f|t)[_-]?(\d+)")
        frames = {int(m[1]): path for stem, path in self.index.items() if (m := frame_name.fullmatch(stem))}
        if frames:
            return frames
        files = [path for stem, path in self.index.items() if re.match(rf"{re.escape(mouse)}[_. -]", stem)]
        if len(files) > 1:
            raise PredictionError(
                f"Several files could be {mouse}: {', '.join(p.name for p in files[:4])}.", "one file per mouse"
            )
        if files:
            return files[0]
        return next(iter(self.index.values())) if alone and self.path.is_file() else None

    def read(self, key: Any) -> Prediction:
        """Read the labels of one file, or of several with one frame each."""
        if not isinstance(key, dict):
            return _read_file(key)
        parts = [_read_file(key[k]).labels for k in sorted(key)]
        if any(p.shape != (1, *parts[0].shape[1:]) for p in parts):
            raise FileLayoutError(
                f"{key[min(key)].name} and the other files of this mouse do not hold one frame each.", "stacks (3D)"
            )
        return Prediction(np.concatenate(parts), tuple(sorted(key)))


@dataclass(frozen=True)
class ZarrPredictions:
    """Predictions in a Zarr store, where the key of a mouse is its name.

    A store of ``mousecmr convert`` (its masks are read), or arrays ``MOUSE``, ``MOUSE/predicted`` or ``MOUSE/mask``.
    """

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def names(self) -> Sequence[str]:
        return sorted(self._open())

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names are exact)
        return mouse if mouse in self._open() else None

    def read(self, key: Any) -> Prediction:
        try:
            source = ZarrSource(str(self.path))
            is_own_store = key in source.rows
        except FileLayoutError:
            is_own_store = False  # not written by this library
        if is_own_store:
            return read_dataset_prediction(source.open_mouse(key, {}), str(key))
        node = self._open()[key]
        if isinstance(node, zarr.Group):
            names = [n for n in (PREDICTED, MASK, MASKS) if n in node]
            if not names:
                raise FileLayoutError(f"{self.path}: {key} has none of {PREDICTED}, {MASK}.", "an array of labels")
            node = node[names[0]]
        return Prediction(convert_labels(np.asarray(node[...]), f"{self.path}: {key}"))  # type: ignore[index]

    def _open(self) -> zarr.Group:
        try:
            return zarr.open_group(open_store(str(self.path)), mode="r")
        except (ValueError, KeyError, OSError) as e:
            raise FileLayoutError(f"{self.path} is not a Zarr group: {e}", "a Zarr store") from e


def read_dataset_prediction(ds: xr.Dataset, name: str) -> Prediction:
    """Read the predicted labels of a dataset: all frames of ``predicted``, or the labelled ones of ``mask``."""
    variable = PREDICTED if PREDICTED in ds else MASK
    if variable not in ds:
        raise FileLayoutError(f"{name} has neither {PREDICTED!r} nor {MASK!r}.", "a segmented dataset")
    if variable == MASK:
        ds = ds.isel(frame=np.flatnonzero(ds["labelled"].values))
    frames = tuple(ds["frame"].values.tolist()) if "frame" in ds.coords else None
    attrs, names = ds[variable].attrs, {"segmented_by": "weights", "trained_on": "trained_on"}
    about = {key: str(attrs[attr]) for key, attr in names.items() if attr in attrs}
    return Prediction(convert_labels(ds[variable].transpose(*DIMS).values, name), frames, about)


def convert_labels(labels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return ``labels`` as uint8 (frame, slice, y, x); a single stack (slice, y, x) becomes one frame.

    Raises FileLayoutError where they are not numbers or have another shape,
    :class:`~mousecmr_data.errors.LabelError` where a number is not a label.
    """
    if labels.dtype == object or labels.dtype.kind not in "uifb":
        raise FileLayoutError(f"{name} is an array of {labels.dtype}.", "numbers 0, 1, 2")
    check_labels(labels, name)
    if labels.ndim not in (3, 4):
        raise FileLayoutError(f"{name} has the shape {labels.shape}.", "(frame, slice, y, x), or (slice, y, x)")
    return (labels if labels.ndim == 4 else labels[None]).astype(np.uint8, copy=False)


def _read_file(path: Path) -> Prediction:
    """Read a NIfTI file, or ``Masks`` (row, column, slice, frame) of an HDF5 file; it needs no images."""
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        from mousecmr_data.formats.nifti import read_nifti_labels

        return Prediction(read_nifti_labels(path))
    import h5py

    from mousecmr_data.dataset.hdf5 import HDF5Array

    try:
        with h5py.File(path, "r") as f:
            masks, frames_with_roi = get_item(f, MASKS), get_item(f, FRAMES_WITH_ROI)
            if not isinstance(masks, h5py.Dataset):
                raise FileLayoutError(f"{path} has no dataset {MASKS!r}; it holds {', '.join(f) or 'nothing'}.")
            shape = masks.shape
            roi = frames_with_roi[()] if isinstance(frames_with_roi, h5py.Dataset) else None
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
