"""One synthetic mouse to a file in the dataset's own layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data.phantom.grid import DrawnGrid, compute_slice_depths, make_grid
from mousecmr_data.phantom.heart import (
    HeartSlice,
    Ventricle,
    compute_cavity,
    compute_slice_labels,
    draw_heart_slice,
    make_polar,
    make_trabeculae,
    make_window,
    solve_ventricle,
)
from mousecmr_data.phantom.mri import (
    acquire_images,
    compute_blood_signal,
    compute_coil_sensitivity,
    compute_tissue_signals,
    make_fold,
)
from mousecmr_data.phantom.plan import DENSITY_MG_PER_UL, Plan
from mousecmr_data.phantom.thorax import draw_surroundings
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    FRAMES_WITH_ROI,
    IMAGES,
    MASKS,
    MODEL_TO_FILE,
)

# MERGED phantom.render: The truth without the images: the ventricle fitted to its planned volumes, and its labels.


Floats = NDArray[np.float32]


def calibrate_ventricle(plan: Plan, grid: DrawnGrid) -> Ventricle:
    """The ventricle whose truth has the planned volumes at ED and ES (within about 2 %)."""
    pattern = make_trabeculae(plan)
    volume = float(np.prod(plan.voxel_size_mm))
    function = plan.function
    aims = np.array(
        [
            [function.edv_ul, function.esv_ul],
            [function.mass_ed_mg / DENSITY_MG_PER_UL, function.mass_es_mg / DENSITY_MG_PER_UL],
        ]
    )
    factors = np.array([[1.12, 1.2], [0.95, 0.95]])
    for _ in range(3):
        ventricle = solve_ventricle(plan, _to_pair(factors[0]), _to_pair(factors[1]))
        got = np.zeros((2, 2))
        for column, frame in enumerate((plan.ed_frame, plan.es_frame)):
            labels = count_labels(plan, ventricle, grid, pattern, frame)
            got[:, column] = labels[2] * volume, labels[1] * volume
        factors *= np.clip(aims / np.maximum(got, 1e-3), 0.6, 1.6)
    return solve_ventricle(plan, _to_pair(factors[0]), _to_pair(factors[1]))


def _to_pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def count_labels(plan: Plan, ventricle: Ventricle, grid: DrawnGrid, pattern: Floats, frame: int) -> NDArray[np.intp]:
    """Drawn pixels of each label in one frame, (3,)."""
    total = np.zeros(3, np.intp)
    for _, _, _, labels in _draw_labels(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
        total += np.bincount(labels.ravel(), minlength=3)[:3]
    return total


def compute_labels(plan: Plan, frames: Sequence[int]) -> NDArray[np.uint8]:
    """The labels :func:`~mousecmr_data.phantom.rendering.render` gives these frames, without rendering images.

    Returns uint8 (len(frames), slices, rows, columns).
    """
    grid = make_grid(plan)
    ventricle = calibrate_ventricle(plan, grid)
    pattern = make_trabeculae(plan)
    out = np.zeros((len(frames), plan.n_slices, *grid.x.shape), np.uint8)
    for k, frame in enumerate(frames):
        for index, rows, columns, labels in _draw_labels(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
            out[k, index, rows, columns] = labels[0]
    (top, left), (rows_, columns_) = grid.pad, plan.shape_yx
    return out[:, :, top : top + rows_, left : left + columns_]


def _draw_labels(
    plan: Plan, ventricle: Ventricle, grid: DrawnGrid, pattern: Floats, frames: slice
) -> Iterator[tuple[int, slice, slice, NDArray[np.uint8]]]:
    """Slice index, rows, columns and labels (frames, rows, columns) of each slice that meets the ventricle."""
    for index, depth in enumerate(compute_slice_depths(plan).tolist()):
        if not ventricle.base[frames].min() < depth < ventricle.apex:
            continue
        inner, outer = (part.astype(np.float32) for part in ventricle.radii(depth, frames))
        reach = float(outer.max()) + max(map(abs, plan.function.sway_mm)) + 3.0 * max(grid.pixel_mm)
        view = make_window(plan, grid, depth, reach)
        at = make_polar(plan, ventricle, view, frames)
        into = compute_cavity(plan, ventricle, at, inner, pattern[index], depth, frames)
        yield index, view.rows, view.columns, compute_slice_labels(ventricle, at, into, outer, depth, frames)


# MERGED phantom.render: A plan becomes a stack: anatomy, motion, signal, scanner.


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
    signals = compute_tissue_signals(plan.acquisition)
    ventricle = calibrate_ventricle(plan, grid)
    around = draw_surroundings(plan, grid, ventricle)
    pattern = make_trabeculae(plan)
    sensitivity = compute_coil_sensitivity(plan, grid)
    fold = make_fold(plan, grid)
    everything = (slice(0, grid.x.shape[0]), slice(0, grid.x.shape[1]))
    (top, left), (rows, columns) = grid.pad, plan.shape_yx
    image = np.zeros((plan.n_frames, plan.n_slices, rows, columns), np.uint16)
    truth = np.zeros(image.shape, np.uint8)
    beat = np.arange(plan.n_frames) / plan.n_frames
    pulse = 1.0 + plan.acquisition.blood_pulsation * np.sin(2.0 * np.pi * (beat - 0.1))
    artery = (pulse * signals["artery"].real).astype(np.float32)[:, None, None]
    for index, depth in enumerate(compute_slice_depths(plan).tolist()):
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

        view = make_window(plan, grid, depth)
        box = (view.rows, view.columns)
        heart = draw_heart_slice(plan, ventricle, view, pattern[index], around.room[index][box], index, depth)
        rng = np.random.default_rng([plan.seed, 41, index])
        lv_tone, grain = compute_blood_signal(plan, ventricle, heart, depth, rng)
        change = _compute_heart_signal(heart, lv_tone, grain, signals) - heart.cover * (
            still[box] + flowing[box] * artery
        )
        fold.add(frames, change * sensitivity[box], *box)

        image[:, index] = acquire_images(plan, frames, np.random.default_rng([plan.seed, 42, index]))
        drawn = np.zeros((plan.n_frames, *grid.x.shape), np.uint8)
        drawn[:, view.rows, view.columns] = heart.truth
        truth[:, index] = drawn[:, top : top + rows, left : left + columns]
    return Rendering(image, truth)


def _compute_heart_signal(heart: HeartSlice, lv_tone: Floats, grain: Floats, signals: dict[str, complex]) -> Complexes:
    """Signal of the heart's own tissues in its window, (frames, rows, columns)."""
    water = heart.muscle * (grain * np.float32(signals["myocardium"].real))
    water += heart.lv * lv_tone * np.float32(signals["lv"].real)
    water += heart.rv * (np.float32(0.5) + np.float32(0.5) * lv_tone) * np.float32(signals["rv"].real)
    water += heart.atria * np.float32(signals["atria"].real)
    water += heart.patch * np.float32(signals["patch"].real)
    return np.asarray(water + heart.rim * np.complex64(signals["rim"]), np.complex64)


def write_phantom(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Render ``plan`` and write it to ``path`` (HDF5, upstream layout plus attributes), atomically.

    Frames outside ``plan.labelled_frames`` get an all-zero mask, as upstream: unlabelled, not background.
    """
    write_rendering(plan, render(plan), path)


def write_rendering(plan: Plan, rendering: Rendering, path: str | os.PathLike[str]) -> None:
    """Write what was rendered already; see :func:`write`."""
    masks = np.zeros_like(rendering.truth)
    labelled = list(plan.labelled_frames)
    masks[labelled] = rendering.truth[labelled]
    with atomic_path(path) as partial, h5py.File(partial, "w") as file:
        file.create_dataset(IMAGES, data=_to_file_order(rendering.image))
        rows, columns, _, frames = _to_file_order(masks).shape
        file.create_dataset(
            MASKS,
            data=_to_file_order(masks),
            chunks=(rows, columns, 1, frames),
            compression="gzip",
            compression_opts=1,
        )
        file.create_dataset(FRAMES_WITH_ROI, data=np.asarray(labelled, np.int64))
        file.attrs[ATTR_MOUSE] = plan.mouse
        file.attrs[ATTR_SOURCE] = plan.cohort
        file.attrs[ATTR_SYNTHETIC] = True
        file.attrs[ATTR_PHENOTYPE] = plan.phenotype
        file.attrs[ATTR_VOXEL_SIZE] = np.asarray(plan.voxel_size_mm, np.float64)
        file.attrs[ATTR_FRAME_TIME] = float(plan.frame_time_ms)


def _to_file_order(array: np.ndarray) -> np.ndarray:
    """(frame, slice, y, x) to (row, column, slice, frame), contiguous."""
    return np.ascontiguousarray(array.transpose([MODEL_TO_FILE.index(k) for k in range(4)]))
