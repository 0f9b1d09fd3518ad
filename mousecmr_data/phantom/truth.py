"""The truth without the images: the ventricle fitted to its planned volumes, and its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.cavity import cavity, labels_of, trabeculae
from mousecmr_data.phantom.grid import Grid, make_grid, slice_depths
from mousecmr_data.phantom.physiology import DENSITY_MG_PER_UL
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import Ventricle, solve
from mousecmr_data.phantom.view import polar, window

Floats = NDArray[np.float32]


def calibrated(plan: Plan, grid: Grid) -> Ventricle:
    """The ventricle whose truth has the planned volumes at ED and ES (within about 2 %)."""
    pattern = trabeculae(plan)
    volume = float(np.prod(plan.voxel_size_mm))
    function = plan.function
    aims = np.array(
        [
            [function.edv_ul, function.esv_ul],
            [function.mass_ed_mg / DENSITY_MG_PER_UL, function.mass_es_mg / DENSITY_MG_PER_UL],
        ]
    )
    factors = np.array([[1.12, 1.2], [0.95, 0.95]])
    for _ in range(3):
        ventricle = solve(plan, _pair(factors[0]), _pair(factors[1]))
        got = np.zeros((2, 2))
        for column, frame in enumerate((plan.ed_frame, plan.es_frame)):
            labels = counted(plan, ventricle, grid, pattern, frame)
            got[:, column] = labels[2] * volume, labels[1] * volume
        factors *= np.clip(aims / np.maximum(got, 1e-3), 0.6, 1.6)
    return solve(plan, _pair(factors[0]), _pair(factors[1]))


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def counted(plan: Plan, ventricle: Ventricle, grid: Grid, pattern: Floats, frame: int) -> NDArray[np.intp]:
    """Drawn pixels of each label in one frame, (3,)."""
    total = np.zeros(3, np.intp)
    for _, _, _, labels in _labelled(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
        total += np.bincount(labels.ravel(), minlength=3)[:3]
    return total


def truth(plan: Plan, frames: Sequence[int]) -> NDArray[np.uint8]:
    """The labels :func:`~mousecmr_data.phantom.rendering.render` gives these frames, without rendering images.

    Returns uint8 (len(frames), slices, rows, columns).
    """
    grid = make_grid(plan)
    ventricle = calibrated(plan, grid)
    pattern = trabeculae(plan)
    out = np.zeros((len(frames), plan.n_slices, *grid.x.shape), np.uint8)
    for k, frame in enumerate(frames):
        for index, rows, columns, labels in _labelled(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
            out[k, index, rows, columns] = labels[0]
    (top, left), (rows_, columns_) = grid.pad, plan.shape_yx
    return out[:, :, top : top + rows_, left : left + columns_]


def _labelled(
    plan: Plan, ventricle: Ventricle, grid: Grid, pattern: Floats, frames: slice
) -> Iterator[tuple[int, slice, slice, NDArray[np.uint8]]]:
    """Slice index, rows, columns and labels (frames, rows, columns) of each slice that meets the ventricle."""
    for index, depth in enumerate(slice_depths(plan).tolist()):
        if not ventricle.base[frames].min() < depth < ventricle.apex:
            continue
        inner, outer = (part.astype(np.float32) for part in ventricle.radii(depth, frames))
        reach = float(outer.max()) + max(map(abs, plan.function.sway_mm)) + 3.0 * max(grid.pixel_mm)
        view = window(plan, grid, depth, reach)
        at = polar(plan, ventricle, view, frames)
        into = cavity(plan, ventricle, at, inner, pattern[index], depth, frames)
        yield index, view.rows, view.columns, labels_of(ventricle, at, into, outer, depth, frames)
