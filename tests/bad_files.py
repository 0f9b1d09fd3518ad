"""Files that are not what they say."""

from __future__ import annotations

import os
import random
import struct
import zipfile
import zlib
from pathlib import Path


def bomb(path: Path) -> Path:
    """3 GB of zeros in some kilobytes: a hundred names for the same packed bytes."""
    block = 32 * 1024**2
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("0.nii", bytes(block))
        for k in range(1, 96):
            info = zipfile.ZipInfo(f"{k}.nii")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(info, name, getattr(z.filelist[0], name))
            z.filelist.append(info)
    return path


def png(side: int = 4) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(side * (side + 1))))
        + chunk(b"IEND", b"")
    )


def flip_bit(path: Path, rng: random.Random) -> int:
    """Flip a random bit of a file, which keeps its modification time, as on a failing disk; return its number."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return bit
