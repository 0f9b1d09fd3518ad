"""The labelled slices of a cohort, on the training grid."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from mousecmr_data.adapters.torch import dataset
from mousecmr_data.baseline.grid import training_grid
from mousecmr_data.baseline.slices import Slices, eight_bits
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.schema.labels import Label


def gathered(cohort: Cohort) -> Slices:
    """Every 2D slice of every labelled frame of ``cohort``, resampled where its pixels are not 0.1 mm."""
    samples = dataset(cohort, "slices", frames="labelled", mode="memory")
    grid = training_grid()
    images, labels = [], []
    for number in range(len(samples)):
        sample = samples[number]
        dy, dx = (float(v) for v in sample["spacing"][-2:])
        image, label = sample["image"][None].float(), sample["label"][0].long()
        if not grid.is_native(image.shape[-2:], (dy, dx)):
            shares = F.one_hot(label, len(Label)).movedim(-1, 0)[None].float()
            image, label = grid.from_native(image, (dy, dx)), grid.from_native(shares, (dy, dx)).argmax(1)[0]
        images.append(eight_bits(image[0].numpy()))
        labels.append(label.to(torch.uint8).numpy())
    return Slices(np.concatenate(images), np.stack(labels))
