"""Read files of the dataset's HDF5 layout as lazy datasets.

A file holds ``Images`` (row, column, slice, frame), ``Masks`` of the same shape and ``Frames_with_ROI`` (n,).
Any storage (contiguous, chunked, compressed) is read. Datasets and attributes that are not part of the layout
are ignored. A file without ``Masks`` is a mouse that was not segmented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.hdf5 import get_item
from mousecmr_data.dataset.model import Key, LazyArray, PhysicalSizes, build_dataset, convert_labels, resolve_sizes
from mousecmr_data.errors import FileLayoutError, LabelError, MissingDataError
from mousecmr_data.schema.labels import LabelMap
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    FILE_AXES,
    FRAMES_WITH_ROI,
    IMAGES,
    MASKS,
    MODEL_TO_FILE,
    NOT_PUBLISHED,
)

_EXPECTED_LAYOUT = f"{IMAGES} ({', '.join(FILE_AXES)}), {MASKS} of the same shape, {FRAMES_WITH_ROI} (n,)"
_REPAIR_HINT = "mousecmr verify --repair  (for files of the dataset; copy or export your own file again)"


@dataclass(frozen=True)
class FileHeader:
    """The properties of a mouse's file that are known without reading pixels."""

    shape: tuple[int, int, int, int]
    """Of the images: (frame, slice, y, x)."""
    labelled_frames: tuple[int, ...]
    """0-based, ascending."""
    has_masks: bool
    attrs: dict[str, Any]
    """Decoded root attributes of the layout (see schema.variables); others are left out."""


def read_header(path: str | Path) -> FileHeader:
    """Check the layout of the file at ``path`` and return its header; reads no pixels.

    Raises :class:`MissingDataError` (no such file) and :class:`FileLayoutError` (anything else).
    """
    with _open_file(path) as f:
        images = _get_dataset(f, IMAGES, path)
        if images is None:
            names = ", ".join(sorted(map(str, f))) or "nothing"
            raise FileLayoutError(f"{path} has no dataset {IMAGES!r}; it holds {names}.", _EXPECTED_LAYOUT)
        if images.ndim != 4 or 0 in images.shape:
            raise FileLayoutError(
                f"{path}: {IMAGES} has the shape {images.shape}.",
                f"four axes ({', '.join(FILE_AXES)}), none of them empty",
                "a single frame needs a last axis of length 1: images[..., None]",
            )
        rows, columns, n_slices, n_frames = images.shape
        masks = _get_dataset(f, MASKS, path)
        for data in (images, masks):
            if data is not None and data.dtype.kind not in "uifb":
                raise FileLayoutError(f"{path}: {data.name} has the type {data.dtype}.", "numbers")
        if masks is not None and masks.shape != images.shape:
            raise FileLayoutError(
                f"{path}: {MASKS} has the shape {masks.shape}, {IMAGES} {images.shape}.", "the same shape"
            )
        frames = _get_dataset(f, FRAMES_WITH_ROI, path)
        if masks is not None and frames is None:
            raise FileLayoutError(
                f"{path} has {MASKS} but no {FRAMES_WITH_ROI}: which frames were segmented is unknown.",
                _EXPECTED_LAYOUT,
            )
        labelled = () if frames is None else _read_labelled_frames(frames, n_frames, path)
        if masks is None and labelled:
            raise FileLayoutError(f"{path} names segmented frames but has no {MASKS}.", _EXPECTED_LAYOUT)
        return FileHeader((n_frames, n_slices, rows, columns), labelled, masks is not None, _read_attributes(f))


class HDF5Array(LazyArray):
    """One 4-D dataset of a file, with the axes (frame, slice, y, x); opens the file for each read.

    It holds only the path, so it can be pickled and is safe with fork, spawn and threads. Each read
    is checked: values that do not fit ``dtype`` exactly and unknown labels are errors. ``labels`` is the label map of
    masks with other numbers.
    """

    def __init__(
        self, path: str | Path, name: str, shape: tuple[int, ...], dtype: str, labels: LabelMap | None = None
    ) -> None:
        self.path, self.name, self.labels = str(path), name, labels
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Return a part, with at most one array of ascending integers in ``key``."""
        if any(isinstance(k, np.ndarray) and k.size == 0 for k in key):
            lengths = (len(np.arange(n)[k]) if not _is_int(k) else None for k, n in zip(key, self.shape, strict=True))
            return np.empty([n for n in lengths if n is not None], self.dtype)
        ranges = [slice(k, k + 1) if _is_int(k) else k for k in key]
        with _open_file(self.path) as f:
            data = _get_dataset(f, self.name, self.path)
            if data is None:
                raise FileLayoutError(f"{self.path} no longer has {self.name}: it was changed.", _EXPECTED_LAYOUT)
            raw = data[tuple(ranges[MODEL_TO_FILE.index(axis)] for axis in range(4))]
        array = np.ascontiguousarray(self._convert(raw).transpose(MODEL_TO_FILE))
        return array[tuple(0 if _is_int(k) else slice(None) for k in key)]

    def _convert(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return ``raw`` as ``dtype``; FileLayoutError for values it cannot hold, LabelError for unknown labels."""
        array = raw
        if raw.dtype != self.dtype:
            with np.errstate(invalid="ignore"):
                array = raw.astype(self.dtype)
                negative = raw.dtype.kind in "if" and bool((raw < 0).any())  # -5 survives a cast and back
                exact = not negative and np.array_equal(array.astype(raw.dtype), raw)
            if not exact:
                missing = int(np.isnan(raw).sum()) if raw.dtype.kind == "f" else 0
                raise FileLayoutError(
                    f"{self.path}: {self.name} ({raw.dtype}) holds values that {self.dtype} cannot represent: "
                    + (f"{missing} are NaN." if missing else f"from {np.min(raw)} to {np.max(raw)}."),
                    f"whole numbers from 0 to {np.iinfo(self.dtype).max}",
                    "scale or round the array before writing it",
                )
        if self.name == MASKS:
            return convert_labels(array, f"{self.path}: {self.name}", self.labels)
        return array


@contextmanager
def _open_file(path: str | Path) -> Iterator[h5py.File]:
    """Open a file; any error that HDF5 raises for a damaged file becomes FileLayoutError."""
    if not Path(path).exists():
        raise MissingDataError(
            f"There is no file {path}.",
            "a mouse's HDF5 file",
            "check the path; a mouse of the dataset has a name instead, such as Mouse4: mousecmr fetch Mouse4",
        )
    if not Path(path).is_file():
        raise FileLayoutError(f"{path} is not a file.", "a mouse's HDF5 file")
    try:
        with h5py.File(path, "r") as f:
            yield f
    except (FileLayoutError, LabelError):
        raise
    except PermissionError as e:
        raise FileLayoutError(f"{path} cannot be read: permission denied.", "a readable file") from e
    except MemoryError as e:
        raise FileLayoutError(
            f"{path} states a size larger than this machine's memory: {_first_line(e)}", _EXPECTED_LAYOUT
        ) from e
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as e:
        raise FileLayoutError(
            f"{path} ({Path(path).stat().st_size} bytes) is damaged or not HDF5: {_first_line(e)}",
            "an HDF5 file",
            _REPAIR_HINT,
        ) from e


def _get_dataset(f: h5py.File, name: str, path: str | Path) -> h5py.Dataset | None:
    item = get_item(f, name)
    if item is None:
        return None
    if not isinstance(item, h5py.Dataset):
        raise FileLayoutError(f"{path}: {name} is a {type(item).__name__}.", _EXPECTED_LAYOUT)
    if item.shape is None:
        raise FileLayoutError(f"{path}: {name} is empty.", _EXPECTED_LAYOUT)
    return item


def _read_labelled_frames(data: h5py.Dataset, n_frames: int, path: str | Path) -> tuple[int, ...]:
    name = FRAMES_WITH_ROI
    if data.ndim != 1 or data.dtype.kind not in "uif" or data.size > 100_000:
        raise FileLayoutError(
            f"{path}: {name} has the shape {data.shape} and the type {data.dtype}.", "one axis of frame numbers"
        )
    values = data[()]
    if not np.all(np.isfinite(values)) or not np.array_equal(values, np.floor(values)):
        raise FileLayoutError(f"{path}: {name} holds {values.tolist()[:20]}.", "whole frame numbers")
    frames = tuple(sorted(int(v) for v in values))
    if len(set(frames)) != len(frames):
        raise FileLayoutError(f"{path}: {name} names a frame twice: {list(frames)[:20]}.", "each frame once")
    if frames and (frames[0] < 0 or frames[-1] >= n_frames):
        raise FileLayoutError(
            f"{path}: {name} is {list(frames)[:20]}, but there are {n_frames} frames.",
            f"numbers from 0 to {n_frames - 1}",
            "frame numbers are 0-based" if frames[-1] == n_frames else None,
        )
    return frames


def _read_attributes(f: h5py.File) -> dict[str, Any]:
    attrs = {}
    for name in (ATTR_MOUSE, ATTR_SOURCE, ATTR_SYNTHETIC, ATTR_PHENOTYPE, ATTR_VOXEL_SIZE, ATTR_FRAME_TIME):
        if name in f.attrs:
            value = f.attrs[name]
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            attrs[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return attrs


def _is_int(key: Any) -> bool:
    return isinstance(key, int | np.integer)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@dataclass(frozen=True)
class MouseParts:
    """The parts of a mouse's dataset. No file is open, so parts can be pickled."""

    image: LazyArray
    mask: LazyArray | None
    labelled_frames: tuple[int, ...]
    sizes: PhysicalSizes
    attrs: Mapping[str, Any]

    def to_dataset(self, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
        """Return the dataset, with ``attrs`` in addition."""
        return build_dataset(self.image, self.mask, self.labelled_frames, self.sizes, {**self.attrs, **(attrs or {})})


def read_parts(
    path: str | Path,
    *,
    mouse: str | None = None,
    source: str | None = None,
    version: str = "not stated",
    manifest: Manifest | None = None,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: LabelMap | None = None,
) -> MouseParts:
    """Return the parts of the file at ``path``; reads no pixels. Parameters as for :func:`open_mouse_file`."""
    header = read_header(path)
    attrs = header.attrs
    return MouseParts(
        HDF5Array(path, IMAGES, header.shape, "uint16"),
        HDF5Array(path, MASKS, header.shape, "uint8", labels) if header.has_masks else None,
        header.labelled_frames,
        resolve_sizes(attrs, spacing, frame_time_ms, manifest),
        {
            "mouse": mouse or str(attrs.get(ATTR_MOUSE, Path(path).stem)),
            "source": source or str(attrs.get(ATTR_SOURCE, Path(path).name)),
            "version": version,
            "split": "none",
            "phenotype": str(attrs.get(ATTR_PHENOTYPE, NOT_PUBLISHED)),
            "synthetic": bool(attrs.get(ATTR_SYNTHETIC, False)) or bool(manifest and manifest.synthetic),
        },
    )


def open_mouse_file(
    path: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: LabelMap | None = None,
) -> xr.Dataset:
    """Return the lazy dataset of the file at ``path``; pixels are read on first use.

    ``spacing`` (z, y, x) and ``frame_time_ms`` override the values of the file and the manifest; ``labels`` says what
    the numbers in its masks mean, where they are not those of :class:`~mousecmr_data.schema.labels.Label`.
    Attributes of the result: mouse, source, version, split, phenotype (or "not published"),
    synthetic, slice_order, voxel_size_source, frame_time_source.
    """
    return read_parts(path, spacing=spacing, frame_time_ms=frame_time_ms, labels=labels).to_dataset()


def load_mouse_file(
    path: str | Path, *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """Return the dataset of :func:`open_mouse_file` with all pixels in memory."""
    return open_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms).load()
