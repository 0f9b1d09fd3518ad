"""DICOM: a cine in classic files (one image each, in any order) or enhanced multi-frame ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.errors import FileLayoutError, MissingDataError, UnitsError
from mousecmr_data.formats import cinemodel
from mousecmr_data.formats.dicomfiles import TOLERANCE_MM, Plane, load, planes
from mousecmr_data.formats.grid import LETTERS, Grid, turned
from mousecmr_data.formats.plausible import GIVE
from mousecmr_data.formats.quiet import quiet

UNEVEN = 0.02
"""Share of the slice distance by which distances may differ."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(
    paths: Sequence[Path], *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """The cine in DICOM files as a dataset of the cine model.

    Images are sorted by their position along the stack's normal and by trigger time (else temporal position,
    else instance number); every slice must have the same number of frames, each once. Slices count with their
    distance, not their thickness. Parameters as for :func:`mousecmr_data.formats.nifti.read`.

    Raises :class:`FileLayoutError` (no image, geometry missing or not one stack, a frame missing or twice),
    :class:`UnitsError`.
    """
    stack, header = sorted_planes(paths)
    first = stack[0][0]
    z, source, notes = _thickness(stack)
    steps = (z, *first.spacing) if spacing is None else tuple(float(v) for v in spacing)
    if len(steps) != 3:
        raise UnitsError(f"The spacing is {spacing!r}.", "three sizes in mm", GIVE)
    times = _times(stack, notes)
    step = float(np.diff(times).mean()) if times is not None else None
    if frame_time_ms is not None:
        step, time_source = frame_time_ms, "given by the caller"
    elif step is not None:
        time_source = "the header (trigger time)"
    else:
        step, time_source = _stated(header)
    grid = _grid(stack, z, step or 0.0)
    rate = _heart_rate(header)
    return cinemodel.dataset(
        grid.to_model(_pixels(stack)),
        (steps[0], steps[1], steps[2]),
        source if spacing is None else "given by the caller",
        step,
        time_source,
        grid,
        notes,
        mouse=first.path.parent.name or first.path.stem,
        source=f"{len(paths)} DICOM file{'s'[: len(paths) > 1]}",
        format="DICOM",
        synthetic="SYNTHETIC" in str(header.get("ImageComments", "")),
        **({"heart_rate_bpm": rate} if rate else {}),
    )


def sorted_planes(paths: Sequence[Path]) -> tuple[list[list[Plane]], Any]:
    """Planes as [slice][frame], and the header of the first file."""
    if not paths:
        raise MissingDataError("There is no DICOM file.", "one or more")
    every: list[Plane] = []
    headers = []
    for path in paths:
        found, header = planes(path)
        every += found
        headers.append(header)
    who = paths[0].parent.name
    kinds = sorted({p.geometry for p in every}, key=str)
    if len(kinds) > 1:
        raise FileLayoutError(
            f"The images in {who} have {len(kinds)} different sizes, directions or pixel spacings.",
            "one stack",
            "give the files of one series",
        )
    by_depth: dict[int, list[Plane]] = {}
    for plane in sorted(every, key=lambda p: p.depth):
        last = max(by_depth, default=None)
        same = last is not None and plane.depth - by_depth[last][0].depth < TOLERANCE_MM
        by_depth.setdefault(last if same and last is not None else len(by_depth), []).append(plane)
    stack = [_in_time(found) for found in by_depth.values()]
    counts = [len(s) for s in stack]
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = [f"slice {k} has {n}" for k, n in enumerate(counts) if n != usual]
        raise FileLayoutError(
            f"The images in {who} are no grid of slices and frames: most slices have {usual} frames, "
            f"{', '.join(odd[:5])}.",
            "every slice in every frame, once",
            "look for files that are missing or belong to another series",
        )
    return stack, headers[0]


def _in_time(found: list[Plane]) -> list[Plane]:
    """The planes of a slice, sorted by time; the same time twice is an error."""
    times = [p.trigger_ms for p in found]
    timed = all(t is not None for t in times) and (len(set(times)) > 1 or len(found) == 1)
    keys = [p.trigger_ms if timed else p.order for p in found]
    if len(set(keys)) < len(found):
        twice = next(k for k in keys if keys.count(k) > 1)
        what = f"trigger time {twice:g} ms" if timed else f"temporal position {twice}"
        raise FileLayoutError(
            f"{found[0].path.name}: two images at the same position ({found[0].depth:g} mm) have the same {what}.",
            "each slice once in each frame",
            "look for files that are there twice or belong to another series",
        )
    return [p for _, p in sorted(zip(keys, found, strict=True), key=lambda pair: float(pair[0] or 0.0))]


def _times(stack: list[list[Plane]], notes: list[str]) -> NDArray[np.float64] | None:
    """Times (frame,) in ms, averaged over slices; None where the files do not say."""
    if len(stack[0]) < 2 or any(p.trigger_ms is None for s in stack for p in s):
        return None
    times = np.array([[p.trigger_ms for p in s] for s in stack], float)
    mean: NDArray[np.float64] = times.mean(axis=0)
    step = float(np.diff(mean).mean())
    if step <= 0:
        return None
    if (apart := float(np.ptp(times, axis=0).max())) > 0.5 * step:
        notes.append(f"Frames of different slices lie up to {apart:.1f} ms apart.")
    if (uneven := float(np.ptp(np.diff(mean)))) > 0.5 * step:
        notes.append(f"Frames are not evenly spaced in time (by {uneven:.1f} ms).")
    return mean


def _thickness(stack: list[list[Plane]]) -> tuple[float, str, list[str]]:
    """Distance of slices in mm (0 where the files do not say), its source, and notes."""
    first = stack[0][0]
    if len(stack) == 1:
        stated = first.between or first.thickness or 0.0
        return abs(stated), "the header (one slice: its thickness)", []
    steps = np.diff([s[0].depth for s in stack])
    if np.ptp(steps) > UNEVEN * np.median(steps):
        at = int(np.argmax(steps))
        raise FileLayoutError(
            f"Slices are {np.median(steps):.3g} mm apart, but slices {at} and {at + 1} {steps[at]:.3g} mm.",
            "evenly spaced slices",
            "look for slices that are missing or belong to another series",
        )
    distance = float(np.mean(steps))
    notes = []
    if first.thickness and abs(first.thickness - distance) > UNEVEN * distance:
        notes.append(f"Slices are {first.thickness:g} mm thick and {distance:.3g} mm apart: volumes use the distance.")
    return distance, "the header (positions)", notes


def _grid(stack: list[list[Plane]], distance: float, step: float) -> Grid:
    first = stack[0][0]
    directions = np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)
    if np.abs(directions.T @ directions - np.eye(3)).max() > UNEVEN:
        raise FileLayoutError(
            f"{first.path.name}: rows and columns are not at right angles.", "ImageOrientationPatient"
        )
    y, x, z = (v or 1.0 for v in (*first.spacing, distance))
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ directions * (x, y, z)
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(first.position)
    letters, flipped = turned(affine, 2, oriented=True)
    shape = (first.columns, first.rows, len(stack), len(stack[0]))
    return Grid(
        shape, letters + LETTERS[3], flipped, tuple(tuple(r) for r in affine.tolist()), "mm", "msec", step, True
    )


def _pixels(stack: list[list[Plane]]) -> NDArray[Any]:
    """All pixels (column, row, slice, frame), each file read once."""
    first = stack[0][0]
    shape = (len(stack[0]), len(stack), first.rows, first.columns)
    cinemodel.check_size(first.path.parent.name, shape, 8)
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for s in stack for p in s)
    array = np.empty(shape, np.float32 if scaled else np.int32)
    wanted: dict[Path, list[tuple[int, int, Plane]]] = {}
    for z, found in enumerate(stack):
        for t, plane in enumerate(found):
            wanted.setdefault(plane.path, []).append((t, z, plane))
    for path, here in wanted.items():
        try:
            with quiet("pydicom"):
                pixels = np.asarray(load(path).pixel_array)
            pixels = pixels.reshape(-1, first.rows, first.columns)
            for t, z, plane in here:
                array[t, z] = pixels[plane.index] * plane.slope + plane.intercept if scaled else pixels[plane.index]
        except FileLayoutError:
            raise
        except Exception as e:  # decoders raise what they like
            raise FileLayoutError(
                f"{path.name}: its pixels cannot be read: {type(e).__name__}: {e}",
                "images that pydicom can decode",
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg  (for compressed images)",
            ) from e
    return cinemodel.as_image(first.path.name, array).transpose(3, 2, 1, 0)


def _stated(header: Any) -> tuple[float | None, str]:
    for name in ("TemporalResolution", "FrameTime"):
        if value := header.get(name):
            return float(value), f"the header ({name})"
    return None, ""


def _heart_rate(header: Any) -> float | None:
    """Beats a minute, where the header says so."""
    try:
        if rate := header.get("HeartRate"):
            return float(rate)
        if interval := header.get("NominalInterval"):
            return 60_000.0 / float(interval)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return None
