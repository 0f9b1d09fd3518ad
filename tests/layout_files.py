"""Small synthetic files in the dataset's HDF5 layout."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def arrays(shape: tuple[int, int, int, int] = (24, 20, 3, 5), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images and full masks (row, column, slice, frame): a ring that contracts until the middle frame."""
    rows, columns, slices, frames = shape
    rng = np.random.default_rng(seed)
    images = rng.integers(100, 60000, shape).astype(np.uint16)
    y, x = np.mgrid[:rows, :columns]
    r = np.hypot(y - rows / 2, x - columns / 2)
    masks = np.zeros(shape, np.uint8)
    for f in range(frames):
        inner = 6.0 - 2.0 * np.sin(np.pi * f / max(frames - 1, 1))
        for s in range(slices):
            masks[..., s, f] = np.where(r < inner, 2, np.where(r < 9, 1, 0))
    return images, masks


def write(
    path: Path,
    labelled: Sequence[int] = (0, 2),
    images: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    attrs: dict[str, Any] | None = None,
    **storage: Any,
) -> Path:
    """Write a mouse and return its path; masks outside ``labelled`` are zero, as in the upstream files."""
    default_images, default_masks = arrays()
    images = default_images if images is None else images
    masks = default_masks.copy() if masks is None else masks.copy()
    if masks.ndim == 4:
        unlabelled = [f for f in range(masks.shape[3]) if f not in labelled]
        masks[..., unlabelled] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        f.create_dataset("Images", data=images, **storage)
        f.create_dataset("Masks", data=masks, **storage)
        f.create_dataset("Frames_with_ROI", data=np.array(labelled, np.int64))
        f.attrs.update(attrs or {})
    return path


def lab(
    folder: Path,
    labelled: dict[str, tuple[int, ...]],
    *,
    easy: bool = False,
    splits: dict[str, list[str]] | None = None,
) -> Path:
    """Write a custom manifest with small files and return its folder; the files are in ``folder/files``.

    The last mouse is the test split, the others are for training, if there are no ``splits``. In ``easy`` images, the
    grey value tells the label, so that any network learns them in a few steps.
    """
    rows = []
    for i, (mouse, frames) in enumerate(labelled.items()):
        images, masks = arrays((24, 20, 3 + i, 5), seed=i)
        if easy:
            images = (images // 20 + masks * np.uint16(20000)).astype(np.uint16)
        path = write(folder / "files" / f"{mouse}.h5", frames, images, masks)
        rows.append([mouse, f"{mouse}.h5", "", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size])
    manifest = folder / "manifest"
    manifest.mkdir()
    (manifest / "dataset.toml").write_text('name = "lab"\nversion = "1"\n')
    with (manifest / "files.csv").open("w", newline="") as f:
        csv.writer(f).writerows([["mouse", "path", "git_blob_sha1", "sha256", "size"], *rows])
    splits = splits or {"train": list(labelled)[:-1], "test": list(labelled)[-1:]}
    lines = [f"{name} = {mice}\n" for name, mice in splits.items()]
    (manifest / "splits.toml").write_text("".join(["[upstream-notebook]\n", *lines]))
    return manifest
