"""Repositories of the hub: commits in memory, each with all its files."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field

LFS = (".parquet",)
"""Endings of files that travel as LFS objects."""


@dataclass
class Repository:
    """Commits, oldest first: (40 hex digits, files by path)."""

    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    private: bool = False

    def __post_init__(self) -> None:
        if not self.commits:
            self.commit({})

    def commit(self, files: dict[str, bytes]) -> str:
        parent = self.commits[-1][0] if self.commits else os.urandom(8).hex()  # no two repositories share a commit
        text = json.dumps([parent, sorted((p, hashlib.sha256(b).hexdigest()) for p, b in files.items())])
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((c for c in self.commits if c[0] == revision), None)


def oid(path: str, body: bytes) -> str:
    """Return the object ID of a file: SHA-256 for LFS objects, else the git blob SHA-1."""
    if path.endswith(LFS):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
