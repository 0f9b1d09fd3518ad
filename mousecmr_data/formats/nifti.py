"""Read cines of NIfTI, Analyze, NRRD and MetaImage into the model, and write images and masks.

All of them are an array with a place in space, and become a NIfTI image in memory first (NRRD and MetaImage in
``formats.nrrd``). An array is (x, y, slice, frame), or in any other order that the affine gives; see
``formats.orientation``. Analyze (``.hdr`` and ``.img``, also NIfTI pairs) is only read.
"""

from __future__ import annotations

import glob
import gzip
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.outputs import write_file
from mousecmr_data._utils.reading import check_access, check_input, check_size, get_max_bytes
from mousecmr_data._utils.text import SYNTHETIC, is_marked_synthetic, join_names
from mousecmr_data.dataset.model import (
    PhysicalSizes,
    build_dataset,
    check_axes,
    check_spacing,
    convert_labels,
    get_spacing,
)
from mousecmr_data.errors import (
    ArgumentError,
    FileLayoutError,
    MissingExtraError,
    MouseCMRError,
    UnitsError,
    UnlabelledError,
)
from mousecmr_data.formats.archive import GZIP_MAGIC
from mousecmr_data.formats.build import (
    ATTR_FRAME_TIME_KNOWN,
    ATTR_NOTES,
    build_scan,
    check_array_size,
    choose_folding,
    convert_pixels,
    prefer_given,
    suppress_warnings,
)
from mousecmr_data.formats.masks import MASK_NAME, LeftOutFile, find_labels, find_pair_header, strip_mask_word
from mousecmr_data.formats.orientation import (
    MM_PER_UNIT,
    MS_PER_UNIT,
    FileGrid,
    orient_axes,
    place_on_grid,
    to_rows,
)
from mousecmr_data.metrics.volumes import make_phases
from mousecmr_data.schema.labels import LABEL_PRESETS, Label, LabelMap
from mousecmr_data.schema.manifest import get_constant
from mousecmr_data.schema.variables import (
    AXIS_LETTERS,
    DICOM_SEG_SUFFIX,
    DIMS,
    IMAGE,
    IMAGE_SUFFIXES,
    MASK,
    METAIMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    NRRD_SUFFIXES,
    SLICER_SEGMENTATION_SUFFIX,
)

try:
    import nibabel
except ImportError as e:
    raise MissingExtraError.from_module("nibabel", "formats") from e

nib: Any = nibabel
READABLE = "a NIfTI, NRRD, MetaImage or Analyze file"
NIFTI2_HEADER_BYTES, MAX_EXTENSION_BYTES = 540, 16 * 10**6
"""Size of the longer kind of header, and the largest size of header and extensions (comments, usually of some kB)."""
SPM_TYPES = {130: 256, 132: 512, 136: 768}
"""NIfTI's codes of int8, uint16 and uint32 by those of SPM in headers of Analyze."""
MAX_CONTRADICTION = 0.02
"""Share by which voxel sizes in the two places of a header may differ: some programs round one of them."""
MAX_SHEAR = 0.02
"""Cosine between axes above which a grid is not rectangular."""
FOLDINGS = {"zt": "slice after slice", "tz": "frame after frame"}
TOLERANCE_MM = 1e-3
"""Affines of files are compared after rounding to this."""


def read_nifti(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
    frames: int | None = None,
    fill: float | None = None,
) -> xr.Dataset:
    """Read the cine in a file of ``IMAGE_SUFFIXES`` (3D: one frame), with all pixels, as a dataset of the cine model.

    ``image`` is uint16, or float32 if the file's numbers are not exact as uint16. ``spacing`` (z, y, x) in mm,
    ``axes`` (one letter per axis of the file: x column, y row, z slice, t frame) and ``frame_time_ms`` take
    precedence over the header. ``frames`` is the number of frames of a cine whose slices and frames share one axis
    (3D); ``fill`` replaces pixels that are not finite. Without ``axes``, the slice axis is the one with the largest
    spacing, and rows and columns are turned by :func:`~mousecmr_data.formats.orientation.orient_axes`. The attribute
    ``notes`` says what was assumed, ``grid`` keeps the file's own grid for :func:`write_nifti_labels`.

    Raises :class:`MissingDataError`, :class:`FileLayoutError`, :class:`~mousecmr_data.errors.UnitsError` (no or
    impossible sizes), :class:`ArgumentError` (``axes`` does not fit).
    """
    path = Path(path)
    array, header, affine = _load_nifti(path)
    grid, steps, notes = _make_grid(path, array.shape, header, affine, axes)
    if spacing is None:
        _check_steps(path, header, affine, grid.axes, grid.space_unit)
    zyx, source = prefer_given(spacing, steps, f"the header ({grid.space_unit})")
    own_ms = grid.time_step * MS_PER_UNIT[grid.time_unit] or None
    ms, time_source = prefer_given(frame_time_ms, own_ms, f"the header ({grid.time_unit})")
    if frames is not None:
        if "t" in grid.axes:
            raise ArgumentError(f"{path.name} has frames of its own.", "--frames only for a file of 3 axes")
        grid = replace(grid, flipped=grid.flipped.replace("z", ""))
        order = choose_folding(path.name, grid.to_model(array)[0], frames)
        grid = replace(grid, folded=order, frames=frames)
        notes.append(f"Slices and frames share one axis: taken as {frames} frames of each slice, {FOLDINGS[order]}.")
    elif axes is None and array.ndim == 4:
        check_axes(path.name, array.shape, grid.axes, AXIS_LETTERS)
    check_spacing(strip_suffix(path), zyx, can_name_axes=True)
    return build_scan(
        convert_pixels(path.name, grid.to_model(array), fill),
        zyx,
        source,
        ms,
        time_source,
        grid,
        notes,
        mouse=strip_suffix(path),
        source=path.name,
        format=_name_format(path),
        synthetic=is_marked_synthetic(str(header["descrip"].item().decode("latin-1"))),
    )


def read_nifti_labels(
    path: str | PathLike[str], like: xr.Dataset | None = None, labels: LabelMap | None = None
) -> NDArray[np.uint8]:
    """Read labels uint8 (frame, slice, y, x) in the model's order (as :func:`read_nifti` orders the images).

    With ``like``, labels whose voxels lie on its grid are put there, however the file stores them, also if it was
    cropped. ``labels`` says what the file's numbers mean, where they are not those of
    :class:`~mousecmr_data.schema.labels.Label`. Raises :class:`~mousecmr_data.errors.LabelError` if a value is not a
    label.
    """
    path = Path(path)
    array, header, affine = _load_nifti(path)
    grid, _, _ = _make_grid(path, array.shape, header, affine, None)
    array = convert_labels(array, str(path), labels)
    placed = None
    if like is not None:
        if (same := _read_on_grid(array, affine, like)) is not None:
            return same
        in_mm = np.diag([*[MM_PER_UNIT[grid.space_unit]] * 3, 1.0]) @ np.asarray(grid.affine)
        placed = place_on_grid(array, in_mm, FileGrid.from_dataset(like))
    return np.ascontiguousarray(grid.to_model(array) if placed is None else placed)


def read_nifti_on_grid(path: str | PathLike[str], like: xr.Dataset) -> NDArray[Any]:
    """Read a file that was written on the grid of ``like``, as an array (frame, slice, y, x) of its own numbers.

    Raises :class:`FileLayoutError` if it lies on another grid.
    """
    path = Path(path)
    array, _, affine = _load_nifti(path)
    found = _read_on_grid(array, affine, like)
    if found is None:
        grid = FileGrid.from_dataset(like)
        raise FileLayoutError(f"{path.name} {array.shape} is not on the grid of the masks.", f"shape {grid.shape}")
    return found


def _read_on_grid(array: NDArray[Any], affine: NDArray[np.float64], like: xr.Dataset) -> NDArray[Any] | None:
    """Return ``array`` in the order of the model if it lies on the very grid of ``like``, whatever its axes are."""
    grid = FileGrid.from_dataset(like)
    lengths = [n for n in grid.shape if n > 1]
    if [n for n in array.shape if n > 1] != lengths or not np.allclose(affine, grid.affine, atol=TOLERANCE_MM):
        return None
    return np.ascontiguousarray(grid.to_model(array.reshape(grid.shape)))


def read_nifti_masks(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: LabelMap | None = None,
    axes: str | None = None,
) -> xr.Dataset:
    """Read a file of masks (``MASK_SUFFIXES``: also DICOM SEG) as a dataset of the cine model without images.

    Parameters as for :func:`read_nifti`; ``labels`` says what the numbers mean.
    Frames without any label count as not segmented. If all of a cine are labelled, ED and ES are those of the volume
    curve, as in ``mousecmr segment``; of fewer, those of the annotators' rule. Raises also
    :class:`~mousecmr_data.errors.UnlabelledError` where no voxel is labelled.
    """
    path = Path(path)
    array, header, affine = _load_nifti(path)
    grid, steps, _ = _make_grid(path, array.shape, header, affine, axes)
    if axes is None and array.ndim == 4:
        check_axes(path.name, array.shape, grid.axes, AXIS_LETTERS)
    masks = np.ascontiguousarray(grid.to_model(convert_labels(array, str(path), labels)))
    labelled = np.flatnonzero(masks.any(axis=(1, 2, 3))).tolist()
    if not labelled:
        raise UnlabelledError(f"{path.name} has no label: an all-zero mask is not an empty ventricle.", "masks")
    if spacing is None:
        _check_steps(path, header, affine, grid.axes, grid.space_unit)
    zyx, source = prefer_given(spacing, steps, f"the header ({grid.space_unit})")
    own_ms = grid.time_step * MS_PER_UNIT[grid.time_unit] or float(get_constant("frame_time"))
    ms, time_source = prefer_given(frame_time_ms, own_ms, f"the header ({grid.time_unit})")
    phase = None
    if 2 < len(labelled) == len(masks):
        phase = make_phases(np.count_nonzero(masks == Label.BLOOD_POOL, axis=(1, 2, 3)))
    about = {
        "mouse": strip_suffix(path),
        "source": path.name,
        "synthetic": is_marked_synthetic(str(header["descrip"].item().decode("latin-1"))),
    }
    sizes = PhysicalSizes(check_spacing(path.name, zyx, can_name_axes=True), source, ms, time_source)
    return build_dataset(masks, masks, labelled, sizes, about, phase).drop_vars(IMAGE)


def write_nifti_images(ds: xr.Dataset, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the images of ``ds`` on its file's own grid, whole or not at all.

    The ending of ``path`` is the format: NIfTI, NRRD or MetaImage. A dataset without a grid (a mouse of the dataset's
    HDF5) becomes (x, y, slice, frame), 3D if it has one frame, with the affine diag(x, y, z) in mm. The header's
    description marks synthetic images.

    Raises OutputError if ``path`` exists, unless this library wrote it and nobody edited it, or with ``overwrite``.
    """
    return _write_nifti(ds[IMAGE].transpose(*DIMS).values, path, ds, "mousecmr-data", overwrite)


def write_nifti_labels(
    labels: NDArray[np.uint8], path: str | PathLike[str], like: xr.Dataset, by: str = "", *, overwrite: bool = False
) -> Path:
    """Write labels uint8 (frame, slice, y, x) on the grid of ``like``, whole or not at all.

    The ending of ``path`` is the format: NIfTI, NRRD (``.seg.nrrd``: a segmentation of 3D Slicer) or MetaImage.
    ``like`` is a dataset of :func:`read_nifti` or of the cine model's own reader; ``labels`` may have fewer or more
    frames. ``by``: what made the labels, in a few words. Raises OutputError as :func:`write_nifti_images` does.
    """
    return _write_nifti(np.asarray(labels, np.uint8), path, like, f"mousecmr-data {by}".strip(), overwrite)


def strip_suffix(path: Path) -> str:
    """Return the file's name without the ending of its format."""
    return re.sub(r"(\.(nii|hdr|img)\.gz|(\.se[gq])?\.nrrd|\.\w+)$", "", path.name, flags=re.IGNORECASE)


def _name_format(path: Path) -> str:
    endings: dict[str, tuple[str, ...]] = {
        "NIfTI": NIFTI_SUFFIXES,
        "NRRD": NRRD_SUFFIXES,
        "MetaImage": METAIMAGE_SUFFIXES,
    }
    endings |= {"DICOM SEG": (DICOM_SEG_SUFFIX,)}
    return next((name for name, suffixes in endings.items() if path.name.lower().endswith(suffixes)), "Analyze")


def _open_image(path: Path) -> Any:
    """Open a file of ``IMAGE_SUFFIXES`` as a NIfTI image."""
    if _name_format(path) in ("NRRD", "MetaImage"):
        from mousecmr_data.formats.nrrd import load_image

        return load_image(path)
    if path.name.lower().endswith(DICOM_SEG_SUFFIX):
        from mousecmr_data.formats.dicom_seg import load_dicom_seg

        return load_dicom_seg(path)
    image = _open_nifti(path) if _name_format(path) == "NIfTI" else _open_pair(path)
    is_nifti = isinstance(image, nib.Nifti1Pair)
    if not is_nifti and not isinstance(image, nib.AnalyzeImage):
        raise FileLayoutError(f"{path.name} is {type(image).__name__}.", READABLE)
    if is_nifti:
        placed = image.header["sform_code"] or image.header["qform_code"]
    else:
        placed = "mat" in image.file_map and Path(image.file_map["mat"].filename).is_file()
    if is_nifti and placed:
        return image
    # Without a place in space: an array with sizes. nibabel would assume that its first axis runs to the left.
    affine = image.affine if placed else np.diag([*np.abs(image.header["pixdim"][1:4]), 1.0])
    header = image.header if is_nifti else nib.Nifti1Header.from_header(image.header)
    converted = (type(image) if is_nifti else nib.Nifti1Image)(image.dataobj, affine, header)
    converted.header["descrip"] = image.header["descrip"]
    if not placed:
        converted.header["sform_code"] = converted.header["qform_code"] = 0
    return converted


def _load_nifti(path: Path) -> tuple[NDArray[Any], Any, NDArray[np.float64]]:
    check_input(path, READABLE)
    try:
        image = _open_image(path)
        check_array_size(path.name, image.shape, 4)  # as float32
        stored = path.stat().st_size if _name_format(path) == "NIfTI" else None  # others may be headers alone
        check_array_size(path.name, image.shape, image.get_data_dtype().itemsize, stored)
        data = image.dataobj
        scaled = not isinstance(data, np.ndarray) and (data.slope != 1 or data.inter != 0)
        array = np.asarray(data, np.float32 if scaled else None)
        affine = np.asarray(image.affine, float)
    except MouseCMRError:
        raise
    except Exception as e:  # a damaged header can make nibabel raise almost anything
        has_pixels_beside = path.suffix.lower() in (".hdr", ".mhd", ".nhdr")
        check_access(e, path, *(path.parent.glob(f"{glob.escape(path.stem)}.*") if has_pixels_beside else ()))
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0][:200]
        raise FileLayoutError(
            f"{path.name} ({path.stat().st_size} bytes) is damaged or not {_name_format(path)}: {reason}",
            READABLE,
        ) from e
    while array.ndim > 3 and 1 in array.shape[3:]:  # unused axes
        array = array.squeeze(3 + array.shape[3:].index(1))
    if array.ndim not in (3, 4):
        raise FileLayoutError(f"{path.name} has the shape {array.shape}.", "3 axes (one frame) or 4 (a cine)")
    return array, image.header, affine


def _open_nifti(path: Path) -> Any:
    """Return the image with its header, no pixels.

    nibabel takes as much memory for extensions as the offset of the pixels leaves, so that is checked first.
    """
    with gzip.open(path) if is_gzip(path) else path.open("rb") as f:
        start = f.read(NIFTI2_HEADER_BYTES)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        header = kind.header_class
        if header.may_contain_header(start):
            offset = float(header(start[: header.sizeof_hdr], check=False)["vox_offset"])
            if not offset <= MAX_EXTENSION_BYTES:
                raise FileLayoutError(
                    f"{path.name}: its pixels begin at byte {offset:g}.", f"at most {MAX_EXTENSION_BYTES:,}"
                )
            with suppress_warnings("nibabel.global"):
                return kind.from_file_map({"image": _hold_file(path)})
    raise ValueError("it does not begin with a header of NIfTI")


def _open_pair(path: Path) -> Any:
    """Return the image of a header and a file of pixels, of which ``path`` is one."""
    header = find_pair_header(path)
    others = [p for p in sorted(path.parent.iterdir()) if p != header and find_pair_header(p) == header]
    if header is None or not others:
        missing = "pixels (.img) are" if header else "header (.hdr) is"
        raise FileLayoutError(f"{path.name}: its {missing} missing.", "both files of the pair in one folder")
    pixels = path if path in others else others[0]
    error: Exception | None = None
    if all(is_gzip(p) == (p.suffix.lower() == ".gz") for p in (header, pixels)):
        try:
            with suppress_warnings("nibabel.global"):
                image = nib.load(pixels)
            if min(image.shape, default=0) > 0 and 0 <= image.header["vox_offset"] < pixels.stat().st_size:
                return image
        except Exception as e:
            error = e
    with gzip.open(header) if is_gzip(header) else header.open("rb") as f:
        head = f.read(nib.Nifti1Header.sizeof_hdr)
    order = next((o for o in "<>" if len(head) > 41 and 1 <= np.frombuffer(head, f"{o}i2", 1, 40)[0] <= 7), None)
    if order is None or len(head) < nib.Nifti1Header.sizeof_hdr:
        raise error or FileLayoutError(f"{header.name} is not a header of Analyze.", READABLE)
    repaired = _repair_analyze(nib.Nifti1Header(head, order, check=False), pixels.stat().st_size)
    expected = float(repaired["vox_offset"]) + math.prod(repaired.get_data_shape()) * int(repaired["bitpix"]) // 8
    if not is_gzip(pixels) and pixels.stat().st_size != expected:
        raise error or FileLayoutError(
            f"{pixels.name} has {pixels.stat().st_size:,} bytes, but {header.name} describes {expected:,.0f}.", READABLE
        )
    files = {"header": nib.FileHolder(fileobj=io.BytesIO(repaired.binaryblock)), "image": _hold_file(pixels)}
    with suppress_warnings("nibabel.global"):
        return nib.Nifti1Pair.from_file_map(files)


def _repair_analyze(header: Any, n_bytes: int) -> Any:
    """Return a header of Analyze, which has the layout of NIfTI's up to byte 252, as one of a NIfTI pair.

    Programs left fields out that nibabel needs, or used the codes of SPM for unsigned numbers.
    """
    if header["magic"].item() == b"ni1":
        return header
    header["sizeof_hdr"], header["magic"] = header.sizeof_hdr, b"ni1"
    header["dim"][4:] = np.maximum(header["dim"][4:], 1)
    header["datatype"] = SPM_TYPES.get(int(header["datatype"]), int(header["datatype"]))
    header["bitpix"] = header.get_data_dtype().itemsize * 8
    for name in ("qform_code", "sform_code", "scl_slope", "scl_inter", "xyzt_units"):
        header[name] = 0
    if not 0 <= float(header["vox_offset"]) < n_bytes:
        header["vox_offset"] = 0
    return header


def _read_units(header: Any) -> tuple[str, str]:
    """Return the units of length and time; three bits of one byte are for each, whatever the others are."""
    code, names = int(header["xyzt_units"]), nib.nifti1.unit_codes.value_set("label")
    labels = {nib.nifti1.unit_codes[name]: name for name in names}
    return labels.get(code & 0b111, "unknown"), labels.get(code & 0b111000, "unknown")


def is_gzip(path: Path) -> bool:
    """Return whether a file is compressed, whatever its name is."""
    with path.open("rb") as f:
        return f.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _hold_file(path: Path) -> Any:
    """Return a file for nibabel, which decompresses by the name alone: others are decompressed here."""
    if is_gzip(path) == (path.suffix.lower() == ".gz"):
        return nib.FileHolder(filename=str(path))
    if not is_gzip(path):
        return nib.FileHolder(fileobj=io.BytesIO(path.read_bytes()))
    with gzip.open(path) as f:
        content = f.read(get_max_bytes() + 1)
    check_size(path.name, len(content), path.stat().st_size)
    return nib.FileHolder(fileobj=io.BytesIO(content))


def _make_grid(
    path: Path, shape: tuple[int, ...], header: Any, affine: NDArray[np.float64], axes: str | None
) -> tuple[FileGrid, tuple[float, float, float], list[str]]:
    """Return the file's grid, its spacing (z, y, x) in mm (0 if not stated) and notes on what was assumed."""
    notes = []
    space, time = _read_units(header)
    if space not in MM_PER_UNIT:
        space = "mm"
        notes.append("The header does not state the unit of length: taken as mm.")
    steps = np.abs(np.asarray(header["pixdim"][1:5], float))
    stored = header.get_data_shape()
    frame_axis = next((k for k, n in enumerate(stored) if k > 2 and n > 1), 3)
    if frame_axis > 3:  # the axes before it are unused
        steps[3], time = abs(float(header["pixdim"][frame_axis + 1])), "unknown"
        notes.append(
            f"The file has {len(stored)} axes: the frames are number {frame_axis + 1}, whose step has no unit."
        )
    if time == "unknown" or time not in MS_PER_UNIT:
        time = "sec"
        if len(shape) == 4 and steps[3] == 1:  # what programs write that know no frame time
            time = "unknown"
        elif len(shape) == 4 and steps[3] > 0.5:  # too long for a frame time in seconds
            time = "msec"
            notes.append("The header does not state the unit of time: taken as ms.")
    sized = np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3 and (steps[:3] > 0).all()
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) if sized else np.eye(3)
    if np.abs(directions.T @ directions - np.eye(3)).max() > MAX_SHEAR:
        raise FileLayoutError(
            f"{path.name}: the axes are not at right angles (a sheared or resampled grid).",
            "a rectangular grid",
            "use the images as the scanner wrote them",
        )
    steps[:3] = np.linalg.norm(affine[:3, :3], axis=0) if sized else 0.0
    affine = affine if sized else np.eye(4)
    if axes is not None:
        letters, flipped = axes.lower(), ""
        if len(letters) != len(shape) or "".join(sorted(letters)) not in ("txy", "xyz", "txyz"):
            raise ArgumentError(
                f"The axes {letters!r} do not fit an array of {len(shape)} axes.",
                "one letter per axis, in the order of the file: x column, y row, z slice, t frame",
                "--axes " + ("xyzt" if len(shape) == 4 else "xyz"),
            )
    else:
        slice_axis = int(np.argmax(steps[:3])) if np.ptp(steps[:3]) > 0.2 * steps[:3].max() else 2
        letters, flipped = orient_axes(affine, slice_axis, shape)
        letters += "t" if len(shape) == 4 else ""
    by_letter = {c: steps[i] * (MM_PER_UNIT[space] if i < 3 else 1.0) for i, c in enumerate(letters)}
    if "t" in letters[:3]:  # pixdim of a spatial axis has no known unit of time
        by_letter["t"] = 0.0
    if letters[3:] == "z":
        by_letter["z"] *= MM_PER_UNIT[space]
    code = int(header["sform_code"]) or int(header["qform_code"])
    grid = FileGrid(tuple(shape), letters, flipped, to_rows(affine), space, time, float(by_letter.get("t", 0.0)), code)
    return grid, (by_letter.get("z", 0.0), by_letter["y"], by_letter["x"]), notes


def _check_steps(path: Path, header: Any, affine: NDArray[np.float64], axes: str, unit: str) -> None:
    """Raise :class:`UnitsError` if the affine and the voxel size of a header contradict each other.

    ``axes`` are the letters of the array's axes, ``unit`` NIfTI's name of the unit of length.
    """
    by_affine, by_size = np.linalg.norm(affine[:3, :3], axis=0), np.abs(np.asarray(header["pixdim"][1:4], float))
    if not np.isfinite(by_affine).all() or (np.abs(by_affine - by_size) <= MAX_CONTRADICTION * by_size).all():
        return
    both = [
        " ".join(f"{MM_PER_UNIT[unit] * steps[axes.index(c)]:g}" for c in "zyx" if c in axes[:3])
        for steps in (by_affine, by_size)
    ]
    raise UnitsError(
        f"{path.name} states two voxel sizes (slice, row, column): {both[0]} mm by its affine (sform), {both[1]} mm by "
        "its pixdim.",
        "one voxel size",
        f"give the right one: --spacing {both[0]}, or --spacing {both[1]}",
    )


def _write_nifti(
    array: NDArray[Any], path: str | PathLike[str], like: xr.Dataset, description: str, overwrite: bool
) -> Path:
    path, grid = Path(path), FileGrid.from_dataset(like)
    kind = _name_format(path)
    if not path.name.endswith(IMAGE_SUFFIXES) or kind == "Analyze":
        endings = ", ".join((*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *METAIMAGE_SUFFIXES))
        raise ArgumentError(f"{path.name} is not a name for an image file.", f"a name ending in {endings}")
    frames = array.shape[0]
    if grid.folded and frames != grid.frames:
        shape = tuple(array.shape[1] if c == "z" else n for c, n in zip(grid.axes, grid.shape, strict=True))
        grid = replace(grid, shape=shape, folded="", frames=0)
    if "t" in grid.axes and grid.shape[grid.axes.index("t")] != frames:
        shape = tuple(frames if c == "t" else n for c, n in zip(grid.axes, grid.shape, strict=True))
        grid = replace(grid, shape=shape)
    if grid.axes[3:] == "t" and grid.shape[3] == 1:
        grid = replace(grid, axes=grid.axes[:3], shape=grid.shape[:3])
    elif "t" not in grid.axes and frames > 1 and not grid.folded:
        grid = replace(grid, axes=grid.axes + "t", shape=(*grid.shape, frames))
    try:
        data = grid.to_file(array)
    except ValueError as e:
        raise ArgumentError(f"An array {array.shape} does not lie on the grid {grid.shape}.", "the same sizes") from e
    affine = np.asarray(grid.affine)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, grid.code)
    image.set_qform(affine, grid.code)
    image.header.set_xyzt_units(grid.space_unit, grid.time_unit)
    if data.ndim == 4:
        image.header["pixdim"][4] = grid.time_step
    if like.attrs.get("synthetic"):
        description += f" {SYNTHETIC}"
    image.header["descrip"] = description[:79].encode("latin-1", "replace")
    with write_file(path, overwrite=overwrite) as partial:
        if kind == "NIfTI":
            nib.save(image, partial)
        else:
            from mousecmr_data.formats.nrrd import save_image

            save_image(image, partial)
    return path


def make_natural_key(path: Path) -> tuple[object, ...]:
    """Return a sorting key by which ``frame10`` comes after ``frame9``."""
    return tuple((int(t), "") if t.isdigit() else (-1, t.lower()) for t in re.split(r"(\d+)", str(path)))


def find_shared_name(path: Path) -> str:
    """Return the part of the name that files of single frames of a mouse share; empty for ``frame_01.nii``."""
    stem = re.sub(r"_0000$", "", strip_suffix(path))  # nnU-Net's number of the channel
    number = re.search(r"(?<![a-z])(ED|ES)$|\d+(?=\D*$)", stem, re.IGNORECASE)
    stem = stem[: number.start()] + stem[number.end() :] if number else stem
    words = "frame|phase|timepoint|time|t|volume|vol|image|img|im|dyn"
    return re.sub(rf"((?<![a-z])({words}))?[_\-. ]*$", "", stem, flags=re.IGNORECASE)


def find_label_numbers(path: Path) -> tuple[int, ...]:
    """Return the numbers in a file of labels (see :func:`~mousecmr_data.formats.masks.find_labels`); empty for images.

    Also empty for a file that cannot be read: reading it raises the error.
    """
    try:
        image = _open_image(path)
        check_array_size(path.name, image.shape, image.get_data_dtype().itemsize)
        first = find_labels(np.asarray(image.dataobj[(..., *[0] * (len(image.shape) - 2))]))
        return find_labels(np.asarray(image.dataobj)) if first else ()
    except Exception:
        return ()


def sort_nifti_files(
    paths: Sequence[Path], left_out: list[LeftOutFile]
) -> list[tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Group ``paths`` (of one folder) by mouse: the files of its images, and those with masks of them.

    ``left_out`` receives the files that are no scans: masks, by their name or their numbers, and single frames that
    stand beside the cine which they are from (ACDC, M&Ms).
    """
    reasons: dict[Path, str] = {}
    empty: list[Path] = []
    for path in paths:
        if MASK_NAME.search(strip_suffix(path)) or path.name.lower().endswith(SLICER_SEGMENTATION_SUFFIX):
            reasons[path] = "masks, by its name"
        elif len(numbers := find_label_numbers(path)) > 1:
            reasons[path] = f"masks: it holds the numbers {join_names(numbers)}"
        elif numbers:
            empty.append(path)
    if reasons:
        reasons |= dict.fromkeys(empty, "only zeros, beside masks")
    masks = list(reasons)
    groups = group_nifti_files([path for path in paths if path not in reasons])
    shapes = {path: _read_shape(path) for path in paths if path not in reasons}
    frames: dict[tuple[Path, ...], list[str]] = {}
    for cine in [g for g in groups if len(g) == 1 and shapes[g[0]][3:] > (1,)]:
        name = re.compile(rf"{re.escape(_strip_cine_word(cine[0]))}[_-]((frame|phase|t)?[_-]?\d+|ED|ES)", re.IGNORECASE)
        frames[cine] = [stem for p in paths if name.fullmatch(stem := strip_mask_word(strip_suffix(p)))]
        for group in list(groups):
            if all(name.fullmatch(strip_suffix(p)) and shapes[p] == shapes[cine[0]][:3] for p in group):
                groups.remove(group)
                reasons |= dict.fromkeys(group, f"a frame of {cine[0].name}")
    left_out += [LeftOutFile(path, reason) for path, reason in reasons.items()]
    labels: dict[tuple[Path, ...], list[Path]] = {group: [] for group in groups}
    for mask in masks:
        stem = strip_mask_word(strip_suffix(mask))
        for group in groups:
            own = {name for p in group for name in (strip_suffix(p), _strip_cine_word(p))}
            if stem in own or stem in frames.get(group, ()):
                labels[group].append(mask)
    return [(group, tuple(labels[group])) for group in groups]


def _read_shape(path: Path) -> tuple[int, ...]:
    try:
        return tuple(_open_image(path).shape)
    except Exception:  # reading it raises the error
        return ()


def _strip_cine_word(path: Path) -> str:
    return re.sub(r"[_-](4d|cine)$", "", strip_suffix(path), flags=re.IGNORECASE)


def add_labels(ds: xr.Dataset, paths: Sequence[Path], labels: LabelMap | None = None) -> xr.Dataset:
    """Return the cine ``ds`` with the masks in ``paths``: ``mask`` uint8 (frame, slice, y, x), ``labelled``, ``phase``.

    A file holds the masks of every frame, or those of one: the frame of the cine that equals the image beside it (or
    else has the number in its name, counted from 1). ``labels`` says what the numbers mean; those of ACDC are known by
    its names. Masks that do not fit are left out, with a note.
    """
    masks = np.zeros(ds[IMAGE].shape, np.uint8)
    labelled: set[int] = set()
    notes = str(ds.attrs[ATTR_NOTES]).splitlines()
    for path in paths:
        own = LABEL_PRESETS["acdc"] if re.match(r"patient\d+_(frame\d+|4d)_gt", path.name) else None
        try:
            array = read_nifti_labels(path, ds, labels or own)
            frames = list(range(len(masks))) if len(array) == len(masks) else [_find_frame(ds, path)]
            masks[frames] = array
        except (MouseCMRError, ValueError) as e:
            notes.append(f"The masks in {path.name} were not used: {e.found if isinstance(e, MouseCMRError) else e}")
            continue
        labelled |= {frame for frame, mask in zip(frames, array, strict=True) if len(frames) == 1 or mask.any()}
    if labelled:
        sizes = PhysicalSizes(get_spacing(ds), "", float(ds["time"].attrs["frame_time"]), "")
        with_masks = build_dataset(ds[IMAGE].values, masks, sorted(labelled), sizes, {})
        ds = ds.assign({MASK: with_masks[MASK]}).assign_coords({k: with_masks[k] for k in ("labelled", "phase")})
    return ds.assign_attrs({ATTR_NOTES: "\n".join(notes)})


def _find_frame(ds: xr.Dataset, mask: Path) -> int:
    """Return the frame of ``ds`` to which the masks of one frame belong."""
    stem, images = strip_mask_word(strip_suffix(mask)), ds[IMAGE].values
    for path in sorted(mask.parent.glob(f"{glob.escape(stem)}.*")):
        if path.name.lower().endswith(IMAGE_SUFFIXES):
            array, header, affine = _load_nifti(path)
            own = _make_grid(path, array.shape, header, affine, None)[0].to_model(array)
            same = [k for k, frame in enumerate(images) if np.array_equal(frame, own[0])]
            if len(same) == 1:
                return same[0]
    number = re.search(r"(\d+)\D*$", stem)
    if number is None or not 1 <= int(number[1]) <= len(images):
        raise FileLayoutError(f"which of the {len(images)} frames they belong to is not known.")
    return int(number[1]) - 1


def group_nifti_files(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Group ``paths`` (of one folder) by mouse.

    A cine is a mouse by itself; files of one frame each (3D) with the same name but for a number, or of one slice each
    (x, y, 1, frame), are one mouse if their grids have the same shape and directions.
    """
    alone: list[tuple[Path, ...]] = []
    together: dict[object, list[Path]] = {}
    for path in sorted(paths, key=make_natural_key):
        try:
            image = _open_image(path)
            shape, affine = tuple(image.shape), np.asarray(image.affine)
        except Exception:  # reading it raises the error
            alone.append((path,))
            continue
        if len(shape) == 3:
            key = ("frame", find_shared_name(path), shape, _round_affine(affine))
            together.setdefault(key, []).append(path)
        elif len(shape) == 4 and shape[2] == 1 and shape[3] > 1:
            together.setdefault(("slice", shape, _round_affine(affine[:3, :3])), []).append(path)
        else:
            alone.append((path,))
    return alone + [tuple(group) for group in together.values()]


def read_nifti_files(
    paths: Sequence[Path],
    *,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    frame_time_ms: float | None = None,
    frames: int | None = None,
    fill: float | None = None,
) -> xr.Dataset:
    """Read the cine in the files ``paths``, as :func:`read_nifti` reads that of one file.

    Files of one frame each are ordered by name (numbers by value), files of one slice each by position.
    """
    if len(paths) == 1:
        return read_nifti(paths[0], spacing=spacing, axes=axes, frame_time_ms=frame_time_ms, frames=frames, fill=fill)
    if axes is None and _open_image(paths[0]).ndim == 4:
        return _read_slice_files(paths, spacing, frame_time_ms, fill)
    parts = [read_nifti(p, spacing=spacing, axes=axes, frame_time_ms=frame_time_ms, fill=fill) for p in paths]
    sizes = {tuple(p.sizes[d] for d in DIMS) for p in parts}
    if len(sizes) > 1 or parts[0].sizes["frame"] != 1:
        raise FileLayoutError(
            f"The {len(paths)} files in {paths[0].parent.name} are (frame, slice, y, x) {sorted(sizes)}.",
            "files of one frame each, of the same size",
            "give files that are cines one by one",
        )
    grid = FileGrid.from_dataset(parts[0])
    joined = replace(grid, axes=grid.axes + "t", shape=(*grid.shape, len(paths)))
    note = f"{len(paths)} files of one frame each were taken as one mouse, in the order of their names."
    return _join_parts(parts, "frame", joined, note, frame_time_ms)


def _read_slice_files(
    paths: Sequence[Path], spacing: Sequence[float] | None, frame_time_ms: float | None, fill: float | None
) -> xr.Dataset:
    images = [_open_image(p) for p in paths]
    affines = [np.asarray(image.affine, float) for image in images]
    normal = np.cross(affines[0][:3, 0], affines[0][:3, 1])
    normal /= max(float(np.linalg.norm(normal)), 1e-12)
    positions = np.array([float(a[:3, 3] @ normal) for a in affines])
    order = np.argsort(positions)
    steps = np.diff(positions[order])
    if steps.min() <= 0 or np.ptp(steps) > 0.02 * steps.mean():
        raise FileLayoutError(
            f"The slices in {paths[0].parent.name} lie at {', '.join(f'{p:g}' for p in positions[order])}.",
            "each slice once, evenly spaced",
        )
    space, _ = _read_units(images[0].header)
    unit = MM_PER_UNIT.get(space, 1.0)
    thickness = float(steps.mean()) * unit
    parts = []
    for k in order:
        x, y = (float(v) for v in nib.affines.voxel_sizes(affines[k])[:2] * unit)
        try:
            if spacing is None:
                _check_steps(paths[k], images[k].header, affines[k], "xyz", space if space in MM_PER_UNIT else "mm")
            zyx = spacing or (thickness, y, x)
            parts.append(read_nifti(paths[k], spacing=zyx, axes="xyzt", frame_time_ms=frame_time_ms, fill=fill))
        except MouseCMRError as e:
            raise FileLayoutError(f"{paths[k].name}: {e.found}", e.expected, e.next_step) from e
    if len({p.sizes["frame"] for p in parts}) > 1:
        raise FileLayoutError(f"The slices in {paths[0].parent.name} differ in their frames.", "the same frames")
    affine = affines[order[0]].copy()
    affine[:3, 2] = normal * steps.mean()
    grid = FileGrid.from_dataset(parts[0])
    joined = replace(grid, shape=(*grid.shape[:2], len(paths), grid.shape[3]), affine=to_rows(affine))
    note = f"{len(paths)} files of one slice each were taken as one mouse, in the order of their positions."
    return _join_parts(parts, "slice", joined, note, frame_time_ms)


def _join_parts(
    parts: list[xr.Dataset], dim: str, grid: FileGrid, note: str, frame_time_ms: float | None
) -> xr.Dataset:
    first = parts[0]
    known = bool(first.attrs[ATTR_FRAME_TIME_KNOWN]) and (dim == "slice" or frame_time_ms is not None)
    return build_scan(
        np.concatenate([p[IMAGE].values for p in parts], axis=DIMS.index(dim)),
        get_spacing(first),
        str(first.attrs["voxel_size_source"]),
        float(first["time"].attrs["frame_time"]) if known else None,
        str(first.attrs["frame_time_source"]),
        grid,
        [*dict.fromkeys(n for p in parts for n in p.attrs[ATTR_NOTES].splitlines()), note],
        mouse=str(first.attrs["mouse"]),
        source=f"{len(parts)} {first.attrs['format']} files",
        format=first.attrs["format"],
        synthetic=any(bool(p.attrs["synthetic"]) for p in parts),
    )


def _round_affine(array: Any) -> object:
    return tuple(np.round(np.asarray(array, float) / TOLERANCE_MM).ravel().tolist())
