"""The data file of one array of a local store: read by frames, decoded on every core.

Zarr's own way decodes a shard on one core and copies what it decoded. A mouse's shard is simple: one Blosc
chunk a frame, then an index of (offset, length) pairs with its CRC-32C (the sharding codec of the Zarr v3
specification). Each frame is decoded straight to its place in the result. Shards of any other make are left
to Zarr.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec

_CRC = 4
"""Bytes of the checksum behind the index."""


@dataclass(frozen=True)
class Shard:
    """A shard of frames (slice, y, x)."""

    path: Path
    shape: tuple[int, ...]
    """(frame, slice, y, x)."""
    dtype: np.dtype[Any]

    def frames(self, wanted: Sequence[int]) -> NDArray[Any]:
        """Chosen frames in the order asked for: (frame, slice, y, x).

        Raises ``ValueError`` or ``RuntimeError`` (Blosc) for a damaged file, ``OSError`` where there is none.
        """
        out = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as f:
            index = self._index(f.fileno())

            def decode(place: int) -> None:
                offset, length = (int(v) for v in index[wanted[place]])
                data = os.pread(f.fileno(), length, offset)
                if blosc.decompress(data, out[place]).nbytes != out[place].nbytes:
                    raise ValueError(f"frame {wanted[place]} of {self.path} is too short")

            threads = min(os.cpu_count() or 1, len(wanted))
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(decode, range(len(wanted))))
            else:
                for place in range(len(wanted)):
                    decode(place)
        return out

    def _index(self, file: int) -> NDArray[np.uint64]:
        """Offset and length of each frame (frame, 2)."""
        size, length = os.fstat(file).st_size, 16 * self.shape[0]
        tail = os.pread(file, length + _CRC, max(0, size - length - _CRC))
        crc = int.from_bytes(tail[length:], "little")
        if len(tail) != length + _CRC or google_crc32c.value(tail[:length]) != crc:
            raise ValueError(f"the index of {self.path} is damaged")
        index = np.frombuffer(tail, "<u8", 2 * self.shape[0]).reshape(-1, 2)
        if (index > size).any() or (index.sum(1) > size).any():
            raise ValueError(f"{self.path} is too short for its index")
        return index


def of(array: zarr.Array[Any], path: Path) -> Shard | None:
    """The shard of a local ``array`` if it is made as :mod:`mousecmr_data.cine.store` makes it, else None."""
    codecs = array.metadata.codecs if array.metadata.zarr_format == 3 else ()
    if array.shards != array.shape or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    outer = codecs[0]
    known = (
        outer.chunk_shape == (1, *array.shape[1:])
        and [type(c) for c in outer.codecs] == [BytesCodec, BloscCodec]
        and [type(c) for c in outer.index_codecs] == [BytesCodec, Crc32cCodec]
        and str(outer.index_location.value) == "end"
        and array.dtype.newbyteorder("=") == array.dtype
    )
    return Shard(path, array.shape, array.dtype) if known else None
