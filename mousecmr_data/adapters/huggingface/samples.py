"""Samples as arrays or tensors of the right type, straight from the Arrow buffers.

``with_format("torch")`` decodes each image with Pillow and turns integers into int64. Here the pixels are
copied once, from where the file is mapped.
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
    """The rows of a ``datasets.Dataset`` as NumPy samples; made by :func:`numpy_samples`. Pickles."""

    def __init__(self, data: datasets.Dataset) -> None:
        check_table(data)
        pixel = [name for name in (IMAGE, MASK) if name in data.column_names]
        self._pixels = data.select_columns(pixel).with_format("arrow")
        rest = data.remove_columns(pixel).with_format(None)
        self._metadata: dict[str, list[Any]] = {name: list(rest[name]) for name in rest.column_names}

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.__getitems__(range(*i.indices(len(self))))
        return self.__getitems__([range(len(self))[i]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples at ``indices`` in one go."""
        found = zip(self.views(indices), indices, strict=True)
        return [
            {IMAGE: image.copy(), MASK: fill_unlabelled(image, mask), **self.metadata(i)} for (image, mask), i in found
        ]

    def views(self, indices: Sequence[int]) -> list[Views]:
        """The pixels of the rows at ``indices``, where they lie."""
        table = self._pixels[[int(i) for i in indices]]
        masks = read_buffers(table, MASK) or [None] * len(table)
        return [decode_row(image, mask) for image, mask in zip(read_buffers(table, IMAGE), masks, strict=True)]

    def metadata(self, i: int) -> Sample:
        """The columns beside the pixels."""
        return {name: values[int(i)] for name, values in self._metadata.items()}


class NumpyStream:
    """The rows of a ``datasets.IterableDataset`` as NumPy samples, in its order."""

    def __init__(self, data: datasets.IterableDataset) -> None:
        check_table(data)
        self._data = data.decode(False)

    def __iter__(self) -> Iterator[Sample]:
        for row in self._data:
            image, mask = decode_row(_get_bytes(row[IMAGE]), _get_bytes(row.get(MASK)))
            yield {**row, IMAGE: image.copy(), MASK: fill_unlabelled(image, mask)}


def numpy_samples(data: datasets.Dataset | datasets.IterableDataset) -> NumpySamples | NumpyStream:
    """Samples of a table made by :func:`dataset`, or of a published one opened with ``load_dataset``.

    A sample is a dictionary: ``image`` uint16, ``mask`` uint8 and the other columns as they are. Slices have
    (y, x), with a mask of 255 where nobody segmented; cines have ``image`` (frame, slice, y, x) and ``mask``
    (labelled frame, slice, y, x). Samples that were shuffled, selected or sharded stay so.
    """
    return NumpyStream(data) if isinstance(data, datasets.IterableDataset) else NumpySamples(data)


def decode_row(image: Any, mask: Any) -> Views:
    """Image and mask in the bytes (or buffers) of a row, not to be written to; None where nobody segmented."""
    if image is None:
        raise ArgumentError("A row has no image.", "a table made by adapters.huggingface.dataset")
    if bytes(memoryview(image)[344:347]) == b"n+1":  # the magic of NIfTI
        cine = decode_nifti(image)
        none = np.zeros((0, *cine.shape[1:]), np.uint8)
        return cine, none if mask is None else decode_nifti(mask)
    return decode_tiff(image), None if mask is None else decode_tiff(mask)


def fill_unlabelled(image: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """The mask as an array of its own; 255 where nobody segmented."""
    return np.full(image.shape, UNLABELLED, np.uint8) if mask is None else mask.copy()


def _get_bytes(value: dict[str, Any] | None) -> bytes | None:
    return None if value is None else value["bytes"]


def read_buffers(table: pa.Table, name: str) -> list[pa.Buffer | None]:
    """The bytes of a column of images, not copied; None where there is no image."""
    if name not in table.column_names:
        return []
    found: list[pa.Buffer | None] = []
    for chunk in table.column(name).chunks:
        # Where the row has no image at all, the field beside it says nothing of that.
        present = [True] * len(chunk) if chunk.null_count == 0 else chunk.is_valid().to_pylist()
        scalars = zip(present, chunk.field("bytes"), strict=True)
        found += [scalar.as_buffer() if there else None for there, scalar in scalars]
    return found


def check_table(data: Any) -> None:
    """ArgumentError if ``data`` is no table with images."""
    if not isinstance(data, datasets.Dataset | datasets.IterableDataset) or IMAGE not in (data.features or {}):
        raise ArgumentError(
            f"{type(data).__name__} has no column {IMAGE!r}.",
            "a Dataset or IterableDataset made by adapters.huggingface.dataset or load_dataset",
            "for a DatasetDict, take a split: data['train']",
        )
