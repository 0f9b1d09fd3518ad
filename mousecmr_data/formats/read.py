"""A mouse that was found, read by the reader of its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN, ATTR_NOTES, check_order, check_spacing, find_oddities
from mousecmr_data.formats.discover import FormatName, FoundScan
from mousecmr_data.schema.variables import IMAGE, MASK


def read_scan(
    found: FoundScan,
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """The dataset (cine model, pixels in memory) of ``found``, named as it is.

    ``spacing`` (z, y, x) in mm and ``frame_time_ms`` take precedence over the file's own; ``axes`` (NIfTI only)
    is a letter an axis of the file. What looks unusual is added to the attribute ``notes``. Raises what the readers
    raise, all of it :class:`~mousecmr_data.errors.MouseCMRError`, and :class:`~mousecmr_data.errors.UnitsError`
    where slices and frames look swapped (unless ``axes`` says that they are not).
    """
    if axes is not None and found.kind != "NIfTI":
        raise ArgumentError(f"{found.name}: axes were given for {found.kind}.", "axes belong to NIfTI")
    ds = _READERS[found.kind](found.paths, spacing, axes, frame_time_ms)
    image = ds[IMAGE].values
    if axes is None:
        check_order(found.name, image)
    notes = [*ds.attrs[ATTR_NOTES], *find_oddities(image, get_spacing(ds))]
    return ds.assign_attrs({"mouse": found.name, ATTR_NOTES: notes})


def _nifti(paths: Sequence[Path], spacing: Any, axes: Any, frame_time_ms: Any) -> xr.Dataset:
    from mousecmr_data.formats.nifti import read_nifti_files

    return read_nifti_files(paths, spacing=spacing, axes=axes, frame_time_ms=frame_time_ms)


def _hdf5(paths: Sequence[Path], spacing: Any, axes: Any, frame_time_ms: Any) -> xr.Dataset:  # noqa: ARG001
    from mousecmr_data.dataset.hdf5 import open_mouse_file

    ds = open_mouse_file(paths[0], spacing=spacing, frame_time_ms=frame_time_ms).load()
    check_spacing(paths[0].name, get_spacing(ds))
    assumed = [
        f"The {what} is {ds.attrs[attr]}."
        for what, attr in (("voxel size", "voxel_size_source"), ("frame time", "frame_time_source"))
        if str(ds.attrs[attr]).startswith("not in the file")
    ]
    return ds.drop_vars(MASK, errors="ignore").assign_attrs(
        {"format": "HDF5", ATTR_NOTES: assumed, ATTR_FRAME_TIME_KNOWN: True}
    )


def _dicom(paths: Sequence[Path], spacing: Any, axes: Any, frame_time_ms: Any) -> xr.Dataset:  # noqa: ARG001
    from mousecmr_data.formats.dicom import read_dicom

    return read_dicom(paths, spacing=spacing, frame_time_ms=frame_time_ms)


def _fdf(paths: Sequence[Path], spacing: Any, axes: Any, frame_time_ms: Any) -> xr.Dataset:  # noqa: ARG001
    from mousecmr_data.formats.fdf import read_fdf

    return read_fdf(paths, spacing=spacing, frame_time_ms=frame_time_ms)


def _bruker(paths: Sequence[Path], spacing: Any, axes: Any, frame_time_ms: Any) -> xr.Dataset:  # noqa: ARG001
    from mousecmr_data.formats.bruker import read_bruker

    return read_bruker(paths[0], spacing=spacing, frame_time_ms=frame_time_ms)


_READERS: dict[FormatName, Callable[[Sequence[Path], Any, Any, Any], xr.Dataset]] = {
    "NIfTI": _nifti,
    "HDF5": _hdf5,
    "DICOM": _dicom,
    "FDF": _fdf,
    "Bruker": _bruker,
}
