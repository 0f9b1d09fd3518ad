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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from filelock import FileLock
from numcodecs import blosc
from numpy.typing import NDArray
from xarray.core import indexing
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from mousecmr_data._utils.atomic import atomic_folder, remove_leftovers, write_text
from mousecmr_data.dataset.lazy import Key, LazyArray
from mousecmr_data.dataset.model import FROM_FILE, PhysicalSizes, build_dataset, get_spacing
from mousecmr_data.errors import CacheError, FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.schema.phases import PHASE_DTYPE
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_VOXEL_SIZE, DIMS, IMAGE, MASK

# MERGED dataset.zarr_store: The data file of one array of a local store: read by frames, decoded on every core.
#
# Zarr's own way decodes a shard on one core and copies what it decoded. A mouse's shard is simple: one Blosc
# chunk a frame, then an index of (offset, length) pairs with its CRC-32C (the sharding codec of the Zarr v3
# specification). Each frame is decoded straight to its place in the result. Shards of any other make are left
# to Zarr.


_CRC_BYTES = 4
"""Bytes of the checksum behind the index."""


@dataclass(frozen=True)
class ShardFile:
    """A shard of frames (slice, y, x)."""

    path: Path
    shape: tuple[int, ...]
    """(frame, slice, y, x)."""
    dtype: np.dtype[Any]

    def frames(self, wanted: Sequence[int]) -> NDArray[Any]:
        """Chosen frames in the order asked for: (frame, slice, y, x).

        Raises ``ValueError`` or ``RuntimeError`` (Blosc) for a damaged file, ``OSError`` where there is none.
        """
        out = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as f:
            index = self._index(f.fileno())

            def decode(place: int) -> None:
                offset, length = (int(v) for v in index[wanted[place]])
                data = os.pread(f.fileno(), length, offset)
                if blosc.decompress(data, out[place]).nbytes != out[place].nbytes:
                    raise ValueError(f"frame {wanted[place]} of {self.path} is too short")

            threads = min(os.cpu_count() or 1, len(wanted))
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(decode, range(len(wanted))))
            else:
                for place in range(len(wanted)):
                    decode(place)
        return out

    def _index(self, file: int) -> NDArray[np.uint64]:
        """Offset and length of each frame (frame, 2)."""
        size, length = os.fstat(file).st_size, 16 * self.shape[0]
        tail = os.pread(file, length + _CRC_BYTES, max(0, size - length - _CRC_BYTES))
        crc = int.from_bytes(tail[length:], "little")
        if len(tail) != length + _CRC_BYTES or google_crc32c.value(tail[:length]) != crc:
            raise ValueError(f"the index of {self.path} is damaged")
        index = np.frombuffer(tail, "<u8", 2 * self.shape[0]).reshape(-1, 2)
        if (index > size).any() or (index.sum(1) > size).any():
            raise ValueError(f"{self.path} is too short for its index")
        return index


def open_shard(array: zarr.Array[Any], path: Path) -> ShardFile | None:
    """The shard of a local ``array`` if it is made as :mod:`mousecmr_data.dataset.zarr_store` makes it, else None."""
    codecs = array.metadata.codecs if array.metadata.zarr_format == 3 else ()
    if array.shards != array.shape or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    outer = codecs[0]
    known = (
        outer.chunk_shape == (1, *array.shape[1:])
        and [type(c) for c in outer.codecs] == [BytesCodec, BloscCodec]
        and [type(c) for c in outer.index_codecs] == [BytesCodec, Crc32cCodec]
        and str(outer.index_location.value) == "end"
        and array.dtype.newbyteorder("=") == array.dtype
    )
    return ShardFile(path, array.shape, array.dtype) if known else None


# MERGED dataset.zarr_store: Arrays of a Zarr store, on disk or far away, opened when they are first read.


SHARD_PATH = "c/0/0/0/0"
"""Where an array's only shard lies below it."""
_DATA_MISSING = f"its data, {SHARD_PATH}, are missing"


class StorageOptions(dict[str, Any]):
    """Options of an fsspec file system, nested as they may be; never changed, so they can be a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


NO_OPTIONS = StorageOptions()


def is_url(location: str) -> bool:
    """Whether ``location`` is a URL: http(s)://, s3://, hf://, ..."""
    return "://" in location


def open_store(location: str, options: StorageOptions = NO_OPTIONS) -> Store:
    """The Zarr store at a local folder, a .zip file or a URL; kept open for this process."""
    return _open_store(location, options, os.getpid())


class ZarrArray(LazyArray):
    """One array of a store; holds its address only, so it pickles and survives fork and spawn."""

    support = indexing.IndexingSupport.OUTER

    def __init__(
        self, location: str, path: str, shape: tuple[int, ...], dtype: str, options: StorageOptions = NO_OPTIONS
    ) -> None:
        self.location, self.path, self.options = location, path, options
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Read a part; axes are indexed independently of each other."""
        try:
            array, local = _open_array(self.location, self.path, self.options, os.getpid())
            if local is not None:
                return _read_shard(local, key)
            values = _read_array(array, key)
            # Zarr takes what is missing for zeros. Ours is always written: then zeros have to be looked into.
            if _all_zero(values) and not _has_data(self.location, self.path, self.options, os.getpid()):
                raise FileNotFoundError(_DATA_MISSING)
            return values
        except MouseCMRError:
            raise
        except Exception as e:  # what a file system far away may raise, nobody knows
            raise FileLayoutError(
                f"{self.location}: {self.path} cannot be read: {type(e).__name__}: {e}",
                "a complete store",
                "write or copy the store again",
            ) from e


def _all_zero(values: NDArray[Any]) -> bool:
    """Whether there is nothing but zeros; a few samples answer for most arrays."""
    return values.size > 0 and not values.ravel()[::4099].any() and not values.any()


def _read_shard(local: ShardFile, key: Key) -> NDArray[Any]:
    """A part of a local shard: the frames it needs are decoded whole."""
    chosen = np.arange(local.shape[0])[key[0]]
    wanted, place = np.unique(chosen, return_inverse=True)
    try:
        values = local.frames(wanted.tolist())
    except FileNotFoundError as e:
        raise FileNotFoundError(_DATA_MISSING) from e
    if not np.array_equal(wanted, np.atleast_1d(chosen)):
        values = values[place.reshape(-1)]
    for axis in (3, 2, 1):  # from the last: an integer drops its axis
        whole = isinstance(key[axis], slice) and key[axis] == slice(None)
        values = values if whole else values[(slice(None),) * axis + (key[axis],)]
    return values[0] if np.ndim(chosen) == 0 else values


def _read_array(array: zarr.Array[Any], key: Key) -> NDArray[Any]:
    if not isinstance(key[0], np.ndarray):
        return np.asarray(array.oindex[key])
    # A chunk is a frame: read one by one, chosen frames cost what they are; together, they cost the mouse.
    wanted, place = np.unique(key[0], return_inverse=True)
    frames = [np.asarray(array.oindex[(int(f), *key[1:])]) for f in wanted]
    return np.stack(frames)[place] if frames else np.asarray(array.oindex[(slice(0, 0), *key[1:])])


@lru_cache(maxsize=512)
def _has_data(location: str, path: str, options: StorageOptions, pid: int) -> bool:
    if Path(location).is_dir():
        return (Path(location) / path / SHARD_PATH).is_file()
    return bool(sync(_open_store(location, options, pid).exists(f"{path}/{SHARD_PATH}")))


@lru_cache(maxsize=64)
def _open_array(
    location: str, path: str, options: StorageOptions, pid: int
) -> tuple[zarr.Array[Any], ShardFile | None]:
    """The array, and its shard where that can be read directly."""
    array = zarr.open_array(_open_store(location, options, pid), path=path, mode="r", zarr_format=3)
    if array.shape == () or array.ndim != 4:
        raise FileLayoutError(f"{location}: {path} has the shape {array.shape}.", "four axes")
    return array, open_shard(array, Path(location) / path / SHARD_PATH) if Path(location).is_dir() else None


@lru_cache(maxsize=16)
def _open_store(location: str, options: StorageOptions, pid: int) -> Store:  # noqa: ARG001 (handles are not shared by processes)
    if is_url(location):
        try:
            return FsspecStore.from_url(location, storage_options=dict(options), read_only=True)
        except ImportError as e:
            raise MissingExtraError.from_module(str(e.name or e), "remote") from e
    if not Path(location).exists():
        raise MissingDataError(f"There is no store {location}.", "a folder, a .zip file or a URL", "mousecmr convert")
    return ZipStore(location, mode="r") if Path(location).is_file() else LocalStore(location, read_only=True)


STORE_FORMAT = "mousecmr-zarr"
STORE_VERSION = 1
CODEC = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
INDEX_FILE = "zarr.json"
"""The root group's metadata, which hold the index."""


@dataclass(frozen=True)
class MouseEntry:
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
    def from_dataset(cls, ds: xr.Dataset, source: Mapping[str, Any], stored: Mapping[str, int]) -> MouseEntry:
        """The row of a dataset of the cine model."""
        time = ds["time"].values
        frame_time = ds["time"].attrs.get("frame_time") or (float(time[1] - time[0]) if time.size > 1 else np.nan)
        n = ds.sizes
        return cls(
            (n["frame"], n["slice"], n["y"], n["x"]),
            MASK in ds,
            tuple(np.flatnonzero(ds["labelled"].values).tolist()),
            tuple(ds["phase"].values.tolist()),
            get_spacing(ds),
            float(frame_time),
            {k: v for k, v in ds.attrs.items() if k != "slice_order"},
            dict(source),
            dict(stored),
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> MouseEntry:
        """A row from JSON."""
        lists = ("shape", "labelled_frames", "phases", "voxel_size_mm")
        return cls(**{**table, **{k: tuple(table[k]) for k in lists}})

    def get_own_sizes(self) -> dict[str, Any]:
        """Physical sizes that stood in the mouse's file itself, by the names of its attributes."""
        own: dict[str, Any] = {}
        if self.attrs.get("voxel_size_source") == FROM_FILE:
            own[ATTR_VOXEL_SIZE] = self.voxel_size_mm
        if self.attrs.get("frame_time_source") == FROM_FILE:
            own[ATTR_FRAME_TIME] = self.frame_time_ms
        return own

    def get_sizes(self) -> PhysicalSizes:
        """Physical sizes with their sources."""
        return PhysicalSizes(
            self.voxel_size_mm,
            str(self.attrs.get("voxel_size_source", "the store")),
            self.frame_time_ms,
            str(self.attrs.get("frame_time_source", "the store")),
        )


@contextmanager
def create_store(path: str | PathLike[str], split_scheme: str = "") -> Iterator[tuple[Path, dict[str, MouseEntry]]]:
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
    lock = FileLock(target.parent / f".{target.name}.lock")
    with lock:
        try:
            remove_leftovers(target.parent, target.name)
            with atomic_folder(target) as partial:
                rows: dict[str, MouseEntry] = {}
                yield partial, rows
                write_index(partial, rows, split_scheme)
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)


def write_mouse(folder: Path, name: str, ds: xr.Dataset, source: Mapping[str, Any] | None = None) -> MouseEntry:
    """Write one mouse below ``folder`` as the group ``name``, replacing an older one; returns its row.

    The row also stands in the group's attributes, so that an index can be made again.
    """
    with atomic_folder(folder / name, overwrite=True) as partial:
        group = zarr.create_group(partial, zarr_format=3, attributes=dict(ds.attrs))
        stored = {}
        for variable in (IMAGE, MASK):
            if variable in ds:
                _write_array(group, variable, ds[variable])
                stored[variable] = (partial / variable / SHARD_PATH).stat().st_size
        row = MouseEntry.from_dataset(ds, source or {}, stored)
        group.attrs[STORE_FORMAT] = asdict(row)
        with warnings.catch_warnings():  # it is not of the v3 specification yet; readers that know it save requests
            warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata")
            zarr.consolidate_metadata(partial)
    return row


def write_index(folder: Path, rows: Mapping[str, MouseEntry], split_scheme: str = "") -> None:
    """Write the root group's metadata with the index, atomically."""
    text = json.dumps(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {
                "format": STORE_FORMAT,
                "format_version": STORE_VERSION,
                "split_scheme": split_scheme,
                "mice": {name: asdict(row) for name, row in rows.items()},
            },
        }
    )
    write_text(folder / INDEX_FILE, text)


def parse_entry(attributes: Mapping[str, Any]) -> MouseEntry:
    """The row in a mouse's own group attributes."""
    return MouseEntry.from_dict(attributes[STORE_FORMAT])


def parse_index(attributes: Mapping[str, Any], where: str) -> dict[str, MouseEntry]:
    """The rows in a root group's attributes; :class:`FileLayoutError` where they are not ours."""
    try:
        if attributes["format"] != STORE_FORMAT or attributes["format_version"] != STORE_VERSION:
            raise ValueError(f"{attributes['format']} {attributes['format_version']}")
        return {name: MouseEntry.from_dict(row) for name, row in attributes["mice"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FileLayoutError(
            f"{where} is not a store of this library ({e}).",
            f"a Zarr v3 store with the format {STORE_FORMAT} {STORE_VERSION}",
            "mousecmr convert -o STORE.zarr  makes one",
        ) from e


def open_store_mouse(
    location: str,
    name: str,
    row: MouseEntry,
    attrs: Mapping[str, Any] | None = None,
    options: StorageOptions = NO_OPTIONS,
) -> xr.Dataset:
    """The dataset of one mouse of the store at ``location``: opens nothing until pixels are asked for."""
    image = ZarrArray(location, f"{name}/{IMAGE}", row.shape, "uint16", options)
    mask = ZarrArray(location, f"{name}/{MASK}", row.shape, "uint8", options) if row.has_mask else None
    return build_from_entry(row, image, mask, row.get_sizes(), attrs or {})


def build_from_entry(
    row: MouseEntry, image: LazyArray, mask: LazyArray | None, sizes: PhysicalSizes, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The dataset that ``row`` describes, over these arrays."""
    phases = np.array(row.phases, PHASE_DTYPE)
    return build_dataset(image, mask, row.labelled_frames, sizes, {**row.attrs, **attrs}, phases)


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
