"""Mice that are files of a manifest, in the cache of ``files``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mousecmr_data.cine.source import FileSummary, summarise
from mousecmr_data.download.cache import get_file_path, get_file_statuses
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED


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

    def file(self, mouse: str) -> Path:
        """Where the mouse's file lies."""
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def address(self, mouse: str) -> str:
        """The path, for people."""
        return str(self.file(mouse))

    def ready(self, mice: Iterable[str]) -> None:
        """Files are there since ``load``; a file deleted meanwhile is an error when it is opened."""

    def summary(self, mouse: str) -> FileSummary:
        """The mouse in numbers, from its file."""
        return summarise(self.file(mouse))

    def phenotype(self, mouse: str) -> str:  # noqa: ARG002 (of the protocol)
        """Not published, for any mouse."""
        return NOT_PUBLISHED

    def states(self, mice: Iterable[str]) -> Mapping[str, str]:
        """What is known of each file without hashing it."""
        return {k: str(v) for k, v in get_file_statuses(self.manifest, list(mice), self.cache_root).items()}
