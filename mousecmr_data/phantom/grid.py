"""Coordinates of the drawn field in mm of the body's frame, and smooth random fields on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.plan import Plan

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Complexes = NDArray[np.complex64]


@lru_cache(maxsize=256)
def _make_spline_weights(n: int, cells: float, periodic: bool) -> Floats:
    """Make cubic B-spline weights, shape (n, control points): ``cells`` cells over ``n`` samples."""
    position = np.arange(n) * (cells / (n if periodic else max(n - 1, 1)))
    first = np.floor(position).astype(int)
    t = position - first
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6.0
    points = int(np.ceil(cells)) if periodic else int(np.floor(cells)) + 4
    weights = np.zeros((n, points), np.float32)
    for k in range(4):
        column = (first + k) % points if periodic else first + k
        np.add.at(weights, (np.arange(n), column), basis[:, k])
    return weights


def make_smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[float, ...], periodic: tuple[bool, ...] | None = None
) -> Floats:
    """Make a smooth random field with mean about 0 and SD about 1: float32 of ``shape``, any number of axes.

    ``cells`` is the number of independent cells along each axis (whole numbers on periodic axes). White noise on the
    control points is evaluated by B-spline weights: a few small matrix products.
    """
    periodic = periodic or (False,) * len(shape)
    weights = [_make_spline_weights(n, c, p) for n, c, p in zip(shape, cells, periodic, strict=True)]
    field: Floats = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    # A cubic B-spline of white noise keeps a share 0.48 of the variance along each axis.
    field *= np.float32(0.48 ** (-0.5 * len(shape)))
    for axis, w in enumerate(weights[:-1]):
        flat = field.reshape(int(np.prod(shape[:axis])), w.shape[1], -1)
        field = np.matmul(w, flat).reshape(*shape[: axis + 1], *field.shape[axis + 1 :])
    return np.asarray(field @ weights[-1].T, np.float32)


def soften_edge(x: NDArray[np.floating[Any]], width: float | np.float32 | Floats) -> Floats:
    """Return 0 below -width/2, 1 above +width/2 and a linear ramp between: a soft edge at 0."""
    return np.asarray(np.clip(x / width + np.float32(0.5), 0.0, 1.0), np.float32)


MARGIN = 0.2
"""Share of the field drawn beyond each end of the phase-encoding axis: the part that wraps."""


@dataclass(frozen=True, slots=True)
class DrawnGrid:
    """The drawn field: body-frame coordinates (mm) of each pixel, shape (rows, columns), float32."""

    x: Floats
    y: Floats
    pad: tuple[int, int]
    """Rows and columns drawn beyond the stored image on each side."""
    pixel_mm: tuple[float, float]
    axes: Doubles
    """2 x 2: (x, y) of the body frame = axes @ (image x, image y) relative to the heart."""
    heart_px: tuple[float, float]
    """(row, column) of the LV axis at mid-ventricle in the drawn field."""

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Return the row and column of a body-frame point."""
        image_x, image_y = self.axes.T @ (x, y)
        return self.heart_px[0] + image_y / self.pixel_mm[0], self.heart_px[1] + image_x / self.pixel_mm[1]


def make_grid(plan: Plan) -> DrawnGrid:
    """Make the grid of a plan: the stored field plus the margin that wraps along the phase-encoding axis."""
    rows, columns = plan.shape_yx
    _, dy, dx = plan.voxel_size_mm
    pad = (round(rows * MARGIN), 0) if plan.acquisition.phase_axis == 0 else (0, round(columns * MARGIN))
    heart_x, heart_y = plan.pose.heart_xy_mm
    image_y = ((np.arange(rows + 2 * pad[0]) - pad[0] - (rows - 1) / 2) * dy - heart_y)[:, None]
    image_x = ((np.arange(columns + 2 * pad[1]) - pad[1] - (columns - 1) / 2) * dx - heart_x)[None, :]
    turn = np.deg2rad(plan.pose.rotation_deg)
    flip = -1.0 if plan.pose.mirror else 1.0
    axes = np.array([[flip * np.cos(turn), flip * np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return DrawnGrid(
        x=(axes[0, 0] * image_x + axes[0, 1] * image_y).astype(np.float32),
        y=(axes[1, 0] * image_x + axes[1, 1] * image_y).astype(np.float32),
        pad=pad,
        pixel_mm=(dy, dx),
        axes=axes,
        heart_px=(-float(image_y[0, 0]) / dy, -float(image_x[0, 0]) / dx),
    )


def compute_slice_depths(plan: Plan) -> Doubles:
    """Return the depth (mm) of each stored slice below the valve plane at ED, in stored order; shape (slices,)."""
    depths = np.arange(plan.n_slices, dtype=np.float64) * plan.voxel_size_mm[0] - plan.pose.base_mm
    return depths[::-1].copy() if plan.pose.apex_first else depths


def compute_heart_centre(plan: Plan, depth: float) -> tuple[float, float]:
    """Return the LV centre (mm, body frame) at a depth: the long axis is a little oblique."""
    from_middle = depth - 0.5 * plan.function.cavity_length_mm
    return plan.pose.drift_mm_per_mm[0] * from_middle, plan.pose.drift_mm_per_mm[1] * from_middle
