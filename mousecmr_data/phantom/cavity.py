"""The blood pool's jagged border, and the labels that follow from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.noise import smooth
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import ANGLES, Ventricle
from mousecmr_data.phantom.view import Polar
from mousecmr_data.schema.labels import Label

Floats = NDArray[np.float32]

SHELLS = 32
"""Samples of the trabecular pattern from the middle of the cavity to its wall."""


def trabeculae(plan: Plan) -> Floats:
    """The wall's pattern of ridges, (slices, ANGLES, SHELLS), the same in all frames."""
    rng = np.random.default_rng([plan.seed, 11])
    round_cells, shells = plan.heart.trabecula_cells
    span = plan.n_slices * plan.voxel_size_mm[0] / 1.6
    field = smooth(
        rng, (plan.n_slices, ANGLES, SHELLS), (span, round_cells, shells), (False, True, False)
    ) + np.float32(0.55) * smooth(
        rng, (plan.n_slices, ANGLES, SHELLS), (span * 1.5, round_cells * 2, shells * 1.6), (False, True, False)
    )
    fade = np.clip((np.arange(SHELLS) / (SHELLS - 1) - 0.15) / 0.4, 0.0, 1.0).astype(np.float32)
    pattern: Floats = np.clip(field + np.float32(0.45), 0.0, 2.2) * fade
    return pattern[::-1] if plan.pose.apex_first else pattern


def cavity(
    plan: Plan, ventricle: Ventricle, at: Polar, inner: Floats, pattern: Floats, depth: float, frames: slice
) -> Floats:
    """Signed distance (mm) into the blood pool, (frames, rows, columns): above 0 is blood.

    Ridges and papillary muscles are cut out of the endocardial surface: they are myocardium.
    """
    heart = plan.heart
    level = ventricle.level(depth, frames).astype(np.float32)
    edge = inner.ravel()[at.flat]
    shell = np.minimum(at.r * (SHELLS - 1) / np.maximum(edge, np.float32(0.05)), SHELLS - 1).astype(np.intp)
    smooth_base = np.clip(0.3 + level / 0.4, 0.3, 1.0)
    mean = inner.mean(1)
    depth_of_ridges = np.minimum(heart.trabecula_mm * smooth_base, 0.34 * mean).astype(np.float32)
    twist = np.deg2rad(plan.function.twist_deg) * (1.0 - ventricle.full[frames])
    shift = np.rint(twist * (ANGLES / (2 * np.pi)) * (level - 0.4)).astype(np.intp)
    ridge = pattern[(at.angle - shift[:, None, None]) % ANGLES, shell]
    into: Floats = edge - at.r - depth_of_ridges[:, None, None] * ridge
    for degrees, size in zip(heart.papillary_deg, heart.papillary_mm, strict=True):
        present = np.clip(4.0 * (level - 0.18), 0.0, 1.0) * np.clip(5.0 * (0.92 - level), 0.0, 1.0)
        radius = np.minimum(size * np.sqrt(present), 0.40 * mean)
        angle = np.deg2rad(degrees) + twist * (level - 0.4)
        wall = np.array([row[round(a / (2 * np.pi) * ANGLES) % ANGLES] for row, a in zip(inner, angle, strict=True)])
        # At ED the muscle may stand free of the wall; at ES it is drawn into it.
        free = heart.papillary_gap * ventricle.full[frames] + 0.55
        reach = np.maximum(wall - radius * free, 0.0)
        cx, cy, size_now = (
            (v.astype(np.float32))[:, None, None] for v in (reach * np.cos(angle), reach * np.sin(angle), radius)
        )
        from_muscle = np.sqrt((at.x - cx) ** 2 + (at.y - cy) ** 2) - size_now
        np.minimum(into, np.where(size_now > 0.02, from_muscle, np.float32(9.0)), out=into)
    return into


def labels_of(
    ventricle: Ventricle, at: Polar, into: Floats, outer: Floats, depth: float, frames: slice
) -> NDArray[np.uint8]:
    """Labels of a slice, (frames, rows, columns): nothing above the valve plane or below the apex."""
    inside = at.r < outer.ravel()[at.flat]
    covered = ((depth > ventricle.base[frames]) & (depth < ventricle.apex))[:, None, None]
    labels = np.where(into > 0, np.uint8(Label.BLOOD_POOL), np.uint8(Label.MYOCARDIUM))
    return np.where(inside & covered, labels, np.uint8(Label.BACKGROUND))
