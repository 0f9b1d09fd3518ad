"""What was typed into the page's fields, as settings of a job."""

from __future__ import annotations

import re

from mousecmr_data.errors import ArgumentError
from mousecmr_data.pipeline.analysis import PUBLISHED_WEIGHTS, SegmentConfig
from mousecmr_data.web.options import SMALL

OFFERED = (PUBLISHED_WEIGHTS, SMALL)
"""Weights a visitor may choose: names only, never paths on this computer."""


def settings(weights: object, spacing: object, axes: object, frame_time: object) -> SegmentConfig:
    """The job; empty fields mean the files' own values. Raises :class:`ArgumentError`, naming the field."""
    if weights not in OFFERED:
        raise ArgumentError(f"There are no weights {str(weights)[:60]!r} on this page.", " or ".join(OFFERED))
    sizes = _numbers(spacing)
    if sizes and len(sizes) != 3:
        raise ArgumentError(f"The voxel size is {str(spacing)[:60]!r}.", "three numbers in mm, e.g. 1.0 0.1 0.1")
    times = _numbers(frame_time)
    if len(times) > 1:
        raise ArgumentError(f"The frame time is {str(frame_time)[:60]!r}.", "one number in ms, e.g. 5")
    letters = str(axes or "").strip().lower() or None
    if letters and not re.fullmatch("[xyzt]{2,4}", letters):
        raise ArgumentError(f"The axes are {letters[:60]!r}.", "a letter an axis: x, y, z, t, e.g. xyzt")
    size = (sizes[0], sizes[1], sizes[2]) if sizes else None
    return SegmentConfig(str(weights), size, letters, times[0] if times else None)


def _numbers(text: object) -> list[float]:
    """The positive numbers in a field, between spaces, × or commas."""
    parts = re.split(r"[\s×,;]+", str(text if text is not None else "").strip())
    try:
        found = [float(p) for p in parts if p]
    except ValueError:
        found = [-1.0]
    if not all(0 < v < float("inf") for v in found):
        raise ArgumentError(f"{str(text)[:60]!r} is not a number.", "positive numbers with a decimal point")
    return found
