"""A mouse in several NIfTI files: a file a frame (3D), or a file a slice (x, y, 1, frame)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.formats import cinemodel, nifti
from mousecmr_data.formats.grid import MM, Grid
from mousecmr_data.formats.quiet import quiet
from mousecmr_data.schema.variables import DIMS, IMAGE

TOLERANCE_MM = 1e-3
nib: Any = nifti.nib


def natural(path: Path) -> tuple[object, ...]:
    """A sorting key by which ``frame10`` comes after ``frame9``."""
    return tuple((int(t), "") if t.isdigit() else (-1, t.lower()) for t in re.split(r"(\d+)", str(path)))


def groups(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Which of ``paths`` (of one folder) are one mouse: cines alone; files of one frame, or of one slice, whose
    grids have the same shape and the same directions, together."""
    alone: list[tuple[Path, ...]] = []
    together: dict[object, list[Path]] = {}
    for path in sorted(paths, key=natural):
        try:
            with quiet("nibabel.global"):
                image = nib.load(path)
            shape, affine = tuple(image.shape), np.asarray(image.affine)
        except Exception:  # reading it will say what is wrong
            alone.append((path,))
            continue
        if len(shape) == 3:
            together.setdefault(("frame", shape, _rounded(affine)), []).append(path)
        elif len(shape) == 4 and shape[2] == 1 and shape[3] > 1:
            together.setdefault(("slice", shape, _rounded(affine[:3, :3])), []).append(path)
        else:
            alone.append((path,))
    return alone + [tuple(found) for found in together.values()]


def read(
    paths: Sequence[Path],
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """The cine in the files ``paths``, as :func:`nifti.read` gives that of one file.

    Files of one frame are taken in the order of their names (numbers as numbers), files of one slice in the
    order of their positions.
    """
    if len(paths) == 1:
        return nifti.read(paths[0], spacing=spacing, axes=axes, frame_time_ms=frame_time_ms)
    if axes is None and nib.load(paths[0]).ndim == 4:
        return _slices(paths, spacing, frame_time_ms)
    parts = [nifti.read(p, spacing=spacing, axes=axes, frame_time_ms=frame_time_ms) for p in paths]
    sizes = {tuple(p.sizes[d] for d in DIMS) for p in parts}
    if len(sizes) > 1 or parts[0].sizes["frame"] != 1:
        raise FileLayoutError(
            f"The {len(paths)} files in {paths[0].parent.name} are (frame, slice, y, x) {sorted(sizes)}.",
            "files of one frame each, of the same size",
            "give files that are cines one by one",
        )
    grid = Grid.of(parts[0])
    whole = replace(grid, axes=grid.axes + "t", shape=(*grid.shape, len(paths)))
    note = f"{len(paths)} files of one frame each were taken as one mouse, in the order of their names."
    return _joined(parts, "frame", whole, note, frame_time_ms)


def _slices(paths: Sequence[Path], spacing: Sequence[float] | None, frame_time_ms: float | None) -> xr.Dataset:
    affines = [np.asarray(nib.load(p).affine, float) for p in paths]
    normal = np.cross(affines[0][:3, 0], affines[0][:3, 1])
    normal /= max(float(np.linalg.norm(normal)), 1e-12)
    positions = np.array([float(a[:3, 3] @ normal) for a in affines])
    order = np.argsort(positions)
    steps = np.diff(positions[order])
    if steps.min() <= 0 or np.ptp(steps) > 0.02 * steps.mean():
        raise FileLayoutError(
            f"The slices in {paths[0].parent.name} lie at {', '.join(f'{p:g}' for p in positions[order])}.",
            "each slice once, evenly spaced",
        )
    unit = MM.get(nib.load(paths[0]).header.get_xyzt_units()[0], 1.0)
    thickness = float(steps.mean()) * unit
    parts = []
    for k in order:
        pixels = nib.affines.voxel_sizes(affines[k])[:2] * unit
        own = spacing or (thickness, float(pixels[1]), float(pixels[0]))
        try:
            parts.append(nifti.read(paths[k], spacing=own, axes="xyzt", frame_time_ms=frame_time_ms))
        except MouseCMRError as e:
            raise FileLayoutError(f"{paths[k].name}: {e.found}", e.expected, e.next_step) from e
    if len({p.sizes["frame"] for p in parts}) > 1:
        raise FileLayoutError(f"The slices in {paths[0].parent.name} differ in their frames.", "the same frames")
    affine = affines[order[0]].copy()
    affine[:3, 2] = normal * steps.mean()
    grid = Grid.of(parts[0])
    whole = replace(
        grid,
        shape=(*grid.shape[:2], len(paths), grid.shape[3]),
        affine=tuple(tuple(row) for row in affine.tolist()),
    )
    note = f"{len(paths)} files of one slice each were taken as one mouse, in the order of their positions."
    return _joined(parts, "slice", whole, note, frame_time_ms)


def _joined(parts: list[xr.Dataset], dim: str, grid: Grid, note: str, frame_time_ms: float | None) -> xr.Dataset:
    first = parts[0]
    image = np.concatenate([p[IMAGE].values for p in parts], axis=DIMS.index(dim))
    dz, dy, dx = (
        float(first["z"].attrs["slice_thickness"]),
        float(first["y"].values[1] - first["y"].values[0]),
        float(first["x"].values[1] - first["x"].values[0]),
    )
    known = bool(first.attrs[cinemodel.FRAME_TIME_KNOWN]) and (dim == "slice" or frame_time_ms is not None)
    return cinemodel.dataset(
        image,
        (dz, dy, dx),
        str(first.attrs["voxel_size_source"]),
        float(first["time"].attrs["frame_time"]) if known else None,
        str(first.attrs["frame_time_source"]),
        grid,
        [*dict.fromkeys(n for p in parts for n in p.attrs[cinemodel.NOTES]), note],
        mouse=str(first.attrs["mouse"]),
        source=f"{len(parts)} NIfTI files",
        format="NIfTI",
        synthetic=any(bool(p.attrs["synthetic"]) for p in parts),
    )


def _rounded(array: Any) -> object:
    return tuple(np.round(np.asarray(array, float) / TOLERANCE_MM).ravel().tolist())
