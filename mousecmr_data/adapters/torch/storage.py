"""Where a dataset's pixels come from: memory, mapped files, or the cohort itself.

``read(rows, kind, dtype)`` gives images and labels: one tensor (n, 1, ...) each where all samples have one
shape, else a list of tensors (1, ...). Images are cast while they are copied: one pass instead of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from mousecmr_data.adapters.torch.batch import SampleIndex, Tensors
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.memmap import make_frame_files, read_masks, read_without_converting
from mousecmr_data.schema.variables import IMAGE

LARGEST_FREED_BYTES = 31 * 2**20
"""Bytes; glibc looks at blocks of up to 32 MiB."""
Arrays = tuple[NDArray[np.uint16], NDArray[np.uint8]]


class PixelStorage(Protocol):
    """A source of pixels."""

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """Images (``dtype``) and labels (uint8; 255: unlabelled) of the samples ``rows``."""


class MemoryStorage:
    """Everything in memory: the fastest, for what fits."""

    def __init__(self, cohort: Cohort, chosen: Sequence[NDArray[np.intp]]) -> None:
        shapes = [(at.size, *ds[IMAGE].shape[1:]) for ds, at in zip(cohort.values(), chosen, strict=True)]
        self.arrays, self._flat = _allocate(shapes)
        for mouse, at, (image, mask) in zip(cohort.mice, chosen, self.arrays, strict=True):
            ds = read_without_converting(cohort, mouse)
            image[...], mask[...] = ds[IMAGE].isel(frame=at).values, read_masks(ds, at)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(image.nbytes + mask.nbytes for image, mask in self.arrays)

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """Copies of the samples."""
        if kind == "slices" and self._flat is not None:
            images, labels, starts, n_slices = self._flat
            at = starts[rows.mouse] + rows.row * n_slices[rows.mouse] + rows.slice
            return _take(images, at, dtype), _take(labels, at, np.uint8)
        return _gather((_select_sample(self.arrays[m], kind, r, s) for m, r, s in _iterate_rows(rows)), dtype)


class MemmapStorage:
    """Uncompressed files mapped into memory; opened in each process when first read."""

    def __init__(
        self, cohort: Cohort, chosen: Sequence[NDArray[np.intp]], every_frame: bool, root: Path | None
    ) -> None:
        self.planes = [make_frame_files(cohort, mouse, every_frame, root) for mouse in cohort.mice]
        # Where the chosen frames lie in the files, which may hold more.
        self.at = [np.searchsorted(p.frames, c) for p, c in zip(self.planes, chosen, strict=True)]
        self._open: dict[int, Arrays] = {}
        self._listed: dict[int, list[list[Arrays]]] = {}

    @property
    def nbytes(self) -> int:
        """Nothing is held: the files' pages belong to the system."""
        return 0

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """Copies of the samples."""
        if kind == "slices":
            return _gather((self._slices(m)[r][s] for m, r, s in _iterate_rows(rows)), dtype)
        return _gather(
            (_select_sample(self._arrays(m), kind, self._rows(kind, m, r), s) for m, r, s in _iterate_rows(rows)), dtype
        )

    def _rows(self, kind: str, mouse: int, row: int) -> Any:
        return self.at[mouse] if kind == "cines" else self.at[mouse][row]

    def _arrays(self, mouse: int) -> Arrays:
        if not self._open:
            _keep_freed_memory()
        if mouse not in self._open:
            self._open[mouse] = (self.planes[mouse].image(), self.planes[mouse].mask())
        return self._open[mouse]

    def _slices(self, mouse: int) -> list[list[Arrays]]:
        """Views of every slice by chosen frame, made once: a batch takes a third of a millisecond in all."""
        if mouse not in self._listed:
            image, mask = self._arrays(mouse)
            self._listed[mouse] = [list(zip(image[at], mask[at], strict=True)) for at in self.at[mouse]]
        return self._listed[mouse]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_listed": {}}


class LazyStorage:
    """Each sample is read from the cohort: the least disk, and the slowest."""

    def __init__(self, cohort: Cohort, chosen: Sequence[NDArray[np.intp]]) -> None:
        self.cohort, self.chosen = cohort, list(chosen)

    @property
    def nbytes(self) -> int:
        """Nothing is held."""
        return 0

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """The samples, one after the other."""
        return _gather((self._sample(kind, m, r, s) for m, r, s in _iterate_rows(rows)), dtype)

    def _sample(self, kind: str, mouse: int, row: int, position: int) -> Arrays:
        ds = self.cohort[self.cohort.mice[mouse]]
        at = self.chosen[mouse] if kind == "cines" else self.chosen[mouse][[row]]
        part = ds.isel(slice=[position]) if kind == "slices" else ds
        return _select_sample((part[IMAGE].isel(frame=at).values, read_masks(part, at)), kind, 0, 0)


def _keep_freed_memory() -> None:
    """Let the memory of a batch that is done serve the next one.

    glibc gives freed memory back to the system, and gets it again page by page, from a threshold that grows with
    the largest block that was ever freed: mallopt(3), M_MMAP_THRESHOLD. So one is freed; its pages were never there.
    """
    np.empty(LARGEST_FREED_BYTES, np.uint8)


def _iterate_rows(rows: SampleIndex) -> Iterable[tuple[int, int, int]]:
    return zip(rows.mouse.tolist(), rows.row.tolist(), rows.slice.tolist(), strict=True)


def _select_sample(arrays: Arrays, kind: str, row: Any, position: int) -> Arrays:
    """Views of one sample, of arrays (n, slice, y, x); a cine takes the rows given, or all."""
    key: Any = (row, position)
    if kind == "cines":
        key = row if isinstance(row, np.ndarray) else slice(None)
    elif kind == "stacks":
        key = row
    image, label = arrays
    return image[key], label[key]


def _gather(samples: Iterable[Arrays], dtype: DTypeLike) -> tuple[Tensors, Tensors]:
    parts = list(samples)
    shape = parts[0][0].shape
    if any(image.shape != shape for image, _ in parts):
        return [_to_tensor(image, dtype) for image, _ in parts], [_to_tensor(label, label.dtype) for _, label in parts]
    images, labels = np.empty((len(parts), 1, *shape), dtype), np.empty((len(parts), 1, *shape), np.uint8)
    for i, (image, label) in enumerate(parts):
        images[i, 0], labels[i, 0] = image, label
    return torch.from_numpy(images), torch.from_numpy(labels)


def _to_tensor(array: NDArray[Any], dtype: DTypeLike) -> torch.Tensor:
    return torch.from_numpy(array.astype(dtype))[None]


def _take(array: NDArray[Any], at: NDArray[np.intp], dtype: DTypeLike) -> torch.Tensor:
    out = np.empty((at.size, 1, *array.shape[1:]), dtype)
    if out.dtype == array.dtype:
        np.take(array, at, axis=0, out=out[:, 0], mode="clip")
    else:  # np.take would cast in a second pass
        for into, position in zip(out[:, 0], at.tolist(), strict=True):
            into[...] = array[position]
    return torch.from_numpy(out)


def _allocate(
    shapes: Sequence[tuple[int, ...]],
) -> tuple[list[Arrays], tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]] | None]:
    """Arrays (n, slice, y, x) for each mouse; if the mice have one pixel grid, they are views of one array
    (all slices, y, x), which comes with the first slice and the number of slices of each mouse."""
    if len({shape[2:] for shape in shapes}) != 1:
        return [(np.empty(shape, np.uint16), np.empty(shape, np.uint8)) for shape in shapes], None
    counts = [shape[0] * shape[1] for shape in shapes]
    images, labels = (
        np.empty((sum(counts), *shapes[0][2:]), np.uint16),
        np.empty((sum(counts), *shapes[0][2:]), np.uint8),
    )
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
    views = [
        (images[start : start + count].reshape(shape), labels[start : start + count].reshape(shape))
        for start, count, shape in zip(starts, counts, shapes, strict=True)
    ]
    return views, (images, labels, starts, np.array([shape[1] for shape in shapes], np.intp))
