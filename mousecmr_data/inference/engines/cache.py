"""What engines keep on this disk: compiled networks and verdicts, each for the very things it was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from mousecmr_data._utils.atomic import write_bytes
from mousecmr_data._version import __version__
from mousecmr_data.download.cache import get_cache_root

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
"""Processor features that decide what is fast, in Linux' names."""

ARITHMETIC_VERSION = 2
"""Changes whenever engines compute otherwise than before, within a release too."""


@lru_cache(1)
def describe_processor() -> str:
    """Name of this machine's processor and its :data:`FEATURES`, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    name = facts.get("model name", platform.machine())
    return f"{name} ({', '.join(f for f in CPU_FEATURES if f in flags) or 'none of the features known here'})"


def get_cache_path(of: Mapping[str, object], kind: str, cache: str | Path | None = None) -> Path:
    """Where a thing lies that was made from ``of``; another processor, release or number is another place."""
    made_from = {"release": __version__, "arithmetic": ARITHMETIC_VERSION, "processor": describe_processor(), **of}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return get_cache_root(cache) / "engines" / f"{key}.{kind}"


def write_cache_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. A cache that cannot be written costs time, nothing else."""
    with suppress(OSError):
        write_bytes(path, data)
