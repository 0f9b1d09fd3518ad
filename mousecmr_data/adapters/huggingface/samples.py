"""Read samples as NumPy arrays directly from the Arrow buffers.

``with_format("torch")`` decodes each image with Pillow and converts integers to int64. Here the pixels are copied
once, from the mapped file, and keep their type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mousecmr_data.adapters.huggingface.features import decode_nifti, decode_tiff
from mousecmr_data.dataset.memmap import UNLABELLED
from mousecmr_data.errors import ArgumentError
from mousecmr_data.schema.variables import IMAGE, MASK

Sample = dict[str, Any]
Views = tuple[NDArray[Any], NDArray[Any] | None]


class NumpySamples(Sequence[Sample]):
    """The rows of a ``datasets.Dataset`` as NumPy samples; made by :func:`numpy_samples`. Can be pickled."""

    def __init__(self, data: datasets.Dataset) -> None:
        check_table(data)
        pixels = [name for name in (IMAGE, MASK) if name in data.column_names]
        self._pixels = data.select_columns(pixels).with_format("arrow")
        rest = data.remove_columns(pixels).with_format(None)
        self._metadata: dict[str, list[Any]] = {name: list(rest[name]) for name in rest.column_names}

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.__getitems__(range(*i.indices(len(self))))
        return self.__getitems__([range(len(self))[i]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return the samples at ``indices``, read together."""
        return [
            {IMAGE: image.copy(), MASK: fill_unlabelled(image, mask), **self.get_metadata(i)}
            for (image, mask), i in zip(self.view_pixels(indices), indices, strict=True)
        ]

    def view_pixels(self, indices: Sequence[int]) -> list[Views]:
        """Return views of the image and mask of the rows at ``indices``, without copying."""
        table = self._pixels[[int(i) for i in indices]]
        masks = read_buffers(table, MASK) or [None] * len(table)
        return [decode_row(image, mask) for image, mask in zip(read_buffers(table, IMAGE), masks, strict=True)]

    def get_metadata(self, i: int) -> Sample:
        """Return the columns of row ``i`` other than the pixels."""
        return {name: values[int(i)] for name, values in self._metadata.items()}


class NumpyStream:
    """The rows of a ``datasets.IterableDataset`` as NumPy samples, in its order."""

    def __init__(self, data: datasets.IterableDataset) -> None:
        check_table(data)
        self._data = data.decode(False)

    def __iter__(self) -> Iterator[Sample]:
        for row in self._data:
            image, mask = decode_row(*(None if v is None else v["bytes"] for v in (row[IMAGE], row.get(MASK))))
            yield {**row, IMAGE: image.copy(), MASK: fill_unlabelled(image, mask)}


def numpy_samples(data: datasets.Dataset | datasets.IterableDataset) -> NumpySamples | NumpyStream:
    """Return the samples of a table of :func:`mousecmr_data.adapters.huggingface.dataset`, or of ``load_dataset``.

    A sample is a dictionary: ``image`` uint16, ``mask`` uint8 and the other columns unchanged. Slices have
    (y, x), with a mask of 255 in frames that were not segmented; cines have ``image`` (frame, slice, y, x) and
    ``mask`` (labelled frame, slice, y, x). The table may be shuffled, selected or sharded.
    """
    return NumpyStream(data) if isinstance(data, datasets.IterableDataset) else NumpySamples(data)


def decode_row(image: Any, mask: Any) -> Views:
    """Return read-only image and mask from the bytes (or buffers) of a row; None if the row has no mask."""
    if image is None:
        raise ArgumentError("A row has no image.", "a table made by adapters.huggingface.dataset")
    if bytes(memoryview(image)[344:347]) == b"n+1":  # the magic of NIfTI
        cine = decode_nifti(image)
        return cine, np.zeros((0, *cine.shape[1:]), np.uint8) if mask is None else decode_nifti(mask)
    return decode_tiff(image), None if mask is None else decode_tiff(mask)


def fill_unlabelled(image: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Return a copy of the mask; all 255 if there is none."""
    return np.full(image.shape, UNLABELLED, np.uint8) if mask is None else mask.copy()


def read_buffers(table: pa.Table, name: str) -> list[pa.Buffer | None]:
    """Return the bytes of a column of images without copying; None where there is no image."""
    if name not in table.column_names:
        return []
    buffers: list[pa.Buffer | None] = []
    for chunk in table.column(name).chunks:
        # A row without an image is null itself; its field "bytes" does not show that.
        valid = [True] * len(chunk) if chunk.null_count == 0 else chunk.is_valid().to_pylist()
        buffers += [scalar.as_buffer() if ok else None for ok, scalar in zip(valid, chunk.field("bytes"), strict=True)]
    return buffers


def check_table(data: Any) -> None:
    """Raise ArgumentError if ``data`` is not a table with images."""
    if not isinstance(data, datasets.Dataset | datasets.IterableDataset) or IMAGE not in (data.features or {}):
        raise ArgumentError(
            f"{type(data).__name__} has no column {IMAGE!r}.",
            "a Dataset or IterableDataset made by adapters.huggingface.dataset or load_dataset",
            "for a DatasetDict, select a split: data['train']",
        )
