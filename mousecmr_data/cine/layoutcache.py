"""The layout cache: mice that were read once, kept as a Zarr store that reads many times faster.

The files' own layout (row, column, slice, frame) spreads a slice over the whole file. A mouse whose images
are read is converted, once, and read from the store from then on. A converted mouse is used only while it
was made from the file that is there: same size and modification time, or else the same SHA-256. Where the
cache cannot be written, the file is read instead.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray
from xarray.core import indexing

from mousecmr_data.cine import store
from mousecmr_data.cine.lazy import Key, LazyArray
from mousecmr_data.cine.mouse import Parts
from mousecmr_data.cine.store import Row
from mousecmr_data.cine.zarrarray import StoreArray
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.facts import layout
from mousecmr_data.files import lock

NAME = f"zarr-{store.FORMAT_VERSION}"


@dataclass(frozen=True)
class LayoutCache:
    """The store that belongs to the files of one dataset version."""

    folder: Path

    def row(self, mouse: str, file: Path) -> Row | None:
        """The row of a converted mouse, if it was made from ``file`` as it is now."""
        found = self.rows().get(mouse) or self._own_row(mouse)
        return found if found and _is_of(found, file) else None

    def rows(self) -> dict[str, Row]:
        """The index; empty where there is none."""
        path = self.folder / store.INDEX
        try:
            stat = path.stat()
        except OSError:
            return {}
        return _index(path, stat.st_mtime_ns, stat.st_size)

    def convert(self, parts: Parts) -> Row:
        """Convert a mouse unless it is converted; processes that ask for the same mouse wait for one."""
        mouse = str(parts.attrs["mouse"])
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock.of(self.folder, mouse):
            done = self.row(mouse, parts.path)
            if done is None:
                for leftover in self.folder.glob(f".{mouse}.*"):  # of a process that was killed: we hold the lock
                    shutil.rmtree(leftover, ignore_errors=True)
                source = _source(parts.path)
                done = store.write_mouse(self.folder, mouse, parts.dataset(), source)
            if self.rows().get(mouse) != done:
                with lock.of(self.folder, store.INDEX):
                    store.write_index(self.folder, {**self.rows(), mouse: done})
        return done

    def _own_row(self, mouse: str) -> Row | None:
        """The row in the mouse's own group: of a process that ended before it could write the index."""
        try:
            text = (self.folder / mouse / store.INDEX).read_text(encoding="utf-8")
            return store.parse_row(json.loads(text)["attributes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class CachedArray(LazyArray):
    """The images of a mouse that is converted when they are first read."""

    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER_1VECTOR

    def __init__(self, parts: Parts, cache: LayoutCache) -> None:
        self.parts, self.cache = parts, cache
        self.shape, self.dtype = parts.image.shape, parts.image.dtype

    def read(self, key: Key) -> NDArray[Any]:
        """Read from the store, which is made if need be; from the file where that is not possible."""
        try:
            row = self.cache.convert(self.parts)
            path = f"{self.parts.attrs['mouse']}/{layout.IMAGE}"
            return StoreArray(str(self.cache.folder), path, row.shape, self.dtype.str).read(key)
        except OSError:  # a read-only or full cache
            return self.parts.image.read(key)


_indexes: dict[Path, tuple[int, int, dict[str, Row]]] = {}


def _index(path: Path, mtime_ns: int, size: int) -> dict[str, Row]:
    """The parsed index; kept until the file changes."""
    known = _indexes.get(path)
    if known is None or known[:2] != (mtime_ns, size):
        try:
            attributes = json.loads(path.read_text(encoding="utf-8"))["attributes"]
            known = (mtime_ns, size, store.parse_index(attributes, str(path)))
        except (OSError, ValueError, KeyError, FileLayoutError):
            return {}
        _indexes[path] = known
    return known[2]


def _source(file: Path) -> dict[str, Any]:
    stat = file.stat()
    return {"sha256": _sha256(file), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _is_of(row: Row, file: Path) -> bool:
    try:
        stat = file.stat()
    except OSError:
        return False
    if (row.source.get("size"), row.source.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns):
        return True
    return row.source.get("size") == stat.st_size and row.source.get("sha256") == _sha256(file)


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
