"""The left ventricle as radii: endocardium and epicardium over angle, depth and frame, with the planned volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.physiology import DENSITY_MG_PER_UL, fullness
from mousecmr_data.phantom.plan import Plan

Doubles = NDArray[np.float64]

ANGLES = 256
"""Samples round the circumference."""

THETA: Doubles = np.linspace(0.0, 2.0 * np.pi, ANGLES, endpoint=False)


@dataclass(frozen=True, slots=True)
class Ventricle:
    """Solved scales: with them :meth:`radii` gives the wall anywhere."""

    plan: Plan
    full: Doubles
    """1 at ED, 0 at ES; (frames,)."""
    base: Doubles
    """Depth of the valve plane; (frames,)."""
    radius: float
    """Largest mean endocardial radius at ED."""
    wall: float
    """Mean wall thickness at ED."""
    shrink: Doubles
    """Radial scale of the healthy wall against ED; (frames,)."""
    thicken: Doubles
    """Factor on the wall's cross-section against ED; (frames,)."""

    @property
    def length(self) -> float:
        """Depth of the endocardial apex (mm)."""
        return self.plan.function.cavity_length_mm

    @property
    def apex(self) -> float:
        """Depth of the epicardial apex (mm)."""
        return self.length + self.wall * self.plan.heart.apex_wall

    def level(self, depth: float, frames: slice = slice(None)) -> Doubles:
        """0 at the valve plane, 1 at the endocardial apex; (frames,)."""
        base = self.base[frames]
        return (depth - base) / (self.length - base)

    def radii(self, depth: float, frames: slice = slice(None)) -> tuple[Doubles, Doubles]:
        """Endocardial and epicardial radius in mm at a depth, each (frames, ANGLES).

        Zero beyond the apex; above the valve plane those of the valve plane. The wall keeps its
        cross-section while the cavity shrinks, so thickening follows from the motion.
        """
        level = self.level(depth, frames)[:, None]
        at_ed = self.radius * profile(self.plan, level) * roundness(self.plan)
        inner = at_ed * moved(self.plan, level, self.shrink[frames][:, None])
        section = cross_section(self.plan, level, at_ed, self.wall) * self.thicken[frames][:, None]
        beyond = np.clip((depth - self.length) / max(self.apex - self.length, 1e-6), 0.0, 1.0)
        return inner, np.sqrt(np.where(inner > 0, inner, 0.0) ** 2 + section * (1.0 - beyond**2))


def profile(plan: Plan, level: Doubles) -> Doubles:
    """Endocardial radius over level, 1 at the widest, 0 from the apex on."""
    widest = plan.heart.widest_level
    up = np.clip((widest - level) / widest, 0.0, 1.0)
    down = np.clip((level - widest) / (1.0 - widest), 0.0, 1.0)
    return (1.0 - plan.heart.base_narrowing * up**2) * np.sqrt(1.0 - down**plan.heart.apex_power)


def roundness(plan: Plan) -> Doubles:
    """Relative radius over the angle."""
    shape = np.ones(ANGLES)
    for harmonic, (size, turn) in enumerate(zip(plan.heart.outline, plan.heart.outline_turn, strict=True), start=2):
        shape = shape + size * np.cos(harmonic * THETA + turn)
    return shape


def infarcted(plan: Plan, level: Doubles) -> Doubles:
    """1 inside the infarct, 0 outside, soft between; broadcast over level and angle."""
    infarct = plan.function.infarct
    if infarct is None:
        return np.zeros(np.broadcast_shapes(level.shape, THETA.shape))
    apart = np.abs((THETA - np.deg2rad(infarct.angle_deg) + np.pi) % (2 * np.pi) - np.pi)
    across = apart / np.deg2rad(infarct.half_width_deg)
    along = np.abs(level - infarct.centre_level) / infarct.half_length
    return np.asarray(np.clip(2.6 * (1.0 - np.sqrt(across**2 + along**2)), 0.0, 1.0), np.float64)


def moved(plan: Plan, level: Doubles, shrink: Doubles | float) -> Doubles:
    """Radius relative to ED: the apex contracts more than the base, an infarct hardly."""
    gain = 1.0 + 0.18 * (np.clip(level, 0.0, 1.0) - 0.45)
    infarct = plan.function.infarct
    if infarct is not None:
        scar = infarcted(plan, level)
        gain = gain * (1.0 - scar) + infarct.contraction * scar
    return np.asarray(np.clip(1.0 - gain * (1.0 - shrink), 0.0, None), np.float64)


def cross_section(plan: Plan, level: Doubles, at_ed: Doubles, wall: float) -> Doubles:
    """Cross-section of the wall at ED divided by pi (mm²): thinner at base, apex and in a scar."""
    heart = plan.heart
    up = np.clip(level, 0.0, 1.0)
    thickness = (
        wall
        * (heart.base_wall + (1.0 - heart.base_wall) * np.clip(up / 0.22, 0.0, 1.0))
        * (1.0 - (1.0 - heart.apex_wall) * up**2)
    )
    thickness = thickness * (1.0 + heart.wall_unevenness * np.cos(THETA - 0.4))
    if plan.function.infarct is not None:
        thickness = thickness * (1.0 - (1.0 - plan.function.infarct.thinning) * infarcted(plan, level))
    return np.asarray(2.0 * at_ed * thickness + thickness**2)


def solve(plan: Plan, blood: tuple[float, float] = (1.0, 1.0), muscle: tuple[float, float] = (1.0, 1.0)) -> Ventricle:
    """Find the scales that give the planned volumes.

    ``blood`` and ``muscle`` multiply the volumes aimed at, at (ED, ES): papillary muscles and
    trabeculae take from the cavity what these give back (see :func:`heart.calibrated`).
    """
    function = plan.function
    full = fullness(function, plan.n_frames, plan.ed_frame, plan.es_frame)
    base = function.base_descent_mm * (1.0 - full)
    length = function.cavity_length_mm
    steps = 28
    level = ((np.arange(steps) + 0.5) / steps)[:, None]
    shape = (profile(plan, level) * roundness(plan)) ** 2
    per_step = (length - base) / steps  # mm of depth a step stands for, by frame

    radius = float(np.sqrt(function.edv_ul * blood[0] / (np.pi * shape.mean(1).sum() * length / steps)))
    target = (function.esv_ul + (function.edv_ul - function.esv_ul) * full) * (
        blood[1] + (blood[0] - blood[1]) * np.clip(full, 0.0, 1.0)
    )
    tries = np.linspace(0.05, 1.15, 45)
    relative = np.array([(shape * moved(plan, level, t) ** 2).mean(1).sum() for t in tries.tolist()])
    wanted = target / (np.pi * radius**2 * per_step)
    shrink = np.interp(wanted, relative, tries)

    at_ed = radius * np.sqrt(shape)
    mass_ul = np.array([function.mass_ed_mg * muscle[0], function.mass_es_mg * muscle[1]]) / DENSITY_MG_PER_UL
    walls = np.linspace(0.3, 2.4, 43)
    sections = np.array([cross_section(plan, level, at_ed, w).mean(1).sum() / steps for w in walls])
    # Below the cavity's apex the cap is two thirds of a cylinder.
    cap = np.pi * (walls * plan.heart.apex_wall) ** 2 * (2.0 / 3.0) * walls * plan.heart.apex_wall
    wall = float(np.interp(mass_ul[0], np.pi * sections * length + cap, walls))
    section = float(np.interp(wall, walls, sections))
    tip = float(np.interp(wall, walls, cap))
    now = mass_ul[1] + (mass_ul[0] - mass_ul[1]) * full
    thicken = now / (np.pi * section * (length - base) + tip)
    return Ventricle(plan, full, base, radius, wall, shrink, thicken)
