"""The cache's record: what was verified in a folder, so that loading need not hash 130 files.

A stamp holds the size and modification time at which the bytes had the recorded checksums. It is
trusted while both are unchanged and the checksums are still those of the manifest. The record is
also where SHA-256 and size are kept on first arrival: ``mousecmr lock export`` prints them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mousecmr_data.files import lock
from mousecmr_data.files.cache import RECORD
from mousecmr_data.files.digest import Sums
from mousecmr_data.schema.manifest import FileEntry

FORMAT = 1


@dataclass(frozen=True)
class Stamp:
    """One verified file."""

    size: int
    mtime_ns: int
    sha256: str
    git_blob_sha1: str

    @property
    def sums(self) -> Sums:
        """The checksums alone."""
        return Sums(self.size, self.sha256, self.git_blob_sha1)

    def holds(self, entry: FileEntry, stat: os.stat_result) -> bool:
        """Whether the file is as it was when verified, and verified against these checksums."""
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns) and self.sums.agree(entry)


def stamp(stat: os.stat_result, sums: Sums) -> Stamp:
    """The stamp of a file that was verified. ``stat`` is from before its bytes were read: a change
    while they were read must not get a stamp."""
    return Stamp(sums.size, stat.st_mtime_ns, sums.sha256, sums.git_blob_sha1)


def read(folder: Path) -> dict[str, Stamp]:
    """The stamps of a folder by path. A record that is absent or damaged is an empty one: it costs a hash."""
    try:
        table = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if table["format"] != FORMAT:
            return {}
        return {str(path): Stamp(**row) for path, row in table["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def update(folder: Path, stamps: Mapping[str, Stamp], forget: Iterable[str] = ()) -> bool:
    """Merge stamps into the record, atomically and with regard to other processes.

    Returns False where the folder cannot be written (a shared read-only cache, a full disk): the
    files are none the worse for it, they are hashed again next time.
    """
    try:
        with lock.of(folder, RECORD):
            merged = {**read(folder), **stamps}
            for path in forget:
                merged.pop(path, None)
            table = {"format": FORMAT, "files": {p: asdict(merged[p]) for p in sorted(merged)}}
            write_text(folder / RECORD, json.dumps(table, indent=1) + "\n")
    except OSError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new text, never a half of it.

    The caller holds a lock, so the temporary name can be a fixed one: a killed process leaves at most
    one, and the next writer takes it over.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)
