"""Read a mouse that :mod:`mousecmr_data.formats.discover` found, with the reader of its format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError
from mousecmr_data.formats.build import (
    ATTR_FRAME_TIME_KNOWN,
    ATTR_INCOMPLETE,
    ATTR_NOTES,
    check_order,
    check_spacing,
    find_oddities,
)
from mousecmr_data.formats.discover import IMAGE_FORMATS, FoundScan
from mousecmr_data.schema.variables import IMAGE, MASK


def read_scan(
    scan: FoundScan,
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """Read ``scan`` as a dataset (cine model, pixels in memory) with its name.

    ``spacing`` (z, y, x) in mm and ``frame_time_ms`` take precedence over the file's own; ``axes`` (formats of
    ``discover.IMAGE_FORMATS`` only) is one letter per axis of the file. What looks unusual is added to the attribute
    ``notes``. Raises what the readers raise, all of it :class:`~mousecmr_data.errors.MouseCMRError`, and
    :class:`~mousecmr_data.errors.UnitsError`
    if slices and frames look swapped (unless ``axes`` is given).
    """
    if axes is not None and scan.kind not in IMAGE_FORMATS:
        raise ArgumentError(f"{scan.name}: axes were given for {scan.kind}.", f"one of {', '.join(IMAGE_FORMATS)}")
    ds = _read_files(scan, spacing, axes, frame_time_ms)
    image = ds[IMAGE].values
    if axes is None and scan.kind in IMAGE_FORMATS and len(scan.paths) == 1:  # others state what their axes are
        check_order(scan.name, image)
    notes = [*scan.notes, *ds.attrs[ATTR_NOTES].splitlines(), *find_oddities(image, get_spacing(ds))]
    attrs = {"mouse": scan.name, ATTR_NOTES: "\n".join(notes), ATTR_INCOMPLETE: "\n".join(scan.incomplete)}
    return ds.assign_attrs(attrs)


def _read_files(
    scan: FoundScan, spacing: Sequence[float] | None, axes: str | None, frame_time_ms: float | None
) -> xr.Dataset:
    """Read the files of ``scan``; a reader, which may need an extra, is imported only for its own format."""
    if scan.kind in IMAGE_FORMATS:
        from mousecmr_data.formats.nifti import read_nifti_files

        return read_nifti_files(scan.paths, spacing=spacing, axes=axes, frame_time_ms=frame_time_ms)
    if scan.kind == "DICOM":
        from mousecmr_data.formats.dicom import read_dicom

        return read_dicom(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms)
    if scan.kind == "FDF":
        from mousecmr_data.formats.fdf import read_fdf

        return read_fdf(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms)
    if scan.kind == "Bruker":
        from mousecmr_data.formats.bruker import read_bruker

        return read_bruker(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms)
    return _read_hdf5(scan.paths[0], spacing, frame_time_ms)


def _read_hdf5(path: Path, spacing: Sequence[float] | None, frame_time_ms: float | None) -> xr.Dataset:
    from mousecmr_data.dataset.hdf5 import load_mouse_file

    ds = load_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms)
    check_spacing(path.name, get_spacing(ds))
    assumed = [
        f"The {what} is {ds.attrs[attr]}."
        for what, attr in (("voxel size", "voxel_size_source"), ("frame time", "frame_time_source"))
        if str(ds.attrs[attr]).startswith("not in the file")
    ]
    return ds.drop_vars(MASK, errors="ignore").assign_attrs(
        {"format": "HDF5", ATTR_NOTES: "\n".join(assumed), ATTR_FRAME_TIME_KNOWN: 1}
    )
