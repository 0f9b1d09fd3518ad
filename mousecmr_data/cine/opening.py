"""How a cohort opens a mouse: from its file, through the layout cache or not, or from a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import xarray as xr
import zarr

from mousecmr_data.cine import model, store
from mousecmr_data.cine.layoutcache import CachedArray, LayoutCache
from mousecmr_data.cine.mouse import Parts, parts
from mousecmr_data.cine.source import FileSummary, Source
from mousecmr_data.cine.store import Row
from mousecmr_data.cine.zarrarray import NO_OPTIONS, Options, is_remote
from mousecmr_data.cine.zarrarray import store as zarr_store
from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.schema.manifest import FileEntry, Manifest, SplitScheme
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import IMAGE, MASK


class Opener(Protocol):
    """Opens a mouse by name."""

    def dataset(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """The lazy dataset of ``mouse`` with ``attrs`` in addition."""


@dataclass(frozen=True)
class FileOpener:
    """Opens the files of ``source``, through ``layouts`` if given."""

    source: Source
    layouts: LayoutCache | None

    def dataset(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """From the layout cache where the mouse is converted, else from its file.

        The cache gives pixels and phases. Physical sizes that are not the file's own are the manifest's, as
        it is now.
        """
        if self.layouts is None:
            return self.parts(mouse).dataset(attrs)
        row = self.layouts.row(mouse, self.source.file(mouse))
        if row is None:
            found = self.parts(mouse)
            return replace(found, image=self._cached(mouse, IMAGE, found.image.shape)).dataset(attrs)
        mask = self._cached(mouse, MASK, row.shape) if row.has_mask else None
        synthetic = bool(row.attrs["synthetic"]) or self.source.synthetic
        sizes = model.sizes(row.own_sizes(), manifest=self.source.manifest)
        image = self._cached(mouse, IMAGE, row.shape)
        return store.build(row, image, mask, sizes, {**attrs, "synthetic": synthetic})

    def _cached(self, mouse: str, name: str, shape: tuple[int, ...]) -> CachedArray:
        assert self.layouts is not None  # noqa: S101 (the caller looked)
        return CachedArray(self.layouts, mouse, self.source.file(mouse), partial(self.parts, mouse), name, shape)

    def parts(self, mouse: str) -> Parts:
        """The parts of the mouse's file."""
        return parts(
            self.source.file(mouse),
            mouse=mouse,
            source=self.source.name,
            version=self.source.version,
            manifest=self.source.manifest,
        )


@dataclass(frozen=True)
class StoreSource:
    """A store of this library: a folder, a .zip file or a URL. Both a source and its opener."""

    location: str
    options: Options = NO_OPTIONS

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
    def rows(self) -> dict[str, Row]:
        """The index."""
        return store.parse_index(self.attributes, self.location)

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

    def dataset(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """The lazy dataset of ``mouse``."""
        return store.dataset(self.location, mouse, self.rows[mouse], attrs, self.options)

    def file(self, mouse: str) -> Path:
        """The mouse's group."""
        return Path(self.location) / mouse

    def address(self, mouse: str) -> str:
        """Folder or URL of the mouse's group."""
        return f"{self.location}/{mouse}"

    def ready(self, mice: Iterable[str]) -> None:
        """Everything is there."""

    def summary(self, mouse: str) -> FileSummary:
        """The mouse in numbers, from the index."""
        row = self.rows[mouse]
        ed, es = (row.phases.index(p) if p in row.phases else None for p in (ED, ES))
        return FileSummary(row.shape[1], row.shape[0], row.labelled_frames, ed, es)

    def phenotype(self, mouse: str) -> str:
        """The group that was stored."""
        return str(self.rows[mouse].attrs["phenotype"])

    def states(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Where the mice are."""
        return dict.fromkeys(mice, "remote store" if is_remote(self.location) else "local store")
