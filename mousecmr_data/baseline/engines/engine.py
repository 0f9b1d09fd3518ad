"""What an engine is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """A way to compute a network: a callable, with a name.

    Takes images (N, 1, Y, X) float32 in [0, 1] on the CPU; Y and X are multiples of 16 times the network's
    ``reduce``, N is anything from 1. Returns logits (N, classes, Y, X) float32, on the engine's device.
    """

    @property
    def name(self) -> str:
        """One of :data:`mousecmr_data.baseline.engines.NAMES`; goes with every result."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of ``images``."""
        ...
