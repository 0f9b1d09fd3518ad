"""Read files of the dataset's HDF5 layout as lazy datasets.

A file holds ``Images`` (row, column, slice, frame), ``Masks`` of the same shape and ``Frames_with_ROI`` (n,).
Files of MATLAB (-v7.3), whose axes HDF5 lists in reverse, are recognised; for any other order, ``axes`` says what each
axis is, one letter each: x column, y row, z slice, t frame.
Any storage (contiguous, chunked, compressed) is read. Datasets and attributes that are not part of the layout
are ignored. A file without ``Masks`` is a mouse that was not segmented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.hdf5 import get_item, open_hdf5
from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data.dataset.model import (
    FROM_FILE,
    Key,
    LazyArray,
    PhysicalSizes,
    build_dataset,
    check_axes,
    check_spacing,
    convert_labels,
    guess_axes,
    resolve_sizes,
    swap_slices_and_frames,
)
from mousecmr_data.errors import ArgumentError, FileLayoutError, LabelError, UnitsError
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
    FILE_LETTERS,
    FRAMES_WITH_ROI,
    IMAGES,
    MASKS,
    MODEL_LETTERS,
    NOT_PUBLISHED,
    NOT_STATED,
)

if TYPE_CHECKING:
    import xarray as xr

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
    axes: str
    """What each axis of the file's arrays is: x column, y row, z slice, t frame; 3 or 4 letters."""
    attrs: dict[str, Any]
    """Decoded root attributes of the layout (see schema.variables); others are left out."""


def read_header(path: str | Path, axes: str | None = None) -> FileHeader:
    """Check the layout of the file at ``path`` and return its header; reads no pixels, unless MATLAB wrote it.

    Raises :class:`MissingDataError` (no such file), :class:`ArgumentError` (``axes`` does not fit), :class:`UnitsError`
    (the axes are clearly not those of the layout) and :class:`FileLayoutError` (anything else).
    """
    with _open_file(path) as f:
        images = _get_dataset(f, IMAGES, path)
        if images is None:
            names = ", ".join(sorted(map(str, f))) or "nothing"
            rename = f"if one of them holds the images, rename it: h5py.File({str(path)!r}, 'a').move(NAME, {IMAGES!r})"
            raise FileLayoutError(f"{path} has no dataset {IMAGES!r}; it holds {names}.", _EXPECTED_LAYOUT, rename)
        axes = _find_axes(images, axes, path)
        sizes = dict(zip(axes, images.shape, strict=True))
        n_frames = sizes.get("t", 1)
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
        labelled = () if frames is None else _read_labelled_frames(frames, n_frames, path, axes)
        if masks is not None and _is_matlab(masks) and axes[0] == "t":
            labelled = _number_from_zero(masks, labelled)
        if masks is None and labelled:
            raise FileLayoutError(f"{path} names segmented frames but has no {MASKS}.", _EXPECTED_LAYOUT)
        shape = (n_frames, sizes.get("z", 1), sizes["y"], sizes["x"])
        return FileHeader(shape, labelled, masks is not None, axes, _read_attributes(f))


def _find_axes(images: h5py.Dataset, axes: str | None, path: str | Path) -> str:
    """Return the letters of the axes of ``images``: as given, else as MATLAB writes them, else those of the layout."""
    shape = images.shape
    found = f"{path}: {IMAGES} has the shape {shape}."
    if axes is not None and len(shape) in (3, 4):
        letters = axes.lower()
        if len(letters) != len(shape) or "".join(sorted(letters)) not in ("txy", "xyz", "txyz"):
            raise ArgumentError(
                f"The axes {letters!r} do not fit {IMAGES} with the shape {shape}.",
                "one letter per axis, in the order of the file: x column, y row, z slice, t frame",
                f"--axes {FILE_LETTERS if len(shape) == 4 else FILE_LETTERS[:3]}",
            )
        return letters
    if len(shape) == 3 and 0 not in shape:
        plane = "yx" if shape[0] >= shape[2] else "xy" if _is_matlab(images) else "yx"
        one, cine = (f"{plane}{c}" if shape[0] >= shape[2] else f"{c}{plane}" for c in "zt")
        raise FileLayoutError(
            found,
            f"four axes ({', '.join(FILE_AXES)})",
            f"--axes {one} if it is one frame, --axes {cine} if it is one slice  (Python: axes={one!r}). If all frames "
            f"of all slices are in one axis: mousecmr segment --axes {one} --frames N, with the number of frames",
        )
    if len(shape) != 4 or 0 in shape:
        raise FileLayoutError(found, f"four axes ({', '.join(FILE_AXES)}), none of them empty")
    if _is_matlab(images) and guess_axes(shape, FILE_LETTERS) != FILE_LETTERS:
        return FILE_LETTERS[::-1]
    check_axes(str(path), shape, FILE_LETTERS, FILE_LETTERS)
    return FILE_LETTERS


def _is_matlab(data: h5py.Dataset) -> bool:
    """Return whether MATLAB wrote ``data``: HDF5 lists the axes of its arrays in reverse."""
    return "MATLAB_class" in data.attrs


def _number_from_zero(masks: h5py.Dataset, frames: tuple[int, ...]) -> tuple[int, ...]:
    """Return the labelled frames of a file of MATLAB, which counts from 1, if only so they have masks."""
    earlier = tuple(k - 1 for k in frames)
    is_one_based = frames and earlier[0] >= 0 and not any(masks[k].any() for k in frames if k < len(masks))
    return earlier if is_one_based and all(masks[k].any() for k in earlier) else frames


class HDF5Array(LazyArray):
    """One 4-D dataset of a file, with the axes (frame, slice, y, x); opens the file for each read.

    It holds only the path, so it can be pickled and is safe with fork, spawn and threads. Each read
    is checked: values that do not fit ``dtype`` exactly and unknown labels are errors. ``labels`` is the label map of
    masks with other numbers, ``axes`` says what each axis of the file's array is.
    """

    def __init__(
        self,
        path: str | Path,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        labels: LabelMap | None = None,
        axes: str = FILE_LETTERS,
    ) -> None:
        self.path, self.name, self.labels, self.axes = str(path), name, labels, axes
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Return a part, with at most one array of ascending integers in ``key``."""
        if any(isinstance(k, np.ndarray) and k.size == 0 for k in key):
            lengths = (len(np.arange(n)[k]) if not _is_int(k) else None for k, n in zip(key, self.shape, strict=True))
            return np.empty([n for n in lengths if n is not None], self.dtype)
        return self._read(key, self._convert)

    def _read(self, key: Key, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        ranges = [slice(k, k + 1) if _is_int(k) else k for k in key]
        with _open_file(self.path) as f:
            data = _get_dataset(f, self.name, self.path)
            if data is None:
                raise FileLayoutError(f"{self.path} no longer has {self.name}: it was changed.", _EXPECTED_LAYOUT)
            raw = data[tuple(ranges[MODEL_LETTERS.index(letter)] for letter in self.axes)]
        array = convert(raw).transpose([self.axes.index(c) for c in MODEL_LETTERS if c in self.axes])
        for axis, letter in enumerate(MODEL_LETTERS):
            if letter not in self.axes:  # one frame, or one slice
                array = np.take(np.expand_dims(array, axis), np.arange(1)[ranges[axis]], axis)
        array = np.ascontiguousarray(array)
        return array[tuple(0 if _is_int(k) else slice(None) for k in key)]

    def read_raw(self) -> NDArray[Any]:
        """Return the whole array (frame, slice, y, x) with the numbers of the file, of any type."""
        return self._read((slice(None),) * len(self.shape), np.asarray)

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
                    f"mousecmr segment {self.path} -o results --fill 0  puts 0 in their place"
                    if missing
                    else "scale or round the array before writing it",
                )
        if self.name == MASKS:
            return convert_labels(array, f"{self.path}: {self.name}", self.labels)
        return array


@contextmanager
def _open_file(path: str | Path) -> Iterator[h5py.File]:
    """Open a file; any error that HDF5 raises for a damaged file becomes FileLayoutError, of the system ReadError."""
    check_input(
        path,
        "a mouse's HDF5 file",
        "check the path; a mouse of the dataset has a name instead, such as Mouse4: mousecmr fetch Mouse4",
    )
    try:
        with open_hdf5(path) as f:
            yield f
    except (FileLayoutError, LabelError, UnitsError, ArgumentError):
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as e:
        check_access(e, Path(path))
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


def _read_labelled_frames(data: h5py.Dataset, n_frames: int, path: str | Path, axes: str) -> tuple[int, ...]:
    name = FRAMES_WITH_ROI
    row = data.ndim == 2 and 1 in data.shape and _is_matlab(data)  # MATLAB has no arrays of one axis
    if not (data.ndim == 1 or row) or data.dtype.kind not in "uif" or data.size > 100_000:
        raise FileLayoutError(
            f"{path}: {name} has the shape {data.shape} and the type {data.dtype}.", "one axis of frame numbers"
        )
    values = np.ravel(data[()])
    if not np.all(np.isfinite(values)) or not np.array_equal(values, np.floor(values)):
        raise FileLayoutError(f"{path}: {name} holds {values.tolist()[:20]}.", "whole frame numbers")
    frames = tuple(sorted(int(v) for v in values))
    if len(set(frames)) != len(frames):
        raise FileLayoutError(f"{path}: {name} names a frame twice: {list(frames)[:20]}.", "each frame once")
    if frames and (frames[0] < 0 or frames[-1] >= n_frames):
        raise FileLayoutError(
            f"{path}: {name} is {list(frames)[:20]}, but there are {n_frames} frames.",
            f"numbers from 0 to {n_frames - 1}",
            "frame numbers are 0-based"
            if frames[-1] == n_frames
            else f"if slices and frames are in the other order: --axes {swap_slices_and_frames(axes)}",
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
    version: str = NOT_STATED,
    manifest: Manifest | None = None,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: LabelMap | None = None,
    axes: str | None = None,
) -> MouseParts:
    """Return the parts of the file at ``path``; reads no pixels. Parameters as for :func:`open_mouse_file`."""
    header = read_header(path, axes)
    attrs = header.attrs
    sizes = resolve_sizes(attrs, spacing, frame_time_ms, manifest)
    if sizes.voxel_size_source == FROM_FILE:
        check_spacing(Path(path).name, sizes.voxel_size_mm)
    return MouseParts(
        HDF5Array(path, IMAGES, header.shape, "uint16", axes=header.axes),
        HDF5Array(path, MASKS, header.shape, "uint8", labels, header.axes) if header.has_masks else None,
        header.labelled_frames,
        sizes,
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
    axes: str | None = None,
) -> xr.Dataset:
    """Return the lazy dataset of the file at ``path``; pixels are read on first use.

    ``spacing`` (z, y, x) and ``frame_time_ms`` override the values of the file and the manifest; ``labels`` says what
    the numbers in its masks mean, where they are not those of :class:`~mousecmr_data.schema.labels.Label`, and ``axes``
    what the axes of its arrays are, where they are not those of the layout. Attributes of the result: mouse, source,
    version, split, phenotype (or "not published"), synthetic, slice_order, voxel_size_source, frame_time_source.
    """
    return read_parts(path, spacing=spacing, frame_time_ms=frame_time_ms, labels=labels, axes=axes).to_dataset()


def load_mouse_file(
    path: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    axes: str | None = None,
) -> xr.Dataset:
    """Return the dataset of :func:`open_mouse_file` with all pixels in memory."""
    return open_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms, axes=axes).load()
