"""NRRD and MetaImage files as NIfTI images in memory, and back.

pynrrd reads NRRD, since it keeps the whole header: SimpleITK drops the units of space, and cannot write a time axis as
3D Slicer expects it. SimpleITK reads MetaImage, which pynrrd does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from mousecmr_data.errors import FileLayoutError, MissingExtraError
from mousecmr_data.formats.build import check_array_size
from mousecmr_data.formats.orientation import LPS_TO_RAS, MM_PER_UNIT, MS_PER_UNIT
from mousecmr_data.schema.labels import COLOURS, FOREGROUND, MEANINGS
from mousecmr_data.schema.variables import NRRD_SUFFIXES, SLICER_SEGMENTATION_SUFFIX

nib: Any = nibabel
MM_PER_NAME = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1e3, "meter": 1e3}
TIME_UNITS = {"s": "sec", "sec": "sec", "second": "sec", "ms": "msec", "msec": "msec", "us": "usec", "µs": "usec"}
"""Units of time in NRRD, and their names in NIfTI."""
TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
"""Signs that turn a named space into RAS+; all others are taken as left-posterior-superior, as ITK does."""


def load_image(path: Path) -> Any:
    """Return the NRRD or MetaImage file ``path`` as a ``Nifti1Image`` (x, y, z) or (x, y, z, frame) in mm."""
    return _load_nrrd(path) if path.name.lower().endswith(NRRD_SUFFIXES) else _load_metaimage(path)


def save_image(image: Any, path: Path) -> None:
    """Write a ``Nifti1Image`` (3D, or 4D with frames last) as NRRD or MetaImage, compressed.

    The space is left-posterior-superior in mm. In NRRD, frames are a first axis of the kind ``list``, as in 3D Slicer's
    sequences; MetaImage has them last, with the time between frames in seconds. ``.nhdr`` and ``.mhd`` are headers: the
    pixels lie in a second file beside them.
    """
    save = _save_nrrd if path.name.lower().endswith(NRRD_SUFFIXES) else _save_metaimage
    save(image, path)


def _get_affine(image: Any) -> NDArray[np.float64]:
    """Return the affine of a ``Nifti1Image`` to left-posterior-superior in mm."""
    scale = MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
    return np.asarray(np.diag([scale, scale, scale, 1.0]) @ LPS_TO_RAS @ image.affine)


def _make_image(array: NDArray[Any], affine: NDArray[np.float64], step: float, time_unit: str, note: str) -> Any:
    dtype = array.dtype.newbyteorder("=")
    image: Any = nib.Nifti1Image(array.astype(dtype, copy=False), affine, dtype=dtype)
    image.header.set_xyzt_units("mm", time_unit)
    if array.ndim == 4:
        image.header["pixdim"][4] = step
    image.header["descrip"] = note[:79].encode("latin-1", "replace")
    return image


def _check_data_file(path: Path, name: str) -> None:
    """Raise :class:`FileLayoutError` unless the pixels of a header lie beside it: it may not name any file."""
    if name.upper() != "LOCAL" and (Path(name).name != name or "\\" in name or name.upper().startswith("LIST")):
        raise FileLayoutError(f"{path.name} takes its pixels from {name!r}.", "one file of pixels in the same folder")
    if name.upper() != "LOCAL" and not (path.parent / name).is_file():
        raise FileLayoutError(f"{path.name}: its file of pixels, {name}, is missing.", "both files in one folder")


# NRRD


def _import_nrrd() -> Any:
    try:
        import nrrd
    except ImportError as e:
        raise MissingExtraError.from_module("pynrrd", "formats") from e
    return nrrd


def _load_nrrd(path: Path) -> Any:
    nrrd = _import_nrrd()
    header = nrrd.read_header(str(path))
    _check_data_file(path, str(header.get("data file", header.get("datafile", "LOCAL"))))
    check_array_size(path.name, header["sizes"].tolist(), 8)
    if int(header.get("Segmentation_LayerCount", 1)) > 1 or any(
        str(v) not in ("", "0") for k, v in header.items() if re.fullmatch(r"Segment\d+_Layer", k)
    ):
        raise FileLayoutError(
            f"{path.name} has segments that overlap, in several layers.",
            "one number per voxel",
            "export it from 3D Slicer as a labelmap (Segmentations, Export to files, .nrrd)",
        )
    array = nrrd.read(str(path), index_order="F")[0]
    vectors, time_axis = _find_axes(header, array.ndim)
    space = [axis for axis in range(array.ndim) if axis != time_axis]
    array = np.transpose(array, space if time_axis is None else [*space, time_axis])
    units = [str(u).lower() for u in header.get("space units", header.get("units", []))]
    scale = MM_PER_NAME.get(units[space[0] if len(units) == array.ndim else 0] if units else "mm", 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([vectors[axis][:3] for axis in space]).T * scale
    affine[:3, 3] = np.asarray(header.get("space origin", np.zeros(3)))[:3] * scale
    if "space directions" in header:
        name = re.sub(r"-?time$", "", str(header.get("space", "")).lower())
        affine = np.diag([*TO_RAS.get(name, (-1, -1, 1)), 1.0]) @ affine
    step, unit = _read_time(header, vectors, time_axis)
    return _make_image(array, affine, step, unit, str(header.get("content", "")))


def _find_axes(header: Mapping[str, Any], ndim: int) -> tuple[list[NDArray[np.float64]], int | None]:
    """Return the direction of each axis (of a time axis: zeros or its step), and which axis is time."""
    nan = np.full(ndim, np.nan)
    if "space directions" in header:
        vectors = [np.nan_to_num(np.ravel(np.asarray(v if v is not None else np.nan, float)))
                   for v in header["space directions"]]  # fmt: skip
        vectors = [v if v.size > 1 else np.zeros(4) for v in vectors]
        still = [axis for axis, v in enumerate(vectors) if not v[:3].any()]
    else:
        steps = np.asarray(header.get("spacings", nan), float)
        vectors = [np.zeros(4) for _ in range(ndim)]
        kinds = [str(k).lower() for k in header.get("kinds", [])]
        units = [str(u).lower() for u in header.get("units", [])]
        still = [a for a in range(ndim) if "time" in kinds[a : a + 1] or "list" in kinds[a : a + 1]]
        still = still or [a for a in range(len(units)) if units[a] in TIME_UNITS] or list(range(3, ndim))
        for number, axis in enumerate(a for a in range(ndim) if a not in still):
            vectors[axis][number % 3] = steps[axis] if np.isfinite(steps[axis]) else 1.0
    if len(still) != ndim - 3 or ndim > 4:
        raise FileLayoutError(f"The array has {ndim} axes, {ndim - len(still)} of them in space.", "3, and frames")
    return vectors, still[0] if still else None


def _read_time(header: Mapping[str, Any], vectors: list[NDArray[np.float64]], axis: int | None) -> tuple[float, str]:
    """Return the time between frames (0: not stated), and its unit in NIfTI's words."""
    if axis is None:
        return 0.0, "sec"
    units = [str(u).lower() for u in header.get("units", [])]
    unit = TIME_UNITS.get(units[axis], "unknown") if axis < len(units) else "unknown"
    values = re.findall(r"[-+.\deE]+", str(header.get(f"axis {axis} index values", "")))
    if len(values) > 1:
        return float(values[1]) - float(values[0]), unit
    spacings = header.get("spacings")
    step = float(spacings[axis]) if spacings is not None and np.isfinite(spacings[axis]) else 0.0
    return step or float(np.abs(vectors[axis][3:]).sum()), unit


def _save_nrrd(image: Any, path: Path) -> None:
    array, affine = np.asarray(image.dataobj), _get_affine(image)
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "space units": ["mm"] * 3,
        "content": image.header["descrip"].item().decode("latin-1"),
        "encoding": "gzip",
    }
    if array.ndim == 4:
        step = float(image.header["pixdim"][4])
        array = np.moveaxis(array, 3, 0)
        header["kinds"] = ["list", *header["kinds"]]
        header["space directions"] = np.vstack([np.full(3, np.nan), header["space directions"]])
        header["labels"] = ["time", "", "", ""]
        header["units"] = [
            {"sec": "s", "msec": "ms", "usec": "us"}.get(image.header.get_xyzt_units()[1], ""),
            "",
            "",
            "",
        ]
        header["axis 0 index type"] = "numeric"
        header["axis 0 index values"] = " ".join(f"{k * step:g}" for k in range(len(array)))
    elif path.name.endswith(SLICER_SEGMENTATION_SUFFIX):
        header |= _describe_segments(array.shape)
    _import_nrrd().write(str(path), array, header, index_order="F")


def _describe_segments(shape: tuple[int, ...]) -> dict[str, str]:
    """Return the fields by which 3D Slicer names and colours the labels."""
    extent = " ".join(f"0 {n - 1}" for n in shape)
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for number, label in enumerate(FOREGROUND):
        red, green, blue = (int(COLOURS[label][k : k + 2], 16) / 255 for k in (1, 3, 5))
        values = {"ID": MEANINGS[label].replace(" ", "_"), "Name": MEANINGS[label], "LabelValue": str(int(label))}
        values |= {"Layer": "0", "Extent": extent, "Color": f"{red:.3f} {green:.3f} {blue:.3f}"}
        fields |= {f"Segment{number}_{k}": v for k, v in values.items()}
    return fields


# MetaImage


def _import_sitk() -> Any:
    try:
        import SimpleITK
    except ImportError as e:
        raise MissingExtraError.from_module("SimpleITK", "metaimage") from e
    return SimpleITK


def _load_metaimage(path: Path) -> Any:
    sitk = _import_sitk()
    with path.open("rb") as f:
        names = re.findall(rb"^ElementDataFile\s*=\s*(.*?)\s*$", f.read(2**16), re.MULTILINE)
    if not names:
        raise FileLayoutError(f"{path.name} has no ElementDataFile.", "a MetaImage header")
    _check_data_file(path, names[0].decode("utf-8", "replace"))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO")
    reader.ReadImageInformation()
    check_array_size(path.name, reader.GetSize(), 8)
    image = reader.Execute()
    n = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() > 1 or n not in (3, 4):
        raise FileLayoutError(f"{path.name} has {n} axes and several numbers per pixel, or not 3 or 4.", "a cine")
    directions = np.reshape(image.GetDirection(), (n, n))[:3, :3] * image.GetSpacing()[:3]
    affine = np.eye(4)
    affine[:3] = np.column_stack([directions, image.GetOrigin()[:3]])
    comment = image.GetMetaData("Comment") if image.HasMetaDataKey("Comment") else ""
    array = sitk.GetArrayFromImage(image).transpose(*range(n)[::-1])
    return _make_image(array, LPS_TO_RAS @ affine, image.GetSpacing()[-1] if n == 4 else 0.0, "unknown", comment)


def _save_metaimage(image: Any, path: Path) -> None:
    sitk = _import_sitk()
    array, affine = np.asarray(image.dataobj), _get_affine(image)
    n, spacing = array.ndim, np.linalg.norm(affine[:3, :3], axis=0)
    direction = np.eye(n)
    direction[:3, :3] = affine[:3, :3] / spacing
    out = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(*range(n)[::-1])), isVector=False)
    seconds = float(image.header["pixdim"][4]) * MS_PER_UNIT.get(image.header.get_xyzt_units()[1], 1e3) / 1e3
    out.SetSpacing([*spacing.tolist(), seconds or 1.0][:n])
    out.SetOrigin([*affine[:3, 3].tolist(), 0.0][:n])
    out.SetDirection(direction.ravel().tolist())
    out.SetMetaData("Comment", image.header["descrip"].item().decode("latin-1"))
    sitk.WriteImage(out, str(path), useCompression=True)
