"""A segmented mouse as a file of the dataset's own layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    DIMS,
    FRAMES_WITH_ROI,
    IMAGE,
    IMAGES,
    MASKS,
    MODEL_TO_FILE,
    NOT_PUBLISHED,
    PREDICTED,
)

ATTR_SEGMENTED_BY, ATTR_TRAINED_ON = "segmented_by", "trained_on"


def write(ds: xr.Dataset, path: str | Path, attrs: Mapping[str, Any] | None = None) -> Path:
    """Write images and predicted masks of ``ds`` to ``path``, whole or not at all.

    Every frame counts as segmented (``Frames_with_ROI``). The file says, in attributes, which weights made
    the masks, what they were trained on, and whether the images are synthetic; ``attrs`` are added to these.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    predicted = ds[PREDICTED].transpose(*DIMS)
    arrays = {IMAGES: ds[IMAGE].transpose(*DIMS).values, MASKS: predicted.values}
    to_file = [MODEL_TO_FILE.index(k) for k in range(len(DIMS))]
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(partial, "w") as f:
            for name, array in arrays.items():
                stored = np.ascontiguousarray(array.transpose(to_file))
                rows, columns, _, frames = stored.shape
                f.create_dataset(name, data=stored, chunks=(rows, columns, 1, frames), compression="gzip", shuffle=True)
            f.create_dataset(FRAMES_WITH_ROI, data=np.arange(predicted.sizes["frame"]))
            f.attrs[ATTR_MOUSE] = str(ds.attrs.get("mouse", path.stem))
            f.attrs[ATTR_SOURCE] = str(ds.attrs.get("source", "not stated"))
            f.attrs[ATTR_SYNTHETIC] = bool(ds.attrs.get("synthetic", False))
            f.attrs[ATTR_PHENOTYPE] = str(ds.attrs.get("phenotype", NOT_PUBLISHED))
            f.attrs[ATTR_VOXEL_SIZE] = np.asarray(get_spacing(ds))
            if ds.sizes["frame"] > 1 and "time" in ds.coords:
                f.attrs[ATTR_FRAME_TIME] = float(ds["time"].values[1] - ds["time"].values[0])
            f.attrs[ATTR_SEGMENTED_BY] = str(predicted.attrs["weights"])
            f.attrs[ATTR_TRAINED_ON] = str(predicted.attrs["trained_on"])
            f.attrs.update(attrs or {})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
