"""Normalise images and resample them to the grid that networks are trained on; resample class maps back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.labels import FOREGROUND
from mousecmr_data.schema.manifest import load_manifest

SIZE_STEP = 32
"""Image sizes that the networks accept are multiples of this."""


def normalize_min_max(x: Tensor) -> Tensor:
    """Scale each slice to [0, 1] by its minimum and maximum; a flat slice becomes zeros."""
    low = x.amin((-2, -1), keepdim=True)
    span = x.amax((-2, -1), keepdim=True) - low
    return torch.where(span > 0, (x - low) / span.clamp_min(1e-12), x.new_zeros(()))


Scaling = Literal["min-max", "min-p99"]
SCALINGS: Mapping[str, float] = {"min-max": 1.0, "min-p99": 0.99}
"""Ways to scale the grey values of a slice to [0, 1], and the quantile that becomes 1; larger values are clipped."""


def normalize(x: Tensor, scaling: str = "min-max") -> Tensor:
    """Scale each slice to [0, 1] as :data:`SCALINGS` says; a flat slice becomes zeros."""
    if scaling not in SCALINGS:
        raise UnknownNameError.from_name("scaling", scaling, SCALINGS)
    if scaling == "min-max":
        return normalize_min_max(x)
    values = x.flatten(-2)
    top = values.kthvalue(max(1, round(SCALINGS[scaling] * values.shape[-1])), -1).values[..., None, None]
    return normalize_min_max(torch.minimum(x, top))


def list_neighbours(n_slices: int, context: int) -> NDArray[np.intp]:
    """Return the numbers of the slices that a network sees for each slice of a stack, (slices, 1 + 2 · context).

    At the ends of the stack, the slices are mirrored: beyond the last one comes the last but one. (A repeated slice
    looks like the end of the ventricle: in a stack of its middle, the slices at the ends were then lost.)
    """
    last = n_slices - 1
    around = np.abs(np.arange(n_slices)[:, None] + np.arange(-context, context + 1))
    return np.asarray((last - np.abs(last - around)).clip(0, last), np.intp)


def normalize_to_uint8(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale each slice (n, Y, X) to 0…255 by its minimum and maximum; a flat slice becomes zeros."""
    values = images.astype(np.float32)
    low = values.min((-2, -1), keepdims=True)
    span = values.max((-2, -1), keepdims=True) - low
    return np.asarray(np.rint((values - low) * (255.0 / np.where(span > 0, span, 1.0))), np.uint8)


def argmax_labels(maps: Tensor) -> Tensor:
    """Return labels uint8 (n, y, x): the class of the largest of ``maps`` (n, classes, y, x), the first one if equal.

    Same as ``argmax(1)``, which along an axis other than the last takes PyTorch 15 times as long on a processor
    (68 against 4 ms for nine slices of 256 × 256).
    """
    return maps.max(1).indices.to(torch.uint8)


EMPTY_PIXELS = 25.0
"""Number of pixels that is added to both sides of the ratio, so that a slice without a trace of a class gets 1."""


def estimate_dice(maps: Tensor, labels: Tensor) -> Tensor:
    """Return the Dice (n,) that ``labels`` (n, y, x) are expected to have if ``maps`` (n, classes, y, x) are the true
    probabilities: the mean of myocardium and blood pool.
    """
    ratios = []
    for label in FOREGROUND:
        chosen, p = (labels == label).to(maps.dtype), maps[:, label]
        common = (p * chosen).sum((1, 2))
        ratios.append((2.0 * common + EMPTY_PIXELS) / (p.sum((1, 2)) + chosen.sum((1, 2)) + EMPTY_PIXELS))
    return torch.stack(ratios).mean(0)


@dataclass(frozen=True)
class PixelGrid:
    """A grid of ``shape_yx`` square pixels of ``spacing_mm``, centred on the image's middle."""

    shape_yx: tuple[int, int]
    spacing_mm: float

    def from_native(self, x: Tensor, spacing_yx: tuple[float, float]) -> Tensor:
        """Resample images (N, C, y, x) of pixels ``spacing_yx`` mm to this grid: linear, smoothed if it is coarser.

        Beyond the image's field each slice continues with its minimum.
        """
        if self.is_native(x.shape[-2:], spacing_yx):
            return x
        low = x.amin((-2, -1), keepdim=True)
        rows, columns = (
            make_resampling_matrix(x.shape[k - 2], spacing_yx[k], self.shape_yx[k], self.spacing_mm).to(x)
            for k in (0, 1)
        )
        return rows @ (x - low) @ columns.T + low

    def to_native(self, p: Tensor, shape_yx: tuple[int, int], spacing_yx: tuple[float, float]) -> Tensor:
        """Resample maps (N, C, Y, X) on this grid at the native pixels' centres: (N, C, y, x)."""
        if self.is_native(shape_yx, spacing_yx):
            return p
        rows, columns = (
            make_resampling_matrix(self.shape_yx[k], self.spacing_mm, shape_yx[k], spacing_yx[k]).to(p) for k in (0, 1)
        )
        return rows @ p @ columns.T

    def is_native(self, shape_yx: tuple[int, ...], spacing_yx: tuple[float, float]) -> bool:
        """Return whether an image already lies on this grid."""
        same = all(abs(s - self.spacing_mm) < 1e-6 * self.spacing_mm for s in spacing_yx)
        return same and tuple(shape_yx) == self.shape_yx


def make_training_grid(shape_yx: tuple[int, int] = (0, 0), spacing_yx: tuple[float, float] = (0.1, 0.1)) -> PixelGrid:
    """Return the grid that networks are trained on: 256 × 256 pixels of 0.1 mm (the dataset's own).

    For an image with a larger field, the size grows in steps of 32 pixels until it covers the field.
    """
    manifest = load_manifest()
    spacing = float(manifest.acquisition["pixel_spacing"].value[0])
    smallest = (manifest.stack.rows, manifest.stack.columns) if manifest.stack else (256, 256)
    rows, columns = (
        max(n, SIZE_STEP * -int(-(size * mm / spacing - 1e-6) // SIZE_STEP))
        for n, size, mm in zip(smallest, shape_yx, spacing_yx, strict=True)
    )
    return PixelGrid((rows, columns), spacing)


@lru_cache(maxsize=64)
def make_resampling_matrix(n_from: int, mm_from: float, n_to: int, mm_to: float) -> Tensor:
    """Make the matrix (n_to, n_from) of a linear interpolation between two centred rows of pixels.

    If the target is coarser, the triangle is as wide as its pixel (no aliasing). Targets beyond the
    source's field get zero, those in its outermost half pixel the nearest value.
    """
    position = ((torch.arange(n_to, dtype=torch.float64) - (n_to - 1) / 2) * mm_to) / mm_from + (n_from - 1) / 2
    inside = (position > -0.5 - 1e-9) & (position < n_from - 0.5 + 1e-9)
    width = max(1.0, mm_to / mm_from)
    position = position.clamp(0, n_from - 1)
    distance = (position[:, None] - torch.arange(n_from, dtype=torch.float64)[None, :]).abs()
    weights = (1.0 - distance / width).clamp_min(0.0)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.where(inside[:, None], weights, torch.zeros_like(weights)).float()
