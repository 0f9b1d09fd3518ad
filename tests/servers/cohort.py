"""Small cohorts for the download tests: random bytes, and a manifest of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.http import RetryPolicy
from mousecmr_data.schema.manifest import FileEntry, Manifest, load_manifest

VERSION = "0123456789abcdef0123456789abcdef01234567"


def bodies(count: int, size: int, seed: int = 0) -> dict[str, bytes]:
    """Return ``count`` files of about ``size`` bytes, by path."""
    rng = random.Random(seed)
    return {f"Data/Mouse{n}.h5": rng.randbytes(size + n) for n in range(1, count + 1)}


def git_blob_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def entry(path: str, body: bytes, sizes: bool = False, sha256: bool = False) -> FileEntry:
    """Return a row as upstream publishes it (git blob SHA-1 alone), or with size and SHA-256."""
    return FileEntry(
        Path(path).stem,
        path,
        git_blob_sha1(body),
        hashlib.sha256(body).hexdigest() if sha256 else None,
        len(body) if sizes else None,
    )


def manifest(files: Mapping[str, bytes], url: str = "", sizes: bool = False, sha256: bool = False) -> Manifest:
    """Return a manifest of ``files`` that are served at the template ``url``."""
    entries = {e.mouse: e for e in (entry(p, b, sizes, sha256) for p, b in files.items())}
    return replace(load_manifest(), name="tiny", version=VERSION, url=url, files=entries, splits={}, weights={})


def write_manifest(folder: Path, files: Mapping[str, bytes], url: str, sizes: bool = False) -> Path:
    """Write the same as a manifest folder, for other processes and the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.toml").write_text(f'name = "tiny"\nversion = "{VERSION}"\nurl = "{url}"\n')
    rows = ["mouse,path,git_blob_sha1,sha256,size"]
    for path, body in files.items():
        e = entry(path, body, sizes)
        rows.append(f"{e.mouse},{e.path},{e.git_blob_sha1},{e.sha256 or ''},{e.size or ''}")
    (folder / "files.csv").write_text("\n".join(rows) + "\n")
    return folder


def fetch_paths(*args: Any, **kwargs: Any) -> dict[str, Path]:
    """Fetch files and return their paths by mouse."""
    return fetch_files(*args, **kwargs).paths


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below ``folder``, hidden ones too, except empty lock files, to compare before and after."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not (p.suffix == ".lock" and p.stat().st_size == 0)
    }


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files and folders below ``folder``."""
    return [
        str(p.relative_to(folder))
        for p in sorted(folder.rglob("*"))
        if p.name.startswith((".", "tmp")) and p.name != ".locks" and p.parent.name != ".locks"
    ]


QUICK = RetryPolicy(
    max_attempts=4, base_seconds=0.01, max_seconds=0.05, max_retry_after=3.0, connect_timeout=2.0, read_timeout=0.4
)
"""The retry policy of tests: the same rules, shorter waits."""
