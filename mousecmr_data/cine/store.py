"""The Zarr store: a group a mouse, arrays (frame, slice, y, x), and an index of the cohort.

Zarr v3; chunk = one frame's stack, shard = the whole mouse (two data files a mouse), Blosc zstd with bit
shuffle: chosen by measurement among the layouts that read a whole cine and a slice both well
(benchmarks/arrays.py). There are no coordinate arrays: what they would say stands in the root's attributes,
a row a mouse, so that one small file opens the cohort and no further one is needed to describe a mouse.

A mouse is written under a temporary name and renamed when it is complete: readers never see half of it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from filelock import FileLock
from zarr.codecs import BloscCodec

from mousecmr_data.cine import model
from mousecmr_data.cine.lazy import LazyArray
from mousecmr_data.cine.phases import DTYPE
from mousecmr_data.cine.voxels import voxel_size_mm
from mousecmr_data.cine.zarrarray import NO_OPTIONS, SHARD, Options, StoreArray
from mousecmr_data.errors import CacheError, FileLayoutError
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_VOXEL_SIZE, DIMS, IMAGE, MASK

FORMAT = "mousecmr-zarr"
FORMAT_VERSION = 1
CODEC = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
INDEX = "zarr.json"
"""The root group's metadata, which hold the index."""


@dataclass(frozen=True)
class Row:
    """What the index says of one mouse: all but the pixels."""

    shape: tuple[int, int, int, int]
    """(frame, slice, y, x)."""
    has_mask: bool
    labelled_frames: tuple[int, ...]
    phases: tuple[str, ...]
    voxel_size_mm: tuple[float, float, float]
    frame_time_ms: float
    attrs: dict[str, Any]
    source: dict[str, Any]
    """Checksum, size and modification time of the file this was made from; empty if it was not a file."""
    stored: dict[str, int]
    """Bytes of each array's shard."""

    @classmethod
    def of(cls, ds: xr.Dataset, source: Mapping[str, Any], stored: Mapping[str, int]) -> Row:
        """The row of a dataset of the cine model."""
        time = ds["time"].values
        frame_time = ds["time"].attrs.get("frame_time") or (float(time[1] - time[0]) if time.size > 1 else np.nan)
        n = ds.sizes
        return cls(
            (n["frame"], n["slice"], n["y"], n["x"]),
            MASK in ds,
            tuple(np.flatnonzero(ds["labelled"].values).tolist()),
            tuple(ds["phase"].values.tolist()),
            voxel_size_mm(ds),
            float(frame_time),
            {k: v for k, v in ds.attrs.items() if k != "slice_order"},
            dict(source),
            dict(stored),
        )

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Row:
        """A row from JSON."""
        lists = ("shape", "labelled_frames", "phases", "voxel_size_mm")
        return cls(**{**table, **{k: tuple(table[k]) for k in lists}})

    def own_sizes(self) -> dict[str, Any]:
        """Physical sizes that stood in the mouse's file itself, by the names of its attributes."""
        own: dict[str, Any] = {}
        if self.attrs.get("voxel_size_source") == model.FROM_FILE:
            own[ATTR_VOXEL_SIZE] = self.voxel_size_mm
        if self.attrs.get("frame_time_source") == model.FROM_FILE:
            own[ATTR_FRAME_TIME] = self.frame_time_ms
        return own

    def sizes(self) -> model.Sizes:
        """Physical sizes with their sources."""
        return model.Sizes(
            self.voxel_size_mm,
            str(self.attrs.get("voxel_size_source", "the store")),
            self.frame_time_ms,
            str(self.attrs.get("frame_time_source", "the store")),
        )


@contextmanager
def new(path: str | PathLike[str], split_scheme: str = "") -> Iterator[tuple[Path, dict[str, Row]]]:
    """Make a store at ``path``: yields a folder to write mice into and a dict for their rows.

    The store appears at ``path`` when the block ends; if it fails, nothing stays behind, and what a
    killed process left is removed by the next. Raises :class:`CacheError` if ``path`` exists.
    """
    target = Path(path).absolute()
    if target.suffix == ".zip":
        raise CacheError(
            f"{target.name} would be a folder.",
            "a name such as mice.zarr",
            "pack it afterwards: cd mice.zarr && zip -0 -r ../mice.zip .",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial"
    lock = FileLock(target.parent / f".{target.name}.lock")
    with lock:
        try:
            if target.exists():
                raise CacheError(f"{target} exists.", "a path where nothing is", f"rm -r {target}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            rows: dict[str, Row] = {}
            yield partial, rows
            write_index(partial, rows, split_scheme)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def write_mouse(folder: Path, name: str, ds: xr.Dataset, source: Mapping[str, Any] | None = None) -> Row:
    """Write one mouse below ``folder`` as the group ``name``, replacing an older one; returns its row.

    The row also stands in the group's attributes, so that an index can be made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    try:
        group = zarr.create_group(partial, zarr_format=3, attributes=dict(ds.attrs))
        stored = {}
        for variable in (IMAGE, MASK):
            if variable in ds:
                _write_array(group, variable, ds[variable])
                stored[variable] = (partial / variable / SHARD).stat().st_size
        row = Row.of(ds, source or {}, stored)
        group.attrs[FORMAT] = asdict(row)
        with warnings.catch_warnings():  # it is not of the v3 specification yet; readers that know it save requests
            warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata")
            zarr.consolidate_metadata(partial)
        partial.chmod(0o755)
        _replace(partial, folder / name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return row


def write_index(folder: Path, rows: Mapping[str, Row], split_scheme: str = "") -> None:
    """Write the root group's metadata with the index, atomically."""
    text = json.dumps(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "split_scheme": split_scheme,
                "mice": {name: asdict(row) for name, row in rows.items()},
            },
        }
    )
    handle, partial = tempfile.mkstemp(prefix=f".{INDEX}.", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as f:
        f.write(text)
    Path(partial).chmod(0o644)
    Path(partial).replace(folder / INDEX)


def parse_row(attributes: Mapping[str, Any]) -> Row:
    """The row in a mouse's own group attributes."""
    return Row.parse(attributes[FORMAT])


def parse_index(attributes: Mapping[str, Any], where: str) -> dict[str, Row]:
    """The rows in a root group's attributes; :class:`FileLayoutError` where they are not ours."""
    try:
        if attributes["format"] != FORMAT or attributes["format_version"] != FORMAT_VERSION:
            raise ValueError(f"{attributes['format']} {attributes['format_version']}")
        return {name: Row.parse(row) for name, row in attributes["mice"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FileLayoutError(
            f"{where} is not a store of this library ({e}).",
            f"a Zarr v3 store with the format {FORMAT} {FORMAT_VERSION}",
            "mousecmr convert -o STORE.zarr  makes one",
        ) from e


def dataset(
    location: str, name: str, row: Row, attrs: Mapping[str, Any] | None = None, options: Options = NO_OPTIONS
) -> xr.Dataset:
    """The dataset of one mouse of the store at ``location``: opens nothing until pixels are asked for."""
    image = StoreArray(location, f"{name}/{IMAGE}", row.shape, "uint16", options)
    mask = StoreArray(location, f"{name}/{MASK}", row.shape, "uint8", options) if row.has_mask else None
    return build(row, image, mask, row.sizes(), attrs or {})


def build(
    row: Row, image: LazyArray, mask: LazyArray | None, sizes: model.Sizes, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The dataset that ``row`` describes, over these arrays."""
    phases = np.array(row.phases, DTYPE)
    return model.dataset(image, mask, row.labelled_frames, sizes, {**row.attrs, **attrs}, phases)


def _write_array(group: zarr.Group, name: str, data: xr.DataArray) -> None:
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=(1, *data.shape[1:]),
        shards=data.shape,
        compressors=CODEC,
        dimension_names=DIMS,
        attributes=dict(data.attrs),
        config={"write_empty_chunks": True},  # so that what is missing is known to be lost
    )
    array[...] = data.values


def _replace(partial: Path, target: Path) -> None:
    """Put ``partial`` in the place of ``target``. A folder cannot be replaced in one step: the old one is
    first moved aside, so that at any moment there is the old mouse, none, or the new one."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        target.rename(old / "old")
        partial.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(target)
