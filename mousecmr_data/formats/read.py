"""Read a mouse that :mod:`mousecmr_data.formats.discover` found, with the reader of its format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from mousecmr_data._utils.reading import make_read_error
from mousecmr_data.dataset.model import FROM_FILE, build_dataset, check_field, check_spacing, get_spacing
from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.formats.build import (
    ATTR_FRAME_TIME_KNOWN,
    ATTR_INCOMPLETE,
    ATTR_NOTES,
    check_not_constant,
    check_order,
    check_stack,
    choose_folding,
    convert_pixels,
    find_oddities,
)
from mousecmr_data.formats.discover import IMAGE_FORMATS, FoundScan
from mousecmr_data.formats.orientation import ATTR_GRID, unfold_frames
from mousecmr_data.schema.variables import FILE_LETTERS, IMAGE, IMAGES

AXES_FORMATS = (*IMAGE_FORMATS, "HDF5")
"""Formats of plain arrays, whose axes can be given."""


def read_scan(
    scan: FoundScan,
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
    frames: int | None = None,
    fill: float | None = None,
) -> xr.Dataset:
    """Read ``scan`` as a dataset (cine model, pixels in memory) with its name, and its masks if it has ``labels``.

    ``spacing`` (z, y, x) in mm and ``frame_time_ms`` take precedence over the file's own; ``axes`` is one letter per
    axis of the file, and ``frames`` the number of frames of each slice where slices and frames share one axis (both
    only for HDF5 and formats of ``discover.IMAGE_FORMATS``); ``fill`` replaces pixels that are NaN or infinite. What
    looks unusual is added to the attribute ``notes``. Raises what the readers raise, all of it
    :class:`~mousecmr_data.errors.MouseCMRError`, and :class:`~mousecmr_data.errors.UnitsError` if slices and frames
    look swapped, or stored in one axis (unless ``axes`` is given).
    """
    for option, value in (("axes", axes), ("frames", frames)):
        if value is not None and scan.kind not in AXES_FORMATS:
            expected = f"one of {', '.join(AXES_FORMATS)}"
            raise ArgumentError(f"{scan.name}: {option} were given for {scan.kind}.", expected)
    try:
        ds = _read_files(scan, spacing, axes, frame_time_ms, frames, fill)
    except MouseCMRError:
        raise
    except OSError as e:  # of the system
        raise make_read_error(e.filename or scan.paths[0], e) from e
    image = ds[IMAGE].values
    if axes is None and scan.kind in AXES_FORMATS and len(scan.paths) == 1:  # others state what their axes are
        letters = json.loads(ds.attrs[ATTR_GRID])["axes"] if ATTR_GRID in ds.attrs else ds.attrs["axes"]
        check_order(scan.name, image, letters if "t" in letters else "xyzt")
        check_stack(scan.name, image, get_spacing(ds))
    notes = [*scan.notes, *ds.attrs[ATTR_NOTES].splitlines(), *find_oddities(image, get_spacing(ds))]
    attrs = {"mouse": scan.name, ATTR_NOTES: "\n".join(notes), ATTR_INCOMPLETE: "\n".join(scan.incomplete)}
    return ds.assign_attrs(attrs)


def _read_files(
    scan: FoundScan,
    spacing: Sequence[float] | None,
    axes: str | None,
    frame_time_ms: float | None,
    frames: int | None,
    fill: float | None,
) -> xr.Dataset:
    """Read the files of ``scan``; a reader, which may need an extra, is imported only for its own format."""
    if scan.kind in IMAGE_FORMATS:
        from mousecmr_data.formats.nifti import add_labels, read_nifti_files

        ds = read_nifti_files(
            scan.paths, spacing=spacing, axes=axes, frame_time_ms=frame_time_ms, frames=frames, fill=fill
        )
        return add_labels(ds, scan.labels) if scan.labels else ds
    if scan.kind == "DICOM":
        from mousecmr_data.formats.dicom import read_dicom

        return read_dicom(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms)
    if scan.kind == "FDF":
        from mousecmr_data.formats.fdf import read_fdf

        return read_fdf(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms, fill=fill)
    if scan.kind == "Bruker":
        from mousecmr_data.formats.bruker import read_bruker

        return read_bruker(scan.paths, spacing=spacing, frame_time_ms=frame_time_ms)
    return _read_hdf5(scan.paths[0], spacing, axes, frame_time_ms, frames, fill)


def _read_hdf5(
    path: Path,
    spacing: Sequence[float] | None,
    axes: str | None,
    frame_time_ms: float | None,
    frames: int | None,
    fill: float | None,
) -> xr.Dataset:
    """Read the images, which may be any real numbers here, as in the other formats."""
    from mousecmr_data.dataset.hdf5 import HDF5Array, read_header, read_parts

    if frames is not None and axes is None:
        axes = FILE_LETTERS[:3]
    header = read_header(path, axes)
    parts = read_parts(path, spacing=spacing, axes=header.axes, frame_time_ms=frame_time_ms)
    image = HDF5Array(path, IMAGES, header.shape, "uint16", axes=header.axes).read_raw()
    image = convert_pixels(path.name, image, fill)
    sizes = parts.sizes
    assumed = [
        f"The {what} is {source}."
        for what, source in (("voxel size", sizes.voxel_size_source), ("frame time", sizes.frame_time_source))
        if source.startswith("not in the file")
    ]
    if frames is not None:
        image = unfold_frames(image[0], frames, choose_folding(path.name, image[0], frames))
    check_not_constant(path.name, image)
    check_spacing(path.name, sizes.voxel_size_mm)
    if sizes.voxel_size_source == FROM_FILE:
        check_field(path.name, image.shape[2:], sizes.voxel_size_mm)
    about = {"format": "HDF5", ATTR_NOTES: "\n".join(assumed), ATTR_FRAME_TIME_KNOWN: 1, "axes": header.axes}
    return build_dataset(image, None, (), sizes, {**parts.attrs, **about})
