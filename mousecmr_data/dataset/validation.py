"""Check files: the content of a mouse's file against what is known of the dataset, derived files by their checksums."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from mousecmr_data._utils.checksums import has_checksums, is_intact
from mousecmr_data._utils.journal import is_journal_intact
from mousecmr_data._utils.text import join_names
from mousecmr_data.dataset.hdf5 import HDF5Array, read_header
from mousecmr_data.dataset.layout_cache import CACHE_NAME, JOURNAL_FILE, LayoutCache
from mousecmr_data.dataset.memmap import MEMMAP_FORMAT
from mousecmr_data.dataset.samples import FRAMES_FILE
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.manifest import Stack
from mousecmr_data.schema.variables import IMAGES, MASKS

NO_CHECKSUM = "its content does not have its checksum"
OUTDATED = "a format that is no longer read"


def validate_file(path: str | Path, expected: Stack | None = None) -> tuple[str, ...]:
    """Return the problems of the file at ``path``, one sentence each; empty when there is none.

    Checked: the layout, shapes and types, label values, frame numbers, masks only in labelled frames,
    labelled frames not empty, ED (the earliest labelled frame) has the largest blood pool, images not
    constant. With ``expected`` (a manifest's ``stack``) also the sizes. Never raises for a bad file.
    """
    try:
        header = read_header(path)
        image = HDF5Array(path, IMAGES, header.shape, "uint16", axes=header.axes).read_all()
        mask = HDF5Array(path, MASKS, header.shape, "uint8", axes=header.axes).read_all() if header.has_masks else None
    except MouseCMRError as e:
        return (e.found,)
    problems = []
    n_frames, n_slices, *shape_yx = header.shape
    if expected and shape_yx != [expected.rows, expected.columns]:
        problems.append(f"Images are {tuple(shape_yx)}, expected ({expected.rows}, {expected.columns}).")
    sizes = [("slices", n_slices, expected.slices), ("frames", n_frames, expected.frames)] if expected else []
    for what, n, (low, high) in sizes:
        if not low <= n <= high:
            problems.append(f"{n} {what}, expected {low} to {high}.")
    if constant := [f for f, frame in enumerate(image) if frame.min() == frame.max()]:
        problems.append(f"Frames {join_names(constant)} are constant: no image.")
    if mask is None:
        return (*problems, "There are no masks: this mouse was not segmented.")
    labelled = header.labelled_frames
    if not labelled:
        problems.append("Frames_with_ROI is empty: no frame is labelled.")
    if stray := [f for f, frame in enumerate(mask) if f not in labelled and frame.any()]:
        problems.append(f"Frames {join_names(stray)} have a mask but are not in Frames_with_ROI.")
    if empty := [f for f in labelled if not mask[f].any()]:
        problems.append(f"Labelled frames {join_names(empty)} have an empty mask.")
    if len(labelled) > 1:
        counts = [int(np.count_nonzero(mask[f] == Label.BLOOD_POOL)) for f in labelled]
        if counts[0] < max(counts):
            problems.append(
                f"ED rule: the earliest labelled frame {labelled[0]} has {counts[0]} blood-pool voxels, "
                f"frame {labelled[counts.index(max(counts))]} has {max(counts)}."
            )
    return tuple(problems)


def check_derived_files(cache: Path, dataset: Path, mice: Collection[str] | None = None) -> Iterator[tuple[Path, str]]:
    """Yield each derived file, or folder of files that belong together, and what is wrong with it ("": nothing).

    ``cache`` is the cache's root and ``dataset`` the folder of a dataset version in it. With ``mice``, only what was
    made from these mice; else also what belongs to no dataset (compiled networks, weights, tables), and formats that
    are no longer read.
    """
    layouts = cache / "layouts"
    stores = LayoutCache(layouts / CACHE_NAME / dataset.relative_to(cache))
    frames = layouts / f"npy-{MEMMAP_FORMAT}" / dataset.relative_to(cache)
    for folder in _list(stores.folder, "*/"):
        if mice is None or folder.name in mice:
            yield folder, stores.find_damage(folder.name)
    for folder in _list(frames, "*/"):
        if mice is None or folder.name.rpartition("-")[0] in mice:
            yield folder, "" if all(map(is_intact, folder.iterdir())) else NO_CHECKSUM
    if mice is not None:
        return
    for index in (stores.folder / JOURNAL_FILE, stores.folder / FRAMES_FILE):
        if index.exists():
            yield index, "" if is_journal_intact(index) else NO_CHECKSUM
    for file in (*_list(dataset / "pools", "*.npy"), *_list(cache / "engines", "*.*")):
        yield file, "" if is_intact(file) else NO_CHECKSUM
    for folder in _list(layouts, "huggingface-*/*/"):
        yield folder, "" if has_checksums(folder) else NO_CHECKSUM
    for file in _list(cache / "weights", "*/*/*.safetensors"):
        with suppress(ImportError):  # without safetensors, no weights are read
            from mousecmr_data.models.safetensors import is_hashed

            yield file, "" if is_hashed(file) else NO_CHECKSUM
    current = (CACHE_NAME, frames.parents[1].name)
    for folder in _list(layouts, "*/"):
        if not folder.name.startswith("huggingface-") and folder.name not in current:
            yield folder, OUTDATED


def _list(folder: Path, pattern: str) -> list[Path]:
    """Return what matches ``pattern`` in ``folder``, without locks and what writers left."""
    return sorted(p for p in folder.glob(pattern) if not p.relative_to(folder).parts[0].startswith("."))


def remove_derived_file(path: Path) -> None:
    """Remove a damaged derived file or folder; it is made again when it is needed."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
