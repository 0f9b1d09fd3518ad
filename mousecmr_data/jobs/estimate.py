"""How long a mouse will take, measured on a few of its own slices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import xarray as xr

from mousecmr_data.cine.voxels import voxel_size_mm
from mousecmr_data.facts import layout

if TYPE_CHECKING:
    from mousecmr_data.baseline import Segmenter

TRIED = 4
"""Slices that are segmented for the estimate, and as many before to warm up."""
OVERHEAD_S = 4.0
"""Tables and pictures of a mouse of 200 slices, on two cores."""


def seconds(ds: xr.Dataset, segmenter: Segmenter) -> float:
    """Expected seconds for ``ds`` (the cine model) with ``segmenter``, pictures included; takes a moment itself."""
    first = ds[layout.IMAGE].transpose(*layout.DIMS).isel(frame=0).values[:TRIED]
    spacing = voxel_size_mm(ds)[1:]
    segmenter.labels(first, spacing, TRIED)
    start = time.perf_counter()
    segmenter.labels(first, spacing, TRIED)
    each = (time.perf_counter() - start) / len(first)
    return each * ds.sizes["frame"] * ds.sizes["slice"] + OVERHEAD_S
