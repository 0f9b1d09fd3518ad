"""Does a bad score come from the network, or from how its masks were written?

A mask can have the right shape and still be transposed, mirrored, upside down, or have its labels swapped. Such a
mask scores badly as it is and well once turned. Only masks that score badly are looked at.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.schema.labels import FOREGROUND

BAD, GOOD, GAIN = 0.8, 0.85, 0.15
"""Mean Dice under which masks are looked at; what another reading must reach; and gain."""

Labels = NDArray[np.uint8]


def suspicion(prediction: Labels, truth: Labels) -> str | None:
    """What is probably wrong with ``prediction`` (slice, y, x), in words; None if nothing is."""
    as_is = _mean(prediction, truth)
    if as_is >= BAD or not prediction.any():
        return None
    best, words = as_is, ""
    for swapped, flip_z, flip_y, flip_x, transposed in product((False, True), repeat=5):
        turned = _swapped(prediction) if swapped else prediction
        if transposed:
            turned = turned.transpose(0, 2, 1)
        turned = turned[:: -1 if flip_z else 1, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
        if turned.shape != truth.shape:
            continue
        found = _mean(turned, truth)
        if found > best:
            names = {
                f"labels {FOREGROUND[0]:d} and {FOREGROUND[1]:d} look swapped": swapped,
                "rows and columns look transposed": transposed,
                "slices look to be in the opposite order": flip_z,
                "rows look mirrored": flip_y,
                "columns look mirrored": flip_x,
            }
            best, words = found, " and ".join(k for k, v in names.items() if v)
    if best < GOOD or best - as_is < GAIN:
        return None
    return f"{words} (mean Dice {as_is:.2f} as given, {best:.2f} otherwise)"


def _mean(prediction: Labels, truth: Labels) -> float:
    return float(np.mean(list(dice_by_class(prediction, truth).values())))


def _swapped(labels: Labels) -> Labels:
    return np.array([0, 2, 1], np.uint8)[labels]
