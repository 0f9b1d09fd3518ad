"""Distances between two surfaces in mm: the 95 % Hausdorff distance and the average surface distance.

The surface of a mask is those of its voxels that have a face neighbour outside it (beyond the stack counts
as outside). Distances are Euclidean, between voxel centres, in mm. HD95 is the larger of the two directed
95th percentiles; ASSD is the mean over the distances of both surfaces together. These are the definitions
of MONAI (``compute_hausdorff_distance(percentile=95)``, ``compute_average_surface_distance(symmetric=True)``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from mousecmr_data.errors import ArgumentError

Empty = Literal["missing", "diagonal"]
"""What a distance is where one mask is empty and the other is not: missing (NaN), or the length of the
stack's diagonal, the worst that is possible. Where both are empty it is 0."""

EMPTY: tuple[Empty, ...] = ("missing", "diagonal")

PERCENTILE = 95.0

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Distances:
    """Surface distances of one structure, mm; NaN is missing."""

    hd95_mm: float
    assd_mm: float


def distances(prediction: Mask, truth: Mask, voxel_size_mm: Sequence[float], *, empty: Empty = "missing") -> Distances:
    """HD95 and ASSD of two boolean stacks (slice, y, x) with voxels of ``voxel_size_mm`` (z, y, x)."""
    if empty not in EMPTY:
        raise ArgumentError(f"There is no policy {empty!r} for empty masks.", f"one of {', '.join(map(repr, EMPTY))}")
    size = np.asarray(voxel_size_mm, float)
    ours, theirs = surface(prediction) * size, surface(truth) * size
    if not len(ours) and not len(theirs):
        return Distances(0.0, 0.0)
    if not len(ours) or not len(theirs):
        worst = float(np.linalg.norm((np.array(truth.shape) - 1) * size)) if empty == "diagonal" else np.nan
        return Distances(worst, worst)
    there, back = KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]
    hd95 = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
    return Distances(float(hd95), float(np.concatenate([there, back]).mean()))


def surface(mask: Mask) -> NDArray[np.intp]:
    """Indices (n, 3) of the surface voxels of a stack."""
    boxes = ndimage.find_objects(mask.astype(np.int8))
    if not boxes:
        return np.empty((0, mask.ndim), np.intp)
    inside = mask[boxes[0]]
    corner = np.array([part.start for part in boxes[0]])
    return np.asarray(np.argwhere(inside & ~ndimage.binary_erosion(inside)) + corner)
