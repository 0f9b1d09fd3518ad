"""Map the array of a file to the cine model, and masks back to the file's own grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.errors import ArgumentError, MissingExtraError
from mousecmr_data.schema.variables import AXIS_LETTERS, MODEL_LETTERS

ATTR_GRID = "grid"
"""The attribute of a dataset that keeps its file's grid, as JSON."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns an affine to patient coordinates (left, posterior, superior) into one to RAS+."""


MM_PER_UNIT = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}
MS_PER_UNIT = {"sec": 1e3, "msec": 1.0, "usec": 1e-3, "unknown": 0.0}
"""Units of length and time by their names in NIfTI; a step of an unknown unit is no time."""
MAX_OFFSET = 0.1
"""Voxels by which two positions may differ and still be the same: programs round to 32 bits."""
MAX_TILT = 1e-4
"""1 - cosine of the angle to an axis of space below which the axes are the same."""


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
    code: int = 2
    """NIfTI's code of the affine: 0 none, 1 the scanner's coordinates, 2 those of another file or of an array."""
    folded: str = ""
    """If slices and frames share the axis z: "zt", all frames of the first slice come first, or "tz", all slices of the
    first frame do."""
    frames: int = 0
    """Number of frames of such a file."""

    def to_model(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the file's array as (frame, slice, y, x); an axis that the file lacks has length 1."""
        out = array.transpose([self.axes.index(c) for c in MODEL_LETTERS if c in self.axes])
        out = self._flip(np.expand_dims(out, self._find_missing_axes()))
        return unfold_frames(out[0], self.frames, self.folded) if self.folded else out

    def to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array (frame, slice, y, x) as the file stores it: the reverse of :meth:`to_model`.

        It is a view where it can be: NIfTI stores the first axis fastest, as the model has it in memory, and turning
        the array around twice would take most of the time of saving a correction.
        """
        if self.folded:
            array = (array.swapaxes(0, 1) if self.folded == "zt" else array).reshape(1, -1, *array.shape[2:])
        out = self._flip(array).squeeze(self._find_missing_axes())
        present = [c for c in MODEL_LETTERS if c in self.axes]
        return np.asarray(out.transpose([present.index(c) for c in self.axes]).reshape(self.shape))

    def _find_missing_axes(self) -> tuple[int, ...]:
        return tuple(i for i, c in enumerate(MODEL_LETTERS) if c not in self.axes)

    def _flip(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.flip(array, tuple(i for i, c in enumerate(MODEL_LETTERS) if c in self.flipped)))

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


def unfold_frames(stack: NDArray[Any], frames: int, order: str) -> NDArray[Any]:
    """Return ``stack`` (slices and frames, y, x) as (frame, slice, y, x); ``order`` as in :attr:`FileGrid.folded`."""
    slices = len(stack) // frames
    if order == "zt":
        return stack.reshape(slices, frames, *stack.shape[1:]).swapaxes(0, 1)
    return stack.reshape(frames, slices, *stack.shape[1:])


def to_rows(affine: Any) -> tuple[tuple[float, ...], ...]:
    """Return an affine (array or nested lists) as the tuples of :attr:`FileGrid.affine`."""
    return tuple(tuple(float(v) for v in row) for row in affine)


def orient_axes(affine: NDArray[np.float64], slice_axis: int, shape: Sequence[int]) -> tuple[str, str]:
    """Return letters for the first three axes, and which of them to flip, from the grid's place in space alone.

    ``affine`` leads from an array of ``shape`` to RAS+. How the file stores the grid, and what the program that wrote
    it says about its coordinates, do not matter:

    - Rows and columns run as viewers show them: columns to the animal's left, rows to posterior or inferior.
    - A grid that lies along the axes of space with a corner voxel at the origin was placed by nobody: it is an array to
      which sizes were added. Its axes run away from that corner, as the array was stored.
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
    flipped = [world[i, 1] != (1 if i == slice_axis else -1) for i in range(3)]
    origin, last = np.linalg.solve(affine, [0, 0, 0, 1])[:3], np.asarray(shape[:3]) - 1.0
    at_last = np.abs(origin - last) < MAX_OFFSET
    directions = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    if (at_last | (np.abs(origin) < MAX_OFFSET)).all() and directions.max(axis=0).min() > 1 - MAX_TILT:
        flipped = (at_last & (last > 0)).tolist()
    return "".join(letters), "".join(letters[i] for i in range(3) if flipped[i])


def place_on_grid(array: NDArray[Any], affine: NDArray[np.float64], grid: FileGrid) -> NDArray[Any] | None:
    """Return ``array`` (i, j, k) or (i, j, k, frame) in the order of the cine model, on the voxels of ``grid``.

    ``affine`` leads from the array to RAS+ in mm. Voxels of the grid that the array does not have, because it was
    cropped, become 0. Returns None where the voxels of the two are not the same places in space.
    """
    if "t" in grid.axes[:3]:
        return None
    place = np.linalg.solve(np.diag([*[MM_PER_UNIT[grid.space_unit]] * 3, 1.0]) @ np.asarray(grid.affine), affine)
    exact, size = np.rint(place[:3]), np.array([*array.shape[:3], 1]) - [1, 1, 1, 0]
    turn = np.abs(exact[:, :3])
    same = (
        (np.abs(place[:3] - exact) @ size).max() < MAX_OFFSET and (turn.sum(0) == 1).all() and (turn.sum(1) == 1).all()
    )
    if not same:
        return None
    source = turn.argmax(1)  # the array's axis that lies along each axis of the grid
    array = np.transpose(array, [*source, *range(3, array.ndim)])
    backwards = exact[np.arange(3), source] < 0
    array = np.flip(array, tuple(np.flatnonzero(backwards).tolist()))
    lengths = np.array(array.shape[:3])
    start = exact[:, 3].astype(int) - np.where(backwards, lengths - 1, 0)
    first, stop = np.maximum(start, 0), np.minimum(start + lengths, grid.shape[:3])
    if (first >= stop).any():
        return None
    inside = array[tuple(slice(a - s, b - s) for a, b, s in zip(first, stop, start, strict=True))]
    if np.count_nonzero(inside) != np.count_nonzero(array):
        return None
    out = np.zeros((*grid.shape[:3], *array.shape[3:]), array.dtype)
    out[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))] = inside
    return replace(grid, shape=out.shape, axes=grid.axes[:3] + "t" * (array.ndim - 3)).to_model(out)
