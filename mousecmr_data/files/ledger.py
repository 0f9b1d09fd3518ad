"""What a cache knows of each file, in the columns of a manifest's ``files.csv``."""

from __future__ import annotations

from pathlib import Path

from mousecmr_data.files import record
from mousecmr_data.files.cache import folder
from mousecmr_data.schema.manifest import Manifest


def rows(manifest: Manifest, cache: str | Path | None = None) -> list[dict[str, str | int]]:
    """A row a mouse: the manifest's own, with SHA-256 and size filled in where this cache verified the file."""
    stamps = record.read(folder(manifest, cache))
    table: list[dict[str, str | int]] = []
    for entry in manifest.files.values():
        stamp = stamps.get(entry.path)
        known = stamp.sums if stamp and stamp.sums.agree(entry) else None
        table.append(
            {
                "mouse": entry.mouse,
                "path": entry.path,
                "git_blob_sha1": entry.git_blob_sha1 or (known.git_blob_sha1 if known else ""),
                "sha256": known.sha256 if known else entry.sha256 or "",
                "size": known.size if known else entry.size or "",
            }
        )
    return table
