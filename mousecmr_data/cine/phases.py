"""Which frame is end-diastole, which end-systole: the annotators' rule.

Source: the authors' code, as recorded in the dataset's facts. ED is the earliest labelled frame. ES
is, of the others, the one with the smallest blood pool (ties: the earliest), counted slice by slice
after dropping 2D components under 50 pixels, and only inside the ED footprint (mask > 0 in the same
slice at ED). Every further labelled frame is an inflow-artefact frame. A single labelled frame has
no pair: its phase is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from xarray.core import indexing

from mousecmr_data.cine.lazy import Key, LazyArray
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.phases import ED, ES, INFLOW, UNKNOWN, UNLABELLED
from mousecmr_data.schema.variables import DIMS

MIN_COMPONENT = 50
"""Pixels of the smallest 2D component that counts (source: the authors' code)."""

DTYPE = np.dtype("<U10")


def needs_masks(labelled_frames: Sequence[int]) -> bool:
    """Whether the rule has to look at pixels: only when there is a choice for ES."""
    return len(labelled_frames) > 2


def es_index(masks: NDArray[np.uint8]) -> int:
    """Index of the ES frame in ``masks`` (n >= 2, slice, y, x): labelled frames, the first at ED."""
    footprint = masks[0] > 0
    counts = [_counted(mask == Label.BLOOD_POOL, footprint) for mask in masks[1:]]
    return 1 + int(np.argmin(counts))


def phases(n_frames: int, labelled_frames: Sequence[int], masks: NDArray[np.uint8] | None = None) -> NDArray[np.str_]:
    """The phase of each frame, shape (n_frames,), of the names in ``schema.phases``.

    ``labelled_frames`` are ascending; ``masks`` (len(labelled_frames), slice, y, x) is needed when
    there are more than two of them.
    """
    names = np.full(n_frames, UNLABELLED, DTYPE)
    if len(labelled_frames) == 1:
        names[labelled_frames[0]] = UNKNOWN
    elif len(labelled_frames) >= 2:
        names[list(labelled_frames)] = INFLOW
        names[labelled_frames[0]] = ED
        if needs_masks(labelled_frames) and masks is None:
            raise TypeError("masks are needed to choose ES among more than two labelled frames")
        names[labelled_frames[1 if masks is None else es_index(masks)]] = ES
    return names


def read(masks: LazyArray, labelled_frames: Sequence[int]) -> NDArray[np.str_]:
    """``phases`` of a mouse with lazy ``masks`` (frame, slice, y, x); reads labelled frames if it must."""
    whole = (slice(None),) * (len(DIMS) - 1)
    chosen = None
    if needs_masks(labelled_frames):
        chosen = masks.read((np.array(labelled_frames), *whole))
    return phases(masks.shape[0], labelled_frames, chosen)


class PhaseArray(LazyArray):
    """``read`` put off until someone looks: for mice where it has to look at pixels."""

    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.BASIC

    def __init__(self, masks: LazyArray, labelled_frames: Sequence[int]) -> None:
        self.masks, self.labelled_frames = masks, tuple(labelled_frames)
        self.shape, self.dtype = (masks.shape[0],), DTYPE

    def read(self, key: Key) -> NDArray[np.str_]:
        """Compute the phases and take a part."""
        return np.asarray(read(self.masks, self.labelled_frames)[key])


def _counted(blood_pool: NDArray[np.bool_], footprint: NDArray[np.bool_]) -> int:
    total = 0
    for pool, inside in zip(blood_pool, footprint, strict=True):
        components, n = ndimage.label(pool)  # edge-connected in the plane
        if n:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            total += int(np.count_nonzero((sizes >= MIN_COMPONENT)[components] & inside))
    return total
