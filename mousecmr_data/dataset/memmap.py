"""Planes: the frames of a mouse as plain .npy files, to be mapped into memory by training.

A derived cache beside the layout cache: for each mouse a folder with ``image.npy`` (n, slice, y, x) uint16,
``mask.npy`` (n, slice, y, x) uint8 of the n selected frames (all, or the labelled ones), and ``planes.json``
that says which, and what they were made from. Uncompressed: a random slice costs one copy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import atomic_folder, remove_leftovers
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.source import FileOpener
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import CacheError, MouseCMRError
from mousecmr_data.schema.variables import IMAGE, MASK

MEMMAP_FORMAT = 1
UNLABELLED = 255
"""What masks hold in frames that nobody segmented: no label, and the usual "ignore" of loss functions."""


@dataclass(frozen=True)
class FrameFiles:
    """Where the planes of one mouse lie, and what they are."""

    folder: Path
    frames: tuple[int, ...]
    """Positions of the frames in the mouse's cine."""

    def image(self) -> NDArray[np.uint16]:
        """(n, slice, y, x), mapped into memory, read-only."""
        return np.asarray(np.load(self.folder / "image.npy", mmap_mode="r"))

    def mask(self) -> NDArray[np.uint8]:
        """(n, slice, y, x), mapped into memory, read-only; 255 in unlabelled frames."""
        return np.asarray(np.load(self.folder / "mask.npy", mmap_mode="r"))


def make_frame_files(cohort: Cohort, mouse: str, every_frame: bool, root: Path | None = None) -> FrameFiles:
    """The planes of ``mouse``, made if they are missing or were made from something else.

    ``root``: folder of the cache; default: the cohort's own cache. Processes that ask for the same mouse
    wait for one of them. Raises CacheError where the folder cannot be written.
    """
    folder = (root or get_default_folder(cohort)) / cohort.source.name / cohort.source.version[:12]
    name = f"{mouse}-{'all' if every_frame else 'labelled'}"
    origin = _describe_origin(cohort, mouse)
    found = _read_frame_files(folder / name, origin)
    if found:
        return found
    ds = read_without_converting(cohort, mouse)
    try:
        with hold_lock(folder, name):
            found = _read_frame_files(folder / name, origin)
            if found:
                return found
            remove_leftovers(folder, name)
            return _write_frame_files(ds, folder, name, every_frame, origin)
    except MouseCMRError:
        raise
    except OSError as e:
        raise CacheError(
            f"The planes of {mouse} cannot be written to {folder}: {e.strerror or e}.",
            "a folder to write to, with room for 0.2 MB a slice",
            "dataset(..., cache=FOLDER)  or  dataset(..., mode='memory')",
        ) from e


def get_default_folder(cohort: Cohort) -> Path:
    """The folder of planes in the cohort's cache."""
    opener = cohort.opener
    if isinstance(opener, FileOpener) and opener.layouts:
        return opener.layouts.folder.parents[2] / f"npy-{MEMMAP_FORMAT}"
    return get_cache_root() / "layouts" / f"npy-{MEMMAP_FORMAT}"


def read_without_converting(cohort: Cohort, mouse: str) -> xr.Dataset:
    """The mouse, to be read a single time: from the layout cache if it is converted, else from its file,
    without converting it."""
    opener = cohort.opener
    if isinstance(opener, FileOpener) and opener.layouts:
        cohort.source.prepare([mouse])
        if opener.layouts.find_entry(mouse, cohort.source.get_path(mouse)) is None:
            return cohort.with_opener(replace(opener, layouts=None))[mouse]
    return cohort[mouse]


def read_masks(ds: xr.Dataset, frames: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Masks (n, slice, y, x) of the frames at these positions; 255 in unlabelled ones."""
    n = ds.sizes
    if MASK not in ds:
        return np.full((frames.size, n["slice"], n["y"], n["x"]), UNLABELLED, np.uint8)
    out: NDArray[np.uint8] = np.array(ds[MASK].isel(frame=frames).values)
    out[~ds["labelled"].values[frames]] = UNLABELLED
    return out


def _describe_origin(cohort: Cohort, mouse: str) -> dict[str, Any]:
    file = cohort.source.get_path(mouse)
    cohort.source.prepare([mouse])
    if isinstance(cohort.opener, FileOpener):
        stat = file.stat()
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"store": str(file), **{k: str(v) for k, v in cohort[mouse].attrs.items() if k != "split"}}


def _read_frame_files(folder: Path, origin: dict[str, Any]) -> FrameFiles | None:
    try:
        table = json.loads((folder / "planes.json").read_text(encoding="utf-8"))
        if table["origin"] == origin:
            return FrameFiles(folder, tuple(table["frames"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _write_frame_files(
    ds: xr.Dataset, folder: Path, name: str, every_frame: bool, origin: dict[str, Any]
) -> FrameFiles:
    frames = np.arange(ds.sizes["frame"]) if every_frame else np.flatnonzero(ds["labelled"].values)
    planes = FrameFiles(folder / name, tuple(frames.tolist()))
    with atomic_folder(folder / name, overwrite=True) as partial:
        np.save(partial / "image.npy", ds[IMAGE].isel(frame=frames).values)
        np.save(partial / "mask.npy", read_masks(ds, frames))
        text = json.dumps({"origin": origin, "frames": planes.frames})
        (partial / "planes.json").write_text(text, encoding="utf-8")
    return planes
