"""Places: where the files of a dataset version lie on this disk."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from pooch import os_cache

from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

VARIABLE = "MOUSECMR_CACHE"
RECORD = "mousecmr-lock.json"


def root(cache: str | Path | None = None) -> Path:
    """The cache's root: ``cache``, else the variable ``MOUSECMR_CACHE``, else the OS's cache place."""
    chosen = cache or os.environ.get(VARIABLE)
    place = Path(chosen) if chosen else Path(os_cache("mousecmr"))
    return place.expanduser().absolute()


def folder(manifest: Manifest, cache: str | Path | None = None) -> Path:
    """The folder of this dataset version. It has the layout of the manifest's paths, so it can serve as
    another machine's mirror."""
    return root(cache) / manifest.name / manifest.version[:12]


def place(manifest: Manifest, entry: FileEntry, cache: str | Path | None = None) -> Path:
    """Where the file of ``entry`` lies, or would lie."""
    return folder(manifest, cache) / entry.path


def weights_folder(weights: Weights, cache: str | Path | None = None) -> Path:
    """The folder of one weights file. Keyed by content: the same weights serve every dataset version."""
    return root(cache) / "weights" / weights.name / weights.sha256[:12]


def weights_entry(weights: Weights) -> FileEntry:
    """The weights as an entry of :func:`weights_folder`: by its file's name alone."""
    return FileEntry(weights.name, PurePosixPath(weights.path).name, None, weights.sha256, weights.size)
