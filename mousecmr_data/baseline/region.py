"""Where the heart is: a window of the training grid, the same for every slice and frame of a mouse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.schema.labels import Label

MARGIN = 8
"""Pixels (0.1 mm) that the first window leaves around the heart of the key frame, at the least."""
LARGEST = 0.4
"""Share of the field from which a window no longer pays."""
LEAST_SLICES = 3
LEAST_VOXELS = 300
"""Of each class, in a key frame, to believe that the heart was found. A mouse's blood pool at end-systole,
27 ± 10 µL (article), is some 2,700 voxels."""
EDGE = 2
"""Pixels. Labels this close to the window's rim may go on beyond it."""


@dataclass(frozen=True)
class Box:
    """Pixels ``top`` to ``top + rows`` and ``left`` to ``left + columns`` of the training grid."""

    top: int
    left: int
    rows: int
    columns: int

    def cut(self, maps: Tensor, around: Box) -> Tensor:
        """The box of maps (…, Y, X) of a box ``around`` it, at whatever fraction of its resolution."""
        step = around.rows // maps.shape[-2]
        top, left = (self.top - around.top) // step, (self.left - around.left) // step
        return maps[..., top : top + self.rows // step, left : left + self.columns // step]

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index of the last two axes."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    @property
    def area(self) -> int:
        """In pixels."""
        return self.rows * self.columns


def heart(labels: NDArray[np.uint8]) -> Box | str:
    """The bounding box of a post-processed stack (slice, y, x), or the reason why it is not to be trusted."""
    for label in (Label.MYOCARDIUM, Label.BLOOD_POOL):
        counts = np.count_nonzero(labels == label, axis=(1, 2))
        if np.count_nonzero(counts) < LEAST_SLICES or counts.sum() < LEAST_VOXELS:
            return "no heart was found"
    seen = (labels != Label.BACKGROUND).any(0)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    ends = rows[0], columns[0], seen.shape[0] - 1 - rows[-1], seen.shape[1] - 1 - columns[-1]
    if min(ends) < EDGE:
        return "the heart reaches the border of the field"
    return Box(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


def windows(found: Box, field: tuple[int, int], step: int) -> list[Box]:
    """Square windows around ``found`` in a ``field`` (rows, columns), smallest first; all on multiples of ``step``.

    The first leaves :data:`MARGIN` on each side (where the field has it), the last is below :data:`LARGEST`.
    """
    made = []
    for side in range(step, min(field) + 1, step):
        corner = []
        for start, size, limit in ((found.top, found.rows, field[0]), (found.left, found.columns, field[1])):
            nearest = round((start + size / 2 - side / 2) / step) * step
            corner.append(min(max(nearest, 0), limit - side))
        box = Box(corner[0], corner[1], side, side)
        if side * side <= LARGEST * field[0] * field[1] and _holds(box, found, field):
            made.append(box)
    return made


def reaches_rim(labels: NDArray[np.uint8], window: Box, field: tuple[int, int]) -> bool:
    """Whether labels (slice, y, x) of a ``window`` come to its rim where the field goes on."""
    seen = (labels != Label.BACKGROUND).any(0)
    sides = (
        (window.top > 0, seen[:EDGE]),
        (window.left > 0, seen[:, :EDGE]),
        (window.top + window.rows < field[0], seen[-EDGE:]),
        (window.left + window.columns < field[1], seen[:, -EDGE:]),
    )
    return any(inner and bool(rim.any()) for inner, rim in sides)


def _holds(window: Box, found: Box, field: tuple[int, int]) -> bool:
    return (
        window.top <= max(found.top - MARGIN, 0)
        and window.left <= max(found.left - MARGIN, 0)
        and window.top + window.rows >= min(found.top + found.rows + MARGIN, field[0])
        and window.left + window.columns >= min(found.left + found.columns + MARGIN, field[1])
    )
