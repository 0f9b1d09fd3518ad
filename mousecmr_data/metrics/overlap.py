"""Dice overlap of hard labels (source of the definition: the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from mousecmr_data.errors import ArgumentError, FileLayoutError
from mousecmr_data.schema.labels import FOREGROUND, Label
from mousecmr_data.schema.variables import MASK, PREDICTED

# MERGED metrics.overlap: Distances between two surfaces in mm: the 95 % Hausdorff distance and the average surface distance.
#
# The surface of a mask is those of its voxels that have a face neighbour outside it (beyond the stack counts
# as outside). Distances are Euclidean, between voxel centres, in mm. HD95 is the larger of the two directed
# 95th percentiles; ASSD is the mean over the distances of both surfaces together. These are the definitions
# of MONAI (``compute_hausdorff_distance(percentile=95)``, ``compute_average_surface_distance(symmetric=True)``).


EmptyPolicy = Literal["missing", "diagonal"]
"""What a distance is where one mask is empty and the other is not: missing (NaN), or the length of the
stack's diagonal, the worst that is possible. Where both are empty it is 0."""

EMPTY_POLICIES: tuple[EmptyPolicy, ...] = ("missing", "diagonal")

PERCENTILE = 95.0

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Surface distances of one structure, mm; NaN is missing."""

    hd95_mm: float
    assd_mm: float


def compute_surface_distances(
    prediction: Mask, truth: Mask, voxel_size_mm: Sequence[float], *, empty: EmptyPolicy = "missing"
) -> SurfaceDistances:
    """HD95 and ASSD of two boolean stacks (slice, y, x) with voxels of ``voxel_size_mm`` (z, y, x)."""
    if empty not in EMPTY_POLICIES:
        raise ArgumentError(
            f"There is no policy {empty!r} for empty masks.", f"one of {', '.join(map(repr, EMPTY_POLICIES))}"
        )
    size = np.asarray(voxel_size_mm, float)
    ours, theirs = find_surface(prediction) * size, find_surface(truth) * size
    if not len(ours) and not len(theirs):
        return SurfaceDistances(0.0, 0.0)
    if not len(ours) or not len(theirs):
        worst = float(np.linalg.norm((np.array(truth.shape) - 1) * size)) if empty == "diagonal" else np.nan
        return SurfaceDistances(worst, worst)
    there, back = KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]
    hd95 = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
    return SurfaceDistances(float(hd95), float(np.concatenate([there, back]).mean()))


def find_surface(mask: Mask) -> NDArray[np.intp]:
    """Indices (n, 3) of the surface voxels of a stack."""
    boxes = ndimage.find_objects(mask.astype(np.int8))
    if not boxes:
        return np.empty((0, mask.ndim), np.intp)
    inside = mask[boxes[0]]
    corner = np.array([part.start for part in boxes[0]])
    return np.asarray(np.argwhere(inside & ~ndimage.binary_erosion(inside)) + corner)


"""Name of the variable that a segmentation adds to a mouse's dataset."""

SCORE_COLUMNS = ("mouse", "frame", "phase", "dice_myocardium", "dice_blood_pool")


def dice(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|) of two boolean arrays of one shape; 1 where both are empty.

    Hand it the whole 3D stack of one class at one frame: the paper's definition. Raises
    :class:`~mousecmr_data.errors.FileLayoutError` where the shapes differ or an array is not boolean.
    """
    if prediction.shape != truth.shape:
        raise FileLayoutError(f"The prediction has the shape {prediction.shape}, the truth {truth.shape}.", "one shape")
    if prediction.dtype != bool or truth.dtype != bool:
        raise FileLayoutError(
            f"The arrays are {prediction.dtype} and {truth.dtype}.", "boolean arrays", "dice(labels == 2, truth == 2)"
        )
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return float(2.0 * np.count_nonzero(prediction & truth) / total) if total else 1.0


def dice_by_class(prediction: NDArray[Any], truth: NDArray[Any]) -> dict[Label, float]:
    """Dice of each structure of two label arrays of one shape."""
    return {label: dice(prediction == label, truth == label) for label in FOREGROUND}


def score_frames(ds: xr.Dataset) -> pd.DataFrame:
    """Dice of each labelled frame of a segmented mouse: the columns of :data:`COLUMNS`.

    Empty for a mouse that nobody segmented: an unlabelled frame says nothing.
    """
    rows = []
    frames: Iterable[int] = np.flatnonzero(ds["labelled"].values) if MASK in ds else []
    for at in frames:
        one = ds.isel(frame=int(at))
        found = dice_by_class(one[PREDICTED].values, one[MASK].values)
        where = (str(ds.attrs.get("mouse", "")), int(one["frame"]), str(one["phase"].values))
        rows.append((*where, found[Label.MYOCARDIUM], found[Label.BLOOD_POOL]))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
