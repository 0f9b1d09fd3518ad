"""The Zarr store: one group per mouse, arrays (frame, slice, y, x), and an index of the cohort.

Zarr v3; a chunk is one frame's stack, a shard is the whole mouse (two data files per mouse), Blosc zstd with bit
shuffle: chosen by measurement among the layouts that read both a whole cine and a slice well
(benchmarks/arrays.py). Each compressed chunk, the index of each shard and the index of the cohort have a CRC-32C, which
is checked at each read (stores of version 1: only the index of each shard). There are no coordinate arrays: the root's
attributes hold one entry per mouse instead, so that one small file opens the cohort and no other file is needed to
describe a mouse.

A mouse is written under a temporary name and renamed when it is complete: readers never see a partial mouse.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from mousecmr_data._utils.atomic import atomic_folder, remove_leftovers, write_text
from mousecmr_data._utils.checksums import CHECKSUM_KEY, add_checksum, has_checksum
from mousecmr_data._utils.locks import try_lock
from mousecmr_data._utils.network import check_online
from mousecmr_data._utils.reading import check_access
from mousecmr_data._utils.system import read_at
from mousecmr_data._utils.text import join_names
from mousecmr_data.dataset.model import FROM_FILE, Key, LazyArray, PhysicalSizes, build_dataset, get_spacing
from mousecmr_data.dataset.source import MouseSummary, make_summary
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.download.sources import redact_url
from mousecmr_data.errors import CacheError, FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.schema.manifest import FileEntry, Manifest, SplitScheme, is_file_name
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_VOXEL_SIZE, DIMS, IMAGE, MASK, PHASE_DTYPE

_CRC_BYTES = 4
"""Bytes of the checksum after the index of a shard."""


@dataclass(frozen=True)
class ShardFile:
    """The data file of one array of a local store: a shard of frames (slice, y, x), decoded on all cores.

    Zarr decodes a shard on one core and copies the result. A mouse's shard is simple: one Blosc chunk per frame, with
    its CRC-32C from version 2 on, then an index of (offset, length) pairs with its CRC-32C (the sharding codec of the
    Zarr v3 specification). Here each frame is checked and decoded directly into the result.
    """

    path: Path
    shape: tuple[int, ...]
    """(frame, slice, y, x)."""
    dtype: np.dtype[Any]
    has_checksums: bool
    """Whether each frame ends with its CRC-32C."""

    def read_frames(self, frames: Sequence[int]) -> NDArray[Any]:
        """Return the frames at these positions, in this order: (frame, slice, y, x).

        Raises ``ValueError`` or ``RuntimeError`` (Blosc) for a damaged file, ``OSError`` if it does not exist.
        """
        out = np.empty((len(frames), *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as f:
            index = self._read_index(f.fileno())

            def decode(i: int) -> None:
                offset, length = (int(v) for v in index[frames[i]])
                data = np.frombuffer(read_at(f.fileno(), length, offset), np.uint8)
                if self.has_checksums:
                    data, crc = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:].tobytes(), "little")
                    if google_crc32c.value(data) != crc:
                        raise ValueError(f"frame {frames[i]} does not have its checksum")
                if blosc.decompress(data, out[i]).nbytes != out[i].nbytes:
                    raise ValueError(f"frame {frames[i]} is too short")

            threads = min(os.cpu_count() or 1, len(frames))
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(decode, range(len(frames))))
            else:
                for i in range(len(frames)):
                    decode(i)
        return out

    def _read_index(self, file: int) -> NDArray[np.uint64]:
        """Return the offset and length of each frame (frame, 2)."""
        size, length = os.fstat(file).st_size, 16 * self.shape[0]
        tail = read_at(file, length + _CRC_BYTES, max(0, size - length - _CRC_BYTES))
        crc = int.from_bytes(tail[length:], "little")
        if len(tail) != length + _CRC_BYTES or google_crc32c.value(tail[:length]) != crc:
            raise ValueError("the index of its frames is damaged")
        index = np.frombuffer(tail, "<u8", 2 * self.shape[0]).reshape(-1, 2)
        if (index > size).any() or (index.sum(1) > size).any():
            raise ValueError("it is too short for the index of its frames")
        return index


def open_shard(array: zarr.Array[Any], path: Path) -> ShardFile | None:
    """Return the shard of a local ``array`` if it has this module's layout; else None, and Zarr has to read it."""
    codecs = array.metadata.codecs if array.metadata.zarr_format == 3 else ()
    if array.shards != array.shape or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    outer = codecs[0]
    inner = [type(c) for c in outer.codecs]
    supported = (
        outer.chunk_shape == (1, *array.shape[1:])
        and inner[:2] == [BytesCodec, BloscCodec]
        and inner[2:] in ([], [Crc32cCodec])
        and [type(c) for c in outer.index_codecs] == [BytesCodec, Crc32cCodec]
        and getattr(outer.index_location, "value", outer.index_location) == "end"  # a plain string from zarr 3.3 on
        and array.dtype.newbyteorder("=") == array.dtype
    )
    return ShardFile(path, array.shape, array.dtype, Crc32cCodec in inner) if supported else None


# Arrays of a local or remote store, opened on first read

SHARD_PATH = "c/0/0/0/0"
"""Path of an array's only shard, relative to the array."""
_DATA_MISSING = f"its data, {SHARD_PATH}, are missing"
WRITE_COMMAND = "mousecmr convert -o STORE.zarr"
LOCAL_SCHEMES = {"file", "local", "memory", "zip"}
"""URL schemes that need no network."""


class StorageOptions(dict[str, Any]):
    """Options of an fsspec file system, possibly nested; never changed, so that they are hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


NO_OPTIONS = StorageOptions()


def open_store(location: str, options: StorageOptions = NO_OPTIONS) -> Store:
    """Return the Zarr store at a local folder, a .zip file or a URL; it is kept open for this process.

    Raises :class:`MissingDataError` if there is none, or if it needs a network and ``MOUSECMR_OFFLINE`` is set.
    """
    _check_network(location)
    return _open_store(location, options, os.getpid())


def _check_network(location: str) -> None:
    if "://" in location and set(re.findall(r"(\w+)://", location)) - LOCAL_SCHEMES:
        check_online(redact_url(location))


class ZarrArray(LazyArray):
    """One array of a store; holds only its address, so it can be pickled and is safe with fork and spawn."""

    support = "OUTER"

    def __init__(
        self, location: str, path: str, shape: tuple[int, ...], dtype: str, options: StorageOptions = NO_OPTIONS
    ) -> None:
        self.location, self.path, self.options = location, path, options
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Return a part; axes are indexed independently of each other."""
        _check_network(self.location)
        try:
            array, shard = _open_array(self.location, self.path, self.options, os.getpid())
            self._check_metadata(array)
            if shard is not None:
                return _read_shard(shard, key)
            values = _read_array(array, key)
            # Zarr returns zeros for missing data. Our arrays are always written, so zeros have to be checked.
            # A few samples are enough to tell most arrays from zeros.
            all_zero = values.size > 0 and not values.ravel()[::4099].any() and not values.any()
            if all_zero and not _has_data(self.location, self.path, self.options, os.getpid()):
                raise FileNotFoundError(_DATA_MISSING)
            return values
        except MouseCMRError:
            raise
        except Exception as e:  # a remote file system may raise anything
            check_access(e, *self._list_files())
            raise FileLayoutError(
                f"{self.location}: {self.path} cannot be read: {type(e).__name__}: {e}",
                "a complete store, with the checksums that it was written with",
                f"copy the store again, or write it again: {WRITE_COMMAND}",
            ) from e

    def _list_files(self) -> list[Path]:
        """Return the files of a local store that hold this array."""
        folder = Path(self.location) / self.path
        local = [Path(self.location)] if Path(self.location).is_file() else [folder / SHARD_PATH, folder / INDEX_FILE]
        return [path for path in local if os.path.lexists(path)]

    def _check_metadata(self, array: zarr.Array[Any]) -> None:
        """Raise ValueError if the array's own metadata, which have no checksum, contradict the index."""
        found = (array.shape, array.dtype, array.metadata.encode_chunk_key((0,) * len(self.shape)))
        if found != (self.shape, self.dtype, SHARD_PATH):
            raise ValueError(f"its {INDEX_FILE} is damaged: shape, type and file are {found}")


def _read_shard(shard: ShardFile, key: Key) -> NDArray[Any]:
    """Return a part of a local shard: the required frames are decoded whole."""
    requested = np.arange(shard.shape[0])[key[0]]
    frames, positions = np.unique(requested, return_inverse=True)
    try:
        values = shard.read_frames(frames.tolist())
    except FileNotFoundError:
        raise FileNotFoundError(_DATA_MISSING) from None
    if not np.array_equal(frames, np.atleast_1d(requested)):
        values = values[positions.reshape(-1)]
    for axis in (3, 2, 1):  # from the last: an integer drops its axis
        if not (isinstance(key[axis], slice) and key[axis] == slice(None)):
            values = values[(slice(None),) * axis + (key[axis],)]
    return values[0] if np.ndim(requested) == 0 else values


def _read_array(array: zarr.Array[Any], key: Key) -> NDArray[Any]:
    if not isinstance(key[0], np.ndarray):
        return np.asarray(array.oindex[key])
    # A chunk is a frame. Read one by one, only the selected frames are decoded; together, the whole mouse.
    unique, positions = np.unique(key[0], return_inverse=True)
    frames = [np.asarray(array.oindex[(int(f), *key[1:])]) for f in unique]
    return np.stack(frames)[positions] if frames else np.asarray(array.oindex[(slice(0, 0), *key[1:])])


@lru_cache(maxsize=512)
def _has_data(location: str, path: str, options: StorageOptions, pid: int) -> bool:
    if Path(location).is_dir():
        return (Path(location) / path / SHARD_PATH).is_file()
    return bool(sync(_open_store(location, options, pid).exists(f"{path}/{SHARD_PATH}")))


@lru_cache(maxsize=64)
def _open_array(
    location: str, path: str, options: StorageOptions, pid: int
) -> tuple[zarr.Array[Any], ShardFile | None]:
    """Return the array, and its shard if that can be read directly."""
    array = zarr.open_array(_open_store(location, options, pid), path=path, mode="r", zarr_format=3)
    return array, open_shard(array, Path(location) / path / SHARD_PATH) if Path(location).is_dir() else None


@lru_cache(maxsize=16)
def _open_store(location: str, options: StorageOptions, pid: int) -> Store:  # noqa: ARG001 (a cache key)
    if "://" in location:  # http(s)://, s3://, hf://, ...
        try:
            return FsspecStore.from_url(location, storage_options=dict(options), read_only=True)
        except ImportError as e:
            raise MissingExtraError.from_module(str(e.name or e), "remote") from e
    if not Path(location).exists():
        new = shlex.quote(str(Path(location).with_suffix(".zarr")))
        raise MissingDataError(
            f"There is no store {location}.",
            "a folder, a .zip file or a URL",
            f"check the path, or make a store: mousecmr convert -o {new}",
        )
    return ZipStore(location, mode="r") if Path(location).is_file() else LocalStore(location, read_only=True)


# The format: entries, the index, writing and opening

STORE_FORMAT = "mousecmr-zarr"
STORE_VERSION = 2
"""2 added checksums of chunks and entries."""
READABLE_VERSIONS = (1, 2)
CODECS = (BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec())
DTYPES = {IMAGE: "uint16", MASK: "uint8"}
"""Of the arrays of each mouse."""
INDEX_FILE = "zarr.json"
"""File of the root group's metadata, which contains the index."""


@dataclass(frozen=True)
class MouseEntry:
    """The index entry of one mouse: everything except its pixels."""

    shape: tuple[int, int, int, int]
    """(frame, slice, y, x)."""
    has_mask: bool
    labelled_frames: tuple[int, ...]
    phases: tuple[str, ...]
    voxel_size_mm: tuple[float, float, float]
    frame_time_ms: float
    attrs: dict[str, Any]
    source: dict[str, Any]
    """Checksum, size and modification time of the source file; empty if the source was not a file."""
    stored: dict[str, int]
    """Size of each array's shard in bytes."""

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, source: Mapping[str, Any], stored: Mapping[str, int]) -> MouseEntry:
        """Return the entry of a dataset of the cine model."""
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
        """Return the entry in a JSON object; a checksum is not checked here."""
        tuples = ("shape", "labelled_frames", "phases", "voxel_size_mm")
        values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in table.items() if k != CHECKSUM_KEY}
        return cls(**values)

    def get_own_sizes(self) -> dict[str, Any]:
        """Return the physical sizes that the mouse's own file states, by the names of its attributes."""
        sizes: dict[str, Any] = {}
        if self.attrs.get("voxel_size_source") == FROM_FILE:
            sizes[ATTR_VOXEL_SIZE] = self.voxel_size_mm
        if self.attrs.get("frame_time_source") == FROM_FILE:
            sizes[ATTR_FRAME_TIME] = self.frame_time_ms
        return sizes

    def get_sizes(self) -> PhysicalSizes:
        """Return the physical sizes with their sources."""
        return PhysicalSizes(
            self.voxel_size_mm,
            str(self.attrs.get("voxel_size_source", "the store")),
            self.frame_time_ms,
            str(self.attrs.get("frame_time_source", "the store")),
        )


@contextmanager
def create_store(path: str | PathLike[str], split_scheme: str = "") -> Iterator[tuple[Path, dict[str, MouseEntry]]]:
    """Create a store at ``path``: yield a folder to write mice into and a dict for their entries.

    The store appears at ``path`` when the block ends. A failed write leaves nothing behind; leftovers of a
    killed process are removed by the next write. Raises :class:`OutputError` if ``path`` exists.
    """
    target = Path(path).absolute()
    if target.suffix == ".zip":
        raise CacheError(
            f"{target.name} would be a folder, not a zip file.",
            "a name such as mice.zarr",
            "pack it afterwards: cd mice.zarr && zip -0 -r ../mice.zip .",
        )
    with ExitStack() as stack:
        stack.enter_context(try_lock(get_cache_root() / "convert", str(target.resolve())))
        remove_leftovers(target.parent, target.name)
        entries: dict[str, MouseEntry] = {}
        partial = stack.enter_context(atomic_folder(target))
        yield partial, entries
        write_index(partial, entries, split_scheme)


def write_mouse(folder: Path, mouse: str, ds: xr.Dataset, source: Mapping[str, Any] | None = None) -> MouseEntry:
    """Write one mouse below ``folder`` as the group ``mouse``, replacing an older one; return its entry.

    The entry is also stored in the group's attributes, so that the index can be rebuilt.
    """
    with atomic_folder(folder / mouse, overwrite=True) as partial:
        group = zarr.create_group(partial, zarr_format=3, attributes=dict(ds.attrs))
        stored = {}
        for name in (v for v in (IMAGE, MASK) if v in ds):
            data = ds[name]
            array = group.create_array(
                name,
                shape=data.shape,
                dtype=data.dtype,
                chunks=(1, *data.shape[1:]),
                shards=data.shape,
                compressors=CODECS,
                dimension_names=DIMS,
                attributes=dict(data.attrs),
                config={"write_empty_chunks": True},  # so that a missing shard is known to be lost
            )
            array[...] = data.values
            stored[name] = (partial / name / SHARD_PATH).stat().st_size
        entry = MouseEntry.from_dataset(ds, source or {}, stored)
        group.attrs[STORE_FORMAT] = add_checksum(asdict(entry))
        with warnings.catch_warnings():  # not in the v3 specification yet; readers that know it save requests
            warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata")
            zarr.consolidate_metadata(partial)
    return entry


def write_index(folder: Path, entries: Mapping[str, MouseEntry], split_scheme: str = "") -> None:
    """Write the root group's metadata with the index, atomically."""
    attributes = {
        "format": STORE_FORMAT,
        "format_version": STORE_VERSION,
        "split_scheme": split_scheme,
        "mice": {name: asdict(entry) for name, entry in entries.items()},
    }
    root = {"zarr_format": 3, "node_type": "group", "attributes": add_checksum(attributes)}
    write_text(folder / INDEX_FILE, json.dumps(root))


def parse_index(attributes: Mapping[str, Any], location: str) -> dict[str, MouseEntry]:
    """Return the entries in a root group's attributes; FileLayoutError if they are not of this format."""
    try:
        version = attributes["format_version"]
        if attributes["format"] != STORE_FORMAT or version not in READABLE_VERSIONS:
            raise ValueError(f"{attributes['format']} {version}")
        if version != 1 and not has_checksum(attributes):
            raise ValueError("its index is damaged: it does not have its checksum")
        if bad := [name for name in attributes["mice"] if not is_file_name(name)]:
            raise ValueError(f"the mouse name {bad[0]!r}")
        return {name: MouseEntry.from_dict(table) for name, table in attributes["mice"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FileLayoutError(
            f"{location} is not a store of this library ({e}).",
            f"a Zarr v3 store with the format {STORE_FORMAT}, version {join_names(READABLE_VERSIONS)}",
            f"{WRITE_COMMAND}  makes one",
        ) from e


def build_from_entry(
    entry: MouseEntry,
    image: LazyArray,
    mask: LazyArray | None,
    sizes: PhysicalSizes,
    attrs: Mapping[str, Any],
    stored_phases: bool = True,
) -> xr.Dataset:
    """Return the dataset that ``entry`` describes, with these arrays, and with its phases or those by today's rule."""
    phases = np.array(entry.phases, PHASE_DTYPE) if stored_phases else None
    return build_dataset(image, mask, entry.labelled_frames, sizes, {**entry.attrs, **attrs}, phases)


@dataclass(frozen=True)
class ZarrSource:
    """A store of this library: a folder, a .zip file or a URL. A source and its opener
    (:mod:`mousecmr_data.dataset.source`)."""

    location: str
    options: StorageOptions = NO_OPTIONS

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The root group's attributes; takes one read of one small file."""
        try:
            root = zarr.open_group(open_store(self.location, self.options), mode="r", zarr_format=3)
        except MouseCMRError:
            raise
        except Exception as e:  # a remote file system may raise anything
            local = [Path(self.location), Path(self.location) / INDEX_FILE]
            check_access(e, *(path for path in local if os.path.lexists(path)))
            raise FileLayoutError(
                f"{self.location} cannot be opened: {type(e).__name__}: {e}",
                "a store written by `mousecmr convert`",
                "check the address, which must not include the name of a mouse; copy the store again if it is damaged",
            ) from e
        return dict(root.attrs)

    @cached_property
    def rows(self) -> dict[str, MouseEntry]:
        """The index: one entry per mouse."""
        return parse_index(self.attributes, self.location)

    @property
    def name(self) -> str:
        """The name of the source that the store was made from."""
        return str(next(iter(self.rows.values())).attrs["source"]) if self.rows else "empty store"

    @property
    def version(self) -> str:
        return str(next(iter(self.rows.values())).attrs["version"]) if self.rows else "none"

    @property
    def synthetic(self) -> bool:
        return any(bool(entry.attrs.get("synthetic")) for entry in self.rows.values())

    @cached_property
    def manifest(self) -> Manifest:
        """A manifest of the store's content, with the splits it was written with."""
        splits: dict[str, tuple[str, ...]] = {}
        for mouse, entry in self.rows.items():
            split = str(entry.attrs.get("split", "none"))
            if split != "none":
                splits[split] = (*splits.get(split, ()), mouse)
        scheme = str(self.attributes.get("split_scheme") or "")
        return Manifest(
            name=self.name,
            title=f"Zarr store {self.location}",
            version=self.version,
            url="",
            homepage="",
            licence="as the source's",
            synthetic=self.synthetic,
            files={m: FileEntry(m, m) for m in self.rows},
            splits={scheme: SplitScheme(scheme, "", "", splits, {})} if scheme and splits else {},
            groups=(),
            stack=None,
            acquisition={},
            counts={},
            weights={},
            published=None,
            known_issues=(),
            source=self.location,
        )

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        entry = self.rows[mouse]
        image, mask = (
            ZarrArray(self.location, f"{mouse}/{name}", entry.shape, dtype, self.options)
            for name, dtype in DTYPES.items()
        )
        return build_from_entry(entry, image, mask if entry.has_mask else None, entry.get_sizes(), attrs)

    def get_path(self, mouse: str) -> Path:
        return Path(self.location) / mouse

    def get_address(self, mouse: str) -> str:
        return f"{self.location}/{mouse}"

    def prepare(self, mice: Iterable[str]) -> None:
        """Do nothing: a store is complete."""

    def check_file(self, mouse: str) -> None:
        """Do nothing: a store's arrays are checked when they are read."""

    def summarize(self, mouse: str) -> MouseSummary:
        entry = self.rows[mouse]
        return make_summary(entry.shape, entry.labelled_frames, entry.phases)

    def get_phenotype(self, mouse: str) -> str:
        return str(self.rows[mouse].attrs["phenotype"])

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(mice, "remote store" if "://" in self.location else "local store")
