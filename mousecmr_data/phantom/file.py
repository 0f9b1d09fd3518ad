"""One synthetic mouse to a file in the dataset's own layout."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.rendering import Rendering, render
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    FRAMES_WITH_ROI,
    IMAGES,
    MASKS,
    MODEL_TO_FILE,
)


def write(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Render ``plan`` and write it to ``path`` (HDF5, upstream layout plus attributes), atomically.

    Frames outside ``plan.labelled_frames`` get an all-zero mask, as upstream: unlabelled, not background.
    """
    write_rendering(plan, render(plan), path)


def write_rendering(plan: Plan, rendering: Rendering, path: str | os.PathLike[str]) -> None:
    """Write what was rendered already; see :func:`write`."""
    target = Path(path)
    masks = np.zeros_like(rendering.truth)
    labelled = list(plan.labelled_frames)
    masks[labelled] = rendering.truth[labelled]
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        with h5py.File(temporary, "w") as file:
            file.create_dataset(IMAGES, data=_to_file(rendering.image))
            rows, columns, _, _ = stored = _to_file(masks).shape
            file.create_dataset(
                MASKS,
                data=_to_file(masks),
                chunks=(rows, columns, 1, stored[3]),
                compression="gzip",
                compression_opts=1,
            )
            file.create_dataset(FRAMES_WITH_ROI, data=np.asarray(labelled, np.int64))
            file.attrs[ATTR_MOUSE] = plan.mouse
            file.attrs[ATTR_SOURCE] = plan.cohort
            file.attrs[ATTR_SYNTHETIC] = True
            file.attrs[ATTR_PHENOTYPE] = plan.phenotype
            file.attrs[ATTR_VOXEL_SIZE] = np.asarray(plan.voxel_size_mm, np.float64)
            file.attrs[ATTR_FRAME_TIME] = float(plan.frame_time_ms)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _to_file(array: np.ndarray) -> np.ndarray:
    """(frame, slice, y, x) to (row, column, slice, frame), contiguous."""
    return np.ascontiguousarray(array.transpose([MODEL_TO_FILE.index(k) for k in range(4)]))
