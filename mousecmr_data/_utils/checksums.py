"""Checksums of files, streams and arrays: SHA-256, and git's blob SHA-1, which starts with the size."""

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
    """What a file's bytes add up to."""

    size: int
    sha256: str
    git_blob_sha1: str

    def matches(self, entry: FileEntry) -> bool:
        """Whether these are the bytes that the manifest names: every checksum it knows, and the size."""
        if entry.sha256 is None and entry.git_blob_sha1 is None:
            return False  # a phantom's file: nobody can say what its bytes should be
        return (
            entry.sha256 in (None, self.sha256)
            and entry.git_blob_sha1 in (None, self.git_blob_sha1)
            and entry.size in (None, self.size)
        )


class RunningChecksums:
    """The running checksums of a stream. ``size`` is its whole length in bytes, where known beforehand."""

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.length = 0
        self._sha256 = hashlib.sha256()
        self._git = None if size is None else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self.length += len(data)
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    def finish(self) -> Checksums | None:
        """The checksums, or None where the size was not known or turned out otherwise: hash from disk."""
        if self._git is None or self.length != self.size:
            return None
        return Checksums(self.length, self._sha256.hexdigest(), self._git.hexdigest())


def compute_checksums(path: Path, check: Callable[[], None] = lambda: None) -> Checksums:
    """The checksums of a file. ``check`` is called between chunks and may raise to stop."""
    digest = RunningChecksums(path.stat().st_size)
    with path.open("rb", buffering=0) as f:
        while data := f.read(CHUNK_BYTES):
            digest.update(data)
            check()
    return digest.finish() or compute_checksums(path, check)  # the file grew or shrank under our hands: once more


def compute_sha256(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the names and contents of several files; of one file its content's alone."""
    if len(paths) == 1:
        return compute_sha256(paths[0])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(CHUNK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def hash_arrays(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of the shape of the first array and the bytes of all."""
    digest = hashlib.sha256(str(tuple(arrays[0].shape)).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def describe_mismatch(sums: Checksums, entry: FileEntry) -> str:
    """What differs, as a sentence: found against expected."""
    if entry.size is not None and sums.size != entry.size:
        return f"{sums.size:,} bytes instead of {entry.size:,}"
    if entry.sha256 is not None and sums.sha256 != entry.sha256:
        return f"SHA-256 {sums.sha256[:12]}… instead of {entry.sha256[:12]}…"
    return f"git blob SHA-1 {sums.git_blob_sha1[:12]}… instead of {(entry.git_blob_sha1 or '')[:12]}…"
