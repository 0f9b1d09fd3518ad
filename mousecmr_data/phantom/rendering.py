"""A plan becomes a stack: anatomy, motion, signal, scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.acquisition import acquire, coil, tissue_signals
from mousecmr_data.phantom.cavity import trabeculae
from mousecmr_data.phantom.grid import make_grid, slice_depths
from mousecmr_data.phantom.heart import HeartSlice, draw
from mousecmr_data.phantom.inflow import blood_tone
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.thorax import surroundings
from mousecmr_data.phantom.truth import calibrated
from mousecmr_data.phantom.view import window
from mousecmr_data.phantom.wrap import make_fold

Floats = NDArray[np.float32]
Complexes = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A synthetic cine. Unlike a file, ``truth`` has the labels of every frame."""

    image: NDArray[np.uint16]
    """(frame, slice, y, x)"""
    truth: NDArray[np.uint8]
    """(frame, slice, y, x), labels of :class:`mousecmr_data.schema.labels.Label`"""


def render(plan: Plan) -> Rendering:
    """Render a plan; the same plan gives the same arrays in every process."""
    grid = make_grid(plan)
    signals = tissue_signals(plan.acquisition)
    ventricle = calibrated(plan, grid)
    around = surroundings(plan, grid, ventricle)
    pattern = trabeculae(plan)
    sensitivity = coil(plan, grid)
    fold = make_fold(plan, grid)
    everything = (slice(0, grid.x.shape[0]), slice(0, grid.x.shape[1]))
    (top, left), (rows, columns) = grid.pad, plan.shape_yx
    image = np.zeros((plan.n_frames, plan.n_slices, rows, columns), np.uint16)
    truth = np.zeros(image.shape, np.uint8)
    beat = np.arange(plan.n_frames) / plan.n_frames
    pulse = 1.0 + plan.acquisition.blood_pulsation * np.sin(2.0 * np.pi * (beat - 0.1))
    artery = (pulse * signals["artery"].real).astype(np.float32)[:, None, None]
    for index, depth in enumerate(slice_depths(plan).tolist()):
        # What stands still is wrapped once; only the arteries' tone and the heart change with the frame.
        still = np.zeros(grid.x.shape, np.complex64)
        for name, part in around.fractions[index].items():
            if name != "artery":
                still += np.complex64(signals[name]) * part
        still *= around.texture[index]
        flowing = around.fractions[index].get("artery", np.zeros(grid.x.shape, np.float32))
        static, moving = np.zeros((2, rows, columns), np.complex64)
        fold.add(static, still * sensitivity, *everything)
        fold.add(moving, (flowing * sensitivity).astype(np.complex64), *everything)
        frames = static + moving * artery

        view = window(plan, grid, depth)
        box = (view.rows, view.columns)
        heart = draw(plan, ventricle, view, pattern[index], around.room[index][box], index, depth)
        rng = np.random.default_rng([plan.seed, 41, index])
        lv_tone, grain = blood_tone(plan, ventricle, heart, depth, rng)
        change = _heart_signal(heart, lv_tone, grain, signals) - heart.cover * (still[box] + flowing[box] * artery)
        fold.add(frames, change * sensitivity[box], *box)

        image[:, index] = acquire(plan, frames, np.random.default_rng([plan.seed, 42, index]))
        drawn = np.zeros((plan.n_frames, *grid.x.shape), np.uint8)
        drawn[:, view.rows, view.columns] = heart.truth
        truth[:, index] = drawn[:, top : top + rows, left : left + columns]
    return Rendering(image, truth)


def _heart_signal(heart: HeartSlice, lv_tone: Floats, grain: Floats, signals: dict[str, complex]) -> Complexes:
    """Signal of the heart's own tissues in its window, (frames, rows, columns)."""
    water = heart.muscle * (grain * np.float32(signals["myocardium"].real))
    water += heart.lv * lv_tone * np.float32(signals["lv"].real)
    water += heart.rv * (np.float32(0.5) + np.float32(0.5) * lv_tone) * np.float32(signals["rv"].real)
    water += heart.atria * np.float32(signals["atria"].real)
    water += heart.patch * np.float32(signals["patch"].real)
    return np.asarray(water + heart.rim * np.complex64(signals["rim"]), np.complex64)
