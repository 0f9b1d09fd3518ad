"""The engine protocol, and the files that engines keep in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import append_checksum, read_intact, report_damage
from mousecmr_data._utils.environment import describe_processor
from mousecmr_data._version import __version__
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import ReadError
from mousecmr_data.inference.grid import Array
from mousecmr_data.models.structure import UNet3PlusArrays

if TYPE_CHECKING:
    from mousecmr_data.models.network import SegmentationNetwork

Network: TypeAlias = "UNet3PlusArrays | SegmentationNetwork"
"""What an engine computes: UNet3+ as arrays, for which PyTorch is not needed, or a module of PyTorch."""
CACHED_SIZES = 4
"""Image sizes (for "cuda": shapes of a batch) whose networks are kept in memory. A cine has one shape of batch, or two
with its last part."""


def get_arrays(network: Network) -> UNet3PlusArrays | None:
    """Return UNet3+ as arrays; None for another network."""
    if isinstance(network, UNet3PlusArrays):
        return network
    to_arrays = getattr(network, "to_arrays", None)
    return to_arrays() if to_arrays else None


class Engine(Protocol):
    """A way to compute a network: a callable, with a name.

    Takes images (N, inputs, Y, X) float32 in [0, 1] on the CPU; Y and X are what the network takes, N is anything
    from 1. Returns logits (N, classes, Y, X) float32: a NumPy array, or a tensor on the device of PyTorch's engines.
    """

    @property
    def name(self) -> str:
        """One of :data:`mousecmr_data.inference.engines.ENGINE_NAMES`; goes with every result."""
        ...

    def __call__(self, images: Array) -> Array:
        """Return the logits of ``images``."""
        ...


ARITHMETIC_VERSION = 4
"""Increased whenever engines compute, or write files, differently than before, also within a release."""


def get_cache_path(parts: Mapping[str, object], kind: str, cache: str | Path | None = None) -> Path:
    """Return the path of a result made from ``parts``; another processor, release or value gives another path."""
    key_parts = {"release": __version__, "arithmetic": ARITHMETIC_VERSION, "processor": describe_processor(), **parts}
    key = hashlib.sha256(json.dumps(key_parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return get_cache_root(cache) / "engines" / f"{key}.{kind}"


def read_cache_file(path: Path) -> bytes | None:
    """Return the content of a file of :func:`write_cache_file`; None if there is none, or a damaged one."""
    try:
        data = read_intact(path)
    except ReadError:  # it only costs time
        return None
    if data is None and path.is_file():
        report_damage(path)
    return data


def write_cache_file(path: Path, data: bytes) -> None:
    """Write a file with its checksum, whole or not at all. A cache that cannot be written only costs time."""
    with suppress(OSError), atomic_path(path) as partial:
        partial.write_bytes(data)
        append_checksum(partial)
