"""Places: where the files of a dataset version lie on this disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from pooch import os_cache

from mousecmr_data._utils.checksums import Checksums
from mousecmr_data._utils.json import write_json
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

CACHE_VARIABLE = "MOUSECMR_CACHE"
LOCKFILE = "mousecmr-lock.json"


def get_cache_root(cache: str | Path | None = None) -> Path:
    """The cache's root: ``cache``, else the variable ``MOUSECMR_CACHE``, else the OS's cache place."""
    chosen = cache or os.environ.get(CACHE_VARIABLE)
    place = Path(chosen) if chosen else Path(os_cache("mousecmr"))
    return place.expanduser().absolute()


def get_dataset_folder(manifest: Manifest, cache: str | Path | None = None) -> Path:
    """The folder of this dataset version. It has the layout of the manifest's paths, so it can serve as
    another machine's mirror."""
    return get_cache_root(cache) / manifest.name / manifest.version[:12]


def get_file_path(manifest: Manifest, entry: FileEntry, cache: str | Path | None = None) -> Path:
    """Where the file of ``entry`` lies, or would lie."""
    return get_dataset_folder(manifest, cache) / entry.path


def get_weights_folder(weights: Weights, cache: str | Path | None = None) -> Path:
    """The folder of one weights file. Keyed by content: the same weights serve every dataset version."""
    return get_cache_root(cache) / "weights" / weights.name / weights.sha256[:12]


def make_weights_entry(weights: Weights) -> FileEntry:
    """The weights as an entry of :func:`weights_folder`: by its file's name alone."""
    return FileEntry(weights.name, PurePosixPath(weights.path).name, None, weights.sha256, weights.size)


# MERGED download.cache: The cache's record: what was verified in a folder, so that loading need not hash 130 files.
#
# A stamp holds the size and modification time at which the bytes had the recorded checksums. It is
# trusted while both are unchanged and the checksums are still those of the manifest. The record is
# also where SHA-256 and size are kept on first arrival: ``mousecmr lock export`` prints them.


LOCKFILE_FORMAT = 1


@dataclass(frozen=True)
class LockEntry:
    """One verified file."""

    size: int
    mtime_ns: int
    sha256: str
    git_blob_sha1: str

    @property
    def to_checksums(self) -> Checksums:
        """The checksums alone."""
        return Checksums(self.size, self.sha256, self.git_blob_sha1)

    def matches_file(self, entry: FileEntry, stat: os.stat_result) -> bool:
        """Whether the file is as it was when verified, and verified against these checksums."""
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns) and self.to_checksums.matches(entry)


def make_lock_entry(stat: os.stat_result, sums: Checksums) -> LockEntry:
    """The stamp of a file that was verified. ``stat`` is from before its bytes were read: a change
    while they were read must not get a stamp."""
    return LockEntry(sums.size, stat.st_mtime_ns, sums.sha256, sums.git_blob_sha1)


def read_lockfile(folder: Path) -> dict[str, LockEntry]:
    """The stamps of a folder by path. A record that is absent or damaged is an empty one: it costs a hash."""
    try:
        table = json.loads((folder / LOCKFILE).read_text(encoding="utf-8"))
        if table["format"] != LOCKFILE_FORMAT:
            return {}
        return {str(path): LockEntry(**row) for path, row in table["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def update_lockfile(folder: Path, stamps: Mapping[str, LockEntry], forget: Iterable[str] = ()) -> bool:
    """Merge stamps into the record, atomically and with regard to other processes.

    Returns False where the folder cannot be written (a shared read-only cache, a full disk): the
    files are none the worse for it, they are hashed again next time.
    """
    try:
        with hold_lock(folder, LOCKFILE):
            merged = {**read_lockfile(folder), **stamps}
            for path in forget:
                merged.pop(path, None)
            table = {"format": LOCKFILE_FORMAT, "files": {p: asdict(merged[p]) for p in sorted(merged)}}
            write_json(folder / LOCKFILE, table)
    except OSError:
        return False
    return True


# MERGED download.cache: What a cache knows of each file, in the columns of a manifest's ``files.csv``.


def export_lock_rows(manifest: Manifest, cache: str | Path | None = None) -> list[dict[str, str | int]]:
    """A row a mouse: the manifest's own, with SHA-256 and size filled in where this cache verified the file."""
    stamps = read_lockfile(get_dataset_folder(manifest, cache))
    table: list[dict[str, str | int]] = []
    for entry in manifest.files.values():
        stamp = stamps.get(entry.path)
        known = stamp.to_checksums if stamp and stamp.to_checksums.matches(entry) else None
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


# MERGED download.cache: The state of files, told from stamps without hashing.


class FileStatus(StrEnum):
    """What is known of a file without reading it."""

    VERIFIED = "verified"
    """Its checksum matched, and neither its size nor its modification time changed since."""
    UNVERIFIED = "unverified"
    """It is there, but nobody checked it since it came or changed."""
    MISSING = "missing"


def select_entries(manifest: Manifest, mice: Iterable[str] | str | None = None) -> dict[str, FileEntry]:
    """The entries of ``mice`` (all where None) in the order asked for; UnknownNameError for others."""
    if mice is None:
        return dict(manifest.files)
    names = [mice] if isinstance(mice, str) else list(dict.fromkeys(mice))
    if unknown := [n for n in names if n not in manifest.files]:
        known = list(manifest.files)
        raise UnknownNameError(
            f"{manifest.name} has no mouse {', '.join(map(repr, unknown[:5]))}{' …' if unknown[5:] else ''}.",
            f"one of its {len(known)} mice, {known[0]!r} … {known[-1]!r}",
            "mousecmr info",
        )
    return {n: manifest.files[n] for n in names}


def get_file_statuses(
    manifest: Manifest, mice: Iterable[str] | str | None = None, cache: str | Path | None = None
) -> dict[str, FileStatus]:
    """The state of each mouse's file, in milliseconds: sizes and times are compared, nothing is hashed."""
    return get_entry_statuses(get_dataset_folder(manifest, cache), select_entries(manifest, mice))


def get_entry_statuses(place: Path, entries: dict[str, FileEntry]) -> dict[str, FileStatus]:
    """The states of the files of ``entries`` below the folder ``place``."""
    stamps = read_lockfile(place)
    return {name: _get_status(place / e.path, e, stamps.get(e.path)) for name, e in entries.items()}


def _get_status(path: Path, entry: FileEntry, known: LockEntry | None) -> FileStatus:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileStatus.MISSING
    return FileStatus.VERIFIED if known and known.matches_file(entry, stat) else FileStatus.UNVERIFIED
