"""The network in a window of the image, computed as if the rest of the image were present.

A network this deep sees far beyond a window, and the zeros that pad a plain crop differ from what surrounds
a heart: on phantoms a crop of 13 mm moved single Dice values below 0.95. What surrounds the heart hardly
changes during a beat, though. So the whole field is computed for a **key frame**; in the window, the end of
every level then differs from that reference by a map, the *context*: what the missing surroundings would have
contributed. Added at the same points for any other frame, the maps replace the surroundings. For the
key frame itself the result is that of the whole field, up to rounding.

Three modules, each the restructured network of one size of image, so that an engine can compile them.
Points are ten maps before their activation: encoder levels 1–5, decoder levels 4–1, and the logits.
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
    """Images (N, 1, Y, X) of a key frame to its points; the last are the logits (N, classes, Y, X)."""

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shape of the image only."""
        return FusedNetwork.inputs(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the points."""
        return tuple(self._run(x)[1])


class ContextNetwork(RoiNetwork):
    """Windows (N, 1, y, x) of a key frame, with its points cut to the window, to the context maps."""

    def forward(self, x: Tensor, *points: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the maps, each of its point's shape."""
        return tuple(self._run(x, points)[1])

    def _process_point(self, x: Tensor) -> Tensor:
        reference = next(self._inputs)
        self._recorded.append(reference - x)
        return reference


class WindowNetwork(RoiNetwork):
    """Windows (N, 1, y, x) of any frame, with the context maps, to logits (N, classes, y, x)."""

    def forward(self, x: Tensor, *maps: Tensor) -> Tensor:
        """Return the logits."""
        return self._run(x, maps)[0]

    def _process_point(self, x: Tensor) -> Tensor:
        return super()._process_point(x + next(self._inputs))
