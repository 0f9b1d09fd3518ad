"""Quality flags: what to look at before using a number. Each flag is explained in docs/segment.md.

Limits are wide: a flag means "look at this", and no flag does not mean "correct".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.metrics.volumes import HEART_RATE_BPM, is_heart_rate_plausible
from mousecmr_data.schema.labels import Label

FLAGS = {
    "heart_not_found": "no blood pool was found, in this frame or in any",
    "islands_removed": "the network also marked something away from the ventricle, which was removed",
    "check_slice": "the masks of this slice may be wrong: look at it first",
    "slice_removed": "the rule for the slice range removed the ventricle from this slice",
    "slice_added": "the rule for the slice range added the ventricle to this slice",
    "slice_gap": "a slice without the ventricle lies between slices that have it",
    "myocardium_hole": "the myocardium does not close around the blood pool, or has a hole",
    "at_edge": "the ventricle touches the edge of the image: a part of it may be cut off",
    "intensity_unlike_training": "the distribution of grey values differs from that of the training data",
    "dark_blood": "the blood pool is not brighter than the myocardium, as it is in the training data",
    "curve_jump": "the volume differs much from that of the neighbouring frames",
    "ef_out_of_range": "the ejection fraction is outside the range seen in mice",
    "volume_out_of_range": "the end-diastolic volume is outside the range seen in mice",
    "single_frame": "there is only one frame: no ED and ES, no ejection fraction",
    "single_slice": "there is only one slice: its volumes are not those of a ventricle, no ejection fraction",
    "not_short_axis": "the header says that this is something else than a short-axis cine",
    "heart_rate_out_of_range": "the heart rate is outside the range of mice: the frames are not one beat, or their "
    "time is wrong; then the peak rates are wrong, too",
    "frame_time_unknown": "the time between frames is unknown: no heart rate, no ejection and filling rates",
    "input_note": "the file does not state something, has something unusual, or files beside it were left out",
    "input_incomplete": "a file that may belong to this scan was refused: slices or frames may be missing",
    "output_missing": "an additional output could not be written",
}
"""All flags and their meaning."""

ISLAND_SHARE = 0.02
"""Smallest share of removed voxels, relative to the kept ones of the same frame, that raises a flag."""
ISLAND_VOXELS = 30
"""Smallest number of removed voxels that raises a flag."""
WRONG_DICE = 0.7
"""Dice (mean of myocardium and blood pool) below which a slice counts as wrong."""
CHECK_WEIGHTS = (-1.37, 1.02, 4.84, 1.78, 2.08)
CHECK_ABOVE = 0.185
"""Weights of the signs of a wrong slice (constant, then the order of :func:`collect_signs`), and the probability that
raises a flag: four fifths of the wrong slices have a higher one. Source: logistic regression on 75 synthetic mice,
``python benchmarks/slices.py --fit``."""
CHECK_BELOW = 0.6
"""Expected Dice that raises the flag in any slice: other images may be wrong where those of the phantom are not."""
LITTLE_OVERLAP = 0.4
"""Share of the ventricle beside that of the next slice from which the flag's message names it."""
OPEN_SHARE = 0.15
"""Share of the blood pool's outline in a slice that may touch background. At the base the wall is open by nature."""
HOLE_PIXELS = 5
"""Smallest number of background pixels inside the ventricle of a slice that raises a flag."""
MEDIAN_GREY, BRIGHT_GREY = (0.03, 0.50), (0.12, 0.90)
"""Ranges of the median and 95th percentile of a slice between its minimum (0) and maximum (1). Source: the phantom
cohorts (9 mice: 0.07 to 0.37, 0.21 to 0.70) and one real stack (0.15 to 0.19, 0.36 to 0.58), widened."""
BLOOD_TO_MYOCARDIUM = 1.15
"""Smallest ratio of mean grey values, blood pool / myocardium. Source: as above (1.5 to 3.2)."""
JUMP_SHARE, JUMP_UL = 0.10, 2.0
"""Largest distance of a frame's volume from the median of its neighbours and itself, as a share of EDV, and in µL."""
EF_PERCENT = (15.0, 85.0)
EDV_UL = (10.0, 250.0)
"""The dataset's test mice: 65.6 ± 10.0 µL (the paper). Dilated hearts reach about 200 µL."""
IMPOSSIBLE_UL = 1000.0
"""No mouse has a left ventricle of one millilitre."""


@dataclass(frozen=True)
class Flag:
    """A flag of a slice (of all frames if frame is None), of a frame (slice is None), or of the mouse (both None)."""

    flag: str
    message: str
    frame: int | None = None
    slice: int | None = None

    @property
    def level(self) -> str:
        """Return "slice", "frame" or "mouse"."""
        return "slice" if self.slice is not None else "frame" if self.frame is not None else "mouse"


def check_masks(labels: NDArray[np.uint8], unprocessed: NDArray[np.uint8]) -> Iterator[Flag]:
    """Yield flags of masks (frame, slice, y, x): heart not found, islands, gaps, holes, edge.

    ``unprocessed`` are the same masks before post-processing.
    """
    pool = labels == Label.BLOOD_POOL
    if not pool.any():
        yield Flag("heart_not_found", "No blood pool was found in any frame.")
        return
    for frame in range(len(labels)):
        if not pool[frame].any():
            yield Flag("heart_not_found", "No blood pool was found in this frame.", frame)
            continue
        removed = ((unprocessed[frame] > 0) & (labels[frame] == 0)).sum(axis=(1, 2))
        if removed.sum() >= max(ISLAND_VOXELS, ISLAND_SHARE * np.count_nonzero(labels[frame])):
            for k in np.flatnonzero(removed).tolist():
                yield Flag("islands_removed", f"{removed[k]} voxels were removed from slice {k}.", frame, k)
        heart, before = labels[frame] > 0, unprocessed[frame] > 0
        for k in np.flatnonzero(heart.any((1, 2)) & ~before.any((1, 2))).tolist():
            yield Flag("slice_added", f"The ventricle in slice {k} comes from its neighbours.", frame, k)
        for k in np.flatnonzero(~heart.any((1, 2)) & before.any((1, 2))).tolist():
            beside = heart[max(k - 1, 0) : k + 2].any(0)
            if np.count_nonzero(before[k] & beside) >= ISLAND_VOXELS:
                yield Flag("slice_removed", f"The ventricle was removed from slice {k}.", frame, k)
        present = np.flatnonzero(heart.any(axis=(1, 2)))
        for missing in sorted(set(range(present[0], present[-1] + 1)) - set(present.tolist())):
            yield Flag("slice_gap", f"Slice {missing} has no ventricle, but its neighbours have.", frame, missing)
        for k in present.tolist():
            if heart[k].sum() > heart[k, 1:-1, 1:-1].sum():
                yield Flag("at_edge", f"The ventricle touches the edge of the image in slice {k}.", frame, k)
            if message := _find_hole(labels[frame, k]):
                yield Flag("myocardium_hole", message, frame, k)


def collect_signs(expected: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return four signs of a wrong slice, (frame, slice, 4), of ``labels`` (frame, slice, y, x) and ``expected`` Dice.

    The logarithm of one minus the expected Dice; how little of the ventricle overlaps with that of the neighbouring
    slices, 0 to 1; whether the slice is the first without ventricle; whether it is the last with ventricle. A stack of
    one slice has the first sign only.
    """
    heart = labels > 0
    area = heart.sum((2, 3))
    present, outside = area > 0, np.zeros((len(labels), 1))
    common = 2.0 * (heart[:, 1:] & heart[:, :-1]).sum((2, 3)) / np.maximum(area[:, 1:] + area[:, :-1], 1)
    overlap = np.maximum(np.hstack([outside, common]), np.hstack([common, outside]))
    before, after = np.hstack([outside, present[:, :-1]]) > 0, np.hstack([present[:, 1:], outside]) > 0
    shape = np.stack([present * (1.0 - overlap), ~present & (before | after), present & ~(before & after)], -1)
    doubt = np.log(np.maximum(1.0 - np.asarray(expected, np.float64), 1e-3))
    return np.concatenate([doubt[..., None], shape * (labels.shape[1] > 1)], -1)


def check_slices(expected: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> Iterator[Flag]:
    """Yield flags of slices that may be wrong, the most probable first; the arguments are :func:`collect_signs`'s."""
    signs = collect_signs(expected, labels)
    probability = 1.0 / (1.0 + np.exp(-CHECK_WEIGHTS[0] - signs @ np.array(CHECK_WEIGHTS[1:])))
    flagged = (probability > CHECK_ABOVE) | (expected < CHECK_BELOW)
    for frame, k in np.argwhere(flagged)[np.argsort(-probability[flagged], kind="stable")].tolist():
        _, apart, is_first_without, is_last = signs[frame, k]
        where = ", the first without ventricle" * bool(is_first_without) + ", the last with ventricle" * bool(is_last)
        where += f", {100 * apart:.0f} % beside that of the next slice" * bool(apart > LITTLE_OVERLAP)
        share = f"{100 * probability[frame, k]:.0f} % of such slices of synthetic mice were wrong."
        yield Flag("check_slice", f"Expected Dice {expected[frame, k]:.2f}{where}: {share}", frame, k)


def check_images(images: NDArray[np.generic], labels: NDArray[np.uint8]) -> Iterator[Flag]:
    """Yield flags of the grey values (frame, slice, y, x): per slice over all frames, and of the ventricle."""
    for k in range(images.shape[1]):
        stack = images[:, k].astype(np.float32)
        low, high = float(stack.min()), float(stack.max())
        if high <= low:
            yield Flag("intensity_unlike_training", f"Slice {k} has one grey value only: no image.", None, k)
            continue
        median, bright = ((float(np.quantile(stack, q)) - low) / (high - low) for q in (0.5, 0.95))
        for value, (lower, upper), what in ((median, MEDIAN_GREY, "median"), (bright, BRIGHT_GREY, "95th percentile")):
            if not lower <= value <= upper:
                text = f"Slice {k}: the {what} grey value is {value:.2f} of the range, expected {lower} to {upper}."
                yield Flag("intensity_unlike_training", text, None, k)
                break
    blood, myocardium = (images[labels == label] for label in (Label.BLOOD_POOL, Label.MYOCARDIUM))
    if blood.size and myocardium.size:
        ratio = float(blood.mean()) / max(float(myocardium.mean()), 1e-9)
        if ratio < BLOOD_TO_MYOCARDIUM:
            text = f"The blood pool is {ratio:.2f} times as bright as the myocardium, expected 1.5 to 3."
            yield Flag("dark_blood", text)


def check_curve(volumes_ul: Sequence[float] | NDArray[np.float64]) -> Iterator[Flag]:
    """Yield flags of the volumes of all frames: jumps."""
    v = np.asarray(volumes_ul, float)
    if v.size < 3:
        return
    median = np.median(np.stack([np.r_[v[0], v[:-1]], v, np.r_[v[1:], v[-1]]]), axis=0)
    for frame in np.flatnonzero(np.abs(v - median) > max(JUMP_UL, JUMP_SHARE * v.max())).tolist():
        yield Flag("curve_jump", f"{v[frame]:.1f} µL, but {median[frame]:.1f} µL in the neighbouring frames.", frame)


def check_function(edv_ul: float, ef_percent: float) -> Iterator[Flag]:
    """Yield flags of the numbers: EDV and EF out of range."""
    if np.isfinite(edv_ul) and not EDV_UL[0] <= edv_ul <= EDV_UL[1]:
        yield Flag("volume_out_of_range", f"EDV is {edv_ul:.1f} µL, expected {EDV_UL[0]:g} to {EDV_UL[1]:g} µL.")
    if np.isfinite(ef_percent) and not EF_PERCENT[0] <= ef_percent <= EF_PERCENT[1]:
        yield Flag("ef_out_of_range", f"EF is {ef_percent:.0f} %, expected {EF_PERCENT[0]:g} to {EF_PERCENT[1]:g} %.")


def check_heart_rate(bpm: float, source: str) -> Iterator[Flag]:
    """Yield a flag if the heart rate from ``source`` is out of range."""
    if not is_heart_rate_plausible(bpm):
        low, high = HEART_RATE_BPM
        text = f"The heart rate is {bpm:.0f} /min, expected {low:g} to {high:g}. It is from: {source}."
        yield Flag("heart_rate_out_of_range", text)


def _find_hole(labels: NDArray[np.uint8]) -> str | None:
    """Return a sentence about a hole or gap in the myocardium of a slice (y, x), or None."""
    box = (np.flatnonzero((labels > 0).any(axis)) for axis in (1, 0))
    labels = labels[tuple(slice(max(0, b[0] - 1), b[-1] + 2) for b in box)]  # with a margin of one pixel
    heart, pool = labels > 0, labels == Label.BLOOD_POOL
    before, after = (np.logical_or.accumulate(heart[::step], axis=0)[::step] for step in (1, -1))
    if np.count_nonzero(before & after & ~heart) >= HOLE_PIXELS:  # background with heart above and below it
        from scipy import ndimage  # a quarter second, which few masks need

        holes = int(np.count_nonzero(ndimage.binary_fill_holes(heart) & ~heart))
        if holes >= HOLE_PIXELS:
            return f"{holes} pixels inside the ventricle are background."
    if pool.any():
        padded = np.pad(pool, 1)
        outline = (padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]) & ~pool
        share = float(np.count_nonzero(outline & ~heart)) / float(np.count_nonzero(outline))
        if share > OPEN_SHARE:
            return f"{100 * share:.0f} % of the blood pool's outline has no myocardium."
    return None
