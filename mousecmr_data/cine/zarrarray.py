"""Arrays of a Zarr store, on disk or far away, opened when they are first read."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from xarray.core import indexing
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from mousecmr_data.cine import shard
from mousecmr_data.cine.lazy import Key, LazyArray
from mousecmr_data.cine.shard import Shard
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError

SHARD = "c/0/0/0/0"
"""Where an array's only shard lies below it."""
_MISSING = f"its data, {SHARD}, are missing"


class Options(dict[str, Any]):
    """Options of an fsspec file system, nested as they may be; never changed, so they can be a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


NO_OPTIONS = Options()


def is_remote(location: str) -> bool:
    """Whether ``location`` is a URL: http(s)://, s3://, hf://, ..."""
    return "://" in location


def store(location: str, options: Options = NO_OPTIONS) -> Store:
    """The Zarr store at a local folder, a .zip file or a URL; kept open for this process."""
    return _store(location, options, os.getpid())


class StoreArray(LazyArray):
    """One array of a store; holds its address only, so it pickles and survives fork and spawn."""

    support = indexing.IndexingSupport.OUTER

    def __init__(
        self, location: str, path: str, shape: tuple[int, ...], dtype: str, options: Options = NO_OPTIONS
    ) -> None:
        self.location, self.path, self.options = location, path, options
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, key: Key) -> NDArray[Any]:
        """Read a part; axes are indexed independently of each other."""
        try:
            array, local = _array(self.location, self.path, self.options, os.getpid())
            if local is not None:
                return _frames(local, key)
            values = _read(array, key)
            # Zarr takes what is missing for zeros. Ours is always written: then zeros have to be looked into.
            if _all_zero(values) and not _is_there(self.location, self.path, self.options, os.getpid()):
                raise FileNotFoundError(_MISSING)
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


def _frames(local: Shard, key: Key) -> NDArray[Any]:
    """A part of a local shard: the frames it needs are decoded whole."""
    chosen = np.arange(local.shape[0])[key[0]]
    wanted, place = np.unique(chosen, return_inverse=True)
    try:
        values = local.frames(wanted.tolist())
    except FileNotFoundError as e:
        raise FileNotFoundError(_MISSING) from e
    if not np.array_equal(wanted, np.atleast_1d(chosen)):
        values = values[place.reshape(-1)]
    for axis in (3, 2, 1):  # from the last: an integer drops its axis
        whole = isinstance(key[axis], slice) and key[axis] == slice(None)
        values = values if whole else values[(slice(None),) * axis + (key[axis],)]
    return values[0] if np.ndim(chosen) == 0 else values


def _read(array: zarr.Array[Any], key: Key) -> NDArray[Any]:
    if not isinstance(key[0], np.ndarray):
        return np.asarray(array.oindex[key])
    # A chunk is a frame: read one by one, chosen frames cost what they are; together, they cost the mouse.
    wanted, place = np.unique(key[0], return_inverse=True)
    frames = [np.asarray(array.oindex[(int(f), *key[1:])]) for f in wanted]
    return np.stack(frames)[place] if frames else np.asarray(array.oindex[(slice(0, 0), *key[1:])])


@lru_cache(maxsize=512)
def _is_there(location: str, path: str, options: Options, pid: int) -> bool:
    if Path(location).is_dir():
        return (Path(location) / path / SHARD).is_file()
    return bool(sync(_store(location, options, pid).exists(f"{path}/{SHARD}")))


@lru_cache(maxsize=64)
def _array(location: str, path: str, options: Options, pid: int) -> tuple[zarr.Array[Any], Shard | None]:
    """The array, and its shard where that can be read directly."""
    array = zarr.open_array(_store(location, options, pid), path=path, mode="r", zarr_format=3)
    if array.shape == () or array.ndim != 4:
        raise FileLayoutError(f"{location}: {path} has the shape {array.shape}.", "four axes")
    return array, shard.of(array, Path(location) / path / SHARD) if Path(location).is_dir() else None


@lru_cache(maxsize=16)
def _store(location: str, options: Options, pid: int) -> Store:  # noqa: ARG001 (handles are not shared by processes)
    if is_remote(location):
        try:
            return FsspecStore.from_url(location, storage_options=dict(options), read_only=True)
        except ImportError as e:
            raise MissingExtraError.of(str(e.name or e), "remote") from e
    if not Path(location).exists():
        raise MissingDataError(f"There is no store {location}.", "a folder, a .zip file or a URL", "mousecmr convert")
    return ZipStore(location, mode="r") if Path(location).is_file() else LocalStore(location, read_only=True)
