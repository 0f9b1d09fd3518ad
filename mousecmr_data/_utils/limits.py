"""How much a file of others may take: bytes of its arrays, and memory and time of the process that reads it.

A few kilobytes can state gigabytes. Readers call :func:`check_size` with what a file states before they take memory.
"""

from __future__ import annotations

import math
import os

from mousecmr_data._utils.text import format_bytes
from mousecmr_data.errors import ArgumentError, FileLayoutError

MAX_GB, GB_VARIABLE = 2.0, "MOUSECMR_MAX_GB"
"""Largest array that is read, and the variable that raises it: a cine of 256 × 256 × 30 × 200 float32 has 1.6 GB."""
MAX_SECONDS, SECONDS_VARIABLE = 300.0, "MOUSECMR_MAX_SECONDS"
"""Longest time to read one scan, and the variable that raises it: a scan takes seconds, also on a network disk."""
COPIES = 4
"""A process may take so many times the memory of the largest array: it sorts, converts and checks the values."""
RATIO_FROM = 64 * 10**6
"""What is larger than this may be only so many times as large as the file that it is packed in:"""
MAX_RATIO = 1000
"""an almost empty mask, compressed with gzip, reaches about 700;"""
MAX_IMAGE_RATIO = 100
"""images reach 2, with an empty background 20."""


def get_max_bytes() -> int:
    """Return the bytes of the largest array that is read."""
    return int(_read_number(GB_VARIABLE, MAX_GB) * 1e9)


def get_max_memory() -> int:
    """Return the bytes of memory that a process may take to read a scan."""
    return COPIES * get_max_bytes()


def get_max_seconds() -> float:
    """Return the seconds that reading a scan may take."""
    return _read_number(SECONDS_VARIABLE, MAX_SECONDS)


def check_size(name: str, size: int, stored: int | None = None, max_ratio: int = MAX_RATIO) -> None:
    """Raise :class:`FileLayoutError` if ``name`` states too many bytes, or too many for its ``stored`` bytes."""
    if size > get_max_bytes():
        raise FileLayoutError(
            f"{name} states that it holds {format_bytes(size)}.",
            f"at most {format_bytes(get_max_bytes())}",
            f"if that is right: export {GB_VARIABLE}={math.ceil(size / 1e9) if size < 1e12 else 1000}",
        )
    if stored is not None and size > max(RATIO_FROM, max_ratio * stored):
        raise FileLayoutError(
            f"{name} ({format_bytes(stored)}) states that it holds {format_bytes(size)}.",
            f"at most {max_ratio} times the size of the file",
            "if that is right: write the images again, uncompressed",
        )


def _read_number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        number = float(text or default)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentError(f"{variable} is {text!r}.", "a number above 0", f"export {variable}={default:g}")
    return number
