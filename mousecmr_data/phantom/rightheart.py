"""The right ventricle: a crescent round the septum, and the outline it gives the heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import THETA, Ventricle

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def outline_at(plan: Plan, ventricle: Ventricle, depth: float) -> Floats:
    """Outer radius (mm) of the heart at ED over the angle, (ANGLES,): what its neighbours give way to."""
    ed = slice(plan.ed_frame, plan.ed_frame + 1)
    _, outer = ventricle.radii(max(depth, 0.0), ed)
    rv = right_ventricle(plan, ventricle, ventricle.level(max(depth, 0.0)))
    rv = rv[ed]
    return np.asarray((outer + rv + plan.heart.rv_wall_mm * np.clip(rv / 0.25, 0.0, 1.0))[0], np.float32)


def right_ventricle(plan: Plan, ventricle: Ventricle, level: Doubles) -> Doubles:
    """Depth of the RV cavity beyond the septum (mm), (frames, ANGLES)."""
    heart = plan.heart
    along = np.clip(level / heart.rv_length, -0.2, 1.0)
    half = np.deg2rad(heart.rv_half_width_deg) * (1.35 - 0.7 * np.clip(along, 0.0, 1.0) ** 0.7)
    apart = np.abs((THETA + np.pi) % (2 * np.pi) - np.pi)
    across = np.clip(apart / half[:, None], 0.0, 1.0)
    crescent = np.cos(0.5 * np.pi * across) ** 0.75
    lobes = np.random.default_rng([plan.seed, 14]).normal(0.0, 1.0, 4)
    crescent = crescent * (
        1.0
        + 0.16 * lobes[0] * np.sin(THETA)
        + 0.10 * lobes[1] * np.sin(2 * THETA)
        + 0.08 * lobes[2] * np.cos(3 * THETA)
    )
    reach = np.sqrt(np.clip(1.0 - np.clip(along, 0.0, 1.0) ** 2.2, 0.0, 1.0))
    squeeze = 1.0 - heart.rv_ejection * (1.0 - ventricle.full)
    return np.asarray(heart.rv_depth_mm * (reach * squeeze)[:, None] * crescent, np.float64)
