"""Pixels to bytes and back, without loss: TIFF for a 2D slice, NIfTI for a cine."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.schema.variables import MASK

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSET = 256, 257, 258, 259, 273
"""Tags of TIFF 6.0."""
_TYPES = {3: "H", 4: "I"}
"""TIFF's SHORT and LONG."""


def tiff(plane: NDArray[Any]) -> bytes:
    """An uncompressed TIFF of ``plane`` (y, x), uint8 or uint16. Parquet compresses it better than TIFF would,
    and every reader of TIFF takes it."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "TIFF")
    return buffer.getvalue()


def from_tiff(data: Any) -> NDArray[Any]:
    """The plane (y, x), uint8 or uint16, in ``data`` (bytes or a buffer): a view of it, if :func:`tiff` wrote it."""
    view = memoryview(data)
    found = _strip(view)
    if found is None:  # another's TIFF or PNG
        return np.asarray(PIL.Image.open(io.BytesIO(view)))
    height, width, bits, offset = found
    plane = np.frombuffer(view, "<u2" if bits == 16 else "u1", height * width, offset)
    return plane.reshape(height, width)


def _strip(view: memoryview) -> tuple[int, int, int, int] | None:
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


def cine_nifti(ds: xr.Dataset) -> tuple[bytes, bytes | None]:
    """The images of ``ds``, and the masks of its labelled frames (None without any), each as an NIfTI file."""
    chosen = np.flatnonzero(ds["labelled"].values)
    with tempfile.TemporaryDirectory() as scratch:
        image = write_nifti_images(ds, Path(scratch) / "image.nii").read_bytes()
        if not chosen.size or MASK not in ds:
            return image, None
        masks = ds[MASK].isel(frame=chosen).values
        return image, write_nifti_labels(masks, Path(scratch) / "mask.nii", ds).read_bytes()


def from_nifti(data: Any) -> NDArray[Any]:
    """The cine (frame, slice, y, x) in an NIfTI file that :func:`cine_nifti` made, as bytes or a buffer."""
    array = np.asarray(nibabel.Nifti1Image.from_bytes(bytes(data)).dataobj)
    array = array if array.flags.writeable else array.copy()
    return (array if array.ndim == 4 else array[..., None]).transpose(3, 2, 1, 0)
