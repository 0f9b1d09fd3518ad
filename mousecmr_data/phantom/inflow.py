"""How bright the blood is inside the LV: jets of mid-systole and early filling lose their signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.heart import HeartSlice
from mousecmr_data.phantom.noise import smooth
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.ventricle import Ventricle

Floats = NDArray[np.float32]


def jet_strength(full: NDArray[np.float64]) -> NDArray[np.float64]:
    """0..1 per frame: how fast the volume changes, against its fastest."""
    speed = np.abs(np.gradient(full))
    return np.asarray(np.clip(speed / max(float(speed.max()), 1e-6), 0.0, 1.0) ** 1.5)


def blood_tone(
    plan: Plan, ventricle: Ventricle, heart: HeartSlice, depth: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Factor on the LV blood, (frames, rows, columns), and on the myocardium, (rows, columns)."""
    size = heart.lv.shape[1:]
    scan = plan.acquisition
    pulse = 1.0 + scan.blood_pulsation * np.cos(2 * np.pi * np.arange(plan.n_frames) / plan.n_frames)
    strength = jet_strength(ventricle.full)
    fixed = np.random.default_rng([plan.seed, 51])
    angle, reach = fixed.uniform(0, 2 * np.pi), fixed.uniform(0.2, 1.0)
    level = float(np.clip(depth / ventricle.length, 0.0, 1.0))
    # Jets are strong near the valves and die out towards the apex.
    local = scan.inflow_void * np.clip(1.25 - level, 0.0, 1.0) * strength
    x, y = np.float32(reach * np.cos(angle)), np.float32(reach * np.sin(angle))
    width = np.float32(fixed.uniform(0.5, 1.1))
    bent = [np.float32(0.55) * smooth(rng, size, (12, 12)) for _ in range(2)]
    stretch = np.float32(fixed.uniform(0.6, 1.5))
    near = np.exp(
        -(((heart.at.x - x + bent[0]) * stretch) ** 2 + ((heart.at.y - y + bent[1]) / stretch) ** 2) / (2 * width**2)
    )
    eddies = 0.75 + 0.6 * smooth(rng, (plan.n_frames, *size), (max(plan.n_frames / 2.0, 1), 16, 16))
    # The jet flickers from frame to frame, and the rest of the pool loses a little with it.
    loss = local[:, None, None] * np.clip(near * np.clip(eddies, 0.0, 1.3) + 0.15, 0.0, 1.0)
    swirl = 1.0 + np.float32(0.05) * smooth(rng, (plan.n_frames, *size), (max(plan.n_frames / 3.0, 1), 9, 9))
    tone = pulse.astype(np.float32)[:, None, None] * (1.0 - loss.astype(np.float32)) * swirl
    grain = 1.0 + np.float32(0.5 * plan.thorax.texture) * smooth(rng, size, (16, 16))
    return np.clip(tone, 0.05, 2.0).astype(np.float32), grain.astype(np.float32)
