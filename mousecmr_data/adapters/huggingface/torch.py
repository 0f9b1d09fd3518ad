"""Read samples of Hugging Face datasets as PyTorch datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np

from mousecmr_data.adapters.huggingface.samples import NumpySamples, NumpyStream, Sample, numpy_samples
from mousecmr_data.dataset.memmap import UNLABELLED
from mousecmr_data.errors import ArgumentError, MissingExtraError
from mousecmr_data.schema.variables import IMAGE, MASK

try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, default_collate
except ImportError as e:
    raise MissingExtraError.from_module("torch", "torch") from e

_NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint16: np.uint16,
}
"""The types that can represent every value of an image."""


class Batch(list[Sample]):
    """Samples whose images are views of one tensor, and whose masks are views of another."""

    def __init__(self, samples: Sequence[Sample], images: torch.Tensor, masks: torch.Tensor) -> None:
        super().__init__(samples)
        self.images, self.masks = images, masks


class TorchSamples(Dataset[Sample]):
    """A map-style dataset that reads the samples of a batch together."""

    def __init__(self, source: NumpySamples, dtype: torch.dtype) -> None:
        self.source, self.dtype = source, dtype

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        return self.__getitems__([range(len(self))[i]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return the samples at ``indices``; pixels are copied once, into the tensors of the batch."""
        views = self.source.view_pixels(indices)
        shapes = {image.shape for image, _ in views}
        if len(shapes) > 1 or len(next(iter(shapes))) != 2:  # cines
            return [to_tensors(sample, self.dtype) for sample in self.source.__getitems__(indices)]
        images = np.empty((len(views), 1, *shapes.pop()), _NUMPY[self.dtype])
        masks = np.empty(images.shape, np.uint8)
        for i, (image, mask) in enumerate(views):
            images[i, 0], masks[i, 0] = image, UNLABELLED if mask is None else mask
        tensors = torch.from_numpy(images), torch.from_numpy(masks)
        samples = [
            {IMAGE: image, MASK: mask, **_convert_metadata(self.source.get_metadata(i))}
            for image, mask, i in zip(*tensors, indices, strict=True)
        ]
        return Batch(samples, *tensors)


class TorchStream(IterableDataset[Sample]):
    """An iterable dataset; ``datasets`` distributes its shards among the workers."""

    def __init__(self, source: NumpyStream, dtype: torch.dtype) -> None:
        self.source, self.dtype = source, dtype

    def __iter__(self) -> Iterator[Sample]:
        return (to_tensors(sample, self.dtype) for sample in self.source)


def torch_samples(
    data: datasets.Dataset | datasets.IterableDataset, dtype: torch.dtype | None = None
) -> TorchSamples | TorchStream:
    """Return the samples of :func:`numpy_samples` as a PyTorch dataset for a ``DataLoader``: tensors (1, y, x).

    ``dtype`` of the images: float32 by default, since PyTorch supports few operations on uint16 (no maximum, no
    sorting); ``torch.uint16`` keeps it. Masks are uint8, ``spacing`` is a tensor. A stream becomes a
    ``torch.utils.data.IterableDataset``.
    """
    dtype = dtype or torch.float32
    if dtype not in _NUMPY:
        raise ArgumentError(f"dtype={dtype}.", f"one of {', '.join(map(str, _NUMPY))}", "torch_samples(data)")
    source = numpy_samples(data)
    return TorchSamples(source, dtype) if isinstance(source, NumpySamples) else TorchStream(source, dtype)


def to_tensors(sample: Sample, dtype: torch.dtype) -> Sample:
    """Return the sample with tensors that have a channel axis in front."""
    return {
        IMAGE: torch.from_numpy(sample[IMAGE].astype(_NUMPY[dtype], copy=False))[None],
        MASK: torch.from_numpy(sample[MASK])[None],
        **_convert_metadata({name: value for name, value in sample.items() if name not in (IMAGE, MASK)}),
    }


def collate(samples: Sequence[Any]) -> Sample:
    """Return one dictionary of a batch's samples, for ``DataLoader(collate_fn=collate)``.

    This is faster than the default, which copies each batch once more. Cines of different sizes stay lists.
    """
    out: Sample = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        first = values[0]
        if isinstance(samples, Batch) and name in (IMAGE, MASK):
            out[name] = samples.images if name == IMAGE else samples.masks
        elif isinstance(first, list) or (isinstance(first, torch.Tensor) and len({v.shape for v in values}) > 1):
            out[name] = values
        else:
            out[name] = default_collate(values)
    return out


def _convert_metadata(metadata: Sample) -> Sample:
    return {**metadata, "spacing": torch.from_numpy(np.array(metadata["spacing"]))}
