"""How the array of a file lies in the cine model, so that masks can go back on the file's own grid."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.errors import ArgumentError, MissingExtraError

ATTR_GRID = "grid"
"""The attribute of a dataset that keeps its file's grid, as JSON."""
AXIS_LETTERS = "xyzt"
"""Column, row, slice, frame: what an axis of a file can be."""
MM_PER_UNIT = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}
"""Millimetres in a unit (names: NIfTI's)."""
MS_PER_UNIT = {"sec": 1e3, "msec": 1.0, "usec": 1e-3}
"""Milliseconds in a unit (names: NIfTI's)."""


@dataclass(frozen=True)
class FileGrid:
    """The file's array: its shape, which axis is which, which run backwards, and where it lies in space."""

    shape: tuple[int, ...]
    axes: str
    """A letter of ``LETTERS`` an axis."""
    flipped: str
    """Letters of the axes that run against the model's."""
    affine: tuple[tuple[float, ...], ...]
    """4 × 4, from the first three axes to the space of RAS+, as the file has it (in ``space_unit``)."""
    space_unit: str = "mm"
    time_unit: str = "sec"
    time_step: float = 0.0
    """In ``time_unit``; 0 is "not known"."""
    oriented: bool = False
    """Whether the file says how the animal lay."""

    def to_model(self, array: NDArray[Any]) -> NDArray[Any]:
        """The file's array as (frame, slice, y, x); an axis that the file lacks has length 1."""
        order = [self.axes.index(c) for c in "tzyx" if c in self.axes]
        out = array.transpose(order)
        for i, letter in enumerate("tzyx"):
            if letter not in self.axes:
                out = np.expand_dims(out, i)
        return self._flipped(out)

    def to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        """The reverse of ``to_model``."""
        out = self._flipped(array).squeeze(tuple(i for i, c in enumerate("tzyx") if c not in self.axes))
        present = [c for c in "tzyx" if c in self.axes]
        return np.ascontiguousarray(out.transpose([present.index(c) for c in self.axes])).reshape(self.shape)

    def _flipped(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.flip(array, tuple(i for i, c in enumerate("tzyx") if c in self.flipped)))

    def to_json(self) -> str:
        """As the text of an attribute."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, ds: xr.Dataset) -> FileGrid:
        """The grid of ``ds``: its file's, else (x, y, slice, frame) with the dataset's spacing."""
        sizes = tuple(ds.sizes[d] for d in ("x", "y", "slice", "frame"))
        if ATTR_GRID in ds.attrs:
            table = json.loads(ds.attrs[ATTR_GRID])
            found = cls(
                **{
                    **table,
                    "shape": tuple(table["shape"]),
                    "affine": tuple(tuple(row) for row in table["affine"]),
                }
            )
            if int(np.prod(found.shape)) == int(np.prod(sizes)):
                return found
            raise ArgumentError(
                f"The dataset's sizes {sizes} are no longer those of its file {found.shape}.", "all that was read"
            )
        steps = [float(abs(ds[c].values[1] - ds[c].values[0])) if ds.sizes[c] > 1 else 1.0 for c in ("x", "y")]
        diagonal = (*steps, float(ds["z"].attrs["slice_thickness"]), 1.0)
        affine = tuple(tuple(row) for row in np.diag(diagonal).tolist())
        return cls(sizes, AXIS_LETTERS, "", affine, "mm", "sec", float(ds["time"].attrs["frame_time"]) / 1e3)


def orient_axes(affine: NDArray[np.float64], slice_axis: int, oriented: bool) -> tuple[str, str]:
    """Letters of the first three axes, and those of them to flip, from where they point.

    Where the orientation is known, rows and columns run as viewers show them: columns to the animal's left,
    rows to posterior or inferior. Where it is not, all axes run along increasing coordinates: an array with a
    positive diagonal is taken as it is stored.
    """
    try:
        from nibabel import orientations
    except ImportError as e:
        raise MissingExtraError.from_module("nibabel", "formats") from e

    io_orientation: Any = orientations.io_orientation
    world = io_orientation(affine)  # an axis a row: where it points, +1 or -1
    plane = sorted((i for i in range(3) if i != slice_axis), key=lambda i: world[i, 0])
    letters = ["z"] * 3
    letters[plane[0]], letters[plane[1]] = "x", "y"
    wanted = -1 if oriented else 1
    flips = [letters[i] for i in range(3) if world[i, 1] != (1 if i == slice_axis else wanted)]
    return "".join(letters), "".join(flips)


def check_axes(axes: str, ndim: int) -> str:
    """``axes`` if it names each of ``ndim`` axes once, x, y and z or t among them."""
    ok = len(axes) == ndim and len(set(axes)) == ndim and set(axes) <= set(AXIS_LETTERS) and {"x", "y"} <= set(axes)
    if not ok:
        raise ArgumentError(
            f"The axes {axes!r} do not fit an array of {ndim} axes.",
            "a letter an axis, in the order of the file: x column, y row, z slice, t frame",
            "--axes " + ("xyzt" if ndim == 4 else "xyz"),
        )
    return axes
