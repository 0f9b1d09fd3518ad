"""Files that attack their reader: bombs, references to themselves, damaged headers; and the memory that they take."""

from __future__ import annotations

import io
import os
import random
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import layout_files
import nibabel
import numpy as np
import scanner_files
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

nib: Any = nibabel
DEFLATED = "1.2.840.10008.1.2.1.99"
IMAGES = np.random.default_rng(0).integers(0, 900, (2, 2, 16, 16)).astype(np.uint16)
"""(frame, slice, y, x)."""


def write_nifti(path: Path, seed: int = 0, side: int = 16) -> Path:
    """Write a small valid cine."""
    rng = np.random.default_rng(seed)  # slices differ more than frames
    pixels = (rng.integers(0, 900, (side, side, 2, 1)) + rng.integers(0, 50, (side, side, 2, 3))).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(pixels, np.diag([0.1, 0.1, 1.0, 1.0])), path)
    return path


def write_own_dataset(path: Path) -> Path:
    """Write an HDF5 file whose images are a virtual dataset of themselves, which crashes the HDF5 library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (64, 64, 4, 8)
    layout = h5py.VirtualLayout(shape, np.uint16)
    layout[:] = h5py.VirtualSource(".", "Images", shape)
    with h5py.File(path, "w", libver="latest") as f:
        f.create_virtual_dataset("Images", layout)
    return path


def write_hdf5_bomb(path: Path, gigabytes: float = 1.0) -> Path:
    """Write chunks that are not stored: any size in some kilobytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        f.create_dataset("Images", (512, 512, 10, int(gigabytes * 190)), np.uint16, chunks=True, compression="gzip")
    return path


def write_nifti_bomb(path: Path, kind: str, seed: int = 0) -> Path:
    """Write a .nii.gz of some kilobytes with gigabytes of "pixels", "extension" or "offset"."""
    header = bytearray(write_nifti(path.with_name("valid.nii")).read_bytes()[:352])
    if kind == "pixels":
        header[40:56] = np.array([4, 2048, 2048, 16, 15 + seed % 3, 1, 1, 1], "<i2").tobytes()
    else:
        header[108:112] = np.array([1.5e9 if kind == "extension" else 1e30], "<f4").tobytes()
        header[348:352] = b"\1\0\0\0"
    content = bytes(header) + np.array([1_400_000_000, 4], "<i4").tobytes()
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as f:
        f.write(compressor.compress(content))
        for _ in range(200):
            f.write(compressor.compress(bytes(10**6)))
        f.write(compressor.flush())
    path.with_name("valid.nii").unlink()
    return path


def write_dicom_bomb(path: Path, megabytes: int = 400) -> Path:
    """Write a deflated file of ``megabytes`` / 1000 that inflates to ``megabytes``."""
    folder = path.parent / "valid"
    source = scanner_files.dicom_classic(IMAGES[:1, :1], folder)[0]
    ds = dcmread(source)
    ds.file_meta.TransferSyntaxUID = DEFLATED
    start = DicomBytesIO()
    start.is_little_endian, start.is_implicit_VR = True, False
    write_file_meta_info(start, ds.file_meta)
    meta_bytes = start.getvalue()
    plain = source.read_bytes()
    body = plain[plain.index(b"\x08\x00\x16\x00") :]
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [compressor.compress(body)]
    parts += [compressor.compress(bytes(10**6)) for _ in range(megabytes)]
    path.write_bytes(bytes(128) + b"DICM" + meta_bytes + b"".join(parts) + compressor.flush())
    source.unlink()
    folder.rmdir()
    return path


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


def pack(files: dict[str, bytes]) -> bytes:
    """Return a zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            z.writestr(name, content)
    return packed.getvalue()


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` with changed bytes (mostly near its start, where headers are), or cut off."""
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 40])):
        at = rng.randrange(min(len(damaged), rng.choice([400, 4000, 10**9])))
        damaged[at] = rng.choice([rng.randrange(256), damaged[at] ^ (1 << rng.randrange(8)), 0xFF, 0])
    if rng.random() < 0.25:
        del damaged[rng.randrange(1, len(damaged)) :]
    return bytes(damaged)


def write_hostile(kind: str, folder: Path, rng: random.Random) -> Path:
    """Write a hostile file of ``kind`` (HDF5, NIfTI or DICOM) to ``folder`` and return its path."""
    folder.mkdir(parents=True)
    is_bomb = rng.random() < 0.15
    if kind == "HDF5":
        if is_bomb:
            gigabytes = rng.choice([0.5, 1.9, 50])
            path = folder / "m.h5"
            return write_own_dataset(path) if rng.random() < 0.5 else write_hdf5_bomb(path, gigabytes)
        storage = rng.choice([{}, {"compression": "gzip"}, {"chunks": True, "shuffle": True}])
        path = layout_files.write(folder / "m.h5", (0,), *layout_files.arrays((16, 16, 2, 2), 0), **storage)
    elif kind == "NIfTI":
        path = folder / rng.choice(["m.nii", "m.nii.gz"])
        if is_bomb:
            return write_nifti_bomb(
                folder / "m.nii.gz", rng.choice(["pixels", "extension", "offset"]), rng.randrange(9)
            )
        if path.name.endswith(".gz") and rng.random() < 0.7:  # a valid archive of a damaged header
            content = damage(write_nifti(folder / "v.nii").read_bytes(), rng)
            (folder / "v.nii").unlink()
            path.write_bytes(zlib.compress(content, wbits=31))
            return path
        write_nifti(path)
    else:
        if is_bomb:
            return write_dicom_bomb(folder / "m.dcm", 70)
        if rng.random() < 0.5:
            path = scanner_files.dicom_enhanced(IMAGES, folder / "m.dcm")
        else:
            files = scanner_files.dicom_classic(IMAGES, folder / "m")
            path, victim = folder / "m", rng.choice(files)
            victim.write_bytes(damage(victim.read_bytes(), rng))
            return path
    path.write_bytes(damage(path.read_bytes(), rng))
    return path


@contextmanager
def measure_peak() -> Iterator[list[int]]:
    """Yield a list that holds, at the end of the block, the peak memory of this process and its children, in bytes."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], sum(_read_memory(p) for p in _list_tree()))
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _list_tree() -> set[str]:
    tree, new = set(), {"self"}
    while new:
        tree |= new
        children: set[str] = set()
        for process in new:
            for path in Path(f"/proc/{process}/task").glob("*/children"):
                try:
                    children |= set(path.read_text().split())
                except OSError:
                    continue
        new = children - tree
    return tree


def _read_memory(process: str) -> int:
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def end_worker(name: str, _progress: object) -> Any:
    """End the process if ``name`` is "bad"; otherwise return the result of a mouse."""
    from mousecmr_data.pipeline.batch import MouseResult

    if name == "bad":
        os._exit(3)
    return MouseResult(name, "done")
