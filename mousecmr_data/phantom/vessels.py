"""Vessels in three dimensions: random trees and trunks by organ, and their share of each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from mousecmr_data.phantom.grid import Doubles, DrawnGrid, Floats
from mousecmr_data.phantom.plan import Plan


@dataclass(frozen=True, slots=True)
class VesselSegment:
    """A tapered piece of vessel in the body's frame; the ends are (x, y, depth) in mm."""

    start: Doubles
    end: Doubles
    radii: tuple[float, float]
    strength: float = 1.0


class VesselArray:
    """Segments as arrays, for a fast search of those that meet a slice."""

    def __init__(self, segments: list[VesselSegment]) -> None:
        self.start = np.array([s.start for s in segments]).reshape(-1, 3)
        self.end = np.array([s.end for s in segments]).reshape(-1, 3)
        self.radius = np.array([s.radii for s in segments]).reshape(-1, 2)
        self.strength = np.array([s.strength for s in segments], np.float32)
        along = self.end - self.start
        flat = np.hypot(along[:, 0], along[:, 1]) / np.maximum(np.linalg.norm(along, axis=1), 1e-6)
        self.steepness = np.minimum(1.0 / np.maximum(flat, 1e-3), 6.0).astype(np.float32)
        """Length of the vertical chord through a tube relative to the chord of its cross-section."""
        self.height = self.radius.max(1, initial=0.0) * self.steepness

    def compute_share(self, grid: DrawnGrid, x: Floats, y: Floats, depth: float, thickness: float) -> Floats:
        """Return the vessels' share of each pixel's voxel in a slice, (rows, columns), 0..1.

        ``x`` and ``y`` are the body-frame coordinates to draw in: warped ones make the walls uneven.
        """
        out = np.zeros(grid.x.shape, np.float32)
        low, high = depth - 0.5 * thickness, depth + 0.5 * thickness
        z0, z1 = self.start[:, 2], self.end[:, 2]
        touched = (np.minimum(z0, z1) - self.height < high) & (np.maximum(z0, z1) + self.height > low)
        for k in np.flatnonzero(touched):
            self._paint(out, grid, x, y, int(k), low, high)
        return out

    def _paint(self, out: Floats, grid: DrawnGrid, xs: Floats, ys: Floats, k: int, low: float, high: float) -> None:
        (ax, ay, az), (bx, by, bz) = self.start[k].tolist(), self.end[k].tolist()
        r0, r1 = self.radius[k].tolist()
        (row0, column0), (row1, column1) = grid.to_pixels(ax, ay), grid.to_pixels(bx, by)
        margin = (max(r0, r1) + 0.8) / min(grid.pixel_mm)  # the warp shifts vessels by up to 0.8 mm
        box = (
            slice(max(0, int(min(row0, row1) - margin)), max(0, int(max(row0, row1) + margin) + 2)),
            slice(max(0, int(min(column0, column1) - margin)), max(0, int(max(column0, column1) + margin) + 2)),
        )
        x, y = xs[box], ys[box]
        if not x.size:
            return
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        distance_squared = (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2
        radius = r0 + (r1 - r0) * along
        # The chord of the tube at this pixel, and the length of it inside the slice.
        chord = np.sqrt(np.maximum(radius * radius - distance_squared, 0.0)) * self.steepness[k]
        middle = az + (bz - az) * along
        inside = np.minimum(middle + chord, high) - np.maximum(middle - chord, low)
        share = np.clip(inside * (1.2 / (high - low)), 0.0, 1.0) * self.strength[k]
        np.maximum(out[box], share, out=out[box])


def grow_tree(
    rng: np.random.Generator, root: Doubles, heading: Doubles, radius: float, length: float, flatten: float
) -> list[VesselSegment]:
    """Grow a vessel with four generations of branches. ``flatten`` below 1 keeps them closer to the slice plane."""
    segments: list[VesselSegment] = []
    tone = float(rng.uniform(0.5, 1.0))
    tips = [(root, heading / np.linalg.norm(heading), radius, length)]
    for _ in range(4):
        branches = []
        for position, direction, r, step in tips:
            for half in (0, 1):
                direction = direction + rng.normal(0.0, 0.22, 3) * (1.0, 1.0, flatten)
                direction = direction / np.linalg.norm(direction)
                end = position + direction * step * 0.5
                segments.append(VesselSegment(position, end, (r * (1 - 0.1 * half), r * (0.9 - 0.1 * half)), tone))
                position = end
            for _child in range(2 if rng.random() < 0.85 else 1):
                heading = direction + rng.normal(0.0, 0.62, 3) * (1.0, 1.0, flatten)
                heading = heading / np.linalg.norm(heading)
                branches.append((position, heading, r * rng.uniform(0.68, 0.9), step * rng.uniform(0.7, 1.0)))
        tips = branches
    return segments


def make_liver_vessels(plan: Plan) -> list[VesselSegment]:
    """Make hepatic and portal veins: a confluence behind the heart and trees spreading from it."""
    rng = np.random.default_rng([plan.seed, 21])
    thorax = plan.thorax
    segments: list[VesselSegment] = []
    for k in range(thorax.liver_vessels):
        x, y = thorax.dome_mm[0] * 0.6 + rng.normal(0.0, 2.8), thorax.dome_mm[1] + rng.normal(1.0, 2.4)
        root = np.array([x, y, thorax.dome_top_mm + rng.uniform(2.0, 9.5)])
        heading = np.append(rng.normal(0.0, 1.0, 2), rng.normal(0.0, 0.35))
        radius = rng.uniform(0.24, 0.55) if k < 2 else rng.uniform(0.15, 0.30)
        segments += grow_tree(rng, root, heading, radius, rng.uniform(1.4, 2.8), 0.45)
    return segments


def make_lung_vessels(plan: Plan) -> list[VesselSegment]:
    """Make pulmonary vessels: from the hilum outwards, mostly across the slices, so they appear as dots."""
    rng = np.random.default_rng([plan.seed, 22])
    segments: list[VesselSegment] = []
    for _ in range(plan.thorax.lung_vessels):
        side = rng.choice([-1.0, 1.0])
        root = np.array([side * rng.uniform(1.5, 8.0), rng.uniform(-8.5, 1.0), rng.uniform(-3.0, 1.5)])
        heading = np.array([side * rng.uniform(-0.2, 0.7), rng.normal(-0.1, 0.5), rng.uniform(0.4, 1.6)])
        segments += grow_tree(rng, root, heading, rng.uniform(0.16, 0.34), rng.uniform(1.8, 3.4), 1.0)
    return segments


def make_trunks(plan: Plan) -> tuple[list[VesselSegment], list[VesselSegment]]:
    """Make arteries and veins: descending aorta, caval veins, pulmonary and arch vessels at the base."""
    rng = np.random.default_rng([plan.seed, 23])
    size = plan.thorax.great_vessel_mm
    deep = plan.n_slices * plan.voxel_size_mm[0]

    def draw_trunk(points: list[list[float]], radius: float) -> list[VesselSegment]:
        """Draw a smooth trunk through the points, with uneven calibre and its own brightness."""
        control = np.array(points) + rng.normal(0.0, 0.25, (len(points), 3)) * (1.0, 1.0, 0.4)
        fine = CubicSpline(np.arange(len(points)), control)(np.linspace(0, len(points) - 1, 5 * len(points)))
        scale = radius * np.exp(np.convolve(rng.normal(0.0, 0.30, len(fine) + 4), np.ones(5) / 5, "valid"))
        tone = rng.uniform(0.55, 1.0)
        return [
            VesselSegment(a, b, (float(ra), float(rb)), tone)
            for a, b, ra, rb in zip(fine[:-1], fine[1:], scale[:-1], scale[1:], strict=True)
        ]

    back = -rng.uniform(7.0, 11.0)
    aside = rng.normal(-1.0, 2.2)
    aorta = [
        [aside * 0.3, -3.2, -3.0],
        [aside, back * 0.6, 0.5],
        [aside + rng.normal(0, 1), back, 5.0],
        [aside + rng.normal(0.5, 1), back * 1.05, deep + 1],
    ]
    arteries = draw_trunk(aorta, size * 0.85)
    side = rng.uniform(1.0, 3.5)
    vena_cava = [
        [side * 0.6, -2.6, -2.5],
        [side, -4.6, 0.2],
        [side + 1.0, -6.5, 2.6],
        [side + 0.6, -8.0, 5.5],
        [side + rng.normal(0, 1.0), -8.6, deep + 1],
    ]
    veins = draw_trunk(vena_cava, size)
    # Caval, azygos and pulmonary veins run almost in the planes above the base.
    for sign in (-1.0, 1.0):
        if rng.random() < 0.8:
            x, tip = sign * rng.uniform(0.6, 3.4), -rng.uniform(7.5, 12.5)
            depth = rng.uniform(-2.2, -0.4)
            points = [
                [x * 0.8, -2.2, depth],
                [x + rng.normal(0, 0.6), tip * 0.55, depth + rng.uniform(-0.2, 0.8)],
                [x + rng.normal(0.8, 0.9), tip, depth + rng.uniform(0.5, 2.2)],
            ]
            veins += draw_trunk(points, size * rng.uniform(0.5, 1.0))
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.normal(0.0, 2.2), rng.uniform(-5.0, -2.6)
        veins += draw_trunk([[x, y, -2.6], [x * 1.3, y - 0.6, rng.uniform(-0.5, 2.4)]], rng.uniform(0.2, 0.5))
    # Internal thoracic and superficial vessels in the chest wall.
    for _ in range(int(rng.integers(2, 7))):
        x = rng.normal(0.0, 4.0)
        y = 4.4 + rng.uniform(-0.2, 1.0) - 0.05 * x * x
        veins += draw_trunk([[x, y, -3.0], [x + rng.normal(0, 0.5), y, deep + 1.0]], rng.uniform(0.12, 0.26))
    return arteries, veins


def make_vessels(plan: Plan) -> dict[str, VesselArray]:
    """Make all vessels of a mouse, by kind."""
    arteries, veins = make_trunks(plan)
    return {
        "liver": VesselArray(make_liver_vessels(plan)),
        "lung": VesselArray(make_lung_vessels(plan)),
        "artery": VesselArray(arteries),
        "vein": VesselArray(veins),
    }
