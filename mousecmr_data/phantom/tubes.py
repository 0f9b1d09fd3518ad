"""Tubes in three dimensions, and their share of each voxel of a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Grid

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Segment:
    """A tapered piece of vessel in the body's frame; the ends are (x, y, depth) in mm."""

    start: Doubles
    end: Doubles
    radii: tuple[float, float]
    strength: float = 1.0


class SegmentArray:
    """Segments as arrays, so that those of one slice are found at once."""

    def __init__(self, segments: list[Segment]) -> None:
        self.start = np.array([s.start for s in segments]).reshape(-1, 3)
        self.end = np.array([s.end for s in segments]).reshape(-1, 3)
        self.radius = np.array([s.radii for s in segments]).reshape(-1, 2)
        self.strength = np.array([s.strength for s in segments], np.float32)
        way = self.end - self.start
        flat = np.hypot(way[:, 0], way[:, 1]) / np.maximum(np.linalg.norm(way, axis=1), 1e-6)
        self.steepness = np.minimum(1.0 / np.maximum(flat, 1e-3), 6.0).astype(np.float32)
        """Length of the vertical chord through a tube over that of its cross-section's."""
        self.height = self.radius.max(1, initial=0.0) * self.steepness

    def share(self, grid: Grid, x: Floats, y: Floats, depth: float, thickness: float) -> Floats:
        """Share of each pixel's voxel that is vessel in a slice, (rows, columns), 0..1.

        ``x`` and ``y`` are the body-frame coordinates to draw in: warped ones make the walls uneven.
        """
        out = np.zeros(grid.x.shape, np.float32)
        if not len(self.start):
            return out
        low, high = depth - 0.5 * thickness, depth + 0.5 * thickness
        z0, z1 = self.start[:, 2], self.end[:, 2]
        touched = (np.minimum(z0, z1) - self.height < high) & (np.maximum(z0, z1) + self.height > low)
        for k in np.flatnonzero(touched):
            self._paint(out, grid, x, y, int(k), low, high)
        return out

    def _paint(self, out: Floats, grid: Grid, xs: Floats, ys: Floats, k: int, low: float, high: float) -> None:
        (ax, ay, az), (bx, by, bz) = self.start[k].tolist(), self.end[k].tolist()
        r0, r1 = self.radius[k].tolist()
        (row0, column0), (row1, column1) = grid.to_pixels(ax, ay), grid.to_pixels(bx, by)
        margin = (max(r0, r1) + 0.8) / min(grid.pixel_mm)  # the warp moves things by up to 0.8 mm
        box = (
            slice(max(0, int(min(row0, row1) - margin)), max(0, int(max(row0, row1) + margin) + 2)),
            slice(max(0, int(min(column0, column1) - margin)), max(0, int(max(column0, column1) + margin) + 2)),
        )
        x, y = xs[box], ys[box]
        if not x.size:
            return
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        away = (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2
        radius = r0 + (r1 - r0) * along
        # The chord of the tube above this pixel, and how much of it lies inside the slice.
        chord = np.sqrt(np.maximum(radius * radius - away, 0.0)) * self.steepness[k]
        middle = az + (bz - az) * along
        inside = np.minimum(middle + chord, high) - np.maximum(middle - chord, low)
        share = np.clip(inside * (1.2 / (high - low)), 0.0, 1.0) * self.strength[k]
        np.maximum(out[box], share, out=out[box])
