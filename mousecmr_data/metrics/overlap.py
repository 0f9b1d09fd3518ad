"""Dice overlap of hard labels, and surface distances in mm.

Dice is defined as in the paper. The surface of a mask consists of its voxels with a face neighbour outside the mask
(beyond the stack counts as outside). Distances are Euclidean, between voxel centres, in mm. HD95, the 95 % Hausdorff
distance, is the larger of the two directed 95th percentiles; ASSD, the average symmetric surface distance, is the mean
over the distances of both surfaces together. These are the definitions of MONAI
(``compute_hausdorff_distance(percentile=95)``, ``compute_average_surface_distance(symmetric=True)``).
"""

from __future__ import annotations

from collections.abc import Sequence
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

EmptyPolicy = Literal["missing", "diagonal"]
"""The distance where only one mask is empty: missing (NaN), or the length of the stack's diagonal, the largest possible
distance. Where both are empty it is 0."""

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
    """Return HD95 and ASSD of two boolean stacks (slice, y, x) with voxels of ``voxel_size_mm`` (z, y, x)."""
    if empty not in EMPTY_POLICIES:
        raise ArgumentError(
            f"There is no policy {empty!r} for empty masks.", f"one of {', '.join(map(repr, EMPTY_POLICIES))}"
        )
    size = np.asarray(voxel_size_mm, float)
    predicted, true = find_surface(prediction) * size, find_surface(truth) * size
    if not len(predicted) and not len(true):
        return SurfaceDistances(0.0, 0.0)
    if not len(predicted) or not len(true):
        distance = float(np.linalg.norm((np.array(truth.shape) - 1) * size)) if empty == "diagonal" else np.nan
        return SurfaceDistances(distance, distance)
    to_truth, to_prediction = KDTree(true).query(predicted)[0], KDTree(predicted).query(true)[0]
    hd95 = max(np.percentile(to_truth, PERCENTILE), np.percentile(to_prediction, PERCENTILE))
    return SurfaceDistances(float(hd95), float(np.concatenate([to_truth, to_prediction]).mean()))


def find_surface(mask: Mask) -> NDArray[np.intp]:
    """Return the indices (n, 3) of the surface voxels of a stack."""
    boxes = ndimage.find_objects(mask.astype(np.int8))
    if not boxes:
        return np.empty((0, mask.ndim), np.intp)
    inside = mask[boxes[0]]
    corner = np.array([part.start for part in boxes[0]])
    return np.asarray(np.argwhere(inside & ~ndimage.binary_erosion(inside)) + corner)


SCORE_COLUMNS = ("mouse", "frame", "phase", "dice_myocardium", "dice_blood_pool")


def dice(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the Dice coefficient 2|A∩B| / (|A|+|B|) of two boolean arrays of the same shape; 1 if both are empty.

    The paper's definition takes the whole 3D stack of one class at one frame. Raises
    :class:`~mousecmr_data.errors.FileLayoutError` if the shapes differ or an array is not boolean.
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
    """Return the Dice coefficient of each structure of two label arrays of the same shape."""
    return {label: dice(prediction == label, truth == label) for label in FOREGROUND}


def score_frames(ds: xr.Dataset) -> pd.DataFrame:
    """Return the Dice coefficients of each labelled frame of a segmented mouse: the columns of :data:`SCORE_COLUMNS`.

    The table is empty for a mouse without manual masks: an unlabelled frame has no truth.
    """
    rows = []
    for index in np.flatnonzero(ds["labelled"].values).tolist() if MASK in ds else []:
        frame = ds.isel(frame=index)
        scores = dice_by_class(frame[PREDICTED].values, frame[MASK].values)
        key = (str(ds.attrs.get("mouse", "")), int(frame["frame"]), str(frame["phase"].values))
        rows.append((*key, scores[Label.MYOCARDIUM], scores[Label.BLOOD_POOL]))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
