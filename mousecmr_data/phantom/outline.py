"""The body's outline in a slice: how deep a pixel lies in it, and how thick its wall is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.plan import Plan

Floats = NDArray[np.float32]


class Outline:
    """Distance into the body, and the thickness of its wall, at each pixel of a slice."""

    def __init__(self, plan: Plan, x: Floats, y: Floats, depth: float) -> None:
        thorax = plan.thorax
        grown = 1.0 + thorax.body_growth * depth
        wide, tall = (r * grown for r in thorax.body_radius_mm)
        front = 3.9 + thorax.heart_gap_mm + thorax.wall_mm
        self.cx, self.cy = thorax.aside_mm, front - thorax.body_radius_mm[1]
        dx, dy = x - np.float32(self.cx), y - np.float32(self.cy)
        turn = np.arctan2(dy, dx)
        angles = np.deg2rad(np.arange(360.0))
        radius = wide * tall / np.hypot(tall * np.cos(angles), wide * np.sin(angles))
        rng = np.random.default_rng([plan.seed, 33])
        for harmonic, size in enumerate(thorax.body_shape, start=2):
            radius = radius * (1.0 + size * np.cos(harmonic * (angles - rng.uniform(0, 2 * np.pi))))
        self.sector = (np.rint(np.rad2deg(turn)).astype(np.intp)) % 360
        self.inside_body = radius.astype(np.float32)[self.sector] - np.hypot(dx, dy)
        self.inside = self.inside_body
        self.limb = np.zeros(x.shape, np.float32)
        """1 inside a limb, 0 in the trunk."""
        self.limb_bones: list[tuple[float, float, float]] = []
        for size, degrees in zip(thorax.limb_mm, thorax.limb_deg, strict=True):
            if size == 0.0:
                continue
            way = np.deg2rad(degrees)
            out = float(radius[round(degrees) % 360]) - 0.35 * size + 0.08 * depth
            lx, ly = self.cx + out * np.cos(way), self.cy + out * np.sin(way)
            limb = np.float32(size) - np.hypot((x - lx) * 0.9, (y - ly) * 0.8)
            # A smooth union leaves the crease of the armpit.
            near = np.clip(0.5 + 0.5 * (limb - self.inside) / 0.7, 0.0, 1.0)
            self.inside = self.inside + (limb - self.inside) * near + 0.7 * near * (1.0 - near)
            self.limb = np.maximum(self.limb, near)
            self.limb_bones.append((lx + 0.2 * size, ly + 0.25 * size, 0.55 + 0.08 * size))
        down, up = np.clip(np.sin(turn), 0.0, 1.0), np.clip(-np.sin(turn), 0.0, 1.0)
        self.wall = (
            np.float32(thorax.flank_mm)
            + np.float32(thorax.wall_mm - thorax.flank_mm) * down**1.5
            + np.float32(thorax.dorsum_mm - thorax.flank_mm) * up**1.5
        )
        # Towards the apex the sternum and the abdominal wall close in on the heart.
        apex = plan.function.cavity_length_mm + 0.9
        self.wall = self.wall + np.float32(thorax.shoulder * np.clip(2.0 - depth, 0.0, 4.0)) * (1.0 - 0.75 * down**2)
        self.wall = self.wall + np.float32(thorax.closing * np.clip(depth - apex + 3.0, 0.0, 4.0)) * down**4
        self.spine = (self.cx - 1.0, self.cy - 0.80 * tall)
