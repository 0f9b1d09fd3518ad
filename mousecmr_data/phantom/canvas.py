"""Tissue fractions of a slice, painted one over the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass
class Canvas:
    """Tissue fractions painted one over the other, (tissues, rows, columns)."""

    shape: tuple[int, int]
    parts: dict[str, Floats] = field(default_factory=dict)

    def paint(self, tissue: str, share: Floats) -> None:
        """Lay ``share`` (0..1) of a tissue over what is there."""
        keep = 1.0 - share
        for name, part in self.parts.items():
            if name != tissue:
                part *= keep
        there = self.parts.get(tissue)
        self.parts[tissue] = share.copy() if there is None else there * keep + share

    def part(self, tissue: str) -> Floats:
        """The fraction of a tissue so far."""
        return self.parts.get(tissue, np.zeros(self.shape, np.float32))
