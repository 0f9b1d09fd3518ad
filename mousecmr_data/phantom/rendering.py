"""Rendering of a synthetic mouse from its plan, and its file in the dataset's own layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import append_checksum
from mousecmr_data._utils.hdf5 import open_hdf5
from mousecmr_data.phantom.grid import Complexes, DrawnGrid, Floats, compute_slice_depths, make_grid
from mousecmr_data.phantom.heart import (
    HeartSlice,
    Ventricle,
    compute_slice_labels,
    draw_heart_slice,
    make_polar,
    make_trabeculae,
    make_window,
    solve_ventricle,
)
from mousecmr_data.phantom.mri import (
    acquire_images,
    add_wrapped,
    compute_blood_signal,
    compute_coil_sensitivity,
    compute_tissue_signals,
)
from mousecmr_data.phantom.plan import DENSITY_MG_PER_UL, Plan
from mousecmr_data.phantom.thorax import draw_surroundings
from mousecmr_data.schema.labels import Label
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


def calibrate_ventricle(plan: Plan, grid: DrawnGrid) -> Ventricle:
    """Return the ventricle whose labels have the planned volumes at ED and ES (within about 2 %)."""
    pattern = make_trabeculae(plan)
    voxel_ul = float(np.prod(plan.voxel_size_mm))
    function = plan.function
    targets = np.array([[function.edv_ul, function.esv_ul], [function.mass_ed_mg, function.mass_es_mg]])
    targets[1] /= DENSITY_MG_PER_UL  # blood pool and myocardium at (ED, ES), in µL
    factors = np.array([[1.12, 1.2], [0.95, 0.95]])
    for _ in range(3):
        ventricle = solve_ventricle(plan, *factors)
        volumes = np.zeros((2, 2))
        for column, frame in enumerate((plan.ed_frame, plan.es_frame)):
            counts = np.zeros(3, np.intp)
            for *_, labels in _draw_labels(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
                counts += np.bincount(labels.ravel(), minlength=3)
            volumes[:, column] = counts[Label.BLOOD_POOL] * voxel_ul, counts[Label.MYOCARDIUM] * voxel_ul
        factors *= np.clip(targets / np.maximum(volumes, 1e-3), 0.6, 1.6)
    return solve_ventricle(plan, *factors)


def compute_labels(plan: Plan, frames: Sequence[int]) -> NDArray[np.uint8]:
    """Return the labels that :func:`render` gives these frames, without rendering images.

    Returns uint8 (len(frames), slices, rows, columns).
    """
    grid = make_grid(plan)
    ventricle = calibrate_ventricle(plan, grid)
    pattern = make_trabeculae(plan)
    out = np.zeros((len(frames), plan.n_slices, *grid.x.shape), np.uint8)
    for k, frame in enumerate(frames):
        for index, rows, columns, labels in _draw_labels(plan, ventricle, grid, pattern, slice(frame, frame + 1)):
            out[k, index, rows, columns] = labels[0]
    return out[(..., *_select_stored(plan, grid))]


def _draw_labels(
    plan: Plan, ventricle: Ventricle, grid: DrawnGrid, pattern: Floats, frames: slice
) -> Iterator[tuple[int, slice, slice, NDArray[np.uint8]]]:
    """Yield slice index, rows, columns and labels (frames, rows, columns) of each slice that meets the ventricle."""
    for index, depth in enumerate(compute_slice_depths(plan).tolist()):
        at = ventricle.find_labelled_depth(depth)
        if not ventricle.base[frames].min() < at < ventricle.apex:
            continue
        _, outer = ventricle.compute_radii(at, frames)
        reach = float(outer.max()) + max(map(abs, plan.function.sway_mm)) + 3.0 * max(grid.pixel_mm)
        window = make_window(plan, grid, depth, reach)
        polar = make_polar(plan, ventricle, window, frames)
        labels, *_ = compute_slice_labels(plan, ventricle, polar, pattern[index], depth, frames)
        yield index, window.rows, window.columns, labels


def _select_stored(plan: Plan, grid: DrawnGrid) -> tuple[slice, slice]:
    """Return the rows and columns of the drawn field that are stored."""
    (top, left), (rows, columns) = grid.pad, plan.shape_yx
    return slice(top, top + rows), slice(left, left + columns)


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
    surroundings = draw_surroundings(plan, grid, ventricle)
    pattern = make_trabeculae(plan)
    sensitivity = compute_coil_sensitivity(plan, grid)
    whole_field = (slice(0, grid.x.shape[0]), slice(0, grid.x.shape[1]))
    image = np.zeros((plan.n_frames, plan.n_slices, *plan.shape_yx), np.uint16)
    truth = np.zeros(image.shape, np.uint8)
    beat = np.arange(plan.n_frames) / plan.n_frames
    pulse = 1.0 + plan.acquisition.blood_pulsation * np.sin(2.0 * np.pi * (beat - 0.1))
    artery_tone = (pulse * signals["artery"].real).astype(np.float32)[:, None, None]
    for index, depth in enumerate(compute_slice_depths(plan).tolist()):
        # Static tissue is wrapped once; only the arteries' tone and the heart change with the frame.
        body = surroundings[index]
        static = np.zeros(grid.x.shape, np.complex64)
        for name, part in body.fractions.items():
            if name != "artery":
                static += np.complex64(signals[name]) * part
        static *= body.texture
        arteries = body.fractions.get("artery", np.zeros(grid.x.shape, np.float32))
        static_image, artery_image = np.zeros((2, *plan.shape_yx), np.complex64)
        add_wrapped(plan, grid, static_image, static * sensitivity, whole_field)
        add_wrapped(plan, grid, artery_image, (arteries * sensitivity).astype(np.complex64), whole_field)
        frames = static_image + artery_image * artery_tone

        window = make_window(plan, grid, depth)
        box = (window.rows, window.columns)
        heart = draw_heart_slice(plan, ventricle, window, pattern[index], body.inside_chest[box], index, depth)
        rng = np.random.default_rng([plan.seed, 41, index])
        lv_tone, grain = compute_blood_signal(plan, ventricle, heart, depth, rng)
        behind_heart = heart.cover * (static[box] + arteries[box] * artery_tone)
        change = _compute_heart_signal(heart, lv_tone, grain, signals) - behind_heart
        add_wrapped(plan, grid, frames, change * sensitivity[box], box)

        image[:, index] = acquire_images(plan, frames, np.random.default_rng([plan.seed, 42, index]))
        labels = np.zeros((plan.n_frames, *grid.x.shape), np.uint8)
        labels[:, window.rows, window.columns] = heart.truth
        truth[:, index] = labels[(..., *_select_stored(plan, grid))]
    return Rendering(image, truth)


def _compute_heart_signal(heart: HeartSlice, lv_tone: Floats, grain: Floats, signals: dict[str, complex]) -> Complexes:
    """Return the signal of the heart's own tissues in its window, (frames, rows, columns)."""
    water = heart.muscle * (grain * np.float32(signals["myocardium"].real))
    water += heart.lv * lv_tone * np.float32(signals["lv"].real)
    water += heart.rv * (np.float32(0.5) + np.float32(0.5) * lv_tone) * np.float32(signals["rv"].real)
    water += heart.atria * np.float32(signals["atria"].real)
    water += heart.patch * np.float32(signals["patch"].real)
    return np.asarray(water + heart.rim * np.complex64(signals["rim"]), np.complex64)


def write_phantom(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Render ``plan`` and write it to ``path`` (HDF5, upstream layout plus attributes), atomically.

    After the end of the HDF5 data, the file has its checksum as a last line.

    Frames outside ``plan.labelled_frames`` get an all-zero mask, as upstream: unlabelled, not background.
    """
    write_rendering(plan, render(plan), path)


def write_rendering(plan: Plan, rendering: Rendering, path: str | os.PathLike[str]) -> None:
    """Write a finished rendering; see :func:`write_phantom`."""
    masks = np.zeros_like(rendering.truth)
    labelled = list(plan.labelled_frames)
    masks[labelled] = rendering.truth[labelled]
    file_axes = [MODEL_TO_FILE.index(axis) for axis in range(4)]
    file_images = np.ascontiguousarray(rendering.image.transpose(file_axes))
    file_masks = np.ascontiguousarray(masks.transpose(file_axes))
    chunks = (*file_masks.shape[:2], 1, file_masks.shape[3])
    with atomic_path(path) as partial:
        with open_hdf5(partial, "w") as file:
            file.create_dataset(IMAGES, data=file_images)
            file.create_dataset(MASKS, data=file_masks, chunks=chunks, compression="gzip", compression_opts=1)
            file.create_dataset(FRAMES_WITH_ROI, data=np.asarray(labelled, np.int64))
            file.attrs[ATTR_MOUSE] = plan.mouse
            file.attrs[ATTR_SOURCE] = plan.cohort
            file.attrs[ATTR_SYNTHETIC] = True
            file.attrs[ATTR_PHENOTYPE] = plan.phenotype
            file.attrs[ATTR_VOXEL_SIZE] = np.asarray(plan.voxel_size_mm, np.float64)
            file.attrs[ATTR_FRAME_TIME] = float(plan.frame_time_ms)
        append_checksum(partial)
