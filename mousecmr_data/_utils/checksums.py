"""Compute checksums of files, streams and arrays: SHA-256, and git's blob SHA-1, which also covers the size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.schema.manifest import FileEntry

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
