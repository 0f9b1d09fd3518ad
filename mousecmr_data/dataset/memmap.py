"""Frame files: the frames of a mouse as plain .npy files, to be mapped into memory for training.

A derived cache beside the layout cache. Each mouse has a folder with ``image.npy`` (n, slice, y, x) uint16 and
``mask.npy`` (n, slice, y, x) uint8 of n frames (all, or the labelled ones), and ``planes.json``, which names the
frames and the source of the files. They are not compressed: reading a random slice costs one copy. Each file ends with
its checksum, which is checked when the files are opened, not when a slice is read; damaged files are written again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import atomic_folder, list_leftovers, remove_leftovers
from mousecmr_data._utils.checksums import append_checksum, is_intact, read_intact, report_damage
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import CacheError, MouseCMRError
from mousecmr_data.schema.variables import IMAGE, MASK

MEMMAP_FORMAT = 2
PLANES_FILE = "planes.json"
UNLABELLED = 255
"""Value of masks in frames that were not segmented: not a label, and the usual "ignore" of loss functions."""


@dataclass(frozen=True)
class FrameFiles:
    """The frame files of one mouse."""

    folder: Path
    frames: tuple[int, ...]
    """Positions of the frames in the mouse's cine."""

    def image(self) -> NDArray[np.uint16]:
        """Return the images (n, slice, y, x), mapped into memory, read-only."""
        return np.asarray(np.load(self.folder / f"{IMAGE}.npy", mmap_mode="r"))

    def mask(self) -> NDArray[np.uint8]:
        """Return the masks (n, slice, y, x), mapped into memory, read-only; 255 in unlabelled frames."""
        return np.asarray(np.load(self.folder / f"{MASK}.npy", mmap_mode="r"))


def make_frame_files(cohort: Cohort, mouse: str, all_frames: bool, root: Path | None = None) -> FrameFiles:
    """Return the frame files of ``mouse``; write them if they are missing or were made from something else.

    ``root``: folder of the cache; default: the cohort's own cache. Of processes that ask for the same mouse,
    one writes and the others wait. Raises CacheError where the folder cannot be written.
    """
    folder = (root or get_default_folder(cohort)) / cohort.source.name / cohort.source.version[:12]
    name = f"{mouse}-{'all' if all_frames else 'labelled'}"
    origin = _describe_origin(cohort, mouse)
    if files := _read_frame_files(folder / name, origin):
        return files
    ds = read_without_converting(cohort, mouse)
    try:
        with hold_lock(folder, name):
            if files := _read_frame_files(folder / name, origin):
                return files
            if name in list_leftovers(folder):
                remove_leftovers(folder, name)
            frames = np.arange(ds.sizes["frame"]) if all_frames else np.flatnonzero(ds["labelled"].values)
            files = FrameFiles(folder / name, tuple(frames.tolist()))
            with atomic_folder(files.folder, overwrite=True) as partial:
                np.save(partial / f"{IMAGE}.npy", ds[IMAGE].isel(frame=frames).values)
                np.save(partial / f"{MASK}.npy", read_masks(ds, frames))
                text = json.dumps({"origin": origin, "frames": files.frames})
                (partial / PLANES_FILE).write_text(text, encoding="utf-8")
                for file in partial.iterdir():
                    append_checksum(file)
            return files
    except MouseCMRError:
        raise
    except OSError as e:
        raise CacheError(
            f"The frames of {mouse} cannot be written to {folder}: {e.strerror or e}.",
            "a writable folder with 0.2 MB free per slice",
            "dataset(..., cache=FOLDER)  or  dataset(..., mode='memory')",
        ) from e


def get_default_folder(cohort: Cohort) -> Path:
    """Return the folder of frame files in the cohort's cache."""
    opener = cohort.opener
    if isinstance(opener, FileOpener) and opener.layouts:
        return opener.layouts.folder.parents[2] / f"npy-{MEMMAP_FORMAT}"
    return get_cache_root() / "layouts" / f"npy-{MEMMAP_FORMAT}"


def read_without_converting(cohort: Cohort, mouse: str) -> xr.Dataset:
    """Return the dataset of a mouse that is read only once: from the layout cache if the mouse is converted,
    else from its file, without converting it."""
    opener = cohort.opener
    if isinstance(opener, FileOpener) and opener.layouts:
        cohort.source.prepare([mouse])
        if opener.layouts.find_entry(mouse, cohort.source.get_path(mouse)) is None:
            return cohort.with_opener(replace(opener, layouts=None))[mouse]
    return cohort[mouse]


def read_masks(ds: xr.Dataset, frames: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return the masks (n, slice, y, x) of the frames at these positions; 255 in unlabelled ones."""
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
    if not folder.is_dir():
        return None
    text = read_intact(folder / PLANES_FILE)
    if text is None or not all(is_intact(folder / f"{name}.npy") for name in (IMAGE, MASK)):
        report_damage(folder)
        return None
    table = json.loads(text)
    return FrameFiles(folder, tuple(table["frames"])) if table["origin"] == origin else None
