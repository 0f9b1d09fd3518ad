"""Whether sizes can be those of a mouse: what looks wrong is named, with what to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.errors import UnitsError

PIXEL_MM = (0.02, 0.6)
"""Pixels of mouse cine, with room on both sides (the dataset: 0.1 mm; common: 0.08 to 0.25 mm)."""
SLICE_MM = (0.1, 3.0)
"""Distance of slices, with room on both sides (the dataset: 1.0 mm; common: 0.5 to 1.5 mm)."""
FRAME_MS = (0.5, 60.0)
"""Time between frames, with room on both sides (the dataset: 5 ms; a heart beat lasts 100 to 200 ms)."""

GIVE = "give it in mm: --spacing Z Y X, e.g. --spacing 1.0 0.1 0.1  (Python: spacing=(1.0, 0.1, 0.1))"


def check_spacing(who: str, spacing: Sequence[float]) -> tuple[float, float, float]:
    """``spacing`` (z, y, x) in mm if a mouse's cine can have it, else :class:`UnitsError` with the likely reason."""
    z, y, x = (abs(float(v)) for v in spacing)
    text = f"{z:g} × {y:g} × {x:g}"
    if not all(0 < v < float("inf") for v in (z, y, x)):
        raise UnitsError(f"{who} does not say its voxel size ({text}).", "sizes in mm", GIVE)
    if _fits(z, y, x):
        return z, y, x
    if z == y == x == 1.0:
        raise UnitsError(
            f"{who}: every side of a voxel is 1: most likely its voxel size was never written.", "sizes in mm", GIVE
        )
    for factor, name in ((1e-3, "µm written as mm"), (1e3, "metres written as mm"), (10.0, "cm written as mm")):
        if _fits(z * factor, y * factor, x * factor):
            right = " ".join(f"{v * factor:g}" for v in (z, y, x))
            raise UnitsError(
                f"{who}: voxels of {text} mm (slice × row × column) are no mouse's: this looks like {name}.",
                f"pixels of {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm",
                f"--spacing {right}, if that is what they are",
            )
    if _fits(max(z, y, x), *sorted((z, y, x))[:2]):
        raise UnitsError(
            f"{who}: voxels of {text} mm (slice × row × column): slices thinner than pixels, the axes look swapped.",
            "the largest distance between slices",
            "name the axes as stored: --axes, e.g. --axes zyxt (x column, y row, z slice, t frame)",
        )
    raise UnitsError(
        f"{who}: voxels of {text} mm (slice × row × column) are no mouse's.",
        f"pixels of {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm, slices of {SLICE_MM[0]:g} to {SLICE_MM[1]:g} mm",
        GIVE,
    )


def frame_time(stated: float) -> float | None:
    """``stated`` (ms) if frames of a beating mouse heart can be that far apart, else None."""
    return stated if FRAME_MS[0] <= stated <= FRAME_MS[1] else None


def _fits(z: float, y: float, x: float) -> bool:
    return all(PIXEL_MM[0] <= v <= PIXEL_MM[1] for v in (y, x)) and SLICE_MM[0] <= z <= SLICE_MM[1]


SWAPPED = 0.7
"""Difference of neighbouring slices / of neighbouring frames (means of blocks, which average out the noise) below which
the two look swapped. Measured: 1.9 to 3.8 in nine mice of the phantom cohorts, so 0.26 to 0.53 where they are."""
BLOCK = 8
"""Pixels along a side of such a block."""
THIN_MM, MANY = 0.4, 20
"""Slices thinner than this, and more than so many, look interpolated."""
CORNER = 0.06
"""Share of the sides that a corner is."""


def check_order(who: str, image: NDArray[Any]) -> None:
    """:class:`UnitsError` where slices and frames of ``image`` (frame, slice, y, x) look swapped."""
    if image.shape[0] < 2 or image.shape[1] < 2:
        return
    rows, columns = (n // BLOCK for n in image.shape[2:])
    cropped = image[..., : rows * BLOCK, : columns * BLOCK].astype(np.float32)
    means = cropped.reshape(*image.shape[:2], rows, BLOCK, columns, BLOCK).mean((3, 5))
    frames, slices = (float(np.abs(np.diff(means, axis=k)).mean()) if means.size else 0.0 for k in (0, 1))
    if slices < SWAPPED * frames:
        raise UnitsError(
            f"{who}: neighbouring slices resemble each other more than neighbouring frames: the {image.shape[1]} "
            f"slices and {image.shape[0]} frames look swapped.",
            "frames that change little from one to the next",
            "name the axes as stored: --axes xytz (x column, y row, z slice, t frame), with --spacing and "
            "--frame-time; --axes xyzt, if they are right as they are",
        )


def oddities(image: NDArray[Any], spacing: Sequence[float]) -> list[str]:
    """What looks unusual about ``image`` (frame, slice, y, x) with ``spacing`` (z, y, x), a sentence each."""
    found = []
    n_slices, rows, columns = image.shape[1:]
    if spacing[0] < THIN_MM and n_slices > MANY:
        found.append(
            f"{n_slices} slices {spacing[0]:g} mm apart: the stack looks resampled. Better use the images as the "
            "scanner wrote them."
        )
    if max(spacing[1:]) > 1.05 * min(spacing[1:]):
        found.append(f"Pixels are not square ({spacing[1]:g} × {spacing[2]:g} mm): the stack may have been resampled.")
    m, n = max(2, round(CORNER * rows)), max(2, round(CORNER * columns))
    if min(rows, columns) >= 64:
        ends_y, ends_x = (slice(0, m), slice(-m, None)), (slice(0, n), slice(-n, None))
        corners = np.stack([image[..., y, x].reshape(-1) for y in ends_y for x in ends_x])
        middle = image[..., rows // 2 - m // 2 : rows // 2 - m // 2 + m, 0]
        if corners.min() == corners.max() and middle.min() != middle.max():
            found.append(
                "The corners are empty and the edges are not: the images look rotated. Better use them as the scanner "
                "wrote them."
            )
    return found
