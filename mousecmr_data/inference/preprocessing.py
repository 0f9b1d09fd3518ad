"""Min–max normalisation of slices, as the published network was trained on; defined only here."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def normalize_min_max(x: Tensor) -> Tensor:
    """Scale each slice to [0, 1] by its minimum and maximum; a flat slice becomes zeros."""
    low = x.amin((-2, -1), keepdim=True)
    span = x.amax((-2, -1), keepdim=True) - low
    return torch.where(span > 0, (x - low) / span.clamp_min(1e-12), torch.zeros_like(x))


def normalize_to_uint8(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale each slice (n, Y, X) to 0…255 by its minimum and maximum; a flat slice becomes zeros."""
    values = images.astype(np.float32)
    low = values.min((-2, -1), keepdims=True)
    span = values.max((-2, -1), keepdims=True) - low
    return np.asarray(np.rint((values - low) * (255.0 / np.where(span > 0, span, 1.0))), np.uint8)
