"""From pixels to millimetres: the body's frame, in which everything is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.plan import Plan

Floats = NDArray[np.float32]

MARGIN = 0.2
"""Share of the field drawn beyond each end of the phase-encoding axis: what will wrap."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The drawn field: body-frame coordinates (mm) of each pixel, shape (rows, columns), float32."""

    x: Floats
    y: Floats
    pad: tuple[int, int]
    """Rows and columns drawn beyond the stored image on each side."""
    pixel_mm: tuple[float, float]
    axes: NDArray[np.float64]
    """2 x 2: (x, y) of the body frame = axes @ (image x, image y) relative to the heart."""
    heart_px: tuple[float, float]
    """(row, column) of the LV axis at mid-ventricle in the drawn field."""

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Row and column of a body-frame point."""
        image_x, image_y = self.axes.T @ (x, y)
        return (
            self.heart_px[0] + image_y / self.pixel_mm[0],
            self.heart_px[1] + image_x / self.pixel_mm[1],
        )


def make_grid(plan: Plan) -> Grid:
    """The grid of a plan: stored field plus the margin that wraps along the phase-encoding axis."""
    rows, columns = plan.shape_yx
    _, dy, dx = plan.voxel_size_mm
    axis = plan.acquisition.phase_axis
    pad = (round(rows * MARGIN), 0) if axis == 0 else (0, round(columns * MARGIN))
    heart_x, heart_y = plan.pose.heart_xy_mm
    image_y = ((np.arange(rows + 2 * pad[0]) - pad[0] - (rows - 1) / 2) * dy - heart_y)[:, None]
    image_x = ((np.arange(columns + 2 * pad[1]) - pad[1] - (columns - 1) / 2) * dx - heart_x)[None, :]
    turn = np.deg2rad(plan.pose.rotation_deg)
    flip = -1.0 if plan.pose.mirror else 1.0
    axes = np.array([[flip * np.cos(turn), flip * np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Grid(
        x=(axes[0, 0] * image_x + axes[0, 1] * image_y).astype(np.float32),
        y=(axes[1, 0] * image_x + axes[1, 1] * image_y).astype(np.float32),
        pad=pad,
        pixel_mm=(dy, dx),
        axes=axes,
        heart_px=(-float(image_y[0, 0]) / dy, -float(image_x[0, 0]) / dx),
    )


def slice_depths(plan: Plan) -> NDArray[np.float64]:
    """Depth (mm) of each stored slice below the valve plane at ED, in stored order; shape (slices,)."""
    depths = np.arange(plan.n_slices, dtype=np.float64) * plan.voxel_size_mm[0] - plan.pose.base_mm
    return depths[::-1].copy() if plan.pose.apex_first else depths


def heart_centre(plan: Plan, depth: float) -> tuple[float, float]:
    """LV centre (mm, body frame) at a depth: the long axis is a little oblique."""
    middle = 0.5 * plan.function.cavity_length_mm
    drift = plan.pose.drift_mm_per_mm
    return drift[0] * (depth - middle), drift[1] * (depth - middle)
