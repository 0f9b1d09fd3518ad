"""Post-processing of predicted stacks: selection of connected components, per class and 3D stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.labels import FOREGROUND

PostprocessingRule = Literal["paper", "upstream-code", "none"]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MIN_VOXELS = 10
MIN_SLICES = 2
MAX_DISTANCE = 40.0
"""Index units (row, column, slice, unscaled). Source of these three: the authors' code."""


def postprocess(labels: Labels, rule: PostprocessingRule = "paper") -> Labels:
    """Return a stack (slice, y, x) in which the components that ``rule`` drops are background.

    "paper" keeps the largest component of each class; that voxels connect by their faces (6-connected) is our
    assumption, as the article does not say. "upstream-code" keeps components of at least 10
    voxels that span two slices or more, with their centroid within 40 index units of the dominant one's (the one that
    spans most slices). "none" keeps everything.
    """
    if rule not in RULES:
        raise UnknownNameError(f"There is no post-processing {rule!r}.", f"one of {', '.join(map(repr, RULES))}")
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
