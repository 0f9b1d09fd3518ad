"""The state of files, told from stamps without hashing."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.files import record
from mousecmr_data.files.cache import folder
from mousecmr_data.schema.manifest import FileEntry, Manifest


class FileState(StrEnum):
    """What is known of a file without reading it."""

    VERIFIED = "verified"
    """Its checksum matched, and neither its size nor its modification time changed since."""
    UNVERIFIED = "unverified"
    """It is there, but nobody checked it since it came or changed."""
    MISSING = "missing"


def select(manifest: Manifest, mice: Iterable[str] | str | None = None) -> dict[str, FileEntry]:
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


def present(
    manifest: Manifest, mice: Iterable[str] | str | None = None, cache: str | Path | None = None
) -> dict[str, FileState]:
    """The state of each mouse's file, in milliseconds: sizes and times are compared, nothing is hashed."""
    return of_entries(folder(manifest, cache), select(manifest, mice))


def of_entries(place: Path, entries: dict[str, FileEntry]) -> dict[str, FileState]:
    """The states of the files of ``entries`` below the folder ``place``."""
    stamps = record.read(place)
    return {name: _state(place / e.path, e, stamps.get(e.path)) for name, e in entries.items()}


def _state(path: Path, entry: FileEntry, known: record.Stamp | None) -> FileState:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileState.MISSING
    return FileState.VERIFIED if known and known.holds(entry, stat) else FileState.UNVERIFIED
