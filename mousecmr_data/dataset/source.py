"""Sources of mice (files of a manifest, a Zarr store) and how a cohort opens them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import xarray as xr
import zarr

from mousecmr_data._utils.reading import check_access
from mousecmr_data.dataset.hdf5 import HDF5Array, MouseParts, read_header, read_parts
from mousecmr_data.dataset.layout_cache import DTYPES, CachedArray, LayoutCache
from mousecmr_data.dataset.model import read_phases, resolve_sizes
from mousecmr_data.dataset.zarr_store import (
    INDEX_FILE,
    NO_OPTIONS,
    MouseEntry,
    StorageOptions,
    ZarrArray,
    build_from_entry,
    open_store,
    parse_index,
)
from mousecmr_data.download.cache import get_file_path, get_file_statuses
from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.schema.manifest import FileEntry, Manifest, SplitScheme
from mousecmr_data.schema.variables import ED, ES, IMAGE, MASK, MASKS, NOT_PUBLISHED


class Summary(Protocol):
    """The sizes and labelled frames of a mouse."""

    @property
    def n_slices(self) -> int: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def labelled_frames(self) -> tuple[int, ...]: ...
    @property
    def ed_frame(self) -> int | None: ...
    @property
    def es_frame(self) -> int | None: ...


@dataclass(frozen=True)
class MouseSummary:
    """The :class:`Summary` of a mouse of a file or store."""

    n_slices: int
    n_frames: int
    labelled_frames: tuple[int, ...]
    ed_frame: int | None
    es_frame: int | None


class Source(Protocol):
    """A source of mice: files on disk, a phantom or a store. Implementations can be pickled."""

    @property
    def name(self) -> str:
        """The source's name, as given to ``load(source=...)``."""

    @property
    def version(self) -> str:
        """Version of the data."""

    @property
    def manifest(self) -> Manifest:
        """Splits, constants and checksums that belong to the data."""

    @property
    def synthetic(self) -> bool:
        """Whether all data of this source are synthetic."""

    def get_path(self, mouse: str) -> Path:
        """Return the path of the mouse's HDF5 file, whether or not it exists yet."""

    def get_address(self, mouse: str) -> str:
        """Return the path or URL of the mouse, for display."""

    def prepare(self, mice: Iterable[str]) -> None:
        """Make sure that the files of ``mice`` exist."""

    def check_file(self, mouse: str) -> None:
        """Check the mouse's file when it is about to be read, where it was not verified when it arrived."""

    def summarize(self, mouse: str) -> Summary:
        """Return the sizes and labelled frames of the mouse, without reading its images."""

    def get_phenotype(self, mouse: str) -> str:
        """Return the mouse's group, or "not published"."""

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Return the state of each file in one word: verified, unverified, missing, ..."""


@dataclass(frozen=True)
class FileSource:
    """The files of ``manifest`` in the cache below ``cache_root`` (None: the default folder); see :class:`Source`."""

    manifest: Manifest
    cache_root: Path | None = None

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def synthetic(self) -> bool:
        return self.manifest.synthetic

    def get_path(self, mouse: str) -> Path:
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def get_address(self, mouse: str) -> str:
        return str(self.get_path(mouse))

    def prepare(self, mice: Iterable[str]) -> None:
        """Do nothing: ``load`` fetched the files; a file deleted since is an error when it is opened."""

    def check_file(self, mouse: str) -> None:
        """Do nothing: ``load`` verified the files."""

    def summarize(self, mouse: str) -> MouseSummary:
        """Return the summary of the mouse's file; reads masks only where the ED/ES rule has a choice."""
        path = self.get_path(mouse)
        header = read_header(path)
        phases = read_phases(
            HDF5Array(path, MASKS, header.shape, "uint8", axes=header.axes), header.labelled_frames
        ).tolist()
        return _make_summary(header.shape, header.labelled_frames, phases)

    def get_phenotype(self, mouse: str) -> str:  # noqa: ARG002 (of the protocol)
        return NOT_PUBLISHED

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        return {k: str(v) for k, v in get_file_statuses(self.manifest, list(mice), self.cache_root).items()}


def _make_summary(shape: Sequence[int], labelled_frames: tuple[int, ...], phases: Sequence[str]) -> MouseSummary:
    ed, es = (phases.index(p) if p in phases else None for p in (ED, ES))
    return MouseSummary(shape[1], shape[0], labelled_frames, ed, es)


class Opener(Protocol):
    """Opens a mouse by name."""

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """Return the lazy dataset of ``mouse`` with ``attrs`` in addition."""


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


@dataclass(frozen=True)
class ZarrSource:
    """A store of this library: a folder, a .zip file or a URL. It is a :class:`Source` and its :class:`Opener`."""

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
        return _make_summary(entry.shape, entry.labelled_frames, entry.phases)

    def get_phenotype(self, mouse: str) -> str:
        return str(self.rows[mouse].attrs["phenotype"])

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(mice, "remote store" if "://" in self.location else "local store")
