"""What a reader of any format found becomes a dataset of the cine model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.errors import FileLayoutError, MissingDataError
from mousecmr_data.formats import plausible
from mousecmr_data.formats.grid import ATTR, Grid
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED

MAX_BYTES = 4 * 1024**3
"""The largest pixel array that is read (the dataset's largest mouse has 52 MB)."""
MAX_VALUE = 1e15
"""A pixel above this is no signal: sums of such values would not be finite."""
NOTES = "notes"
"""The attribute that lists, a sentence each, what was assumed or looks odd."""
FRAME_TIME_KNOWN = "frame_time_known"
"""The attribute that says whether ``time`` is a time or only counts frames."""


def check_size(who: str, shape: Sequence[int], itemsize: int) -> None:
    """Raises :class:`FileLayoutError` for an array that is empty or too large to read."""
    n = itemsize
    for length in shape:
        n *= int(length)
    if any(int(length) < 1 for length in shape) or n > MAX_BYTES:
        raise FileLayoutError(
            f"{who} says its array is {' × '.join(map(str, shape))} ({n / 1e6:,.0f} MB).",
            f"a cine of at most {MAX_BYTES // 1024**3} GiB",
        )


def as_image(who: str, array: NDArray[Any]) -> NDArray[Any]:
    """Pixels as uint16 where they are such numbers exactly, else as float32; not finite is an error."""
    if array.dtype.kind not in "uifb":
        raise FileLayoutError(f"{who} holds values of the type {array.dtype}.", "magnitude images: real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        missing = int(array.size - np.isfinite(array).sum())
        raise FileLayoutError(f"{who}: {missing} pixels are not finite (NaN or infinite).", "magnitude images")
    if array.dtype == np.uint16:
        return array
    if array.dtype.kind == "f" and float(np.abs(array).max()) > MAX_VALUE:
        raise FileLayoutError(f"{who} holds values up to {np.abs(array).max():.3g}.", "magnitude images")
    if array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        short = array.astype(np.uint16)
        if array.dtype.kind in "uib" or np.array_equal(short, array):
            return short
    return array.astype(np.float32)


def dataset(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    spacing_source: str,
    frame_time_ms: float | None,
    frame_time_source: str,
    grid: Grid,
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
        known = plausible.frame_time(frame_time_ms)
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
    z, y, x = plausible.check_spacing(who, spacing)
    sizes = PhysicalSizes(
        (_six(z), _six(y), _six(x)),
        spacing_source,
        _six(frame_time_ms or float(load_manifest().acquisition["frame_time"].value)),
        frame_time_source,
    )
    about = {
        "version": "not stated",
        "split": "none",
        "phenotype": NOT_PUBLISHED,
        "synthetic": False,
        **attrs,
        FRAME_TIME_KNOWN: frame_time_ms is not None,
        NOTES: notes,
        ATTR: grid.dumps(),
    }
    return build_dataset(image, None, (), sizes, about)


def _six(value: float) -> float:
    """Six digits: what is left of a size that a header held in 32 bits."""
    return float(f"{value:.6g}")
