"""The layout cache: a Zarr store of mice that were read once, which reads many times faster.

The files' own layout (row, column, slice, frame) spreads a slice over the whole file. A mouse is converted once,
when its images are first read, and read from the store afterwards. A converted mouse is used only while it matches
the current file: same size and modification time, or else the same SHA-256. The store has checksums
(:mod:`mousecmr_data.dataset.zarr_store`); a damaged mouse is removed and converted again. If the cache cannot be
written, the file is read instead.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import list_leftovers, remove_leftovers
from mousecmr_data._utils.checksums import compute_sha256, has_checksum, report_damage
from mousecmr_data._utils.journal import read_journal, update_journal
from mousecmr_data._utils.locks import hold_lock, report_no_locks
from mousecmr_data._utils.reading import ABSENT, make_read_error
from mousecmr_data.dataset.hdf5 import MouseParts, read_parts
from mousecmr_data.dataset.model import Key, LazyArray, resolve_sizes
from mousecmr_data.dataset.source import Source
from mousecmr_data.dataset.zarr_store import (
    DTYPES,
    INDEX_FILE,
    SHARD_PATH,
    STORE_FORMAT,
    STORE_VERSION,
    MouseEntry,
    ZarrArray,
    build_from_entry,
    parse_index,
    write_mouse,
)
from mousecmr_data.errors import FileLayoutError, LockError, MissingDataError
from mousecmr_data.schema.variables import IMAGE, MASK

CACHE_NAME = f"zarr-{STORE_VERSION}"
JOURNAL_FILE = "index.journal"
"""The index: one line per mouse. Another store has its index in the attributes of its root, which is written once."""


@dataclass(frozen=True)
class LayoutCache:
    """The store that belongs to the files of one dataset version."""

    folder: Path

    def find_entry(self, mouse: str, file: Path) -> MouseEntry | None:
        """Return the entry of a converted mouse if it is complete and was made from ``file`` as it is now."""
        entry = self.read_entry(mouse) or self._read_own_entry(mouse)
        return entry if entry and self._is_complete(mouse, entry) and _is_made_from(entry, file) else None

    def read_entry(self, mouse: str) -> MouseEntry | None:
        """Return the entry of a mouse in the index; None if there is none."""
        table = self._read_index().get(mouse)
        try:
            return MouseEntry.from_dict(table) if table else None
        except (TypeError, AttributeError):
            return None

    def read_entries(self) -> dict[str, MouseEntry]:
        """Return the index; empty if there is none."""
        return {mouse: entry for mouse in self._read_index() if (entry := self.read_entry(mouse))}

    def _read_index(self) -> Mapping[str, Any]:
        path = self.folder / JOURNAL_FILE
        try:
            return read_journal(path)
        except ABSENT:
            return self._read_earlier_index()
        except OSError as e:
            raise make_read_error(path, e) from e

    def _read_earlier_index(self) -> dict[str, Any]:
        """Return the entries of an index of an earlier release: the attributes of the store's root."""
        path = self.folder / INDEX_FILE
        try:
            entries = parse_index(json.loads(path.read_text(encoding="utf-8"))["attributes"], str(path))
            return {mouse: asdict(entry) for mouse, entry in entries.items()}
        except ABSENT:
            return {}
        except OSError as e:
            raise make_read_error(path, e) from e
        except (ValueError, KeyError, TypeError):
            report_damage(path)
            return {}

    def convert(self, mouse: str, file: Path, read_parts: Callable[[], MouseParts]) -> MouseEntry:
        """Convert a mouse unless it is converted; of processes that convert the same mouse, one works, others wait."""
        entry = self.find_entry(mouse, file)
        if entry and mouse in self._read_index():
            return entry
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder, mouse):
            entry = self.find_entry(mouse, file)
            if entry is None:
                damaged = self.read_entry(mouse)
                if damaged and _is_made_from(damaged, file):
                    report_damage(self.folder / mouse)
                if mouse in list_leftovers(self.folder):
                    remove_leftovers(self.folder, mouse)
                ds, stat = read_parts().to_dataset(), file.stat()
                source = {"sha256": compute_sha256(file), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
                entry = write_mouse(self.folder, mouse, ds, source)
            if self.read_entry(mouse) != entry:
                update_journal(self.folder / JOURNAL_FILE, {mouse: asdict(entry)}, self._read_earlier_index)
                (self.folder / INDEX_FILE).unlink(missing_ok=True)
        return entry

    def discard(self, mouse: str) -> None:
        """Remove a mouse whose data are damaged, and say so."""
        report_damage(self.folder / mouse)
        with hold_lock(self.folder, mouse):
            shutil.rmtree(self.folder / mouse, ignore_errors=True)

    def find_damage(self, mouse: str) -> str:
        """Read a converted mouse whole; return what is wrong with it, or nothing."""
        if (entry := self._read_own_entry(mouse)) is None:
            return f"its entry in {INDEX_FILE} does not have its checksum"
        if not self._is_complete(mouse, entry):
            return "a data file is missing, or has another size"
        try:
            for name in entry.stored:
                ZarrArray(str(self.folder), f"{mouse}/{name}", entry.shape, DTYPES[name]).read_all()
        except (FileLayoutError, MissingDataError) as e:
            return e.found
        return ""

    def _is_complete(self, mouse: str, entry: MouseEntry) -> bool:
        """Return whether the data files exist and have the size they were written with."""
        try:
            sizes = {name: (self.folder / mouse / name / SHARD_PATH).stat().st_size for name in entry.stored}
        except ABSENT:
            return False
        except OSError as e:
            raise make_read_error(self.folder / mouse, e) from e
        return bool(sizes) and sizes == entry.stored

    def _read_own_entry(self, mouse: str) -> MouseEntry | None:
        """Return the entry in the mouse's own group, left by a process that ended before it wrote the index."""
        try:
            text = (self.folder / mouse / INDEX_FILE).read_text(encoding="utf-8")
            table = json.loads(text)["attributes"][STORE_FORMAT]
            return MouseEntry.from_dict(table) if has_checksum(table) else None
        except (*ABSENT, ValueError, KeyError, TypeError, AttributeError):
            return None
        except OSError as e:
            raise make_read_error(self.folder / mouse / INDEX_FILE, e) from e


class CachedArray(LazyArray):
    """One variable of a mouse that is converted on first read, and converted again when it is damaged."""

    def __init__(
        self,
        cache: LayoutCache,
        mouse: str,
        file: Path,
        read_parts: Callable[[], MouseParts],
        name: str,
        shape: tuple[int, ...],
    ) -> None:
        self.cache, self.mouse, self.file, self.read_parts, self.name = cache, mouse, file, read_parts, name
        self.shape, self.dtype = shape, np.dtype(DTYPES[name])

    def read(self, key: Key) -> NDArray[Any]:
        """Return a part from the store, which is filled if needed; from the file if that is not possible."""
        stored = ZarrArray(str(self.cache.folder), f"{self.mouse}/{self.name}", self.shape, DTYPES[self.name])
        try:
            self.cache.convert(self.mouse, self.file, self.read_parts)
            try:
                return stored.read(key)
            except (FileLayoutError, MissingDataError):
                self.cache.discard(self.mouse)
        except LockError as e:
            report_no_locks(e)
        except OSError:  # a read-only or full cache, or one that the system does not let this program read now
            pass
        parts = self.read_parts()
        original = parts.image if self.name == IMAGE else parts.mask
        assert original is not None  # noqa: S101 (this array is made only where the variable exists)
        return original.read(key)


def _is_made_from(entry: MouseEntry, file: Path) -> bool:
    try:
        stat = file.stat()
    except ABSENT:
        return False
    return entry.source.get("size") == stat.st_size and (
        entry.source.get("mtime_ns") == stat.st_mtime_ns or entry.source.get("sha256") == compute_sha256(file)
    )


@dataclass(frozen=True)
class FileOpener:
    """Opens the files of ``source``, through the layout cache ``layouts`` if given."""

    source: Source
    layouts: LayoutCache | None

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """Return the dataset from the layout cache if the mouse is converted, else from its file.

        The cache provides pixels, and phases where the ED/ES rule has no choice. Physical sizes that are not stated by
        the file come from the manifest in its current state.
        """
        if self.layouts is None:
            return self.read_parts(mouse).to_dataset(attrs)
        entry = self.layouts.find_entry(mouse, self.source.get_path(mouse))
        if entry is None:
            parts = self.read_parts(mouse)
            return replace(parts, image=self._make_cached_array(mouse, IMAGE, parts.image.shape)).to_dataset(attrs)
        image = self._make_cached_array(mouse, IMAGE, entry.shape)
        mask = self._make_cached_array(mouse, MASK, entry.shape) if entry.has_mask else None
        synthetic = bool(entry.attrs["synthetic"]) or self.source.synthetic
        sizes = resolve_sizes(entry.get_own_sizes(), manifest=self.source.manifest)
        has_choice = len(entry.labelled_frames) > 2  # the cache may be older than today's rule for ES
        return build_from_entry(entry, image, mask, sizes, {**attrs, "synthetic": synthetic}, not has_choice)

    def _make_cached_array(self, mouse: str, name: str, shape: tuple[int, ...]) -> CachedArray:
        assert self.layouts is not None  # noqa: S101 (checked by the caller)
        return CachedArray(
            self.layouts, mouse, self.source.get_path(mouse), partial(self.read_parts, mouse), name, shape
        )

    def read_parts(self, mouse: str) -> MouseParts:
        source = self.source
        source.check_file(mouse)
        return read_parts(
            source.get_path(mouse), mouse=mouse, source=source.name, version=source.version, manifest=source.manifest
        )

    def convert(self, mouse: str) -> MouseEntry:
        """Convert the mouse into ``layouts``, which must be given."""
        assert self.layouts is not None  # noqa: S101 (checked by the caller)
        self.source.prepare([mouse])
        return self.layouts.convert(mouse, self.source.get_path(mouse), partial(self.read_parts, mouse))
