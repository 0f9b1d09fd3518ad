"""2D slices with labels in memory: what training draws its batches from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slices:
    """``image`` and ``label`` uint8 (n, Y, X) on the training grid; each image min–max scaled to 0…255."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.image)

    def checksum(self) -> str:
        """SHA-256 of shape and content: which data a run was trained on."""
        digest = hashlib.sha256(str(self.image.shape).encode())
        for array in (self.image, self.label):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def eight_bits(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Each slice (n, Y, X) min–max scaled to 0…255; a flat slice becomes zeros."""
    values = images.astype(np.float32)
    low = values.min((-2, -1), keepdims=True)
    span = values.max((-2, -1), keepdims=True) - low
    return np.asarray(np.rint((values - low) * (255.0 / np.where(span > 0, span, 1.0))), np.uint8)
