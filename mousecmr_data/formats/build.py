"""Build a dataset of the cine model from what a reader of any format returns."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.reading import check_size
from mousecmr_data.dataset.model import PhysicalSizes, build_dataset, check_field, check_spacing, swap_slices_and_frames
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, UnitsError
from mousecmr_data.formats.orientation import ATTR_GRID, FileGrid
from mousecmr_data.metrics.volumes import is_heart_rate_plausible
from mousecmr_data.schema.manifest import get_constant
from mousecmr_data.schema.variables import NOT_PUBLISHED, NOT_STATED

FRAME_MS = (0.5, 60.0)
"""Range of times between frames, with a margin on both sides (the dataset: 5 ms; a heart beat lasts 100 to 200 ms)."""
USE_ORIGINALS = "Better use the images as the scanner wrote them."
GIVEN = "given by the caller"
T = TypeVar("T")

SWAPPED_RATIO = 0.7
"""Difference of neighbouring slices / of neighbouring frames (means of blocks, which average out the noise) below which
the two look swapped. Measured: 1.9 to 3.8 in nine mice of the phantom cohorts, so 0.26 to 0.53 where they are."""
BLOCK_PIXELS = 8
"""Pixels along a side of such a block."""
THIN_MM = 0.4
"""A stack of slices thinner than this looks interpolated, if it has many."""
MANY_SLICES = 20
"""Number of thin slices above which a stack looks interpolated."""
MAX_STACK_MM = 40.0
"""A longer stack is no heart, whose long axis has 8 mm in a mouse."""
MIN_FOLDING = 1.4
"""Smallest score of :func:`_score_folding` that says something."""
CORNER_SHARE = 0.06
"""Side of a corner region as a share of the image's side."""

ROUND_INSIDE, ROUND_FILLED, ROUND_MARGIN = 0.97, 0.99, 2
"""Share of the radius within which a round image is filled, and how completely (a square that was turned by 45° fills
64 % of the circle); pixels by which it may be larger than the circle inside the image (real ones: 1)."""
MAX_UNEVEN = 0.02
"""Share of the slice distance by which distances may differ."""
MAX_PIXEL_VALUE = 1e15
"""A pixel above this is not a signal: sums of such values would not be finite."""
ATTR_NOTES = "notes"
"""Attribute of what was assumed or looks odd: text, one line each, since netCDF cannot tell one text from a list."""
ATTR_INCOMPLETE = "incomplete"
"""Attribute of the same form: what may belong to this scan and was refused."""
ATTR_PURPOSE = "purpose"
"""Attribute of what else than a short-axis cine the file says that it holds."""
ATTR_HEART_RATE, ATTR_HEART_RATE_SOURCE = "heart_rate_bpm", "heart_rate_source"
"""Attributes, and columns, of the heart rate in beats per minute and where it is from."""
ATTR_FRAME_TIME_KNOWN = "frame_time_known"
"""Attribute that states whether ``time`` is a time or only counts frames."""


@contextmanager
def suppress_warnings(logger: str) -> Iterator[None]:
    """Suppress warnings and the log of a third-party reader: its remarks on odd values do not help a user."""
    log = logging.getLogger(logger)
    before = log.level
    if before == logging.CRITICAL:  # inside another such block: setting a level is slow
        yield
        return
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def prefer_given(given: T | None, own: T, own_source: str) -> tuple[T, str]:
    """Return a size and its source: ``given`` by the caller, else the file's ``own``."""
    return (own, own_source) if given is None else (given, GIVEN)


def choose_heart_rate(rates: Iterable[tuple[float, str]]) -> dict[str, Any]:
    """Return the attributes of the heart rate, from beats per minute and where they are from, if there are any.

    Of several values from one source the median counts; of several sources, the first with a rate that a mouse can
    have, else the first.
    """
    by_source: dict[str, list[float]] = {}
    for rate, source in rates:
        by_source.setdefault(source, []).append(rate)
    medians = [(median(values), source) for source, values in by_source.items()]
    medians.sort(key=lambda pair: not is_heart_rate_plausible(pair[0]))
    return {ATTR_HEART_RATE: medians[0][0], ATTR_HEART_RATE_SOURCE: medians[0][1]} if medians else {}


def find_slice_distance(name: str, positions: Sequence[float], thickness: float | None) -> tuple[float, list[str]]:
    """Return the distance of two or more slices in mm, and notes; raises :class:`FileLayoutError` if it is uneven."""
    steps = np.diff(positions)
    if np.ptp(steps) > MAX_UNEVEN * np.median(steps):
        at = int(np.argmax(steps))
        raise FileLayoutError(
            f"{name}: slices are {np.median(steps):.3g} mm apart, but slices {at} and {at + 1} {steps[at]:.3g} mm.",
            "evenly spaced slices",
            "look for slices that are missing or belong to another series",
        )
    distance = float(np.mean(steps))
    notes = []
    if thickness is not None and abs(thickness - distance) > MAX_UNEVEN * distance:
        notes.append(f"Slices are {thickness:g} mm thick and {distance:.3g} mm apart: volumes use the distance.")
    return distance, notes


def _average_blocks(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the means of blocks of pixels of ``image`` (..., y, x), which average out the noise."""
    rows, columns = (n // BLOCK_PIXELS for n in image.shape[-2:])
    cropped = image[..., : rows * BLOCK_PIXELS, : columns * BLOCK_PIXELS].astype(np.float32)
    blocks = cropped.reshape(*image.shape[:-2], rows, BLOCK_PIXELS, columns, BLOCK_PIXELS)
    return np.asarray(blocks.mean((-3, -1)))


def check_stack(name: str, image: NDArray[Any], spacing: Sequence[float]) -> None:
    """Raise :class:`UnitsError` if ``image`` (frame, slice, y, x) of one frame has too many slices for a heart.

    Most likely its slices and frames share one axis; the error names the number of frames that fits best.
    """
    length = image.shape[1] * spacing[0]
    if image.shape[0] > 1 or length <= MAX_STACK_MM:
        return
    scores = _score_folding(image[0])
    _, frames, _ = max(scores, default=(0.0, 0, ""))
    found = f"{name}: one frame of {image.shape[1]} slices, {spacing[0]:g} mm apart, would be {length:g} mm long"
    raise UnitsError(
        f"{found}: most likely the frames of a cine are stored as slices"
        + (f", {image.shape[1] // frames} slices of {frames} frames." if frames else "."),
        f"a stack of at most {MAX_STACK_MM:g} mm",
        f"say how many frames each slice has: --frames {frames or 'N'}; or --spacing, if the slices are thinner",
    )


def choose_folding(name: str, stack: NDArray[Any], frames: int) -> str:
    """Return how ``frames`` frames of slices lie in ``stack`` (slices and frames, y, x): see ``FileGrid.folded``."""
    if len(stack) % frames or not 2 <= frames <= len(stack):
        possible = [n for n in range(2, len(stack) + 1) if len(stack) % n == 0]
        raise ArgumentError(
            f"{name} holds {len(stack)} images: they cannot be slices of {frames} frames each.",
            f"one of {', '.join(map(str, possible))}",
            f"--frames {possible[-1]}" if possible else None,
        )
    return max(((s, order) for s, n, order in _score_folding(stack) if n == frames), default=(0.0, "zt"))[1]


def _score_folding(stack: NDArray[Any]) -> list[tuple[float, int, str]]:
    """Return how well each number of frames and each order of ``stack`` (slices and frames, y, x) fits.

    "zt": by how much the steps from slice to slice are larger than those from frame to frame; "tz": by how much
    neighbours differ more than the same slice in the next frame. Measured: 3 to 5 for the right one in three mice of
    the phantom, at most 1.1 in a stack of thin slices.
    """
    means, n = _average_blocks(stack), len(stack)
    steps = np.abs(np.diff(means, axis=0)).mean((1, 2))
    scores = []
    for frames in (k for k in range(2, n // 2 + 1) if n % k == 0):
        last, slices = np.arange(n - 1) % frames == frames - 1, n // frames
        repeated = float(np.abs(means[slices:] - means[:-slices]).mean())
        scores.append((float(steps[last].mean()) / max(float(steps[~last].mean()), 1e-9), frames, "zt"))
        scores.append((float(steps.mean()) / max(repeated, 1e-9), frames, "tz"))
    return [score for score in scores if score[0] > MIN_FOLDING]


def check_order(name: str, image: NDArray[Any], axes: str = "xyzt") -> None:
    """Raise :class:`UnitsError` if slices and frames of ``image`` (frame, slice, y, x) look swapped.

    ``axes`` are those that the file was read with.
    """
    if image.shape[0] < 2 or image.shape[1] < 2:
        return
    means = _average_blocks(image)
    frames, slices = (float(np.abs(np.diff(means, axis=k)).mean()) if means.size else 0.0 for k in (0, 1))
    if slices < SWAPPED_RATIO * frames:
        raise UnitsError(
            f"{name}: neighbouring slices resemble each other more than neighbouring frames: the {image.shape[1]} "
            f"slices and {image.shape[0]} frames look swapped.",
            "frames that change little from one to the next",
            f"name the axes as stored: --axes {swap_slices_and_frames(axes)} (x column, y row, z slice, t frame), with "
            f"--spacing and --frame-time; --axes {axes}, if they are right as they are",
        )


def find_oddities(image: NDArray[Any], spacing: Sequence[float]) -> list[str]:
    """Return what looks unusual about ``image`` (frame, slice, y, x) with ``spacing`` (z, y, x), one sentence each."""
    oddities = []
    n_slices, rows, columns = image.shape[1:]
    if spacing[0] < THIN_MM and n_slices > MANY_SLICES:
        oddities.append(f"{n_slices} slices {spacing[0]:g} mm apart: the stack looks resampled. {USE_ORIGINALS}")
    if max(spacing[1:]) > 1.05 * min(spacing[1:]):
        pixels = f"{spacing[1]:g} × {spacing[2]:g} mm"
        oddities.append(f"Pixels are not square ({pixels}): the stack may have been resampled.")
    m, n = max(2, round(CORNER_SHARE * rows)), max(2, round(CORNER_SHARE * columns))
    if min(rows, columns) >= 64:
        ends_y, ends_x = (slice(0, m), slice(-m, None)), (slice(0, n), slice(-n, None))
        corners = np.stack([image[..., y, x].reshape(-1) for y in ends_y for x in ends_x])
        middle = image[..., rows // 2 - m // 2 : rows // 2 - m // 2 + m, 0]
        if corners.min() == corners.max() and middle.min() != middle.max() and not _is_round(image, corners.min()):
            oddities.append(f"The corners are empty and the edges are not: the images look rotated. {USE_ORIGINALS}")
    return oddities


def _is_round(image: NDArray[Any], background: Any) -> bool:
    """Return whether ``image`` fills the circle inside its edges, and only that, as radial reconstructions do.

    A turned image leaves a part of the circle empty, or has pixels outside it.
    """
    y, x = (np.linspace(-1, 1, n) for n in image.shape[2:])
    radius = np.hypot(y[:, None], x)
    filled = (image != background).any(axis=(0, 1))
    outside = radius > 1 + 2 * ROUND_MARGIN / min(image.shape[2:])
    return not filled[outside].any() and bool(filled[radius < ROUND_INSIDE].mean() > ROUND_FILLED)


def check_array_size(name: str, shape: Sequence[int], itemsize: int, stored: int | None = None) -> None:
    """Raise :class:`FileLayoutError` for an array that is empty, or too large to read from ``stored`` bytes."""
    if any(int(length) < 1 for length in shape):
        raise FileLayoutError(f"{name} states that its array is {' × '.join(map(str, shape))}.", "a cine")
    check_size(name, itemsize * math.prod(int(length) for length in shape), stored)


def convert_pixels(name: str, array: NDArray[Any], fill: float | None = None) -> NDArray[Any]:
    """Return pixels as uint16 if that is exact, else as float32; raises :class:`FileLayoutError` if not finite.

    With ``fill``, pixels that are NaN or infinite get this value instead. The last two axes are rows and columns.
    """
    if array.dtype.kind not in "uifb":
        raise FileLayoutError(f"{name} holds values of the type {array.dtype}.", "magnitude images: real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = np.isfinite(array)
        if fill is None:
            rows, columns = (slice(n // 4, n - n // 4) for n in array.shape[-2:])
            outside = bool(finite[..., rows, columns].all())
            cause = (
                "all near the edges: most likely what a program left outside the field of view"
                if outside
                else "also in the middle of the images: most likely the file is damaged"
            )
            raise FileLayoutError(
                f"{name}: {finite.size - np.count_nonzero(finite)} pixels are not finite (NaN or infinite), {cause}.",
                "magnitude images",
                f"--fill 0 puts 0 in their place{'' if outside else ', if you are sure that they do not matter'}  "
                "(Python: fill=0)",
            )
        array = np.where(finite, array, np.asarray(fill, array.dtype))
    if array.dtype == np.uint16:
        return array
    if array.dtype.kind == "f" and float(np.abs(array).max()) > MAX_PIXEL_VALUE:
        raise FileLayoutError(f"{name} holds values up to {np.abs(array).max():.3g}.", "magnitude images")
    if array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        short = array.astype(np.uint16)
        if array.dtype.kind in "uib" or np.array_equal(short, array):
            return short
    return array.astype(np.float32)


def check_not_constant(name: str, image: NDArray[Any]) -> None:
    """Raise :class:`MissingDataError` if all pixels are the same."""
    if image.min() == image.max():
        raise MissingDataError(f"{name}: every pixel is {image.flat[0]}: there is no image.", "magnitude images")


def build_scan(
    image: NDArray[Any],
    spacing: Sequence[float],
    spacing_source: str,
    frame_time_ms: float | None,
    frame_time_source: str,
    grid: FileGrid,
    notes: Sequence[str] = (),
    **attrs: Any,
) -> xr.Dataset:
    """Build the dataset of images (frame, slice, y, x) without masks.

    ``spacing`` is (z, y, x) in mm. If ``frame_time_ms`` is None, times count frames at the article's frame
    time, and the attribute ``frame_time_known`` is False. ``attrs``: mouse, source, format, synthetic.
    """
    name = str(attrs.get("mouse", "this file"))
    notes = list(notes)
    if frame_time_ms is not None and not FRAME_MS[0] <= frame_time_ms <= FRAME_MS[1]:
        notes.append(
            f"Frames {frame_time_ms:g} ms apart cannot be those of a mouse's heart: the frame time is taken as "
            "not known. Next: --frame-time, in ms"
        )
        frame_time_ms = None
    if frame_time_ms is None:
        frame_time_source = "not known: times only count frames"
    check_not_constant(name, image)
    z, y, x = check_spacing(name, spacing)
    if spacing_source != GIVEN:
        check_field(name, image.shape[2:], (z, y, x))
    sizes = PhysicalSizes(
        (_round_six(z), _round_six(y), _round_six(x)),
        spacing_source,
        _round_six(frame_time_ms or float(get_constant("frame_time"))),
        frame_time_source,
    )
    about = {
        "version": NOT_STATED,
        "split": "none",
        "phenotype": NOT_PUBLISHED,
        "synthetic": False,
        **attrs,
        ATTR_FRAME_TIME_KNOWN: frame_time_ms is not None,
        ATTR_NOTES: "\n".join(notes),
        ATTR_GRID: grid.to_json(),
    }
    return build_dataset(image, None, (), sizes, about)


def _round_six(value: float) -> float:
    """Round to six digits: more are not significant in a size that a header held in 32 bits."""
    return float(f"{value:.6g}")
