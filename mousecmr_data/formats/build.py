"""What a reader of any format found becomes a dataset of the cine model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.errors import FileLayoutError, MissingDataError, UnitsError
from mousecmr_data.formats.orientation import ATTR_GRID, FileGrid
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED

# MERGED formats.build: Silence for readers of other people's files: their remarks on every odd value are nothing for a user.


@contextmanager
def suppress_warnings(logger: str) -> Iterator[None]:
    """Neither warnings nor what ``logger`` would say below an error that is raised."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


# MERGED formats.build: Whether sizes can be those of a mouse: what looks wrong is named, with what to type.


PIXEL_MM = (0.02, 0.6)
"""Pixels of mouse cine, with room on both sides (the dataset: 0.1 mm; common: 0.08 to 0.25 mm)."""
SLICE_MM = (0.1, 3.0)
"""Distance of slices, with room on both sides (the dataset: 1.0 mm; common: 0.5 to 1.5 mm)."""
FRAME_MS = (0.5, 60.0)
"""Time between frames, with room on both sides (the dataset: 5 ms; a heart beat lasts 100 to 200 ms)."""

SPACING_HINT = "give it in mm: --spacing Z Y X, e.g. --spacing 1.0 0.1 0.1  (Python: spacing=(1.0, 0.1, 0.1))"


def check_spacing(who: str, spacing: Sequence[float]) -> tuple[float, float, float]:
    """``spacing`` (z, y, x) in mm if a mouse's cine can have it, else :class:`UnitsError` with the likely reason."""
    z, y, x = (abs(float(v)) for v in spacing)
    text = f"{z:g} × {y:g} × {x:g}"
    if not all(0 < v < float("inf") for v in (z, y, x)):
        raise UnitsError(f"{who} does not say its voxel size ({text}).", "sizes in mm", SPACING_HINT)
    if _fits(z, y, x):
        return z, y, x
    if z == y == x == 1.0:
        raise UnitsError(
            f"{who}: every side of a voxel is 1: most likely its voxel size was never written.",
            "sizes in mm",
            SPACING_HINT,
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
        SPACING_HINT,
    )


def check_frame_time(stated: float) -> float | None:
    """``stated`` (ms) if frames of a beating mouse heart can be that far apart, else None."""
    return stated if FRAME_MS[0] <= stated <= FRAME_MS[1] else None


def _fits(z: float, y: float, x: float) -> bool:
    return all(PIXEL_MM[0] <= v <= PIXEL_MM[1] for v in (y, x)) and SLICE_MM[0] <= z <= SLICE_MM[1]


SWAPPED_RATIO = 0.7
"""Difference of neighbouring slices / of neighbouring frames (means of blocks, which average out the noise) below which
the two look swapped. Measured: 1.9 to 3.8 in nine mice of the phantom cohorts, so 0.26 to 0.53 where they are."""
BLOCK_PIXELS = 8
"""Pixels along a side of such a block."""
THIN_MM, MANY_SLICES = 0.4, 20
"""Slices thinner than this, and more than so many, look interpolated."""
CORNER_SHARE = 0.06
"""Share of the sides that a corner is."""


def check_order(who: str, image: NDArray[Any]) -> None:
    """:class:`UnitsError` where slices and frames of ``image`` (frame, slice, y, x) look swapped."""
    if image.shape[0] < 2 or image.shape[1] < 2:
        return
    rows, columns = (n // BLOCK_PIXELS for n in image.shape[2:])
    cropped = image[..., : rows * BLOCK_PIXELS, : columns * BLOCK_PIXELS].astype(np.float32)
    means = cropped.reshape(*image.shape[:2], rows, BLOCK_PIXELS, columns, BLOCK_PIXELS).mean((3, 5))
    frames, slices = (float(np.abs(np.diff(means, axis=k)).mean()) if means.size else 0.0 for k in (0, 1))
    if slices < SWAPPED_RATIO * frames:
        raise UnitsError(
            f"{who}: neighbouring slices resemble each other more than neighbouring frames: the {image.shape[1]} "
            f"slices and {image.shape[0]} frames look swapped.",
            "frames that change little from one to the next",
            "name the axes as stored: --axes xytz (x column, y row, z slice, t frame), with --spacing and "
            "--frame-time; --axes xyzt, if they are right as they are",
        )


def find_oddities(image: NDArray[Any], spacing: Sequence[float]) -> list[str]:
    """What looks unusual about ``image`` (frame, slice, y, x) with ``spacing`` (z, y, x), a sentence each."""
    found = []
    n_slices, rows, columns = image.shape[1:]
    if spacing[0] < THIN_MM and n_slices > MANY_SLICES:
        found.append(
            f"{n_slices} slices {spacing[0]:g} mm apart: the stack looks resampled. Better use the images as the "
            "scanner wrote them."
        )
    if max(spacing[1:]) > 1.05 * min(spacing[1:]):
        found.append(f"Pixels are not square ({spacing[1]:g} × {spacing[2]:g} mm): the stack may have been resampled.")
    m, n = max(2, round(CORNER_SHARE * rows)), max(2, round(CORNER_SHARE * columns))
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


MAX_ARRAY_BYTES = 4 * 1024**3
"""The largest pixel array that is read (the dataset's largest mouse has 52 MB)."""
MAX_PIXEL_VALUE = 1e15
"""A pixel above this is no signal: sums of such values would not be finite."""
ATTR_NOTES = "notes"
"""The attribute that lists, a sentence each, what was assumed or looks odd."""
ATTR_FRAME_TIME_KNOWN = "frame_time_known"
"""The attribute that says whether ``time`` is a time or only counts frames."""


def check_array_size(who: str, shape: Sequence[int], itemsize: int) -> None:
    """Raises :class:`FileLayoutError` for an array that is empty or too large to read."""
    n = itemsize
    for length in shape:
        n *= int(length)
    if any(int(length) < 1 for length in shape) or n > MAX_ARRAY_BYTES:
        raise FileLayoutError(
            f"{who} says its array is {' × '.join(map(str, shape))} ({n / 1e6:,.0f} MB).",
            f"a cine of at most {MAX_ARRAY_BYTES // 1024**3} GiB",
        )


def convert_pixels(who: str, array: NDArray[Any]) -> NDArray[Any]:
    """Pixels as uint16 where they are such numbers exactly, else as float32; not finite is an error."""
    if array.dtype.kind not in "uifb":
        raise FileLayoutError(f"{who} holds values of the type {array.dtype}.", "magnitude images: real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        missing = int(array.size - np.isfinite(array).sum())
        raise FileLayoutError(f"{who}: {missing} pixels are not finite (NaN or infinite).", "magnitude images")
    if array.dtype == np.uint16:
        return array
    if array.dtype.kind == "f" and float(np.abs(array).max()) > MAX_PIXEL_VALUE:
        raise FileLayoutError(f"{who} holds values up to {np.abs(array).max():.3g}.", "magnitude images")
    if array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        short = array.astype(np.uint16)
        if array.dtype.kind in "uib" or np.array_equal(short, array):
            return short
    return array.astype(np.float32)


def build_scan(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    spacing_source: str,
    frame_time_ms: float | None,
    frame_time_source: str,
    grid: FileGrid,
    notes: Sequence[str] = (),
    **attrs: Any,
) -> xr.Dataset:
    """The dataset of images (frame, slice, y, x) that nobody has segmented yet.

    ``spacing`` is (z, y, x) in mm. Where ``frame_time_ms`` is None, times count frames at the article's frame
    time, and the attribute ``frame_time_known`` is False. ``attrs``: mouse, source, format, synthetic.
    """
    who = str(attrs.get("mouse", "this file"))
    notes = list(notes)
    if frame_time_ms is not None:
        known = check_frame_time(frame_time_ms)
        if known is None:
            notes.append(
                f"Frames {frame_time_ms:g} ms apart cannot be those of a mouse's heart: the frame time is taken as "
                "not known. Next: --frame-time, in ms"
            )
        frame_time_ms = known
    if frame_time_ms is None:
        frame_time_source = "not known: times only count frames"
    flat = image.min() == image.max()
    if flat:
        raise MissingDataError(f"{who}: every pixel is {image.flat[0]}: there is no image.", "magnitude images")
    z, y, x = check_spacing(who, spacing)
    sizes = PhysicalSizes(
        (_round_six(z), _round_six(y), _round_six(x)),
        spacing_source,
        _round_six(frame_time_ms or float(load_manifest().acquisition["frame_time"].value)),
        frame_time_source,
    )
    about = {
        "version": "not stated",
        "split": "none",
        "phenotype": NOT_PUBLISHED,
        "synthetic": False,
        **attrs,
        ATTR_FRAME_TIME_KNOWN: frame_time_ms is not None,
        ATTR_NOTES: notes,
        ATTR_GRID: grid.to_json(),
    }
    return build_dataset(image, None, (), sizes, about)


def _round_six(value: float) -> float:
    """Six digits: what is left of a size that a header held in 32 bits."""
    return float(f"{value:.6g}")
