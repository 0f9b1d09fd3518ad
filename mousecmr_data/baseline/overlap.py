"""Dice overlap of hard labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.facts.labels import Label

CLASSES = (Label.MYOCARDIUM, Label.BLOOD_POOL)


def dice(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[Label, float]:
    """Dice of each class over a whole stack; 1 where both are empty (source: the paper's definition)."""
    out = {}
    for label in CLASSES:
        a, b = truth == label, predicted == label
        total = np.count_nonzero(a) + np.count_nonzero(b)
        out[label] = 2.0 * np.count_nonzero(a & b) / total if total else 1.0
    return out
