"""The content of one file, read whole and held against what the dataset is known to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mousecmr_data.dataset.hdf5 import FileHeader, HDF5Array, read_header
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.manifest import Stack
from mousecmr_data.schema.variables import IMAGES, MASKS


def validate_file(path: str | Path, expected: Stack | None = None) -> tuple[str, ...]:
    """Problems of the file at ``path``, a sentence each; empty when there is none.

    Checked: the layout, shapes and types, label values, frame numbers, masks only in labelled frames,
    labelled frames not empty, ED (the earliest labelled frame) has the largest blood pool, images not
    constant. With ``expected`` (a manifest's ``stack``) also the sizes. Never raises for a bad file.
    """
    try:
        outline = read_header(path)
        shape = (outline.n_frames, outline.n_slices, *outline.shape_yx)
        image = HDF5Array(path, IMAGES, shape, "uint16").read_all()
        mask = HDF5Array(path, MASKS, shape, "uint8").read_all() if outline.has_masks else None
    except MouseCMRError as e:
        return (e.found,)
    problems = _check_sizes(outline, expected) if expected else []
    flat = [f for f in range(outline.n_frames) if image[f].min() == image[f].max()]
    if flat:
        problems.append(f"Frames {_join_frames(flat)} are constant: no image.")
    if mask is None:
        return (*problems, "There are no masks: nobody segmented this mouse.")
    labelled = outline.labelled_frames
    if not labelled:
        problems.append("Frames_with_ROI is empty: no frame is labelled.")
    stray = [f for f in range(outline.n_frames) if f not in labelled and mask[f].any()]
    if stray:
        problems.append(f"Frames {_join_frames(stray)} have a mask but are not in Frames_with_ROI.")
    empty = [f for f in labelled if not mask[f].any()]
    if empty:
        problems.append(f"Labelled frames {_join_frames(empty)} have an empty mask.")
    if len(labelled) > 1:
        counts = [int(np.count_nonzero(mask[f] == Label.BLOOD_POOL)) for f in labelled]
        if counts[0] < max(counts):
            largest = labelled[int(np.argmax(counts))]
            problems.append(
                f"ED rule: the earliest labelled frame {labelled[0]} has {counts[0]} blood-pool voxels, "
                f"frame {largest} has {max(counts)}."
            )
    return tuple(problems)


def _check_sizes(outline: FileHeader, expected: Stack) -> list[str]:
    problems = []
    if outline.shape_yx != (expected.rows, expected.columns):
        problems.append(f"Images are {outline.shape_yx}, expected ({expected.rows}, {expected.columns}).")
    for what, n, (low, high) in (
        ("slices", outline.n_slices, expected.slices),
        ("frames", outline.n_frames, expected.frames),
    ):
        if not low <= n <= high:
            problems.append(f"{n} {what}, expected {low} to {high}.")
    return problems


def _join_frames(frames: list[int]) -> str:
    text = ", ".join(map(str, frames[:8]))
    return text + (f" and {len(frames) - 8} more" if len(frames) > 8 else "")
