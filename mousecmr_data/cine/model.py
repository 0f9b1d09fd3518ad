"""The cine model: one mouse as one xarray.Dataset, in physical units.

Variables ``image`` uint16 and, where the file has masks, ``mask`` uint8, both (frame, slice, y, x).
Coordinates: ``frame`` and ``slice`` (numbers), ``time`` (ms), ``z``, ``y``, ``x`` (mm, of the voxel's
centre), ``labelled`` (bool a frame) and ``phase`` (see ``cine.phases``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.cine import phases
from mousecmr_data.cine.lazy import LazyArray, variable
from mousecmr_data.errors import UnitsError
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.manifest import Manifest, load_manifest
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_VOXEL_SIZE, DIMS, IMAGE, MASK

FROM_FILE = "the file's own attribute"
_ARGUMENT = "given by the caller"


@dataclass(frozen=True)
class Sizes:
    """Voxel size (z, y, x) in mm and frame time in ms, each with its source in words."""

    voxel_size_mm: tuple[float, float, float]
    voxel_size_source: str
    frame_time_ms: float
    frame_time_source: str


def sizes(
    attrs: dict[str, Any],
    voxel_size_mm: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    manifest: Manifest | None = None,
) -> Sizes:
    """Physical sizes: the caller's, else the file's own, else the manifest's, and says which."""
    facts = (manifest or load_manifest()).acquisition
    if not {"slice_thickness", "pixel_spacing", "frame_time"} <= facts.keys():
        facts = {**load_manifest().acquisition, **facts}
    if voxel_size_mm is not None:
        voxel, voxel_source = voxel_size_mm, _ARGUMENT
    elif ATTR_VOXEL_SIZE in attrs:
        voxel, voxel_source = attrs[ATTR_VOXEL_SIZE], FROM_FILE
    else:
        thickness, spacing = facts["slice_thickness"], facts["pixel_spacing"]
        in_plane = spacing.value if isinstance(spacing.value, list | tuple) else (spacing.value, spacing.value)
        voxel = (thickness.value, *in_plane)
        voxel_source = f"not in the file; {spacing.source}; slices: {thickness.source}"
    if frame_time_ms is not None:
        frame_time, time_source = frame_time_ms, _ARGUMENT
    elif ATTR_FRAME_TIME in attrs:
        frame_time, time_source = attrs[ATTR_FRAME_TIME], FROM_FILE
    else:
        frame_time, time_source = facts["frame_time"].value, f"not in the file; {facts['frame_time'].source}"
    z, y, x = _positive(voxel, 3, "voxel size (z, y, x) in mm", "voxel_size_mm=(1.0, 0.1, 0.1)")
    (t,) = _positive([frame_time], 1, "frame time in ms", "frame_time_ms=5.0")
    return Sizes((z, y, x), voxel_source, t, time_source)


def dataset(
    image: LazyArray | NDArray[Any],
    mask: LazyArray | NDArray[Any] | None,
    labelled_frames: Sequence[int],
    physical: Sizes,
    attrs: dict[str, Any],
    phase: NDArray[np.str_] | None = None,
) -> xr.Dataset:
    """Build the dataset of one mouse from arrays (frame, slice, y, x); lazy arrays stay lazy.

    ``phase`` (frame,) is found by the rule where it is not given.
    """
    n_frames, n_slices, n_y, n_x = image.shape
    dz, dy, dx = physical.voxel_size_mm
    labelled = np.zeros(n_frames, bool)
    labelled[list(labelled_frames)] = True
    names: Any = phase
    if names is None:
        names = _phases(n_frames, labelled_frames, mask)
    variables = {IMAGE: (DIMS, variable(image), {"long_name": "magnitude image", "units": "1"})}
    if mask is not None:
        variables[MASK] = (DIMS, variable(mask), mask_attrs())
    return xr.Dataset(
        variables,
        coords={
            "frame": ("frame", np.arange(n_frames), {"long_name": "frame number"}),
            "slice": ("slice", np.arange(n_slices), {"long_name": "slice number"}),
            "time": (
                "frame",
                np.arange(n_frames) * physical.frame_time_ms,
                {
                    "long_name": "time after the trigger",
                    "units": "ms",
                    "axis": "T",
                    "frame_time": physical.frame_time_ms,
                },
            ),
            "z": (
                "slice",
                np.arange(n_slices) * dz,
                {"long_name": "position along the stack", "units": "mm", "axis": "Z", "slice_thickness": dz},
            ),
            "y": ("y", np.arange(n_y) * dy, {"long_name": "position along the rows", "units": "mm", "axis": "Y"}),
            "x": ("x", np.arange(n_x) * dx, {"long_name": "position along the columns", "units": "mm", "axis": "X"}),
            "labelled": ("frame", labelled, {"long_name": "the frame was segmented by an expert"}),
            "phase": ("frame", names, {"long_name": "cardiac phase by the annotators' rule"}),
        },
        attrs={
            **attrs,
            "slice_order": "unknown",
            "voxel_size_source": physical.voxel_size_source,
            "frame_time_source": physical.frame_time_source,
        },
    )


def _phases(n_frames: int, labelled_frames: Sequence[int], mask: LazyArray | NDArray[Any] | None) -> Any:
    if mask is None or not phases.needs_masks(labelled_frames):
        return phases.phases(n_frames, labelled_frames)
    if isinstance(mask, LazyArray):
        return variable(phases.PhaseArray(mask, labelled_frames))
    return phases.phases(n_frames, labelled_frames, mask[list(labelled_frames)])


def mask_attrs() -> dict[str, Any]:
    """CF-style attributes of a mask."""
    return {
        "long_name": "expert segmentation",
        "flag_values": [int(label) for label in MEANINGS],
        "flag_meanings": " ".join(m.replace(" ", "_") for m in MEANINGS.values()),
        "comment": "Zero means background only where the coordinate 'labelled' is true.",
    }


def _positive(values: Any, n: int, what: str, example: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != n or not all(np.isfinite(v) and v > 0 for v in numbers):
        raise UnitsError(f"The {what} is {values!r}.", f"{n} positive number{'s'[: n > 1]}", example)
    return numbers
