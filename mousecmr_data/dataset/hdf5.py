"""One file of the dataset's layout becomes one lazy dataset."""

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

from mousecmr_data.dataset.lazy import Key, LazyArray
from mousecmr_data.dataset.model import PhysicalSizes, build_dataset, resolve_sizes
from mousecmr_data.errors import FileLayoutError, LabelError, MissingDataError
from mousecmr_data.schema.labels import MEANINGS, Label
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

# MERGED dataset.hdf5: The dataset's HDF5 layout: its outline read without a pixel, its arrays read when asked for.
#
# A file holds ``Images`` (row, column, slice, frame), ``Masks`` of the same shape and
# ``Frames_with_ROI`` (n,). Any storage (contiguous, chunked, compressed) is read; datasets and
# attributes that are not of the layout are left alone. A file without ``Masks`` is a mouse that
# nobody segmented.


_EXPECTED_LAYOUT = f"{IMAGES} ({', '.join(FILE_AXES)}), {MASKS} of the same shape, {FRAMES_WITH_ROI} (n,)"
_REPAIR_HINT = "mousecmr verify --repair  (for files of the dataset; one of your own: copy or export it again)"


@dataclass(frozen=True)
class FileHeader:
    """What can be known of a mouse without reading a pixel."""

    n_frames: int
    n_slices: int
    shape_yx: tuple[int, int]
    labelled_frames: tuple[int, ...]
    """0-based, ascending."""
    has_masks: bool
    attrs: dict[str, Any]
    """Root attributes of the layout (see schema.variables), decoded; others are left out."""


def read_header(path: str | Path) -> FileHeader:
    """Check the layout of the file at ``path`` and return its outline; reads no pixel.

    Raises :class:`MissingDataError` (no such file) and :class:`FileLayoutError` (anything else).
    """
    with _open_file(path) as f:
        images = _get_dataset(f, IMAGES, path)
        if images is None:
            have = ", ".join(sorted(map(str, f))) or "nothing"
            raise FileLayoutError(f"{path} has no dataset {IMAGES!r}; it holds {have}.", _EXPECTED_LAYOUT)
        if images.ndim != 4 or 0 in images.shape:
            raise FileLayoutError(
                f"{path}: {IMAGES} has the shape {images.shape}.",
                f"four axes ({', '.join(FILE_AXES)}), none of them empty",
                "a single frame needs a last axis of length 1: images[..., None]",
            )
        _check_dtype(images, path)
        rows, columns, n_slices, n_frames = images.shape
        masks = _get_dataset(f, MASKS, path)
        if masks is not None:
            _check_dtype(masks, path)
            if masks.shape != images.shape:
                raise FileLayoutError(
                    f"{path}: {MASKS} has the shape {masks.shape}, {IMAGES} {images.shape}.",
                    "the same shape",
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
        return FileHeader(n_frames, n_slices, (rows, columns), labelled, masks is not None, _read_attributes(f))


class HDF5Array(LazyArray):
    """One 4-D dataset of a file, seen as (frame, slice, y, x); opens the file at each read.

    Nothing but the path is held, so it pickles, and is safe with fork, spawn and threads. Each read
    is checked: values that do not fit ``dtype`` exactly and unknown labels are errors.
    """

    def __init__(self, path: str | Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self.name = str(path), name
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Read a part, with at most one array of ascending integers in ``key``."""
        if any(isinstance(k, np.ndarray) and k.size == 0 for k in key):
            lengths = (len(np.arange(n)[k]) if not _is_int(k) else None for k, n in zip(key, self.shape, strict=True))
            return np.empty([n for n in lengths if n is not None], self.dtype)
        ranges = [slice(k, k + 1) if _is_int(k) else k for k in key]
        file_key: list[Any] = [None] * 4
        for model_axis, file_axis in enumerate(MODEL_TO_FILE):
            file_key[file_axis] = ranges[model_axis]
        with _open_file(self.path) as f:
            raw = f[self.name][tuple(file_key)]
        array = np.ascontiguousarray(self._exact(raw).transpose(MODEL_TO_FILE))
        return array[tuple(0 if _is_int(k) else slice(None) for k in key)]

    def _exact(self, raw: NDArray[Any]) -> NDArray[Any]:
        if raw.dtype == self.dtype:
            array = raw
        else:
            with np.errstate(invalid="ignore"):
                array = raw.astype(self.dtype)
                negative = raw.dtype.kind in "if" and bool((raw < 0).any())  # -5 would come back as -5
                exact = not negative and np.array_equal(array.astype(raw.dtype), raw)
            if not exact:
                missing = int(np.isnan(raw).sum()) if raw.dtype.kind == "f" else 0
                raise FileLayoutError(
                    f"{self.path}: {self.name} ({raw.dtype}) holds values that are no {self.dtype}: "
                    + (f"{missing} are NaN." if missing else f"from {np.min(raw)} to {np.max(raw)}."),
                    f"whole numbers from 0 to {np.iinfo(self.dtype).max}",
                    "scale or round the array before writing it",
                )
        if self.name == MASKS and array.size and array.max() > max(Label):
            found = sorted(set(np.unique(array).tolist()) - set(Label))
            raise LabelError(
                f"{self.path}: the masks hold the label{'s'[: len(found) > 1]} {', '.join(map(str, found))}.",
                ", ".join(f"{label.value} ({meaning})" for label, meaning in MEANINGS.items()),
            )
        return array


@contextmanager
def _open_file(path: str | Path) -> Iterator[h5py.File]:
    """An open file; whatever HDF5 says of a damaged one becomes our error."""
    if not Path(path).exists():
        raise MissingDataError(f"There is no file {path}.", "a mouse's HDF5 file", "mousecmr fetch")
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
            f"{path} says it is larger than this machine's memory: {_first_line(e)}", _EXPECTED_LAYOUT
        ) from e
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as e:
        size = Path(path).stat().st_size
        raise FileLayoutError(
            f"{path} ({size} bytes) is damaged or not HDF5: {_first_line(e)}", "an HDF5 file", _REPAIR_HINT
        ) from e


def _get_dataset(f: h5py.File, name: str, path: str | Path) -> h5py.Dataset | None:
    item = f.get(name)
    if item is not None and not isinstance(item, h5py.Dataset):
        raise FileLayoutError(f"{path}: {name} is a {type(item).__name__}.", _EXPECTED_LAYOUT)
    if item is not None and item.shape is None:
        raise FileLayoutError(f"{path}: {name} is empty.", _EXPECTED_LAYOUT)
    return item


def _check_dtype(data: h5py.Dataset, path: str | Path) -> None:
    if data.dtype.kind not in "uifb":
        raise FileLayoutError(f"{path}: {data.name} has the type {data.dtype}.", "numbers")


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
        hint = "frame numbers are 0-based" if frames[-1] == n_frames else None
        raise FileLayoutError(
            f"{path}: {name} is {list(frames)[:20]}, but there are {n_frames} frames.",
            f"numbers from 0 to {n_frames - 1}",
            hint,
        )
    return frames


def _read_attributes(f: h5py.File) -> dict[str, Any]:
    names = (
        ATTR_MOUSE,
        ATTR_SOURCE,
        ATTR_SYNTHETIC,
        ATTR_PHENOTYPE,
        ATTR_VOXEL_SIZE,
        ATTR_FRAME_TIME,
    )
    found = {}
    for name in names:
        if name in f.attrs:
            value = f.attrs[name]
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            found[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return found


def _is_int(key: Any) -> bool:
    return isinstance(key, int | np.integer)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@dataclass(frozen=True)
class MouseParts:
    """What a dataset is made of. Nothing is open, so parts pickle."""

    path: Path
    image: LazyArray
    mask: LazyArray | None
    labelled_frames: tuple[int, ...]
    sizes: PhysicalSizes
    attrs: Mapping[str, Any]

    def to_dataset(self, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
        """The dataset, with ``attrs`` in addition."""
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
) -> MouseParts:
    """Look at a file's outline; no pixel is read. Parameters as for ``open_file``."""
    outline = read_header(path)
    own = outline.attrs
    shape = (outline.n_frames, outline.n_slices, *outline.shape_yx)
    return MouseParts(
        Path(path),
        HDF5Array(path, IMAGES, shape, "uint16"),
        HDF5Array(path, MASKS, shape, "uint8") if outline.has_masks else None,
        outline.labelled_frames,
        resolve_sizes(own, spacing, frame_time_ms, manifest),
        {
            "mouse": mouse or str(own.get(ATTR_MOUSE, Path(path).stem)),
            "source": source or str(own.get(ATTR_SOURCE, Path(path).name)),
            "version": version,
            "split": "none",
            "phenotype": str(own.get(ATTR_PHENOTYPE, NOT_PUBLISHED)),
            "synthetic": bool(own.get(ATTR_SYNTHETIC, False)) or bool(manifest and manifest.synthetic),
        },
    )


def open_mouse_file(
    path: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """Open one mouse; no pixel is read until asked for.

    ``spacing`` (z, y, x) and ``frame_time_ms`` override what the file or the manifest says.
    Attributes of the result: mouse, source, version, split, phenotype (or "not published"),
    synthetic, slice_order, voxel_size_source, frame_time_source.
    """
    return read_parts(path, spacing=spacing, frame_time_ms=frame_time_ms).to_dataset()
