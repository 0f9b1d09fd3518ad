"""Organs below the diaphragm: the liver's dome, stomach and bowel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.canvas import Canvas
from mousecmr_data.phantom.noise import ramp
from mousecmr_data.phantom.plan import Plan

Floats = NDArray[np.float32]


def liver_distance(plan: Plan, x: Floats, y: Floats, depth: float, outside_heart: Floats) -> Floats:
    """Distance into the liver (mm): a dome that widens towards the abdomen, dented by the heart."""
    thorax = plan.thorax
    below = depth - thorax.dome_top_mm
    if below <= 0.0:
        return np.full(x.shape, -9.0, np.float32)
    full = thorax.dome_radius_mm
    radius = np.sqrt(max(2.0 * below * full - below**2, 0.0)) if below < full else full + 0.5 * (below - full)
    centre = (thorax.dome_mm[0] * (1.0 - 0.03 * below), thorax.dome_mm[1] * (1.0 - 0.03 * below))
    dome = np.float32(radius) - np.hypot(x - centre[0], (y - centre[1]) * 1.08)
    dent = outside_heart - np.float32(thorax.dome_gap_mm) + np.float32(max(0.0, depth - 5.0) * 0.5)
    return np.asarray(np.minimum(dome, dent), np.float32)


def paint_gut(plan: Plan, canvas: Canvas, x: Floats, y: Floats, depth: float, content: Floats, cavity: Floats) -> None:
    """Stomach and bowel loops: a bright wall round dark, patchy contents."""
    rng = np.random.default_rng([plan.seed, 34])
    thorax = plan.thorax
    spheres = [(*thorax.stomach_at_mm, thorax.stomach_mm)]
    for _ in range(thorax.bowel):
        spheres.append(
            (
                rng.uniform(-4, 9),
                rng.uniform(-13, -4),
                thorax.stomach_at_mm[2] + rng.uniform(0.0, 2.5),
                rng.uniform(1.2, 2.6),
            )
        )
    for cx, cy, cz, radius in spheres:
        gassy = rng.uniform(-0.6, 1.2)
        through = radius**2 - (depth - cz) ** 2
        if through <= 0.0:
            continue
        inside = np.float32(np.sqrt(through)) - np.hypot((x - cx) * 0.9, (y - cy) * 1.1) + 0.12 * content
        canvas.paint("gut_wall", ramp(inside, 0.3) * cavity * np.clip(0.55 + 0.4 * content, 0.1, 1.0))
        filled = ramp(inside - 0.3 - 0.1 * content, 0.35) * cavity
        canvas.paint("gut_paste", filled)
        canvas.paint("gut_content", filled * np.clip(1.5 * (content + gassy) - 0.2, 0.0, 1.0))
