"""Batches: drawn with replacement and augmented, each from its own seed, so that any can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from mousecmr_data.baseline.config import Config
from mousecmr_data.baseline.randomisation import normalised, randomised
from mousecmr_data.baseline.slices import Slices

Batch = tuple[Tensor, Tensor]
"""Images float32 (N, 1, Y, X) in [0, 1] and labels int64 (N, Y, X)."""


def batch(slices: Slices, config: Config, epoch: int, step: int, replica: int = 0) -> Batch:
    """The part of replica ``replica`` of the batch of a step: the same for the same arguments."""
    seed = [config.seed, epoch, step, replica]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(slices), size=config.batch_size // config.replicas)
    image, label = torch.from_numpy(slices.image[chosen]), torch.from_numpy(slices.label[chosen])  # copies
    if config.augmentation == "randomised":
        g = torch.Generator().manual_seed(int(rng.integers(2**62)))
        made = randomised(image, label, g, reduce=config.reduce)
    elif config.augmentation == "none":
        made = plain(image, label)
    else:
        from mousecmr_data.baseline.augmentation import augmented

        made = augmented(image, label, int(rng.integers(2**31)), config.augmentation)
    return _cropped(made, config.crop, rng) if config.crop else made


def _cropped(made: Batch, side: int, rng: np.random.Generator) -> Batch:
    """The same random square of a batch's slices."""
    x, y = made
    top, left = (int(rng.integers(size - side + 1)) for size in y.shape[1:])
    return x[..., top : top + side, left : left + side], y[:, top : top + side, left : left + side]


def plain(image: Tensor, label: Tensor) -> Batch:
    """Slices as they are, min–max normalised."""
    return normalised(image[:, None].float()), label.long()


def epoch_batches(slices: Slices, config: Config, epoch: int, steps: int, replicas: list[int]) -> Iterator[list[Batch]]:
    """Each step's batches, one a replica; the next is made by a second thread in the meantime."""
    with ThreadPoolExecutor(1) as maker:

        def start(step: int) -> list[Batch]:
            return [batch(slices, config, epoch, step, r) for r in replicas]

        coming = maker.submit(start, 0)
        for step in range(steps):
            ready = coming.result()
            if step + 1 < steps:
                coming = maker.submit(start, step + 1)
            yield ready


def validation_batches(slices: Slices, size: int) -> Iterator[Batch]:
    """All slices once, in order, not augmented."""
    for start in range(0, len(slices), size):
        part = slice(start, start + size)
        yield plain(torch.tensor(slices.image[part]), torch.tensor(slices.label[part]))
