"""The Zarr store: a group a mouse, arrays (frame, slice, y, x), one shard an array.

Layout after measurements on this kind of data: chunk = one frame's stack, shard = the whole mouse,
Blosc zstd with bit shuffle. No coordinate arrays: what they say stands in the group's attributes, so
that a mouse opens with a single metadata file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from mousecmr_data.errors import CacheError
from mousecmr_data.facts import layout

CODEC = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")


def write(mice: Mapping[str, xr.Dataset], path: str | PathLike[str]) -> Path:
    """Write ``mice`` to a new store at ``path``; nothing half-written stays behind.

    Raises :class:`CacheError` if there is something at ``path`` already.
    """
    target = Path(path)
    if target.exists():
        raise CacheError(f"{target} exists.", "a path where nothing is", f"rm -r {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        root = zarr.create_group(partial, zarr_format=3)
        for name, ds in mice.items():
            write_mouse(root, name, ds)
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def write_mouse(root: zarr.Group, name: str, ds: xr.Dataset) -> None:
    """Write one mouse as the group ``name`` of ``root``."""
    group = root.create_group(name, attributes=dict(ds.attrs))
    for variable in (layout.IMAGE, layout.MASK):
        if variable in ds:
            data = ds[variable]
            array = group.create_array(
                variable,
                shape=data.shape,
                dtype=data.dtype,
                chunks=(1, *data.shape[1:]),
                shards=data.shape,
                compressors=CODEC,
                dimension_names=layout.DIMS,
                attributes=dict(data.attrs),
            )
            array[...] = data.values
