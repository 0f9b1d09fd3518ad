"""Keep compiled networks and gate results in the cache folder, each under a key of everything it was made from.

Each file ends with its checksum, which is checked at every read; a damaged file is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import append_checksum, read_intact, report_damage
from mousecmr_data._utils.environment import describe_processor
from mousecmr_data._version import __version__
from mousecmr_data.download.cache import get_cache_root

ARITHMETIC_VERSION = 3
"""Increased whenever engines compute, or write files, differently than before, also within a release."""


def get_cache_path(parts: Mapping[str, object], kind: str, cache: str | Path | None = None) -> Path:
    """Return the path of a result made from ``parts``; another processor, release or value gives another path."""
    key_parts = {"release": __version__, "arithmetic": ARITHMETIC_VERSION, "processor": describe_processor(), **parts}
    key = hashlib.sha256(json.dumps(key_parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return get_cache_root(cache) / "engines" / f"{key}.{kind}"


def read_cache_file(path: Path) -> bytes | None:
    """Return the content of a file of :func:`write_cache_file`; None if there is none, or a damaged one."""
    data = read_intact(path)
    if data is None and path.is_file():
        report_damage(path)
    return data


def write_cache_file(path: Path, data: bytes) -> None:
    """Write a file with its checksum, whole or not at all. A cache that cannot be written only costs time."""
    with suppress(OSError), atomic_path(path) as partial:
        partial.write_bytes(data)
        append_checksum(partial)
