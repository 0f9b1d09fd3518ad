"""Locate the files of a dataset version in the cache, and record which of them were verified."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mousecmr_data._utils.checksums import CHECKSUM_KEY, Checksums, has_checksum
from mousecmr_data._utils.environment import is_offline
from mousecmr_data._utils.journal import read_journal, update_journal
from mousecmr_data._utils.outputs import find_paths
from mousecmr_data.schema import PHANTOMS
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights, resolve_names

LOCKFILE = "mousecmr-lock.journal"
EARLIER_LOCKFILE = "mousecmr-lock.json"
"""Of releases before the journal; its records are taken over."""
NO_CACHE = Path(os.devnull) / "no-cache-folder-set-MOUSECMR_CACHE"
"""The cache's root for a user without a home: nothing is there, and an attempt to write says what to set."""
MAX_LISTED_MICE = 5
"""Most mice that a command in an error message names; it applies to all mice where more are meant."""


def get_cache_root(cache: str | Path | None = None) -> Path:
    """Return the cache's root: ``cache``, else the variable ``MOUSECMR_CACHE``, else the system's cache folder.

    It has one folder per dataset, and those of :data:`mousecmr_data.schema.manifest.RESERVED_NAMES`.
    """
    if chosen := cache or os.environ.get("MOUSECMR_CACHE"):
        return Path(chosen).expanduser().absolute()
    from pooch import os_cache  # imports requests

    try:
        root = Path(os_cache("mousecmr")).expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError):
            root.stat()
    except (RuntimeError, PermissionError):  # in containers: no HOME and a user id without a name; or another's home
        return NO_CACHE
    return root


def get_dataset_folder(manifest: Manifest, cache: str | Path | None = None) -> Path:
    """Return the folder of this dataset version; it has the manifest's layout, so it can serve as a mirror."""
    return get_cache_root(cache) / manifest.name / manifest.version[:12]


def list_input_folders(manifest: Manifest, cache: str | Path | None = None) -> list[Path]:
    """Return the folders that hold the mice of ``manifest``, or describe them: no output may lie there."""
    folders = [get_dataset_folder(manifest, cache)]
    if manifest.source and manifest.source not in PHANTOMS:
        folders += find_paths(Path(manifest.source))
    if manifest.url.startswith("file:"):
        folders.append(Path(url2pathname(urlsplit(manifest.url.partition("{path}")[0]).path)))
    return folders


def get_file_path(manifest: Manifest, entry: FileEntry, cache: str | Path | None = None) -> Path:
    """Return the path of the file of ``entry``, which need not exist."""
    return get_dataset_folder(manifest, cache) / entry.path


def get_weights_folder(weights: Weights, cache: str | Path | None = None) -> Path:
    """Return the folder of one weights file. Keyed by content: the same weights serve every dataset version."""
    return get_cache_root(cache) / "weights" / weights.name / weights.sha256[:12]


def get_own_weights_folder(cache: str | Path | None = None) -> Path:
    """Return the folder of the weights that the user tuned, each with its card."""
    return get_cache_root(cache) / "weights" / "own"


def make_weights_entry(weights: Weights) -> FileEntry:
    """Return the entry of a weights file; its path is relative to :func:`get_weights_folder`."""
    return FileEntry(weights.name, PurePosixPath(weights.path).name, None, weights.sha256, weights.size)


def make_command(words: str, manifest: Manifest, cache: str | Path | None = None) -> str:
    """Return the command ``mousecmr words`` for this dataset and this cache, to type next."""
    options = {"--source": manifest.source, "--cache": cache}
    return f"mousecmr {words}" + "".join(f" {k} {shlex.quote(str(v))}" for k, v in options.items() if v)


def make_fetch_command(manifest: Manifest, cache: str | Path | None, names: Sequence[str]) -> str:
    """Return what to type to download ``names``, which are mice and weights of ``manifest``."""
    mice = [name for name in names if name in manifest.files]
    has_weights = len(mice) < len(names)
    words = ["fetch", *(mice if len(mice) <= MAX_LISTED_MICE else [])]
    if has_weights:
        words.append("--weights" if mice else "--only-weights")
    prefix = "unset MOUSECMR_OFFLINE; " if is_offline() else ""
    return prefix + make_command(" ".join(map(shlex.quote, words)), manifest, cache)


@dataclass(frozen=True)
class LockEntry:
    """Record of one verified file: its size and modification time when its bytes had these checksums.

    It is valid while size and time are unchanged and the checksums are still those of the manifest, so that
    loading need not hash 130 files. SHA-256 and size of a downloaded file are kept only here:
    ``mousecmr lock export`` prints them.
    """

    size: int
    mtime_ns: int
    sha256: str
    git_blob_sha1: str

    @property
    def checksums(self) -> Checksums:
        """Return size and checksums without the modification time."""
        return Checksums(self.size, self.sha256, self.git_blob_sha1)

    def matches_file(self, entry: FileEntry, stat: os.stat_result) -> bool:
        """Return whether the file is unchanged since it was verified with the checksums of ``entry``."""
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns) and self.checksums.matches(entry)


def make_lock_entry(stat: os.stat_result, checksums: Checksums) -> LockEntry:
    """Return the record of a verified file; ``stat`` is from before its bytes were read, so a change invalidates it."""
    return LockEntry(checksums.size, stat.st_mtime_ns, checksums.sha256, checksums.git_blob_sha1)


def read_lockfile(folder: Path) -> Mapping[str, LockEntry]:
    """Return the records of a folder by path; none if the lockfile is absent or damaged: files are then hashed."""
    rows = _read_rows(folder)
    return {path: record for path in rows if (record := _parse_record(rows, path))}


def _read_rows(folder: Path) -> Mapping[str, Any]:
    try:
        return read_journal(folder / LOCKFILE)
    except FileNotFoundError:
        return _read_earlier_lockfile(folder)
    except OSError:
        return {}


def _read_earlier_lockfile(folder: Path) -> dict[str, Any]:
    try:
        table = json.loads((folder / EARLIER_LOCKFILE).read_text(encoding="utf-8"))
        if table["format"] != 1 or (CHECKSUM_KEY in table and not has_checksum(table)):
            return {}
        return {str(path): astuple(LockEntry(**row)) for path, row in table["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parse_record(rows: Mapping[str, Any], path: str) -> LockEntry | None:
    with suppress(TypeError, KeyError):  # of a later release
        return LockEntry(*rows[path])
    return None


def update_lockfile(folder: Path, records: Mapping[str, LockEntry], forget: Iterable[str] = ()) -> bool:
    """Add ``records`` to the lockfile and remove those of ``forget``, safe between processes.

    Returns False if the folder is not writable (a shared read-only cache, a full disk): the files stay valid
    and are hashed again next time.
    """
    changes = {**dict.fromkeys(forget), **{path: astuple(record) for path, record in records.items()}}
    try:
        update_journal(folder / LOCKFILE, changes, lambda: _read_earlier_lockfile(folder))
        (folder / EARLIER_LOCKFILE).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def list_verified_entries(manifest: Manifest, cache: str | Path | None = None) -> list[FileEntry]:
    """Return the manifest's entries, with checksums and size filled in for files that this cache has verified."""
    records = read_lockfile(get_dataset_folder(manifest, cache))
    return [
        replace(entry, **asdict(record.checksums))
        if (record := records.get(entry.path)) and record.checksums.matches(entry)
        else entry
        for entry in manifest.files.values()
    ]


class FileStatus(StrEnum):
    """State of a file, determined without reading it."""

    VERIFIED = "verified"
    """Its checksum matched, and its size and modification time are unchanged since."""
    UNVERIFIED = "unverified"
    """It exists, but was not verified since it arrived or changed."""
    MISSING = "missing"


def select_entries(manifest: Manifest, mice: Iterable[str] | str | None = None) -> dict[str, FileEntry]:
    """Return the entries of ``mice`` (all if None) in the given order; raises UnknownNameError for other names."""
    if mice is None:
        return dict(manifest.files)
    return {n: manifest.files[n] for n in resolve_names(mice, manifest.files, allow_none=True)}


def get_file_statuses(
    manifest: Manifest, mice: Iterable[str] | str | None = None, cache: str | Path | None = None
) -> dict[str, FileStatus]:
    """Return the state of each mouse's file. Takes milliseconds: sizes and times are compared, nothing is hashed."""
    return get_entry_statuses(get_dataset_folder(manifest, cache), select_entries(manifest, mice))


def get_entry_statuses(folder: Path, entries: dict[str, FileEntry]) -> dict[str, FileStatus]:
    """Return the states of the files of ``entries`` below ``folder``."""
    rows = _read_rows(folder)
    statuses = {}
    for name, entry in entries.items():
        try:
            stat = (folder / entry.path).stat()
        except (FileNotFoundError, NotADirectoryError):
            statuses[name] = FileStatus.MISSING
            continue
        record = _parse_record(rows, entry.path)
        is_verified = record is not None and record.matches_file(entry, stat)
        statuses[name] = FileStatus.VERIFIED if is_verified else FileStatus.UNVERIFIED
    return statuses
