"""Compute checksums of files, streams and arrays: SHA-256, and git's blob SHA-1, which also covers the size.

Files that can be made again (the derived caches) hold their own CRC-32C, which costs a fraction of reading them: as a
last line (:func:`append_checksum`), as a value of a JSON object (:func:`add_checksum`), or, for files that another
library writes, in a list beside them (:func:`write_checksums`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c

from mousecmr_data._utils.atomic import write_json
from mousecmr_data._utils.reading import ABSENT, make_read_error
from mousecmr_data.schema.manifest import FileEntry

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Checksums:
    """Size and checksums of a file's bytes."""

    size: int
    sha256: str
    git_blob_sha1: str

    def matches(self, entry: FileEntry) -> bool:
        """Return whether every checksum and the size that the manifest gives are equal to these."""
        if entry.sha256 is None and entry.git_blob_sha1 is None:
            return False  # a phantom's file: its bytes are not known beforehand
        return (
            entry.sha256 in (None, self.sha256)
            and entry.git_blob_sha1 in (None, self.git_blob_sha1)
            and entry.size in (None, self.size)
        )


class RunningChecksums:
    """Checksums of a stream, updated as bytes arrive. ``size``: its whole length in bytes, if known beforehand."""

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.length = 0
        self._sha256 = hashlib.sha256()
        self._git = None if size is None else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self.length += len(data)
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    def finish(self) -> Checksums | None:
        """Return the checksums, or None if the size was unknown or wrong: then hash the file on disk."""
        if self._git is None or self.length != self.size:
            return None
        return Checksums(self.length, self._sha256.hexdigest(), self._git.hexdigest())


def compute_checksums(path: Path, check: Callable[[], None] = lambda: None) -> Checksums:
    """Return the checksums of a file. ``check`` is called between chunks and may raise to stop."""
    digest = RunningChecksums(path.stat().st_size)
    with path.open("rb", buffering=0) as f:
        while data := f.read(CHUNK_BYTES):
            digest.update(data)
            check()
    return digest.finish() or compute_checksums(path, check)  # its size changed while it was read


def compute_sha256(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the names and contents of several files; of a single file, of its content only."""
    if len(paths) == 1:
        return compute_sha256(paths[0])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def hash_arrays(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of the first array's shape and the bytes of all arrays."""
    import numpy as np  # for arrays only: `mousecmr info` has none

    digest = hashlib.sha256(str(tuple(arrays[0].shape)).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def describe_mismatch(sums: Checksums, entry: FileEntry) -> str:
    """Return the first difference as a phrase: found and expected."""
    if entry.size is not None and sums.size != entry.size:
        return f"{sums.size:,} bytes instead of {entry.size:,}"
    if entry.sha256 is not None and sums.sha256 != entry.sha256:
        return f"SHA-256 {sums.sha256[:12]}… instead of {entry.sha256[:12]}…"
    return f"git blob SHA-1 {sums.git_blob_sha1[:12]}… instead of {(entry.git_blob_sha1 or '')[:12]}…"


# Derived files, which hold their own checksum

CHECKSUM_KEY = "crc32c"
CHECKSUM_LINE = b"\n%s %%08x\n" % CHECKSUM_KEY.encode()
CHECKSUMS_FILE = "checksums.json"
CHECKSUM_BYTES = len(CHECKSUM_LINE % 0)
log = logging.getLogger("mousecmr_data")


def append_checksum(path: Path) -> None:
    """Append the checksum of a finished file as its last line. Readers of NumPy and HDF5 files ignore the line."""
    crc = _compute_file_crc32c(path, path.stat().st_size)
    with path.open("ab") as f:
        f.write(CHECKSUM_LINE % crc)


def is_intact(path: Path) -> bool:
    """Return whether a file ends with the checksum of what stands before it; False if there is no such file."""
    try:
        size = path.stat().st_size - CHECKSUM_BYTES
        if size < 0:
            return False
        with path.open("rb") as f:
            f.seek(size)
            line = f.read()
        return line == CHECKSUM_LINE % _compute_file_crc32c(path, size)
    except ABSENT:
        return False
    except OSError as e:
        raise make_read_error(path, e) from e


def read_intact(path: Path) -> bytes | None:
    """Return the content of a file without the checksum at its end; None if there is no file, or a damaged one."""
    try:
        data = path.read_bytes()
    except ABSENT:
        return None
    except OSError as e:
        raise make_read_error(path, e) from e
    content, line = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    return content if line == CHECKSUM_LINE % google_crc32c.value(content) else None


def _compute_file_crc32c(path: Path, size: int) -> int:
    """Return the CRC-32C of the first ``size`` bytes."""
    crc = 0
    with path.open("rb", buffering=0) as f:
        while size > 0 and (data := f.read(min(CHUNK_BYTES, size))):
            crc = google_crc32c.extend(crc, data)
            size -= len(data)
    return crc


def add_checksum(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object ``table`` with its own checksum, which :func:`has_checksum` checks."""
    return {**table, CHECKSUM_KEY: _compute_table_crc32c(table)}


def has_checksum(table: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the checksum of its other values."""
    return table.get(CHECKSUM_KEY) == _compute_table_crc32c({k: v for k, v in table.items() if k != CHECKSUM_KEY})


def _compute_table_crc32c(table: Mapping[str, Any]) -> str:
    return f"{google_crc32c.value(json.dumps(table, sort_keys=True).encode()):08x}"


def write_checksums(folder: Path, endings: Sequence[str]) -> None:
    """Write the checksums of the files below ``folder`` with these ``endings`` to :data:`CHECKSUMS_FILE` in it."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in endings and p.name != CHECKSUMS_FILE)
    table = {p.relative_to(folder).as_posix(): _compute_file_crc32c(p, p.stat().st_size) for p in files}
    write_json(folder / CHECKSUMS_FILE, add_checksum({"files": table}))


def has_checksums(folder: Path) -> bool:
    """Return whether all files that :func:`write_checksums` listed in ``folder`` have their checksums."""
    try:
        table = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        return has_checksum(table) and all(
            _compute_file_crc32c(folder / name, (folder / name).stat().st_size) == crc
            for name, crc in table["files"].items()
        )
    except (*ABSENT, ValueError, KeyError, TypeError, AttributeError):
        return False
    except OSError as e:
        raise make_read_error(folder, e) from e


@cache
def report_damage(path: Path) -> None:
    """Say that a derived file is damaged, once for each path."""
    log.warning("%s is damaged, or of an earlier version: it is made again from its source.", path)
