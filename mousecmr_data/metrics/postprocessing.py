"""Post-processing of predicted labels: connected components of each class and 3D stack; the slice range of a cine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.labels import FOREGROUND, Label

StackRule = Literal["paper", "upstream-code", "none"]
PostprocessingRule = Literal["paper", "upstream-code", "none", "slice-range"]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MIN_VOXELS = 10
MIN_SLICES = 2
MAX_DISTANCE = 40.0
"""Index units (row, column, slice, unscaled). Source of these three: the authors' code."""
MAX_SHIFT_MM = 0.8
"""Largest distance between the centres of the ventricle in slices that are 1 mm apart. An oblique long axis moves by
some 0.2 mm."""
MIN_OVERLAP = 0.5
"""Smallest part of the smaller of two neighbouring slices that they have in common."""
MAX_TRAVEL_MM = 1.2
"""Largest motion of the valve plane during a beat. Mice: 0.5 to 1 mm."""
MIN_FRAMES = 5
"""Number of frames from which a slice range is compared through the beat."""


def postprocess_cine(
    labels: Labels, rule: PostprocessingRule = "paper", spacing_mm: tuple[float, float, float] = (1.0, 0.1, 0.1)
) -> Labels:
    """Return labels (frame, slice, y, x) after ``rule``.

    "slice-range" follows the ventricle from its middle slice towards both ends, in each frame: a slice must overlap
    with the one before it and lie on the same axis; a single missing slice between two is interpolated. Then the two
    ends are made consistent through the beat: outliers among neighbouring frames are corrected, and an end moves by at
    most what the valve plane moves. ``spacing_mm`` is (z, y, x). The other rules are those of :func:`postprocess`, for
    each frame alone.
    """
    if rule != "slice-range":
        return np.stack([postprocess(stack, rule) for stack in labels]) if labels.size else labels
    kept = np.zeros_like(labels)
    if not labels.any():
        return kept
    box = ndimage.find_objects((labels > 0).any((0, 1)).astype(np.int8))[0]
    area: tuple[slice, ...] = (slice(None), slice(None), *box)
    followed = np.stack([_follow_ventricle(stack, spacing_mm) for stack in labels[area]])
    kept[area] = _fit_range_to_beat(followed, spacing_mm[0])
    return kept


def _follow_ventricle(stack: Labels, spacing_mm: tuple[float, float, float]) -> Labels:
    """Return the ventricle of one stack, followed from the slice with the largest blood pool and its muscle."""
    dz, dy, dx = spacing_mm
    kept = np.zeros_like(stack)
    main = _keep_largest(stack > 0)
    if not main.any():
        return kept
    pools = np.count_nonzero(main & (stack == Label.BLOOD_POOL), axis=(1, 2))
    start = int((pools if pools.any() else np.count_nonzero(main, axis=(1, 2))).argmax())
    kept[start] = np.where(_keep_largest(stack[start] > 0), stack[start], 0)
    for step in (-1, 1):
        last, k = start, start + step
        while 0 <= k < len(stack):
            found = _find_continuation(stack[k], kept[last] > 0, MAX_SHIFT_MM * dz * abs(k - last), (dy, dx))
            if found is not None:
                kept[k] = found
                if k - last == 2 * step:
                    kept[last + step] = _interpolate(kept[last], kept[k])
                last = k
            elif k - last == 2 * step:
                break
            k += step
    return kept


def _find_continuation(
    labels: Labels, before: Mask, max_shift_mm: float, spacing_yx: tuple[float, float]
) -> Labels | None:
    """Return the components of a slice that continue the ventricle of the slice before; None if there are none."""
    components, _ = ndimage.label(labels > 0, np.ones((3, 3)))
    touching = np.unique(components[before & (components > 0)])
    ventricle = np.isin(components, touching) & (components > 0)
    if not ventricle.any():
        return None
    common = np.count_nonzero(ventricle & before) / min(np.count_nonzero(ventricle), np.count_nonzero(before))
    centres = [np.mean(np.nonzero(mask), axis=1) * spacing_yx for mask in (ventricle, before)]
    if common < MIN_OVERLAP or float(np.linalg.norm(centres[0] - centres[1])) > max_shift_mm:
        return None
    return np.where(ventricle, labels, 0).astype(np.uint8)


def _interpolate(first: Labels, second: Labels) -> Labels:
    """Return the labels half-way between two slices or frames, by the mean distance to their outlines."""
    out = np.zeros_like(first)
    for label, masks in (
        (Label.MYOCARDIUM, (first > 0, second > 0)),
        (Label.BLOOD_POOL, (first == Label.BLOOD_POOL, second == Label.BLOOD_POOL)),
    ):
        if masks[0].any() and masks[1].any():
            inside, outside = (
                sum(np.asarray(ndimage.distance_transform_edt(m if side else ~m)) for m in masks) for side in (1, 0)
            )
            out[inside - outside > 0] = label
    return out


def _fit_range_to_beat(labels: Labels, dz: float) -> Labels:
    """Remove and add slices at the two ends so that the ends agree with the neighbouring frames."""
    present: Mask = np.asarray((labels > 0).any((2, 3)))
    frames = np.flatnonzero(present.any(1))
    if len(frames) < MIN_FRAMES:
        return labels
    out = labels.copy()
    first = np.array([np.flatnonzero(row)[0] for row in present[frames]])
    last = np.array([np.flatnonzero(row)[-1] for row in present[frames]])
    travel = max(1, round(MAX_TRAVEL_MM / dz))
    first, last = (_limit_travel(ndimage.median_filter(ends, 5, mode="nearest"), travel) for ends in (first, last))
    for frame, low, high in zip(frames.tolist(), first.tolist(), last.tolist(), strict=True):
        out[frame, :low] = 0
        out[frame, high + 1 :] = 0
        for k in range(low, high + 1):
            if not present[frame, k] and present[:, k].any():
                out[frame, k] = _interpolate_in_time(labels[:, k], frame)
    return out


def _limit_travel(ends: NDArray[np.intp], travel: int) -> NDArray[np.intp]:
    """Clip the ends of all frames to the ``travel`` + 1 neighbouring slices that hold most of them."""
    starts = np.arange(ends.min(), ends.max() + 1)
    held = [np.count_nonzero((ends >= s) & (ends <= s + travel)) for s in starts]
    start = int(starts[int(np.argmax(held))])
    return ends.clip(start, start + travel)


def _interpolate_in_time(frames: Labels, frame: int) -> Labels:
    """Return labels of a slice in ``frame`` from the nearest frames before and after that have some."""
    present = np.flatnonzero(frames.any((1, 2)))
    before, after = present[present < frame], present[present > frame]
    nearest = [int(side[k]) for side, k in ((before, -1), (after, 0)) if side.size]
    return _interpolate(frames[nearest[0]], frames[nearest[-1]])


def postprocess(labels: Labels, rule: StackRule = "paper") -> Labels:
    """Return a stack (slice, y, x) in which the components that ``rule`` drops are background.

    "paper" keeps the largest component of each class; that voxels connect by their faces (6-connected) is our
    assumption, as the article does not say. "upstream-code" keeps components of at least 10
    voxels that span two slices or more, with their centroid within 40 index units of the dominant one's (the one that
    spans most slices). "none" keeps everything.
    """
    if rule not in RULES:
        raise UnknownNameError.from_name("post-processing", rule, RULES)
    kept = np.zeros_like(labels)
    # The rules do not depend on position: only the box around the foreground is searched.
    for box in ndimage.find_objects((labels > 0).astype(np.int8)):
        for label in FOREGROUND:
            kept[box][RULES[rule](labels[box] == label)] = label
    return kept


def _keep_largest(mask: Mask) -> Mask:
    components, n = ndimage.label(mask)
    if n < 2:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == int(sizes.argmax()))


def _keep_near_dominant(mask: Mask) -> Mask:
    # The authors' arrays are (row, column, slice); that order numbers the components, which decides ties.
    components, n = ndimage.label(mask.transpose(1, 2, 0))
    sizes = np.bincount(components.ravel(), minlength=n + 1)
    large = [k for k in range(1, n + 1) if sizes[k] >= MIN_VOXELS]
    if not large:
        return np.zeros_like(mask)
    boxes = ndimage.find_objects(components)
    spans = {k: len(np.unique(np.nonzero(components[boxes[k - 1]] == k)[2])) for k in large}
    dominant = max(large, key=lambda k: spans[k])
    centres = dict(zip(large, ndimage.center_of_mass(components > 0, components, large), strict=True))
    kept = [
        k
        for k in large
        if spans[k] >= MIN_SLICES and np.linalg.norm(np.subtract(centres[k], centres[dominant])) <= MAX_DISTANCE
    ]
    return np.asarray(np.isin(components, kept).transpose(2, 0, 1))


RULES: dict[str, Callable[[Mask], Mask]] = {
    "paper": _keep_largest,
    "upstream-code": _keep_near_dominant,
    "none": lambda mask: mask,
}
