"""The columns of the three tables: the one owner of their names, types and meanings.

``labelled`` and ``slices`` have a row a 2D slice, ``cines`` a row a mouse. Images are stored as uncompressed
TIFF (16 bit) or NIfTI, both without loss; Parquet compresses them.
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

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.dataset.samples import select_frames
from mousecmr_data.errors import ArgumentError
from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.schema.variables import IMAGE, MASK

# MERGED adapters.huggingface.features: Pixels to bytes and back, without loss: TIFF for a 2D slice, NIfTI for a cine.


_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSET = 256, 257, 258, 259, 273
"""Tags of TIFF 6.0."""
_TYPES = {3: "H", 4: "I"}
"""TIFF's SHORT and LONG."""


def encode_tiff(plane: NDArray[Any]) -> bytes:
    """An uncompressed TIFF of ``plane`` (y, x), uint8 or uint16. Parquet compresses it better than TIFF would,
    and every reader of TIFF takes it."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "TIFF")
    return buffer.getvalue()


def decode_tiff(data: Any) -> NDArray[Any]:
    """The plane (y, x), uint8 or uint16, in ``data`` (bytes or a buffer): a view of it, if :func:`tiff` wrote it."""
    view = memoryview(data)
    found = _find_strip(view)
    if found is None:  # another's TIFF or PNG
        return np.asarray(PIL.Image.open(io.BytesIO(view)))
    height, width, bits, offset = found
    plane = np.frombuffer(view, "<u2" if bits == 16 else "u1", height * width, offset)
    return plane.reshape(height, width)


def _find_strip(view: memoryview) -> tuple[int, int, int, int] | None:
    """Height, width, bits and place of the pixels, where they are one plain little-endian strip."""
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
    """The images of ``ds``, and the masks of its labelled frames (None without any), each as an NIfTI file."""
    chosen = np.flatnonzero(ds["labelled"].values)
    with tempfile.TemporaryDirectory() as scratch:
        image = write_nifti_images(ds, Path(scratch) / "image.nii").read_bytes()
        if not chosen.size or MASK not in ds:
            return image, None
        masks = ds[MASK].isel(frame=chosen).values
        return image, write_nifti_labels(masks, Path(scratch) / "mask.nii", ds).read_bytes()


def decode_nifti(data: Any) -> NDArray[Any]:
    """The cine (frame, slice, y, x) in an NIfTI file that :func:`cine_nifti` made, as bytes or a buffer."""
    array = np.asarray(nibabel.Nifti1Image.from_bytes(bytes(data)).dataobj)
    array = array if array.flags.writeable else array.copy()
    return (array if array.ndim == 4 else array[..., None]).transpose(3, 2, 1, 0)


Config = Literal["labelled", "slices", "cines"]
CONFIGS: tuple[Config, ...] = get_args(Config)

ABOUT: dict[Config, str] = {
    "labelled": "the 2D slices of the frames that an expert segmented, each with its mask",
    "slices": "all 2D slices; the mask is null where nobody segmented",
    "cines": "a row a mouse: the whole cine as NIfTI, and the masks of its labelled frames",
}


@dataclass(frozen=True)
class Column:
    """A column, for people and for ``datasets``."""

    name: str
    feature: Any
    """A feature of ``datasets``."""
    about: str


_TEXT, _BOOL, _MM, _SHORT = "string", "bool", "float64", "int16"


def _make_value(dtype: str) -> Any:
    return datasets.Value(dtype)


_MOUSE = Column("mouse", _make_value(_TEXT), "name of the mouse")
_MOUSE_COLUMNS = (
    Column("split", _make_value(_TEXT), "split of the mouse; 'none' where it is in none"),
    Column("phenotype", _make_value(_TEXT), "group of the mouse, or 'not published'"),
    Column("synthetic", _make_value(_BOOL), "true: computed by a phantom, not measured on an animal"),
)
_SLICE_COLUMNS = (
    Column(IMAGE, datasets.Image(mode="I;16"), "magnitude image (y, x), uint16"),
    Column(
        MASK,
        datasets.Image(mode="L"),
        "expert segmentation (y, x), uint8: 0 background, 1 LV myocardium, 2 LV blood pool; null: not segmented",
    ),
    _MOUSE,
    Column("slice", _make_value(_SHORT), "number of the slice, from 0; base or apex first is not known"),
    Column("frame", _make_value(_SHORT), "number of the frame, from 0"),
    Column("phase", _make_value(_TEXT), "ED, ES, inflow, unlabelled, or unknown (a single labelled frame)"),
    Column("labelled", _make_value(_BOOL), "an expert segmented this frame"),
    Column("spacing", datasets.List(_make_value(_MM), length=2), "pixel size (y, x) in mm"),
    Column("slice_thickness", _make_value(_MM), "in mm; slices are contiguous"),
    Column("time", _make_value(_MM), "ms after the trigger"),
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
    Column("slices", _make_value(_SHORT), "number of slices"),
    Column("frames", _make_value(_SHORT), "number of frames"),
    Column("labelled_frames", datasets.List(_make_value(_SHORT)), "numbers of the frames that an expert segmented"),
    Column("phase", datasets.List(_make_value(_TEXT)), "of each frame: ED, ES, inflow, unlabelled, or unknown"),
    Column("spacing", datasets.List(_make_value(_MM), length=3), "voxel size (slice, y, x) in mm"),
    Column("time", datasets.List(_make_value(_MM)), "of each frame, ms after the trigger"),
    *_MOUSE_COLUMNS,
)
COLUMNS: dict[Config, tuple[Column, ...]] = {
    "labelled": _SLICE_COLUMNS,
    "slices": _SLICE_COLUMNS,
    "cines": _CINE_COLUMNS,
}


def make_features(config: Config) -> datasets.Features:
    """The features of a table."""
    return datasets.Features({column.name: column.feature for column in COLUMNS[check_config(config)]})


def check_config(config: str) -> Config:
    """``config`` if it is one of the tables; else ArgumentError."""
    for name in CONFIGS:
        if config == name:
            return name
    raise ArgumentError(f"There is no table {config!r}.", f"one of {', '.join(CONFIGS)}", "config='labelled'")


# MERGED adapters.huggingface.features: The rows of one mouse, as ``datasets`` stores them.


Row = dict[str, Any]


def count_rows(ds: xr.Dataset, config: Config) -> int:
    """How many rows ``ds`` has in a table; reads no pixel."""
    if config == "cines":
        return 1
    return int(select_frames(ds, "labelled" if config == "labelled" else "all").size * ds.sizes["slice"])


def make_rows(ds: xr.Dataset, config: Config) -> Iterator[Row]:
    """The rows of a mouse in the table ``config``; a frame is read at a time.

    A frame that nobody segmented has no mask (None): zeros would say "background".
    """
    about = {
        "split": str(ds.attrs["split"]),
        "phenotype": str(ds.attrs["phenotype"]),
        "synthetic": bool(ds.attrs["synthetic"]),
    }
    yield from _make_cine_row(ds, about) if config == "cines" else _make_slice_rows(ds, config, about)


def _make_slice_rows(ds: xr.Dataset, config: Config, about: Row) -> Iterator[Row]:
    mouse = str(ds.attrs["mouse"])
    dz, dy, dx = get_spacing(ds)
    labelled, phase, numbers = ds["labelled"].values, ds["phase"].values, ds["slice"].values
    for position in select_frames(ds, "labelled" if config == "labelled" else "all").tolist():
        frame = ds.isel(frame=position)
        images = frame[IMAGE].values
        masks = frame[MASK].values if labelled[position] else None
        number = int(ds["frame"].values[position])
        for i, plane in enumerate(images):
            name = f"{mouse}_slice{int(numbers[i]):02d}_frame{number:02d}"
            yield {
                IMAGE: {"bytes": encode_tiff(plane), "path": f"{name}.tif"},
                MASK: None if masks is None else {"bytes": encode_tiff(masks[i]), "path": f"{name}_mask.tif"},
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


def _make_cine_row(ds: xr.Dataset, about: Row) -> Iterator[Row]:
    mouse = str(ds.attrs["mouse"])
    image, mask = encode_nifti(ds)
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
