"""Signals and images of the scanner: spoiled gradient echo, inflow, coil, k-space, noise, quantisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Complexes, DrawnGrid, Floats, make_smooth_noise
from mousecmr_data.phantom.heart import HeartSlice, Ventricle
from mousecmr_data.phantom.plan import TISSUES, Acquisition, Plan, Tissue


def compute_blood_signal(
    plan: Plan, ventricle: Ventricle, heart: HeartSlice, depth: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the factor on the LV blood, (frames, rows, columns), and on the myocardium, (rows, columns).

    The jets of mid-systole and early filling lose their signal.
    """
    size = heart.lv.shape[1:]
    scan = plan.acquisition
    pulse = 1.0 + scan.blood_pulsation * np.cos(2 * np.pi * np.arange(plan.n_frames) / plan.n_frames)
    # The speed of the volume's change relative to its maximum, 0..1 per frame.
    speed = np.abs(np.gradient(ventricle.fullness))
    strength = np.clip(speed / max(float(speed.max()), 1e-6), 0.0, 1.0) ** 1.5
    fixed_rng = np.random.default_rng([plan.seed, 51])  # the same in all slices
    angle, reach = fixed_rng.uniform(0, 2 * np.pi), fixed_rng.uniform(0.2, 1.0)
    level = float(np.clip(depth / ventricle.length, 0.0, 1.0))
    # Jets are strong near the valves and weaker towards the apex.
    local_void = scan.inflow_void * np.clip(1.25 - level, 0.0, 1.0) * strength
    x, y = np.float32(reach * np.cos(angle)), np.float32(reach * np.sin(angle))
    width = np.float32(fixed_rng.uniform(0.5, 1.1))
    bend_x, bend_y = (np.float32(0.55) * make_smooth_noise(rng, size, (12, 12)) for _ in range(2))
    stretch = np.float32(fixed_rng.uniform(0.6, 1.5))
    dx, dy = (heart.polar.x - x + bend_x) * stretch, (heart.polar.y - y + bend_y) / stretch
    jet = np.exp(-(dx**2 + dy**2) / (2 * width**2))
    eddies = 0.75 + 0.6 * make_smooth_noise(rng, (plan.n_frames, *size), (max(plan.n_frames / 2.0, 1), 16, 16))
    # The jet's strength varies from frame to frame; the rest of the blood pool loses a little signal with it.
    loss = local_void[:, None, None] * np.clip(jet * np.clip(eddies, 0.0, 1.3) + 0.15, 0.0, 1.0)
    swirl = 1.0 + np.float32(0.05) * make_smooth_noise(rng, (plan.n_frames, *size), (max(plan.n_frames / 3.0, 1), 9, 9))
    tone = pulse.astype(np.float32)[:, None, None] * (1.0 - loss.astype(np.float32)) * swirl
    grain = 1.0 + np.float32(0.5 * plan.thorax.texture) * make_smooth_noise(rng, size, (16, 16))
    return np.clip(tone, 0.05, 2.0).astype(np.float32), grain.astype(np.float32)


def add_wrapped(plan: Plan, grid: DrawnGrid, image: Complexes, drawn: Complexes, box: tuple[slice, slice]) -> None:
    """Add the rectangle ``box`` of the drawn field, (..., rows, columns), to stored images in place.

    Along the phase-encoding axis, the part beyond one end of the stored field wraps to the other end, ``wrap`` times
    as bright.
    """
    axis = plan.acquisition.phase_axis
    stored, start, stop = plan.shape_yx[axis], box[axis].start - grid.pad[axis], box[axis].stop - grid.pad[axis]
    # A rectangle may hold both a pixel and one that wraps onto it: add the three bands one by one.
    for offset, weight in ((-stored, plan.acquisition.wrap), (0, 1.0), (stored, plan.acquisition.wrap)):
        low, high = max(start, offset), min(stop, offset + stored)
        if low < high:
            band: list[Any] = [..., slice(None), slice(None)]
            target: list[Any] = [..., *box]
            band[axis - 2], target[axis - 2] = slice(low - start, high - start), slice(low - offset, high - offset)
            image[tuple(target)] += drawn[tuple(band)] * np.float32(weight)


def compute_spoiled_echo(scan: Acquisition, tissue: Tissue, pulses: float | None = None) -> float:
    """Return the signal of the spoiled gradient echo: steady state, or after ``pulses`` RF pulses (inflow).

    Fresh blood starts from full magnetisation and approaches the steady state by E1 cos(flip) per pulse.
    """
    flip = np.deg2rad(scan.flip_deg)
    e1 = np.exp(-scan.tr_ms / tissue.t1_ms)
    steady = (1.0 - e1) / (1.0 - e1 * np.cos(flip))
    if pulses is not None:
        steady += (1.0 - steady) * (e1 * np.cos(flip)) ** pulses
    return float(tissue.density * np.sin(flip) * steady * np.exp(-scan.te_ms / tissue.t2star_ms))


def compute_tissue_signals(scan: Acquisition) -> dict[str, complex]:
    """Return the signal of each tissue relative to myocardium; fat carries its phase at the echo."""
    # T1 grows and T2* falls with the field.
    longer, shorter = (scan.field_t / 9.4) ** 0.3, (scan.field_t / 9.4) ** -0.7
    tissues = {
        name: replace(tissue, t1_ms=tissue.t1_ms * longer, t2star_ms=tissue.t2star_ms * shorter)
        for name, tissue in TISSUES.items()
    }
    unit = compute_spoiled_echo(scan, tissues["myocardium"])
    blood = tissues.pop("blood")
    factor = dict(scan.contrast)
    signals: dict[str, complex] = {
        name: compute_spoiled_echo(scan, tissue) / unit * factor.get(name, 1.0) for name, tissue in tissues.items()
    }
    for name in ("lv", "rv", "atria", "artery", "vein"):
        signals[name] = compute_spoiled_echo(scan, blood, getattr(scan, f"pulses_{name}")) / unit
    turn = complex(np.exp(2j * np.pi * scan.fat_turns))
    # Fat tissue is two thirds lipid; the water in it keeps its phase.
    for name, lipid in (("fat", 0.7), ("marrow", 0.6), ("skin", 0.2), ("rim", 0.25)):
        signals[name] *= 1.0 - lipid + lipid * turn
    signals["patch"] = 0.55 * signals["muscle"]
    return signals


def compute_coil_sensitivity(plan: Plan, grid: DrawnGrid) -> Floats:
    """Return the receive sensitivity over the drawn field, 1 at the heart; (rows, columns)."""
    scan = plan.acquisition
    rows = (np.arange(grid.x.shape[0]) - (grid.x.shape[0] - 1) / 2)[:, None] * grid.pixel_mm[0]
    columns = (np.arange(grid.x.shape[1]) - (grid.x.shape[1] - 1) / 2)[None, :] * grid.pixel_mm[1]
    distance_squared = (columns - scan.coil_at_mm[0]) ** 2 + (rows - scan.coil_at_mm[1]) ** 2
    near_coil = np.exp(-distance_squared / (2.0 * scan.coil_reach_mm**2))
    sensitivity = 1.0 - scan.coil_depth + scan.coil_depth * near_coil
    row, column = (int(np.clip(p, 0, n - 1)) for p, n in zip(grid.heart_px, grid.x.shape, strict=True))
    return np.asarray(sensitivity / sensitivity[row, column], np.float32)


def acquire_images(plan: Plan, signal: Complexes, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Compute the images of a stack of frames: truncated, noisy k-space, zero-filled, magnitude.

    ``signal`` is (frames, rows, columns), complex64, in units of myocardium. Returns uint16 of that shape.
    """
    scan = plan.acquisition
    frames, rows, columns = signal.shape
    ny, nx = scan.matrix_yx
    keep_y, keep_x = _select_centre(rows, ny), _select_centre(columns, nx)
    k = scipy.fft.fft(signal, axis=-1)[:, :, keep_x]
    k = scipy.fft.fft(k, axis=-2)[:, keep_y, :]
    along = (ny, nx)[scan.phase_axis]
    # Beat-to-beat differences between phase-encoding steps smear ghosts along that axis.
    steps = 1.0 + scan.ghosting * (rng.standard_normal((frames, along)) + 1j * rng.standard_normal((frames, along)))
    # Breathing motion that respiratory gating left over is periodic: it gives a faint periodic ghost.
    turns = np.arange(along) * rng.uniform(0.08, 0.42) + rng.uniform(size=(frames, 1))
    steps = steps + scan.breathing * np.cos(2.0 * np.pi * turns)
    k *= (steps[:, :, None] if scan.phase_axis == 0 else steps[:, None, :]).astype(np.complex64)
    # Noise SD per channel in the image is 1 / SNR; the inverse transform divides by rows x columns.
    spread = np.float32(rows * columns / np.sqrt(ny * nx) / scan.snr_myocardium)
    noise = rng.standard_normal((frames, ny, nx, 2), dtype=np.float32)
    k += spread * noise.view(np.complex64)[..., 0]
    if scan.apodisation:
        window = [1.0 - scan.apodisation * np.abs(np.fft.fftfreq(n) * 2) ** 2 for n in (ny, nx)]
        k *= (window[0][:, None] * window[1][None, :]).astype(np.float32)
    filled_x = np.zeros((frames, ny, columns), np.complex64)
    filled_x[:, :, keep_x] = k
    filled = np.zeros((frames, rows, columns), np.complex64)
    filled[:, keep_y, :] = scipy.fft.ifft(filled_x, axis=-1, overwrite_x=True)
    image = np.abs(scipy.fft.ifft(filled, axis=-2, overwrite_x=True))
    scale = scan.white / abs(compute_tissue_signals(scan)["lv"])
    return np.minimum(image * np.float32(scale), np.float32(65535.0)).astype(np.uint16)


def _select_centre(size: int, kept: int) -> NDArray[np.intp]:
    """Return the FFT-order indices of the central ``kept`` of ``size`` frequencies."""
    return np.concatenate([np.arange((kept + 1) // 2), np.arange(size - kept // 2, size)])
