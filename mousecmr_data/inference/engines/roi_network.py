"""The network in a window of the image, as if the rest of the image were there.

A network this deep sees far beyond a window, and the zeros it pads a bare crop with are not what surrounds
a heart: on phantoms a crop of 13 mm moved single Dice values below 0.95. What surrounds the heart hardly
changes during a beat, though. So the whole field is computed for a **key frame**; in the window, the end of
every level then differs from that truth by a map, the *context*: what the missing surroundings would have
contributed. Added at the same points for any other frame, the maps stand in for the surroundings. For the
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
    """The activation comes after the point, so that maps can be added before it."""

    def __init__(self, network: UNet3Plus, shape_yx: tuple[int, int], *, anchored: bool = False) -> None:
        super().__init__(network, shape_yx, anchored=anchored)
        self.shape_yx, self.channels, self.classes = shape_yx, network.channels, network.classes
        for level in self.encoder.values():
            cast(FusedConv, level[1]).relu = False  # type: ignore[index]
        for step in self.decoder.values():
            cast(FusedConv, step).relu = False
        self._passed: list[Tensor] = []
        self._given: Iterator[Tensor] = iter(())

    def inputs(self) -> list[tuple[int, ...]]:
        """Shapes of the inputs, without N: the image, then, where they are given, a map a point."""
        return [(1, *self.shape_yx), *self._points()]

    def _points(self) -> list[tuple[int, ...]]:
        y, x = (n // self.reduce for n in self.shape_yx)
        levels = [*range(LEVELS), *range(LEVELS - 2, -1, -1)]
        return [*((self.channels[k], y >> k, x >> k) for k in levels), (self.classes, *self.shape_yx)]

    def _run(self, x: Tensor, given: tuple[Tensor, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """The logits, and what :meth:`_at` kept at each point."""
        self._passed, self._given = [], iter(given)
        logits = FusedNetwork.forward(self, x)
        passed, self._passed = self._passed, []
        return logits, passed

    def _point(self, x: Tensor) -> Tensor:
        x = self._at(x)
        return x if len(self._passed) == N_POINTS else F.relu(x)

    def _at(self, x: Tensor) -> Tensor:
        """Keep something, and say what goes on."""
        self._passed.append(x)
        return x


class FieldNetwork(RoiNetwork):
    """Images (N, 1, Y, X) of a key frame to its points; the last are the logits (N, classes, Y, X)."""

    def inputs(self) -> list[tuple[int, ...]]:
        """The image only."""
        return super().inputs()[:1]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The points."""
        return tuple(self._run(x)[1])


class ContextNetwork(RoiNetwork):
    """Windows (N, 1, y, x) of a key frame, with its points cut to the window, to the context maps."""

    def forward(self, x: Tensor, *points: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The maps, each of its point's shape."""
        return tuple(self._run(x, points)[1])

    def _at(self, x: Tensor) -> Tensor:
        truth = next(self._given)
        self._passed.append(truth - x)
        return truth


class WindowNetwork(RoiNetwork):
    """Windows (N, 1, y, x) of any frame, with the context maps, to logits (N, classes, y, x)."""

    def forward(self, x: Tensor, *maps: Tensor) -> Tensor:
        """The logits."""
        return self._run(x, maps)[0]

    def _at(self, x: Tensor) -> Tensor:
        x = x + next(self._given)
        self._passed.append(x)
        return x
