"""Read a dataset's pixels from memory, from mapped files, or from the cohort itself.

``read(rows, kind, dtype)`` returns images and labels: one tensor (n, 1, ...) each if all samples have one shape,
else a list of tensors (1, ...). Images are cast while they are copied: one pass instead of two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from mousecmr_data.adapters.torch.batch import SampleIndex, Tensors
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.memmap import make_frame_files, read_masks, read_without_converting
from mousecmr_data.schema.variables import IMAGE

LARGEST_FREED_BYTES = 31 * 2**20
"""glibc's threshold for keeping freed memory grows with freed blocks of up to 32 MiB."""
Arrays = tuple[NDArray[np.uint16], NDArray[np.uint8]]


class PixelStorage(ABC):
    """A source of pixels."""

    nbytes = 0
    """Bytes of pixels held in this process's memory; mapped files are held by the operating system."""

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """Return copies of the images (``dtype``) and labels (uint8; 255: unlabelled) of the samples ``rows``."""
        samples = zip(rows.mouse.tolist(), rows.row.tolist(), rows.slice.tolist(), strict=True)
        return _gather([self._get_sample(kind, *sample) for sample in samples], dtype)

    @abstractmethod
    def _get_sample(self, kind: str, mouse: int, row: int, position: int) -> Arrays:
        """Return the image and label of the slice at ``position`` of the selected frame ``row``."""


class MemoryStorage(PixelStorage):
    """All pixels in memory: the fastest storage, for data that fit.

    If the mice have one pixel grid, ``arrays`` (n, slice, y, x) are views of one array (all slices, y, x).
    """

    def __init__(self, cohort: Cohort, selected: Sequence[NDArray[np.intp]]) -> None:
        shapes = [(frames.size, *ds[IMAGE].shape[1:]) for ds, frames in zip(cohort.values(), selected, strict=True)]
        self._flat: Arrays | None = None
        if len({shape[2:] for shape in shapes}) == 1:
            self._n_slices = np.array([shape[1] for shape in shapes], np.intp)
            stops = np.cumsum([shape[0] * shape[1] for shape in shapes])
            self._starts = np.concatenate([[0], stops[:-1]]).astype(np.intp)
            flat_shape = (int(stops[-1]), *shapes[0][2:])
            self._flat = images, labels = np.empty(flat_shape, np.uint16), np.empty(flat_shape, np.uint8)
            self.arrays = [
                (images[start:stop].reshape(shape), labels[start:stop].reshape(shape))
                for start, stop, shape in zip(self._starts, stops, shapes, strict=True)
            ]
        else:
            self.arrays = [(np.empty(shape, np.uint16), np.empty(shape, np.uint8)) for shape in shapes]
        for mouse, frames, (image, mask) in zip(cohort.mice, selected, self.arrays, strict=True):
            ds = read_without_converting(cohort, mouse)
            image[...], mask[...] = ds[IMAGE].isel(frame=frames).values, read_masks(ds, frames)
            self.nbytes += image.nbytes + mask.nbytes

    def read(self, rows: SampleIndex, kind: str, dtype: DTypeLike) -> tuple[Tensors, Tensors]:
        """Return copies of the samples; slices of one pixel grid are copied together."""
        if kind != "slices" or self._flat is None:
            return super().read(rows, kind, dtype)
        images, labels = self._flat
        positions = self._starts[rows.mouse] + rows.row * self._n_slices[rows.mouse] + rows.slice
        return _take(images, positions, dtype), _take(labels, positions, np.uint8)

    def _get_sample(self, kind: str, mouse: int, row: int, position: int) -> Arrays:
        return _select_sample(self.arrays[mouse], kind, row, position)


class MemmapStorage(PixelStorage):
    """Uncompressed files mapped into memory; each process opens them on first read."""

    def __init__(
        self, cohort: Cohort, selected: Sequence[NDArray[np.intp]], all_frames: bool, root: Path | None
    ) -> None:
        self.files = [make_frame_files(cohort, mouse, all_frames, root) for mouse in cohort.mice]
        # Positions of the selected frames in the files, which may hold more frames.
        self.positions = [np.searchsorted(f.frames, s) for f, s in zip(self.files, selected, strict=True)]
        self._arrays: dict[int, Arrays] = {}
        self._slices: dict[int, list[list[Arrays]]] = {}

    def _get_sample(self, kind: str, mouse: int, row: int, position: int) -> Arrays:
        if kind == "slices":
            return self._get_slices(mouse)[row][position]
        (image, label), frames = self._get_arrays(mouse), self.positions[mouse]
        key = frames if kind == "cines" else frames[row]
        return image[key], label[key]

    def _get_arrays(self, mouse: int) -> Arrays:
        if not self._arrays:
            # glibc returns freed blocks to the system, and gets them again page by page, above a threshold that grows
            # with the largest block ever freed: mallopt(3), M_MMAP_THRESHOLD. Freeing a large block makes it reuse the
            # memory of a finished batch for the next one. The block is never written to, so it uses no memory.
            np.empty(LARGEST_FREED_BYTES, np.uint8)
        if mouse not in self._arrays:
            self._arrays[mouse] = (self.files[mouse].image(), self.files[mouse].mask())
        return self._arrays[mouse]

    def _get_slices(self, mouse: int) -> list[list[Arrays]]:
        """Return views of every slice by selected frame, made once: a batch then takes a third of a millisecond."""
        if mouse not in self._slices:
            image, mask = self._get_arrays(mouse)
            self._slices[mouse] = [list(zip(image[f], mask[f], strict=True)) for f in self.positions[mouse]]
        return self._slices[mouse]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}, "_slices": {}}


class LazyStorage(PixelStorage):
    """Each sample is read from the cohort: the least disk space, and the slowest storage."""

    def __init__(self, cohort: Cohort, selected: Sequence[NDArray[np.intp]]) -> None:
        self.cohort, self.selected = cohort, list(selected)

    def _get_sample(self, kind: str, mouse: int, row: int, position: int) -> Arrays:
        ds = self.cohort[self.cohort.mice[mouse]]
        frames = self.selected[mouse] if kind == "cines" else self.selected[mouse][[row]]
        part = ds.isel(slice=[position]) if kind == "slices" else ds
        return _select_sample((part[IMAGE].isel(frame=frames).values, read_masks(part, frames)), kind, 0, 0)


def _select_sample(arrays: Arrays, kind: str, row: int, position: int) -> Arrays:
    """Return views of one sample of arrays (n, slice, y, x)."""
    key: Any = {"cines": slice(None), "stacks": row, "slices": (row, position)}[kind]
    return arrays[0][key], arrays[1][key]


def _gather(samples: Sequence[Arrays], dtype: DTypeLike) -> tuple[Tensors, Tensors]:
    shape = samples[0][0].shape
    if any(image.shape != shape for image, _ in samples):
        images = [torch.from_numpy(image.astype(dtype))[None] for image, _ in samples]
        return images, [torch.from_numpy(label.copy())[None] for _, label in samples]
    stacked, labels = np.empty((len(samples), 1, *shape), dtype), np.empty((len(samples), 1, *shape), np.uint8)
    for i, (image, label) in enumerate(samples):
        stacked[i, 0], labels[i, 0] = image, label
    return torch.from_numpy(stacked), torch.from_numpy(labels)


def _take(array: NDArray[Any], positions: NDArray[np.intp], dtype: DTypeLike) -> torch.Tensor:
    out = np.empty((positions.size, 1, *array.shape[1:]), dtype)
    if out.dtype == array.dtype:
        np.take(array, positions, axis=0, out=out[:, 0], mode="clip")
    else:  # np.take would cast in a second pass
        for target, position in zip(out[:, 0], positions.tolist(), strict=True):
            target[...] = array[position]
    return torch.from_numpy(out)
