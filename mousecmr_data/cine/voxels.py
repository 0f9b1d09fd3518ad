"""The voxel size of a dataset, read from its coordinates and never assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from mousecmr_data.errors import UnitsError

_NEXT = "open_mouse(path, voxel_size_mm=(1.0, 0.1, 0.1))  gives it in mm, as (z, y, x)"


def voxel_size_mm(ds: xr.Dataset | xr.DataArray) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in mm, from the coordinates y and x and the slice thickness of z.

    Raises :class:`UnitsError` where a coordinate is missing, not in mm, not evenly spaced, or where
    slices were left out so that a volume would have gaps.
    """
    z = _coordinate(ds, "z")
    thickness = z.attrs.get("slice_thickness")
    if not _positive(thickness):
        raise UnitsError(f"The coordinate z has the slice thickness {thickness!r}.", "a size in mm", _NEXT)
    if z.size > 1:
        step = _step(z)
        if not np.isclose(abs(step), float(thickness), rtol=1e-3):  # type: ignore[arg-type]
            raise UnitsError(
                f"Slices are {abs(step):g} mm apart but {thickness:g} mm thick: slices are missing.",
                "contiguous slices",
                "measure the whole stack, then select",
            )
    return float(thickness), abs(_step(_coordinate(ds, "y"))), abs(_step(_coordinate(ds, "x")))  # type: ignore[arg-type]


def _coordinate(ds: xr.Dataset | xr.DataArray, name: str) -> xr.DataArray:
    if name not in ds.coords:
        raise UnitsError(f"The dataset has no coordinate {name!r}: its voxel size is unknown.", "z, y, x in mm", _NEXT)
    coordinate = ds[name]
    units = coordinate.attrs.get("units")
    if units != "mm":
        raise UnitsError(f"The coordinate {name} has the units {units!r}.", "'mm'", _NEXT)
    return coordinate


def _step(coordinate: xr.DataArray) -> float:
    values = np.asarray(coordinate.values, float)
    steps = np.diff(values)
    if values.ndim != 1 or steps.size == 0 or not np.all(np.isfinite(steps)) or np.any(steps == 0):
        raise UnitsError(f"The coordinate {coordinate.name} does not give a spacing.", "two values or more", _NEXT)
    if not np.allclose(steps, steps[0], rtol=1e-3):
        raise UnitsError(
            f"The coordinate {coordinate.name} is not evenly spaced ({steps.min():g} to {steps.max():g} mm).",
            "even spacing",
            _NEXT,
        )
    return float(steps.mean())


def _positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value)) and float(value) > 0
