"""The square of the field that holds the heart, and the LV's own coordinates in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Grid, heart_centre
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import ANGLES, Ventricle

Floats = NDArray[np.float32]

REACH_MM = 6.4
"""Half the side of the square around the LV in which the heart is drawn."""


@dataclass(frozen=True, slots=True)
class Window:
    """The square of the drawn field that holds the heart in one slice."""

    rows: slice
    columns: slice
    x: Floats
    """Body-frame mm from the LV centre, (rows, columns)."""
    y: Floats


def window(plan: Plan, grid: Grid, depth: float, reach_mm: float = REACH_MM) -> Window:
    """The square around the LV centre at a depth, cut to the drawn field."""
    centre = heart_centre(plan, depth)
    row, column = grid.to_pixels(*centre)
    half = (int(reach_mm / grid.pixel_mm[0]), int(reach_mm / grid.pixel_mm[1]))
    rows = slice(max(0, int(row) - half[0]), min(grid.x.shape[0], int(row) + half[0]))
    columns = slice(max(0, int(column) - half[1]), min(grid.x.shape[1], int(column) + half[1]))
    return Window(
        rows,
        columns,
        grid.x[rows, columns] - np.float32(centre[0]),
        grid.y[rows, columns] - np.float32(centre[1]),
    )


@dataclass(frozen=True, slots=True)
class Polar:
    """Polar coordinates about the (swaying) LV centre, each (frames, rows, columns)."""

    r: Floats
    angle: NDArray[np.intp]
    """Index into THETA, 0 at the middle of the septum."""
    flat: NDArray[np.intp]
    """Index into a ravelled (frames, ANGLES) array."""
    x: Floats
    """mm towards the RV."""
    y: Floats


def polar(plan: Plan, ventricle: Ventricle, view: Window, frames: slice) -> Polar:
    """Coordinates in the LV's own frame."""
    empty = (1.0 - ventricle.full[frames]).astype(np.float32)[:, None, None]
    dx = view.x - np.float32(plan.function.sway_mm[0]) * empty
    dy = view.y - np.float32(plan.function.sway_mm[1]) * empty
    septum = np.deg2rad(plan.heart.septum_deg)
    cos, sin = np.float32(np.cos(septum)), np.float32(np.sin(septum))
    x: Floats = np.asarray(cos * dx + sin * dy, np.float32)
    y: Floats = np.asarray(cos * dy - sin * dx, np.float32)
    turns = np.arctan2(y, x) * np.float32(ANGLES / (2.0 * np.pi))
    angle = np.rint(turns).astype(np.intp) % ANGLES
    flat = angle + np.arange(len(empty), dtype=np.intp)[:, None, None] * ANGLES
    return Polar(np.sqrt(x * x + y * y), angle, flat, x, y)
