"""What a cohort needs to know of the place its mice come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import xarray as xr
import zarr

from mousecmr_data.dataset.hdf5 import HDF5Array, MouseParts, read_header, read_parts
from mousecmr_data.dataset.layout_cache import CachedArray, LayoutCache
from mousecmr_data.dataset.model import read_phases, resolve_sizes
from mousecmr_data.dataset.zarr_store import (
    NO_OPTIONS,
    MouseEntry,
    StorageOptions,
    build_from_entry,
    is_url,
    open_store_mouse,
    parse_index,
)
from mousecmr_data.dataset.zarr_store import open_store as zarr_store
from mousecmr_data.download.cache import get_file_path, get_file_statuses
from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.schema.manifest import FileEntry, Manifest, SplitScheme
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import IMAGE, MASK, MASKS, NOT_PUBLISHED


class Summary(Protocol):
    """A mouse in numbers."""

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
    """A mouse in numbers, read from its file."""

    n_slices: int
    n_frames: int
    labelled_frames: tuple[int, ...]
    ed_frame: int | None
    es_frame: int | None


class Source(Protocol):
    """Where mice come from: files on disk, a phantom, a store. Implementations pickle."""

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
        """Whether everything from here is synthetic."""

    def get_path(self, mouse: str) -> Path:
        """The path of the mouse's HDF5 file, whether or not it is there yet."""

    def get_address(self, mouse: str) -> str:
        """Path or URL of the mouse, for people."""

    def prepare(self, mice: Iterable[str]) -> None:
        """Make sure that the files of ``mice`` are there."""

    def summarize(self, mouse: str) -> Summary:
        """The mouse in numbers, without reading its images."""

    def get_phenotype(self, mouse: str) -> str:
        """The mouse's group, or "not published"."""

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """The state of each file in a word: verified, unverified, missing, ..."""


def summarize_file(path: Path) -> MouseSummary:
    """The summary of an HDF5 file; reads masks only where the ED/ES rule has a choice."""
    outline = read_header(path)
    shape = (outline.n_frames, outline.n_slices, *outline.shape_yx)
    labelled = outline.labelled_frames
    names = read_phases(HDF5Array(path, MASKS, shape, "uint8"), labelled).tolist()
    return MouseSummary(
        outline.n_slices,
        outline.n_frames,
        labelled,
        names.index(ED) if ED in names else None,
        names.index(ES) if ES in names else None,
    )


# MERGED dataset.source: Mice that are files of a manifest, in the cache of ``files``.


@dataclass(frozen=True)
class FileSource:
    """The files of ``manifest`` below ``cache_root`` (None: the default place)."""

    manifest: Manifest
    cache_root: Path | None = None

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The manifest's version."""
        return self.manifest.version

    @property
    def synthetic(self) -> bool:
        """Whether the manifest says that its data are synthetic."""
        return self.manifest.synthetic

    def get_path(self, mouse: str) -> Path:
        """Where the mouse's file lies."""
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def get_address(self, mouse: str) -> str:
        """The path, for people."""
        return str(self.get_path(mouse))

    def prepare(self, mice: Iterable[str]) -> None:
        """Files are there since ``load``; a file deleted meanwhile is an error when it is opened."""

    def summarize(self, mouse: str) -> MouseSummary:
        """The mouse in numbers, from its file."""
        return summarize_file(self.get_path(mouse))

    def get_phenotype(self, mouse: str) -> str:  # noqa: ARG002 (of the protocol)
        """Not published, for any mouse."""
        return NOT_PUBLISHED

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """What is known of each file without hashing it."""
        return {k: str(v) for k, v in get_file_statuses(self.manifest, list(mice), self.cache_root).items()}


# MERGED dataset.source: How a cohort opens a mouse: from its file, through the layout cache or not, or from a store.


class Opener(Protocol):
    """Opens a mouse by name."""

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """The lazy dataset of ``mouse`` with ``attrs`` in addition."""


@dataclass(frozen=True)
class FileOpener:
    """Opens the files of ``source``, through ``layouts`` if given."""

    source: Source
    layouts: LayoutCache | None

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """From the layout cache where the mouse is converted, else from its file.

        The cache gives pixels and phases. Physical sizes that are not the file's own are the manifest's, as
        it is now.
        """
        if self.layouts is None:
            return self.read_parts(mouse).to_dataset(attrs)
        row = self.layouts.find_entry(mouse, self.source.get_path(mouse))
        if row is None:
            found = self.read_parts(mouse)
            return replace(found, image=self._make_cached_array(mouse, IMAGE, found.image.shape)).to_dataset(attrs)
        mask = self._make_cached_array(mouse, MASK, row.shape) if row.has_mask else None
        synthetic = bool(row.attrs["synthetic"]) or self.source.synthetic
        sizes = resolve_sizes(row.get_own_sizes(), manifest=self.source.manifest)
        image = self._make_cached_array(mouse, IMAGE, row.shape)
        return build_from_entry(row, image, mask, sizes, {**attrs, "synthetic": synthetic})

    def _make_cached_array(self, mouse: str, name: str, shape: tuple[int, ...]) -> CachedArray:
        assert self.layouts is not None  # noqa: S101 (the caller looked)
        return CachedArray(
            self.layouts, mouse, self.source.get_path(mouse), partial(self.read_parts, mouse), name, shape
        )

    def read_parts(self, mouse: str) -> MouseParts:
        """The parts of the mouse's file."""
        return read_parts(
            self.source.get_path(mouse),
            mouse=mouse,
            source=self.source.name,
            version=self.source.version,
            manifest=self.source.manifest,
        )


@dataclass(frozen=True)
class ZarrSource:
    """A store of this library: a folder, a .zip file or a URL. Both a source and its opener."""

    location: str
    options: StorageOptions = NO_OPTIONS

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The root group's attributes: one read of one small file."""
        try:
            root = zarr.open_group(zarr_store(self.location, self.options), mode="r", zarr_format=3)
        except MouseCMRError:
            raise
        except Exception as e:  # what a file system far away may raise, nobody knows
            raise FileLayoutError(
                f"{self.location} cannot be opened: {type(e).__name__}: {e}",
                "a store written by `mousecmr convert`",
                "check the address; it ends before the mice's names",
            ) from e
        return dict(root.attrs)

    @cached_property
    def rows(self) -> dict[str, MouseEntry]:
        """The index."""
        return parse_index(self.attributes, self.location)

    @property
    def name(self) -> str:
        """The name of the source that the store was made from."""
        return str(next(iter(self.rows.values())).attrs["source"]) if self.rows else "empty store"

    @property
    def version(self) -> str:
        """Version of the data."""
        return str(next(iter(self.rows.values())).attrs["version"]) if self.rows else "none"

    @property
    def synthetic(self) -> bool:
        """Whether any mouse is synthetic."""
        return any(bool(row.attrs.get("synthetic")) for row in self.rows.values())

    @cached_property
    def manifest(self) -> Manifest:
        """A manifest of what is in the store, with the splits it was written with."""
        splits: dict[str, list[str]] = {}
        for mouse, row in self.rows.items():
            if row.attrs.get("split", "none") != "none":
                splits.setdefault(str(row.attrs["split"]), []).append(mouse)
        scheme = str(self.attributes.get("split_scheme") or "")
        schemes = {scheme: SplitScheme(scheme, "", "", {k: tuple(v) for k, v in splits.items()}, {})}
        return Manifest(
            name=self.name,
            title=f"Zarr store {self.location}",
            version=self.version,
            url="",
            homepage="",
            licence="as the source's",
            synthetic=self.synthetic,
            files={m: FileEntry(m, m) for m in self.rows},
            splits=schemes if scheme and splits else {},
            groups=(),
            stack=None,
            acquisition={},
            counts={},
            weights={},
            published=None,
            known_issues=(),
        )

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """The lazy dataset of ``mouse``."""
        return open_store_mouse(self.location, mouse, self.rows[mouse], attrs, self.options)

    def get_path(self, mouse: str) -> Path:
        """The mouse's group."""
        return Path(self.location) / mouse

    def get_address(self, mouse: str) -> str:
        """Folder or URL of the mouse's group."""
        return f"{self.location}/{mouse}"

    def prepare(self, mice: Iterable[str]) -> None:
        """Everything is there."""

    def summarize(self, mouse: str) -> MouseSummary:
        """The mouse in numbers, from the index."""
        row = self.rows[mouse]
        ed, es = (row.phases.index(p) if p in row.phases else None for p in (ED, ES))
        return MouseSummary(row.shape[1], row.shape[0], row.labelled_frames, ed, es)

    def get_phenotype(self, mouse: str) -> str:
        """The group that was stored."""
        return str(self.rows[mouse].attrs["phenotype"])

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Where the mice are."""
        return dict.fromkeys(mice, "remote store" if is_url(self.location) else "local store")
