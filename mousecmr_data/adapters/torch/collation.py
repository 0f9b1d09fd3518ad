"""Samples into batches, ragged ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from mousecmr_data.adapters.torch.batch import Batch


def collate(samples: Sequence[Any]) -> dict[str, Any]:
    """One dictionary of a batch's samples, for ``DataLoader(collate_fn=collate)``.

    What has one shape is stacked to (n, ...). Images and labels of different shapes (stacks of different
    mice have different numbers of slices) stay lists of tensors: nothing is padded or cropped unasked.
    """
    if isinstance(samples, Batch):
        return samples.collated()
    out: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        ragged = isinstance(values[0], torch.Tensor) and len({v.shape for v in values}) > 1
        out[key] = values if ragged else default_collate(values)
    return out
