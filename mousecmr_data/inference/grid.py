"""Normalise images and resample them to the grid that networks are trained on; resample class maps back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.labels import FOREGROUND
from mousecmr_data.schema.manifest import load_manifest

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = "NDArray[Any] | Tensor"
AnyArray = TypeVar("AnyArray", bound=Array)
"""Arrays of NumPy, or tensors of PyTorch on any device: results are of the same kind."""
SIZE_STEP = 32
"""Image sizes that the networks accept are multiples of this."""


def _get_library(x: Array) -> Any:
    """Return the module with the functions for ``x``; those used here have the same names and arguments in both."""
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]


def to_numpy(x: Array) -> NDArray[Any]:
    """Return a tensor as an array."""
    return x if isinstance(x, np.ndarray) else x.cpu().numpy()


def normalize_min_max(x: AnyArray) -> AnyArray:
    """Scale each slice to [0, 1] by its minimum and maximum; a flat slice becomes zeros."""
    library = _get_library(x)
    low = library.amin(x, axis=(-2, -1), keepdims=True)
    span = library.amax(x, axis=(-2, -1), keepdims=True) - low
    return library.where(span > 0, (x - low) / library.where(span > 0, span, 1.0), 0.0)  # type: ignore[no-any-return]


Scaling = Literal["min-max", "min-p99"]
SCALINGS: Mapping[str, float] = {"min-max": 1.0, "min-p99": 0.99}
"""Ways to scale the grey values of a slice to [0, 1], and the quantile that becomes 1; larger values are clipped."""


def normalize(x: AnyArray, scaling: str = "min-max") -> AnyArray:
    """Scale each slice to [0, 1] as :data:`SCALINGS` says; a flat slice becomes zeros."""
    if scaling not in SCALINGS:
        raise UnknownNameError.from_name("scaling", scaling, SCALINGS)
    if scaling == "min-max":
        return normalize_min_max(x)
    values = x.reshape(*x.shape[:-2], -1)
    k = max(1, round(SCALINGS[scaling] * values.shape[-1]))
    top: Any = np.partition(values, k - 1)[..., k - 1] if isinstance(values, np.ndarray) else values.kthvalue(k).values
    clipped: AnyArray = _get_library(x).minimum(x, top[..., None, None])
    return normalize_min_max(clipped)


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


def compute_softmax(logits: AnyArray) -> AnyArray:
    """Return the probabilities of logits (n, classes, y, x)."""
    library = _get_library(logits)
    powers = library.exp(logits - library.amax(logits, axis=1, keepdims=True))
    return powers / library.sum(powers, axis=1, keepdims=True)  # type: ignore[no-any-return]


def argmax_labels(maps: Array) -> Any:
    """Return labels uint8 (n, y, x): the class of the largest of ``maps`` (n, classes, y, x), the first one if equal.

    Same as ``argmax(1)``, which along an axis other than the last takes both libraries much longer.
    """
    library = _get_library(maps)
    best, labels = maps[:, 0], library.zeros_like(maps[:, 0], dtype=library.uint8)
    for k in range(1, maps.shape[1]):
        labels = library.where(maps[:, k] > best, k, labels)
        best = library.maximum(best, maps[:, k])
    return labels


EMPTY_PIXELS = 25.0
"""Number of pixels that is added to both sides of the ratio, so that a slice without a trace of a class gets 1."""


def estimate_dice(maps: AnyArray, labels: Array) -> AnyArray:
    """Return the Dice (n,) that ``labels`` (n, y, x) are expected to have if ``maps`` (n, classes, y, x) are the true
    probabilities: the mean of myocardium and blood pool.
    """
    total: Any = 0.0
    for label in FOREGROUND:
        chosen, p = labels == int(label), maps[:, int(label)]
        common, sizes = (p * chosen).sum((1, 2)), p.sum((1, 2)) + chosen.sum((1, 2))
        total = total + (2.0 * common + EMPTY_PIXELS) / (sizes + EMPTY_PIXELS)
    return total / len(FOREGROUND)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PixelGrid:
    """A grid of ``shape_yx`` square pixels of ``spacing_mm``, centred on the image's middle."""

    shape_yx: tuple[int, int]
    spacing_mm: float

    def from_native(self, x: AnyArray, spacing_yx: tuple[float, float]) -> AnyArray:
        """Resample images (N, C, y, x) of pixels ``spacing_yx`` mm to this grid: linear, smoothed if it is coarser.

        Beyond the image's field each slice continues with its minimum.
        """
        if self.is_native(x.shape[-2:], spacing_yx):
            return x
        low = _get_library(x).amin(x, axis=(-2, -1), keepdims=True)
        rows, columns = (
            make_resampling_matrix(x.shape[k - 2], spacing_yx[k], self.shape_yx[k], self.spacing_mm) for k in (0, 1)
        )
        return _multiply(rows, x - low, columns) + low  # type: ignore[no-any-return]

    def to_native(self, p: AnyArray, shape_yx: tuple[int, int], spacing_yx: tuple[float, float]) -> AnyArray:
        """Resample maps (N, C, Y, X) on this grid at the native pixels' centres: (N, C, y, x)."""
        if self.is_native(shape_yx, spacing_yx):
            return p
        rows, columns = (
            make_resampling_matrix(self.shape_yx[k], self.spacing_mm, shape_yx[k], spacing_yx[k]) for k in (0, 1)
        )
        return _multiply(rows, p, columns)

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


def _multiply(rows: NDArray[np.float32], x: AnyArray, columns: NDArray[np.float32]) -> AnyArray:
    """Apply matrices to the last two axes of float maps."""
    matrices: Any = (rows, columns) if isinstance(x, np.ndarray) else (x.new_tensor(rows), x.new_tensor(columns))
    return matrices[0] @ x @ matrices[1].T  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def make_resampling_matrix(n_from: int, mm_from: float, n_to: int, mm_to: float) -> NDArray[np.float32]:
    """Make the matrix (n_to, n_from) of a linear interpolation between two centred rows of pixels.

    If the target is coarser, the triangle is as wide as its pixel (no aliasing). Targets beyond the
    source's field get zero, those in its outermost half pixel the nearest value.
    """
    position = ((np.arange(n_to) - (n_to - 1) / 2) * mm_to) / mm_from + (n_from - 1) / 2
    inside = (position > -0.5 - 1e-9) & (position < n_from - 0.5 + 1e-9)
    width = max(1.0, mm_to / mm_from)
    distance = np.abs(position.clip(0, n_from - 1)[:, None] - np.arange(n_from))
    weights = (1.0 - distance / width).clip(0.0)
    return np.asarray(weights / weights.sum(1, keepdims=True) * inside[:, None], np.float32)
