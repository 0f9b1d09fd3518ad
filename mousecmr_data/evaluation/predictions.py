"""Read predictions from a folder of files, one file, a Zarr store or a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.hdf5 import get_item, open_hdf5
from mousecmr_data._utils.reading import check_access
from mousecmr_data._utils.text import list_notices
from mousecmr_data.dataset.model import convert_labels
from mousecmr_data.dataset.zarr_store import ZarrSource, open_store
from mousecmr_data.errors import FileLayoutError, LabelError, MissingDataError, MouseCMRError, PredictionError
from mousecmr_data.formats.masks import SEGMENT_RECORDS
from mousecmr_data.schema.labels import LABELS_HINT, MEANINGS, STRUCTURE_FILES, LabelMap
from mousecmr_data.schema.variables import (
    ATTR_MOUSE,
    ATTR_NOTICE,
    ATTR_SETTINGS,
    DICOM_SEG_SUFFIX,
    DIMS,
    FRAMES_WITH_ROI,
    HDF5_SUFFIXES,
    MASK,
    MASK_SUFFIXES,
    MASKS,
    METAIMAGE_SUFFIXES,
    MODEL_TO_FILE,
    NRRD_SUFFIXES,
    PREDICTED,
)

if TYPE_CHECKING:
    import h5py

_SUFFIXES = (*HDF5_SUFFIXES, ".seg.nrrd", *(s for s in MASK_SUFFIXES if not s.startswith(".img")))
"""Endings of predictions; an .img belongs to its .hdr."""
_FILE_NAME = re.compile(rf"([^.].*?)({'|'.join(map(re.escape, _SUFFIXES))})", re.IGNORECASE)
_READERS = {
    **dict.fromkeys(NRRD_SUFFIXES, ("formats", "nrrd")),
    **dict.fromkeys(METAIMAGE_SUFFIXES, ("metaimage", "SimpleITK")),
    DICOM_SEG_SUFFIX: ("formats", "pydicom"),
}
"""The extras and modules that read other files than NIfTI, besides nibabel."""
FORMATS = "HDF5 (.h5), NIfTI, NRRD, MetaImage, DICOM SEG or a Zarr store"
RESULT_STEM, RESULT_RECORD = "masks", SEGMENT_RECORDS[0]
"""Name, without its ending, of the masks in a folder of ``mousecmr segment``."""


@dataclass(frozen=True)
class Prediction:
    """The predicted labels of one mouse."""

    labels: NDArray[np.uint8]
    """(frame, slice, y, x)."""
    frames: tuple[int, ...] | None = None
    """The frame numbers of the first axis; None where the file does not say."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The file's own description: mouse, segmented_by, trained_on, postprocessing."""


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

    def read(self, key: Any, like: xr.Dataset) -> Prediction:
        """Read the labels of the mouse ``like``, on whose grid they are put where a file states its place in space."""


def open_predictions(predictions: Any, name: str | None = None, labels: LabelMap | None = None) -> Predictions:
    """Open predictions from a path (file, folder, Zarr store), or from a mapping of mice to arrays or datasets.

    In a mapping, an array is (frame, slice, y, x) or, for one frame, (slice, y, x); a dataset has the variable
    ``predicted``, or ``mask``. ``labels`` says what the numbers mean, where they are not those of
    :class:`~mousecmr_data.schema.labels.Label`.
    """
    if isinstance(predictions, Mapping):
        return MappingPredictions(predictions, name or "a mapping", labels)
    if isinstance(predictions, str | PathLike):
        path = Path(predictions)
        if not path.exists():
            raise MissingDataError(f"There are no predictions at {path}.", FORMATS, "make some with: mousecmr predict")
        if path.suffix in (".zarr", ".zip") or (path / "zarr.json").is_file():
            return ZarrPredictions(path, labels)
        return FilePredictions(path, labels)
    return predictions  # type: ignore[no-any-return]  # an object with the methods of Predictions


@dataclass(frozen=True)
class MappingPredictions:
    """Predictions in memory; the key of a mouse is its name."""

    mapping: Mapping[str, Any]
    name: str
    labels: LabelMap | None = None

    def names(self) -> Sequence[str]:
        return [str(k) for k in self.mapping]

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names are exact)
        return mouse if mouse in self.mapping else None

    def read(self, key: Any, like: xr.Dataset) -> Prediction:  # noqa: ARG002 (an array has no place in space)
        value = self.mapping[key]
        if isinstance(value, Prediction):
            return value
        if isinstance(value, xr.Dataset):
            return read_dataset_prediction(value, str(key), self.labels)
        if isinstance(value, xr.DataArray):
            value = value.transpose(*(d for d in DIMS if d in value.dims)).values
        return Prediction(_make_frames(np.asarray(value), str(key), self.labels))


@dataclass(frozen=True)
class FilePredictions:
    """A file, or a folder of files named for their mice.

    Names: Mouse4.h5, Mouse4_anything.nii.gz, or one 3D file per frame, Mouse4_frame007.nii.gz. Each may lie in a folder
    of its name, as MONAI's SaveImage and ``mousecmr segment`` write them, or be such a folder with one binary mask per
    structure (see ``schema.labels.STRUCTURE_FILES``).
    """

    path: Path
    labels: LabelMap | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def index(self) -> dict[str, Path]:
        """The files, and the folders with one file per structure, by name without suffix."""
        index: dict[str, Path] = {}
        for name, file in _list_masks(self.path):
            if name in index:
                raise PredictionError(f"{index[name].name} and {file.name} both exist.", "one file per mouse")
            index[name] = file
        if not index:
            raise MissingDataError(f"{self.path} holds no predictions.", f"files in {FORMATS}, named for their mice")
        return index

    def names(self) -> Sequence[str]:
        return list(self.index)

    def find(self, mouse: str, alone: bool) -> Any | None:
        """Return the file of ``mouse``, or the files of its frames by frame number."""
        if mouse in self.index:
            return self.index[mouse]
        frame_name = re.compile(rf"{re.escape(mouse)}[_.-](?:frame|f|t)[_-]?(\d+)(?:[_. -].*)?")
        frames: dict[int, Path] = {}
        for stem, path in self.index.items():
            if (m := frame_name.fullmatch(stem)) and (first := frames.setdefault(int(m[1]), path)) != path:
                raise PredictionError(f"{first.name} and {path.name} are of one frame.", "one file per frame")
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

    def read(self, key: Any, like: xr.Dataset) -> Prediction:
        """Read the labels of one file, or of several with one frame each."""
        if not isinstance(key, dict):
            return _read_path(key, like, self.labels)
        parts = [_read_path(key[k], like, self.labels).labels for k in sorted(key)]
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
    labels: LabelMap | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def names(self) -> Sequence[str]:
        return sorted(self._open())

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names are exact)
        return mouse if mouse in self._open() else None

    def read(self, key: Any, like: xr.Dataset) -> Prediction:  # noqa: ARG002 (a store has no place in space)
        try:
            source = ZarrSource(str(self.path))
            is_own_store = key in source.rows
        except FileLayoutError:
            is_own_store = False  # not written by this library
        if is_own_store:
            return read_dataset_prediction(source.open_mouse(key, {}), str(key), self.labels)
        node = self._open()[key]
        if isinstance(node, zarr.Group):
            names = [n for n in (PREDICTED, MASK, MASKS) if n in node]
            if not names:
                raise FileLayoutError(f"{self.path}: {key} has none of {PREDICTED}, {MASK}.", "an array of labels")
            node = node[names[0]]
        return Prediction(_make_frames(np.asarray(node[...]), f"{self.path}: {key}", self.labels))  # type: ignore[index]

    def _open(self) -> zarr.Group:
        try:
            return zarr.open_group(open_store(str(self.path)), mode="r")
        except MouseCMRError:
            raise
        except (ValueError, KeyError, OSError) as e:
            check_access(e, self.path)
            raise FileLayoutError(f"{self.path} is not a Zarr group: {e}", "a Zarr store") from e


def read_dataset_prediction(ds: xr.Dataset, name: str, labels: LabelMap | None = None) -> Prediction:
    """Read the predicted labels of a dataset: all frames of ``predicted``, or the labelled ones of ``mask``."""
    variable = PREDICTED if PREDICTED in ds else MASK
    if variable not in ds:
        raise FileLayoutError(f"{name} has neither {PREDICTED!r} nor {MASK!r}.", "a segmented dataset")
    if variable == MASK:
        ds = ds.isel(frame=np.flatnonzero(ds["labelled"].values))
    frames = tuple(ds["frame"].values.tolist()) if "frame" in ds.coords else None
    attrs = ds[variable].attrs
    names = {"segmented_by": "weights", "trained_on": "trained_on", "postprocessing": "postprocessing"}
    about = {key: str(attrs[attr]) for key, attr in names.items() if attr in attrs}
    training = [bool(attrs.get(key, False)) for key in ("synthetic_training", "synthetic_ancestry")]
    if any(training):
        about["notice"] = " ".join(list_notices(training[0], False, training[1]))
    if ATTR_MOUSE in ds.attrs:
        about["mouse"] = str(ds.attrs[ATTR_MOUSE])
    return Prediction(_make_frames(ds[variable].transpose(*DIMS).values, name, labels), frames, about)


def match_frames(prediction: Prediction, ds: xr.Dataset) -> list[int]:
    """Return the frame numbers of a prediction's first axis; PredictionError where its shape does not fit."""
    expected = tuple(ds.sizes[d] for d in DIMS)
    numbers: list[int] = ds["frame"].values.tolist()
    labelled: list[int] = ds["frame"].values[ds["labelled"].values].tolist()
    shape = prediction.labels.shape
    if shape[1:] == expected[1:]:
        if prediction.frames is not None:
            return list(prediction.frames)
        if shape[0] in (len(numbers), len(labelled)):
            return numbers if shape[0] == len(numbers) else labelled
    hint = "resample them onto the images of the mouse, in the program that made them"
    if sorted(shape) == sorted(expected):
        left, order = list(zip(DIMS, expected, strict=True)), []
        for n in shape:  # y and x of the same length are named in that order
            order.append(left.pop(next(k for k, (_, length) in enumerate(left) if length == n))[0])
        hint = f"axes look transposed: they are ({', '.join(order)}), expected are ({', '.join(DIMS)})"
    raise PredictionError(
        f"{ds.attrs.get('mouse', '')}: the prediction has the shape {shape}.",
        f"{DIMS} = {expected}, or its {len(labelled)} labelled frames alone",
        hint,
    )


def _make_frames(array: NDArray[Any], name: str, labels: LabelMap | None) -> NDArray[np.uint8]:
    """Return an array of labels as uint8 (frame, slice, y, x); a single stack (slice, y, x) becomes one frame.

    Raises FileLayoutError where they are not numbers or have another shape,
    :class:`~mousecmr_data.errors.LabelError` where a number is not a label.
    """
    if array.dtype == object or array.dtype.kind not in "uifb":
        raise FileLayoutError(f"{name} is an array of {array.dtype}.", "numbers 0, 1, 2")
    _check_not_boolean(array.dtype, name, labels)
    converted = convert_labels(array, name, labels)
    if array.ndim not in (3, 4):
        raise FileLayoutError(f"{name} has the shape {array.shape}.", "(frame, slice, y, x), or (slice, y, x)")
    return converted if array.ndim == 4 else converted[None]


def _check_not_boolean(dtype: np.dtype[Any], name: str, labels: LabelMap | None) -> None:
    """Raise LabelError for a mask of yes and no: it does not say which structure it is of."""
    if dtype.kind == "b" and labels is None:
        expected = f"the labels {', '.join(f'{n.value} ({meaning})' for n, meaning in MEANINGS.items())}"
        raise LabelError(f"{name} is boolean: a mask of one structure.", expected, LABELS_HINT)


def _list_masks(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and path of each file of masks, and of each folder with one file per structure."""
    if not path.is_dir():  # also a link to nothing: reading it says so
        if match := _FILE_NAME.fullmatch(path.name):
            if path.name.lower().endswith(MASK_SUFFIXES):
                extra, module = _READERS.get(path.suffix.lower(), ("formats", "nibabel"))
                require_extra(extra, "nibabel", module)
            yield match[1], path
        return
    for entry in sorted(path.iterdir()):
        if not entry.is_dir():
            yield from _list_masks(entry)
            continue
        files = [item for file in sorted(entry.iterdir()) if not file.is_dir() for item in _list_masks(file)]
        if (entry / RESULT_RECORD).is_file():
            files = [item for item in files if item[0] == RESULT_STEM]
        if any(stem in STRUCTURE_FILES for stem, _ in files):
            yield entry.name, entry
        for stem, file in files:
            if stem.startswith(entry.name) or stem == RESULT_STEM:
                yield (entry.name if stem == RESULT_STEM else stem), file


def _read_path(path: Path, like: xr.Dataset, labels: LabelMap | None) -> Prediction:
    if not path.is_dir():
        return _read_file(path, like, labels)
    structures = [(STRUCTURE_FILES[stem], file) for stem, file in _list_masks(path) if stem in STRUCTURE_FILES]
    parts = [(label, _read_file(file, like, {"lv": 1}).labels > 0) for label, file in structures]
    out = np.zeros(parts[0][1].shape, np.uint8)
    for label, mask in parts:
        if mask.shape != out.shape:
            raise FileLayoutError(f"The structures in {path.name} have different shapes.", "masks of one image")
        out[mask] = label
    return Prediction(out)


def _read_file(path: Path, like: xr.Dataset, labels: LabelMap | None) -> Prediction:
    """Read an image file, or ``Masks`` (row, column, slice, frame) of an HDF5 file; it needs no images."""
    if path.name.lower().endswith(MASK_SUFFIXES):
        from mousecmr_data.formats.nifti import read_nifti_labels

        return Prediction(read_nifti_labels(path, like, labels))
    import h5py

    from mousecmr_data.dataset.hdf5 import HDF5Array

    try:
        with open_hdf5(path) as f:
            masks, frames_with_roi = get_item(f, MASKS), get_item(f, FRAMES_WITH_ROI)
            if not isinstance(masks, h5py.Dataset):
                raise FileLayoutError(f"{path} has no dataset {MASKS!r}; it holds {', '.join(f) or 'nothing'}.")
            shape = masks.shape
            roi = frames_with_roi[()] if isinstance(frames_with_roi, h5py.Dataset) else None
            about = _read_about(f)
            dtype = masks.dtype
    except (OSError, RuntimeError, KeyError, MemoryError) as e:
        check_access(e, path)
        raise FileLayoutError(f"{path} is damaged or not HDF5.", "an HDF5 file") from e
    if len(shape) != 4:
        raise FileLayoutError(f"{path}: {MASKS} has the shape {shape}.", "(row, column, slice, frame)")
    _check_not_boolean(dtype, f"{path}: {MASKS}", labels)
    array = HDF5Array(path, MASKS, tuple(shape[k] for k in MODEL_TO_FILE), "uint8", labels)
    masks_read = array.read_all()
    if roi is None:
        return Prediction(masks_read, None, about)
    frames = tuple(sorted(int(v) for v in np.ravel(roi)))
    if frames and not 0 <= frames[0] <= frames[-1] < len(masks_read):
        raise FileLayoutError(f"{path}: {FRAMES_WITH_ROI} is {list(frames)[:20]}.", f"0 to {len(masks_read) - 1}")
    return Prediction(masks_read[list(frames)], frames, about)


def _read_about(file: h5py.File) -> dict[str, str]:
    """Return what a file of masks states about itself: mouse, segmented_by, trained_on, notice, postprocessing."""
    about = {k: str(file.attrs[k]) for k in (ATTR_MOUSE, "segmented_by", "trained_on", ATTR_NOTICE) if k in file.attrs}
    try:
        settings = json.loads(file.attrs.get(ATTR_SETTINGS, "{}"))
        about["postprocessing"] = str(settings["postprocessing"])
    except (KeyError, TypeError, ValueError):
        pass  # the masks of another program
    return about
