"""The heart in pixels: fractions of muscle and blood in every frame of a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.atria import atria
from mousecmr_data.phantom.cavity import cavity, labels_of
from mousecmr_data.phantom.noise import ramp, smooth
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.rightheart import right_ventricle
from mousecmr_data.phantom.ventricle import ANGLES, Ventricle, infarcted
from mousecmr_data.phantom.view import Polar, Window, polar

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeartSlice:
    """What fills the window of a slice, frame by frame: fractions 0..1, (frames, rows, columns)."""

    muscle: Floats
    lv: Floats
    rv: Floats
    atria: Floats
    rim: Floats
    patch: Floats
    truth: NDArray[np.uint8]
    at: Polar

    @property
    def cover(self) -> Floats:
        """How much of each pixel is heart, 0..1."""
        whole = self.muscle + self.lv + self.rv + np.clip(self.atria, 0.0, 1.0) + self.rim + self.patch
        return np.asarray(np.clip(whole, 0.0, 1.0), np.float32)


def draw(
    plan: Plan, ventricle: Ventricle, view: Window, pattern: Floats, room: Floats, index: int, depth: float
) -> HeartSlice:
    """Draw one slice in all frames. ``room`` (rows, columns) is 0 where the chest wall leaves no place to the atria."""
    frames = slice(None)
    heart, spacing = plan.heart, plan.voxel_size_mm[0]
    at = polar(plan, ventricle, view, frames)
    inner, outer = (part.astype(np.float32) for part in ventricle.radii(depth))
    above, below = ventricle.radii(depth - 0.5 * spacing), ventricle.radii(depth + 0.5 * spacing)
    # A wall that slants through the slice is blurred over its shift between the slice's two faces.
    blur_in, blur_out = (
        np.maximum(np.abs(a - b), 0.12).astype(np.float32).ravel()[at.flat] for a, b in zip(above, below, strict=True)
    )
    into = cavity(plan, ventricle, at, inner, pattern, depth, frames)
    truth = labels_of(ventricle, at, into, outer, depth, frames)
    outside = at.r - outer.ravel()[at.flat]

    level = ventricle.level(depth)
    shape = right_ventricle(plan, ventricle, level)
    rng = np.random.default_rng([plan.seed, 12, index])
    rough = smooth(rng, (ANGLES,), (26,), (True,))
    depth_rv = (shape * (1.0 - 0.12 * heart.rv_trabecula_mm * rough)).astype(np.float32)
    to_rv = depth_rv.ravel()[at.flat] - outside
    has_rv = np.clip(depth_rv / 0.25, 0.0, 1.0)
    shell = (has_rv * heart.rv_wall_mm).astype(np.float32).ravel()[at.flat]

    lv_part = ramp(-outside, blur_out)
    lv_blood = ramp(into, np.minimum(blur_in, 1.2)) * lv_part
    whole = ramp(np.maximum(-outside, to_rv + shell), np.float32(0.12))
    rv_blood = np.clip(ramp(to_rv, np.float32(0.15)) * (1.0 - lv_part), 0.0, 1.0) * (to_rv > -1.0)
    rv_ridges = smooth(rng, (ANGLES, 24), (30, 5), (True, False))
    tone = rv_ridges[at.angle, np.clip(outside * 9.0, 0, 23).astype(np.intp)]
    rv_blood *= np.clip(1.0 - heart.rv_trabecula_mm * (0.8 + tone), 0.0, 1.0)

    cover = smooth(rng, (ANGLES,), (9,), (True,)) - np.float32(1.5 - 3.0 * heart.rim_cover)
    band = np.float32(heart.rim_tone) * np.clip(cover, 0.0, 1.0).astype(np.float32)[at.angle]
    off = np.maximum(-outside, to_rv + shell) + np.float32(heart.rim_mm)
    alive = np.float32(1.0 if depth < ventricle.apex - 0.6 else 0.3)
    rim = ramp(off, np.float32(0.12)) * band * alive * (1.0 - whole)
    patch = np.zeros_like(rim)
    if plan.function.infarct is not None:
        where = infarcted(plan, level[:, None]).astype(np.float32).ravel()[at.flat]
        patch = ramp(np.float32(plan.function.infarct.patch_mm) * where - outside, 0.2) * (1.0 - whole) * (where > 0.1)
        rim = rim * (1.0 - patch)

    # Where the valve plane crosses the slice, ventricle and atria share it.
    if depth >= ventricle.apex:
        share = np.zeros(plan.n_frames)
    else:
        share = np.clip(0.5 + (depth - ventricle.base) / (0.7 * spacing), 0.0, 1.0)
    part = share.astype(np.float32)[:, None, None]
    chambers, walls = (part_of * room for part_of in atria(plan, ventricle, at, depth, rng))
    lv, rv = lv_blood * part, rv_blood * part
    blood_atria = chambers * (1.0 - whole * part)
    muscle = np.clip(whole * part - lv - rv, 0.0, 1.0) + walls * (1.0 - whole * part)
    rim = rim * np.clip(2.0 * part, 0.0, 1.0) * (1.0 - np.clip(chambers, 0.0, 1.0)) * (1.0 - walls)
    return HeartSlice(muscle, lv, rv, blood_atria, rim, patch * part, truth, at)
