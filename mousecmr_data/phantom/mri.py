"""From tissue to stored numbers: spoiled gradient echo, inflow, coil, k-space, noise, quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import DrawnGrid, make_smooth_noise
from mousecmr_data.phantom.heart import HeartSlice, Ventricle
from mousecmr_data.phantom.plan import Acquisition, Plan, Relaxation, get_relaxation

# MERGED phantom.mri: How bright the blood is inside the LV: jets of mid-systole and early filling lose their signal.


def compute_jet_strength(full: NDArray[np.float64]) -> NDArray[np.float64]:
    """0..1 per frame: how fast the volume changes, against its fastest."""
    speed = np.abs(np.gradient(full))
    return np.asarray(np.clip(speed / max(float(speed.max()), 1e-6), 0.0, 1.0) ** 1.5)


def compute_blood_signal(
    plan: Plan, ventricle: Ventricle, heart: HeartSlice, depth: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Factor on the LV blood, (frames, rows, columns), and on the myocardium, (rows, columns)."""
    size = heart.lv.shape[1:]
    scan = plan.acquisition
    pulse = 1.0 + scan.blood_pulsation * np.cos(2 * np.pi * np.arange(plan.n_frames) / plan.n_frames)
    strength = compute_jet_strength(ventricle.full)
    fixed = np.random.default_rng([plan.seed, 51])
    angle, reach = fixed.uniform(0, 2 * np.pi), fixed.uniform(0.2, 1.0)
    level = float(np.clip(depth / ventricle.length, 0.0, 1.0))
    # Jets are strong near the valves and die out towards the apex.
    local = scan.inflow_void * np.clip(1.25 - level, 0.0, 1.0) * strength
    x, y = np.float32(reach * np.cos(angle)), np.float32(reach * np.sin(angle))
    width = np.float32(fixed.uniform(0.5, 1.1))
    bent = [np.float32(0.55) * make_smooth_noise(rng, size, (12, 12)) for _ in range(2)]
    stretch = np.float32(fixed.uniform(0.6, 1.5))
    near = np.exp(
        -(((heart.at.x - x + bent[0]) * stretch) ** 2 + ((heart.at.y - y + bent[1]) / stretch) ** 2) / (2 * width**2)
    )
    eddies = 0.75 + 0.6 * make_smooth_noise(rng, (plan.n_frames, *size), (max(plan.n_frames / 2.0, 1), 16, 16))
    # The jet flickers from frame to frame, and the rest of the pool loses a little with it.
    loss = local[:, None, None] * np.clip(near * np.clip(eddies, 0.0, 1.3) + 0.15, 0.0, 1.0)
    swirl = 1.0 + np.float32(0.05) * make_smooth_noise(rng, (plan.n_frames, *size), (max(plan.n_frames / 3.0, 1), 9, 9))
    tone = pulse.astype(np.float32)[:, None, None] * (1.0 - loss.astype(np.float32)) * swirl
    grain = 1.0 + np.float32(0.5 * plan.thorax.texture) * make_smooth_noise(rng, size, (16, 16))
    return np.clip(tone, 0.05, 2.0).astype(np.float32), grain.astype(np.float32)


# MERGED phantom.mri: The body is larger than the field: along phase encoding, what lies beyond one side wraps to the other.


@dataclass(frozen=True, slots=True)
class AliasingFold:
    """How the drawn field's pixels fall on the stored image: what lies beyond one end wraps to the other."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    row_weight: Floats
    column_weight: Floats
    shape: tuple[int, int]

    def add(self, image: Complexes, drawn: Complexes, rows: slice, columns: slice) -> None:
        """Add a rectangle of the drawn field, (..., rows, columns), to stored images in place."""
        weighted = drawn * (self.row_weight[rows, None] * self.column_weight[None, columns])
        # A rectangle may hold both a pixel and one that wraps onto it: add the three bands one by one.
        for row_band in _find_bands(self.rows[rows]):
            for column_band in _find_bands(self.columns[columns]):
                target = (..., _make_slice(self.rows[rows][row_band]), _make_slice(self.columns[columns][column_band]))
                image[target] += weighted[..., row_band, column_band]


def _find_bands(index: NDArray[np.intp]) -> list[slice]:
    """The stretches over which an index counts up by one."""
    cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
    return [slice(a, b) for a, b in pairwise(cuts) if b > a]


def _make_slice(index: NDArray[np.intp]) -> slice:
    return slice(int(index[0]), int(index[-1]) + 1)


def make_fold(plan: Plan, grid: DrawnGrid) -> AliasingFold:
    """The wrap of a plan's field."""
    indices, weights = [], []
    for size, stored, pad in zip(grid.x.shape, plan.shape_yx, grid.pad, strict=True):
        at = np.arange(size) - pad
        indices.append(at % stored)
        beyond = (at < 0) | (at >= stored)
        weights.append(np.where(beyond, plan.acquisition.wrap, 1.0).astype(np.float32))
    return AliasingFold(indices[0], indices[1], weights[0], weights[1], plan.shape_yx)


Floats = NDArray[np.float32]
Complexes = NDArray[np.complex64]


def compute_spoiled_echo(scan: Acquisition, tissue: Relaxation, pulses: float | None = None) -> float:
    """Signal of the spoiled gradient echo: steady state, or after ``pulses`` RF pulses (inflow).

    Fresh blood starts from full magnetisation and approaches the steady state by E1 cos(flip) a pulse.
    """
    flip = np.deg2rad(scan.flip_deg)
    e1 = np.exp(-scan.tr_ms / tissue.t1_ms)
    steady = (1.0 - e1) / (1.0 - e1 * np.cos(flip))
    if pulses is not None:
        steady += (1.0 - steady) * (e1 * np.cos(flip)) ** pulses
    return float(tissue.density * np.sin(flip) * steady * np.exp(-scan.te_ms / tissue.t2star_ms))


def compute_tissue_signals(scan: Acquisition) -> dict[str, complex]:
    """Signal of each tissue with myocardium's as unit; fat carries its phase at the echo."""
    tissues = get_relaxation(scan.field_t)
    factor = dict(scan.contrast)
    unit = compute_spoiled_echo(scan, tissues["myocardium"])
    signals: dict[str, complex] = {
        name: compute_spoiled_echo(scan, tissue) / unit * factor.get(name, 1.0)
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
        signals[name] = compute_spoiled_echo(scan, tissues["blood"], pulses) / unit
    turn = np.exp(2j * np.pi * scan.fat_turns)
    # Fat tissue is two thirds lipid; the water in it keeps its phase.
    for name, lipid in (("fat", 0.7), ("marrow", 0.6), ("skin", 0.2), ("rim", 0.25)):
        signals[name] = signals[name] * (1.0 - lipid + lipid * complex(turn))
    signals["patch"] = 0.55 * signals["muscle"]
    return signals


def compute_coil_sensitivity(plan: Plan, grid: DrawnGrid) -> Floats:
    """Receive sensitivity over the drawn field, mean 1 near the heart; (rows, columns)."""
    scan = plan.acquisition
    rows = (np.arange(grid.x.shape[0]) - (grid.x.shape[0] - 1) / 2)[:, None] * grid.pixel_mm[0]
    columns = (np.arange(grid.x.shape[1]) - (grid.x.shape[1] - 1) / 2)[None, :] * grid.pixel_mm[1]
    away = (columns - scan.coil_at_mm[0]) ** 2 + (rows - scan.coil_at_mm[1]) ** 2
    near = np.exp(-away / (2.0 * scan.coil_reach_mm**2))
    sensitivity = 1.0 - scan.coil_depth + scan.coil_depth * near
    row, column = (int(np.clip(p, 0, n - 1)) for p, n in zip(grid.heart_px, grid.x.shape, strict=True))
    return np.asarray(sensitivity / sensitivity[row, column], np.float32)


def acquire_images(plan: Plan, signal: Complexes, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Image a stack of frames: truncated, noisy k-space, zero-filled, magnitude.

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
    scale = scan.white / abs(compute_tissue_signals(scan)["lv"])
    stored = np.empty(full.shape, np.uint16)
    np.copyto(stored, np.minimum(np.abs(full) * np.float32(scale), np.float32(65535.0)), casting="unsafe")
    return stored


def _select_centre(size: int, kept: int) -> NDArray[np.intp]:
    """FFT-order indices of the central ``kept`` of ``size`` frequencies."""
    return np.concatenate([np.arange((kept + 1) // 2), np.arange(size - kept // 2, size)])
