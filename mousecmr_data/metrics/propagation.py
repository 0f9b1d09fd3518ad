"""Carry the correction of one frame to the frames around it, by signed distances in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.schema.labels import Label

REACH = 3
"""Frames beside a corrected one, with no corrected one on their other side, to which a correction fades out."""


def propagate_masks(
    masks: NDArray[np.uint8],
    automatic: NDArray[np.uint8],
    corrected: Sequence[int],
    *,
    reach: int = REACH,
    cyclic: bool = False,
) -> NDArray[np.uint8]:
    """Return the masks uint8 (frame, y, x) of one slice, with corrections carried to the frames that have none.

    ``masks`` holds corrected masks in the frames ``corrected``; ``automatic`` are those of the network in all frames.
    A correction is the change of the signed distance to each outline (that of the ventricle and that of the blood
    pool). Between two corrected frames it is interpolated; beside one, it fades out over ``reach`` frames. It is added
    to the network's own outlines, so that their motion stays. Where the network has no ventricle, the corrected
    outlines themselves are interpolated. A slice that was emptied empties the frames up to the middle between it and
    the next corrected one, or within ``reach``. ``cyclic``: the last frame is followed by the first.
    """
    out = automatic.copy()
    n = len(masks)
    frames = sorted(corrected)
    out[frames] = masks[frames]
    if not frames:
        return out
    for frame in sorted(set(range(n)) - set(frames)):
        weights = _weigh_frames(frame, frames, n, reach, cyclic)
        if not weights:
            continue
        nearest = max(weights, key=lambda k: weights[k])
        if not masks[nearest].any():
            out[frame] = 0
            continue
        drawn = {k: w for k, w in weights.items() if masks[k].any()}
        total = sum(drawn.values())
        heart, pool = (
            _carry(
                automatic[frame] >= label,
                [(masks[k] >= label, automatic[k] >= label, w) for k, w in drawn.items()],
                total,
            )
            for label in (Label.MYOCARDIUM, Label.BLOOD_POOL)
        )
        out[frame] = np.where(pool & heart, Label.BLOOD_POOL, np.where(heart, Label.MYOCARDIUM, Label.BACKGROUND))
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
    only = min(near, key=lambda k: near[k])
    weight = 1 - near[only] / (reach + 1)
    return {only: weight} if weight > 0 else {}


def _carry(
    automatic: NDArray[np.bool_],
    corrections: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_], float]],
    total: float,
) -> NDArray[np.bool_]:
    """Return a structure (y, x) after ``corrections``: corrected and automatic masks of other frames, and weights."""
    if not automatic.any() or not all(own.any() and drawn.any() for drawn, own, _ in corrections):
        distances = [_compute_distance(drawn) * (w / total) for drawn, _, w in corrections if drawn.any()]
        return np.sum(distances, axis=0) < 0 if distances else np.zeros_like(automatic)
    changes = [w * (_compute_distance(drawn) - _compute_distance(own)) for drawn, own, w in corrections]
    return np.asarray(_compute_distance(automatic) + np.sum(changes, axis=0) < 0)


def _compute_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the signed distance to the outline in pixels, negative inside."""
    outside: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    inside: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return np.where(mask, 0.5 - inside, outside - 0.5)
