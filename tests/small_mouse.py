"""A synthetic mouse that takes a second to segment: a few frames and slices of a phantom, cropped to the heart."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import xarray as xr

import mousecmr_data
from mousecmr_data.formats.nifti import write_nifti_images

FRAMES, SLICES, SIDE = 4, 3, 128
FLAT_FRAMES = 16
"""So many that the frames of all slices, taken for slices, would be longer than a heart."""


def small_mouse(cache: Path, n_frames: int = FRAMES) -> xr.Dataset:
    """Load images (n_frames, 3, 128, 128) of Mouse6 of the phantom, around its heart."""
    ds = mousecmr_data.load(mice=["Mouse6"], source="phantom", cache=cache)["Mouse6"]
    frames = np.linspace(0, ds.sizes["frame"] // 2, n_frames).astype(int)
    rows, columns = np.nonzero(ds["mask"].isel(frame=0).values.any(axis=0))
    y, x = (int(v.mean()) - SIDE // 2 for v in (rows, columns))
    return ds.isel(frame=frames, slice=slice(3, 3 + SLICES), y=slice(y, y + SIDE), x=slice(x, x + SIDE)).load()


def write_small_mouse(cache: Path, path: Path) -> Path:
    """Write the small mouse as NIfTI."""
    write_nifti_images(small_mouse(cache), path)
    return path


def write_flat_mouse(cache: Path, path: Path) -> Path:
    """Write the small mouse as NIfTI with its frames stored as slices, and NaN outside the field of view."""
    image = small_mouse(cache, FLAT_FRAMES)["image"].values.astype(np.float32)
    image[..., :5, :] = np.nan
    flat = nibabel.Nifti1Image(image.swapaxes(0, 1).reshape(-1, *image.shape[2:]).T, np.diag([0.1, 0.1, 1.0, 1.0]))
    flat.header.set_xyzt_units("mm")
    nibabel.save(flat, path)
    return path
