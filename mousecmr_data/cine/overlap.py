"""Dice overlap of hard labels (source of the definition: the paper)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.errors import FileLayoutError
from mousecmr_data.schema.labels import FOREGROUND, Label
from mousecmr_data.schema.variables import MASK, PREDICTED

"""Name of the variable that a segmentation adds to a mouse's dataset."""

COLUMNS = ("mouse", "frame", "phase", "dice_myocardium", "dice_blood_pool")


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


def scored(ds: xr.Dataset) -> pd.DataFrame:
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
    return pd.DataFrame(rows, columns=list(COLUMNS))
