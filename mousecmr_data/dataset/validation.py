"""Check the content of one file: read it whole and compare it with what is known of the dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mousecmr_data._utils.text import join_names
from mousecmr_data.dataset.hdf5 import HDF5Array, read_header
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.manifest import Stack
from mousecmr_data.schema.variables import IMAGES, MASKS


def validate_file(path: str | Path, expected: Stack | None = None) -> tuple[str, ...]:
    """Return the problems of the file at ``path``, one sentence each; empty when there is none.

    Checked: the layout, shapes and types, label values, frame numbers, masks only in labelled frames,
    labelled frames not empty, ED (the earliest labelled frame) has the largest blood pool, images not
    constant. With ``expected`` (a manifest's ``stack``) also the sizes. Never raises for a bad file.
    """
    try:
        header = read_header(path)
        image = HDF5Array(path, IMAGES, header.shape, "uint16").read_all()
        mask = HDF5Array(path, MASKS, header.shape, "uint8").read_all() if header.has_masks else None
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
