"""The layout cache: mice that were read once, kept as a Zarr store that reads many times faster.

The files' own layout (row, column, slice, frame) spreads a slice over the whole file. A mouse whose images
are read is converted, once, and read from the store from then on. A converted mouse is used only while it
was made from the file that is there: same size and modification time, or else the same SHA-256. Where the
cache cannot be written, the file is read instead.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xarray.core import indexing

from mousecmr_data._utils.atomic import remove_leftovers
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.dataset.hdf5 import MouseParts
from mousecmr_data.dataset.lazy import Key, LazyArray
from mousecmr_data.dataset.zarr_store import (
    INDEX_FILE,
    SHARD_PATH,
    STORE_VERSION,
    MouseEntry,
    ZarrArray,
    parse_entry,
    parse_index,
    write_index,
    write_mouse,
)
from mousecmr_data.errors import FileLayoutError, MissingDataError
from mousecmr_data.schema.variables import IMAGE, MASK

CACHE_NAME = f"zarr-{STORE_VERSION}"
DTYPES = {IMAGE: "uint16", MASK: "uint8"}


@dataclass(frozen=True)
class LayoutCache:
    """The store that belongs to the files of one dataset version."""

    folder: Path

    def find_entry(self, mouse: str, file: Path) -> MouseEntry | None:
        """The row of a converted mouse, if it is whole and was made from ``file`` as it is now."""
        found = self.read_entries().get(mouse) or self._read_own_entry(mouse)
        return found if found and self._is_whole(mouse, found) and _is_made_from(found, file) else None

    def read_entries(self) -> dict[str, MouseEntry]:
        """The index; empty where there is none."""
        path = self.folder / INDEX_FILE
        try:
            stat = path.stat()
        except OSError:
            return {}
        return _load_index(path, stat.st_mtime_ns, stat.st_size)

    def convert(self, mouse: str, file: Path, parts: Callable[[], MouseParts]) -> MouseEntry:
        """Convert a mouse unless it is converted; processes that ask for the same mouse wait for one."""
        found = self.find_entry(mouse, file)
        if found and mouse in self.read_entries():
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder, mouse):
            found = self.find_entry(mouse, file)
            if found is None:
                remove_leftovers(self.folder, mouse)
                found = write_mouse(self.folder, mouse, parts().to_dataset(), _describe_source(file))
            if self.read_entries().get(mouse) != found:
                with hold_lock(self.folder, "the index"):  # no mouse is called so
                    write_index(self.folder, {**self.read_entries(), mouse: found})
        return found

    def discard(self, mouse: str) -> None:
        """Forget a mouse that turned out to be damaged."""
        with hold_lock(self.folder, mouse):
            shutil.rmtree(self.folder / mouse, ignore_errors=True)

    def _is_whole(self, mouse: str, row: MouseEntry) -> bool:
        """Whether the data files are there, and as long as they were."""
        try:
            sizes = {name: (self.folder / mouse / name / SHARD_PATH).stat().st_size for name in row.stored}
        except OSError:
            return False
        return bool(sizes) and sizes == row.stored

    def _read_own_entry(self, mouse: str) -> MouseEntry | None:
        """The row in the mouse's own group: of a process that ended before it could write the index."""
        try:
            text = (self.folder / mouse / INDEX_FILE).read_text(encoding="utf-8")
            return parse_entry(json.loads(text)["attributes"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class CachedArray(LazyArray):
    """One variable of a mouse that is converted when it is first read, and mended when it is damaged."""

    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER_1VECTOR

    def __init__(
        self,
        cache: LayoutCache,
        mouse: str,
        file: Path,
        parts: Callable[[], MouseParts],
        name: str,
        shape: tuple[int, ...],
    ) -> None:
        self.cache, self.mouse, self.file, self.parts, self.name = cache, mouse, file, parts, name
        self.shape, self.dtype = shape, np.dtype(DTYPES[name])

    def read(self, key: Key) -> NDArray[Any]:
        """Read from the store, which is made if need be; from the file where that is not possible."""
        stored = ZarrArray(str(self.cache.folder), f"{self.mouse}/{self.name}", self.shape, DTYPES[self.name])
        try:
            self.cache.convert(self.mouse, self.file, self.parts)
            try:
                return stored.read(key)
            except (FileLayoutError, MissingDataError):
                self.cache.discard(self.mouse)
        except OSError:  # a read-only or full cache
            pass
        parts = self.parts()
        original = parts.image if self.name == IMAGE else parts.mask
        assert original is not None  # noqa: S101 (the variable exists, or nobody had made this array)
        return original.read(key)


_index_cache: dict[Path, tuple[int, int, dict[str, MouseEntry]]] = {}


def _load_index(path: Path, mtime_ns: int, size: int) -> dict[str, MouseEntry]:
    """The parsed index; kept until the file changes."""
    known = _index_cache.get(path)
    if known is None or known[:2] != (mtime_ns, size):
        try:
            attributes = json.loads(path.read_text(encoding="utf-8"))["attributes"]
            known = (mtime_ns, size, parse_index(attributes, str(path)))
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        _index_cache[path] = known
    return known[2]


def _describe_source(file: Path) -> dict[str, Any]:
    stat = file.stat()
    return {"sha256": compute_sha256(file), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _is_made_from(row: MouseEntry, file: Path) -> bool:
    try:
        stat = file.stat()
    except OSError:
        return False
    if (row.source.get("size"), row.source.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns):
        return True
    return row.source.get("size") == stat.st_size and row.source.get("sha256") == compute_sha256(file)
