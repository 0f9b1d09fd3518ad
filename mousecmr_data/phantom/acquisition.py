"""From tissue to stored numbers: spoiled gradient echo, inflow, coil, k-space, noise, quantisation."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Grid
from mousecmr_data.phantom.plan import Acquisition, Plan
from mousecmr_data.phantom.protocol import Relaxation, relaxation

Floats = NDArray[np.float32]
Complexes = NDArray[np.complex64]


def spoiled_echo(scan: Acquisition, tissue: Relaxation, pulses: float | None = None) -> float:
    """Signal of the spoiled gradient echo: steady state, or after ``pulses`` RF pulses (inflow).

    Fresh blood starts from full magnetisation and approaches the steady state by E1 cos(flip) a pulse.
    """
    flip = np.deg2rad(scan.flip_deg)
    e1 = np.exp(-scan.tr_ms / tissue.t1_ms)
    steady = (1.0 - e1) / (1.0 - e1 * np.cos(flip))
    if pulses is not None:
        steady += (1.0 - steady) * (e1 * np.cos(flip)) ** pulses
    return float(tissue.density * np.sin(flip) * steady * np.exp(-scan.te_ms / tissue.t2star_ms))


def tissue_signals(scan: Acquisition) -> dict[str, complex]:
    """Signal of each tissue with myocardium's as unit; fat carries its phase at the echo."""
    tissues = relaxation(scan.field_t)
    factor = dict(scan.contrast)
    unit = spoiled_echo(scan, tissues["myocardium"])
    signals: dict[str, complex] = {
        name: spoiled_echo(scan, tissue) / unit * factor.get(name, 1.0)
        for name, tissue in tissues.items()
        if name != "blood"
    }
    for name, pulses in (
        ("lv", scan.pulses_lv),
        ("rv", scan.pulses_rv),
        ("atria", scan.pulses_atria),
        ("artery", scan.pulses_artery),
        ("vein", scan.pulses_vein),
    ):
        signals[name] = spoiled_echo(scan, tissues["blood"], pulses) / unit
    turn = np.exp(2j * np.pi * scan.fat_turns)
    # Fat tissue is two thirds lipid; the water in it keeps its phase.
    for name, lipid in (("fat", 0.7), ("marrow", 0.6), ("skin", 0.2), ("rim", 0.25)):
        signals[name] = signals[name] * (1.0 - lipid + lipid * complex(turn))
    signals["patch"] = 0.55 * signals["muscle"]
    return signals


def coil(plan: Plan, grid: Grid) -> Floats:
    """Receive sensitivity over the drawn field, mean 1 near the heart; (rows, columns)."""
    scan = plan.acquisition
    rows = (np.arange(grid.x.shape[0]) - (grid.x.shape[0] - 1) / 2)[:, None] * grid.pixel_mm[0]
    columns = (np.arange(grid.x.shape[1]) - (grid.x.shape[1] - 1) / 2)[None, :] * grid.pixel_mm[1]
    away = (columns - scan.coil_at_mm[0]) ** 2 + (rows - scan.coil_at_mm[1]) ** 2
    near = np.exp(-away / (2.0 * scan.coil_reach_mm**2))
    sensitivity = 1.0 - scan.coil_depth + scan.coil_depth * near
    row, column = (int(np.clip(p, 0, n - 1)) for p, n in zip(grid.heart_px, grid.x.shape, strict=True))
    return np.asarray(sensitivity / sensitivity[row, column], np.float32)


def acquire(plan: Plan, signal: Complexes, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Image a stack of frames: truncated, noisy k-space, zero-filled, magnitude.

    ``signal`` is (frames, rows, columns), complex64, in units of myocardium. Returns uint16 of that shape.
    """
    scan = plan.acquisition
    frames, rows, columns = signal.shape
    ny, nx = scan.matrix_yx
    keep_y, keep_x = _centre(rows, ny), _centre(columns, nx)
    k = scipy.fft.fft(signal, axis=-1)[:, :, keep_x]
    k = scipy.fft.fft(k, axis=-2)[:, keep_y, :]
    along = (ny, nx)[scan.phase_axis]
    # Beat-to-beat differences between phase-encoding steps smear ghosts along that axis.
    steps = 1.0 + scan.ghosting * (rng.standard_normal((frames, along)) + 1j * rng.standard_normal((frames, along)))
    # Breathing that the gate let through repeats: a faint coherent ghost.
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
    wide = np.zeros((frames, ny, columns), np.complex64)
    wide[:, :, keep_x] = k
    wide = scipy.fft.ifft(wide, axis=-1, overwrite_x=True)
    full = np.zeros((frames, rows, columns), np.complex64)
    full[:, keep_y, :] = wide
    full = scipy.fft.ifft(full, axis=-2, overwrite_x=True)
    scale = scan.white / abs(tissue_signals(scan)["lv"])
    stored = np.empty(full.shape, np.uint16)
    np.copyto(stored, np.minimum(np.abs(full) * np.float32(scale), np.float32(65535.0)), casting="unsafe")
    return stored


def _centre(size: int, kept: int) -> NDArray[np.intp]:
    """FFT-order indices of the central ``kept`` of ``size`` frequencies."""
    return np.concatenate([np.arange((kept + 1) // 2), np.arange(size - kept // 2, size)])
