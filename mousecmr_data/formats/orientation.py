"""Map the array of a file to the cine model, and masks back to the file's own grid."""

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
MODEL_AXES = "tzyx"
"""The same in the order of the cine model."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns an affine to patient coordinates (left, posterior, superior) into one to RAS+."""


@dataclass(frozen=True)
class FileGrid:
    """The file's array: its shape, the meaning and direction of its axes, and its position in space."""

    shape: tuple[int, ...]
    axes: str
    """One letter of :data:`AXIS_LETTERS` per axis."""
    flipped: str
    """Letters of the axes that run against the model's."""
    affine: tuple[tuple[float, ...], ...]
    """4 × 4, from the first three axes to RAS+ space, as the file has it (in ``space_unit``)."""
    space_unit: str = "mm"
    """Units have NIfTI's names."""
    time_unit: str = "sec"
    time_step: float = 0.0
    """In ``time_unit``; 0 if not known."""
    oriented: bool = False
    """Whether the file states the animal's orientation."""

    def to_model(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the file's array as (frame, slice, y, x); an axis that the file lacks has length 1."""
        out = array.transpose([self.axes.index(c) for c in MODEL_AXES if c in self.axes])
        return self._flip(np.expand_dims(out, self._find_missing_axes()))

    def to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array (frame, slice, y, x) as the file stores it: the reverse of :meth:`to_model`."""
        out = self._flip(array).squeeze(self._find_missing_axes())
        present = [c for c in MODEL_AXES if c in self.axes]
        return np.ascontiguousarray(out.transpose([present.index(c) for c in self.axes])).reshape(self.shape)

    def _find_missing_axes(self) -> tuple[int, ...]:
        return tuple(i for i, c in enumerate(MODEL_AXES) if c not in self.axes)

    def _flip(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.flip(array, tuple(i for i, c in enumerate(MODEL_AXES) if c in self.flipped)))

    def to_json(self) -> str:
        """Return the text of the attribute :data:`ATTR_GRID`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_dataset(cls, ds: xr.Dataset) -> FileGrid:
        """Return the grid of the file of ``ds``, else (x, y, slice, frame) with the dataset's spacing."""
        sizes = tuple(ds.sizes[d] for d in ("x", "y", "slice", "frame"))
        if ATTR_GRID in ds.attrs:
            table = json.loads(ds.attrs[ATTR_GRID])
            grid = cls(**{**table, "shape": tuple(table["shape"]), "affine": to_rows(table["affine"])})
            if int(np.prod(grid.shape)) == int(np.prod(sizes)):
                return grid
            raise ArgumentError(
                f"The dataset's sizes {sizes} are no longer those of its file {grid.shape}.", "all that was read"
            )
        steps = [float(abs(ds[c].values[1] - ds[c].values[0])) if ds.sizes[c] > 1 else 1.0 for c in ("x", "y")]
        affine = to_rows(np.diag((*steps, float(ds["z"].attrs["slice_thickness"]), 1.0)))
        return cls(sizes, AXIS_LETTERS, "", affine, "mm", "sec", float(ds["time"].attrs["frame_time"]) / 1e3)


def to_rows(affine: Any) -> tuple[tuple[float, ...], ...]:
    """Return an affine (array or nested lists) as the tuples of :attr:`FileGrid.affine`."""
    return tuple(tuple(float(v) for v in row) for row in affine)


def orient_axes(affine: NDArray[np.float64], slice_axis: int, oriented: bool) -> tuple[str, str]:
    """Return letters for the first three axes, and which of them to flip, from the directions in ``affine``.

    If the orientation is known, rows and columns run as viewers show them: columns to the animal's left,
    rows to posterior or inferior. If not, all axes run along increasing coordinates: an array with a
    positive diagonal is taken as it is stored.
    """
    try:
        from nibabel import orientations
    except ImportError as e:
        raise MissingExtraError.from_module("nibabel", "formats") from e

    io_orientation: Any = orientations.io_orientation
    world = io_orientation(affine)  # one row per axis: the axis in space, and its direction, +1 or -1
    plane = sorted((i for i in range(3) if i != slice_axis), key=lambda i: world[i, 0])
    letters = ["z"] * 3
    letters[plane[0]], letters[plane[1]] = "x", "y"
    direction = -1 if oriented else 1
    flips = [letters[i] for i in range(3) if world[i, 1] != (1 if i == slice_axis else direction)]
    return "".join(letters), "".join(flips)
