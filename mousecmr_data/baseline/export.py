"""A segmented mouse as a file of the dataset's own layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from mousecmr_data.cine.voxels import voxel_size_mm
from mousecmr_data.facts import layout

ATTR_SEGMENTED_BY, ATTR_TRAINED_ON = "segmented_by", "trained_on"


def write(ds: xr.Dataset, path: str | Path, attrs: Mapping[str, Any] | None = None) -> Path:
    """Write images and predicted masks of ``ds`` to ``path``, whole or not at all.

    Every frame counts as segmented (``Frames_with_ROI``). The file says, in attributes, which weights made
    the masks, what they were trained on, and whether the images are synthetic; ``attrs`` are added to these.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    predicted = ds[layout.PREDICTED].transpose(*layout.DIMS)
    arrays = {layout.IMAGES: ds[layout.IMAGE].transpose(*layout.DIMS).values, layout.MASKS: predicted.values}
    to_file = [layout.MODEL_TO_FILE.index(k) for k in range(len(layout.DIMS))]
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(partial, "w") as f:
            for name, array in arrays.items():
                stored = np.ascontiguousarray(array.transpose(to_file))
                rows, columns, _, frames = stored.shape
                f.create_dataset(name, data=stored, chunks=(rows, columns, 1, frames), compression="gzip", shuffle=True)
            f.create_dataset(layout.FRAMES_WITH_ROI, data=np.arange(predicted.sizes["frame"]))
            f.attrs[layout.ATTR_MOUSE] = str(ds.attrs.get("mouse", path.stem))
            f.attrs[layout.ATTR_SOURCE] = str(ds.attrs.get("source", "not stated"))
            f.attrs[layout.ATTR_SYNTHETIC] = bool(ds.attrs.get("synthetic", False))
            f.attrs[layout.ATTR_PHENOTYPE] = str(ds.attrs.get("phenotype", layout.NOT_PUBLISHED))
            f.attrs[layout.ATTR_VOXEL_SIZE] = np.asarray(voxel_size_mm(ds))
            if ds.sizes["frame"] > 1 and "time" in ds.coords:
                f.attrs[layout.ATTR_FRAME_TIME] = float(ds["time"].values[1] - ds["time"].values[0])
            f.attrs[ATTR_SEGMENTED_BY] = str(predicted.attrs["weights"])
            f.attrs[ATTR_TRAINED_ON] = str(predicted.attrs["trained_on"])
            f.attrs.update(attrs or {})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
