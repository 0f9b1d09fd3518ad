"""The three tables: names, types and meanings of their columns, and the rows of a mouse.

``labelled`` and ``slices`` have one row per 2D slice, ``cines`` one row per mouse. Images are stored without loss
as uncompressed TIFF (16 bit) or NIfTI; Parquet compresses them.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import datasets
import nibabel
import numpy as np
import PIL.Image
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import PART
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.dataset.samples import select_frames
from mousecmr_data.errors import ArgumentError
from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.schema.variables import IMAGE, MASK

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSET = 256, 257, 258, 259, 273
"""Tags of TIFF 6.0."""
_TYPES = {3: "H", 4: "I"}
"""TIFF's SHORT and LONG."""


def encode_tiff(plane: NDArray[Any]) -> bytes:
    """Return ``plane`` (y, x), uint8 or uint16, as an uncompressed TIFF, which every reader accepts and which
    Parquet compresses better than TIFF would."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "TIFF")
    return buffer.getvalue()


def decode_tiff(data: Any) -> NDArray[Any]:
    """Return the plane (y, x), uint8 or uint16, in ``data`` (bytes or a buffer).

    It is a view of ``data`` if :func:`encode_tiff` wrote it. Other TIFF and PNG files are decoded.
    """
    view = memoryview(data)
    strip = _find_strip(view)
    if strip is None:
        return np.asarray(PIL.Image.open(io.BytesIO(view)))
    height, width, bits, offset = strip
    return np.frombuffer(view, "<u2" if bits == 16 else "u1", height * width, offset).reshape(height, width)


def _find_strip(view: memoryview) -> tuple[int, int, int, int] | None:
    """Return height, width, bits and offset of the pixels if they are a single uncompressed little-endian strip."""
    if bytes(view[:4]) != b"II*\0":
        return None
    (start,) = struct.unpack_from("<I", view, 4)
    (count,) = struct.unpack_from("<H", view, start)
    tags: dict[int, int] = {}
    for tag, kind, n, word in struct.iter_unpack("<HHI4s", view[start + 2 : start + 2 + 12 * count]):
        if n == 1 and kind in _TYPES:
            tags[tag] = struct.unpack_from("<" + _TYPES[kind], word)[0]
    plain = tags.get(_COMPRESSION) == 1 and tags.get(_BITS) in (8, 16) and _OFFSET in tags
    return (tags[_HEIGHT], tags[_WIDTH], tags[_BITS], tags[_OFFSET]) if plain else None


def encode_nifti(ds: xr.Dataset) -> tuple[bytes, bytes | None]:
    """Return the images of ``ds`` and the masks of its labelled frames (None without any), each as a NIfTI file."""
    labelled = np.flatnonzero(ds["labelled"].values)
    with tempfile.TemporaryDirectory(prefix=PART) as folder:
        image = write_nifti_images(ds, Path(folder) / "image.nii").read_bytes()
        if not labelled.size or MASK not in ds:
            return image, None
        masks = ds[MASK].isel(frame=labelled).values
        return image, write_nifti_labels(masks, Path(folder) / "mask.nii", ds).read_bytes()


def decode_nifti(data: Any) -> NDArray[Any]:
    """Return the cine (frame, slice, y, x) in a NIfTI file (bytes or a buffer) made by :func:`encode_nifti`."""
    array = np.asarray(nibabel.Nifti1Image.from_bytes(bytes(data)).dataobj)
    array = array if array.flags.writeable else array.copy()
    return (array if array.ndim == 4 else array[..., None]).transpose(3, 2, 1, 0)


# Columns

Config = Literal["labelled", "slices", "cines"]
"""Name of a table of samples."""
CONFIGS: tuple[Config, ...] = get_args(Config)
"""All names of tables."""

ABOUT: dict[Config, str] = {
    "labelled": "the 2D slices of the frames that an expert segmented, each with its mask",
    "slices": "all 2D slices; the mask is null in frames that were not segmented",
    "cines": "one row per mouse: the whole cine as NIfTI, and the masks of its labelled frames",
}
"""What each table holds."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its type as a feature of ``datasets``, and its meaning."""

    name: str
    feature: Any
    about: str


_TEXT, _BOOL, _FLOAT, _SHORT = (datasets.Value(dtype) for dtype in ("string", "bool", "float64", "int16"))
_MOUSE = Column("mouse", _TEXT, "name of the mouse")
_MOUSE_COLUMNS = (
    Column("split", _TEXT, "split of the mouse; 'none' where it is in none"),
    Column("phenotype", _TEXT, "group of the mouse, or 'not published'"),
    Column("synthetic", _BOOL, "true: computed by a phantom, not measured on an animal"),
)
_SLICE_COLUMNS = (
    Column(IMAGE, datasets.Image(mode="I;16"), "magnitude image (y, x), uint16"),
    Column(
        MASK,
        datasets.Image(mode="L"),
        "expert segmentation (y, x), uint8: 0 background, 1 LV myocardium, 2 LV blood pool; null: not segmented",
    ),
    _MOUSE,
    Column("slice", _SHORT, "number of the slice, from 0; base or apex first is not known"),
    Column("frame", _SHORT, "number of the frame, from 0"),
    Column("phase", _TEXT, "ED, ES, inflow, unlabelled, or unknown (a single labelled frame)"),
    Column("labelled", _BOOL, "an expert segmented this frame"),
    Column("spacing", datasets.List(_FLOAT, length=2), "pixel size (y, x) in mm"),
    Column("slice_thickness", _FLOAT, "in mm; slices are contiguous"),
    Column("time", _FLOAT, "ms after the trigger"),
    *_MOUSE_COLUMNS,
)
_CINE_COLUMNS = (
    Column(IMAGE, datasets.Nifti(), "magnitude cine as NIfTI (x, y, slice, frame), uint16, in mm and s"),
    Column(
        MASK,
        datasets.Nifti(),
        "expert segmentation of the labelled frames, in their order, as NIfTI (x, y, slice, labelled frame), uint8; "
        "null: no frame was segmented",
    ),
    _MOUSE,
    Column("slices", _SHORT, "number of slices"),
    Column("frames", _SHORT, "number of frames"),
    Column("labelled_frames", datasets.List(_SHORT), "numbers of the frames that an expert segmented"),
    Column("phase", datasets.List(_TEXT), "of each frame: ED, ES, inflow, unlabelled, or unknown"),
    Column("spacing", datasets.List(_FLOAT, length=3), "voxel size (slice, y, x) in mm"),
    Column("time", datasets.List(_FLOAT), "of each frame, ms after the trigger"),
    *_MOUSE_COLUMNS,
)
COLUMNS: dict[Config, tuple[Column, ...]] = {
    "labelled": _SLICE_COLUMNS,
    "slices": _SLICE_COLUMNS,
    "cines": _CINE_COLUMNS,
}
"""The columns of each table."""


def make_features(config: Config) -> datasets.Features:
    """Return the features of a table."""
    return datasets.Features({column.name: column.feature for column in COLUMNS[check_config(config)]})


def check_config(config: str) -> Config:
    """Return ``config`` if it is one of the tables; else raise ArgumentError."""
    for name in CONFIGS:
        if config == name:
            return name
    raise ArgumentError.from_name("table", config, CONFIGS, "config='labelled'")


# Rows

Row = dict[str, Any]


def count_rows(ds: xr.Dataset, config: Config) -> int:
    """Return the number of rows of ``ds`` in a table; reads no pixels."""
    if config == "cines":
        return 1
    return int(select_frames(ds, "labelled" if config == "labelled" else "all").size * ds.sizes["slice"])


def make_rows(ds: xr.Dataset, config: Config) -> Iterator[Row]:
    """Yield the rows of a mouse in the table ``config``, as ``datasets`` stores them; one frame is read at a time.

    A frame that was not segmented has no mask (None): zeros would mean "background".
    """
    mouse, (dz, dy, dx) = str(ds.attrs["mouse"]), get_spacing(ds)
    labelled, phase, time = ds["labelled"].values, ds["phase"].values.astype(str), ds["time"].values.astype(float)
    numbers = [int(n) for n in ds["slice"].values]
    mouse_columns = {
        "split": str(ds.attrs["split"]),
        "phenotype": str(ds.attrs["phenotype"]),
        "synthetic": bool(ds.attrs["synthetic"]),
    }
    if config == "cines":
        image, mask = encode_nifti(ds)
        yield {
            IMAGE: {"bytes": image, "path": f"{mouse}.nii"},
            MASK: None if mask is None else {"bytes": mask, "path": f"{mouse}_mask.nii"},
            "mouse": mouse,
            "slices": ds.sizes["slice"],
            "frames": ds.sizes["frame"],
            "labelled_frames": np.flatnonzero(labelled).tolist() if mask is not None else [],
            "phase": phase.tolist(),
            "spacing": [dz, dy, dx],
            "time": time.tolist(),
            **mouse_columns,
        }
        return
    for position in select_frames(ds, "labelled" if config == "labelled" else "all").tolist():
        ds_frame = ds.isel(frame=position)
        frame, masks = int(ds_frame["frame"]), ds_frame[MASK].values if labelled[position] else None
        for i, (number, plane) in enumerate(zip(numbers, ds_frame[IMAGE].values, strict=True)):
            name = f"{mouse}_slice{number:02d}_frame{frame:02d}"
            yield {
                IMAGE: {"bytes": encode_tiff(plane), "path": f"{name}.tif"},
                MASK: None if masks is None else {"bytes": encode_tiff(masks[i]), "path": f"{name}_mask.tif"},
                "mouse": mouse,
                "slice": number,
                "frame": frame,
                "phase": str(phase[position]),
                "labelled": bool(labelled[position]),
                "spacing": [dy, dx],
                "slice_thickness": dz,
                "time": float(time[position]),
                **mouse_columns,
            }
