"""The network in a window of the image, computed as if the rest of the image were present.

A **key frame** is a frame that is computed over the whole field. A **point** is one of ten maps of the network before
their activation: the ends of encoder levels 1–5 and of decoder levels 4–1, and the logits. The **context** of a window
is, at each point, the difference between the key frame's map in the whole field and its map in the window alone.

The context is needed because the network's receptive field is much larger than a window, and the zeros that pad a plain
crop differ from the surroundings of a heart: on phantoms a crop of 13 mm moved single Dice values below 0.95. The
surroundings hardly change during a beat. Therefore the key frame's context is added at the same points of every other
frame. For the key frame itself the result is that of the whole field, up to rounding.

Three modules, each the restructured network of one size of image, so that an engine can compile them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor
from torch.nn import functional as F

from mousecmr_data.inference.engines.fused import FusedConv, FusedNetwork
from mousecmr_data.models.unet3plus import LEVELS, UNet3Plus

N_POINTS = 2 * LEVELS


class RoiNetwork(FusedNetwork):
    """Base of the three modules: the activation comes after the point, so that maps can be added before it."""

    def __init__(self, network: UNet3Plus, shape_yx: tuple[int, int], *, anchored: bool = False) -> None:
        super().__init__(network, shape_yx, anchored=anchored)
        self.channels, self.classes = network.channels, network.classes
        for level in self.encoder.values():
            cast(FusedConv, level[1]).relu = False  # type: ignore[index]
        for step in self.decoder.values():
            cast(FusedConv, step).relu = False
        self._recorded: list[Tensor] = []
        self._inputs: Iterator[Tensor] = iter(())

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs, without N: the image, then one map per point."""
        y, x = (n // self.reduce for n in self.shape_yx)
        levels = [*range(LEVELS), *range(LEVELS - 2, -1, -1)]
        points = [(self.channels[k], y >> k, x >> k) for k in levels]
        return [*super().inputs(), *points, (self.classes, *self.shape_yx)]

    def _run(self, x: Tensor, inputs: tuple[Tensor, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and what :meth:`_process_point` recorded at each point."""
        self._recorded, self._inputs = [], iter(inputs)
        logits = FusedNetwork.forward(self, x)
        recorded, self._recorded = self._recorded, []
        return logits, recorded

    def _point(self, x: Tensor) -> Tensor:
        x = self._process_point(x)
        return x if len(self._recorded) == N_POINTS else F.relu(x)

    def _process_point(self, x: Tensor) -> Tensor:
        """Record a map of this point; return the tensor that the network goes on with."""
        self._recorded.append(x)
        return x


class FieldNetwork(RoiNetwork):
    """Images (N, inputs, Y, X) of a key frame to its points; the last are the logits (N, classes, Y, X)."""

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shape of the image only."""
        return FusedNetwork.inputs(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the points."""
        return tuple(self._run(x)[1])


class ContextNetwork(RoiNetwork):
    """Windows (N, inputs, y, x) of a key frame, with its points cut to the window, to the context maps."""

    def forward(self, x: Tensor, *points: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the maps, each of its point's shape."""
        return tuple(self._run(x, points)[1])

    def _process_point(self, x: Tensor) -> Tensor:
        reference = next(self._inputs)
        self._recorded.append(reference - x)
        return reference


class WindowNetwork(RoiNetwork):
    """Windows (N, inputs, y, x) of any frame, with the context maps, to logits (N, classes, y, x)."""

    def forward(self, x: Tensor, *maps: Tensor) -> Tensor:
        """Return the logits."""
        return self._run(x, maps)[0]

    def _process_point(self, x: Tensor) -> Tensor:
        return super()._process_point(x + next(self._inputs))
