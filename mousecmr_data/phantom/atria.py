"""Above the valve plane: atria, auricles and the roots of the great arteries. None of it is labelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.noise import ramp, smooth
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import Ventricle
from mousecmr_data.phantom.view import Polar

Floats = NDArray[np.float32]

_CHAMBERS = (
    # towards the RV, along the septum, depth (mm); radius, half height (mm), tone
    ("inlet", 0.2, 0.1, -0.2, 3.0, 1.5, 0.95),
    ("left atrium", -0.8, 0.9, -1.1, 2.1, 2.6, 0.95),
    ("left auricle", -2.0, -0.9, -0.7, 1.6, 1.9, 0.85),
    ("aortic root", 0.5, -0.3, -1.2, 1.15, 3.4, 1.1),
    ("outflow", 1.5, -1.7, -0.9, 1.55, 3.0, 1.05),
    ("right atrium", 2.0, 1.5, -1.0, 2.1, 2.6, 0.85),
    ("right auricle", 2.9, -0.3, -0.7, 1.55, 2.1, 0.9),
)
"""Chambers above the valve plane; sizes of a 25 g mouse to about 0.3 mm, read off atlases."""


def atria(plan: Plan, ventricle: Ventricle, at: Polar, depth: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Blood and thin walls of atria, auricles and roots, each (frames, rows, columns), 0..1."""
    first = second = np.full(at.x.shape[1:], -9.0, np.float32)
    tone = np.ones_like(first)
    union = np.full_like(first, 1e-9)
    fixed = np.random.default_rng([plan.seed, 13])
    x, y = at.x[0], at.y[0]
    x = x + np.float32(0.3) * smooth(fixed, x.shape, (6, 6))
    y = y + np.float32(0.3) * smooth(fixed, y.shape, (6, 6))
    for number, (_, cx, cy, cz, radius, height, bright) in enumerate(_CHAMBERS):
        own = np.random.default_rng([plan.seed, 13, number])  # the same in every slice
        jitter = own.normal(0.0, 1.0, 6)
        scale = plan.heart.atrium_scale * (1.0 + 0.12 * jitter[0])
        through = 1.0 - ((depth - cz + 0.3 * jitter[1]) / (height * scale)) ** 2
        if through <= 0.02:
            continue
        size = np.float32(radius * scale * np.sqrt(through))
        stretch = np.float32(1.0 + 0.18 * jitter[2])
        dx, dy = x - np.float32(cx + 0.25 * jitter[3]), y - np.float32(cy + 0.25 * jitter[4])
        inside = (
            size - np.sqrt((dx * stretch) ** 2 + (dy / stretch) ** 2) + np.float32(0.32) * smooth(own, x.shape, (8, 8))
        )
        tone = np.where(inside > first, np.float32(bright * (1.0 + 0.12 * jitter[5])), tone)
        if number > 0:  # the inlet is open to all chambers: no wall of its own
            second = np.maximum(second, np.minimum(first, inside))
            first = np.maximum(first, inside)
        union += np.exp(inside * 3.0)
    joined = np.log(union) / 3.0 - np.float32(0.15)  # one smooth outline round all chambers
    # Atria fill while the ventricle empties.
    swell = (0.22 * (1.0 - ventricle.full)).astype(np.float32)[:, None, None]
    inner = ramp(joined + swell - np.float32(0.2), 0.35)
    present = np.clip(0.2 + 0.5 * smooth(fixed, x.shape, (7, 7)), 0.0, 0.9)
    between = np.clip(1.0 - (first - np.maximum(second, -1.0)) / np.float32(0.32), 0.0, 1.0) * (first > 0.1) * present
    blood = np.clip(inner * (1.0 - between), 0.0, 1.0)
    walls = np.clip(ramp(joined + swell + np.float32(0.12), 0.3) - blood, 0.0, 1.0)
    grain = (
        np.float32(0.94)
        + np.float32(0.10) * smooth(rng, x.shape, (16, 16))
        + np.float32(0.14) * smooth(rng, x.shape, (5, 5))
    )
    return np.asarray(blood * tone * grain, np.float32), walls.astype(np.float32)
