"""Carry corrected masks of some frames to the frames around them, by signed distances in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.schema.labels import Label

REACH = 3
"""Frames beside a corrected one, with no corrected one on their other side, that take its mask. On phantoms this beats
the network's own masks up to here (benchmarks/RESULTS.md)."""


def propagate_masks(
    masks: NDArray[np.uint8], corrected: Sequence[int], *, reach: int = REACH, cyclic: bool = False
) -> NDArray[np.uint8]:
    """Return the masks uint8 (frame, y, x) of one slice, with the frames ``corrected`` carried to the others.

    Between two corrected frames, the outlines of ventricle and blood pool are interpolated by their signed distances;
    beside one, ``reach`` frames take its mask; the rest stay. Where only one of two corrected frames has a ventricle,
    the frames nearer to it have it, too. ``cyclic``: the last frame is followed by the first.
    """
    out = masks.copy()
    distances = {
        frame: [_compute_distance(masks[frame] >= label) for label in (Label.MYOCARDIUM, Label.BLOOD_POOL)]
        for frame in sorted(set(corrected))
    }
    for frame in sorted(set(range(len(masks))) - set(distances)):
        weights = _weigh_frames(frame, list(distances), len(masks), reach, cyclic)
        empty = {k for k in weights if not masks[k].any()}
        if empty:
            weights = (
                {} if max(weights, key=lambda k: weights[k]) in empty else {k: 1.0 for k in weights if k not in empty}
            )
            out[frame] = 0
        if weights:
            heart, pool = (np.sum([w * distances[k][i] for k, w in weights.items()], axis=0) < 0 for i in range(2))
            out[frame] = np.where(heart & pool, Label.BLOOD_POOL, np.where(heart, Label.MYOCARDIUM, Label.BACKGROUND))
    return out


def _weigh_frames(frame: int, corrected: Sequence[int], n: int, reach: int, cyclic: bool) -> dict[int, float]:
    """Return the corrected frames that act on ``frame``, and how much; empty if none is near enough."""
    before = {k: (frame - k) % n if cyclic else frame - k for k in corrected if cyclic or k < frame}
    after = {k: (k - frame) % n if cyclic else k - frame for k in corrected if cyclic or k > frame}
    if before and after:
        left, right = min(before, key=lambda k: before[k]), min(after, key=lambda k: after[k])
        if left != right:
            distance = before[left] + after[right]
            return {left: after[right] / distance, right: before[left] / distance}
    near = {k: min(before.get(k, n), after.get(k, n)) for k in {*before, *after}}
    return {k: 1.0 for k, distance in near.items() if distance == min(near.values()) <= reach}


def _compute_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the signed distance to the outline in pixels, negative inside; far outside everywhere without a mask."""
    if not mask.any():
        return np.full(mask.shape, float(max(mask.shape)))
    outside: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    inside: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return np.where(mask, 0.5 - inside, outside - 0.5)
