"""The rows of one mouse, as ``datasets`` stores them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from mousecmr_data.adapters.huggingface import pixels
from mousecmr_data.adapters.huggingface.columns import IMAGE, MASK, Config
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.dataset.samples import select_frames
from mousecmr_data.schema import variables

Row = dict[str, Any]


def count(ds: xr.Dataset, config: Config) -> int:
    """How many rows ``ds`` has in a table; reads no pixel."""
    if config == "cines":
        return 1
    return int(select_frames(ds, "labelled" if config == "labelled" else "all").size * ds.sizes["slice"])


def rows(ds: xr.Dataset, config: Config) -> Iterator[Row]:
    """The rows of a mouse in the table ``config``; a frame is read at a time.

    A frame that nobody segmented has no mask (None): zeros would say "background".
    """
    about = {
        "split": str(ds.attrs["split"]),
        "phenotype": str(ds.attrs["phenotype"]),
        "synthetic": bool(ds.attrs["synthetic"]),
    }
    yield from _cine(ds, about) if config == "cines" else _planes(ds, config, about)


def _planes(ds: xr.Dataset, config: Config, about: Row) -> Iterator[Row]:
    mouse = str(ds.attrs["mouse"])
    dz, dy, dx = get_spacing(ds)
    labelled, phase, numbers = ds["labelled"].values, ds["phase"].values, ds["slice"].values
    for position in select_frames(ds, "labelled" if config == "labelled" else "all").tolist():
        frame = ds.isel(frame=position)
        images = frame[variables.IMAGE].values
        masks = frame[variables.MASK].values if labelled[position] else None
        number = int(ds["frame"].values[position])
        for i, plane in enumerate(images):
            name = f"{mouse}_slice{int(numbers[i]):02d}_frame{number:02d}"
            yield {
                IMAGE: {"bytes": pixels.tiff(plane), "path": f"{name}.tif"},
                MASK: None if masks is None else {"bytes": pixels.tiff(masks[i]), "path": f"{name}_mask.tif"},
                "mouse": mouse,
                "slice": int(numbers[i]),
                "frame": number,
                "phase": str(phase[position]),
                "labelled": bool(labelled[position]),
                "spacing": [dy, dx],
                "slice_thickness": dz,
                "time": float(ds["time"].values[position]),
                **about,
            }


def _cine(ds: xr.Dataset, about: Row) -> Iterator[Row]:
    mouse = str(ds.attrs["mouse"])
    image, mask = pixels.cine_nifti(ds)
    yield {
        IMAGE: {"bytes": image, "path": f"{mouse}.nii"},
        MASK: None if mask is None else {"bytes": mask, "path": f"{mouse}_mask.nii"},
        "mouse": mouse,
        "slices": ds.sizes["slice"],
        "frames": ds.sizes["frame"],
        "labelled_frames": np.flatnonzero(ds["labelled"].values).tolist() if mask is not None else [],
        "phase": ds["phase"].values.astype(str).tolist(),
        "spacing": list(get_spacing(ds)),
        "time": ds["time"].values.astype(float).tolist(),
        **about,
    }
