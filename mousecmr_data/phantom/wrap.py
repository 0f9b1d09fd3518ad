"""The body is larger than the field: along phase encoding, what lies beyond one side wraps to the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Grid
from mousecmr_data.phantom.plan import Plan

Floats = NDArray[np.float32]
Complexes = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Fold:
    """How the drawn field's pixels fall on the stored image: what lies beyond one end wraps to the other."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    row_weight: Floats
    column_weight: Floats
    shape: tuple[int, int]

    def add(self, image: Complexes, drawn: Complexes, rows: slice, columns: slice) -> None:
        """Add a rectangle of the drawn field, (..., rows, columns), to stored images in place."""
        weighted = drawn * (self.row_weight[rows, None] * self.column_weight[None, columns])
        # A rectangle may hold both a pixel and one that wraps onto it: add the three bands one by one.
        for row_band in _bands(self.rows[rows]):
            for column_band in _bands(self.columns[columns]):
                target = (..., _span(self.rows[rows][row_band]), _span(self.columns[columns][column_band]))
                image[target] += weighted[..., row_band, column_band]


def _bands(index: NDArray[np.intp]) -> list[slice]:
    """The stretches over which an index counts up by one."""
    cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
    return [slice(a, b) for a, b in pairwise(cuts) if b > a]


def _span(index: NDArray[np.intp]) -> slice:
    return slice(int(index[0]), int(index[-1]) + 1)


def make_fold(plan: Plan, grid: Grid) -> Fold:
    """The wrap of a plan's field."""
    indices, weights = [], []
    for size, stored, pad in zip(grid.x.shape, plan.shape_yx, grid.pad, strict=True):
        at = np.arange(size) - pad
        indices.append(at % stored)
        beyond = (at < 0) | (at >= stored)
        weights.append(np.where(beyond, plan.acquisition.wrap, 1.0).astype(np.float32))
    return Fold(indices[0], indices[1], weights[0], weights[1], plan.shape_yx)
