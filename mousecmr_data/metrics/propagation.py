"""Carry masks to frames and slices beside them, by signed distances to their outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.schema.labels import Label

REACH = 3
"""Frames beside a corrected one, with no corrected one on their other side, that take its mask. On phantoms this beats
the network's own masks up to here (benchmarks/RESULTS.md)."""
TAPER = 0.4
"""Distance, per distance of two slices, by which the outlines come in towards the apex. On phantoms the blood pool of
proposed slices is then neither too large nor too small on average (benchmarks/RESULTS.md)."""


def propagate_masks(
    masks: NDArray[np.uint8], corrected: Sequence[int], *, reach: int = REACH, cyclic: bool = False
) -> NDArray[np.uint8]:
    """Return the masks uint8 (frame, y, x) of one slice, with the frames ``corrected`` carried to the others.

    Between two corrected frames, the outlines of ventricle and blood pool are interpolated by their signed distances;
    beside one, ``reach`` frames take its mask; the rest stay. Where only one of two corrected frames has a ventricle,
    the frames nearer to it have it, too. ``cyclic``: the last frame is followed by the first.
    """
    out = masks.copy()
    distances = {frame: _measure_outlines(masks[frame]) for frame in sorted(set(corrected))}
    for frame in sorted(set(range(len(masks))) - set(distances)):
        weights = _weigh_frames(frame, list(distances), len(masks), reach, cyclic)
        empty = {k for k in weights if not masks[k].any()}
        if empty:
            weights = (
                {} if max(weights, key=lambda k: weights[k]) in empty else {k: 1.0 for k in weights if k not in empty}
            )
            out[frame] = 0
        if weights:
            out[frame] = _draw([(distances[k], w) for k, w in weights.items()])
    return out


def propose_slice(
    masks: NDArray[np.uint8], frame: int, slice_: int, spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Return a mask uint8 (y, x) for a slice without one, from the masks (frame, slice, y, x) beside it.

    Between two slices it is interpolated. Beyond the last one it is that slice's, smaller by :data:`TAPER` if the blood
    pool becomes smaller in that direction. Without a mask in both slices beside it, it is that of the nearest frame;
    empty if there is none. ``spacing_mm`` is (z, y, x).
    """
    present = np.asarray(masks.any(axis=(2, 3)))
    beside = [k for k in (slice_ - 1, slice_ + 1) if 0 <= k < masks.shape[1] and present[frame, k]]
    if not beside:
        others = np.flatnonzero(present[:, slice_])
        nearest = int(others[np.abs(others - frame).argmin()]) if others.size else frame
        return np.array(masks[nearest, slice_])
    outlines = [_measure_outlines(masks[frame, k]) for k in beside]
    if len(beside) == 2:
        return _draw([(o, 0.5) for o in outlines])
    near, beyond = beside[0], 2 * beside[0] - slice_
    pools = [np.count_nonzero(masks[frame, k] == Label.BLOOD_POOL) for k in (near, beyond) if 0 <= k < masks.shape[1]]
    pixels = TAPER * spacing_mm[0] / float(np.mean(spacing_mm[1:])) if pools[0] < pools[-1] else 0.0
    return _draw([([distance + pixels for distance in outlines[0]], 1.0)])


def _measure_outlines(mask: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Return the signed distances to the outlines of ventricle and blood pool."""
    return [_compute_distance(mask >= label) for label in (Label.MYOCARDIUM, Label.BLOOD_POOL)]


def _draw(parts: Sequence[tuple[list[NDArray[np.float64]], float]]) -> NDArray[np.uint8]:
    """Return the mask of the weighted sums of distances to outlines."""
    heart, pool = (np.sum([w * distances[i] for distances, w in parts], axis=0) < 0 for i in range(2))
    mask = np.where(heart & pool, Label.BLOOD_POOL, np.where(heart, Label.MYOCARDIUM, Label.BACKGROUND))
    return mask.astype(np.uint8)


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
