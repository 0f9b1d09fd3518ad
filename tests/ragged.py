"""A small cohort in the upstream layout, whose mice differ in slices, frames and labelled frames."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import arrays, write

import mousecmr_data
from mousecmr_data.dataset.cohort import Cohort

LABELLED = {"None": (), "Pair": (0, 2), "Inflow": (0, 1, 2, 4), "Late": (1, 3), "Single": (3,)}
"""Labelled frames by mouse; the last is the test split, the one before it validation."""
SPLITS = {"train": ["None", "Pair", "Inflow"], "validation": ["Late"], "test": ["Single"]}


def manifest(folder: Path, synthetic: bool = False, more: str = "") -> Path:
    """Write a manifest of the small mice and return its folder; the files are in ``folder/files``."""
    rows = []
    attrs: dict[str, Any] = {"synthetic": True} if synthetic else {}
    for i, (mouse, labelled) in enumerate(LABELLED.items()):
        images, masks = arrays((24, 20, 3 + i, 5 + i), seed=i)
        images[0, :4, 0, 0] = (0, 1, 255, 65535)
        path = write(folder / "files" / f"{mouse}.h5", labelled, images, masks, attrs)
        rows.append([mouse, f"{mouse}.h5", "", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size])
    target = folder / "manifest"
    target.mkdir()
    (target / "dataset.toml").write_text(
        f'name = "ragged"\nversion = "1"\nlicence = "MIT"\nsynthetic = {str(synthetic).lower()}\n{more}'
    )
    with (target / "files.csv").open("w", newline="") as f:
        csv.writer(f).writerows([["mouse", "path", "git_blob_sha1", "sha256", "size"], *rows])
    lists = "\n".join(f"{split} = {mice}" for split, mice in SPLITS.items())
    (target / "splits.toml").write_text(f"[upstream-notebook]\n{lists}\n")
    return target


def cohort(folder: Path, synthetic: bool = False, more: str = "", **options: Any) -> Cohort:
    """Return the small mice, fetched into a cache below ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", (folder / "files").as_uri())
        source = manifest(folder, synthetic, more)
        return mousecmr_data.load(source=source, cache=folder / "cache", progress=False, **options)


Source = dict[str, tuple[np.ndarray, np.ndarray]]
"""Image and mask (frame, slice, y, x) by mouse."""


def source(cohort: Cohort) -> Source:
    """Return all pixels of the source files."""
    return {ds.attrs["mouse"]: (ds["image"].values, ds["mask"].values) for ds in cohort.values()}


def plane(source: Source, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the source's image and mask of a row of "labelled" or "slices"; None for frames without a mask."""
    images, masks = source[row["mouse"]]
    index = row["frame"], row["slice"]
    return images[index], masks[index] if row["frame"] in LABELLED[row["mouse"]] else None
